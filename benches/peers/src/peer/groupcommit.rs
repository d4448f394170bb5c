//! A mutex around a byte vector; who waits and finds nobody syncing takes what there is, writes it and syncs once
//! for all, and then wakes them all: the group commit that everybody writes first. No checksums.
//!
//! The file is written with zeros before the clock starts, so that no sync has to write its size.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::mutexvec::{self, CHUNK, FILE};
use super::{Appender, Peer, Result, Setup};
use crate::child::DURABLE_RECORDS_MAX;

/// Bytes that are prepared for single records: as many as a disk with syncs of 20 us takes of the shortest.
const PREPARED_SINGLE: u64 = 64 << 20;

/// The log.
#[derive(Debug)]
pub struct GroupCommit {
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// An empty vector to take instead.
    spare: Vec<u8>,
    /// Records that were appended, and that are durable.
    appended: u64,
    durable: u64,
    /// Where the next group is written.
    offset: u64,
    is_led: bool,
    failed: bool,
}

impl GroupCommit {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the vector")
    }

    /// Waits until all that was appended so far is durable: as the leader if there is none.
    fn commit<'log>(&'log self, mut state: MutexGuard<'log, State>) -> Result<()> {
        let wanted = state.appended;
        while state.durable < wanted {
            if state.failed {
                return Err("a group failed".into());
            }
            if state.is_led {
                state = self.synced.wait(state).expect("no thread panics with the vector");
                continue;
            }
            state.is_led = true;
            let (upto, offset) = (state.appended, state.offset);
            let spare = mem::take(&mut state.spare);
            let mut group = mem::replace(&mut state.waiting, spare);
            drop(state);
            let result = self.file.write_all_at(&group, offset).and_then(|()| self.file.sync_data());
            state = self.lock();
            state.is_led = false;
            match result {
                Ok(()) => {
                    state.durable = upto;
                    state.offset = offset + group.len() as u64;
                    group.clear();
                    state.spare = group;
                }
                Err(_) => state.failed = true,
            }
            self.synced.notify_all();
        }
        Ok(())
    }
}

impl Peer for GroupCommit {
    type Appender<'log> = &'log GroupCommit;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<GroupCommit> {
        let file = File::create_new(dir.join(FILE))?;
        let record = 4 + setup.record_bytes as u64;
        let most = if setup.batches { DURABLE_RECORDS_MAX * record } else { PREPARED_SINGLE };
        let zeros = vec![0; CHUNK];
        for offset in (0..most).step_by(CHUNK) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(GroupCommit { file, state: Mutex::default(), synced: Condvar::new() })
    }

    fn appender(&self, _thread: u32) -> Result<&GroupCommit> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        self.commit(self.lock())
    }

    fn close(self) -> Result<()> {
        let written = self.lock().offset;
        self.file.set_len(written)?;
        Ok(self.file.sync_all()?)
    }

    fn replay(dir: &Path, _setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        mutexvec::replay(dir, each)
    }
}

impl Appender for &GroupCommit {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.lock();
        mutexvec::push(&mut state.waiting, record);
        state.appended += 1;
        Ok(())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.lock();
        mutexvec::push(&mut state.waiting, record);
        state.appended += 1;
        self.commit(state)
    }

    fn append_batch_durable(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut state = self.lock();
        records.iter().for_each(|record| mutexvec::push(&mut state.waiting, record));
        state.appended += records.len() as u64;
        self.commit(state)
    }
}
