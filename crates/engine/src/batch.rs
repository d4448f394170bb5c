//! A batch being gathered: entries in their form on disk, so that committing it is one copy.

use std::cell::Cell;
use std::io::IoSlice;

use braidlog_format::checksum::{crc32, crc32_of_pieces};
use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, Flags, Kind, entry_len, padded_len};

use crate::error::EngineError;
use crate::stripe::EntryParts;

/// What each entry of a batch but the first counts against the limit beside its payload.
const ENTRY_OVERHEAD: u64 = 40;
/// The most memory that a thread keeps for its next batch.
const SPARE_MAX: usize = 64 << 10;

thread_local! {
    /// The memory of the last batch that this thread dropped: a thread that commits batch after batch grows it once.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How far a batch had come: where [`BatchBuf::go_back`] goes back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchPoint {
    body_len: usize,
    last: usize,
    count: u64,
    payload_bytes: u64,
}

/// The entries of an atomic batch.
#[derive(Clone, Debug)]
pub struct BatchBuf {
    body: Vec<u8>,
    /// Where the last entry's header begins.
    last: usize,
    count: u64,
    payload_bytes: u64,
    max_bytes: u64,
}

impl BatchBuf {
    /// An empty batch. Its payloads, and 40 bytes for each entry but the first, may come to `max_bytes`.
    pub fn new(max_bytes: u64) -> BatchBuf {
        let body = SPARE.try_with(Cell::take).unwrap_or_default();
        BatchBuf { body, last: 0, count: 0, payload_bytes: 0, max_bytes }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`EngineError::ReservedKind`] and [`EngineError::TooLarge`]; the batch is as it was before.
    pub fn push(&mut self, kind: Kind, payload: &[u8]) -> Result<(), EngineError> {
        check_kind(kind)?;
        self.push_parts(&EntryParts { kind, fields: &[], pieces: &[IoSlice::new(payload)] })
    }

    /// Adds an entry in pieces. Its kind may be one of the log's own.
    ///
    /// # Errors
    /// As [`BatchBuf::push`].
    pub fn push_parts(&mut self, parts: &EntryParts<'_>) -> Result<(), EngineError> {
        check_takes_lsn(parts.kind)?;
        let payload_bytes = self.payload_bytes + parts.proper_len();
        check_len(payload_bytes + ENTRY_OVERHEAD * self.count, self.max_bytes)?;
        let payload_len = check_payload_len(parts.payload_len())?;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("batch_not_bound") {
            self.last = self.body.len();
        }
        if let Some(previous) = self.body[self.last..].first_chunk_mut::<{ ENTRY_HEADER_LEN as usize }>() {
            EntryHeader::add_flags_unplaced(previous, Flags::BATCH_CONTINUES);
        }
        self.last = self.body.len();
        let checksum = crc32_of_pieces(parts.all());
        let header = EntryHeader::encode_unplaced(parts.kind, parts.flags(), payload_len, checksum);
        self.body.reserve(entry_len(u64::from(payload_len)) as usize);
        self.body.extend_from_slice(&header);
        parts.all().for_each(|piece| self.body.extend_from_slice(piece));
        let padding = padded_len(u64::from(payload_len)) - u64::from(payload_len);
        self.body.extend_from_slice(&[0; 8][..padding as usize]);
        self.count += 1;
        self.payload_bytes = payload_bytes;
        Ok(())
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all payloads.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// How far it has come.
    pub fn point(&self) -> BatchPoint {
        let BatchBuf { last, count, payload_bytes, .. } = *self;
        BatchPoint { body_len: self.body.len(), last, count, payload_bytes }
    }

    /// Forgets the entries behind a point that it has come by. One that it has gone back from since is none.
    pub fn go_back(&mut self, point: BatchPoint) {
        debug_assert!(
            point.body_len <= self.body.len() && point.count <= self.count,
            "a point before the end"
        );
        self.body.truncate(point.body_len);
        self.last = point.last;
        self.count = point.count;
        self.payload_bytes = point.payload_bytes;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("batch_goes_on_behind_its_end") {
            return;
        }
        if let Some(last) = self.body[self.last..].first_chunk_mut::<{ ENTRY_HEADER_LEN as usize }>() {
            EntryHeader::remove_flags_unplaced(last, Flags::BATCH_CONTINUES);
        }
    }

    /// The entries: the kind of each, and its payload with its fields.
    pub fn entries(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let mut rest = &self.body[..];
        std::iter::from_fn(move || {
            let (header, behind) = rest.split_first_chunk()?;
            let len = u64::from(EntryHeader::payload_len_unplaced(header));
            let (payload, next) = behind.split_at(padded_len(len) as usize);
            rest = next;
            Some((EntryHeader::kind_unplaced(header), &payload[..len as usize]))
        })
    }

    /// Gives the first entry another payload, of the length that it has, for what is known only when the others are there.
    ///
    /// # Panics
    /// If there is no entry, or its payload is shorter.
    pub fn rewrite_first(&mut self, payload: &[u8]) {
        self.rewrite(0, payload);
    }

    /// Gives the entry that was pushed at `point` other fields, of the length that they have, for what is known only when the
    /// batch is appended.
    ///
    /// # Panics
    /// If there is no entry, or it is shorter.
    pub fn rewrite_fields(&mut self, point: BatchPoint, fields: &[u8]) {
        self.rewrite(point.body_len, fields);
    }

    /// Lets the payload of the entry that stands `at` begin with these bytes.
    fn rewrite(&mut self, at: usize, begin: &[u8]) {
        let entry = self.body.get_mut(at..).and_then(<[u8]>::split_first_chunk_mut);
        let (header, rest) = entry.expect("there is an entry");
        let payload = &mut rest[..EntryHeader::payload_len_unplaced(header) as usize];
        payload[..begin.len()].copy_from_slice(begin);
        EntryHeader::set_payload_checksum_unplaced(header, crc32(payload));
    }

    /// Forgets the entries and keeps the memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.last = 0;
        self.count = 0;
        self.payload_bytes = 0;
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for BatchBuf {
    fn drop(&mut self) {
        self.body.clear();
        if self.body.capacity() <= SPARE_MAX {
            // A thread that ends has no place for it any more.
            let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.body)));
        }
    }
}

