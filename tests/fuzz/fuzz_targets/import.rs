//! Holds what `greylist_fuzz::import` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::import::holds(bytes));
