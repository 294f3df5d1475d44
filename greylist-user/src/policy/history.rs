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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn judges_after_a_minute_and_blocks_after_a_week() {
        let policy = Policy::default();
        let begun = Timestamp::from_millis(1_700_000_000_000);
        let history = History { begun };
        let after = |time| begun.after(time);
        let minute = Duration::from_mins(1);
        assert!(!history.judges(&policy, after(minute - Duration::from_millis(1))));
        assert!(history.judges(&policy, after(minute)));
        let week = Duration::from_hours(7 * 24);
        assert!(!history.blocks(&policy, after(week - minute)));
        assert!(history.blocks(&policy, after(week)));
    }
}
