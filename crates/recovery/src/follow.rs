//! Records as they become visible, without an end: a place in the log that goes on where it stopped.
//!
//! The rule: nothing is shown but what the caller says is durable, and what was shown is never read again. The file that
//! was read last stays open, so that going on costs one read; and it stays pinned, so that no truncation by this
//! process takes it.

use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::LogDir;

use crate::pins::Pin;
use crate::{RecordRef, Records, RecoveryError};

/// A place in a log, from which records are read as far as they are shown. Made by
/// [`LogReader::follow`](crate::LogReader::follow).
#[derive(Debug)]
pub struct Follower {
    records: Records,
}

impl Follower {
    pub(crate) fn new(dir: Arc<dyn LogDir>, from: Lsn, pin: Pin) -> Follower {
        Follower { records: Records::following(dir, from, pin) }
    }

    /// The LSN of the next record.
    pub fn next_lsn(&self) -> Lsn {
        self.records.next_lsn()
    }

    /// Whether the next record may be shown.
    pub fn has_next(&self) -> bool {
        self.records.next_lsn() <= self.records.last_lsn()
    }

    /// Shows the records up to `to`: the last of them is durable, and ends its batch.
    ///
    /// # Errors
    /// [`RecoveryError::Io`] from the system.
    pub fn show(&mut self, to: Lsn) -> Result<(), RecoveryError> {
        if to > self.records.last_lsn() { self.records.show(to) } else { Ok(()) }
    }

    /// The next record, in this reader's buffer; `None` if it may not be shown yet, and after an error.
    ///
    /// # Errors
    /// As [`Records::next_ref`].
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecoveryError>> {
        self.records.next_ref()
    }
}
