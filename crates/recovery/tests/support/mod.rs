//! A log written byte by byte with the format crate alone, onto the simulated disk: the writer's file protocol
//! without the writer. What it wrote and what it may promise are its model.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod keys;
pub mod packing;
pub mod repairing;
pub mod tamper;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use braidlog_format::{
    BLOCK_LEN, CHECKPOINT_HEAD, CheckpointHead, CheckpointName, Entry, EntryHeader, Flags, IndexPoint, Kind,
    LogId, LogTail, Lsn, ManifestCheckpoint, PadLen, Predecessor, RecordFields, SEGMENT_HEADER_LEN, Salt,
    Seal, SegmentHeader, SegmentName, StreamHeader, StreamKind, SyncMark, UserMetadata, pad_len,
    prepared_name, unfinished_checkpoint_name,
};
use braidlog_recovery::{
    ManifestStore, Record, Recovered, RecoveryError, StreamWriter, VerifyReport, recover, verify,
};
use braidlog_sim::SimDisk;
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, Storage, write_all_at};

pub const LOG_ID: LogId = LogId(*b"the log of tests");
pub const DIR: &str = "log";

/// One record as its writer knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub kind: Kind,
    pub payload: Vec<u8>,
    pub batch_continues: bool,
}

/// A writer of a log, and the model of what it wrote.
pub struct Pen {
    pub disk: SimDisk,
    pub dir: Arc<dyn LogDir>,
    pub file: Arc<dyn LogFile>,
    pub header: SegmentHeader,
    /// Where the next round starts.
    pub offset: u64,
    pub next: Lsn,
    pub timestamp_ns: u64,
    /// The last entry with an LSN in this segment: its timestamp and checksum.
    pub last: Option<(Lsn, u64, u32)>,
    pub index: Vec<IndexPoint>,
    /// All bytes before this offset are synced.
    pub synced_offset: u64,
    /// All records up to this one are durable.
    pub durable: Lsn,
    /// All records ever written that may still be there, from LSN 1 on.
    pub model: Vec<Written>,
    /// Bytes allocated ahead in each segment.
    pub ahead: u64,
    /// A file that was a segment and becomes the next one.
    pub spare: Option<String>,
    /// The transactions that are open, by id: where each begins, and whether it is prepared.
    pub open: BTreeMap<u64, (Lsn, bool)>,
}

pub fn open_dir(disk: &SimDisk) -> Arc<dyn LogDir> {
    disk.open_dir(Path::new(DIR), true).unwrap()
}

pub fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

pub fn segment(base: u64) -> String {
    SegmentName(Lsn(base)).to_string()
}

pub fn segment_path(base: u64) -> String {
    path(&segment(base))
}

pub fn recovered(disk: &SimDisk) -> Result<Recovered, RecoveryError> {
    let told = |source| RecoveryError::Io { operation: "open", file: DIR.to_owned(), source };
    recover(&disk.open_dir(Path::new(DIR), true).map_err(told)?, LOG_ID)
}

pub fn verified(disk: &SimDisk) -> Result<VerifyReport, RecoveryError> {
    verify(&open_dir(disk), &mut |_| {})
}

/// All files of the directory with their bytes.
pub fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list_raw(DIR).into_iter();
    names.map(|(name, _)| (name.clone(), disk.read_raw(path(&name)))).collect()
}

