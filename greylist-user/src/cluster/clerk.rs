//! The thread that shares: it keeps connected, answers sessions, tells what changes, hears what others
//! tell, and compares all where something may have been missed.
//!
//! One thread with a runtime of its own, so that nothing of it holds a worker of the milter. Knows the
//! order of these things; what each of them says to the engine is in `join`, `sign`, `news`, `telling`,
//! `comparing` and `recall`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::chain::chain;
use crate::clock::Clock;
use crate::policy::{Policy, Timestamp};
use crate::store::Store;

use super::circuit::{Circuit, Turned};
use super::engine::{Engine, EngineError};
use super::join::{FOREIGN, Joined, NotJoined};
use super::lists::Lists;
use super::metrics::Metrics;
use super::queue::Queue;
use super::recall::Asked;
use super::script::{Names, Scripts};
use super::settings::Settings;
use super::standing::{Board, State};
use super::telling::Heard;

/// What the thread knows.
pub(super) struct Clerk {
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) board: Arc<Board>,
    pub(super) store: Arc<Store>,
    pub(super) lists: Arc<dyn Lists>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) names: Names,
    pub(super) scripts: Scripts,
    /// Tells this run of this daemon from every other.
    pub(super) instance: String,
    /// The engine, while this host shares.
    pub(super) engine: RefCell<Option<Engine>>,
    pub(super) circuit: Cell<Circuit>,
    pub(super) queue: RefCell<Queue>,
    /// There is something in the queue.
    pub(super) filled: Notify,
    /// Something was missed.
    pub(super) owes: Notify,
    leaves: Notify,
    pub(super) heard: RefCell<Heard>,
    /// Which of its lives the engine was in when last heard of.
    pub(super) born: RefCell<Vec<u8>>,
    /// Until when it was told in that all that this host knew.
    told: Cell<Timestamp>,
    /// Whether something is on its way to the engine, or was when a connection broke.
    pub(super) is_telling: Cell<bool>,
    /// From when on all is being compared.
    pub(super) comparing: Cell<Option<Timestamp>>,
    /// When a round was last answered.
    pub(super) answered: Cell<Option<Instant>>,
    /// When all was last compared for the sake of a list that had no room.
    lacked: Cell<Option<Instant>>,
    /// Sessions that wait.
    pub(super) waiting: Cell<usize>,
    /// Whether a stranger's value was complained of.
    pub(super) has_told_of_foreign: Cell<bool>,
    /// Whether it was said why nothing can be written.
    pub(super) has_told_of_refusal: Cell<bool>,
    /// Whether another host has this one's name.
    pub(super) has_namesake: Cell<bool>,
    /// Whether it was said that this host shares, or does not any more, since that last held for a while.
    has_told_of_joining: Cell<bool>,
    has_told_of_parting: Cell<bool>,
    /// Why nothing could be shared, as far as it was said since sharing last held for a while.
    said: RefCell<HashSet<String>>,
    /// Whether what the engine held was another site's, or of another layout, since the start.
    pub(super) was_refused: Cell<bool>,
    /// Since when the engine takes something and not everything.
    pub(super) trouble: Cell<Option<Timestamp>>,
    has_left: Cell<bool>,
}

/// What the daemon says to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// All is to be compared.
    Resync,
    /// Keep apart until the next start.
    Leave,
    /// End, once what waits is told.
    Stop,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Parted {
    /// It broke, or does not answer.
    #[error("{0}")]
    Broken(String),
    /// Where everybody's records are kept stands something else.
    #[error("{FOREIGN}")]
    Foreign,
    /// It does not hold what it held: somebody emptied it, or another one has taken its place.
    #[error("the engine has forgotten what it held; all is told to it again")]
    Forgotten,
    /// The operator said so.
    #[error("told to keep apart")]
    Left,
}

