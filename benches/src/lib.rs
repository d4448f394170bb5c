//! What the benchmarks share: a place on a real disk, a workload that checks its own result, the raw device
//! beside it, and how figures are told.
//!
//! The rule: a figure counts only if the result was right, and it is told with its spread and its machine.
//! See `benches/README.md`.

pub mod call;
pub mod figure;
pub mod floor;
pub mod machine;
pub mod memory;
pub mod raw;
pub mod scratch;
pub mod slow;
pub mod timer;
pub mod workload;
