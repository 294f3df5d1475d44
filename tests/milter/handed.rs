//! Listeners that systemd opened: a restart loses nobody who connects meanwhile.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use greygate::milter::{Endpoint, Handed, Server, Settings};
use greygate::policy::Policy;
use socket2::Socket;
use support::clock::TestClock;
use support::mta::Mta;

use crate::world::{CLIENT, Table};

#[test]
fn connections_wait_for_the_next_daemon_and_the_socket_file_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("milter.sock");
    // What systemd holds as long as the socket unit is active.
    let systemd = UnixListener::bind(&path).expect("a socket");
    let endpoint = Endpoint::Unix(path.clone());

    let first = server(&endpoint, &systemd);
    let session = Mta::open(&endpoint, CLIENT).expect("a session");
    session.quit().expect("a clean end");
    first.drain();
    assert!(path.exists(), "it is not ours to remove");

    let waiting = std::thread::spawn({
        let endpoint = endpoint.clone();
        let waiting = Mta::connect(&endpoint).expect("the backlog takes it");
        move || {
            let session = Mta::open(&endpoint, CLIENT);
            drop(waiting);
            session.expect("the next daemon answers").quit()
        }
    });
    let second = server(&endpoint, &systemd);
    waiting.join().expect("no panic").expect("a clean end");
    assert_eq!(second.endpoints(), [endpoint]);
    second.drain();
}

#[test]
fn listener_that_the_configuration_does_not_name_is_served_as_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("handed.sock");
    let systemd = UnixListener::bind(&path).expect("a socket");
    let named = Endpoint::Unix(directory.path().join("named.sock"));
    let server = server(&named, &systemd);
    assert_eq!(server.endpoints(), [named, Endpoint::Unix(path)]);
    for endpoint in server.endpoints() {
        let session = Mta::open(endpoint, CLIENT).expect("a session");
        session.quit().expect("a clean end");
    }
    server.drain();
    assert!(
        !directory.path().join("named.sock").exists(),
        "this is ours"
    );
    assert!(Path::new(directory.path()).join("handed.sock").exists());
}

/// A daemon's milter that listens at `endpoint`, started by who holds `listener`.
fn server(endpoint: &Endpoint, listener: &UnixListener) -> Server {
    let settings = Settings {
        listen: vec![endpoint.clone()],
        workers: 2,
        ..Settings::default()
    };
    let listener = listener.try_clone().expect("a descriptor");
    let handed = Handed::try_from(Socket::from(listener)).expect("it listens");
    let policy = Arc::new(ArcSwap::from_pointee(Policy::default()));
    let clock = Arc::<TestClock>::default();
    Server::take_over(&settings, vec![handed])
        .and_then(|bound| bound.serve(policy, Arc::<Table>::default(), clock, Arc::default()))
        .expect("a server")
}
