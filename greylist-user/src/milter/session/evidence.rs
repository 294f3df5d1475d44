//! What a session asks before it judges, and where it stops for that.
//!
//! It stops before the first command of a transaction of which the verdict may hang on what others
//! know: a RCPT, or, for a probe sender, the one at which its recipients are judged. The frame is left
//! untouched, so that a session that stopped says what one that knew beforehand would have said. One
//! transaction asks once, whatever is wanted for its further recipients: client and sender are the same.

use std::time::Duration;

use crate::milter::{command::Command, envelope::Due, ledger::Debt};
use crate::policy::{Evidence, Question, Tell, Timestamp, Wanted};

use super::Session;
use super::transaction::{Rejection, Transaction};

impl Session {
    /// Whether `command` has to wait for evidence.
    pub(super) fn lacks_evidence(&mut self, command: &Command<'_>, now: Timestamp) -> bool {
        let Some(mut transaction) = self.transaction.filter(|it| !it.has_asked) else {
            return false;
        };
        let wanted = match command {
            Command::Rcpt(path) if !transaction.from_probe && self.rejection == Rejection::None => {
                self.wants(path.address, &transaction, now)
            }
            Command::Data | Command::EndOfMessage(_) => self.wants_for_kept(&transaction, now),
            Command::Header { .. } | Command::Body(_)
                if Debt::of(command, &self.terms).owes_status() =>
            {
                self.wants_for_kept(&transaction, now)
            }
            _ => return false,
        };
        if !wanted.is_any() {
            return false;
        }
        transaction.has_asked = true;
        transaction.wanted = wanted;
        self.transaction = Some(transaction);
        true
    }

    /// Asks for what the frame was left for, other hosts or the witness, and says how long that may take.
    /// `tell` is called or dropped: with nobody to ask, at once.
    pub fn ask(&mut self, tell: Tell) -> Duration {
        let tell = match self.recall(tell) {
            Ok(budget) => return budget,
            Err(tell) => tell,
        };
        let witness = self.context.witness.as_deref();
        let (Some(witness), Some(question)) = (witness, self.question()) else {
            return Duration::ZERO;
        };
        self.context.metrics.questions.inc();
        witness.ask(&question, tell);
        witness.budget()
    }

    /// What is to be asked; [`None`] unless a frame was left for it.
    fn question(&self) -> Option<Question<'_>> {
        let transaction = self.transaction.as_ref()?;
        transaction.has_asked.then_some(Question {
            client: self.client?,
            helo: self.envelope.helo(),
            reverse_path: self.envelope.reverse_path(),
            wanted: transaction.wanted,
        })
    }

    /// Counts that the session goes on without an answer.
    pub(in crate::milter) fn count_unanswered(&self) {
        // What other hosts did not answer in time, whoever asks them counts.
        if !self.waits_for_peers() {
            self.context.metrics.questions_unanswered.inc();
        }
    }

    /// Hears what was found. That it was asked is known already, so that nothing is asked twice.
    pub fn learn(&mut self, evidence: Evidence) {
        if self.hears_peers() {
            return;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.evidence = evidence;
        }
    }

    fn wants(&self, recipient: &[u8], transaction: &Transaction, now: Timestamp) -> Wanted {
        let attempt = self.attempt(recipient, transaction);
        attempt.map_or_else(Wanted::default, |it| self.context.judge.wants(&it, now))
    }

    /// What is wanted for the first recipient that waits to be judged and wants anything.
    fn wants_for_kept(&self, transaction: &Transaction, now: Timestamp) -> Wanted {
        if transaction.is_decided {
            return Wanted::default();
        }
        let kept = self.envelope.kept(Due::Judgement);
        kept.map(|it| self.wants(it.recipient, transaction, now))
            .find(|it| it.is_any())
            .unwrap_or_default()
    }
}
