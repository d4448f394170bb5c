//! The real file system with a trap: at one operation, counted from the start, the process kills itself.
//!
//! The rule: the operation before the trap is complete and the one after it never begins, on the thread that
//! springs it; other threads die wherever they are. `SIGKILL`, so nothing is cleaned up.

use std::fmt::Debug;
use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use braidlog_storage::{
    DirEntry, FileAccess, FileIo, IO_ALIGN, LockGuard, LogDir, LogFile, OsStorage, Storage, Watch,
};
use serde::{Deserialize, Serialize};

/// Where in its operation a process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// Before it has any effect.
    Before,
    /// With half of a write done; any other operation as `Before`.
    Amid,
    /// When it has had its effect, before its caller learns so.
    After,
}

/// The operation at which a process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trap {
    /// How many operations come before it.
    pub operation: u64,
    /// Where in it.
    pub moment: Moment,
}

/// [`OsStorage`] with a [`Trap`].
#[derive(Debug)]
pub struct KillingStorage {
    countdown: Arc<Countdown>,
}

impl KillingStorage {
    /// The real file system until the trap is reached.
    pub fn new(trap: Trap) -> KillingStorage {
        KillingStorage { countdown: Arc::new(Countdown { trap, count: AtomicU64::new(0) }) }
    }
}

#[derive(Debug)]
struct Countdown {
    trap: Trap,
    /// Operations begun. `Relaxed` is enough: only the number counts, and each is drawn once.
    count: AtomicU64,
}

impl Countdown {
    /// Runs an operation, or dies before or after it. `amid` is what is left of it when it dies within.
    fn around<T>(&self, amid: impl FnOnce(), run: impl FnOnce() -> T) -> T {
        if self.count.fetch_add(1, Ordering::Relaxed) != self.trap.operation {
            return run();
        }
        match self.trap.moment {
            Moment::Before => die(),
            Moment::Amid => {
                amid();
                die()
            }
            Moment::After => {
                run();
                die()
            }
        }
    }

    fn pass<T>(&self, run: impl FnOnce() -> T) -> T {
        self.around(|| (), run)
    }
}

/// `SIGKILL` to this process. The signal is pending for every thread before the call returns.
fn die() -> ! {
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    panic!("a process may kill itself: {killed:?}");
}

impl Storage for KillingStorage {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        let inner = self.countdown.pass(|| OsStorage.open_dir(path, create))?;
        Ok(Arc::new(KillingDir { inner, countdown: self.countdown.clone() }))
    }
}

#[derive(Debug)]
struct KillingDir {
    inner: Arc<dyn LogDir>,
    countdown: Arc<Countdown>,
}

impl LogDir for KillingDir {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        self.countdown.pass(|| self.inner.try_lock())
    }

    fn is_locked(&self) -> Result<bool> {
        self.countdown.pass(|| self.inner.is_locked())
    }

    fn list(&self) -> Result<Vec<DirEntry>> {
        self.countdown.pass(|| self.inner.list())
    }

    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        let inner = self.countdown.pass(|| self.inner.open(name, access, io))?;
        Ok(Arc::new(KillingFile { inner, io, countdown: self.countdown.clone() }))
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        self.countdown.pass(|| self.inner.rename(from, to, replace))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.countdown.pass(|| self.inner.remove(name))
    }

    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        self.countdown.pass(|| self.inner.link_into(name, to))
    }

    fn sync(&self) -> Result<()> {
        self.countdown.pass(|| self.inner.sync())
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.inner.watch()
    }
}

#[derive(Debug)]
struct KillingFile {
    inner: Arc<dyn LogFile>,
    io: FileIo,
    countdown: Arc<Countdown>,
}

impl KillingFile {
    /// What the kernel has written of `buf` when a kill stops it: it stops between pages.
    fn write_half(&self, buf: &[u8], offset: u64) {
        let half = buf.len() / 2;
        let half = if self.io == FileIo::Buffered { half } else { half / IO_ALIGN * IO_ALIGN };
        // Whatever this writes, the process dies next: there is nobody to tell of an error.
        let _ = self.inner.write_at(&buf[..half], offset);
    }
}

impl LogFile for KillingFile {
    fn len(&self) -> Result<u64> {
        self.countdown.pass(|| self.inner.len())
    }

    fn links(&self) -> Result<u64> {
        self.countdown.pass(|| self.inner.links())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.countdown.pass(|| self.inner.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let amid = || self.write_half(buf, offset);
        self.countdown.around(amid, || self.inner.write_at(buf, offset))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.countdown.pass(|| self.inner.allocate(len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.countdown.pass(|| self.inner.set_len(len))
    }

    fn sync_data(&self) -> Result<()> {
        self.countdown.pass(|| self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<()> {
        self.countdown.pass(|| self.inner.sync_all())
    }

    fn drop_cache(&self) -> Result<()> {
        self.countdown.pass(|| self.inner.drop_cache())
    }
}
