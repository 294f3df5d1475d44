//! Relay hopping through the whole store: who is struck, whose mail waits longer, and who only
//! stands near.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Action, Attempt, Judge as _, Offence, Origin, Policy, SentenceReason, SentencedClient,
};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture, listing};

const HELO: &str = "mx.bank.example";

/// A store that has watched for long enough to judge.
fn watching(policy: Policy) -> (Fixture, Store) {
    let fixture = Fixture::with_policy(policy);
    let store = fixture.open();
    fixture.wait_hours(1);
    (fixture, store)
}

/// A client in the `number`th network.
fn client(number: u8) -> IpAddr {
    Ipv4Addr::new(45, 7, number, 7).into()
}

/// The attempt of a bot in the `number`th network, which pretends to be the bank's host.
fn from(number: u8, name: &str) -> Attempt<'_> {
    Attempt {
        client: client(number),
        client_name: name.as_bytes(),
        helo: HELO.as_bytes(),
        ..ATTEMPT
    }
}

/// One attempt by each of `names`, from a network each, evenly over `seconds`.
fn hop<'n>(
    fixture: &Fixture,
    store: &Store,
    names: impl IntoIterator<Item = &'n str>,
    seconds: u32,
    helo: &str,
) {
    let names: Vec<_> = names.into_iter().collect();
    let gaps = u32::try_from(names.len()).expect("a few") - 1;
    for (number, name) in (1..).zip(names) {
        if number > 1 {
            fixture
                .clock
                .advance(Duration::from_secs(seconds.into()) / gaps);
        }
        let attempt = Attempt {
            helo: helo.as_bytes(),
            ..from(number, name)
        };
        fixture.judge(store, &attempt);
    }
}

/// Names that have nothing to do with each other.
const STRANGERS: [&str; 7] = [
    "dsl-192-0-2-7.isp-one.com",
    "host7.two.co.uk",
    "7.pool.three.net",
    "customer-7.four.de",
    "cpe-7.five.com.br",
    "ppp7.six.example",
    "static.seven.org",
];

/// Who is sentenced for relay hopping.
fn struck(fixture: &Fixture, store: &Store) -> Vec<SentencedClient> {
    let sentences = store.sentences(fixture.clock.now()).into_iter();
    let mut struck: Vec<_> = sentences
        .inspect(|it| {
            let hopping = SentenceReason::Offence(Offence::RelayHopping);
            assert_eq!(it.reason, hopping);
        })
        .map(|it| it.client)
        .collect();
    struck.sort_unstable();
    struck
}

fn clients(numbers: impl IntoIterator<Item = u8>) -> Vec<SentencedClient> {
    let numbers = numbers.into_iter();
    numbers
        .map(|number| SentencedClient::host(client(number)))
        .collect()
}

/// Whether the tuple of `attempt` pays for its HELO argument.
fn is_slowed(fixture: &Fixture, store: &Store, attempt: &Attempt<'_>) -> bool {
    let judgement = store.judge(attempt, fixture.clock.now());
    judgement.grounds.helo_hops
}

#[test]
fn botnet_of_strangers_is_struck_to_the_last() {
    let (fixture, store) = watching(Policy::default());
    hop(&fixture, &store, STRANGERS, 20, HELO);
    assert_eq!(struck(&fixture, &store), clients(1..=7));
    assert_eq!(fixture.metrics.hopping_caught(Action::Enforce).get(), 7);
}

#[test]
fn late_comer_of_the_window_is_struck_as_it_comes() {
    let (fixture, store) = watching(Policy::default());
    hop(&fixture, &store, STRANGERS, 20, HELO);
    fixture.clock.advance(Duration::from_secs(5));
    fixture.judge(&store, &from(8, "late.eight.example"));
    assert_eq!(struck(&fixture, &store), clients(1..=8));
}

