//! The segment under the pen: its file, where the pen stands, and what is synced.
//!
//! # Invariants
//! 1. A file gets its name in the log only after its header is durable: write, sync, rename, sync the
//!    directory.
//! 2. The pen only moves on. No byte before it is written again, so nothing relies on a device that
//!    overwrites a block atomically.
//! 3. A seal is written when everything before it is synced, and is synced itself before a successor
//!    exists: a torn tail can lie in the last segment only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::{
    ENTRY_HEADER_LEN, EntryHeader, Flags, Kind, Lsn, Predecessor, SEGMENT_HEADER_LEN, Salt, Seal,
    SegmentHeader, SegmentName,
};
use braidlog_storage::{AlignedBuf, write_all_at};

use crate::failure::{FailedOperation, Failure};
use crate::flight::Target;
use crate::live::LiveIndex;
use crate::preparer::Frontier;
use crate::settings::SyncMethod;
use crate::shared::Shared;
use crate::space::{Prepared, SEAL_RESERVE, room};

/// The last entry that took an LSN, as a seal and the successor's header name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LastEntry {
    pub(crate) lsn: Lsn,
    pub(crate) timestamp_ns: u64,
    pub(crate) checksum: u32,
}

/// The segment under the pen.
#[derive(Debug)]
pub(crate) struct Segment {
    target: Arc<Target>,
    base: Lsn,
    salt: Salt,
    /// Where the next round starts: a block boundary. Everything before is written, or in flight.
    offset: u64,
    /// Bytes before this offset are synced.
    synced_offset: u64,
    /// Bytes that have space on the device.
    allocated: u64,
    last: Option<LastEntry>,
    /// Where some entries stand.
    index: Arc<LiveIndex>,
    /// From here on the next point of the index is wanted.
    next_point: u64,
    frontier: Arc<Frontier>,
    /// When its first record was written, on the monotonic clock, or its age was last reset.
    first_written: Option<Duration>,
}

impl Segment {
    /// Turns a prepared file into the log's next segment.
    ///
    /// A refusal for lack of space is tried again: a directory may need a block for the name.
    ///
    /// # Errors
    /// The failure; nothing of it holds an LSN.
    pub(crate) fn begin(
        shared: &Shared,
        prepared: Prepared,
        header: &SegmentHeader,
        replace: bool,
    ) -> Result<Segment, Failure> {
        let Prepared { name: prepared_name, file, capacity, earlier } = prepared;
        let written = earlier.map_or(0, |earlier| earlier.len);
        let name = SegmentName(header.base).to_string();
        let failed = |error| Failure::new(FailedOperation::NextSegment, &name, error);
        #[cfg(braidlog_sabotage)]
        let (prepared_name, replace) = match (prepared_name, replace) {
            (prepared_name, replace) if braidlog_sabotage::is("named_before_its_header") => {
                give_name(shared, &prepared_name, &name, replace)?;
                (name.clone(), true)
            }
            given => given,
        };
        let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_LEN as usize);
        header.encode(block.first_chunk_mut().expect("the buffer has the block's length"));
        shared.with_space(|| write_all_at(&*file, &block, 0)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        give_name(shared, &prepared_name, &name, replace)?;
        shared.live.begin(header, SEGMENT_HEADER_LEN);
        Ok(Segment {
            frontier: Arc::new(Frontier::new(Arc::clone(&file), SEGMENT_HEADER_LEN, capacity, written)),
            target: Arc::new(Target { file, name }),
            base: header.base,
            salt: header.salt,
            offset: SEGMENT_HEADER_LEN,
            synced_offset: SEGMENT_HEADER_LEN,
            allocated: capacity,
            last: None,
            index: Arc::clone(&shared.live),
            next_point: 0,
            first_written: None,
        })
    }

