//! What a client network's past is worth, through the whole store: who earns a good record, who
//! cannot, and who is turned away.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, DeferReason, Judge as _, PassReason, Policy, RefuseReason, Refusing, SentenceLevel,
    SentencedClient, Verdict,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture, pass_once};

const NEW: Verdict = Verdict::Defer(DeferReason::New);
const TRUSTED: Verdict = Verdict::Pass(PassReason::Trusted);
const REJECTED: Verdict = Verdict::Refuse(RefuseReason::BadReputation { permanently: true });

fn refusing(action: Refusing) -> Policy {
    let mut policy = Policy::default();
    policy.reputation.action = action;
    policy
}

/// A first mail from `sender` to `recipient`, sent by `client`.
fn mail<'a>(client: IpAddr, sender: &'a str, recipient: &'a str) -> Attempt<'a> {
    Attempt {
        client,
        reverse_path: sender.as_bytes(),
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    }
}

fn address(last: [u8; 2]) -> IpAddr {
    Ipv4Addr::new(203, 0, last[0], last[1]).into()
}

/// `days` days on each of which `each_day` of the relay's many senders write to a recipient each,
/// and retry as they should.
fn relay_mail(fixture: &Fixture, store: &Store, days: u32, each_day: u32) {
    for day in 0..days {
        let letters: Vec<_> = (0..each_day)
            .map(|number| {
                (
                    format!("s{day}-{number}@a.example"),
                    format!("r{number}@here.example"),
                )
            })
            .collect();
        for (sender, recipient) in &letters {
            fixture.judge(store, &mail(ATTEMPT.client, sender, recipient));
        }
        fixture.wait_minutes(5);
        for (sender, recipient) in &letters {
            let retry = fixture.judge(store, &mail(ATTEMPT.client, sender, recipient));
            assert!(matches!(retry, Verdict::Pass(_)), "{retry:?}");
        }
        fixture.clock.advance(Duration::from_mins(24 * 60 - 5));
    }
}

/// Retries of one message a second apart, for a minute.
fn hammer(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) {
    for _ in 0..60 {
        fixture.judge(store, attempt);
        fixture.clock.advance(Duration::from_secs(1));
    }
}

/// Mail to 200 recipients that is tried once a day, when its window is over. What is tried then finds
/// that the try before has lapsed.
fn give_up_on_all(fixture: &Fixture, store: &Store, client: IpAddr) {
    for _ in 0..2 {
        for number in 0..200 {
            let recipient = format!("r{number}@here.example");
            fixture.judge(store, &mail(client, "spam@bot.example", &recipient));
        }
        fixture.wait_hours(25);
    }
}

#[test]
fn spammer_behind_an_established_relay_gets_it_no_sentence_and_waits_alone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    relay_mail(&fixture, &store, 34, 30);
    let spammer = mail(ATTEMPT.client, "spammer@b.example", "victim@here.example");
    hammer(&fixture, &store, &spammer);
    assert_eq!(store.census().sentences, 0);
    // The spammer waits; who else is behind the relay does not wait for him.
    let verdict = fixture.judge(&store, &spammer);
    assert!(
        matches!(verdict, Verdict::Defer(DeferReason::Early { .. })),
        "{verdict:?}"
    );
    let other = mail(ATTEMPT.client, "new@a.example", "r1@here.example");
    pass_once(&fixture, &store, &other);
}

#[test]
fn good_record_shields_from_block_but_not_from_rate() {
    let fixture = Fixture::new();
    let store = fixture.open();
    relay_mail(&fixture, &store, 5, 18);
    let spammer = mail(ATTEMPT.client, "spammer@b.example", "victim@here.example");
    for _ in 0..3 {
        hammer(&fixture, &store, &spammer);
        for sentence in store.sentences(fixture.clock.now()) {
            assert_eq!(sentence.level, SentenceLevel::Rate);
        }
        assert_eq!(store.census().sentences, 1);
        fixture.wait_hours(25);
    }
}

