//! An engine to throw away, and what a test says to it directly.

use greygate::cluster::layout;
use greygate::policy::SharedKey;
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
    connect_to(PORT)
}

/// Whether the server at that port of loopback holds a record.
pub(crate) fn holds(port: u16, key: SharedKey) -> bool {
    let held = redis::cmd("EXISTS")
        .arg(name_of(key))
        .query(&mut connect_to(port));
    held.expect("it runs")
}

/// How mx1 signed in last, where the engine is on loopback.
pub(crate) fn sign_of_mx1() -> String {
    let sign: Option<String> = redis::cmd("HGET")
        .arg(NODES)
        .arg("mx1")
        .query(&mut connect())
        .expect("the engine runs");
    sign.unwrap_or_default()
}

/// What the engine keeps a record under that hosts ask for.
pub(crate) fn name_of(key: SharedKey) -> Vec<u8> {
    [b"greygate:", &layout::key(key)[..]].concat()
}

fn connect_to(port: u16) -> Connection {
    let client = Client::open(format!("redis://127.0.0.1:{port}")).expect("a legal address");
    client.get_connection().expect("the engine runs")
}

pub(crate) fn equipment() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    requirements::program("ip")?;
    requirements::program("redis-server")?;
    requirements::program("redis-cli").map(drop)
}

/// Where hosts sign in.
pub(crate) const NODES: &str = "greygate:{told}:nodes";
pub(crate) const PORT: u16 = 6379;
