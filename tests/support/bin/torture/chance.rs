//! Chance that can be repeated: one seed, one sequence.
//!
//! `SplitMix64`, which is enough to choose what breaks next and is the same on every machine.

use std::ops::Range;

/// A sequence of numbers that follows from its seed alone.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence of its own for one purpose, so that how often another purpose asks changes nothing.
    pub(crate) fn branch(&self, purpose: u64) -> Self {
        Self(Self(self.0 ^ purpose.wrapping_mul(GOLDEN)).next())
    }

    /// A number within `range`, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start).max(1)
    }

    /// An index below `length`; 0 where there is none.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.within(0..length as u64)).unwrap_or(0)
    }

    /// Whether what happens `percent` of the time happens now.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// Puts them into another order.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.index(last + 1));
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            [(); 8].map(|()| chance.within(0..1_000))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn shuffled_are_all_of_them_in_another_order() {
        let mut things: Vec<_> = (0..20).collect();
        Chance::new(7).shuffle(&mut things);
        assert_ne!(things, (0..20).collect::<Vec<_>>());
        things.sort_unstable();
        assert_eq!(things, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn branch_does_not_depend_on_what_others_drew() {
        let mut busy = Chance::new(7);
        let quiet = busy.branch(1).within(0..1_000_000);
        busy.within(0..9);
        let other = Chance::new(7).branch(1).within(0..1_000_000);
        assert_eq!(quiet, other);
    }
}
