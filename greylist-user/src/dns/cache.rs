//! What was answered, for as long as it holds, in bounded memory.
//!
//! Strangers choose what is asked. So a key is a hash under a secret of this process, of one length
//! whatever was asked, and there are two generations: when the young one has half of the room it
//! becomes the old one, whose own entries are forgotten but for those that were asked for again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::mem;

use tokio::time::Instant;

/// What stands for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

/// Answers by what was asked.
#[derive(Debug)]
pub(super) struct Cache<T> {
    secrets: [RandomState; 2],
    young: HashMap<Key, Kept<T>>,
    old: HashMap<Key, Kept<T>>,
    half: usize,
}

#[derive(Clone, Copy, Debug)]
struct Kept<T> {
    answer: T,
    until: Instant,
}

impl<T: Copy> Cache<T> {
    /// Room for `capacity` answers, which is taken as they come.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            secrets: [RandomState::new(), RandomState::new()],
            young: HashMap::new(),
            old: HashMap::new(),
            half: (capacity / 2).max(1),
        }
    }

    /// The key of a question.
    pub(super) fn key(&self, question: impl Hash) -> Key {
        let [one, two] = &self.secrets;
        Key(one.hash_one(&question), two.hash_one(&question))
    }

    /// The answer, if one is known that still holds.
    pub(super) fn get(&mut self, key: Key, now: Instant) -> Option<T> {
        if let Some(kept) = self.young.get(&key) {
            return (kept.until > now).then_some(kept.answer);
        }
        let kept = self.old.remove(&key).filter(|it| it.until > now)?;
        self.insert(key, kept.answer, kept.until);
        Some(kept.answer)
    }

    /// Keeps an answer.
    pub(super) fn insert(&mut self, key: Key, answer: T, until: Instant) {
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, Kept { answer, until });
    }

    /// How many are kept, whether they hold or not.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flood_of_names_takes_no_more_than_its_room() {
        let mut cache = Cache::new(1_000);
        let now = Instant::now();
        let until = now + Duration::from_hours(1);
        let often = cache.key("often");
        cache.insert(often, 7, until);
        for name in 0..100_000_u32 {
            let key = cache.key(name);
            cache.insert(key, 0, until);
            if name % 100 == 0 {
                assert_eq!(cache.get(often, now), Some(7), "asked for again and again");
            }
            assert!(cache.len() <= 1_000, "{}", cache.len());
        }
        let first = cache.key(0_u32);
        assert_eq!(cache.get(first, now), None, "forgotten");
    }

    #[test]
    fn answer_holds_until_its_time() {
        let mut cache = Cache::new(10);
        let now = Instant::now();
        let key = cache.key("name");
        cache.insert(key, 1, now + Duration::from_secs(5));
        assert_eq!(cache.get(key, now + Duration::from_secs(4)), Some(1));
        assert_eq!(cache.get(key, now + Duration::from_secs(5)), None);
    }
}
