//! The scribe: writes the periodic snapshots while the keeper goes on with its rounds.
//!
//! A paced snapshot takes as long as its rate has it take, a minute of a large store. The thread is as
//! nice as those who answer mail: they wait for the shard that it copies. Knows the order and the clock; what a snapshot is, and for whom
//! it gives way, is the store's matter.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use crate::clock::Clock;

use super::Store;

/// The running thread.
#[derive(Debug)]
pub(super) struct Scribe {
    store: Arc<Store>,
    orders: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Scribe {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub(super) fn start(store: Arc<Store>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        // An order is taken by hand: there is none in between.
        let (orders, taken) = sync_channel(0);
        let thread = thread::Builder::new().name("snapshot".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || write(&store, &*clock, &taken)
        })?;
        Ok(Self {
            store,
            orders,
            thread,
        })
    }

    /// Orders a snapshot. Says whether the order is taken: it is not while another is being written.
    pub(super) fn order(&self) -> bool {
        match self.orders.try_send(()) {
            Ok(()) => true,
            Err(TrySendError::Full(())) => false,
            // Said of each that is due: only a start mends it.
            Err(TrySendError::Disconnected(())) => {
                self.store.metrics.snapshot_failures.inc();
                let why = "the thread that writes snapshots has panicked; restart greygate";
                tracing::warn!(error = why, "snapshot-failed");
                true
            }
        }
    }

    /// Ends the thread. A snapshot that it writes is given up. An error is what it panicked with.
    pub(super) fn stop(self) -> thread::Result<()> {
        let Self {
            store,
            orders,
            thread,
        } = self;
        let _urgent = store.urgency.call();
        drop(orders);
        thread.join()
    }
}

fn write(store: &Store, clock: &dyn Clock, orders: &Receiver<()>) {
    while orders.recv().is_ok() {
        let begun = clock.now();
        if store.paced_snapshot(begun).is_ok() {
            let took = clock.now().since(begun);
            let millis = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            store.metrics.snapshot_duration.set(millis);
        }
    }
}
