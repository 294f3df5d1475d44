//! The store: what is remembered, in memory for the milter path and on disk against a restart.
//!
//! Runs the policy inside the lock of the entry that a decision concerns, so look-up and update are
//! one step. Knows tables, files and the order of precedence's look-ups; leaves what an attempt
//! deserves to `policy`, the wire to `milter` and the kernel's tables to `kernel`, which it tells
//! of sentences through a channel that may lose them.
//!
//! The milter path takes one or two shard locks for well under a microsecond each and never waits
//! for the disk, the kernel or a walk through the tables. What happens where there is no room, `shed`
//! says of tuples, and each table of itself.
//!
//! What changes is in a journal on the disk within a second, see `journal`.
//!
//! Log words: `struck`, `would-strike`, `punished`, `would-punish`, `forgiven`, `bad-reputation`,
//! `caught`, `would-catch`, `store-has-room` and `contents-have-room` (info), `spared`, `lengthened`,
//! `restoring` (info), `snapshot`, `snapshot-given-up` and `still-locked` (debug), `snapshot-failed`, `set-aside`, `store-full`,
//! `contents-full`, `open-directory` and `open-seed` (warn).

mod changes;
mod clients;
pub mod codec;
mod contents;
mod discard;
mod explain;
mod failures;
mod forget;
mod hops;
mod import;
pub mod journal;
mod judge;
mod keeper;
mod kept;
mod listing;
mod loading;
mod lock;
mod memory;
mod metrics;
mod pace;
mod pairs;
mod pardons;
mod persist;
mod places;
mod reading;
mod reputations;
mod restored;
mod scribe;
mod seed;
mod sentences;
mod share;
mod shares;
mod shed;
mod snapshot;
mod strikes;
mod sweep;
mod table;
mod traces;
mod trust;
mod waits;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::log::STRANGERS;
use crate::policy::{
    Effect, History, Policy, Record, Seed, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, Timestamp, TrustKey, TrustRecord, TupleKey,
};

pub use crate::policy::SharedKey;
use clients::Clients;
use contents::Contents;
pub use discard::{discard, install_seed};
pub use explain::{
    CoveringSentence, Explanation, ListName, MailStanding, NetworkStanding, OwnPolicy, Question,
};
use failures::Failures;
pub use forget::{ForgivenMail, ForgivenMails, ForgottenKind};
use hops::Hops;
pub use import::{Arrival, Imported};
use journal::Journal;
pub use journal::{JournalMode, JournalStanding};
pub use keeper::Keeper;
use kept::KeptTables;
pub use kept::{Kept, KeptOf};
pub use listing::{Listed, ListedClient, ListedRecord, Pick};
use lock::{Lock, Locked};
pub use metrics::{Metrics, Shed};
use pace::Urgency;
use pairs::Pairs;
pub use pardons::Pardon;
use pardons::Pardons;
use reputations::Reputations;
pub use restored::Restored;
pub use seed::SeedError;
use sentences::{Given, Sentences};
use share::Outbox;
pub use share::{Absorbed, Shared, SharedSentence};
use shares::Shares;
pub use snapshot::{SetAside, SnapshotError, SnapshotReport, latest as latest_snapshot};
pub use strikes::Forgiven;
pub use sweep::Sweeper;
use table::Table;
use traces::Traces;
pub use waits::{LockTally, LockWaits};

