//! How long greygate has been watching: who has seen little yet should judge little.

use super::rules::Policy;
use super::time::Timestamp;

/// Since when there is a history. It survives a restart, not a cold start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// When the first attempt could be seen.
    pub begun: Timestamp,
}

impl History {
    /// Whether behaviour is judged at `now`: not in the first minute, when everybody looks new.
    pub fn judges(self, policy: &Policy, now: Timestamp) -> bool {
        now.since(self.begun) >= policy.punish.grace
    }

    /// Whether blocks are carried out at `now`.
    pub fn blocks(self, policy: &Policy, now: Timestamp) -> bool {
        now.since(self.begun) >= policy.punish.warmup
    }
}