#[test]
fn good_record_of_the_network_earns_its_senders_trust_after_two_passes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let passes_of = |sender: &str, passes: u32| {
        for number in 0..passes {
            let recipient = format!("n{number}@here.example");
            pass_once(&fixture, &store, &mail(ATTEMPT.client, sender, &recipient));
            fixture.wait_hours(1);
        }
        fixture.judge(
            &store,
            &mail(ATTEMPT.client, sender, "another@here.example"),
        )
    };
    assert_eq!(passes_of("early@c.example", 2), NEW);
    relay_mail(&fixture, &store, 4, 20);
    assert_eq!(passes_of("one@d.example", 1), NEW);
    assert_eq!(passes_of("two@e.example", 2), TRUSTED);
}

#[test]
fn good_record_is_not_bought_in_a_day_nor_with_one_mailbox() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let earns_early_trust = |sender: &str| {
        for recipient in ["x1@here.example", "x2@here.example"] {
            pass_once(&fixture, &store, &mail(ATTEMPT.client, sender, recipient));
            fixture.wait_hours(1);
        }
        let next = mail(ATTEMPT.client, sender, "x3@here.example");
        fixture.judge(&store, &next) == TRUSTED
    };
    relay_mail(&fixture, &store, 1, 500);
    assert!(!earns_early_trust("a@one-day.example"));
    // A mailbox of many names, for a month.
    let fixture = Fixture::new();
    let store = fixture.open();
    for day in 0..30 {
        for name in 0..30 {
            let sender = format!("s{day}-{name}@a.example");
            let recipient = format!("MINE+{name}@here.example");
            let letter = mail(ATTEMPT.client, &sender, &recipient);
            pass_once(&fixture, &store, &letter);
        }
        fixture.wait_hours(22);
    }
    let first = mail(ATTEMPT.client, "a@one-box.example", "mine@here.example");
    pass_once(&fixture, &store, &first);
    fixture.wait_hours(1);
    let second = mail(ATTEMPT.client, "a@one-box.example", "mine+2@here.example");
    pass_once(&fixture, &store, &second);
    let third = mail(ATTEMPT.client, "a@one-box.example", "mine+3@here.example");
    assert_eq!(fixture.judge(&store, &third), NEW);
}

#[test]
fn bots_that_never_come_again_are_turned_away_before_trust_and_before_the_wait() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    let bot = address([113, 9]);
    assert_eq!(
        fixture.judge(&store, &mail(bot, "a@b.example", "c@here.example")),
        NEW
    );
    give_up_on_all(&fixture, &store, bot);
    let next = mail(bot, "a@b.example", "c@here.example");
    assert_eq!(fixture.judge(&store, &next), REJECTED);
    assert!(fixture.metrics.count_of(REJECTED) >= 1);
    fixture
        .policy
        .store(std::sync::Arc::new(refusing(Refusing::Defer)));
    let deferred = Verdict::Refuse(RefuseReason::BadReputation { permanently: false });
    assert_eq!(fixture.judge(&store, &next), deferred);
    // Who is greylisted like others is not turned away.
    assert_eq!(fixture.judge(&store, &ATTEMPT), NEW);
}

#[test]
fn observed_bad_reputation_is_counted_and_nothing_else() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let bot = address([113, 9]);
    give_up_on_all(&fixture, &store, bot);
    let before = fixture.metrics.would_refuse.get();
    assert_eq!(
        fixture.judge(&store, &mail(bot, "a@b.example", "c@here.example")),
        NEW
    );
    assert_eq!(fixture.metrics.would_refuse.get(), before + 1);
    assert_eq!(fixture.metrics.count_of(REJECTED), 0);
}

