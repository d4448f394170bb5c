//! A crash or a failure at every storage operation of recovery: the next recovery comes to the same.

mod support;

use braidlog_format::Lsn;
use braidlog_recovery::{RecoveryError, TailState};
use braidlog_sim::{Fault, Op, Profile, SimDisk};
use support::{
    DIR, Pen, assert_holds, disk_with, files, open_dir, path, recovered, segment, segment_path, verified,
};

/// A log with everything that recovery has to do: an earlier segment, a torn tail, prepared files, and more
/// `.torn` files than are kept.
fn torn_log() -> (SimDisk, Pen) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).rotate();
    pen.records(&[b"three", &[4; 5000]]).sync().round(&[&[(1, b"half a"), (1, b"batch")]]);
    disk.write_raw(segment_path(3), pen.offset - 3990, &[0xAB; 200]);
    disk.put_raw(path("5.prep"), &[0; 4096]);
    for incarnation in 1..=4 {
        disk.put_raw(path(&format!("{:020}-{incarnation}.torn", 1)), b"older");
    }
    disk.put_raw(path("7.prep"), b"");
    (disk, pen)
}

/// A log of which the last segment holds no record and is torn.
fn torn_empty_log() -> (SimDisk, Pen) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two", b"three", b"four"]).seal();
    let mut pen = Pen::reopen(&disk, pen.model);
    pen.records(&[b"torn"]);
    disk.write_raw(segment_path(5), pen.offset - 4040, &[0xAB; 20]);
    (disk, pen)
}

/// A log whose seal reached the device without the cut before it.
fn uncut_log() -> (SimDisk, Pen) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two", b"three", b"four"]).seal();
    disk.truncate_raw(segment_path(1), 64 << 10);
    (disk, pen)
}

#[test]
fn recovery_that_crashed_anywhere_is_done_again_with_the_same_result() {
    for (what, (disk, pen)) in [("torn", torn_log()), ("empty", torn_empty_log()), ("uncut", uncut_log())] {
        let durable_files = files(&disk);
        let reference = disk_with(&durable_files);
        let expected = pen.assert_recovers(&reference);
        assert_eq!(expected.report.last_lsn, Lsn(4));
        let expected_files = files(&reference);
        let mut operations = 0;
        for after_effect in [false, true] {
            for n in 1.. {
                let image = disk_with(&durable_files);
                // From the n-th operation on nothing works any more: the process has died there.
                let died = Fault::eio(Op::Any).nth(n);
                image.inject(if after_effect { died.after_effect() } else { died });
                image.inject(Fault::eio(Op::Any).nth(n + 1).forever());
                let died = recovered(&image);
                image.clear_faults();
                if died.is_ok() {
                    operations += n - 1;
                    break;
                }
                for seed in 0..12 {
                    for profile in Profile::HONEST {
                        let context = format!("{what}, operation {n}, {profile:?}, seed {seed}");
                        let after = image.crash_clone(seed, profile);
                        let report = verified(&after).unwrap();
                        assert!(report.is_clean(), "{context}: {:?}", report.problems);
                        let again = recovered(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
                        assert_eq!(again.tail, expected.tail, "{context}");
                        assert_holds(&after, &pen.model[..4]);
                        let wal = |files: &[(String, Vec<u8>)]| -> Vec<_> {
                            let wal = files.iter().filter(|(name, _)| name.ends_with(".wal"));
                            wal.cloned().collect()
                        };
                        assert!(wal(&files(&after)) == wal(&expected_files), "{context}");
                        let names = disk_names(&after);
                        assert!(!names.iter().any(|name| name.ends_with(".prep")), "{context}: {names:?}");
                        let third = recovered(&after).unwrap();
                        assert_eq!(third.tail, expected.tail, "{context}");
                    }
                }
            }
        }
        assert!(operations > 20, "{what}: {operations} operations");
    }
}

fn disk_names(disk: &SimDisk) -> Vec<String> {
    disk.list_raw(DIR).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_recovery_returned_is_durable() {
    let (disk, pen) = torn_log();
    let found = recovered(&disk).unwrap();
    for seed in 0..50 {
        for profile in Profile::HONEST {
            let after = disk.crash_clone(seed, profile);
            let again = recovered(&after).unwrap();
            assert_eq!((again.tail, again.report.tail), (found.tail.clone(), TailState::Unsealed));
            assert_holds(&after, &pen.model[..4]);
            // A removed `.torn` file may be back: its name is removed again with the next torn tail.
            assert!(disk_names(&after).iter().filter(|name| name.ends_with(".torn")).count() >= 4);
        }
    }
}

/// A writer that is killed between a rename and the sync of the directory leaves a name that only the cache knows.
/// Were records acknowledged on top of it, the next power cut would take the segment below them.
#[test]
fn name_that_only_the_cache_knew_is_durable_when_recovery_returns() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).seal();
    let dir = open_dir(&disk);
    dir.rename(&segment(1), "elsewhere", false).unwrap();
    dir.sync().unwrap();
    dir.rename("elsewhere", &segment(1), false).unwrap();
    recovered(&disk).unwrap();
    for seed in 0..20 {
        assert_holds(&disk.crash_clone(seed, Profile::Posix), &pen.model);
    }
}

#[test]
fn failed_operation_is_named_and_cuts_nothing_that_is_vouched_for() {
    let (disk, pen) = torn_log();
    for op in [Op::Open, Op::Read, Op::Sync, Op::SyncDir, Op::SetLen, Op::Remove, Op::Write, Op::DropCache] {
        let image = disk.crash_clone(0, Profile::Kept);
        image.inject(Fault::eio(op));
        let Err(RecoveryError::Io { operation, file, .. }) = recovered(&image) else { panic!("{op:?}") };
        assert!(!operation.is_empty() && !file.is_empty(), "{op:?}");
        pen.assert_recovers(&image);
    }
}

#[test]
fn torn_file_is_synced_before_the_segment_is_cut() {
    use braidlog_sim::Action;
    let (disk, _) = torn_log();
    disk.take_trace();
    recovered(&disk).unwrap();
    let trace = disk.take_trace();
    let place = |what: &dyn Fn(&str, &Action) -> bool| {
        trace.iter().position(|traced| what(&traced.name, &traced.action)).expect("it was done")
    };
    let torn_synced = place(&|file, action| file.ends_with(".torn") && *action == Action::SyncAll);
    let cut = place(&|_, action| matches!(action, Action::SetLen { .. }));
    let names_synced = trace[torn_synced..].iter().position(|traced| traced.action == Action::SyncDir);
    let cut_synced = trace[cut..].iter().position(|traced| traced.action == Action::SyncAll);
    assert!(torn_synced + names_synced.expect("the directory is synced") < cut);
    assert!(cut_synced.is_some());
}
