//! How many of the newest tuples each network holds, while room is short: who may begin one more.
//!
//! A tuple says by its key alone whose it is, so what a network begins is counted, by mark, and given
//! back when one of its tuples passes. What never came again is forgotten with its time: counts are kept
//! for the present and the last stretch of four hours, after which the sweep may take their tuples
//! too. So a network holds at most what is counted, and those who began while there was room, or before
//! a restart.
//!
//! Two rows of counts, each under a mark of its own: a network is held to have the smaller of its two, and
//! shares both with a given other in one case of four billion. Nobody can choose with whom: marks are
//! pieces of a keyed hash. Bounded: a megabyte.
//!
//! Networks are counted wider than mail is greylisted, `/24` and `/48`: a host that has a `/48` of its own,
//! as many do, has 65,536 networks of the other kind.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::policy::{ClientNetwork, NetworkKey, Seed, Timestamp};

/// The counts.
#[derive(Debug)]
pub(super) struct Shares {
    /// The number of the present stretch of time.
    stretch: AtomicU64,
    /// Of the even and the odd stretch.
    counts: [Counts; 2],
}

#[derive(Debug)]
struct Counts([Box<[AtomicU32]>; ROWS]);

/// Whose share it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder([u16; ROWS]);

impl Holder {
    /// Who holds what the client at `address` begins.
    pub(super) fn of(seed: &Seed, address: IpAddr) -> Self {
        let network = ClientNetwork::cut(address, IPV4_PREFIX, IPV6_PREFIX);
        Self::with_key(seed.network_key(network))
    }

    fn with_key(key: NetworkKey) -> Self {
        let [a, b, c, d, ..] = key.to_bytes();
        Self([u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])])
    }
}

impl Shares {
    /// Nobody holds anything.
    pub(super) fn new() -> Self {
        Self {
            stretch: AtomicU64::new(0),
            counts: [Counts::none(), Counts::none()],
        }
    }

    /// Counts one more of the holder's, if it has fewer than `share`.
    pub(super) fn take(&self, holder: Holder, share: u32, now: Timestamp) -> bool {
        let stretch = self.turn(now);
        let has_room = self.held(holder) < share;
        if has_room {
            for cell in self.counts_of(stretch).cells(holder) {
                cell.fetch_add(1, Ordering::Relaxed);
            }
        }
        has_room
    }

