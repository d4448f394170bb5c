//! The evidence for Braidlog's contract, as programs that try to break it.
//!
//! Each module is one harness. The same code runs small in `tests/` and long from the command
//! (`cargo run --release -p braidlog-proof -- --help`); a failure is a panic that prints one seed and one command.
//!
//! The rule: it drives the production crates through their public interface and the storage trait; the product has
//! no hooks for it.

pub mod full;
pub mod part;

pub mod counts;
pub mod extent;

pub mod history;
pub mod judge;
pub mod mix;
pub mod model;
pub mod observed;

pub mod enumerate;
pub mod followers;
pub mod readings;
pub mod single;
#[cfg(braidlog_shuttle)]
pub mod threaded;

pub mod board;
pub mod kill;
pub mod killing_storage;
pub mod soak;

pub mod command;
pub mod line_oracle;
#[cfg(target_os = "linux")] // it mounts
pub mod no_space;
#[cfg(target_os = "linux")] // it mounts
pub mod power_cut;

pub mod rot;
pub mod sabotage;
