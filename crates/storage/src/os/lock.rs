//! The writer lock: an open-file-description lock on one file.
//!
//! The rule: the lock belongs to one open file, not to a process. So two opens in one process exclude
//! each other, closing some other descriptor of the file does not release it (as it would with classic
//! POSIX locks), and the kernel releases it when the process dies, however it dies.

use std::fs::File;
use std::io::Result;

use super::system;
use crate::LockGuard;

#[derive(Debug)]
pub(super) struct OsLock {
    file: File,
}

impl OsLock {
    /// Takes the lock on `file`; `None` if another open file holds it.
    pub(super) fn take(file: File) -> Result<Option<OsLock>> {
        Ok(system::try_lock(&file)?.then_some(OsLock { file }))
    }
}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Closing would do, unless a child process that was forked meanwhile holds a copy of the
        // descriptor: with an explicit unlock the lock is free all the same. It cannot fail on a file
        // that is locked and open, and the close that follows is the second try.
        let _ = system::unlock(&self.file);
    }
}

impl LockGuard for OsLock {}
