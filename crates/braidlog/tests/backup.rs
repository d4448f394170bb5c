//! A backup opens as the log was, takes only what is new, and is never a shorter log without saying so: whatever fails or
//! crashes while it is made.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use braidlog::storage::Storage;
use braidlog::{Backup, BackupReport, ErrorKind, Lsn, Options, Retention, TailState, Wal};
use braidlog_sim::{Bound, Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, append, assert_reads, assert_records, bases, fill, small};

const DEST: &str = "backup";

fn log() -> (SimDisk, Arc<SimClock>, Wal) {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small(&disk, &clock).open(PATH).unwrap();
    (disk, clock, wal)
}

/// A checkpoint whose content is its LSN.
fn checkpoint(wal: &Wal, lsn: Lsn) {
    wal.checkpoint(lsn, |writer| Ok(std::io::Write::write_all(writer, &lsn.0.to_le_bytes())?)).unwrap();
}

/// Opens what is in `DEST` read only and checks all of it; the first and last LSN.
#[track_caller]
fn assert_backup(options: &Options) -> (Lsn, Lsn) {
    let report = options.verify(DEST, |_| ()).unwrap();
    assert!(report.is_clean() && report.warnings.is_empty(), "{report:?}");
    let log = options.open_read_only(DEST).unwrap();
    (log.first_lsn().unwrap(), assert_reads(&log))
}

#[test]
fn a_backup_opens_clean_with_every_durable_record_and_ends_with_a_seal() {
    let (disk, clock, wal) = log();
    fill(&wal, 3);
    checkpoint(&wal, Lsn(10));
    append(&wal, 3);
    let report = wal.backup(DEST).unwrap();
    let last = wal.durable_lsn();
    assert_eq!((report.first_lsn, report.last_lsn, report.checkpoints), (Lsn(1), last, 1));
    assert_eq!(report.segments, bases(&disk, PATH).len());
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), last));
    // The log goes on, and the backup does not notice.
    fill(&wal, 2);
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), last));
    let restored = small(&disk, &clock).open(DEST).unwrap();
    assert_eq!(restored.recovery_report().tail, TailState::Sealed);
    assert_eq!(restored.log_id(), wal.log_id());
    assert_eq!(restored.checkpoints().len(), 1);
    append(&restored, 5);
    assert_records(restored.iter(..), Lsn(1), Lsn(last.0 + 5));
}

#[test]
fn an_empty_log_and_a_closed_one_are_backed_up() {
    let (disk, clock, wal) = log();
    let report = wal.backup(DEST).unwrap();
    assert_eq!((report.first_lsn, report.last_lsn), (Lsn(1), Lsn(0)));
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), Lsn(0)));
    fill(&wal, 2);
    wal.close().unwrap();
    let closed = small(&disk, &clock).open_read_only(PATH).unwrap();
    let report = closed.backup(Backup::new(), DEST, |_| ()).unwrap();
    assert_eq!(report.last_lsn, wal.durable_lsn());
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), wal.durable_lsn()));
}

#[test]
fn a_second_backup_brings_only_what_is_new() {
    let (disk, clock, wal) = log();
    fill(&wal, 4);
    append(&wal, 2);
    checkpoint(&wal, Lsn(3));
    let first = wal.backup(DEST).unwrap();
    let files = |report: &BackupReport| (report.copied + report.linked, report.unchanged);
    assert_eq!(files(&first), (first.segments + 1, 0));
    // Nothing is new: nothing is brought.
    let again = wal.backup(DEST).unwrap();
    assert_eq!((files(&again), again.copied_bytes), ((0, files(&first).0), 0));
    // More records: the segment that was the last is brought anew, and those behind it.
    fill(&wal, 2);
    let third = wal.backup(DEST).unwrap();
    assert_eq!(files(&third), (third.segments - first.segments + 1, first.segments));
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), wal.durable_lsn()));
}

#[test]
fn what_the_log_gave_up_goes_from_the_backup_too() {
    let (disk, clock, wal) = log();
    fill(&wal, 4);
    wal.backup(DEST).unwrap();
    checkpoint(&wal, wal.durable_lsn());
    let first = wal.truncate_before(wal.durable_lsn()).unwrap();
    assert!(first > Lsn(1));
    let report = wal.backup(DEST).unwrap();
    assert!(report.removed > 0, "{report:?}");
    assert_eq!(assert_backup(&small(&disk, &clock)), (first, wal.durable_lsn()));
    assert_eq!(bases(&disk, DEST), bases(&disk, PATH));
    let restored = small(&disk, &clock).open(DEST).unwrap();
    assert_eq!(restored.first_lsn(), first);
}

