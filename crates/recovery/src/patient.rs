//! A file of which some bytes cannot be read: they are given as bytes that are nothing, and noted.
//!
//! The rule: what the device refuses is a hole like any other damage. The bytes in its place are not zeros, which could
//! be taken for the end of a segment, and prove themselves to be nothing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use braidlog_format::BLOCK_LEN;
use braidlog_storage::LogFile;

use crate::locked::locked;

/// What stands in the place of a byte that cannot be read.
const NOTHING: u8 = 0xA5;
/// What the system says of a device that cannot give back a block (`EIO`).
const EIO: i32 = 5;

/// A file that is read wherever it can be.
#[derive(Debug)]
pub(crate) struct Patient {
    file: Arc<dyn LogFile>,
    /// The blocks that could not be read until now, by their offsets.
    unreadable: Mutex<BTreeSet<u64>>,
}

impl Patient {
    pub(crate) fn over(file: Arc<dyn LogFile>) -> Patient {
        Patient { file, unreadable: Mutex::default() }
    }

    /// Whether a block that could not be read reaches behind this offset.
    pub(crate) fn is_unreadable_behind(&self, offset: u64) -> bool {
        let blocks = locked(&self.unreadable);
        blocks.last().is_some_and(|&block| block.saturating_add(BLOCK_LEN) > offset)
    }

    /// Whether the block at this offset could not be read.
    pub(crate) fn is_unreadable(&self, block: u64) -> bool {
        locked(&self.unreadable).contains(&block)
    }

    /// Reads block by block what could not be read at once.
    fn read_blocks(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.file.len()?;
        let mut done = 0;
        for piece in buf.chunks_mut(BLOCK_LEN as usize) {
            let at = offset.saturating_add(done as u64);
            let there = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
            if there == 0 {
                break;
            }
            match self.file.read_at(piece, at) {
                Ok(read) if read < there => return Ok(done + read),
                Ok(_) => {}
                Err(error) if is_unreadable(&error) => {
                    piece.fill(NOTHING);
                    let block = at - at % BLOCK_LEN;
                    locked(&self.unreadable).insert(block);
                }
                Err(error) => return Err(error),
            }
            done += there;
        }
        Ok(done)
    }
}

/// Whether an error says that bytes are lost, and not that the call was wrong or came at the wrong time.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO) || error.kind() == ErrorKind::InvalidData
}

fn read_only() -> io::Error {
    ErrorKind::PermissionDenied.into()
}

impl LogFile for Patient {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.file.read_at(buf, offset) {
            Err(error) if is_unreadable(&error) => self.read_blocks(buf, offset),
            read => read,
        }
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        Err(read_only())
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
