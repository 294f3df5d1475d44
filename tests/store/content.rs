//! Greylisting by content through the whole store: messages that come again, bounces and probes, what
//! a message that passed earns, and what stands in for content where it says nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, ContentTrust, Judge as _, Mode, Offence, Policy, SentenceReason, Timestamp,
};
use greygate::store::codec::Row;
use greygate::store::{Keeper, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};
use crate::message::{Answer, Message, Stage, member, message, recipients};

fn by_content() -> Policy {
    Policy {
        mode: Mode::Content,
        ..Policy::default()
    }
}

/// Content alone, which earns nothing.
fn untrusting() -> Policy {
    let mut policy = by_content();
    policy.content.trust = ContentTrust::Off;
    policy
}

/// Sends `message`, and again after five minutes.
fn comes_again(fixture: &Fixture, store: &Store, message: &Message<'_>) -> [Answer; 2] {
    let first = message.answer(fixture, store);
    fixture.wait_minutes(5);
    [first, message.answer(fixture, store)]
}

const NEW: Answer = Answer::Deferred(Stage::End, "content-new");

/// When the only message that is remembered was first read.
fn first_seen(fixture: &Fixture, store: &Store) -> Timestamp {
    let contents: Vec<_> = fixture
        .rows(store)
        .into_iter()
        .filter_map(|row| match row {
            Row::Content(_, record) => Some(record.first_seen),
            _ => None,
        })
        .collect();
    let [first_seen] = contents.as_slice() else {
        panic!("one message: {contents:?}");
    };
    *first_seen
}

#[test]
fn unknown_message_is_deferred_at_its_end_and_passes_when_it_comes_again() {
    let fixture = Fixture::with_policy(by_content());
    let store = fixture.open();
    let heard = comes_again(&fixture, &store, &message());
    assert_eq!(heard, [NEW, Answer::Delivered("content")]);
}

#[test]
fn waiting_alone_does_not_pass_where_content_decides() {
    let fixture = Fixture::with_policy(by_content());
    let store = fixture.open();
    for number in 0..5 {
        let mail = message().with_id(&format!("{number}@sender.example"));
        assert_eq!(mail.answer(&fixture, &store), NEW, "mail {number}");
        fixture.wait_minutes(5);
    }
}

#[test]
fn retrier_each_minute_passes_for_a_delay_of_sixty_seconds_and_of_one_more() {
    for (delay, tries) in [(60, 2), (61, 3), (300, 6)] {
        let mut policy = by_content();
        policy.content.delay = Duration::from_secs(delay);
        let fixture = Fixture::with_policy(policy);
        let store = fixture.open();
        let begun = fixture.clock.now();
        let mut tried = 1;
        while !matches!(message().answer(&fixture, &store), Answer::Delivered(_)) {
            assert_eq!(first_seen(&fixture, &store), begun, "try {tried}");
            fixture.wait_seconds(60);
            tried += 1;
            assert!(tried < 20, "it waits for ever");
        }
        assert_eq!(tried, tries, "a delay of {delay} s");
        assert_eq!(first_seen(&fixture, &store), begun);
    }
}

#[test]
fn expired_message_is_new_and_not_accepted() {
    let fixture = Fixture::with_policy(by_content());
    let store = fixture.open();
    assert_eq!(message().answer(&fixture, &store), NEW);
    fixture.wait_hours(24);
    let heard = comes_again(&fixture, &store, &message());
    assert_eq!(heard, [NEW, Answer::Delivered("content")]);
}

#[test]
fn changed_date_and_received_change_nothing_and_a_changed_byte_does() {
    let fixture = Fixture::with_policy(untrusting());
    let store = fixture.open();
    let at = |hour: u8| {
        let mut mail = message();
        mail.headers
            .insert(0, ("Received", format!("from queue{hour}.sender.example")));
        mail.headers
            .push(("Date", format!("Mon, 1 Jan 2024 {hour:02}:00:00 +0000")));
        mail
    };
    assert_eq!(at(1).answer(&fixture, &store), NEW);
    fixture.wait_minutes(5);
    let mut changed = at(1);
    changed.body[0] ^= 1;
    assert_eq!(changed.answer(&fixture, &store), NEW);
    let delivered = at(2).answer(&fixture, &store);
    assert_eq!(delivered, Answer::Delivered("content"));
}

