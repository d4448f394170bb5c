//! Points in time: where each lies, what a replay and a recovery up to it give, and names that outlive a crash.

#[path = "support/keys.rs"]
mod keys;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use braidlog::{DurabilityMode, ErrorKind, Lsn, Options, Record, Recover, Replay, Retention, Target, Wal};
use braidlog_sim::{Profile, Rng, SimClock, SimDisk};
use keys::Keys;

fn options(disk: &SimDisk) -> Options {
    let options = Wal::options().mode(DurabilityMode::Synchronous).num_stripes(1).stripe_capacity(4096);
    let retention = Retention::keep_all().checkpoints(100);
    let options = options.segment_size(64 << 10).retention(retention);
    options.storage(Arc::new(disk.clone())).background_threads(false)
}

/// Changes to keys, alone and in batches, over some segments, at moments that lie apart.
fn filled(disk: &SimDisk, clock: &Arc<SimClock>, seed: u64) -> Wal {
    let wal = options(disk).clock(clock.clone()).open("log").unwrap();
    let mut rng = Rng::new(seed);
    for number in 0..60 {
        // Some rounds have the same moment, as those of a clock that stepped back have.
        clock.advance(Duration::from_millis(rng.below(3)));
        let filler = "x".repeat(rng.index(6000));
        if rng.one_in(2) {
            let mut batch = wal.batch();
            for part in 0..rng.below(9) + 1 {
                batch.push(0, format!("key{}={number}.{part}{filler}", rng.below(7))).unwrap();
            }
            batch.commit().unwrap();
        } else {
            wal.append(format!("key{}={number}{filler}", rng.below(7))).unwrap();
        }
    }
    wal
}

fn records(wal: &Wal) -> Vec<Record> {
    wal.iter(..).unwrap().map(Result::unwrap).collect()
}

/// The last record of those before index `end` that ends a batch.
fn whole(records: &[Record], end: usize) -> Lsn {
    records[..end].iter().rev().find(|record| !record.batch_continues).map_or(Lsn::ZERO, |record| record.lsn)
}

#[test]
fn any_point_lies_between_batches_and_nothing_behind_it_is_given() {
    for seed in 0..4 {
        let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
        let wal = filled(&disk, &clock, seed);
        let all = records(&wal);
        let segments = disk.list_raw("log").iter().filter(|(name, _)| name.ends_with(".wal")).count();
        assert!(all.iter().any(|record| record.batch_continues) && segments > 2, "seed {seed}");
        let mut points = Vec::new();
        for (index, record) in all.iter().enumerate() {
            let lsn = record.lsn;
            points.push((Target::lsn(lsn), whole(&all, index + 1)));
            points.push((Target::lsn(lsn).exclusive(), whole(&all, index)));
            points.push((Target::when(move |record| record.lsn >= lsn), whole(&all, index + 1)));
            points.push((Target::when(move |record| record.lsn >= lsn).exclusive(), whole(&all, index)));
            for time_ns in [record.timestamp_ns - 1, record.timestamp_ns, record.timestamp_ns + 1] {
                let older = all.partition_point(|record| record.timestamp_ns < time_ns);
                let not_younger = all.partition_point(|record| record.timestamp_ns <= time_ns);
                points.push((Target::time_ns(time_ns), whole(&all, not_younger)));
                let moment = UNIX_EPOCH + Duration::from_nanos(time_ns);
                points.push((Target::time(moment), whole(&all, not_younger)));
                points.push((Target::time_ns(time_ns).exclusive(), whole(&all, older)));
            }
        }
        points.push((Target::when(|_| false), whole(&all, all.len())));
        points.push((Target::time_ns(0).exclusive(), Lsn::ZERO));
        let long_ago = UNIX_EPOCH - Duration::from_secs(1);
        points.push((Target::time(long_ago).exclusive(), Lsn::ZERO));
        points.push((Target::time_ns(u64::MAX), whole(&all, all.len())));
        wal.close().unwrap();
        let wal = options(&disk).open("log").unwrap();
        let reader = options(&disk).open_read_only("log").unwrap();
        let mut rng = Rng::new(seed);
        for (target, expected) in points {
            assert_eq!(wal.lsn_at(&target).unwrap(), expected, "seed {seed}: {target:?}");
            if rng.one_in(5) {
                assert_eq!(reader.lsn_at(&target).unwrap(), expected, "seed {seed}: {target:?}");
                let given = wal.replay_with(Replay::new().until(target)).unwrap().last();
                assert_eq!(given.map_or(Lsn::ZERO, |record| record.unwrap().lsn), expected);
            }
        }
    }
}

