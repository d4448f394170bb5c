//! A fork is the log up to a point and nothing of what came behind it; it is there as a whole or refused, whatever fails or
//! crashes while it is made.

use std::sync::Arc;

use braidlog::storage::Storage;
use braidlog::{ErrorKind, ForkReport, LogId, Lsn, Options, Record, Recover, Replay, Target, Wal};
use braidlog_sim::{Bound, Fault, Op, Profile, Rng, SimClock, SimDisk};

#[path = "support/keys.rs"]
mod keys;
#[path = "support/small_log.rs"]
mod small_log;

use keys::Keys;
use small_log::{PATH, small};

const DEST: &str = "fork";

fn log() -> (SimDisk, Arc<SimClock>, Wal) {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small(&disk, &clock).open(PATH).unwrap();
    (disk, clock, wal)
}

/// Changes to keys over some segments, alone and in batches.
fn fill(wal: &Wal, clock: &SimClock, seed: u64, records: u64) {
    let mut rng = Rng::new(seed);
    let end = wal.last_lsn().get() + records;
    while wal.last_lsn().get() < end {
        clock.advance(std::time::Duration::from_millis(rng.below(3)));
        let mut batch = wal.batch();
        for _ in 0..rng.below(4) + 1 {
            let text = format!("key{}={}{}", rng.below(9), rng.below(1000), "x".repeat(rng.index(3000)));
            batch.push(rng.below(3) as u8, text).unwrap();
        }
        batch.commit().unwrap();
    }
}

fn records(wal: &Wal) -> Vec<Record> {
    wal.iter(..).unwrap().map(Result::unwrap).collect()
}

fn keys_of(records: &[Record]) -> Keys {
    let mut keys = Keys::default();
    for record in records {
        keys.set(std::str::from_utf8(&record.payload).unwrap(), record.lsn).unwrap();
    }
    keys
}

fn checkpoint(wal: &Wal, up_to: u64) {
    let keys = keys_of(&wal.iter(..=Lsn(up_to)).unwrap().map(Result::unwrap).collect::<Vec<_>>());
    wal.checkpoint(Lsn(up_to), |writer| keys.write(writer)).unwrap();
}

fn files(disk: &SimDisk, dir: &str) -> Vec<String> {
    disk.list_raw(dir).into_iter().map(|(name, _)| name).filter(|name| name != "LOCK").collect()
}

/// Asserts that what is in `DEST` is clean and holds just these records.
#[track_caller]
fn assert_fork(options: &Options, expected: &[Record], context: &str) {
    let report = options.verify(DEST, |_| ()).unwrap();
    assert!(report.is_clean() && report.warnings.is_empty(), "{context}: {report:?}");
    let fork = options.open_read_only(DEST).unwrap();
    let found: Vec<Record> = fork.iter(..).unwrap().map(Result::unwrap).collect();
    assert!(found == expected, "{context}: {} records, {} expected", found.len(), expected.len());
}

#[test]
fn a_fork_has_every_record_before_its_point_as_it_was_and_goes_on_from_there() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 1, 60);
    checkpoint(&wal, 20);
    wal.restore_point("early").unwrap();
    fill(&wal, &clock, 2, 40);
    checkpoint(&wal, 70);
    wal.restore_point("late").unwrap();
    wal.set_hold("replica", Lsn(9)).unwrap();
    fill(&wal, &clock, 3, 30);
    let all = records(&wal);
    for lsn in (0..=all.len() as u64).step_by(3) {
        let end = wal.lsn_at(&Target::lsn(Lsn(lsn))).unwrap();
        let expected = &all[..end.get() as usize];
        let report = wal.fork(DEST, Target::lsn(Lsn(lsn))).unwrap();
        let ForkReport { last_lsn, records, segments, .. } = report;
        assert_eq!((last_lsn, records), (end, end.get()), "up to {lsn}");
        assert_ne!(report.log_id, wal.log_id());
        assert_eq!(segments, files(&disk, DEST).iter().filter(|name| name.ends_with(".wal")).count());
        assert_fork(&small(&disk, &clock), expected, &format!("up to {lsn}"));

        let fork = small(&disk, &clock).open(DEST).unwrap();
        assert_eq!(fork.log_id(), report.log_id);
        assert_eq!(fork.last_lsn(), end, "up to {lsn}");
        let mut found = Keys::default();
        let recovered = fork.recover(&mut found).unwrap();
        assert!(found.values == keys_of(expected).values, "up to {lsn}");
        let newest = [70, 20].into_iter().find(|&at| at <= end.get());
        assert_eq!(recovered.checkpoint.map(|info| info.lsn.get()), newest, "up to {lsn}");
        let points: Vec<_> = fork.restore_points().into_iter().map(|point| point.lsn <= end).collect();
        assert_eq!(points.len(), wal.restore_points().iter().filter(|point| point.lsn <= end).count());
        assert!(points.into_iter().all(|is_before| is_before) && fork.holds().is_empty());
        assert_eq!(fork.append("key1=another future").unwrap(), end.next());
        fork.close().unwrap();
        let mut expected = expected.to_vec();
        expected.push(small(&disk, &clock).open_read_only(DEST).unwrap().read(end.next()).unwrap().unwrap());
        assert_fork(&small(&disk, &clock), &expected, &format!("gone on from {lsn}"));
        for name in disk.list_raw(DEST).into_iter().map(|(name, _)| name) {
            disk.remove_raw(format!("{DEST}/{name}"));
        }
    }
    assert_eq!(records(&wal), all, "the old log is as it was");
}

