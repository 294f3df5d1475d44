//! The thread of the lists: takes out what has ended and takes in what other hosts ordered, within a second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::LiveLists;
use crate::clock::Clock;

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(in crate::daemon) struct Round {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Round {
    /// Starts it; `changed` is called after each change that it made.
    pub(in crate::daemon) fn start(
        lists: Arc<LiveLists>,
        clock: Arc<dyn Clock>,
        changed: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopping);
        let calls = Arc::clone(&lists);
        let thread = thread::Builder::new()
            .name("lists".to_owned())
            .spawn(move || {
                while !stops.load(Ordering::Acquire) {
                    let now = clock.now();
                    if lists.take_in(now) | lists.end(now) {
                        changed();
                    }
                    thread::park_timeout(INTERVAL);
                }
            })?;
        calls.inbox.calls(thread.thread().clone());
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// How soon an entry that has ended counts no more.
const INTERVAL: Duration = Duration::from_secs(1);