#[test]
fn pool_that_roams_earns_no_bad_name() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    // Three addresses in three networks; each mail is tried from one after the other, and the last
    // is where it passes.
    let pool = [address([113, 1]), address([114, 1]), address([115, 1])];
    for round in 0..4 {
        for number in 0..100 {
            let sender = format!("s{round}@pool.example");
            let recipient = format!("r{number}@here.example");
            for host in pool {
                let first = fixture.judge(&store, &mail(host, &sender, &recipient));
                assert_eq!(first, NEW);
            }
        }
        fixture.wait_minutes(5);
        for number in 0..100 {
            let sender = format!("s{round}@pool.example");
            let recipient = format!("r{number}@here.example");
            let passed = fixture.judge(&store, &mail(pool[2], &sender, &recipient));
            assert!(matches!(passed, Verdict::Pass(_)), "{passed:?}");
        }
        fixture.wait_hours(26);
    }
    // A good record, even for those that it never passed from: trust after two passes.
    for number in 0..2 {
        let recipient = format!("q{number}@here.example");
        pass_once(
            &fixture,
            &store,
            &mail(pool[0], "p@pool.example", &recipient),
        );
        fixture.wait_hours(1);
    }
    let next = mail(pool[0], "p@pool.example", "q9@here.example");
    assert_eq!(fixture.judge(&store, &next), TRUSTED);
}

#[test]
fn forging_known_correspondents_earns_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let forger = address([113, 1]);
    let pairs: Vec<_> = (0..20)
        .map(|number| {
            (
                format!("s{number}@a.example"),
                format!("r{number}@here.example"),
            )
        })
        .collect();
    for day in 0..10 {
        for (sender, recipient) in &pairs {
            fixture.judge(&store, &mail(forger, sender, recipient));
            if day == 0 {
                pass_once(&fixture, &store, &mail(ATTEMPT.client, sender, recipient));
            } else {
                fixture.judge(&store, &mail(ATTEMPT.client, sender, recipient));
            }
        }
        fixture.wait_hours(25);
    }
    for number in 0..2 {
        let recipient = format!("q{number}@here.example");
        pass_once(&fixture, &store, &mail(forger, "f@b.example", &recipient));
        fixture.wait_hours(1);
    }
    assert_eq!(
        fixture.judge(&store, &mail(forger, "f@b.example", "q9@here.example")),
        NEW
    );
}

#[test]
fn nobody_is_blamed_while_greylisting_only_observes() {
    let observing = Policy {
        action: greygate::policy::Action::Observe,
        ..Policy::default()
    };
    let fixture = Fixture::with_policy(observing);
    let store = fixture.open();
    // Deferred before, and taken since: it never comes again.
    fixture.policy.store(std::sync::Arc::new(Policy::default()));
    let sender = address([113, 9]);
    let to = |number: u32| format!("old{number}@here.example");
    for number in 0..60 {
        fixture.judge(&store, &mail(sender, "s@a.example", &to(number)));
    }
    fixture.policy.store(std::sync::Arc::new(Policy {
        action: greygate::policy::Action::Observe,
        ..refusing(Refusing::Reject)
    }));
    for number in 0..60 {
        fixture.judge(&store, &mail(sender, "s@a.example", &to(number)));
    }
    give_up_on_all(&fixture, &store, sender);
    for number in 0..60 {
        let verdict = fixture.judge(&store, &mail(sender, "s@a.example", &to(number)));
        assert_eq!(verdict, Verdict::Pass(PassReason::Observed));
    }
}

#[test]
fn permanent_refusals_count_against_a_network_and_backscatter_does_not() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    let rejected = |client, sender: &str| {
        for number in 0..500 {
            let recipient = format!("unknown{number}@here.example");
            store.note_rejected(&mail(client, sender, &recipient), fixture.clock.now());
        }
        fixture.judge(&store, &mail(client, "a@b.example", "r@here.example"))
    };
    assert_eq!(rejected(address([113, 1]), ""), NEW);
    assert_eq!(rejected(address([114, 1]), "double-bounce@x.example"), NEW);
    assert_eq!(
        rejected(address([115, 1]), "dictionary@x.example"),
        REJECTED
    );
}