    /// Gives back one that began at `begun`, if it may be counted still.
    pub(super) fn give_back(&self, holder: Holder, begun: Timestamp, now: Timestamp) {
        let (present, its) = (self.turn(now), stretch_of(begun));
        if its == present || its + 1 == present {
            for cell in self.counts_of(its).cells(holder) {
                // One that began while there was room was never counted.
                let less = |count: u32| count.checked_sub(1);
                let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    /// How many the holder has, or a few more if others have both of its marks.
    fn held(&self, holder: Holder) -> u32 {
        let [even, odd] = [0, 1].map(|stretch| {
            let cells = self.counts_of(stretch).cells(holder);
            cells.map(|cell| cell.load(Ordering::Relaxed))
        });
        let sums = even.into_iter().zip(odd);
        let sums = sums.map(|(even, odd)| even.saturating_add(odd));
        sums.min().unwrap_or(u32::MAX)
    }

    /// Turns to the stretch that `now` lies in, whose counts begin at nothing, and gives its number.
    fn turn(&self, now: Timestamp) -> u64 {
        let present = stretch_of(now);
        let last = self.stretch.load(Ordering::Relaxed);
        // Who read the clock just before another turned must not turn back.
        if last == present || last == present + 1 {
            return last;
        }
        let turned =
            self.stretch
                .compare_exchange(last, present, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() {
            self.counts_of(present).clear();
            if last + 1 != present {
                self.counts_of(present + 1).clear();
            }
        }
        present
    }

    fn counts_of(&self, stretch: u64) -> &Counts {
        &self.counts[usize::from(!stretch.is_multiple_of(2))]
    }
}

impl Counts {
    fn none() -> Self {
        Self(std::array::from_fn(|_| {
            std::iter::repeat_with(AtomicU32::default)
                .take(1 << u16::BITS)
                .collect()
        }))
    }

    fn cells(&self, holder: Holder) -> [&AtomicU32; ROWS] {
        std::array::from_fn(|row| &self.0[row][usize::from(holder.0[row])])
    }

    fn clear(&self) {
        for count in self.0.iter().flatten() {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// Most new tuples that one network may hold where `free` of `capacity` places are left, of which fewer
/// than [`reserve`] are: the fewer the fuller the table is, one at least.
///
/// Who floods from *n* networks comes to rest when each has its share: 16 / (64 + *n*) of the table are
/// left then to those who hold less.
pub(super) fn share(capacity: usize, free: usize) -> u32 {
    let most = (capacity / 256).max(SMALLEST_SHARE);
    let reserve = reserve(capacity).max(1);
    let share = most.saturating_mul(free.min(reserve)) / reserve;
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

/// From how few free places on new tuples are counted: a quarter of all.
pub(super) fn reserve(capacity: usize) -> usize {
    capacity / 4
}

fn stretch_of(time: Timestamp) -> u64 {
    time.as_millis() / STRETCH_MILLIS
}

const ROWS: usize = 2;
const STRETCH_MILLIS: u64 = super::shed::KEPT.as_secs() * 1_000;
const SMALLEST_SHARE: usize = 64;
const IPV4_PREFIX: u8 = 24;
const IPV6_PREFIX: u8 = 48;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::fixture::T0;

    fn holder(number: u16) -> Holder {
        Holder([number, number.wrapping_mul(40_503)])
    }

    fn hours(hours: u64) -> Timestamp {
        // The beginning of a stretch.
        let begun = Timestamp::from_millis(stretch_of(T0) * STRETCH_MILLIS);
        begun.after(Duration::from_hours(hours))
    }

    fn total(shares: &Shares) -> u64 {
        let rows = shares.counts.iter().flat_map(|counts| &counts.0);
        let cells = rows.flat_map(|row| row.iter());
        cells.map(|it| u64::from(it.load(Ordering::Relaxed))).sum()
    }

    #[test]
    fn network_begins_its_share_and_others_theirs() {
        let shares = Shares::new();
        let begun = |number| {
            let more = std::iter::repeat_with(|| shares.take(holder(number), 5, hours(0)));
            more.take(100).filter(|taken| *taken).count()
        };
        assert_eq!([begun(1), begun(2), begun(1)], [5, 5, 0]);
    }

    #[test]
    fn counts_lapse_after_four_to_eight_hours() {
        let shares = Shares::new();
        assert!(shares.take(holder(1), 1, hours(3)));
        assert!(!shares.take(holder(1), 1, hours(7)));
        assert!(shares.take(holder(1), 1, hours(8)));
        assert!(
            shares.take(holder(1), 1, hours(400)),
            "nobody came for long"
        );
        assert!(
            shares.take(holder(1), 1, hours(4)),
            "the clock was set back"
        );
        assert_eq!(total(&shares), ROWS as u64);
    }

    #[test]
    fn who_read_the_clock_before_the_turn_does_not_undo_it() {
        let shares = Shares::new();
        let before = Timestamp::from_millis(hours(4).as_millis() - 1);
        assert!(shares.take(holder(1), 1, hours(3)));
        assert!(shares.take(holder(2), 1, hours(4)));
        assert!(shares.take(holder(3), 1, before), "by another thread");
        for number in 1..=3 {
            assert!(!shares.take(holder(number), 1, hours(4)), "{number}");
        }
    }

    #[test]
    fn what_passes_is_given_back() {
        let shares = Shares::new();
        assert!(shares.take(holder(1), 1, hours(3)));
        shares.give_back(holder(1), hours(3), hours(5));
        assert!(shares.take(holder(1), 1, hours(5)));
        // Never counted, or not any more.
        shares.give_back(holder(2), hours(5), hours(5));
        shares.give_back(holder(1), hours(3), hours(9));
        assert!(!shares.take(holder(1), 1, hours(9)));
    }

    #[test]
    fn share_shrinks_with_the_room_and_leaves_some_to_others() {
        let shares = [1_000_000, 250_000, 125_000, 2_500, 0].map(|free| share(1_000_000, free));
        assert_eq!(shares, [3_906, 3_906, 1_953, 39, 1]);
        for networks in [1, 100, 10_000_usize] {
            let capacity = 1_000_000;
            let mut free = reserve(capacity);
            let mut held = vec![0; networks];
            let mut goes_on = true;
            while goes_on {
                goes_on = false;
                for held in &mut held {
                    if *held < share(capacity, free) {
                        *held += 1;
                        free -= 1;
                        goes_on = true;
                    }
                }
            }
            let left = 16 * capacity / (64 + networks);
            assert!(free >= left - left / 10, "{free} left of {networks}");
        }
    }

    /// Whose marks are both those of a flood is taken for it: few, unless it has more networks than there are
    /// counts.
    #[test]
    fn newcomer_is_seldom_taken_for_a_flood() {
        let seed = Seed::from_bytes([7; Seed::LENGTH]);
        let of = |number: u32| Holder::of(&seed, Ipv4Addr::from(number << 8).into());
        let taken_for_one = |networks: u32| {
            let shares = Shares::new();
            for number in 0..networks {
                shares.take(of(number), 1, hours(0));
            }
            let newcomers = 0x00c0_0000..0x00c0_2710_u32;
            let refused = newcomers.filter(|it| shares.held(of(*it)) > 0);
            refused.count()
        };
        let of_ten_thousand = [1_000, 10_000, 65_536].map(taken_for_one);
        assert!(of_ten_thousand[0] < 20, "{of_ten_thousand:?}");
        assert!(of_ten_thousand[1] < 300, "{of_ten_thousand:?}");
        assert!(of_ten_thousand[2] < 4_500, "{of_ten_thousand:?}");
    }

    #[test]
    fn all_of_a_slash_48_are_one_network_and_all_of_a_slash_24() {
        let seed = Seed::from_bytes([7; Seed::LENGTH]);
        let of = |address: &str| Holder::of(&seed, address.parse().expect("an address"));
        assert_eq!(of("2001:db8:7:1::1"), of("2001:db8:7:ffff::2"));
        assert_ne!(of("2001:db8:7::1"), of("2001:db8:8::1"));
        assert_eq!(of("192.0.2.1"), of("192.0.2.200"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is begun and passes, in whatever order: counts never wrap, and return to nothing.
        #[test]
        fn counts_return_to_nothing(
            steps in prop::collection::vec((0u16..8, 0u64..3, any::<bool>()), 1..200),
        ) {
            let shares = Shares::new();
            let mut held = Vec::new();
            let mut now = hours(0);
            for (number, minutes, begins) in steps {
                now = now.after(Duration::from_mins(minutes));
                if begins && shares.take(holder(number), 5, now) {
                    held.push((number, now));
                } else if !begins && let Some((number, begun)) = held.pop() {
                    shares.give_back(holder(number), begun, now);
                }
            }
            prop_assert_eq!(total(&shares), (ROWS * held.len()) as u64);
            for (number, begun) in held.drain(..) {
                shares.give_back(holder(number), begun, now);
            }
            prop_assert_eq!(total(&shares), 0);
        }
    }
}
