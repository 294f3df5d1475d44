//! Senders with many addresses through the whole store, in hybrid mode: pools that retry from another
//! one each time, and bots that send one template.

use std::time::Duration;

use greygate::policy::{Attempt, Mode, Policy};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};
use crate::message::{Answer, Message, Stage, member, message, recipients};

/// What the pool hears that sends one message every `minutes` from the next of its fifteen addresses,
/// until it is delivered; `message` makes the message of a try.
fn round_robin<'a>(
    fixture: &Fixture,
    store: &Store,
    minutes: u64,
    message: impl Fn(u8) -> Message<'a>,
) -> Vec<Answer> {
    let mut heard = Vec::new();
    while heard.len() < 40 {
        let number = u8::try_from(heard.len()).expect("a small number");
        let message = message(number).by_client(member(number % 15));
        let answer = message.answer(fixture, store);
        heard.push(answer);
        if matches!(answer, Answer::Delivered(_)) {
            return heard;
        }
        fixture.wait_minutes(minutes);
    }
    panic!("it waits for ever: {heard:?}");
}

const DEFERRED_TWICE: [Answer; 3] = [
    Answer::Deferred(Stage::Rcpt, "new"),
    Answer::Deferred(Stage::End, "content-new"),
    Answer::Delivered("content"),
];

#[test]
fn pool_of_fifteen_is_deferred_twice_and_then_delivered() {
    for minutes in [4, 5, 15, 60, 6 * 60] {
        let fixture = Fixture::with_known_seed(Policy::default());
        let store = fixture.open();
        let heard = round_robin(&fixture, &store, minutes, |_| message());
        assert_eq!(heard, DEFERRED_TWICE, "every {minutes} min");
    }
}

/// A record holds eight bits of the network that began it: of a thousand networks some look like it.
#[test]
fn every_other_network_is_seen_for_another() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    message().by_client(member(0)).answer(&fixture, &store);
    fixture.wait_minutes(3);
    for network in 0..1_000_u16 {
        let [high, low] = network.to_be_bytes();
        let sent = message()
            .with_id(&format!("{network}@sender.example"))
            .by_client([198, 18 + high, low, 25].into());
        let heard = sent.answer(&fixture, &store);
        assert_eq!(
            heard,
            Answer::Deferred(Stage::End, "content-new"),
            "{network}"
        );
    }
}

#[test]
fn pool_with_another_reverse_path_for_each_message_is_delivered_likewise() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    for number in 0..4 {
        let reverse_path = format!("bounce-{number}-r=here.example@list{number}.example");
        let heard = round_robin(&fixture, &store, 5, |_| {
            Message::of(Attempt {
                reverse_path: reverse_path.as_bytes(),
                ..ATTEMPT
            })
        });
        assert_eq!(heard, DEFERRED_TWICE, "message {number}");
        fixture.wait_minutes(30);
    }
}

#[test]
fn address_that_delivered_is_trusted_for_its_domain_and_the_pool_is_read_at_once() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    round_robin(&fixture, &store, 5, |_| message());
    fixture.wait_hours(1);
    let next = message().with_id("2@sender.example");
    let trusted = next.by_client(member(2)).answer(&fixture, &store);
    assert_eq!(trusted, Answer::Delivered("content-trusted"));
    let another = next.by_client(member(7)).answer(&fixture, &store);
    assert_eq!(another, Answer::Deferred(Stage::End, "content-new"));
    fixture.wait_minutes(5);
    let retry = next.by_client(member(8)).answer(&fixture, &store);
    assert_eq!(retry, Answer::Delivered("content"), "one deferral");
}

#[test]
fn restart_in_the_middle_of_the_wait_costs_a_pool_nothing() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let mut store = fixture.open();
    let mut heard = Vec::new();
    for number in 0..3 {
        let sent = message().by_client(member(number));
        heard.push(sent.answer(&fixture, &store));
        fixture.rows(&store);
        drop(store);
        fixture.wait_minutes(5);
        store = fixture.open();
    }
    assert_eq!(heard, DEFERRED_TWICE);
    // What it earned, and that the message is spent, outlives one too.
    let next = message().with_id("2@sender.example");
    let trusted = next.by_client(member(2)).answer(&fixture, &store);
    assert_eq!(trusted, Answer::Delivered("content-trusted"));
    let again = message().by_client(member(3)).answer(&fixture, &store);
    assert_eq!(again, Answer::Delivered("content-again"));
    fixture.wait_minutes(5);
    let spent = message().by_client(member(4)).answer(&fixture, &store);
    assert_eq!(spent, Answer::Deferred(Stage::End, "content-new"));
}

