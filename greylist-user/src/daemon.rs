//! Who is plugged into whom, in which order they start and stop, and what a reload changes.
//!
//! The one place that knows all rooms. It starts them from the inside out: the store; then, while
//! there are rights to do so, all that listens, and the kernel filter (`Opened`); then, without
//! any right, the threads of the projector, the keeper, the milter, and the doors, which name the
//! milter's endpoints. It stops mail first, then the doors, then takes a last snapshot, and at the
//! very end the kernel filter.

mod control;
mod lists;
mod pulse;
mod reload;
mod rights;
mod sentences;
mod turns;
mod vitals;
mod watchdog;

use std::net::SocketAddr;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use self::reload::Source;
pub use self::rights::Rights;

use self::control::Desk;
use self::lists::{LiveLists, Round};
use self::pulse::Pulse;
use self::reload::Reloader;
use self::sentences::{Ordered, UpheldSentences, in_force};
use self::vitals::Vitals;
use self::watchdog::Watchdog;
use crate::admin::{
    self, BoundControl, BoundMetrics, ControlServer, DroppedSyns, MetricsListen, MetricsServer,
};
use crate::chain::chain;
use crate::clock::{Clock, SystemClock};
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::dns::{self, Dns};
use crate::kernel::{self, FilterStatus, KernelFilter, Projector};
use crate::log;
use crate::milter::{self, Endpoint, Handed};
use crate::policy::{Action, Effect, Peers, Policy, Timestamp};
use crate::store::{self, Keeper, Store};

/// A running greygate.
#[derive(Debug)]
pub struct Daemon {
    reloader: Arc<Reloader>,
    milter: milter::Server,
    rooms: Rooms,
}

/// What runs behind the milter, in the order of its end.
#[derive(Debug)]
struct Rooms {
    control: ControlServer,
    metrics: Option<MetricsServer>,
    cluster: Option<Arc<Cluster>>,
    dns: Arc<Dns>,
    lists: Round,
    keeper: Keeper,
    projector: Arc<Projector>,
}

