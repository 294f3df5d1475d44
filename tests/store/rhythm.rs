//! Retry rhythm through the whole store: the extra delay of a tuple, what observing it counts, and
//! strikes that only the content of a message can prove.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, DeferReason, Judge as _, Offence, PassReason, Policy, SentenceReason,
    ServerMark, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};

const UNSIZED: Attempt<'static> = Attempt {
    announced_size: 0,
    ..ATTEMPT
};

/// Tries each second for a minute without `SIZE=`, and sends the message that `body` makes of the
/// second when it is asked to. Says how often that was.
fn hammer(fixture: &Fixture, store: &Store, body: impl Fn(u8) -> Vec<u8>) -> usize {
    hammer_with(&UNSIZED, fixture, store, body)
}

/// The same with `attempt`.
fn hammer_with(
    attempt: &Attempt<'_>,
    fixture: &Fixture,
    store: &Store,
    body: impl Fn(u8) -> Vec<u8>,
) -> usize {
    let mut asked = 0;
    for second in 0..60 {
        let judgement = store.judge(attempt, fixture.clock.now());
        if judgement.wants_content {
            asked += 1;
            let mut message = store.message_hasher();
            message.header(b"Subject", b"no concern of anybody");
            message.header(b"Message-ID", b"<1@sender.example>");
            for piece in body(second).chunks(7) {
                message.body(piece);
            }
            store.note_content(attempt, &message, fixture.clock.now());
        }
        fixture.clock.advance(Duration::from_secs(1));
    }
    asked
}

#[test]
fn strikes_one_message_without_size_by_its_content() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    hammer(&fixture, &store, |_| {
        b"The same, again and again.\r\n".to_vec()
    });
    let reasons: Vec<_> = store
        .sentences(fixture.clock.now())
        .iter()
        .map(|sentence| sentence.reason)
        .collect();
    assert_eq!(reasons, [SentenceReason::Offence(Offence::RapidRetries)]);
}

#[test]
fn many_messages_without_size_are_read_and_nobody_is_struck() {
    for body in [
        |second| format!("Alert number {second}.\r\n").into_bytes(),
        |_| Vec::new(),
    ] {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.warm_up();
        assert!(hammer(&fixture, &store, body) > 0);
        assert_eq!(store.census().sentences, 0);
    }
}

#[test]
fn bounces_of_one_size_are_no_offence_and_one_bounce_again_and_again_is() {
    let bounce = Attempt {
        reverse_path: b"",
        ..ATTEMPT
    };
    let numbered = |second| format!("Forged mail number {second} came back.\r\n").into_bytes();
    let the_same = |_| b"Your mail came back.\r\n".to_vec();
    for (body, sentences) in [
        (&numbered as &dyn Fn(u8) -> Vec<u8>, 0),
        (&the_same as &dyn Fn(u8) -> Vec<u8>, 1),
    ] {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.warm_up();
        hammer_with(&bounce, &fixture, &store, body);
        assert_eq!(store.census().sentences, sentences);
    }
}

#[test]
fn extra_delay_outlives_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    for _ in 0..4 {
        fixture.judge(&store, &ATTEMPT);
        fixture.clock.advance(Duration::from_secs(40));
    }
    fixture.rows(&store);
    drop(store);
    let store = fixture.open();
    fixture.clock.advance(Duration::from_secs(20));
    let early = store.judge(&ATTEMPT, fixture.clock.now());
    let left = Duration::from_mins(1);
    assert_eq!(early.verdict, Verdict::Defer(DeferReason::Early { left }));
    assert_eq!(early.grounds.extra, left);
    assert_eq!(early.grounds.attempts, 5);
}

#[test]
fn extra_delay_that_is_only_observed_is_counted_where_it_would_be_waited() {
    let mut policy = Policy::default();
    policy.punish.extra_delay_action = Action::Observe;
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    fixture.warm_up();
    for _ in 0..3 {
        fixture.judge(&store, &ATTEMPT);
        fixture.wait_minutes(1);
    }
    assert_eq!(fixture.metrics.would_wait.get(), 0);
    let passed = store.judge(&ATTEMPT, fixture.clock.now());
    let waited = Duration::from_mins(3);
    assert_eq!(passed.verdict, Verdict::Pass(PassReason::Waited { waited }));
    assert_eq!(passed.grounds.would_wait, Duration::from_secs(30));
    assert_eq!(fixture.metrics.would_wait.get(), 1);
    fixture.judge(&store, &ATTEMPT);
    assert_eq!(fixture.metrics.would_wait.get(), 1, "once a message");
}

#[test]
fn delivery_rounds_over_five_addresses_are_no_offence() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    for _ in 0..3 {
        for address in 1..=5 {
            let attempt = Attempt {
                server: ServerMark::numbered(address),
                ..ATTEMPT
            };
            fixture.judge(&store, &attempt);
            fixture.clock.advance(Duration::from_secs(1));
        }
        fixture.clock.advance(Duration::from_secs(45));
    }
    assert_eq!(store.census().sentences, 0);
    let grounds = store.judge(&ATTEMPT, fixture.clock.now()).grounds;
    assert_eq!(grounds.attempts, 4);
    assert_eq!(grounds.extra, Duration::from_secs(45));
}
