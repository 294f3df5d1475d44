//! How many recipients the MTA rejected (5yz) to one client: what a dictionary attack is told by.

use super::rules::Policy;
use super::time::{Second, Timestamp};

/// How many recipients the MTA rejected to one client address, since it was the first time.
///
/// A dictionary attack is rejected nearly all it names; a mailing list with dead addresses, a few
/// among many. A recipient that was rejected to the same reverse-path within the hour is not counted
/// again: that is a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejections {
    /// When the count began.
    pub since: Second,
    /// Recipients rejected since.
    pub rejected: u32,
    /// Recipients named since, the rejected ones included.
    pub named: u32,
    /// Counts the lives: a new count begins the next.
    pub life: u16,
}

impl Rejections {
    /// The count with one more recipient rejected at `now`; and whether it is a dictionary attack.
    /// If so, the next one needs another full count.
    pub fn rejected(policy: &Policy, prior: Option<&Self>, now: Timestamp) -> (Self, bool) {
        let begun = |life| Self {
            since: now.into(),
            rejected: 0,
            named: 0,
            life,
        };
        let mut next = match prior {
            None => begun(1),
            Some(prior) if prior.has_lapsed(policy, now) => begun(prior.life.saturating_add(1)),
            Some(prior) => *prior,
        };
        next.rejected = next.rejected.saturating_add(1);
        next.named = next.named.saturating_add(1);
        let limit = policy.punish.rejected_recipients;
        let share = u64::from(next.rejected) * 5 >= u64::from(next.named) * 4;
        if limit > 0 && next.rejected > limit.into() && share {
            (begun(next.life.saturating_add(1)), true)
        } else {
            (next, false)
        }
    }

    /// Notes a recipient that was named and not rejected.
    pub fn note_named(&mut self) {
        self.named = self.named.saturating_add(1);
    }

    /// Whether it counts no more at `now`: the one definition.
    pub fn has_lapsed(&self, policy: &Policy, now: Timestamp) -> bool {
        !self.since.is_within(policy.punish.rejected_window, now)
    }

    /// One count out of two of the same client, from two hosts: the higher life wins; within one,
    /// since is the smaller and the counts are the larger.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.life != other.life {
            return if self.life > other.life { self } else { other };
        }
        Self {
            since: self.since.min(other.since),
            rejected: self.rejected.max(other.rejected),
            named: self.named.max(other.named),
            life: self.life,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::T0;

    fn at(seconds: u64) -> Timestamp {
        T0.after(Duration::from_secs(seconds))
    }

    /// What becomes of `rejected` of `named` recipients, spread evenly over half an hour.
    fn dictionary(rejected: u32, named: u32) -> usize {
        let policy = Policy::default();
        let mut prior: Option<Rejections> = None;
        let mut offences = 0;
        for number in 0..named {
            let now = at(u64::from(number) * 1_800 / u64::from(named));
            if number * rejected / named == (number + 1) * rejected / named {
                if let Some(prior) = &mut prior {
                    prior.note_named();
                }
                continue;
            }
            let (next, offends) = Rejections::rejected(&policy, prior.as_ref(), now);
            prior = Some(next);
            offences += usize::from(offends);
        }
        offences
    }

    #[test]
    fn dictionary_attack_is_refused_nearly_all_it_names() {
        assert_eq!(dictionary(100, 100), 0);
        assert_eq!(dictionary(101, 101), 1);
        assert_eq!(dictionary(201, 201), 1);
        assert_eq!(dictionary(202, 202), 2, "another full count");
        assert_eq!(dictionary(500, 500), 4);
        assert_eq!(dictionary(425, 500), 4, "more than four fifths");
        assert_eq!(dictionary(350, 500), 0, "seven tenths");
        assert_eq!(dictionary(3, 500), 0);
        assert_eq!(dictionary(1_500, 100_000), 0);
    }

    #[test]
    fn dictionary_count_begins_anew_after_its_window() {
        let policy = Policy::default();
        let mut prior = None;
        for number in 0..1_000_u64 {
            let (next, offends) = Rejections::rejected(&policy, prior.as_ref(), at(number * 37));
            assert!(!offends, "98 an hour");
            prior = Some(next);
        }
        assert!(prior.is_some_and(|it| it.life > 9));
    }

    #[test]
    fn limit_of_zero_is_never_reached() {
        let mut policy = Policy::default();
        policy.punish.rejected_recipients = 0;
        let mut prior = None;
        for _ in 0..1_000 {
            let (next, offends) = Rejections::rejected(&policy, prior.as_ref(), T0);
            assert!(!offends);
            prior = Some(next);
        }
    }

    prop_compose! {
        /// Small ranges, so that equal lives and times are common.
        fn rejections()(
            since in 0u64..3, rejected in 0u32..3, named in 0u32..3, life in 1u16..3,
        ) -> Rejections {
            Rejections {
                since: Timestamp::from_millis(since * 1_000).into(),
                rejected,
                named,
                life,
            }
        }
    }

    proptest! {
        #[test]
        fn merging_is_commutative(a in rejections(), b in rejections()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
        }

        #[test]
        fn merging_is_associative(a in rejections(), b in rejections(), c in rejections()) {
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        }

        #[test]
        fn merging_is_idempotent(a in rejections(), b in rejections()) {
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
        }
    }
}
