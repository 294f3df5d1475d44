//! Permanent failures through the whole store: who goes on after a 5yz, whom nearly every recipient
//! is refused, and who only has a few dead addresses on a list.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, DeferReason, Judge as _, Offence, Origin, Outcome, PassReason, Policy,
    RefuseReason, Refusing, SentenceReason, SentencedClient, ServerMark, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture, listing, pass_once};

/// The store of a host that has been up for longer than a cold start's grace.
fn open(fixture: &Fixture) -> Store {
    let store = fixture.open();
    fixture.wait_minutes(5);
    store
}

/// What the client of [`ATTEMPT`] is sentenced for.
fn struck_for(fixture: &Fixture, store: &Store) -> Vec<Offence> {
    let sentences = store.sentences(fixture.clock.now());
    let reasons = sentences.iter().map(|sentence| match sentence.reason {
        SentenceReason::Offence(offence) => offence,
        reason => panic!("an offence: {reason:?}"),
    });
    reasons.collect()
}

/// The MTA refuses `attempt` for good, as its table of recipients has it.
fn reject(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) {
    store.note_rejected(attempt, fixture.clock.now());
}

/// `attempt`, refused `times` times, `minutes` apart.
fn reject_every(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>, minutes: u64, times: u32) {
    for _ in 0..times {
        reject(fixture, store, attempt);
        fixture.wait_minutes(minutes);
    }
}

/// Names `count` recipients, ten a second, of which all but every `known`th are unknown here.
fn names_recipients(fixture: &Fixture, store: &Store, count: u32, is_known: impl Fn(u32) -> bool) {
    for number in 0..count {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            announced_size: 4_000 + u64::from(number),
            ..ATTEMPT
        };
        if is_known(number) {
            fixture.judge(store, &attempt);
        } else {
            reject(fixture, store, &attempt);
        }
        fixture.clock.advance(Duration::from_millis(100));
    }
}

#[test]
fn dictionary_attack_is_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    names_recipients(&fixture, &store, 100, |_| false);
    assert_eq!(struck_for(&fixture, &store), [], "a hundred are none yet");
    names_recipients(&fixture, &store, 500, |number| number < 100);
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRecipients]);
}

/// Offences are still counted, but an operator who only watches punishes nobody.
#[test]
fn nobody_is_struck_while_greylisting_only_observes() {
    let fixture = Fixture::with_policy(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    let store = open(&fixture);
    names_recipients(&fixture, &store, 500, |_| false);
    reject_every(&fixture, &store, &ATTEMPT, 1, 20);
    assert_eq!(struck_for(&fixture, &store), []);
    for offence in [Offence::RejectedRecipients, Offence::RejectedRetries] {
        let counted = fixture.metrics.count_of_offence(offence, Outcome::Observed);
        assert!(counted > 0, "{offence:?}");
    }
}

#[test]
fn guesses_that_hit_now_and_then_are_a_dictionary_attack_too() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    names_recipients(&fixture, &store, 500, |number| number % 10 == 3);
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRecipients]);
}

#[test]
fn mailing_list_with_three_dead_addresses_is_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    for _ in 0..7 {
        names_recipients(&fixture, &store, 500, |number| number % 170 != 20);
        fixture.wait_hours(24);
    }
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn large_list_with_more_dead_addresses_than_the_limit_is_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    names_recipients(&fixture, &store, 2_000, |number| number % 10 != 0);
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn trusted_recipients_are_among_those_a_client_named() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 1,
        ..Policy::default()
    });
    let store = open(&fixture);
    pass_once(&fixture, &store, &ATTEMPT);
    let trusted = Attempt {
        recipient: b"another@here.example",
        ..ATTEMPT
    };
    let verdict = fixture.judge(&store, &trusted);
    assert_eq!(verdict, Verdict::Pass(PassReason::Trusted));
    names_recipients(&fixture, &store, 2_000, |number| number % 10 != 0);
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn trusted_sender_is_not_struck_for_what_the_mta_refuses() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 1,
        ..Policy::default()
    });
    let store = open(&fixture);
    pass_once(&fixture, &store, &ATTEMPT);
    reject_every(&fixture, &store, &ATTEMPT, 1, 30);
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn backscatter_of_a_good_relay_is_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    for number in 0..1_000 {
        let recipient = format!("r{}@here.example", number % 400);
        let bounce = Attempt {
            reverse_path: b"",
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        reject(&fixture, &store, &bounce);
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn sixth_retry_within_the_hour_after_a_550_at_rcpt_is_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    reject_every(&fixture, &store, &ATTEMPT, 9, 6);
    assert_eq!(struck_for(&fixture, &store), [], "five retries");
    reject(&fixture, &store, &ATTEMPT);
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
}

#[test]
fn retries_that_are_greylisted_or_pass_after_a_failure_count_as_well() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    reject(&fixture, &store, &ATTEMPT);
    let new = Verdict::Defer(DeferReason::New);
    assert_eq!(fixture.judge(&store, &ATTEMPT), new);
    for _ in 0..4 {
        fixture.wait_minutes(5);
        let verdict = fixture.judge(&store, &ATTEMPT);
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }
    assert_eq!(struck_for(&fixture, &store), []);
    fixture.wait_minutes(5);
    fixture.judge(&store, &ATTEMPT);
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
}

#[test]
fn sixth_retry_after_a_554_that_another_filter_reports_is_struck() {
    for told in [Some(ATTEMPT.announced_size), None] {
        let fixture = Fixture::new();
        let store = open(&fixture);
        pass_once(&fixture, &store, &ATTEMPT);
        for retry in 0..=6 {
            let struck = struck_for(&fixture, &store);
            assert_eq!(struck, [], "after {retry} attempts, size {told:?}");
            fixture.wait_minutes(5);
            fixture.judge(&store, &ATTEMPT);
            let remembered = store.report_reject(
                ATTEMPT.client,
                ATTEMPT.reverse_path,
                ATTEMPT.recipient,
                told,
                fixture.clock.now(),
            );
            assert!(remembered);
        }
        assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
    }
}