#[test]
fn one_less_than_it_takes_is_nobody() {
    let (fixture, store) = watching(Policy::default());
    hop(&fixture, &store, STRANGERS[..4].iter().copied(), 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    let other = Attempt {
        recipient: b"other@here.example",
        ..from(9, "host.nine.example")
    };
    assert!(!is_slowed(&fixture, &store, &other));
}

#[test]
fn five_in_29_seconds_are_struck_and_in_31_not() {
    for (seconds, expected) in [(29, clients(1..=5)), (31, Vec::new())] {
        let (fixture, store) = watching(Policy::default());
        hop(
            &fixture,
            &store,
            STRANGERS[..5].iter().copied(),
            seconds,
            HELO,
        );
        assert_eq!(struck(&fixture, &store), expected, "in {seconds} s");
    }
}

#[test]
fn own_host_of_the_bank_is_neither_counted_nor_struck_nor_slowed() {
    let bank = Attempt {
        client: Ipv4Addr::new(192, 0, 2, 25).into(),
        ..from(1, "out3.bank.example")
    };
    let (fixture, store) = watching(Policy::default());
    fixture.judge(&store, &bank);
    hop(&fixture, &store, STRANGERS[..4].iter().copied(), 10, HELO);
    assert_eq!(struck(&fixture, &store), [], "four and the bank");
    hop(&fixture, &store, STRANGERS, 20, HELO);
    assert_eq!(struck(&fixture, &store), clients(1..=7));
    assert!(!is_slowed(&fixture, &store, &bank));
    assert!(is_slowed(&fixture, &store, &from(7, STRANGERS[6])));
}

#[test]
fn seven_without_reverse_names_only_wait_longer() {
    let (fixture, store) = watching(Policy::default());
    hop(&fixture, &store, [""; 7], 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    for number in 1..=7 {
        assert!(is_slowed(&fixture, &store, &from(number, "")));
    }
    assert_eq!(fixture.metrics.hopping_caught(Action::Enforce).get(), 0);
}

#[test]
fn four_known_among_seven_only_wait_longer() {
    let (fixture, store) = watching(Policy::default());
    let names = STRANGERS[..4].iter().copied().chain(["", "", ""]);
    hop(&fixture, &store, names, 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    assert!(is_slowed(&fixture, &store, &from(8, "host.eight.example")));
}

#[test]
fn seven_of_one_domain_are_nobody() {
    let (fixture, store) = watching(Policy::default());
    let names: Vec<_> = (1..=7)
        .map(|it| format!("dsl-{it}.city{it}.isp.co.uk"))
        .collect();
    hop(&fixture, &store, names.iter().map(String::as_str), 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    assert!(!is_slowed(&fixture, &store, &from(1, &names[0])));
}

#[test]
fn seven_of_one_cloud_are_nobody() {
    let (fixture, store) = watching(Policy::default());
    let regions = [
        "compute-1",
        "eu-west-1.compute",
        "ap-south-1.compute",
        "us-west-2.compute",
        "eu-north-1.compute",
        "sa-east-1.compute",
        "ca-central-1.compute",
    ];
    let names = regions.map(|region| format!("ec2-45-7-1-7.{region}.amazonaws.com"));
    hop(&fixture, &store, names.iter().map(String::as_str), 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    assert!(!is_slowed(&fixture, &store, &from(1, &names[0])));
}

#[test]
fn pool_of_a_big_sender_is_nobody_under_another_name_too() {
    for helo in ["smtp.big-sender.com", "smtp.big-brand.com"] {
        let (fixture, store) = watching(Policy::default());
        let names: Vec<_> = (1..=15)
            .map(|it| format!("out{it}.big-sender.com"))
            .collect();
        hop(&fixture, &store, names.iter().map(String::as_str), 5, helo);
        assert_eq!(struck(&fixture, &store), [], "{helo}");
        assert!(!is_slowed(&fixture, &store, &from(1, &names[0])));
    }
}

#[test]
fn list_provider_with_two_domains_is_nobody() {
    let (fixture, store) = watching(Policy::default());
    let names = (1..=10).map(|it| match it % 2 {
        0 => format!("mta{it}.lists.example"),
        _ => format!("mta{it}.lists-cdn.net"),
    });
    let names: Vec<_> = names.collect();
    hop(
        &fixture,
        &store,
        names.iter().map(String::as_str),
        5,
        "mta.lists.org",
    );
    assert_eq!(struck(&fixture, &store), []);
}

#[test]
fn pool_pays_with_one_host_at_most_when_others_abuse_its_name() {
    let (fixture, store) = watching(Policy::default());
    let pool: Vec<_> = (1..=8)
        .map(|it| format!("out{it}.big-sender.com"))
        .collect();
    let bots = STRANGERS[..5].iter().copied();
    let names = pool.iter().map(String::as_str).chain(bots);
    hop(&fixture, &store, names, 20, "smtp.big-brand.com");
    assert_eq!(struck(&fixture, &store), clients(8..=13));
}

#[test]
fn helo_argument_that_names_no_host_is_not_counted() {
    for helo in [
        "pc",
        "[45.7.1.7]",
        "45.7.1.7",
        "localhost.localdomain",
        "mail.firm.local",
    ] {
        let (fixture, store) = watching(Policy::default());
        hop(&fixture, &store, STRANGERS, 20, helo);
        assert_eq!(struck(&fixture, &store), [], "{helo}");
        let attempt = Attempt {
            helo: helo.as_bytes(),
            ..from(1, STRANGERS[0])
        };
        assert!(!is_slowed(&fixture, &store, &attempt), "{helo}");
    }
}

#[test]
fn null_reverse_path_is_no_way_round() {
    let (fixture, store) = watching(Policy::default());
    for (number, name) in (1..).zip(STRANGERS) {
        let attempt = Attempt {
            reverse_path: b"",
            ..from(number, name)
        };
        fixture.judge(&store, &attempt);
    }
    assert_eq!(struck(&fixture, &store), clients(1..=7));
}

#[test]
fn another_hosts_word_is_no_evidence() {
    let reported = |number, name| Attempt {
        origin: Origin::AnotherHost,
        ..from(number, name)
    };
    let (fixture, store) = watching(Policy::default());
    for (number, name) in (1..).zip(STRANGERS) {
        fixture.judge(&store, &reported(number, name));
    }
    assert_eq!(struck(&fixture, &store), []);
    assert!(!is_slowed(&fixture, &store, &from(1, STRANGERS[0])));
    hop(&fixture, &store, STRANGERS, 20, HELO);
    assert_eq!(struck(&fixture, &store), clients(1..=7));
    let attempt = reported(9, "host.nine.example");
    assert!(is_slowed(&fixture, &store, &attempt), "yet it pays");
}

#[test]
fn exempt_and_trusted_clients_are_not_counted() {
    let policy = Policy {
        lists: listing(["45.7.1.0/24"], ["45.7.2.0/24"]),
        ..Policy::default()
    };
    let (fixture, store) = watching(policy);
    let trusted = from(3, STRANGERS[2]);
    for number in 0..6 {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..trusted
        };
        fixture.judge(&store, &attempt);
        fixture.wait_minutes(5);
        fixture.judge(&store, &attempt);
        fixture.wait_hours(1);
    }
    let authenticated = Attempt {
        authenticated: true,
        ..from(4, STRANGERS[3])
    };
    for exempt in [
        from(1, STRANGERS[0]),
        from(2, STRANGERS[1]),
        trusted,
        authenticated,
    ] {
        fixture.judge(&store, &exempt);
    }
    for number in 5..=8 {
        let name = format!("host.isp{number}.example");
        fixture.judge(&store, &from(number, &name));
    }
    assert_eq!(struck(&fixture, &store), []);
}

#[test]
fn helo_argument_is_remembered_for_a_day_and_for_all_recipients() {
    let (fixture, store) = watching(Policy::default());
    hop(&fixture, &store, STRANGERS, 20, HELO);
    let other = Attempt {
        helo: b"MX.Bank.Example",
        recipient: b"other@here.example",
        ..from(9, "host.nine.example")
    };
    fixture.wait_hours(23);
    assert!(is_slowed(&fixture, &store, &other));
    let unlike = Attempt {
        helo: b"mx2.bank.example",
        ..other
    };
    assert!(!is_slowed(&fixture, &store, &unlike));
    fixture.wait_hours(1);
    assert!(!is_slowed(&fixture, &store, &other));
}

#[test]
fn nothing_follows_while_greylisting_only_observes() {
    let (fixture, store) = watching(Policy {
        action: Action::Observe,
        ..Policy::default()
    });
    hop(&fixture, &store, STRANGERS, 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    assert!(!is_slowed(&fixture, &store, &from(1, STRANGERS[0])));
    assert_eq!(fixture.metrics.hopping_caught(Action::Observe).get(), 7);
}

#[test]
fn observing_counts_and_lets_nothing_follow() {
    let mut policy = Policy::default();
    policy.punish.hopping_action = Action::Observe;
    let (fixture, store) = watching(policy.clone());
    hop(&fixture, &store, STRANGERS, 20, HELO);
    assert_eq!(struck(&fixture, &store), []);
    assert!(!is_slowed(&fixture, &store, &from(1, STRANGERS[0])));
    assert_eq!(fixture.metrics.hopping_caught(Action::Observe).get(), 7);
    assert_eq!(fixture.metrics.hopping_caught(Action::Enforce).get(), 0);
    assert!(fixture.metrics.hopping_slowed(Action::Observe).get() > 0);
    policy.punish.hopping_action = Action::Enforce;
    fixture.policy.store(policy.into());
    assert!(
        is_slowed(&fixture, &store, &from(1, STRANGERS[0])),
        "what was seen is a fact, what follows is the policy's"
    );
}
