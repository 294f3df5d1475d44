//! Traces of tuples for which there was no room: eight bytes each, so that a retry is known for one.
//!
//! A trace says when its tuple was first seen, and nothing else. It is found by 64 bits of the tuple's
//! key and told by 32 more, so of strangers' first attempts one in hundreds of millions is taken for
//! a retry. What a retry deserves is `policy`'s word, which is given the trace as a record.
//!
//! Bounded: two for each tuple that the table may hold, but 16 MB at least and 128 MB at most, reserved when
//! they are about to be needed, resident where traces are, and given back only with the store. A new trace goes to an empty place of the
//! sixteen that it may have, or to that of the oldest of them, if its window is open. So with room for eight
//! million, at *n* new traces a second each is kept for 8,000,000 / *n* seconds on the average, and 999 in a
//! thousand for two thirds of that: 88 minutes at a thousand a second. They do not survive a restart.
//!
//! No lock: a place is one atomic number. Of two that take one place at the same moment, one looks for
//! another place.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use zerocopy::FromZeros as _;

use crate::policy::{Record, Timestamp, TupleKey};

use super::table::Full;

/// The table of traces.
#[derive(Debug)]
pub(super) struct Traces {
    buckets: OnceLock<Box<[Bucket]>>,
    /// How many there are once there are any.
    count: usize,
    /// Traces that made way for newer ones before [`KEPT`] was over.
    replaced: Counter,
}

/// One line of the processor's cache.
type Bucket = [AtomicU64; TRACES_IN_A_BUCKET];

impl Traces {
    /// None yet, and no memory: of tuples that find no room in a table of this `capacity`.
    pub(super) fn beside(capacity: usize, replaced: Counter) -> Self {
        Self::in_buckets(traces_beside(capacity) / TRACES_IN_A_BUCKET, replaced)
    }

    /// Bytes that they take at most beside a table of this `capacity`.
    pub(super) fn bytes_beside(capacity: usize) -> u64 {
        (traces_beside(capacity) * size_of::<AtomicU64>()) as u64
    }

    pub(super) fn in_buckets(count: usize, replaced: Counter) -> Self {
        Self {
            buckets: OnceLock::new(),
            count,
            replaced,
        }
    }

    /// Reserves the memory, so that nobody who judges has to wait for it. The kernel gives it page by
    /// page, zeroed: a table that fills up and sheds nobody needs none of it.
    pub(super) fn prepare(&self) {
        self.buckets.get_or_init(|| {
            // Where there is no memory there are no traces.
            <[Bucket]>::new_box_zeroed_with_elems(self.count).unwrap_or_default()
        });
    }

    /// What was prepared.
    fn buckets(&self) -> Option<&[Bucket]> {
        let buckets = self.buckets.get()?;
        (!buckets.is_empty()).then_some(buckets)
    }

    /// The record that is left of the tuple, if there is a trace of it. It may have lapsed.
    pub(super) fn find(&self, key: &TupleKey, now: Timestamp) -> Option<Record> {
        let buckets = self.buckets()?;
        let place = Place::of(key, buckets.len());
        let cells = place.buckets.iter().flat_map(|at| &buckets[*at]);
        let begun = cells
            .map(|cell| Trace::from_bits(cell.load(Ordering::Relaxed)))
            .find(|trace| trace.tells == place.tells && trace.begun != 0)?
            .begun();
        // Within the second that it was rounded up to.
        let begun = if begun > now && begun.since(now) <= SECOND {
            now
        } else {
            begun
        };
        Some(Record::begun(1, begun))
    }

