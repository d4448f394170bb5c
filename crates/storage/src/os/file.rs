//! A file of the operating system.
//!
//! The rule: one call here is one system call, with its result as the system gives it. The one exception is
//! a file system that cannot allocate space without writing.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileExt, MetadataExt};

use super::system;
use crate::{AlignedBuf, FileIo, IO_ALIGN, LogFile, write_all_at};

/// Zeros written at once where space cannot be allocated without writing.
const ZEROS_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct OsFile {
    file: File,
}

impl OsFile {
    pub(super) fn new(file: File, io: FileIo) -> Result<OsFile> {
        system::prepare(&file, io)?;
        Ok(OsFile { file })
    }

    /// Takes space by writing zeros behind the end of the file; that is the only way to learn the truth
    /// about space from a file system that cannot allocate. Bytes before the end are another writer's
    /// business and stay as they are: a hole among them stays a hole.
    fn allocate_by_writing(&self, len: u64) -> Result<()> {
        let mut end = self.len()?;
        if end >= len {
            return Ok(());
        }
        let zeros =
            AlignedBuf::zeroed(ZEROS_BYTES.min((len - end).next_multiple_of(IO_ALIGN as u64) as usize));
        while end < len {
            let count = (zeros.len() as u64).min(len - end) as usize;
            write_all_at(self, &zeros[..count], end)?;
            end += count as u64;
        }
        Ok(())
    }
}

impl LogFile for OsFile {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn links(&self) -> Result<u64> {
        Ok(self.file.metadata()?.nlink())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        match system::allocate(&self.file, len) {
            Err(error) if error.kind() == ErrorKind::Unsupported => self.allocate_by_writing(len),
            result => result,
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&self) -> Result<()> {
        system::drop_cache(&self.file)
    }
}

/// The length of a file as the system's signed type.
pub(super) fn signed_len(len: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(len).map_err(|_| Error::from(ErrorKind::FileTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_full_at;

    #[test]
    fn allocation_by_writing_extends_with_zeros_and_keeps_what_is_there() {
        let file = OsFile::new(tempfile::tempfile().unwrap(), FileIo::Buffered).unwrap();
        write_all_at(&file, b"kept", 0).unwrap();
        let len = ZEROS_BYTES as u64 + 5000;
        file.allocate_by_writing(len).unwrap();
        assert_eq!(file.len().unwrap(), len);
        let mut bytes = vec![1; len as usize];
        assert_eq!(read_full_at(&file, &mut bytes, 0).unwrap(), bytes.len());
        assert_eq!(&bytes[..4], b"kept");
        assert!(bytes[4..].iter().all(|&byte| byte == 0));

        file.allocate_by_writing(10).unwrap();
        assert_eq!(file.len().unwrap(), len, "allocation never cuts");
    }
}
