//! Holds what `greylist_fuzz::ledger` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::ledger::holds(bytes));
