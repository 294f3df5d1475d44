//! A walk through a table, aisle by aisle: copies for a snapshot or a list, and what the sweep removes.
//!
//! Knows shards and their locks, each held only while it is walked; leaves what an entry deserves to
//! whoever walks.

use std::sync::atomic::Ordering;

use super::{Key, Table};

/// What becomes of an entry that the sweep looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Lot {
    Stays,
    /// It is void.
    Lapsed,
    /// It is not, and goes for the room that it takes.
    MakesWay,
}

impl Lot {
    /// That of an entry which goes only once it is void.
    pub(in crate::store) fn until_it_lapses(has_lapsed: bool) -> Self {
        if has_lapsed {
            Self::Lapsed
        } else {
            Self::Stays
        }
    }
}

/// What a walk through an aisle came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Walked {
    /// Entries looked at.
    pub(in crate::store) seen: usize,
    /// Entries removed.
    pub(in crate::store) removed: usize,
}

impl<K: Key, V: Clone> Table<K, V> {
    /// How many aisles there are, numbered from 0.
    pub(in crate::store) fn aisles(&self) -> usize {
        self.aisles.len()
    }

    /// Adds the entries of aisle `number` to `copy`. A shard is locked only while it is copied.
    pub(in crate::store) fn copy_aisle(&self, number: usize, copy: &mut Vec<(K, V)>) {
        self.copy_of_aisle(number, |_, _| true, copy);
    }

    /// Adds those entries of aisle `number` to `copy` that are `wanted`. A shard is locked only while
    /// it is looked through, for reading; `wanted` must not touch a table.
    pub(in crate::store) fn copy_of_aisle(
        &self,
        number: usize,
        wanted: impl Fn(&K, &V) -> bool,
        copy: &mut Vec<(K, V)>,
    ) {
        for entry in &self.aisles[number] {
            if wanted(entry.key(), entry.value()) {
                copy.push((*entry.key(), entry.value().clone()));
            }
        }
    }

    /// Removes the entries of aisle `number` that are not to be kept, and gives back memory that
    /// growth took. A shard is locked only while it is walked.
    pub(in crate::store) fn retain_in_aisle(
        &self,
        number: usize,
        keep: impl Fn(&V) -> bool,
    ) -> Walked {
        self.retain_keys_in_aisle(number, |_, value| keep(value))
    }

    /// The same, where it matters whose entry it is.
    fn retain_keys_in_aisle(&self, number: usize, mut keep: impl FnMut(&K, &V) -> bool) -> Walked {
        let aisle = &self.aisles[number];
        let mut walked = Walked::default();
        aisle.retain(|key, value| {
            let kept = keep(key, value);
            walked.seen += 1;
            walked.removed += usize::from(!kept);
            kept
        });
        self.len.fetch_sub(walked.removed, Ordering::Relaxed);
        let left = walked.seen - walked.removed;
        let needed = if self.reserved == 0 {
            4 * left
        } else {
            self.reserved
        };
        if walked.removed > 0 && aisle.capacity() > needed {
            aisle.shrink_to_fit();
        }
        walked
    }

    /// Removes from aisle `number` what goes, and gives its keys. The journal hears of what makes way, which
    /// it would bring back; what has lapsed lapses there, too.
    pub(in crate::store) fn sweep_aisle(
        &self,
        number: usize,
        lot: impl Fn(&V) -> Lot,
    ) -> (Walked, Vec<K>) {
        let mut gone = Vec::new();
        let mut makes_way = Vec::new();
        let walked = self.retain_keys_in_aisle(number, |key, value| {
            let lot = lot(value);
            if lot == Lot::MakesWay {
                makes_way.push(*key);
            }
            if lot != Lot::Stays {
                gone.push(*key);
            }
            lot == Lot::Stays
        });
        for key in makes_way {
            self.note(key);
        }
        (walked, gone)
    }

    /// Removes everything.
    pub(in crate::store) fn clear(&self) {
        for number in 0..self.aisles() {
            self.retain_in_aisle(number, |_| false);
        }
    }
}
