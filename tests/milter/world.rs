//! A server to talk to, its clock, and a judge simple enough to know by heart.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use greygate::{
    clock::Clock as _,
    dns::{self, Dns},
    milter::{Endpoint, Metrics, Server, Settings},
    policy::{
        Attempt, DeferReason, Judge, Judgement, MessageHasher, PassReason, Peers, Policy, Seed,
        Timestamp, Verdict,
    },
    store::{self, Store},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use support::{clock::TestClock, mta::Mta};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The client of most tests.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// How long the table judge lets a tuple wait.
pub(crate) const DELAY: Duration = Duration::from_mins(3);

/// A running server. Its TCP endpoint is the first, its Unix socket the second.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) table: Arc<Table>,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    dns: Option<Arc<Dns>>,
    registry: Registry,
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// A world whose settings were changed.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::under(Policy::default(), change)
    }

    pub(crate) fn under(policy: Policy, change: impl FnOnce(&mut Settings)) -> Self {
        Self::judged(policy, change, |_, table| table)
    }

    /// A world with a memory: the store judges.
    pub(crate) fn remembering(policy: Policy, change: impl FnOnce(&mut Settings)) -> Self {
        Self::judged(policy, change, remember)
    }

    /// A world with a memory that asks about its clients.
    pub(crate) fn asking(mut policy: Policy, settings: dns::Settings) -> Self {
        let count = |zones: &[dns::Zone]| u8::try_from(zones.len()).expect("a few");
        policy.evidence.blocklists = count(&settings.blocklists);
        policy.evidence.allowlists = count(&settings.allowlists);
        Self::asking_or_not(policy, Some(settings), None, |_| (), remember)
    }

    /// A world with one worker whose sessions ask other hosts.
    pub(crate) fn sharing(peers: Arc<dyn Peers>) -> Self {
        let one_worker = |settings: &mut Settings| settings.workers = 1;
        Self::asking_or_not(
            Policy::default(),
            None,
            Some(peers),
            one_worker,
            |_, table| table,
        )
    }

    fn judged(
        policy: Policy,
        change: impl FnOnce(&mut Settings),
        judge: impl FnOnce(Memory<'_>, Arc<Table>) -> Arc<dyn Judge>,
    ) -> Self {
        Self::asking_or_not(policy, None, None, change, judge)
    }

    fn asking_or_not(
        policy: Policy,
        asking: Option<dns::Settings>,
        peers: Option<Arc<dyn Peers>>,
        change: impl FnOnce(&mut Settings),
        judge: impl FnOnce(Memory<'_>, Arc<Table>) -> Arc<dyn Judge>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("milter.sock");
        let mut settings = Settings {
            listen: vec![
                Endpoint::Inet(([127, 0, 0, 1], 0).into()),
                Endpoint::Unix(socket),
            ],
            workers: 2,
            host: "mx.example".to_owned(),
            ..Settings::default()
        };
        change(&mut settings);
        let clock = Arc::<TestClock>::default();
        let table = Arc::<Table>::default();
        let metrics = Arc::<Metrics>::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let memory = Memory {
            directory: directory.path(),
            policy: Arc::clone(&policy),
            now: clock.now(),
        };
        let judge = judge(memory, Arc::clone(&table));
        let counted = dns::Metrics::default();
        counted.register(&mut registry);
        let dns = asking.map(|settings| Arc::new(Dns::new(settings, counted)));
        if let Some(dns) = &dns {
            dns.wake().expect("a thread");
        }
        let server = Server::bind(&settings)
            .map(|bound| match &dns {
                Some(dns) => bound.asking(Arc::clone(dns) as _),
                None => bound,
            })
            .and_then(|bound| {
                bound.sharing(peers).serve(
                    Arc::clone(&policy),
                    judge,
                    Arc::clone(&clock) as _,
                    metrics,
                )
            })
            .expect("a server");
        Self {
            server,
            clock,
            table,
            policy,
            dns,
            registry,
            directory,
        }
    }

    /// Who is asked about clients.
    pub(crate) fn dns(&self) -> &Dns {
        self.dns.as_deref().expect("a world that asks")
    }

    /// Waits until the source of that kind is up or down.
    pub(crate) fn wait_for_source(&self, kind: &str, is_up: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let stands = |it: &dns::Standing| {
            it.kind == kind && it.is_up == is_up && (is_up || !it.why.is_empty())
        };
        while !self.dns().standings().iter().any(stands) {
            let found = self.dns().standings();
            assert!(Instant::now() < deadline, "{kind}: {found:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so much is complained of.
    pub(crate) fn wait_for_complaints(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.dns().complaints().len() < count {
            let found = self.dns().complaints();
            assert!(Instant::now() < deadline, "{count}: {found:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn inet(&self) -> &Endpoint {
        &self.server.endpoints()[0]
    }

    pub(crate) fn unix(&self) -> &Endpoint {
        &self.server.endpoints()[1]
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A session at the point where a client has said HELO.
    pub(crate) fn session(&self) -> Mta {
        Mta::open(self.inet(), CLIENT).expect("a session")
    }

    /// What a metric says now; 0 while it says nothing. `name` is the line up to the value.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text can be written");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric says `value`.
    pub(crate) fn wait_for_metric(&self, name: &str, value: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.metric(name) != value {
            let found = self.metric(name);
            assert!(
                Instant::now() < deadline,
                "{name} is {found}, expected {value}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The store as a judge.
fn remember(memory: Memory<'_>, _: Arc<Table>) -> Arc<dyn Judge> {
    let settings = store::Settings {
        directory: memory.directory.join("store"),
        seed_file: memory.directory.join("seed"),
        capacity: 10_000,
        ..store::Settings::default()
    };
    // Nobody is sentenced in these stories.
    let (to_kernel, _) = mpsc::channel(1);
    let (store, _) = Store::open(
        settings,
        memory.policy,
        to_kernel,
        Arc::default(),
        memory.now,
    )
    .expect("a store");
    Arc::new(store)
}

/// What a store is opened with.
struct Memory<'a> {
    directory: &'a Path,
    policy: Arc<ArcSwap<Policy>>,
    now: Timestamp,
}

/// A greylist of one rule: a tuple passes once [`DELAY`] has gone by. Recipients `known@…` always
/// pass, and so does who has logged in; at `panic@…` the judge falls over, and at `slow@…` it waits
/// at the gate. Recipients `read@…` want the content of their message.
#[derive(Default)]
pub(crate) struct Table {
    /// Held by a test that wants the judge to wait.
    pub(crate) gate: Mutex<()>,
    first_seen: Mutex<HashMap<String, Timestamp>>,
    told: Mutex<HashMap<String, Verdict>>,
    /// Clients that have been sentenced since they were judged.
    sentenced: AtomicBool,
    heard: Mutex<Vec<String>>,
}

impl Table {
    /// Says the verdict on a recipient beforehand.
    pub(crate) fn tell(&self, recipient: &str, verdict: Verdict) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(recipient.to_owned(), verdict);
    }

    /// From now on, whoever has a message under way has been sentenced.
    pub(crate) fn sentence(&self) {
        self.sentenced.store(true, Ordering::SeqCst);
    }

    /// What it heard beside the attempts: `content` of a message and `rejected` recipients.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hear(&self, what: &str, attempt: &Attempt<'_>) {
        let from = String::from_utf8_lossy(attempt.reverse_path);
        let to = String::from_utf8_lossy(attempt.recipient);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(format!("{what} <{from}> {to}"));
    }

    /// Tuples seen, in order of their names.
    pub(crate) fn seen(&self) -> Vec<String> {
        let first_seen = self
            .first_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<_> = first_seen.keys().cloned().collect();
        seen.sort();
        seen
    }
}

impl Judge for Table {
    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Judgement {
        Judgement {
            wants_content: attempt.recipient.starts_with(b"read@"),
            ..self.verdict(attempt, now).into()
        }
    }

    fn turns_away(&self, _: &Attempt<'_>, _: Timestamp) -> bool {
        self.sentenced.load(Ordering::SeqCst)
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        Verdict::Defer(DeferReason::ContentNew).into()
    }

    fn note_held(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content_pass(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content(&self, attempt: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {
        self.hear("content", attempt);
    }

    fn note_rejected(&self, attempt: &Attempt<'_>, _: Timestamp) {
        self.hear("rejected", attempt);
    }
}

impl Table {
    fn verdict(&self, attempt: &Attempt<'_>, now: Timestamp) -> Verdict {
        let from = String::from_utf8_lossy(attempt.reverse_path);
        let to = String::from_utf8_lossy(attempt.recipient);
        assert!(!to.starts_with("panic@"), "a judge that falls over");
        if to.starts_with("slow@") {
            drop(self.gate.lock());
        }
        if attempt.authenticated {
            return Verdict::Pass(PassReason::Authenticated);
        }
        if to.starts_with("known@") {
            return Verdict::Pass(PassReason::Passed);
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = told.get(to.as_ref()) {
            return *verdict;
        }
        drop(told);
        let tuple = format!("{} <{from}> {to}", attempt.client);
        let mut first_seen = self
            .first_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = now.since(*first_seen.entry(tuple).or_insert(now));
        if waited.is_zero() {
            Verdict::Defer(DeferReason::New)
        } else if waited < DELAY {
            let left = DELAY.saturating_sub(waited);
            Verdict::Defer(DeferReason::Early { left })
        } else {
            Verdict::Pass(PassReason::Waited { waited })
        }
    }
}
