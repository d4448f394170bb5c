//! rocksdb 0.25 (RocksDB 11): a log-structured store; the keys are numbers in the order of appending.
//!
//! Where nobody waits `manual_wal_flush`, so that a write is no system call, and `flush_wal(true)` at the end; a durable write is
//! one with `sync`. All else is as it comes, built without compression.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Appender, Peer, Result, Setup};

/// The store, and the next key.
pub struct Rocksdb {
    db: DB,
    next: AtomicU64,
}

/// A thread's way in.
pub struct Thread<'log> {
    log: &'log Rocksdb,
    quick: WriteOptions,
    durable: WriteOptions,
}

fn options(setup: &Setup) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_manual_wal_flush(!setup.durable);
    options
}

impl Rocksdb {
    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Peer for Rocksdb {
    type Appender<'log> = Thread<'log>;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Rocksdb> {
        Ok(Rocksdb { db: DB::open(&options(setup), dir)?, next: AtomicU64::new(0) })
    }

    fn appender(&self, _thread: u32) -> Result<Thread<'_>> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        Ok(Thread { log: self, quick: WriteOptions::default(), durable })
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let db = DB::open(&options(setup), dir)?;
        for record in db.iterator(IteratorMode::Start) {
            each(&record?.1);
        }
        Ok(())
    }
}

impl Appender for Thread<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.log.db.put_opt(self.log.key(), record, &self.quick)?)
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.log.db.put_opt(self.log.key(), record, &self.durable)?)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut batch = WriteBatch::default();
        records.iter().for_each(|record| batch.put(self.log.key(), record));
        Ok(self.log.db.write_opt(batch, &self.durable)?)
    }
}
