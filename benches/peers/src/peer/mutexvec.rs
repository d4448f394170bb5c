//! A mutex around a byte vector, and one thread that writes what is in it in chunks of 1 MiB: the simplest
//! asynchronous log that a programmer would write. No checksums.
//!
//! A record is its length in four bytes and itself.

use std::fs::{self, File};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::{Appender, Peer, Result, Setup};

/// Bytes of one write.
pub const CHUNK: usize = 1 << 20;
/// As many bytes as may wait for the thread.
const WAITING_MAX: usize = 8 * CHUNK;

/// The name of the one file.
pub const FILE: &str = "log";

/// The log.
#[derive(Debug)]
pub struct MutexVec {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    /// There is a chunk, or something is wanted of the thread.
    work: Condvar,
    /// The vector was taken.
    room: Condvar,
    /// All was written, or the thread has ended.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    flushing: bool,
    closing: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the vector")
    }

    /// The thread: takes the vector for another one and writes it.
    fn write(&self) -> Result<()> {
        let (mut writing, mut offset) = (Vec::with_capacity(WAITING_MAX), 0);
        loop {
            let mut state = self.lock();
            while state.waiting.len() < CHUNK && !state.flushing && !state.closing {
                state = wait(&self.work, state);
            }
            if state.waiting.is_empty() {
                if state.closing {
                    return Ok(());
                }
                state.flushing = false;
                self.idle.notify_all();
                continue;
            }
            mem::swap(&mut state.waiting, &mut writing);
            drop(state);
            self.room.notify_all();
            for chunk in writing.chunks(CHUNK) {
                self.file.write_all_at(chunk, offset)?;
                offset += chunk.len() as u64;
            }
            writing.clear();
        }
    }
}

fn wait<'state>(condvar: &Condvar, state: MutexGuard<'state, State>) -> MutexGuard<'state, State> {
    condvar.wait(state).expect("no thread panics with the vector")
}

impl Peer for MutexVec {
    type Appender<'log> = &'log MutexVec;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<MutexVec> {
        let state = Mutex::new(State { waiting: Vec::with_capacity(WAITING_MAX), ..State::default() });
        let file = File::create_new(dir.join(FILE))?;
        let [work, room, idle] = [(); 3].map(|()| Condvar::new());
        let shared = Arc::new(Shared { file, state, work, room, idle });
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            let result = of_thread.write();
            of_thread.lock().ended = true;
            of_thread.room.notify_all();
            of_thread.idle.notify_all();
            result
        });
        Ok(MutexVec { shared, thread })
    }

    fn appender(&self, _thread: u32) -> Result<&MutexVec> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        state.flushing = true;
        self.shared.work.notify_one();
        while state.flushing && !state.ended {
            state = wait(&self.shared.idle, state);
        }
        if state.ended {
            return Err("the thread has ended".into());
        }
        Ok(self.shared.file.sync_data()?)
    }

    fn close(self) -> Result<()> {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        self.thread.join().map_err(|_| "the thread panicked")?
    }

    fn replay(dir: &Path, _setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        replay(dir, each)
    }
}

impl Appender for &MutexVec {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.shared.lock();
        while state.waiting.len() + 4 + record.len() > WAITING_MAX {
            if state.ended {
                return Err("the thread has ended".into());
            }
            state = wait(&self.shared.room, state);
        }
        let before = state.waiting.len();
        push(&mut state.waiting, record);
        let has_chunk = before < CHUNK && state.waiting.len() >= CHUNK;
        drop(state);
        if has_chunk {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn append_durable(&mut self, _record: &[u8]) -> Result<()> {
        Err("is not durable: that is groupcommit".into())
    }

    fn append_batch_durable(&mut self, _records: &[Vec<u8>]) -> Result<()> {
        Err("is not durable: that is groupcommit".into())
    }
}

/// Appends a record to a vector.
pub fn push(to: &mut Vec<u8>, record: &[u8]) {
    to.extend_from_slice(&(record.len() as u32).to_le_bytes());
    to.extend_from_slice(record);
}

/// Reads the file in pieces of 1 MiB. A length of 0 says that the rest of a block of 4096 bytes is empty;
/// zeros in front of the block are the end.
///
/// # Errors
/// What the system says, or that a record is cut off.
pub fn replay(dir: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let path = dir.join(FILE);
    let (file, len) = (File::open(&path)?, fs::metadata(&path)?.len());
    let mut buf: Vec<u8> = Vec::new();
    // Bytes of the file before the buffer, and bytes of the buffer that were taken.
    let (mut offset, mut taken) = (0, 0);
    loop {
        let left = &buf[taken..];
        let record = match left.first_chunk().map(|len| u32::from_le_bytes(*len) as usize) {
            Some(0) => {
                let at = offset + taken as u64;
                let next = (at + 1).next_multiple_of(4096);
                taken += (next - at).min(left.len() as u64) as usize;
                continue;
            }
            Some(len) => left.get(4..4 + len),
            None => None,
        };
        if let Some(record) = record {
            each(record);
            taken += 4 + record.len();
            continue;
        }
        offset += taken as u64;
        buf.drain(..taken);
        taken = 0;
        let had = buf.len();
        let more = (len - offset - had as u64).min(CHUNK as u64) as usize;
        if more == 0 {
            let is_end = buf.iter().all(|&byte| byte == 0);
            return if is_end { Ok(()) } else { Err("the last record is cut off".into()) };
        }
        buf.resize(had + more, 0);
        file.read_exact_at(&mut buf[had..], offset + had as u64)?;
    }
}
