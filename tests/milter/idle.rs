//! What a connection holds while nothing is said: thousands of them wait through whole messages.

use std::{
    io,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use greygate::milter::Endpoint;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{
    load::resident,
    mta::{Mta, POSTFIX},
};

use crate::descriptors::{Guard, endpoint_of};

#[test]
fn idle_connection_holds_4_kib_at_most() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to what may be");
    let (process, endpoint) = server();
    let silent = || Mta::negotiate(&endpoint, POSTFIX).map(|(mta, _)| mta);
    let client = Ipv4Addr::new(192, 0, 2, 7).into();
    let in_a_mail = || {
        let mut mta = Mta::open(&endpoint, client)?;
        mta.mail("somebody.with.a.longer.name@sender.example")?;
        mta.rcpt("somebody.else@recipient.example")?;
        Ok(mta)
    };
    let holds = |what: &str, open: &dyn Fn() -> io::Result<Mta>| {
        let open = |number: u64| -> Vec<_> {
            let opened = (0..number).map(|_| open().expect("a session"));
            opened.collect()
        };
        // What the first ones set up once is not the price of one.
        drop(open(64));
        let before = resident(process.0.id()).expect("its memory");
        let held = open(CONNECTIONS);
        let after = resident(process.0.id()).expect("its memory");
        let each = after.saturating_sub(before) / CONNECTIONS;
        assert!(each <= 4_096, "{what}: {each} bytes each");
        held
    };
    // Held on to, so that the second kind finds no memory that the first gave back.
    let first = holds("after the options", &silent);
    let second = holds("after RCPT", &in_a_mail);
    drop((first, second));
}

/// The milter in a process of its own, with one worker.
fn server() -> (Guard, Endpoint) {
    let child = Command::new(env!("CARGO_BIN_EXE_milter-load"))
        .args(["serve", "inet:127.0.0.1:0", "--workers", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut process = Guard(child);
    let endpoint = endpoint_of(&mut process.0);
    (process, endpoint)
}

/// Of each kind; both together are below what one peer may open.
const CONNECTIONS: u64 = 2_000;