#[test]
fn pool_waits_for_its_first_address_in_envelope_mode_and_nothing_is_recorded_of_its_content() {
    let fixture = Fixture::with_known_seed(Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    });
    let store = fixture.open();
    let heard = round_robin(&fixture, &store, 5, |_| message());
    assert_eq!(heard.len(), 16);
    assert_eq!(heard.last(), Some(&Answer::Delivered("waited")));
    let deferred = Answer::Deferred(Stage::Rcpt, "new");
    assert!(heard[..15].iter().all(|it| *it == deferred), "{heard:?}");
    let census = store.census();
    assert_eq!((census.contents, census.pairs), (0, 0));
}

#[test]
fn pool_whose_message_id_changes_passes_at_the_sixth_contact_and_an_hour_after_the_first() {
    // (minutes between contacts, the contact that passes)
    for (minutes, passes) in [(5, 13), (10, 7), (12, 6), (15, 6), (60, 6), (5 * 60, 6)] {
        let fixture = Fixture::with_known_seed(Policy::default());
        let store = fixture.open();
        let heard = round_robin(&fixture, &store, minutes, |number| {
            message().with_id(&format!("{number}@sender.example"))
        });
        assert_eq!(heard.len(), passes, "every {minutes} min: {heard:?}");
        assert_eq!(heard.last(), Some(&Answer::Delivered("persisted")));
        assert_eq!(store.census().trusted, 0, "it proved nothing");
    }
}

#[test]
fn pool_without_a_body_waits_for_the_way_out() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    let empty = Message {
        body: Vec::new(),
        ..message()
    };
    let heard = round_robin(&fixture, &store, 5, |_| empty.clone());
    assert_eq!(heard.len(), 13, "an hour: {heard:?}");
    assert_eq!(heard.last(), Some(&Answer::Delivered("persisted")));
    assert_eq!(store.census().contents, 0);
}

#[test]
fn bots_with_one_template_earn_nothing_before_the_delay() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    // (seconds after the one before, what the next bot hears)
    let tries = [
        (0, Answer::Deferred(Stage::Rcpt, "new")),
        (59, Answer::Deferred(Stage::Rcpt, "new")),
        (120, Answer::Deferred(Stage::Rcpt, "new")),
        (1, Answer::Deferred(Stage::End, "content-new")),
        (59, Answer::Deferred(Stage::End, "content-early")),
    ];
    for (number, (pause, expected)) in (0..).zip(tries) {
        fixture.wait_seconds(pause);
        let bot = message().by_client(member(number));
        assert_eq!(bot.answer(&fixture, &store), expected, "bot {number}");
    }
    assert_eq!(store.census().trusted, 0);
}

#[test]
fn botnet_of_fifty_gets_ten_minutes_and_trust_for_one_address_and_domain() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    let mut passed = Vec::new();
    for number in 0..50 {
        let bot = message().by_client(member(number));
        if let Answer::Delivered(why) = bot.answer(&fixture, &store) {
            passed.push((number, why));
        }
        fixture.wait_seconds(30);
    }
    // Each passes at twice its number of minutes.
    assert_eq!(passed[0], (8, "content"), "after delay and content delay");
    let first_spell: Vec<_> = passed
        .iter()
        .filter(|(number, _)| *number < 8 + 20)
        .collect();
    let again = |(_, why): &&(u8, &str)| *why == "content-again";
    assert_eq!(
        first_spell.iter().filter(|it| again(it)).count(),
        first_spell.len() - 1
    );
    assert!(
        !passed.iter().any(|(number, _)| [28, 29].contains(number)),
        "spent, and new then: {passed:?}"
    );
    assert_eq!(store.census().trusted, 1, "{passed:?}");

    fixture.wait_hours(1);
    let other = message().to(["other@here.example".to_owned()]);
    for number in 0..50 {
        let answer = other.by_client(member(number)).answer(&fixture, &store);
        let trusted = number == passed[0].0;
        if trusted {
            assert_eq!(answer, Answer::Delivered("content-trusted"));
        } else {
            assert!(
                matches!(answer, Answer::Deferred(..)),
                "{number}: {answer:?}"
            );
        }
    }
    let other_domain = Message::of(Attempt {
        reverse_path: b"s@bank.example",
        ..ATTEMPT
    });
    let forged = other_domain.by_client(member(passed[0].0));
    assert_eq!(
        forged.answer(&fixture, &store),
        Answer::Deferred(Stage::Rcpt, "new")
    );
}

#[test]
fn template_that_is_sent_for_ever_makes_no_second_address_trusted() {
    let fixture = Fixture::with_known_seed(Policy {
        mode: Mode::Content,
        ..Policy::default()
    });
    let store = fixture.open();
    for minute in 0..24 * 60_u64 {
        let bot = u8::try_from(minute % 250).expect("below 250");
        message().by_client(member(bot)).answer(&fixture, &store);
        fixture.wait_minutes(1);
    }
    assert_eq!(store.census().trusted, 1);
}