#[test]
fn changing_message_id_passes_at_the_sixth_contact_and_an_hour_after_the_first() {
    // (minutes between contacts, the contact that passes)
    for (minutes, passes) in [
        (1, 61),
        (5, 13),
        (12, 6),
        (60, 6),
        (5 * 60, 6),
        (23 * 60, 6),
    ] {
        let fixture = Fixture::with_policy(by_content());
        let store = fixture.open();
        let mut contacts = 0;
        let delivered = loop {
            let mail = message().with_id(&format!("{contacts}@sender.example"));
            contacts += 1;
            match mail.answer(&fixture, &store) {
                Answer::Delivered(why) => break why,
                _ => assert!(contacts < 100, "it waits for ever"),
            }
            fixture.wait_minutes(minutes);
        };
        assert_eq!(
            (delivered, contacts),
            ("persisted", passes),
            "{minutes} min"
        );
        // The next has to find its way out anew.
        fixture.wait_minutes(minutes);
        let next = message().with_id("next@sender.example");
        assert_eq!(next.answer(&fixture, &store), NEW);
    }
}

#[test]
fn forty_recipients_then_fewer_then_more_are_all_delivered() {
    for policy in [by_content(), untrusting()] {
        let fixture = Fixture::with_policy(policy);
        let store = fixture.open();
        let send = |count| message().to(recipients(count)).sent(&fixture, &store);
        let delivered = |answers: &[Answer]| {
            answers
                .iter()
                .filter(|it| matches!(it, Answer::Delivered(_)))
                .count()
        };
        assert_eq!(send(40), vec![NEW; 40]);
        fixture.wait_minutes(5);
        assert_eq!(delivered(&send(39)), 39);
        fixture.wait_minutes(5);
        // One of these waited from the beginning on, and one has just joined.
        let mut tries = 1;
        while delivered(&send(41)) < 41 {
            fixture.wait_minutes(5);
            tries += 1;
            assert!(tries <= 3, "they wait for ever");
        }
    }
}

#[test]
fn second_recipient_does_not_pass_on_the_record_of_the_first() {
    let fixture = Fixture::with_policy(untrusting());
    let store = fixture.open();
    comes_again(&fixture, &store, &message());
    for recipient in recipients(50) {
        let other = message().to([recipient]);
        assert_eq!(other.answer(&fixture, &store), NEW);
    }
    let again = message().answer(&fixture, &store);
    assert_eq!(again, Answer::Delivered("content-again"));
}

#[test]
fn bounce_is_deferred_at_its_end_and_passes_on_retry_from_anywhere() {
    let bounce = Message::of(Attempt {
        reverse_path: b"",
        ..ATTEMPT
    });
    for mode in [Mode::Hybrid, Mode::Content] {
        // (seconds, the pool's member that retries, what it hears)
        let by_waiting = if mode == Mode::Hybrid {
            "waited"
        } else {
            "content"
        };
        let retries = [
            (60, 0, "content"),
            (60, 1, "content"),
            (300, 0, by_waiting),
            (300, 1, "content"),
        ];
        for (seconds, client, expected) in retries {
            let fixture = Fixture::with_known_seed(Policy {
                mode,
                ..Policy::default()
            });
            let store = fixture.open();
            let first = bounce.by_client(member(0));
            assert_eq!(first.answer(&fixture, &store), NEW);
            fixture.wait_seconds(seconds);
            let retry = bounce.by_client(member(client));
            let heard = retry.answer(&fixture, &store);
            assert_eq!(heard, Answer::Delivered(expected), "{mode:?} {seconds} s");
        }
    }
}

#[test]
fn bounce_is_deferred_at_data_in_envelope_mode() {
    let fixture = Fixture::with_policy(Policy {
        mode: Mode::Envelope,
        ..Policy::default()
    });
    let store = fixture.open();
    let bounce = Message::of(Attempt {
        reverse_path: b"",
        ..ATTEMPT
    });
    let heard = comes_again(&fixture, &store, &bounce);
    let deferred = Answer::Deferred(Stage::Data, "new");
    assert_eq!(heard, [deferred, Answer::Delivered("waited")]);
}

#[test]
fn bounces_and_probes_that_never_come_again_are_held_against_nobody() {
    for mode in [Mode::Envelope, Mode::Content, Mode::Hybrid] {
        let fixture = Fixture::with_policy(Policy {
            mode,
            ..Policy::default()
        });
        let store = Arc::new(fixture.open());
        fixture.warm_up();
        for reverse_path in [&b""[..], b"double-bounce@mx.sender.example"] {
            let probe = Message::of(Attempt {
                reverse_path,
                ..ATTEMPT
            });
            for recipient in recipients(60) {
                let heard = probe.to([recipient]).answer(&fixture, &store);
                assert!(matches!(
                    heard,
                    Answer::Deferred(Stage::Data | Stage::End, _)
                ));
                fixture.wait_seconds(1);
            }
        }
        fixture.wait_hours(6 * 24);
        sweep(&fixture, &store);
        let census = store.census();
        assert_eq!(
            (census.clients, census.sentences, census.reputations),
            (0, 0, 0)
        );
    }
}

