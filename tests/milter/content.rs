//! Messages that are read to their end, on the wire.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use greygate::policy::Policy;
use support::mta::Mta;

use crate::world::{CLIENT, World};

#[test]
fn message_that_is_to_be_read_is_deferred_at_its_end() {
    let world = World::new();
    for endpoint in [world.inet(), world.unix()] {
        let mut mta = Mta::open(endpoint, CLIENT).expect("a session");
        mta.mail("a@x.example").expect("held");
        assert!(mta.rcpt("read@y.example").expect("an answer").is_continue());
        assert!(mta.data().expect("an answer").is_continue());
        mta.hold(b'L', b"Message-ID\0 <1@x.example>\0");
        let piece = vec![b'x'; 65_535];
        for _ in 0..40 {
            mta.hold(b'B', &piece);
        }
        assert!(mta.end_of_message().expect("an answer").is_deferral());
        mta.quit().expect("a clean end");
    }
    let heard = "content <a@x.example> read@y.example";
    assert_eq!(world.table.heard(), [heard; 2]);
    assert_eq!(world.metric("milter_contents_read_total"), 2);
    let stage = r#"milter_deferrals_total{stage="end_of_message"}"#;
    assert_eq!(world.metric(stage), 2);
}

#[test]
fn message_that_is_given_up_half_way_proves_nothing() {
    let world = World::new();
    let mut mta = world.session();
    for ends_politely in [true, false] {
        mta.mail("a@x.example").expect("held");
        assert!(mta.rcpt("read@y.example").expect("an answer").is_continue());
        assert!(mta.data().expect("an answer").is_continue());
        mta.hold(b'B', b"half a body");
        if ends_politely {
            mta.abort();
        }
    }
    mta.quit().expect("a clean end");
    world.wait_for_metric("milter_connections_open", 0);
    assert!(world.table.heard().is_empty());
}

#[test]
fn message_of_20_mb_is_read_to_its_end_in_constant_memory() {
    let world = World::remembering(Policy::default(), |_| ());
    let piece = vec![b'x'; 65_535];
    let mut grown = Vec::new();
    for (client, last) in [(7, "a"), (8, "a"), (9, "b")] {
        let client = Ipv4Addr::new(192, 0, 2, client).into();
        let mut mta = Mta::open(world.inet(), client).expect("a session");
        mta.mail("").expect("held");
        assert!(mta.rcpt("b@y.example").expect("an answer").is_continue());
        assert!(mta.data().expect("an answer").is_continue());
        mta.hold(b'L', b"Message-ID\0 <1@x.example>\0");
        let before = resident();
        for _ in 0..20_000_000 / piece.len() {
            mta.hold(b'B', &piece);
            mta.flush().expect("written");
        }
        grown.push(resident().saturating_sub(before));
        mta.hold(b'B', last.as_bytes());
        let is_deferred = mta.end_of_message().expect("an answer").is_deferral();
        // The same message passes when it comes again; one of another last byte is another one.
        assert_eq!(is_deferred, grown.len() != 2, "message {}", grown.len());
        mta.abort();
        mta.quit().expect("a clean end");
        world.clock.advance(Duration::from_mins(2));
    }
    // The other tests of this process live in the same memory, so that some may come and go.
    assert!(grown.iter().any(|it| *it < 4 << 20), "{grown:?}");
    assert_eq!(world.metric("milter_contents_read_total"), 3);
}

/// Bytes of memory that this process holds, server and MTA.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux says so");
    let pages = pages.split(' ').nth(1).expect("the second number");
    pages.parse::<usize>().expect("a number") * 4_096
}
