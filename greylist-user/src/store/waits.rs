//! How long who judges waits for the locks of the tables.
//!
//! A lock is tried first; only one that is taken costs two readings of the clock. All acquisitions are
//! counted, so that a percentile is one of all of them: by each thread for itself, and told in lots,
//! since a counter that threads share would cost more than the lock.
//!
//! One histogram for the process, as it has one store. Knows the buckets; leaves the locks to `table`.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::clock::Stopwatch;

/// The histogram, as the metrics show it.
#[derive(Clone, Copy, Debug)]
pub struct LockWaits;

/// Acquisitions of locks, by how long they were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockTally {
    /// All of them, up to 255 of each thread being untold.
    pub acquired: u64,
    /// Nanoseconds waited.
    pub nanos: u64,
    buckets: [u64; BUCKETS],
}

/// Counts an acquisition.
#[inline]
pub(super) fn count() {
    UNTOLD.with(|untold| {
        let next = untold.get() + 1;
        if next < LOT {
            untold.set(next);
        } else {
            untold.set(0);
            tell_lot();
        }
    });
}

#[cold]
fn tell_lot() {
    own().acquired.fetch_add(LOT.into(), Ordering::Relaxed);
}

/// Waits for what is taken, and notes how long that took.
#[cold]
#[inline(never)]
pub(super) fn waited<T>(acquire: impl FnOnce() -> T) -> T {
    let begun = Stopwatch::start();
    let acquired = acquire();
    note(begun.elapsed());
    acquired
}

fn note(took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let stripe = own();
    let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
    stripe.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    stripe.nanos.fetch_add(nanos, Ordering::Relaxed);
}

impl LockWaits {
    /// What was counted so far.
    pub fn tally() -> LockTally {
        let mut tally = LockTally::default();
        for stripe in &STRIPES {
            tally.acquired += stripe.acquired.load(Ordering::Relaxed);
            tally.nanos += stripe.nanos.load(Ordering::Relaxed);
            for (sum, bucket) in tally.buckets.iter_mut().zip(&stripe.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
        }
        // A thread's first waits may be told before its first lot.
        tally.acquired = tally.acquired.max(tally.waited());
        tally
    }
}

impl LockTally {
    /// Those that were waited for at all.
    pub fn waited(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Those that came after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self {
            acquired: self.acquired.saturating_sub(before.acquired),
            nanos: self.nanos.saturating_sub(before.nanos),
            buckets: self.buckets,
        };
        for (now, before) in since.buckets.iter_mut().zip(&before.buckets) {
            *now = now.saturating_sub(*before);
        }
        since.acquired = since.acquired.max(since.waited());
        since
    }

    /// The bound of the bucket within which so many of a million acquisitions had their lock; zero
    /// where they did not wait. [`None`] of none, and beyond the last bound.
    pub fn quantile(&self, of_a_million: u64) -> Option<Duration> {
        if self.acquired == 0 {
            return None;
        }
        let rank = u128::from(self.acquired) * u128::from(of_a_million);
        let rank = u64::try_from(rank.div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let mut within = self.acquired - self.waited();
        if within >= rank {
            return Some(Duration::ZERO);
        }
        for (count, bound) in self.buckets.iter().zip(BOUNDS) {
            within += count;
            if within >= rank {
                return Some(Duration::from_nanos(bound));
            }
        }
        None
    }
}

impl EncodeMetric for LockWaits {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let tally = Self::tally();
        let mut counts = tally.buckets;
        // Who did not wait waited for less than the first bound.
        counts[0] += tally.acquired - tally.waited();
        let bounds = BOUNDS.iter().map(|nanos| seconds(*nanos));
        let buckets: Vec<_> = bounds.chain([f64::MAX]).zip(counts).collect();
        encoder.encode_histogram::<NoLabelSet>(seconds(tally.nanos), tally.acquired, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for LockWaits {
    const TYPE: MetricType = MetricType::Histogram;
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a histogram's sum is a float, and half a nanosecond in months is no loss"
)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What a thread counts, on cache lines of its own.
#[repr(align(128))]
struct Stripe {
    acquired: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Stripe {
    const fn new() -> Self {
        Self {
            acquired: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

fn own() -> &'static Stripe {
    &STRIPES[STRIPE.with(Cell::get)]
}

static STRIPES: [Stripe; STRIPE_COUNT] = [const { Stripe::new() }; STRIPE_COUNT];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Acquisitions of this thread that are not told yet.
    static UNTOLD: Cell<u32> = const { Cell::new(0) };
    /// Threads take the stripes in turns.
    static STRIPE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPE_COUNT);
}

/// Acquisitions that a thread tells at once.
const LOT: u32 = 256;
/// More threads than that share, which costs them a little and loses nothing.
const STRIPE_COUNT: usize = 32;
/// The upper bounds of the buckets in nanoseconds. A shard is copied or swept in some ten microseconds;
/// what takes milliseconds waited for a thread that had its lock and no core.
const BOUNDS: [u64; 14] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    100_000_000,
];
/// One more for what took longer.
const BUCKETS: usize = BOUNDS.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(acquired: u64, waits: &[(usize, u64)]) -> LockTally {
        let mut tally = LockTally {
            acquired,
            ..LockTally::default()
        };
        for (bucket, count) in waits {
            tally.buckets[*bucket] = *count;
        }
        tally
    }

    #[test]
    fn quantile_is_of_all_acquisitions_and_not_of_those_that_waited() {
        let tally = tally(1_000, &[(0, 5), (5, 5), (BUCKETS - 1, 1)]);
        assert_eq!(tally.waited(), 11);
        assert_eq!(tally.quantile(989_000), Some(Duration::ZERO));
        assert_eq!(tally.quantile(990_000), Some(Duration::from_micros(1)));
        assert_eq!(tally.quantile(999_000), Some(Duration::from_micros(50)));
        assert_eq!(tally.quantile(1_000_000), None, "beyond the last bound");
        assert_eq!(LockTally::default().quantile(500_000), None);
    }

    #[test]
    fn acquisitions_and_waits_are_told() {
        let before = LockWaits::tally();
        // A thread of its own tells its lots and no part of one.
        let counted = std::thread::spawn(|| (0..3 * LOT + 17).for_each(|_| count()));
        counted.join().expect("it counts");
        waited(std::thread::yield_now);
        let since = LockWaits::tally().since(&before);
        assert!(since.acquired >= u64::from(3 * LOT), "{since:?}");
        assert!(since.waited() >= 1, "{since:?}");
    }
}
