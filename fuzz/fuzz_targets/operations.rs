//! Any bytes as operations, options, faults and crashes of a log, against the model.
//!
//! `cargo +nightly fuzz run operations`; the whole command is in `docs/testing.md`. Each byte is a choice, so
//! libFuzzer's own mutations are the right ones.
#![no_main]
#![allow(missing_docs, reason = "what the macros make is called by libFuzzer only")]

use braidlog_fuzz::operations;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    operations::check(bytes);
});
