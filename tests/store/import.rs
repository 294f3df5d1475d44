//! What arrives from elsewhere, in a store that remembers something itself.

use std::time::Duration;

use greygate::clock::Clock as _;
use greygate::policy::Verdict;
use greygate::store::codec::Row;
use greygate::store::{Arrival, Store};

use crate::fixture::{ATTEMPT, Fixture};

/// The tuple that the store holds.
fn tuple(fixture: &Fixture, store: &Store) -> Row {
    let rows = fixture.rows_but_pairs(store);
    let mut tuples = rows.into_iter().filter(|row| matches!(row, Row::Tuple(..)));
    tuples.next().expect("one waits")
}

fn import(fixture: &Fixture, store: &Store, row: Row) -> u64 {
    let arrived = store.import([Arrival::Kept(row)], false, fixture.clock.now());
    arrived.counts.tuples
}

#[test]
fn tuple_that_waited_elsewhere_passes_though_one_that_has_lapsed_is_in_its_place() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let Row::Tuple(key, mut record) = tuple(&fixture, &store) else {
        panic!("a tuple was asked for");
    };
    fixture.wait_hours(25);
    record.first_seen = fixture.clock.now();
    record.last_seen = record.first_seen;
    assert_eq!(import(&fixture, &store, Row::Tuple(key, record)), 1);
    fixture.wait_minutes(5);
    let verdict = fixture.judge(&store, &ATTEMPT);
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
}

#[test]
fn tuple_of_the_future_waits_no_longer_than_one_of_today() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    let Row::Tuple(key, mut record) = tuple(&fixture, &store) else {
        panic!("a tuple was asked for");
    };
    record.first_seen = fixture.clock.now().after(Duration::from_hours(10_000));
    record.last_seen = record.first_seen;
    record.life += 1;
    record.attempts = u16::MAX;
    assert_eq!(import(&fixture, &store, Row::Tuple(key, record)), 1);
    fixture.wait_minutes(5);
    let verdict = fixture.judge(&store, &ATTEMPT);
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
}
