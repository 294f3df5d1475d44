//! How long verdicts take: from the frame that wants one, whole, to its answer, written.
//!
//! A turn in which several recipients of a pipelining client are judged is one. Counted on the milter
//! path, so each worker has a shard of its own: two additions that no other core waits for. Knows the
//! buckets; leaves when a turn begins and ends to `connection`.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The two histograms. Cloning shares them.
#[derive(Clone, Default)]
pub struct Latency(Arc<[Shard; SHARDS]>);

/// What kind of turn it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Frame, verdict and answer, one after the other.
    AtOnce,
    /// Something had to be waited for in between: the DNS, or the MTA, until it took the answer.
    Waited,
}

impl Latency {
    /// Counts a turn that took so long.
    pub(super) fn count(&self, turn: Turn, took: Duration) {
        let shard = &self.0[SHARD.with(Cell::get)];
        let histogram = &shard.turns[turn as usize];
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far, of all workers.
    pub fn tally(&self, turn: Turn) -> LatencyTally {
        let mut tally = LatencyTally::default();
        for shard in &*self.0 {
            let histogram = &shard.turns[turn as usize];
            for (sum, bucket) in tally.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            tally.nanos += histogram.nanos.load(Ordering::Relaxed);
        }
        tally
    }
}

/// Turns by how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyTally {
    buckets: [u64; BUCKETS],
    nanos: u64,
}

impl LatencyTally {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Those that came after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        for (now, before) in since.buckets.iter_mut().zip(&before.buckets) {
            *now = now.saturating_sub(*before);
        }
        since.nanos = self.nanos.saturating_sub(before.nanos);
        since
    }

    /// The time within which `percent` of a hundred turns were over, as far as the buckets tell: evenly
    /// spread within one; those beyond the last took its bound at least. [`None`] of no turns.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (count * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (place, turns) in self.buckets.iter().enumerate() {
            if below + turns >= rank {
                let lower = place.checked_sub(1).map_or(0, |it| BOUNDS[it]);
                let upper = BOUNDS.get(place).copied().unwrap_or(lower);
                let within = (upper - lower) * (rank - below) / turns;
                return Some(Duration::from_nanos(lower + within));
            }
            below += turns;
        }
        None
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (turn, word) in [(Turn::AtOnce, "at_once"), (Turn::Waited, "waited")] {
            let tally = self.tally(turn);
            let bounds = BOUNDS.iter().map(|nanos| seconds(*nanos));
            let buckets: Vec<_> = bounds.chain([f64::MAX]).zip(tally.buckets).collect();
            encoder
                .encode_family(&[("turn", word)])?
                .encode_histogram::<NoLabelSet>(
                    seconds(tally.nanos),
                    tally.count(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latency").finish_non_exhaustive()
    }
}

/// What one worker counts, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    turns: [Histogram; 2],
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a histogram's sum is a float, and half a nanosecond in months is no loss"
)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

thread_local! {
    /// The shard of this thread: workers take them in turns.
    static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// More workers than that share, which costs them a little and loses nothing.
const SHARDS: usize = 32;

/// The upper bounds of the buckets in nanoseconds: 5 µs to 1 s. A verdict from memory takes some
/// microseconds; what takes milliseconds waited for a core, and what takes more for something else.
const BOUNDS: [u64; 17] = [
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
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// One more for what took longer.
const BUCKETS: usize = BOUNDS.len() + 1;

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn counts_a_turn_in_the_bucket_that_holds_it() {
        let latency = Latency::default();
        for nanos in [1, 5_000, 5_001, 999_999_999, 1_000_000_001] {
            latency.count(Turn::AtOnce, Duration::from_nanos(nanos));
        }
        latency.count(Turn::Waited, Duration::from_millis(3));
        let page = page(&latency);
        let series = |turn: &str, le: &str, count: u64| {
            format!("turn_seconds_bucket{{le=\"{le}\",turn=\"{turn}\"}} {count}\n")
        };
        for line in [
            series("at_once", "0.000005", 2),
            series("at_once", "0.00001", 3),
            series("at_once", "1.0", 4),
            series("at_once", "+Inf", 5),
            series("waited", "0.002", 0),
            series("waited", "0.005", 1),
        ] {
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn workers_count_side_by_side_and_nothing_is_lost() {
        let latency = Latency::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        latency.count(Turn::AtOnce, Duration::from_micros(7));
                    }
                });
            }
        });
        let tally = latency.tally(Turn::AtOnce);
        assert_eq!(tally.count(), 8_000);
        assert_eq!(tally.nanos, 8_000 * 7_000);
    }

    #[test]
    fn percentiles_lie_within_the_bucket_of_their_rank() {
        let latency = Latency::default();
        let before = latency.tally(Turn::AtOnce);
        assert_eq!(before.percentile(50), None);
        for _ in 0..98 {
            latency.count(Turn::AtOnce, Duration::from_micros(8));
        }
        for _ in 0..2 {
            latency.count(Turn::AtOnce, Duration::from_secs(7));
        }
        let tally = latency.tally(Turn::AtOnce).since(&before);
        let median = tally.percentile(50).expect("a hundred turns");
        assert!(median > Duration::from_micros(5) && median < Duration::from_micros(10));
        assert_eq!(tally.percentile(98), Some(Duration::from_micros(10)));
        assert_eq!(tally.percentile(99), Some(Duration::from_secs(1)));
        let later = latency
            .tally(Turn::AtOnce)
            .since(&latency.tally(Turn::AtOnce));
        assert_eq!(later.count(), 0);
    }

    fn page(latency: &Latency) -> String {
        let mut registry = Registry::default();
        registry.register_with_unit("turn", "Turns", Unit::Seconds, latency.clone());
        let mut page = String::new();
        encode(&mut page, &registry).expect("text is written");
        page
    }
}
