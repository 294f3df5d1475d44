//! Who may come in, how many, and how long each thing may take.

use std::{
    fs::{self, Permissions},
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

use greygate::milter::{Endpoint, ListenError, Server, Settings};
use support::mta::{Mta, POSTFIX};

use crate::world::World;

/// Short enough to wait for, long enough for a machine that is busy.
const FRAME_TIMEOUT: Duration = Duration::from_millis(1_500);

#[test]
fn strangers_are_closed_before_the_first_byte() {
    let world = World::with(|settings| {
        settings.peers = vec!["198.51.100.0/24".parse().expect("a network")];
    });
    let mut mta = Mta::connect(world.inet()).expect("accepted and closed");
    mta.wait_for_close().expect("closed");
    assert_eq!(world.metric(r#"milter_refused_total{reason="peer"}"#), 1);
    Mta::negotiate(world.unix(), POSTFIX).expect("our own user may");
}

#[test]
fn open_listener_without_peers_is_refused() {
    let settings = Settings {
        listen: vec![Endpoint::Inet((Ipv4Addr::UNSPECIFIED, 0).into())],
        ..Settings::default()
    };
    let error = Server::bind(&settings).expect_err("strangers could connect");
    assert!(matches!(error, ListenError::Settings(_)), "{error}");
    assert!(error.to_string().contains("peers"), "{error}");
}

#[test]
fn other_users_of_this_host_are_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let world = World::new();
    // As if an operator had opened the socket to everybody: the uid still counts.
    let socket = world.directory().join("milter.sock");
    fs::set_permissions(world.directory(), Permissions::from_mode(0o755)).expect("a mode");
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("a mode");
    let tool = world.directory().join("milter-load");
    fs::copy(env!("CARGO_BIN_EXE_milter-load"), &tool).expect("a copy");
    let output = Command::new(&tool)
        .args(["run", &world.unix().to_string(), "--sessions", "1"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("the load tool runs");
    assert!(!output.status.success(), "{output:?}");
    // One connection for each of its threads, at most.
    assert_ne!(world.metric(r#"milter_refused_total{reason="user"}"#), 0);
    assert_eq!(
        world.metric(r#"milter_connections_total{listener="unix"}"#),
        0
    );
}

#[test]
fn beyond_the_cap_connections_are_closed_at_once() {
    let world = World::with(|settings| settings.connections = 3);
    let seated: Vec<_> = (0..3).map(|_| negotiated(world.inet())).collect();
    let mut fourth = Mta::connect(world.inet()).expect("accepted and closed");
    fourth.wait_for_close().expect("closed");
    assert_eq!(
        world.metric(r#"milter_refused_total{reason="connections"}"#),
        1
    );
    drop(seated);
    world.wait_for_metric("milter_connections_open", 0);
    negotiated(world.inet());
}

#[test]
fn one_peer_cannot_take_every_place() {
    let world = World::with(|settings| settings.connections_per_peer = 2);
    let _seated: Vec<_> = (0..2).map(|_| negotiated(world.inet())).collect();
    let mut third = Mta::connect(world.inet()).expect("accepted and closed");
    third.wait_for_close().expect("closed");
    let refused = r#"milter_refused_total{reason="connections_per_peer"}"#;
    assert_eq!(world.metric(refused), 1);
    negotiated(world.unix());
}

#[test]
fn silence_between_frames_is_legal_and_within_one_is_not() {
    let world = World::with(|settings| settings.frame_timeout = FRAME_TIMEOUT);
    let mut silent = negotiated(world.inet());
    let mut dripping = negotiated(world.inet());
    dripping.write(b"\0\0\0\x20").expect("written");
    dripping.wait_for_close().expect("closed");
    world.wait_for_metric(r#"milter_ended_total{reason="frame_timeout"}"#, 1);
    // By now the other has been silent for longer than a frame may take.
    silent
        .client("[192.0.2.7]", Ipv4Addr::new(192, 0, 2, 7).into())
        .expect("held");
    silent.mail("a@x.example").expect("held");
    assert!(silent.rcpt("b@y.example").expect("an answer").is_deferral());
}

#[test]
fn newcomer_that_says_nothing_is_closed() {
    let world = World::with(|settings| settings.frame_timeout = FRAME_TIMEOUT);
    let mut mta = Mta::connect(world.unix()).expect("a connection");
    mta.wait_for_close().expect("closed");
    world.wait_for_metric(r#"milter_ended_total{reason="frame_timeout"}"#, 1);
}

#[test]
fn silence_has_an_end_too() {
    let world = World::with(|settings| settings.idle_timeout = FRAME_TIMEOUT);
    let mut mta = negotiated(world.inet());
    mta.wait_for_close().expect("closed");
    world.wait_for_metric(r#"milter_ended_total{reason="idle_timeout"}"#, 1);
}

#[test]
fn peer_that_does_not_read_is_closed() {
    let world = World::with(|settings| settings.frame_timeout = FRAME_TIMEOUT);
    let mut mta = negotiated(world.unix());
    mta.hold(b'M', b"<a@x.example>\0");
    mta.flush().expect("written");
    // Answers fill the socket until the server can neither write nor read on.
    let closed = loop {
        for _ in 0..1_000 {
            mta.hold(b'R', b"<b@y.example>\0");
        }
        if let Err(error) = mta.flush() {
            break error;
        }
    };
    assert!(
        matches!(
            closed.kind(),
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
        ),
        "{closed}"
    );
    world.wait_for_metric(r#"milter_ended_total{reason="write_timeout"}"#, 1);
}

fn negotiated(endpoint: &Endpoint) -> Mta {
    Mta::negotiate(endpoint, POSTFIX).expect("terms").0
}