#[test]
fn a_recovery_up_to_a_point_is_the_state_of_that_moment_by_the_newest_checkpoint_before_it() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = filled(&disk, &clock, 7);
    let all = records(&wal);
    // The state after each record, and checkpoints that are taken late: of a moment long before.
    let mut states = vec![Keys::default()];
    for record in &all {
        let mut keys = states.last().unwrap().clone();
        keys.set(std::str::from_utf8(&record.payload).unwrap(), record.lsn).unwrap();
        states.push(keys);
    }
    let checkpoints = [all.len() / 4, all.len() / 2, all.len() - 3];
    for &at in &checkpoints {
        wal.checkpoint(Lsn(at as u64), |writer| states[at].write(writer)).unwrap();
    }
    let reader = options(&disk).open_read_only("log").unwrap();
    for lsn in 1..=all.len() {
        let target = || Target::lsn(Lsn(lsn as u64));
        let end = whole(&all, lsn);
        let mut found = Keys::default();
        let report = wal.recover_with(Recover::new().until(target()), &mut found).unwrap();
        assert!(found.values == states[end.get() as usize].values, "up to {lsn}");
        let newest = checkpoints.iter().rev().find(|&&at| at as u64 <= end.get());
        assert_eq!(report.checkpoint.map(|info| info.lsn.get() as usize), newest.copied(), "up to {lsn}");
        let replayed = wal.replay_with(Replay::new().until(target())).unwrap().count();
        assert_eq!(replayed as u64, end.get() - newest.map_or(0, |&at| at as u64));
        if lsn % 7 == 0 {
            let mut found = Keys::default();
            reader.recover_with(Recover::new().until(target()), &mut found).unwrap();
            assert!(found.values == states[end.get() as usize].values, "up to {lsn}, by a reader");
        }
    }
    // The newest is as it was to those who ask for no point.
    let mut found = Keys::default();
    let report = wal.recover(&mut found).unwrap();
    assert_eq!((found.values, report.total), (states[all.len()].values.clone(), 3));
}

#[test]
fn a_restore_point_and_all_before_it_survive_a_power_cut() {
    for seed in 0..10 {
        for profile in Profile::HONEST {
            let disk = SimDisk::new();
            let asynchronous = options(&disk).mode(DurabilityMode::asynchronous());
            let wal = asynchronous.open("log").unwrap();
            for number in 0..9 {
                wal.append(format!("key1={number}")).unwrap();
            }
            let point = wal.restore_point("before-migration").unwrap();
            assert_eq!((point.lsn, point.is_reachable), (Lsn(9), true));
            wal.append("key1=later").unwrap();
            let wal = options(&disk.crash_clone(seed, profile)).open("log").unwrap();
            assert_eq!(wal.restore_points(), [point]);
            let mut keys = Keys::default();
            let until = Target::restore_point("before-migration").exclusive();
            wal.recover_with(Recover::new().until(until), &mut keys).unwrap();
            assert_eq!(keys.values["key1"], ("8".to_owned(), Lsn(9)));
        }
    }
}

