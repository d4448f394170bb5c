//! Checkpoints and recovery through the facade: what a caller is told, and what then holds.

#[path = "support/keys.rs"]
mod keys;
#[path = "support/patience.rs"]
mod patience;

use std::error::Error as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use braidlog::{Append, storage::Storage};
use braidlog::{
    Applied, BoxError, Checkpoint, CheckpointReader, Durability, DurabilityMode, ErrorKind, Kind, Lsn,
    LsnRange, Options, PassedOverCause, RecordRef, Recover, Replay, Restore, RestorePhase, Wal,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};
use keys::Keys;
use patience::until;

fn options(disk: &SimDisk) -> Options {
    let options = Wal::options().mode(DurabilityMode::Synchronous).num_stripes(1).stripe_capacity(4096);
    options.segment_size(64 << 10).storage(Arc::new(disk.clone())).background_threads(false)
}

fn open(disk: &SimDisk) -> Wal {
    options(disk).open("log").unwrap()
}

/// Appends `key<n % 5>=<n>` for each of these, and applies it.
fn put(wal: &Wal, keys: &mut Keys, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let record = format!("key{}={number}", number % 5);
        let lsn = wal.append(&record).unwrap();
        keys.set(&record, lsn).unwrap();
    }
}

fn checkpoint_files(disk: &SimDisk) -> Vec<String> {
    let names = disk.list_raw("log").into_iter().map(|(name, _)| name);
    names.filter(|name| name.contains(".ckpt")).collect()
}

