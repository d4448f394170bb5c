//! A log that was cut at its beginning: it starts at one place or the other whatever crashes or fails, loses nothing from
//! there on, and lets go of nothing that somebody needs.

mod support;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use braidlog_format::{CheckpointName, LogId, Lsn, MANIFEST_NAME, MANIFEST_NEW_NAME};
use braidlog_recovery::{
    DamageCause, Disposed, LogReader, Manifest, ManifestStore, Pins, RecoveryError, Target, TargetError,
    Truncation, Warning, resolve, truncate,
};
use braidlog_sim::{Bound, Fault, Op, Profile, SimClock, SimDisk};
use braidlog_storage::{LogDir, Storage};
use support::{
    Pen, Written, checkpoint, disk_with, files, open_dir, path, recovered, segment, segment_path, verified,
};

/// Segments with the bases 1, 4, 7 and 10, of which the last is being written and holds two records.
fn log() -> (SimDisk, Pen) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    for n in 0..3u8 {
        pen.records(&[&[n; 10], &[n; 5000], &[n; 3]]).rotate();
    }
    pen.records(&[b"ten", b"eleven"]).sync();
    (disk, pen)
}

/// The store of an opening, as the log has one.
fn store(disk: &SimDisk) -> (Arc<dyn LogDir>, ManifestStore) {
    let recovered = recovered(disk).unwrap();
    let dir = open_dir(disk);
    let clock = Arc::new(SimClock::new());
    let store = ManifestStore::new(Arc::clone(&dir), clock, recovered.tail.log_id, recovered.manifest);
    (dir, store)
}

fn remove(dir: &Arc<dyn LogDir>) -> impl FnMut(&str) -> io::Result<Disposed> {
    let dir = Arc::clone(dir);
    move |name| dir.remove(name).map(|()| Disposed::Removed)
}

fn cut(
    dir: &Arc<dyn LogDir>,
    store: &ManifestStore,
    pins: &Pins,
    wanted: u64,
) -> Result<Truncation, RecoveryError> {
    truncate(dir, store, pins, Lsn(11), Lsn(wanted), &mut remove(dir))
}

fn segments_of(disk: &SimDisk) -> Vec<String> {
    files(disk).into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".wal")).collect()
}

