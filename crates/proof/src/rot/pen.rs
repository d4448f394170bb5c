//! A segment written by hand with the public encoders, and the map of what was written where.
//!
//! The rule: the map comes from the writing. Nothing is decoded, so that no mistake of a decoder can hide in it.

use std::ops::Range;

use braidlog_format::{
    BLOCK_LEN, ENTRY_HEADER_LEN, EntryHeader, Flags, IndexPoint, Kind, Lsn, PadLen, Predecessor,
    SEGMENT_HEADER_LEN, Seal, SegmentHeader, SegmentName, SyncMark, pad_len,
};

use super::log::{Record, Segment};

/// One entry and the bytes that it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) bytes: Range<u64>,
    pub(super) role: Role,
    /// The LSN that the entry takes, or names as the next one.
    pub(super) lsn: u64,
}

/// What an entry is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Says that all before `synced` was synced, and all up to `durable` durable.
    Mark { durable: u64, synced: u64 },
    /// Takes an LSN.
    Record { batch_continues: bool },
    /// Fills a round.
    Pad,
    /// Of a kind that nobody knows and anybody may skip.
    Ignorable,
    /// Ends the segment and vouches for all before.
    Seal,
}

impl Span {
    /// The next LSN behind the entry.
    pub(super) fn next_lsn(&self) -> u64 {
        self.lsn + u64::from(matches!(self.role, Role::Record { .. }))
    }

    /// The bytes of its header.
    pub(super) fn header(&self) -> Range<u64> {
        self.bytes.start..self.bytes.start + ENTRY_HEADER_LEN
    }
}

/// A segment that is being written.
pub(super) struct Pen {
    header: SegmentHeader,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    records: Vec<Record>,
    next: Lsn,
    timestamp_ns: u64,
    last: Option<(u64, u32)>,
    index: Vec<IndexPoint>,
}

impl Pen {
    /// Begins a segment.
    pub(super) fn new(header: SegmentHeader) -> Pen {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        Pen {
            bytes: block.to_vec(),
            spans: Vec::new(),
            records: Vec::new(),
            next: header.base,
            timestamp_ns: header.created_at_ns,
            last: None,
            index: Vec::new(),
            header,
        }
    }

    /// Where the next entry will stand.
    pub(super) fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What is written by now.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a round.
    pub(super) fn round(&mut self, durable: u64, synced: u64) -> &mut Pen {
        assert!(self.offset().is_multiple_of(BLOCK_LEN), "a round starts on a block boundary");
        self.timestamp_ns += 1000;
        let mark = SyncMark { durable_lsn: Lsn(durable), synced_offset: synced };
        self.entry(Kind::SYNC_MARK, Flags::NONE, &mark.encode(), Role::Mark { durable, synced });
        self
    }

    /// Writes a record that is a batch of its own.
    pub(super) fn record(&mut self, kind: u8, payload: &[u8]) -> &mut Pen {
        self.member(kind, payload, false)
    }

    /// Writes a record whose batch goes on.
    pub(super) fn opening(&mut self, kind: u8, payload: &[u8]) -> &mut Pen {
        self.member(kind, payload, true)
    }

    fn member(&mut self, kind: u8, payload: &[u8], batch_continues: bool) -> &mut Pen {
        let flags = if batch_continues { Flags::BATCH_CONTINUES } else { Flags::NONE };
        self.records.push(Record { kind, payload: payload.to_vec(), batch_continues });
        self.entry(Kind(kind), flags, payload, Role::Record { batch_continues });
        self
    }

    /// Writes an entry of a kind that no version knows, and that may be skipped.
    pub(super) fn ignorable(&mut self, payload: &[u8]) -> &mut Pen {
        self.entry(Kind(253), Flags::IGNORABLE, payload, Role::Ignorable);
        self
    }

    /// Ends a round.
    pub(super) fn pad(&mut self) -> &mut Pen {
        if let PadLen::Payload(len) = pad_len(self.offset()) {
            self.entry(Kind::PAD, Flags::NONE, &vec![0; len as usize], Role::Pad);
        }
        self
    }

    /// A payload length with which the next record ends at `end`.
    pub(super) fn len_to(&self, end: u64) -> usize {
        (end - self.offset() - ENTRY_HEADER_LEN) as usize
    }

    /// Ends the segment with a seal.
    pub(super) fn seal(&mut self) -> &mut Pen {
        let (last_timestamp_ns, last_checksum) = self.last.expect("a sealed segment holds a record");
        let index: Vec<_> = self.index.iter().copied().step_by(2).collect();
        let seal = Seal {
            count: self.next.0 - self.header.base.0,
            last_lsn: self.next.prev(),
            last_timestamp_ns,
            last_checksum,
            in_doubt: &[],
            index: &index,
        };
        let mut payload = vec![0; seal.payload_len() as usize];
        seal.encode(&mut payload);
        self.entry(Kind::SEAL, Flags::NONE, &payload, Role::Seal);
        self
    }

    fn entry(&mut self, kind: Kind, flags: Flags, payload: &[u8], role: Role) {
        let offset = self.offset();
        let header = EntryHeader::for_payload(self.next, self.timestamp_ns, kind, flags, payload);
        let head = header.encode(self.header.salt, offset);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize((offset + header.entry_len()) as usize, 0);
        self.spans.push(Span { bytes: offset..self.offset(), role, lsn: self.next.0 });
        if kind.takes_lsn() {
            self.last = Some((self.timestamp_ns, EntryHeader::stored_checksum(&head)));
            self.index.push(IndexPoint { lsn: self.next, offset });
            self.next = self.next.next();
        }
    }

    /// The header of the segment behind this one.
    pub(super) fn successor(&self, salt: u32, sealed: bool) -> SegmentHeader {
        let (last_timestamp_ns, last_checksum) =
            self.last.expect("a segment that is followed holds a record");
        SegmentHeader {
            incarnation: braidlog_format::Incarnation(self.header.incarnation.0 + u64::from(!sealed)),
            salt: braidlog_format::Salt(salt),
            base: self.next,
            predecessor: Some(Predecessor {
                base: self.header.base,
                last: self.next.prev(),
                last_timestamp_ns,
                last_checksum,
                sealed,
            }),
            created_at_ns: self.timestamp_ns + 500,
            ..self.header
        }
    }

    /// The finished file. Behind what was written it holds `rest`; `before` is what the file held in an earlier
    /// life. The records go to `records`.
    pub(super) fn finish(self, rest: &[u8], before: Vec<u8>, records: &mut Vec<Record>) -> Segment {
        records.extend(self.records);
        let written = self.bytes.len();
        let mut bytes = self.bytes;
        bytes.extend_from_slice(rest);
        let mut before = before;
        before.resize(bytes.len(), 0);
        let predecessor = self.header.predecessor.map(|named| named.base.0);
        Segment {
            name: SegmentName(self.header.base).to_string(),
            base: self.header.base.0,
            last: self.next.0 - 1,
            predecessor,
            follows_sealed: self.header.predecessor.is_some_and(|named| named.sealed),
            spans: self.spans,
            written: written as u64,
            bytes,
            before,
        }
    }
}
