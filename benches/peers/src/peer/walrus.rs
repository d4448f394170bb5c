//! walrus-rust 0.2: a stream for each topic; each thread writes to a topic of its own.
//!
//! `NoFsync` ("maximum throughput") where nobody waits, with the files synced by the harness at the end; else
//! `SyncEach`. It takes its directory from the environment, and says what it does unless told to be quiet.

use std::env;
use std::io::ErrorKind;
use std::path::Path;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus as Wal};

use super::{Appender, Peer, Result, Setup};

/// Where it takes its directory from: the runner sets it.
const DIR_VARIABLE: &str = "WALRUS_DATA_DIR";

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// The log.
pub struct Walrus {
    wal: Wal,
}

/// A thread's topic.
pub struct Topic<'log> {
    wal: &'log Wal,
    name: String,
}

fn name(thread: u32) -> String {
    format!("thread-{thread}")
}

fn open(dir: &Path, setup: &Setup) -> Result<Wal> {
    if env::var_os(DIR_VARIABLE).as_deref() != Some(dir.as_os_str()) {
        return Err(format!("{DIR_VARIABLE} is not {}", dir.display()).into());
    }
    let schedule = if setup.durable { FsyncSchedule::SyncEach } else { FsyncSchedule::NoFsync };
    // The cursor of a reader need not survive here.
    let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Ok(Wal::with_consistency_and_schedule(consistency, schedule)?)
}

impl Peer for Walrus {
    type Appender<'log> = Topic<'log>;

    const FLUSH_SYNCS: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Walrus> {
        Ok(Walrus { wal: open(dir, setup)? })
    }

    fn appender(&self, thread: u32) -> Result<Topic<'_>> {
        Ok(Topic { wal: &self.wal, name: name(thread) })
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn replay(dir: &Path, setup: &Setup, mut each: impl FnMut(&[u8])) -> Result<()> {
        let wal = open(dir, setup)?;
        for thread in 0..setup.threads {
            loop {
                let entries = wal.batch_read_for_topic(&name(thread), READ_BYTES, true)?;
                if entries.is_empty() {
                    break;
                }
                entries.iter().for_each(|entry| each(&entry.data));
            }
        }
        Ok(())
    }
}

impl Appender for Topic<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.wal.append_for_topic(&self.name, record)?)
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        self.append(record)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        match self.wal.batch_append_for_topic(&self.name, &records) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err("the topic is busy".into()),
            done => Ok(done?),
        }
    }
}
