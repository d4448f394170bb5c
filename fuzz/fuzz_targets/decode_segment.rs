//! Any bytes as a segment file: the decoders never panic, agree with the naive ones and believe nothing unproven.
//!
//! `cargo +nightly fuzz run decode_segment`; the whole command is in `docs/testing.md`.
#![no_main]
#![allow(missing_docs, reason = "what the macros make is called by libFuzzer only")]

use braidlog_fuzz::{check, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(&mut data[..max_size], size, seed, &mut |bytes, size, max| fuzzer_mutate(bytes, size, max))
});
