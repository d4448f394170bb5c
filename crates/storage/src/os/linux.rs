//! Linux's own calls: space, direct I/O, locks, page cache, renames that do not replace, inotify.
//!
//! The rule: each function is one call with its error as the system gives it; an interrupted call that
//! takes no effect is made again.
#![expect(unsafe_code, reason = "the standard library does not wrap these system calls")]

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::c_path;
use super::file::signed_len;
use crate::{FileIo, Watch};

/// The flags of `open` for a way of I/O.
pub(super) fn open_flags(io: FileIo) -> Result<i32> {
    Ok(match io {
        FileIo::Buffered => 0,
        FileIo::Direct => libc::O_DIRECT,
        FileIo::DirectSync => libc::O_DIRECT | libc::O_DSYNC,
    })
}

/// What an open file needs beyond its flags.
pub(super) fn prepare(_file: &File, _io: FileIo) -> Result<()> {
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
    let len = signed_len(len)?;
    if len == 0 {
        return Ok(());
    }
    // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours.
    retry(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) })?;
    Ok(())
}

/// A lock of the whole file.
fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is plain integers, for which zeros are valid: from byte 0 to the end, and no
    // process, as locks of an open file description demand.
    let mut lock: libc::flock = unsafe { zeroed() };
    lock.l_type = kind as libc::c_short;
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
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Drops the file's clean pages from the page cache.
pub(super) fn drop_cache(file: &File) -> Result<()> {
    // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(Error::from_raw_os_error(code)),
    }
}

/// Renames unless the new name is taken.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // By number, as not every C library has the function.
    // SAFETY: both strings end with a zero byte and outlive the call, which only reads them; the other
    // arguments are the integers that the kernel expects in these places.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// What wakes a watch: a written file, and every change of names.
const WATCHED: u32 =
    libc::IN_MODIFY | libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO;

/// Starts to watch a directory.
pub(super) fn watch(directory: &Path) -> Result<Box<dyn Watch>> {
    let directory = c_path(directory)?;
    // SAFETY: the call takes no pointers.
    let queue = retry(|| unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let queue = unsafe { OwnedFd::from_raw_fd(queue) };
    // SAFETY: the descriptor is open, and the string ends with a zero byte and outlives the call.
    retry(|| unsafe { libc::inotify_add_watch(queue.as_raw_fd(), directory.as_ptr(), WATCHED) })?;
    Ok(Box::new(Inotify { queue }))
}

#[derive(Debug)]
struct Inotify {
    queue: OwnedFd,
}

impl Inotify {
    /// Whether an event is in the queue, or comes within `timeout`.
    fn poll(&self, timeout: Duration) -> Result<bool> {
        let started = Instant::now();
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            // Rounded up, or the last millisecond would be a busy loop.
            let left_ms = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
            let mut ready = libc::pollfd { fd: self.queue.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: `ready` is one `pollfd`, ours to be written, and the count says so.
            let count = match unsafe { libc::poll(&raw mut ready, 1, left_ms) } {
                -1 => {
                    let error = Error::last_os_error();
                    if error.kind() != ErrorKind::Interrupted {
                        return Err(error);
                    }
                    0
                }
                count => count,
            };
            if count > 0 {
                return Ok(true);
            }
            if started.elapsed() >= timeout {
                return Ok(false);
            }
        }
    }

    /// Empties the queue: what happened is not asked, the reader looks for itself.
    fn drain(&self) -> Result<()> {
        let mut events = [0_u8; 4096];
        loop {
            // SAFETY: the descriptor is open, and `events` is ours to be written for its whole length.
            let read =
                unsafe { libc::read(self.queue.as_raw_fd(), events.as_mut_ptr().cast(), events.len()) };
            if read > 0 {
                continue;
            }
            if read == 0 {
                return Ok(());
            }
            let error = Error::last_os_error();
            match error.kind() {
                ErrorKind::WouldBlock => return Ok(()),
                ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
        }
    }
}

impl Watch for Inotify {
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        if !self.poll(timeout)? {
            return Ok(false);
        }
        self.drain()?;
        Ok(true)
    }
}
