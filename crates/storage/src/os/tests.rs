//! The contract of the traits, checked against the real operating system.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::{
    AlignedBuf, FileAccess, FileIo, IO_ALIGN, LogDir, LogFile, OsStorage, Storage, read_full_at, write_all_at,
};

fn open_temp() -> (TempDir, Arc<dyn LogDir>) {
    let temp = tempfile::tempdir().unwrap();
    let dir = OsStorage.open_dir(temp.path(), false).unwrap();
    (temp, dir)
}

fn create(dir: &Arc<dyn LogDir>, name: &str) -> Arc<dyn LogFile> {
    dir.open(name, FileAccess::CreateNew, FileIo::Buffered).unwrap()
}

fn names(dir: &Arc<dyn LogDir>) -> Vec<String> {
    let mut names: Vec<_> = dir.list().unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

#[test]
fn a_missing_directory_is_made_only_when_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/c");
    assert_eq!(OsStorage.open_dir(&path, false).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!temp.path().join("a").exists());

    let dir = OsStorage.open_dir(&path, true).unwrap();
    assert_eq!(dir.path(), path);
    assert!(path.is_dir());
    assert!(OsStorage.open_dir(&path, true).is_ok(), "an existing directory opens too");
}

#[test]
fn a_file_in_the_place_of_a_directory_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    fs::write(&path, b"x").unwrap();
    for create in [false, true] {
        assert_eq!(OsStorage.open_dir(&path, create).unwrap_err().kind(), ErrorKind::NotADirectory);
    }
    let below = path.join("below");
    assert_eq!(OsStorage.open_dir(&below, true).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn a_relative_path_opens() {
    for path in [".", "src"] {
        assert_eq!(OsStorage.open_dir(Path::new(path), true).unwrap().path(), Path::new(path));
    }
}

#[test]
fn a_write_is_seen_through_another_handle() {
    let (_temp, dir) = open_temp();
    let writer = create(&dir, "f");
    let reader = dir.open("f", FileAccess::Read, FileIo::Buffered).unwrap();
    assert!(reader.is_empty().unwrap());
    write_all_at(&*writer, b"hello", 3).unwrap();
    let mut bytes = [1; 16];
    assert_eq!(read_full_at(&*reader, &mut bytes, 0).unwrap(), 8);
    assert_eq!(&bytes[..8], b"\0\0\0hello");
    assert_eq!(reader.read_at(&mut bytes, 8).unwrap(), 0, "nothing behind the end");
    assert_eq!(reader.len().unwrap(), 8);
}

#[test]
fn a_handle_opens_what_it_says_and_nothing_else() {
    let (_temp, dir) = open_temp();
    for access in [FileAccess::Read, FileAccess::Write] {
        assert_eq!(dir.open("f", access, FileIo::Buffered).unwrap_err().kind(), ErrorKind::NotFound);
    }
    drop(create(&dir, "f"));
    let again = dir.open("f", FileAccess::CreateNew, FileIo::Buffered);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let reader = dir.open("f", FileAccess::Read, FileIo::Buffered).unwrap();
    assert!(reader.write_at(b"x", 0).is_err());
    reader.sync_data().unwrap();
    reader.sync_all().unwrap();
}

#[test]
fn only_plain_names_are_taken() {
    let (_temp, dir) = open_temp();
    for name in ["", ".", "..", "a/b", "/etc/passwd", "../x"] {
        let opened = dir.open(name, FileAccess::Read, FileIo::Buffered);
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(dir.remove(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn the_lock_excludes_a_second_open_in_the_same_process_until_dropped() {
    let (temp, first) = open_temp();
    let second = OsStorage.open_dir(temp.path(), false).unwrap();
    assert!(!first.is_locked().unwrap());
    assert!(names(&first).is_empty(), "asking makes no file");

    let lock = first.try_lock().unwrap().expect("the lock is free");
    assert!(first.try_lock().unwrap().is_none());
    assert!(second.try_lock().unwrap().is_none());
    drop(lock);
    assert_eq!(names(&second), ["LOCK"], "the lock's file stays");
    assert!(second.try_lock().unwrap().is_some());
}

#[test]
fn asking_for_the_lock_neither_takes_nor_releases_it() {
    let (temp, dir) = open_temp();
    let reader = OsStorage.open_dir(temp.path(), false).unwrap();
    let lock = dir.try_lock().unwrap().expect("the lock is free");
    for asked in [&dir, &reader] {
        // With a POSIX lock, the close at the end of the first question would release it.
        assert!(asked.is_locked().unwrap());
        assert!(asked.is_locked().unwrap());
    }
    drop(lock);
    assert!(!reader.is_locked().unwrap());
    assert!(!dir.is_locked().unwrap());
    assert!(dir.try_lock().unwrap().is_some(), "the questions left no lock behind");
}

#[test]
fn allocated_space_reads_as_zeros_and_extends_the_file() {
    let (_temp, dir) = open_temp();
    let file = create(&dir, "f");
    file.allocate(0).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    write_all_at(&*file, b"kept", 0).unwrap();
    file.allocate(100_000).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    let mut bytes = vec![1; 100_000];
    assert_eq!(read_full_at(&*file, &mut bytes, 0).unwrap(), 100_000);
    assert_eq!(&bytes[..4], b"kept");
    assert!(bytes[4..].iter().all(|&byte| byte == 0));
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 100_000, "allocation never cuts");
    assert_eq!(file.allocate(u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
}

#[test]
fn a_cut_file_that_grows_again_reads_as_zeros() {
    let (_temp, dir) = open_temp();
    let file = create(&dir, "f");
    write_all_at(&*file, &[7; 10_000], 0).unwrap();
    file.set_len(100).unwrap();
    file.set_len(10_000).unwrap();
    let mut bytes = vec![1; 10_000];
    assert_eq!(read_full_at(&*file, &mut bytes, 0).unwrap(), 10_000);
    assert!(bytes[..100].iter().all(|&byte| byte == 7));
    assert!(bytes[100..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_rename_replaces_only_when_told() {
    let (temp, dir) = open_temp();
    fs::write(temp.path().join("old"), b"old").unwrap();
    fs::write(temp.path().join("new"), b"new").unwrap();
    assert_eq!(dir.rename("new", "old", false).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(temp.path().join("old")).unwrap(), b"old");
    dir.rename("new", "old", true).unwrap();
    assert_eq!(fs::read(temp.path().join("old")).unwrap(), b"new");
    dir.rename("old", "free", false).unwrap();
    assert_eq!(names(&dir), ["free"]);
    assert_eq!(dir.rename("gone", "x", false).unwrap_err().kind(), ErrorKind::NotFound);
    dir.sync().unwrap();
}

#[test]
fn a_listing_tells_files_from_other_things() {
    let (temp, dir) = open_temp();
    write_all_at(&*create(&dir, "f"), &[1; 123], 0).unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    let mut entries = dir.list().unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].name.as_str(), entries[0].is_file, entries[0].len), ("d", false, 0));
    assert_eq!((entries[1].name.as_str(), entries[1].is_file, entries[1].len), ("f", true, 123));
    dir.remove("f").unwrap();
    assert_eq!(names(&dir), ["d"]);
}

#[test]
fn direct_files_take_aligned_buffers_or_are_refused_without_a_trace() {
    let (_temp, dir) = open_temp();
    for io in [FileIo::Direct, FileIo::DirectSync] {
        let file = match dir.open("f", FileAccess::CreateNew, io) {
            Ok(file) => file,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported), "{error}");
                assert!(names(&dir).is_empty(), "a refused way of I/O leaves no file");
                continue;
            }
        };
        let mut buf = AlignedBuf::zeroed(2 * IO_ALIGN);
        buf.fill(5);
        write_all_at(&*file, &buf, IO_ALIGN as u64).unwrap();
        file.sync_data().unwrap();
        // Reads up to a crooked end: the last read is short, and the one that follows it unaligned.
        file.set_len(3 * IO_ALIGN as u64 - 100).unwrap();
        let mut read = AlignedBuf::zeroed(4 * IO_ALIGN);
        assert_eq!(read_full_at(&*file, &mut read, 0).unwrap(), 3 * IO_ALIGN - 100);
        assert!(read[..IO_ALIGN].iter().all(|&byte| byte == 0));
        assert!(read[IO_ALIGN..3 * IO_ALIGN - 100].iter().all(|&byte| byte == 5));
        dir.remove("f").unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_direct_io_says_so() {
    let dir = OsStorage.open_dir(Path::new("/proc/self"), false).unwrap();
    let error = dir.open("status", FileAccess::Read, FileIo::Direct).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported), "{error}");
    assert!(dir.open("status", FileAccess::Read, FileIo::Buffered).is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_known_as_such() {
    let dir = OsStorage.open_dir(Path::new("/dev"), false).unwrap();
    let full = dir.open("full", FileAccess::Write, FileIo::Buffered).unwrap();
    assert!(crate::is_no_space(&full.write_at(b"x", 0).unwrap_err()));
}

/// Set in the child process of the test below.
const CHILD_DIRECTORY: &str = "BRAIDLOG_TEST_LOCK_IN";

#[test]
fn the_lock_excludes_another_process_and_dies_with_it() {
    if let Ok(path) = std::env::var(CHILD_DIRECTORY) {
        let dir = OsStorage.open_dir(Path::new(&path), false).unwrap();
        let _lock = dir.try_lock().unwrap().expect("the lock is free");
        println!("locked");
        // The parent never answers: the process is killed here.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let (temp, dir) = open_temp();
    let name = "os::tests::the_lock_excludes_another_process_and_dies_with_it";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD_DIRECTORY, temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("locked")), "the child did not get the lock");
    assert!(dir.is_locked().unwrap());
    assert!(dir.try_lock().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!dir.is_locked().unwrap());
    assert!(dir.try_lock().unwrap().is_some());
}

#[test]
fn what_was_synced_reads_the_same_from_the_device() {
    let (_temp, dir) = open_temp();
    let file = create(&dir, "f");
    let bytes: Vec<u8> = (0..50_000_u32).map(|index| index as u8).collect();
    write_all_at(&*file, &bytes, 0).unwrap();
    file.sync_all().unwrap();
    file.drop_cache().unwrap();
    let mut read = vec![0; bytes.len()];
    assert_eq!(read_full_at(&*file, &mut read, 0).unwrap(), bytes.len());
    assert!(read == bytes);
}

#[cfg(target_os = "linux")]
mod watch;

#[test]
fn a_file_linked_into_another_directory_is_one_file_with_two_names() {
    let (_temp, dir) = open_temp();
    let (other_temp, other) = open_temp();
    let file = create(&dir, "f");
    write_all_at(&*file, b"both", 0).unwrap();
    assert_eq!(file.links().unwrap(), 1);
    dir.link_into("f", other_temp.path()).unwrap();
    assert_eq!(file.links().unwrap(), 2);
    assert_eq!(dir.link_into("f", other_temp.path()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(dir.link_into("g", other_temp.path()).unwrap_err().kind(), ErrorKind::NotFound);
    let missing = other_temp.path().join("missing");
    assert_eq!(dir.link_into("f", &missing).unwrap_err().kind(), ErrorKind::NotFound);

    let linked = other.open("f", FileAccess::Read, FileIo::Buffered).unwrap();
    write_all_at(&*file, b"B", 0).unwrap();
    dir.remove("f").unwrap();
    let mut bytes = [0; 4];
    assert_eq!((read_full_at(&*linked, &mut bytes, 0).unwrap(), &bytes), (4, b"Both"));
    assert_eq!(linked.links().unwrap(), 1);
    other.remove("f").unwrap();
    assert_eq!(linked.links().unwrap(), 0);
}
