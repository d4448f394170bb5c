//! Records as they become visible, without an end: a place in the log that goes on where it stopped.
//!
//! The rule: nothing is shown but what the caller says is durable, and what was shown is never read again. The file that
//! was read last stays open, so that going on costs one read; and it stays pinned, so that no truncation by this
//! process takes it.

use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::LogDir;

use crate::index::Indexes;
use crate::pins::Pin;
use crate::scan::Found;
use crate::{Loss, RecordRef, Records, RecoveryError};

/// A place in a log, from which records are read as far as they are shown. Made by
/// [`LogReader::follow`](crate::LogReader::follow).
#[derive(Debug)]
pub struct Follower {
    records: Records,
}

/// Where [`Follower::find_next`] found a record.
#[derive(Debug)]
pub struct NextRecord(Found);

impl Follower {
    pub(crate) fn new(dir: Arc<dyn LogDir>, indexes: Arc<Indexes>, from: Lsn, pin: Pin) -> Follower {
        Follower { records: Records::following(&dir, &indexes, from, pin) }
    }

    /// Gives only the records of the stream with this number.
    #[must_use]
    pub fn of_stream(self, id: u64) -> Follower {
        Follower { records: self.records.of_stream(id) }
    }

    /// Where another follower goes on: behind the last LSN up to which every effect was given.
    pub fn next_lsn(&self) -> Lsn {
        self.records.applied_to().next()
    }

    /// LSNs that were given up, as far as this has come: no record has them, and they were passed over.
    pub fn losses(&self) -> &[Loss] {
        self.records.losses()
    }

    /// Shows the records up to `to`: the last of them is durable, and ends its batch.
    ///
    /// # Errors
    /// [`RecoveryError::Io`] from the system.
    pub fn show(&mut self, to: Lsn) -> Result<(), RecoveryError> {
        if to > self.records.last_lsn() { self.records.show(to) } else { Ok(()) }
    }

    /// Goes to the next record; `None` if there is none that may be shown: the last ones before the end may have been given
    /// up ([`Loss`]). After an error too.
    ///
    /// # Errors
    /// As [`Records::next_ref`].
    #[inline]
    pub fn find_next(&mut self) -> Result<Option<NextRecord>, RecoveryError> {
        Ok(self.records.find_next()?.map(NextRecord))
    }

    /// The record that was found last, in this reader's buffer.
    #[inline]
    pub fn lend(&self, NextRecord(found): &NextRecord) -> RecordRef<'_> {
        self.records.lend(found)
    }
}
