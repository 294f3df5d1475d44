//! Holds what `greylist_fuzz::control` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::control::holds(bytes));
