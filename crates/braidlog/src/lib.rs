//! A write-ahead log in which many threads write at once: lock-free stripes, braided into one totally
//! ordered, durable log.
//!
//! Embedded: no server, one directory, one process that writes, any number that read. Append records from
//! as many threads or tasks as you like; each gets the next [`Lsn`] (1, 2, 3, ...). After a crash, open the
//! directory again and replay.
//!
//! ```
//! use braidlog::{DurabilityMode, Wal};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("wal");
//! let wal = Wal::options().mode(DurabilityMode::group_commit()).open(&path)?;
//! let lsn = wal.append(b"debit alice 10")?; // durable when it returns
//! let ticket = wal.submit(b"credit bob 10")?; // returns at once
//! assert_eq!(ticket.wait()?, lsn.next()); // durable now
//! wal.close()?;
//!
//! let wal = Wal::options().open(&path)?; // after a crash too: opening recovers
//! let payloads: Vec<Vec<u8>> = wal.replay()?.map(|record| Ok(record?.payload)).collect::<braidlog::Result<_>>()?;
//! assert_eq!(payloads, [b"debit alice 10".to_vec(), b"credit bob 10".to_vec()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When an append returns
//!
//! | mode | returns when the record is | a power cut after that |
//! |---|---|---|
//! | [`Synchronous`](DurabilityMode::Synchronous) | synced; its round is never held back | loses nothing |
//! | [`GroupCommit`](DurabilityMode::GroupCommit) (default) | synced; a round may wait for others to share its sync, at most `max_delay` | loses nothing |
//! | [`Async`](DurabilityMode::Async) | in memory; synced every `flush_interval` in the background | may lose the last interval and round |
//! | [`AsyncBatched`](DurabilityMode::AsyncBatched) | in memory; synced after `max_delay` or `max_batch_size` records | may lose the last delay and round |
//!
//! Any append may choose for itself: [`Append::durability`]. A [`Ticket`] that completed, [`Wal::flush`] and
//! [`Wal::wait_durable`] mean "durable" in every mode, and so do their futures, [`Wal::flush_async`] and [`Wal::durable`]. A
//! record may be waited for at each [`Rung`] of its way: [`Ticket::written`], [`Wal::reach`].
//!
//! # What holds in every mode
//!
//! * What is recovered is a dense run of LSNs from the first: no hole, no duplicate, no reordering.
//! * A [`Batch`] is recovered and becomes visible whole or not at all.
//! * A failed append is absent, or its error [says](Error::is_indeterminate) that it may be present.
//! * If one append returned before another was called, its LSN is the smaller.
//! * Damage to acknowledged data is an [error](ErrorKind::Damaged) that locates it, never a short log.
//! * After a failed write or sync nothing more is acknowledged until the log is opened again. A full disk is
//!   no failure: appends are refused until there is space.
//!
//! # Reading
//!
//! [`Wal::replay`], [`Wal::iter`] and [`Wal::read`] show what is durable: all of it, with the machine's threads, or a
//! part, with the caller's alone. [`Wal::iter_since`] begins at a time, [`Wal::iter_rev`] goes backward, [`Wal::subscribe`] goes on with what becomes durable, for a thread or a task.
//! [`Wal::open_read_only`] reads from another handle or process, and [`verify`] checks every byte; neither changes anything.
//!
//! # Checkpoints
//!
//! A log need not be replayed from its beginning: [`Wal::checkpoint`] saves the state that it led to, and
//! [`Wal::recover`] brings a new state to where the log is, by the newest checkpoint that is good and the records
//! behind it. Checkpoints may hold [changes only](Checkpoint::incremental).
//!
//! # Points in time
//!
//! A log can be replayed and recovered up to a [`Target`]: an LSN, a time, a name that [`Wal::restore_point`] gave, or a
//! record that the application recognizes. [`Wal::fork`] makes a log of its own of what lies before one, to go on from there.
//!
//! # Transactions
//!
//! [`Wal::begin`] gathers records that take effect together or not at all, with savepoints to go back to, under an id that is kept in
//! the log: a [`Transaction`] is one batch and one sync. [`Wal::begin_streaming`] is for what does not fit into memory: the
//! records of a [`StreamingTransaction`] go to the log as they come, among those of others, and take effect with its commit.
//! [`StreamingTransaction::prepare`] makes one durable and undecided, and a [`TwoPhaseCommit`] lets transactions in several logs
//! commit together.
//!
//! # Compression
//!
//! [`Options::compression`] makes finished segments smaller, after a time or at once, and [`Wal::compress`] does so on order:
//! with zstd, if the cargo feature of that name is there. To every reader a log is the same before and after.
//!
//! # Typed entries
//!
//! [`TypedWal`] appends and reads values in place of bytes: of any type that `rkyv` archives, read where they lie (cargo feature
//! `rkyv`), of any type of `serde` (`postcard`), or by a [`Codec`] of the application's own. A record keeps the version of its
//! schema, and earlier ones are upgraded as they are read.
//!
//! # Components
//!
//! Files and time come from traits in [`storage`], which [`Options`] takes. The crate `braidlog-sim` has a
//! storage that loses and tears what was not synced, to crash-test what stands on a log.