#[test]
fn filter_behind_teaches_who_is_bad_and_who_is_not() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    let report = |client, name, spam, times| {
        for _ in 0..times {
            assert!(store.report_mail(client, name, spam, fixture.clock.now()));
        }
    };
    let passed = address([113, 9]);
    pass_once(
        &fixture,
        &store,
        &mail(passed, "a@b.example", "r@here.example"),
    );
    report(passed, None, true, 50);
    let next = mail(passed, "c@d.example", "r@here.example");
    assert_eq!(fixture.judge(&store, &next), REJECTED);
    report(passed, None, false, 5);
    assert_eq!(fixture.judge(&store, &next), NEW);
    // Of one that has passed nothing yet, by name and by IPv6 address.
    let named = Some(&b"mail.sender.example"[..]);
    report(address([114, 1]), named, true, 50);
    let by_name = mail(address([114, 1]), "a@b.example", "r@here.example");
    assert_eq!(fixture.judge(&store, &by_name), REJECTED);
    let ipv6 = "2001:db8:1:2::3".parse().expect("an address");
    report(ipv6, None, true, 50);
    let neighbour = "2001:db8:1:2::4".parse().expect("an address");
    assert_eq!(
        fixture.judge(&store, &mail(neighbour, "a@b.example", "r@here.example")),
        REJECTED
    );
}

#[test]
fn reports_of_ham_alone_earn_no_early_trust() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..20 {
        for _ in 0..100 {
            store.report_mail(ATTEMPT.client, None, false, fixture.clock.now());
        }
        fixture.wait_hours(24);
    }
    for number in 0..2 {
        let recipient = format!("q{number}@here.example");
        pass_once(
            &fixture,
            &store,
            &mail(ATTEMPT.client, "f@b.example", &recipient),
        );
        fixture.wait_hours(1);
    }
    let next = mail(ATTEMPT.client, "f@b.example", "q9@here.example");
    assert_eq!(fixture.judge(&store, &next), NEW);
}

#[test]
fn bad_name_fades_with_the_half_life() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    let client = address([113, 9]);
    for _ in 0..60 {
        store.report_mail(client, None, true, fixture.clock.now());
    }
    let attempt = mail(client, "a@b.example", "r@here.example");
    for _ in 0..34 {
        fixture.wait_hours(24);
        assert_eq!(fixture.judge(&store, &attempt), REJECTED);
    }
    fixture.wait_hours(10 * 24);
    assert_eq!(fixture.judge(&store, &attempt), NEW);
}

#[test]
fn forgiving_an_address_clears_the_name_of_its_network() {
    let fixture = Fixture::with_policy(refusing(Refusing::Reject));
    let store = fixture.open();
    let client = address([113, 9]);
    let attempt = mail(client, "a@b.example", "r@here.example");
    let network: ipnet::IpNet = "203.0.113.0/24".parse().expect("a network");
    for whom in [
        SentencedClient::host(client),
        SentencedClient::try_from(network).expect("one that can be sentenced"),
    ] {
        for _ in 0..60 {
            store.report_mail(client, None, true, fixture.clock.now());
        }
        assert_eq!(fixture.judge(&store, &attempt), REJECTED);
        store.forgive(whom, fixture.clock.now());
        let verdict = fixture.judge(&store, &attempt);
        assert!(matches!(verdict, Verdict::Defer(_)), "{verdict:?}");
    }
}

#[test]
fn full_table_of_reputations_is_counted_and_mail_goes_on() {
    let mut fixture = Fixture::new();
    fixture.settings.clients = 1;
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    assert_eq!(fixture.metrics.reputations_unrecorded.get(), 0);
    let other = mail(address([113, 9]), "a@b.example", "r@here.example");
    pass_once(&fixture, &store, &other);
    assert_eq!(fixture.metrics.reputations_unrecorded.get(), 1);
    assert!(!store.report_mail(
        address([113, 9]),
        Some(b"a.example"),
        true,
        fixture.clock.now()
    ));
}
