//! Segments that are written anew: records in LSN order, with the timestamps, kinds and flags that they have, and
//! recorded losses in the place of those that are gone.
//!
//! The rule: what is written here is a segment like any other. Rounds begin with marks that name only what was
//! synced, end between batches, and a seal ends the file; no reader needs to know that the log did not write it in its
//! life. It is written under a name that an opening removes, and is durable before it can get another.

use std::sync::Arc;

use braidlog_format::{
    BLOCK_LEN, ENTRY_HEADER_LEN, EntryHeader, Flags, INDEX_POINTS_MAX, IndexPoint, Kind, Lsn, PadLen,
    Predecessor, SEGMENT_HEADER_LEN, Seal, SegmentHeader, SyncMark, pad_len,
};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, write_all_at};

use crate::in_doubt::Undecided;
use crate::scan::LastEntry;
use crate::{Loss, RecoveryError};

/// Bytes after which a round ends: a reader that looks for where to go on behind damage finds a mark that often.
const ROUND_LEN: u64 = 64 << 10;
/// Bytes that are written at once.
const WRITE_LEN: usize = 1 << 20;
/// Bytes between two syncs, so that the marks have something to say.
const SYNC_LEN: u64 = 16 << 20;
/// Bytes of entries between two points of the sparse index, before it is thinned out.
const INDEX_STEP: u64 = 64 << 10;

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    /// `None` to measure only.
    file: Option<Arc<dyn LogFile>>,
    name: String,
    header: SegmentHeader,
    /// Bytes that are encoded and not written.
    buf: Vec<u8>,
    /// The file offset of the first of them.
    start: u64,
    next: Lsn,
    timestamp_ns: u64,
    last: Option<LastEntry>,
    batch_open: bool,
    /// Where the round that is open began.
    round: Option<u64>,
    synced_offset: u64,
    /// The last LSN before `synced_offset`.
    durable: Lsn,
    undecided: Undecided,
    index: Vec<IndexPoint>,
    index_step: u64,
    index_next: u64,
}

/// A segment that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrittenSegment {
    /// As the next segment's header names it; what it names itself, if it holds no LSN.
    pub predecessor: Option<Predecessor>,
    /// Where its last entry that takes an LSN stands; `None` if it has none, or ends with a loss.
    pub last_offset: Option<u64>,
    /// Bytes of the file.
    pub len: u64,
}

