//! The pure engine: what an attempt deserves, given what is remembered and what time it is.
//!
//! No I/O, no clock, no async, no locks, no logging, no global. State is facts and times;
//! verdicts are derived. It uses nothing else of greygate, and everything else may use it.

mod attempt;
mod decide;
mod effect;
mod persistence;
mod punish;
pub mod ranges;
mod record;
mod rules;
mod sentence;
mod shield;
mod time;
mod trust;
mod tuple;
mod verdict;

#[cfg(test)]
mod scenarios;

pub use attempt::{Attempt, Origin};
pub use decide::{Decision, decide, exempt};
pub use effect::Effect;
pub use persistence::{Persistence, lengthened};
pub use record::{Record, Standing};
pub use rules::{Action, Policy, Punish};
pub use sentence::{
    Sentence, SentenceLevel, SentenceReason, SentencedClient, UnknownLevel, UnsentenceableNetwork,
};
pub use time::{Second, Timestamp};
pub use trust::TrustRecord;
pub use tuple::{HostMark, Seed, TrustKey, TupleKey};
pub use verdict::{DeferReason, PassReason, Verdict};

/// Who is asked about an attempt: the store in the daemon, a table in a test.
///
/// A wrong `Pass` costs an unwanted mail; a wrong `Defer` costs a delay. Neither loses mail, so an
/// implementation that cannot tell must answer one of the two and never block on I/O.
pub trait Judge: Send + Sync {
    /// Records the attempt and says what it deserves.
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Verdict;
}