#![warn(missing_debug_implementations)]

#[cfg(feature = "serde")]
mod config;
mod error;
mod kinds;
mod log;
mod open;
mod options;
mod presets;
mod wal;

mod append;
mod appending;
mod batch;
mod prepared;
mod reach;
mod sink;
mod stream;
mod streaming;
mod streams;
mod ticket;
mod transaction;
mod two_phase;
mod writer;

mod checkpoint;
mod gate;
mod recover;
mod repair;

mod event;
mod keeping;
mod policy;
mod upkeep;

mod backup;
mod compress;
mod fork;
mod partitioned;
mod points;
mod read_only;
mod records;
mod replay;
mod reverse;
mod since;
mod subscription;
mod typed;

pub use braidlog_storage as storage;

pub use append::Append;
pub use appending::{Appending, Committing, Submitting};
pub use backup::Backup;
pub use batch::Batch;
pub use checkpoint::Checkpoint;
pub use compress::{Compress, CompressProgress, CompressReport, Compression, KeptSegment, WhyKept};
pub use error::{AppendError, Error, ErrorKind, Result};
pub use event::{Event, Listener, SizeState, UpkeepTask};
pub use keeping::Hold;
pub use kinds::Kinds;
pub use options::Options;
pub use points::RestorePoint;
pub use policy::CheckpointPolicy;
pub use prepared::Prepared;
pub use reach::Reach;
pub use read_only::{ReadOnly, Watcher, verify, verify_entries, verify_with};
pub use records::Records;
pub use recover::Recover;
pub use repair::{Damaged, Repair, read_damaged, read_damaged_with, repair, repair_with, salvage};
pub use replay::Replay;
pub use reverse::ReverseRecords;
pub use sink::WalSink;
pub use stream::{Placed, Stream, StreamAppending};
pub use streaming::StreamingTransaction;
pub use streams::StreamInfo;
pub use subscription::{Subscription, SubscriptionStream};
pub use ticket::Ticket;
pub use transaction::{Committed, Savepoint, Transaction};
pub use two_phase::{
    LogParticipant, Participant, Resolved, TwoPhaseCommit, TwoPhaseError, TwoPhaseOutcome, Untold,
};
#[cfg(feature = "postcard")]
pub use typed::Postcard;
pub use typed::{
    Codec, Readable, Schema, TypedLog, TypedReadOnly, TypedRecord, TypedRecords, TypedWal, Value,
};
#[cfg(feature = "rkyv")]
pub use typed::{Rkyv, RkyvValidator};
pub use upkeep::{Pause, UpkeepFailure, UpkeepStatus};
pub use wal::Wal;
pub use writer::Writer;

pub use braidlog_engine::{
    Durability, DurabilityMode, FailedOperation, Failure, Health, HealthState, IoMode, LatencySnapshot,
    Metrics, OnIoError, Rung, SyncMethod,
};
pub use braidlog_format::{
    FieldsRef, Incarnation, Kind, LogId, Lsn, LsnIter, LsnRange, ParseIdError, RecordFields, TxId,
};
pub use braidlog_recovery::{
    Applied, BackupProgress, BackupReport, BoxError, CheckpointInfo, CheckpointReader, CheckpointWriter,
    DamageCause, DamagePolicy, EntryVerdict, ForkReport, InDoubt, KeptBy, Loss, LossCause, Outcome,
    PackedFault, PassedOver, PassedOverCause, Problem, Record, RecordRef, RecoveryEstimate, RecoveryReport,
    RepairProgress, RepairReport, RepairedFile, ReplayProgress, Replayed, Restore, RestorePhase,
    RestoreProgress, RestoreReport, RestoreTimes, Retention, Route, SalvageReport, SalvagedHeader,
    SegmentInfo, SegmentState, TailState, Target, VerifyProgress, VerifyReport, VerifyTail, Warning,
    WhatBecame, partition_of,
};

/// The README's examples, compiled and run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
