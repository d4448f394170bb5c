//! What a log has to be able to do here, and the list of those that are compared.
//!
//! The rule: a peer's file holds what its own documentation recommends and nothing that another peer is not
//! given. What differs from its defaults says why.

use std::error::Error;
use std::path::Path;

use crate::cell::{Cell, Workload};
use crate::child;
use crate::outcome::Outcome;

#[cfg(feature = "aletheiadb")]
pub mod aletheiadb;
pub mod braidlog;
#[cfg(feature = "commitlog")]
pub mod commitlog;
pub mod directvec;
#[cfg(feature = "fjall")]
pub mod fjall;
pub mod groupcommit;
pub mod mutexvec;
#[cfg(feature = "okaywal")]
pub mod okaywal;
#[cfg(feature = "open-wal")]
pub mod open_wal;
#[cfg(feature = "oxirs-vec")]
pub mod oxirs_vec;
pub mod parse_loop;
#[cfg(feature = "raft-engine")]
pub mod raft_engine;
pub mod raw;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(test)]
mod round_trip;
#[cfg(feature = "sled")]
pub mod sled;
#[cfg(feature = "wal-db")]
pub mod wal_db;
#[cfg(feature = "walrus")]
pub mod walrus;

/// What goes wrong ends a cell, and is told in its place.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// What a peer may know of the cell before it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// How many threads append.
    pub threads: u32,
    /// Bytes of each record.
    pub record_bytes: usize,
    /// Whether appends wait until they are durable: for logs that are opened for one or the other.
    pub durable: bool,
    /// Whether it is batches that wait.
    pub batches: bool,
    /// The variant that the list of peers names; empty if there is one only.
    pub variant: &'static str,
}

/// A log.
pub trait Peer: Sync + Sized {
    /// What one thread appends with.
    type Appender<'log>: Appender + Send
    where
        Self: 'log;

    /// Whether [`Peer::flush`] returns when all is on the device. If not, the harness syncs the files, with
    /// the clock running.
    const FLUSH_SYNCS: bool;

    /// Whether it can append at a rate that fills the log of a replay. If not, that is written in batches.
    const HAS_ASYNC: bool = true;

    /// Opens a fresh log in an empty directory. Not timed.
    ///
    /// # Errors
    /// What the log says.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// What thread `thread` appends with. Not timed.
    ///
    /// # Errors
    /// What the log says.
    fn appender(&self, thread: u32) -> Result<Self::Appender<'_>>;

    /// Brings all that was appended as far as the log's API can. Called when all threads are done; timed.
    ///
    /// # Errors
    /// What the log says.
    fn flush(&self) -> Result<()>;

    /// Closes the log. Not timed.
    ///
    /// # Errors
    /// What the log says.
    fn close(self) -> Result<()>;

    /// Opens the log in `dir` again and reads all records in its order.
    ///
    /// # Errors
    /// What the log says.
    fn replay(dir: &Path, setup: &Setup, each: impl FnMut(&[u8])) -> Result<()>;

    /// What the log has to say of itself after the flush.
    fn note(&self) -> Option<String> {
        None
    }
}

/// One thread's way into a log.
pub trait Appender {
    /// Appends, and does not wait for the disk unless there is no room.
    ///
    /// # Errors
    /// What the log says.
    fn append(&mut self, record: &[u8]) -> Result<()>;

    /// Appends, and returns when the record is durable.
    ///
    /// # Errors
    /// What the log says.
    fn append_durable(&mut self, record: &[u8]) -> Result<()>;

    /// Appends all, and returns when they are durable: one wait.
    ///
    /// # Errors
    /// What the log says.
    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()>;

    /// Appends, and keeps something to wait for later; waits for the oldest if more than `most` are on their
    /// way. How many are, then.
    ///
    /// # Errors
    /// What the log says, or that it has no such thing.
    fn append_with_ticket(&mut self, _record: &[u8], _most: usize) -> Result<usize> {
        Err("has no tickets".into())
    }

    /// Hands on what the appender holds itself. Called by its thread after its last append; timed.
    ///
    /// # Errors
    /// What the log says.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A log in the list, in one of its variants.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The log, and behind a slash the variant if there are several.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The workloads that it takes part in.
    pub workloads: &'static [Workload],
    /// Runs a cell in this process.
    pub run: Part,
    /// Writes the log of a replay.
    pub prepare: Part,
}

/// A part of a cell: with the variant, in a directory.
type Part = fn(&Cell, &'static str, &Path) -> Result<Outcome>;

impl Listed {
    const fn new<P: Peer>(name: &'static str, about: &'static str, workloads: &'static [Workload]) -> Listed {
        Listed { name, about, workloads, run: child::run::<P>, prepare: child::prepare::<P> }
    }

    /// What stands behind the slash of the name.
    pub fn variant(&self) -> &'static str {
        self.name.split_once('/').map_or("", |(_, variant)| variant)
    }

    /// The name of its package, if it is one.
    pub fn package(&self) -> &'static str {
        match self.name.split('/').next() {
            Some("walrus") => "walrus-rust",
            name => name.unwrap_or(self.name),
        }
    }

    /// Whether it is what `wanted` names: itself, or the log with all its variants.
    pub fn is_named(&self, wanted: &str) -> bool {
        self.name == wanted || self.name.split('/').next() == Some(wanted)
    }

    /// Whether it is a loop to compare with and no log.
    pub fn is_yardstick(&self) -> bool {
        ["raw", "mutexvec", "directvec", "groupcommit", "parse-loop"].iter().any(|name| self.is_named(name))
    }
}