#[test]
fn a_log_that_starts_with_an_empty_segment_is_backed_up() {
    let (disk, clock, wal) = log();
    fill(&wal, 2);
    checkpoint(&wal, wal.durable_lsn());
    wal.close().unwrap();
    let wal = small(&disk, &clock).open(PATH).unwrap();
    let next = wal.last_lsn().next();
    assert_eq!(wal.truncate_before(next).unwrap(), next);
    wal.backup(DEST).unwrap();
    assert_eq!(assert_backup(&small(&disk, &clock)), (next, wal.last_lsn()));
    let restored = small(&disk, &clock).open(DEST).unwrap();
    append(&restored, 1);
    assert_eq!(restored.last_lsn(), next);
}

#[test]
fn holds_are_in_the_backup() {
    let (disk, clock, wal) = log();
    append(&wal, 5);
    wal.set_hold("replica", Lsn(3)).unwrap();
    wal.backup(DEST).unwrap();
    let holds = small(&disk, &clock).open_read_only(DEST).unwrap().holds().unwrap();
    assert_eq!((holds.len(), holds[0].name.as_str(), holds[0].lsn), (1, "replica", Lsn(3)));
}

#[test]
fn only_an_empty_directory_or_a_backup_of_this_log_takes_one() {
    let (disk, clock, wal) = log();
    append(&wal, 5);
    let backup = |dest: &str| wal.backup(dest).map(|_| ()).map_err(|error| (error.kind(), error.to_string()));
    // Somebody's files.
    disk.open_dir(Path::new("papers"), true).unwrap();
    disk.put_raw("papers/letter", b"dear");
    let names = |dir: &str| -> Vec<String> { disk.list_raw(dir).into_iter().map(|(name, _)| name).collect() };
    let (kind, text) = backup("papers").unwrap_err();
    assert_eq!((kind, text.contains("letter")), (ErrorKind::Foreign, true), "{text}");
    assert!(names("papers").iter().all(|name| name == "letter" || name == "LOCK"));
    // Another log, which has a manifest, and one that has none.
    let other = small(&disk, &clock).open("other").unwrap();
    append(&other, 2);
    other.close().unwrap();
    assert_eq!(backup("other").unwrap_err().0, ErrorKind::Foreign);
    other.backup("others backup").unwrap_err();
    let other = small(&disk, &clock).open("other").unwrap();
    other.backup("backup of the other").unwrap();
    let (kind, text) = backup("backup of the other").unwrap_err();
    assert_eq!((kind, text.contains("MANIFEST")), (ErrorKind::Foreign, true), "{text}");
    // The log itself.
    assert_eq!(backup(PATH).unwrap_err().0, ErrorKind::Locked);
    assert_records(wal.iter(..), Lsn(1), Lsn(5));
}

#[test]
fn a_backup_that_went_on_as_a_log_of_its_own_is_left_alone() {
    let (disk, clock, wal) = log();
    fill(&wal, 1);
    wal.backup(DEST).unwrap();
    let restored = small(&disk, &clock).open(DEST).unwrap();
    assert_eq!(wal.backup(DEST).unwrap_err().kind(), ErrorKind::Locked);
    append(&restored, 3);
    restored.close().unwrap();
    append(&wal, 1);
    let last = restored.last_lsn();
    let error = wal.backup(DEST).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert!(error.to_string().contains("written to"), "{error}");
    assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), last));
}

/// A process beside the writer sees no further than the last mark, which the next round brings. The segment that a rotation had
/// begun lay behind it, and the backup had it.
#[test]
fn a_backup_by_another_process_goes_on_from_one_that_the_writer_made() {
    let (disk, clock, wal) = log();
    fill(&wal, 2);
    let segments = bases(&disk, PATH).len();
    while bases(&disk, PATH).len() == segments {
        append(&wal, 1);
    }
    let other = small(&disk, &clock).open_read_only(PATH).unwrap();
    for _ in 0..3 {
        let last = wal.durable_lsn();
        wal.backup(DEST).unwrap();
        assert!(other.last_lsn().unwrap() < last, "no mark tells of the last record");
        let report = other.backup(Backup::new(), DEST, |_| ()).unwrap();
        assert_eq!(
            (report.last_lsn, report.copied + report.linked),
            (last, 0),
            "nothing is taken back or brought"
        );
        assert_eq!(assert_backup(&small(&disk, &clock)), (Lsn(1), last));
        append(&wal, 1);
    }
}

