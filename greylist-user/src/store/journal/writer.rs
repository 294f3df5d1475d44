//! The journal's thread: writes what has changed, group by group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, Stopwatch};
use crate::store::Store;

use super::JournalMode;

/// The running thread.
#[derive(Debug)]
pub(in crate::store) struct JournalWriter {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl JournalWriter {
    /// Starts the thread; [`None`] for a store that keeps no journal.
    pub(in crate::store) fn start(
        store: &Arc<Store>,
        clock: &Arc<dyn Clock>,
    ) -> std::io::Result<Option<Self>> {
        let mode = store.settings.journal;
        let Some(journal) = &store.journal else {
            return Ok(None);
        };
        if mode == JournalMode::Never {
            return Ok(None);
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("journal".to_owned()).spawn({
            let (store, clock) = (Arc::clone(store), Arc::clone(clock));
            let stopping = Arc::clone(&stopping);
            move || write_until(&stopping, &store, &*clock, mode)
        })?;
        journal.bell().calls(thread.thread().clone());
        Ok(Some(Self { stopping, thread }))
    }

    /// Ends the thread with a last group. An error is what it panicked with.
    pub(in crate::store) fn stop(self) -> thread::Result<()> {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join()
    }
}

fn write_until(stopping: &AtomicBool, store: &Store, clock: &dyn Clock, mode: JournalMode) {
    loop {
        // Read first: what was noted before the stop is in the last group.
        let is_last = stopping.load(Ordering::Acquire);
        let begun = Stopwatch::start();
        let written = store.sync_journal(clock.now());
        if is_last {
            return;
        }
        match (written, mode) {
            // Called or not: a disk that is full is not asked all the time.
            (Err(_), _) => rest(stopping, RETRY, || store.journal_fails()),
            (Ok(_), JournalMode::Each) => thread::park_timeout(LONGEST_REST),
            (Ok(_), _) => thread::park_timeout(INTERVAL.saturating_sub(begun.elapsed())),
        }
    }
}

/// Waits for `interval`, whoever calls. The stop cuts it short, and a snapshot that had the journal
/// written meanwhile: what changes from then on must not wait for the rest of it.
fn rest(stopping: &AtomicBool, interval: Duration, fails: impl Fn() -> bool) {
    for _ in 0..interval.as_millis() / PIECE.as_millis() {
        if stopping.load(Ordering::Acquire) || !fails() {
            return;
        }
        thread::park_timeout(PIECE);
    }
}

/// From the beginning of one group to that of the next, so that nothing that is lost is older than a second
/// as long as a write takes half of one.
const INTERVAL: Duration = Duration::from_millis(500);
/// With "each", calls come when there is something; this is in case one was missed.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// From one try to the next while writing fails: as soon as there is room, as little is lost as ever.
const RETRY: Duration = INTERVAL;
const PIECE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_ends_when_the_journal_works_or_is_to_stop() {
        let age = Duration::from_hours(24 * 365);
        let stopping = AtomicBool::new(false);
        let asked = std::cell::Cell::new(0);
        let fails_twice = || asked.replace(asked.get() + 1) < 2;
        thread::current().unpark();
        rest(&stopping, age, fails_twice);
        assert_eq!(asked.get(), 3);
        stopping.store(true, Ordering::Release);
        rest(&stopping, age, || true);
    }
}
