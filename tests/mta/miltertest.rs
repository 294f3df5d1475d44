//! The milter as `miltertest` finds it: an MTA side that others wrote, driven by Lua scripts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use ::greygate::clock::SystemClock;
use ::greygate::milter::{Endpoint, Metrics, Server, Settings};
use ::greygate::policy::{Attempt, DeferReason, Judge, PassReason, Policy, Timestamp, Verdict};
use arc_swap::ArcSwap;
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
fn bounce_is_deferred_at_data() {
    needs!(requirements::program("miltertest"));
    run("bounce.lua");
}

#[test]
fn old_protocol_is_answered_at_every_stage() {
    needs!(requirements::program("miltertest"));
    run("old_protocol.lua");
}

/// Runs a script against a server, over TCP and over a Unix socket.
fn run(script: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = Settings {
        listen: vec![
            Endpoint::Inet(([127, 0, 0, 1], 0).into()),
            Endpoint::Unix(directory.path().join("milter.sock")),
        ],
        ..Settings::default()
    };
    let server = Server::start(
        &settings,
        Arc::new(ArcSwap::from_pointee(Policy::default())),
        Arc::new(ByName),
        Arc::new(SystemClock),
        Arc::new(Metrics::default()),
    )
    .expect("a server");
    for endpoint in server.endpoints() {
        let output = miltertest(script, endpoint);
        assert!(
            output.status.success(),
            "{script} at {endpoint}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    server.drain();
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

/// Judges by the recipient's name.
struct ByName;

impl Judge for ByName {
    fn judge(&self, attempt: &Attempt<'_>, _now: Timestamp) -> Verdict {
        if attempt.recipient.starts_with(b"new@") {
            Verdict::Defer(DeferReason::New)
        } else if attempt.recipient.starts_with(b"waited@") {
            let waited = Duration::from_secs(187);
            Verdict::Pass(PassReason::Waited { waited })
        } else {
            Verdict::Pass(PassReason::Passed)
        }
    }
}
