//! wal-db 1.1: `append` for many threads, `sync` with group commit. One file, as its first example opens it.

use std::path::Path;

use wal_db::Wal;

use super::{Appender, Peer, Result, Setup};

const FILE: &str = "app.wal";

/// The log.
pub struct WalDb {
    wal: Wal,
}

impl Peer for WalDb {
    type Appender<'log> = &'log WalDb;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<WalDb> {
        Ok(WalDb { wal: Wal::open(dir.join(FILE))? })
    }

    fn appender(&self, _thread: u32) -> Result<&WalDb> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let wal = Wal::open(dir.join(FILE))?;
        for record in wal.iter()? {
            each(record?.data());
        }
        Ok(())
    }
}

impl Appender for &WalDb {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.wal.append(record).map(drop)?;
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.wal.append_and_sync(record).map(drop)?;
        Ok(())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        records.iter().try_for_each(|record| self.append(record))?;
        Ok(self.wal.sync()?)
    }
}
