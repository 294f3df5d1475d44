//! What becomes of a frame, over tables in memory.

extern crate std;

use core::cell::{Cell, RefCell};
use std::{prelude::rust_2024::*, vec::Vec};

use super::*;
use crate::packet::Address;

/// The entries around one client, and a clock.
#[derive(Default)]
struct World {
    host: Option<Row>,
    network: Option<Row>,
    now: Cell<u64>,
    config: Config,
    allowed: bool,
    destination: bool,
    told: RefCell<Vec<(u16, Counter)>>,
    asked: Cell<u32>,
}

struct Row {
    until: u64,
    level: Option<Level>,
    generation: u16,
    arrival: Cell<KernelTime>,
    admitted: Cell<Admitted>,
    dropped: Cell<Dropped>,
    drops: Cell<u64>,
    /// Somebody else is always faster.
    contended: bool,
}

impl Row {
    fn new(level: Level) -> Self {
        Self {
            until: 100,
            level: Some(level),
            generation: GENERATION,
            arrival: Cell::default(),
            admitted: Cell::default(),
            dropped: Cell::default(),
            drops: Cell::default(),
            contended: false,
        }
    }
}

impl<'a> Tables for &'a World {
    type Entry = &'a Row;

    fn is_protected(&self, port: u16) -> bool {
        port == 25
    }

    fn presence(&self, _: &Address) -> Nearby {
        Nearby {
            host: self.host.is_some(),
            network: self.network.is_some(),
        }
    }

    fn host(&self, _: &Address) -> Option<&'a Row> {
        self.asked.set(self.asked.get() + 1);
        self.host.as_ref()
    }

    fn network(&self, _: &Address) -> Option<&'a Row> {
        self.asked.set(self.asked.get() + 1);
        self.network.as_ref()
    }

    fn now(&self) -> KernelTime {
        self.asked.set(self.asked.get() + 1);
        KernelTime::from_nanos(self.now.get())
    }

    fn config(&self) -> Option<&Config> {
        self.asked.set(self.asked.get() + 1);
        Some(&self.config)
    }

    fn is_destination(&self, _: &Address) -> bool {
        self.destination
    }

    fn is_allowed(&self, _: &Address) -> bool {
        self.allowed
    }

    fn tell(&self, connection: &NewConnection, counter: Counter, _: KernelTime, _: u64) {
        self.told.borrow_mut().push((connection.port, counter));
    }
}

impl Entry for &Row {
    fn until(&self) -> KernelTime {
        KernelTime::from_nanos(self.until)
    }

    fn level(&self) -> Option<Level> {
        self.level
    }

    fn generation(&self) -> u16 {
        self.generation
    }

    fn arrival(&self) -> KernelTime {
        self.arrival.get()
    }

    fn swap_arrival(&self, seen: KernelTime, next: KernelTime) -> bool {
        let unchanged = self.arrival.get() == seen && !self.contended;
        if unchanged {
            self.arrival.set(next);
        }
        unchanged
    }

    fn admitted(&self) -> Admitted {
        self.admitted.get()
    }

    fn admit(&self, admitted: Admitted) {
        self.admitted.set(admitted);
    }

    fn swap_admitted(&self, seen: Admitted, next: Admitted) -> bool {
        let unchanged = self.admitted.get() == seen && !self.contended;
        if unchanged {
            self.admitted.set(next);
        }
        unchanged
    }

    fn dropped(&self) -> Dropped {
        self.dropped.get()
    }

    fn note_dropped(&self, dropped: Dropped) {
        self.dropped.set(dropped);
    }

    fn count(&self) {
        self.drops.set(self.drops.get() + 1);
    }
}

/// Three at once, then one each ten; at level block one each forty.
fn world() -> World {
    World {
        config: Config::new(Limit::new(10, 3), Limit::new(40, 1), GENERATION),
        ..World::default()
    }
}

fn host(row: Row) -> World {
    World {
        host: Some(row),
        ..world()
    }
}

/// The counter of a connection that no other one resembles, and whether it was dropped.
fn knock(world: &World, sequence: u32) -> Counter {
    let outcome = admit(&connection(sequence), &world);
    let dropped = outcome.action == Action::Drop;
    assert_eq!(dropped, outcome.counter.is_dropped(), "{outcome:?}");
    outcome.counter
}

