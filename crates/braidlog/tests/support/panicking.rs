//! A storage that panics where it is told to, as a defect in the middle of a write would.

use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use braidlog::storage::{
    DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, OsStorage, Storage, Watch,
};

/// Where it panics, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// In a write.
    Write,
    /// In a sync.
    Sync,
}

/// The operating system's storage, with a trap.
#[derive(Clone, Debug)]
pub struct Panicking {
    at: At,
    armed: Arc<AtomicBool>,
}

impl Panicking {
    /// A storage whose trap is not armed yet.
    pub fn new(at: At) -> Panicking {
        Panicking { at, armed: Arc::default() }
    }

    /// Lets the next such operation on a segment panic.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn pass(&self, at: At) {
        if at == self.at && self.armed.swap(false, Ordering::SeqCst) {
            panic!("the trap in {at:?}");
        }
    }
}

impl Storage for Panicking {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        Ok(Arc::new(Dir { trap: self.clone(), dir: OsStorage.open_dir(path, create)? }))
    }
}

#[derive(Debug)]
struct Dir {
    trap: Panicking,
    dir: Arc<dyn LogDir>,
}

impl LogDir for Dir {
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
        Ok(Arc::new(File { trap: self.trap.clone(), file: self.dir.open(name, access, io)? }))
    }
    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        self.dir.rename(from, to, replace)
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.dir.remove(name)
    }
    fn sync(&self) -> Result<()> {
        self.dir.sync()
    }
    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.dir.watch()
    }
}

#[derive(Debug)]
struct File {
    trap: Panicking,
    file: Arc<dyn LogFile>,
}

impl LogFile for File {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.trap.pass(At::Write);
        self.file.write_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        self.file.allocate(len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<()> {
        self.trap.pass(At::Sync);
        self.file.sync_data()
    }
    fn sync_all(&self) -> Result<()> {
        self.trap.pass(At::Sync);
        self.file.sync_all()
    }
    fn drop_cache(&self) -> Result<()> {
        self.file.drop_cache()
    }
}
