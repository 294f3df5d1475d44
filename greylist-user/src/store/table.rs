//! The concurrent table: keys that are keyed hashes already, to records of a fixed size.
//!
//! Knows locks and room; leaves what a record means to `policy`. A change runs inside its entry's
//! lock, so that look-up and update are one step. While an entry is held, nothing waits and no
//! other entry of any table is touched.
//!
//! A table is a row of aisles, each a [`DashMap`] of eight shards, at least 1,024 shards in all. A
//! sweep or a snapshot goes aisle by aisle and can stop after each, and locks one shard at a time (`walk`).
//! Their number is chosen so that a full table fills its buckets instead of stopping right after
//! they doubled, which is what keeps an entry under 80 bytes: see [`Places`].

mod walk;

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::try_result::TryResult;

use crate::policy::{
    ClientKey, FailureKey, Fingerprint, HeloKey, HopKey, NetworkKey, PairKey, PairTag, TrustKey,
    TupleKey,
};

use super::changes::{Bell, Ear, Ears, Marks};
use super::places::{Places, SHARDS_PER_AISLE};
use super::waits;
pub(super) use walk::{Lot, Walked};

/// A bounded concurrent map.
pub(super) struct Table<K, V> {
    aisles: Box<[Aisle<K, V>]>,
    /// Entries held or about to be. Kept here since asking every shard would lock them all.
    len: AtomicUsize,
    capacity: usize,
    /// Entries that each aisle was made for; more means that a shard had to grow.
    reserved: usize,
    /// Where changed keys are noted, for whoever asks.
    ears: Ears<K>,
}

type Aisle<K, V> = DashMap<K, V, BuildHasherDefault<KeyIsHash>>;

/// A key whose bits are uniform already.
pub(super) trait Key: Copy + Eq + Hash {
    /// 32 bits of the key that have no part in its [`Hash`].
    fn spread(&self) -> u32;
}

