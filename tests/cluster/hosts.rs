//! Hosts of one site in this process: each with a store, rules and a cluster thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use greygate::clock::Clock as _;
use greygate::cluster::{Cluster, Lists, Metrics, Server, Settings, Standing, State};
use greygate::policy::{
    Attempt, DeferReason, Effect, Evidence, History, Judge as _, ListOrder, Offence, Origin,
    Peers as _, Persistence, Policy, Seed, Sentence, SentenceLevel, SentenceReason,
    SentencedClient, ServerMark, SharedKey, Spf, Timestamp, TupleKey, Verdict,
};
use greygate::store::codec::Row;
use greygate::store::{self, Keeper, Shared, Store};
use support::clock::TestClock;
use support::interrupt;
use tokio::sync::mpsc;

use crate::engine::{Engine, PORT, equipment};

/// Plays a test where the engine is on loopback.
pub(crate) fn play(test: impl FnOnce(&Engine, &Site) + Send) {
    equipment().expect("the suite's needs are installed");
    let engine = Engine::start(&[]);
    engine.with(|| test(&engine, &Site::new()));
}

/// An ordinary first try.
pub(crate) const ATTEMPT: Attempt<'static> = Attempt {
    client: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
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

/// Another mail of its sender.
pub(crate) const OTHER: Attempt<'static> = Attempt {
    recipient: b"other@here.example",
    ..ATTEMPT
};

/// A host.
pub(crate) struct Host {
    pub(crate) store: Arc<Store>,
    pub(crate) cluster: Cluster,
    pub(crate) metrics: Metrics,
    pub(crate) effects: mpsc::Receiver<Effect>,
    clock: Arc<TestClock>,
    /// Of one with a disk.
    _keeper: Option<Keeper>,
}

/// What hosts have in common.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) settings: Settings,
    seed: [u8; Seed::LENGTH],
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            clock: Arc::default(),
            policy: Arc::default(),
            settings: Settings {
                servers: vec![Server {
                    host: "127.0.0.1".to_owned(),
                    port: PORT,
                }],
                // Twenty milliseconds are at times no time at all on a machine that runs tests.
                budget: Duration::from_millis(200),
                ..Settings::default()
            },
            seed: SEED,
        }
    }

    /// The same with other keys.
    pub(crate) fn with_another_seed(&self) -> Self {
        Self {
            seed: counted_from(1),
            ..self.clone()
        }
    }

    /// The same by a clock of its own, which is ahead.
    pub(crate) fn ahead_by(&self, difference: Duration) -> Self {
        let clock = Arc::<TestClock>::default();
        clock.advance(self.clock.now().since(TestClock::START) + difference);
        Self {
            clock,
            ..self.clone()
        }
    }

    /// Starts a host, where the engine is on loopback.
    pub(crate) fn host(&self, node: &str) -> Host {
        let (sender, effects) = mpsc::channel(64);
        let store = Store::in_memory(
            Self::remembering(),
            Seed::from_bytes(self.seed),
            Arc::clone(&self.policy),
            sender,
            Arc::default(),
            History {
                begun: Timestamp::from_millis(1),
            },
        );
        self.join(node, Arc::new(store), effects, None)
    }

    /// The same with a disk: what lies under `directory` is remembered.
    pub(crate) fn host_on(&self, node: &str, directory: &Path) -> Host {
        let settings = store::Settings {
            directory: directory.to_owned(),
            seed_file: directory.join("seed"),
            ..Self::remembering()
        };
        if !settings.seed_file.exists() {
            store::install_seed(&settings.seed_file, &self.seed).expect("the directory is ours");
        }
        let (sender, effects) = mpsc::channel(64);
        let opened = Store::open(
            settings,
            Arc::clone(&self.policy),
            sender,
            Arc::default(),
            self.clock.now(),
        );
        let (store, _found) = opened.expect("the directory is ours");
        let store = Arc::new(store);
        let keeper = Keeper::start(Arc::clone(&store), Arc::clone(&self.clock) as _);
        let keeper = keeper.expect("threads can be had");
        self.join(node, store, effects, Some(keeper))
    }

    fn join(
        &self,
        node: &str,
        store: Arc<Store>,
        effects: mpsc::Receiver<Effect>,
        keeper: Option<Keeper>,
    ) -> Host {
        let metrics = Metrics::default();
        let settings = Settings {
            node: node.to_owned(),
            ..self.settings.clone()
        };
        let cluster = Cluster::start(
            settings,
            metrics.clone(),
            Arc::clone(&store),
            Arc::new(NoLists),
            Arc::clone(&self.policy),
            Arc::clone(&self.clock) as _,
        );
        Host {
            store,
            cluster: cluster.expect("threads can be had"),
            metrics,
            effects,
            clock: Arc::clone(&self.clock),
            _keeper: keeper,
        }
    }

    fn remembering() -> store::Settings {
        store::Settings {
            capacity: 100_000,
            shares: true,
            ..store::Settings::default()
        }
    }

    /// Starts several that share by the time that this returns.
    pub(crate) fn hosts<const N: usize>(&self) -> [Host; N] {
        let mut number = 0;
        let hosts = std::array::from_fn(|_| {
            number += 1;
            self.host(&format!("mx{number}"))
        });
        for host in &hosts {
            host.wait_until_it_shares();
        }
        hosts
    }
}

