//! The contract of the storage traits: the simulated disk answers as the operating system does.

use std::io::{ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use braidlog_sim::{Rng, SimDisk};
use braidlog_storage::{
    AlignedBuf, FileAccess, FileIo, LogDir, LogFile, OsStorage, Storage, read_full_at, write_all_at,
};

use crate::{PAGE, create, names, open_dir};

/// Longer than any machine needs; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does one random operation and says what came of it.
fn step(dir: &Arc<dyn LogDir>, files: &mut Vec<Arc<dyn LogFile>>, rng: &mut Rng) -> String {
    let names = ["a", "b", "c", "LOCK"];
    let name = names[rng.index(names.len())];
    let other = names[rng.index(names.len())];
    let offset = rng.below(20_000);
    let mut bytes = vec![0; rng.index(6000)];
    rng.fill(&mut bytes);
    let (kind, pick, flag) = (rng.below(13), rng.next_u64(), rng.one_in(2));
    let told = |what: &str, result: Result<String>| match result {
        Ok(result) => format!("{what} {result}"),
        Err(error) => format!("{what} {:?}", error.kind()),
    };
    if kind < 3 {
        let access = [FileAccess::Read, FileAccess::Write, FileAccess::CreateNew][kind as usize];
        let opened = dir.open(name, access, FileIo::Buffered);
        return told("open", opened.map(|file| files.push(file)).map(|()| name.to_owned()));
    }
    match kind {
        3 => return told("rename", dir.rename(name, other, flag).map(|()| format!("{name} {other}"))),
        4 => return told("remove", dir.remove(name).map(|()| name.to_owned())),
        5 => {
            let mut entries = dir.list().unwrap();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            return format!("{entries:?}");
        }
        6 => return told("sync directory", dir.sync().map(|()| String::new())),
        _ if files.is_empty() => return String::new(),
        _ => {}
    }
    let index = pick as usize % files.len();
    let file = files[index].clone();
    match kind {
        7 => {
            drop(files.swap_remove(index));
            format!("close {index}")
        }
        // The kinds of error differ between systems for a handle that may not write; that it fails does not.
        8 => format!("write {:?}", write_all_at(&*file, &bytes, offset).is_ok()),
        9 => format!("set_len {:?}", file.set_len(offset).is_ok()),
        10 => format!("allocate {:?}", file.allocate(offset).is_ok()),
        11 => told("sync", if flag { file.sync_all() } else { file.sync_data() }.map(|()| String::new())),
        _ => {
            let read = read_full_at(&*file, &mut bytes, offset).unwrap();
            format!("{:?} {} {:?}", file.len().unwrap(), file.is_empty().unwrap(), &bytes[..read])
        }
    }
}

#[test]
fn the_simulated_disk_answers_as_the_operating_system_does() {
    for seed in 0..30 {
        let temp = tempfile::tempdir().unwrap();
        let (real, simulated) = (OsStorage.open_dir(temp.path(), false).unwrap(), open_dir(&SimDisk::new()));
        let (mut real_rng, mut simulated_rng) = (Rng::new(seed), Rng::new(seed));
        let (mut real_files, mut simulated_files) = (Vec::new(), Vec::new());
        for count in 0..300 {
            let expected = step(&real, &mut real_files, &mut real_rng);
            let found = step(&simulated, &mut simulated_files, &mut simulated_rng);
            assert!(found == expected, "seed {seed}, step {count}: {found} instead of {expected}");
        }
    }
}

#[test]
fn a_directory_exists_once_it_is_made() {
    let disk = SimDisk::new();
    let open = |path: &str, create| disk.open_dir(Path::new(path), create);
    assert_eq!(open("a/b", false).unwrap_err().kind(), ErrorKind::NotFound);
    let dir = open("a/./b/", true).unwrap();
    assert_eq!(dir.path(), Path::new("a/./b/"), "messages call it as the user does");
    create(&dir, "f");
    assert_eq!(names(&open("./a/b", false).unwrap()), ["f"]);
    let above = open("a", false).unwrap().list().unwrap();
    assert_eq!((above.len(), above[0].name.as_str(), above[0].is_file), (1, "b", false));
    for path in ["a/b/f", "a/b/f/below"] {
        for create in [false, true] {
            assert_eq!(open(path, create).unwrap_err().kind(), ErrorKind::NotADirectory, "{path}");
        }
    }
}

#[test]
fn only_plain_names_are_taken() {
    let dir = open_dir(&SimDisk::new());
    for name in ["", ".", "..", "a/b", "/a"] {
        let opened = dir.open(name, FileAccess::CreateNew, FileIo::Buffered);
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(dir.remove(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(dir.rename("a", name, true).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn the_lock_excludes_until_it_is_dropped_and_its_file_stays() {
    let disk = SimDisk::new();
    let (first, second) = (open_dir(&disk), open_dir(&disk));
    assert!(!first.is_locked().unwrap());
    let lock = first.try_lock().unwrap().expect("the lock is free");
    assert!(second.is_locked().unwrap());
    assert!(first.try_lock().unwrap().is_none() && second.try_lock().unwrap().is_none());
    drop(lock);
    assert!(!second.is_locked().unwrap());
    assert_eq!(names(&second), ["LOCK"]);
    assert!(second.try_lock().unwrap().is_some());
}

#[test]
fn direct_files_refuse_whatever_is_not_aligned() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    for io in [FileIo::Direct, FileIo::DirectSync] {
        let file = dir.open("f", FileAccess::CreateNew, io).unwrap();
        let mut buf = AlignedBuf::zeroed(2 * PAGE);
        buf.fill(3);
        write_all_at(&*file, &buf, PAGE as u64).unwrap();
        let refused = [
            file.write_at(&buf[..PAGE], 512),
            file.write_at(&buf[..512], 0),
            file.write_at(&buf[512..512 + PAGE], 0),
            file.read_at(&mut buf[..PAGE], 512),
            file.read_at(&mut buf[..512], 0),
            file.read_at(&mut buf[512..512 + PAGE], 0),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        file.set_len(3 * PAGE as u64 - 100).unwrap();
        let mut read = AlignedBuf::zeroed(4 * PAGE);
        assert_eq!(read_full_at(&*file, &mut read, 0).unwrap(), 3 * PAGE - 100);
        assert!(read[PAGE..3 * PAGE - 100].iter().all(|&byte| byte == 3));
        dir.remove("f").unwrap();

        disk.set_direct_supported(false);
        let refused = dir.open("f", FileAccess::CreateNew, io);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(names(&dir).is_empty(), "a refused way of I/O leaves no file");
        disk.set_direct_supported(true);
    }
}

#[test]
fn an_offset_that_no_file_has_is_refused() {
    let file = create(&open_dir(&SimDisk::new()), "f");
    assert_eq!(file.write_at(b"x", u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.allocate(u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.set_len(u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.read_at(&mut [0], u64::MAX).unwrap(), 0);
}

#[test]
fn a_watch_reports_writes_and_names_once() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    let mut watch = dir.watch().unwrap();
    assert!(!watch.wait(Duration::ZERO).unwrap(), "nothing happened since the watch began");
    let changes: [&dyn Fn(); 5] = [
        &|| write_all_at(&*file, b"x", 0).unwrap(),
        &|| file.set_len(0).unwrap(),
        &|| drop(create(&dir, "g")),
        &|| dir.rename("g", "h", false).unwrap(),
        &|| dir.remove("h").unwrap(),
    ];
    for change in changes {
        change();
        assert!(watch.wait(PATIENCE).unwrap());
        assert!(!watch.wait(Duration::ZERO).unwrap());
    }
    let watcher = thread::spawn(move || watch.wait(Duration::MAX).unwrap());
    write_all_at(&*file, b"x", 0).unwrap();
    assert!(watcher.join().unwrap());
}
