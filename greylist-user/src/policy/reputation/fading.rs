//! How counts fade: by half in each half-life, in whole numbers, without loss of order.
//!
//! Time is cut into half-lives, counted from the Unix epoch. What is stored is what a count would
//! have weighed at the beginning of the half-life that it fell into; so a count that comes late in
//! it is stored as up to two. To bring a stored count into a later half-life it is halved so many
//! times, which is exact whatever the steps: two records are compared, and merged, in the later
//! one's half-life, and no rounding depends on the way there. In between a weight falls on a
//! straight line, at most 7 % above the curve.

use crate::policy::rules::Policy;
use crate::policy::time::Second;

/// Where a time lies among the half-lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// Half-lives since the Unix epoch.
    number: u64,
    /// Seconds since this one began.
    elapsed: u64,
    /// Seconds that it has.
    half_life: u64,
}

impl Phase {
    /// Of the time `at`.
    pub(super) fn of(policy: &Policy, at: Second) -> Self {
        let half_life = policy.reputation.half_life.as_secs();
        let half_life = half_life.clamp(1, LONGEST_HALF_LIFE);
        let seconds = u64::from(at.as_seconds());
        Self {
            number: seconds / half_life,
            elapsed: seconds % half_life,
            half_life,
        }
    }

    /// A count stored in the half-life of `earlier`, as it is stored in this one.
    pub(super) fn brought_from(self, earlier: Self, stored: u32) -> u32 {
        let halvings = self.number.saturating_sub(earlier.number);
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        stored.checked_shr(halvings).unwrap_or(0)
    }

    /// What a count that is stored in this half-life weighs at this time.
    pub(super) fn weight(self, stored: u32) -> u64 {
        let twice = 2 * self.half_life;
        u64::from(stored) * (twice - self.elapsed) / twice
    }

    /// What is stored for something of `weight` at this time.
    pub(super) fn worth(self, weight: u32) -> u32 {
        let twice = 2 * self.half_life;
        let stored = (u64::from(weight) * twice).div_ceil(twice - self.elapsed);
        u32::try_from(stored).unwrap_or(u32::MAX)
    }
}

/// Some 68 years: twice as long, times the largest count, is the most that 64 bits hold.
const LONGEST_HALF_LIFE: u64 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn lasting(half_life: u64) -> Policy {
        let mut policy = Policy::default();
        policy.reputation.half_life = Duration::from_secs(half_life);
        policy
    }

    fn phase(policy: &Policy, seconds: u32) -> Phase {
        Phase::of(policy, Second::from_seconds(seconds))
    }

    #[test]
    fn weight_halves_in_each_half_life_and_falls_straight_in_between() {
        let policy = lasting(1_000);
        let begun = phase(&policy, 5_000);
        let stored = begun.worth(25_600);
        for (seconds, expected) in [
            (5_000, 25_600),
            (5_500, 19_200),
            (6_000, 12_800),
            (6_500, 9_600),
            (7_000, 6_400),
            (15_000, 25),
            (u32::MAX, 0),
        ] {
            let later = phase(&policy, seconds);
            let weight = later.weight(later.brought_from(begun, stored));
            assert_eq!(weight, expected, "at {seconds}");
        }
    }

    proptest! {
        #[test]
        fn many_steps_come_to_the_same_as_one(
            stored: u32,
            half_life in 1u64..100_000,
            mut times in proptest::collection::vec(any::<u32>(), 2..12),
        ) {
            times.sort_unstable();
            let policy = lasting(half_life);
            let first = phase(&policy, times[0]);
            let last = phase(&policy, times[times.len() - 1]);
            let stepwise = times.windows(2).fold(stored, |stored, step| {
                phase(&policy, step[1]).brought_from(phase(&policy, step[0]), stored)
            });
            prop_assert_eq!(stepwise, last.brought_from(first, stored));
        }

        #[test]
        fn new_count_weighs_what_it_should_whenever_it_comes(
            weight in 0u32..100_000, half_life in 1u64..100_000, at: u32,
        ) {
            let policy = lasting(half_life);
            let phase = phase(&policy, at);
            let weighed = phase.weight(phase.worth(weight));
            prop_assert_eq!(weighed, u64::from(weight));
        }

        #[test]
        fn stays_within_seven_percent_of_the_curve(
            half_life in 10_000u32..100_000, at in 0u32..1_000_000, later in 0u32..80_000,
        ) {
            let policy = lasting(half_life.into());
            let weight = 256_000_000_u32;
            let (begun, ended) = (phase(&policy, at), phase(&policy, at + later));
            let left = ended.weight(ended.brought_from(begun, begun.worth(weight)));
            let left = f64::from(u32::try_from(left).expect("no more than there was"));
            let curve = f64::from(weight) * 0.5_f64.powf(f64::from(later) / f64::from(half_life));
            prop_assert!((0.93..=1.07).contains(&(left / curve)), "{left} for {curve}");
        }

        #[test]
        fn never_grows(stored: u32, half_life in 1u64..100_000, at: u32, later: u32) {
            let policy = lasting(half_life);
            let (begun, ended) = (phase(&policy, at), phase(&policy, at.saturating_add(later)));
            let left = ended.weight(ended.brought_from(begun, stored));
            prop_assert!(left <= begun.weight(stored));
        }
    }

    #[test]
    fn no_half_life_is_too_short_or_too_long() {
        for half_life in [0, 1, u64::MAX] {
            let phase = phase(&lasting(half_life), u32::MAX);
            assert!(phase.weight(u32::MAX) <= u32::MAX.into());
            assert!(phase.worth(u32::MAX) >= u32::MAX / 2);
        }
    }
}
