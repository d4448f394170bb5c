//! Why a log cannot be opened or read: facts, never a text to be searched.
//!
//! The rule: a damaged place is named by segment, offset and LSN range, so that a person can look at it
//! and a program can decide what to restore.

use std::fmt;
use std::io;

use braidlog_format::{DecodeError, LogId, Lsn, LsnRange};
use thiserror::Error;

use crate::Loss;
use crate::checkpoint::select::PassedOver;

/// Why a log cannot be opened, read or verified. Nothing was changed in the directory when a
/// [`Damaged`](RecoveryError::Damaged), [`Newer`](RecoveryError::Newer) or
/// [`Foreign`](RecoveryError::Foreign) is returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Data that was acknowledged, or the structure that leads to it, is not what it was.
    #[error(transparent)]
    Damaged(Damage),
    /// A file was written by a newer version than this one; it proves itself and is not damaged.
    #[error("{file} is newer than this version: {what} (at offset {offset})")]
    Newer {
        /// Name of the file.
        file: String,
        /// Where in the file the newer structure stands.
        offset: u64,
        /// What is newer.
        what: DecodeError,
    },
    /// A file has a name of the log's and is none of this log's.
    #[error("{file} does not belong to this log: {what}")]
    Foreign {
        /// Name of the file.
        file: String,
        /// What says so.
        what: ForeignFile,
    },
    /// A checkpoint or a segment is compressed in a way that this build does not know; it is not damaged.
    #[error("{file} is compressed with algorithm {algorithm}, which this build cannot unpack")]
    Compressed {
        /// Name of the file.
        file: String,
        /// The number of the algorithm; 1 is zstd.
        algorithm: u8,
    },
    /// No checkpoint can be read, and the log does not go back to its first record.
    #[error("no checkpoint can be used, and the log begins at LSN {log_start}: {}", list(passed_over))]
    NoCheckpoint {
        /// The first LSN of the log.
        log_start: Lsn,
        /// The checkpoints that there should be, newest first, and what is wrong with each.
        passed_over: Vec<PassedOver>,
    },
    /// The records that were asked for lie before the log's start: it was truncated.
    #[error("the log starts at LSN {first_lsn}: it was truncated before that")]
    Truncated {
        /// The first LSN of the log now.
        first_lsn: Lsn,
    },
    /// The record that was asked for was given up.
    #[error("{0}")]
    Lost(Loss),
    /// The system refused an operation.
    #[error("cannot {operation} {file}: {source}")]
    Io {
        /// What was tried: `"read"`, `"sync"`, ...
        operation: &'static str,
        /// Name of the file; the directory's path if the operation was on the directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RecoveryError {
    pub(crate) fn io(operation: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| RecoveryError::Io { operation, file, source }
    }

    pub(crate) fn damaged(
        segment: impl Into<String>,
        offset: u64,
        lsns: LsnRange,
        cause: DamageCause,
    ) -> Self {
        RecoveryError::Damaged(Damage { segment: segment.into(), offset, lsns, cause })
    }
}

fn list(passed_over: &[PassedOver]) -> String {
    if passed_over.is_empty() {
        return "there is none".to_owned();
    }
    passed_over.iter().map(PassedOver::to_string).collect::<Vec<_>>().join("; ")
}

/// One damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Name of the file: a segment, the manifest or a checkpoint.
    pub segment: String,
    /// The file offset of the first byte that is not what it should be.
    pub offset: u64,
    /// The LSNs that cannot be had because of it. Empty if no record is known to be lost;
    /// [`Lsn::MAX`] as the last says that nobody knows where the loss ends.
    pub lsns: LsnRange,
    /// What is wrong there.
    pub cause: DamageCause,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, lsns, cause } = self;
        write!(f, "{segment} is damaged at offset {offset}: {cause}; ")?;
        match (lsns.is_empty(), lsns.last) {
            (true, _) => write!(f, "no record is known to be lost"),
            (false, Lsn::MAX) => write!(f, "records from LSN {} on are affected", lsns.first),
            (false, _) => write!(f, "records {lsns} are affected"),
        }
    }
}