    /// Where its writes go.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn synced_offset(&self) -> u64 {
        self.synced_offset
    }

    /// When its first record was written, on the monotonic clock: from then on it ages.
    pub(crate) fn first_written(&self) -> Option<Duration> {
        self.first_written
    }

    /// It ages from now on.
    pub(crate) fn age_from(&mut self, now: Duration) {
        self.first_written = Some(now);
    }

    pub(crate) fn frontier(&self) -> &Arc<Frontier> {
        &self.frontier
    }

    pub(crate) fn holds_records(&self) -> bool {
        self.last.is_some()
    }

    /// Bytes for rounds behind `offset`.
    pub(crate) fn room_behind(&self, offset: u64) -> u64 {
        room(self.allocated, offset)
    }

    /// As the next segment's header names this one; `None` if it holds no LSN.
    pub(crate) fn as_predecessor(&self, sealed: bool) -> Option<Predecessor> {
        self.last.map(|last| Predecessor {
            base: self.base,
            last: last.lsn,
            last_timestamp_ns: last.timestamp_ns,
            last_checksum: last.checksum,
            sealed,
        })
    }

    fn failed(&self, operation: FailedOperation, error: io::Error) -> Failure {
        Failure::new(operation, &self.target.name, error)
    }

    /// Gives the file space for this many bytes of rounds, if it has too little.
    pub(crate) fn extend(&mut self, shared: &Shared, bytes: u64) -> Result<(), Failure> {
        let needed = self.offset + bytes + SEAL_RESERVE;
        if needed > self.allocated {
            shared
                .with_space(|| self.target.file.allocate(needed))
                .map_err(|error| self.failed(FailedOperation::NextSegment, error))?;
            self.allocated = needed;
        }
        Ok(())
    }

    /// An entry that takes an LSN was encoded at `offset`.
    pub(crate) fn note_entry(&mut self, lsn: Lsn, offset: u64) {
        if offset >= self.next_point {
            self.next_point = self.index.note(lsn, offset);
        }
    }

    /// The last entry so far.
    pub(crate) fn note_last(&mut self, last: LastEntry) {
        self.last = Some(last);
    }

    /// A round was encoded up to `offset`, a block boundary, at this time of the monotonic clock.
    pub(crate) fn move_pen(&mut self, offset: u64, now: Duration) {
        self.offset = offset;
        if self.last.is_some() {
            self.first_written.get_or_insert(now);
        }
    }

    /// Makes everything before the pen durable.
    pub(crate) fn sync(&mut self, method: SyncMethod) -> Result<(), Failure> {
        match method {
            SyncMethod::Fdatasync => self.target.file.sync_data(),
            SyncMethod::Fsync => self.target.file.sync_all(),
            SyncMethod::DirectSync => Ok(()), // Each write was durable when it returned.
        }
        .map_err(|error| self.failed(FailedOperation::Sync, error))?;
        self.synced_offset = self.offset;
        self.index.synced(self.offset);
        Ok(())
    }

    /// Ends the segment with a synced seal and cuts what was not used. Everything before the pen is synced.
    /// `timestamp_ns` is the last round's; a mark's round may be younger than the last record. `in_doubt` are the ids of the
    /// transactions that are prepared and not decided.
    ///
    /// A refusal for lack of space is tried again: the seal has space, but a file system that never writes in
    /// place may refuse it all the same.
    pub(crate) fn seal(
        &mut self,
        shared: &Shared,
        timestamp_ns: u64,
        in_doubt: &[u64],
    ) -> Result<(), Failure> {
        debug_assert_eq!(self.synced_offset, self.offset, "a seal vouches for synced bytes");
        self.write_seal(shared, timestamp_ns, in_doubt)?;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("seal_not_synced") {
            return Ok(());
        }
        self.target.file.sync_all().map_err(|error| self.failed(FailedOperation::Seal, error))
    }

    /// The writing half of [`seal`](Segment::seal).
    pub(crate) fn write_seal(
        &self,
        shared: &Shared,
        timestamp_ns: u64,
        in_doubt: &[u64],
    ) -> Result<(), Failure> {
        self.frontier.stop();
        let last_lsn = self.last.map_or(self.base.prev(), |last| last.lsn);
        let points = self.index.points();
        let seal = Seal {
            count: last_lsn.0 + 1 - self.base.0,
            last_lsn,
            last_timestamp_ns: self.last.map_or(timestamp_ns, |last| last.timestamp_ns),
            last_checksum: self.last.map_or(0, |last| last.checksum),
            in_doubt,
            index: &points,
        };
        let mut blocks = AlignedBuf::zeroed((ENTRY_HEADER_LEN + seal.payload_len()) as usize);
        let (head, payload) = blocks.split_at_mut(ENTRY_HEADER_LEN as usize);
        seal.encode(payload);
        let header =
            EntryHeader::for_payload(last_lsn.next(), timestamp_ns, Kind::SEAL, Flags::NONE, payload);
        head.copy_from_slice(&header.encode(self.salt, self.offset));
        // The length first: it becomes durable with the seal, which is found from the end of the file.
        let end = self.offset + blocks.len() as u64;
        shared
            .with_space(|| {
                self.target
                    .file
                    .set_len(end)
                    .and_then(|()| write_all_at(&*self.target.file, &blocks, self.offset))
            })
            .map_err(|error| self.failed(FailedOperation::Seal, error))
    }
}

/// Gives a file its name in the log, durably.
fn give_name(shared: &Shared, from: &str, name: &str, replace: bool) -> Result<(), Failure> {
    let dir = &shared.dir;
    shared
        .with_space(|| dir.rename(from, name, replace))
        .map_err(|error| Failure::new(FailedOperation::NextSegment, name, error))?;
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("name_not_synced") {
        return Ok(());
    }
    #[cfg(braidlog_sabotage)]
    if replace && braidlog_sabotage::is("name_of_an_empty_segment_taken_over_unsynced") {
        return Ok(());
    }
    dir.sync().map_err(|error| Failure::new(FailedOperation::SyncDirectory, name, error))
}
