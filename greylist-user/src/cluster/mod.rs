//! What several hosts of a site share: one memory, in Redis or Valkey.
//!
//! Each host decides by its own store, as if it were alone. What changes there is told to the engine, where
//! it becomes one with what others told (`lua/merge.lua`); what is new here is asked for once, within a time
//! budget; and what concerns every host's kernel, sentences and pardons, each hears within a second. An
//! engine that is down, slow or full costs nobody mail: hosts decide alone, and all is compared when it is
//! back.
//!
//! From the outside inward: [`Cluster`] (the handle), `clerk` (the thread), `join`, `recall`, `telling`,
//! `comparing`, `news`, `sign` (what it does), `circuit` (whether sessions wait), `queue` (what waits to be told), `engine`
//! (connections), `script` (what runs inside the engine), [`layout`] (what is kept there). What the records
//! mean is `policy`'s word, where they lie the store's.
//!
//! Log words: `cluster-joined`, `cluster-left`, `cluster-circuit-closed`, `cluster-news-missed` (info),
//! `cluster-seed-taken` (info), `cluster-alone`, `cluster-parted`, `cluster-circuit-open`, `cluster-untold`,
//! `cluster-foreign`, `cluster-namesake`, `cluster-seed-unknown`, `cluster-discarded` (warn).

mod circuit;
mod clerk;
mod comparing;
mod engine;
mod join;
pub mod layout;
mod lists;
mod metrics;
mod news;
mod queue;
mod recall;
mod script;
mod seed;
mod settings;
mod sign;
mod standing;
mod telling;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::policy::{Attempt, MessageHasher, Peers, Policy, SharedKey, Timestamp, Told};
use crate::store::Store;

use self::clerk::{Clerk, Order};
pub use self::lists::Lists;
pub use self::metrics::Metrics;
use self::recall::Asked;
pub use self::seed::{SeedNotTaken, settle_seed};
pub use self::settings::{InvalidServer, Mode, Secret, Server, Settings};
use self::standing::Board;
pub use self::standing::{Node, Standing, State};

/// The handle of the thread that shares.
pub struct Cluster {
    budget: Duration,
    metrics: Metrics,
    board: Arc<Board>,
    store: Arc<Store>,
    questions: mpsc::Sender<Asked>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts to share what `store` remembers, and what operators order of `lists`.
    ///
    /// # Errors
    ///
    /// There is no thread or runtime to be had.
    pub fn start(
        settings: Settings,
        metrics: Metrics,
        store: Arc<Store>,
        lists: Arc<dyn Lists>,
        policy: Arc<ArcSwap<Policy>>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        name_cryptography();
        let settings = settings.named();
        let (questions, asked) = mpsc::channel(QUEUE);
        let (orders, ordered) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let board = Arc::new(Board::new(Standing {
            node: settings.node.clone(),
            mode: settings.mode.as_str().to_owned(),
            servers: settings.servers.iter().map(ToString::to_string).collect(),
            ..Standing::default()
        }));
        let budget = settings.budget;
        let thread = {
            let (metrics, board) = (metrics.clone(), Arc::clone(&board));
            let store = Arc::clone(&store);
            let name = "cluster".to_owned();
            thread::Builder::new().name(name).spawn(move || {
                let clerk = Clerk::new(settings, metrics, board, store, lists, policy, clock);
                clerk.serve(&runtime, asked, ordered);
                runtime.shutdown_background();
            })?
        };
        Ok(Self {
            budget,
            metrics,
            board,
            store,
            questions,
            orders,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How sharing stands.
    pub fn standing(&self) -> Standing {
        self.board.read()
    }

    /// Takes in what the engine knows of these records, waiting for it for a moment: before an operator undoes
    /// something, in a thread that may wait.
    pub fn recall(&self, keys: Vec<SharedKey>) {
        if keys.is_empty() {
            return;
        }
        let (tell, told) = std::sync::mpsc::channel();
        self.ask_or_tell(Asked {
            keys,
            until: Instant::now() + ORDERED,
            tell: Box::new(move || {
                // Whoever waited may have gone on.
                let _ = tell.send(());
            }),
        });
        let _answered_or_late = told.recv_timeout(2 * ORDERED);
    }

    /// Has all compared with the engine.
    pub fn resync(&self) {
        self.order(Order::Resync);
    }

    /// Keeps apart until the next start.
    pub fn leave(&self) {
        // Told at once; the thread hangs up within moments.
        self.board.turn(State::Left);
        self.order(Order::Leave);
    }

    /// Tells what waits to be told, for a moment, and ends the thread.
    pub fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return;
        };
        self.order(Order::Stop);
        if thread.join().is_err() {
            tracing::error!("cluster-panicked");
        }
    }

    fn order(&self, order: Order) {
        // A thread that has gone has nothing to do any more.
        let _gone = self.orders.send(order);
    }

    /// Asks, or says at once that nobody can be asked.
    fn ask_or_tell(&self, asked: Asked) {
        if let Err(refused) = self.questions.try_send(asked) {
            self.metrics.overflow.inc();
            (refused.into_inner().tell)();
        }
    }
}

impl Peers for Cluster {
    fn missing(&self, attempt: &Attempt<'_>, now: Timestamp) -> Vec<SharedKey> {
        self.store.missing(attempt, now)
    }

    fn missing_content(
        &self,
        attempt: &Attempt<'_>,
        message: &MessageHasher,
        now: Timestamp,
    ) -> Option<SharedKey> {
        self.store.missing_content(attempt, message, now)
    }

    fn ask(&self, keys: Vec<SharedKey>, tell: Told) {
        self.ask_or_tell(Asked {
            keys,
            until: Instant::now() + self.budget,
            tell,
        });
    }

    fn budget(&self) -> Duration {
        self.budget
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Says whose cryptography TLS uses.
fn name_cryptography() {
    // Another of the process may have been first, with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How long an operator's order waits for the engine.
const ORDERED: Duration = Duration::from_secs(1);
/// Questions that may wait for the thread, which takes them within microseconds.
const QUEUE: usize = 1_024;
