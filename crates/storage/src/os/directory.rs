//! A directory of the operating system.
//!
//! The rule: names are resolved against the absolute path found at open, so that a later change of the
//! working directory does not lead elsewhere; the name given by the user is kept for messages only.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::OsFile;
use super::lock::OsLock;
use super::system;
use crate::{DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, Watch};

/// The file that carries the writer lock.
const LOCK: &str = "LOCK";

#[derive(Debug)]
pub(super) struct OsDir {
    /// As the user wrote it.
    path: PathBuf,
    /// Absolute.
    root: PathBuf,
    /// Open on the directory itself, to sync it.
    handle: File,
}

impl OsDir {
    pub(super) fn open(path: &Path) -> Result<OsDir> {
        // Without `O_DIRECTORY` a named pipe in this place would block the open for ever.
        let handle = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        Ok(OsDir { path: path.to_owned(), root: fs::canonicalize(path)?, handle })
    }

    /// The absolute path of a plain name.
    fn locate(&self, name: &str) -> Result<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Error::new(ErrorKind::InvalidInput, "not a plain file name"));
        }
        Ok(self.root.join(name))
    }

    fn open_flags(path: &Path, write: bool, flags: i32) -> Result<File> {
        OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)
    }
}

impl LogDir for OsDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        let path = self.locate(LOCK)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(OsLock::take(file)?.map(|lock| Box::new(lock) as Box<dyn LockGuard>))
    }

    fn is_locked(&self) -> Result<bool> {
        match File::open(self.locate(LOCK)?) {
            Ok(file) => system::is_locked(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_file = metadata.is_file();
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry { name, len: if is_file { metadata.len() } else { 0 }, is_file });
        }
        Ok(entries)
    }

    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        let path = self.locate(name)?;
        let flags = system::open_flags(io)?;
        let file = match access {
            FileAccess::Read => OsDir::open_flags(&path, false, flags)?,
            FileAccess::Write => OsDir::open_flags(&path, true, flags)?,
            FileAccess::CreateNew if flags == 0 => create_new(&path)?,
            FileAccess::CreateNew => create_then(&path, || OsDir::open_flags(&path, true, flags))?,
        };
        Ok(Arc::new(OsFile::new(file, io)?))
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        let (from, to) = (self.locate(from)?, self.locate(to)?);
        if replace {
            return fs::rename(from, to);
        }
        match system::rename_new(&from, &to) {
            Err(error) if is_unsupported(&error) => rename_checked(&from, &to),
            result => result,
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.locate(name)?)
    }

    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        match fs::hard_link(self.locate(name)?, to.join(name)) {
            // What Linux says on a file system without hard links, and macOS.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                Err(ErrorKind::Unsupported.into())
            }
            result => result,
        }
    }

    fn sync(&self) -> Result<()> {
        self.handle.sync_all()
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        system::watch(&self.root)
    }
}

fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Makes a file and opens it in a way that the file system may refuse. Some refuse direct I/O only after they
/// have made the file: made plainly first, it is known to be ours to remove.
fn create_then(path: &Path, open: impl FnOnce() -> Result<File>) -> Result<File> {
    drop(create_new(path)?);
    open().inspect_err(|_| drop(fs::remove_file(path)))
}

/// Whether the kernel or the file system does not know the call.
fn is_unsupported(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP))
}

/// A rename that refuses to replace, on file systems that cannot check and rename in one step. It stays
/// atomic in a crash; only a process that ignores the writer lock could slip a file in between.
fn rename_checked(from: &Path, to: &Path) -> Result<()> {
    match fs::symlink_metadata(to) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_way_of_io_leaves_no_file_and_hurts_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        let refuse = || Err(ErrorKind::InvalidInput.into());
        assert_eq!(create_then(&path, refuse).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(!path.exists());
        fs::write(&path, b"another's").unwrap();
        assert_eq!(create_then(&path, refuse).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }

    #[test]
    fn the_rename_fallback_refuses_to_replace() {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        fs::write(&a, b"new").unwrap();
        fs::write(&b, b"old").unwrap();
        assert_eq!(rename_checked(&a, &b).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&b).unwrap(), b"old");
        fs::remove_file(&b).unwrap();
        rename_checked(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"new");
    }
}
