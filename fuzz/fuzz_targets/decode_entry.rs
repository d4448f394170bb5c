//! Any bytes as an entry, a segment header, a seal, a mark, extended fields or a name.
//!
//! `cargo +nightly fuzz run decode_entry`; the whole command is in `docs/testing.md`.
#![no_main]
#![allow(missing_docs, reason = "what the macros make is called by libFuzzer only")]

use braidlog_fuzz::fragment;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    fragment::check(bytes);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fragment::mutate(&mut data[..max_size], size, seed, &mut |bytes, size, max| {
        fuzzer_mutate(bytes, size, max)
    })
});
