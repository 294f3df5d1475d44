//! The thread that keeps the kernel's table a projection of the store.
//!
//! Effects are carried out as they come, and once a minute, and after every failure, the whole table
//! is compared with the store and mended. So a lost effect, a full channel, a stepped clock and a
//! stranger's `bpftool` cost a minute at most. The milter only ever writes to the channel.
//!
//! What is long is done in steps, between which others may ask for the status. The longest is to
//! read the table: about a third of a second for a million entries.

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
    Change, FilterError, FilterStatus, KernelFilter, Metrics, SentenceSource,
    reconcile::{self, Backoff, Plan},
    watch::Watch,
};
use crate::{clock::Clock, policy::Effect};

/// A running projector.
#[derive(Debug)]
pub struct Projector {
    filter: Arc<SharedFilter>,
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
            metrics,
            refresh: Arc::clone(&refresh),
            backoff: Backoff::default(),
            watch: Watch::default(),
            settled: false,
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
        self.filter.lock().status()
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
        let now = self.clock.now();
        let applied = self.filter.lock().apply(&changes, now);
        let failing = self.backoff.is_failing();
        self.settled &= applied.is_ok();
        match applied {
            Ok(()) => None,
            // No failure: reconciliation takes out what has ended or has the least time left, and
            // says so when somebody is crowded out. In a flood this is every other batch.
            Err(FilterError::Full { .. }) if !failing => Some(MAKING_ROOM),
            Err(error) => {
                self.report(&error);
                (!failing).then(|| self.backoff.failed())
            }
        }
    }

    /// Mends the table and says when to do so again.
    fn reconcile(&mut self, effects: &mpsc::Receiver<Effect>) -> Duration {
        let mended = self.mend(effects);
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
            note_drift(&plan);
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

    /// Counts each failure, and logs the first in a row.
    fn report(&self, error: &FilterError) {
        self.metrics.failures.inc();
        if !self.backoff.is_failing() {
            tracing::warn!(why = error.chain(), "unreconciled");
        }
    }
}

