//! What a session asks other hosts of the site: whether they know a mail that is new here.
//!
//! It stops before the command at which a recipient is judged, as it does for evidence, and before the end of
//! a message whose content may be known elsewhere. A record is asked for once in a session, however many
//! recipients hang on it. What is found is in the store when the session goes on; late, or without an answer,
//! this host decides alone.

use std::time::Duration;

use crate::milter::{command::Command, envelope::Due, ledger::Debt};
use crate::policy::{SharedKey, Tell, Timestamp};

use super::Session;
use super::transaction::{Rejection, Transaction};

/// What a session has asked of other hosts.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the frame was left for.
    wanted: Vec<SharedKey>,
    /// What was asked before, the latest last.
    asked: Vec<SharedKey>,
    /// Whether it was asked for the frame that comes again.
    is_settled: bool,
    /// Whether an answer is waited for.
    waits: bool,
}

impl Session {
    /// Whether `command` has to wait for what other hosts know.
    pub(super) fn lacks_memory(&mut self, command: &Command<'_>, now: Timestamp) -> bool {
        if self.memory.as_ref().is_some_and(|it| it.is_settled) {
            return false;
        }
        let Some(transaction) = self.transaction else {
            return false;
        };
        let mut wanted = match command {
            Command::Rcpt(path) if !transaction.from_probe && self.rejection == Rejection::None => {
                self.missing_for(path.address, &transaction, now)
            }
            Command::EndOfMessage(piece) => {
                let mut wanted = self.missing_for_kept(&transaction, now);
                wanted.extend(self.missing_contents(piece, &transaction, now));
                wanted
            }
            Command::Data => self.missing_for_kept(&transaction, now),
            Command::Header { .. } | Command::Body(_)
                if Debt::of(command, &self.terms).owes_status() =>
            {
                self.missing_for_kept(&transaction, now)
            }
            _ => return false,
        };
        if let Some(memory) = &self.memory {
            wanted.retain(|key| !memory.asked.contains(key));
        }
        if wanted.is_empty() {
            return false;
        }
        wanted.truncate(MOST_WANTED);
        self.memory.get_or_insert_default().wanted = wanted;
        true
    }

    /// Asks for what the frame was left for, and says how long that may take; gives `tell` back where it was
    /// not left for this.
    pub(super) fn recall(&mut self, tell: Tell) -> Result<Duration, Tell> {
        let (Some(peers), Some(memory)) = (&self.context.peers, &mut self.memory) else {
            return Err(tell);
        };
        if memory.wanted.is_empty() {
            return Err(tell);
        }
        let wanted = std::mem::take(&mut memory.wanted);
        let spare = memory.asked.len() + wanted.len();
        memory
            .asked
            .drain(..spare.saturating_sub(MOST_ASKED).min(memory.asked.len()));
        memory.asked.extend_from_slice(&wanted);
        memory.is_settled = true;
        memory.waits = true;
        peers.ask(
            wanted,
            Box::new(move || tell(crate::policy::Evidence::default())),
        );
        Ok(peers.budget())
    }

    /// Whether what is heard now is that other hosts have answered.
    pub(super) fn hears_peers(&mut self) -> bool {
        self.memory
            .as_mut()
            .is_some_and(|memory| std::mem::take(&mut memory.waits))
    }

    /// Whether other hosts are waited for.
    pub(super) fn waits_for_peers(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.waits)
    }

    /// The frame is taken: the next one may ask again.
    pub(super) fn go_on_from_memory(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.is_settled = false;
        }
    }

    fn missing_for(
        &self,
        recipient: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) -> Vec<SharedKey> {
        let attempt = self.attempt(recipient, transaction);
        let (Some(peers), Some(attempt)) = (&self.context.peers, attempt) else {
            return Vec::new();
        };
        peers.missing(&attempt, now)
    }

    /// What is missing for the recipients that wait to be judged.
    fn missing_for_kept(&self, transaction: &Transaction, now: Timestamp) -> Vec<SharedKey> {
        let mut wanted = Vec::new();
        if transaction.is_decided {
            return wanted;
        }
        for kept in self.envelope.kept(Due::Judgement).take(MOST_WANTED) {
            for key in self.missing_for(kept.recipient, transaction, now) {
                if !wanted.contains(&key) {
                    wanted.push(key);
                }
            }
        }
        wanted
    }

    /// What is missing of a message that is read, for the recipients that its content decides on.
    fn missing_contents(
        &self,
        piece: &[u8],
        transaction: &Transaction,
        now: Timestamp,
    ) -> Vec<SharedKey> {
        let (Some(peers), Some(message)) = (&self.context.peers, &self.message) else {
            return Vec::new();
        };
        if !transaction.content_decides {
            return Vec::new();
        }
        let mut whole = message.clone();
        whole.body(piece);
        let kept = self.envelope.kept(Due::Reading).take(MOST_WANTED);
        kept.filter_map(|kept| {
            let attempt = self.attempt(kept.recipient, transaction)?;
            peers.missing_content(&attempt, &whole, now)
        })
        .collect()
    }
}

/// Records that one frame may wait for: those of a hundred recipients or so. Of the others this host
/// decides by what it knows itself.
const MOST_WANTED: usize = 512;
/// Records remembered as asked for.
const MOST_ASKED: usize = 1_024;
