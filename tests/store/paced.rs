//! Periodic snapshots that take their time: what goes on meanwhile, and for whom they give way.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greygate::clock::{Clock, SystemClock};
use greygate::policy::Attempt;
use greygate::store::codec::{Reader, Row};
use greygate::store::{Keeper, Store};

use crate::fixture::{ATTEMPT, Fixture};
use crate::keeper::await_keeper;

/// More than is written at once, so that the rate has something to hold back.
const TUPLES: u32 = 6_000;

/// A store whose periodic snapshots take a day, with a whole one on the disk and more to write.
fn slow() -> (Fixture, Arc<Store>) {
    let mut fixture = Fixture::new();
    fixture.settings.snapshot_rate = 4;
    let store = Arc::new(fixture.open());
    judge_many(&fixture, &store, 0..TUPLES / 2);
    store.snapshot(fixture.clock.now()).expect("it is writable");
    judge_many(&fixture, &store, TUPLES / 2..TUPLES);
    (fixture, store)
}

fn judge_many(fixture: &Fixture, store: &Store, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let recipient = format!("r{number}@here.example");
        let attempt = Attempt {
            recipient: recipient.as_bytes(),
            ..ATTEMPT
        };
        fixture.judge(store, &attempt);
    }
}

/// Has a keeper begin a periodic snapshot. Says how often it does its chore, too.
fn begin(fixture: &Fixture, store: &Arc<Store>) -> (Keeper, Arc<AtomicU64>) {
    let rounds = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rounds);
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let chore = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let keeper = Keeper::start_with(Arc::clone(store), clock, chore);
    let keeper = keeper.expect("the system has a thread to give");
    fixture.wait_minutes(5);
    let new = new_file(fixture);
    await_keeper("the beginning of a snapshot", || {
        fs::metadata(&new).is_ok_and(|it| it.len() > 0)
    });
    (keeper, rounds)
}

fn new_file(fixture: &Fixture) -> PathBuf {
    fixture.settings.directory.join("snapshot.new")
}

/// Tuples in the latest snapshot.
fn tuples_on_disk(fixture: &Fixture) -> u32 {
    let bytes = fs::read(fixture.snapshot_file()).expect("there is one");
    let mut tuples = 0;
    Reader::begin(&bytes[..])
        .and_then(|reader| {
            reader.for_each(|row| tuples += u32::from(matches!(row, Row::Tuple(..))))
        })
        .expect("it is whole");
    tuples
}

#[test]
fn keeper_goes_on_with_its_rounds_meanwhile() {
    let (fixture, store) = slow();
    let (keeper, rounds) = begin(&fixture, &store);
    let before = rounds.load(Ordering::SeqCst);
    await_keeper("three rounds", || {
        rounds.load(Ordering::SeqCst) >= before + 3
    });
    fixture.wait_hours(30);
    await_keeper("a sweep", || fixture.metrics.swept.get() > 0);
    assert!(new_file(&fixture).exists(), "it is still being written");
    assert_eq!(
        tuples_on_disk(&fixture),
        TUPLES / 2,
        "the one before stands"
    );
    keeper.stop().expect("it is writable");
}

#[test]
fn end_does_not_wait_for_it_and_loses_nothing() {
    let (fixture, store) = slow();
    let (keeper, _) = begin(&fixture, &store);
    let began = SystemClock.now();
    keeper.stop().expect("it is writable");
    // At its rate it would have taken days.
    assert!(SystemClock.now().since(began).as_secs() < 3_600);
    assert_eq!(tuples_on_disk(&fixture), TUPLES);
    assert!(!new_file(&fixture).exists(), "nothing is left half done");
    assert_eq!(fixture.metrics.snapshot_failures.get(), 0);
    assert_eq!(fixture.metrics.snapshots.get(), 2);
}

/// Where none can be written, nothing is while a snapshot is made: not even the last group.
#[test]
fn end_does_not_wait_for_it_where_no_journal_can_be_written() {
    let (fixture, store) = slow();
    for number in 2..1_000 {
        let taken = format!("journal-{number:010}");
        fs::create_dir(fixture.settings.directory.join(taken)).expect("it is writable");
    }
    let (keeper, _) = begin(&fixture, &store);
    assert!(fixture.metrics.journal_failures.get() > 0);
    keeper.stop().expect("it is writable");
    assert_eq!(tuples_on_disk(&fixture), TUPLES);
    assert!(!new_file(&fixture).exists(), "nothing is left half done");
}

#[test]
fn gives_way_to_one_that_somebody_waits_for_and_comes_again_at_its_time() {
    let (fixture, store) = slow();
    let (keeper, _) = begin(&fixture, &store);
    // Judged after it began, so that only one of its own can hold it.
    fixture.judge(&store, &ATTEMPT);
    let report = store.snapshot(fixture.clock.now()).expect("it is writable");
    assert_eq!(report.records, 2 * u64::from(TUPLES + 1), "and their pairs");
    assert_eq!(tuples_on_disk(&fixture), TUPLES + 1);
    assert_eq!(fixture.metrics.snapshot_failures.get(), 0);
    assert!(!new_file(&fixture).exists(), "it was given up");
    fixture.wait_minutes(5);
    await_keeper("the next one", || new_file(&fixture).exists());
    keeper.stop().expect("it is writable");
}
