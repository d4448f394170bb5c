//! Whole reads and writes over calls that may be short or interrupted.

use std::io::{Error, ErrorKind, Result};

use crate::LogFile;

/// Writes all of `buf` at `offset`: short writes go on where they stopped, interrupted ones again.
///
/// # Errors
/// The first other error, with no word on how many bytes were written; `WriteZero` if the file takes none.
pub fn write_all_at(file: &dyn LogFile, mut buf: &[u8], mut offset: u64) -> Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(Error::new(ErrorKind::WriteZero, "the file took no bytes")),
            Ok(written) => {
                buf = &buf[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at `offset` until `buf` is full or the file ends; how many bytes were read.
///
/// # Errors
/// The first error that is not `Interrupted`.
pub fn read_full_at(file: &dyn LogFile, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether an error says that the device or the quota has no space left: the one failure of a write that
/// heals.
pub fn is_no_space(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
