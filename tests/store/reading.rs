//! What is remembered of a message that is read to its end, by the store's books: who is counted,
//! credited and trusted, who takes which room, and what a reload, a full table or a second session
//! at the same moment changes.

use std::net::IpAddr;
use std::sync::{Arc, Barrier};

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, DeferReason, Judge as _, MessageHasher, Mode, PassReason, Policy, ReadReason,
    SentencedClient, Verdict,
};
use greygate::store::codec::Row;
use greygate::store::{Keeper, Store};

use crate::fixture::{ATTEMPT, Fixture};

/// An attempt from the network with that number.
fn from(network: u8) -> Attempt<'static> {
    Attempt {
        client: IpAddr::from([198, 51, network, 7]),
        client_name: b"",
        ..ATTEMPT
    }
}

fn message(store: &Store, body: &[u8]) -> MessageHasher {
    let mut message = store.message_hasher();
    message.header(b"Message-ID", b"<1@sender.example>");
    message.body(body);
    message
}

/// A session that is told to read, with this body. What passes goes through.
fn send(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>, body: &[u8]) -> Verdict {
    let at_rcpt = fixture.judge(store, attempt);
    assert!(matches!(at_rcpt, Verdict::Read(_)), "{at_rcpt:?}");
    let (message, now) = (message(store, body), fixture.clock.now());
    let verdict = store.judge_content(attempt, &message, now).verdict;
    if let Verdict::Pass(_) = verdict {
        store.note_content_pass(attempt, &message, now);
    }
    verdict
}

/// A pool's message that has been deferred twice, and passes when it comes next: from network 2.
fn pool_about_to_pass(fixture: &Fixture, store: &Store) {
    let new = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(store, &from(0)), new);
    fixture.wait_minutes(5);
    let new = Verdict::Defer(DeferReason::ContentNew);
    assert_eq!(send(fixture, store, &from(1), BODY), new);
    fixture.wait_minutes(5);
}

fn by_content() -> Policy {
    Policy {
        mode: Mode::Content,
        ..Policy::default()
    }
}

fn count(fixture: &Fixture, reason: PassReason) -> u64 {
    fixture.metrics.count_of(Verdict::Pass(reason))
}

/// Good and bad counts of the networks on record, without an order.
fn reputations(fixture: &Fixture, store: &Store) -> Vec<(u64, u64)> {
    let (policy, now) = (fixture.policy.load(), fixture.clock.now());
    let rows = fixture.rows(store).into_iter();
    let reputations = rows.filter_map(|row| match row {
        Row::Reputation(_, it) => Some(it.weights(&policy, now)),
        _ => None,
    });
    reputations
        .map(|it| (it.good.div_ceil(256), it.bad.div_ceil(256)))
        .collect()
}

#[test]
fn of_sessions_at_one_moment_one_is_the_first_pass_and_one_is_trusted() {
    const SESSIONS: u8 = 8;
    let fixture = Fixture::new();
    let store = fixture.open();
    pool_about_to_pass(&fixture, &store);
    let told = Barrier::new(SESSIONS.into());
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (fixture, store, told) = (&fixture, &store, &told);
            scope.spawn(move || {
                let (attempt, now) = (from(10 + session), fixture.clock.now());
                let message = message(store, BODY);
                let verdict = store.judge_content(&attempt, &message, now).verdict;
                let content = matches!(verdict, Verdict::Pass(PassReason::Content { .. }));
                assert!(content, "{verdict:?}");
                told.wait();
                store.note_content_pass(&attempt, &message, now);
            });
        }
    });
    let waited = std::time::Duration::ZERO;
    assert_eq!(count(&fixture, PassReason::Content { waited }), 1);
    let again = count(&fixture, PassReason::ContentAgain);
    assert_eq!(again, u64::from(SESSIONS) - 1);
    assert_eq!(store.census().trusted, 1);
    let rows = fixture.rows(&store);
    let passes = rows.iter().find_map(|row| match row {
        Row::Content(_, it) => Some(it.passes),
        _ => None,
    });
    assert_eq!(passes, Some(SESSIONS.into()));
}

#[test]
fn pass_is_counted_when_it_comes_to_one_and_a_deferral_at_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pool_about_to_pass(&fixture, &store);
    let deferred = Verdict::Defer(DeferReason::ContentNew);
    assert_eq!(fixture.metrics.count_of(deferred), 1);
    let read = Verdict::Read(ReadReason::Roaming);
    assert_eq!(fixture.metrics.count_of(read), 1);
    let (attempt, now) = (from(2), fixture.clock.now());
    let message = message(&store, BODY);
    let waited = std::time::Duration::from_mins(10);
    let content = PassReason::Content { waited };
    for _ in 0..2 {
        // Another recipient of the message has to wait.
        let verdict = store.judge_content(&attempt, &message, now).verdict;
        assert_eq!(verdict, Verdict::Pass(content));
        assert_eq!(count(&fixture, content), 0);
        assert_eq!(store.census().trusted, 0, "and nothing is spent or earned");
    }
    store.note_content_pass(&attempt, &message, now);
    assert_eq!(count(&fixture, content), 1);
    assert_eq!(store.census().trusted, 1);
}