/// The table holds as many entries as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K: Key, V: Clone> Table<K, V> {
    /// A table of at most `capacity` entries, with room for all of them. What is not used yet is
    /// not resident either.
    pub(super) fn reserved(capacity: usize) -> Self {
        Self::with_places(capacity, Places::for_entries(capacity))
    }

    /// A table of at most `capacity` entries that grows shard by shard as they come.
    pub(super) fn growing(capacity: usize) -> Self {
        Self::with_places(capacity, Places::NONE)
    }

    fn with_places(capacity: usize, places: Places) -> Self {
        let reserved = places.entries_per_shard * SHARDS_PER_AISLE;
        let aisle = || {
            Aisle::with_capacity_and_hasher_and_shard_amount(
                reserved,
                BuildHasherDefault::default(),
                SHARDS_PER_AISLE,
            )
        };
        Self {
            aisles: std::iter::repeat_with(aisle).take(places.aisles).collect(),
            len: AtomicUsize::new(0),
            capacity,
            reserved,
            ears: Ears::default(),
        }
    }

    /// Notes from now on for `ear` which entries are changed or taken out.
    pub(super) fn note_changes(&mut self, ear: Ear, bell: &Arc<Bell>) {
        self.ears.open(ear, bell);
    }

    /// Where changes are noted for `ear`, if they are.
    pub(super) fn marks(&self, ear: Ear) -> Option<&Marks<K>> {
        self.ears.marks(ear)
    }

    /// Changes the entry of `key` to what `change` makes of it, in one step. Without an entry it is
    /// given [`None`], and is not called at all when the table is full.
    pub(super) fn update<R>(
        &self,
        key: K,
        change: impl FnOnce(Option<&V>) -> (V, R),
    ) -> Result<R, Full>
    where
        V: PartialEq,
    {
        waits::count();
        let aisle = self.aisle(&key);
        let entry = aisle
            .try_entry(key)
            .unwrap_or_else(|| waits::waited(|| aisle.entry(key)));
        let (result, has_changed) = match entry {
            Entry::Occupied(mut entry) => {
                let (next, result) = change(Some(entry.get()));
                let has_changed = *entry.get() != next;
                entry.insert(next);
                (result, has_changed)
            }
            Entry::Vacant(entry) => {
                if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Err(Full);
                }
                let (next, result) = change(None);
                entry.insert(next);
                (result, true)
            }
        };
        // Neither the disk nor another host wants to hear twice what stays as it was.
        if has_changed {
            self.note(key);
        }
        Ok(result)
    }

    /// The entry of `key` as it is now. Other look-ups of its shard need not wait meanwhile.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        waits::count();
        let aisle = self.aisle(key);
        let found = match aisle.try_get(key) {
            TryResult::Present(entry) => Some(entry),
            TryResult::Absent => None,
            TryResult::Locked => waits::waited(|| aisle.get(key)),
        };
        found.map(|entry| entry.clone())
    }

    /// Whether there is an entry of `key`.
    pub(super) fn contains(&self, key: &K) -> bool {
        waits::count();
        let aisle = self.aisle(key);
        match aisle.try_get(key) {
            TryResult::Present(_) => true,
            TryResult::Absent => false,
            TryResult::Locked => waits::waited(|| aisle.contains_key(key)),
        }
    }

    /// Changes the entry of `key` in one step, if there is one.
    pub(super) fn alter<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        waits::count();
        let aisle = self.aisle(key);
        let mut entry = match aisle.try_get_mut(key) {
            TryResult::Present(entry) => entry,
            TryResult::Absent => return None,
            TryResult::Locked => waits::waited(|| aisle.get_mut(key))?,
        };
        let result = change(&mut entry);
        drop(entry);
        self.note(*key);
        Some(result)
    }

    /// Removes the entry of `key`, if there is one, and gives it back. Without one it keeps out
    /// nobody who only reads.
    pub(super) fn take(&self, key: &K) -> Option<V> {
        let value = self.discard(key)?;
        self.note(*key);
        Some(value)
    }

    /// The same of an entry that nobody has to hear of: it goes with another that is told of, or lapses.
    pub(super) fn discard(&self, key: &K) -> Option<V> {
        if !self.contains(key) {
            return None;
        }
        let (_, value) = self.aisle(key).remove(key)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(value)
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed).min(self.capacity)
    }

    /// Entries that may be held.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Notes a change, once the entry's lock is free again.
    fn note(&self, key: K) {
        self.ears.note(|| key.spread(), key);
    }

    fn aisle(&self, key: &K) -> &Aisle<K, V> {
        let scaled = u64::from(key.spread()) * self.aisles.len() as u64;
        &self.aisles[usize::try_from(scaled >> 32).expect("less than the number of aisles")]
    }
}

/// The sizes: millions of entries are of no use in a log.
impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

macro_rules! spread_by_last_four {
    ($($key:ty)*) => {
        $(impl Key for $key {
            fn spread(&self) -> u32 {
                last_four(self.to_bytes())
            }
        })*
    };
}

spread_by_last_four!(
    TupleKey TrustKey NetworkKey ClientKey HeloKey HopKey PairKey PairTag FailureKey Fingerprint
);

fn last_four<const N: usize>(bytes: [u8; N]) -> u32 {
    let [.., a, b, c, d] = bytes.as_slice() else {
        return 0;
    };
    let [a, b, c, d] = [*a, *b, *c, *d];
    u32::from_le_bytes([a, b, c, d])
}

