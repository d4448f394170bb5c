//! The operating system's files: [`OsStorage`], and the seam to the system calls.
//!
//! The rule: everything below this file is safe code over the standard library, except the one module
//! that holds a system's own calls (`os/linux.rs`, `os/macos.rs`; both offer the same functions). An
//! error keeps the kind that the system gave it; the layers above add which file and what to do.

mod directory;
mod file;
mod lock;

#[cfg(target_os = "linux")]
#[path = "os/linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "os/macos.rs"]
mod system;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("braidlog runs on Linux and macOS: on other systems nobody has proved what a sync promises");

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{LogDir, Storage};
use directory::OsDir;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsStorage;

impl Storage for OsStorage {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        if create {
            create_durably(path)?;
        }
        Ok(Arc::new(OsDir::open(path)?))
    }
}

/// Makes `path` and its missing parents, each durable in its parent before the next is made.
///
/// The deepest directory that exists already is synced into its parent too: a process that was killed
/// between making and syncing it left it behind, and whatever is acknowledged below it would vanish with
/// it at a power cut. As no directory is made before the one above is synced, no other can be in doubt.
fn create_durably(path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match fs::metadata(existing) {
            Ok(metadata) if metadata.is_dir() => break,
            Ok(_) => return Err(ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(existing),
            Err(error) => return Err(error),
        }
        existing = match existing.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(ErrorKind::NotFound.into()),
        };
    }
    sync_into_parent(existing)?;
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // Another process may be making it at this moment and may not have synced it yet.
            _ => File::open(parent_of(directory)?)?.sync_all()?,
        }
    }
    Ok(())
}

/// Syncs the directory that holds `existing`.
fn sync_into_parent(existing: &Path) -> Result<()> {
    let parent = parent_of(existing)?;
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // Whoever may not open the parent did not make a directory in it either.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// The directory in which the name of `directory` stands; `/` stands in itself.
fn parent_of(directory: &Path) -> Result<PathBuf> {
    match (directory.parent(), directory.file_name()) {
        (Some(parent), Some(_)) if parent.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        (Some(parent), Some(_)) => Ok(parent.to_owned()),
        // A path such as `.` or `a/..` does not end in its own name.
        _ => Ok(fs::canonicalize(directory)?.parent().unwrap_or(Path::new("/")).to_owned()),
    }
}

/// A C string of a path, for calls that the standard library does not wrap.
fn c_path(path: &Path) -> Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(Error::from)
}

#[cfg(test)]
mod tests;