#[test]
fn first_pass_of_a_message_speaks_for_all_who_tried_and_no_later_one_does() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pool_about_to_pass(&fixture, &store);
    let passed = send(&fixture, &store, &from(2), BODY);
    assert!(matches!(passed, Verdict::Pass(PassReason::Content { .. })));
    assert_eq!(reputations(&fixture, &store), [(1, 0); 3]);
    // Within its minutes, and in the next life of the record.
    let again = Verdict::Pass(PassReason::ContentAgain);
    fixture.wait_minutes(5);
    assert_eq!(send(&fixture, &store, &from(3), BODY), again);
    fixture.wait_minutes(10);
    let new = Verdict::Defer(DeferReason::ContentNew);
    assert_eq!(send(&fixture, &store, &from(4), BODY), new);
    fixture.wait_minutes(5);
    let passed = send(&fixture, &store, &from(5), BODY);
    assert!(matches!(passed, Verdict::Pass(PassReason::Content { .. })));
    assert_eq!(reputations(&fixture, &store), [(1, 0); 3]);
}

#[test]
fn who_passes_again_is_not_blamed_for_mail_that_never_came() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    pool_about_to_pass(&fixture, &store);
    send(&fixture, &store, &from(2), BODY);
    // The answer was lost on its way.
    fixture.wait_minutes(5);
    let again = Verdict::Pass(PassReason::ContentAgain);
    assert_eq!(send(&fixture, &store, &from(3), BODY), again);
    fixture.wait_hours(25);
    sweep(&fixture, &store);
    assert!(
        reputations(&fixture, &store)
            .iter()
            .all(|(_, bad)| *bad == 0)
    );
}

#[test]
fn message_that_is_in_its_session_during_a_reload_is_judged_by_what_is_known_of_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pool_about_to_pass(&fixture, &store);
    fixture.judge(&store, &from(2));
    let reload = |policy| fixture.policy.store(Arc::new(policy));
    reload(Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    });
    let end = |attempt: &Attempt<'_>, body| {
        let (message, now) = (message(&store, body), fixture.clock.now());
        let verdict = store.judge_content(attempt, &message, now).verdict;
        if let Verdict::Pass(_) = verdict {
            store.note_content_pass(attempt, &message, now);
        }
        verdict
    };
    let passed = end(&from(2), BODY);
    assert!(matches!(passed, Verdict::Pass(PassReason::Content { .. })));
    // Nothing is read from now on, and what was earned by content is no more asked.
    let new = Verdict::Defer(DeferReason::New);
    let other = Attempt {
        recipient: b"other@here.example",
        ..from(2)
    };
    assert_eq!(fixture.judge(&store, &other), new);

    reload(by_content());
    fixture.judge(&store, &from(6));
    reload(Policy {
        action: Action::Observe,
        ..by_content()
    });
    let observed = Verdict::Pass(PassReason::Observed);
    let before = fixture.metrics.count_of(observed);
    assert_eq!(end(&from(6), b"another\r\n"), observed);
    assert_eq!(fixture.metrics.count_of(observed), before + 1);
}

/// A year ahead it was first read, or passed; nothing of that holds anybody up, or lets anybody
/// through, for the year to come.
#[test]
fn what_a_wrong_clock_left_is_new_once_it_is_set_back() {
    let year = std::time::Duration::from_hours(365 * 24);
    for passes in [false, true] {
        let fixture = Fixture::with_policy(by_content());
        let store = fixture.open();
        fixture.clock.advance(year);
        let new = Verdict::Defer(DeferReason::ContentNew);
        assert_eq!(send(&fixture, &store, &ATTEMPT, BODY), new);
        if passes {
            fixture.wait_minutes(5);
            let passed = send(&fixture, &store, &from(1), BODY);
            assert!(matches!(passed, Verdict::Pass(PassReason::Content { .. })));
        }
        fixture.clock.set_back(year);
        assert_eq!(send(&fixture, &store, &from(2), BODY), new);
        fixture.wait_minutes(5);
        let passed = send(&fixture, &store, &from(3), BODY);
        assert!(matches!(passed, Verdict::Pass(PassReason::Content { .. })));
    }
}

#[test]
fn envelope_decides_where_the_network_has_its_share_or_the_table_is_full() {
    for (contents, per_network) in [(1_000, 1), (1, 1_000)] {
        let mut fixture = Fixture::with_policy(by_content());
        fixture.settings.contents = contents;
        fixture.settings.contents_per_network = per_network;
        let store = fixture.open();
        let first = send(&fixture, &store, &ATTEMPT, BODY);
        assert_eq!(first, Verdict::Defer(DeferReason::ContentNew));
        let other = Attempt {
            recipient: b"other@here.example",
            ..ATTEMPT
        };
        let deferred = send(&fixture, &store, &other, BODY);
        assert!(matches!(
            deferred,
            Verdict::Defer(DeferReason::Early { .. })
        ));
        fixture.wait_minutes(5);
        let passed = send(&fixture, &store, &other, BODY);
        assert!(matches!(passed, Verdict::Pass(PassReason::Waited { .. })));
        assert_eq!(store.census().contents, 1);
        let metrics = &fixture.metrics;
        let refused = [
            metrics.contents_beyond_share.get(),
            metrics.contents_unrecorded.get(),
        ];
        let expected = if contents == 1 { [0, 2] } else { [2, 0] };
        assert_eq!(refused, expected);
        // What waited there has passed by its tuple, and its reverse-path and recipient are done.
        assert_eq!(store.census().pairs, 1);
        let verdict = fixture.judge(&store, &other);
        assert_eq!(verdict, Verdict::Pass(PassReason::Passed));
    }
}

