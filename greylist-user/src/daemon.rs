//! Who is plugged into whom, in which order they start and stop, and what a reload changes.
//!
//! The one place that knows all rooms. It starts them from the inside out: the store; then, while
//! there are rights to do so, all that listens, and the kernel filter (`Opened`); then, without
//! any right, the threads of the projector, the keeper, the milter, and the doors, which name the
//! milter's endpoints. It stops mail first, then the doors, then takes a last snapshot, and at the
//! very end the kernel filter.

mod control;
mod rights;
mod sentences;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use self::rights::Rights;

use self::control::Desk;
use self::sentences::{UpheldSentences, in_force};
use crate::admin::{
    self, BoundControl, BoundMetrics, ControlServer, DroppedSyns, MetricsListen, MetricsServer,
};
use crate::chain::chain;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::dns::{self, Dns};
use crate::kernel::{self, KernelFilter, Projector};
use crate::log;
use crate::milter::{self, Endpoint};
use crate::policy::{Action, Policy};
use crate::store::{self, Keeper, Store};

/// A running greygate.
#[derive(Debug)]
pub struct Daemon {
    /// What it was started with, to tell which changes want a restart.
    config: Config,
    policy: Arc<ArcSwap<Policy>>,
    milter: milter::Server,
    rooms: Rooms,
}

/// What runs behind the milter, in the order of its end.
#[derive(Debug)]
struct Rooms {
    control: ControlServer,
    metrics: Option<MetricsServer>,
    dns: Arc<Dns>,
    keeper: Keeper,
    projector: Arc<Projector>,
}