impl Host {
    /// Judges an attempt as a session does: what is missing is asked for first.
    pub(crate) fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        self.recall(attempt);
        self.judge_alone(attempt)
    }

    /// Judges an attempt by what is known here.
    pub(crate) fn judge_alone(&self, attempt: &Attempt<'_>) -> Verdict {
        self.store.judge(attempt, self.clock.now()).verdict
    }

    /// When the one tuple that is held here was first seen.
    pub(crate) fn first_seen(&self) -> Option<Timestamp> {
        let mut first_seen = None;
        self.store
            .for_each_asked(Timestamp::NEVER, self.clock.now(), |shared| {
                if let Shared::Row(Row::Tuple(_, record)) = shared {
                    first_seen = Some(record.first_seen);
                }
            });
        first_seen
    }

    /// The key of the one tuple that is held here.
    pub(crate) fn tuple_key(&self) -> TupleKey {
        let mut found = None;
        self.store
            .for_each_asked(Timestamp::NEVER, TestClock::START, |shared| {
                if let Shared::Row(Row::Tuple(key, _)) = shared {
                    found = Some(key);
                }
            });
        found.expect("a tuple is held")
    }

    /// Whether the tuple of an attempt is known here, or the engine knows it.
    pub(crate) fn knows(&self, attempt: &Attempt<'_>) -> bool {
        self.recall(attempt);
        self.missing_tuple(attempt).is_none()
    }

    /// The key of the tuple of an attempt, if it is not known here.
    pub(crate) fn missing_tuple(&self, attempt: &Attempt<'_>) -> Option<SharedKey> {
        let missing = self.cluster.missing(attempt, self.clock.now());
        missing
            .into_iter()
            .find(|it| matches!(it, SharedKey::Tuple(_)))
    }

    /// Asks for what is missing here, and waits for the answer.
    fn recall(&self, attempt: &Attempt<'_>) {
        let missing = self.cluster.missing(attempt, self.clock.now());
        if missing.is_empty() {
            return;
        }
        let (tell, told) = std_mpsc::channel();
        let tell = move || {
            let _ = tell.send(());
        };
        self.cluster.ask(missing, Box::new(tell));
        let told = told.recv_timeout(self.cluster.budget() + LEEWAY);
        told.expect("whoever asks is always told");
    }

    pub(crate) fn wait_until_it_shares(&self) {
        self.wait_until("it shares", |it| {
            it.state == State::Sharing && it.circuit_closed
        });
    }

    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Standing) -> bool) {
        let waited = interrupt::wait_for(what, PATIENCE, || {
            Ok(is_so(&self.cluster.standing()).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}: {:?}", self.cluster.standing()));
    }
}

/// A sentence that a host of `site` gives now.
pub(crate) fn block(site: &Site, client: SentencedClient) -> Sentence {
    let now = site.clock.now();
    Sentence {
        client,
        level: SentenceLevel::Block,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since: now,
        until: now.after(Duration::from_hours(1)),
        persistence: Persistence::default(),
    }
}

/// Whether anybody is sentenced at a host of `site`.
pub(crate) fn is_sentenced(host: &Host, site: &Site) -> bool {
    !host.store.sentences(site.clock.now()).is_empty()
}

/// The client of [`ATTEMPT`].
pub(crate) fn client() -> SentencedClient {
    SentencedClient::of(ATTEMPT.client)
}

pub(crate) fn is_new(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Defer(DeferReason::New))
}

/// A host whose lists no order changes: these are the daemon's, and tried with it.
#[derive(Debug)]
struct NoLists;

impl Lists for NoLists {
    fn take_changes(&self) -> Vec<ListOrder> {
        Vec::new()
    }

    fn all(&self) -> Vec<ListOrder> {
        Vec::new()
    }

    fn hear(&self, _order: ListOrder) -> bool {
        true
    }

    fn takes_lack(&self) -> bool {
        false
    }
}

/// Bytes that are random enough.
const fn counted_from(first: u8) -> [u8; Seed::LENGTH] {
    let mut seed = [first; Seed::LENGTH];
    let mut index = 1;
    while index < Seed::LENGTH {
        seed[index] = seed[index - 1].wrapping_add(1);
        index += 1;
    }
    seed
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = interrupt::wait_for(what, PATIENCE, || Ok(is_so().then_some(())));
    waited.unwrap_or_else(|error| panic!("{error}"));
}

/// What keys are made with.
pub(crate) const SEED: [u8; Seed::LENGTH] = counted_from(0);
/// What a busy machine takes for nothing.
const LEEWAY: Duration = Duration::from_secs(30);
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