/// A table that was left as the store has it stays so, but for what lapses.
fn note_drift(plan: &Plan) {
    let (missing, unexpected) = (plan.missing, plan.unexpected);
    if missing > 0 || unexpected > 0 {
        tracing::warn!(missing, unexpected, "drifted");
    }
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
/// How long a sentence waits for room in a full table. To make room the whole table is read.
const MAKING_ROOM: Duration = Duration::from_secs(2);
/// Twice as often as a scraper asks.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{
            atomic::{AtomicU64, Ordering},
            mpsc::{Receiver, Sender, channel},
        },
    };

    use ipnet::IpNet;

    use super::*;
    use crate::{
        kernel::Entry,
        policy::{
            Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient, Timestamp,
        },
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const PATIENCE: Duration = Duration::from_secs(20);
    const CAPACITY: u32 = 10;
    const LOCAL: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(
        std::net::Ipv4Addr::new(127, 0, 0, 0),
        8,
    ));

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            NOW
        }
    }

    /// A store whose sentences a test may change, and that takes note of the evidence.
    struct Sentences {
        all: Mutex<Vec<Sentence>>,
        heeded: Mutex<Vec<Entry>>,
    }

    impl SentenceSource for Sentences {
        fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
            self.all.lock().expect("no test panics with it").clone()
        }
        fn allowed(&self) -> Vec<IpNet> {
            vec![LOCAL]
        }
        fn heed(&self, entries: &[Entry], _: Timestamp) {
            *self.heeded.lock().expect("no test panics with it") = entries.to_vec();
        }
    }

    /// A table in memory that tells what was done to it, and fails as often as it was told to, or
    /// whenever there is no room.
    struct Table {
        entries: HashMap<SentencedClient, Sentence>,
        allowed: Vec<IpNet>,
        failures: u32,
        done: Sender<Vec<Change>>,
    }

    impl KernelFilter for Table {
        fn apply(&mut self, changes: &[Change], _: Timestamp) -> Result<(), FilterError> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(FilterError::NotBuilt);
            }
            for change in changes {
                match change {
                    Change::Put(_) if self.entries.len() == CAPACITY as usize => {
                        return Err(FilterError::Full {
                            family: "IPv4",
                            capacity: CAPACITY,
                        });
                    }
                    Change::Put(sentence) => self.entries.insert(sentence.client, *sentence),
                    Change::Remove(client) => self.entries.remove(client),
                };
            }
            let _ = self.done.send(changes.to_vec());
            Ok(())
        }

        fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
            Ok(self
                .entries
                .values()
                .map(|sentence| Entry {
                    client: sentence.client,
                    level: sentence.level,
                    until: sentence.until,
                    drops: 0,
                })
                .collect())
        }

        fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError> {
            self.allowed = networks.to_vec();
            Ok(())
        }

        fn tend(&mut self) {}

        fn capacity(&self) -> u32 {
            CAPACITY
        }

        fn status(&self) -> FilterStatus {
            FilterStatus::Off {
                why: format!("{} entries, {:?} allowed", self.entries.len(), self.allowed),
            }
        }
    }

    /// Seconds go by while the store lists what it holds and while the table is read.
    #[test]
    fn reconciles_by_the_present_however_long_it_takes() {
        struct Slow(Arc<AtomicU64>, Sender<Timestamp>);
        impl Slow {
            fn takes_seconds(&self) {
                self.0.fetch_add(3_000, Ordering::Relaxed);
            }
        }
        impl Clock for Slow {
            fn now(&self) -> Timestamp {
                Timestamp::from_millis(self.0.load(Ordering::Relaxed))
            }
        }
        impl SentenceSource for Slow {
            fn sentences(&self, _: Timestamp) -> Vec<Sentence> {
                self.takes_seconds();
                vec![sentence(1)]
            }
            fn allowed(&self) -> Vec<IpNet> {
                self.takes_seconds();
                Vec::new()
            }
            fn heed(&self, _: &[Entry], _: Timestamp) {}
        }
        impl KernelFilter for Slow {
            fn apply(&mut self, _: &[Change], now: Timestamp) -> Result<(), FilterError> {
                let _ = self.1.send(now);
                Ok(())
            }
            fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
                let _ = self.1.send(now);
                self.takes_seconds();
                Ok(Vec::new())
            }
            fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
                Ok(())
            }
            fn tend(&mut self) {}
            fn capacity(&self) -> u32 {
                10
            }
            fn status(&self) -> FilterStatus {
                FilterStatus::Off { why: String::new() }
            }
        }
        let time = Arc::new(AtomicU64::new(NOW.as_millis()));
        let (told, times) = channel();
        let slow = || Slow(Arc::clone(&time), told.clone());
        let (_effects, received) = mpsc::channel(8);
        let projector = Projector::start(
            Box::new(slow()),
            Arc::new(slow()),
            Arc::new(slow()),
            received,
            Arc::new(Metrics::default()),
        );
        let seconds = |seconds| NOW.after(Duration::from_secs(seconds));
        assert_eq!(times.recv_timeout(PATIENCE), Ok(seconds(3)), "entries");
        assert_eq!(times.recv_timeout(PATIENCE), Ok(seconds(9)), "apply");
        projector.stop();
    }

    fn sentence(host: u8) -> Sentence {
        Sentence {
            client: SentencedClient::of([192, 0, 2, host].into()),
            level: SentenceLevel::Block,
            reason: SentenceReason::Operator,
            since: NOW,
            until: NOW.after(Duration::from_hours(1)),
            persistence: Persistence::default(),
        }
    }

    fn start(
        sentences: Vec<Sentence>,
        failures: u32,
    ) -> (
        Projector,
        mpsc::Sender<Effect>,
        Receiver<Vec<Change>>,
        Arc<Metrics>,
    ) {
        start_with(store(sentences), failures)
    }

    fn store(sentences: Vec<Sentence>) -> Arc<Sentences> {
        Arc::new(Sentences {
            all: Mutex::new(sentences),
            heeded: Mutex::default(),
        })
    }

    fn start_with(
        source: Arc<Sentences>,
        failures: u32,
    ) -> (
        Projector,
        mpsc::Sender<Effect>,
        Receiver<Vec<Change>>,
        Arc<Metrics>,
    ) {
        let (done, changes) = channel();
        let (sender, effects) = mpsc::channel(8);
        let metrics = Arc::new(Metrics::default());
        let table = Table {
            entries: HashMap::new(),
            allowed: Vec::new(),
            failures,
            done,
        };
        let projector = Projector::start(
            Box::new(table),
            source,
            Arc::new(Fixed),
            effects,
            Arc::clone(&metrics),
        );
        (projector, sender, changes, metrics)
    }

    #[test]
    fn starts_with_the_whole_projection_and_follows_effects() {
        let (projector, effects, changes, _) = start(vec![sentence(1)], 0);
        let first = changes.recv_timeout(PATIENCE).expect("a reconciliation");
        assert_eq!(first, [Change::Put(sentence(1))]);
        effects
            .blocking_send(Effect::Punish(sentence(2)))
            .expect("the projector listens");
        let second = changes.recv_timeout(PATIENCE).expect("an effect");
        assert_eq!(second, [Change::Put(sentence(2))]);
        effects
            .blocking_send(Effect::Forgive(sentence(1).client))
            .expect("the projector listens");
        let third = changes.recv_timeout(PATIENCE).expect("an effect");
        assert_eq!(third, [Change::Remove(sentence(1).client)]);
        let FilterStatus::Off { why } = projector.status() else {
            panic!("the table calls itself off");
        };
        assert_eq!(why, "1 entries, [127.0.0.0/8] allowed");
        projector.stop();
    }

    #[test]
    fn tries_again_after_a_failure() {
        let (projector, _effects, changes, metrics) = start(vec![sentence(1)], 1);
        let mended = changes.recv_timeout(PATIENCE).expect("a second try");
        assert_eq!(mended, [Change::Put(sentence(1))]);
        assert_eq!(metrics.failures.get(), 1);
        projector.stop();
    }

    #[test]
    fn makes_room_in_a_full_table_and_calls_it_no_failure() {
        let entitled: Vec<Sentence> = (1..=10).map(sentence).collect();
        let (projector, effects, changes, metrics) = start(entitled, 0);
        let first = changes.recv_timeout(PATIENCE).expect("a reconciliation");
        assert_eq!(first.len(), 10);
        // One that the store does not know takes another's place, and fills the table.
        for effect in [
            Effect::Forgive(sentence(1).client),
            Effect::Punish(sentence(11)),
        ] {
            effects
                .blocking_send(effect)
                .expect("the projector listens");
            changes.recv_timeout(PATIENCE).expect("an effect");
        }
        effects
            .blocking_send(Effect::Punish(sentence(12)))
            .expect("the projector listens");
        let mended = changes.recv_timeout(PATIENCE).expect("room is made");
        assert!(mended.contains(&Change::Remove(sentence(11).client)));
        assert_eq!(metrics.failures.get(), 0);
        projector.stop();
    }

    /// Without the word, the next comparison would come after a minute: beyond all patience.
    #[test]
    fn refreshed_projection_follows_the_store_at_once() {
        let store = store(vec![sentence(1)]);
        let (projector, _effects, changes, _) = start_with(Arc::clone(&store), 0);
        changes.recv_timeout(PATIENCE).expect("a reconciliation");
        *store.all.lock().expect("nobody panicked") = vec![sentence(2)];
        projector.refresh();
        let mended = changes.recv_timeout(PATIENCE).expect("a refresh");
        let expected = [Change::Remove(sentence(1).client), Change::Put(sentence(2))];
        assert_eq!(mended, expected);
        let heeded = store.heeded.lock().expect("nobody panicked").clone();
        assert_eq!(heeded.len(), 1, "the store hears what the kernel holds");
        assert_eq!(heeded[0].client, sentence(1).client);
        projector.stop();
    }

    /// More changes than one step carries, in their order.
    #[test]
    fn long_plan_is_carried_out_in_steps() {
        struct Endless(Sender<usize>);
        impl KernelFilter for Endless {
            fn apply(&mut self, changes: &[Change], _: Timestamp) -> Result<(), FilterError> {
                let _ = self.0.send(changes.len());
                Ok(())
            }
            fn entries(&mut self, _: Timestamp) -> Result<Vec<Entry>, FilterError> {
                Ok(Vec::new())
            }
            fn allow(&mut self, _: &[IpNet]) -> Result<(), FilterError> {
                Ok(())
            }
            fn tend(&mut self) {}
            fn capacity(&self) -> u32 {
                u32::MAX
            }
            fn status(&self) -> FilterStatus {
                FilterStatus::Off { why: String::new() }
            }
        }
        let count = u32::try_from(STEP).expect("a small number") + 3;
        let sentences = (0..count).map(|client| Sentence {
            client: std::net::Ipv4Addr::from(client).into(),
            ..sentence(1)
        });
        let (told, steps) = channel();
        let (_effects, received) = mpsc::channel(8);
        let projector = Projector::start(
            Box::new(Endless(told)),
            store(sentences.collect()),
            Arc::new(Fixed),
            received,
            Arc::new(Metrics::default()),
        );
        assert_eq!(steps.recv_timeout(PATIENCE), Ok(STEP));
        assert_eq!(steps.recv_timeout(PATIENCE), Ok(3));
        projector.stop();
    }

    #[test]
    fn goes_on_when_nobody_sends_effects_any_more() {
        let (projector, effects, changes, _) = start(vec![sentence(1)], 1);
        drop(effects);
        changes.recv_timeout(PATIENCE).expect("a second try");
        projector.stop();
    }
}
