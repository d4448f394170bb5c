//! Recovery of an application from a log that is only read: as the writer's, beside it and after it, whatever
//! checkpoints it takes and whatever it gives up meanwhile.

#[path = "support/keys.rs"]
mod keys;
#[path = "support/small_log.rs"]
mod small_log;

use std::sync::Arc;

use braidlog::{
    Checkpoint, DurabilityMode, ErrorKind, Lsn, LsnRange, Options, ReadOnly, Recover, RestorePhase,
    Retention, Wal,
};
use braidlog_sim::{SimClock, SimDisk};
use keys::Keys;
use small_log::{PATH, small};

/// A log that keeps one chain of checkpoints.
fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new())).retention(Retention::keep_all().checkpoints(1))
}

fn reader(disk: &SimDisk) -> ReadOnly {
    options(disk).open_read_only(PATH).unwrap()
}

/// Appends records of 1 KiB for these numbers, and applies them.
fn put(wal: &Wal, keys: &mut Keys, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let record = format!("key{}={number:01000}", number % 7);
        let lsn = wal.append(&record).unwrap();
        keys.set(&record, lsn).unwrap();
    }
}

fn checkpoint(wal: &Wal, keys: &Keys) {
    wal.checkpoint(keys.applied, |writer| keys.write(writer)).unwrap();
}

#[test]
fn a_reader_recovers_what_the_writer_would() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let recovered = || {
        let mut found = Keys::default();
        let report = reader(&disk).recover(&mut found).unwrap();
        (found, report)
    };
    assert_eq!(recovered().0, Keys::default(), "there is nothing yet");
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=20);
    wal.close().unwrap();
    let (found, report) = recovered();
    assert_eq!((found, report.checkpoint, report.total), (keys.clone(), None, 20));

    let wal = options(&disk).open(PATH).unwrap();
    checkpoint(&wal, &keys);
    put(&wal, &mut keys, 21..=30);
    let changes = Checkpoint::at(Lsn(30)).replay_from(Lsn(28)).incremental();
    wal.checkpoint_with(changes, |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 31..=39);
    // Beside a live writer, up to where a reader sees.
    let beside = reader(&disk);
    let mut found = Keys::default();
    let report = beside.recover(&mut found).unwrap();
    let last = beside.last_lsn().unwrap();
    assert_eq!(report.replayed, Some(LsnRange { first: Lsn(28), last }));
    assert_eq!((found.applied, report.checkpoint_files, report.skipped), (last, 2, 3));
    // A checkpoint says that what it holds is durable before a sync mark does.
    assert!(last < Lsn(39));
    let changes = Checkpoint::at(Lsn(39)).replay_from(Lsn(36)).incremental();
    wal.checkpoint_with(changes, |writer| keys.write(writer)).unwrap();
    assert_eq!(reader(&disk).last_lsn().unwrap(), Lsn(39));
    let (found, report) = recovered();
    assert_eq!((&found, report.total, report.skipped), (&keys, 4, 4), "all of what was open comes again");
    put(&wal, &mut keys, 40..=44);
    wal.close().unwrap();
    let (found, report) = recovered();
    assert_eq!((&found, report.total, report.skipped), (&keys, 9, 4));
    let mut again = Keys::default();
    let of_writer = options(&disk).open(PATH).unwrap().recover(&mut again).unwrap();
    assert_eq!((again, of_writer.checkpoint), (keys, report.checkpoint));
}

#[test]
fn a_checkpoint_that_goes_while_it_is_looked_for_is_no_damage() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=20);
    // Large enough that the progress is told in the middle of its check.
    let pad = format!("pad={}", "x".repeat(3 << 20));
    keys.set(&pad, keys.applied).unwrap();
    checkpoint(&wal, &keys);
    put(&wal, &mut keys, 21..=30);
    wal.checkpoint_with(Checkpoint::at(Lsn(30)).incremental(), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 31..=40);

    let mut newest = None;
    let how = Recover::new().progress(|now| {
        if now.phase == RestorePhase::Checking && newest.is_none() {
            // The file of the changes, which comes next, goes with it.
            newest = Some(wal.checkpoint(Lsn(40), |writer| keys.write(writer)).unwrap());
            wal.truncate_before(Lsn(40)).unwrap();
        }
    });
    let mut found = Keys::default();
    let report = reader(&disk).recover_with(how, &mut found).unwrap();
    assert_eq!((report.passed_over.len(), report.checkpoint_files), (0, 1));
    assert!(newest.is_some());
    assert_eq!(report.checkpoint, newest);
    assert_eq!(found, keys);
}

#[test]
fn records_that_the_writer_gives_up_under_a_recovery_are_told_and_no_damage() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=20);
    checkpoint(&wal, &keys);
    put(&wal, &mut keys, 21..=300);
    let log = reader(&disk);
    let mut first = Lsn(1);
    let how = Recover::new().progress(|now| {
        if now.phase == RestorePhase::Restoring && first == Lsn(1) {
            checkpoint(&wal, &keys);
            first = wal.truncate_before(Lsn(300)).unwrap();
        }
    });
    let error = log.recover_with(how, &mut Keys::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    assert!(first > Lsn(21));
    let mut found = Keys::default();
    log.recover(&mut found).unwrap();
    assert_eq!(found, keys);
}

#[test]
fn what_stops_a_writer_s_recovery_stops_a_reader_s() {
    let disk = SimDisk::new();
    let wal = options(&disk).mode(DurabilityMode::Synchronous).open(PATH).unwrap();
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=20);
    checkpoint(&wal, &keys);
    put(&wal, &mut keys, 21..=200);
    checkpoint(&wal, &keys);
    let first = wal.truncate_before(Lsn(200)).unwrap();
    assert!(first > Lsn(1));
    wal.append(b"no key").unwrap();
    wal.close().unwrap();
    let error = reader(&disk).recover(&mut Keys::default()).unwrap_err();
    assert_eq!((error.kind(), error.lsns().map(|lsns| lsns.first)), (ErrorKind::Application, Some(Lsn(201))));
    let mut names = disk.list_raw(PATH).into_iter().map(|(name, _)| name);
    let file = names.rfind(|name| name.ends_with(".ckpt")).unwrap();
    disk.remove_raw(format!("{PATH}/{file}"));
    let error = reader(&disk).recover(&mut Keys::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains(&file), "{error}");
}

/// The checkpoint's state ends within the batch, and the last sync mark stands before it. What the manifest calls durable is
/// the whole batch, and so is what a reader is given.
#[test]
fn a_checkpoint_within_a_batch_shows_no_half_of_it_to_a_reader() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let mut batch = wal.batch();
    let mut keys = Keys::default();
    for number in 1..=3 {
        let record = format!("key{number}={number}");
        batch.push(0, record.as_bytes()).unwrap();
        if number < 3 {
            keys.set(&record, Lsn(number)).unwrap();
        }
    }
    assert_eq!(batch.commit().unwrap(), LsnRange { first: Lsn(1), last: Lsn(3) });
    checkpoint(&wal, &keys);
    assert_eq!(keys.applied, Lsn(2));
    let mut found = Keys::default();
    reader(&disk).recover(&mut found).unwrap();
    assert_eq!(found.applied, Lsn(3));
}