    /// Removes the trace of the tuple, and says whether there was one.
    pub(super) fn forget(&self, key: &TupleKey) -> bool {
        let Some(buckets) = self.buckets() else {
            return false;
        };
        let place = Place::of(key, buckets.len());
        let cells = place.buckets.iter().flat_map(|at| &buckets[*at]);
        let mut had_one = false;
        for cell in cells {
            let bits = cell.load(Ordering::Relaxed);
            let trace = Trace::from_bits(bits);
            let is_its = trace.tells == place.tells && trace.begun != 0;
            // One that was replaced meanwhile is another's.
            had_one |= is_its
                && cell
                    .compare_exchange(bits, 0, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
        }
        had_one
    }

    #[cfg(test)]
    pub(super) fn has_memory(&self) -> bool {
        self.buckets.get().is_some()
    }

    /// Leaves a trace of a tuple that is first seen at `now`, in the place of an older one of it or of
    /// others. [`Full`] if no other is older than `delay`: their windows are yet to open.
    pub(super) fn leave(
        &self,
        key: &TupleKey,
        delay: Duration,
        now: Timestamp,
    ) -> Result<(), Full> {
        self.prepare();
        let buckets = self.buckets().ok_or(Full)?;
        let place = Place::of(key, buckets.len());
        let new = Trace::begun_at(place.tells, now);
        for _ in 0..TRIES {
            let looked_at = place.buckets.map(|at| {
                buckets[at]
                    .each_ref()
                    .map(|cell| (cell, Trace::from_bits(cell.load(Ordering::Relaxed))))
            });
            let oldest = looked_at.iter().flat_map(|bucket| {
                let taken = bucket.iter().filter(|(_, trace)| trace.begun != 0).count();
                bucket.iter().map(move |place| (taken, place))
            });
            // Of empty places, one of the bucket that has more of them.
            let oldest = oldest.min_by_key(|(taken, (_, trace))| {
                let is_other = trace.tells != place.tells;
                (is_other, !trace.is_ahead(now), trace.begun, *taken)
            });
            let (_, &(cell, old)) = oldest.ok_or(Full)?;
            let is_own_or_free = old.tells == place.tells || old.begun == 0;
            let age = now.since(old.begun());
            if !is_own_or_free && !old.is_ahead(now) && age < delay {
                return Err(Full);
            }
            let (old_bits, new_bits) = (old.to_bits(), new.to_bits());
            let taken =
                cell.compare_exchange(old_bits, new_bits, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                if !is_own_or_free && age < KEPT {
                    self.replaced.inc();
                }
                return Ok(());
            }
        }
        Err(Full)
    }
}

fn traces_beside(capacity: usize) -> usize {
    let traces = capacity.saturating_mul(TRACES_FOR_EACH_TUPLE);
    traces.clamp(FEWEST_TRACES, MOST_TRACES)
}

/// What one place holds: a part of the key, and the second after the one it was left in; 0 if it is
/// empty.
#[derive(Clone, Copy)]
struct Trace {
    tells: u32,
    begun: u32,
}

impl Trace {
    fn begun_at(tells: u32, now: Timestamp) -> Self {
        // Rounded up: nobody passes before the delay is over.
        let second = now.as_millis().div_ceil(1_000).max(1);
        Self {
            tells,
            begun: u32::try_from(second).unwrap_or(u32::MAX),
        }
    }

    fn begun(self) -> Timestamp {
        Timestamp::from_millis(u64::from(self.begun) * 1_000)
    }

    /// Left by a clock that was wrong and then set back: the first to make way.
    fn is_ahead(self, now: Timestamp) -> bool {
        self.begun() > now.after(SECOND)
    }

    fn from_bits(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            tells: half(bits),
            begun: half(bits >> 32),
        }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.begun) << 32 | u64::from(self.tells)
    }
}

/// Where the trace of a tuple may be, and what tells it there.
struct Place {
    buckets: [usize; 2],
    tells: u32,
}

impl Place {
    fn of(key: &TupleKey, buckets: usize) -> Self {
        let bytes = key.to_bytes();
        let word = |at: usize| {
            let word = bytes[at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(word)
        };
        Self {
            buckets: [word(0), word(4)].map(|it| it as usize % buckets),
            tells: word(8),
        }
    }
}

/// How long a trace is kept where there is room: as long as a record that never came again.
const KEPT: Duration = super::shed::KEPT;
/// Traces held at once: the larger the table, the larger the floods that it is to outlast, and queues try
/// again after as long as an hour.
const TRACES_FOR_EACH_TUPLE: usize = 2;
const FEWEST_TRACES: usize = 1 << 21;
const MOST_TRACES: usize = 1 << 24;
const TRACES_IN_A_BUCKET: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// How often a place is looked for before it is as if there were none.
const TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::T0;
    use crate::policy::{Policy, Standing};

    const DELAY: Duration = Duration::from_mins(3);

    fn key(number: u64) -> TupleKey {
        let high = u128::from(mixed(2 * number)) << 64;
        TupleKey::from_bytes((high | u128::from(mixed(2 * number + 1))).to_le_bytes())
    }

