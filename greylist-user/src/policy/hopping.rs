//! Relay hopping: one HELO argument at one recipient, from many networks that have nothing to do
//! with each other, within seconds.

use super::rules::Policy;
use super::time::{Second, Timestamp};

/// What is remembered of a HELO argument that relay hopping was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoppingHelo {
    /// When it was first caught.
    pub since: Second,
    /// When it was last caught.
    pub latest: Second,
    /// How often.
    pub times: u16,
    /// Counts the lives.
    pub life: u16,
}

impl HoppingHelo {
    /// Whether it is forgotten at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        now.since(self.latest.into()) >= policy.punish.hopping_memory
    }
}

/// What is known around an attempt, beside its tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Its HELO argument is remembered for relay hopping, and its client is not that name's own.
    pub helo_hops: bool,
    /// A message of its sender to its recipient has failed permanently within the hour, and what
    /// this attempt announces does not tell whether it is the same.
    pub after_failure: bool,
}
