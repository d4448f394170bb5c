//! The device without a log, in the two ways in which a log can use it: a loop of one write and one sync, and a
//! stream of large direct writes.
//!
//! The files are written, or allocated, before the clock starts. For one thread; records are laid at fixed places, so
//! that nothing is encoded and nothing is copied that need not be.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use braidlog::storage::{AlignedBuf, IO_ALIGN};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::mutexvec::{CHUNK, FILE};
use super::{Appender, Peer, Result, Setup};
use crate::record::Source;

/// Blocks of the file of the loop: it ends there.
const BLOCKS: u64 = 64 << 10;
/// Bytes that are allocated for the stream.
const STREAM_BYTES: u64 = (1 << 30) + (1 << 20);

fn open(dir: &Path, is_direct: bool) -> Result<File> {
    let flags = if is_direct { OFlags::DIRECT.bits() as i32 } else { 0 };
    Ok(OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(dir.join(FILE))?)
}

/// Reads the records that stand at multiples of `stride`, up to the first place without one.
fn replay(dir: &Path, setup: &Setup, stride: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
    let path = dir.join(FILE);
    let (file, len) = (File::open(&path)?, fs::metadata(&path)?.len());
    let mut buf = vec![0; CHUNK];
    for offset in (0..len).step_by(CHUNK) {
        let count = CHUNK.min((len - offset) as usize);
        file.read_exact_at(&mut buf[..count], offset)?;
        for record in buf[..count].chunks_exact(stride).map(|place| &place[..setup.record_bytes]) {
            // A record of thread 0 has a check and a filler that are not all zero.
            if record.iter().all(|&byte| byte == 0) {
                return Ok(());
            }
            each(record);
        }
    }
    Ok(())
}

/// Writes a block of 4096 bytes with one record, and syncs it; the next one goes to the next block.
#[derive(Debug)]
pub struct Sync {
    file: File,
    state: Mutex<(AlignedBuf, u64)>,
}

impl Peer for Sync {
    type Appender<'log> = &'log Sync;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Sync> {
        if setup.threads != 1 {
            return Err("is a loop of one thread".into());
        }
        // In the way of the loop from the beginning: cached pages would be in the way of direct writes.
        let file = open(dir, setup.variant == "direct")?;
        let zeros = AlignedBuf::zeroed(CHUNK);
        for offset in (0..BLOCKS * IO_ALIGN as u64).step_by(CHUNK) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Sync { file, state: Mutex::new((AlignedBuf::zeroed(IO_ALIGN), 0)) })
    }

    fn appender(&self, _thread: u32) -> Result<&Sync> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        let blocks = self.state.into_inner().expect("no thread panics with the block").1;
        Ok(self.file.set_len(blocks * IO_ALIGN as u64)?)
    }

    fn replay(dir: &Path, setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        replay(dir, setup, IO_ALIGN, each)
    }
}

impl Appender for &Sync {
    fn append(&mut self, _record: &[u8]) -> Result<()> {
        Err("is always durable".into())
    }

    fn append_durable(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.state.lock().expect("no thread panics with the block");
        let (block, next) = &mut *state;
        if *next == BLOCKS {
            return Err("the prepared file is full".into());
        }
        block[..record.len()].copy_from_slice(record);
        self.file.write_all_at(block, *next * IO_ALIGN as u64)?;
        *next += 1;
        Ok(self.file.sync_data()?)
    }

    fn append_batch_durable(&mut self, _records: &[Vec<u8>]) -> Result<()> {
        Err("has one record in a block".into())
    }
}

/// Writes 1 MiB at a time past the page cache, from one buffer; the next write begins when the last is done.
#[derive(Debug)]
pub struct Stream {
    file: File,
    record_bytes: usize,
    state: Mutex<StreamState>,
}

#[derive(Debug)]
struct StreamState {
    buf: AlignedBuf,
    filled: usize,
    offset: u64,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().expect("no thread panics with the buffer")
    }

    fn write(&self, state: &mut StreamState, len: usize) -> Result<()> {
        self.file.write_all_at(&state.buf[..len], state.offset)?;
        state.offset += len as u64;
        state.filled = 0;
        Ok(())
    }
}

impl Peer for Stream {
    type Appender<'log> = &'log Stream;

    const FLUSH_SYNCS: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Stream> {
        if setup.threads != 1 {
            return Err("is a loop of one thread".into());
        }
        let file = open(dir, true)?;
        fallocate(&file, FallocateFlags::empty(), 0, STREAM_BYTES)?;
        file.sync_all()?;
        // All records but for their numbers are there before the clock starts.
        let mut source = Source::new(0, setup.record_bytes);
        let mut buf = AlignedBuf::zeroed(CHUNK);
        let record = source.make();
        buf.chunks_exact_mut(setup.record_bytes).for_each(|place| place.copy_from_slice(record));
        let state = Mutex::new(StreamState { buf, filled: 0, offset: 0 });
        Ok(Stream { file, record_bytes: setup.record_bytes, state })
    }

    fn appender(&self, _thread: u32) -> Result<&Stream> {
        Ok(self)
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.lock();
        let (filled, len) = (state.filled, state.filled.next_multiple_of(IO_ALIGN));
        state.buf[filled..len].fill(0);
        self.write(&mut state, len)?;
        Ok(self.file.sync_data()?)
    }

    fn close(self) -> Result<()> {
        let written = self.lock().offset;
        Ok(self.file.set_len(written)?)
    }

    fn replay(dir: &Path, setup: &Setup, each: impl FnMut(&[u8])) -> Result<()> {
        replay(dir, setup, setup.record_bytes, each)
    }
}

impl Appender for &Stream {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let at = state.filled;
        let place = &mut state.buf[at..at + record.len()];
        place[..16].copy_from_slice(&record[..16]);
        let end = record.len() - 8;
        place[end..].copy_from_slice(&record[end..]);
        state.filled += record.len();
        if state.filled + self.record_bytes > CHUNK {
            self.write(&mut state, CHUNK)?;
        }
        Ok(())
    }

    fn append_durable(&mut self, _record: &[u8]) -> Result<()> {
        Err("is not durable".into())
    }

    fn append_batch_durable(&mut self, _records: &[Vec<u8>]) -> Result<()> {
        Err("is not durable".into())
    }
}
