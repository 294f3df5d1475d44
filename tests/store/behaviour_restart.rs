//! What is known of behaviour outlives a restart: since when there is a history, strikes, AUTH, HELO
//! arguments that were caught, networks whose hosts were struck.

use std::net::IpAddr;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, Judge as _, SentenceLevel, SentenceReason};
use greygate::store::Store;

use crate::fixture::{ATTEMPT, Fixture};

/// Writes what is known, ends, and begins again `hours` later.
fn restart(fixture: &Fixture, store: Store, hours: u64) -> Store {
    store.snapshot(fixture.clock.now()).expect("it is writable");
    drop(store);
    fixture.wait_hours(hours);
    fixture.open()
}

fn from(client: &str) -> Attempt<'static> {
    Attempt {
        client: client.parse().expect("an address"),
        ..ATTEMPT
    }
}

/// Has `client` retry one message each second until that is an offence.
fn offend(fixture: &Fixture, store: &Store, client: &str) {
    let recipient = format!("r{}@here.example", fixture.clock.now().as_millis());
    for _ in 0..=30 {
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..from(client)
        };
        fixture.judge(store, &attempt);
        fixture.clock.advance(Duration::from_secs(1));
    }
}

/// The level, and the days without jitter, of the sentence that `client` serves in the kernel.
fn carried_out(fixture: &Fixture, store: &Store, client: &str) -> Option<(SentenceLevel, u64)> {
    let now = fixture.clock.now();
    let address: IpAddr = client.parse().expect("an address");
    let history = store.history();
    let policy = fixture.policy.load();
    let upheld = policy.uphold_all(store.sentences(now), history, now);
    let of_client = upheld.iter().find(|it| {
        it.client.network().addr() == address && it.reason != SentenceReason::Neighbours
    })?;
    let days = of_client.until.since(of_client.since).as_secs() / (24 * 60 * 60);
    Some((of_client.level, days))
}

#[test]
fn strikes_and_the_age_of_the_history_outlive_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    let begun = store.history();
    offend(&fixture, &store, "192.0.2.7");
    let store = restart(&fixture, store, 1);
    assert_eq!(store.history(), begun);
    // At once: it is no cold start, so nothing is new to it.
    offend(&fixture, &store, "192.0.2.7");
    let block = (SentenceLevel::Block, 1);
    assert_eq!(carried_out(&fixture, &store, "192.0.2.7"), Some(block));
    let store = restart(&fixture, store, 48);
    assert_eq!(carried_out(&fixture, &store, "192.0.2.7"), None);
    offend(&fixture, &store, "192.0.2.7");
    let week = (SentenceLevel::Block, 7);
    assert_eq!(carried_out(&fixture, &store, "192.0.2.7"), Some(week));
}

#[test]
fn block_is_observed_after_a_cold_start_as_before_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.wait_minutes(5);
    offend(&fixture, &store, "192.0.2.7");
    let store = restart(&fixture, store, 1);
    offend(&fixture, &store, "192.0.2.7");
    let observed = (SentenceLevel::Observe, 1);
    assert_eq!(carried_out(&fixture, &store, "192.0.2.7"), Some(observed));
}

#[test]
fn auth_shields_after_a_restart_and_not_for_ever() {
    for (hours, is_shielded) in [(13 * 24, true), (14 * 24, false)] {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.warm_up();
        let user = Attempt {
            authenticated: true,
            ..ATTEMPT
        };
        fixture.judge(&store, &user);
        let store = restart(&fixture, store, hours);
        offend(&fixture, &store, "192.0.2.7");
        assert_eq!(store.census().sentences, usize::from(!is_shielded));
    }
}

#[test]
fn helo_argument_that_was_caught_is_slowed_after_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    let names: Vec<_> = (1..=6)
        .map(|bot| format!("dsl-7.isp{bot}.example"))
        .collect();
    let attempts = names.iter().zip(1_u8..).map(|(name, bot)| Attempt {
        client: IpAddr::from([45, 7, bot, 7]),
        client_name: name.as_bytes(),
        helo: b"mx.bank.example",
        ..ATTEMPT
    });
    let attempts: Vec<_> = attempts.collect();
    let (late, first) = attempts.split_last().expect("six");
    for attempt in first {
        fixture.judge(&store, attempt);
    }
    assert_eq!(store.census().sentences, 5, "all of the five");
    let store = restart(&fixture, store, 1);
    let judgement = store.judge(late, fixture.clock.now());
    assert!(judgement.grounds.helo_hops);
    assert_eq!(judgement.grounds.extra, Duration::from_mins(15));
    let store = restart(&fixture, store, 23);
    let judgement = store.judge(late, fixture.clock.now());
    assert!(!judgement.grounds.helo_hops, "after a day");
}

#[test]
fn struck_hosts_of_a_network_add_up_over_a_restart() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    fixture.warm_up();
    for host in ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"] {
        let networks = |store: &Store| {
            let sentences = store.sentences(fixture.clock.now()).into_iter();
            let of_network =
                |it: &greygate::policy::Sentence| it.reason == SentenceReason::Neighbours;
            sentences.filter(of_network).count()
        };
        assert_eq!(networks(&store), 0);
        offend(&fixture, &store, host);
        store = restart(&fixture, store, 0);
        let is_last = host == "192.0.2.10";
        assert_eq!(networks(&store), usize::from(is_last), "{host}");
    }
}
