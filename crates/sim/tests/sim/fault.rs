//! Faults strike where they are told to, and do what they say.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_sim::{Fault, Op, Profile, SimDisk};
use braidlog_storage::{
    AlignedBuf, FileAccess, FileIo, LogDir, LogFile, Storage, is_no_space, read_full_at, write_all_at,
};

use crate::{PAGE, create, names, open_dir, page};

fn disk_with_file() -> (SimDisk, Arc<dyn LogDir>, Arc<dyn LogFile>) {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f.wal");
    (disk, dir, file)
}

/// Which of ten writes fail.
fn failing_writes(file: &Arc<dyn LogFile>) -> Vec<u64> {
    (1..=10).filter(|&index| file.write_at(b"x", index).is_err()).collect()
}

#[test]
fn a_fault_strikes_the_counted_operations_and_no_other() {
    let (disk, dir, file) = disk_with_file();
    disk.inject(Fault::eio(Op::Write).nth(3));
    file.sync_all().unwrap();
    dir.sync().unwrap();
    assert_eq!(failing_writes(&file), [3]);
    disk.inject(Fault::eio(Op::Write).nth(3).times(2));
    assert_eq!(failing_writes(&file), [3, 4]);
    disk.inject(Fault::eio(Op::Write).nth(8).forever());
    assert_eq!(failing_writes(&file), [8, 9, 10]);
    assert_eq!(failing_writes(&file), (1..=10).collect::<Vec<_>>());
    assert_eq!(disk.faults_struck(), 16);
    disk.clear_faults();
    assert!(failing_writes(&file).is_empty());
}

#[test]
fn two_faults_count_the_same_operations() {
    let (disk, _dir, file) = disk_with_file();
    disk.inject(Fault::eio(Op::Write).nth(2));
    disk.inject(Fault::no_space(Op::Write).nth(4));
    assert_eq!(failing_writes(&file), [2, 4]);
    disk.inject(Fault::eio(Op::Write).nth(2).times(2));
    disk.inject(Fault::no_space(Op::Write).nth(2).times(2));
    assert_eq!(failing_writes(&file), [2, 3, 4, 5], "the second waits for the first");
}

#[test]
fn a_fault_can_be_bound_to_names() {
    let (disk, dir, file) = disk_with_file();
    let other = create(&dir, "1.prep");
    disk.inject(Fault::eio(Op::Write).on(".prep").forever());
    file.write_at(b"x", 0).unwrap();
    assert!(other.write_at(b"x", 0).is_err());
    dir.rename("1.prep", "1.wal", false).unwrap();
    other.write_at(b"x", 0).expect("the file is called otherwise now");
}

