//! The device without a log: a loop of one write and one `fdatasync`, into a file whose blocks are all there.
//!
//! The file was written with zeros and synced before, so that the loop changes no size and allocates nothing:
//! what it takes is what any log on this device has to take for a lone commit.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use braidlog::storage::{AlignedBuf, IO_ALIGN};

/// How the loop writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Through the page cache.
    Buffered,
    /// Past the page cache (Linux).
    Direct,
}

/// A prepared file, and the place of the next write.
#[derive(Debug)]
pub struct RawFile {
    file: File,
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

impl RawFile {
    /// Prepares a file of so many blocks.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` from a file system without direct I/O.
    pub fn prepare(path: &Path, way: Way, blocks: u64) -> io::Result<RawFile> {
        let zeros = AlignedBuf::zeroed(1 << 20);
        let len = blocks * IO_ALIGN as u64;
        // In the way of the loop from the beginning: cached pages would be in the way of direct writes.
        let file = open(path, way)?;
        for offset in (0..len).step_by(zeros.len()) {
            let count = zeros.len().min((len - offset) as usize);
            file.write_all_at(&zeros[..count], offset)?;
        }
        file.sync_all()?;
        let mut block = AlignedBuf::zeroed(IO_ALIGN);
        block.fill(0xB1);
        Ok(RawFile { file, block, blocks, next: 0 })
    }

    /// Writes and syncs block after block.
    ///
    /// # Errors
    /// What the system says; `StorageFull` if the file has no such many blocks left.
    pub fn turns(&mut self, count: u64) -> io::Result<Turns> {
        let mut turns = Turns::default();
        for _ in 0..count {
            if self.next == self.blocks {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let start = Instant::now();
            self.file.write_all_at(&self.block, self.next * IO_ALIGN as u64)?;
            let written = Instant::now();
            self.file.sync_data()?;
            let synced = Instant::now();
            turns.whole.push(synced - start);
            turns.sync.push(synced - written);
            self.next += 1;
        }
        Ok(turns)
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path, way: Way) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = match way {
        Way::Buffered => 0,
        Way::Direct => libc::O_DIRECT,
    };
    OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path, way: Way) -> io::Result<File> {
    match way {
        Way::Buffered => OpenOptions::new().write(true).create_new(true).open(path),
        Way::Direct => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch;

    #[test]
    fn loop_writes_each_block_once_and_no_further() {
        for way in [Way::Buffered, Way::Direct] {
            let dir = scratch::directory(None).unwrap();
            let path = dir.path().join("raw");
            let mut file = match RawFile::prepare(&path, way, 3) {
                Err(error) if way == Way::Direct && error.kind() == io::ErrorKind::InvalidInput => continue,
                file => file.unwrap(),
            };
            let turns = file.turns(2).unwrap();
            assert_eq!((turns.whole.len(), turns.sync.len()), (2, 2));
            assert!(turns.whole.iter().zip(&turns.sync).all(|(whole, sync)| whole >= sync));
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes, [vec![0xB1; 2 * IO_ALIGN], vec![0; IO_ALIGN]].concat());
            assert!(file.turns(2).is_err());
        }
    }
}