/// Where the store keeps its files, and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory of the snapshots; made with mode 0700 if it does not exist.
    pub directory: PathBuf,
    /// The secret that keys are made with; made with mode 0600 if it does not exist. Default
    /// `seed` in the directory.
    pub seed_file: PathBuf,
    /// Most tuples held at once, with a reverse-path and recipient for each that is pending, and most
    /// records of trust. Default 4,000,000: a day's window at 46 new tuples a second, and 300 MB and
    /// 90 MB when full, beside up to 380 MB of trust once as many senders have earned some.
    pub capacity: usize,
    /// Most sentences held at once. Default 1,000,000: several times what the kernel's tables hold at
    /// their default, and some 200 MB when full.
    pub sentences: usize,
    /// Most client addresses of which strikes or AUTH are remembered, and most client networks of
    /// which a reputation is. Default 1,000,000: some 200 MB when full.
    pub clients: usize,
    /// Most fingerprints of messages held at once. Default 1,000,000: up to 95 MB when full.
    pub contents: usize,
    /// Most of them that one client network may begin. Default 10,000, a hundredth: from where half
    /// of the room is taken it is the less the fuller the table is.
    pub contents_per_network: u32,
    /// Longest time that the fingerprint of a message is held after it has lapsed. Default 1 h.
    pub contents_sweep: Duration,
    /// Whether addresses are kept in clear beside the records whose keys are hashes. Default no: some
    /// 200 bytes a record, and personal data in memory and on disk.
    pub keep_addresses: bool,
    /// When changes are written to the journal: what a crash may lose. Default within a second.
    pub journal: JournalMode,
    /// Time from one snapshot to the next: what a crash may lose where there is no journal, and how much
    /// of it a start has to read. Default 5 min.
    pub snapshot_interval: Duration,
    /// Bytes a second that a periodic snapshot is written at; 0 is as many as the disk takes. Default
    /// 32 MiB: 12 s of a full store of 4,000,000 tuples, and a twentieth of a core.
    pub snapshot_rate: u64,
    /// Attempts from one slice of the sweep to the next. Default 1,500.
    pub sweep_messages: u32,
    /// Longest time from one slice of the sweep to the next. Default 12 h.
    pub sweep_interval: Duration,
    /// Whether other hosts of the site are told what changes. Default false.
    pub shares: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/greygate"),
            seed_file: PathBuf::from("/var/lib/greygate/seed"),
            capacity: 4_000_000,
            sentences: 1_000_000,
            clients: 1_000_000,
            contents: 1_000_000,
            contents_per_network: 10_000,
            contents_sweep: Duration::from_hours(1),
            keep_addresses: false,
            journal: JournalMode::Second,
            snapshot_interval: Duration::from_mins(5),
            snapshot_rate: 32 << 20,
            sweep_messages: 1_500,
            sweep_interval: Duration::from_hours(12),
            shares: false,
        }
    }
}

/// Everything that is remembered.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    policy: Arc<ArcSwap<Policy>>,
    seed: Seed,
    tuples: Table<TupleKey, Record>,
    /// Who began the newest tuples, while room is short.
    shares: Shares,
    /// What is left of tuples that found no room.
    traces: Traces,
    trust: Table<TrustKey, TrustRecord>,
    sentences: Sentences,
    clients: Clients,
    reputations: Reputations,
    hops: Hops,
    failures: Failures,
    contents: Contents,
    pairs: Pairs,
    /// Addresses in clear, if they are kept.
    kept: Option<KeptTables>,
    /// When clients were forgiven.
    pardons: Pardons,
    /// What other hosts are to hear of, if there are any.
    outbox: Option<Outbox>,
    /// Since when there is a history, in milliseconds.
    begun: AtomicU64,
    effects: mpsc::Sender<Effect>,
    metrics: Arc<Metrics>,
    /// Attempts judged, for the sweep.
    judged: AtomicU64,
    /// One snapshot is written at a time.
    writing: Mutex<()>,
    /// Who waits for one.
    urgency: Urgency,
    /// When the latest was taken, in milliseconds; 0 if none was.
    last_snapshot: AtomicU64,
    /// Addresses were found on disk that are not to be kept any more: no file of before may stay.
    drops_addresses: AtomicBool,
    /// What has changed since the snapshot; [`None`] of a store that has no directory.
    journal: Option<Journal>,
    /// Keeps others out of the directory; [`None`] of a store that has none.
    lock: Option<Lock>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or used.
    #[error("cannot use the store's directory {}{}", path.display(), if_forbidden(source))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("the store in {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is no usable seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A journal that belongs to somebody else.
    #[error("may not read the journal {}; give it to the user that greygate runs as (chown)", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A snapshot that belongs to somebody else, as after a run as root.
    #[error("may not read the snapshot {}; give it to the user that greygate runs as (chown)", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What mends a directory that may not be used.