impl Daemon {
    /// Starts every room. When it returns, Postfix is answered, and `rights` are gone.
    ///
    /// # Errors
    ///
    /// What an operator must mend: a store that cannot be used, or an address that is taken. That
    /// the kernel does not help is no error; `status` says why.
    pub fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        log: &log::Writer,
        rights: Rights,
    ) -> Result<Self, DaemonError> {
        let metrics = Metrics::default();
        let now = clock.now();
        let policy = Arc::new(ArcSwap::from_pointee(rules(&config, &config.dns)));
        let (effects, received) = mpsc::channel(EFFECTS);
        let (store, restored) = Store::open(
            config.store.clone(),
            Arc::clone(&policy),
            effects,
            Arc::clone(&metrics.store),
            now,
        )?;
        tracing::info!(found = %restored, "restored");
        let store = Arc::new(store);
        let opened = {
            let config = config.clone();
            rights.lend(move || Opened::open(&config))?
        };
        rights.end();
        let sentences = Arc::new(UpheldSentences {
            store: Arc::clone(&store),
            policy: Arc::clone(&policy),
            drops: config.xdp.action == Action::Enforce,
        });
        let dropped_before = DroppedSyns::of(&opened.filter.status());
        let projector = Arc::new(Projector::start(
            opened.filter,
            Arc::clone(&sentences) as _,
            Arc::clone(&clock),
            received,
            Arc::clone(&metrics.kernel),
        ));
        let keeper =
            Keeper::start(Arc::clone(&store), Arc::clone(&clock)).map_err(DaemonError::Thread)?;
        let dns = Arc::new(Dns::new(config.dns.clone(), metrics.dns.clone()));
        if policy.load().evidence.asks() {
            dns.wake().map_err(DaemonError::Thread)?;
        }
        let milter = opened.milter.asking(Arc::clone(&dns) as _).serve(
            Arc::clone(&policy),
            Arc::clone(&store) as _,
            Arc::clone(&clock),
            Arc::clone(&metrics.milter),
        )?;
        let registry = Arc::new(metrics.registered(log));
        let desk = Arc::new(Desk {
            clock,
            dns: Arc::clone(&dns),
            dropped_before,
            endpoints: milter.endpoints().to_vec(),
            milter: Arc::clone(&metrics.milter),
            policy: Arc::clone(&policy),
            projector: Arc::clone(&projector),
            registry: Arc::clone(&registry),
            restored: restored.to_string(),
            sentences,
            snapshot_interval: config.store.snapshot_interval,
            started: now,
            store,
            stored: Arc::clone(&metrics.store),
            wants_filter: !config.xdp.interfaces.is_empty(),
        });
        let control = opened
            .control
            .serve(Arc::clone(&desk) as _, Arc::clone(&metrics.admin))?;
        let metrics = opened
            .metrics
            .map(|bound| bound.serve(registry, desk, metrics.admin))
            .transpose()?;
        Ok(Self {
            config,
            policy,
            milter,
            rooms: Rooms {
                control,
                metrics,
                dns,
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

    /// Applies the rules of `config` from now on, and names what it cannot change while running.
    pub fn reload(&mut self, config: &Config) {
        self.policy.store(Arc::new(rules(config, &self.config.dns)));
        self.rooms.projector.refresh();
        if self.policy.load().evidence.asks()
            && let Err(error) = self.rooms.dns.wake()
        {
            // Nothing is asked, and mail goes on.
            tracing::error!(%error, "dns-failed");
        }
        let sections = wanting_restart(&self.config, config);
        if sections.is_empty() {
            tracing::info!("reloaded");
        } else {
            tracing::warn!(sections = sections.join(" "), "half-reloaded");
        }
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
        self.dns.stop();
        if let Err(error) = self.keeper.stop() {
            tracing::error!(error = chain(&error), "unsaved");
        }
        // The desk that shared it went with the doors.
        if let Some(projector) = Arc::into_inner(self.projector) {
            projector.stop();
        }
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
    fn open(config: &Config) -> Result<Self, DaemonError> {
        Ok(Self {
            milter: milter::Server::bind(&config.milter)?,
            control: ControlServer::bind(&config.admin)?,
            metrics: match config.metrics.listen {
                MetricsListen::At(address) => Some(MetricsServer::bind(address)?),
                MetricsListen::Off => None,
            },
            filter: kernel::open(&config.xdp),
        })
    }
}

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP reads `file` again. A second SIGTERM or SIGINT
/// ends it without waiting for open sessions; the last snapshot is written all the same.
///
/// # Errors
///
/// When it cannot start. Once it runs, only a signal ends it.
pub fn run(file: &Path, config: Config) -> Result<(), DaemonError> {
    // Before there is any other thread.
    let rights = Rights::set_apart();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Signals)?;
    let result = runtime.block_on(serve(file, config, rights));
    runtime.shutdown_background();
    result
}

async fn serve(file: &Path, config: Config, rights: Rights) -> Result<(), DaemonError> {
    let log = log::init(&config.log);
    // Caught before anything starts, so that an early one is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    let mut daemon = Daemon::start(config, Arc::new(SystemClock), &log, rights)?;
    tell_systemd(NotifyState::Ready);
    loop {
        tokio::select! {
            _ = hangup.recv() => match config::read(file) {
                Ok(config) => daemon.reload(&config),
                Err(error) => tracing::error!(why = chain(&error), "unreloaded"),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tell_systemd(NotifyState::Stopping);
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
    dns: dns::Metrics,
    milter: Arc<milter::Metrics>,
    store: Arc<store::Metrics>,
    kernel: Arc<kernel::Metrics>,
}

impl Metrics {
    fn registered(&self, log: &log::Writer) -> Registry {
        let mut registry = Registry::with_prefix("greygate");
        log.register(&mut registry);
        self.register(&mut registry);
        registry
    }

    fn register(&self, registry: &mut Registry) {
        self.admin.register(registry);
        self.dns.register(registry);
        self.milter.register(registry);
        self.store.register(registry);
        self.kernel.register(registry);
    }
}

/// The rules of `config`, under which the lists of `dns`, which runs, can be asked, and this host's name
/// is no client's.
fn rules(config: &Config, dns: &dns::Settings) -> Policy {
    let mut policy = in_force(&config.policy);
    // Their places are told in a byte; no legal configuration has more.
    let count = |zones: &[dns::Zone]| u8::try_from(zones.len()).unwrap_or(u8::MAX);
    let evidence = &mut policy.evidence;
    evidence.own_names.push(config.milter.host.clone());
    evidence.blocklists = count(&dns.blocklists);
    evidence.allowlists = count(&dns.allowlists);
    policy
}

/// The sections that differ beyond what a reload can change.
fn wanting_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // How addresses are written there is a key of the log's.
    let milter = milter::Settings {
        addresses: old.milter.addresses,
        ..new.milter.clone()
    };
    [
        ("milter", old.milter != milter),
        ("dns", old.dns != new.dns),
        ("xdp", old.xdp != new.xdp),
        ("store", old.store != new.store),
        ("admin", old.admin != new.admin),
        ("metrics", old.metrics != new.metrics),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter_map(|(section, changed)| changed.then_some(section))
    .collect()
}

/// Without systemd there is nobody to tell, and that is as good.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "unnotified");
    }
}

/// Effects that may wait for the projector, which takes them within milliseconds. More are lost,
/// counted, and repaired by its next comparison.
const EFFECTS: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All but the counter of lost log lines, which is registered where the log begins. A metric
    /// with labels is on the page only once it has counted.
    #[test]
    fn manual_of_operations_explains_every_metric_and_no_other() {
        let manual = include_str!("../../docs/operations.md");
        let (_, section) = manual
            .split_once("## What the metrics say")
            .expect("the manual has the section");
        let (section, _) = section.split_once("\n## ").expect("it is not the last");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let explained: BTreeSet<&str> = rows
            .filter_map(|row| row.split_once(" | "))
            .flat_map(|(names, _)| names.split(", "))
            .map(|name| name.trim_matches('`'))
            .collect();
        let name = |explained: &str| explained.split('{').next().map(str::to_owned);
        let all: BTreeSet<_> = explained.iter().filter_map(|it| name(it)).collect();
        let plain = explained.iter().filter(|it| !it.contains('{'));
        let plain: BTreeSet<_> = plain.filter_map(|it| name(it)).collect();

        let mut registry = Registry::default();
        Metrics::default().register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("it is text");
        let shown: BTreeSet<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            })
            .chain(["log_lines_lost_total".to_owned()])
            .collect();
        let unexplained: Vec<_> = shown.difference(&all).collect();
        assert!(unexplained.is_empty(), "{unexplained:?}");
        let invented: Vec<_> = plain.difference(&shown).collect();
        assert!(invented.is_empty(), "{invented:?}");
    }

    #[test]
    fn rules_need_no_restart_and_what_does_is_named() {
        let config = |text: &str| config::parse(Path::new("f"), text.as_bytes()).expect("legal");
        let old = Config::default();
        for (text, sections) in [
            ("[greylist]\ndelay = \"5m\"\n", vec![]),
            ("[punish]\nsentence = \"1h\"\ncontact = \"abuse\"\n", vec![]),
            ("[reputation]\naction = \"defer\"\n", vec![]),
            ("[lists]\nallow = [\"192.0.2.0/24\"]\n", vec![]),
            ("[greylist]\nwho = \"suspicious\"\n", vec![]),
            ("[dns]\nspf_trusted = [\"a.example\"]\n", vec![]),
            ("[dns]\nblocklists = [\"list.example\"]\n", vec!["dns"]),
            ("[milter]\nreply_sentenced = \"No\"\n", vec!["milter"]),
            (
                "[log]\naddresses = \"hash\"\n[xdp]\nrate = 5\n",
                vec!["xdp", "log"],
            ),
            ("[store]\nclients = 2_000\n", vec!["store"]),
        ] {
            assert_eq!(wanting_restart(&old, &config(text)), sections, "{text}");
        }
    }
}
