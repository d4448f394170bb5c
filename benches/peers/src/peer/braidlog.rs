//! Braidlog, by its public API, with default options but for the mode.

use std::collections::VecDeque;
use std::path::Path;

use braidlog::{Append, Durability, DurabilityMode, ErrorKind, Options, Ticket, Wal, Writer};

use super::{Appender, Peer, Result, Setup};

/// The log.
#[derive(Debug)]
pub struct Braidlog {
    wal: Wal,
}

/// A thread's writer, and what it has on its way.
#[derive(Debug)]
pub struct Thread {
    writer: Writer,
    tickets: VecDeque<Ticket>,
}

fn options(setup: &Setup) -> Options {
    let mode = match setup {
        Setup { variant: "sync", .. } => DurabilityMode::Synchronous,
        // The default.
        Setup { durable: true, .. } => DurabilityMode::group_commit(),
        Setup { durable: false, .. } => DurabilityMode::asynchronous(),
    };
    Wal::options().mode(mode)
}

impl Peer for Braidlog {
    type Appender<'log> = Thread;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Braidlog> {
        Ok(Braidlog { wal: options(setup).open(dir)? })
    }

    fn appender(&self, _thread: u32) -> Result<Thread> {
        Ok(Thread { writer: self.wal.writer(), tickets: VecDeque::new() })
    }

    fn flush(&self) -> Result<()> {
        Ok(self.wal.flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.wal.close()?)
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let wal = options(setup).open(dir)?;
        // `iter` is the caller's thread alone; `replay` is all that the library does for those who read everything.
        let mut records = if setup.variant == "one-thread" { wal.iter(..)? } else { wal.replay()? };
        while let Some(record) = records.next_ref() {
            each(record?.payload);
        }
        Ok(())
    }

    fn note(&self) -> Option<String> {
        let metrics = self.wal.metrics();
        Some(format!(
            "{:.1} records per sync, {} waits for room",
            metrics.records_per_sync, metrics.ring_full_waits
        ))
    }
}

impl Thread {
    /// Waits for the oldest ticket, and lets all go that became durable with it.
    fn wait_for_oldest(&mut self) -> Result<()> {
        if let Some(oldest) = self.tickets.pop_front() {
            oldest.wait()?;
        }
        while self.tickets.front().is_some_and(Ticket::is_durable) {
            self.tickets.pop_front();
        }
        Ok(())
    }
}

impl Appender for Thread {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.writer.append(record)?;
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.writer.append(record)?;
        Ok(())
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut batch = self.writer.batch();
        for record in records {
            batch.push(0, record)?;
        }
        batch.commit()?;
        Ok(())
    }

    fn append_with_ticket(&mut self, record: &[u8], most: usize) -> Result<usize> {
        // A submit never waits: if there is no room, the oldest ticket is what makes some. Without one, what is late is
        // the next file: an append waits for it, and the last flush covers the record.
        let ticket = loop {
            match self.writer.submit(record) {
                Ok(ticket) => break ticket,
                Err(error) if error.error().kind() == ErrorKind::Full && !self.tickets.is_empty() => {
                    self.wait_for_oldest()?;
                }
                Err(error) if error.error().kind() == ErrorKind::Full => {
                    self.writer.append_with(Append::new(record).durability(Durability::Async))?;
                    return Ok(1);
                }
                Err(error) => return Err(error.into_parts().0.into()),
            }
        };
        self.tickets.push_back(ticket);
        let in_flight = self.tickets.len();
        if in_flight >= most {
            self.wait_for_oldest()?;
        }
        Ok(in_flight)
    }

    fn finish(&mut self) -> Result<()> {
        self.tickets.drain(..).try_for_each(|ticket| ticket.wait().map(drop))?;
        Ok(())
    }
}
