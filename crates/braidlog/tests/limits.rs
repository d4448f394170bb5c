//! Bad input: every refusal names the thing, loses nothing, and leaves a directory that can be used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use braidlog::storage::{LogDir, OsStorage, Storage};
use braidlog::{
    Append, DurabilityMode, Error, ErrorKind, HealthState, IoMode, Lsn, Options, SyncMethod, Wal,
};
use braidlog_format::BLOCK_LEN;
use braidlog_format::checksum::crc32;
use braidlog_sim::{Action, SimDisk};
use tempfile::TempDir;

#[path = "support/patience.rs"]
mod patience;

use patience::until;

fn tempdir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn small() -> Options {
    Wal::options().num_stripes(2).stripe_capacity(16 << 10).segment_size(64 << 10).write_buffer_size(64 << 10)
}

/// Every file with its bytes.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// A closed log of some segments, and the names of these in order.
fn log_of_segments(path: &Path) -> Vec<PathBuf> {
    // Without threads a successor is never late, so that there are always some.
    let wal = small().background_threads(false).open(path).unwrap();
    for round in 0..30u8 {
        wal.append(vec![round; 10_000]).unwrap();
    }
    wal.close().unwrap();
    let names: Vec<_> = contents(path)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    names
}

fn assert_names(error: &Error, kind: ErrorKind, names: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for name in names {
        assert!(text.contains(name), "`{name}` is not in: {text}");
    }
}

#[test]
fn a_bad_option_is_refused_before_anything_is_made() {
    let dir = tempdir();
    let path = dir.path().join("wal");
    for (options, field, value, limit) in [
        (Wal::options().num_stripes(0), "num_stripes", "0", "1"),
        (Wal::options().stripe_capacity(1), "stripe_capacity", "1", "4096"),
        (Wal::options().segment_size(1000), "segment_size", "1000", "65536"),
        (
            Wal::options().write_buffer_size(usize::MAX),
            "write_buffer_size",
            &usize::MAX.to_string(),
            "268435456",
        ),
        (Wal::options().max_record_bytes(0), "max_record_bytes", "0", "1"),
        (Wal::options().segment_age_max(Some(Duration::ZERO)), "segment_age_max", "0ns", "1ms"),
        (Wal::options().user_metadata(vec![0; 300]), "user_metadata", "300", "256"),
    ] {
        let error = options.open(&path).unwrap_err();
        assert_names(&error, ErrorKind::InvalidInput, &[field, value, limit]);
        assert!(!path.exists(), "nothing was made");
    }
    Wal::options().open(&path).unwrap().append(b"x").unwrap();
}

#[test]
fn a_number_of_stripes_is_rounded_up_and_told() {
    for (asked, given) in [(1, 1), (3, 4), (16, 16), (17, 32), (1000, 1024)] {
        let dir = tempdir();
        let wal = Wal::options().num_stripes(asked).stripe_capacity(4096).open(dir.path()).unwrap();
        assert_eq!(wal.num_stripes(), given);
    }
}

#[test]
fn missing_directories_are_made() {
    let dir = tempdir();
    let path = dir.path().join("a/b/c d/ü");
    let wal = small().open(&path).unwrap();
    assert_eq!(wal.path(), path);
    wal.append(b"x").unwrap();
    wal.close().unwrap();
    assert_eq!(small().open(&path).unwrap().last_lsn(), Lsn(1));
}

