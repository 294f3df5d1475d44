//! The recipients of a message: when each is judged, and what is said of it alone.
//!
//! A recipient is judged at RCPT. The first ones that are pending are deferred there; further ones
//! go on, so that the client does not run into the MTA's error limit, and one deferral of the message
//! answers for them all. RCPT is never answered with ACCEPT, since that would hide the recipients to
//! come.
//!
//! One whose message is to be read is kept and goes on, whether the content decides on it or only
//! proves something. Two rules keep the recipients of one message from delaying each other, since one
//! reply ends it for them all:
//!
//! - Where a recipient passes already, a later one that content decides on is deferred at RCPT when
//!   it first comes. At its end the message would be deferred for the one that passes as well. Where
//!   the content may be evidence against the client, it is read all the same.
//! - Where a recipient comes again, those that come for the first time were not named in the last
//!   round, or not heard: an MTA under stress hangs up after one error. They go on, so that all of
//!   them are on record after this round, and one more delivers to all.
//!
//! One that passes for its tuple, or is pending, is on record already, but only for its network. If its
//! message is read and deferred for another recipient, the message is recorded for it, too, or a pool
//! would begin anew for it from the next address.
//!
//! A probe sender is never refused at RCPT, and its recipients are judged at DATA only: one that
//! quits before counts for nothing.

use std::mem;

use crate::milter::{
    command::Path,
    envelope::{Due, Place},
    log,
    metrics::Stage,
};
use crate::policy::{
    DeferReason, Judgement, PassReason, Policy, ReadReason, RefuseReason, Timestamp, Verdict,
};

use super::transaction::{Rejection, Transaction};
use super::{Said, Session};

impl Session {
    pub(super) fn rcpt(&mut self, path: &Path<'_>, now: Timestamp) -> Said {
        let rejection = mem::take(&mut self.rejection);
        let Some(mut transaction) = self.transaction else {
            return self.say_without_transaction();
        };
        if rejection != Rejection::None {
            self.hear_rejection(rejection, path.address, &transaction, now);
            return Said::Continue;
        }
        if transaction.from_probe && self.client.is_some() {
            if self.envelope.keep_recipient(path.address, Due::Judgement) {
                self.course.goes_on();
                transaction.has_kept = true;
                transaction.is_decided = false;
                self.transaction = Some(transaction);
            } else {
                self.context.metrics.recipients_unkept.inc();
            }
            return Said::Continue;
        }
        let Some(judgement) = self.judge(path.address, &transaction, now) else {
            return Said::Continue;
        };
        if let Verdict::Refuse(reason) = judgement.verdict {
            return self.refuse(reason);
        }
        if self.is_deferred_alone(&judgement, &transaction) {
            return self.defer_recipient();
        }
        match due(&judgement, self.policy.for_recipient(path.address)) {
            Due::Evidence => transaction.has_evidence |= self.keep(path.address, Due::Evidence),
            // It would never be decided.
            Due::Reading if !self.keep(path.address, Due::Reading) => {
                return self.defer_recipient();
            }
            // Without room it only is not known from elsewhere.
            Due::Holding => {
                self.envelope.keep_recipient(path.address, Due::Holding);
            }
            _ => {}
        }
        self.course.goes_on();
        transaction.take(&judgement);
        self.transaction = Some(transaction);
        Said::Continue
    }

    /// Judges what was kept for now. `None` without a transaction.
    ///
    /// The first refusal is the message's: it is the client that is refused, not a recipient. Only where
    /// a list allows another of them it is deferred, in whatever order they were named: one reply answers
    /// for all, and neither shall the one be refused nor the other get through by naming it. A bounce has
    /// one recipient. Who is sentenced is deferred by that already, and the rest is not judged.
    pub(super) fn decide(&mut self, now: Timestamp) -> Option<Transaction> {
        let mut decided = self.transaction?;
        decided.is_decided = true;
        let mut place = Place::FIRST;
        let may_be_allowed =
            |it: &Transaction| it.is_allowed || it.refusal != Some(RefuseReason::Sentenced);
        while may_be_allowed(&decided)
            && let Some(kept) = self.envelope.next_kept(Due::Judgement, place)
        {
            let judgement = self.judge(kept.recipient, &decided, now);
            let refusal = decided.refusal;
            let policy = self.policy.for_recipient(kept.recipient);
            let due = judgement
                .as_ref()
                .map_or(Due::Nothing, |it| due(it, policy));
            let marked = kept.place;
            place = kept.next;
            decided.has_evidence |= due == Due::Evidence;
            if let Some(judgement) = &judgement {
                decided.take(judgement);
            }
            decided.refusal = refusal.or(decided.refusal);
            self.envelope.mark(marked, due);
        }
        if decided.is_allowed && decided.refusal.take().is_some() {
            decided.is_held = true;
        }
        self.transaction = Some(decided);
        Some(decided)
    }

    fn judge(
        &self,
        recipient: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) -> Option<Judgement> {
        let Some(attempt) = self.attempt(recipient, transaction) else {
            self.context.metrics.recipients_without_address.inc();
            return None;
        };
        let judgement = self.context.judge.judge(&attempt, now);
        log::judged(&attempt, &judgement, self.context.telling);
        Some(judgement)
    }

    /// The MTA refuses this recipient itself, and does not heed what is answered.
    fn hear_rejection(
        &self,
        rejection: Rejection,
        recipient: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) {
        self.context.metrics.recipients_rejected.inc();
        if rejection == Rejection::ForGood
            && let Some(attempt) = self.attempt(recipient, transaction)
        {
            log::rejected(&attempt, self.context.telling.addresses);
            self.context.judge.note_rejected(&attempt, now);
        }
    }

    /// Whether a recipient is deferred at RCPT, and the others of its message left alone.
    fn is_deferred_alone(&self, judgement: &Judgement, transaction: &Transaction) -> bool {
        let is_first_contact = match judgement.verdict {
            Verdict::Defer(DeferReason::New | DeferReason::Late) => true,
            Verdict::Read(ReadReason::Roaming) => false,
            Verdict::Read(_) => judgement.grounds.attempts == 1,
            _ => false,
        };
        let may_be = match judgement.verdict {
            Verdict::Defer(_) => !judgement.wants_content,
            Verdict::Read(_) => is_first_contact && transaction.passes_by.is_some(),
            _ => false,
        };
        may_be
            && !(is_first_contact && transaction.comes_again)
            && self.deferred < self.policy.rcpt_deferrals
    }

    fn defer_recipient(&mut self) -> Said {
        self.deferred += 1;
        self.course.is_deferred(Stage::Rcpt);
        self.context.metrics.deferrals.at(Stage::Rcpt).inc();
        Said::Deferral
    }

    /// Keeps a recipient until its message has been read; false when there is no room for one more.
    fn keep(&mut self, recipient: &[u8], due: Due) -> bool {
        let is_kept = self.envelope.keep_recipient(recipient, due);
        if !is_kept {
            self.context.metrics.recipients_unread.inc();
        }
        is_kept
    }
}

/// What is to come for a recipient of which `judgement` was said.
fn due(judgement: &Judgement, policy: &Policy) -> Due {
    match judgement.verdict {
        Verdict::Read(_) => Due::Reading,
        _ if judgement.wants_content => Due::Evidence,
        Verdict::Defer(_) | Verdict::Pass(PassReason::Waited { .. }) if policy.mode.reads() => {
            Due::Holding
        }
        _ => Due::Nothing,
    }
}
