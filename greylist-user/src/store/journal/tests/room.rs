//! What makes way for others does not come back with a replay, and what is alive is not left out.

use super::*;
use crate::store::table::Lot;

fn begin(store: &Store, keys: std::ops::Range<u8>) {
    for number in keys {
        let begun = |_: Option<&Record>| (Record::begun(1, T0), ());
        (store.tuples)
            .update(key(number), begun)
            .expect("there is room");
    }
}

fn have_all_make_way(store: &Store) {
    for aisle in 0..store.tuples.aisles() {
        store.tuples.sweep_aisle(aisle, |_| Lot::MakesWay);
    }
}

#[test]
fn what_made_way_does_not_come_back() {
    let site = Site::new();
    let (store, _) = site.open();
    begin(&store, 0..6);
    store.snapshot(T0).expect("the directory is writable");
    have_all_make_way(&store);
    store.sync_journal(T0).expect("the directory is writable");
    drop(store);
    let (_, restored) = site.open();
    assert_eq!(restored.tuples, 0);
}

/// The newest rows of a journal are those of the last second: they would be the ones without room.
#[test]
fn room_is_made_in_a_full_table_before_it_is_taken() {
    let mut site = Site::new();
    site.settings.capacity = 6;
    let (store, _) = site.open();
    begin(&store, 0..6);
    store.snapshot(T0).expect("the directory is writable");
    have_all_make_way(&store);
    begin(&store, 6..12);
    store.sync_journal(T0).expect("the directory is writable");
    drop(store);
    let (store, restored) = site.open();
    assert_eq!((restored.tuples, restored.over_capacity), (6, 0));
    assert!((6..12).all(|number| store.tuples.contains(&key(number))));
}

/// A clock that is wrong for a minute has a snapshot made, and by that clock what is alive has lapsed or
/// is yet to come.
#[test]
fn snapshot_by_a_wrong_clock_holds_what_is_alive() {
    for wrong in [
        T0.after(Duration::from_hours(24 * 400)),
        Timestamp::from_millis(T0.as_millis() - 3_600_000),
    ] {
        let site = Site::new();
        let (store, _) = site.open();
        begin(&store, 0..6);
        store.snapshot(wrong).expect("the directory is writable");
        drop(store);
        let (_, restored) = site.open();
        assert_eq!(restored.tuples, 6, "{wrong:?}");
    }
}