pub(crate) fn check_kind(kind: Kind) -> Result<(), EngineError> {
    if kind.is_user() { Ok(()) } else { Err(EngineError::ReservedKind { kind: kind.0 }) }
}

/// Whether an entry of this kind can be appended by those who build on the engine.
pub(crate) fn check_takes_lsn(kind: Kind) -> Result<(), EngineError> {
    if kind.takes_lsn() { Ok(()) } else { Err(EngineError::ReservedKind { kind: kind.0 }) }
}

/// The length of a payload with its fields, as a header has it.
pub(crate) fn check_payload_len(len: u64) -> Result<u32, EngineError> {
    let max = u64::from(u32::MAX);
    u32::try_from(len).map_err(|_| EngineError::TooLarge { len, max })
}

pub(crate) fn check_len(len: u64, max: u64) -> Result<(), EngineError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("limit_not_enforced") {
        return Ok(());
    }
    if len <= max { Ok(()) } else { Err(EngineError::TooLarge { len, max }) }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_the_memory_of_its_last_batch_and_nothing_of_its_entries() {
        let mut first = BatchBuf::new(1 << 20);
        first.push(Kind(1), &[7; 1000]).unwrap();
        let memory = first.body().as_ptr();
        drop(first);
        let mut next = BatchBuf::new(1 << 20);
        assert!(next.is_empty() && next.body().is_empty());
        next.push(Kind(2), b"x").unwrap();
        assert_eq!(next.body().as_ptr(), memory);
        assert_eq!(next.body().len() as u64, entry_len(1));
        assert!(next.body()[ENTRY_HEADER_LEN as usize + 1..].iter().all(|byte| *byte == 0), "padding");
    }

    #[test]
    fn a_batch_that_went_back_is_the_one_that_never_went_on() {
        let push = |batch: &mut BatchBuf, payloads: &[&[u8]]| {
            payloads.iter().for_each(|payload| batch.push(Kind(1), payload).unwrap());
        };
        for kept in 0..3 {
            let (mut straight, mut went_back) = (BatchBuf::new(1 << 20), BatchBuf::new(1 << 20));
            push(&mut straight, &[&b"one"[..], b"two"][..kept]);
            push(&mut went_back, &[&b"one"[..], b"two"][..kept]);
            let point = went_back.point();
            push(&mut went_back, &[b"three", b"four"]);
            went_back.go_back(point);
            assert_eq!(went_back.point(), straight.point());
            assert_eq!(went_back.body(), straight.body());
            push(&mut straight, &[b"five"]);
            push(&mut went_back, &[b"five"]);
            assert_eq!(went_back.body(), straight.body());
        }
    }

    #[test]
    fn the_first_entry_can_be_rewritten_when_the_others_are_there() {
        let (mut straight, mut rewritten) = (BatchBuf::new(1 << 20), BatchBuf::new(1 << 20));
        for (batch, first) in [(&mut straight, b"abc"), (&mut rewritten, b"xyz")] {
            batch.push(Kind(1), first).unwrap();
            batch.push(Kind(2), b"other").unwrap();
        }
        rewritten.rewrite_first(b"abc");
        assert_eq!(rewritten.body(), straight.body());
    }

    #[test]
    fn memory_of_a_large_batch_is_given_back() {
        let mut large = BatchBuf::new(1 << 20);
        large.push(Kind(1), &vec![7; 2 * SPARE_MAX]).unwrap();
        drop(large);
        assert!(BatchBuf::new(1 << 20).body.capacity() <= SPARE_MAX);
    }
}
