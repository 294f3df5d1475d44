//! A frame of any bytes is judged without a panic, only a SYN to the protected port is ever
//! dropped, and cutting a frame never makes a connection of what was none.
#![no_main]

use greylist_ebpf::{
    abi::{Counter, KernelTime, Level},
    packet::{Client, new_connection},
    verdict::{Action, Entry, Tables, decide},
};
use libfuzzer_sys::fuzz_target;

/// Everybody is sentenced, for ever: the worst that a parser's mistake can meet.
struct Everybody;

impl Tables for Everybody {
    type Entry = Self;

    fn is_protected(&self, port: u16) -> bool {
        port == 25
    }

    fn entry(&self, _: &Client) -> Option<Self> {
        Some(Self)
    }

    fn now(&self) -> KernelTime {
        KernelTime::default()
    }
}

impl Entry for Everybody {
    fn until(&self) -> KernelTime {
        KernelTime::from_nanos(u64::MAX)
    }

    fn level(&self) -> Option<Level> {
        Some(Level::Block)
    }

    fn count(&self) {}
}

fuzz_target!(|frame: &[u8]| {
    let connection = new_connection(frame);
    let outcome = decide(frame, &Everybody);
    let to_smtp = connection.is_ok_and(|connection| connection.port == 25);
    assert_eq!(outcome.action == Action::Drop, to_smtp);
    assert_eq!(outcome.counter == Counter::Blocked, to_smtp);
    for length in 0..frame.len().min(400) {
        let cut = new_connection(&frame[..length]);
        assert!(cut == connection || cut == Err(Counter::Truncated));
    }
});