#[test]
fn a_backup_that_has_more_than_the_log_is_left_alone() {
    let (disk, clock, wal) = log();
    fill(&wal, 1);
    let older = disk.crash_clone(1, Profile::Kept);
    append(&wal, 1);
    let last = wal.durable_lsn();
    wal.backup(DEST).unwrap();
    // The log as it was before, and the backup as it is.
    older.open_dir(Path::new(DEST), true).unwrap();
    for (name, _) in disk.list_raw(DEST) {
        older.put_raw(format!("{DEST}/{name}"), &disk.read_raw(format!("{DEST}/{name}")));
    }
    let log = small(&older, &clock).open_read_only(PATH).unwrap();
    let error = log.backup(Backup::new(), DEST, |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert_eq!(assert_backup(&small(&older, &clock)), (Lsn(1), last));
}

#[test]
fn a_backup_beside_another_process_is_not_fooled_by_a_truncation_under_it() {
    let (disk, clock, wal) = log();
    fill(&wal, 4);
    checkpoint(&wal, wal.durable_lsn());
    let other = small(&disk, &clock).open_read_only(PATH).unwrap();
    let mut first = Lsn(1);
    let report = other.backup(Backup::new(), DEST, |_| {
        if first == Lsn(1) {
            first = wal.truncate_before(wal.durable_lsn()).unwrap();
        }
    });
    assert!(first > Lsn(1));
    assert_eq!(report.unwrap().first_lsn, first);
    assert_eq!(assert_backup(&small(&disk, &clock)), (first, wal.durable_lsn()));
}

/// The file under the copy is given up, used again, and written to; what is read of it from then on is another segment's.
#[test]
fn a_file_that_is_used_again_while_it_is_copied_is_not_in_the_backup() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    // A file is read in several pieces.
    let options = small(&disk, &clock).segment_size(4 << 20);
    let wal = options.open(PATH).unwrap();
    append(&wal, 2_000);
    checkpoint(&wal, wal.durable_lsn());
    let other = options.open_read_only(PATH).unwrap();
    let second = other.segments().unwrap()[1].base;
    let mut first = Lsn(1);
    let report = other.backup(Backup::new().copy(true), DEST, |now| {
        if first == Lsn(1) && now.bytes_done > 1 << 20 {
            first = wal.truncate_before(second).unwrap();
            append(&wal, 2_000);
        }
    });
    assert_eq!((first, wal.upkeep().segments_recycled), (second, 1));
    let report = report.unwrap();
    assert_eq!(report.first_lsn, first);
    // The last round is told by the mark of the next one.
    assert!(report.last_lsn >= wal.durable_lsn().prev());
    assert_eq!(assert_backup(&small(&disk, &clock)), (first, report.last_lsn));
}

#[test]
fn a_reader_of_this_process_keeps_its_files_while_it_backs_up() {
    let (disk, clock, wal) = log();
    fill(&wal, 4);
    checkpoint(&wal, wal.durable_lsn());
    let mut asked = false;
    wal.backup_with(Backup::new(), DEST, |_| {
        asked = true;
        assert_eq!(wal.truncate_before(wal.durable_lsn()).unwrap(), Lsn(1));
    })
    .unwrap();
    assert!(asked);
    assert_eq!(assert_backup(&small(&disk, &clock)).0, Lsn(1));
    assert!(wal.truncate_before(wal.durable_lsn()).unwrap() > Lsn(1));
}

/// What a run leaves of the disk if the process dies at its `n`-th storage operation; `None` if it has fewer.
fn died_at(disk: &SimDisk, n: u64, after_effect: bool, run: impl FnOnce() -> bool) -> Option<()> {
    let fault = Fault::eio(Op::Any).nth(n);
    disk.inject(if after_effect { fault.after_effect() } else { fault });
    disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
    let struck = disk.faults_struck();
    let succeeded = run();
    let was_struck = disk.faults_struck() > struck;
    disk.clear_faults();
    (was_struck || !succeeded).then_some(())
}