#[test]
fn no_file_and_no_round_of_the_old_future_is_ever_taken_for_the_forks() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 4, 120);
    let all = records(&wal);
    let end = wal.lsn_at(&Target::lsn(Lsn(60))).unwrap();
    wal.fork(DEST, Target::lsn(Lsn(60))).unwrap();
    wal.close().unwrap();
    let copy_of = |disk: &SimDisk| disk.crash_clone(0, Profile::Kept);
    let old: Vec<(String, Vec<u8>)> = files(&disk, PATH)
        .into_iter()
        .filter(|name| name.ends_with(".wal"))
        .map(|name| (name.clone(), disk.read_raw(format!("{PATH}/{name}"))))
        .collect();
    let forked = files(&disk, DEST);
    for (name, bytes) in &old {
        // The file as it is, beside or in place of the fork's.
        let after = copy_of(&disk);
        after.put_raw(format!("{DEST}/{name}"), bytes);
        let error = small(&after, &clock).open(DEST).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Foreign | ErrorKind::Damaged), "{name}: {error}");
        if !forked.contains(name) {
            continue;
        }
        // Its rounds behind those of the fork.
        let after = copy_of(&disk);
        let mut mixed = disk.read_raw(format!("{DEST}/{name}"));
        if mixed.len() < bytes.len() {
            mixed.extend_from_slice(&bytes[mixed.len()..]);
            after.put_raw(format!("{DEST}/{name}"), &mixed);
            if let Ok(log) = small(&after, &clock).open(DEST) {
                assert!(records(&log) == all[..end.get() as usize], "{name}");
            }
        }
    }
}

#[test]
fn a_truncated_log_is_forked_from_where_it_starts_if_a_checkpoint_leads_to_the_point() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 5, 60);
    checkpoint(&wal, 40);
    fill(&wal, &clock, 6, 40);
    let all = records(&wal);
    let start = wal.truncate_before(Lsn(40)).unwrap();
    assert!(start > Lsn(1), "{start}");
    for lsn in [start.get() - 1, 39] {
        let error = wal.fork(DEST, Target::lsn(Lsn(lsn))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "up to {lsn}: {error}");
        assert_eq!(files(&disk, DEST), [""; 0], "up to {lsn}");
    }
    let report = wal.fork(DEST, Target::lsn(Lsn(80))).unwrap();
    assert_eq!((report.first_lsn, report.checkpoints.len()), (start, 1));
    let end = report.last_lsn.get() as usize;
    assert_fork(&small(&disk, &clock), &all[start.get() as usize - 1..end], "up to 80");
    let mut found = Keys::default();
    small(&disk, &clock).open(DEST).unwrap().recover(&mut found).unwrap();
    assert_eq!(found.values, keys_of(&all[..end]).values);
}

#[test]
fn a_log_that_starts_at_the_point_is_forked_with_its_checkpoint_alone() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 5, 60);
    let all = records(&wal);
    checkpoint(&wal, all.len() as u64);
    wal.close().unwrap();
    let wal = small(&disk, &clock).open(PATH).unwrap();
    fill(&wal, &clock, 6, 4);
    let start = wal.truncate_before(Lsn(all.len() as u64 + 1)).unwrap();
    assert_eq!(start.get(), all.len() as u64 + 1);
    let report = wal.fork(DEST, Target::lsn(start).exclusive()).unwrap();
    assert_eq!((report.last_lsn, report.records, report.segments), (start.prev(), 0, 1));
    assert_fork(&small(&disk, &clock), &[], "no record");
    let fork = small(&disk, &clock).open(DEST).unwrap();
    let mut found = Keys::default();
    fork.recover_with(Recover::new(), &mut found).unwrap();
    assert_eq!(found.values, keys_of(&all).values);
    assert_eq!(fork.append("key1=1").unwrap(), start);
}

