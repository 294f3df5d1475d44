//! What a session costs the MTA: the answers that it waits for, counted on the wire.

use std::time::Duration;

use greygate::milter::{HeaderOn, Settings};
use greygate::policy::{Mode, Policy};

use crate::attempt::{MESSAGE, Message, Outcome};
use crate::world::World;

/// A session of a kind, and what the MTA waits for in it.
struct Kind {
    name: &'static str,
    mode: Mode,
    change: fn(&mut Settings),
    /// The attempts, five minutes apart; the last one counts.
    attempts: &'static [(&'static str, &'static str)],
    /// One letter for each round trip: options, RCPT, DATA (T), end of message.
    awaited: &'static str,
    /// Where it is deferred, if it is.
    deferred_at: &'static str,
}

const HERE: (&str, &str) = ("192.0.2.7", "a@x.example");
const THERE: (&str, &str) = ("198.51.100.7", "a@x.example");
const ELSEWHERE: (&str, &str) = ("203.0.113.7", "a@x.example");
const BOUNCE: (&str, &str) = ("192.0.2.7", "");
const KINDS: [Kind; 14] = [
    Kind {
        name: "envelope: unknown",
        mode: Mode::Envelope,
        change: no_change,
        attempts: &[HERE],
        awaited: "OR",
        deferred_at: "rcpt",
    },
    Kind {
        name: "envelope: retry after the delay, with the header",
        mode: Mode::Envelope,
        change: no_change,
        attempts: &[HERE, HERE],
        awaited: "ORTE",
        deferred_at: "-",
    },
    Kind {
        name: "envelope: retry after the delay, no header",
        mode: Mode::Envelope,
        change: without_header,
        attempts: &[HERE, HERE],
        awaited: "ORT",
        deferred_at: "-",
    },
    Kind {
        name: "envelope: known",
        mode: Mode::Envelope,
        change: no_change,
        attempts: &[HERE, HERE, HERE],
        awaited: "ORT",
        deferred_at: "-",
    },
    Kind {
        name: "envelope: known, header on all passed mail",
        mode: Mode::Envelope,
        change: with_header_on_all,
        attempts: &[HERE, HERE, HERE],
        awaited: "ORTE",
        deferred_at: "-",
    },
    Kind {
        name: "envelope: bounce",
        mode: Mode::Envelope,
        change: no_change,
        attempts: &[BOUNCE],
        awaited: "ORT",
        deferred_at: "data",
    },
    Kind {
        name: "hybrid: unknown",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[HERE],
        awaited: "OR",
        deferred_at: "rcpt",
    },
    Kind {
        name: "hybrid: known",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[HERE, HERE, HERE],
        awaited: "ORT",
        deferred_at: "-",
    },
    Kind {
        name: "hybrid: roaming retry, read for the first time",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[HERE, THERE],
        awaited: "ORTE",
        deferred_at: "end",
    },
    Kind {
        name: "hybrid: content comes again, with the header",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[HERE, THERE, ELSEWHERE],
        awaited: "ORTE",
        deferred_at: "-",
    },
    Kind {
        name: "hybrid: trusted for its content",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[HERE, THERE, ELSEWHERE, ELSEWHERE],
        awaited: "ORT",
        deferred_at: "-",
    },
    Kind {
        name: "hybrid: bounce",
        mode: Mode::Hybrid,
        change: no_change,
        attempts: &[BOUNCE],
        awaited: "ORTE",
        deferred_at: "end",
    },
    Kind {
        name: "content: unknown",
        mode: Mode::Content,
        change: no_change,
        attempts: &[HERE],
        awaited: "ORTE",
        deferred_at: "end",
    },
    Kind {
        name: "content: content comes again, with the header",
        mode: Mode::Content,
        change: no_change,
        attempts: &[HERE, THERE],
        awaited: "ORTE",
        deferred_at: "-",
    },
];

#[test]
fn round_trips_of_each_kind_of_session() {
    for kind in KINDS {
        let last = kind.last_attempt();
        let name = kind.name;
        assert_eq!(last.awaited, kind.awaited, "{name}");
        assert_eq!(last.deferred_at(), kind.deferred_at, "{name}");
    }
}

#[test]
fn each_recipient_more_is_one_round_trip_more() {
    let world = World::remembering(Policy::default(), |_| ());
    let to = ["1@y.example", "2@y.example", "3@y.example"];
    let outcome = Message { to: &to, ..MESSAGE }.send(world.inet(), "192.0.2.7");
    assert_eq!(outcome.awaited, "ORRR");
}

#[test]
fn callback_is_two_round_trips() {
    let world = World::remembering(Policy::default(), |_| ());
    let mut mta = world.session();
    mta.mail("").expect("held");
    mta.rcpt("b@y.example").expect("an answer");
    mta.abort();
    assert_eq!(mta.awaited(), "OR");
    mta.quit().expect("a clean end");
}

impl Kind {
    fn last_attempt(&self) -> Outcome {
        let policy = Policy {
            mode: self.mode,
            ..Policy::default()
        };
        let world = World::remembering(policy, self.change);
        let mut last = Outcome::default();
        for (client, from) in self.attempts {
            world.clock.advance(Duration::from_mins(5));
            last = Message { from, ..MESSAGE }.send(world.inet(), client);
        }
        last
    }
}

fn no_change(_: &mut Settings) {}

fn with_header_on_all(settings: &mut Settings) {
    settings.header_on = HeaderOn::Passed;
}

fn without_header(settings: &mut Settings) {
    settings.header = None;
}
