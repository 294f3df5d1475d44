//! A worker: one thread, one current-thread runtime, its own accept.
//!
//! Knows how connections come in and go, what to do when accept(2) fails, and how to drain. Shares
//! nothing with the other workers that a command would touch. Leaves one connection's bytes to
//! `connection` and who may come in to `admission`.

use std::{
    fs::File,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use nix::errno::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::{Builder, Runtime},
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    clock::Clock,
    log::STRANGERS,
    policy::{Origin, Policy},
};

use super::{
    admission::{Admission, Peer, Permit},
    complaint::Complaint,
    connection::{Connection, End, Limits, Service},
    context::Context,
    listener::{self, Backlog},
    metrics::Metrics,
    pulse::Answerer,
    seats::{Seated, Seats},
    session::Session,
};

/// What all workers share.
pub(super) struct Shared {
    pub(super) admission: Arc<Admission>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) context: Arc<Context>,
    pub(super) drain: Duration,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
}

/// Starts a worker that accepts from `listeners` until `stop` changes, and then drains; it closes
/// everything at once when the other end of `stop` is dropped.
pub(super) fn start(
    name: String,
    listeners: Vec<(listener::Listener, Backlog)>,
    shared: Arc<Shared>,
    stop: watch::Receiver<()>,
    answerer: Answerer,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners
            .into_iter()
            .map(|(listener, backlog)| Ok((Listener::try_from(listener)?, backlog)))
            .collect::<io::Result<Vec<_>>>()?
    };
    let service = Service {
        clock: Arc::clone(&shared.clock),
        limits: shared.limits,
        latency: shared.metrics.latency.clone(),
    };
    let worker = Arc::new(Worker {
        shared,
        service: Arc::new(service),
        seats: Mutex::default(),
        left: Notify::new(),
    });
    thread::Builder::new()
        .name(name)
        .spawn(move || run(&runtime, listeners, worker, stop, answerer))
}

fn run(
    runtime: &Runtime,
    listeners: Vec<(Listener, Backlog)>,
    worker: Arc<Worker>,
    mut stop: watch::Receiver<()>,
    answerer: Answerer,
) {
    runtime.block_on(async move {
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(listener, backlog)| {
                let worker = Arc::clone(&worker);
                tokio::spawn(accept(listener, backlog, worker, stop.clone()))
            })
            .collect();
        tokio::spawn(answerer.answer());
        let is_gentle = stop.changed().await.is_ok();
        for task in accepting {
            if let Err(error) = task.await {
                tracing::error!(%error, "accept-panicked");
            }
        }
        if is_gentle {
            worker.drain().await;
        }
        worker.close(|_| true);
        worker.emptied(Instant::now() + CLOSING).await;
    });
}

/// Accepts until told to stop, then serves who has connected already, unless they are left to a
/// successor, and closes the listener.
async fn accept(
    mut listener: Listener,
    backlog: Backlog,
    worker: Arc<Worker>,
    mut stop: watch::Receiver<()>,
) {
    let mut reserve = Reserve::new();
    let mut stopping = pin!(stop.changed());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopping => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(incoming) => worker.take(incoming),
            Err(error) => worker.survive(&error, &mut listener, &mut reserve).await,
        }
    }
    if backlog == Backlog::Kept {
        return;
    }
    match listener.close() {
        Ok(waiting) => waiting.into_iter().for_each(|it| worker.take(it)),
        Err(error) => tracing::warn!(%error, "backlog-lost"),
    }
}

struct Worker {
    shared: Arc<Shared>,
    service: Arc<Service>,
    /// The open connections. Of this thread alone; a mutex because tasks must be `Send`.
    seats: Mutex<Seats>,
    /// The last connection has gone.
    left: Notify,
}