    /// `splitmix64`: every bit of the result depends on every bit of the number.
    fn mixed(number: u64) -> u64 {
        let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Few, so that a test can fill them.
    fn traces() -> Traces {
        Traces::in_buckets(FEW / TRACES_IN_A_BUCKET, Counter::default())
    }

    const FEW: usize = 1 << 15;

    #[test]
    fn no_trace_costs_no_memory() {
        let traces = traces();
        assert_eq!(traces.find(&key(1), T0), None);
        assert!(traces.buckets.get().is_none());
    }

    #[test]
    fn trace_waits_as_its_tuple_would() {
        let traces = traces();
        let policy = Policy::default();
        for millis in [0, 1, 999] {
            let begun = T0.after(Duration::from_millis(millis));
            traces
                .leave(&key(millis), DELAY, begun)
                .expect("there is room");
            let standing = |waited| {
                let now = begun.after(waited);
                let found = traces.find(&key(millis), now).expect("it was left");
                found.standing(&policy, now)
            };
            assert!(matches!(standing(Duration::ZERO), Standing::Early { .. }));
            let nearly = DELAY.saturating_sub(Duration::from_millis(1));
            assert!(matches!(standing(nearly), Standing::Early { .. }));
            let after = standing(DELAY + SECOND);
            assert!(matches!(after, Standing::InWindow { .. }), "{after:?}");
            assert_eq!(standing(policy.retry_window + SECOND), Standing::Lapsed);
        }
    }

    #[test]
    fn strangers_are_not_taken_for_one_another() {
        let traces = traces();
        for number in 0..FEW as u64 / 2 {
            traces
                .leave(&key(number), DELAY, T0)
                .expect("there is room");
        }
        let found = |keys: std::ops::Range<u64>| {
            keys.filter(|it| traces.find(&key(*it), T0).is_some())
                .count()
        };
        assert_eq!(found(0..FEW as u64 / 2), FEW / 2);
        assert_eq!(found(FEW as u64..300_000), 0);
    }

    /// At 96 a second there is room for 341 seconds: nearly all are kept for two thirds of that.
    #[test]
    fn oldest_make_way() {
        let traces = traces();
        let at = |second| T0.after(Duration::from_secs(second));
        for second in 0..600 {
            for number in 0..96 {
                let left = traces.leave(&key(96 * second + number), DELAY, at(second));
                left.expect("the oldest has waited");
            }
        }
        let end = at(600);
        let kept = |second: u64| {
            let mine = 96 * second..96 * (second + 1);
            mine.filter(|it| traces.find(&key(*it), end).is_some())
                .count()
        };
        assert!((460..600).all(|second| kept(second) == 96));
        let most = (380..600).map(kept).sum::<usize>();
        assert!(most >= 220 * 96 * 199 / 200, "{most}");
        let late = (0..60).map(kept).sum::<usize>();
        assert!(late < 60 * 96 / 50, "{late}: few stay for twice as long");
        let held: usize = (0..600).map(kept).sum();
        assert!(held <= FEW, "{held}");
        assert_eq!(traces.replaced.get(), 600 * 96 - held as u64);
    }

    #[test]
    fn forgotten_trace_is_gone_and_no_other() {
        let traces = traces();
        assert!(!traces.forget(&key(1)), "there is no memory yet");
        for number in [1, 2] {
            traces
                .leave(&key(number), DELAY, T0)
                .expect("there is room");
        }
        assert!(traces.forget(&key(1)));
        assert!(!traces.forget(&key(1)));
        assert_eq!(traces.find(&key(1), T0), None);
        assert!(traces.find(&key(2), T0).is_some());
    }

    #[test]
    fn there_are_two_for_each_tuple_within_bounds() {
        let beside = |capacity| {
            let traces = Traces::beside(capacity, Counter::default());
            traces.count * TRACES_IN_A_BUCKET
        };
        assert_eq!(
            [0, 100, 4_000_000, 50_000_000, usize::MAX].map(beside),
            [
                FEWEST_TRACES,
                FEWEST_TRACES,
                8_000_000,
                MOST_TRACES,
                MOST_TRACES
            ]
        );
    }

    #[test]
    fn those_whose_windows_have_not_opened_stay() {
        let traces = traces();
        let left = |number| traces.leave(&key(number), DELAY, T0);
        let mut number = 0;
        while left(number).is_ok() {
            number += 1;
        }
        assert!(
            number > FEW as u64 / 2,
            "{number} until sixteen places were taken"
        );
        assert!((0..number).all(|it| traces.find(&key(it), T0).is_some()));
        assert_eq!(left(number), Err(Full));
        assert_eq!(left(0), Ok(()), "its own place is its own");
        let later = T0.after(DELAY + SECOND);
        assert_eq!(traces.leave(&key(number), DELAY, later), Ok(()));
    }

    #[test]
    fn clock_set_back_lets_those_of_the_future_make_way() {
        let traces = traces();
        let ahead = T0.after(Duration::from_hours(48));
        traces.leave(&key(1), DELAY, ahead).expect("there is room");
        let found = traces.find(&key(1), T0).expect("it was left");
        assert_eq!(found.standing(&Policy::default(), T0), Standing::Lapsed);
        assert_eq!(traces.leave(&key(1), DELAY, T0), Ok(()));
        let found = traces.find(&key(1), T0).expect("it was left again");
        assert_eq!(found.first_seen, T0);
    }
}
