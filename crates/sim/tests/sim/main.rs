//! The tests of the simulated disk, by theme, and what they share: one directory `d`, and pages that are
//! filled with one byte.

mod contract;
mod crash;
mod damage;
mod directories;
mod enumeration;
mod fault;
mod names;
mod protocol;
mod space;
mod traffic;

use std::path::Path;
use std::sync::Arc;

use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, Storage};

const PAGE: usize = 4096;

fn open_dir(disk: &dyn Storage) -> Arc<dyn LogDir> {
    disk.open_dir(Path::new("d"), true).unwrap()
}

fn create(dir: &Arc<dyn LogDir>, name: &str) -> Arc<dyn LogFile> {
    dir.open(name, FileAccess::CreateNew, FileIo::Buffered).unwrap()
}

fn page(value: u8) -> Vec<u8> {
    vec![value; PAGE]
}

/// The names in a directory, in order.
fn names(dir: &Arc<dyn LogDir>) -> Vec<String> {
    let mut names: Vec<_> = dir.list().unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}
