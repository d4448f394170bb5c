//! raft-engine 0.4: a log of many Raft groups in one stream of files; each thread writes to a group ("region") of
//! its own, as a store with many groups does.
//!
//! An entry is a message of protobuf whose index is found in it: here the sequence number of the record. Compression is off, as
//! with every peer: the records of the benchmark would compress as no user's do. `Engine::sync` returns without a sync, for it
//! writes an empty batch; so the flush writes a key with `sync`.

use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Appender, Peer, Result, Setup};

/// Entries that are read at once.
const READ_ENTRIES: u64 = 4096;
/// A region that no thread has.
const FLUSH_REGION: u64 = u64::MAX >> 1;

/// The log.
pub struct RaftEngine {
    engine: Engine,
}

/// A thread's region.
pub struct Region<'log> {
    engine: &'log Engine,
    region: u64,
    batch: LogBatch,
    entry: [BytesValue; 1],
}

#[derive(Clone)]
struct Record;

impl MessageExt for Record {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let sequence = entry.value.get(8..).and_then(|rest| rest.first_chunk());
        sequence.map_or(0, |sequence| u64::from_le_bytes(*sequence)) + 1
    }
}

fn open(dir: &Path) -> Result<Engine> {
    Ok(Engine::open(Config {
        dir: dir.to_str().ok_or("the path is no text")?.to_owned(),
        batch_compression_threshold: ReadableSize::kb(0),
        ..Config::default()
    })?)
}

impl Peer for RaftEngine {
    type Appender<'log> = Region<'log>;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<RaftEngine> {
        Ok(RaftEngine { engine: open(dir)? })
    }

    fn appender(&self, thread: u32) -> Result<Region<'_>> {
        let region = u64::from(thread) + 1;
        Ok(Region { engine: &self.engine, region, batch: LogBatch::default(), entry: [BytesValue::new()] })
    }

    fn flush(&self) -> Result<()> {
        let mut batch = LogBatch::default();
        batch.put(FLUSH_REGION, b"flush".to_vec(), b"flush".to_vec())?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let engine = open(dir)?;
        let mut regions = engine.raft_groups();
        regions.sort_unstable();
        let mut entries = Vec::new();
        for region in regions {
            let (Some(first), Some(last)) = (engine.first_index(region), engine.last_index(region)) else {
                continue;
            };
            for begin in (first..=last).step_by(READ_ENTRIES as usize) {
                let end = (last + 1).min(begin + READ_ENTRIES);
                engine.fetch_entries_to::<Record>(region, begin, end, None, &mut entries)?;
                entries.drain(..).for_each(|entry| each(&entry.value));
            }
        }
        Ok(())
    }
}

impl Region<'_> {
    fn add(&mut self, record: &[u8]) -> Result<()> {
        let [entry] = &mut self.entry;
        entry.value.clear();
        entry.value.extend_from_slice(record);
        Ok(self.batch.add_entries::<Record>(self.region, &self.entry)?)
    }

    fn write(&mut self, sync: bool) -> Result<()> {
        self.engine.write(&mut self.batch, sync)?;
        Ok(())
    }
}

impl Appender for Region<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.add(record)?;
        self.write(false)
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.add(record)?;
        self.write(true)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        records.iter().try_for_each(|record| self.add(record))?;
        self.write(true)
    }
}
