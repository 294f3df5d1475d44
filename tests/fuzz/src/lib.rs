//! What each fuzz target holds, callable without libFuzzer: the targets of this crate call it with what
//! a fuzzer makes up, and a test of the workspace (`tests/corpus`), which includes this file, with every
//! input that was kept. Each `holds` panics where it does not.

pub mod configuration;
pub mod control;
pub mod import;
pub mod journal;
mod judge;
pub mod ledger;
pub mod lists;
pub mod maillog;
pub mod milter;
pub mod packet;
pub mod shared;
pub mod snapshot;

/// A target: its name, and what panics where it does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name.
pub const TARGETS: [Target; 11] = [
    ("configuration", configuration::holds),
    ("control", control::holds),
    ("import", import::holds),
    ("journal", journal::holds),
    ("ledger", ledger::holds),
    ("lists", lists::holds),
    ("maillog", maillog::holds),
    ("milter", milter::holds),
    ("packet", packet::holds),
    ("shared", shared::holds),
    ("snapshot", snapshot::holds),
];
