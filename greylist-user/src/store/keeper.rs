//! The keeper: a thread that orders snapshots and sweeps while others judge, beside the one that writes
//! the journal.
//!
//! It looks at the clock and at the number of judged attempts once a second, so the milter path
//! wakes nobody and takes no lock for it. Periodic snapshots are the `scribe`'s, who takes his time;
//! the last one is the keeper's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Clock;
use crate::policy::Timestamp;

use super::journal::JournalWriter;
use super::metrics::Shed;
use super::scribe::Scribe;
use super::sweep::Sweeper;
use super::{SnapshotError, SnapshotReport, Store};

/// The running threads. Dropping it ends them as [`Keeper::stop`] does, with what became of the last
/// snapshot left to the log.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    stopping: Arc<AtomicBool>,
    journal: Option<JournalWriter>,
    thread: Option<JoinHandle<Result<SnapshotReport, SnapshotError>>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn start(store: Arc<Store>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Self::start_with(store, clock, |_| ())
    }

    /// Starts the thread, which also does `chore` on each of its rounds, one a second. It must be short.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn start_with(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        chore: impl FnMut(Timestamp) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let journal = JournalWriter::start(&store, &clock)?;
        let rounds = Rounds::new(Arc::clone(&store), clock, Box::new(chore))?;
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn({
            let stopping = Arc::clone(&stopping);
            move || rounds.until(&stopping)
        })?;
        Ok(Self {
            store,
            stopping,
            journal,
            thread: Some(thread),
        })
    }

    /// Ends the threads with a last group of the journal and a last snapshot, for which a periodic one
    /// under way is given up.
    ///
    /// # Panics
    ///
    /// If the thread has.
    pub fn stop(mut self) -> Result<SnapshotReport, SnapshotError> {
        self.end().expect("it is ended once, here or in drop")
    }

    fn end(&mut self) -> Option<Result<SnapshotReport, SnapshotError>> {
        let thread = self.thread.take()?;
        // Where no journal can be written, its thread waits for a periodic snapshot too.
        let _urgent = self.store.urgency.call();
        // What it writes is on the disk, should the last snapshot fail.
        let journal = self.journal.take().map_or(Ok(()), JournalWriter::stop);
        self.stopping.store(true, Ordering::Release);
        thread.thread().unpark();
        // The last snapshot comes first, whoever has panicked.
        match (thread.join(), journal) {
            (Ok(last), Ok(())) => Some(last),
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _logged = self.end();
        }
    }
}

/// What the thread does.
struct Rounds {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    sweeper: Sweeper,
    scribe: Scribe,
    snapshot_due_from: Timestamp,
    tuples: Room,
    /// Tuples that had found no place when it was last looked.
    shed: u64,
    contents: Room,
    chore: Chore,
}

/// What others have the thread do.
type Chore = Box<dyn FnMut(Timestamp) + Send>;

impl Rounds {
    fn new(store: Arc<Store>, clock: Arc<dyn Clock>, chore: Chore) -> std::io::Result<Self> {
        let now = clock.now();
        Ok(Self {
            scribe: Scribe::start(Arc::clone(&store), Arc::clone(&clock))?,
            sweeper: Sweeper::new(&store, now),
            snapshot_due_from: store.kept_since(),
            tuples: Room::default(),
            shed: 0,
            contents: Room::default(),
            chore,
            store,
            clock,
        })
    }

    fn until(mut self, stopping: &AtomicBool) -> Result<SnapshotReport, SnapshotError> {
        while !stopping.load(Ordering::Acquire) {
            self.round();
            thread::park_timeout(ROUND);
        }
        let scribe = self.scribe.stop();
        let last = self.store.snapshot(self.clock.now());
        if let Err(panic) = scribe {
            std::panic::resume_unwind(panic);
        }
        last
    }

    fn round(&mut self) {
        let now = self.clock.now();
        (self.chore)(now);
        self.watch_room();
        self.sweeper.round(&self.store, now);
        self.store.show_sizes();
        let since = now.since(self.snapshot_due_from);
        let interval = self.store.settings.snapshot_interval;
        // The journal alone would not do.
        let is_wanted = self.store.wants_snapshot() && since >= interval.min(ASKED_INTERVAL);
        let is_due = since >= interval || is_wanted || now < self.snapshot_due_from;
        // One that is still being written when the next is due is followed by that.
        if is_due && self.scribe.order() {
            self.snapshot_due_from = now;
        }
    }

    /// Says when the store becomes full, and when it has room again.
    fn watch_room(&mut self) {
        let percent = self.store.percent_full();
        let shed = [Shed::Full, Shed::Share].map(|it| self.store.metrics.count_of_shed(it));
        let shed = shed.into_iter().sum();
        let sheds = std::mem::replace(&mut self.shed, shed) != shed;
        // The last room is kept back for networks that hold little: to the others it is full.
        let is_full = sheds && percent >= Sweeper::ROOMY;
        match self.tuples.change(if is_full { 100 } else { percent }) {
            Some(RoomChange::Full) => {
                tracing::warn!(capacity = self.store.settings.capacity, "store-full");
            }
            Some(RoomChange::HasRoom) => tracing::info!(percent, "store-has-room"),
            None => {}
        }
        let percent = self.store.contents_percent_full();
        match self.contents.change(percent) {
            Some(RoomChange::Full) => {
                tracing::warn!(capacity = self.store.settings.contents, "contents-full");
            }
            Some(RoomChange::HasRoom) => tracing::info!(percent, "contents-have-room"),
            None => {}
        }
    }
}

/// Whether a table was found full, and has not had room for a tenth since.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    is_short: bool,
}

/// What has changed of the room in a table.
enum RoomChange {
    Full,
    HasRoom,
}

impl Room {
    /// What is new, `percent` of the room being taken; said once.
    fn change(&mut self, percent: usize) -> Option<RoomChange> {
        let change = match self.is_short {
            false if percent >= 100 => RoomChange::Full,
            true if percent < Sweeper::ROOMY => RoomChange::HasRoom,
            _ => return None,
        };
        self.is_short = !self.is_short;
        Some(change)
    }
}

/// Least time from one snapshot to one that is asked for: one that fails is not to be tried all the
/// time.
const ASKED_INTERVAL: Duration = Duration::from_secs(15);
const ROUND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_table_and_its_room_are_told_once_each() {
        let mut room = Room::default();
        let told: String = [50, 99, 100, 100, 95, 89, 80, 100]
            .into_iter()
            .map(|percent| match room.change(percent) {
                Some(RoomChange::Full) => 'F',
                Some(RoomChange::HasRoom) => 'R',
                None => '.',
            })
            .collect();
        assert_eq!(told, "..F..R.F");
    }
}
