//! oxirs-vec 0.4: the write-ahead log of its vector indexes. Its entries are vectors of `f32`, so that a record is four
//! bytes of each number, with an empty name.
//!
//! Files are named by the second: two that are begun in the same second are one, and what stands behind the second header
//! does not come back. That is left as it is, and seen in the tables.
//!
//! The automatic checkpoint is put off: it declares that all before it is safe elsewhere, and those records do not
//! come back. Durable is `sync_on_write`. Before `recover` comes `flush`, or it stumbles over the file that it has just
//! made and not written.

use std::path::Path;

use oxirs_vec::{WalConfig, WalEntry, WalManager};

use super::{Appender, Peer, Result, Setup};

/// The log.
pub struct OxirsVec {
    wal: WalManager,
}

fn open(dir: &Path, setup: &Setup) -> Result<WalManager> {
    let config = WalConfig {
        wal_directory: dir.to_owned(),
        sync_on_write: setup.durable,
        checkpoint_interval: u64::MAX,
        ..WalConfig::default()
    };
    Ok(WalManager::new(config)?)
}

fn entry(record: &[u8]) -> WalEntry {
    let vector = record.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
    WalEntry::Insert { id: String::new(), vector: vector.collect(), metadata: None, timestamp: 0 }
}

impl Peer for OxirsVec {
    type Appender<'log> = &'log OxirsVec;

    /// Only the last file is synced.
    const FLUSH_SYNCS: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<OxirsVec> {
        Ok(OxirsVec { wal: open(dir, setup)? })
    }

    fn appender(&self, _thread: u32) -> Result<&OxirsVec> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.wal.flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let wal = open(dir, setup)?;
        wal.flush()?;
        let mut record = Vec::with_capacity(setup.record_bytes);
        let mut give = |entry: &WalEntry| {
            if let WalEntry::Insert { vector, .. } = entry {
                record.clear();
                vector.iter().for_each(|number| record.extend_from_slice(&number.to_le_bytes()));
                each(&record);
            }
        };
        for entry in wal.recover()? {
            match &entry {
                WalEntry::Batch { entries, .. } => entries.iter().for_each(&mut give),
                entry => give(entry),
            }
        }
        Ok(())
    }
}

impl Appender for &OxirsVec {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.wal.append(entry(record))?;
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.append(record)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let entries = records.iter().map(|record| entry(record)).collect();
        self.wal.append(WalEntry::Batch { entries, timestamp: 0 })?;
        Ok(())
    }
}