impl Daemon {
    /// Starts every room under a `config` of no file: such a daemon is not reloaded. See
    /// [`Daemon::start_from`].
    ///
    /// # Errors
    ///
    /// As of [`Daemon::start_from`].
    pub fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        log: &log::Writer,
        rights: Rights,
    ) -> Result<Self, DaemonError> {
        Self::start_from(None, config, clock, log, rights)
    }

    /// Starts every room under `config`, as it was read from `source`. When it returns, Postfix is
    /// answered, and `rights` are gone.
    ///
    /// # Errors
    ///
    /// What an operator must mend: a store that cannot be used, or an address that is taken. That
    /// the kernel does not help is no error; `status` says why.
    pub fn start_from(
        source: Option<Source>,
        config: Config,
        clock: Arc<dyn Clock>,
        log: &log::Writer,
        rights: Rights,
    ) -> Result<Self, DaemonError> {
        Self::take_over(source, config, clock, log, rights, Vec::new())
    }

    /// Like [`Daemon::start_from`], with listeners that somebody else opened for it.
    fn take_over(
        source: Option<Source>,
        config: Config,
        clock: Arc<dyn Clock>,
        log: &log::Writer,
        rights: Rights,
        handed: Vec<Handed>,
    ) -> Result<Self, DaemonError> {
        let metrics = Metrics::default();
        let now = clock.now();
        let Judging {
            policy,
            store,
            restored,
            lists,
            effects,
        } = Judging::begin(&config, &metrics, now)?;
        let opened = {
            let config = config.clone();
            rights.lend(move || Opened::open(&config, handed))?
        };
        rights.end();
        let sentences = Arc::new(UpheldSentences {
            store: Arc::clone(&store),
            policy: Arc::clone(&policy),
            drops: config.xdp.action == Action::Enforce,
        });
        let found = opened.filter.status();
        let dropped_before = DroppedSyns::of(&found);
        // Before the first beat: what an earlier daemon's filter dropped is not of the last minute.
        metrics.kernel.follow(&found);
        let projector = Arc::new(Projector::start(
            opened.filter,
            Arc::clone(&sentences) as _,
            Arc::clone(&clock),
            effects,
            Arc::clone(&metrics.kernel),
        ));
        let pulse = Arc::new(metrics.pulse(now));
        let refresh = {
            let projector = Arc::clone(&projector);
            move || projector.refresh()
        };
        let round = Round::start(Arc::clone(&lists), Arc::clone(&clock), refresh)
            .map_err(DaemonError::Thread)?;
        let keeper = keeping(&store, &clock, &pulse, log).map_err(DaemonError::Thread)?;
        let dns = Arc::new(Dns::new(config.dns.clone(), metrics.dns.clone()));
        if policy.load().evidence.asks() {
            dns.wake().map_err(DaemonError::Thread)?;
        }
        let cluster = sharing(&config, &metrics, &store, &lists, &policy, &clock)?;
        let peers = cluster.clone().map(|it| it as Arc<dyn Peers>);
        let milter = opened
            .milter
            .asking(Arc::clone(&dns) as _)
            .sharing(peers)
            .serve(
                lists.for_sessions(),
                Arc::clone(&store) as _,
                Arc::clone(&clock),
                Arc::clone(&metrics.milter),
            )?;
        let registry = Arc::new(metrics.registered(log, now));
        let wants_filter = !config.xdp.interfaces.is_empty();
        let snapshot_interval = config.store.snapshot_interval;
        let reloader = Reloader::new(source, config, Arc::clone(&lists), &dns, &projector);
        let reloader = Arc::new(reloader);
        let desk = Arc::new(Desk {
            clock,
            cluster: cluster.clone(),
            dns: Arc::clone(&dns),
            dropped_before,
            endpoints: milter.endpoints().to_vec(),
            list_turns: turns::Turns::default(),
            lists,
            milter: Arc::clone(&metrics.milter),
            policy,
            projector: Arc::clone(&projector),
            pulse,
            registry: Arc::clone(&registry),
            reloader: Arc::clone(&reloader),
            restored,
            sentences,
            snapshot_interval,
            started: now,
            store,
            stored: Arc::clone(&metrics.store),
            wants_filter,
        });
        let control = opened
            .control
            .serve(Arc::clone(&desk) as _, Arc::clone(&metrics.admin))?;
        let metrics = opened
            .metrics
            .map(|bound| bound.serve(registry, desk, metrics.admin))
            .transpose()?;
        Ok(Self {
            reloader,
            milter,
            rooms: Rooms {
                control,
                metrics,
                cluster,
                dns,
                lists: round,
                keeper,
                projector,
            },
        })
    }

    /// Where Postfix is heard, with the port given for port 0.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.milter.endpoints()
    }

    /// Where the metrics are served, with the port given for port 0; [`None`] if nowhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.rooms.metrics.as_ref().map(MetricsServer::address)
    }

    /// Whether every worker of the milter has answered since this was asked last. The others are not
    /// asked: without the keeper and the projector mail flows, and a disk may take its time.
    fn is_alive(&self) -> bool {
        let silent = self.milter.pulse().silent_workers();
        if silent > 0 {
            tracing::warn!(workers = silent, "worker-silent");
        }
        silent == 0
    }

    /// What it does, for `systemctl status`.
    fn in_a_line(&self) -> String {
        let endpoints: Vec<_> = self.endpoints().iter().map(ToString::to_string).collect();
        let filter = match self.rooms.projector.status() {
            FilterStatus::On(on) => {
                let names: Vec<_> = on.interfaces.iter().map(|it| it.name.clone()).collect();
                format!("kernel filter on {}", names.join(", "))
            }
            FilterStatus::Off { why } => format!("no kernel filter: {why}"),
        };
        format!("answers Postfix at {}; {filter}", endpoints.join(", "))
    }

    /// Stops every room. Open SMTP sessions may end by themselves as long as `[milter] drain` says.
    pub fn stop(self) {
        self.milter.drain();
        self.rooms.stop();
    }
}

impl Rooms {
    fn stop(self) {
        drop(self.control);
        drop(self.metrics);
        // It has the projector, too.
        drop(self.lists);
        self.dns.stop();
        if let Some(cluster) = self.cluster {
            cluster.stop();
        }
        if let Err(error) = self.keeper.stop() {
            tracing::error!(error = chain(&error), "unsaved");
        }
        // The desk that shared it went with the doors.
        if let Some(projector) = Arc::into_inner(self.projector) {
            projector.stop();
        }
    }
}

