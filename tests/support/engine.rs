//! A real Redis: one server, or a cluster of masters with a replica each, inside a namespace.
//!
//! Nothing of the machine's own Redis is used. Each server keeps to its memory, unless told otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::interrupt;
use crate::netns::Namespace;
use crate::process::{self, Service};

/// A server, running or stopped.
#[derive(Debug)]
pub struct Redis {
    service: Option<Service>,
    directory: PathBuf,
    arguments: Vec<String>,
    /// Where it listens.
    pub port: u16,
}

impl Redis {
    /// Starts a server at `port` of `namespace`, with everything it writes under `directory`. What
    /// `arguments` say is set above the harness's own.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        port: u16,
        arguments: &[&str],
    ) -> Result<Self, Error> {
        let directory = directory.join(format!("redis-{port}"));
        fs::create_dir_all(&directory)
            .map_err(Error::io(format!("making {}", directory.display())))?;
        let mut redis = Self {
            service: None,
            directory,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            port,
        };
        redis.resume(namespace)?;
        Ok(redis)
    }

    /// Starts it again after it ended.
    pub fn resume(&mut self, namespace: &Namespace) -> Result<(), Error> {
        let mut command = Command::new("redis-server");
        let port = self.port.to_string();
        command.args([
            "--port",
            &port,
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
        ]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(&self.directory).args(&self.arguments);
        let service = Service::start(namespace, &mut command, &self.directory.join("log"))?;
        let service = self.service.insert(service);
        interrupt::wait_for("the start of redis-server", PATIENCE, || {
            service.check_alive()?;
            let mut ping = Command::new("redis-cli");
            ping.args(["-p", &port, "ping"]);
            let answer = process::run_in(namespace, &mut ping);
            // A password is asked for, or a snapshot is being read: it is there.
            Ok(answer.ok().filter(|it| !it.contains("refused")))
        })
        .map(drop)
    }

    /// Ends it without a word.
    pub fn kill(&mut self) -> Result<(), Error> {
        match self.service.take() {
            Some(service) => service.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Where it saves what it holds when it is told to.
    pub fn saved(&self) -> PathBuf {
        self.directory.join("dump.rdb")
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.service.as_ref().map(Service::pid)
    }

    /// Stops it in its tracks, as a machine does that hangs, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) -> Result<(), Error> {
        use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
        match &self.service {
            Some(service) => service.signal(if is_frozen { SIGSTOP } else { SIGCONT }),
            None => Err(Error::unexpected("redis-server should run", "it does not")),
        }
    }

    /// Runs a command of its own and gives the answer.
    pub fn say(&self, namespace: &Namespace, words: &[&str]) -> Result<String, Error> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]).args(words);
        let answer = process::run_in(namespace, &mut cli)?;
        Ok(answer.trim_end().to_owned())
    }
}

/// Three masters, each with a replica, that are one engine.
#[derive(Debug)]
pub struct RedisCluster {
    /// Its servers; which are masters changes.
    pub servers: Vec<Redis>,
}

impl RedisCluster {
    /// Starts six servers from `port` on, which tell each other and their clients `address`, one of
    /// `namespace`'s.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        address: &str,
        port: u16,
    ) -> Result<Self, Error> {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-announce-ip",
            address,
            "--cluster-node-timeout",
            "1500",
            "--cluster-require-full-coverage",
            "no",
            "--appendonly",
            "yes",
        ];
        let servers: Result<Vec<_>, _> = (port..port + SERVERS)
            .map(|port| Redis::start(namespace, directory, port, &arguments))
            .collect();
        let servers = servers?;
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(servers.iter().map(|it| format!("{address}:{}", it.port)));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        process::run_in(namespace, &mut create)?;
        let cluster = Self { servers };
        cluster.wait_until_whole(namespace)?;
        Ok(cluster)
    }

    /// Waits until every slot has a master that runs, and all that run know it.
    pub fn wait_until_whole(&self, namespace: &Namespace) -> Result<(), Error> {
        interrupt::wait_for("the cluster to be whole", PATIENCE, || {
            // Those that are left notice only after a while that one is gone.
            if self.masters(namespace)?.len() < MASTERS {
                return Ok(None);
            }
            let running = self.servers.iter().filter(|it| it.pid().is_some());
            for server in running {
                let info = server.say(namespace, &["cluster", "info"])?;
                let is_ok = info.contains("cluster_state:ok");
                if !is_ok || !info.contains("cluster_slots_ok:16384") {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// The servers that are masters now, by their place.
    pub fn masters(&self, namespace: &Namespace) -> Result<Vec<usize>, Error> {
        let mut masters = Vec::new();
        for (place, server) in self.servers.iter().enumerate() {
            if server.pid().is_some() && server.say(namespace, &["role"])?.starts_with("master") {
                masters.push(place);
            }
        }
        Ok(masters)
    }

    /// Runs a command on every master.
    pub fn say_to_masters(&self, namespace: &Namespace, words: &[&str]) -> Result<(), Error> {
        for place in self.masters(namespace)? {
            self.servers[place].say(namespace, words)?;
        }
        Ok(())
    }
}

/// Each with a replica.
const MASTERS: usize = 3;
const SERVERS: u16 = 6;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
