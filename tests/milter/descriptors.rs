//! A process without descriptors to spare.

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use greygate::milter::Endpoint;
use support::mta::{Mta, POSTFIX};

#[test]
fn server_without_descriptors_closes_newcomers_and_recovers() {
    let mut process = limited_server();
    let endpoint = endpoint_of(&mut process.0);
    // More than it has descriptors for: some are served, and the others closed, not left waiting.
    let outcomes: Vec<_> = (0..60)
        .map(|_| Mta::negotiate(&endpoint, POSTFIX))
        .collect();
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((5..40).contains(&served), "{served} of 60 served");
    drop(outcomes);
    // Once they are gone it serves as before.
    let deadline = Instant::now() + Duration::from_secs(10);
    let client = Ipv4Addr::new(192, 0, 2, 7).into();
    let mut mta = loop {
        match Mta::open(&endpoint, client) {
            Ok(mta) => break mta,
            Err(error) => assert!(Instant::now() < deadline, "never recovers: {error}"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    mta.mail("a@x.example").expect("held");
    assert!(mta.rcpt("b@y.example").expect("an answer").is_deferral());
}

/// A server that may open 40 descriptors.
fn limited_server() -> Guard {
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_milter-load"))
        .args(["serve", "inet:127.0.0.1:0", "--workers", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    Guard(child)
}

/// Where it says that it listens.
pub(crate) fn endpoint_of(child: &mut Child) -> Endpoint {
    let output = child.stdout.take().expect("it is piped");
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it says where it listens");
    line.trim().parse().expect("an endpoint")
}

/// Ends the process with the test.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
