//! Braidlog's write path: from bytes to durable.
//!
//! The rule of this crate: it knows nothing of scanning or replay. It begins with a
//! [`LogTail`](braidlog_format::LogTail) that recovery made.
//!
//! # The life of a record
//! 1. `append.rs`: a writer claims a stripe, finds space, is admitted, copies, draws its LSN, publishes.
//!    `room.rs`: so does a task, without waiting.
//! 2. `stripe.rs`, `stripes.rs`: the lock-free byte rings, and the overflow list beside them.
//! 3. `merge.rs`, `coordinator.rs`, `pen.rs`: the coordinator merges by LSN and encodes a round.
//! 4. `segment.rs`: the round goes to the file under the pen and is synced; `live.rs` knows where its entries are.
//! 5. `waiters.rs`, `committers.rs`, `commit.rs`, `hold.rs`: the durable LSN moves, and whoever waits for it returns.
//!    `rung.rs`: or what it was asked to wait for instead. `watch.rs`: so does who only follows it.
//!
//! Around it: `space.rs` and `preparer.rs` admit space before the LSN and make files ahead of need, of old ones that
//! wait in `spares.rs` first,
//! `maintenance.rs` runs that and the owner's `chore.rs` as `jobs.rs` asks for it, `flusher.rs` serves what nobody
//! blocks for, `wakers.rs` runs the wakers of tasks, `shared.rs` says how the coordinator's role changes hands, `failure.rs` closes the log for good.

#[cfg(feature = "components")]
#[doc(hidden)]
pub mod components;

mod append;
mod batch;
mod callers_lock;
mod chore;
mod commit;
mod committers;
mod coordinator;
mod engine;
mod error;
mod failure;
mod flight;
mod flusher;
mod hold;
mod jobs;
mod live;
mod lsn;
mod maintenance;
mod merge;
mod metrics;
mod open_transactions;
mod pen;
mod preparer;
mod primitive;
mod room;
mod rung;
mod segment;
mod settings;
mod shared;
mod space;
mod spares;
mod stripe;
mod stripes;
mod waiters;
mod wakers;
mod watch;
mod writers;

#[cfg(test)]
mod tests;

pub use append::{Commit, How, Wait};
pub use batch::{BatchBuf, BatchPoint};
pub use chore::Chore;
pub use commit::TaskKey;
pub use engine::Engine;
pub use error::EngineError;
pub use failure::{FailedOperation, Failure};
pub use live::LiveIndex;
pub use metrics::{Health, HealthState, LatencySnapshot, Metrics};
pub use room::RoomKey;
pub use rung::Rung;
pub use settings::{Durability, DurabilityMode, IoMode, OnIoError, Settings, SyncMethod};
pub use stripe::EntryParts;
pub use watch::WatchKey;
