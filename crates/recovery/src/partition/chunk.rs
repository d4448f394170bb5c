//! Records that are handed from the thread that reads to one that applies, copied into one piece of memory.
//!
//! The rule: a chunk's memory is made once and used again; it never grows but for a record that is larger than the chunk,
//! and is made small again after that.

use braidlog_format::{FieldsRef, Kind, Lsn};

use crate::RecordRef;

/// Bytes of payloads for each record that a chunk has room for; with smaller ones it is full earlier.
const BYTES_PER_RECORD: usize = 64;

/// Records in LSN order.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Bytes of payloads for which there is room.
    len: usize,
    heads: Vec<Head>,
    /// Their fields and payloads, one behind the other.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Head {
    lsn: Lsn,
    timestamp_ns: u64,
    /// Where its fields end, and its payload begins.
    fields_end: usize,
    /// Where its payload ends.
    end: usize,
    /// The partition; `None` for all.
    partition: Option<u32>,
    kind: Kind,
    batch_continues: bool,
}

impl Chunk {
    /// With room for payloads of `len` bytes.
    pub(super) fn new(len: usize) -> Chunk {
        Chunk { len, heads: Vec::with_capacity(records_in(len)), bytes: Vec::with_capacity(len) }
    }

    /// The memory of a chunk with room for payloads of `len` bytes.
    pub(super) const fn memory_len(len: usize) -> usize {
        len + records_in(len) * size_of::<Head>()
    }

    /// Whether there is room for a record with a payload, fields included, of `len` bytes.
    #[inline]
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.heads.len() < records_in(self.len) && self.bytes.len().saturating_add(len) <= self.len
    }

    /// Copies a record, for which there is room or memory is made.
    #[inline]
    pub(super) fn push(&mut self, partition: Option<usize>, record: &RecordRef<'_>) {
        let RecordRef { lsn, timestamp_ns, kind, batch_continues, fields, payload } = *record;
        self.bytes.extend_from_slice(fields.as_bytes());
        let fields_end = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let partition = partition.map(|partition| u32::try_from(partition).unwrap_or(u32::MAX));
        let end = self.bytes.len();
        self.heads.push(Head { lsn, timestamp_ns, fields_end, end, partition, kind, batch_continues });
    }

    /// The first record's LSN.
    pub(super) fn first(&self) -> Option<Lsn> {
        self.heads.first().map(|head| head.lsn)
    }

    /// The records, each with its partition; `None` for all.
    pub(super) fn records(&self) -> impl Iterator<Item = (Option<usize>, RecordRef<'_>)> {
        let mut from = 0;
        self.heads.iter().map(move |head| {
            let &Head { lsn, timestamp_ns, fields_end, end, partition, kind, batch_continues } = head;
            let fields = FieldsRef::of_bytes(self.bytes.get(from..fields_end).unwrap_or(&[]));
            let payload = self.bytes.get(fields_end..end).unwrap_or(&[]);
            from = end;
            let partition = partition.map(|partition| partition as usize);
            (partition, RecordRef { lsn, timestamp_ns, kind, batch_continues, fields, payload })
        })
    }

    /// Makes it empty; whether it had grown for a record that was larger.
    pub(super) fn clear(&mut self) -> bool {
        let had_grown = self.bytes.len() > self.len;
        self.heads.clear();
        if had_grown {
            self.bytes = Vec::with_capacity(self.len);
        } else {
            self.bytes.clear();
        }
        had_grown
    }
}

/// Records that a chunk has room for.
const fn records_in(len: usize) -> usize {
    let records = len / BYTES_PER_RECORD;
    if records == 0 { 1 } else { records }
}