fn if_forbidden(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give it to the user that greygate runs as (chown): not even root keeps a right over \
             the files of others"
        }
        _ => "",
    }
}

/// What the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Census {
    /// Tuples, pending and passed.
    pub tuples: usize,
    /// Most tuples it may hold.
    pub capacity: usize,
    /// Senders that have earned trust or are earning it.
    pub trusted: usize,
    /// Sentences, some of which may have ended since the last sweep.
    pub sentences: usize,
    /// Most sentences it may hold.
    pub sentence_capacity: usize,
    /// Client addresses of which strikes or AUTH are remembered.
    pub clients: usize,
    /// Most of them that may be.
    pub client_capacity: usize,
    /// Client networks with a reputation.
    pub reputations: usize,
    /// HELO arguments remembered for relay hopping.
    pub hopping_helos: usize,
    /// Fingerprints of messages.
    pub contents: usize,
    /// Most of them that may be held.
    pub content_capacity: usize,
    /// Reverse-paths and recipients of which mail is pending.
    pub pairs: usize,
    /// Records whose addresses are kept.
    pub addresses: usize,
    /// Bytes that these take.
    pub address_bytes: u64,
    /// When the latest snapshot was taken, in milliseconds since the Unix epoch; [`None`] if none
    /// was found or taken.
    pub last_snapshot: Option<u64>,
}