/// What a crash may leave now: all that there is, or from each kind some.
fn images(disk: &SimDisk) -> Vec<(String, SimDisk)> {
    const MOST: u64 = 8;
    let all = disk.crash_images(Bound::Pages);
    let numbers =
        (0..all.total().min(MOST)).map(|n| n * all.total().min(u64::MAX / MOST) / all.total().min(MOST));
    let mut images: Vec<_> = numbers.map(|n| (format!("image {n}"), all.image(n))).collect();
    for profile in Profile::HONEST {
        images.push((format!("{profile:?}"), disk.crash_clone(1, profile)));
    }
    images
}

/// A log, what its backup before holds, and the options that open both.
struct Before {
    disk: SimDisk,
    clock: Arc<SimClock>,
    wal: Wal,
    /// First and last LSN of the backup before.
    backup: Option<(Lsn, Lsn)>,
}

fn before(is_first: bool) -> Before {
    let (disk, clock, wal) = log();
    fill(&wal, 2);
    checkpoint(&wal, Lsn(12));
    let mut backup = None;
    if !is_first {
        let report = wal.backup(DEST).unwrap();
        backup = Some((report.first_lsn, report.last_lsn));
        fill(&wal, 2);
        checkpoint(&wal, Lsn(20));
        wal.truncate_before(Lsn(13)).unwrap();
        append(&wal, 1);
    }
    Before { disk, clock, wal, backup }
}

#[test]
fn a_crash_at_any_operation_leaves_the_backup_before_or_one_that_is_refused() {
    for is_first in [true, false] {
        let (mut operations, mut refused, mut opened) = (0, 0, 0);
        for after_effect in [false, true] {
            for n in 1.. {
                let Before { disk, clock, wal, backup } = before(is_first);
                if died_at(&disk, n, after_effect, || wal.backup(DEST).is_ok()).is_none() {
                    operations += n - 1;
                    break;
                }
                for (image, after) in images(&disk) {
                    let context = format!("first {is_first}, operation {n}, {image}");
                    let options = small(&after, &clock);
                    match options.open_read_only(DEST) {
                        Ok(log) => {
                            let (first, last) = (log.first_lsn().unwrap(), assert_reads(&log));
                            let (_, least) = backup.unwrap_or((Lsn(1), Lsn(0)));
                            // Without a manifest there is no backup yet, and nothing that looks like one.
                            let is_there = after.list_raw(DEST).iter().any(|(name, _)| name == "MANIFEST");
                            assert!(is_there || bases(&after, DEST).is_empty(), "{context}");
                            let least = if is_first && is_there { wal.durable_lsn() } else { least };
                            assert!(last >= least, "{context}: {first}..={last}");
                            let is_whole = options.verify(DEST, |_| ()).unwrap().is_clean();
                            assert!(is_whole, "{context}");
                            opened += 1;
                        }
                        Err(error) => {
                            let kind = error.kind();
                            let none = kind == ErrorKind::Foreign && is_first;
                            assert!(kind == ErrorKind::Damaged || none, "{context}: {error}");
                            refused += 1;
                        }
                    }
                    // The next backup mends it, whatever it was.
                    let again = small(&after, &clock).open(PATH).unwrap();
                    let report = again.backup(DEST).unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_eq!(assert_backup(&options), (report.first_lsn, report.last_lsn), "{context}");
                }
            }
        }
        assert!(operations > 60 && opened > 20, "{operations} operations, {opened} opened");
        // Only one that never was whole is ever refused.
        assert_eq!(refused > 0, is_first);
    }
}

#[test]
fn a_failure_at_any_operation_is_told_and_the_next_backup_is_whole() {
    let mut failures = 0;
    for n in 1.. {
        let Before { disk, clock, wal, .. } = before(false);
        disk.inject(Fault::eio(Op::Any).nth(n));
        let struck = disk.faults_struck();
        let made = wal.backup(DEST);
        if disk.faults_struck() == struck {
            made.unwrap();
            break;
        }
        disk.clear_faults();
        // A file that cannot be linked is copied, one that cannot be removed before it is there is told.
        if let Err(error) = made {
            assert_eq!(error.kind(), ErrorKind::Io, "operation {n}: {error}");
            failures += 1;
        }
        let report = wal.backup(DEST).unwrap();
        assert_eq!(assert_backup(&small(&disk, &clock)), (report.first_lsn, report.last_lsn));
        append(&wal, 1);
    }
    assert!(failures > 30, "{failures} failures");
}

