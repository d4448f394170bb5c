//! commitlog 0.2: one writer (`&mut self`), so in a mutex. It has no durable mode: `flush` makes no sync.

use std::path::Path;
use std::sync::Mutex;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use super::{Appender, Peer, Result, Setup};

/// Bytes of one read: the default of 8 KiB is for readers that wait for few messages.
const READ_BYTES: usize = 1 << 20;

/// The log.
pub struct Commitlog {
    log: Mutex<CommitLog>,
}

/// A thread's way in, with a buffer that it uses again.
pub struct Thread<'log> {
    log: &'log Mutex<CommitLog>,
    message: MessageBuf,
}

impl Peer for Commitlog {
    type Appender<'log> = Thread<'log>;

    const FLUSH_SYNCS: bool = false;

    fn open(dir: &Path, _setup: &Setup) -> Result<Commitlog> {
        Ok(Commitlog { log: Mutex::new(CommitLog::new(LogOptions::new(dir))?) })
    }

    fn appender(&self, _thread: u32) -> Result<Thread<'_>> {
        Ok(Thread { log: &self.log, message: MessageBuf::default() })
    }

    fn flush(&self) -> Result<()> {
        Ok(self.log.lock().expect("no thread panics with the log").flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, _setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let log = CommitLog::new(LogOptions::new(dir))?;
        let mut next = 0;
        loop {
            let messages = log.read(next, ReadLimit::max_bytes(READ_BYTES))?;
            let Some(last) = messages.iter().map(|message| message.offset()).last() else { return Ok(()) };
            messages.iter().for_each(|message| each(message.payload()));
            next = last + 1;
        }
    }
}

impl Appender for Thread<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.message.clear();
        self.message.push(record).map_err(|error| format!("{error:?}"))?;
        self.log.lock().expect("no thread panics with the log").append(&mut self.message)?;
        Ok(())
    }

    fn append_durable(&mut self, _record: &[u8]) -> Result<()> {
        Err("has no durable mode".into())
    }

    fn append_batch_durable(&mut self, _records: &[Vec<u8>]) -> Result<()> {
        Err("has no durable mode".into())
    }
}
