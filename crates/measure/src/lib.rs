//! How Braidlog is measured: the workload, the raw device beside it, and how figures are told. The command
//! (`braidlog bench`) and the benchmarks share it, so that both mean the same by the same word.
//!
//! The rule: a figure counts only if the result was right, and it is told with its spread and its machine.
//! This crate uses the public API of `braidlog` and nothing else, and no library links it.

pub mod cpu;
pub mod figure;
pub mod latency;
pub mod machine;
pub mod raw;
pub mod space;
pub mod workload;

use std::error::Error;

/// What goes wrong in a measurement ends it.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