/// Asserts that the log starts at `first` and that all records from there on are as they were written, to every judge.
fn assert_starts_at(disk: &SimDisk, first: Lsn, model: &[Written], context: &str) {
    let report = verified(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(report.is_clean(), "{context}: {:?}", report.problems);
    assert_eq!((report.first_lsn, report.last_lsn), (first, Lsn(model.len() as u64)), "{context}");
    let known = |warning: &Warning| matches!(warning, Warning::UnknownFile { name } if name == "elsewhere");
    assert!(report.warnings.iter().all(known), "{context}: {:?}", report.warnings);
    let reader = LogReader::open_read_only(open_dir(disk)).unwrap();
    assert_eq!(reader.first_lsn(), first, "{context}");
    let records = reader.iter(first, Lsn::MAX).unwrap();
    let records: Vec<_> = records.map(|record| record.unwrap()).collect();
    assert_eq!(records.len() as u64, model.len() as u64 + 1 - first.0, "{context}");
    for record in &records {
        assert!(record.payload == model[record.lsn.0 as usize - 1].payload, "{context}: {}", record.lsn);
    }
    if first > Lsn::FIRST {
        let Err(RecoveryError::Truncated { first_lsn }) = reader.iter(first.prev(), Lsn::MAX) else {
            panic!("{context}: what is gone is told")
        };
        assert_eq!(first_lsn, first, "{context}");
    }
    let names: Vec<_> = reader.segments().unwrap().into_iter().map(|info| info.base).collect();
    assert_eq!(names[0], first, "{context}");
}

#[test]
fn log_that_was_cut_is_from_there_on_what_it_was() {
    for wanted in 1..=11 {
        let (disk, pen) = log();
        let (dir, store) = store(&disk);
        checkpoint(&dir, &store, 11);
        let done = cut(&dir, &store, &Pins::new(Lsn::FIRST), wanted).unwrap();
        let expected = [1, 4, 7, 10].into_iter().rfind(|&base| base <= wanted).unwrap();
        assert_eq!((done.first_lsn, done.removed), (Lsn(expected), expected as usize / 3), "{wanted}");
        assert_eq!(segments_of(&disk)[0], segment(expected));
        assert_starts_at(&disk, Lsn(expected), &pen.model, "cut");
        let report = recovered(&disk).unwrap().report;
        assert_eq!((report.first_lsn, report.last_lsn), (Lsn(expected), Lsn(11)));
        assert_eq!((report.removed_orphans, report.ignored), (vec![], vec![]));
        // It goes on as ever.
        let mut pen = Pen::reopen(&disk, pen.model);
        pen.records(&[b"twelve"]).seal();
        assert_starts_at(&disk, Lsn(expected), &pen.model, "gone on");
    }
}

#[test]
fn nothing_goes_that_a_checkpoint_a_hold_or_a_reader_needs() {
    let (disk, pen) = log();
    let (dir, store) = store(&disk);
    let reader = LogReader::of_writer(Arc::clone(&dir), Lsn::FIRST);
    let start = |expected: u64| {
        let done = cut(&dir, &store, reader.pins(), 11).unwrap();
        assert_eq!(done.first_lsn, Lsn(expected));
        assert_eq!(store.current().log_start, Lsn(expected));
        assert_eq!(reader.first_lsn(), Lsn(expected));
    };
    start(1); // There is no checkpoint.
    checkpoint(&dir, &store, 4);
    start(4); // LSN 5 has to be replayed.
    checkpoint(&dir, &store, 11);
    store.change(|manifest| manifest.set_hold("archive", Lsn(5))).unwrap();
    start(4);
    store.change(|manifest| manifest.set_hold("archive", Lsn(11))).unwrap();
    let mut records = reader.iter(Lsn(4), Lsn(11)).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, Lsn(4));
    start(4);
    for _ in 0..3 {
        records.next().unwrap().unwrap();
    }
    start(7); // The reader has gone on to the next segment.
    assert!(records.map(|record| record.unwrap().lsn).eq((8..=11).map(Lsn)));
    start(10);
    for lsn in 1..10 {
        let Err(RecoveryError::Truncated { first_lsn }) = reader.read(Lsn(lsn), Lsn(11)) else { panic!() };
        assert_eq!(first_lsn, Lsn(10));
    }
    assert_starts_at(&disk, Lsn(10), &pen.model, "cut");
}

#[test]
fn file_that_could_not_be_removed_goes_with_the_next_truncation_or_opening() {
    for opening in [false, true] {
        let (disk, pen) = log();
        let (dir, store) = store(&disk);
        checkpoint(&dir, &store, 11);
        let pins = Pins::new(Lsn::FIRST);
        let mut refused = 0;
        let mut dispose = |name: &str| {
            refused += 1;
            if refused == 2 { Err(ErrorKind::PermissionDenied.into()) } else { remove(&dir)(name) }
        };
        let Err(RecoveryError::Io { file, .. }) =
            truncate(&dir, &store, &pins, Lsn(11), Lsn(10), &mut dispose)
        else {
            panic!("it is told")
        };
        assert_eq!(file, segment(4));
        assert_eq!(segments_of(&disk), [4, 7, 10].map(segment));
        assert_starts_at(&disk, Lsn(10), &pen.model, "left");
        if opening {
            let report = recovered(&disk).unwrap().report;
            assert_eq!(report.removed_orphans, [4, 7].map(segment));
        } else {
            let done = cut(&dir, &store, &pins, 1).unwrap();
            assert_eq!((done.first_lsn, done.removed), (Lsn(10), 2));
            assert!(done.bytes > 10_000);
        }
        assert_eq!(segments_of(&disk), [segment(10)]);
    }
}

