//! okaywal 0.3: every commit is durable, concurrent ones share a sync.
//!
//! "Preallocating files is critical for performance" (its README): the file is preallocated for the whole cell. It is never
//! checkpointed, for that gives records to the application and recycles their file.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Appender, Peer, Result, Setup};
use crate::child::DURABLE_RECORDS_MAX;

/// Bytes for single commits: as many as a disk with syncs of 20 us takes of the shortest.
const PREALLOCATED_SINGLE: u32 = 64 << 20;
/// Bytes of a record beside its payload, at most: marks, number, length, checksum.
const OVERHEAD: u64 = 18;
/// Records that are handed on at once while it is opened.
const HANDED_ON: usize = 1000;

/// The log.
pub struct Okaywal {
    log: WriteAheadLog,
}

fn configuration(dir: &Path, setup: &Setup) -> Configuration {
    let batched = (setup.record_bytes as u64 + OVERHEAD) * DURABLE_RECORDS_MAX;
    let preallocated = if setup.batches { batched as u32 } else { PREALLOCATED_SINGLE };
    Configuration::default_for(dir).preallocate_bytes(preallocated).checkpoint_after_bytes(u64::MAX)
}

/// Hands on what is recovered; it may borrow nothing.
#[derive(Debug)]
struct Manager {
    to: Option<SyncSender<Vec<Vec<u8>>>>,
    read: Vec<Vec<u8>>,
}

impl LogManager for Manager {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        if let Some(chunks) = entry.read_all_chunks()? {
            self.read.extend(chunks);
        }
        if self.read.len() >= HANDED_ON {
            to.send(std::mem::take(&mut self.read)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(to) = &self.to {
            // Nobody listens any more if reading has failed.
            let _ = to.send(std::mem::take(&mut self.read));
        }
    }
}

impl Peer for Okaywal {
    type Appender<'log> = &'log Okaywal;

    const FLUSH_SYNCS: bool = true;

    const HAS_ASYNC: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Okaywal> {
        let manager = Manager { to: None, read: Vec::new() };
        Ok(Okaywal { log: configuration(dir, setup).open(manager)? })
    }

    fn appender(&self, _thread: u32) -> Result<&Okaywal> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.log.shutdown()?)
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let (to, read) = sync_channel(4);
        let manager = Manager { to: Some(to), read: Vec::new() };
        thread::scope(|scope| {
            let opened = scope.spawn(|| configuration(dir, setup).open(manager)?.shutdown());
            for records in read {
                records.iter().for_each(|record| each(record));
            }
            Ok(opened.join().map_err(|_| "it panicked")??)
        })
    }
}

impl Appender for &Okaywal {
    fn append(&mut self, _record: &[u8]) -> Result<()> {
        Err("is always durable".into())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit()?;
        Ok(())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for record in records {
            entry.write_chunk(record)?;
        }
        entry.commit()?;
        Ok(())
    }
}
