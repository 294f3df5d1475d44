//! Holds what `greylist_fuzz::maillog` says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| greylist_fuzz::maillog::holds(bytes));
