//! Honest senders with the habits of their kinds through the whole store, none of whom may be
//! struck; and a peer on another host, whose word sentences nobody.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, Judge as _, Origin, PassReason, ServerMark, Verdict};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};

fn watching() -> (Fixture, Store) {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    (fixture, store)
}

/// Tries at each of `seconds` after the first until the message passes. When that was.
fn passes_at(fixture: &Fixture, store: &Store, seconds: &[u64]) -> Option<u64> {
    let first = fixture.judge(store, &ATTEMPT);
    assert!(matches!(first, Verdict::Defer(_)), "{first:?}");
    let mut last = 0;
    for &second in seconds {
        fixture.clock.advance(Duration::from_secs(second - last));
        last = second;
        if let Verdict::Pass(reason) = fixture.judge(store, &ATTEMPT) {
            assert!(matches!(reason, PassReason::Waited { .. }), "{reason:?}");
            return Some(second);
        }
    }
    None
}

/// That nobody is sentenced, struck, or known for anything bad.
fn assert_nothing_is_held(fixture: &Fixture, store: &Store) {
    let census = store.census();
    assert_eq!(
        (census.sentences, census.clients, census.hopping_helos),
        (0, 0, 0)
    );
    assert_eq!(fixture.metrics.sentences_given.get(), 0);
}

#[test]
fn exchange_passes_within_its_four_retries_and_is_not_struck() {
    let (fixture, store) = watching();
    let schedule = [60, 120, 180, 240, 240 + 15 * 60];
    assert_eq!(passes_at(&fixture, &store, &schedule), Some(240));
    assert_nothing_is_held(&fixture, &store);
}

#[test]
fn queues_pass_at_their_first_retry_after_the_delay_and_are_not_struck() {
    let hours = |hours: u64| hours * 60 * 60;
    for first in [200, 285, 300, 8 * 60, hours(4), hours(12)] {
        let (fixture, store) = watching();
        assert_eq!(passes_at(&fixture, &store, &[first]), Some(first));
        assert_nothing_is_held(&fixture, &store);
    }
}

#[test]
fn dual_stack_sender_that_walks_all_our_addresses_is_not_struck() {
    let (fixture, store) = watching();
    let clients: [IpAddr; 2] = [
        ATTEMPT.client,
        Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 0x25).into(),
    ];
    let mut passed = 0;
    for _ in 0..5 {
        for (client, server) in clients
            .into_iter()
            .flat_map(|client| (1..=5).map(move |server| (client, ServerMark::numbered(server))))
        {
            let attempt = Attempt {
                client,
                server,
                ..ATTEMPT
            };
            let verdict = fixture.judge(&store, &attempt);
            passed += u32::from(matches!(verdict, Verdict::Pass(_)));
            fixture.clock.advance(Duration::from_millis(500));
        }
        fixture.wait_minutes(1);
    }
    assert!(passed > 0);
    assert_nothing_is_held(&fixture, &store);
}

#[test]
fn peer_on_another_host_has_its_mail_deferred_and_nobody_sentenced() {
    let (mut fixture, store) = watching();
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    let unsized_ = Attempt {
        announced_size: 0,
        recipient: b"another@here.example",
        ..reported
    };
    let mut deferred = 0;
    // Rapid retries, proven by size and by content.
    for _ in 0..60 {
        for attempt in [reported, unsized_] {
            let judgement = store.judge(&attempt, fixture.clock.now());
            deferred += u32::from(matches!(judgement.verdict, Verdict::Defer(_)));
            let mut message = store.message_hasher();
            message.header(b"Message-ID", b"<1@sender.example>");
            message.body(b"The same, again and again.\r\n");
            store.note_content(&attempt, &message, fixture.clock.now());
        }
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(deferred, 120, "judged like others");
    // A botnet.
    for bot in 1..=7 {
        let name = format!("dsl-7.isp{bot}.example");
        let attempt = Attempt {
            client: IpAddr::from([45, 7, bot, 7]),
            client_name: name.as_bytes(),
            helo: b"mx.bank.example",
            ..reported
        };
        fixture.judge(&store, &attempt);
    }
    // A dictionary, and retries after a failure.
    for number in 0..500 {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..reported
        };
        store.note_rejected(&attempt, fixture.clock.now());
    }
    for _ in 0..10 {
        store.note_rejected(&reported, fixture.clock.now());
        fixture.judge(&store, &reported);
        fixture.wait_minutes(5);
    }
    assert_nothing_is_held(&fixture, &store);
    assert_eq!(
        fixture.effects.try_recv().ok(),
        None,
        "the kernel is told nothing"
    );
}
