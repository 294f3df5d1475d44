//! What a restart keeps, and what becomes of files that are damaged, foreign or in the way.

use std::fs;
use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::{
    DeferReason, PassReason, Persistence, Sentence, SentenceLevel, SentenceReason, SentencedClient,
    Verdict,
};
use greygate::store::{Census, JournalMode, OpenError, SeedError, Store};

use crate::fixture::{ATTEMPT, Fixture, pass_once};

fn sentence(fixture: &Fixture) -> Sentence {
    let since = fixture.clock.now();
    Sentence {
        client: SentencedClient::of(ATTEMPT.client),
        level: SentenceLevel::Block,
        reason: SentenceReason::Operator,
        since,
        until: since.after(Duration::from_mins(30)),
        persistence: Persistence::default(),
    }
}

fn snapshot(fixture: &Fixture, store: &Store) {
    store.snapshot(fixture.clock.now()).expect("it is writable");
}

#[test]
fn pending_tuple_passes_after_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(&fixture, &store);
    drop(store);

    fixture.wait_minutes(5);
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.set_aside.len()), (1, 0));
    assert_eq!(restored.age, Some(Duration::from_mins(5)));
    let waited = Duration::from_mins(5);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited })
    );
}

#[test]
fn restart_keeps_trust_and_sentences() {
    let fixture = Fixture::new();
    let store = fixture.open();
    pass_once(&fixture, &store, &ATTEMPT);
    let sentence = sentence(&fixture);
    store.punish(sentence);
    snapshot(&fixture, &store);
    drop(store);

    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.trusted, restored.sentences), (1, 1));
    assert_eq!(store.sentences(fixture.clock.now()), [sentence]);
    let census = store.census();
    assert_eq!((census.tuples, census.trusted, census.sentences), (1, 1, 1));
}

#[test]
fn restart_leaves_out_what_has_lapsed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    store.punish(sentence(&fixture));
    snapshot(&fixture, &store);
    drop(store);

    fixture.wait_hours(24);
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    // The tuple, its reverse-path and recipient, the sentence.
    assert_eq!((restored.lapsed, restored.tuples), (3, 0));
    assert_eq!((store.census().tuples, store.census().pairs), (0, 0));
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn restart_with_a_smaller_capacity_keeps_what_fits() {
    let mut fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..10 {
        let recipient = format!("r{number}@here.example");
        let attempt = greygate::policy::Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(&store, &attempt);
    }
    snapshot(&fixture, &store);
    drop(store);

    fixture.settings.capacity = 4;
    let (store, restored) = fixture.try_open().expect("the directory is writable");
    assert_eq!((restored.tuples, restored.pairs), (4, 4));
    assert_eq!(restored.over_capacity, 6 + 6);
    assert_eq!((store.census().tuples, store.census().pairs), (4, 4));
}

#[test]
fn damaged_snapshot_is_set_aside_for_the_previous_one() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(&fixture, &store);
    store.punish(sentence(&fixture));
    snapshot(&fixture, &store);
    drop(store);
    let file = fixture.snapshot_file();
    let mut bytes = fs::read(&file).expect("it was written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("it is writable");

    let (store, restored) = fixture.try_open().expect("damage is no error");
    // The journal since the previous one has the rest.
    assert_eq!((restored.tuples, restored.sentences), (1, 1));
    let [aside] = &restored.set_aside[..] else {
        panic!("one file is set aside: {restored:?}");
    };
    assert!(aside.why.contains("checksum"), "{}", aside.why);
    assert!(aside.kept.exists() && !file.exists());
    assert!(restored.to_string().contains("snapshot.damaged-"));
    assert_eq!(store.census().sentences, 1);
    snapshot(&fixture, &store);
    assert!(file.exists());
}

/// Thousands of its rows were in before the damage was found. Without a journal, nothing brings them back.
#[test]
fn nothing_of_a_large_damaged_snapshot_is_left() {
    let mut fixture = Fixture::new();
    fixture.settings.journal = JournalMode::Never;
    let census = damaged_late(&fixture);
    assert_eq!((census.tuples, census.pairs), (1, 1));
    assert_eq!((census.reputations, census.clients), (0, 0));
}

