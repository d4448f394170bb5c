//! Bytes on a disk: what is free, and what a directory holds.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes that an ordinary user can still write to the file system of `path`.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of the files in `dir`, by their lengths.
///
/// # Errors
/// What the system says.
pub fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_holds_what_was_written_and_the_disk_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one"), [0; 1000]).unwrap();
        fs::write(dir.path().join("other"), [0; 24]).unwrap();
        assert_eq!(bytes_in(dir.path()).unwrap(), 1024);
        assert!(free_bytes(dir.path()).unwrap() < u64::MAX / 2);
        assert!(free_bytes(&dir.path().join("missing")).is_err());
    }
}
