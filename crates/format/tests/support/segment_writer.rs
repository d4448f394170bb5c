//! Whole segments in memory, made by the crate's encoders as the engine makes them: header, rounds, seal.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use braidlog_format::{
    BLOCK_LEN, EntryHeader, Flags, IndexPoint, Kind, Lsn, PadLen, Predecessor, SEGMENT_HEADER_LEN, Seal,
    SegmentHeader, SyncMark, pad_len,
};

/// A segment that grows.
pub struct SegmentWriter {
    pub bytes: Vec<u8>,
    header: SegmentHeader,
    /// The timestamp of what is written next.
    pub timestamp_ns: u64,
    pub next: Lsn,
    last: Option<Last>,
}

/// The last entry that took an LSN.
#[derive(Clone, Copy)]
struct Last {
    lsn: Lsn,
    timestamp_ns: u64,
    checksum: u32,
}

impl SegmentWriter {
    pub fn new(header: SegmentHeader) -> SegmentWriter {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        let timestamp_ns = header.created_at_ns;
        SegmentWriter { bytes: block.to_vec(), header, timestamp_ns, next: header.base, last: None }
    }

    pub fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Writes an entry, and gives its offset.
    pub fn entry(&mut self, kind: Kind, flags: Flags, payload: &[u8]) -> u64 {
        let offset = self.offset();
        let header = EntryHeader::for_payload(self.next, self.timestamp_ns, kind, flags, payload);
        let head = header.encode(self.header.salt, offset);
        if kind.takes_lsn() {
            let checksum = EntryHeader::stored_checksum(&head);
            self.last = Some(Last { lsn: self.next, timestamp_ns: self.timestamp_ns, checksum });
            self.next = self.next.next();
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize((offset + header.entry_len()) as usize, 0);
        offset
    }

    /// Begins a round with a sync mark.
    pub fn begin_round(&mut self, durable_lsn: Lsn, synced_offset: u64) {
        assert!(self.offset().is_multiple_of(BLOCK_LEN), "a round starts on a block boundary");
        let mark = SyncMark { durable_lsn, synced_offset };
        self.entry(Kind::SYNC_MARK, Flags::NONE, &mark.encode());
    }

    /// Ends a round with a pad.
    pub fn end_round(&mut self) {
        if let PadLen::Payload(len) = pad_len(self.offset()) {
            self.entry(Kind::PAD, Flags::NONE, &vec![0; len as usize]);
        }
    }

    /// Ends the segment with a seal.
    pub fn seal(&mut self, in_doubt: &[u64], index: &[IndexPoint]) {
        let last_lsn = self.next.prev();
        let seal = Seal {
            count: self.next.0 - self.header.base.0,
            last_lsn,
            last_timestamp_ns: self.last.map_or(self.timestamp_ns, |last| last.timestamp_ns),
            last_checksum: self.last.map_or(0, |last| last.checksum),
            in_doubt,
            index,
        };
        let mut payload = vec![0; seal.payload_len() as usize];
        seal.encode(&mut payload);
        self.entry(Kind::SEAL, Flags::NONE, &payload);
    }

    /// As the header of the next segment names this one.
    pub fn as_predecessor(&self, sealed: bool) -> Predecessor {
        let last = self.last.expect("a segment that is followed holds an LSN");
        Predecessor {
            base: self.header.base,
            last: last.lsn,
            last_timestamp_ns: last.timestamp_ns,
            last_checksum: last.checksum,
            sealed,
        }
    }
}
