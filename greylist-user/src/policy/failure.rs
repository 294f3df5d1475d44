//! What is remembered of a permanent failure, for an hour: a message that was refused for good and
//! is tried again and again.

use super::rules::Policy;
use super::time::{Second, Timestamp};

/// The facts about one client, reverse-path and recipient after a 5yz of enhanced status 5.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When the message failed first.
    pub since: Second,
    /// What tells the message; 0 while that is not known.
    pub evidence: u32,
    /// The latest attempt that counted.
    pub latest: Timestamp,
    /// Addresses of this site tried in the present delivery round.
    pub round: u16,
    /// Retries since.
    pub retries: u16,
}

impl Failure {
    /// Whether it counts no more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        now.since(self.since.into()) >= policy.punish.rejected_window
    }
}
