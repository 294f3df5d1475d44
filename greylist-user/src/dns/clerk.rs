//! The thread that asks: what waits, what is under way, what is known already.
//!
//! One question of a session becomes several, one for each source that it wants. Each of these lives on
//! its own until it is answered or given up, whoever waits for it; the session is told at its budget
//! what has come until then.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cache::{Cache, Key};
use super::metrics::Metrics;
use super::resolve::{Failure, Resolver};
use super::settings::Settings;
use super::source::{Board, Kind, Source, unusable};
use super::zone::{self, Word};
use crate::policy::{Evidence, Question, Spf, Tell, Wanted};

/// A question that waits.
pub(super) struct Asked {
    client: IpAddr,
    helo: Box<[u8]>,
    reverse_path: Box<[u8]>,
    spf_domain: Box<[u8]>,
    wanted: Wanted,
    until: Instant,
    pub(super) tell: Tell,
}

impl Asked {
    pub(super) fn new(question: &Question<'_>, until: Instant, tell: Tell) -> Self {
        Self {
            client: question.client.to_canonical(),
            helo: question.helo.into(),
            reverse_path: question.reverse_path.into(),
            spf_domain: question.spf_domain().into(),
            wanted: question.wanted,
            until,
            tell,
        }
    }
}

/// What the thread knows.
pub(super) struct Clerk {
    settings: Settings,
    metrics: Metrics,
    board: Arc<Board>,
    sources: Vec<Source>,
    resolver: RefCell<Option<Rc<Resolver>>>,
    cache: RefCell<Cache<Found>>,
    under_way: RefCell<HashMap<Key, Pending>>,
    /// Those of them that are about SPF.
    spf_under_way: Cell<usize>,
    /// Sessions that wait.
    sessions: Cell<usize>,
}

type Pending = watch::Receiver<Option<Found>>;

/// What came of one question to one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The list has the client, an allowlist with this score.
    Listed(u8),
    /// It has not.
    Unlisted,
    /// SPF passes.
    Passes,
    /// It does not.
    PassesNot,
    /// There was no answer.
    Nothing,
}

/// What a session waits for of one source.
enum Waiting {
    Known(Found),
    Pending(Pending),
}

impl Clerk {
    /// Answers questions until told to stop.
    pub(super) fn serve(
        runtime: &Runtime,
        settings: Settings,
        metrics: Metrics,
        board: Arc<Board>,
        mut queue: mpsc::Receiver<Asked>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let clerk = Rc::new(Self {
            sources: Source::all(&settings),
            resolver: RefCell::new(None),
            cache: RefCell::new(Cache::new(settings.cache)),
            under_way: RefCell::default(),
            spf_under_way: Cell::new(0),
            sessions: Cell::new(0),
            settings,
            metrics,
            board,
        });
        LocalSet::new().block_on(runtime, async move {
            for place in 0..clerk.sources.len() {
                spawn_local(Rc::clone(&clerk).watch(place));
            }
            loop {
                let asked = tokio::select! {
                    asked = queue.recv() => asked,
                    _ = &mut stopped => return,
                };
                match asked {
                    None => return,
                    Some(asked) if clerk.sessions.get() >= SESSIONS => {
                        clerk.metrics.overflow.inc();
                        (asked.tell)(Evidence::default());
                    }
                    Some(asked) => {
                        clerk.sessions.set(clerk.sessions.get() + 1);
                        spawn_local(Rc::clone(&clerk).answer(asked));
                    }
                }
            }
        });
    }