/// The store with its rules, before anybody is heard.
struct Judging {
    policy: Arc<ArcSwap<Policy>>,
    store: Arc<Store>,
    /// What it found on disk, in a sentence.
    restored: String,
    lists: Arc<LiveLists>,
    /// What judging leads to, for the projector.
    effects: mpsc::Receiver<Effect>,
}

impl Judging {
    fn begin(config: &Config, metrics: &Metrics, now: Timestamp) -> Result<Self, DaemonError> {
        cluster::settle_seed(&config.cluster, &config.store, now)?;
        let asking = asking(config, &config.dns);
        let rules = in_force(&asking.policy, Ordered::default());
        let policy = Arc::new(ArcSwap::from_pointee(rules));
        let (sender, effects) = mpsc::channel(EFFECTS);
        let (store, restored) = patiently(|| {
            Store::open(
                store::Settings {
                    shares: config.cluster.shares(),
                    ..config.store.clone()
                },
                Arc::clone(&policy),
                sender,
                Arc::clone(&metrics.store),
                now,
            )
        })?;
        tracing::info!(found = restored.to_string(), "restored");
        // In the directory that is the store's, and locked by now.
        let lists = LiveLists::open(
            &asking,
            Arc::clone(&policy),
            Arc::clone(&metrics.lists),
            now,
        );
        Ok(Self {
            policy,
            store: Arc::new(store),
            restored: restored.to_string(),
            lists: Arc::new(lists),
            effects,
        })
    }
}

/// What may take a right that the daemon does not keep: a port below 1024, a group for a socket, the
/// kernel program.
struct Opened {
    milter: milter::BoundServer,
    control: BoundControl,
    metrics: Option<BoundMetrics>,
    filter: Box<dyn KernelFilter>,
}

impl Opened {
    /// Starts no thread: it would keep the rights. What listens comes first, so that a second daemon
    /// ends before it touches the kernel.
    fn open(config: &Config, handed: Vec<Handed>) -> Result<Self, DaemonError> {
        Ok(Self {
            milter: milter::Server::take_over(&config.milter, handed)?,
            control: ControlServer::bind(&config.admin)?,
            metrics: match config.metrics.listen {
                MetricsListen::At(address) => Some(MetricsServer::bind(address)?),
                MetricsListen::Off => None,
            },
            filter: kernel::open(&config.xdp),
        })
    }
}

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP reads `source` again. A second SIGTERM or SIGINT
/// ends it without waiting for open sessions; the last snapshot is written all the same.
///
/// # Errors
///
/// When it cannot start. Once it runs, only a signal ends it.
pub fn run(source: Source, config: Config) -> Result<(), DaemonError> {
    // Before there is any other thread.
    let rights = Rights::set_apart();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Signals)?;
    let result = runtime.block_on(serve(source, config, rights));
    runtime.shutdown_background();
    result
}

