//! The daemon as `miltertest` finds it: an MTA side that others wrote, driven by Lua scripts.
//!
//! The daemon is the real one, all rooms of it, in this process and by a clock that is turned.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use ::greygate::admin::MetricsListen;
use ::greygate::config::Config;
use ::greygate::daemon::{Daemon, Rights};
use ::greygate::log;
use ::greygate::milter::Endpoint;
use support::clock::TestClock;
use support::mta::{Mta, POSTFIX};
use support::{needs, requirements};

#[test]
fn new_recipient_is_deferred_beside_a_known_one() {
    needs!(requirements::program("miltertest"));
    run("deferred.lua");
}

#[test]
fn message_that_waited_gets_a_header() {
    needs!(requirements::program("miltertest"));
    run("waited.lua");
}

#[test]
fn bounce_is_deferred_at_its_end() {
    needs!(requirements::program("miltertest"));
    run("bounce.lua");
}

#[test]
fn old_protocol_is_answered_at_every_stage() {
    needs!(requirements::program("miltertest"));
    run("old_protocol.lua");
}

/// Runs a script against a daemon over TCP, and against another over a Unix socket.
fn run(script: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("milter.sock");
    for listen in [
        Endpoint::Inet(([127, 0, 0, 1], 0).into()),
        Endpoint::Unix(socket),
    ] {
        let state = tempfile::tempdir().expect("a directory");
        let daemon = with_a_past(listen, state.path());
        let endpoint = &daemon.endpoints()[0];
        let output = miltertest(script, endpoint);
        assert!(
            output.status.success(),
            "{script} at {endpoint}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        daemon.stop();
    }
}

/// A daemon to which `known@` has passed, `waited@` may come again and `new@` was never seen.
pub(crate) fn with_a_past(listen: Endpoint, state: &Path) -> Daemon {
    let clock = Arc::new(TestClock::default());
    let config = configuration(listen, state);
    let log = log::init(&config.log);
    let daemon = Daemon::start(config, Arc::clone(&clock) as _, &log, Rights::as_they_are())
        .expect("everything is free");
    live_through_the_past(&daemon.endpoints()[0], &clock);
    daemon
}

fn configuration(listen: Endpoint, state: &Path) -> Config {
    let mut config = Config::default();
    config.milter.listen = vec![listen];
    config.log.level = log::Level::Error;
    config.store.directory = state.join("store");
    config.store.seed_file = state.join("seed");
    config.store.capacity = 1_000;
    config.admin.socket = state.join("control.sock");
    config.metrics.listen = MetricsListen::Off;
    config
}

/// The client's name is the scripts': without one it would be remembered by its exact address.
fn live_through_the_past(endpoint: &Endpoint, clock: &TestClock) {
    let client: IpAddr = "192.0.2.7".parse().expect("an address");
    let attempt = |recipients: &[&str]| {
        let (mut mta, _) = Mta::negotiate(endpoint, POSTFIX).expect("the daemon answers");
        mta.client("mx.client.example", client)
            .expect("it is heard");
        mta.helo("helo.client.example").expect("it is heard");
        mta.mail("a@x.example").expect("MAIL is heard");
        let deferred: Vec<_> = recipients
            .iter()
            .map(|recipient| mta.rcpt(recipient).expect("RCPT is answered").is_deferral())
            .collect();
        mta.quit().expect("the connection ends");
        deferred
    };
    let first = attempt(&["known@y.example", "waited@y.example"]);
    assert_eq!(first, [true, true]);
    clock.advance(Duration::from_secs(187));
    assert_eq!(attempt(&["known@y.example"]), [false]);
}

fn miltertest(script: &str, endpoint: &Endpoint) -> Output {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("mta/miltertest");
    let socket = match endpoint {
        Endpoint::Inet(SocketAddr::V4(address)) => {
            format!("inet:{}@{}", address.port(), address.ip())
        }
        other => other.to_string(),
    };
    Command::new("miltertest")
        .arg("-D")
        .arg(format!("socket={socket}"))
        .arg("-s")
        .arg(scripts.join(script))
        .output()
        .expect("miltertest runs")
}