#[test]
fn random_faults_strike_at_the_same_places_for_the_same_seed() {
    let run = |seed| {
        let (disk, _dir, file) = disk_with_file();
        disk.inject(Fault::eio(Op::Write).one_in(3, seed).forever());
        (0..10).map(|_| failing_writes(&file).len()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let struck: usize = run(1).iter().sum();
    assert!((15..60).contains(&struck), "{struck} of 100");
}

#[test]
fn every_operation_can_fail_with_the_error_asked_for() {
    let (disk, dir, file) = disk_with_file();
    file.write_at(b"x", 0).unwrap();
    let open = |access| dir.open("g", access, FileIo::Buffered).map(drop);
    let open_dir = |path: &str, create| disk.open_dir(path.as_ref(), create).map(drop);
    let operations: [(Op, &dyn Fn() -> std::io::Result<()>); 20] = [
        (Op::MakeDir, &|| open_dir("made", true)),
        (Op::OpenDir, &|| open_dir("d", false)),
        (Op::List, &|| dir.list().map(drop)),
        (Op::Len, &|| file.len().map(drop)),
        (Op::Lock, &|| dir.try_lock().map(drop)),
        (Op::IsLocked, &|| dir.is_locked().map(drop)),
        (Op::Watch, &|| dir.watch().map(drop)),
        (Op::Create, &|| open(FileAccess::CreateNew)),
        (Op::Open, &|| open(FileAccess::Write)),
        (Op::Read, &|| file.read_at(&mut [0; 4], 0).map(drop)),
        (Op::Write, &|| file.write_at(b"y", 0).map(drop)),
        (Op::Allocate, &|| file.allocate(100)),
        (Op::SetLen, &|| file.set_len(7)),
        (Op::Sync, &|| file.sync_data()),
        (Op::Sync, &|| file.sync_all()),
        (Op::Len, &|| file.links().map(drop)),
        (Op::Link, &|| dir.link_into("g", "made".as_ref())),
        (Op::Rename, &|| dir.rename("g", "h", false)),
        (Op::Remove, &|| dir.remove("h")),
        (Op::SyncDir, &|| dir.sync()),
    ];
    for (op, operation) in operations {
        for filter in [op, Op::Any] {
            disk.inject(Fault::error(filter, ErrorKind::QuotaExceeded));
            assert_eq!(operation().unwrap_err().kind(), ErrorKind::QuotaExceeded, "{op:?}");
            disk.inject(Fault::errno(filter, 5));
            assert_eq!(operation().unwrap_err().raw_os_error(), Some(5), "{op:?}");
        }
        // The failed calls did nothing, so that this one finds everything as it was.
        operation().unwrap_or_else(|error| panic!("{op:?}: {error}"));
    }
    assert_eq!(names(&dir), ["LOCK", "f.wal"]);
}

#[test]
fn a_fault_after_the_effect_leaves_the_effect() {
    let (disk, dir, file) = disk_with_file();
    disk.inject(Fault::eio(Op::Any).after_effect().forever());
    file.write_at(b"done", 0).unwrap_err();
    file.sync_all().unwrap_err();
    dir.open("g", FileAccess::CreateNew, FileIo::Buffered).unwrap_err();
    dir.rename("g", "h", false).unwrap_err();
    dir.sync().unwrap_err();
    for seed in 0..100 {
        let after = disk.crash_clone(seed, Profile::Posix);
        assert_eq!(after.read_raw("d/f.wal"), b"done");
        assert_eq!(after.list_raw("d").len(), 2, "also the name that was made and renamed");
    }
}

#[test]
fn a_failed_sync_makes_nothing_durable_and_the_next_one_does() {
    let (disk, dir, file) = disk_with_file();
    dir.sync().unwrap();
    file.write_at(b"x", 0).unwrap();
    disk.inject(Fault::eio(Op::Sync));
    file.sync_all().unwrap_err();
    let is_lost = |seed| disk.crash_clone(seed, Profile::Posix).read_raw("d/f.wal").is_empty();
    assert!((0..100).any(is_lost));
    file.sync_all().unwrap();
    assert!(!(0..100).any(is_lost));
}

#[test]
fn short_and_interrupted_calls_are_ridden_out_by_whole_ones() {
    let (disk, _dir, file) = disk_with_file();
    let bytes: Vec<u8> = (0..20_000_u32).map(|index| index as u8).collect();
    disk.inject(Fault::short(Op::Write).times(7));
    disk.inject(Fault::interrupted(Op::Write).nth(3).times(4));
    write_all_at(&*file, &bytes, 10).unwrap();
    assert_eq!(disk.faults_struck(), 11);
    assert!(disk.counts().writes >= 8);
    disk.inject(Fault::short(Op::Read).times(7));
    disk.inject(Fault::interrupted(Op::Read).nth(3).times(4));
    let mut read = vec![0; bytes.len()];
    assert_eq!(read_full_at(&*file, &mut read, 10).unwrap(), bytes.len());
    assert!(read == bytes);
    assert_eq!(disk.faults_struck(), 22);
}

#[test]
fn short_direct_calls_stop_at_a_page() {
    let (disk, dir, _file) = disk_with_file();
    let file = dir.open("g", FileAccess::CreateNew, FileIo::Direct).unwrap();
    let mut buf = AlignedBuf::zeroed(3 * PAGE);
    buf.fill(1);
    disk.inject(Fault::short(Op::Any).forever());
    assert_eq!(file.write_at(&buf, 0).unwrap(), PAGE);
    assert_eq!(file.write_at(&buf[..PAGE], PAGE as u64).unwrap(), PAGE, "a page is not parted");
    write_all_at(&*file, &buf, 0).unwrap();
    assert!(disk.read_raw("d/g") == page(1).repeat(3));
    assert_eq!(read_full_at(&*file, &mut buf, 0).unwrap(), 3 * PAGE);
}

#[test]
fn an_injected_lack_of_space_is_known_as_such() {
    let (disk, _dir, file) = disk_with_file();
    disk.inject(Fault::no_space(Op::Allocate));
    assert!(is_no_space(&file.allocate(10).unwrap_err()));
}

#[test]
fn a_torn_write_fails_and_has_changed_a_part_of_its_range() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (disk, _dir, file) = disk_with_file();
        write_all_at(&*file, &[1; 4 * 512], 0).unwrap();
        disk.inject(Fault::torn_write(seed));
        file.sync_all().expect("only writes are torn");
        let error = file.write_at(&[2; 4 * 512], 512 + 100).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        assert_eq!(disk.faults_struck(), 1);

        let bytes = disk.read_raw("d/f.wal");
        assert_eq!(bytes[..612], [1; 612], "seed {seed}: nothing changes before the range");
        assert!(bytes.len() >= 4 * 512 && bytes.len() <= 612 + 4 * 512, "seed {seed}");
        for (index, sector) in bytes[612..4 * 512].chunks(412).enumerate() {
            seen.insert(match sector[0] {
                first if sector.iter().any(|&byte| byte != first) => "garbage",
                1 => "old",
                2 => "new",
                other => panic!("seed {seed}: {other} at {index}"),
            });
        }
        seen.insert(if bytes.len() == 4 * 512 { "not extended" } else { "extended" });

        let again = disk_with_file();
        write_all_at(&*again.2, &[1; 4 * 512], 0).unwrap();
        again.0.inject(Fault::torn_write(seed));
        again.2.write_at(&[2; 4 * 512], 512 + 100).unwrap_err();
        assert!(again.0.read_raw("d/f.wal") == bytes, "seed {seed}: the same part each time");
    }
    assert_eq!(seen, ["old", "new", "garbage", "extended", "not extended"].into());
}

#[test]
fn a_hung_operation_goes_on_when_the_faults_are_cleared() {
    let (disk, dir, file) = disk_with_file();
    dir.sync().unwrap();
    file.write_at(b"x", 0).unwrap();
    disk.inject(Fault::hang(Op::Sync));
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync_all().unwrap());
        disk.wait_for_hung(1);
        assert_eq!(disk.counts().syncs(), 0);
        file.write_at(b"y", PAGE as u64).expect("others go on");
        assert!((0..50).any(|seed| disk.crash_clone(seed, Profile::Posix).read_raw("d/f.wal").is_empty()));
        disk.clear_faults();
        syncing.join().unwrap();
    });
    for seed in 0..50 {
        let bytes = disk.crash_clone(seed, Profile::Posix).read_raw("d/f.wal");
        assert_eq!(bytes[0], b'x', "it did its work, for what was written before it was asked for");
    }
    file.sync_all().expect("it hung once");
}
