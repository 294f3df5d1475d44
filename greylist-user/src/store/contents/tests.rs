//! That each message takes the room of one network once, whatever becomes of it.

use std::time::Duration;

use proptest::prelude::*;

use prometheus_client::metrics::counter::Counter;

use super::*;
use crate::policy::fixture::T0;

const HERE: NetworkMark = NetworkMark::from_bits(1);
const THERE: NetworkMark = NetworkMark::from_bits(2);
const NEW: Result<ContentStanding, NoRoom> = Ok(ContentStanding::Lapsed);

fn message(number: u64) -> Fingerprint {
    // As uniform as a real one: the first bytes choose the shard, the last the aisle.
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = u128::from(mixed) << 64 | u128::from(mixed.swap_bytes());
    Fingerprint::from_bytes(bits.to_le_bytes())
}

fn read(
    contents: &Contents,
    number: u64,
    network: NetworkMark,
    now: Timestamp,
) -> Result<ContentStanding, NoRoom> {
    contents.note_read(&Policy::default(), message(number), network, now)
}

fn sweep(contents: &Contents, now: Timestamp) -> usize {
    let aisles = 0..contents.by_message.aisles();
    let swept = aisles.map(|aisle| contents.sweep_aisle(aisle, &Policy::default(), now));
    swept.map(|walked| walked.removed).sum()
}

fn held(contents: &Contents, network: NetworkMark) -> u32 {
    contents.share_of(network).load(Ordering::Relaxed)
}

/// Each share is what it would be if the table were counted through.
fn assert_exact(contents: &Contents) {
    let mut rows = Vec::new();
    for aisle in 0..contents.by_message.aisles() {
        contents.by_message.copy_aisle(aisle, &mut rows);
    }
    let mut counted = vec![0; NetworkMark::COUNT];
    for (_, record) in &rows {
        counted[usize::from(record.network.to_bits())] += 1;
    }
    let said: Vec<_> = contents
        .shares
        .iter()
        .map(|it| it.load(Ordering::Relaxed))
        .collect();
    assert_eq!(said, counted);
    assert_eq!(rows.len(), contents.by_message.len());
}

fn days(days: u64) -> Timestamp {
    T0.after(Duration::from_hours(24 * days))
}

#[test]
fn network_that_has_its_share_keeps_nobody_else_out() {
    let contents = Contents::growing(1_000, 3, Counter::default());
    for number in 0..3 {
        assert_eq!(read(&contents, number, HERE, T0), NEW);
    }
    assert_eq!(read(&contents, 3, HERE, T0), Err(NoRoom::Share));
    assert_eq!(read(&contents, 3, THERE, T0), NEW);
    let left = Duration::from_mins(1);
    let early = Ok(ContentStanding::Early { left });
    assert_eq!(
        read(&contents, 0, HERE, T0),
        early,
        "what is known is known"
    );
    assert_eq!(
        read(&contents, 0, THERE, T0),
        early,
        "and takes nothing more"
    );
    assert_eq!((held(&contents, HERE), held(&contents, THERE)), (3, 1));
}

#[test]
fn share_shrinks_while_the_table_fills_and_a_stranger_still_finds_room() {
    let contents = Contents::growing(1_000, 10, Counter::default());
    let mark = |number: u64| NetworkMark::from_bits(u16::try_from(number).expect("small"));
    let mut number = 0;
    let mut reads_until_refused = |network| {
        let mut taken = 0;
        while read(&contents, number, network, T0) == NEW {
            number += 1;
            taken += 1;
        }
        taken
    };
    let taken: Vec<_> = (0..120).map(|it| reads_until_refused(mark(it))).collect();
    assert_eq!(taken[..50], [10; 50], "until the table is half full");
    assert!(taken.windows(2).all(|pair| pair[1] <= pair[0]), "{taken:?}");
    let in_all: u64 = taken.iter().sum();
    assert!(
        in_all < 900,
        "{in_all}: they come to rest before it is full"
    );
    assert!(reads_until_refused(mark(1_000)) >= 1, "of a stranger");
    assert_exact(&contents);
}

#[test]
fn full_table_takes_no_message_but_goes_on_with_those_it_has() {
    let contents = Contents::growing(10, 1, Counter::default());
    let mark = |number: u16| NetworkMark::from_bits(number);
    for number in 0..10 {
        assert_eq!(read(&contents, number.into(), mark(number), T0), NEW);
    }
    assert_eq!(read(&contents, 10, mark(10), T0), Err(NoRoom::Full));
    assert_exact(&contents);
    let late = T0.after(Duration::from_mins(1));
    let waited = Duration::from_mins(1);
    let in_window = Ok(ContentStanding::InWindow { waited });
    assert_eq!(read(&contents, 0, mark(10), late), in_window);
}