#[test]
fn recovery_begins_with_the_checkpoint_and_tells_what_it_did() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=40);
    let first = wal.checkpoint(Lsn(40), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 41..=60);
    let second = wal.checkpoint_with(Checkpoint::at(Lsn(60)).incremental(), |writer| {
        assert_eq!(writer.base(), Some(Lsn(40)));
        keys.write(writer)
    });
    let second = second.unwrap();
    assert_eq!((first.base, second.base), (None, Some(first.number)));
    put(&wal, &mut keys, 61..=70);
    wal.append_with(Append::new(b"key9=other").kind(7)).unwrap();
    keys.set("key9=other", Lsn(71)).unwrap();
    assert_eq!(wal.checkpoints(), [first.clone(), second.clone()]);
    wal.close().unwrap();

    let wal = open(&disk);
    let mut found = Keys::default();
    let mut phases = Vec::new();
    let report = wal.recover_with(Recover::new().progress(|now| phases.push(now.phase)), &mut found).unwrap();
    assert_eq!(found, keys);
    assert_eq!(report.checkpoint, Some(second.clone()));
    assert_eq!((report.checkpoint_files, report.checkpoint_bytes), (2, first.bytes + second.bytes));
    assert_eq!(report.replayed, Some(LsnRange { first: Lsn(61), last: Lsn(71) }));
    assert_eq!((report.total, report.applied, report.skipped, report.damaged), (11, 11, 0, 0));
    assert_eq!(report.by_kind, [(Kind(0), 10), (Kind(7), 1)].into());
    assert_eq!(report.record_bytes, 10 * "key0=61".len() as u64 + "key9=other".len() as u64);
    phases.dedup();
    assert_eq!(phases, [RestorePhase::Checking, RestorePhase::Restoring, RestorePhase::Replaying]);

    // A reader elsewhere sees them too.
    let reader = options(&disk).open_read_only("log").unwrap();
    assert_eq!(reader.checkpoints().unwrap(), [first, second]);
    let lsns = |records: braidlog::Records| records.map(|record| record.unwrap().lsn.0).collect::<Vec<_>>();
    assert_eq!(lsns(reader.replay().unwrap()), (61..=71).collect::<Vec<_>>());
    assert_eq!(lsns(wal.replay().unwrap()), (61..=71).collect::<Vec<_>>());
    assert_eq!(lsns(wal.replay_with(Replay::new().range(..)).unwrap()), (1..=71).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_above_what_is_durable_waits_for_it() {
    let disk = SimDisk::new();
    let wal = options(&disk).background_threads(true).open("log").unwrap();
    let hold = disk.hold_syncs();
    let lsn = wal.append_with(Append::new(b"key1=1").durability(Durability::Async)).unwrap();
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        let taken = scope.spawn(|| {
            wal.checkpoint(lsn, |_| {
                begun.store(true, Ordering::SeqCst);
                assert_eq!(wal.durable_lsn(), lsn);
                Ok(())
            })
        });
        hold.wait_for_held(1);
        assert!(!begun.load(Ordering::SeqCst), "the state is asked for when it is durable, and not before");
        assert_eq!(checkpoint_files(&disk), [""; 0]);
        hold.release();
        assert_eq!(taken.join().unwrap().unwrap().lsn, lsn);
    });
    let error = wal.checkpoint(lsn.next(), |_| unreachable!("there is no such record")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn what_a_checkpoint_returned_for_survives_a_power_cut() {
    for seed in 0..10 {
        for profile in Profile::HONEST {
            let disk = SimDisk::new();
            let wal = open(&disk);
            let mut keys = Keys::default();
            put(&wal, &mut keys, 1..=7);
            let info = wal.checkpoint(Lsn(7), |writer| keys.write(writer)).unwrap();
            let after = disk.crash_clone(seed, profile);
            let mut found = Keys::default();
            let report = open(&after).recover(&mut found).unwrap();
            assert_eq!((found, report.checkpoint, report.total), (keys, Some(info), 0));
        }
    }
}

#[test]
fn a_damaged_checkpoint_costs_a_longer_replay_and_is_told() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=10);
    let older = wal.checkpoint(Lsn(10), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 11..=20);
    let newer = wal.checkpoint(Lsn(20), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 21..=25);
    wal.close().unwrap();
    disk.flip_bit(format!("log/{}", newer.file), 4150, 2);

    let wal = open(&disk);
    assert_eq!(wal.replay().unwrap().count(), 15, "replay knows as well");
    let mut found = Keys::default();
    let report = wal.recover(&mut found).unwrap();
    assert_eq!((found, report.checkpoint, report.total), (keys.clone(), Some(older.clone()), 15));
    assert_eq!(report.damaged, 1);
    let [passed] = report.passed_over.as_slice() else { panic!("{:?}", report.passed_over) };
    assert_eq!(passed.checkpoint, newer);
    assert!(matches!(&passed.why, PassedOverCause::Damaged(damage) if damage.segment == newer.file));

    // Both gone: the log still goes back to its beginning.
    disk.remove_raw(format!("log/{}", older.file));
    let mut found = Keys::default();
    let report = wal.recover(&mut found).unwrap();
    assert_eq!((found, report.checkpoint, report.total, report.damaged), (keys, None, 25, 2));
    assert_eq!(wal.replay().unwrap().count(), 25);
}

#[test]
fn records_of_open_transactions_come_again_and_the_application_skips_them() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=10);
    wal.checkpoint_with(Checkpoint::at(Lsn(10)).replay_from(Lsn(4)), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 11..=12);
    let mut found = Keys::default();
    let report = wal.recover(&mut found).unwrap();
    assert_eq!((report.total, report.applied, report.skipped), (9, 2, 7));
    assert_eq!(found, keys);
    assert_eq!(wal.replay().unwrap().next().unwrap().unwrap().lsn, Lsn(4));
}

