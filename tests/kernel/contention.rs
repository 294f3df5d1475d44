//! Many CPUs, one client: what is promised when two look at the same entry at the same time.
//!
//! Each thread has the kernel run the program in a loop of its own, so that two of them meet in an
//! entry every few runs: without the compare in a swap a test here fails.

use std::{sync::Barrier, thread};

use greylist_ebpf::abi::{Admitted, Config, Counter, Level, Limit, mapped};
use support::{needs, requirements};

use crate::{
    cases::{CONFIG, HOUR, fresh, host, used_up},
    frames::{TCP, syn, v4},
    judge::{Judge, Program},
};

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const THREADS: u32 = 8;
/// How often each thread sends its SYN.
const SYNS: u32 = 200_000;
/// Less than comes, though most of what comes is repetitions.
const BURST: u32 = 50_000;

#[test]
fn no_more_than_the_burst_passes_however_many_knock_at_once() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    keeps_its_promises(&mut Program::load(&object), |thread| thread);
}

#[test]
fn no_more_repetitions_pass_than_are_free_however_many_come_at_once() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    keeps_its_promises(&mut Program::load(&object), |_| 1);
}

fn keeps_its_promises(program: &mut Program, sequence: fn(u32) -> u32) {
    let mut config = CONFIG;
    config.rate = Limit::new(HOUR, BURST);
    program.configure(config);
    program.put(host(CLIENT), fresh(Level::Rate));
    knock_at_once(program, sequence);

    let admitted = program.count(Counter::Admitted);
    let repeated = program.count(Counter::Repeated);
    let [first, again] = [Counter::RateLimited, Counter::DroppedAgain].map(|it| program.count(it));
    let dropped = first + again;
    println!("{admitted} admitted, {repeated} repeated, {dropped} dropped");
    assert_eq!(
        admitted,
        u64::from(BURST),
        "the burst, all of it and no more"
    );
    assert!(repeated <= admitted * u64::from(Admitted::REPEATS));
    assert_eq!(admitted + repeated + dropped, u64::from(THREADS * SYNS));
    assert_eq!(program.entry(host(CLIENT)).drops, dropped);
}

/// Every drop could be told; one in an hour is, for each CPU.
#[test]
fn drops_are_told_as_a_sample() {
    let ((), object) = needs!(requirements::root(), requirements::xdp_object());
    let mut program = Program::load(&object);
    program.configure(CONFIG);
    program.put(host(CLIENT), used_up(Level::Block));
    knock_at_once(&program, |thread| thread);
    assert_eq!(program.told(), [], "nobody asked for events");

    let mut telling: Config = CONFIG;
    telling.event_interval = HOUR;
    program.configure(telling);
    knock_at_once(&program, |thread| thread);
    let told = program.told();
    let cpus = thread::available_parallelism().map_or(1, Into::into);
    assert!((1..=cpus).contains(&told.len()), "{told:?}");
    // Which thread's SYN the entry saw last is chance, so the sample may be of a repeated one.
    for (address, port, reason) in told {
        assert_eq!((address, port), (mapped(CLIENT), 25));
        assert!(
            matches!(reason, Counter::Blocked | Counter::DroppedAgain),
            "{reason:?}"
        );
    }
}

/// All threads send their SYN again and again, each with the sequence number that is its own.
fn knock_at_once(program: &Program, sequence: fn(u32) -> u32) {
    let xdp = program.xdp();
    let start = &Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let frame = v4(CLIENT, TCP, &syn(sequence(thread)));
                start.wait();
                Program::run(xdp, &frame, SYNS);
            });
        }
    });
}