const ASYNC: &[Workload] = &[Workload::Async];
const APPEND: &[Workload] = &[Workload::Async, Workload::AppendCall, Workload::Replay];
const DURABLE: &[Workload] = &[Workload::Durable, Workload::Pipelined];
#[allow(dead_code, reason = "a build may be without the peers that it is for")]
const DURABLE_REPLAY: &[Workload] = &[Workload::Durable, Workload::Pipelined, Workload::Replay];
#[allow(dead_code, reason = "a build may be without the peers that it is for")]
const LOG: &[Workload] =
    &[Workload::Async, Workload::Durable, Workload::Pipelined, Workload::AppendCall, Workload::Replay];
const REPLAY: &[Workload] = &[Workload::Replay];
const SINGLE: &[Workload] = &[Workload::Durable];

/// All that this build has, in the order of the tables.
#[rustfmt::skip] // one line each
pub const LIST: &[Listed] = &[
    Listed::new::<braidlog::Braidlog>("braidlog", "default options; `Async` where nobody waits", Workload::ALL),
    Listed::new::<braidlog::Braidlog>("braidlog/sync", "`Synchronous`", DURABLE),
    Listed::new::<braidlog::Braidlog>("braidlog/one-thread", "read by the caller's thread alone", REPLAY),
    Listed::new::<raw::Stream>("raw/stream", "O_DIRECT writes of 1 MiB, one at a time, nothing copied", ASYNC),
    Listed::new::<raw::Sync>("raw/fdatasync", "a loop of a 4096-byte write and an fdatasync, no size changes", SINGLE),
    Listed::new::<raw::Sync>("raw/direct", "the same past the page cache", SINGLE),
    Listed::new::<mutexvec::MutexVec>("mutexvec", "a mutex around a byte vector, a thread that writes 1 MiB chunks", APPEND),
    Listed::new::<directvec::DirectVec>("directvec", "a mutex around two buffers of 1 MiB, written past the page cache", APPEND),
    Listed::new::<groupcommit::GroupCommit>("groupcommit", "a mutex around a byte vector, one fdatasync for each group", DURABLE),
    Listed::new::<parse_loop::ParseLoop>("parse-loop", "one thread that takes Braidlog's files apart and checks both CRCs", REPLAY),
    #[cfg(feature = "aletheiadb")]
    Listed::new::<aletheiadb::Aletheiadb>("aletheiadb/async", "its WAL, `Async` of 10 ms", APPEND),
    #[cfg(feature = "aletheiadb")]
    Listed::new::<aletheiadb::Aletheiadb>("aletheiadb/gc-1ms", "its WAL, `GroupCommit` of 1 ms, the least", &[Workload::Async, Workload::Durable, Workload::Pipelined]),
    #[cfg(feature = "aletheiadb")]
    Listed::new::<aletheiadb::Aletheiadb>("aletheiadb/gc-2ms", "its WAL, `GroupCommit` of 2 ms, as it comes", SINGLE),
    #[cfg(feature = "aletheiadb")]
    Listed::new::<aletheiadb::Aletheiadb>("aletheiadb/sync", "its WAL, `Synchronous`, its default", DURABLE),
    #[cfg(feature = "commitlog")]
    Listed::new::<commitlog::Commitlog>("commitlog", "in a mutex; never syncs", APPEND),
    #[cfg(feature = "fjall")]
    Listed::new::<fjall::Fjall>("fjall", "a store; the journal persisted by hand", LOG),
    #[cfg(feature = "okaywal")]
    Listed::new::<okaywal::Okaywal>("okaywal", "always durable; preallocated", DURABLE_REPLAY),
    #[cfg(feature = "open-wal")]
    Listed::new::<open_wal::InMutex>("open-wal/mutex", "one writer, in a mutex", LOG),
    #[cfg(feature = "open-wal")]
    Listed::new::<open_wal::Queued>("open-wal/queue", "one writer, behind a queue", &[Workload::Async, Workload::Durable, Workload::Pipelined]),
    #[cfg(feature = "oxirs-vec")]
    Listed::new::<oxirs_vec::OxirsVec>("oxirs-vec", "its WAL, records as vectors; `sync_on_write` where durable", LOG),
    #[cfg(feature = "raft-engine")]
    Listed::new::<raft_engine::RaftEngine>("raft-engine", "a region for each thread", LOG),
    #[cfg(feature = "redb")]
    Listed::new::<redb::Redb>("redb", "a B-tree; a transaction for each append or batch", LOG),
    #[cfg(feature = "rocksdb")]
    Listed::new::<rocksdb::Rocksdb>("rocksdb", "a store; the WAL flushed by hand where nobody waits", LOG),
    #[cfg(feature = "sled")]
    Listed::new::<sled::Sled>("sled", "a tree; its flush is no fdatasync", LOG),
    #[cfg(feature = "wal-db")]
    Listed::new::<wal_db::WalDb>("wal-db", "one file; group commit", LOG),
    #[cfg(feature = "walrus")]
    Listed::new::<walrus::Walrus>("walrus", "a topic for each thread; `NoFsync` where nobody waits, else `SyncEach`", LOG),
];
