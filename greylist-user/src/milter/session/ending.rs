//! The message as a whole: what is said at DATA and at its end, for all its recipients at once.
//!
//! DATA is where a message that nobody waits to read is answered: deferred if a recipient is held,
//! accepted if not, so that the MTA shows nothing more of it. Where a header is due headers and body
//! come too, and go unread. Where the message is to be read it is hashed as it passes, whatever its
//! length, and nothing of it is kept.
//!
//! At its end a message that was read is judged in two steps. First its content is recorded for every
//! recipient that it decides on: each is to find it known when it comes again, whatever becomes of
//! the others. Then, if none of them has to wait and none is held, it goes through for all. One that
//! has to wait defers it for all, with one reply. So nobody is delivered to before its time, and
//! nobody twice.

use crate::milter::{
    envelope::Due, ledger::Debt, log, metrics::Stage, passed::Passed, settings::HeaderOn,
};
use crate::policy::{Action, MessageHasher, RefuseReason, Timestamp, Verdict};

use super::transaction::Transaction;
use super::{Said, Session};

impl Session {
    /// The last word on the envelope. With nothing pending, nothing to be read and no header due,
    /// the MTA need show nothing more of the message.
    ///
    /// A deferral does not end the transaction, since it does not end Postfix's: the client may
    /// name more recipients, or say DATA again, and must not get through by that.
    pub(super) fn data(&mut self, now: Timestamp) -> Said {
        self.message = None;
        let Some(transaction) = self.decide(now) else {
            return self.say_without_transaction();
        };
        if let Some(reason) = self.refusal_of(&transaction, now) {
            self.refuse(reason)
        } else if transaction.is_to_be_read() {
            self.message = Some(Box::new(self.context.judge.message_hasher()));
            self.course.goes_on_to_its_end();
            Said::Continue
        } else if transaction.is_held {
            self.defer_message(Stage::Data)
        } else if self.header_due(&transaction).is_some() {
            self.course.goes_on_to_its_end();
            Said::Continue
        } else {
            self.course.passes(transaction.passes_by);
            self.end_transaction();
            Said::Accept
        }
    }

    /// An MTA older than milter version 4 does not tell DATA. It waits for an answer to each header
    /// instead, and the first one is as good a place: the envelope is complete.
    pub(super) fn begin_content(&mut self, debt: &Debt, now: Timestamp) -> Said {
        match self.transaction {
            Some(transaction) if !transaction.is_decided && debt.owes_status() => self.data(now),
            _ => Said::Continue,
        }
    }

    pub(super) fn read_header(&mut self, name: &[u8], value: &[u8]) {
        self.course.read(name.len() + value.len());
        let queue_id = self.envelope.queue_id();
        // A Message-ID that Postfix makes up, as for mail without one, has the queue id in it: it
        // differs at each try.
        let is_ours =
            !queue_id.is_empty() && value.windows(queue_id.len()).any(|it| it == queue_id);
        if let Some(message) = self.message.as_mut().filter(|_| !is_ours) {
            message.header(name, value);
        }
    }

    pub(super) fn read_body(&mut self, piece: &[u8]) {
        self.course.read(piece.len());
        if let Some(message) = &mut self.message {
            message.body(piece);
        }
    }

    /// Answers the message once, for all its recipients. What it proves of the client is told from its
    /// next command on. The envelope may be decided only here, where nothing of an empty message came
    /// before.
    pub(super) fn end_of_message(&mut self, piece: &[u8], now: Timestamp) -> Said {
        let Some(mut transaction) = self.decide(now) else {
            return self.say_without_transaction();
        };
        self.course.read(piece.len());
        let refusal = self.refusal_of(&transaction, now);
        let message = self.whole_message(piece, &transaction);
        if let Some(message) = &message {
            self.hear_content(message, &mut transaction, refusal.is_some(), now);
        }
        let said = if let Some(reason) = refusal.or(transaction.refusal) {
            self.refuse(reason)
        } else if transaction.is_held {
            if let Some(message) = &message {
                self.note_held(message, &transaction, now);
            }
            self.defer_message(Stage::EndOfMessage)
        } else {
            if let Some(message) = &message {
                self.note_passes(message, &transaction, now);
            }
            self.course.passes(transaction.passes_by);
            self.let_through(&transaction)
        };
        self.end_transaction();
        said
    }

    /// The message, its last piece included, if it was to be read.
    fn whole_message(
        &mut self,
        piece: &[u8],
        transaction: &Transaction,
    ) -> Option<Box<MessageHasher>> {
        if !transaction.is_to_be_read() {
            return None;
        }
        let begin = || Box::new(self.context.judge.message_hasher());
        let mut message = self.message.take().unwrap_or_else(begin);
        message.body(piece);
        Some(message)
    }

