//! Trust that a message earns by coming again: who gets it, what for, and what it does not excuse.

use std::net::IpAddr;

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, ContentTrust, Judge as _, Mode, Offence, Policy, SentenceReason};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};
use crate::message::{Answer, Message, Stage, member, message, recipients};

const NEW: Answer = Answer::Deferred(Stage::End, "content-new");

fn by_content(scope: ContentTrust) -> Policy {
    let mut policy = Policy {
        mode: Mode::Content,
        ..Policy::default()
    };
    policy.content.trust = scope;
    policy
}

/// Has a message pass because it came again.
fn earns(fixture: &Fixture, store: &Store) {
    assert_eq!(message().answer(fixture, store), NEW);
    fixture.wait_minutes(5);
    let heard = message().answer(fixture, store);
    assert_eq!(heard, Answer::Delivered("content"));
}

#[test]
fn trust_is_given_to_the_address_for_the_domain_or_for_all_or_not_at_all() {
    let from = |client: &'static str, reverse_path: &'static [u8]| {
        let client: IpAddr = client.parse().expect("an address");
        let attempt = Attempt {
            client,
            reverse_path,
            ..ATTEMPT
        };
        Message::of(attempt).with_id("other@sender.example")
    };
    let trusted = Answer::Delivered("content-trusted");
    for (scope, colleague, stranger) in [
        (ContentTrust::Domain, trusted, NEW),
        (ContentTrust::Address, trusted, trusted),
        (ContentTrust::Off, NEW, NEW),
    ] {
        let fixture = Fixture::with_policy(by_content(scope));
        let store = fixture.open();
        earns(&fixture, &store);
        let heard = |client, path| from(client, path).answer(&fixture, &store);
        assert_eq!(
            heard("192.0.2.7", b"t@SENDER.example"),
            colleague,
            "{scope:?}"
        );
        assert_eq!(heard("192.0.2.7", b"s@bank.example"), stranger, "{scope:?}");
        assert_eq!(heard("192.0.2.8", b"s@sender.example"), NEW, "a neighbour");
    }
}

/// A bounce has no domain to be trusted for, and anybody may put any domain behind a probe's name.
#[test]
fn bounce_or_probe_that_came_again_earns_its_client_nothing() {
    for mode in [Mode::Hybrid, Mode::Content] {
        for scope in [ContentTrust::Domain, ContentTrust::Address] {
            for reverse_path in [&b""[..], b"double-bounce@bank.example"] {
                let fixture = Fixture::with_policy(Policy {
                    mode,
                    ..by_content(scope)
                });
                let store = fixture.open();
                let probe = Message::of(Attempt {
                    reverse_path,
                    ..ATTEMPT
                });
                assert_eq!(probe.answer(&fixture, &store), NEW);
                fixture.wait_seconds(60);
                let retry = probe.answer(&fixture, &store);
                assert_eq!(retry, Answer::Delivered("content"));
                assert_eq!(store.census().trusted, 0, "{mode:?} {scope:?}");
                let forged = Message::of(Attempt {
                    reverse_path: b"s@bank.example",
                    ..ATTEMPT
                });
                let heard = forged.answer(&fixture, &store);
                assert!(matches!(heard, Answer::Deferred(..)), "{heard:?}");
            }
        }
    }
}

/// A minute's wait is no character reference.
#[test]
fn trust_by_one_message_does_not_shield_from_strikes_for_guessing_recipients() {
    let fixture = Fixture::with_policy(by_content(ContentTrust::Address));
    let store = fixture.open();
    fixture.warm_up();
    earns(&fixture, &store);
    assert_eq!(store.census().trusted, 1);
    for recipient in recipients(200) {
        let guess = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        store.note_rejected(&guess, fixture.clock.now());
        fixture.wait_seconds(1);
    }
    let struck = SentenceReason::Offence(Offence::RejectedRecipients);
    let sentences = store.sentences(fixture.clock.now());
    let reasons: Vec<_> = sentences.iter().map(|it| it.reason).collect();
    assert_eq!(reasons, [struck]);
}

/// Neither by the sweep nor by a restart, both of which leave out what has lapsed.
#[test]
fn template_that_comes_back_within_a_day_makes_no_second_address_trusted() {
    let fixture = Fixture::with_policy(by_content(ContentTrust::Domain));
    let mut store = fixture.open();
    for bot in 0..10 {
        let template = message().by_client(member(bot));
        assert_eq!(template.answer(&fixture, &store), NEW, "bot {bot}");
        fixture.wait_minutes(1);
        let heard = template.answer(&fixture, &store);
        assert_eq!(heard, Answer::Delivered("content"), "bot {bot}");
        fixture.wait_hours(2);
        fixture.rows(&store);
        drop(store);
        store = fixture.open();
    }
    assert_eq!(store.census().trusted, 1);
}