impl std::error::Error for Damage {}

/// What is wrong at a damaged place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum DamageCause {
    /// An entry is not one, though something that was synced vouches for it.
    #[error("no valid entry: {0}")]
    Entry(DecodeError),
    /// The header block of a segment is not one.
    #[error("no valid segment header: {0}")]
    Header(DecodeError),
    /// The header block of the manifest or of a checkpoint is not one.
    #[error("no valid file header: {0}")]
    StreamHeader(DecodeError),
    /// The manifest or a checkpoint does not end with the entry that counts all others.
    #[error("the file is not complete")]
    Incomplete,
    /// The file proves itself and is not the checkpoint that the manifest names.
    #[error("it is not the file that the manifest names")]
    NotTheNamed,
    /// The segment's header was never written, and the segment's place in the log says it must have been.
    #[error("the segment header is missing")]
    HeaderMissing,
    /// There is no such file, and another segment says that there was.
    #[error("the file is missing")]
    FileMissing,
    /// The header belongs under another file name.
    #[error("the header belongs to the segment with base LSN {base}")]
    Misnamed {
        /// The base LSN in the header.
        base: Lsn,
    },
    /// The header names another predecessor than the segment that stands before it.
    #[error("the header does not continue the segment before it")]
    Unlinked,
    /// The file ends, or only zeros follow, before the last record that was acknowledged.
    #[error("the segment ends too early")]
    EndsEarly,
    /// The last entry of a segment is valid and not the one that the next segment's header names.
    #[error("its last entry is not the one that the next segment names")]
    LastEntryDiffers,
    /// A segment ends inside a batch.
    #[error("the segment ends inside a batch")]
    BatchCut,
    /// A transaction is committed, and has not as many entries as its commit says, though none of them was given up.
    #[error("it commits a transaction that is not complete")]
    TransactionIncomplete,
    /// The seal that must end the segment is missing, damaged or says something else than the segment.
    #[error("the seal is missing or damaged")]
    Seal,
    /// A packed segment is not what was written. The damage's offset is that in the segment as it was before.
    #[error("the packed file is damaged at its offset {at}: {what}")]
    Packed {
        /// Where in the packed file.
        at: u64,
        /// What is wrong there.
        what: PackedFault,
    },
}

/// What is wrong with a part of a packed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PackedFault {
    /// An entry of the packed file is not one.
    #[error("no valid entry: {0}")]
    Entry(DecodeError),
    /// A frame cannot be unpacked, or has another length then.
    #[error("the frame does not unpack")]
    Frame,
}

/// Why a file with a name of the log's is none of this log's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ForeignFile {
    /// It does not begin as a file of that name does.
    #[error("it begins with {found:02x?}")]
    Magic {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// It belongs to another log.
    #[error("its log id is {found}, the first segment's is {expected}")]
    LogId {
        /// The id in its header.
        found: LogId,
        /// The id of the log.
        expected: LogId,
    },
    /// A backup was asked for into a directory that holds something else.
    #[error("the directory holds other files than a backup")]
    NotABackup,
    /// A backup was asked for into the directory of the log itself.
    #[error("it is the log itself: a backup goes into a directory of its own")]
    Itself,
    /// A fork was asked for into a directory that holds something.
    #[error("a fork goes into an empty directory, or one that is not there yet")]
    NotEmpty,
    /// A backup was opened for writing and went on as a log of its own, or a repair has given a segment of the log another
    /// header since.
    #[error(
        "it is not the log's own: the backup was written to, or the log's segment was repaired since; back up into another \
         directory"
    )]
    Diverged,
    /// A backup has records that the log gave up in a repair: nothing is to take their place there.
    #[error(
        "it has records that the log gave up in a repair since: keep the backup, and back up into another directory"
    )]
    BeforeRepair,
    /// It is a directory or another thing without bytes.
    #[error("it is not a regular file")]
    NotAFile,
}
