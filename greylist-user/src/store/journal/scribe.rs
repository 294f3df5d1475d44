//! The journal's thread: writes what has changed, group by group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Clock;
use crate::store::Store;

use super::JournalMode;

/// The running thread.
#[derive(Debug)]
pub(in crate::store) struct Scribe {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scribe {
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

    /// Ends the thread with a last group.
    pub(in crate::store) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn write_until(stopping: &AtomicBool, store: &Store, clock: &dyn Clock, mode: JournalMode) {
    loop {
        // Read first: what was noted before the stop is in the last group.
        let is_last = stopping.load(Ordering::Acquire);
        let written = store.sync_journal(clock.now());
        if is_last {
            return;
        }
        match (written, mode) {
            // Called or not: a disk that is full is not asked all the time.
            (Err(_), _) => rest(stopping, RETRY),
            (Ok(_), JournalMode::Each) => thread::park_timeout(LONGEST_REST),
            (Ok(_), _) => thread::park_timeout(INTERVAL),
        }
    }
}

/// Waits for `interval`, whoever calls; only the stop cuts it short.
fn rest(stopping: &AtomicBool, interval: Duration) {
    for _ in 0..interval.as_millis() / PIECE.as_millis() {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        thread::park_timeout(PIECE);
    }
}

/// So that with the time that a write takes, nothing that is lost is older than a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// With "each", calls come when there is something; this is in case one was missed.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// From one try to the next while writing fails.
const RETRY: Duration = Duration::from_secs(2);
const PIECE: Duration = Duration::from_millis(100);
