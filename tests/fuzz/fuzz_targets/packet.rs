//! Holds what `greylist_fuzz::packet` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::packet::holds(bytes));
