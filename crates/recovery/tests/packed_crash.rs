//! Packing that crashes or fails anywhere loses nothing: the original is there, or both, or the packed segment, and
//! whatever it is, the log is what it was.

mod support;

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery::{
    Disposed, LogReader, ManifestStore, PackHow, Packing, PackingEnd, Pins, RecoveryError, truncate,
};
use braidlog_sim::{Bound, Fault, Op, Profile, SimDisk};
use braidlog_storage::{FileAccess, FileIo, LogDir};
use support::packing::{pack_in_steps, packed_name, small_log, store_of};
use support::{
    Written, assert_holds, checkpoint, disk_with, files, open_dir, path, recovered, segment, verified,
};

const STEP: u64 = 5000;

type Log = (Arc<dyn LogDir>, Arc<ManifestStore>);

fn open(disk: &SimDisk) -> Log {
    let dir = open_dir(disk);
    let store = store_of(&dir);
    (dir, store)
}

fn pack((dir, store): &Log, bases: [u64; 3]) -> Result<PackingEnd, RecoveryError> {
    pack_in_steps(dir, store, (bases[1], bases[2]), 4096, STEP)
}

fn names(disk: &SimDisk) -> Vec<String> {
    let names = files(disk).into_iter().map(|(name, _)| name);
    names.filter(|name| name != "LOCK" && name != "MANIFEST").collect()
}