#[test]
fn restore_points_are_listed_and_dropped_and_each_has_a_name_of_its_own() {
    let disk = SimDisk::new();
    let wal = options(&disk).open("log").unwrap();
    assert_eq!(wal.restore_point("empty").unwrap().lsn, Lsn::ZERO);
    for name in ["b", "a", "c"] {
        wal.append(name).unwrap();
        wal.restore_point(name).unwrap();
    }
    wal.restore_point("c, again").unwrap();
    for name in ["a", "", &"n".repeat(256)] {
        let error = wal.restore_point(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let names = |points: Vec<braidlog::RestorePoint>| {
        points.into_iter().map(|point| (point.name, point.lsn.get())).collect::<Vec<_>>()
    };
    let expected = [("empty", 0), ("b", 1), ("a", 2), ("c", 3), ("c, again", 3)];
    let expected = expected.map(|(name, lsn)| (name.to_owned(), lsn));
    assert_eq!(names(wal.restore_points()), expected);
    let reader = options(&disk).open_read_only("log").unwrap();
    assert_eq!(names(reader.restore_points().unwrap()), expected);
    assert!(wal.drop_restore_point("a").unwrap());
    assert!(!wal.drop_restore_point("a").unwrap());
    wal.restore_point("a").unwrap();
    assert_eq!(names(wal.restore_points())[3..], [("c, again".to_owned(), 3), ("a".to_owned(), 3)]);
    assert_eq!(wal.lsn_at(&Target::restore_point("b")).unwrap(), Lsn(1));
    let error = wal.lsn_at(&Target::restore_point("d")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    wal.close().unwrap();
    assert_eq!(wal.restore_point("e").unwrap_err().kind(), ErrorKind::Closed);
}

/// A reader beside the writer went by sync marks alone, which come later: of the records before a restore point it gave those
/// up to the last mark, and said nothing.
#[test]
fn a_reader_beside_the_writer_stands_at_a_restore_point_as_soon_as_it_is_set() {
    let disk = SimDisk::new();
    let wal = options(&disk).open("log").unwrap();
    let reader = options(&disk).open_read_only("log").unwrap();
    for number in 1..=20 {
        wal.append(format!("key{}={number}{}", number % 3, "x".repeat(9000))).unwrap();
        let before = reader.last_lsn().unwrap();
        assert!(before < Lsn(number), "the mark of a record comes with the next one");
        let name = format!("after {number}");
        wal.restore_point(&name).unwrap();
        let point = Target::restore_point(name);
        assert_eq!(reader.lsn_at(&point).unwrap(), Lsn(number));
        assert_eq!(reader.replay_with(Replay::new().until(point.clone())).unwrap().count() as u64, number);
        let mut found = Keys::default();
        reader.recover_with(Recover::new().until(point), &mut found).unwrap();
        assert_eq!(found.applied, Lsn(number));
        assert_eq!(reader.last_lsn().unwrap(), Lsn(number));
    }
}

#[test]
fn what_was_truncated_cannot_be_gone_back_to_and_its_restore_points_are_gone() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = filled(&disk, &clock, 3);
    let all = records(&wal);
    wal.restore_point("end").unwrap();
    drop(wal);
    let wal = options(&disk).open("log").unwrap();
    let last = all.len() as u64;
    let mut keys = Keys::default();
    for record in &all {
        keys.set(std::str::from_utf8(&record.payload).unwrap(), record.lsn).unwrap();
    }
    wal.restore_point("later").unwrap();
    wal.checkpoint(Lsn(last), |writer| keys.write(writer)).unwrap();
    let start = wal.truncate_before(Lsn(last)).unwrap();
    assert!(start > Lsn(1) && start < Lsn(last), "{start}");
    for target in
        [Target::lsn(Lsn(1)), Target::time_ns(all[0].timestamp_ns), Target::lsn(start.prev()).exclusive()]
    {
        assert_eq!(wal.lsn_at(&target).unwrap_err().kind(), ErrorKind::Truncated, "{target:?}");
    }
    // Records are there, and no state upon which they could be replayed.
    let middle = Target::lsn(Lsn(last - 1));
    let end = wal.lsn_at(&middle).unwrap();
    assert_eq!(wal.iter(..=end).unwrap().count() as u64, end.get() - start.prev().get());
    let error = wal.recover_with(Recover::new().until(middle.clone()), &mut Keys::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    assert_eq!(wal.replay_with(Replay::new().until(middle)).unwrap_err().kind(), ErrorKind::Truncated);
    let mut found = Keys::default();
    wal.recover_with(Recover::new().until(Target::restore_point("later")), &mut found).unwrap();
    assert_eq!(found.values, keys.values);

    // A point below the start goes with the truncation, one that no checkpoint leads to is told.
    let disk = SimDisk::new();
    let wal = options(&disk).open("log").unwrap();
    for number in 0..40 {
        wal.append(format!("key1={number}{}", "x".repeat(4000))).unwrap();
        wal.restore_point(&format!("after {number}")).unwrap();
    }
    wal.checkpoint(Lsn(40), |_| Ok(())).unwrap();
    let start = wal.truncate_before(Lsn(40)).unwrap();
    let points = wal.restore_points();
    assert!(points.len() < 40 && start > Lsn(1));
    assert!(points.iter().all(|point| point.lsn >= start.prev()));
    assert!(points.iter().all(|point| point.is_reachable == (point.lsn == Lsn(40))));
}

#[test]
fn a_point_behind_the_end_is_refused_if_it_is_an_lsn() {
    let disk = SimDisk::new();
    let wal = options(&disk).open("log").unwrap();
    wal.append("key1=1").unwrap();
    for target in [Target::lsn(Lsn(2)), Target::lsn(Lsn::MAX).exclusive()] {
        let error = wal.lsn_at(&target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("last record is 1"), "{error}");
    }
    assert_eq!(wal.lsn_at(&Target::lsn(Lsn::ZERO)).unwrap(), Lsn::ZERO);
}
