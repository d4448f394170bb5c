//! Opening a log for writing: list, check, scan, judge, repair, hand over.

use std::sync::Arc;
use std::time::Duration;

use braidlog_format::{Incarnation, LogId, LogTail, Lsn};
use braidlog_storage::LogDir;

use crate::RecoveryError;

/// A log that is ready to be written on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What the engine begins with.
    pub tail: LogTail,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// What opening a log for writing found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The log's identity.
    pub log_id: LogId,
    /// The incarnation that is about to write.
    pub incarnation: Incarnation,
    /// Segment files with a header.
    pub segments: usize,
    /// The first LSN of the log.
    pub first_lsn: Lsn,
    /// The last LSN of the log, [`Lsn::ZERO`] if it holds none.
    pub last_lsn: Lsn,
    /// How the last segment ended.
    pub tail: TailState,
    /// Names of segments whose seal should be there and is missing, torn or damaged. No record is lost by it.
    pub damaged_seals: Vec<String>,
    /// Names of left-over prepared files that were removed.
    pub removed_prepared: Vec<String>,
    /// Names that mean nothing here and were left alone.
    pub ignored: Vec<String>,
    /// Bytes of entries that were read and checked.
    pub scanned_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// How the last segment of a log ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TailState {
    /// There was no segment: the log begins.
    NewLog,
    /// With a synced seal: the log was closed.
    Sealed,
    /// With a whole batch, and nothing but zeros behind it.
    Unsealed,
    /// With bytes that were never acknowledged. They were cut.
    Torn {
        /// Name of the segment.
        segment: String,
        /// Where it was cut: the end of its last whole batch.
        offset: u64,
        /// Bytes that were cut, trailing zeros not counted.
        cut_bytes: u64,
        /// Name of the file that keeps them (the first 16 MiB at most); `None` if there was no space.
        kept_as: Option<String>,
    },
}

/// Makes the log in `dir` ready for writing. The caller holds the directory's lock.
///
/// `new_log_id` is the identity of the log if it begins here; an existing log keeps its own.
///
/// # Errors
/// [`RecoveryError::Damaged`], [`RecoveryError::Newer`] and [`RecoveryError::Foreign`] leave every file as
/// it was. [`RecoveryError::Io`] may come at any step; what was done until then is done again, or found
/// done, by the next call.
pub fn recover(dir: &Arc<dyn LogDir>, new_log_id: LogId) -> Result<Recovered, RecoveryError> {
    let _ = new_log_id;
    Err(RecoveryError::io("open", dir.path().display().to_string())(std::io::ErrorKind::Unsupported.into()))
}
