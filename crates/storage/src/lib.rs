//! What Braidlog asks of an operating system: names, bytes, sync, lock, time. It knows nothing of records.
//!
//! Three traits, used as `dyn`: a [`Storage`] opens directories, a [`LogDir`] holds names and the lock, a
//! [`LogFile`] holds bytes. [`OsStorage`] is the real one; `braidlog-sim` has one that loses and tears.
//!
//! # What an implementation promises
//! 1. A write that returned is seen by every later read through any handle, until a crash.
//! 2. [`LogFile::sync_data`] and [`LogFile::sync_all`] that returned `Ok` mean that every write to the
//!    file that had *returned before the call* survives a power cut, with the file size that reading it
//!    back needs; `sync_all` covers the exact file length too.
//! 3. A created, renamed or removed name survives a power cut once a later [`LogDir::sync`] returned.
//! 4. After a failed sync nothing is known about the file's unsynced bytes. Nobody here asks again.

mod aligned;
mod clock;
mod io;
mod os;

use std::fmt::Debug;
use std::io::{ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use aligned::{AlignedBuf, IO_ALIGN};
pub use clock::{Clock, SystemClock};
pub use io::{is_no_space, read_full_at, write_all_at};
pub use os::OsStorage;

/// Opens directories.
pub trait Storage: Send + Sync + Debug {
    /// Opens the directory at `path`. With `create`, it and missing parents are made first, and each is
    /// synced into its parent before this returns.
    ///
    /// # Errors
    /// `NotFound` if it does not exist and `create` is false; `NotADirectory` if something else stands
    /// there; what the system says otherwise.
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>>;
}

/// How file bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileIo {
    /// Through the page cache.
    Buffered,
    /// Past the page cache: buffers, offsets and lengths are multiples of [`IO_ALIGN`].
    Direct,
    /// As `Direct`, and each write is durable when it returns.
    DirectSync,
}

/// What a handle may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileAccess {
    /// Read and sync an existing file.
    Read,
    /// Read and write an existing file.
    Write,
    /// Make the file, which must not exist, and read and write it.
    CreateNew,
}

/// A file in a directory listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name; names that are not UTF-8 are given lossily and belong to nobody here.
    pub name: String,
    /// Bytes of the file; 0 if it is not a regular file.
    pub len: u64,
    /// Whether it is a regular file.
    pub is_file: bool,
}

/// One directory: its names and its writer lock. Names are plain file names, without a path.
pub trait LogDir: Send + Sync + Debug {
    /// What the directory is called in messages.
    fn path(&self) -> &Path;

    /// Takes the writer lock on the file `LOCK`, making it if need be; it is never deleted. `None` if
    /// another holds it. Dropping the value releases it.
    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>>;

    /// Whether somebody holds the writer lock, asked without taking it.
    fn is_locked(&self) -> Result<bool>;

    /// All names, in no order. A file that vanishes meanwhile is left out.
    fn list(&self) -> Result<Vec<DirEntry>>;

    /// Opens a file.
    ///
    /// # Errors
    /// `AlreadyExists` for [`FileAccess::CreateNew`], `NotFound` for the others; `InvalidInput` or
    /// `Unsupported` if the file system lacks the way of I/O that is asked for.
    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>>;

    /// Gives a file another name in this directory, atomically. With `replace` a file of that name is
    /// replaced; without, it is an `AlreadyExists` error.
    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()>;

    /// Removes a name.
    fn remove(&self, name: &str) -> Result<()>;

    /// Gives a file the same name in the directory at `to` too: one file under two names. It is durable there once that
    /// directory is synced.
    ///
    /// # Errors
    /// `Unsupported` where files cannot have two names, as in an implementation that does not know better;
    /// `CrossesDevices` if the directories lie in different file systems. Then a copy does. `AlreadyExists` if the name is
    /// taken; `NotFound` if there is no such file or directory; what the system says otherwise.
    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        let (_, _) = (name, to);
        Err(ErrorKind::Unsupported.into())
    }

    /// Makes every completed change of names durable.
    fn sync(&self) -> Result<()>;

    /// Starts to watch the directory for writes to its files and changes of its names.
    ///
    /// # Errors
    /// `Unsupported` where the system cannot (macOS): look again at intervals instead.
    fn watch(&self) -> Result<Box<dyn Watch>>;
}

/// The writer lock of a directory, held until dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// Wakes when a directory changes.
pub trait Watch: Send + Debug {
    /// Waits until something changed since the last call (or since the watch began), at most `timeout`.
    /// Says whether something did.
    fn wait(&mut self, timeout: Duration) -> Result<bool>;
}

/// One file. All calls take `&self` and may be made from several threads at once; writers keep their
/// ranges apart.
pub trait LogFile: Send + Sync + Debug {
    /// Bytes of the file.
    fn len(&self) -> Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// How many names the file has, in this directory and in others; 0 if its last one was removed. An implementation
    /// whose files never have two names need not answer otherwise than 1.
    fn links(&self) -> Result<u64> {
        Ok(1)
    }

    /// Reads at `offset` into `buf`; how many bytes were read, 0 only at the end of the file. May be
    /// short or `Interrupted`: see [`read_full_at`]. At the end and behind it a direct read need not be
    /// aligned, so that the read which follows a short one learns that it was the last.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes `buf` at `offset`; how many bytes were written. May be short or `Interrupted`: see
    /// [`write_all_at`].
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize>;

    /// Makes sure that bytes `0..len` have space on the device, extending the file with zeros if it is
    /// shorter. A later write inside them does not fail for lack of space.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded` (see [`is_no_space`]) if there is no space: the file may have
    /// grown, and keeps what it took until it is cut.
    fn allocate(&self, len: u64) -> Result<()>;

    /// Cuts or extends the file to `len` bytes.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Makes completed writes durable, with what is needed to read them back. On a handle opened with
    /// [`FileAccess::Read`] it covers writes made through other handles too.
    fn sync_data(&self) -> Result<()>;

    /// As [`LogFile::sync_data`], and the file's length and other metadata.
    fn sync_all(&self) -> Result<()>;

    /// Asks that later reads come from the device and not from the cache, as far as the system can.
    fn drop_cache(&self) -> Result<()>;
}