#[test]
fn backups_beside_writers_retention_and_checkpoints_are_each_a_log() {
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("backup");
    let wal = Wal::options()
        .segment_size(64 << 10)
        .retention(Retention::segments(3))
        .open(temp.path().join("wal"))
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let batch: Vec<_> = (0..8).map(|_| wal.submit(vec![7; 2000])).collect();
                    let ticket = batch.into_iter().flatten().last();
                    ticket.map(|ticket| ticket.wait().unwrap());
                }
            });
        }
        let mut last = Lsn(0);
        for round in 0..12 {
            wal.append([1; 100]).unwrap();
            checkpoint(&wal, wal.durable_lsn());
            let durable = wal.durable_lsn();
            let report = wal.backup_with(Backup::new().copy(round % 3 == 0), &dest, |_| ()).unwrap();
            assert!(report.last_lsn >= durable && report.last_lsn > last);
            last = report.last_lsn;
            check_real(&dest, &report);
        }
        stop.store(true, Ordering::SeqCst);
    });
    // A copy of it is a log to go on with.
    let restored = Wal::options().open(&dest).unwrap();
    assert!(restored.last_lsn() > Lsn(0) && restored.checkpoints().len() == 2);
    assert_eq!(restored.append(b"on").unwrap(), restored.last_lsn());
}

fn check_real(dest: &Path, report: &BackupReport) {
    let verified = braidlog::verify(dest).unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    assert_eq!((verified.first_lsn, verified.last_lsn), (report.first_lsn, report.last_lsn));
    let log = Wal::open_read_only(dest).unwrap();
    let lsns: Vec<Lsn> = log.iter(report.first_lsn..).unwrap().map(|record| record.unwrap().lsn).collect();
    assert_eq!(lsns.len() as u64, report.last_lsn.0 + 1 - report.first_lsn.0);
}

#[test]
fn a_log_that_nobody_has_open_is_no_place_for_its_own_backup() {
    let (disk, clock, wal) = log();
    fill(&wal, 2);
    checkpoint(&wal, Lsn(10));
    append(&wal, 2);
    let dead = disk.crash_clone(1, Profile::Kept);
    let before: Vec<_> = dead.list_raw(PATH);
    let log = small(&dead, &clock).open_read_only(PATH).unwrap();
    let error = log.backup(Backup::new(), PATH, |_| ()).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("itself")), (ErrorKind::Foreign, true), "{error}");
    assert_eq!(dead.list_raw(PATH), before);
    // What an interrupted backup into it would have left there is no sign of it.
    dead.put_raw("wal/18446744073709551614.prep", b"left");
    log.backup(Backup::new(), DEST, |_| ()).unwrap();
    assert_backup(&small(&dead, &clock));
}

#[test]
fn damage_in_a_backup_is_mended_or_told_of_the_backup() {
    let (disk, clock, wal) = log();
    fill(&wal, 3);
    wal.backup(DEST).unwrap();
    let damage = |name: &str| {
        let file = format!("{DEST}/{name}");
        let mut bytes = disk.read_raw(&file);
        bytes[100] ^= 1;
        disk.put_raw(&file, &bytes);
    };
    for (name, _) in disk.list_raw(DEST).iter().filter(|(name, _)| name.ends_with(".wal")) {
        damage(name);
        wal.backup(DEST).unwrap();
        assert_backup(&small(&disk, &clock));
    }
    damage("MANIFEST");
    let error = wal.backup(DEST).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().starts_with(DEST), "{error}");
}

#[test]
fn finished_files_are_linked_on_one_file_system_unless_a_copy_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    // Without threads a full segment is followed by the next at once, however slow the machine is.
    let options = Wal::options().segment_size(64 << 10).background_threads(false);
    let wal = options.open(temp.path().join("wal")).unwrap();
    for _ in 0..30 {
        wal.append([7; 8000]).unwrap();
    }
    let linked = wal.backup(temp.path().join("linked")).unwrap();
    assert!(linked.linked > 0 && linked.copied == 1, "{linked:?}");
    let copied = wal.backup_with(Backup::new().copy(true), temp.path().join("copied"), |_| ()).unwrap();
    assert_eq!((copied.linked, copied.copied), (0, copied.segments));
    for name in ["linked", "copied"] {
        check_real(&temp.path().join(name), &linked);
    }
}
