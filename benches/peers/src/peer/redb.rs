//! redb 4: a B-tree in one file; the keys are numbers in the order of appending. A transaction for each append,
//! or for each batch; `Durability::None` where nobody waits, and a last one that is durable.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Appender, Peer, Result, Setup};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const FILE: &str = "redb";

/// The database, and the next key.
pub struct Redb {
    db: Database,
    next: AtomicU64,
}

impl Redb {
    fn write<'record>(
        &self,
        durability: Durability,
        records: impl Iterator<Item = &'record [u8]>,
    ) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for record in records {
                table.insert(self.next.fetch_add(1, Ordering::Relaxed), record)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Peer for Redb {
    type Appender<'log> = &'log Redb;

    const FLUSH_SYNCS: bool = true;

    /// A transaction for each record would take longer than a cell may.
    const HAS_ASYNC: bool = false;

    fn open(dir: &Path, _setup: &Setup) -> Result<Redb> {
        Ok(Redb { db: Database::create(dir.join(FILE))?, next: AtomicU64::new(0) })
    }

    fn appender(&self, _thread: u32) -> Result<&Redb> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        self.write(Durability::Immediate, [].into_iter())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let db = Database::open(dir.join(FILE))?;
        let table = db.begin_read()?.open_table(TABLE)?;
        for record in table.iter()? {
            each(record?.1.value());
        }
        Ok(())
    }
}

impl Appender for &Redb {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.write(Durability::None, [record].into_iter())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.write(Durability::Immediate, [record].into_iter())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        self.write(Durability::Immediate, records.iter().map(Vec::as_slice))
    }
}
