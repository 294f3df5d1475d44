//! The thread that keeps the kernel's table a projection of the store.
//!
//! Effects are carried out as they come, and once a minute, and after every failure, the whole table
//! is compared with the store and mended. So a lost effect, a full channel, a stepped clock and a
//! stranger's `bpftool` cost a minute at most. The milter only ever writes to the channel.
//!
//! What is long is done in steps, between which others may ask for the status. The longest is to
//! read the table: about half a second for a million entries.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    Change, Entry, FilterError, FilterStatus, KernelFilter, Metrics, OnStatus, SentenceSource,
    reconcile::{self, Backoff, Plan},
    watch::Watch,
};
use crate::{
    clock::Clock,
    policy::{Effect, SentencedClient, Timestamp},
};

/// A running projector.
#[derive(Debug)]
pub struct Projector {
    filter: Arc<SharedFilter>,
    metrics: Arc<Metrics>,
    refresh: Arc<Notify>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// The filter, for the thread that works on it and for those who ask for its status. It is held
/// for as long as one step takes.
struct SharedFilter {
    filter: Mutex<Box<dyn KernelFilter>>,
    /// Held while waiting, so that who works in many steps does not overtake who waits between two.
    turn: Mutex<()>,
}

impl Projector {
    /// Starts the thread. It ends at [`stop`](Self::stop); the filter detaches with it.
    ///
    /// # Panics
    ///
    /// When the system cannot start a thread.
    pub fn start(
        filter: Box<dyn KernelFilter>,
        source: Arc<dyn SentenceSource>,
        clock: Arc<dyn Clock>,
        effects: mpsc::Receiver<Effect>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let filter = Arc::new(SharedFilter {
            filter: Mutex::new(filter),
            turn: Mutex::new(()),
        });
        let refresh = Arc::new(Notify::new());
        let work = Work {
            filter: Arc::clone(&filter),
            source,
            clock,
            metrics: Arc::clone(&metrics),
            refresh: Arc::clone(&refresh),
            backoff: Backoff::default(),
            watch: Watch::default(),
            settled: false,
            took: Duration::ZERO,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("projector".to_owned())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .expect("a runtime without I/O needs nothing of the system")
                    .block_on(work.run(effects, stopped));
            })
            .expect("a thread can be started while the daemon starts");
        Self {
            filter,
            metrics,
            refresh,
            stop,
            thread,
        }
    }

    /// Has the table compared with the store at once: the rules have changed.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// What the filter is doing and has done.
    pub fn status(&self) -> FilterStatus {
        match self.filter.lock().status() {
            FilterStatus::On(on) => FilterStatus::On(OnStatus {
                crowded_out: self.metrics.crowded_out.get(),
                ..on
            }),
            off @ FilterStatus::Off { .. } => off,
        }
    }

    /// What the kernel holds of `client`.
    ///
    /// # Errors
    ///
    /// When the kernel's table cannot be read.
    pub fn entry(
        &self,
        client: SentencedClient,
        now: Timestamp,
    ) -> Result<Option<Entry>, FilterError> {
        self.filter.lock().entry(client, now)
    }

    /// Whether the thread is at work. Before [`stop`](Self::stop) only a panic ends it: then the
    /// filter is on, and nothing that is done reaches it any more.
    pub fn is_at_work(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends the thread, and with it the filter: nothing is dropped any more.
    pub fn stop(self) {
        // It has ended already when the send fails.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("projector-panicked");
        }
    }
}

impl SharedFilter {
    fn lock(&self) -> MutexGuard<'_, Box<dyn KernelFilter>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic leaves no half-written state behind: the kernel's table is read back.
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SharedFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedFilter").finish_non_exhaustive()
    }
}

/// What the thread works with.
struct Work {
    filter: Arc<SharedFilter>,
    source: Arc<dyn SentenceSource>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    refresh: Arc<Notify>,
    backoff: Backoff,
    watch: Watch,
    /// Whether the table was what the store said when it was last left, under the present rules.
    settled: bool,
    /// How long the last reconciliation took.
    took: Duration,
}

