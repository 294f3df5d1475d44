//! Who is credited and who is blamed, by the table of reputations.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::policy::fixture::{ATTEMPT, T0};

const SEED: Seed = Seed::from_bytes([7; Seed::LENGTH]);
const NEW: Verdict = Verdict::Defer(DeferReason::New);

fn hours(hours: u64) -> Timestamp {
    T0.after(Duration::from_hours(hours))
}

fn key(number: u32) -> NetworkKey {
    let address = Ipv4Addr::from(0xc000_0200 + number);
    SEED.network_key(ClientNetwork::cut(address.into(), 32, 128))
}

fn attempt<'a>(reverse_path: &'a str, recipient: &'a str) -> Attempt<'a> {
    Attempt {
        reverse_path: reverse_path.as_bytes(),
        recipient: recipient.as_bytes(),
        ..ATTEMPT
    }
}

fn hear(table: &Reputations, key: NetworkKey, sender: &str, verdict: Verdict, now: Timestamp) {
    let attempt = attempt(sender, "r@here.example");
    let policy = Policy::default();
    let keyed = Keyed {
        attempt: &attempt,
        network: ClientNetwork::of(&policy, &attempt),
        network_key: key,
        pair: SEED.pair_key(&attempt),
    };
    table.note_verdict(&policy, &SEED, &keyed, verdict, now);
}

fn sweep(table: &Reputations, now: Timestamp) -> usize {
    let aisles = 0..table.aisles();
    let swept = aisles.map(|aisle| table.sweep_aisle(aisle, &Policy::default(), now));
    swept.map(|walked| walked.removed).sum()
}

fn weights(table: &Reputations, number: u32, now: Timestamp) -> Option<(u64, u64)> {
    let record = table.by_network.get(&key(number))?;
    let weights = record.weights(&Policy::default(), now);
    Some((weights.good / 256, weights.bad / 256))
}

#[test]
fn sweep_blames_every_network_whose_mail_never_came_again() {
    let table = Reputations::growing(100, Arc::default());
    for number in 0..3 {
        hear(&table, key(number), "s@a.example", NEW, T0);
    }
    hear(&table, key(3), "probe@a.example", NEW, T0);
    let waited = Duration::from_hours(1);
    let passed = Verdict::Pass(PassReason::Waited { waited });
    hear(&table, key(4), "probe@a.example", passed, hours(1));
    assert_eq!(sweep(&table, hours(23)), 0);
    assert_eq!(weights(&table, 0, hours(23)), None);
    assert_eq!(sweep(&table, hours(24)), 1);
    for number in 0..3 {
        assert_eq!(weights(&table, number, hours(24)), Some((0, 1)), "{number}");
    }
    assert_eq!(weights(&table, 3, hours(1)), Some((1, 0)));
    assert_eq!(weights(&table, 4, hours(1)), Some((1, 0)));
}

#[test]
fn what_passes_without_having_waited_ends_the_watch_for_no_credit() {
    for verdict in [
        PassReason::Passed,
        PassReason::Trusted,
        PassReason::ContentTrusted,
        PassReason::ContentAgain,
        PassReason::Observed,
        PassReason::Unrecorded,
        PassReason::Unsuspicious,
        PassReason::Vouched,
    ] {
        let table = Reputations::growing(100, Arc::default());
        hear(&table, key(0), "s@a.example", NEW, T0);
        hear(
            &table,
            key(1),
            "s@a.example",
            Verdict::Pass(verdict),
            hours(1),
        );
        assert_eq!(weights(&table, 0, hours(1)), None, "{verdict:?}");
        assert_eq!(sweep(&table, hours(48)), 0, "{verdict:?}");
    }
}

#[test]
fn probes_that_do_not_come_again_are_not_blamed() {
    let table = Reputations::growing(100, Arc::default());
    for sender in ["", "double-bounce@mx.example"] {
        hear(&table, key(0), sender, NEW, T0);
    }
    assert_eq!(sweep(&table, hours(48)), 0);
    assert_eq!(weights(&table, 0, hours(48)), None);
}

#[test]
fn what_says_hardly_anything_makes_way_when_room_is_short() {
    let policy = Policy::default();
    let table = Reputations::growing(16, Arc::default());
    let mark = SEED.recipient_mark(b"r@here.example");
    table.note_pass(&policy, key(0), mark, T0);
    for number in 1..13 {
        table.note_bad(&policy, key(number), mark, T0);
    }
    assert_eq!(sweep(&table, hours(1)), 0, "there is room");
    for number in 13..100 {
        table.note_bad(&policy, key(number), mark, T0);
    }
    assert_eq!(table.by_network.len(), 16);
    assert_eq!(sweep(&table, hours(1)), 3, "no more than must");
    assert!(table.has_passed(&key(0)));
}

#[test]
fn full_watch_counts_whom_it_does_not_watch_and_blames_nobody_for_it() {
    let mut table = Reputations::growing(100, Arc::default());
    table.watch = Watch::of_at_most(1);
    for sender in ["s@a.example", "t@a.example", "u@a.example"] {
        hear(&table, key(1), sender, NEW, T0);
    }
    assert_eq!(table.metrics.pairs_unwatched.get(), 2);
    sweep(&table, hours(25));
    assert_eq!(weights(&table, 1, hours(25)), Some((0, 1)));
}

#[test]
fn full_table_counts_what_it_cannot_record() {
    let metrics = Arc::<Metrics>::default();
    let table = Reputations::growing(1, Arc::clone(&metrics));
    let mark = SEED.recipient_mark(b"r@here.example");
    for number in 0..5 {
        table.note_bad(&Policy::default(), key(number), mark, T0);
    }
    assert_eq!(metrics.reputations_unrecorded.get(), 4);
    assert_eq!(weights(&table, 0, T0), Some((0, 1)));
}

#[test]
fn report_feeds_the_network_on_record_or_else_both() {
    let policy = Policy::default();
    let table = Reputations::growing(100, Arc::default());
    let said = |number| {
        let record = table.by_network.get(&key(number))?;
        Some(record.weights(&policy, T0).spam / 256)
    };
    assert!(table.note_report(&policy, [key(0), key(1)], true, T0));
    assert_eq!((said(0), said(1)), (Some(1), Some(1)));
    assert!(table.note_report(&policy, [key(1), key(2)], true, T0));
    assert_eq!((said(1), said(2)), (Some(2), None));
    assert!(table.note_report(&policy, [key(2), key(2)], true, T0));
    assert_eq!(said(2), Some(1));
}

#[test]
fn reports_from_many_threads_are_all_counted_and_a_recipient_once() {
    let policy = Policy::default();
    let table = Reputations::growing(100, Arc::default());
    let mark = SEED.recipient_mark(b"r@here.example");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    table.note_report(&policy, [key(0), key(0)], true, T0);
                    table.note_pass(&policy, key(0), mark, T0);
                }
            });
        }
    });
    let weights = table.by_network.get(&key(0)).expect("it is on record");
    let weights = weights.weights(&policy, T0);
    assert_eq!(weights.good, 256);
    let reported = weights.spam / 256;
    assert!((4_000..4_016).contains(&reported), "{reported}");
}
