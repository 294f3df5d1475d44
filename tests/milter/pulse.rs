//! The watchdog's question to the workers.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::world::World;

#[test]
fn worker_that_waits_for_a_lock_is_silent_and_the_others_are_not() {
    let world = World::with(|settings| settings.workers = 2);
    let pulse = world.server.pulse();
    assert_eq!(pulse.silent_workers(), 0, "nobody was asked yet");
    wait_for_silence_of(&world, 0);

    let gate = world
        .table
        .gate
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut mta = world.session();
    mta.mail("a@x.example").expect("held");
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| mta.rcpt("slow@y.example").map(drop));
        wait_for_silence_of(&world, 1);
        assert_eq!(world.metric("milter_workers_silent"), 1);
        drop(gate);
        stuck.join().expect("no panic").expect("an answer");
    });
    wait_for_silence_of(&world, 0);
    assert_eq!(world.metric("milter_workers_silent"), 0);
}

/// Asks until as many do not answer as is expected, twice in a row: an answer may be under way.
fn wait_for_silence_of(world: &World, expected: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut in_a_row = 0;
    while in_a_row < 2 {
        assert!(Instant::now() < deadline, "never {expected} silent workers");
        std::thread::sleep(Duration::from_millis(20));
        let found = world.server.pulse().silent_workers();
        in_a_row = if found == expected { in_a_row + 1 } else { 0 };
    }
}