impl Work {
    async fn run(
        mut self,
        mut effects: mpsc::Receiver<Effect>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut reconciliation = Instant::now();
        let mut metrics = Instant::now();
        let mut open = true;
        let refresh = Arc::clone(&self.refresh);
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                () = sleep_until(metrics) => {
                    let status = {
                        let mut filter = self.filter.lock();
                        filter.tend();
                        filter.status()
                    };
                    self.metrics.follow(&status);
                    self.watch.look(&status);
                    metrics = Instant::now() + METRICS_INTERVAL;
                }
                () = sleep_until(reconciliation) => {
                    reconciliation = Instant::now() + self.reconcile(&effects);
                }
                () = refresh.notified() => {
                    self.settled = false;
                    reconciliation = Instant::now() + self.reconcile(&effects);
                }
                received = effects.recv_many(&mut batch, BATCH), if open => {
                    open = received > 0;
                    if let Some(wait) = self.carry_out(batch.drain(..)) {
                        reconciliation = reconciliation.min(Instant::now() + wait);
                    }
                }
            }
        }
    }

    /// Carries effects out, and says within which time the table wants mending, if it does.
    fn carry_out(&mut self, effects: impl Iterator<Item = Effect>) -> Option<Duration> {
        let changes: Vec<Change> = effects.map(Change::from).collect();
        let applied = {
            let mut filter = self.filter.lock();
            filter.apply(&changes, self.clock.now())
        };
        let failing = self.backoff.is_failing();
        self.settled &= applied.is_ok();
        match applied {
            Ok(()) => None,
            // No failure: reconciliation takes out what has ended or has the least time left, and
            // says so when somebody is crowded out. In a flood this is every other batch.
            Err(FilterError::Full { .. }) if !failing => Some(until_room_is_made(self.took)),
            Err(error) => {
                self.report(&error);
                (!failing).then(|| self.backoff.failed())
            }
        }
    }

    /// Mends the table and says when to do so again.
    fn reconcile(&mut self, effects: &mpsc::Receiver<Effect>) -> Duration {
        let begun = Instant::now();
        let mended = self.mend(effects);
        self.took = begun.elapsed();
        self.settled = mended.is_ok();
        match mended {
            Ok(()) => {
                if self.backoff.succeeded() {
                    tracing::info!("reconciled");
                }
                RECONCILIATION_INTERVAL
            }
            Err(error) => {
                self.report(&error);
                self.backoff.failed()
            }
        }
    }

    /// Each step takes its time, and each must be told the present: an old one, laid beside the
    /// kernel's clock, would move every end by as much.
    fn mend(&mut self, effects: &mpsc::Receiver<Effect>) -> Result<(), FilterError> {
        let capacity = self.filter.lock().capacity();
        if capacity == 0 {
            return Ok(());
        }
        let allowed = self.source.allowed();
        // Whoever is to pass passes, even where the sentences cannot be mended.
        let allowed = self.filter.lock().allow(&allowed);
        let entries = {
            let mut filter = self.filter.lock();
            filter.entries(self.clock.now())?
        };
        // Asking the store may take its time, and nobody who asks for the status waits for it.
        self.source.heed(&entries, self.clock.now());
        let sentences = self.source.sentences(self.clock.now());
        let plan = reconcile::plan(&sentences, &entries, capacity, self.clock.now());
        // An effect that waits explains a difference, and so does somebody who was crowded out.
        let crowded = plan.crowded_out > 0 || self.metrics.crowded_out.get() > 0;
        if self.settled && !crowded && effects.is_empty() {
            self.note_drift(&plan);
        }
        self.note_crowding(plan.crowded_out, capacity);
        let mut outcome = allowed;
        for changes in plan.changes.chunks(STEP) {
            let mut filter = self.filter.lock();
            outcome = outcome.and(filter.apply(changes, self.clock.now()));
        }
        outcome?;
        let repaired = u64::try_from(plan.changes.len()).unwrap_or(u64::MAX);
        self.metrics.repaired.inc_by(repaired);
        Ok(())
    }

    /// Logs the edges only: a table that stays full says so once.
    fn note_crowding(&self, crowded_out: usize, capacity: u32) {
        let now = u64::try_from(crowded_out).unwrap_or(u64::MAX);
        let before = self.metrics.crowded_out.set(now);
        if before == 0 && now > 0 {
            tracing::warn!(crowded_out, capacity, "kernel-full");
        }
    }

    /// A table that was left as the store has it stays so, but for what lapses.
    fn note_drift(&self, plan: &Plan) {
        let (missing, unexpected) = (plan.missing, plan.unexpected);
        if missing > 0 || unexpected > 0 {
            self.metrics.drifted.inc_by((missing + unexpected) as u64);
            tracing::warn!(missing, unexpected, "drifted");
        }
    }

    /// Counts each failure, and logs the first in a row.
    fn report(&self, error: &FilterError) {
        self.metrics.failures.inc();
        if !self.backoff.is_failing() {
            tracing::warn!(why = error.chain(), "unreconciled");
        }
    }
}

/// How long a sentence waits for room in a full table. To make room the whole table is compared,
/// which took so long the last time: in a flood that goes on it takes a tenth of a core and no more.
fn until_room_is_made(took: Duration) -> Duration {
    MAKING_ROOM.max(took * 9).min(RECONCILIATION_INTERVAL)
}

impl From<Effect> for Change {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Forgive(client) => Self::Remove(client),
            Effect::Punish(sentence) => Self::Put(sentence),
        }
    }
}

/// Changes of a reconciliation between which others may ask for the status: some tens of
/// milliseconds.
const STEP: usize = 1 << 14;
/// Effects carried out at once.
const BATCH: usize = 1_024;
/// The longest time the table may differ from the store.
const RECONCILIATION_INTERVAL: Duration = Duration::from_mins(1);
/// The least time that a sentence waits for room in a full table.
const MAKING_ROOM: Duration = Duration::from_secs(2);
/// Twice as often as a scraper asks.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