    /// Tells the judge of the message for each recipient that waits for it. One that `is_refused`
    /// proves what it proves, but does not begin to wait by that.
    fn hear_content(
        &self,
        message: &MessageHasher,
        transaction: &mut Transaction,
        is_refused: bool,
        now: Timestamp,
    ) {
        self.context.metrics.contents_read.inc();
        let queue_id = self.envelope.queue_id();
        log::content(queue_id);
        let judge = &*self.context.judge;
        for kept in self.envelope.kept(Due::Evidence) {
            if let Some(attempt) = self.attempt(kept.recipient, transaction) {
                judge.note_content(&attempt, message, now);
            }
        }
        let mut judged = Vec::new();
        for kept in self.envelope.kept(Due::Reading) {
            let Some(attempt) = self.attempt(kept.recipient, transaction) else {
                continue;
            };
            if is_refused {
                judge.note_content(&attempt, message, now);
                continue;
            }
            let judgement = judge.judge_content(&attempt, message, now);
            // There is nothing more to read than was read.
            transaction.is_held |= matches!(judgement.verdict, Verdict::Read(_));
            transaction.take(&judgement);
            judged.push((kept.recipient, judgement));
        }
        // A pass that has to wait for another recipient is told as held.
        let goes_through = !transaction.is_held && transaction.refusal.is_none();
        for (recipient, judgement) in judged {
            if let Some(attempt) = self.attempt(recipient, transaction) {
                let telling = self.context.telling;
                log::judged_as(&attempt, &judgement, telling, queue_id, goes_through);
            }
        }
    }

    fn note_held(&self, message: &MessageHasher, transaction: &Transaction, now: Timestamp) {
        for kept in self.envelope.kept(Due::Holding) {
            if let Some(attempt) = self.attempt(kept.recipient, transaction) {
                self.context.judge.note_held(&attempt, message, now);
            }
        }
    }

    fn note_passes(&self, message: &MessageHasher, transaction: &Transaction, now: Timestamp) {
        for kept in self.envelope.kept(Due::Reading) {
            if let Some(attempt) = self.attempt(kept.recipient, transaction) {
                self.context.judge.note_content_pass(&attempt, message, now);
            }
        }
    }

    fn let_through(&self, transaction: &Transaction) -> Said {
        let Some(passed) = self.header_due(transaction) else {
            return Said::Continue;
        };
        self.context.metrics.headers_added.inc();
        if let Some(waited) = passed.waited {
            log::delayed(self.envelope.queue_id(), waited);
        }
        Said::Passed(passed)
    }

    /// What a header is to say, if one is to be added. While greylisting only observes nothing has
    /// waited, whatever would have had to.
    fn header_due(&self, transaction: &Transaction) -> Option<Passed> {
        let may_say = self.context.header.is_some()
            && self.terms.may_add_headers()
            && self.policy.action == Action::Enforce;
        let is_due = |passed: &Passed| match self.context.header_on {
            HeaderOn::Delayed => passed.waited.is_some(),
            HeaderOn::Passed => true,
        };
        transaction.passed.filter(|it| may_say && is_due(it))
    }

    /// Why the message is refused whole, whatever was said of its recipients: one of them may have got
    /// the client sentenced, or another session has.
    fn refusal_of(&self, transaction: &Transaction, now: Timestamp) -> Option<RefuseReason> {
        // The operator has a recipient get its mail from whomever.
        if transaction.refusal.is_some() || transaction.is_allowed {
            return transaction.refusal;
        }
        let attempt = self.attempt(b"", transaction)?;
        if !self.context.judge.turns_away(&attempt, now) {
            return None;
        }
        let reason = RefuseReason::Sentenced;
        let judgement = Verdict::Refuse(reason).into();
        log::judged(&attempt, &judgement, self.context.telling);
        Some(reason)
    }

    /// A sentenced client is heard no more; another keeps its transaction, as Postfix does.
    pub(super) fn refuse(&mut self, reason: RefuseReason) -> Said {
        self.course.is_refused(reason);
        match reason {
            RefuseReason::Sentenced => {
                self.context.metrics.turned_away.inc();
                self.is_turned_away = true;
                self.end_transaction();
            }
            RefuseReason::BadReputation { .. } | RefuseReason::Denied { .. } => {
                self.context.metrics.refusals.inc();
            }
        }
        Said::Refusal(reason)
    }

    fn defer_message(&mut self, stage: Stage) -> Said {
        self.course.is_deferred(stage);
        self.context.metrics.deferrals.at(stage).inc();
        log::held(self.envelope.queue_id(), stage);
        Said::Deferral
    }
}