/// Asserts that the log is what it was, before and after it is opened. Whether its segment is packed.
fn assert_whole(disk: &SimDisk, bases: [u64; 3], model: &[Written], context: &str) -> bool {
    let report = verified(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(report.is_clean() && report.warnings.is_empty(), "{context}: {report:?}");
    assert_holds(disk, model);
    let again = recovered(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(again.report.last_lsn.0, model.len() as u64, "{context}");
    let is_packed = names(disk).contains(&packed_name(bases[1]));
    let middle = if is_packed { packed_name(bases[1]) } else { segment(bases[1]) };
    assert_eq!(names(disk), [segment(bases[0]), middle, segment(bases[2])], "{context}");
    assert_holds(disk, model);
    is_packed
}

/// Fails every operation from the `n`-th on, before or after it took effect.
fn die_at(disk: &SimDisk, n: u64, after_effect: bool) {
    let died = Fault::eio(Op::Any).nth(n);
    disk.inject(if after_effect { died.after_effect() } else { died });
    disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
}

#[test]
fn packing_that_crashed_anywhere_leaves_the_log_as_it_was() {
    let (disk, pen, bases) = small_log();
    let durable_files = files(&disk);
    let (mut plain, mut packed, mut operations) = (0, 0, 0);
    for after_effect in [false, true] {
        for n in 1.. {
            let image = disk_with(&durable_files);
            let log = open(&image);
            die_at(&image, n, after_effect);
            let died = pack(&log, bases);
            drop(log);
            image.clear_faults();
            if died.is_ok() {
                operations += n - 1;
                break;
            }
            let images = image.crash_images(Bound::Sectors);
            let some = (0..images.total().min(40)).map(|number| images.image(number));
            let posix = (0..10).map(|seed| image.crash_clone(seed, Profile::Posix));
            for (number, after) in some.chain(posix).enumerate() {
                let context = format!("operation {n}, after effect {after_effect}, image {number}");
                match assert_whole(&after, bases, &pen.model, &context) {
                    true => packed += 1,
                    false => plain += 1,
                }
            }
        }
    }
    assert!(operations > 30 && plain > 500 && packed > 20, "{operations}: {plain} plain, {packed} packed");
}

#[test]
fn failed_operation_of_packing_is_told_and_it_can_be_done_again() {
    let (disk, pen, bases) = small_log();
    let durable_files = files(&disk);
    for after_effect in [false, true] {
        for n in 1.. {
            let context = format!("operation {n}, after effect {after_effect}");
            let image = disk_with(&durable_files);
            let log = open(&image);
            let fault = Fault::eio(Op::Any).nth(n);
            image.inject(if after_effect { fault.after_effect() } else { fault });
            let failed = pack(&log, bases);
            if image.faults_struck() == 0 {
                assert!(failed.is_ok() && n > 15, "{context}");
                break;
            }
            let is_told = matches!(failed, Err(RecoveryError::Io { .. } | RecoveryError::Damaged(_)));
            assert!(is_told, "{context}: {failed:?}");
            for seed in 0..3 {
                assert_whole(&image.crash_clone(seed, Profile::Posix), bases, &pen.model, &context);
            }
            let again = pack(&log, bases).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(matches!(again, PackingEnd::Packed(_) | PackingEnd::NotNow), "{context}: {again:?}");
            assert_holds(&image, &pen.model);
            for seed in 0..3 {
                let after = image.crash_clone(seed, Profile::Posix);
                let is_packed = assert_whole(&after, bases, &pen.model, &context);
                // That the original is gone may be all that was not durable.
                assert!(is_packed || again == PackingEnd::NotNow, "{context}: it is packed for good");
            }
        }
    }
}

#[test]
fn packing_without_space_is_told_and_leaves_no_rubbish() {
    let (disk, pen, bases) = small_log();
    for spare in [0, 4096, 8192] {
        let image = disk_with(&files(&disk));
        image.set_capacity(Some(image.used_bytes() + spare));
        let Err(RecoveryError::Io { source, .. }) = pack(&open(&image), bases) else {
            panic!("{spare}: no space")
        };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert_eq!(names(&image), names(&disk));
        assert!(!assert_whole(&image, bases, &pen.model, "no space"));
    }
}

#[test]
fn bytes_that_do_not_come_back_from_the_device_are_noticed() {
    let (disk, pen, bases) = small_log();
    let dir = open_dir(&disk);
    let how = PackHow { frame_bytes: 4096, ..PackHow::default() };
    let mut packing = Packing::begin(&dir, &store_of(&dir), Lsn(bases[1]), Lsn(bases[2]), how).unwrap();
    // All of it is written and synced; then the device loses some.
    let unfinished = format!("{}.new", packed_name(bases[1]));
    let written = loop {
        assert_eq!(packing.step(1000).unwrap(), None);
        if packing.bytes_done() > packing.bytes_total() / 2 {
            break disk.read_raw(path(&unfinished));
        }
    };
    let at = written.len() / 4 * 3;
    let file = dir.open(&unfinished, FileAccess::Write, FileIo::Buffered).unwrap();
    file.write_at(&[written[at] ^ 0x10], at as u64).unwrap();
    let failed = loop {
        match packing.step(1 << 20) {
            Ok(None) => {}
            other => break other,
        }
    };
    assert!(failed.is_err(), "{failed:?}");
    drop(packing);
    assert!(!assert_whole(&disk, bases, &pen.model, "lost"));
}

#[test]
fn segment_that_is_given_up_while_it_is_packed_stays_given_up() {
    let (disk, pen, bases) = small_log();
    let dir = open_dir(&disk);
    let store = store_of(&dir);
    let how = PackHow { frame_bytes: 4096, ..PackHow::default() };
    let mut packing = Packing::begin(&dir, &store, Lsn(bases[1]), Lsn(bases[2]), how).unwrap();
    while packing.bytes_done() * 4 < packing.bytes_total() * 3 {
        assert_eq!(packing.step(STEP).unwrap(), None);
    }
    let last = pen.model.len() as u64;
    checkpoint(&dir, &store, last);
    let mut remove = |name: &str| dir.remove(name).map(|()| Disposed::Removed);
    let pins = Pins::new(Lsn::FIRST);
    let cut = truncate(&dir, &store, &pins, Lsn(last), Lsn(last), &mut remove).unwrap();
    assert_eq!(cut.first_lsn, Lsn(bases[2]));
    // It may notice when it comes to an end, or before.
    let end = loop {
        match packing.step(STEP) {
            Ok(None) => {}
            end => break end,
        }
    };
    assert!(!matches!(end, Ok(Some(PackingEnd::Packed(_)))), "{end:?}");
    drop(packing);
    assert!(names(&disk).iter().all(|name| !name.contains(".walz")), "{:?}", names(&disk));
    assert!(verified(&disk).unwrap().is_clean());
}

#[test]
fn packed_segments_are_given_up_as_others_are() {
    let (disk, pen, bases) = small_log();
    let log = open(&disk);
    assert!(matches!(pack(&log, bases), Ok(PackingEnd::Packed(_))));
    let (dir, store) = log;
    let last = pen.model.len() as u64;
    checkpoint(&dir, &store, last);
    let reader = LogReader::of_writer(Arc::clone(&dir), Lsn::FIRST);
    let mut disposed = Vec::new();
    let mut cut = |wanted: u64| {
        let mut remove = |name: &str| {
            disposed.push(name.to_owned());
            dir.remove(name).map(|()| Disposed::Removed)
        };
        truncate(&dir, &store, reader.pins(), Lsn(last), Lsn(wanted), &mut remove).unwrap()
    };
    assert_eq!(cut(bases[1] + 3).first_lsn, Lsn(bases[1]));
    // A reader keeps it.
    let mut records = reader.iter(Lsn(bases[1]), Lsn(last)).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, Lsn(bases[1]));
    assert_eq!(cut(last).first_lsn, Lsn(bases[1]));
    drop(records);
    let done = cut(last);
    assert_eq!((done.first_lsn, done.removed), (Lsn(bases[2]), 1));
    assert_eq!(disposed, [segment(bases[0]), packed_name(bases[1])]);
    assert!(verified(&disk).unwrap().is_clean());
}
