//! Many sessions at once, with no lock trouble and no lost count.

use std::sync::atomic::{AtomicBool, Ordering};

use greygate::clock::Clock as _;
use greygate::policy::{Attempt, DeferReason, Judge as _, Policy, Verdict};
use greygate::store::Shed;
use greygate::store::codec::Row;

use crate::fixture::{ATTEMPT, Fixture};

const THREADS: usize = 8;
const ATTEMPTS: usize = 2_000;

/// Runs `work` in every thread at once, with the thread's number.
fn at_once(work: impl Fn(usize) + Sync) {
    let start = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                start.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn one_tuple_from_many_threads_is_one_record_with_every_count() {
    let fixture = Fixture::new();
    let store = fixture.open();
    at_once(|_| {
        for _ in 0..ATTEMPTS {
            fixture.judge(&store, &ATTEMPT);
        }
    });
    let all = (THREADS * ATTEMPTS) as u64;
    let deferred = |reason| fixture.metrics.count_of(Verdict::Defer(reason));
    let left = std::time::Duration::ZERO;
    assert_eq!(deferred(DeferReason::New), 1);
    assert_eq!(deferred(DeferReason::Early { left }), all - 1);
    let rows = fixture.rows(&store);
    let [Row::Pair(_, pair), Row::Tuple(_, record)] = rows[..] else {
        panic!("exactly one record of each: {rows:?}");
    };
    assert_eq!(u64::from(record.attempts), all);
    assert_eq!(pair.contacts, 1, "of one minute");
}

#[test]
fn concurrent_passes_count_once_towards_trust_and_reputation() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.judge(&store, &ATTEMPT);
    fixture.wait_minutes(5);
    at_once(|_| {
        for _ in 0..ATTEMPTS {
            fixture.judge(&store, &ATTEMPT);
        }
    });
    let rows = fixture.rows(&store);
    let [
        Row::Reputation(_, reputation),
        Row::Trust(_, trust),
        Row::Tuple(_, record),
    ] = rows[..]
    else {
        panic!("one record of each: {rows:?}");
    };
    assert_eq!((reputation.good_days, trust.passes), (1, 1));
    let policy = fixture.policy.load();
    let good = reputation.weights(&policy, fixture.clock.now()).good;
    assert_eq!(good, 256, "one recipient, one day");
    assert_eq!(usize::from(record.passes), THREADS * ATTEMPTS);
}

#[test]
fn capacity_holds_under_a_flood_from_many_threads() {
    let mut fixture = Fixture::new();
    fixture.settings.capacity = 1_000;
    let store = fixture.open();
    at_once(|thread| {
        for number in 0..500 {
            let recipient = format!("r{thread}-{number}@here.example");
            let attempt = Attempt {
                recipient: recipient.as_bytes(),
                ..ATTEMPT
            };
            fixture.judge(&store, &attempt);
        }
    });
    // One network: the last room is kept for others.
    let tuples = store.census().tuples;
    assert!((750..1_000).contains(&tuples), "{tuples}");
    let shed = [Shed::Full, Shed::Share].map(|it| fixture.metrics.count_of_shed(it));
    assert_eq!(shed.iter().sum::<u64>(), (THREADS * 500 - tuples) as u64);
}

#[test]
fn snapshots_and_judging_do_not_disturb_each_other() {
    let fixture = Fixture::with_policy(Policy {
        trust_after: 0,
        ..Policy::default()
    });
    let store = fixture.open();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut before = 0;
            while !ended.load(Ordering::SeqCst) {
                let now = fixture.clock.now();
                let records = store.snapshot(now).expect("it is writable").records;
                assert!(records >= before, "nothing is forgotten");
                before = records;
            }
        });
        at_once(|thread| {
            for number in 0..ATTEMPTS {
                let recipient = format!("r{thread}-{number}@here.example");
                let attempt = Attempt {
                    recipient: recipient.as_bytes(),
                    ..ATTEMPT
                };
                store.judge(&attempt, fixture.clock.now());
            }
        });
        ended.store(true, Ordering::SeqCst);
    });
    // A tuple each, and a reverse-path and recipient.
    assert_eq!(fixture.rows(&store).len(), 2 * THREADS * ATTEMPTS);
}