#[test]
fn pending_attempt_has_one_pair_and_one_that_passes_has_none() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for recipient in [&b"a@here.example"[..], b"b@here.example"] {
        let attempt = Attempt {
            recipient,
            ..ATTEMPT
        };
        fixture.judge(&store, &attempt);
        fixture.judge(&store, &attempt);
    }
    assert_eq!(store.census().pairs, 2);
    fixture.wait_minutes(5);
    let attempt = Attempt {
        recipient: b"a@here.example",
        ..ATTEMPT
    };
    for _ in 0..3 {
        let verdict = fixture.judge(&store, &attempt);
        assert!(matches!(verdict, Verdict::Pass(_)));
        assert_eq!(store.census().pairs, 1);
    }
}

#[test]
fn full_table_of_pairs_is_counted_and_nobody_waits_for_it() {
    let mut fixture = Fixture::with_policy(by_content());
    fixture.settings.capacity = 3;
    let store = fixture.open();
    let tried = |number: u8| {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(&store, &attempt)
    };
    for number in 0..3 {
        assert_eq!(tried(number), Verdict::Read(ReadReason::Mode));
    }
    assert_eq!(tried(3), Verdict::Read(ReadReason::Mode));
    assert_eq!((store.census().pairs, store.census().tuples), (3, 3));
    assert_eq!(fixture.metrics.pairs_unrecorded.get(), 0);
}

/// Pairs that were tried more than once are held for longer than their tuples.
#[test]
fn changing_message_passes_by_its_envelope_where_there_is_no_room_for_its_pair() {
    let mut fixture = Fixture::with_policy(by_content());
    fixture.settings.capacity = 3;
    let store = Arc::new(fixture.open());
    for _ in 0..2 {
        for recipient in ["1@here.example", "2@here.example", "3@here.example"] {
            let recipient = recipient.as_bytes();
            let attempt = Attempt {
                recipient,
                ..ATTEMPT
            };
            fixture.judge(&store, &attempt);
        }
        fixture.wait_minutes(2);
    }
    fixture.wait_hours(24);
    sweep(&fixture, &store);
    assert_eq!((store.census().pairs, store.census().tuples), (3, 0));

    let new = Verdict::Defer(DeferReason::ContentNew);
    assert_eq!(send(&fixture, &store, &ATTEMPT, b"1"), new);
    fixture.wait_minutes(2);
    assert_eq!(send(&fixture, &store, &ATTEMPT, b"2"), new, "too early");
    fixture.wait_minutes(5);
    let said = send(&fixture, &store, &ATTEMPT, b"3");
    assert!(
        matches!(said, Verdict::Pass(PassReason::Waited { .. })),
        "{said:?}"
    );
    assert_eq!(fixture.metrics.pairs_unrecorded.get(), 3);
}

#[test]
fn forgiving_undoes_no_wait_and_no_trust() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pool_about_to_pass(&fixture, &store);
    send(&fixture, &store, &from(2), BODY);
    fixture.wait_minutes(5);
    let other = Attempt {
        reverse_path: b"other@sender.example",
        ..from(3)
    };
    fixture.judge(&store, &other);
    let held = |fixture: &Fixture| {
        let rows = fixture.rows(&store).into_iter();
        let reputed = |row: &Row| matches!(row, Row::Reputation(..));
        let rows = rows.filter(|it| !reputed(it));
        let mut rows: Vec<_> = rows.map(|it| format!("{it:?}")).collect();
        rows.sort();
        rows
    };
    let before = held(&fixture);
    for network in 0..4 {
        let client = SentencedClient::host(from(network).client);
        store.forgive(client, fixture.clock.now());
    }
    assert_eq!(held(&fixture), before);
    let known = Attempt {
        reverse_path: b"new@sender.example",
        ..from(2)
    };
    let trusted = Verdict::Pass(PassReason::ContentTrusted);
    assert_eq!(fixture.judge(&store, &known), trusted);
}

/// Has the keeper go through the whole store once.
fn sweep(fixture: &Fixture, store: &Arc<Store>) {
    let before = fixture.metrics.swept.get();
    let clock: Arc<dyn greygate::clock::Clock> = Arc::clone(&fixture.clock) as Arc<_>;
    let keeper = Keeper::start(Arc::clone(store), clock).expect("the system has a thread to give");
    fixture.wait_hours(13);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while fixture.metrics.swept.get() == before {
        assert!(std::time::Instant::now() < deadline, "a sweep within 20 s");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    keeper.stop().expect("it is writable");
}

const BODY: &[u8] = b"Hello.\r\n";
