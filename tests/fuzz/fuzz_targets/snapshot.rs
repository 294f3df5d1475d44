//! Holds what `greylist_fuzz::snapshot` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::snapshot::holds(bytes));
