//! Sessions in hybrid mode, with the store as judge: pools, bounces, several recipients.

use std::time::Duration;

use greygate::milter::{HeaderOn, Settings};
use greygate::policy::{Mode, Policy};
use support::mta::Answer;

use crate::attempt::{MESSAGE, Message};
use crate::world::World;

/// Addresses of a pool, in networks of their own.
const POOL: [&str; 7] = [
    "192.0.2.7",
    "198.51.100.7",
    "203.0.113.7",
    "198.18.0.7",
    "198.18.1.7",
    "198.18.2.7",
    "2001:db8::7",
];

fn hybrid() -> World {
    World::remembering(Policy::default(), |_| ())
}

fn wait_minutes(world: &World, minutes: u64) {
    world.clock.advance(Duration::from_mins(minutes));
}

#[test]
fn pool_is_deferred_twice_and_its_message_goes_through_with_the_header() {
    let world = hybrid();
    for (endpoint, from) in [
        (world.inet(), "a@inet.example"),
        (world.unix(), "a@unix.example"),
    ] {
        let message = Message { from, ..MESSAGE };
        let mut places = Vec::new();
        for client in &POOL[..2] {
            places.push(message.send(endpoint, client).deferred_at());
            wait_minutes(&world, 5);
        }
        assert_eq!(places, ["rcpt", "end"]);
        let passed = message.send(endpoint, POOL[2]);
        assert_eq!(passed.deferred_at(), "-");
        let words = "delayed 600 seconds by mx.example (greygate), passed by content";
        assert_eq!(passed.header(), Some(words));
    }
    let stage = |stage| world.metric(&format!(r#"milter_deferrals_total{{stage="{stage}"}}"#));
    assert_eq!([stage("rcpt"), stage("end_of_message")], [2, 2]);
    assert_eq!(world.metric("milter_contents_read_total"), 4);
    assert_eq!(world.metric("milter_headers_added_total"), 2);
}

#[test]
fn message_that_differs_in_a_byte_is_another_one() {
    let world = hybrid();
    let changed = Message {
        body: b"Hello!\r\n",
        ..MESSAGE
    };
    MESSAGE.send(world.inet(), POOL[0]);
    wait_minutes(&world, 5);
    assert_eq!(MESSAGE.send(world.inet(), POOL[1]).deferred_at(), "end");
    wait_minutes(&world, 5);
    assert_eq!(changed.send(world.inet(), POOL[2]).deferred_at(), "end");
    assert_eq!(MESSAGE.send(world.inet(), POOL[3]).deferred_at(), "-");
}

#[test]
fn changing_message_id_passes_by_persistence() {
    let world = hybrid();
    let mut places = Vec::new();
    let mut header = None;
    for (round, client) in POOL[..6].iter().enumerate() {
        let id = format!("<{round}@x.example>");
        let outcome = Message { id: &id, ..MESSAGE }.send(world.inet(), client);
        places.push(outcome.deferred_at());
        header = outcome.header().map(str::to_owned);
        wait_minutes(&world, 12);
    }
    assert_eq!(places, ["rcpt", "end", "end", "end", "end", "-"]);
    let words = "delayed 3600 seconds by mx.example (greygate), passed by persistence";
    assert_eq!(header.as_deref(), Some(words));
}

#[test]
fn address_that_a_message_came_again_from_is_trusted_and_its_mail_not_read() {
    let world = hybrid();
    for client in &POOL[..3] {
        MESSAGE.send(world.inet(), client);
        wait_minutes(&world, 5);
    }
    let read = world.metric("milter_contents_read_total");
    let next = Message {
        to: &["c@y.example"],
        id: "<2@x.example>",
        ..MESSAGE
    };
    assert!(next.send(world.inet(), POOL[2]).is_accepted_at_data());
    assert_eq!(next.send(world.inet(), POOL[4]).deferred_at(), "rcpt");
    assert_eq!(world.metric("milter_contents_read_total"), read);
}

#[test]
fn header_on_all_passed_mail_names_trust() {
    let marks = |settings: &mut Settings| settings.header_on = HeaderOn::Passed;
    let world = World::remembering(Policy::default(), marks);
    for client in &POOL[..3] {
        MESSAGE.send(world.inet(), client);
        wait_minutes(&world, 5);
    }
    let next = Message {
        to: &["c@y.example"],
        id: "<2@x.example>",
        ..MESSAGE
    };
    let outcome = next.send(world.inet(), POOL[2]);
    assert!(!outcome.is_accepted_at_data());
    let words = "not delayed by mx.example (greygate), passed by content trust";
    assert_eq!(outcome.header(), Some(words));
}

#[test]
fn bounce_is_deferred_at_its_end_and_passes_when_it_comes_again() {
    let world = hybrid();
    for from in ["", "double-bounce@mx.sender.example"] {
        let bounce = Message { from, ..MESSAGE };
        assert_eq!(bounce.send(world.inet(), POOL[0]).deferred_at(), "end");
        wait_minutes(&world, 2);
        let again = bounce.send(world.inet(), POOL[1]);
        assert_eq!(again.deferred_at(), "-");
        let words = "delayed 120 seconds by mx.example (greygate), passed by content";
        assert_eq!(again.header(), Some(words));
        wait_minutes(&world, 60);
    }
}

#[test]
fn callback_is_answered_and_begins_nothing() {
    let world = hybrid();
    for from in ["", "double-bounce@mx.sender.example"] {
        let mut mta = world.session();
        mta.mail(from).expect("held");
        assert!(mta.rcpt("b@y.example").expect("an answer").is_continue());
        mta.abort();
        mta.quit().expect("a clean end");
        // Had it begun a tuple, or a pair, this would pass, or be read.
        wait_minutes(&world, 5);
        let bounce = Message { from, ..MESSAGE };
        assert_eq!(bounce.send(world.inet(), POOL[0]).deferred_at(), "end");
    }
    assert_eq!(world.metric("milter_probes_quit_total"), 2);
}

#[test]
fn one_body_to_several_recipients_waits_for_the_last_of_them_and_no_longer() {
    let world = hybrid();
    let both = ["b@y.example", "c@y.example"];
    let one = MESSAGE;
    let two = Message {
        to: &both,
        ..MESSAGE
    };
    one.send(world.inet(), POOL[0]);
    wait_minutes(&world, 5);
    assert_eq!(one.send(world.inet(), POOL[1]).deferred_at(), "end");
    wait_minutes(&world, 5);
    // The first one comes again: for all that is known the second one was cut off the last round.
    let outcome = two.send(world.inet(), POOL[2]);
    assert!(outcome.rcpts.iter().all(Answer::is_continue));
    assert_eq!(outcome.deferred_at(), "end");
    wait_minutes(&world, 5);
    // The message is on record for both: the second one, which was held, had it recorded too.
    let outcome = two.send(world.inet(), POOL[3]);
    assert_eq!(outcome.deferred_at(), "-");
    let words = "delayed 900 seconds by mx.example (greygate), passed by content";
    assert_eq!(outcome.header(), Some(words));
}

#[test]
fn retry_from_the_same_network_passes_by_its_tuple_unread() {
    let world = hybrid();
    assert_eq!(MESSAGE.send(world.inet(), POOL[0]).deferred_at(), "rcpt");
    wait_minutes(&world, 5);
    let passed = MESSAGE.send(world.inet(), POOL[0]);
    let words = "delayed 300 seconds by mx.example (greygate), passed by tuple";
    assert_eq!(passed.header(), Some(words));
    assert_eq!(world.metric("milter_contents_read_total"), 0);
    assert!(MESSAGE.send(world.inet(), POOL[0]).is_accepted_at_data());
}

#[test]
fn mode_content_reads_what_it_does_not_know_and_mode_envelope_nothing() {
    for (mode, places) in [
        (Mode::Content, ["end", "-"]),
        (Mode::Envelope, ["rcpt", "rcpt"]),
    ] {
        let policy = Policy {
            mode,
            ..Policy::default()
        };
        let world = World::remembering(policy, |_| ());
        let first = MESSAGE.send(world.inet(), POOL[0]).deferred_at();
        wait_minutes(&world, 5);
        let second = MESSAGE.send(world.inet(), POOL[1]).deferred_at();
        assert_eq!([first, second], places, "{mode:?}");
    }
}
