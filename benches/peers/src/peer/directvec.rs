//! The twin of [`mutexvec`](super::mutexvec) that writes past the page cache: a mutex around two aligned buffers
//! of 1 MiB; one is filled while a thread writes the other. No checksums.
//!
//! Records run over from one buffer into the next. A flush fills a block of 4096 bytes with zeros.

use std::fs::{File, OpenOptions};
use std::mem;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use braidlog::storage::{AlignedBuf, IO_ALIGN};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::mutexvec::{self, CHUNK, FILE};
use super::{Appender, Peer, Result, Setup};

/// Bytes by which the file is made larger ahead of need.
const AHEAD: u64 = 64 << 20;

/// The log.
#[derive(Debug)]
pub struct DirectVec {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    /// A buffer is full, or the log is closed.
    work: Condvar,
    /// A buffer was written, or the thread has ended.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    filling: AlignedBuf,
    filled: usize,
    /// The other buffer, if it is empty and nobody writes it.
    spare: Option<AlignedBuf>,
    /// The other buffer, if it waits for the thread; how many bytes of it are to be written.
    ready: Option<(AlignedBuf, usize)>,
    closing: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the buffers")
    }

    /// Waits until the other buffer is empty.
    fn wait_for_spare<'state>(
        &self,
        mut state: MutexGuard<'state, State>,
    ) -> Result<MutexGuard<'state, State>> {
        while state.spare.is_none() {
            if state.ended {
                return Err("the thread has ended".into());
            }
            state = self.room.wait(state).expect("no thread panics with the buffers");
        }
        Ok(state)
    }

    /// Hands the first `len` bytes to the thread, and goes on with the other buffer.
    fn hand_over(&self, state: &mut State, len: usize) {
        let spare = state.spare.take().expect("the other buffer is empty");
        state.ready = Some((mem::replace(&mut state.filling, spare), len));
        state.filled = 0;
        self.work.notify_one();
    }

    fn write(&self) -> Result<()> {
        let (mut offset, mut allocated) = (0, 0);
        loop {
            let mut state = self.lock();
            let (buf, len) = loop {
                match state.ready.take() {
                    Some(ready) => break ready,
                    None if state.closing => return Ok(()),
                    None => state = self.work.wait(state).expect("no thread panics with the buffers"),
                }
            };
            drop(state);
            if offset + len as u64 > allocated {
                fallocate(&self.file, FallocateFlags::KEEP_SIZE, allocated, AHEAD)?;
                allocated += AHEAD;
            }
            self.file.write_all_at(&buf[..len], offset)?;
            offset += len as u64;
            self.lock().spare = Some(buf);
            self.room.notify_all();
        }
    }
}

impl Peer for DirectVec {
    type Appender<'log> = &'log DirectVec;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, _setup: &Setup) -> Result<DirectVec> {
        let direct = OFlags::DIRECT.bits() as i32;
        let file =
            OpenOptions::new().write(true).create_new(true).custom_flags(direct).open(dir.join(FILE))?;
        let state = State {
            filling: AlignedBuf::zeroed(CHUNK),
            filled: 0,
            spare: Some(AlignedBuf::zeroed(CHUNK)),
            ready: None,
            closing: false,
            ended: false,
        };
        let [work, room] = [(); 2].map(|()| Condvar::new());
        let shared = Arc::new(Shared { file, state: Mutex::new(state), work, room });
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            let result = of_thread.write();
            of_thread.lock().ended = true;
            of_thread.room.notify_all();
            result
        });
        Ok(DirectVec { shared, thread })
    }

    fn appender(&self, _thread: u32) -> Result<&DirectVec> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.shared.wait_for_spare(self.shared.lock())?;
        if state.filled > 0 {
            let (filled, len) = (state.filled, state.filled.next_multiple_of(IO_ALIGN));
            state.filling[filled..len].fill(0);
            self.shared.hand_over(&mut state, len);
            drop(self.shared.wait_for_spare(state)?);
        }
        Ok(self.shared.file.sync_data()?)
    }

    fn close(self) -> Result<()> {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        self.thread.join().map_err(|_| "the thread panicked")?
    }

    fn replay(dir: &Path, _setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        mutexvec::replay(dir, each)
    }
}

impl Appender for &DirectVec {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.shared.lock();
        // Room for all of it before the first byte: waiting lets others in.
        while state.filled + 4 + record.len() > CHUNK && state.spare.is_none() {
            state = self.shared.wait_for_spare(state)?;
        }
        let len = (record.len() as u32).to_le_bytes();
        for mut bytes in [&len[..], record] {
            loop {
                let State { filling, filled, .. } = &mut *state;
                let count = bytes.len().min(CHUNK - *filled);
                filling[*filled..*filled + count].copy_from_slice(&bytes[..count]);
                *filled += count;
                bytes = &bytes[count..];
                if bytes.is_empty() {
                    break;
                }
                self.shared.hand_over(&mut state, CHUNK);
            }
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