    /// Tests a source when it is due, for ever.
    async fn watch(self: Rc<Self>, place: usize) {
        let source = &self.sources[place];
        let mut pause = self.settings.pause;
        loop {
            let tested = match self.resolver() {
                Ok(resolver) => source.test(&resolver).await,
                Err(failure) => Err(failure.told()),
            };
            match tested {
                Ok(()) => {
                    source.comes_up(&self.board);
                    self.count_down();
                    pause = self.settings.pause;
                    let is_doubted = timeout(TEST_AGAIN, source.doubted.notified()).await.is_ok();
                    self.count_down();
                    if is_doubted && source.kind != Kind::Spf {
                        sleep(pause).await;
                    }
                }
                Err(why) => {
                    source.goes_down(why, &self.board);
                    self.count_down();
                    if self.settings.servers.is_empty() {
                        // The system's servers may have changed.
                        self.resolver.replace(None);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(self.settings.pause * LONGEST_PAUSE);
                }
            }
        }
    }

    fn count_down(&self) {
        let down = self.sources.iter().filter(|it| !it.is_up()).count();
        self.metrics
            .down
            .set(i64::try_from(down).unwrap_or(i64::MAX));
    }

    fn resolver(&self) -> Result<Rc<Resolver>, Failure> {
        let mut resolver = self.resolver.borrow_mut();
        if let Some(resolver) = &*resolver {
            return Ok(Rc::clone(resolver));
        }
        let new = Rc::new(Resolver::new(&self.settings)?);
        Ok(Rc::clone(resolver.insert(new)))
    }

    /// Answers one session within its time.
    async fn answer(self: Rc<Self>, asked: Asked) {
        let mut evidence = Evidence::default();
        let mut is_late = false;
        let is_wanted = if asked.wanted.blocklists {
            let lists = self.start_all(Kind::Blocklist, &asked);
            let found = hear(lists, asked.until, &mut is_late).await;
            let hit = found.iter().position(|it| matches!(it, Found::Listed(_)));
            evidence.blocklist = hit.and_then(|it| u8::try_from(it).ok());
            hit.is_some()
        } else {
            true
        };
        if is_wanted {
            let start = |kind, is_wanted| {
                if is_wanted {
                    self.start_all(kind, &asked)
                } else {
                    Vec::new()
                }
            };
            let lists = start(Kind::Allowlist, asked.wanted.allowlists);
            let spf = start(Kind::Spf, asked.wanted.spf);
            let scores = hear(lists, asked.until, &mut is_late).await;
            let score = scores.iter().filter_map(|it| match it {
                Found::Listed(score) => Some(*score),
                _ => None,
            });
            evidence.score = score.max();
            evidence.spf = match hear(spf, asked.until, &mut is_late).await.first() {
                Some(Found::Passes) => Spf::Pass,
                Some(Found::PassesNot) => Spf::NoPass,
                _ => Spf::Unknown,
            };
        }
        if is_late {
            self.metrics.late.inc();
        }
        self.sessions.set(self.sessions.get() - 1);
        (asked.tell)(evidence);
    }

    /// Sees to it that all sources of a kind are asked, as far as they need be and can be.
    fn start_all(self: &Rc<Self>, kind: Kind, asked: &Asked) -> Vec<Waiting> {
        let places = 0..self.sources.len();
        let of_kind = places.filter(|place| self.sources[*place].kind == kind);
        of_kind.map(|place| self.start(place, asked)).collect()
    }

    fn start(self: &Rc<Self>, place: usize, asked: &Asked) -> Waiting {
        let source = &self.sources[place];
        let kind = source.kind;
        let key = match kind {
            Kind::Spf => {
                let Asked {
                    client,
                    helo,
                    reverse_path,
                    ..
                } = asked;
                // A local-part may have a say, but only in its own case.
                self.cache.borrow().key((place, client, helo, reverse_path))
            }
            _ => self.cache.borrow().key((place, asked.client)),
        };
        if let Some(found) = self.cache.borrow_mut().get(key, Instant::now()) {
            Metrics::count(&self.metrics.cached, kind);
            return Waiting::Known(found);
        }
        if !source.is_up() {
            Metrics::count(&self.metrics.skipped, kind);
            return Waiting::Known(Found::Nothing);
        }
        let mut under_way = self.under_way.borrow_mut();
        if let Some(pending) = under_way.get(&key) {
            Metrics::count(&self.metrics.joined, kind);
            return Waiting::Pending(pending.clone());
        }
        // Strangers choose whose servers SPF waits for. They shall not keep the lists from being asked.
        let spf_share = self.settings.in_flight.div_ceil(2);
        let is_beyond_share = kind == Kind::Spf && self.spf_under_way.get() >= spf_share;
        if is_beyond_share || under_way.len() >= self.settings.in_flight {
            self.metrics.overflow.inc();
            return Waiting::Known(Found::Nothing);
        }
        let Ok(resolver) = self.resolver() else {
            return Waiting::Known(Found::Nothing);
        };
        Metrics::count(&self.metrics.asked, kind);
        let (tell, pending) = watch::channel(None);
        under_way.insert(key, pending.clone());
        if kind == Kind::Spf {
            self.spf_under_way.set(self.spf_under_way.get() + 1);
        }
        self.metrics.in_flight.inc();
        let unit = Unit::of(source, asked);
        let seat = Seat {
            clerk: Rc::clone(self),
            place,
            key,
            tell,
        };
        spawn_local(seat.ask(unit, resolver));
        Waiting::Pending(pending)
    }
}

/// What is asked of one source.
enum Unit {
    Addresses(String),
    Spf {
        client: IpAddr,
        helo: Option<String>,
        reverse_path: Option<String>,
    },
}

impl Unit {
    fn of(source: &Source, asked: &Asked) -> Self {
        if let Some(zone) = &source.zone {
            return Self::Addresses(zone::name_in(zone, asked.client));
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let helo = if asked.reverse_path.is_empty() {
            &asked.spf_domain
        } else {
            &asked.helo
        };
        Self::Spf {
            client: asked.client,
            helo: text(helo),
            reverse_path: text(&asked.reverse_path),
        }
    }
}

/// The seat of a question among those under way, given back however it ends.
struct Seat {
    clerk: Rc<Clerk>,
    /// Of the source.
    place: usize,
    key: Key,
    tell: watch::Sender<Option<Found>>,
}

impl Seat {
    /// Asks, and keeps what came for as long as it holds.
    async fn ask(self, unit: Unit, resolver: Rc<Resolver>) {
        let clerk = &self.clerk;
        let source = &clerk.sources[self.place];
        let now = Instant::now();
        let answered = match unit {
            Unit::Addresses(name) => resolver.addresses(&name).await.map(|it| {
                let word = source.says(&it.addresses);
                (self.found(source, word), it.until)
            }),
            Unit::Spf {
                client,
                helo: Some(helo),
                reverse_path: Some(reverse_path),
            } => {
                let passes = resolver.spf(client, &helo, &reverse_path).await;
                let kept = Instant::now() + SPF_KEPT;
                let found = |passes| {
                    if passes {
                        Found::Passes
                    } else {
                        Found::PassesNot
                    }
                };
                passes.map(|it| (found(it), kept))
            }
            Unit::Spf { .. } => Ok((Found::PassesNot, now + SPF_KEPT)),
        };
        let (found, until) = match answered {
            Ok(answered) => {
                source.note_answer();
                answered
            }
            Err(failure) => {
                clerk.metrics.count_failure(source.kind, failure.reason());
                source.note_failure(&failure, &clerk.board);
                (Found::Nothing, Instant::now() + FAILURE_KEPT)
            }
        };
        let mut cache = clerk.cache.borrow_mut();
        cache.insert(self.key, found, until);
        let entries = i64::try_from(cache.len()).unwrap_or(i64::MAX);
        clerk.metrics.cache_entries.set(entries);
        self.tell.send_replace(Some(found));
    }

