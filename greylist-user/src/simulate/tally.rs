//! Sums of bounded size: lengths of time as a distribution, and who has the most of something.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::report::{DELAY_CLASSES, Delays};

/// Lengths of time in whole seconds, of which any share can be told within a thirtieth.
#[derive(Clone, Debug, Default)]
pub(super) struct Distribution {
    /// How many lie in each bucket.
    buckets: Vec<u64>,
    /// How many lie in each class. Counted apart, since the edges of classes are where queues come
    /// again, and a bucket may reach over one.
    classes: [u64; DELAY_CLASSES.len() + 1],
    count: u64,
    sum: u64,
    most: u64,
}

impl Distribution {
    pub(super) fn add(&mut self, time: Duration) {
        let seconds = time.as_secs().min(LONGEST);
        let bucket = bucket(seconds);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        let class = DELAY_CLASSES.partition_point(|edge| *edge < seconds);
        self.classes[class] += 1;
        self.count += 1;
        self.sum += seconds;
        self.most = self.most.max(seconds);
    }

    /// What is told of it; [`None`] if there is nothing in it.
    pub(super) fn delays(&self) -> Option<Delays> {
        let at = |share: u64| {
            let rank = (self.count * share).div_ceil(1_000).max(1);
            let mut seen = 0;
            let found = self.buckets.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(self.most, |it| largest(it).min(self.most))
        };
        (self.count > 0).then(|| Delays {
            count: self.count,
            mean: self.sum / self.count,
            p50: at(500),
            p90: at(900),
            p99: at(990),
            max: self.most,
        })
    }

    /// How many lie in each of [`DELAY_CLASSES`], and how many above.
    pub(super) fn by_class(&self) -> Vec<u64> {
        self.classes.to_vec()
    }
}

/// Second by second to a minute and four; then 32 buckets from one power of two to the next.
fn bucket(seconds: u64) -> usize {
    if seconds < 64 {
        return usize::try_from(seconds).unwrap_or(0);
    }
    let octave = seconds.ilog2();
    let within = (seconds >> (octave - 5)) & 31;
    64 + (octave as usize - 6) * 32 + usize::try_from(within).unwrap_or(0)
}

/// The largest number of seconds in a bucket.
fn largest(bucket: usize) -> u64 {
    if bucket < 64 {
        return bucket as u64;
    }
    let (octave, within) = ((bucket - 64) / 32 + 6, (bucket - 64) % 32);
    ((33 + within as u64) << (octave - 5)) - 1
}

/// Who has the most of something, of very many. When too many are known, the small ones are summed
/// up as others; the figures of one that was so lost and came again are too small.
#[derive(Clone, Debug)]
pub(super) struct Top<K> {
    by_key: HashMap<K, Share>,
    others: Share,
    forgotten: u64,
    most: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// What is ordered by.
    pub(super) weight: u64,
    pub(super) count: u64,
    pub(super) longest: u64,
}

impl<K: Clone + Eq + Hash + Ord> Top<K> {
    pub(super) fn of(most: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            others: Share::default(),
            forgotten: 0,
            most,
        }
    }

    pub(super) fn add(&mut self, key: K, weight: u64) {
        let share = self.by_key.entry(key).or_default();
        share.weight += weight;
        share.count += 1;
        share.longest = share.longest.max(weight);
        if self.by_key.len() >= 2 * self.most {
            self.forget_small_ones();
        }
    }

    /// The first `count`, and all the others together.
    pub(super) fn first(&self, count: usize) -> (Vec<(K, Share)>, Share) {
        let mut all: Vec<_> = self
            .by_key
            .iter()
            .map(|(key, it)| (key.clone(), *it))
            .collect();
        all.sort_by(|(one, a), (other, b)| b.weight.cmp(&a.weight).then(one.cmp(other)));
        let mut others = self.others;
        for (_, share) in all.iter().skip(count) {
            others.join(share);
        }
        all.truncate(count);
        (all, others)
    }

    /// Whether some were summed up before the end.
    pub(super) fn is_cut(&self) -> bool {
        self.forgotten > 0
    }

    fn forget_small_ones(&mut self) {
        let (kept, others) = self.first(self.most);
        self.forgotten += (self.by_key.len() - kept.len()) as u64;
        self.by_key = kept.into_iter().collect();
        self.others = others;
    }
}

impl Share {
    fn join(&mut self, other: &Self) {
        self.weight += other.weight;
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

/// A hundred years; nothing waits so long.
const LONGEST: u64 = 100 * 366 * 24 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_distribution_are_told_within_a_thirtieth() {
        let mut distribution = Distribution::default();
        for seconds in 1..=10_000 {
            distribution.add(Duration::from_secs(seconds));
        }
        let told = distribution.delays().expect("there are some");
        assert_eq!((told.count, told.max, told.mean), (10_000, 10_000, 5_000));
        for (found, exact) in [(told.p50, 5_000_u64), (told.p90, 9_000), (told.p99, 9_900)] {
            assert!(
                found >= exact && found - exact <= exact / 30,
                "{found} {exact}"
            );
        }
        assert_eq!(Distribution::default().delays(), None);
    }

    #[test]
    fn wait_as_long_as_a_class_is_in_it() {
        let mut distribution = Distribution::default();
        for edge in DELAY_CLASSES {
            distribution.add(Duration::from_secs(edge));
            distribution.add(Duration::from_secs(edge + 1));
        }
        assert_eq!(distribution.by_class(), [1, 2, 2, 2, 2, 2, 1]);
    }

    #[test]
    fn every_second_lies_in_its_bucket() {
        let mut last = 0;
        for seconds in (0..100_000).chain([LONGEST]) {
            let bucket = bucket(seconds);
            assert!(bucket >= last);
            assert!(largest(bucket) >= seconds);
            assert!(bucket == 0 || largest(bucket - 1) < seconds);
            last = bucket;
        }
    }

    #[test]
    fn most_are_found_and_the_small_ones_summed_up() {
        let mut top = Top::of(4);
        for round in 0..100_u32 {
            top.add(1_000_000, 10);
            top.add(2_000_000, 20);
            top.add(round, 1);
        }
        let (first, others) = top.first(2);
        let keys: Vec<_> = first.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [2_000_000, 1_000_000]);
        assert_eq!(
            first[0].1,
            Share {
                weight: 2_000,
                count: 100,
                longest: 20
            }
        );
        assert_eq!(
            others,
            Share {
                weight: 100,
                count: 100,
                longest: 1
            }
        );
        assert!(top.is_cut());
        assert!(top.by_key.len() < 8);
    }
}
