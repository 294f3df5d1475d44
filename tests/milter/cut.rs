//! Messages to many recipients of whom some pass, with an MTA that bears some errors of a client, and
//! one that hangs up after the first (Postfix with `stress=yes`).

use std::time::Duration;

use greygate::policy::{Mode, Policy};
use support::mta::Mta;

use crate::world::{CLIENT, World};

#[test]
fn twenty_known_and_25_unknown_recipients_are_delivered_to_in_two_rounds() {
    for mode in [Mode::Envelope, Mode::Hybrid] {
        for errors in [1, 20] {
            for order in [Order::KnownFirst, Order::UnknownFirst, Order::InTurn] {
                let rounds = rounds_after_the_first(mode, errors, order);
                assert!(rounds <= 2, "{mode:?} {errors} {order:?}: {rounds} rounds");
            }
        }
    }
}

#[test]
fn recipients_that_pass_are_not_delayed_by_a_few_that_do_not() {
    let world = World::remembering(Policy::default(), |_| ());
    let known = names("known", 20);
    make_known(&world, &known);
    let mut both = known.clone();
    both.extend(names("unknown", 8));
    let left = Round { errors: 20 }.deliver(&world, &both);
    assert_eq!(left, both[20..]);
}

/// In which order an MTA names recipients.
#[derive(Clone, Copy, Debug)]
enum Order {
    KnownFirst,
    UnknownFirst,
    InTurn,
}

/// Rounds after the first one, a delay apart, until a message has gone to all.
fn rounds_after_the_first(mode: Mode, errors: u32, order: Order) -> u32 {
    let policy = Policy {
        mode,
        ..Policy::default()
    };
    let world = World::remembering(policy, |_| ());
    let (known, unknown) = (names("known", 20), names("unknown", 25));
    make_known(&world, &known);
    let mut left = match order {
        Order::KnownFirst => [known, unknown].concat(),
        Order::UnknownFirst => [unknown, known].concat(),
        Order::InTurn => {
            let pairs = unknown.iter().zip(&known);
            let mut mixed: Vec<_> = pairs.flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
            mixed.extend_from_slice(&unknown[20..]);
            mixed
        }
    };
    let round = Round { errors };
    for rounds in 0..10 {
        left = round.deliver(&world, &left);
        if left.is_empty() {
            return rounds;
        }
        world.clock.advance(Duration::from_mins(5));
    }
    panic!("never delivered to {left:?}");
}

fn names(kind: &str, count: u32) -> Vec<String> {
    (0..count)
        .map(|number| format!("{kind}{number}@y.example"))
        .collect()
}

/// Mail of the sender has passed to all of `recipients` before.
fn make_known(world: &World, recipients: &[String]) {
    for _ in 0..2 {
        for to in recipients {
            Round { errors: 20 }.deliver(world, std::slice::from_ref(to));
        }
        world.clock.advance(Duration::from_mins(5));
    }
}

/// One round of delivery by a client that an MTA bears so many errors of.
struct Round {
    errors: u32,
}

impl Round {
    /// The recipients that have to be tried again.
    fn deliver(&self, world: &World, recipients: &[String]) -> Vec<String> {
        let mut mta = Mta::open(world.inet(), CLIENT).expect("a session");
        mta.mail("a@x.example").expect("held");
        let mut errors = 0;
        let mut deferred = Vec::new();
        for to in recipients {
            if mta.rcpt(to).expect("an answer").is_deferral() {
                errors += 1;
                deferred.push(to.clone());
            }
            if errors == self.errors {
                mta.quit().expect("a clean end");
                return recipients.to_vec();
            }
        }
        let is_done = deferred.len() == recipients.len() || goes_through(&mut mta);
        mta.abort();
        mta.quit().expect("a clean end");
        if is_done {
            deferred
        } else {
            recipients.to_vec()
        }
    }
}

fn goes_through(mta: &mut Mta) -> bool {
    let mut answer = mta.data().expect("an answer");
    if answer.is_continue() {
        mta.hold(b'L', b"Message-ID\0 <1@x.example>\0");
        mta.hold(b'B', b"Hello.\r\n");
        answer = mta.end_of_message().expect("an answer");
    }
    !answer.is_deferral()
}