/// What may have happened to the log of [`log`] when it is cut to LSN 7.
fn assert_cut_or_not(disk: &SimDisk, model: &[Written], context: &str) -> Lsn {
    let manifest = Manifest::load(&open_dir(disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let first = manifest.log_start;
    assert!(first == Lsn(1) || first == Lsn(7), "{context}: it starts at {first}");
    assert_starts_at(disk, first, model, context);
    let again = recovered(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!((again.report.first_lsn, again.report.last_lsn), (first, Lsn(11)), "{context}");
    let left: Vec<_> = files(disk).into_iter().map(|(name, _)| name).collect();
    let bases = [1, 4, 7, 10].map(Lsn).into_iter().filter(|&base| base >= first);
    let mut expected: Vec<_> = bases.map(|base| segment(base.0)).collect();
    expected.push(MANIFEST_NAME.to_owned());
    expected.push(CheckpointName { lsn: Lsn(11), number: 1 }.to_string());
    expected.sort();
    assert_eq!(left.into_iter().filter(|name| name != "LOCK").collect::<Vec<_>>(), expected, "{context}");
    assert_starts_at(disk, first, model, context);
    first
}

/// Fails every operation from the `n`-th on, before or after it took effect.
fn die_at(disk: &SimDisk, n: u64, after_effect: bool) {
    let died = Fault::eio(Op::Any).nth(n);
    disk.inject(if after_effect { died.after_effect() } else { died });
    disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
}

#[test]
fn truncation_that_crashed_anywhere_leaves_the_old_start_or_the_new_one() {
    let (disk, pen) = log();
    let (dir, base) = store(&disk);
    checkpoint(&dir, &base, 11);
    let durable_files = files(&disk);
    let (mut old, mut new, mut operations) = (0, 0, 0);
    for after_effect in [false, true] {
        for n in 1.. {
            let image = disk_with(&durable_files);
            let (dir, store) = store(&image);
            let pins = Pins::new(Lsn::FIRST);
            die_at(&image, n, after_effect);
            let died = cut(&dir, &store, &pins, 7);
            image.clear_faults();
            if died.is_ok() {
                operations += n - 1;
                break;
            }
            let images = image.crash_images(Bound::Sectors);
            assert!(images.total() < 5000, "{} images", images.total());
            let posix = (0..20).map(|seed| image.crash_clone(seed, Profile::Posix));
            for (number, after) in images.iter().chain(posix).enumerate() {
                let context = format!("operation {n}, after effect {after_effect}, image {number}");
                if assert_cut_or_not(&after, &pen.model, &context) == Lsn(1) { old += 1 } else { new += 1 }
            }
        }
    }
    assert!(operations > 12 && old > 100 && new > 20, "{operations} operations, {old} old, {new} new");
}

#[test]
fn failed_operation_of_a_truncation_is_told_and_it_can_be_done_again() {
    let (disk, pen) = log();
    let (dir, base) = store(&disk);
    checkpoint(&dir, &base, 11);
    let durable_files = files(&disk);
    for after_effect in [false, true] {
        for n in 1.. {
            let context = format!("operation {n}, after effect {after_effect}");
            let image = disk_with(&durable_files);
            let (dir, store) = store(&image);
            let reader = LogReader::of_writer(Arc::clone(&dir), Lsn::FIRST);
            let fault = Fault::eio(Op::Any).nth(n);
            image.inject(if after_effect { fault.after_effect() } else { fault });
            let failed = cut(&dir, &store, reader.pins(), 7);
            if image.faults_struck() == 0 {
                assert!(failed.is_ok() && n > 11, "{context}");
                break;
            }
            // What was done after its effect may have been all there was to do.
            assert!(matches!(failed, Err(RecoveryError::Io { .. })), "{context}: {failed:?}");
            // Readers have what the manifest in memory says.
            let start = store.current().log_start;
            assert_eq!(reader.first_lsn(), start, "{context}");
            assert_eq!(reader.iter(start, Lsn(11)).unwrap().count() as u64, 12 - start.0, "{context}");
            for seed in 0..5 {
                assert_cut_or_not(&image.crash_clone(seed, Profile::Posix), &pen.model, &context);
            }
            let done =
                cut(&dir, &store, reader.pins(), 7).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(done.first_lsn, Lsn(7), "{context}");
            for seed in 0..5 {
                let after = image.crash_clone(seed, Profile::Posix);
                assert_eq!(assert_cut_or_not(&after, &pen.model, &context), Lsn(7), "{context}");
            }
        }
    }
}

/// A writer has named its next segment, and not yet synced the directory.
#[test]
fn log_is_not_cut_at_a_file_whose_name_may_be_lost() {
    let (disk, pen) = log();
    let (dir, base) = store(&disk);
    checkpoint(&dir, &base, 9);
    let kept = files(&disk);
    for n in 1.. {
        let image = disk_with(&kept);
        let (dir, store) = store(&image);
        dir.rename(&segment(10), "elsewhere", false).unwrap();
        dir.sync().unwrap();
        dir.rename("elsewhere", &segment(10), false).unwrap();
        die_at(&image, n, false);
        let died = cut(&dir, &store, &Pins::new(Lsn::FIRST), 10);
        image.clear_faults();
        for (number, after) in image.crash_images(Bound::Pages).iter().enumerate() {
            let context = format!("operation {n}, image {number}");
            let again = recovered(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
            let first = again.report.first_lsn;
            assert!(first == Lsn(10) || first == Lsn(1) && died.is_err(), "{context}: {first}");
            assert!(again.report.last_lsn >= Lsn(9), "{context}");
            assert_starts_at(&after, first, &pen.model[..again.report.last_lsn.0 as usize], &context);
        }
        if died.is_ok() {
            assert!(n > 11);
            break;
        }
    }
}

#[test]
fn change_of_the_manifest_that_crashed_anywhere_happened_or_did_not() {
    let (disk, pen) = log();
    for existing in [false, true] {
        let image = disk_with(&files(&disk));
        if existing {
            let (_, store) = store(&image);
            store.change(|manifest| manifest.set_hold("first", Lsn(3))).unwrap();
        }
        let durable_files = files(&image);
        let mut found = [0, 0];
        for after_effect in [false, true] {
            for n in 1.. {
                let image = disk_with(&durable_files);
                let (_, store) = store(&image);
                die_at(&image, n, after_effect);
                let died = store.change(|manifest| manifest.set_hold("second", Lsn(5)));
                image.clear_faults();
                if died.is_ok() {
                    assert!(n > 5);
                    break;
                }
                for (number, after) in image.crash_images(Bound::Sectors).iter().enumerate() {
                    let context = format!("operation {n}, image {number}");
                    let manifest =
                        recovered(&after).unwrap_or_else(|error| panic!("{context}: {error}")).manifest;
                    assert_eq!(manifest.hold("first").is_some(), existing, "{context}");
                    let second = manifest.hold("second").is_some();
                    assert_eq!(manifest.number(), u64::from(existing) + u64::from(second), "{context}");
                    found[usize::from(second)] += 1;
                    assert!(!files(&after).iter().any(|(name, _)| name == MANIFEST_NEW_NAME), "{context}");
                    assert_starts_at(&after, Lsn::FIRST, &pen.model, &context);
                }
            }
        }
        assert!(found.iter().all(|&count| count > 2), "{found:?}");
    }
}

/// A cut log, and its files.
fn cut_log() -> (SimDisk, Pen) {
    let (disk, pen) = log();
    let (dir, store) = store(&disk);
    checkpoint(&dir, &store, 11);
    cut(&dir, &store, &Pins::new(Lsn::FIRST), 7).unwrap();
    (disk, pen)
}

/// What all judges say of a damaged log: that it is, and where.
fn damage(disk: &SimDisk) -> (String, u64, DamageCause) {
    let before = files(disk);
    let Err(RecoveryError::Damaged(damage)) = recovered(disk) else { panic!("recovery tells") };
    assert!(files(disk) == before, "nothing was changed");
    let Err(RecoveryError::Damaged(read)) = LogReader::open_read_only(open_dir(disk)) else {
        panic!("a reader tells")
    };
    assert_eq!(read, damage);
    let report = verified(disk).unwrap();
    assert!(report.problems.iter().any(|problem| problem.what == damage.cause), "{:?}", report.problems);
    (damage.segment, damage.offset, damage.cause)
}

#[test]
fn every_flipped_bit_of_a_manifest_is_damage_and_changes_nothing() {
    let (disk, pen) = cut_log();
    let kept = files(&disk);
    let len = disk.read_raw(path(MANIFEST_NAME)).len() as u64;
    // Of the header's reserved bytes a part stands for all; the unit tests have every bit.
    for offset in (0..64).chain((64..4092).step_by(61)).chain(4092..len) {
        for bit in 0..8 {
            let image = disk_with(&kept);
            image.flip_bit(path(MANIFEST_NAME), offset, bit);
            let (file, _, _) = damage(&image);
            assert_eq!(file, MANIFEST_NAME, "bit {bit} of byte {offset}");
            // The segments are verified all the same.
            let report = verified(&image).unwrap();
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
            assert_eq!((report.first_lsn, report.records), (Lsn(7), 5));
            image.flip_bit(path(MANIFEST_NAME), offset, bit);
            assert_starts_at(&image, Lsn(7), &pen.model, "mended");
        }
    }
}

#[test]
fn manifest_that_is_missing_or_cut_is_damage_of_a_cut_log() {
    let (disk, _) = cut_log();
    let kept = files(&disk);
    let bytes = disk.read_raw(path(MANIFEST_NAME));
    for len in [0, 1, 4, 4095, 4096, 4097, bytes.len() - 8, bytes.len() - 1] {
        let image = disk_with(&kept);
        image.truncate_raw(path(MANIFEST_NAME), len as u64);
        assert_eq!(damage(&image).0, MANIFEST_NAME, "{len} bytes");
    }
    let image = disk_with(&kept);
    image.remove_raw(path(MANIFEST_NAME));
    assert_eq!(damage(&image), (segment(1), 0, DamageCause::FileMissing));
}

#[test]
fn manifest_of_another_log_or_version_is_called_that() {
    let (disk, _) = cut_log();
    let kept = files(&disk);
    let other = SimDisk::new();
    let dir = other.open_dir(std::path::Path::new(support::DIR), true).unwrap();
    let clock = Arc::new(SimClock::new());
    let store = ManifestStore::new(dir, clock, LogId(*b"some other log.."), Arc::default());
    store.change(|manifest| (manifest.log_start, manifest.durable) = (Lsn(7), Lsn(11))).unwrap();
    let foreign = other.read_raw(path(MANIFEST_NAME));
    let mut newer = disk.read_raw(path(MANIFEST_NAME));
    (newer[4], newer[1000]) = (2, 1);
    for (bytes, is_newer) in [(foreign, false), (newer, true)] {
        let image = disk_with(&kept);
        image.put_raw(path(MANIFEST_NAME), &bytes);
        let before = files(&image);
        for error in [
            recovered(&image).unwrap_err(),
            LogReader::open_read_only(open_dir(&image)).unwrap_err(),
            verified(&image).unwrap_err(),
        ] {
            match error {
                RecoveryError::Newer { file, .. } => assert!(is_newer && file == MANIFEST_NAME),
                RecoveryError::Foreign { file, .. } => assert!(!is_newer && file == MANIFEST_NAME),
                error => panic!("{error}"),
            }
        }
        assert!(files(&image) == before);
    }
}

#[test]
fn file_missing_at_the_start_or_the_end_of_a_cut_log_is_damage() {
    let (disk, _) = cut_log();
    let kept = files(&disk);
    for (gone, told, cause) in [
        // The first file.
        (&[7][..], segment(7), DamageCause::FileMissing),
        // The last one: nothing inside the others could tell.
        (&[10], segment(10), DamageCause::FileMissing),
        (&[7, 10], segment(7), DamageCause::FileMissing),
    ] {
        let image = disk_with(&kept);
        gone.iter().for_each(|&base| image.remove_raw(segment_path(base)));
        assert_eq!(damage(&image), (told, 0, cause), "{gone:?}");
    }
    // The header of the file at which the log was cut was there.
    for bytes in [&[][..], &[0; 4096]] {
        let image = disk_with(&kept);
        image.remove_raw(segment_path(10));
        image.put_raw(segment_path(7), bytes);
        assert_eq!(damage(&image), (segment(7), 0, DamageCause::HeaderMissing));
    }
}

#[test]
fn end_of_a_log_that_the_manifest_vouches_for_is_no_torn_tail() {
    let (disk, pen) = cut_log();
    // The second record of the last segment is torn: no mark behind it says that it was synced.
    let bytes = disk.read_raw(segment_path(10));
    let eleven = support::entries_of(&bytes, pen.header.salt)[2].0;
    disk.write_raw(segment_path(10), eleven, &[0xAB; 16]);
    assert_eq!(damage(&disk), (segment(10), eleven, DamageCause::EndsEarly));
    let report = verified(&disk).unwrap();
    assert_eq!((report.problems.len(), report.last_lsn), (1, Lsn(10)), "{:?}", report.problems);
    assert_eq!((report.problems[0].lsns.first, report.problems[0].lsns.last), (Lsn(11), Lsn(11)));
    // Zeros in its place are no clean end either.
    disk.write_raw(segment_path(10), eleven, &[0; 8192]);
    assert_eq!(damage(&disk), (segment(10), eleven, DamageCause::EndsEarly));
}

#[test]
fn log_without_records_keeps_its_manifest_and_its_identity() {
    let disk = SimDisk::new();
    let (_, before) = store(&disk);
    before.change(|manifest| manifest.set_hold("early", Lsn(1))).unwrap();
    let told = |source| RecoveryError::Io { operation: "open", file: String::new(), source };
    let dir = disk.open_dir(std::path::Path::new(support::DIR), true).map_err(told).unwrap();
    let again = braidlog_recovery::recover(&dir, LogId([7; 16])).unwrap();
    assert_eq!(Some(again.tail.log_id), before.current().log_id());
    assert!(again.manifest.hold("early").is_some());
    // Records that were durable and of which no file is left.
    before.change(|manifest| manifest.durable = Lsn(3)).unwrap();
    assert_eq!(damage(&disk), (segment(1), 0, DamageCause::FileMissing));
}

#[test]
fn a_file_with_the_name_of_lsn_0_is_nobody_s_and_is_left_alone() {
    let uncut = SimDisk::new();
    open_dir(&uncut);
    for disk in [cut_log().0, uncut] {
        disk.put_raw(segment_path(0), b"whatever");
        let recovered = recovered(&disk).unwrap();
        assert_eq!(recovered.report.ignored, [segment(0)]);
        assert!(recovered.report.removed_orphans.is_empty());
        assert_eq!(disk.read_raw(segment_path(0)), b"whatever");
    }
}

#[test]
fn opening_that_crashed_while_it_removed_what_was_cut_is_done_again() {
    let (disk, pen) = cut_log();
    // As truncations and changes of the manifest leave it that were interrupted.
    for base in [1, 4] {
        disk.put_raw(segment_path(base), b"whatever");
    }
    disk.put_raw(path(MANIFEST_NEW_NAME), &disk.read_raw(path(MANIFEST_NAME))[..4200]);
    let durable_files = files(&disk);
    let expected = recovered(&disk_with(&durable_files)).unwrap();
    let orphans = [segment(1), segment(4), MANIFEST_NEW_NAME.to_owned()];
    assert_eq!(expected.report.removed_orphans, orphans);
    assert!(expected.report.ignored.is_empty());
    for after_effect in [false, true] {
        for n in 1.. {
            let image = disk_with(&durable_files);
            die_at(&image, n, after_effect);
            let died = recovered(&image);
            image.clear_faults();
            if died.is_ok() {
                assert!(n > 12);
                break;
            }
            let images = image.crash_images(Bound::Pages);
            let posix = (0..5).map(|seed| image.crash_clone(seed, Profile::Posix));
            for after in images.iter().take(500).chain(posix) {
                let context = format!("operation {n}");
                assert_eq!(assert_cut_or_not(&after, &pen.model, &context), Lsn(7));
                assert_eq!(recovered(&after).unwrap().tail, expected.tail, "{context}");
            }
        }
    }
}

/// A truncation raises the floor of this process's readers, and then writes the manifest, which takes its time. Whoever asked
/// meanwhile where a point lies was told that the log begins behind it, wherever it was.
#[test]
fn a_point_that_stays_is_found_while_a_truncation_is_under_way() {
    let (disk, _) = log();
    let (dir, store) = store(&disk);
    let reader = LogReader::of_writer(Arc::clone(&dir), Lsn::FIRST);
    checkpoint(&dir, &store, 11);
    let before = store.current();
    let at = |lsn| resolve(&Target::lsn(Lsn(lsn)), &reader, &before, Lsn(11));
    assert_eq!((at(2).unwrap(), at(8).unwrap()), (Lsn(2), Lsn(8)));
    assert_eq!(cut(&dir, &store, reader.pins(), 8).unwrap().first_lsn, Lsn(7));
    assert_eq!((at(6).unwrap(), at(8).unwrap()), (Lsn(6), Lsn(8)));
    let gone = at(5);
    assert!(
        matches!(gone, Err(TargetError::Recovery(RecoveryError::Truncated { first_lsn: Lsn(7) }))),
        "{gone:?}"
    );
}
