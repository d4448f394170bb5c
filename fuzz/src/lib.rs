//! What the fuzz targets share: a second decoder to compare with, the checks, and the mutations.
//!
//! The rule: everything but libFuzzer's own loop is here and runs on a stable compiler too, so that the
//! checks are tested (`cargo test --manifest-path fuzz/Cargo.toml`) and every finding can be replayed.
#![forbid(unsafe_code)]

pub mod naive;
pub mod naive_log;
pub mod naive_manifest;

pub mod check;
pub mod fragment;

pub mod container;
pub mod directory;

pub mod operations;

pub mod mutate;
pub mod rewrite;
