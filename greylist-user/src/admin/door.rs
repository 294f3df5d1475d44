//! One thread that accepts and serves, bounded: what both doors have in common.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::count::Metrics;

/// An open door. Dropping it closes it and waits for its thread.
#[derive(Debug)]
pub(super) struct Door {
    name: &'static str,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Serves each connection of the listener that `listen` makes, [`CONNECTIONS`] at once.
    ///
    /// `serve` must end in bounded time. When the door closes, what it does on the runtime is
    /// dropped; what it has given to `spawn_blocking` is waited for [`LAST_WORK`].
    pub(super) fn open<L, S, F>(
        name: &'static str,
        metrics: Arc<Metrics>,
        listen: impl FnOnce() -> io::Result<L>,
        serve: S,
    ) -> io::Result<Self>
    where
        L: Listener,
        S: Fn(L::Stream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CONNECTIONS)
            .build()?;
        let listener = {
            let _context = runtime.enter();
            listen()?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(accept(name, &metrics, listener, BACK_OFF, serve, stopped));
                runtime.shutdown_timeout(LAST_WORK);
            })?;
        Ok(Self {
            name,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(door = self.name, "panicked");
        }
    }
}

/// What a door listens on.
pub(super) trait Listener: Send + 'static {
    /// One connection.
    type Stream: Send + 'static;

    /// Waits for the next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

async fn accept<L, S, F>(
    name: &'static str,
    metrics: &Metrics,
    listener: L,
    back_off: Duration,
    serve: S,
    mut stopped: oneshot::Receiver<()>,
) where
    L: Listener,
    S: Fn(L::Stream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            _ = &mut stopped => return,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok(stream), Ok(place)) => {
                let served = serve(stream);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            // Full: the stream is dropped, and its client sees a closed connection.
            (Ok(_), Err(_)) => metrics.turned_away(name),
            (Err(error), _) => {
                metrics.accept_error(name);
                // Who hung up before being accepted keeps nobody else waiting.
                if !has_gone(&error) {
                    // Out of descriptors, most likely: waiting is all that helps.
                    tracing::warn!(%error, door = name, "unaccepted");
                    tokio::time::sleep(back_off).await;
                }
            }
        }
    }
}

/// Whether the error of accept(2) is only the client's.
fn has_gone(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error,
        Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO)
    )
}

/// How long accept(2) is left alone after it failed for want of something.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Operators and their scripts, or monitoring, at once.
const CONNECTIONS: usize = 16;

/// Time for an order under way, such as a snapshot, when the door closes.
const LAST_WORK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// accept(2) fails so and so often, and then there is one client.
    struct Failing {
        errors: Vec<Errno>,
        asked: AtomicUsize,
    }

    impl Listener for Failing {
        type Stream = usize;

        async fn next(&self) -> io::Result<usize> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            match self.errors.get(asked) {
                Some(error) => Err(io::Error::from_raw_os_error(*error as i32)),
                None if asked == self.errors.len() => Ok(asked),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn no_error_of_accept_closes_the_door() {
        let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        let gone = [Errno::ECONNABORTED, Errno::EPROTO];
        let listener = Failing {
            errors: short.into_iter().chain(gone).collect(),
            asked: AtomicUsize::new(0),
        };
        let (stop, stopped) = oneshot::channel();
        let (served, mut has_served) = tokio::sync::mpsc::channel(1);
        let metrics = Metrics::default();
        let serve = move |stream| {
            let served = served.clone();
            async move { served.send(stream).await.unwrap_or_default() }
        };
        let open = accept(
            "control",
            &metrics,
            listener,
            Duration::ZERO,
            serve,
            stopped,
        );
        let first = async {
            let first = has_served.recv().await;
            drop(stop);
            first
        };
        let ((), first) = tokio::join!(open, first);
        assert_eq!(first, Some(6), "who came after six errors is served");
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut page = String::new();
        encode(&mut page, &registry).expect("memory is writable");
        let counted = "admin_accept_errors_total{door=\"control\"} 6";
        assert!(page.contains(counted), "{page}");
    }
}