#[test]
fn a_path_that_is_a_file_is_named_and_left_alone() {
    let dir = tempdir();
    let path = dir.path().join("notes.txt");
    fs::write(&path, "mine").unwrap();
    for below in [path.clone(), path.join("wal")] {
        let error = small().open(&below).unwrap_err();
        assert_names(&error, ErrorKind::Foreign, &["notes.txt", "directory"]);
        assert_eq!(error.path(), Some(&*below));
        assert_names(&Wal::open_read_only(&below).unwrap_err(), ErrorKind::Foreign, &["notes.txt"]);
        assert_names(&braidlog::verify(&below).unwrap_err(), ErrorKind::Foreign, &["notes.txt"]);
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn reading_a_directory_that_is_missing_makes_none() {
    let dir = tempdir();
    let path = dir.path().join("nothing");
    assert_names(&Wal::open_read_only(&path).unwrap_err(), ErrorKind::Foreign, &["nothing", "existing"]);
    assert_names(&braidlog::verify(&path).unwrap_err(), ErrorKind::Foreign, &["nothing", "existing"]);
    assert!(!path.exists());
}

/// The file system of a user who may not write.
#[derive(Debug)]
struct NoRights;

impl Storage for NoRights {
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LogDir>> {
        if create { Err(io::ErrorKind::PermissionDenied.into()) } else { OsStorage.open_dir(path, create) }
    }
}

#[test]
fn a_directory_without_the_right_to_write_is_named() {
    let dir = tempdir();
    let error = small().storage(Arc::new(NoRights)).open(dir.path()).unwrap_err();
    assert_names(
        &error,
        ErrorKind::Io,
        &[dir.path().to_str().unwrap(), "permission denied", "right to write"],
    );
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    small().open(dir.path()).unwrap().append(b"x").unwrap();
}

#[test]
fn a_directory_that_the_system_protects_is_named() {
    // Nobody, not even root, makes a directory there.
    let path = Path::new("/proc/braidlog/wal");
    if cfg!(target_os = "linux") {
        let error = small().open(path).unwrap_err();
        assert!(error.to_string().starts_with("/proc/braidlog/wal: cannot "), "{error}");
    }
}

#[test]
fn a_second_writer_is_refused_and_the_first_goes_on() {
    let dir = tempdir();
    let first = small().open(dir.path()).unwrap();
    first.append(b"one").unwrap();
    for _ in 0..3 {
        let error = small().open(dir.path()).unwrap_err();
        assert_names(&error, ErrorKind::Locked, &[dir.path().to_str().unwrap(), "close it"]);
        assert_eq!(error.path(), Some(dir.path()));
    }
    assert_eq!(first.append(b"two").unwrap(), Lsn(2));
    first.close().unwrap();
    assert_eq!(small().open(dir.path()).unwrap().last_lsn(), Lsn(2));
}

#[test]
fn close_lets_the_next_writer_in_though_handles_live_on() {
    let dir = tempdir();
    let first = small().open(dir.path()).unwrap();
    let (clone, writer, mut batch) = (first.clone(), first.writer(), first.batch());
    let ticket = first.submit(b"one").unwrap();
    batch.push(0, b"never").unwrap();
    first.close().unwrap();
    first.close().unwrap();
    clone.close().unwrap();

    let second = small().open(dir.path()).unwrap();
    assert_eq!(second.append(b"two").unwrap(), Lsn(2));

    assert!(ticket.is_durable(), "close makes durable what was accepted");
    assert_eq!(ticket.wait().unwrap(), Lsn(1));
    for error in [
        clone.append(b"x").unwrap_err(),
        clone.append_with(Append::new(b"x").kind(1)).unwrap_err(),
        clone.try_append(b"x").unwrap_err().into(),
        clone.append_timeout(b"x", Duration::from_secs(1)).unwrap_err().into(),
        clone.submit(b"x").unwrap_err().into(),
        writer.append(b"x").unwrap_err(),
        writer.submit(b"x").unwrap_err().into(),
        batch.commit().unwrap_err(),
        clone.flush().unwrap_err(),
        clone.replay().unwrap_err(),
        clone.iter(Lsn(1)..).unwrap_err(),
        clone.read(Lsn(1)).unwrap_err(),
    ] {
        assert_names(&error, ErrorKind::Closed, &["closed", "open it again"]);
        assert!(!error.is_indeterminate());
    }
    assert_eq!((clone.last_lsn(), clone.durable_lsn()), (Lsn(1), Lsn(1)));
    assert_eq!(clone.health().state, HealthState::Closed);
    assert_eq!(second.append(b"three").unwrap(), Lsn(3));
    second.close().unwrap();
    assert!(braidlog::verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_foreign_file_under_the_name_of_a_segment_is_named_and_left_alone() {
    let dir = tempdir();
    let name = "00000000000000000001.wal";
    let path = dir.path().join(name);
    let text = b"Dear diary, this is no log. ".repeat(500);
    fs::write(&path, &text).unwrap();
    for error in [small().open(dir.path()).unwrap_err(), Wal::open_read_only(dir.path()).unwrap_err()] {
        assert_names(&error, ErrorKind::Foreign, &[name, "move the file"]);
        assert_eq!(error.segment(), Some(name));
    }
    assert_eq!(fs::read(&path).unwrap(), text);
    fs::remove_file(&path).unwrap();
    assert_eq!(small().open(dir.path()).unwrap().append(b"x").unwrap(), Lsn(1));
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (one, two) = (tempdir(), tempdir());
    let segments = log_of_segments(one.path());
    log_of_segments(two.path());
    let (stranger, place) = (two.path().join(segments[1].file_name().unwrap()), &segments[1]);
    let own = fs::read(place).unwrap();
    fs::copy(&stranger, place).unwrap();
    let before = contents(one.path());
    let error = small().open(one.path()).unwrap_err();
    assert_names(&error, ErrorKind::Foreign, &[place.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(contents(one.path()), before);
    fs::write(place, own).unwrap();
    assert_eq!(small().open(one.path()).unwrap().last_lsn(), Lsn(30));
}

#[test]
fn a_newer_version_is_told_from_damage() {
    for which in [0, 1] {
        let dir = tempdir();
        let segments = log_of_segments(dir.path());
        let path = [&segments[0], segments.last().unwrap()][which];
        let own = fs::read(path).unwrap();
        let mut newer = own.clone();
        newer[4] = 2;
        let checksum = crc32(&newer[..4092]);
        newer[4092..4096].copy_from_slice(&checksum.to_le_bytes());
        fs::write(path, &newer).unwrap();
        let before = contents(dir.path());
        let name = path.file_name().unwrap().to_str().unwrap();
        let error = small().open(dir.path()).unwrap_err();
        assert_names(&error, ErrorKind::Newer, &[name, "upgrade"]);
        assert_eq!(error.segment(), Some(name));
        assert_eq!(contents(dir.path()), before);
        fs::write(path, own).unwrap();
        assert_eq!(small().open(dir.path()).unwrap().last_lsn(), Lsn(30));
    }
}

#[test]
fn a_header_cut_short_is_damage_where_records_follow() {
    let dir = tempdir();
    let segments = log_of_segments(dir.path());
    // As after a crash: the manifest of a closed log vouches for its end, and tells of any loss.
    fs::remove_file(dir.path().join("MANIFEST")).unwrap();
    for path in &segments[..segments.len() - 1] {
        let own = fs::read(path).unwrap();
        for kept in [0, 1, 4, 100, 4095] {
            fs::write(path, &own[..kept]).unwrap();
            let before = contents(dir.path());
            let name = path.file_name().unwrap().to_str().unwrap();
            let error = small().open(dir.path()).unwrap_err();
            assert_names(&error, ErrorKind::Damaged, &[name, "restore"]);
            assert_eq!(error.segment(), Some(name));
            assert_eq!(contents(dir.path()), before, "damage is evidence");
        }
        fs::write(path, own).unwrap();
    }
    assert_eq!(small().open(dir.path()).unwrap().last_lsn(), Lsn(30));
}

#[test]
fn a_segment_that_was_never_begun_is_no_damage() {
    for bytes in [vec![], vec![0; 1], vec![0; 4096], vec![0; 70_000], b"GWAL".to_vec()] {
        // In a new log, and as the successor that a crash left behind.
        let dir = tempdir();
        fs::write(dir.path().join("00000000000000000001.wal"), &bytes).unwrap();
        let wal = small().open(dir.path()).unwrap();
        assert_eq!(wal.append(b"x").unwrap(), Lsn(1));
        wal.close().unwrap();

        let dir = tempdir();
        log_of_segments(dir.path());
        fs::write(dir.path().join("00000000000000000031.wal"), &bytes).unwrap();
        for opening in 0..3 {
            let wal = small().open(dir.path()).unwrap();
            assert_eq!(wal.append(b"x").unwrap(), Lsn(31 + opening));
            wal.close().unwrap();
        }
    }
}

#[test]
fn a_missing_segment_is_damage_that_names_it() {
    let dir = tempdir();
    let segments = log_of_segments(dir.path());
    // The last is left out: nothing tells that there was one.
    for path in &segments[..segments.len() - 1] {
        let own = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let error = small().open(dir.path()).unwrap_err();
        assert_names(&error, ErrorKind::Damaged, &[path.file_name().unwrap().to_str().unwrap()]);
        fs::write(path, own).unwrap();
    }
    assert_eq!(small().open(dir.path()).unwrap().last_lsn(), Lsn(30));
}

#[test]
fn other_files_are_left_alone_and_reported() {
    let dir = tempdir();
    log_of_segments(dir.path());
    for name in ["README", "1.wal", "00000000000000000001.wal.bak", "notes.prep"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    fs::write(dir.path().join("7.prep"), "left over").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let wal = small().open(dir.path()).unwrap();
    let report = wal.recovery_report();
    for name in ["README", "1.wal", "00000000000000000001.wal.bak", "notes.prep", "sub"] {
        assert!(report.ignored.iter().any(|ignored| ignored == name), "{name}: {report:?}");
        assert!(dir.path().join(name).exists());
    }
    assert_eq!(report.removed_prepared, ["7.prep"]);
    wal.close().unwrap();
    assert_eq!(fs::read(dir.path().join("README")).unwrap(), b"mine");
}

#[test]
fn ways_of_io_that_are_asked_for_work_or_are_named() {
    for io_mode in [IoMode::Auto, IoMode::Buffered, IoMode::Direct] {
        for sync_method in [SyncMethod::Fdatasync, SyncMethod::Fsync, SyncMethod::DirectSync] {
            let dir = tempdir();
            let options = small().io_mode(io_mode).sync_method(sync_method);
            match options.open(dir.path()) {
                Ok(wal) => {
                    for round in 0..20u8 {
                        wal.append(vec![round; 9000]).unwrap();
                    }
                    wal.close().unwrap();
                }
                Err(error) if io_mode == IoMode::Buffered => {
                    assert_names(&error, ErrorKind::InvalidInput, &["sync_method", "DirectSync", "io_mode"]);
                }
                // A file system without direct I/O, as some of those under /tmp are.
                Err(error) => assert_names(&error, ErrorKind::Unsupported, &["io_mode"]),
            }
            let wal = small().open(dir.path()).unwrap();
            assert!(wal.last_lsn() == Lsn(20) || wal.last_lsn() == Lsn::ZERO);
        }
    }
}

#[test]
fn direct_io_gets_whole_blocks_whatever_the_length_of_a_record() {
    // The first record is larger than all rings, so a file is made that has room for it; it still fits into
    // the file under the pen, so the other one serves as a common segment afterwards, zeros ahead and all.
    let disk = SimDisk::new();
    let wal = Wal::options()
        .storage(Arc::new(disk.clone()))
        .io_mode(IoMode::Direct)
        .num_stripes(1)
        .stripe_capacity(4096)
        .segment_size(4 << 20)
        .open("wal")
        .unwrap();
    wal.append(vec![7; 3_500_001]).unwrap();
    let capacities: Vec<_> = disk
        .take_trace()
        .into_iter()
        .filter_map(|traced| match traced.action {
            Action::Allocate { len } => Some(len),
            _ => None,
        })
        .collect();
    assert!(capacities.iter().any(|&len| len > 4 << 20), "{capacities:?}");
    assert!(capacities.iter().all(|len| len.is_multiple_of(BLOCK_LEN)), "{capacities:?}");
    // Into the segment after that one.
    let count = 2000;
    for _ in 0..count {
        wal.append([1; 3000]).unwrap();
    }
    wal.close().unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(1 + count));
}

#[test]
fn a_reader_beside_a_writer_sees_what_is_durable_and_changes_nothing() {
    let dir = tempdir();
    let wal = small().open(dir.path()).unwrap();
    let reader = Wal::open_read_only(dir.path()).unwrap();
    assert!(reader.is_live().unwrap());
    assert_eq!(reader.last_lsn().unwrap(), Lsn::ZERO);
    assert_eq!(reader.path(), dir.path());
    let mut watcher = reader.watch().unwrap();
    for round in 0..40u8 {
        wal.append(vec![round; 5000]).unwrap();
    }
    assert!(watcher.wait(Duration::from_secs(60)).unwrap());
    // Each round begins with a mark of what was durable before it.
    let seen = reader.last_lsn().unwrap();
    assert!(Lsn(1) <= seen && seen <= wal.durable_lsn());
    for (round, record) in reader.iter(..).unwrap().enumerate() {
        assert_eq!(record.unwrap().payload, vec![round as u8; 5000]);
    }
    assert_eq!(reader.read(Lsn(1)).unwrap().unwrap().payload, vec![0; 5000]);
    assert_eq!(reader.read(Lsn(41)).unwrap(), None);
    wal.close().unwrap();
    assert!(!reader.is_live().unwrap());
    let before = contents(dir.path());
    assert_eq!(reader.last_lsn().unwrap(), Lsn(40));
    assert_eq!(reader.iter(..).unwrap().count(), 40);
    assert!(reader.segments().unwrap().iter().all(|segment| segment.sealed));
    assert_eq!(Wal::open_read_only(dir.path()).unwrap().last_lsn().unwrap(), Lsn(40));
    assert!(braidlog::verify(dir.path()).unwrap().is_clean());
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_reader_elsewhere_sees_the_last_record_when_the_writer_falls_quiet() {
    for mode in [DurabilityMode::Synchronous, DurabilityMode::group_commit(), DurabilityMode::asynchronous()]
    {
        let dir = tempdir();
        let wal = small().mode(mode).open(dir.path()).unwrap();
        let reader = Wal::open_read_only(dir.path()).unwrap();
        for last in 1..=5 {
            wal.append(b"nothing follows it").unwrap();
            // Nobody appends, flushes or waits: the mark is written by itself.
            until(|| reader.last_lsn().unwrap() == Lsn(last));
        }
    }
}

#[test]
fn verify_tells_how_far_it_is() {
    let dir = tempdir();
    let segments = log_of_segments(dir.path());
    let mut calls = 0;
    let report = braidlog::verify_with(dir.path(), |progress| {
        calls += 1;
        assert!(progress.segments_done <= progress.segments_total);
    })
    .unwrap();
    assert!(calls > 0);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.segments, report.records), (segments.len(), 30));
    assert_eq!((report.first_lsn, report.last_lsn), (Lsn(1), Lsn(30)));
}
