//! Where benchmarks write: below the build directory, which is on the disk that the sources are on. The
//! system's directory for temporary files may be in memory, where a sync costs nothing.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A fresh directory in `base`, or below the build directory if none is given. Removed when dropped.
///
/// # Errors
/// What the system says.
pub fn directory(base: Option<&Path>) -> io::Result<TempDir> {
    let base = match base {
        Some(base) => base.to_owned(),
        None => build_directory()?.join("bench"),
    };
    fs::create_dir_all(&base)?;
    tempfile::Builder::new().prefix("braidlog-").tempdir_in(base)
}

/// The directory in which this program was built, which Cargo marks with a tag; else `target` here.
fn build_directory() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let marked = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| Ok(env::current_dir()?.join("target")), |dir| Ok(dir.to_owned()))
}
