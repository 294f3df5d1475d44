//! Holds what `greylist_fuzz::lists` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::lists::holds(bytes));
