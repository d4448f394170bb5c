//! A record as a reader gives it: lent from a buffer, or with bytes of its own.
//!
//! The rule: what is given was proved by its checksum, and says where in the log it stands and where it takes effect.

use braidlog_format::{EntryHeader, FieldsRef, Flags, Kind, Lsn, RecordFields};

/// A record that lies in the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// The record's place in the log.
    pub lsn: Lsn,
    /// The place in the log at which it takes effect: its own, but for a record of a transaction whose records went to the log one
    /// by one, which takes effect with its commit. It never decreases from record to record, and who has applied every record up
    /// to one of these places goes on behind it. In the log's history it is the record's own place.
    pub effective_at: Lsn,
    /// When its round was written, in nanoseconds since the Unix epoch; never decreases with the LSN.
    pub timestamp_ns: u64,
    /// What its writer called it.
    pub kind: Kind,
    /// Whether the next record belongs to the same batch, or takes effect with the same transaction.
    pub batch_continues: bool,
    /// What it carries beside its payload: nothing, in a plain record.
    pub fields: FieldsRef<'a>,
    /// Its bytes, proved by their checksum.
    pub payload: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// The record of an entry with this header.
    #[inline]
    pub(crate) fn new(header: &EntryHeader, fields: FieldsRef<'a>, payload: &'a [u8]) -> RecordRef<'a> {
        RecordRef {
            lsn: header.lsn,
            effective_at: header.lsn,
            timestamp_ns: header.timestamp_ns,
            kind: header.kind,
            batch_continues: header.flags.contains(Flags::BATCH_CONTINUES),
            fields,
            payload,
        }
    }

    /// The record with bytes of its own.
    pub fn to_owned(&self) -> Record {
        let RecordRef { lsn, effective_at, timestamp_ns, kind, batch_continues, fields, payload } = *self;
        let (fields, payload) = (fields.to_owned(), payload.to_vec());
        Record { lsn, effective_at, timestamp_ns, kind, batch_continues, fields, payload }
    }
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// As [`RecordRef::lsn`].
    pub lsn: Lsn,
    /// As [`RecordRef::effective_at`].
    pub effective_at: Lsn,
    /// As [`RecordRef::timestamp_ns`].
    pub timestamp_ns: u64,
    /// As [`RecordRef::kind`].
    pub kind: Kind,
    /// As [`RecordRef::batch_continues`].
    pub batch_continues: bool,
    /// As [`RecordRef::fields`].
    pub fields: RecordFields,
    /// As [`RecordRef::payload`].
    pub payload: Vec<u8>,
}
