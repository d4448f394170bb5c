//! A log that was closed says in its manifest where it ends: what is lost of that end later is damage, and not a
//! shorter log.

use std::sync::Arc;

use braidlog::{ErrorKind, Lsn, Options, Wal};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, append, assert_reads, assert_records, bases, fill, small};

const MANIFEST: &str = "wal/MANIFEST";

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

fn open(disk: &SimDisk) -> Wal {
    options(disk).open(PATH).unwrap()
}

fn has_manifest(disk: &SimDisk) -> bool {
    disk.list_raw(PATH).iter().any(|(name, _)| name == "MANIFEST")
}

/// A log of three segments and a bit, closed; how many records it has.
fn closed(disk: &SimDisk) -> Lsn {
    let wal = open(disk);
    fill(&wal, 3);
    append(&wal, 2);
    wal.close().unwrap();
    wal.last_lsn()
}

fn segment(base: u64) -> String {
    format!("{PATH}/{base:020}.wal")
}

/// Every way to look at the log tells that these LSNs are gone, and none changes a byte.
#[track_caller]
fn assert_lost(disk: &SimDisk, first: Lsn, last: Lsn) {
    let before = disk.fingerprint();
    for told in [options(disk).open(PATH).err(), options(disk).open_read_only(PATH).err()] {
        let error = told.expect("it is told");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        let lsns = error.lsns().expect("it names them");
        assert_eq!((lsns.first, lsns.last), (first, last), "{error}");
    }
    let report = options(disk).verify(PATH, |_| ()).unwrap();
    assert!(!report.is_clean());
    assert_eq!(disk.fingerprint(), before);
}

#[test]
fn losing_files_at_the_end_of_a_closed_log_is_damage() {
    let disk = SimDisk::new();
    let last = closed(&disk);
    let bases = bases(&disk, PATH);
    for keep in 0..bases.len() {
        let disk = disk.crash_clone(0, Profile::Kept);
        for &base in &bases[keep..] {
            disk.remove_raw(segment(base));
        }
        assert_lost(&disk, Lsn(bases[keep]), last);
    }
}

#[test]
fn losing_the_end_of_the_last_file_of_a_closed_log_is_damage() {
    let disk = SimDisk::new();
    let last = closed(&disk);
    let newest = *bases(&disk, PATH).last().unwrap();
    let path = segment(newest);
    let len = disk.read_raw(&path).len() as u64;
    // One record of 8000 bytes takes two blocks behind the header's; the seal comes last.
    let cut = disk.crash_clone(0, Profile::Kept);
    cut.truncate_raw(&path, 4096);
    assert_lost(&cut, Lsn(newest), last);
    let (mut losses, mut lossless) = (0, 0);
    for to in (4096..len).step_by(1 << 10) {
        let cut = disk.crash_clone(0, Profile::Kept);
        cut.truncate_raw(&path, to);
        match options(&cut).open(PATH) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{to}: {error}");
                assert_eq!(error.lsns().map(|lsns| lsns.last), Some(last), "{to}: {error}");
                losses += 1;
            }
            Ok(wal) => {
                assert_records(wal.iter(..), Lsn(1), last);
                lossless += 1;
            }
        }
    }
    assert!(losses > 4 && lossless > 0, "{losses} and {lossless}");
}

#[test]
fn a_log_that_was_dropped_or_cut_says_where_it_ends_too() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    fill(&wal, 3);
    wal.checkpoint(Lsn(15), |_| Ok(())).unwrap();
    let first = wal.truncate_before(Lsn(15)).unwrap();
    assert!(first > Lsn(1));
    let last = wal.last_lsn();
    drop(wal);
    let newest = *bases(&disk, PATH).last().unwrap();
    assert_eq!(assert_reads(&options(&disk).open_read_only(PATH).unwrap()), last);
    disk.remove_raw(segment(newest));
    assert_lost(&disk, Lsn(newest), last);
}

#[test]
fn only_what_is_new_is_written_down() {
    let disk = SimDisk::new();
    open(&disk).close().unwrap();
    assert!(!has_manifest(&disk), "there is nothing to say");
    let last = closed(&disk);
    let manifest = disk.read_raw(MANIFEST);
    for _ in 0..3 {
        open(&disk).close().unwrap();
        assert_eq!(disk.read_raw(MANIFEST), manifest, "nothing is new");
    }
    let wal = open(&disk);
    append(&wal, 1);
    assert_eq!(disk.read_raw(MANIFEST), manifest, "not while it is open");
    wal.close().unwrap();
    assert_ne!(disk.read_raw(MANIFEST), manifest);
    assert_records(open(&disk).iter(..), Lsn(1), last.next());
}

#[test]
fn a_manifest_that_cannot_be_written_fails_no_close() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename] {
        let disk = SimDisk::new();
        let wal = open(&disk);
        append(&wal, 5);
        disk.inject(Fault::eio(op).on("MANIFEST.new").forever());
        let struck = disk.faults_struck();
        wal.close().unwrap();
        assert!(disk.faults_struck() > struck, "{op:?}");
        disk.clear_faults();
        assert!(!has_manifest(&disk), "{op:?}");
        let wal = open(&disk);
        assert_records(wal.iter(..), Lsn(1), Lsn(5));
        append(&wal, 1);
        wal.close().unwrap();
        assert!(has_manifest(&disk), "{op:?}: the next one writes it");
    }
}

#[test]
fn a_log_that_has_failed_writes_nothing_down() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    append(&wal, 1);
    disk.inject(Fault::eio(Op::Sync).on(".wal"));
    wal.append(b"lost").unwrap_err();
    wal.close().unwrap_err();
    assert!(!has_manifest(&disk));
}

#[test]
fn a_crash_at_any_operation_of_close_leaves_a_log_that_opens_and_is_whole() {
    let mut operations = 0;
    for after_effect in [false, true] {
        for n in 1.. {
            let disk = SimDisk::new();
            // A manifest from before, which is overwritten.
            closed(&disk);
            let wal = open(&disk);
            append(&wal, 10);
            let last = wal.durable_lsn();
            let died = Fault::eio(Op::Any).nth(n);
            disk.inject(if after_effect { died.after_effect() } else { died });
            disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let struck = disk.faults_struck();
            let closed = wal.close();
            let is_over = disk.faults_struck() == struck;
            disk.clear_faults();
            if is_over {
                closed.unwrap();
                operations += n - 1;
                break;
            }
            for profile in Profile::HONEST {
                for seed in 0..8 {
                    let context = format!("operation {n}, {profile:?}, seed {seed}");
                    let after = disk.crash_clone(seed, profile);
                    let report = options(&after).verify(PATH, |_| ()).unwrap();
                    assert!(report.is_clean(), "{context}: {:?}", report.problems);
                    assert_eq!(assert_reads(&options(&after).open_read_only(PATH).unwrap()), last);
                    let wal = options(&after).open(PATH).unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_records(wal.iter(..), Lsn(1), last);
                    append(&wal, 1);
                    wal.close().unwrap_or_else(|error| panic!("{context}: {error}"));
                    let again = after.crash_clone(seed, Profile::Posix);
                    assert_records(open(&again).iter(..), Lsn(1), last.next());
                }
            }
        }
    }
    assert!(operations >= 16, "{operations}");
}
