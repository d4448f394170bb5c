//! sled 0.34: a tree; the keys are numbers in the order of appending.
//!
//! `Mode::HighThroughput`, and no flush by time where each write is flushed. Its `flush` is a `sync_file_range` and no
//! `fdatasync`: a power cut may take what was acknowledged, so its durable figures are not those of the others.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Batch, Config, Db, Mode};

use super::{Appender, Peer, Result, Setup};

/// The tree, and the next key.
pub struct Sled {
    db: Db,
    next: AtomicU64,
}

fn open(dir: &Path, setup: &Setup) -> Result<Db> {
    let config = Config::default().path(dir).mode(Mode::HighThroughput);
    Ok(if setup.durable { config.flush_every_ms(None) } else { config }.open()?)
}

impl Sled {
    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Peer for Sled {
    type Appender<'log> = &'log Sled;

    const FLUSH_SYNCS: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Sled> {
        Ok(Sled { db: open(dir, setup)?, next: AtomicU64::new(0) })
    }

    fn appender(&self, _thread: u32) -> Result<&Sled> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let db = open(dir, setup)?;
        for record in db.iter().values() {
            each(&record?);
        }
        Ok(())
    }

    fn note(&self) -> Option<String> {
        Some("its flush is sync_file_range, no fdatasync".to_owned())
    }
}

impl Appender for &Sled {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.db.insert(self.key(), record)?;
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.append(record)?;
        self.db.flush()?;
        Ok(())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.insert(&self.key(), record.as_slice()));
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }
}