impl Store {
    /// Opens the store and restores what the latest usable snapshot holds, and the journals since.
    ///
    /// # Errors
    ///
    /// Only what an operator must mend: a directory that cannot be used, or a seed. A damaged
    /// snapshot or journal is no error; it is set aside, and [`Restored`] says so.
    pub fn open(
        settings: Settings,
        policy: Arc<ArcSwap<Policy>>,
        effects: mpsc::Sender<Effect>,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Result<(Self, Restored), OpenError> {
        let directory = &settings.directory;
        let unusable = |source| OpenError::Directory {
            path: directory.clone(),
            source,
        };
        snapshot::prepare(directory).map_err(unusable)?;
        let lock = Lock::take(directory).map_err(|locked| match locked {
            Locked::Out => OpenError::InUse {
                path: directory.clone(),
            },
            Locked::Not(source) => unusable(source),
        })?;
        let seed = seed::read_or_create(&settings.seed_file)?;
        let history = History { begun: now };
        let mut store = Self::empty(
            settings,
            seed,
            policy,
            effects,
            metrics,
            history,
            Some(lock),
        );
        let (mut restored, header) = store.restore(now)?;
        store.resume_journal(header.as_ref(), now, &mut restored)?;
        store.open_outbox();
        store.show_sizes();
        Ok((store, restored))
    }

    /// A store that lives in memory alone: it takes no lock, reads and writes no file, and has nothing
    /// to restore. The bounds of `settings` hold, its paths are not looked at, and it takes the memory
    /// of what it holds: nobody waits for a table that grows. It has watched since `history` begins.
    pub fn in_memory(
        settings: Settings,
        seed: Seed,
        policy: Arc<ArcSwap<Policy>>,
        effects: mpsc::Sender<Effect>,
        metrics: Arc<Metrics>,
        history: History,
    ) -> Self {
        let mut store = Self::empty(settings, seed, policy, effects, metrics, history, None);
        store.open_outbox();
        store
    }

    fn empty(
        settings: Settings,
        seed: Seed,
        policy: Arc<ArcSwap<Policy>>,
        effects: mpsc::Sender<Effect>,
        metrics: Arc<Metrics>,
        history: History,
        lock: Option<Lock>,
    ) -> Self {
        // Keys are scattered, so that few entries touch every page of a table that is reserved.
        let (tuples, pairs) = match &lock {
            Some(_) => (
                Table::reserved(settings.capacity),
                Pairs::reserved(settings.capacity),
            ),
            None => (
                Table::growing(settings.capacity),
                Pairs::growing(settings.capacity),
            ),
        };
        Self {
            seed,
            tuples,
            shares: Shares::new(),
            traces: Traces::beside(settings.capacity, metrics.traces_replaced.clone()),
            trust: Table::growing(settings.capacity),
            sentences: Sentences::growing(settings.sentences),
            clients: Clients::growing(settings.clients),
            reputations: Reputations::growing(settings.clients, Arc::clone(&metrics)),
            hops: Hops::new(Arc::clone(&metrics)),
            contents: Contents::growing(
                settings.contents,
                settings.contents_per_network,
                metrics.contents_given_up.clone(),
            ),
            pairs,
            kept: settings
                .keep_addresses
                .then(|| KeptTables::growing(&settings, metrics.addresses_unkept.clone())),
            failures: Failures::new(metrics.failures_unrecorded.clone()),
            pardons: Pardons::growing(settings.sentences, metrics.pardons_given_up.clone()),
            outbox: None,
            begun: AtomicU64::new(history.begun.as_millis()),
            judged: AtomicU64::new(0),
            writing: Mutex::new(()),
            urgency: Urgency::default(),
            last_snapshot: AtomicU64::new(0),
            drops_addresses: AtomicBool::new(false),
            journal: lock
                .is_some()
                .then(|| Journal::new(settings.journal, &metrics)),
            settings,
            policy,
            effects,
            metrics,
            lock,
        }
    }

    /// Gives a sentence: an operator's, whatever the client's standing.
    ///
    /// One that is in force becomes one with it ([`Sentence::merge`]). Returns the client's sentence as
    /// it is now; [`None`] if there is no room for one more.
    pub fn punish(&self, sentence: Sentence) -> Option<Sentence> {
        let (given, is_new) = match self.sentences.give(sentence) {
            Given::New(given) => (given, true),
            Given::Renewed(given) => (given, false),
            Given::Full => {
                self.metrics.sentences_unrecorded.inc();
                return None;
            }
        };
        let policy = self.policy.load();
        let upheld = policy.uphold(given, self.history(), sentence.since);
        if is_new {
            self.note_given(given, upheld, sentence.since);
        }
        if let Some(upheld) = upheld {
            self.tell(Effect::Punish(upheld));
        }
        // Lifted since it was given, and told so before us: the last word must be the mild one.
        if !self.sentences.holds(given.client) {
            self.tell(Effect::Forgive(given.client));
        }
        Some(given)
    }

    /// Counts and logs that `given` was given at `now`, and what the rules leave of it.
    fn note_given(&self, given: Sentence, upheld: Option<Sentence>, now: Timestamp) {
        let is_observed =
            given.level == SentenceLevel::Observe && given.reason != SentenceReason::Operator;
        let is_softened = is_observed || upheld.is_none_or(|it| it.level != given.level);
        self.metrics.sentences_given.inc();
        self.metrics.sentences_observed.inc_by(is_softened.into());
        let client = given.client;
        let level = given.level.as_str();
        let reason = given.reason.as_str();
        let seconds = given.until.since(now).as_secs();
        if is_softened {
            tracing::info!(name: "would-punish", target: STRANGERS, %client, level, reason, seconds, "would-punish");
        } else {
            tracing::info!(name: "punished", target: STRANGERS, %client, level, reason, seconds, "punished");
        }
    }

    /// Hears where the kernel's counters of sentenced clients stand. Those of `readings` that go on
    /// knocking are sentenced for longer, once, if they were `dropped`; otherwise it is only noted.
    pub fn heed(
        &self,
        readings: impl IntoIterator<Item = (SentencedClient, u64)>,
        dropped: bool,
        now: Timestamp,
    ) {
        let policy = self.policy.load();
        let history = self.history();
        for (client, counter) in readings {
            let policy = dropped.then_some(&**policy);
            if let Some(longer) = self.sentences.heed(policy, history, client, counter, now) {
                self.metrics.sentences_lengthened.inc();
                tracing::debug!(
                    client = %longer.client,
                    drops = longer.persistence.drops,
                    seconds = longer.until.since(now).as_secs(),
                    "lengthened"
                );
            }
        }
    }

    /// The sentences in force at `now`.
    pub fn sentences(&self, now: Timestamp) -> Vec<Sentence> {
        self.sentences.in_force(now)
    }

    /// How many sentences are in force at `now` and are counted by `is_counted`. Copies none: a
    /// million are a hundred megabytes.
    pub fn count_sentences(&self, now: Timestamp, is_counted: impl Fn(Sentence) -> bool) -> usize {
        self.sentences.count(now, is_counted)
    }

    /// What the store holds.
    pub fn census(&self) -> Census {
        let last_snapshot = self.last_snapshot.load(Ordering::Relaxed);
        let kept = self.kept.as_ref();
        Census {
            tuples: self.tuples.len(),
            capacity: self.tuples.capacity(),
            trusted: self.trust.len(),
            sentences: self.sentences.len(),
            sentence_capacity: self.sentences.capacity(),
            clients: self.clients.by_address.len(),
            client_capacity: self.clients.by_address.capacity(),
            reputations: self.reputations.by_network.len(),
            hopping_helos: self.hops.helos.len(),
            contents: self.contents.by_message.len(),
            content_capacity: self.contents.by_message.capacity(),
            pairs: self.pairs.by_tag.len(),
            addresses: kept.map_or(0, KeptTables::len),
            address_bytes: kept.map_or(0, KeptTables::bytes),
            last_snapshot: (last_snapshot != 0).then_some(last_snapshot),
        }
    }

    /// Since when there is a history.
    pub fn history(&self) -> History {
        History {
            begun: Timestamp::from_millis(self.begun.load(Ordering::Relaxed)),
        }
    }

    /// Since when what has changed is in journals alone, if anywhere on the disk: a daemon that never lives as
    /// long as an interval takes its snapshots all the same, or they would grow without end.
    fn kept_since(&self) -> Timestamp {
        match self.last_snapshot.load(Ordering::Relaxed) {
            0 => self.history().begun,
            taken => Timestamp::from_millis(taken),
        }
    }

    /// Attempts judged so far.
    fn judged(&self) -> u64 {
        self.judged.load(Ordering::Relaxed)
    }

    /// Sends an effect unless that would mean waiting.
    fn tell(&self, effect: Effect) {
        if self.effects.try_send(effect).is_err() {
            self.metrics.effects_lost.inc();
        }
    }

    fn note_snapshot(&self, taken: Timestamp) {
        let millis = taken.as_millis();
        self.last_snapshot.store(millis, Ordering::Relaxed);
        self.metrics.snapshot_taken.set(gauge(millis / 1_000));
    }

    /// Brings the gauges up to date.
    fn show_sizes(&self) {
        let census = self.census();
        let show = |size: usize| gauge(size as u64);
        self.metrics.tuples.set(show(census.tuples));
        self.metrics.tuple_capacity.set(show(census.capacity));
        self.metrics.trusted.set(show(census.trusted));
        let clients = self.clients.by_address.len();
        self.metrics.clients.set(show(clients));
        let networks = self.clients.by_network.len();
        self.metrics.struck_networks.set(show(networks));
        let capacity = self.clients.by_address.capacity();
        self.metrics.client_capacity.set(show(capacity));
        self.metrics.sentences.set(show(census.sentences));
        let helos = show(self.hops.helos.len());
        self.metrics.helos_remembered.set(helos);
        self.metrics
            .sentence_capacity
            .set(show(census.sentence_capacity));
        self.metrics.contents.set(show(census.contents));
        self.metrics
            .content_capacity
            .set(show(census.content_capacity));
        self.metrics.pairs.set(show(census.pairs));
        self.metrics.addresses.set(show(census.addresses));
        self.metrics.failures.set(show(self.failures.len()));
        self.reputations.show_sizes();
        self.show_journal();
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
