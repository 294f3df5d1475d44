//! Holds what `greylist_fuzz::shared` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::shared::holds(bytes));