impl Worker {
    /// Serves a connection, or closes it at once when it may not come in.
    fn take(self: &Arc<Self>, incoming: Incoming) {
        let Some(peer) = incoming.peer() else {
            return; // It was gone before it was looked at.
        };
        let Ok(permit) = self.shared.admission.admit(peer) else {
            return;
        };
        let served = &self.shared.metrics.connections;
        match incoming {
            Incoming::Inet(stream, _) => {
                served.inet.inc();
                let origin = peer.origin(|| stream.local_addr().ok());
                self.seat(stream, peer, permit, origin);
            }
            Incoming::Unix(stream) => {
                served.unix.inc();
                self.seat(stream, peer, permit, Origin::ThisHost);
            }
        }
    }

    /// The connection lies in a box, since a task is moved several times as it begins and ends.
    fn seat<S>(self: &Arc<Self>, stream: S, peer: Peer, permit: Permit, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Shared {
            context, policy, ..
        } = &*self.shared;
        let is_idle = Arc::new(AtomicBool::new(true));
        let session = Session::new(Arc::clone(context), policy.load_full(), origin);
        let mut connection = Box::new(Connection::new(
            stream,
            session,
            Arc::clone(&self.service),
            Arc::clone(&is_idle),
        ));
        let number = self.seats().vacant();
        let seat = Seat {
            worker: Arc::clone(self),
            number,
            peer,
            end: None,
            _permit: permit,
        };
        let task = tokio::spawn(async move {
            let end = connection.serve().await;
            drop(connection);
            seat.leave(end);
        });
        let task = task.abort_handle();
        self.seats().take(number, Seated { task, is_idle });
    }

