//! Holds what `greylist_fuzz::configuration` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::configuration::holds(bytes));
