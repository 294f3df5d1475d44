//! The milter server: listeners, workers, start and end.
//!
//! Knows who is plugged into whom; leaves everything else to the files it plugs together.

use std::{sync::Arc, thread};

use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

use crate::{
    clock::Clock,
    policy::{Judge, Peers, Policy, Witness},
    socket_file::SocketFile,
};

use super::{
    admission::Admission,
    connection::Limits,
    context::Context,
    endpoint::Endpoint,
    handed::Handed,
    listener::{Bound, ListenError},
    metrics::Metrics,
    pulse::Pulse,
    settings::Settings,
    worker::{self, Shared},
};

/// A running milter. Dropping it ends it at once; [`drain`](Self::drain) ends it gently.
#[derive(Debug)]
pub struct Server {
    endpoints: Vec<Endpoint>,
    files: Vec<SocketFile>,
    workers: Vec<thread::JoinHandle<()>>,
    pulse: Pulse,
    stop: watch::Sender<()>,
}

/// A milter that listens and does not answer yet: MTAs that call wait.
#[derive(Debug)]
pub struct BoundServer {
    settings: Settings,
    bound: Vec<Bound>,
    workers: usize,
    witness: Option<Arc<dyn Witness>>,
    /// Who is asked what other hosts know.
    peers: Option<Arc<dyn Peers>>,
}

impl Server {
    /// Listens at every endpoint. Starts no thread, and is all that may take a right: a port below
    /// 1024, the group of a socket.
    pub fn bind(settings: &Settings) -> Result<BoundServer, ListenError> {
        Self::take_over(settings, Vec::new())
    }

