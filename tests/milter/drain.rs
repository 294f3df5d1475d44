//! A gentle end.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use support::mta::{Mta, POSTFIX};

use crate::world::World;

#[test]
fn open_sessions_finish_and_new_ones_are_refused() {
    let world = World::with(|settings| settings.drain = Duration::from_secs(15));
    let endpoints = world.server.endpoints().to_vec();
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    assert!(
        mta.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    let (ended, end) = mpsc::channel();
    let server = world.server;
    let drain = thread::spawn(move || {
        server.drain();
        ended.send(()).expect("somebody waits");
    });
    for endpoint in &endpoints {
        wait_until_refused(endpoint);
    }
    assert!(end.try_recv().is_err(), "it waits for the session");
    assert_eq!(mta.data().expect("an answer").status, "a");
    mta.abort();
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("new@y.example").expect("an answer").is_deferral());
    mta.quit().expect("a clean end");
    end.recv_timeout(Duration::from_secs(10)).expect("drained");
    drain.join().expect("no panic");
}

#[test]
fn sessions_between_transactions_are_closed_first() {
    let world = World::with(|settings| {
        settings.drain = Duration::from_millis(200);
        settings.frame_timeout = Duration::from_secs(15);
    });
    let (mut idle, _) = Mta::negotiate(world.inet(), POSTFIX).expect("terms");
    let mut busy = world.session();
    busy.mail("a@x.example").expect("held");
    assert!(
        busy.rcpt("known@y.example")
            .expect("an answer")
            .is_continue()
    );
    let server = world.server;
    let drain = thread::spawn(move || server.drain());
    idle.wait_for_close().expect("closed at the deadline");
    assert_eq!(busy.data().expect("still served").status, "a");
    busy.quit().expect("a clean end");
    drain.join().expect("no panic");
}

#[test]
fn socket_file_goes_with_the_server() {
    let world = World::new();
    let socket = world.directory().join("milter.sock");
    assert!(socket.exists());
    world.server.drain();
    assert!(!socket.exists());
}

#[test]
fn dropped_server_closes_everything() {
    let world = World::new();
    let (mut mta, _) = Mta::negotiate(world.inet(), POSTFIX).expect("terms");
    drop(world);
    mta.wait_for_close().expect("closed");
}

fn wait_until_refused(endpoint: &greygate::milter::Endpoint) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Mta::connect(endpoint).is_ok() {
        assert!(Instant::now() < deadline, "{endpoint} still accepts");
        thread::sleep(Duration::from_millis(2));
    }
}
