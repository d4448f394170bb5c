//! A storage that tells before and after each operation: where a crash may strike, and where threads switch.
//!
//! The rule: it changes nothing and knows nothing of the log; whatever is done at an operation is the
//! observer's. The product has no hook for it: this is the public storage trait.

use std::fmt::Debug;
use std::io::Result;
use std::path::Path;
use std::sync::Arc;

use braidlog::storage::{DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, Storage, Watch};
use braidlog_sim::Op;

/// On which side of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It was asked for and has done nothing yet.
    Before,
    /// It has done its work, or failed.
    After,
}

/// Is told of every operation.
pub trait Observer: Send + Sync + Debug {
    /// An operation is about to be done, or was done.
    fn at(&self, side: Side, op: Op);
}

/// A storage with an observer.
#[derive(Clone, Debug)]
pub struct Observed {
    inner: Arc<dyn Storage>,
    observer: Arc<dyn Observer>,
}

impl Observed {
    /// Tells `observer` of everything that is asked of `inner`.
    pub fn new(inner: Arc<dyn Storage>, observer: Arc<dyn Observer>) -> Observed {
        Observed { inner, observer }
    }
}

fn around<T>(observer: &dyn Observer, op: Op, work: impl FnOnce() -> T) -> T {
    observer.at(Side::Before, op);
    let done = work();
    observer.at(Side::After, op);
    done
}

impl Storage for Observed {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        let inner = self.inner.open_dir(path, create)?;
        Ok(Arc::new(ObservedDir { inner, observer: self.observer.clone() }))
    }
}

#[derive(Debug)]
struct ObservedDir {
    inner: Arc<dyn LogDir>,
    observer: Arc<dyn Observer>,
}

impl LogDir for ObservedDir {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        around(&*self.observer, Op::Create, || self.inner.try_lock())
    }

    fn is_locked(&self) -> Result<bool> {
        self.inner.is_locked()
    }

    fn list(&self) -> Result<Vec<DirEntry>> {
        around(&*self.observer, Op::Open, || self.inner.list())
    }

    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        let op = if access == FileAccess::CreateNew { Op::Create } else { Op::Open };
        let inner = around(&*self.observer, op, || self.inner.open(name, access, io))?;
        Ok(Arc::new(ObservedFile { inner, observer: self.observer.clone() }))
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        around(&*self.observer, Op::Rename, || self.inner.rename(from, to, replace))
    }

    fn remove(&self, name: &str) -> Result<()> {
        around(&*self.observer, Op::Remove, || self.inner.remove(name))
    }

    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        around(&*self.observer, Op::Link, || self.inner.link_into(name, to))
    }

    fn sync(&self) -> Result<()> {
        around(&*self.observer, Op::SyncDir, || self.inner.sync())
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.inner.watch()
    }
}

#[derive(Debug)]
struct ObservedFile {
    inner: Arc<dyn LogFile>,
    observer: Arc<dyn Observer>,
}

impl LogFile for ObservedFile {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn links(&self) -> Result<u64> {
        self.inner.links()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        around(&*self.observer, Op::Read, || self.inner.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        around(&*self.observer, Op::Write, || self.inner.write_at(buf, offset))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        around(&*self.observer, Op::Allocate, || self.inner.allocate(len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        around(&*self.observer, Op::SetLen, || self.inner.set_len(len))
    }

    fn sync_data(&self) -> Result<()> {
        around(&*self.observer, Op::Sync, || self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<()> {
        around(&*self.observer, Op::Sync, || self.inner.sync_all())
    }

    fn drop_cache(&self) -> Result<()> {
        around(&*self.observer, Op::DropCache, || self.inner.drop_cache())
    }
}