#[test]
fn trust_of_an_ipv6_client_outlives_sweep_and_restart_and_is_renewed_on_use() {
    let fixture = Fixture::with_policy(by_content());
    let store = fixture.open();
    let sender = message().by_client("2001:db8:1:2::3".parse().expect("an address"));
    comes_again(&fixture, &store, &sender);
    fixture.rows(&store);
    drop(store);
    let store = Arc::new(fixture.open());
    let trusted = Answer::Delivered("content-trusted");
    let mut mail = 0;
    let mut next = || {
        mail += 1;
        let next = sender.with_id(&format!("later-{mail}@sender.example"));
        next.answer(&fixture, &store)
    };
    for _ in 0..3 {
        fixture.wait_hours(30 * 24);
        sweep(&fixture, &store);
        assert_eq!(next(), trusted);
    }
    let neighbour = sender.by_client("2001:db8:1:2::4".parse().expect("an address"));
    let neighbour = neighbour.with_id("neighbour@sender.example");
    assert_eq!(neighbour.answer(&fixture, &store), NEW, "not its network");
    fixture.wait_hours(36 * 24);
    assert_eq!(next(), NEW, "unused for too long");
}

/// Has the tables swept until no message, tuple or pair is left, all of which have lapsed.
fn sweep(fixture: &Fixture, store: &Arc<Store>) {
    let clock = Arc::clone(&fixture.clock);
    let keeper = Keeper::start(Arc::clone(store), clock).expect("the system has a thread to give");
    // A slice is due as soon as it looks at the clock again, and in some minutes the next.
    fixture.wait_hours(13);
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_left = || {
        let census = store.census();
        census.contents + census.tuples + census.pairs > 0
    };
    while is_left() {
        assert!(Instant::now() < deadline, "a sweep within 20 s");
        fixture.wait_minutes(2);
        std::thread::sleep(Duration::from_millis(20));
    }
    keeper.stop().expect("it is writable");
}

#[test]
fn empty_body_is_decided_by_its_envelope() {
    let fixture = Fixture::with_policy(by_content());
    let store = fixture.open();
    let empty = Message {
        body: Vec::new(),
        ..message()
    };
    let early = Answer::Deferred(Stage::End, "early");
    assert_eq!(empty.answer(&fixture, &store), early);
    fixture.wait_minutes(2);
    assert_eq!(empty.answer(&fixture, &store), early);
    fixture.wait_minutes(3);
    assert_eq!(empty.answer(&fixture, &store), Answer::Delivered("waited"));
    assert_eq!(store.census().contents, 0);
}

#[test]
fn without_room_for_content_the_envelope_decides_and_mail_passes() {
    for per_network in [0, 10_000] {
        let mut fixture = Fixture::with_policy(by_content());
        fixture.settings.contents_per_network = per_network;
        fixture.settings.contents = usize::from(per_network == 0);
        let store = fixture.open();
        let early = Answer::Deferred(Stage::End, "early");
        let mails: Vec<_> = recipients(20).map(|it| message().to([it])).collect();
        for mail in &mails {
            assert_eq!(mail.answer(&fixture, &store), early);
        }
        fixture.wait_minutes(5);
        for mail in &mails {
            assert_eq!(mail.answer(&fixture, &store), Answer::Delivered("waited"));
        }
        assert_eq!(store.census().contents, 0);
        let counted = [
            fixture.metrics.contents_beyond_share.get(),
            fixture.metrics.contents_unrecorded.get(),
        ];
        let (none, some) = if per_network == 0 { (1, 0) } else { (0, 1) };
        assert_eq!(
            (counted[none], counted[some] >= 20),
            (0, true),
            "{counted:?}"
        );
    }
}

#[test]
fn nothing_is_read_while_greylisting_only_observes() {
    for mode in [Mode::Content, Mode::Hybrid] {
        let fixture = Fixture::with_known_seed(Policy {
            mode,
            action: Action::Observe,
            ..Policy::default()
        });
        let store = fixture.open();
        for number in 0..6 {
            for reverse_path in [ATTEMPT.reverse_path, b""] {
                let attempt = Attempt {
                    reverse_path,
                    ..ATTEMPT
                };
                let mail = Message::of(attempt).by_client(member(number));
                let heard = mail.answer(&fixture, &store);
                assert_eq!(heard, Answer::Delivered("observed"));
            }
            fixture.wait_minutes(5);
        }
        let census = store.census();
        assert_eq!((census.contents, census.pairs), (0, 0));
    }
}

