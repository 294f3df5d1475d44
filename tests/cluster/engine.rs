//! An engine to throw away, and what a test says to it directly.

use redis::{Client, Connection};
use support::engine::Redis;
use support::netns::Namespace;
use support::requirements::{self, Missing};
use tempfile::TempDir;

/// A namespace with a server in it.
pub(crate) struct Engine {
    // Ends before its namespace.
    pub(crate) redis: Redis,
    pub(crate) namespace: Namespace,
    _directory: TempDir,
}

impl Engine {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let namespace = Namespace::create("engine").expect("the suite runs as root");
        let redis = Redis::start(&namespace, directory.path(), PORT, arguments);
        Self {
            redis: redis.expect("redis-server starts"),
            namespace,
            _directory: directory,
        }
    }

    /// Runs a test where the engine is on loopback.
    pub(crate) fn with<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work)
    }

    /// What a command comes to.
    pub(crate) fn say(&self, words: &[&str]) -> String {
        self.redis
            .say(&self.namespace, words)
            .unwrap_or_else(|error| format!("{error}"))
    }
}

/// A connection of the test's own, made where the engine is on loopback.
pub(crate) fn connect() -> Connection {
    let client = Client::open(format!("redis://127.0.0.1:{PORT}")).expect("a legal address");
    client.get_connection().expect("the engine runs")
}

pub(crate) fn equipment() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    requirements::program("ip")?;
    requirements::program("redis-server")?;
    requirements::program("redis-cli").map(drop)
}

pub(crate) const PORT: u16 = 6379;