async fn serve(source: Source, config: Config, rights: Rights) -> Result<(), DaemonError> {
    let log = log::init(&config.log);
    log::bound_panics();
    // Caught before anything starts, so that an early one is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    let clock = Arc::new(SystemClock);
    let handed = Handed::all();
    let daemon = Daemon::take_over(Some(source), config, clock, &log, rights, handed)?;
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&daemon.in_a_line())]);
    let mut watchdog = Watchdog::of_this_process();
    loop {
        tokio::select! {
            () = watchdog.is_due() => if daemon.is_alive() {
                tell_systemd(&[NotifyState::Watchdog]);
            },
            // It says itself in the log what came of it.
            _ = hangup.recv() => drop(daemon.reloader.reload()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tell_systemd(&[
        NotifyState::Stopping,
        NotifyState::Status("lets open SMTP sessions end, then writes a snapshot"),
    ]);
    tracing::info!("stopping");
    let Daemon { milter, rooms, .. } = daemon;
    let drained = tokio::task::spawn_blocking(move || milter.drain());
    tokio::select! {
        _ = drained => {}
        _ = terminate.recv() => tracing::warn!("hurried"),
        _ = interrupt.recv() => tracing::warn!("hurried"),
    }
    rooms.stop();
    Ok(())
}

/// Why the daemon does not start.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The control socket.
    #[error(transparent)]
    Control(#[from] admin::SocketError),
    /// The metrics endpoint.
    #[error(transparent)]
    Metrics(#[from] admin::MetricsError),
    /// The milter's listeners.
    #[error(transparent)]
    Milter(#[from] milter::ListenError),
    /// The runtime that waits for signals.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The seed of the other hosts.
    #[error(transparent)]
    Seed(#[from] cluster::SeedNotTaken),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// A thread of the daemon's.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// The counters of every room.
#[derive(Debug, Default)]
struct Metrics {
    admin: Arc<admin::Metrics>,
    cluster: cluster::Metrics,
    dns: dns::Metrics,
    milter: Arc<milter::Metrics>,
    lists: Arc<lists::Metrics>,
    store: Arc<store::Metrics>,
    kernel: Arc<kernel::Metrics>,
}

impl Metrics {
    fn registered(&self, log: &log::Writer, started: Timestamp) -> Registry {
        let mut registry = Registry::with_prefix("greygate");
        registry.register_collector(Box::new(Vitals { started }));
        log.register(&mut registry);
        self.register(&mut registry);
        registry
    }

    /// What the last minute is told from.
    fn pulse(&self, now: Timestamp) -> Pulse {
        Pulse::new(
            Arc::clone(&self.milter),
            Arc::clone(&self.store),
            Arc::clone(&self.kernel),
            now,
        )
    }

    fn register(&self, registry: &mut Registry) {
        self.admin.register(registry);
        self.cluster.register(registry);
        self.dns.register(registry);
        self.milter.register(registry);
        self.lists.register(registry);
        self.store.register(registry);
        self.kernel.register(registry);
    }
}

/// Who does the rounds of the store, and says once a second what became of all others.
fn keeping(
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    pulse: &Arc<Pulse>,
    log: &log::Writer,
) -> std::io::Result<Keeper> {
    let (pulse, limits) = (Arc::clone(pulse), log.limits());
    let chore = move |now| {
        pulse.beat(now);
        limits.tell();
    };
    Keeper::start_with(Arc::clone(store), Arc::clone(clock), chore)
}

/// What shares with other hosts, if this one does.
fn sharing(
    config: &Config,
    metrics: &Metrics,
    store: &Arc<Store>,
    lists: &Arc<LiveLists>,
    policy: &Arc<ArcSwap<Policy>>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Cluster>>, DaemonError> {
    if !config.cluster.shares() {
        return Ok(None);
    }
    let started = Cluster::start(
        config.cluster.clone(),
        metrics.cluster.clone(),
        Arc::clone(store),
        Arc::clone(lists) as _,
        Arc::clone(policy),
        Arc::clone(clock),
    );
    let cluster = started.map_err(DaemonError::Thread)?;
    Ok(Some(Arc::new(cluster)))
}

/// The configuration with rules under which the lists of `dns`, which runs, can be asked, and this host's
/// name is no client's.
fn asking(config: &Config, dns: &dns::Settings) -> Config {
    // Their places are told in a byte; no legal configuration has more.
    let count = |zones: &[dns::Zone]| u8::try_from(zones.len()).unwrap_or(u8::MAX);
    let mut evidence = config.policy.evidence.clone();
    evidence.own_names.push(config.milter.host.clone());
    evidence.blocklists = count(&dns.blocklists);
    evidence.allowlists = count(&dns.allowlists);
    let mut asking = config.clone();
    asking.policy = config.policy.with_evidence(&evidence);
    asking
}

/// Without systemd there is nobody to tell, and that is as good.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "unnotified");
    }
}

/// Does `work`, for which systemd is to wait longer than the unit says, if it takes long.
fn patiently<T>(work: impl FnOnce() -> T) -> T {
    let (done, is_done) = std_mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..EXTENSIONS {
                if is_done.recv_timeout(EXTEND_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let more = u32::try_from((2 * EXTEND_EVERY).as_micros()).unwrap_or(u32::MAX);
                tell_systemd(&[
                    NotifyState::ExtendTimeoutUsec(more),
                    NotifyState::Status("reads the snapshot"),
                ]);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// From one word to systemd to the next while a large snapshot is read from a slow disk.
const EXTEND_EVERY: Duration = Duration::from_secs(15);
/// A quarter of an hour: a disk that takes longer has another fault.
const EXTENSIONS: u32 = 60;

/// Effects that may wait for the projector, which takes them within milliseconds. More are lost,
/// counted, and repaired by its next comparison.
const EFFECTS: usize = 4_096;

#[cfg(test)]
mod tests;