#[test]
fn a_damaged_checkpoint_is_left_behind_with_those_that_rest_on_it_and_told() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 7, 60);
    checkpoint(&wal, 20);
    checkpoint(&wal, 50);
    let damaged = wal.checkpoints().pop().unwrap();
    disk.flip_bit(format!("{PATH}/{}", damaged.file), 4200, 3);
    let report = wal.fork_with(DEST, Replay::new()).unwrap();
    assert_eq!(report.checkpoints.iter().map(|info| info.lsn.get()).collect::<Vec<_>>(), [20]);
    assert_eq!(report.passed_over.iter().map(|passed| passed.checkpoint.lsn).collect::<Vec<_>>(), [Lsn(50)]);
    assert_fork(&small(&disk, &clock), &records(&wal), "all");
}

#[test]
fn a_fork_goes_into_an_empty_directory_and_damage_leaves_it_empty() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 8, 60);
    let foreign = |dest: &str| wal.fork_with(dest, Replay::new()).unwrap_err();
    disk.open_dir("other".as_ref(), true).unwrap();
    disk.put_raw("other/notes", b"mine");
    assert_eq!(foreign("other").kind(), ErrorKind::Foreign);
    assert_eq!(files(&disk, "other"), ["notes"]);
    assert_eq!(foreign(PATH).kind(), ErrorKind::Locked);
    let refused = wal.fork(DEST, Target::lsn(Lsn(1000))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    wal.close().unwrap();
    assert_eq!(foreign(DEST).kind(), ErrorKind::Closed);

    let reader = small(&disk, &clock).open_read_only(PATH).unwrap();
    assert_eq!(reader.fork_with(PATH, Replay::new()).unwrap_err().kind(), ErrorKind::Foreign);
    let last = reader.last_lsn().unwrap();
    disk.flip_bit(format!("{PATH}/{:020}.wal", 1), 4200, 3);
    let error = reader.fork_with(DEST, Replay::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert_eq!(files(&disk, DEST), [""; 0]);
    disk.flip_bit(format!("{PATH}/{:020}.wal", 1), 4200, 3);
    assert_eq!(reader.fork_with(DEST, Replay::new()).unwrap().last_lsn, last);
    assert_eq!(
        reader.fork_with(DEST, Replay::new()).unwrap_err().kind(),
        ErrorKind::Foreign,
        "it is one now"
    );
}

/// A log with two checkpoints, of which the second rests on the first, and a point before its end.
fn before() -> (SimDisk, Arc<SimClock>, Wal) {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 9, 30);
    checkpoint(&wal, 12);
    let keys = keys_of(&wal.iter(..=Lsn(24)).unwrap().map(Result::unwrap).collect::<Vec<_>>());
    let how = braidlog::Checkpoint::at(Lsn(24)).incremental();
    wal.checkpoint_with(how, |writer| keys.write(writer)).unwrap();
    fill(&wal, &clock, 10, 30);
    wal.restore_point("here").unwrap();
    fill(&wal, &clock, 11, 10);
    (disk, clock, wal)
}

/// What a crash may leave now: all that there is, or from each kind some.
fn images(disk: &SimDisk) -> Vec<(String, SimDisk)> {
    const MOST: u64 = 8;
    let all = disk.crash_images(Bound::Pages);
    let numbers =
        (0..all.total().min(MOST)).map(|n| n * all.total().min(u64::MAX / MOST) / all.total().min(MOST));
    let mut images: Vec<_> = numbers.map(|n| (format!("image {n}"), all.image(n))).collect();
    for profile in Profile::HONEST {
        images.extend((0..3).map(|seed| (format!("{profile:?}, {seed}"), disk.crash_clone(seed, profile))));
    }
    images
}

