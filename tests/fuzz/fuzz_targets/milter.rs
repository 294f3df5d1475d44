//! Holds what `greylist_fuzz::milter` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::milter::holds(bytes));
