//! The first failure closes the log for good: it is remembered, and everybody gets the same one.
//!
//! # Invariant
//! Once a failure is set, nothing is acknowledged that was not durable before, and no file of this
//! incarnation is written or synced again.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::primitive::OnceLock;

/// What was being done when the log failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailedOperation {
    /// Writing records.
    Write,
    /// Syncing records.
    Sync,
    /// Ending a segment with its seal.
    Seal,
    /// Putting the next segment in place.
    NextSegment,
    /// Syncing the directory.
    SyncDirectory,
    /// A panic while records were being written; the storage's own, or a defect.
    Panic,
}

impl fmt::Display for FailedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailedOperation::Write => "writing",
            FailedOperation::Sync => "syncing",
            FailedOperation::Seal => "sealing",
            FailedOperation::NextSegment => "putting in place",
            FailedOperation::SyncDirectory => "syncing the directory for",
            FailedOperation::Panic => "a panic while writing",
        })
    }
}

/// The failure that closed the log.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was being done.
    pub operation: FailedOperation,
    /// The name of the file concerned.
    pub file: String,
    /// What the storage said.
    pub error: Arc<io::Error>,
}

impl Failure {
    pub(crate) fn new(operation: FailedOperation, file: &str, error: io::Error) -> Failure {
        Failure { operation, file: file.to_owned(), error: Arc::new(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed: {}", self.operation, self.file, self.error)
    }
}

/// Remembers the first failure.
#[derive(Debug, Default)]
pub(crate) struct FailureCell(OnceLock<Failure>);

impl FailureCell {
    pub(crate) fn get(&self) -> Option<&Failure> {
        self.0.get()
    }

    /// Sets the failure; says whether it is the first.
    pub(crate) fn set(&self, failure: Failure) -> bool {
        self.0.set(failure).is_ok()
    }
}