fn connection(sequence: u32) -> NewConnection {
    NewConnection {
        client: Address::from([192, 0, 2, 7]),
        destination: Address::from([198, 51, 100, 1]),
        sequence,
        source_port: 40_000,
        port: 25,
    }
}

#[test]
fn client_without_a_sentence_costs_two_questions() {
    let world = world();
    assert_eq!(knock(&world, 1), Counter::Clean);
    assert_eq!(world.asked.get(), 0);
    let other = NewConnection {
        port: 22,
        ..connection(1)
    };
    assert_eq!(admit(&other, &&world).counter, Counter::OtherPort);
}

#[test]
fn rate_lets_a_burst_through_and_drops_the_rest() {
    let world = host(Row::new(Level::Rate));
    for sequence in 1..=3 {
        assert_eq!(knock(&world, sequence), Counter::Admitted);
    }
    assert_eq!(knock(&world, 4), Counter::RateLimited);
    world.now.set(10);
    assert_eq!(knock(&world, 5), Counter::Admitted);
    assert_eq!(knock(&world, 6), Counter::RateLimited);
    assert_eq!(drops(&world), 2);
}

#[test]
fn block_lets_one_through_when_it_is_due() {
    let row = Row::new(Level::Block);
    row.arrival.set(KernelTime::from_nanos(40));
    let world = host(row);
    assert_eq!(knock(&world, 1), Counter::Blocked);
    world.now.set(39);
    assert_eq!(knock(&world, 2), Counter::Blocked);
    world.now.set(40);
    assert_eq!(knock(&world, 3), Counter::LetThrough);
    assert_eq!(knock(&world, 4), Counter::Blocked);
}

#[test]
fn repeated_syn_is_not_charged_six_times() {
    let world = host(Row::new(Level::Rate));
    assert_eq!(knock(&world, 1), Counter::Admitted);
    for _ in 0..Admitted::REPEATS {
        assert_eq!(knock(&world, 1), Counter::Repeated);
    }
    assert_eq!(knock(&world, 1), Counter::Admitted, "charged again");
    assert_eq!(knock(&world, 1), Counter::Repeated);
    assert_eq!(knock(&world, 2), Counter::Admitted);
    assert_eq!(knock(&world, 1), Counter::RateLimited, "no longer the last");
    assert_eq!(drops(&world), 1);
}

#[test]
fn repeated_syn_of_a_dropped_connection_is_no_further_connection() {
    for (level, beyond) in [
        (Level::Rate, Counter::RateLimited),
        (Level::Block, Counter::Blocked),
    ] {
        let row = Row::new(level);
        row.arrival.set(KernelTime::from_nanos(40));
        let world = host(row);
        assert_eq!(knock(&world, 1), beyond);
        for _ in 0..10 {
            assert_eq!(knock(&world, 1), Counter::DroppedAgain);
        }
        assert_eq!(knock(&world, 2), beyond);
        assert_eq!(knock(&world, 1), beyond, "no longer the last");
        assert_eq!(drops(&world), 13, "each SYN");
    }
}

#[test]
fn repeated_syn_passes_when_it_is_due_though_it_was_dropped() {
    let row = Row::new(Level::Rate);
    row.arrival.set(KernelTime::from_nanos(30));
    let world = host(row);
    assert_eq!(knock(&world, 1), Counter::RateLimited);
    assert_eq!(knock(&world, 1), Counter::DroppedAgain);
    world.now.set(10);
    assert_eq!(knock(&world, 1), Counter::Admitted);
    assert_eq!(knock(&world, 1), Counter::Repeated);
}

#[test]
fn lost_swap_is_a_drop() {
    let mut row = Row::new(Level::Rate);
    row.contended = true;
    let world = host(row);
    assert_eq!(knock(&world, 1), Counter::RateLimited);
    let row = world.host.as_ref().expect("it was put there");
    assert_eq!(row.admitted.get(), Admitted::NONE);
    row.admitted.set(Admitted::first(connection(1).mark()));
    assert_eq!(knock(&world, 1), Counter::DroppedAgain, "a repetition, too");
    assert_eq!(drops(&world), 2);
}

#[test]
fn sentence_ends_on_the_nanosecond() {
    let mut row = Row::new(Level::Block);
    row.arrival = Cell::new(KernelTime::from_nanos(1_000));
    let world = host(row);
    world.now.set(99);
    assert_eq!(knock(&world, 1), Counter::Blocked);
    world.now.set(100);
    assert_eq!(knock(&world, 2), Counter::Ended);
    assert_eq!(drops(&world), 1);
}

