//! A store in a directory of its own, with a clock to turn and everything it reports to.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, Effect, Evidence, Judge as _, List, Lists, Origin, Policy, Seed, ServerMark, Spf,
    Timestamp, Verdict,
};
use greygate::store::codec::{Reader, Row};
use greygate::store::{Metrics, OpenError, Restored, Settings, Store};
use ipnet::IpNet;
use support::clock::TestClock;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// An ordinary first try.
pub(crate) const ATTEMPT: Attempt<'static> = Attempt {
    client: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    client_name: b"mail.sender.example",
    helo: b"mail.sender.example",
    reverse_path: b"s@sender.example",
    recipient: b"r@here.example",
    announced_size: 5_000,
    connected: Timestamp::NEVER,
    server: ServerMark::UNKNOWN,
    authenticated: false,
    origin: Origin::ThisHost,
    evidence: Evidence {
        blocklist: None,
        score: None,
        spf: Spf::Unknown,
    },
};

pub(crate) struct Fixture {
    pub(crate) settings: Settings,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) effects: mpsc::Receiver<Effect>,
    to_kernel: mpsc::Sender<Effect>,
    directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (to_kernel, effects) = mpsc::channel(4);
        Self {
            settings: Settings {
                directory: directory.path().join("store"),
                seed_file: directory.path().join("store").join("seed"),
                capacity: 100_000,
                ..Settings::default()
            },
            policy: Arc::default(),
            clock: Arc::default(),
            metrics: Arc::default(),
            effects,
            to_kernel,
            directory,
        }
    }

    pub(crate) fn with_policy(policy: Policy) -> Self {
        let fixture = Self::new();
        fixture.policy.store(Arc::new(policy));
        fixture
    }

    /// One whose keys are the same in each run: which networks look the same to a pair depends on the
    /// seed.
    pub(crate) fn with_known_seed(policy: Policy) -> Self {
        let mut fixture = Self::with_policy(policy);
        let file = fixture.directory.path().join("seed");
        let seed: [u8; Seed::LENGTH] = std::array::from_fn(|at| at.to_le_bytes()[0]);
        fs::write(&file, seed).expect("the directory is writable");
        fixture.settings.seed_file = file;
        fixture
    }

    pub(crate) fn try_open(&self) -> Result<(Store, Restored), OpenError> {
        Store::open(
            self.settings.clone(),
            Arc::clone(&self.policy),
            self.to_kernel.clone(),
            Arc::clone(&self.metrics),
            self.clock.now(),
        )
    }

    pub(crate) fn open(&self) -> Store {
        self.try_open().expect("the directory is writable").0
    }

    pub(crate) fn judge(&self, store: &Store, attempt: &Attempt<'_>) -> Verdict {
        store.judge(attempt, self.clock.now()).verdict
    }

    pub(crate) fn wait_seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn wait_hours(&self, hours: u64) {
        self.clock.advance(Duration::from_hours(hours));
    }

    pub(crate) fn wait_minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_mins(minutes));
    }

    /// Watches for as long as it takes until offences are judged and blocks carried out.
    pub(crate) fn warm_up(&self) {
        let punish = &self.policy.load().punish;
        self.clock.advance(punish.warmup.max(punish.grace));
    }

    /// The file that the latest snapshot is in.
    pub(crate) fn snapshot_file(&self) -> PathBuf {
        self.settings.directory.join("snapshot")
    }

    /// Everything the store remembers, by way of a snapshot.
    pub(crate) fn rows(&self, store: &Store) -> Vec<Row> {
        let report = store.snapshot(self.clock.now()).expect("it is writable");
        let bytes = fs::read(report.file).expect("it was written");
        let mut rows = Vec::new();
        Reader::begin(&bytes[..])
            .and_then(|reader| reader.for_each(|row| rows.push(row)))
            .expect("it is whole");
        rows
    }

    /// The same without reverse-paths and recipients, of which one goes with each pending tuple.
    pub(crate) fn rows_but_pairs(&self, store: &Store) -> Vec<Row> {
        let mut rows = self.rows(store);
        rows.retain(|row| !matches!(row, Row::Pair(..)));
        rows
    }
}

/// Defers `attempt` and lets its retry pass, as an honest sender has it done.
pub(crate) fn pass_once(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) {
    let first = fixture.judge(store, attempt);
    // A bounce is not refused before its message was read.
    let waits = matches!(first, Verdict::Defer(_) | Verdict::Read(_));
    assert!(waits, "{first:?}");
    fixture.wait_minutes(5);
    let retry = fixture.judge(store, attempt);
    assert!(matches!(retry, Verdict::Pass(_)), "{retry:?}");
}

/// Lists of these networks, and of nobody else.
pub(crate) fn listing<const A: usize, const L: usize>(
    allow: [&str; A],
    local: [&str; L],
) -> Arc<Lists> {
    let list = |networks: &[&str]| -> List {
        let networks = networks.iter().map(|it| it.parse().expect("a network"));
        networks.collect::<Vec<IpNet>>().into_iter().collect()
    };
    Arc::new(Lists {
        allow: list(&allow),
        local: list(&local),
        ..Lists::default()
    })
}
