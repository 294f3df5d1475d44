//! Taking turns at work that is to be done once at a time, by threads that may wait a little.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One is at work, a few wait, and the others are sent away: whoever asks must not fill the threads
/// that answer everything else.
#[derive(Debug, Default)]
pub(super) struct Turns {
    present: AtomicUsize,
    at_work: Mutex<()>,
}

/// The turn of one. Dropping it lets the next begin.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _at_work: MutexGuard<'a, ()>,
    /// Given up after the lock.
    _place: Place<'a>,
}

impl Turns {
    /// Waits for a turn; [`None`] if too many do.
    pub(super) fn take(&self) -> Option<Turn<'_>> {
        let place = self.enter()?;
        // Whoever panicked has left nothing half done: it only read.
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Turn {
            _at_work: at_work,
            _place: place,
        })
    }

    fn enter(&self) -> Option<Place<'_>> {
        let before = self.present.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.present);
        (before < PRESENT).then_some(place)
    }
}

#[derive(Debug)]
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One at work and three that wait, of sixteen that may ask at once.
const PRESENT: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn one_is_at_work_three_wait_and_others_are_sent_away() {
        let turns = Turns::default();
        let working = AtomicUsize::new(0);
        let first = turns.take().expect("nobody is there");
        let waiting: Vec<_> = (0..PRESENT - 1).map(|_| turns.enter()).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(turns.take().is_none(), "too many wait");
        drop((first, waiting));
        let all = Barrier::new(PRESENT);
        std::thread::scope(|scope| {
            for _ in 0..PRESENT {
                scope.spawn(|| {
                    all.wait();
                    let turn = turns.take().expect("no more than may be there");
                    assert_eq!(working.fetch_add(1, Ordering::Relaxed), 0);
                    std::thread::yield_now();
                    working.fetch_sub(1, Ordering::Relaxed);
                    drop(turn);
                });
            }
        });
        assert_eq!(turns.present.load(Ordering::Relaxed), 0);
    }
}