#[test]
fn harder_of_two_live_entries_decides() {
    use Level::{Block, Observe, Rate};
    for (host, network, expected) in [
        (Observe, Observe, Counter::Observed),
        (Observe, Rate, Counter::Admitted),
        (Rate, Observe, Counter::Admitted),
        (Rate, Block, Counter::LetThrough),
        (Block, Rate, Counter::LetThrough),
    ] {
        let world = World {
            host: Some(Row::new(host)),
            network: Some(Row::new(network)),
            ..world()
        };
        assert_eq!(knock(&world, 1), expected, "{host:?} in {network:?}");
        let charged = |row: &Option<Row>| {
            let row = row.as_ref().expect("both are there");
            row.admitted.get() != Admitted::NONE || row.drops.get() != 0
        };
        let by_host = host >= network;
        assert_eq!(charged(&world.host), by_host, "{host:?} in {network:?}");
        assert_eq!(charged(&world.network), !by_host, "{host:?} in {network:?}");
    }
}

#[test]
fn ended_or_unknown_entry_gives_way_to_a_live_one() {
    let mut ended = Row::new(Level::Block);
    ended.until = 0;
    let mut unknown = Row::new(Level::Block);
    unknown.level = None;
    for host in [ended, unknown] {
        let world = World {
            host: Some(host),
            network: Some(Row::new(Level::Rate)),
            ..world()
        };
        assert_eq!(knock(&world, 1), Counter::Admitted);
    }
    let mut unknown = Row::new(Level::Block);
    unknown.level = None;
    assert_eq!(knock(&host(unknown), 1), Counter::UnknownLevel);
}

#[test]
fn trie_is_asked_unless_the_entry_is_of_its_generation() {
    for (generation, present, expected) in [
        (GENERATION, GENERATION, Counter::LetThrough),
        (GENERATION - 1, GENERATION, Counter::Allowed),
        (Config::NO_GENERATION, GENERATION, Counter::Allowed),
        (
            Config::NO_GENERATION,
            Config::NO_GENERATION,
            Counter::Allowed,
        ),
    ] {
        let mut row = Row::new(Level::Block);
        row.generation = generation;
        let mut world = host(row);
        world.config.generation = present;
        world.allowed = true;
        assert_eq!(knock(&world, 1), expected, "{generation} in {present}");
        assert_eq!(drops(&world), 0);
    }
}

#[test]
fn other_destinations_pass_where_not_all_are_judged() {
    let mut world = host(Row::new(Level::Block));
    assert_eq!(knock(&world, 1), Counter::LetThrough);
    world.config.flags = Config::ONLY_DESTINATIONS;
    assert_eq!(knock(&world, 2), Counter::OtherDestination);
    world.destination = true;
    assert_eq!(knock(&world, 3), Counter::Blocked);
}

#[test]
fn under_observation_all_is_computed_and_nothing_dropped() {
    let mut world = host(Row::new(Level::Rate));
    world.config.flags = Config::OBSERVE;
    for sequence in 1..=3 {
        assert_eq!(knock(&world, sequence), Counter::Admitted);
    }
    assert_eq!(knock(&world, 3), Counter::Repeated);
    assert_eq!(knock(&world, 4), Counter::Observed);
    assert_eq!(drops(&world), 1);
}

#[test]
fn drops_and_would_be_drops_are_told_when_asked_for() {
    let row = Row::new(Level::Rate);
    row.arrival.set(KernelTime::from_nanos(30));
    let mut world = host(row);
    assert_eq!(knock(&world, 1), Counter::RateLimited);
    assert_eq!(world.told.borrow().len(), 0);
    world.config.event_interval = 1;
    assert_eq!(knock(&world, 2), Counter::RateLimited);
    world.config.flags = Config::OBSERVE;
    assert_eq!(knock(&world, 3), Counter::Observed);
    world.now.set(20);
    assert_eq!(knock(&world, 4), Counter::Admitted);
    let told = [(25, Counter::RateLimited), (25, Counter::Observed)];
    assert_eq!(*world.told.borrow(), told);
}

fn drops(world: &World) -> u64 {
    let row = world.host.as_ref().expect("a host's entry");
    row.drops.get()
}

const GENERATION: u16 = 7;