#[test]
fn an_error_of_the_application_is_handed_through_with_its_record() {
    #[derive(Debug, PartialEq, Eq)]
    struct NoRoom(u32);
    impl std::fmt::Display for NoRoom {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "no room {}", self.0)
        }
    }
    impl std::error::Error for NoRoom {}
    struct Full;
    impl Restore for Full {
        fn restore(&mut self, _: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
            Err(NoRoom(1).into())
        }
        fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
            if record.lsn == Lsn(3) { Err(NoRoom(3).into()) } else { Ok(Applied::Applied) }
        }
    }

    let disk = SimDisk::new();
    let wal = open(&disk);
    put(&wal, &mut Keys::default(), 1..=5);
    let own = |error: &braidlog::Error| {
        error.source().and_then(|source| source.downcast_ref::<NoRoom>()).map(|own| own.0)
    };
    let error = wal.recover(&mut Full).unwrap_err();
    assert_eq!((error.kind(), own(&error)), (ErrorKind::Application, Some(3)));
    assert_eq!(error.lsns(), Some(LsnRange { first: Lsn(3), last: Lsn(3) }));
    assert!(error.to_string().contains("LSN 3") && error.to_string().contains("no room 3"), "{error}");

    let error = wal.checkpoint(Lsn(5), |_| Err(NoRoom(5).into())).unwrap_err();
    assert_eq!((error.kind(), own(&error)), (ErrorKind::Application, Some(5)));
    assert_eq!((checkpoint_files(&disk).len(), wal.checkpoints().len()), (0, 0));

    wal.checkpoint(Lsn(5), |_| Ok(())).unwrap();
    let error = wal.recover(&mut Full).unwrap_err();
    assert_eq!((error.kind(), own(&error), error.lsns()), (ErrorKind::Application, Some(1), None));
}

#[test]
fn a_recovery_without_enough_time_says_so_and_the_next_one_succeeds() {
    struct Slow(Arc<SimClock>, Keys);
    impl Restore for Slow {
        fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
            self.0.advance(Duration::from_secs(10));
            self.1.restore(part)
        }
        fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
            self.0.advance(Duration::from_secs(1));
            self.1.apply(record)
        }
    }
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = options(&disk).clock(clock.clone()).open("log").unwrap();
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=5);
    wal.checkpoint(Lsn(5), |writer| keys.write(writer)).unwrap();
    put(&wal, &mut keys, 6..=20);
    for (seconds, is_enough) in [(0, false), (9, false), (12, false), (23, false), (24, true), (25, true)] {
        let mut slow = Slow(clock.clone(), Keys::default());
        let recovered = wal.recover_with(Recover::new().max_time(Duration::from_secs(seconds)), &mut slow);
        match recovered {
            Ok(report) => {
                assert!(is_enough, "{seconds} s");
                assert_eq!((slow.1, report.total), (keys.clone(), 15));
                assert_eq!(report.time.restoring + report.time.replaying, Duration::from_secs(25));
            }
            Err(error) => {
                assert!(!is_enough, "{seconds} s: {error}");
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                assert!(error.to_string().contains("nothing is lost"), "{error}");
                assert!(!error.is_indeterminate());
            }
        }
    }
}

