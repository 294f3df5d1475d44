//! Which entries of a table have changed since somebody last asked.
//!
//! Only keys are noted: what an entry is by the time it is written is read then. The list is bounded.
//! A key that finds no room in it is not lost to the store, only to who asks, and the [`Bell`] says that
//! he has to make up for it: the journal by a snapshot, and who tells other hosts by telling them all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use prometheus_client::metrics::counter::Counter;

/// The changed keys of one table, in stripes: who notes one waits for no other shard of the table.
pub(in crate::store) struct Marks<K> {
    stripes: Box<[Stripe<K>]>,
    /// The room of a list that was emptied, for the next that is.
    spare: Mutex<Vec<K>>,
    bell: Arc<Bell>,
}

/// On a cache line of its own.
#[repr(align(64))]
struct Stripe<K>(Mutex<Vec<K>>);

impl<K: Copy + Eq> Marks<K> {
    pub(in crate::store) fn new(bell: Arc<Bell>) -> Self {
        Self {
            stripes: std::iter::repeat_with(|| Stripe(Mutex::default()))
                .take(STRIPES)
                .collect(),
            spare: Mutex::default(),
            bell,
        }
    }

    /// Notes that the entry of `key` has changed or gone. `spread` are 32 uniform bits of it.
    pub(in crate::store) fn note(&self, spread: u32, key: K) {
        let stripe = &self.stripes[(spread >> (u32::BITS - STRIPES.ilog2())) as usize];
        let held = {
            let mut keys = stripe.0.lock().unwrap_or_else(PoisonError::into_inner);
            // One mail changes an entry more than once in a row.
            if keys.last() == Some(&key) {
                return;
            }
            if keys.len() < MOST_PER_STRIPE {
                keys.push(key);
                keys.len()
            } else {
                MOST_PER_STRIPE + 1
            }
        };
        if held > MOST_PER_STRIPE {
            self.bell.overflow();
        }
        self.bell.noted(held == MOST_PER_STRIPE / 2);
    }

    /// Hands out all that were noted, and forgets them.
    pub(in crate::store) fn drain(&self, mut take: impl FnMut(K)) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = &mut *spare;
        for stripe in &self.stripes {
            {
                let mut keys = stripe.0.lock().unwrap_or_else(PoisonError::into_inner);
                if keys.is_empty() {
                    give_back(&mut keys);
                    continue;
                }
                std::mem::swap(&mut *keys, spare);
            }
            give_back(spare);
            spare.drain(..).for_each(&mut take);
        }
    }
}

/// Gives back what a burst took that is over.
fn give_back<K>(keys: &mut Vec<K>) {
    if keys.capacity() > 4 * keys.len().max(SMALL) {
        keys.shrink_to(2 * keys.len());
    }
}

impl<K> std::fmt::Debug for Marks<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

/// What calls the thread that asks, shared by all lists that it asks for.
#[derive(Debug)]
pub(in crate::store) struct Bell {
    /// Whether it is called as soon as anything is noted.
    calls_at_once: bool,
    /// Something was noted since the lists were emptied last.
    noted: AtomicBool,
    /// Something was not noted, and has to be made up for.
    overflowed: AtomicBool,
    /// A snapshot is being made that does.
    made_up_for: AtomicBool,
    overflows: Counter,
    thread: Mutex<Option<Thread>>,
}

impl Bell {
    pub(in crate::store) fn new(calls_at_once: bool, overflows: Counter) -> Self {
        Self {
            calls_at_once,
            noted: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
            made_up_for: AtomicBool::new(false),
            overflows,
            thread: Mutex::new(None),
        }
    }

    /// Has `thread` called from now on.
    pub(in crate::store) fn calls(&self, thread: Thread) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// The lists are about to be emptied. Whoever notes after its list was emptied sees that.
    pub(in crate::store) fn answer(&self) {
        self.noted.store(false, Ordering::Release);
    }

    pub(in crate::store) fn has_noted(&self) -> bool {
        self.noted.load(Ordering::Acquire)
    }

