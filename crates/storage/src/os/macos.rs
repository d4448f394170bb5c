//! macOS's own calls: space, uncached I/O, locks, renames that do not replace.
//!
//! The rule: each function is one call with its error as the system gives it; an interrupted call that
//! takes no effect is made again. `F_FULLFSYNC` is what the standard library's sync calls use here.
#![expect(unsafe_code, reason = "the standard library does not wrap these system calls")]

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::c_path;
use super::file::signed_len;
use crate::{FileIo, Watch};

/// The flags of `open` for a way of I/O.
///
/// # Errors
/// `Unsupported` for writes that are durable when they return: `O_DSYNC` here stops at the drive's cache.
pub(super) fn open_flags(io: FileIo) -> Result<i32> {
    match io {
        FileIo::Buffered | FileIo::Direct => Ok(0),
        FileIo::DirectSync => {
            Err(Error::new(ErrorKind::Unsupported, "macOS has no write that is durable when it returns"))
        }
    }
}

/// What an open file needs beyond its flags.
pub(super) fn prepare(file: &File, io: FileIo) -> Result<()> {
    if io == FileIo::Direct {
        // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours.
        retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) })?;
    }
    Ok(())
}

/// Repeats a call that returns -1 while a signal interrupts it.
fn retry(mut call: impl FnMut() -> libc::c_int) -> Result<libc::c_int> {
    loop {
        let result = call();
        if result != -1 {
            return Ok(result);
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Gives bytes `0..len` space and extends the file to `len`; `Unsupported` where the file system cannot.
pub(super) fn allocate(file: &File, len: u64) -> Result<()> {
    let end = file.metadata()?.len();
    if len <= end {
        return Ok(());
    }
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: signed_len(len - end)?,
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open while `file` is borrowed, and `store` is ours to be written.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut store) })?;
    file.set_len(len)
}

/// A lock of the whole file.
fn whole_file(kind: libc::c_short) -> libc::flock {
    // SAFETY: `flock` is plain integers, for which zeros are valid: from byte 0 to the end, and no
    // process, as locks of an open file description demand.
    let mut lock: libc::flock = unsafe { zeroed() };
    lock.l_type = kind;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Takes the lock; false if another open file holds it.
pub(super) fn try_lock(file: &File) -> Result<bool> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is open while `file` is borrowed, and `lock` outlives the call, which reads it.
    match retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Releases the lock.
pub(super) fn unlock(file: &File) -> Result<()> {
    let lock = whole_file(libc::F_UNLCK);
    // SAFETY: as in `try_lock`.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) })?;
    Ok(())
}

/// Whether another open file holds the lock.
pub(super) fn is_locked(file: &File) -> Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is open while `file` is borrowed, and `lock` is ours to be written.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK)
}

/// macOS has no call that drops one file from its cache; a file opened for uncached I/O is not in it.
pub(super) fn drop_cache(_file: &File) -> Result<()> {
    Ok(())
}

/// Renames unless the new name is taken.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: both strings end with a zero byte and outlive the call, which only reads them.
    retry(|| unsafe { libc::renamex_np(from.as_ptr(), to.as_ptr(), libc::RENAME_EXCL) })?;
    Ok(())
}

/// A directory's own event tells of its names only, never of a write to its files.
///
/// # Errors
/// `Unsupported`, always: read again at intervals instead.
pub(super) fn watch(_directory: &Path) -> Result<Box<dyn Watch>> {
    Err(Error::new(ErrorKind::Unsupported, "macOS cannot watch the files of a directory for writes"))
}
