//! Holds what `greylist_fuzz::journal` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::journal::holds(bytes));
