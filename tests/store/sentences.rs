//! Sentences over their whole life: what the kernel counts of them, what a restart and an older
//! greygate leave of them, and how many there may be.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    Attempt, Judge as _, Offence, Persistence, Policy, Sentence, SentenceLevel, SentenceReason,
    SentencedClient,
};
use greygate::store::Store;
use greygate::store::codec::Row;
use ipnet::IpNet;

use crate::fixture::{ATTEMPT, Fixture};

/// What `network` earned by an offence just now.
fn earned(fixture: &Fixture, network: &str) -> Sentence {
    let network: IpNet = network.parse().expect("a network");
    let since = fixture.clock.now();
    Sentence {
        client: network.try_into().expect("it can be sentenced"),
        level: SentenceLevel::Block,
        reason: SentenceReason::Offence(Offence::RapidRetries),
        since,
        until: since.after(Duration::from_mins(30)),
        persistence: Persistence::default(),
    }
}

fn the_one(fixture: &Fixture, store: &Store) -> Sentence {
    let sentences = store.sentences(fixture.clock.now());
    let [sentence] = sentences[..] else {
        panic!("one sentence: {sentences:?}");
    };
    sentence
}

#[test]
fn client_that_goes_on_knocking_is_sentenced_for_longer_once_even_over_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = Sentence {
        level: SentenceLevel::Rate,
        ..earned(&fixture, "192.0.2.7/32")
    };
    store.punish(first);
    let heed = |store: &Store, counter| {
        store.heed([(first.client, counter)], true, fixture.clock.now());
    };
    heed(&store, 60);
    fixture.rows(&store);
    drop(store);

    // The kernel's table began again, too.
    let store = fixture.open();
    assert_eq!(the_one(&fixture, &store).persistence.drops, 60);
    heed(&store, 39);
    assert_eq!(the_one(&fixture, &store).until, first.until);
    heed(&store, 40);
    let longer = the_one(&fixture, &store);
    assert_eq!(longer.until, first.until.after(Duration::from_mins(30)));
    assert_eq!(fixture.metrics.sentences_lengthened.get(), 1);
    fixture.rows(&store);
    drop(store);

    let store = fixture.open();
    assert_eq!(the_one(&fixture, &store), longer);
    heed(&store, 1_000_000);
    assert_eq!(the_one(&fixture, &store).until, longer.until);
    assert_eq!(fixture.metrics.sentences_lengthened.get(), 1);
}

#[test]
fn what_was_only_observed_is_noted_and_lengthens_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    let sentence = earned(&fixture, "192.0.2.7/32");
    store.punish(sentence);
    store.heed([(sentence.client, 500)], false, fixture.clock.now());
    let noted = the_one(&fixture, &store);
    assert_eq!(
        (noted.persistence.drops, noted.until),
        (500, sentence.until)
    );

    let dropped = |counter| {
        store.heed([(sentence.client, counter)], true, fixture.clock.now());
        the_one(&fixture, &store).until
    };
    assert_eq!(dropped(599), sentence.until, "99 of them were dropped");
    assert!(dropped(600) > sentence.until);
}

#[test]
fn who_was_forgiven_is_not_sentenced_by_what_the_kernel_still_counts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let sentence = earned(&fixture, "192.0.2.7/32");
    store.punish(sentence);
    store.forgive(sentence.client, fixture.clock.now());
    store.heed([(sentence.client, 1_000_000)], true, fixture.clock.now());
    assert_eq!(store.sentences(fixture.clock.now()), []);
}

#[test]
fn networks_and_levels_outlive_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut given: Vec<_> = [
        ("192.0.2.0/24", SentenceLevel::Rate),
        ("192.0.2.7/32", SentenceLevel::Block),
        ("2001:db8::/64", SentenceLevel::Observe),
        ("2001:db8::7/128", SentenceLevel::Rate),
    ]
    .map(|(network, level)| Sentence {
        level,
        ..earned(&fixture, network)
    })
    .to_vec();
    for sentence in &given {
        store.punish(*sentence);
    }
    fixture.rows(&store);
    drop(store);
    let mut restored = fixture.open().sentences(fixture.clock.now());
    restored.sort_by_key(|sentence| sentence.client);
    given.sort_by_key(|sentence| sentence.client);
    assert_eq!(restored, given);
}

#[test]
fn forgiving_a_network_lifts_what_lies_in_it_and_nothing_wider() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for network in [
        "192.0.2.0/24",
        "192.0.2.7/32",
        "192.0.2.200/32",
        "198.51.100.7/32",
    ] {
        store.punish(earned(&fixture, network));
    }
    let forgive = |network: &str| {
        let network = network.parse().expect("a network");
        store.forgive_within(network, fixture.clock.now()).len()
    };
    assert_eq!(forgive("192.0.2.0/25"), 1);
    assert_eq!(forgive("192.0.0.0/16"), 2);
    assert_eq!(fixture.metrics.sentences_forgiven.get(), 3);
    let left = the_one(&fixture, &store);
    assert_eq!(left.client.to_string(), "198.51.100.7");
}

#[test]
fn full_table_lets_offenders_go_free_and_counts_them() {
    let mut fixture = Fixture::new();
    fixture.settings.sentences = 3;
    let store = fixture.open();
    for host in 0..5 {
        store.punish(earned(&fixture, &format!("192.0.2.{host}/32")));
    }
    assert_eq!(store.census().sentences, 3);
    assert_eq!(fixture.metrics.sentences_unrecorded.get(), 2);
    assert_eq!(fixture.metrics.sentence_capacity.get(), 3);
    fixture.rows(&store);
    drop(store);
    fixture.settings.sentences = 2;
    let (_, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.sentences, restored.over_capacity), (2, 1));
}

#[test]
fn question_whether_a_client_is_turned_away_is_no_attempt() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.warm_up();
    let attempt = Attempt {
        connected: fixture.clock.now(),
        recipient: b"",
        ..ATTEMPT
    };
    let asks = |attempt: &Attempt<'_>| store.turns_away(attempt, fixture.clock.now());
    assert!(!asks(&attempt));
    fixture.clock.advance(Duration::from_secs(1));
    store.punish(Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Rate,
        ..earned(&fixture, "192.0.2.1/32")
    });
    assert!(asks(&attempt), "the session is older");
    let later = Attempt {
        connected: fixture.clock.now(),
        ..attempt
    };
    assert!(!asks(&later), "new sessions are the kernel's part");
    let customer = Attempt {
        authenticated: true,
        ..attempt
    };
    assert!(!asks(&customer));
    let rows = fixture.rows(&store);
    assert!(matches!(rows[..], [Row::Sentence(_)]), "{rows:?}");
}

#[test]
fn newer_rules_void_the_sentence_of_a_private_client() {
    let fixture = Fixture::with_policy({
        let mut policy = Policy::default();
        policy.punish.private = true;
        policy
    });
    let store = fixture.open();
    fixture.warm_up();
    store.punish(earned(&fixture, "10.0.0.7/32"));
    let sentence = the_one(&fixture, &store);
    let upheld = |sentence| {
        let (history, now) = (store.history(), fixture.clock.now());
        fixture.policy.load().uphold(sentence, history, now)
    };
    assert_eq!(upheld(sentence), Some(sentence));
    fixture.policy.store(std::sync::Arc::default());
    assert_eq!(upheld(sentence), None);
}
