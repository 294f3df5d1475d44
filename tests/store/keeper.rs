//! The thread that takes snapshots and sweeps, with a turned clock and a real second hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greygate::clock::Clock;
use greygate::policy::{Attempt, Judge as _, Mode, Policy};
use greygate::store::{Keeper, Store};

use crate::fixture::{ATTEMPT, Fixture};

/// Waits until `holds`, which the keeper's next rounds must bring about.
pub(crate) fn await_keeper(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn keep(fixture: &Fixture, store: &Arc<Store>) -> Keeper {
    let clock: Arc<dyn Clock> = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    Keeper::start(Arc::clone(store), clock).expect("the system has a thread to give")
}

/// Attempts that are counted but leave no record.
fn judge_local(fixture: &Fixture, store: &Store, times: u32) {
    let local = Attempt {
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        ..ATTEMPT
    };
    for _ in 0..times {
        fixture.judge(store, &local);
    }
}

#[test]
fn takes_a_snapshot_every_interval_and_a_last_one() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let keeper = keep(&fixture, &store);
    fixture.wait_minutes(5);
    await_keeper("a snapshot", || fixture.metrics.snapshots.get() == 1);
    assert_eq!(
        store.census().last_snapshot,
        Some(fixture.clock.now().as_millis())
    );
    let last = keeper.stop().expect("it is writable");
    assert_eq!(last.records, 2, "a tuple, a reverse-path and recipient");
    assert_eq!(fixture.metrics.snapshots.get(), 2);
}

#[test]
fn dropping_it_takes_the_last_snapshot_too() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    drop(keep(&fixture, &store));
    assert!(fixture.snapshot_file().exists());
}

#[test]
fn sweeps_after_so_many_messages() {
    let mut fixture = Fixture::new();
    fixture.settings.sweep_messages = 100;
    fixture.settings.sweep_interval = Duration::from_hours(1_000);
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(24);
    assert_eq!(store.census().tuples, 1, "nothing was due");
    judge_local(&fixture, &store, 100);
    // The tuple, its reverse-path and recipient, and the watch over its second try.
    await_keeper("a sweep", || fixture.metrics.swept.get() == 3);
    assert_eq!((store.census().tuples, store.census().pairs), (0, 0));
    keeper.stop().expect("it is writable");
}

#[test]
fn sweeps_after_so_long() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(24);
    await_keeper("a sweep", || store.census().tuples == 0);
    keeper.stop().expect("it is writable");
}

#[test]
fn sweeps_fingerprints_each_hour_though_no_mail_comes() {
    let mut fixture = Fixture::with_policy(Policy {
        mode: Mode::Content,
        ..Policy::default()
    });
    fixture.settings.sweep_interval = Duration::from_hours(1_000);
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let mut message = store.message_hasher();
    message.body(b"Hello.\r\n");
    store.judge_content(&ATTEMPT, &message, fixture.clock.now());
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(23);
    await_keeper("a look", || fixture.metrics.sweep_seen.get() >= 1);
    assert_eq!(store.census().contents, 1, "it has not lapsed");
    fixture.wait_hours(1);
    await_keeper("a sweep", || store.census().contents == 0);
    assert_eq!(store.census().tuples, 1, "for that sweep nothing was due");
    keeper.stop().expect("it is writable");
}

#[test]
fn sweep_leaves_what_has_not_lapsed() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    fixture.judge(&store, &ATTEMPT);
    let keeper = keep(&fixture, &store);
    fixture.wait_hours(13);
    await_keeper("a sweep", || fixture.metrics.sweep_seen.get() >= 1);
    assert_eq!(store.census().tuples, 1);
    keeper.stop().expect("it is writable");
}
