//! Verifying a log: everything is read, nothing is changed, every damaged place is told.

use std::fmt;
use std::sync::Arc;

use braidlog_format::{Lsn, LsnRange};
use braidlog_storage::LogDir;

use crate::{DamageCause, RecoveryError};

/// How far a verification has come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Name of the segment that is being read.
    pub segment: String,
    /// Segments that are done.
    pub segments_done: usize,
    /// Segments in all.
    pub segments_total: usize,
    /// Bytes read until now.
    pub bytes_done: u64,
    /// Bytes of all segments, space allocated ahead included; more than will be read.
    pub bytes_total: u64,
    /// Valid records until now.
    pub records: u64,
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments of the log.
    pub segments: usize,
    /// Valid records.
    pub records: u64,
    /// Whole batches; a record on its own is a batch of one.
    pub batches: u64,
    /// Bytes of entries that were read and checked.
    pub bytes: u64,
    /// The first LSN of the log.
    pub first_lsn: Lsn,
    /// The last LSN of a whole batch that was found valid, [`Lsn::ZERO`] if there is none.
    pub last_lsn: Lsn,
    /// Whether a writer held the log.
    pub live: bool,
    /// How the log ends.
    pub tail: VerifyTail,
    /// Every damaged place.
    pub problems: Vec<Problem>,
    /// What is lawful and worth knowing.
    pub warnings: Vec<Warning>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How a verified log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VerifyTail {
    /// There is no segment.
    Empty,
    /// A seal ends it.
    Sealed,
    /// A whole batch ends it, and nothing but zeros follows.
    Unsealed,
    /// Bytes follow that were never acknowledged; opening for writing will cut them.
    Torn,
    /// A writer is at work there.
    Live,
    /// The last segment is damaged, so that nobody knows.
    Damaged,
}

/// One damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Name of the segment file.
    pub segment: String,
    /// The file offset of the first byte that is not what it should be.
    pub offset: u64,
    /// The LSNs that cannot be had because of it; empty if no record is known to be lost.
    pub lsns: LsnRange,
    /// What is wrong there.
    pub what: DamageCause,
}

/// Something lawful that is worth knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The last segment ends with bytes that were never acknowledged; opening for writing cuts them.
    TornTail {
        /// Name of the segment.
        segment: String,
        /// Where the last whole batch ends.
        offset: u64,
        /// Bytes behind it, trailing zeros not counted.
        bytes: u64,
    },
    /// A name that means nothing here.
    UnknownFile {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::TornTail { segment, offset, bytes } => {
                write!(f, "{segment} has {bytes} bytes behind offset {offset} that were never acknowledged")
            }
            Warning::UnknownFile { name } => write!(f, "{name} is no file of the log"),
        }
    }
}

/// Reads the whole log and checks every byte that means something. It never writes.
///
/// `progress` is called about once for each MiB.
///
/// # Errors
/// [`RecoveryError::Newer`], [`RecoveryError::Foreign`] and [`RecoveryError::Io`]: what keeps the log from
/// being read at all. Damage is in the report.
pub fn verify(
    dir: &Arc<dyn LogDir>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let _ = progress;
    Err(RecoveryError::io("open", dir.path().display().to_string())(std::io::ErrorKind::Unsupported.into()))
}
