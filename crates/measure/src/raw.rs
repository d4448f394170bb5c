//! The device without a log: a loop of one write and one sync, and a stream of large writes.
//!
//! The loop's file was written with zeros and synced before, so that the loop changes no size and allocates
//! nothing: what it takes is what any log on this device has to take for a lone commit. The stream's file has its
//! space, as the segments of a log have theirs, and is written once from its beginning to its end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidlog::storage::{
    AlignedBuf, FileAccess, FileIo, IO_ALIGN, LogFile, OsStorage, Storage, write_all_at,
};

/// Bytes of each write of the stream.
pub const STREAM_WRITE_BYTES: usize = 1 << 20;
/// What the loop fills its blocks with.
const FILLER: u8 = 0xB1;

/// A prepared file, and the place of the next write.
#[derive(Debug)]
pub struct RawFile {
    file: Arc<dyn LogFile>,
    block: AlignedBuf,
    blocks: u64,
    next: u64,
}

/// How long each turn of a loop took.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// Write and sync.
    pub whole: Vec<Duration>,
    /// The sync alone.
    pub sync: Vec<Duration>,
}

impl Turns {
    /// Turns per second.
    pub fn rate(&self) -> f64 {
        self.whole.len() as f64 / self.whole.iter().sum::<Duration>().as_secs_f64()
    }
}

impl RawFile {
    /// Prepares a file of so many blocks of 4096 bytes at `path`, where nothing may be yet.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` or `Unsupported` from a file system without direct I/O.
    pub fn prepare(path: &Path, io: FileIo, blocks: u64) -> io::Result<RawFile> {
        // In the way of the loop from the beginning: cached pages would be in the way of direct writes.
        let file = create(path, io)?;
        let zeros = AlignedBuf::zeroed(STREAM_WRITE_BYTES);
        let len = blocks * IO_ALIGN as u64;
        for offset in (0..len).step_by(zeros.len()) {
            let count = zeros.len().min((len - offset) as usize);
            write_all_at(&*file, &zeros[..count], offset)?;
        }
        file.sync_all()?;
        let mut block = AlignedBuf::zeroed(IO_ALIGN);
        block.fill(FILLER);
        Ok(RawFile { file, block, blocks, next: 0 })
    }

    /// Writes and syncs block after block; after the last comes the first.
    ///
    /// # Errors
    /// What the system says.
    pub fn turns(&mut self, count: u64) -> io::Result<Turns> {
        let mut turns = Turns::default();
        (0..count).try_for_each(|_| self.turn(&mut turns))?;
        Ok(turns)
    }

    /// As [`RawFile::turns`], for so long, at least one turn.
    ///
    /// # Errors
    /// What the system says.
    pub fn turns_for(&mut self, time: Duration) -> io::Result<Turns> {
        let mut turns = Turns::default();
        let start = Instant::now();
        loop {
            self.turn(&mut turns)?;
            if start.elapsed() >= time {
                return Ok(turns);
            }
        }
    }

    fn turn(&mut self, turns: &mut Turns) -> io::Result<()> {
        let offset = self.next * IO_ALIGN as u64;
        let start = Instant::now();
        write_all_at(&*self.file, &self.block, offset)?;
        let written = Instant::now();
        self.file.sync_data()?;
        let synced = Instant::now();
        turns.whole.push(synced - start);
        turns.sync.push(synced - written);
        self.next = (self.next + 1) % self.blocks;
        Ok(())
    }
}

/// Streams writes of 1 MiB into a fresh file at `path` for about `time`, at least one and at most `bytes_max`, and
/// syncs once; bytes per second, the sync included. The file stays.
///
/// # Errors
/// What the system says; `InvalidInput` or `Unsupported` from a file system without direct I/O.
pub fn stream(path: &Path, io: FileIo, time: Duration, bytes_max: u64) -> io::Result<f64> {
    let file = create(path, io)?;
    let mut chunk = AlignedBuf::zeroed(STREAM_WRITE_BYTES);
    chunk.fill(FILLER);
    let bytes_max = (bytes_max / chunk.len() as u64).max(1) * chunk.len() as u64;
    file.allocate(bytes_max)?;
    file.sync_all()?;
    let start = Instant::now();
    let mut offset = 0;
    loop {
        write_all_at(&*file, &chunk, offset)?;
        offset += chunk.len() as u64;
        if offset == bytes_max || start.elapsed() >= time {
            break;
        }
    }
    file.sync_data()?;
    Ok(offset as f64 / start.elapsed().as_secs_f64())
}

/// Whether an error says that the file system has no direct I/O.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

fn create(path: &Path, io: FileIo) -> io::Result<Arc<dyn LogFile>> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    OsStorage.open_dir(parent, false)?.open(name, FileAccess::CreateNew, io)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn loop_writes_block_after_block_and_begins_again() {
        for io in [FileIo::Buffered, FileIo::Direct] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("raw");
            let mut file = match RawFile::prepare(&path, io, 3) {
                Err(error) if io == FileIo::Direct && is_unsupported(&error) => continue,
                file => file.unwrap(),
            };
            let turns = file.turns(2).unwrap();
            assert_eq!((turns.whole.len(), turns.sync.len()), (2, 2));
            assert!(turns.whole.iter().zip(&turns.sync).all(|(whole, sync)| whole >= sync));
            assert!(turns.rate() > 0.0);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes, [vec![FILLER; 2 * IO_ALIGN], vec![0; IO_ALIGN]].concat());
            assert_eq!(file.turns_for(Duration::ZERO).unwrap().whole.len(), 1);
            file.turns(1).unwrap();
            assert_eq!(fs::read(&path).unwrap(), vec![FILLER; 3 * IO_ALIGN]);
            assert!(RawFile::prepare(&path, io, 3).is_err(), "a file that is there is left alone");
        }
    }

    #[test]
    fn stream_ends_at_its_bytes_and_at_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole");
        assert!(stream(&whole, FileIo::Buffered, Duration::from_secs(60), 3 << 20).unwrap() > 0.0);
        assert_eq!(fs::read(&whole).unwrap(), vec![FILLER; 3 << 20]);
        let begun = dir.path().join("begun");
        assert!(stream(&begun, FileIo::Buffered, Duration::ZERO, 3 << 20).unwrap() > 0.0);
        assert_eq!(fs::read(&begun).unwrap()[..2 << 20], [vec![FILLER; 1 << 20], vec![0; 1 << 20]].concat());
    }
}
