//! A real file system that is small enough to be filled: ext4 on a loop device, or a tmpfs of limited size.
//!
//! The rule: it is unmounted when it is dropped, whatever happened, and nothing outside of it is filled.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// A kind of file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// ext4 in a file, by `mkfs.ext4` and `mount`.
    Ext4,
    /// A tmpfs.
    Tmpfs,
}

/// A mounted file system.
#[derive(Debug)]
pub(super) struct SmallDisk {
    /// Holds the mount point, and the image file if there is one.
    place: TempDir,
    mounted: PathBuf,
}

/// The file that takes what is left.
const STUFFING: &str = "stuffing";

impl SmallDisk {
    /// Makes a file system of so many MiB and mounts it.
    ///
    /// # Errors
    /// What the system says if this user may not, or a program for it is missing.
    pub(super) fn new(kind: Kind, mib: u64) -> Result<SmallDisk> {
        let place = TempDir::new()?;
        let mounted = place.path().join("mounted");
        fs::create_dir(&mounted)?;
        match kind {
            Kind::Tmpfs => {
                let size = std::ffi::CString::new(format!("size={mib}m")).map_err(Error::from)?;
                mount("tmpfs", &mounted, "tmpfs", MountFlags::NOATIME, &*size)?;
            }
            Kind::Ext4 => {
                let image = place.path().join("image");
                File::create(&image)?.set_len(mib << 20)?;
                // No blocks kept for root, who runs this; no tables left to be written later.
                let options = ["-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0"];
                finish(Command::new("mkfs.ext4").args(options).arg(&image))?;
                finish(
                    Command::new("mount")
                        .args(["-t", "ext4", "-o", "loop,noatime"])
                        .arg(&image)
                        .arg(&mounted),
                )?;
            }
        }
        Ok(SmallDisk { place, mounted })
    }

    /// Its root.
    pub(super) fn path(&self) -> &Path {
        &self.mounted
    }

    /// Takes `mib` MiB away; [`SmallDisk::free`] gives them back.
    pub(super) fn take(&self, name: &str, mib: u64) {
        let file = File::create(self.mounted.join(name)).expect("the file can be made");
        let zeros = vec![0; 1 << 20];
        for _ in 0..mib {
            (&file).write_all(&zeros).expect("there is space for it yet");
        }
        file.sync_all().expect("there is space for it yet");
    }

    /// Takes every byte that is left. A log that is open may hold some for a moment, as it tries whether there is
    /// space, and give them back after this.
    pub(super) fn stuff(&self) {
        let mut file = File::create(self.mounted.join(STUFFING)).expect("a name needs no space");
        for len in [1 << 20, 64 << 10, 4096] {
            let zeros = vec![0; len];
            let refused = loop {
                if let Err(error) = file.write_all(&zeros) {
                    break error;
                }
            };
            assert_eq!(refused.kind(), ErrorKind::StorageFull, "filling fails for another reason: {refused}");
            // What the file system allocates late is taken now.
            file.sync_data().expect("what was written has space");
        }
    }

    /// Gives back what [`SmallDisk::stuff`] took.
    pub(super) fn unstuff(&self) {
        self.free(STUFFING);
    }

    /// Removes a file.
    pub(super) fn free(&self, name: &str) {
        fs::remove_file(self.mounted.join(name)).expect("the file is there");
    }

    /// What nobody has, in MiB.
    pub(super) fn free_mib(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.mounted).expect("the file system is there");
        (space.f_bavail * space.f_frsize) >> 20
    }

    /// Whole blocks that nobody has.
    pub(super) fn free_blocks(&self) -> u64 {
        rustix::fs::statvfs(&self.mounted).expect("the file system is there").f_bavail
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // On the way out of a failure a process may still have files open: the mount goes all the same.
        if let Err(error) = unmount(&self.mounted, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.place.path().display());
        }
    }
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
