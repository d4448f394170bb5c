//! The operating system's storage with syncs that take at least so long: what a slower disk would make of a
//! figure, on the machine that there is.
//!
//! The rest of the time is slept, as a thread sleeps that waits for a device: it takes no processor from
//! the others.

use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::storage::{
    DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, OsStorage, Storage, Watch,
};

/// By how much the system is late to wake a sleeping thread, about.
const LATE: Duration = Duration::from_micros(60);

/// Storage whose syncs of files take at least `sync_min`.
#[derive(Clone, Copy, Debug)]
pub struct SlowStorage {
    /// The least time of a sync.
    pub sync_min: Duration,
}

#[derive(Debug)]
struct SlowDir {
    dir: Arc<dyn LogDir>,
    sync_min: Duration,
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn LogFile>,
    sync_min: Duration,
}

impl Storage for SlowStorage {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        let dir = OsStorage.open_dir(path, create)?;
        Ok(Arc::new(SlowDir { dir, sync_min: self.sync_min }))
    }
}

impl LogDir for SlowDir {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        self.dir.try_lock()
    }

    fn is_locked(&self) -> Result<bool> {
        self.dir.is_locked()
    }

    fn list(&self) -> Result<Vec<DirEntry>> {
        self.dir.list()
    }

    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        let file = self.dir.open(name, access, io)?;
        Ok(Arc::new(SlowFile { file, sync_min: self.sync_min }))
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        self.dir.rename(from, to, replace)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.dir.remove(name)
    }

    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        self.dir.link_into(name, to)
    }

    fn sync(&self) -> Result<()> {
        self.dir.sync()
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.dir.watch()
    }
}

impl SlowFile {
    /// Does `sync`, and sleeps for what is left of the least time.
    fn at_least(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        sync()?;
        let left = self.sync_min.saturating_sub(start.elapsed());
        if left > LATE {
            thread::sleep(left - LATE);
        }
        // What is left now is shorter than any sleep.
        while start.elapsed() < self.sync_min {
            thread::yield_now();
        }
        Ok(())
    }
}

impl LogFile for SlowFile {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn links(&self) -> Result<u64> {
        self.file.links()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.at_least(|| self.file.sync_data())
    }

    fn sync_all(&self) -> Result<()> {
        self.at_least(|| self.file.sync_all())
    }

    fn drop_cache(&self) -> Result<()> {
        self.file.drop_cache()
    }
}