/// Takes a key's own bits for its hash.
#[derive(Default)]
pub(super) struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::MIN_SHARDS;
    use super::*;
    use crate::policy::fixture::ATTEMPT;
    use crate::policy::{Attempt, ClientNetwork, Policy, Seed};

    /// A key as uniform as a real one.
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

    fn count(table: &Table<TupleKey, u64>, number: u64) -> Result<u64, Full> {
        table.update(key(number), |prior| {
            let next = prior.copied().unwrap_or(0) + 1;
            (next, next)
        })
    }

    /// Whoever judges waits for a list no longer than for the sweep: one shard's share, counted.
    #[test]
    fn copy_of_an_aisle_locks_one_shard_at_a_time() {
        let table = Table::reserved(100_000);
        for number in 0..100_000 {
            count(&table, number).expect("there is room");
        }
        let shard = Places::for_entries(100_000).entries_per_shard;
        let mut copied = 0;
        for aisle in [0, table.aisles() / 2, table.aisles() - 1] {
            let (most, asked) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
            let mut copy = Vec::new();
            table.copy_of_aisle(
                aisle,
                |_, _| {
                    // Counted for a few entries of the aisle: it asks for all of the table.
                    asked.set(asked.get() + 1);
                    if asked.get() % 97 == 1 {
                        let locked = (0..100_000).filter(|&number| {
                            let key = key(number);
                            table.aisle(&key).try_get_mut(&key).is_locked()
                        });
                        most.set(most.get().max(locked.count()));
                    }
                    true
                },
                &mut copy,
            );
            assert!((1..=shard).contains(&most.get()), "{most:?} under one lock");
            copied += copy.len();
        }
        assert!(copied > 1_000, "{copied}");
    }

    #[test]
    fn entry_that_stays_as_it_was_is_not_noted() {
        let metrics = crate::store::Metrics::default();
        let bell = Arc::new(Bell::new(false, metrics.journal_overflows.clone()));
        let mut table = Table::growing(10);
        table.note_changes(Ear::Journal, &bell);
        let noted = |value: u64| {
            let put = table.update(key(1), |_| (value, ()));
            put.expect("there is room");
            let mut keys = 0;
            let marks = table.marks(Ear::Journal).expect("it asks");
            marks.drain(|_| keys += 1);
            keys
        };
        assert_eq!([7, 7, 8, 7].map(noted), [1, 0, 1, 1]);
    }

    /// Whoever reads the record of a key that is noted finds the change, and none is noted too early to be
    /// read again.
    #[test]
    fn change_is_noted_once_it_can_be_read() {
        let metrics = crate::store::Metrics::default();
        let bell = Arc::new(Bell::new(false, metrics.journal_overflows.clone()));
        let mut table = Table::growing(10);
        table.note_changes(Ear::Journal, &bell);
        let noted = || {
            let mut keys = Vec::new();
            table
                .marks(Ear::Journal)
                .expect("they are noted")
                .drain(|key| keys.push(key));
            keys
        };
        let changed = |prior: Option<&u64>| {
            assert_eq!(noted(), []);
            (prior.map_or(1, |it| it + 1), ())
        };
        table.update(key(1), changed).expect("there is room");
        assert_eq!(noted(), [key(1)]);
        table.update(key(1), changed).expect("there is room");
        assert_eq!(noted(), [key(1)]);
        table.alter(&key(1), |_| assert_eq!(noted(), []));
        assert_eq!(noted(), [key(1)]);
        table.alter(&key(2), |_| ());
        assert_eq!(table.take(&key(1)), Some(2));
        assert_eq!(noted(), [key(1)]);
        assert_eq!((table.take(&key(1)), noted()), (None, vec![]));
    }

    #[test]
    fn only_what_is_wanted_is_copied() {
        let table = Table::growing(1_000);
        for number in 0..1_000 {
            table
                .update(key(number), |_| (number, ()))
                .expect("there is room");
        }
        let mut copy = Vec::new();
        for aisle in 0..table.aisles() {
            table.copy_of_aisle(aisle, |_, value| value % 10 == 0, &mut copy);
        }
        assert_eq!(copy.len(), 100);
        assert!(copy.iter().all(|(copied, value)| *copied == key(*value)));
    }

    #[test]
    fn updates_in_one_step_from_many_threads() {
        let table = Table::reserved(100);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        count(&table, 7).expect("there is room");
                    }
                });
            }
        });
        assert_eq!(count(&table, 7), Ok(8_001));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let table = Table::reserved(100);
        let refused = (0..150)
            .filter(|&number| count(&table, number) == Err(Full))
            .count();
        assert_eq!((table.len(), refused), (100, 50));
        assert_eq!(count(&table, 0), Ok(2), "what is held still changes");
    }

    #[test]
    fn removes_and_makes_room() {
        let table = Table::reserved(100);
        for number in 0..100 {
            count(&table, number).expect("there is room");
        }
        count(&table, 3).expect("it is held");
        let mut walked = Walked::default();
        for aisle in 0..table.aisles() {
            let step = table.retain_in_aisle(aisle, |&count| count > 1);
            walked.seen += step.seen;
            walked.removed += step.removed;
        }
        assert_eq!((walked.seen, walked.removed), (100, 99));
        assert_eq!(table.len(), 1);
        assert_eq!(table.alter(&key(3), |count| *count), Some(2));
        assert_eq!(table.alter(&key(4), |count| *count), None);
    }

    #[test]
    fn gives_a_copy_and_takes_an_entry_out_once() {
        let table = Table::growing(2);
        for number in [1, 1, 2] {
            count(&table, number).expect("there is room");
        }
        assert_eq!((table.get(&key(1)), table.get(&key(3))), (Some(2), None));
        assert_eq!(count(&table, 3), Err(Full));
        assert_eq!(table.take(&key(1)), Some(2));
        assert_eq!((table.take(&key(1)), table.len()), (None, 1));
        assert_eq!(count(&table, 3), Ok(1), "there is room again");
    }

    #[test]
    fn copies_every_entry_once() {
        let table = Table::growing(1_000);
        for number in 0..1_000 {
            count(&table, number).expect("there is room");
        }
        let mut copy = Vec::new();
        for aisle in 0..table.aisles() {
            table.copy_aisle(aisle, &mut copy);
        }
        copy.sort_unstable();
        let mut expected: Vec<_> = (0..1_000).map(|number| (key(number), 1)).collect();
        expected.sort_unstable();
        assert_eq!(copy, expected);
    }

    #[test]
    fn full_table_fits_the_room_it_reserved() {
        let table = Table::reserved(200_000);
        let reserved: usize = table.aisles.iter().map(DashMap::capacity).sum();
        for number in 0..200_000 {
            count(&table, number).expect("there is room");
        }
        let used: usize = table.aisles.iter().map(DashMap::capacity).sum();
        assert_eq!(used, reserved, "no shard had to grow");
        assert!(table.aisles() * SHARDS_PER_AISLE >= MIN_SHARDS);
    }

    /// Of what the place of an entry is made of: its aisle, its shard, its bucket and the tag in it.
    fn places<K: Key>(keys: impl Iterator<Item = K>) -> [Vec<u32>; 4] {
        let mut bins: [_; 4] = std::array::from_fn(|_| vec![0; 128]);
        for key in keys {
            let mut hasher = KeyIsHash::default();
            key.hash(&mut hasher);
            let hash = hasher.finish();
            let aisle_then_shard = (key.spread() >> 28 << 3) | top_bits(hash << 7, 3);
            let shard_then_bucket = (top_bits(hash << 7, 3) << 4) | low_bits(hash, 4);
            let tag = top_bits(hash, 7);
            let bucket = low_bits(hash, 7);
            for (bins, bin) in
                bins.iter_mut()
                    .zip([aisle_then_shard, shard_then_bucket, tag, bucket])
            {
                bins[bin as usize] += 1;
            }
        }
        bins
    }

    fn top_bits(bits: u64, count: u32) -> u32 {
        u32::try_from(bits >> (64 - count)).expect("a few bits")
    }

    fn low_bits(bits: u64, count: u32) -> u32 {
        u32::try_from(bits & ((1 << count) - 1)).expect("a few bits")
    }

    /// Pearson's sum over 128 bins: 127 on the average, with a deviation of 16.
    fn unevenness(bins: &[u32]) -> f64 {
        let total: u32 = bins.iter().sum();
        let expected = f64::from(total) / 128.0;
        bins.iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum()
    }

    #[test]
    fn pairs_and_messages_are_spread_evenly_over_all_places() {
        let seed = Seed::from_bytes(std::array::from_fn(|at| at.to_le_bytes()[0]));
        let senders: Vec<_> = (0..40_000)
            .map(|number| format!("s{number}@sender.example"))
            .collect();
        let attempts = || {
            senders.iter().map(|sender| Attempt {
                reverse_path: sender.as_bytes(),
                ..ATTEMPT
            })
        };
        let network = ClientNetwork::of(&Policy::default(), &ATTEMPT);
        let mut message = seed.message_hasher(0);
        message.body(b"Hello.\r\n");
        let named = |it: Attempt<'_>| {
            let fingerprint = message.fingerprint(network, &it);
            fingerprint.expect("the body is not empty")
        };
        let of_pairs = places(attempts().map(|it| seed.pair_key(&it).tag()));
        let of_messages = places(attempts().map(named));
        for bins in of_pairs.iter().chain(&of_messages) {
            let unevenness = unevenness(bins);
            assert!(unevenness < 127.0 + 6.0 * 16.0, "{unevenness}: {bins:?}");
        }
    }
}