#[test]
fn retries_after_a_failure_count_while_there_is_no_room_for_tuples() {
    let mut fixture = Fixture::new();
    fixture.settings.capacity = 0;
    let store = open(&fixture);
    reject(&fixture, &store, &ATTEMPT);
    for _ in 0..6 {
        assert_eq!(struck_for(&fixture, &store), []);
        fixture.wait_minutes(5);
        fixture.judge(&store, &ATTEMPT);
        assert_eq!(store.census().tuples, 0);
    }
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
}

#[test]
fn who_is_forgiven_begins_with_no_refused_recipients() {
    for forgives in [false, true] {
        let fixture = Fixture::new();
        let store = open(&fixture);
        names_recipients(&fixture, &store, 100, |_| false);
        if forgives {
            store.forgive(SentencedClient::host(ATTEMPT.client), fixture.clock.now());
        }
        names_recipients(&fixture, &store, 200, |_| false);
        assert_eq!(struck_for(&fixture, &store).is_empty(), forgives);
    }
}

/// The MTA shows the message of `attempt` to its end.
fn show(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>, body: &[u8]) {
    let mut message = store.message_hasher();
    message.header(b"Message-ID", b"<1@sender.example>");
    message.body(body);
    store.note_content(attempt, &message, fixture.clock.now());
}

#[test]
fn content_tells_the_sixth_retry_of_a_message_without_a_size() {
    for reverse_path in [&b"s@sender.example"[..], b""] {
        let fixture = Fixture::new();
        let store = open(&fixture);
        let attempt = Attempt {
            announced_size: 0,
            reverse_path,
            ..ATTEMPT
        };
        pass_once(&fixture, &store, &attempt);
        let now = fixture.clock.now();
        assert!(store.report_reject(attempt.client, reverse_path, attempt.recipient, None, now));
        for retry in 1..=6 {
            assert_eq!(struck_for(&fixture, &store), [], "before retry {retry}");
            fixture.wait_minutes(5);
            let judgement = store.judge(&attempt, fixture.clock.now());
            assert!(judgement.wants_content, "retry {retry}");
            show(&fixture, &store, &attempt, b"Hello,\r\nagain.\r\n");
            let other = format!("Hello,\r\nmail {retry}.\r\n");
            show(&fixture, &store, &attempt, other.as_bytes());
        }
        assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
    }
}

#[test]
fn sixth_retry_of_what_we_refuse_for_good_ourselves_is_struck() {
    let mut policy = Policy::default();
    policy.reputation.action = Refusing::Reject;
    let fixture = Fixture::with_policy(policy);
    let store = open(&fixture);
    for _ in 0..100 {
        let now = fixture.clock.now();
        assert!(store.report_mail(ATTEMPT.client, Some(ATTEMPT.client_name), true, now));
    }
    let refused = Verdict::Refuse(RefuseReason::BadReputation { permanently: true });
    for retry in 0..=6 {
        assert_eq!(struck_for(&fixture, &store), [], "after {retry} attempts");
        assert_eq!(fixture.judge(&store, &ATTEMPT), refused);
        fixture.wait_minutes(5);
    }
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
}

#[test]
fn daily_newsletter_to_a_dead_address_is_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    reject_every(&fixture, &store, &ATTEMPT, 24 * 60, 90);
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn monitoring_job_that_mails_a_dead_address_every_five_minutes_is_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    for number in 0..288 {
        let report = Attempt {
            announced_size: 5_000 + number * 37 % 113,
            ..ATTEMPT
        };
        reject(&fixture, &store, &report);
        fixture.wait_minutes(5);
    }
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn retries_spread_over_two_hours_are_not_struck() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    reject_every(&fixture, &store, &ATTEMPT, 15, 8 * 12);
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn delivery_round_over_five_addresses_counts_once() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    let round = || {
        for number in 1..=5 {
            let attempt = Attempt {
                server: ServerMark::numbered(number),
                ..ATTEMPT
            };
            reject(&fixture, &store, &attempt);
            fixture.clock.advance(Duration::from_secs(1));
        }
        fixture.wait_minutes(8);
    };
    for _ in 0..6 {
        round();
    }
    assert_eq!(struck_for(&fixture, &store), [], "the first and five more");
    round();
    assert_eq!(struck_for(&fixture, &store), [Offence::RejectedRetries]);
}

#[test]
fn hundred_retries_to_one_dead_address_are_no_dictionary_attack() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    for size in 0..200 {
        let attempt = Attempt {
            announced_size: 5_000 + size,
            ..ATTEMPT
        };
        reject(&fixture, &store, &attempt);
        fixture.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(struck_for(&fixture, &store), []);
}

#[test]
fn failures_count_for_nobody_above_the_last_rung() {
    let allowing = Policy {
        lists: listing(["192.0.2.0/24"], []),
        ..Policy::default()
    };
    let reported = Attempt {
        origin: Origin::AnotherHost,
        ..ATTEMPT
    };
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    for (policy, attempt, who) in [
        (allowing, ATTEMPT, "allowed"),
        (Policy::default(), authenticated, "authenticated"),
        (Policy::default(), reported, "reported by another host"),
    ] {
        let fixture = Fixture::with_policy(policy);
        let store = open(&fixture);
        reject_every(&fixture, &store, &attempt, 1, 30);
        assert_eq!(struck_for(&fixture, &store), [], "{who}");
    }
}