impl Clerk {
    pub(super) fn new(
        settings: Settings,
        metrics: Metrics,
        board: Arc<Board>,
        store: Arc<Store>,
        lists: Arc<dyn Lists>,
        policy: Arc<ArcSwap<Policy>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            names: Names::under(&settings.prefix),
            scripts: Scripts::new(),
            instance: format!("{:016x}", random()),
            engine: RefCell::new(None),
            circuit: Cell::default(),
            queue: RefCell::new(Queue::of(settings.queue)),
            filled: Notify::new(),
            owes: Notify::new(),
            leaves: Notify::new(),
            heard: RefCell::default(),
            born: RefCell::default(),
            told: Cell::new(Timestamp::NEVER),
            is_telling: Cell::new(false),
            comparing: Cell::new(None),
            answered: Cell::new(None),
            lacked: Cell::new(None),
            waiting: Cell::new(0),
            has_told_of_foreign: Cell::new(false),
            has_told_of_refusal: Cell::new(false),
            has_namesake: Cell::new(false),
            has_told_of_joining: Cell::new(false),
            has_told_of_parting: Cell::new(false),
            said: RefCell::default(),
            was_refused: Cell::new(false),
            trouble: Cell::new(None),
            has_left: Cell::new(false),
            settings,
            metrics,
            board,
            store,
            lists,
            policy,
            clock,
        }
    }

    /// Works until told to stop.
    pub(super) fn serve(
        self,
        runtime: &Runtime,
        mut questions: mpsc::Receiver<Asked>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let clerk = Rc::new(self);
        LocalSet::new().block_on(runtime, async move {
            let sharing = spawn_local(Rc::clone(&clerk).share());
            let collecting = spawn_local(Rc::clone(&clerk).collect());
            loop {
                tokio::select! {
                    Some(asked) = questions.recv() => Self::hear(&clerk, asked),
                    order = orders.recv() => match order {
                        Some(Order::Resync) => clerk.owe(Timestamp::NEVER),
                        Some(Order::Leave) => {
                            clerk.has_left.set(true);
                            clerk.leaves.notify_one();
                        }
                        Some(Order::Stop) | None => break,
                    },
                }
            }
            for task in [sharing, collecting] {
                task.abort();
                // What it had in hand is back in the queue by then.
                let _aborted = task.await;
            }
            clerk.say_goodbye().await;
        });
    }

    /// Notes that others may lack what happened from `since` on.
    pub(super) fn owe(&self, since: Timestamp) {
        self.queue.borrow_mut().miss(since);
        self.owes.notify_one();
    }

    /// Takes the engine's word that it knows everything until `told`, and nothing of what came after.
    pub(super) fn set_back(&self, told: Timestamp) {
        self.told.set(told);
        let told = told.as_millis().saturating_sub(MAY_BE_LOST);
        self.owe(Timestamp::from_millis(told));
    }

    /// Turns the circuit by what `note` makes of it, and says so.
    pub(super) fn turn(&self, note: impl FnOnce(&mut Circuit) -> Turned) {
        let mut circuit = self.circuit.get();
        let turned = note(&mut circuit);
        self.circuit.set(circuit);
        let is_closed = circuit.is_closed();
        match turned {
            Turned::Not => return,
            Turned::Open => {
                self.metrics.circuit_opened.inc();
                tracing::warn!("cluster-circuit-open");
            }
            Turned::Closed => tracing::info!("cluster-circuit-closed"),
        }
        self.metrics.circuit_closed.set(is_closed.into());
        self.board.change(|it| it.circuit_closed = is_closed);
    }

    /// Connects, shares, and begins anew whenever that ends.
    async fn share(self: Rc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.has_left.get() {
                std::future::pending::<()>().await;
            }
            match self.join().await {
                Ok(joined) => {
                    let begun = Instant::now();
                    let parted = self.serve_joined(joined).await;
                    self.part(&parted);
                    // What breaks again and again is not tried ever faster.
                    if begun.elapsed() >= LASTING {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(not_joined) => self.stay_alone(&not_joined),
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Shares until something ends it.
    async fn serve_joined(&self, joined: Joined) -> Parted {
        let Joined {
            engine,
            born,
            told,
            news,
        } = joined;
        // A server that comes back after a crash says what it had saved by then, and an emptied one nothing.
        self.set_back(told);
        self.born.replace(born.clone());
        self.engine.replace(Some(engine.clone()));
        self.metrics.connections.inc();
        self.board
            .change(|it| it.engine.clone_from(&engine.version));
        if self.board.turn(State::Sharing) && !self.has_told_of_joining.replace(true) {
            tracing::info!(
                engine = engine.version,
                mode = self.settings.mode.as_str(),
                "cluster-joined"
            );
        }
        tokio::select! {
            parted = self.follow_news(&engine, &born, news) => parted,
            parted = self.tell_on(&engine) => parted,
            parted = self.compare_when_owed(&engine) => parted,
            never = self.watch(&engine) => match never {},
            () = self.until_left() => {
                let _gone = timeout(GOODBYE, self.sign_off(&engine)).await;
                Parted::Left
            }
            never = self.settle_down() => match never {},
        }
    }

    /// Until when the engine knows everything that this host knew.
    pub(super) fn told_until(&self) -> Timestamp {
        if self.queue.borrow().len() == 0 && !self.is_telling.get() {
            self.note_told(self.clock.now());
        }
        self.told.get()
    }

    /// Notes that the engine was told what changed until `now`: everything, unless something was missed.
    pub(super) fn note_told(&self, now: Timestamp) {
        if !self.queue.borrow().has_missed() && self.comparing.get().is_none() {
            self.told.set(now);
        }
    }

    /// Once this has lasted for a while, its end is worth a word again.
    async fn settle_down(&self) -> Infallible {
        sleep(LASTING).await;
        self.has_told_of_joining.set(false);
        self.has_told_of_parting.set(false);
        self.said.take();
        std::future::pending().await
    }

    async fn until_left(&self) {
        while !self.has_left.get() {
            self.leaves.notified().await;
        }
    }

    fn part(&self, parted: &Parted) {
        self.engine.replace(None);
        self.turn(Circuit::note_failure);
        if let Some(since) = self.comparing.take() {
            self.owe(since);
        }
        self.board.change(|it| it.resyncing = false);
        if matches!(parted, Parted::Left) {
            tracing::info!("cluster-left");
            return;
        }
        if matches!(parted, Parted::Broken(_)) {
            // That nobody is there then needs no further word.
            let _said_with_it = self.is_to_be_said(GONE);
        }
        let state = match parted {
            Parted::Foreign => State::Refused(parted.to_string()),
            _ => State::Alone(parted.to_string()),
        };
        if self.board.turn(state) && !self.has_told_of_parting.replace(true) {
            tracing::warn!(error = parted.to_string(), "cluster-parted");
        }
    }

    /// Says why nothing is shared, each reason once.
    fn stay_alone(&self, not_joined: &NotJoined) {
        let why = chain(not_joined);
        let state = match not_joined {
            NotJoined::Refused(_) => {
                self.was_refused.set(true);
                State::Refused(why.clone())
            }
            NotJoined::Engine(_) | NotJoined::Silent => State::Alone(why.clone()),
        };
        self.turn(Circuit::note_failure);
        let reason = match not_joined {
            NotJoined::Engine(EngineError::Gone(_)) | NotJoined::Silent => GONE,
            _ => &why,
        };
        if !self.has_left.get() && self.board.turn(state) && self.is_to_be_said(reason) {
            tracing::warn!(error = why, "cluster-alone");
        }
    }

    /// Whether it was not said before. Of reasons without an end only the first ones are.
    fn is_to_be_said(&self, reason: &str) -> bool {
        let mut said = self.said.borrow_mut();
        said.len() < REASONS && said.insert(reason.to_owned())
    }

    /// Takes what has changed into the queue, for ever.
    async fn collect(self: Rc<Self>) {
        let mut ticks = interval(COLLECTING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.collect_changes();
            let is_long_ago = self.lacked.get().is_none_or(|it| it.elapsed() >= LACKING);
            if is_long_ago && self.lists.takes_lack() {
                self.lacked.set(Some(Instant::now()));
                self.owe(self.clock.now());
            }
        }
    }

    /// Tells what is left to tell, and that this host is gone.
    async fn say_goodbye(&self) {
        self.collect_changes();
        let engine = self.engine.borrow().clone();
        if let Some(engine) = &engine {
            let _late_or_refused = timeout(GOODBYE, self.tell_all(engine)).await;
        }
        let left = self.queue.borrow().len();
        if left > 0 {
            tracing::warn!(records = left, "cluster-untold");
        }
        if let Some(engine) = &engine {
            let _gone = timeout(GOODBYE, self.sign_off(engine)).await;
        }
    }
}

/// A number that no other run has.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Time between two looks at what has changed.
pub(super) const COLLECTING: Duration = Duration::from_millis(50);
/// Pauses between two tries to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that has lasted so long is no flash in the pan.
const LASTING: Duration = Duration::from_secs(30);
/// The reason of an engine that is not there, however that shows: a server that dies shows it in several ways.
const GONE: &str = "";
/// Reasons that are said before sharing has lasted for a while.
const REASONS: usize = 16;
/// Milliseconds before the last moment at which the engine knew all, of which everything is told again: what
/// had not been collected by then, and what a replica lacks that took the place of its master.
const MAY_BE_LOST: u64 = 60_000;
/// From one comparison for the sake of a list that had no room to the next.
const LACKING: Duration = Duration::from_mins(1);
/// Time for a last word.
const GOODBYE: Duration = Duration::from_secs(2);