/// They come back from the journal since the previous one, each once.
#[test]
fn large_damaged_snapshot_loses_nothing_with_the_journal() {
    let fixture = Fixture::new();
    let census = damaged_late(&fixture);
    assert_eq!((census.tuples, census.pairs), (50_001, 50_001));
}

/// What is held after a start from a small snapshot and a large one that is damaged close to its end.
fn damaged_late(fixture: &Fixture) -> Census {
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(fixture, &store);
    for number in 0..50_000 {
        let recipient = format!("r{number}@here.example");
        let attempt = greygate::policy::Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(&store, &attempt);
    }
    snapshot(fixture, &store);
    drop(store);
    let file = fixture.snapshot_file();
    let mut bytes = fs::read(&file).expect("it was written");
    let close_to_its_end = bytes.len() - 1_000;
    bytes[close_to_its_end] ^= 1;
    fs::write(&file, bytes).expect("it is writable");

    let (store, restored) = fixture.try_open().expect("damage is no error");
    assert_eq!(restored.set_aside.len(), 1);
    let census = store.census();
    let counts = (restored.tuples, restored.pairs);
    assert_eq!(counts, (census.tuples as u64, census.pairs as u64));
    census
}

#[test]
fn begins_empty_when_no_snapshot_can_be_read() {
    let fixture = Fixture::new();
    let store = fixture.open();
    snapshot(&fixture, &store);
    snapshot(&fixture, &store);
    drop(store);
    for name in ["snapshot", "snapshot.previous"] {
        fs::write(fixture.settings.directory.join(name), b"?").expect("it is writable");
    }
    let (store, restored) = fixture.try_open().expect("damage is no error");
    assert_eq!(restored.set_aside.len(), 2);
    assert_eq!(restored.age, None);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Defer(DeferReason::New)
    );
}

#[test]
fn snapshot_made_with_another_seed_is_set_aside() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    snapshot(&fixture, &store);
    drop(store);
    fs::remove_file(&fixture.settings.seed_file).expect("it exists");

    let (_, restored) = fixture.try_open().expect("a new seed is made");
    assert_eq!(restored.tuples, 0);
    assert!(restored.set_aside[0].why.contains("another seed"));
}

#[test]
fn second_process_is_kept_out() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = fixture.try_open().expect_err("it is open already");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(store);
    fixture.open();
}

#[test]
fn directory_that_cannot_be_made_is_named() {
    let mut fixture = Fixture::new();
    fixture.open();
    let file = fixture.settings.seed_file.clone();
    fixture.settings.directory = file.join("below-a-file");
    let error = fixture.try_open().expect_err("a file has nothing below it");
    assert!(matches!(error, OpenError::Directory { .. }));
    assert!(error.to_string().contains("below-a-file"), "{error}");
}

#[test]
fn short_seed_is_refused() {
    let fixture = Fixture::new();
    fixture.open();
    fs::write(&fixture.settings.seed_file, b"short").expect("it is writable");
    let error = fixture.try_open().expect_err("five bytes are no seed");
    assert!(
        matches!(error, OpenError::Seed(SeedError::Length { found: 5, .. })),
        "{error}"
    );
}

#[test]
fn failing_snapshot_is_counted_and_judging_goes_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fs::remove_dir_all(&fixture.settings.directory).expect("it exists");
    let error = store
        .snapshot(fixture.clock.now())
        .expect_err("there is no directory");
    assert!(error.to_string().contains("snapshot.new"), "{error}");
    assert_eq!(fixture.metrics.snapshot_failures.get(), 1);
    fixture.wait_minutes(5);
    let waited = Duration::from_mins(5);
    assert_eq!(
        fixture.judge(&store, &ATTEMPT),
        Verdict::Pass(PassReason::Waited { waited })
    );
}
