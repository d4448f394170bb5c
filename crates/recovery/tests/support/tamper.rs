//! A directory that does not behave: something happens before each question about it, what is read through
//! the page cache is not what the file holds, and the cache is not dropped.

use std::io::Result;
use std::path::Path;
use std::sync::Arc;

use braidlog_storage::{DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, Watch};

type OnQuestion = dyn Fn() + Send + Sync;
type OnList = dyn Fn(&mut Vec<DirEntry>) + Send + Sync;
type OnCachedRead = dyn Fn(&str, u64, &mut [u8]) + Send + Sync;

/// What happens, and when.
#[derive(Clone, Default)]
pub struct Tamper {
    /// Runs before the lock is queried, the directory listed or a file opened.
    pub before_question: Option<Arc<OnQuestion>>,
    /// Runs before each read.
    pub before_read: Option<Arc<OnQuestion>>,
    /// Gets the name, the offset and the bytes of each read through the cache.
    pub after_cached_read: Option<Arc<OnCachedRead>>,
    /// Gets each listing.
    pub after_list: Option<Arc<OnList>>,
    pub keeps_its_cache: bool,
}

impl Tamper {
    /// The directory `inner`, tampered with.
    pub fn with(self, inner: Arc<dyn LogDir>) -> Arc<dyn LogDir> {
        Arc::new(TamperedDir { inner, tamper: self })
    }

    fn question(&self) {
        if let Some(before_question) = &self.before_question {
            before_question();
        }
    }
}

struct TamperedDir {
    inner: Arc<dyn LogDir>,
    tamper: Tamper,
}

struct TamperedFile {
    inner: Arc<dyn LogFile>,
    name: String,
    io: FileIo,
    tamper: Tamper,
}

impl std::fmt::Debug for TamperedDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::fmt::Debug for TamperedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl LogDir for TamperedDir {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        self.inner.try_lock()
    }
    fn is_locked(&self) -> Result<bool> {
        self.tamper.question();
        self.inner.is_locked()
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        self.tamper.question();
        let mut listed = self.inner.list()?;
        if let Some(after_list) = &self.tamper.after_list {
            after_list(&mut listed);
        }
        Ok(listed)
    }
    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        self.tamper.question();
        let inner = self.inner.open(name, access, io)?;
        Ok(Arc::new(TamperedFile { inner, name: name.to_owned(), io, tamper: self.tamper.clone() }))
    }
    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        self.inner.rename(from, to, replace)
    }
    fn remove(&self, name: &str) -> Result<()> {
        self.inner.remove(name)
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.inner.watch()
    }
}

impl LogFile for TamperedFile {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if let Some(before_read) = &self.tamper.before_read {
            before_read();
        }
        let read = self.inner.read_at(buf, offset)?;
        if let (FileIo::Buffered, Some(after_cached_read)) = (self.io, &self.tamper.after_cached_read) {
            after_cached_read(&self.name, offset, &mut buf[..read]);
        }
        Ok(read)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.inner.write_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        self.inner.allocate(len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<()> {
        self.inner.sync_data()
    }
    fn sync_all(&self) -> Result<()> {
        self.inner.sync_all()
    }
    fn drop_cache(&self) -> Result<()> {
        if self.tamper.keeps_its_cache { Ok(()) } else { self.inner.drop_cache() }
    }
}