#[test]
fn forty_recipients_then_fewer_then_more_are_all_delivered_from_a_pool() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    let mut rounds = 0;
    for (number, count) in [40, 39, 41, 41, 41].into_iter().enumerate() {
        let number = u8::try_from(number).expect("a small number");
        let sent = message().to(recipients(count)).by_client(member(number));
        let answers = sent.sent(&fixture, &store);
        rounds += 1;
        if answers.iter().all(|it| matches!(it, Answer::Delivered(_))) {
            assert_eq!(
                rounds, 4,
                "the one who joined late has two deferrals of its own"
            );
            return;
        }
        fixture.wait_minutes(5);
    }
    panic!("they wait for ever");
}

#[test]
fn pool_with_many_recipients_gets_through_sessions_that_are_cut() {
    for is_cut_short in [false, true] {
        let fixture = Fixture::with_known_seed(Policy::default());
        let store = fixture.open();
        let mut rounds = 0;
        for number in 0..10 {
            let sent = Message {
                is_cut_short,
                ..message().to(recipients(25)).by_client(member(number))
            };
            let answers = sent.sent(&fixture, &store);
            rounds += 1;
            if answers.iter().all(|it| matches!(it, Answer::Delivered(_))) {
                break;
            }
            fixture.wait_minutes(5);
        }
        assert_eq!(rounds, 3, "cut short: {is_cut_short}");
    }
}

#[test]
fn honest_pool_is_no_offence() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    fixture.warm_up();
    for mail in 0..20 {
        let sent = message().with_id(&format!("{mail}@sender.example"));
        for number in 0..15 {
            sent.by_client(member(number)).answer(&fixture, &store);
            fixture.clock.advance(Duration::from_secs(20));
        }
    }
    assert_eq!(store.census().sentences, 0);
}

/// Mail of one sender to one recipient that is queued together, as notifications are, is retried
/// together: what passes first must not close the door for the rest.
#[test]
fn mails_of_one_pool_to_one_recipient_do_not_delay_each_other() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    let mut waiting: Vec<u8> = (0..20).collect();
    let mut address = 0;
    for round in 0..3 {
        let mut deferred = Vec::new();
        for number in waiting {
            // Of a pool so large that no address comes twice.
            let sent = message()
                .with_id(&format!("{number}@sender.example"))
                .by_client(member(address));
            address += 1;
            let heard = sent.answer(&fixture, &store);
            if !matches!(heard, Answer::Delivered(_)) {
                deferred.push(number);
            }
            fixture.wait_seconds(1);
        }
        waiting = deferred;
        assert_eq!(waiting.is_empty(), round == 2, "round {round}: {waiting:?}");
        fixture.wait_minutes(10);
    }
}

#[test]
fn reply_that_a_pool_did_not_hear_is_given_again_at_once() {
    for minutes in [0, 1, 2, 5, 9] {
        let fixture = Fixture::with_known_seed(Policy::default());
        let store = fixture.open();
        round_robin(&fixture, &store, 5, |_| message());
        fixture.wait_minutes(minutes);
        let again = message().by_client(member(3)).answer(&fixture, &store);
        assert_eq!(again, Answer::Delivered("content-again"), "{minutes} min");
    }
}

/// One of its addresses may come again, and pass for having waited.
#[test]
fn pool_stays_known_for_one_whose_address_comes_again() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    round_robin(&fixture, &store, 5, |_| message());
    fixture.wait_minutes(5);
    let second = message().with_id("2@sender.example");
    let waited = second.by_client(member(0)).answer(&fixture, &store);
    assert_eq!(waited, Answer::Delivered("waited"));
    fixture.wait_minutes(5);
    let third = message().with_id("3@sender.example");
    let read = third.by_client(member(7)).answer(&fixture, &store);
    assert_eq!(read, Answer::Deferred(Stage::End, "content-new"));
}

/// Two mails are in flight from a small pool: what passes for its tuple
/// does not send the other one back to the beginning.
#[test]
fn address_that_comes_again_ends_nobody_elses_wait() {
    let fixture = Fixture::with_known_seed(Policy::default());
    let store = fixture.open();
    let mail = |number: u8| message().with_id(&format!("{number}@sender.example"));
    let heard = |number, address| {
        let sent = mail(number).by_client(member(address));
        sent.answer(&fixture, &store)
    };
    assert_eq!(heard(0, 0), Answer::Deferred(Stage::Rcpt, "new"));
    fixture.wait_minutes(5);
    assert_eq!(heard(1, 1), Answer::Deferred(Stage::End, "content-new"));
    fixture.wait_minutes(1);
    assert_eq!(heard(0, 0), Answer::Delivered("waited"));
    fixture.wait_minutes(4);
    assert_eq!(heard(1, 2), Answer::Delivered("content"));
}