#[test]
fn a_crash_at_any_operation_leaves_nothing_or_what_is_refused_or_the_whole_fork() {
    let (mut operations, mut empty, mut refused, mut whole) = (0, 0, 0, 0);
    for after_effect in [false, true] {
        for n in 1.. {
            let (disk, clock, wal) = before();
            let end = wal.lsn_at(&Target::restore_point("here")).unwrap();
            let expected = &records(&wal)[..end.get() as usize];
            let fault = Fault::eio(Op::Any).nth(n);
            disk.inject(if after_effect { fault.after_effect() } else { fault });
            disk.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let struck = disk.faults_struck();
            let forked = wal.fork(DEST, Target::restore_point("here"));
            let was_struck = disk.faults_struck() > struck;
            disk.clear_faults();
            if forked.is_ok() && !was_struck {
                operations += n - 1;
                break;
            }
            for (image, after) in images(&disk) {
                let context = format!("operation {n}, after {after_effect}, {image}");
                let options = small(&after, &clock);
                let names = if after.open_dir(DEST.as_ref(), false).is_ok() {
                    files(&after, DEST)
                } else {
                    Vec::new()
                };
                match options.open(DEST) {
                    Ok(log) if log.last_lsn() == Lsn::ZERO => {
                        let is_of_a_log = |name: &String| name.ends_with(".wal") || name.ends_with(".ckpt");
                        assert!(!names.iter().any(is_of_a_log), "{context}: {names:?}");
                        empty += 1;
                    }
                    Ok(log) => {
                        assert!(records(&log) == expected, "{context}");
                        let mut found = Keys::default();
                        let report = log.recover(&mut found).unwrap();
                        assert!(found.values == keys_of(expected).values, "{context}");
                        assert_eq!(report.checkpoint_files, 2, "{context}");
                        whole += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{context}: {error}");
                        refused += 1;
                    }
                }
                // The log itself is as it was.
                assert!(options.verify(PATH, |_| ()).unwrap().is_clean(), "{context}");
            }
        }
    }
    assert!(operations > 40, "{operations} operations");
    assert!(empty > 0 && refused > 50 && whole > 0, "{empty} empty, {refused} refused, {whole} whole");
}

#[test]
fn what_a_fork_returned_for_survives_a_power_cut() {
    let (disk, clock, wal) = before();
    let report = wal.fork(DEST, Target::restore_point("here")).unwrap();
    let expected = &records(&wal)[..report.last_lsn.get() as usize];
    for (image, after) in images(&disk) {
        assert_fork(&small(&after, &clock), expected, &image);
    }
}

#[test]
fn a_failure_at_any_operation_is_told_and_leaves_an_empty_directory() {
    let mut failures = 0;
    for n in 1.. {
        let (disk, clock, wal) = before();
        disk.inject(Fault::eio(Op::Any).nth(n));
        let struck = disk.faults_struck();
        let forked = wal.fork(DEST, Target::restore_point("here"));
        if disk.faults_struck() == struck {
            break;
        }
        disk.clear_faults();
        let end = wal.lsn_at(&Target::restore_point("here")).unwrap();
        let expected = &records(&wal)[..end.get() as usize];
        match forked {
            // A checkpoint that could not be read is left behind, and told; and who reads ahead is not needed.
            Ok(report) => assert_eq!(report.last_lsn, end, "operation {n}"),
            Err(error) => {
                failures += 1;
                assert_eq!(error.kind(), ErrorKind::Io, "operation {n}: {error}");
                if disk.open_dir(DEST.as_ref(), false).is_ok() {
                    assert_eq!(files(&disk, DEST), [""; 0], "operation {n}: {error}");
                }
                wal.fork(DEST, Target::restore_point("here")).unwrap();
            }
        }
        assert_fork(&small(&disk, &clock), expected, &format!("operation {n}"));
    }
    assert!(failures > 30, "{failures} failures");
}

#[test]
fn two_forks_of_one_point_are_two_logs() {
    let (disk, clock, wal) = before();
    let forks: Vec<LogId> =
        ["one", "two"].map(|dest| wal.fork_with(dest, Replay::new()).unwrap().log_id).into();
    assert!(forks[0] != forks[1] && !forks.contains(&wal.log_id()));
    let name = format!("{:020}.wal", 1);
    let bytes = disk.read_raw(format!("one/{name}"));
    disk.put_raw(format!("two/{name}"), &bytes);
    let error = small(&disk, &clock).open("two").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
}

#[cfg(feature = "zstd")]
#[test]
fn compressed_segments_have_the_same_points_and_the_same_forks() {
    let (disk, clock, wal) = log();
    fill(&wal, &clock, 12, 150);
    let all = records(&wal);
    let points: Vec<(Target, Lsn)> = all
        .iter()
        .flat_map(|record| [Target::lsn(record.lsn), Target::time_ns(record.timestamp_ns)])
        .map(|target| (target.clone(), wal.lsn_at(&target).unwrap()))
        .collect();
    wal.compress().unwrap();
    assert!(files(&disk, PATH).iter().filter(|name| name.ends_with(".walz")).count() > 2);
    for (target, end) in &points {
        assert_eq!(wal.lsn_at(target).unwrap(), *end, "{target:?}");
    }
    let report = wal.fork(DEST, Target::lsn(Lsn(120))).unwrap();
    assert_fork(&small(&disk, &clock), &all[..report.last_lsn.get() as usize], "of a compressed log");
}
