//! What never came back: counted once each, by the sweep or by whoever comes too late.

use std::sync::Arc;

use greygate::clock::Clock as _;
use greygate::policy::{Action, Attempt, Judge as _, Mode, Policy, Verdict};

use crate::fixture::{ATTEMPT, Fixture, pass_once};
use crate::keeper::{await_keeper, keep};

#[test]
fn tuple_that_never_came_back_is_counted_once_as_it_is_swept() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let other = Attempt {
        recipient: b"other@here.example",
        ..ATTEMPT
    };
    pass_once(&fixture, &store, &other);
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(24);
    await_keeper("a sweep", || store.census().tuples == 1);
    assert_eq!(fixture.metrics.tuples_given_up.get(), 1);
    fixture.wait_hours(24 * 400);
    await_keeper("a sweep", || store.census().tuples == 0);
    assert_eq!(
        fixture.metrics.tuples_given_up.get(),
        1,
        "the other has passed"
    );
    keeper.stop().expect("it is writable");
}

#[test]
fn tuple_that_came_back_too_late_is_counted_once_and_begins_anew() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fixture.wait_minutes(1);
    fixture.judge(&store, &ATTEMPT);
    assert_eq!(fixture.metrics.tuples_given_up.get(), 0);
    fixture.wait_hours(24);
    for _ in 0..2 {
        let late = fixture.judge(&store, &ATTEMPT);
        assert!(matches!(late, Verdict::Defer(_)), "{late:?}");
        assert_eq!(fixture.metrics.tuples_given_up.get(), 1);
    }
}

#[test]
fn what_was_not_deferred_for_its_tuple_is_not_missed() {
    for policy in [
        Policy {
            action: Action::Observe,
            ..Policy::default()
        },
        Policy {
            mode: Mode::Content,
            ..Policy::default()
        },
    ] {
        let fixture = Fixture::with_policy(policy);
        let store = fixture.open();
        fixture.judge(&store, &ATTEMPT);
        fixture.wait_hours(24);
        fixture.judge(&store, &ATTEMPT);
        assert_eq!(fixture.metrics.tuples_given_up.get(), 0);
    }
}

#[test]
fn message_that_was_read_and_never_came_back_is_counted_once() {
    let fixture = Fixture::with_policy(Policy {
        mode: Mode::Content,
        ..Policy::default()
    });
    let store = Arc::new(fixture.open());
    let read = |body: &[u8]| {
        let mut message = store.message_hasher();
        message.body(body);
        let now = fixture.clock.now();
        let verdict = store.judge_content(&ATTEMPT, &message, now).verdict;
        if matches!(verdict, Verdict::Pass(_)) {
            store.note_content_pass(&ATTEMPT, &message, now);
        }
        verdict
    };
    read(b"given up");
    read(b"delivered");
    fixture.wait_minutes(5);
    assert!(matches!(read(b"delivered"), Verdict::Pass(_)));
    fixture.wait_hours(24);
    read(b"given up");
    assert_eq!(fixture.metrics.contents_given_up.get(), 1, "it comes late");
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(25);
    await_keeper("a sweep", || store.census().contents == 0);
    let given_up = fixture.metrics.contents_given_up.get();
    assert_eq!(given_up, 2, "its second life, and nothing else");
    keeper.stop().expect("it is writable");
}
