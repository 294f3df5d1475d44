//! Hosts that share through a Redis of their own, or one that shares with nobody; each has a namespace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use support::{
    Error,
    bench::daemon::{Daemon, Setup, Workers},
    engine::Redis,
    greygate, hosts, interrupt, load,
    netns::Namespace,
};
use tempfile::TempDir;

/// Hosts, and their engine if they share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) hosts: Vec<Daemon>,
    pub(crate) engine: Option<Engine>,
}

/// A Redis in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Engine {
    // Ends before its namespace.
    redis: Redis,
    pub(crate) namespace: Namespace,
    _directory: TempDir,
}

/// CPU time so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Of all hosts, but for the thread that answers our own questions.
    pub(crate) hosts: Duration,
    /// Of their threads that share, which is in that.
    pub(crate) sharing: Duration,
    /// Of the engine.
    pub(crate) engine: Duration,
}

/// What the hosts say of their telling, together.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    pub(crate) told: f64,
    /// Questions that were asked.
    pub(crate) asked: f64,
    /// Sessions that wanted to ask and decided without an answer.
    pub(crate) unanswered: f64,
    queue: f64,
    /// Changes at each look of a host at what it has to tell.
    looks: Vec<u64>,
}

impl Spent {
    /// What was spent since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            hosts: self.hosts.saturating_sub(before.hosts),
            sharing: self.sharing.saturating_sub(before.sharing),
            engine: self.engine.saturating_sub(before.engine),
        }
    }
}

impl Telling {
    /// What has been said since `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            told: self.told - before.told,
            asked: self.asked - before.asked,
            unanswered: self.unanswered - before.unanswered,
            ..self
        }
    }
}

impl Site {
    /// A host that shares with nobody.
    pub(crate) fn alone(name: &'static str) -> Result<Self, Error> {
        let setup = Setup::empty(MODE, Workers::Default).with(RULES.to_owned());
        Ok(Self {
            hosts: vec![Daemon::start(name, setup)?],
            engine: None,
        })
    }

    /// Hosts that share.
    pub(crate) fn sharing(name: &'static str, hosts: u32) -> Result<Self, Error> {
        let engine = Engine::start()?;
        let started = (1..=hosts).map(|number| {
            let namespace = Arc::new(Namespace::create(&format!("mx{number}"))?);
            hosts::cable(&engine.namespace, &namespace, number as usize)?;
            let cluster = format!(
                "[cluster]\nservers = [\"{}:{PORT}\"]\nnode = \"mx{number}\"\n",
                hosts::ENGINE
            );
            let setup = Setup::empty(MODE, Workers::Default).with(format!("{RULES}{cluster}"));
            Daemon::start_in(namespace, name, setup)
        });
        let site = Self {
            hosts: started.collect::<Result<_, Error>>()?,
            engine: Some(engine),
        };
        site.settle()?;
        Ok(site)
    }

    /// Waits until all hosts share and ask, with nothing left to tell: what is measured shall be sharing.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        if self.engine.is_none() {
            return Ok(());
        }
        for host in &self.hosts {
            interrupt::wait_for("a host to share", PATIENCE, || {
                Ok(host.greygate.is_settled()?.then_some(()))
            })?;
        }
        Ok(())
    }

    /// CPU time so far of all that runs.
    pub(crate) fn spent(&self) -> Result<Spent, Error> {
        let spent = || {
            let mut spent = Spent::default();
            for pid in self.hosts.iter().filter_map(|it| it.greygate.pid()) {
                spent.hosts += load::cpu_time(pid)?;
                spent.hosts -= load::thread_time(pid, "metrics")?;
                spent.sharing += load::thread_time(pid, "cluster")?;
            }
            if let Some(pid) = self.engine.as_ref().and_then(|it| it.redis.pid()) {
                spent.engine = load::cpu_time(pid)?;
            }
            Ok(spent)
        };
        spent().map_err(Error::io("reading CPU times"))
    }

    /// What the hosts say of their telling.
    pub(crate) fn telling(&self) -> Result<Telling, Error> {
        let mut telling = Telling::default();
        for host in &self.hosts {
            let page = host.greygate.metrics(&host.server.namespace)?;
            let metric = |name: &str| greygate::sum(&page, &format!("greygate_cluster_{name}"));
            telling.told += metric("told_total");
            telling.asked += metric("asked_total");
            for why in UNANSWERED {
                telling.unanswered += metric(why);
            }
            telling.queue += metric("queue");
            telling.looks.push(metric("lag_seconds").to_bits());
        }
        Ok(telling)
    }

    /// Waits until all that has changed is told, and says when the last of it was: every host has looked twice
    /// since, and found nothing.
    pub(crate) fn wait_until_told(&self) -> Result<Instant, Error> {
        let mut before = self.telling()?;
        let mut latest = Instant::now();
        let mut calm = 0;
        interrupt::wait_for("everything to be told", PATIENCE, || {
            let now = self.telling()?;
            if now.queue > 0.0 || now.told > before.told {
                (before, latest, calm) = (now, Instant::now(), 0);
                return Ok(None);
            }
            let have_looked = now.looks.iter().zip(&before.looks).all(|(a, b)| a != b);
            if have_looked {
                (before, calm) = (now, calm + 1);
            }
            Ok((calm == 2).then_some(latest))
        })
    }
}

impl Engine {
    fn start() -> Result<Self, Error> {
        let directory = TempDir::new().map_err(Error::io("making a directory"))?;
        let namespace = hosts::place_engine()?;
        let redis = Redis::start(&namespace, directory.path(), PORT, &[])?;
        Ok(Self {
            redis,
            namespace,
            _directory: directory,
        })
    }

    /// What a command comes to.
    pub(crate) fn say(&self, words: &[&str]) -> Result<String, Error> {
        self.redis.say(&self.namespace, words)
    }
}

/// Where the engine listens.
pub(crate) const PORT: u16 = 6_379;
/// As it is installed.
const MODE: &str = "hybrid";
/// A retry is early for as long as this takes.
const RULES: &str = "[greylist]\ndelay = \"1h\"\n";
/// Counters of sessions that decided without an answer.
const UNANSWERED: [&str; 4] = [
    "late_total",
    "failed_total",
    "skipped_total",
    "overflow_total",
];
/// For everything that waits to be told.
const PATIENCE: Duration = Duration::from_mins(2);