#[test]
fn a_checkpoint_that_is_under_way_gives_up_when_the_log_closes() {
    let disk = SimDisk::new();
    let wal = options(&disk).background_threads(true).open("log").unwrap();
    let lsn = wal.append(b"key1=1").unwrap();
    wal.checkpoint(lsn, |writer| Ok(writer.write_all(b"key1=1@1\n")?)).unwrap();
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        let taken = scope.spawn(|| {
            wal.checkpoint(lsn, |writer| {
                // More and more, until somebody says that it is enough.
                loop {
                    writer.write_all(&[b'x'; 1000])?;
                    begun.store(true, Ordering::SeqCst);
                }
            })
        });
        until(|| begun.load(Ordering::SeqCst));
        wal.close().unwrap();
        assert_eq!(taken.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(checkpoint_files(&disk).len(), 1);
    let error = wal.checkpoint(lsn, |_| unreachable!("the log is closed")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    // Who closes it while he writes himself would wait for himself.
    let wal = open(&disk);
    wal.checkpoint(lsn, |_| {
        let error = wal.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = wal.checkpoint(lsn, |_| unreachable!("one is under way")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        Ok(())
    })
    .unwrap();
    wal.append(b"key1=2").unwrap();
    wal.close().unwrap();
}

#[test]
fn orders_that_cannot_be_carried_out_say_why() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    put(&wal, &mut Keys::default(), 1..=9);
    wal.checkpoint(Lsn(6), |_| Ok(())).unwrap();
    for (checkpoint, kind, words) in [
        (Checkpoint::at(Lsn(5)), ErrorKind::InvalidInput, ["LSN 6", "LSN 5"]),
        (Checkpoint::at(Lsn(7)).replay_from(Lsn(9)), ErrorKind::InvalidInput, ["LSN 7", "not at 9"]),
        (Checkpoint::at(Lsn(99)), ErrorKind::InvalidInput, ["99", "9"]),
    ] {
        let error = wal.checkpoint_with(checkpoint, |_| unreachable!("refused before")).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
    if !cfg!(feature = "zstd") {
        let error = wal.checkpoint_with(Checkpoint::at(Lsn(9)).compress(), |_| unreachable!()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("zstd"), "{error}");
    }
}

#[test]
fn a_full_disk_costs_the_checkpoint_and_gives_its_space_back() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let mut keys = Keys::default();
    put(&wal, &mut keys, 1..=9);
    wal.checkpoint(Lsn(9), |writer| keys.write(writer)).unwrap();
    let before = disk.used_bytes();
    disk.set_capacity(Some(before + (1 << 20)));
    let error = wal.checkpoint(Lsn(9), |writer| Ok(writer.write_all(&vec![7; 5 << 20])?)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(disk.used_bytes(), before);
    let mut found = Keys::default();
    assert_eq!(wal.recover(&mut found).unwrap().passed_over, []);
    assert_eq!(found, keys);
    disk.inject(Fault::eio(Op::Sync).on(".ckpt.new"));
    let error = wal.checkpoint(Lsn(9), |writer| keys.write(writer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    wal.append(b"key1=10").unwrap();
    wal.checkpoint(Lsn(10), |_| Ok(())).unwrap();
}

#[test]
fn an_estimate_counts_what_a_recovery_then_reads() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    let mut keys = Keys::default();
    assert_eq!(wal.estimate_recovery().unwrap().records, 0);
    put(&wal, &mut keys, 1..=300);
    let all = wal.estimate_recovery().unwrap();
    assert_eq!((all.checkpoint, all.records, all.checkpoint_bytes), (None, 300, 0));
    assert!(all.log_bytes >= 300 * 40, "{} bytes", all.log_bytes);
    let info = wal.checkpoint(Lsn(250), |writer| keys.write(writer)).unwrap();
    let estimate = wal.estimate_recovery().unwrap();
    assert_eq!((estimate.checkpoint.clone(), estimate.records), (Some(info.clone()), 50));
    assert_eq!((estimate.checkpoint_files, estimate.checkpoint_bytes), (1, info.bytes));
    assert!(estimate.log_bytes < all.log_bytes, "{} bytes", estimate.log_bytes);
    assert!(estimate.at_least() <= estimate.duration && estimate.duration <= estimate.at_most());
    let report = wal.recover(&mut Keys::default()).unwrap();
    assert_eq!((report.total, report.checkpoint_bytes), (estimate.records, estimate.checkpoint_bytes));
    wal.close().unwrap();
    let reader = options(&disk).open_read_only("log").unwrap();
    assert_eq!(reader.estimate_recovery().unwrap().records, 50);
}

/// Lives of a log with checkpoints of every kind, which in half of them it is cut by, each ended by a power cut at a drawn
/// moment; what was acknowledged is in the state that the next one recovers.
#[test]
fn no_crash_loses_what_was_acknowledged_whatever_checkpoints_were_under_way() {
    let (mut used_checkpoint, mut cut) = (0, 0);
    for seed in 0..60 {
        let mut disk = SimDisk::new();
        let mut acknowledged = Keys::default();
        let mut number = 0;
        for life in 0..4 {
            let wal = open(&disk);
            let mut keys = Keys::default();
            let report =
                wal.recover(&mut keys).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            assert_eq!(keys, acknowledged, "seed {seed}, life {life}");
            assert_eq!(report.passed_over, [], "seed {seed}, life {life}");
            used_checkpoint += u32::from(report.checkpoint.is_some());
            cut += u32::from(wal.first_lsn() > Lsn::FIRST);
            // The power goes at some operation of what follows; until then each append is acknowledged.
            disk.inject(Fault::eio(Op::Any).nth(10 + (seed * 7 + life * 13) % 190).forever());
            let mut failed = false;
            while !failed {
                number += 1;
                // A segment has room for a few of them.
                let record = format!("key{}={number}{}", number % 5, "x".repeat(9000));
                match wal.append(&record) {
                    Ok(lsn) => {
                        keys.set(&record, lsn).unwrap();
                        acknowledged = keys.clone();
                    }
                    Err(_) => failed = true,
                }
                if number % 3 == 0 {
                    let plain = Checkpoint::at(keys.applied);
                    let order = if number % 2 == 0 { plain.incremental() } else { plain };
                    failed |= wal.checkpoint_with(order, |writer| keys.write(writer)).is_err();
                    failed |= seed % 2 == 1 && !failed && wal.truncate_before(keys.applied).is_err();
                }
            }
            disk.clear_faults();
            let profile = Profile::HONEST[(seed + life) as usize % Profile::HONEST.len()];
            let after = disk.crash_clone(seed << 8 | life, profile);
            drop(wal);
            // What was indeterminate may be there; it is what the next life goes on from.
            let mut next = Keys::default();
            open(&after.crash_clone(0, Profile::Kept)).recover(&mut next).unwrap();
            assert!(next.applied >= acknowledged.applied, "seed {seed}, life {life}");
            acknowledged = next;
            disk = after;
        }
    }
    assert!(used_checkpoint > 100, "{used_checkpoint} recoveries began with a checkpoint");
    assert!(cut > 50, "{cut} recoveries were of a log that does not go back to its first record");
}

#[test]
fn checkpoints_and_appends_go_on_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().segment_size(64 << 10).open(dir.path()).unwrap();
    let keys = std::sync::Mutex::new(Keys::default());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (wal, keys) = (&wal, &keys);
                scope.spawn(move || {
                    for number in 0..300 {
                        let record = format!("key{writer}-{}={number}", number % 7);
                        let ticket = {
                            // Under the lock, so that the state changes in the order of the log.
                            let mut keys = keys.lock().unwrap();
                            let ticket = wal.submit(record.as_bytes()).unwrap();
                            keys.set(&record, ticket.lsn()).unwrap();
                            ticket
                        };
                        ticket.wait().unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let snapshot = keys.lock().unwrap().clone();
                let order = Checkpoint::at(snapshot.applied).incremental();
                wal.checkpoint_with(order, |writer| snapshot.write(writer)).unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(wal.checkpoints().len() > 1);
    wal.close().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    let mut found = Keys::default();
    let report = wal.recover(&mut found).unwrap();
    assert!(report.checkpoint.is_some());
    assert_eq!(found, *keys.lock().unwrap());
}

#[test]
fn a_directory_of_another_log_s_checkpoints_is_not_taken_for_ones_own() {
    let (one, other) = (SimDisk::new(), SimDisk::new());
    let infos = [&one, &other].map(|disk| {
        let wal = open(disk);
        put(&wal, &mut Keys::default(), 1..=3);
        let info = wal.checkpoint(Lsn(3), |writer| Ok(writer.write_all(b"key1=1@1\n")?)).unwrap();
        wal.close().unwrap();
        info
    });
    assert_eq!(infos[0].file, infos[1].file);
    let file = format!("log/{}", infos[0].file);
    one.put_raw(&file, &other.read_raw(&file));
    let wal = open(&one);
    let report = wal.recover(&mut Keys::default()).unwrap();
    assert!(matches!(report.passed_over[0].why, PassedOverCause::Foreign { .. }), "{:?}", report.passed_over);
    assert_eq!(report.total, 3);
    assert!(one.open_dir(std::path::Path::new("log"), false).is_ok());
}
