//! Braidlog's read path: from files to records. It knows the bytes of the format and the files of the
//! storage, and nothing of the threads and stripes that write them.
//!
//! [`recover`] makes a directory ready for writing: it lists the files (`dir`), checks headers and links
//! (`chain`), scans the last segment (`scan`), looks for what vouches for a failing byte (`marks`,
//! `seal`), judges (`verdict`) and cuts a tail that was never acknowledged (`repair`). It ends with the
//! one value that the engine begins with, [`LogTail`](braidlog_format::LogTail).
//!
//! [`LogReader`] reads a log beside its writer, beside another process's writer, or dead; [`Records`]
//! streams what it shows. [`verify()`] reads everything and changes nothing.
//!
//! The rule of this crate: no bytes on disk make it panic, allocate beyond a proved entry that fits into
//! its file, or cut what something synced vouches for. `docs/recovery.md` has the algorithm and its
//! crash cases.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod open;

mod chain;
mod dir;

mod scan;
mod window;

mod compression;
mod packed_file;
mod segment_file;

mod flip;
mod locked;
mod marks;
mod seal;

mod in_doubt;
mod tail;
mod verdict;

mod repair;
mod rewrite;

mod patient;
mod salt;
mod survey;

mod plan;

mod damaged;
mod mend;
mod quarantine;
mod salvage;

mod loss;
mod manifest;
mod reserve;
mod stream;
mod stream_counts;

mod pack;

mod backup;
mod extent;
mod fork;
mod pins;
mod retention;
mod standing;
mod truncate;

mod checkpoint;
mod estimate;
mod restore;

mod ahead;
mod effects;
mod follow;
mod index;
mod partition;
mod progress;
mod reader;
mod record;
mod records;
mod replay;
mod reverse;
mod since;
mod target;
mod visible;

mod check;
mod verify;

mod error;

pub use ahead::ReadAhead;
pub use backup::{BackupHow, BackupProgress, BackupReport, backup};
pub use checkpoint::reader::CheckpointReader;
pub use checkpoint::select::{KnownGood, PassedOver, PassedOverCause};
pub use checkpoint::writer::CheckpointWriter;
pub use checkpoint::{
    CheckpointError, CheckpointInfo, CheckpointOrder, CheckpointRefusal, Checkpoints, restore_read_only,
};
pub use damaged::{
    DamagedLog, OnDamage, OpenQuarantine, RepairReport, RepairedFile, WhatBecame, repair, repair_plan,
};
pub use error::{Damage, DamageCause, ForeignFile, PackedFault, RecoveryError};
pub use estimate::{RecoveryEstimate, estimate};
pub use extent::Extent;
pub use follow::{Follower, NextRecord};
pub use fork::{ForkHow, ForkReport, fork};
pub use in_doubt::{InDoubt, in_doubt};
pub use index::WritersIndex;
pub use loss::{Loss, LossCause};
pub use manifest::{Hold, Manifest, ManifestStore, RestorePoint, SegmentAge};
pub use open::{Recovered, RecoveryReport, TailState, recover, recover_with};
pub use pack::{PackHow, Packed, Packing, PackingEnd};
pub use partition::{PartitionHow, ReplayStopped, Replayed, Route, partition_of, replay_partitioned};
pub use pins::Pins;
pub use plan::{DamagePolicy, Outcome};
pub use progress::{Progress, ReplayProgress};
pub use reader::{LogReader, SegmentInfo, SegmentState};
pub use record::{Record, RecordRef};
pub use records::Records;
pub use restore::{
    Applied, Restore, RestoreError, RestoreHow, RestorePhase, RestoreProgress, RestoreReport, RestoreTimes,
};
pub use retention::{CheckpointNeed, Decision, KeptBy, Needs, Retention, SegmentFacts, retain, segment_of};
pub use reverse::ReverseRecords;
pub use rewrite::{SegmentWriter, WrittenSegment};
pub use salvage::{SalvageError, SalvageReport, SalvagedHeader, salvage};
pub use standing::{Standing, standing};
pub use stream::{StreamEntry, StreamFinished, StreamReader, StreamWriter};
pub use stream_counts::{Counted, StreamFacts};
pub use survey::RepairProgress;
pub use target::{Target, TargetError, resolve, timestamp_ns};
pub use truncate::{Disposed, Truncation, truncate};
pub use verify::{
    EntryVerdict, OnEntry, Problem, VerifyHow, VerifyProgress, VerifyReport, VerifyTail, Warning, verify,
    verify_with,
};

/// An error of the application's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