impl SegmentWriter {
    /// Begins a segment in a new file of this name. The name is one that an opening removes.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub fn create(
        dir: &Arc<dyn LogDir>,
        name: &str,
        header: SegmentHeader,
    ) -> Result<SegmentWriter, RecoveryError> {
        let file = dir
            .open(name, FileAccess::CreateNew, FileIo::Buffered)
            .map_err(RecoveryError::io("create", name))?;
        Ok(SegmentWriter::new(Some(file), name, header))
    }

    /// Writes nothing, and tells what the segment would be.
    pub fn measure(header: SegmentHeader) -> SegmentWriter {
        SegmentWriter::new(None, "", header)
    }

    fn new(file: Option<Arc<dyn LogFile>>, name: &str, header: SegmentHeader) -> SegmentWriter {
        let header = SegmentHeader { recycled: false, ..header };
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        SegmentWriter {
            file,
            name: name.to_owned(),
            buf: block.to_vec(),
            start: 0,
            next: header.base,
            timestamp_ns: header.predecessor.map_or(0, |named| named.last_timestamp_ns),
            last: None,
            batch_open: false,
            round: None,
            synced_offset: SEGMENT_HEADER_LEN,
            durable: header.base.prev(),
            undecided: Undecided::default(),
            index: Vec::new(),
            index_step: INDEX_STEP,
            index_next: 0,
            header,
        }
    }

    /// The LSN that the next record takes.
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Writes an entry that takes the next LSN. Of its flags those are kept that say how to read it.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub fn record(
        &mut self,
        timestamp_ns: u64,
        kind: Kind,
        flags: Flags,
        payload: &[u8],
    ) -> Result<(), RecoveryError> {
        debug_assert!(kind.takes_lsn(), "a record takes an LSN");
        self.begin_round();
        self.timestamp_ns = self.timestamp_ns.max(timestamp_ns);
        let (lsn, offset) = (self.next, self.offset());
        let checksum = self.put(kind, flags, payload);
        self.undecided.note(kind, flags, payload);
        self.note_index(lsn, offset);
        self.last = Some(LastEntry { lsn, offset, timestamp_ns: self.timestamp_ns, checksum, lost: false });
        self.next = lsn.next();
        self.batch_open = flags.contains(Flags::BATCH_CONTINUES);
        self.may_end_round()
    }

    /// Writes that LSNs from the next one on were given up. Never inside a batch.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub fn loss(&mut self, loss: &Loss) -> Result<(), RecoveryError> {
        debug_assert!(!self.batch_open && loss.lsns.first == self.next, "a loss stands between batches");
        self.begin_round();
        let (offset, entry) = (self.offset(), loss.entry());
        let payload = [&entry.encode(), loss.account.as_bytes()].concat();
        let checksum = self.put(Kind::LOSS, Flags::NONE, &payload);
        let (lsn, timestamp_ns) = (loss.lsns.last, self.timestamp_ns);
        self.last = Some(LastEntry { lsn, offset, timestamp_ns, checksum, lost: true });
        self.next = lsn.next();
        self.may_end_round()
    }

    /// Seals the segment and makes the file durable. The header of the segment behind it, where there is one, may
    /// name a last entry that was lost: then the seal names that one too. `in_doubt` is what the seal says of transactions, if
    /// that is known better than from the header and the records of this segment.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub fn finish(
        mut self,
        in_doubt: Option<&[u64]>,
        named: Option<&Predecessor>,
    ) -> Result<WrittenSegment, RecoveryError> {
        debug_assert!(!self.batch_open, "a batch lies in one segment");
        self.end_round()?;
        // A seal vouches for synced bytes.
        self.sync()?;
        let last = self.last.map(|last| match named.filter(|named| last.lost && named.last == last.lsn) {
            Some(named) => {
                LastEntry { timestamp_ns: named.last_timestamp_ns, checksum: named.last_checksum, ..last }
            }
            None => last,
        });
        let last_lsn = self.next.prev();
        let by_records = self.undecided.list(&self.header);
        let seal = Seal {
            count: self.next.0.saturating_sub(self.header.base.0),
            last_lsn,
            last_timestamp_ns: last.map_or(self.timestamp_ns, |last| last.timestamp_ns),
            last_checksum: last.map_or(0, |last| last.checksum),
            in_doubt: in_doubt.unwrap_or(&by_records),
            index: &self.index,
        };
        let mut payload = vec![0; usize::try_from(seal.payload_len()).unwrap_or(0)];
        seal.encode(&mut payload);
        self.put(Kind::SEAL, Flags::NONE, &payload);
        self.write()?;
        let file = self.file.as_ref();
        #[cfg(braidlog_sabotage)]
        let file = file.filter(|_| !braidlog_sabotage::is("rewritten_segment_not_synced"));
        if let Some(file) = file {
            file.sync_all().map_err(RecoveryError::io("sync", self.name.as_str()))?;
        }
        let predecessor = last.map(|last| Predecessor {
            base: self.header.base,
            last: last.lsn,
            last_timestamp_ns: last.timestamp_ns,
            last_checksum: last.checksum,
            sealed: true,
        });
        Ok(WrittenSegment {
            predecessor: predecessor.or(self.header.predecessor),
            last_offset: last.filter(|last| !last.lost).map(|last| last.offset),
            len: self.start,
        })
    }

    /// The file offset of the next byte.
    fn offset(&self) -> u64 {
        self.start.saturating_add(self.buf.len() as u64)
    }

    /// Encodes an entry; its header checksum.
    fn put(&mut self, kind: Kind, flags: Flags, payload: &[u8]) -> u32 {
        let header = EntryHeader::for_payload(self.next, self.timestamp_ns, kind, flags, payload);
        let bytes = header.encode(self.header.salt, self.offset());
        self.buf.extend_from_slice(&bytes);
        self.buf.extend_from_slice(payload);
        let padding = header.entry_len() - ENTRY_HEADER_LEN - payload.len() as u64;
        self.buf.resize(self.buf.len() + padding as usize, 0);
        EntryHeader::stored_checksum(&bytes)
    }

    fn begin_round(&mut self) {
        if self.round.is_none() {
            self.round = Some(self.offset());
            let mark = SyncMark { durable_lsn: self.durable, synced_offset: self.synced_offset };
            self.put(Kind::SYNC_MARK, Flags::NONE, &mark.encode());
        }
    }

    /// Ends the round if it is long enough, and writes what has gathered. A long batch is written in pieces.
    fn may_end_round(&mut self) -> Result<(), RecoveryError> {
        let long = self.round.is_some_and(|round| self.offset() - round >= ROUND_LEN);
        if long && !self.batch_open {
            self.end_round()?;
        }
        if self.buf.len() >= WRITE_LEN {
            self.write()?;
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<(), RecoveryError> {
        if self.round.take().is_none() {
            return Ok(());
        }
        if let PadLen::Payload(len) = pad_len(self.offset()) {
            const ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];
            self.put(Kind::PAD, Flags::NONE, ZEROS.get(..len as usize).unwrap_or(&ZEROS));
        }
        if self.offset() - self.synced_offset >= SYNC_LEN {
            self.sync()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), RecoveryError> {
        if let Some(file) = &self.file {
            write_all_at(&**file, &self.buf, self.start)
                .map_err(RecoveryError::io("write", self.name.as_str()))?;
        }
        self.start = self.offset();
        self.buf.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        self.write()?;
        if let Some(file) = &self.file {
            file.sync_data().map_err(RecoveryError::io("sync", self.name.as_str()))?;
        }
        self.synced_offset = self.start;
        self.durable = self.next.prev();
        Ok(())
    }

    fn note_index(&mut self, lsn: Lsn, offset: u64) {
        if offset < self.index_next {
            return;
        }
        if self.index.len() == INDEX_POINTS_MAX {
            let mut keep = false;
            self.index.retain(|_| {
                keep = !keep;
                keep
            });
            self.index_step *= 2;
        }
        self.index.push(IndexPoint { lsn, offset });
        self.index_next = offset + self.index_step;
    }
}
