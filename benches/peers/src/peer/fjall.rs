//! fjall 3: a log-structured store; the keys are numbers in the order of appending.
//!
//! `manual_journal_persist` as its documentation says for those who call `persist` themselves; a durable write persists with
//! `SyncData`. Nothing is compressed, as with no peer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Appender, Peer, Result, Setup};

/// The store, and the next key.
pub struct Fjall {
    db: Database,
    records: Keyspace,
    next: AtomicU64,
}

fn open(dir: &Path) -> Result<(Database, Keyspace)> {
    let db = Database::builder(dir)
        .journal_compression(CompressionType::None)
        .manual_journal_persist(true)
        .open()?;
    let records = db.keyspace("records", KeyspaceCreateOptions::default)?;
    Ok((db, records))
}

impl Fjall {
    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Peer for Fjall {
    type Appender<'log> = &'log Fjall;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<Fjall> {
        let (db, records) = open(dir)?;
        Ok(Fjall { db, records, next: AtomicU64::new(0) })
    }

    fn appender(&self, _thread: u32) -> Result<&Fjall> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let (_db, records) = open(dir)?;
        for record in records.iter() {
            each(&record.value()?);
        }
        Ok(())
    }
}

impl Appender for &Fjall {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.records.insert(self.key(), record)?)
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.records.insert(self.key(), record)?;
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for record in records {
            batch.insert(&self.records, self.key(), record.as_slice());
        }
        Ok(batch.commit()?)
    }
}