#[test]
fn next_life_is_of_the_share_of_who_begins_it() {
    let contents = Contents::growing(1_000, 2, Counter::default());
    for number in 0..2 {
        assert_eq!(read(&contents, number, HERE, T0), NEW);
    }
    assert_eq!(read(&contents, 0, THERE, days(1)), NEW);
    assert_eq!((held(&contents, HERE), held(&contents, THERE)), (1, 1));
    assert_eq!(read(&contents, 2, THERE, days(1)), NEW);
    // Its share is used up, by the lapsed of others as well.
    assert_eq!(read(&contents, 1, THERE, days(1)), Err(NoRoom::Share));
    assert_eq!(read(&contents, 1, HERE, days(1)), NEW);
    assert_exact(&contents);
}

#[test]
fn what_is_swept_or_forgotten_gives_its_room_back() {
    let contents = Contents::growing(1_000, 2, Counter::default());
    for number in 0..2 {
        assert_eq!(read(&contents, number, HERE, T0), NEW);
    }
    assert_eq!(sweep(&contents, days(1)), 2);
    assert_eq!(held(&contents, HERE), 0);
    assert_eq!(read(&contents, 2, HERE, days(1)), NEW);
    contents.clear();
    assert_eq!((held(&contents, HERE), contents.by_message.len()), (0, 0));
}

#[test]
fn restored_twice_takes_the_room_of_who_began_first_once() {
    let contents = Contents::growing(1_000, 1, Counter::default());
    let later = T0.after(Duration::from_secs(1));
    let here = ContentRecord::begun(1, HERE, later);
    let there = ContentRecord::begun(1, THERE, T0);
    for record in [here, there, here] {
        assert!(contents.restore(message(0), record));
    }
    assert_eq!((held(&contents, HERE), held(&contents, THERE)), (0, 1));
    assert!(contents.restore(message(1), there), "nothing is left out");
    assert_eq!(held(&contents, THERE), 2);
    assert_eq!(read(&contents, 2, THERE, T0), Err(NoRoom::Share));
}

#[test]
fn of_all_who_were_told_the_same_one_is_first() {
    let contents = Contents::growing(1_000, 10, Counter::default());
    assert_eq!(read(&contents, 0, HERE, T0), NEW);
    let late = T0.after(Duration::from_mins(1));
    let passes = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| contents.note_pass(&message(0), late)))
            .collect();
        let passes = sessions.into_iter().map(|it| it.join().expect("no panic"));
        passes.collect::<Vec<_>>()
    });
    let first = passes.iter().filter(|it| **it == PassOrder::First);
    let again = passes.iter().filter(|it| **it == PassOrder::Again);
    assert_eq!((first.count(), again.count()), (1, 7));
    assert_eq!(contents.note_pass(&message(1), late), PassOrder::Again);
}

/// Many read the same few messages from many networks, while they lapse and are swept.
#[test]
fn shares_are_exact_whatever_happens_at_once() {
    let contents = Contents::growing(200, 20, Counter::default());
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let contents = &contents;
            scope.spawn(move || {
                for number in 0..6_000_u64 {
                    let mixed = number.wrapping_mul(0x9e37_79b9) ^ thread.wrapping_mul(0x85eb_ca6b);
                    let network =
                        NetworkMark::from_bits((mixed >> 7 & 15).try_into().expect("it is small"));
                    let now = T0.after(Duration::from_hours(number / 20));
                    let _may_be_full = read(contents, mixed % 300, network, now);
                    if mixed.is_multiple_of(5) {
                        contents.note_pass(&message(mixed % 300), now);
                    }
                    if number.is_multiple_of(500) {
                        sweep(contents, now);
                    }
                    if mixed.is_multiple_of(7) {
                        let record = ContentRecord::begun(1, network, now);
                        contents.restore(message(mixed % 300), record);
                    }
                }
            });
        }
    });
    assert_exact(&contents);
    assert!(contents.by_message.len() > 0);
    sweep(&contents, days(1_000));
    assert_exact(&contents);
    assert_eq!(contents.by_message.len(), 0);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u64, u16),
    Restore(u64, u16),
    Pass(u64),
    Sweep,
    Clear,
}

fn step() -> impl Strategy<Value = (Step, u64)> {
    let step = prop_oneof![
        6 => (0..12_u64, 0..4_u16).prop_map(|(number, network)| Step::Read(number, network)),
        2 => (0..12_u64, 0..4_u16).prop_map(|(number, network)| Step::Restore(number, network)),
        2 => (0..12_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Clear),
    ];
    (step, 0..30_u64)
}

proptest! {
    #[test]
    fn shares_are_exact_after_any_story(story in proptest::collection::vec(step(), 1..60)) {
        let contents = Contents::growing(8, 3, Counter::default());
        let mut now = T0;
        for (step, hours) in story {
            now = now.after(Duration::from_hours(hours));
            match step {
                Step::Read(number, network) => {
                    let _may_be_full = read(&contents, number, NetworkMark::from_bits(network), now);
                }
                Step::Restore(number, network) => {
                    let network = NetworkMark::from_bits(network);
                    contents.restore(message(number), ContentRecord::begun(1, network, now));
                }
                Step::Pass(number) => {
                    contents.note_pass(&message(number), now);
                }
                Step::Sweep => {
                    sweep(&contents, now);
                }
                Step::Clear => contents.clear(),
            }
            assert_exact(&contents);
        }
    }
}
