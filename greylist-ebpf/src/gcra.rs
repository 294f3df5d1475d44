//! The generic cell rate algorithm (ITU-T I.371, annex A) on a [`Limit`]: whether a connection is
//! within it, and what is to be written down then.
//!
//! Pure: it reads no clock and writes no entry. Of all numbers it makes something harmless, since
//! entry and limit are written by others at other times.

use crate::abi::{KernelTime, Limit};

/// What the limit says of one new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conformance {
    /// Within the limit, once this arrival time is written down.
    Within(KernelTime),
    /// Beyond it, and nothing changes: who knocks in vain does not make the wait longer.
    Beyond,
    /// Beyond it, and the arrival time lies further ahead than this limit can bring it: it is of a
    /// harder limit, and this one replaces it.
    Astray(KernelTime),
}

impl Limit {
    /// Judges a connection that comes `now`, where `arrival` is the theoretical arrival time.
    #[inline(always)]
    pub const fn judge(&self, arrival: KernelTime, now: KernelTime) -> Conformance {
        let (arrival, now) = (arrival.as_nanos(), now.as_nanos());
        let latest = now.saturating_add(self.tolerance);
        if arrival <= latest {
            let base = if arrival > now { arrival } else { now };
            let next = base.saturating_add(self.interval);
            return Conformance::Within(KernelTime::from_nanos(next));
        }
        // A connection at the last moment that conforms leaves this much behind, no more.
        let furthest = latest.saturating_add(self.interval);
        if arrival <= furthest {
            Conformance::Beyond
        } else {
            Conformance::Astray(KernelTime::from_nanos(furthest))
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{prelude::rust_2024::*, vec::Vec};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// One connection each ten, three at once after silence.
    const LIMIT: Limit = Limit::new(10, 3);

    #[test]
    fn burst_passes_and_then_one_for_each_interval() {
        let mut arrival = at(0);
        for _ in 0..3 {
            assert!(knock(LIMIT, &mut arrival, 1_000));
        }
        assert!(!knock(LIMIT, &mut arrival, 1_000));
        assert!(!knock(LIMIT, &mut arrival, 1_009));
        assert!(knock(LIMIT, &mut arrival, 1_010));
        assert!(!knock(LIMIT, &mut arrival, 1_019));
        for _ in 0..3 {
            assert!(knock(LIMIT, &mut arrival, 1_050));
        }
        assert!(!knock(LIMIT, &mut arrival, 1_050));
    }

    #[test]
    fn burst_of_one_takes_turns_with_the_interval() {
        let limit = Limit::new(10, 1);
        let mut arrival = at(1_010); // as user space writes a new entry at level block
        assert!(!knock(limit, &mut arrival, 1_000));
        assert!(!knock(limit, &mut arrival, 1_009));
        assert!(knock(limit, &mut arrival, 1_010));
        assert!(!knock(limit, &mut arrival, 1_010));
    }

    #[test]
    fn knocking_in_vain_does_not_make_the_wait_longer() {
        let mut arrival = at(1_030);
        for _ in 0..1_000 {
            assert_eq!(LIMIT.judge(arrival, at(1_000)), Conformance::Beyond);
        }
        assert!(knock(LIMIT, &mut arrival, 1_010));
    }

    #[test]
    fn arrival_of_a_harder_limit_heals_at_the_first_knock() {
        let mut arrival = at(1_000_000);
        assert_eq!(
            LIMIT.judge(arrival, at(1_000)),
            Conformance::Astray(at(1_030))
        );
        assert!(!knock(LIMIT, &mut arrival, 1_000));
        assert!(knock(LIMIT, &mut arrival, 1_010));
    }

    #[test]
    fn limit_of_nothing_lets_everything_through() {
        let mut arrival = at(u64::MAX);
        assert!(!knock(Limit::default(), &mut arrival, 5), "it heals first");
        for _ in 0..100 {
            assert!(knock(Limit::default(), &mut arrival, 5));
        }
    }

    proptest! {
        /// The promise of the algorithm, for each window and not only from the start.
        #[test]
        fn no_window_holds_more_than_burst_and_elapsed_intervals(
            interval in 1_u64..1_000,
            burst in 1_u32..12,
            first in any::<u64>(),
            gaps in vec(prop_oneof![Just(0), 0_u64..50, 0_u64..5_000], 1..120),
        ) {
            let limit = Limit::new(interval, burst);
            let (mut arrival, mut now) = (at(first), 1_u64 << 40);
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                if knock(limit, &mut arrival, now) {
                    passed.push(now);
                }
            }
            for (index, start) in passed.iter().enumerate() {
                for (count, end) in (1_u64..).zip(&passed[index..]) {
                    prop_assert!(count <= u64::from(burst) + (end - start) / interval);
                }
            }
        }

        #[test]
        fn who_waits_long_enough_is_let_through(
            interval in 0_u64..1 << 50,
            burst in 0_u32..100,
            arrival in any::<u64>(),
            now in 0_u64..1 << 60,
        ) {
            let limit = Limit::new(interval, burst);
            let mut arrival = at(arrival);
            if !knock(limit, &mut arrival, now) {
                prop_assert!(knock(limit, &mut arrival, now + interval));
            }
        }

        /// What is written down is never further ahead than the limit can use, so that no entry
        /// keeps a client out for longer than one interval.
        #[test]
        fn what_is_written_is_within_reach(
            limit in limits(),
            arrival in extremes(),
            now in extremes(),
        ) {
            let furthest = now.saturating_add(limit.tolerance).saturating_add(limit.interval);
            match limit.judge(at(arrival), at(now)) {
                Conformance::Within(next) => {
                    prop_assert!(arrival <= now.saturating_add(limit.tolerance));
                    prop_assert!(next >= at(arrival) && next >= at(now));
                    prop_assert!(next <= at(furthest));
                }
                Conformance::Beyond => prop_assert!(arrival <= furthest),
                Conformance::Astray(written) => {
                    prop_assert_eq!(written, at(furthest));
                    prop_assert!(written < at(arrival), "it only ever shortens the wait");
                }
            }
        }
    }

    /// Whether a connection is let through; what is to be written is.
    fn knock(limit: Limit, arrival: &mut KernelTime, now: u64) -> bool {
        match limit.judge(*arrival, at(now)) {
            Conformance::Within(next) => {
                *arrival = next;
                true
            }
            Conformance::Beyond => false,
            Conformance::Astray(furthest) => {
                *arrival = furthest;
                false
            }
        }
    }

    fn at(nanos: u64) -> KernelTime {
        KernelTime::from_nanos(nanos)
    }

    fn limits() -> impl Strategy<Value = Limit> {
        (extremes(), extremes()).prop_map(|(interval, tolerance)| Limit {
            interval,
            tolerance,
        })
    }

    /// Numbers of any size, and those at both ends.
    fn extremes() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0_u64..3, Just(u64::MAX), Just(u64::MAX - 1)]
    }
}