/// A disk that holds these files, durably.
pub fn disk_with(files: &[(String, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new();
    open_dir(&disk);
    for (name, bytes) in files {
        disk.put_raw(path(name), bytes);
    }
    disk
}

impl Pen {
    /// Begins a new log.
    pub fn new(disk: &SimDisk) -> Pen {
        let recovered = recovered(disk).unwrap();
        Pen::start(disk, &recovered.tail, Vec::new(), 64 << 10)
    }

    /// Goes on where recovery says, as the engine does: a new segment with a new salt.
    pub fn start(disk: &SimDisk, tail: &LogTail, mut model: Vec<Written>, ahead: u64) -> Pen {
        let dir = open_dir(disk);
        model.truncate(tail.next_lsn.prev().0 as usize);
        assert_eq!(model.len() as u64, tail.next_lsn.prev().0, "the model has every LSN that was recovered");
        let header = SegmentHeader {
            log_id: tail.log_id,
            incarnation: tail.incarnation,
            salt: Salt(0x5A17_0000 ^ (tail.incarnation.0 as u32) << 8 ^ tail.next_lsn.0 as u32),
            base: tail.next_lsn,
            predecessor: tail.predecessor,
            recycled: false,
            created_at_ns: tail.last_timestamp_ns,
            user_metadata: UserMetadata::EMPTY,
            open_from: tail.in_doubt.iter().map(|open| open.begin).min(),
        };
        let file = put_segment(&dir, &header, ahead, tail.replaces_empty, Former::None);
        Pen {
            disk: disk.clone(),
            dir,
            file,
            offset: SEGMENT_HEADER_LEN,
            next: tail.next_lsn,
            timestamp_ns: tail.last_timestamp_ns + 1,
            last: None,
            index: Vec::new(),
            synced_offset: SEGMENT_HEADER_LEN,
            durable: tail.next_lsn.prev(),
            model,
            ahead,
            spare: None,
            open: tail.in_doubt.iter().map(|open| (open.transaction.0, (open.begin, true))).collect(),
            header,
        }
    }

    /// Recovers and goes on.
    pub fn reopen(disk: &SimDisk, model: Vec<Written>) -> Pen {
        let recovered = recovered(disk).unwrap();
        Pen::start(disk, &recovered.tail, model, 64 << 10)
    }

    /// The bytes of a round that starts here.
    pub fn encode_round(&mut self, batches: &[&[(u8, &[u8])]]) -> Vec<u8> {
        self.timestamp_ns += 1000;
        let mut round = Vec::new();
        let mark = SyncMark { durable_lsn: self.durable, synced_offset: self.synced_offset };
        self.push(&mut round, Kind::SYNC_MARK, Flags::NONE, &mark.encode());
        for batch in batches {
            for (index, (kind, payload)) in batch.iter().enumerate() {
                let batch_continues = index + 1 < batch.len();
                let flags = if batch_continues { Flags::BATCH_CONTINUES } else { Flags::NONE };
                self.push(&mut round, Kind(*kind), flags, payload);
                self.model.push(Written { kind: Kind(*kind), payload: payload.to_vec(), batch_continues });
            }
        }
        if let PadLen::Payload(len) = pad_len(self.offset + round.len() as u64) {
            self.push(&mut round, Kind::PAD, Flags::NONE, &vec![0; len as usize]);
        }
        round
    }

    fn push(&mut self, round: &mut Vec<u8>, kind: Kind, flags: Flags, payload: &[u8]) {
        let offset = self.offset + round.len() as u64;
        let header = EntryHeader::for_payload(self.next, self.timestamp_ns, kind, flags, payload);
        let bytes = header.encode(self.header.salt, offset);
        if kind.takes_lsn() {
            self.index.push(IndexPoint { lsn: self.next, offset });
            self.note_mark(kind, payload);
            self.last = Some((self.next, self.timestamp_ns, EntryHeader::stored_checksum(&bytes)));
            self.next = self.next.next();
        }
        round.extend(bytes);
        round.extend(payload);
        round.resize(round.len().next_multiple_of(8), 0);
    }

    /// What a mark of a transaction does to those that are open.
    fn note_mark(&mut self, kind: Kind, payload: &[u8]) {
        if (Kind::TX_BEGIN..=Kind::TX_DECISION).contains(&kind) {
            let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
            let next = self.next;
            match kind {
                Kind::TX_BEGIN => self.open.insert(id, (next, false)),
                Kind::TX_PREPARE => self.open.insert(id, (self.open[&id].0, true)),
                _ => self.open.remove(&id),
            };
        }
    }

    /// Writes a round of batches, unsynced.
    pub fn round(&mut self, batches: &[&[(u8, &[u8])]]) -> &mut Pen {
        let round = self.encode_round(batches);
        write_all_at(&*self.file, &round, self.offset).unwrap();
        self.offset += round.len() as u64;
        self
    }

    /// Writes a round with one record for each payload, unsynced.
    pub fn records(&mut self, payloads: &[&[u8]]) -> &mut Pen {
        let entries: Vec<_> = payloads.iter().map(|payload| [(1, *payload)]).collect();
        let batches: Vec<&[(u8, &[u8])]> = entries.iter().map(|entry| entry.as_slice()).collect();
        self.round(&batches)
    }

    /// Writes a round of single entries with fields, unsynced; gives the LSN of the last one.
    pub fn entries(&mut self, entries: &[(Kind, RecordFields, &[u8])]) -> Lsn {
        let mut round = Vec::new();
        self.timestamp_ns += 1000;
        let mark = SyncMark { durable_lsn: self.durable, synced_offset: self.synced_offset };
        self.push(&mut round, Kind::SYNC_MARK, Flags::NONE, &mark.encode());
        for (kind, fields, payload) in entries {
            let encoded = fields.encode();
            let flags = if encoded.is_empty() { Flags::NONE } else { Flags::EXTENDED };
            self.push(&mut round, *kind, flags, &[&encoded, *payload].concat());
            let payload = payload.to_vec();
            self.model.push(Written { kind: *kind, payload, batch_continues: false });
        }
        if let PadLen::Payload(len) = pad_len(self.offset + round.len() as u64) {
            self.push(&mut round, Kind::PAD, Flags::NONE, &vec![0; len as usize]);
        }
        write_all_at(&*self.file, &round, self.offset).unwrap();
        self.offset += round.len() as u64;
        self.next.prev()
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> &mut Pen {
        let (offset, last) = (self.offset, self.next.prev());
        self.file.sync_data().unwrap();
        self.synced_offset = offset;
        self.durable = last;
        self
    }

    /// Writes a sync mark and no records, unsynced.
    pub fn idle_mark(&mut self) -> &mut Pen {
        self.round(&[])
    }

    /// The seal that belongs here, with its header.
    pub fn encode_seal(&self) -> Vec<u8> {
        let named =
            self.last.or(self.header.predecessor.map(|named| (named.last, named.last_timestamp_ns, 0)));
        let (_, last_timestamp_ns, _) = named.unwrap_or((Lsn::ZERO, 0, 0));
        let index: Vec<_> = self.index.iter().copied().step_by(self.index.len() / 1000 + 1).collect();
        let in_doubt: Vec<u64> = self.open.iter().filter(|(_, open)| open.1).map(|(id, _)| *id).collect();
        let seal = Seal {
            count: self.next.0 - self.header.base.0,
            last_lsn: self.next.prev(),
            last_timestamp_ns,
            last_checksum: self.last.map_or(0, |(_, _, checksum)| checksum),
            in_doubt: &in_doubt,
            index: &index,
        };
        let mut payload = vec![0; seal.payload_len() as usize];
        seal.encode(&mut payload);
        let header =
            EntryHeader::for_payload(self.next, self.timestamp_ns, Kind::SEAL, Flags::NONE, &payload);
        let mut bytes = header.encode(self.header.salt, self.offset).to_vec();
        bytes.extend(payload);
        bytes
    }

    /// Syncs all and seals the segment, synced: what a clean close does last.
    pub fn seal(&mut self) -> &mut Pen {
        self.sync();
        self.write_seal();
        self.file.sync_all().unwrap();
        self
    }

    /// Cuts the file and writes the seal, unsynced.
    pub fn write_seal(&mut self) -> &mut Pen {
        let seal = self.encode_seal();
        self.file.set_len(self.offset + seal.len() as u64).unwrap();
        write_all_at(&*self.file, &seal, self.offset).unwrap();
        self
    }

    /// Seals the segment and begins its successor.
    pub fn rotate(&mut self) -> &mut Pen {
        let salt = Salt(self.header.salt.0.rotate_left(7) ^ self.next.0 as u32);
        let former = self.spare.take().map_or(Former::None, Former::Spare);
        self.rotate_to(salt, former)
    }

    /// Seals the segment and begins its successor with this salt, in a file that holds bytes of an earlier life.
    pub fn rotate_into(&mut self, salt: Salt, earlier: &[u8]) -> &mut Pen {
        self.rotate_to(salt, Former::Bytes(earlier))
    }

    fn rotate_to(&mut self, salt: Salt, former: Former<'_>) -> &mut Pen {
        let (last, last_timestamp_ns, last_checksum) =
            self.last.expect("a segment without LSN is not rotated");
        self.seal();
        self.header = SegmentHeader {
            salt,
            recycled: !matches!(former, Former::None),
            predecessor: Some(Predecessor {
                base: self.header.base,
                last,
                last_timestamp_ns,
                last_checksum,
                sealed: true,
            }),
            base: self.next,
            created_at_ns: self.timestamp_ns,
            open_from: self.open.values().map(|open| open.0).min(),
            ..self.header
        };
        self.file = put_segment(&self.dir, &self.header, self.ahead, false, former);
        (self.offset, self.synced_offset) = (SEGMENT_HEADER_LEN, SEGMENT_HEADER_LEN);
        (self.last, self.index) = (None, Vec::new());
        self
    }

    /// Asserts that the log on `disk` recovers to a prefix of what this pen wrote that holds everything it may
    /// promise and ends with a whole batch; gives the number of records.
    pub fn assert_recovers(&self, disk: &SimDisk) -> Recovered {
        let recovered = recovered(disk).unwrap_or_else(|error| panic!("recovers: {error}"));
        let last = recovered.report.last_lsn;
        assert!(last >= self.durable, "{last:?} is behind what was acknowledged, {:?}", self.durable);
        assert_holds(disk, &self.model[..last.0 as usize]);
        assert!(self.model[..last.0 as usize].last().is_none_or(|last| !last.batch_continues));
        assert_eq!(recovered.tail.next_lsn, last.next());
        recovered
    }
}

/// Asserts that a reader of the dead log sees exactly these records.
pub fn assert_holds(disk: &SimDisk, model: &[Written]) {
    let reader = braidlog_recovery::LogReader::open_read_only(open_dir(disk)).unwrap();
    assert_eq!(reader.last_visible().unwrap().0, model.len() as u64);
    let records = reader.iter(Lsn::FIRST, Lsn::MAX).unwrap();
    let records: Vec<Record> = records.map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), model.len());
    for (index, (record, written)) in records.iter().zip(model).enumerate() {
        assert_eq!(record.lsn.0, index as u64 + 1);
        assert_eq!(record.kind, written.kind);
        assert_eq!(record.batch_continues, written.batch_continues);
        assert!(record.payload == written.payload, "payload of LSN {}", record.lsn);
    }
}

/// What the file of a new segment was before.
enum Former<'a> {
    /// There was none.
    None,
    /// The file of this name.
    Spare(String),
    /// One that held these bytes.
    Bytes(&'a [u8]),
}

fn put_segment(
    dir: &Arc<dyn LogDir>,
    header: &SegmentHeader,
    ahead: u64,
    replace: bool,
    former: Former<'_>,
) -> Arc<dyn LogFile> {
    let (prepared, access) = match &former {
        Former::Spare(name) => (name.clone(), FileAccess::Write),
        Former::None | Former::Bytes(_) => (prepared_name(header.base.0), FileAccess::CreateNew),
    };
    let file = dir.open(&prepared, access, FileIo::Buffered).unwrap();
    if let Former::Bytes(bytes) = former {
        write_all_at(&*file, bytes, 0).unwrap();
        file.sync_all().unwrap();
    }
    file.allocate(ahead.max(SEGMENT_HEADER_LEN)).unwrap();
    let mut block = [0; SEGMENT_HEADER_LEN as usize];
    header.encode(&mut block);
    write_all_at(&*file, &block, 0).unwrap();
    file.sync_all().unwrap();
    dir.rename(&prepared, &segment(header.base.0), replace).unwrap();
    dir.sync().unwrap();
    file
}

/// Takes a checkpoint without content, so that the log is needed only behind `lsn`. Those before it are forgotten.
pub fn checkpoint(dir: &Arc<dyn LogDir>, store: &ManifestStore, lsn: u64) {
    let (number, head) = (
        store.current().next_checkpoint,
        CheckpointHead { lsn: Lsn(lsn), replay_from: Lsn(lsn + 1), base: None },
    );
    let header = StreamHeader::new(StreamKind::Checkpoint, LOG_ID, number, 1);
    let mut writer = StreamWriter::create(dir, &unfinished_checkpoint_name(number), header).unwrap();
    writer.put(CHECKPOINT_HEAD, Flags::NONE, &[&head.encode()]).unwrap();
    let name = CheckpointName { lsn: Lsn(lsn), number }.to_string();
    let finished = writer.finish(&name, false).unwrap();
    let before = store.current().checkpoints.clone();
    let changed = store.change(|manifest| {
        manifest.next_checkpoint = number + 1;
        manifest.durable = manifest.durable.max(Lsn(lsn));
        manifest.checkpoints = vec![ManifestCheckpoint {
            number,
            lsn: Lsn(lsn),
            replay_from: Lsn(lsn + 1),
            base: 0,
            bytes: finished.bytes,
            created_at_ns: 1,
            end_checksum: finished.end_checksum,
        }];
    });
    changed.unwrap();
    for old in before {
        dir.remove(&CheckpointName { lsn: old.lsn, number: old.number }.to_string()).unwrap();
    }
}

/// Where each entry of a segment's bytes starts, with its kind, as far as they are valid.
pub fn entries_of(bytes: &[u8], salt: Salt) -> Vec<(u64, Kind)> {
    let mut entries = Vec::new();
    let mut offset = BLOCK_LEN;
    while let Ok(entry) = Entry::decode(&bytes[(offset as usize).min(bytes.len())..], salt, offset) {
        entries.push((offset, entry.header.kind));
        offset += entry.header.entry_len();
    }
    entries
}

/// The header in a segment's bytes.
pub fn header_of(bytes: &[u8]) -> SegmentHeader {
    SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap()
}
