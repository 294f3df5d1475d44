//! What others know of a client: blocklists, allowlists and SPF, asked over the DNS.
//!
//! A thread of its own, with a runtime of its own, so that nothing of it ever holds a worker of the
//! milter. Questions come over a bounded queue and are answered within the budget, with what was found
//! until then; what comes later is kept for the next time. Equal questions under way are one. Who does
//! not answer, refuses, or lies is asked no more for a while, so that nobody waits for it.
//!
//! From the outside inward: [`Dns`] (the handle), `clerk` (the thread: queue, cache, what is under
//! way), `source` (who is asked, and whether it can be believed), `resolve` (one look-up), `zone` (the
//! names and codes of lists), `cache`. What follows from an answer is `policy`'s word.

mod cache;
mod clerk;
mod metrics;
mod resolve;
mod settings;
mod source;
mod zone;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use self::metrics::Metrics;
pub use self::settings::{Server, Settings, Zone};
pub use self::source::{Board, Standing};

use self::clerk::{Asked, Clerk};
use crate::policy::{Evidence, Question, Tell, Witness};

/// The handle of the thread that asks. It is started by [`wake`](Self::wake), and not at all where
/// nothing is to be asked.
pub struct Dns {
    settings: Settings,
    metrics: Metrics,
    board: Arc<Board>,
    running: OnceLock<Running>,
}

struct Running {
    questions: mpsc::Sender<Asked>,
    end: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Dns {
    /// A handle without a thread.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        Self {
            board: Arc::new(Board::of(&settings)),
            settings,
            metrics,
            running: OnceLock::new(),
        }
    }

    /// Starts the thread, if it does not run. Its first work is to test the lists.
    ///
    /// # Errors
    ///
    /// There is no thread or runtime to be had. Then nothing is ever answered, and mail goes on.
    pub fn wake(&self) -> io::Result<()> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let (questions, queue) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (settings, metrics) = (self.settings.clone(), self.metrics.clone());
        let board = Arc::clone(&self.board);
        let thread = thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                Clerk::serve(&runtime, settings, metrics, board, queue, stopped);
                runtime.shutdown_background();
            })?;
        let end = Mutex::new(Some((stop, thread)));
        // Nobody else wakes it: the daemon starts and reloads in one thread.
        let _ = self.running.set(Running { questions, end });
        Ok(())
    }

    /// How those who are asked stand.
    pub fn standings(&self) -> Vec<Standing> {
        if self.running.get().is_some() {
            self.board.standings()
        } else {
            Vec::new()
        }
    }

    /// What is wrong, one sentence each.
    pub fn complaints(&self) -> Vec<String> {
        let down = self.standings().into_iter().filter_map(|it| it.complaint());
        down.collect()
    }

    /// Ends the thread. Whoever waits for an answer hears that there is none.
    pub fn stop(&self) {
        let Some(running) = self.running.get() else {
            return;
        };
        let end = running.end.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((stop, thread)) = { end }.take() else {
            return;
        };
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("dns-panicked");
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Witness for Dns {
    fn ask(&self, question: &Question<'_>, tell: Tell) {
        let until = Instant::now() + self.settings.budget;
        let asked = Asked::new(question, until, tell);
        let refused = match self.running.get() {
            None => Some(asked),
            Some(running) => running
                .questions
                .try_send(asked)
                .err()
                .map(mpsc::error::TrySendError::into_inner),
        };
        if let Some(asked) = refused {
            self.metrics.overflow.inc();
            (asked.tell)(Evidence::default());
        }
    }

    fn budget(&self) -> Duration {
        self.settings.budget
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Questions that may wait for the thread, which takes them within microseconds.
const QUEUE: usize = 1_024;
