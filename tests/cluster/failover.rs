//! A master, its replica, and the Sentinels that put the one in the place of the other.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use greygate::cluster::{Mode, Server, State};
use greygate::policy::SharedKey;
use support::engine::Redis;
use support::interrupt;
use support::netns::Namespace;
use support::process::{self, Service};
use tempfile::TempDir;

use crate::engine::{Engine, PORT, equipment, holds};
use crate::hosts::{ATTEMPT, OTHER, Site, is_new, until};

#[test]
fn replica_that_takes_the_masters_place_knows_what_was_told() {
    equipment().expect("the suite's needs are installed");
    let mut master = Engine::start(&[]);
    let directory = TempDir::new().expect("a temporary directory");
    let port = PORT.to_string();
    let replica = Redis::start(
        &master.namespace,
        directory.path(),
        PORT + 1,
        &["--replicaof", "127.0.0.1", &port],
    );
    let replica = replica.expect("redis-server starts");
    let sentinels: Vec<_> = SENTINELS
        .map(|port| Sentinel::start(&master.namespace, directory.path(), port))
        .collect();
    until("the Sentinels to know the replica and each other", || {
        sentinels.iter().all(|it| it.is_ready(&master.namespace))
    });

    let mut site = Site::new();
    site.settings.mode = Mode::Sentinel;
    site.settings.servers = SENTINELS
        .map(|port| Server {
            host: "127.0.0.1".to_owned(),
            port,
        })
        .collect();
    let [mx1, mx2] = master.with(|| site.hosts());
    assert!(is_new(mx1.judge(&ATTEMPT)));
    let tuple = SharedKey::Tuple(mx1.tuple_key());
    until("the replica holds the tuple", || {
        master.with(|| holds(replica.port, tuple))
    });
    // Nobody is left to tell it again.
    drop(mx1);

    master.redis.kill().expect("it ran");
    mx2.wait_until("it is alone", |it| matches!(it.state, State::Alone(_)));
    assert!(is_new(mx2.judge(&OTHER)), "mail flows");
    let shares = interrupt::wait_for("the replica to take over", FAILOVER, || {
        Ok((mx2.cluster.standing().state == State::Sharing).then_some(()))
    });
    shares.unwrap_or_else(|error| panic!("{error}: {:?}", mx2.cluster.standing()));
    let role = replica.say(&master.namespace, &["role"]);
    assert!(role.is_ok_and(|it| it.starts_with("master")));
    until("mx2 knows the tuple", || mx2.knows(&ATTEMPT));
}

/// One of those who see to it that there is a master.
struct Sentinel {
    port: String,
    _service: Service,
}

impl Sentinel {
    fn start(namespace: &Namespace, directory: &Path, port: u16) -> Self {
        let file = directory.join(format!("sentinel-{port}.conf"));
        // They write into it what they learn.
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {PORT} 2\n\
             sentinel down-after-milliseconds mymaster 3000\nsentinel failover-timeout mymaster 5000\n",
            directory.display()
        );
        fs::write(&file, text).expect("the directory is ours");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        let log = file.with_extension("log");
        let service = Service::start(namespace, &mut command, &log);
        Self {
            port: port.to_string(),
            _service: service.expect("redis-server starts"),
        }
    }

    /// Whether it could have the replica take over.
    fn is_ready(&self, namespace: &Namespace) -> bool {
        let mut ask = Command::new("redis-cli");
        ask.args(["-p", &self.port, "sentinel", "master", "mymaster"]);
        let told = process::run_in(namespace, &mut ask).unwrap_or_default();
        let fields: Vec<_> = told.lines().collect();
        let says = |name: &str, value: &str| fields.windows(2).any(|it| it == [name, value]);
        says("num-slaves", "1") && says("num-other-sentinels", "2")
    }
}

const SENTINELS: std::ops::RangeInclusive<u16> = 26_379..=26_381;
/// For three seconds of silence, an election, a promotion, and five seconds between two tries of a host; and for the half
/// minute in which a Sentinel does nothing that has not had a processor for two seconds.
const FAILOVER: Duration = Duration::from_mins(2);