    pub(in crate::store) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }

    /// Whether something was not noted since this was asked last.
    pub(in crate::store) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Asks for a snapshot.
    pub(in crate::store) fn ask_for_snapshot(&self) {
        self.overflowed.store(true, Ordering::Release);
    }

    /// Whether something that was not noted is not on the disk yet.
    pub(in crate::store) fn is_incomplete(&self) -> bool {
        self.made_up_for.load(Ordering::Acquire) || self.has_overflowed()
    }

    /// A snapshot begins that will hold what was not noted. Whether one was asked for.
    pub(in crate::store) fn begin_snapshot(&self) -> bool {
        let asked = self.has_overflowed();
        self.made_up_for.store(asked, Ordering::Release);
        // What finds no room from now on may be too late for it.
        asked && self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// It was made, or has to be asked for again.
    pub(in crate::store) fn end_snapshot(&self, asks_again: bool) {
        if asks_again {
            self.ask_for_snapshot();
        }
        self.made_up_for.store(false, Ordering::Release);
    }

    /// Something that is marked will not be written.
    pub(in crate::store) fn overflow(&self) {
        self.overflows.inc();
        self.ask_for_snapshot();
    }

    fn noted(&self, is_urgent: bool) {
        let is_first =
            !self.noted.load(Ordering::Acquire) && !self.noted.swap(true, Ordering::AcqRel);
        if is_urgent || (is_first && self.calls_at_once) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = &*thread {
                thread.unpark();
            }
        }
    }
}

const STRIPES: usize = 64;
/// A quarter of a million changed entries of one table: 4 MB of keys, and more than a second of the
/// heaviest load.
const MOST_PER_STRIPE: usize = 4_096;
/// Below so many keys a list is not worth a smaller one.
const SMALL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> (Marks<u32>, Arc<Bell>) {
        let bell = Arc::new(Bell::new(false, Counter::default()));
        (Marks::new(Arc::clone(&bell)), bell)
    }

    fn drained(marks: &Marks<u32>) -> Vec<u32> {
        let mut keys = Vec::new();
        marks.drain(|key| keys.push(key));
        keys
    }

    #[test]
    fn key_noted_twice_in_a_row_is_held_once() {
        let (marks, bell) = marks();
        assert!(!bell.has_noted());
        for key in [1, 1, 2, 1] {
            marks.note(0, key);
        }
        assert!(bell.has_noted());
        assert_eq!(drained(&marks), [1, 2, 1]);
        assert_eq!(drained(&marks), [] as [u32; 0]);
    }

    #[test]
    fn lists_keep_their_room_from_group_to_group() {
        let (marks, _bell) = marks();
        let room = || {
            let lists = marks
                .stripes
                .iter()
                .map(|it| it.0.lock().expect("no panic").capacity());
            lists.sum::<usize>() + marks.spare.lock().expect("no panic").capacity()
        };
        let group = || {
            for key in 0..10_000_u32 {
                marks.note(key.wrapping_mul(0x9e37_79b9), key);
            }
        };
        // The one that is emptied first has the room of the one that was emptied last.
        for _ in 0..2 {
            group();
            drained(&marks);
        }
        let before = room();
        group();
        assert_eq!(room(), before);
    }

    #[test]
    fn room_of_a_burst_is_given_back_once_it_is_quiet() {
        let (marks, _bell) = marks();
        for key in 0..100_000_u32 {
            marks.note(key.wrapping_mul(0x9e37_79b9), key);
        }
        (0..3).for_each(|_| drop(drained(&marks)));
        let room = |keys: &Mutex<Vec<u32>>| keys.lock().expect("no panic").capacity();
        let lists: usize = marks.stripes.iter().map(|it| room(&it.0)).sum();
        assert!(lists + room(&marks.spare) <= (STRIPES + 1) * 4 * SMALL);
    }

    #[test]
    fn list_is_bounded_and_asks_for_a_snapshot_beyond_that() {
        let (marks, bell) = marks();
        let most = u32::try_from(MOST_PER_STRIPE).expect("a few thousand");
        (0..most).for_each(|key| marks.note(u32::MAX, key));
        assert!(!bell.has_overflowed());
        (0..10).for_each(|key| marks.note(u32::MAX, most + key));
        assert!(bell.has_overflowed());
        assert_eq!(bell.overflows.get(), 10);
        assert_eq!(drained(&marks).len(), MOST_PER_STRIPE);
        assert!(bell.begin_snapshot() && !bell.has_overflowed());
    }

    #[test]
    fn every_key_of_many_threads_is_handed_out() {
        let (marks, _bell) = marks();
        let found = std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let marks = &marks;
                scope.spawn(move || {
                    for number in 0..10_000_u32 {
                        let key = number * 4 + thread;
                        marks.note(key.wrapping_mul(0x9e37_79b9), key);
                    }
                });
            }
            let mut found = Vec::new();
            while found.len() < 40_000 {
                marks.drain(|key| found.push(key));
                std::thread::yield_now();
            }
            found
        });
        let mut sorted = found;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40_000).collect::<Vec<_>>());
    }
}
