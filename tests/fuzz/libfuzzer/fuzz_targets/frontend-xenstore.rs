//! See `oxen_fuzz::TARGETS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oxen_libfuzzer::feed(env!("CARGO_BIN_NAME"), data));
