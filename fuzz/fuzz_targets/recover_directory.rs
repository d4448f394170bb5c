//! Any bytes as a directory: recovery, readers and verification agree with a second reader and with each other.
//!
//! `cargo +nightly fuzz run recover_directory`; the whole command is in `docs/testing.md`.
#![no_main]
#![allow(missing_docs, reason = "what the macros make is called by libFuzzer only")]

use braidlog_fuzz::{container, directory, rewrite};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    directory::check(&container::decode(bytes));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    rewrite::mutate(&mut data[..max_size], size, seed, &mut |bytes, size, max| {
        fuzzer_mutate(bytes, size, max)
    })
});