    /// No error of accept(2) ends a worker.
    async fn survive(&self, error: &io::Error, listener: &mut Listener, reserve: &mut Reserve) {
        let metrics = &self.shared.metrics;
        metrics.accept_errors.inc();
        match error.raw_os_error().map(Errno::from_raw) {
            // The client was gone before it was accepted.
            Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO) => {}
            Some(Errno::EMFILE | Errno::ENFILE) => {
                if reserve.shed(listener).await {
                    metrics.count_refused("descriptors");
                    reserve.complain(error);
                } else if !reserve.is_held() {
                    sleep(BACK_OFF).await;
                }
            }
            _ => {
                reserve.complain(error);
                sleep(BACK_OFF).await;
            }
        }
    }

    /// Lets sessions end by themselves; when time is up closes those between transactions, and
    /// leaves the others the time of one more frame.
    async fn drain(&self) {
        let deadline = Instant::now() + self.shared.drain;
        self.emptied(deadline).await;
        self.close(|seated| seated.is_idle.load(Ordering::Relaxed));
        self.emptied(deadline + self.shared.limits.frame).await;
    }

    /// Waits until no connection is open, at the latest until `deadline`.
    async fn emptied(&self, deadline: Instant) {
        while !self.seats().is_empty() {
            if timeout_at(deadline, self.left.notified()).await.is_err() {
                return;
            }
        }
    }

    fn close(&self, choose: impl Fn(&Seated) -> bool) {
        for seated in self.seats().taken().filter(|seated| choose(seated)) {
            seated.task.abort();
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection in its worker, given back however its task ends.
struct Seat {
    worker: Arc<Worker>,
    number: usize,
    peer: Peer,
    end: Option<End>,
    _permit: Permit,
}

impl Seat {
    fn leave(mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let metrics = &self.worker.shared.metrics;
        let peer = self.peer;
        match &self.end {
            Some(end) => {
                metrics.count_ended(end.reason());
                end.log(peer);
            }
            None if thread::panicking() => {
                metrics.count_ended("panic");
                tracing::error!(name: "session-panicked", target: STRANGERS, %peer, "session-panicked");
            }
            None => {
                metrics.count_ended("drain");
                tracing::info!(name: "session-cut", target: STRANGERS, %peer, "session-cut");
            }
        }
        let mut seats = self.worker.seats();
        seats.leave(self.number);
        if seats.is_empty() {
            self.worker.left.notify_one();
        }
    }
}

impl End {
    fn log(&self, peer: Peer) {
        match self {
            Self::Eof | Self::Quit => {}
            Self::Io(error) => tracing::debug!(%peer, %error, "connection-lost"),
            Self::Late(_) => {
                let reason = self.reason();
                tracing::info!(name: "connection-timed-out", target: STRANGERS, %peer, reason, "connection-timed-out");
            }
            Self::Frame(error) => {
                tracing::info!(name: "bad-input", target: STRANGERS, %peer, %error, "bad-input");
            }
            Self::Session(error) => {
                tracing::info!(name: "bad-input", target: STRANGERS, %peer, %error, "bad-input");
            }
        }
    }
}

/// A descriptor kept back, so that with none left a connection can still be accepted and closed:
/// its MTA then goes on at once instead of waiting for its time-out.
struct Reserve {
    descriptor: Option<File>,
    complaint: Complaint,
}

impl Reserve {
    fn new() -> Self {
        Self {
            descriptor: File::open("/dev/null").ok(),
            complaint: Complaint::default(),
        }
    }

    fn is_held(&self) -> bool {
        self.descriptor.is_some()
    }

    /// Logs an error of accept(2), but not each of a thousand.
    fn complain(&self, error: &io::Error) {
        if self.complaint.is_due() {
            tracing::warn!(%error, "accept-failed");
        }
    }

    /// Accepts one connection and closes it. False when none was there.
    async fn shed(&mut self, listener: &mut Listener) -> bool {
        self.descriptor = None;
        let shed = listener.accept_now().await;
        let has_shed = matches!(shed, Some(Ok(_)));
        drop(shed);
        self.descriptor = File::open("/dev/null").ok();
        has_shed
    }
}

enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&mut self) -> io::Result<Incoming> {
        match self {
            Self::Inet(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Incoming::Inet(stream, Peer::host(address)))
            }
            Self::Unix(listener) => Ok(Incoming::Unix(listener.accept().await?.0)),
        }
    }

    /// Closes it, and returns who has connected already. Asks the system itself: the runtime may
    /// not have heard of them yet.
    fn close(self) -> io::Result<Vec<Incoming>> {
        match self {
            Self::Inet(listener) => {
                let listener = listener.into_std()?;
                let accept = |_| listener.accept().ok();
                (0..LAST_ACCEPTS)
                    .map_while(accept)
                    .map(|(stream, address)| {
                        stream.set_nonblocking(true)?;
                        let stream = TcpStream::from_std(stream)?;
                        Ok(Incoming::Inet(stream, Peer::host(address)))
                    })
                    .collect()
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                let accept = |_| listener.accept().ok();
                (0..LAST_ACCEPTS)
                    .map_while(accept)
                    .map(|(stream, _)| {
                        stream.set_nonblocking(true)?;
                        UnixStream::from_std(stream).map(Incoming::Unix)
                    })
                    .collect()
            }
        }
    }

    /// Who is known to have connected already; `None` when nobody is.
    async fn accept_now(&mut self) -> Option<io::Result<Incoming>> {
        let mut accept = std::pin::pin!(self.accept());
        poll_fn(|cx| match accept.as_mut().poll(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

impl TryFrom<listener::Listener> for Listener {
    type Error = io::Error;

    fn try_from(listener: listener::Listener) -> io::Result<Self> {
        match listener {
            listener::Listener::Inet(listener) => TcpListener::from_std(listener).map(Self::Inet),
            listener::Listener::Unix(listener) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }
}

/// A connection that was accepted and not yet looked at.
enum Incoming {
    Inet(TcpStream, Peer),
    Unix(UnixStream),
}

impl Incoming {
    fn peer(&self) -> Option<Peer> {
        match self {
            Self::Inet(_, peer) => Some(*peer),
            Self::Unix(stream) => {
                let credentials = stream.peer_cred().ok()?;
                Some(Peer::User(credentials.uid()))
            }
        }
    }
}

/// How long accept(2) is left alone after it failed for want of something.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long closed connections may take to let go.
const CLOSING: Duration = Duration::from_secs(1);
/// At most what a backlog holds.
const LAST_ACCEPTS: usize = 4_096;