/// What the client of [`ATTEMPT`] is sentenced for.
fn struck_for(fixture: &Fixture, store: &Store) -> Vec<SentenceReason> {
    let sentences = store.sentences(fixture.clock.now());
    sentences.iter().map(|it| it.reason).collect()
}

#[test]
fn same_message_after_a_permanent_failure_is_an_offence_and_other_mail_is_none() {
    let unsized_ = Message::of(Attempt {
        announced_size: 0,
        ..ATTEMPT
    });
    let struck = SentenceReason::Offence(Offence::RejectedRetries);
    for mode in [Mode::Content, Mode::Hybrid] {
        for (is_reported, is_one_message) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let mut policy = Policy {
                mode,
                ..Policy::default()
            };
            policy.content.trust = ContentTrust::Off;
            let fixture = Fixture::with_policy(policy);
            let store = fixture.open();
            fixture.wait_minutes(5);
            // Refused at RCPT by the MTA, or at its end by a filter that says so.
            if is_reported {
                let now = fixture.clock.now();
                let (client, from) = (ATTEMPT.client, ATTEMPT.reverse_path);
                assert!(store.report_reject(client, from, ATTEMPT.recipient, None, now));
            } else {
                store.note_rejected(&unsized_.attempt, fixture.clock.now());
            }
            for retry in 1..=6 {
                assert_eq!(struck_for(&fixture, &store), [], "before retry {retry}");
                fixture.wait_minutes(5);
                let number = if is_one_message { 0 } else { retry };
                let mail = unsized_.with_id(&format!("{number}@sender.example"));
                mail.answer(&fixture, &store);
            }
            let expected = if is_one_message { &[struck][..] } else { &[] };
            assert_eq!(
                struck_for(&fixture, &store),
                expected,
                "{mode:?} {is_reported}"
            );
        }
    }
}

/// Rounds, the first not counted, until a message to 20 recipients that pass and 25 unknown ones is
/// delivered to all.
fn rounds_until_delivered(fixture: &Fixture, message: &Message<'_>) -> usize {
    let store = fixture.open();
    for recipient in recipients(20) {
        let known = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        let mut hybrid = Policy::clone(&fixture.policy.load());
        let mode = std::mem::replace(&mut hybrid.mode, Mode::Hybrid);
        let mut policy = hybrid.clone();
        policy.mode = mode;
        fixture.policy.store(Arc::new(hybrid));
        pass_once(fixture, &store, &known);
        fixture.policy.store(Arc::new(policy));
    }
    fixture.wait_minutes(30);
    let mut waiting = message.clone();
    for round in 0..10 {
        let answers = waiting.sent(fixture, &store);
        // Who was delivered is not sent to again.
        let left = waiting.recipients.iter().zip(&answers);
        let left = left.filter(|(_, it)| !matches!(it, Answer::Delivered(_)));
        let left: Vec<_> = left.map(|(recipient, _)| recipient.clone()).collect();
        if left.is_empty() {
            return round;
        }
        waiting = waiting.to(left);
        fixture.wait_minutes(5);
    }
    panic!("it waits for ever");
}

#[test]
fn known_and_unknown_recipients_are_all_delivered_in_two_rounds_even_if_sessions_are_cut() {
    let known_first: Vec<_> = recipients(45).collect();
    let unknown_first: Vec<_> = known_first.iter().rev().cloned().collect();
    let mixed: Vec<_> = (0..45)
        .map(|number| known_first[number * 7 % 45].clone())
        .collect();
    for order in [known_first, unknown_first, mixed] {
        for mode in [Mode::Envelope, Mode::Hybrid, Mode::Content] {
            for is_cut_short in [false, true] {
                let mut policy = Policy {
                    mode,
                    trust_after: 0,
                    ..Policy::default()
                };
                policy.content.trust = ContentTrust::Off;
                let fixture = Fixture::with_policy(policy);
                let mail = Message {
                    is_cut_short,
                    ..message().to(order.clone())
                };
                let rounds = rounds_until_delivered(&fixture, &mail);
                assert!(
                    rounds <= 2,
                    "{rounds} rounds, {mode:?}, cut short: {is_cut_short}, {:?} first",
                    order[0]
                );
            }
        }
    }
}
