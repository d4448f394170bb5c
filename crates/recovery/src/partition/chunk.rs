//! Records that are handed from the thread that reads to one that applies, copied into one piece of memory.
//!
//! The rule: a chunk's memory is made once and used again; it never grows but for a record that is larger than the chunk,
//! and is made small again after that.

use braidlog_format::{FieldsRef, Kind, Lsn};

use crate::RecordRef;

/// Bytes of payloads for each record that a chunk has room for; with smaller ones it is full earlier.
const BYTES_PER_RECORD: usize = 64;

/// Records in the order in which they take effect.
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
    /// How many records were read before it.
    order: u64,
    lsn: Lsn,
    effective_at: Lsn,
    timestamp_ns: u64,
    /// Where its payload ends.
    end: usize,
    /// The partition; `None` for all.
    partition: Option<u32>,
    /// Bytes of its fields, before its payload: never more than a `u16` says.
    fields_len: u16,
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

    /// Copies a record, for which there is room or memory is made. `order` records were read before it.
    #[inline]
    pub(super) fn push(&mut self, order: u64, partition: Option<usize>, record: &RecordRef<'_>) {
        let RecordRef { lsn, effective_at, timestamp_ns, kind, batch_continues, fields, payload } = *record;
        self.bytes.extend_from_slice(fields.as_bytes());
        self.bytes.extend_from_slice(payload);
        let partition = partition.map(|partition| u32::try_from(partition).unwrap_or(u32::MAX));
        let (end, fields_len) = (self.bytes.len(), fields.as_bytes().len() as u16);
        self.heads.push(Head {
            order,
            lsn,
            effective_at,
            timestamp_ns,
            end,
            partition,
            fields_len,
            kind,
            batch_continues,
        });
    }

    /// Where the first record takes effect.
    pub(super) fn first(&self) -> Option<Lsn> {
        self.heads.first().map(|head| head.effective_at)
    }

    /// The records, each with how many were read before it and its partition; `None` for all.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Option<usize>, RecordRef<'_>)> {
        let mut from = 0;
        self.heads.iter().map(move |head| {
            let &Head { lsn, effective_at, timestamp_ns, end, kind, batch_continues, .. } = head;
            let bytes = self.bytes.get(from..end).unwrap_or(&[]);
            let (fields, payload) = bytes.split_at_checked(usize::from(head.fields_len)).unwrap_or_default();
            let fields = FieldsRef::of_bytes(fields);
            from = end;
            let partition = head.partition.map(|partition| partition as usize);
            let record =
                RecordRef { lsn, effective_at, timestamp_ns, kind, batch_continues, fields, payload };
            (head.order, partition, record)
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