    /// What a list's word comes to; one that is no answer takes it out of use.
    fn found(&self, source: &Source, word: Word) -> Found {
        let clerk = &self.clerk;
        if let Some(why) = unusable(word) {
            let reason = match word {
                Word::Refused(_) => "refused",
                _ => "nonsense",
            };
            clerk.metrics.count_failure(source.kind, reason);
            source.note_unusable(why, &clerk.board);
        }
        match word {
            Word::Listed(score) => Found::Listed(score),
            Word::Unlisted => Found::Unlisted,
            Word::Refused(_) | Word::Nonsense(_) => Found::Nothing,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clerk.under_way.borrow_mut().remove(&self.key);
        if self.clerk.sources[self.place].kind == Kind::Spf {
            let others = self.clerk.spf_under_way.get() - 1;
            self.clerk.spf_under_way.set(others);
        }
        self.clerk.metrics.in_flight.dec();
    }
}

/// What came of each until `until`, in their order. All are under way already.
async fn hear(waiting: Vec<Waiting>, until: Instant, is_late: &mut bool) -> Vec<Found> {
    let mut found = Vec::with_capacity(waiting.len());
    for one in waiting {
        found.push(match one {
            Waiting::Known(found) => found,
            Waiting::Pending(mut pending) => {
                // What is there is taken even when the time is up.
                let answered = timeout_at(until, pending.wait_for(Option::is_some)).await;
                match answered {
                    Ok(Ok(answer)) => answer.unwrap_or(Found::Nothing),
                    Ok(Err(_)) => Found::Nothing,
                    Err(_) => {
                        *is_late = true;
                        Found::Nothing
                    }
                }
            }
        });
    }
    found
}

/// Sessions that may wait at once: as many as the milter takes connections by default.
const SESSIONS: usize = 10_000;

/// Time between two tests of a source that answers: a domain that lapses is soon somebody else's.
const TEST_AGAIN: Duration = Duration::from_mins(10);

/// The longest pause, in first ones.
const LONGEST_PAUSE: u32 = 16;

/// How long what SPF says is kept. Its records are kept as long as they say.
const SPF_KEPT: Duration = Duration::from_mins(5);

/// How long it is remembered that there was no answer: the further sessions of one message need not
/// wait for it, too.
const FAILURE_KEPT: Duration = Duration::from_secs(10);