    /// Listens at every endpoint, and takes what was opened for us where it is one of them. What
    /// was opened elsewhere is listened at as well, since who connects there would wait for ever.
    pub fn take_over(
        settings: &Settings,
        mut handed: Vec<Handed>,
    ) -> Result<BoundServer, ListenError> {
        settings.check()?;
        let mut settings = settings.clone();
        let workers = worker_count(settings.workers);
        let own = own_descriptors(workers, settings.listen.len());
        settings.connections = make_room(settings.connections, own);
        let mut bound = settings
            .listen
            .iter()
            .map(|endpoint| {
                let found = handed.iter().position(|it| it.endpoint == *endpoint);
                match found.map(|index| handed.swap_remove(index)) {
                    Some(handed) => Bound::take_over(handed, workers),
                    None => Bound::bind(endpoint, workers, &settings.users),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        for unnamed in handed {
            tracing::warn!(endpoint = %unnamed.endpoint, "handed-over-unnamed");
            bound.push(Bound::take_over(unnamed, workers)?);
        }
        Ok(BoundServer {
            settings,
            bound,
            workers,
            witness: None,
            peers: None,
        })
    }
}

impl BoundServer {
    /// Sessions may ask `witness` about their clients.
    #[must_use]
    pub fn asking(self, witness: Arc<dyn Witness>) -> Self {
        Self {
            witness: Some(witness),
            ..self
        }
    }

    /// Sessions may ask `peers` what other hosts of the site know.
    #[must_use]
    pub fn sharing(self, peers: Option<Arc<dyn Peers>>) -> Self {
        Self { peers, ..self }
    }

    /// Starts the workers.
    ///
    /// A session keeps the policy that stands when it begins. `judge` is called in the workers'
    /// threads and must not block.
    pub fn serve(
        self,
        policy: Arc<ArcSwap<Policy>>,
        judge: Arc<dyn Judge>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Server, ListenError> {
        let Self {
            settings,
            bound,
            workers: count,
            witness,
            peers,
        } = self;
        let context = Context::new(&settings, judge, Arc::clone(&metrics))
            .asking(witness)
            .sharing(peers);
        let shared = Arc::new(Shared {
            admission: Arc::new(Admission::new(&settings, Arc::clone(&metrics))),
            clock,
            context: Arc::new(context),
            drain: settings.drain,
            limits: Limits {
                frame: settings.frame_timeout,
                idle: settings.idle_timeout,
            },
            metrics,
            policy,
        });
        let (stop, stopping) = watch::channel(());
        let mut endpoints = Vec::new();
        let mut files = Vec::new();
        let mut parts: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for Bound {
            endpoint,
            listeners,
            file,
            backlog,
        } in bound
        {
            tracing::info!(%endpoint, workers = count, "listening");
            endpoints.push(endpoint);
            files.extend(file);
            for (part, listener) in parts.iter_mut().zip(listeners) {
                part.push((listener, backlog));
            }
        }
        let mut pulse = Pulse::new(Arc::clone(&shared.metrics));
        let workers = parts
            .into_iter()
            .enumerate()
            .map(|(index, listeners)| {
                let name = format!("milter-{index}");
                let answerer = pulse.worker();
                worker::start(
                    name,
                    listeners,
                    Arc::clone(&shared),
                    stopping.clone(),
                    answerer,
                )
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| ListenError::Worker { source })?;
        Ok(Server {
            endpoints,
            files,
            workers,
            pulse,
            stop,
        })
    }
}

impl Server {
    /// Where it listens, in the order of the settings, with the port given for port 0.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Asks whether the workers are alive.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Stops accepting, lets sessions end by themselves until the time for it is up, closes the
    /// rest. Returns when all workers have ended.
    pub fn drain(self) {
        let Self {
            files,
            workers,
            stop,
            ..
        } = self;
        drop(files);
        stop.send_replace(());
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("worker-panicked");
            }
        }
    }
}

/// As many as are wanted, or one for every two cores: the MTA, its filters and the writers of log,
/// journal and snapshot want some too, and a worker that they interrupt takes more time for the same.
fn worker_count(wanted: usize) -> usize {
    match wanted {
        0 => thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        wanted => wanted,
    }
}

/// Raises the limit of descriptors as far as the connections need and the system allows, and says how
/// many connections fit: no more than leave the daemon its own descriptors, so that no flood of
/// connections keeps a snapshot from being written or an operator from being answered.
fn make_room(connections: u32, own: u64) -> u32 {
    let wanted = u64::from(connections) + own;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return connections;
    };
    let mut limit = soft;
    if soft < wanted {
        limit = wanted.min(hard);
        if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, limit, hard) {
            limit = soft;
            tracing::warn!(%error, "descriptors-short");
        }
    }
    let fitting = fitting(connections, own, limit);
    if limit < wanted {
        tracing::warn!(limit, wanted, connections = fitting, "descriptors-short");
    }
    fitting
}

/// How many of so many connections are served under a limit of descriptors: where it is very low, half
/// of them are the daemon's own.
fn fitting(connections: u32, own: u64, limit: u64) -> u32 {
    let own = own.min(limit / 2);
    u32::try_from(limit - own).map_or(connections, |rest| connections.min(rest))
}

/// Descriptors beside the connections: of each worker a runtime, a listener at each endpoint and one in reserve;
/// files, the kernel's maps, and a socket for each question to the DNS.
fn own_descriptors(workers: usize, endpoints: usize) -> u64 {
    let of_workers = workers.saturating_mul(RUNTIME + 2 * endpoints);
    OTHER_DESCRIPTORS.saturating_add(of_workers as u64)
}

const OTHER_DESCRIPTORS: u64 = 256 + 1_000;
/// Of a current-thread runtime: epoll, twice, what wakes it, and what hears of signals.
const RUNTIME: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_keeps_descriptors_of_its_own() {
        let own = own_descriptors(2, 1);
        let fits = [1_000_000, 10_000, 1_024, 40, 0].map(|limit| fitting(8_000, own, limit));
        assert_eq!(fits, [8_000, 8_000, 512, 20, 0]);
        assert_eq!(fitting(100, own, 1_024), 100);
        let of_many = own_descriptors(1_024, 2);
        assert_eq!(fitting(80_000, of_many, 65_536), 65_536 - 1_256 - 9 * 1_024);
    }
}
