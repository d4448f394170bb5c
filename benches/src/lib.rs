//! What the benchmarks share beside [`braidlog_measure`], whose modules are named here too: a place on a real
//! disk, and the larger measurements of `floor`.
//!
//! The rule: a figure counts only if the result was right, and it is told with its spread and its machine.
//! See `benches/README.md`.

pub mod adaptive;
pub mod build;
pub mod call;
pub mod cores;
pub mod floor;
pub mod growth;
pub mod living;
pub mod memory;
pub mod opening;
pub mod packed;
pub mod partitioned;
pub mod pipelined;
pub mod presets;
pub mod replay;
pub mod scratch;
pub mod slow;
pub mod tasks;
pub mod timer;
pub mod typed;

pub use braidlog_measure::{figure, machine, raw};

/// The workload, and what goes wrong with it.
pub mod workload {
    pub use braidlog_measure::Result;
    pub use braidlog_measure::workload::*;
}
