//! Acknowledged means durable: what returns before a sync, what only after it, and who is told of a failure.
//!
//! The disk is simulated, so that a sync can be held while the test looks at what has returned.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use braidlog::storage::Storage;
use braidlog::{Append, Durability, DurabilityMode, ErrorKind, HealthState, Lsn, Options, Wal};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk, Stamp};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;

use block_on::block_on;
use patience::until;

const PATH: &str = "wal";
const WAITING: [DurabilityMode; 2] = [DurabilityMode::Synchronous, DurabilityMode::group_commit()];
const ASYNCHRONOUS: [DurabilityMode; 2] = [DurabilityMode::asynchronous(), DurabilityMode::async_batched()];

fn on(disk: &SimDisk, mode: DurabilityMode) -> Options {
    Wal::options().storage(Arc::new(disk.clone())).mode(mode)
}

/// What a power cut at this moment leaves, as badly as it may.
fn after_power_cut(disk: &SimDisk, seed: u64) -> Vec<Vec<u8>> {
    let wal = on(&disk.crash_clone(seed, Profile::Posix), DurabilityMode::Synchronous).open(PATH).unwrap();
    wal.replay().unwrap().map(|record| record.unwrap().payload).collect()
}

/// Waits until so many LSNs have been given out.
fn until_given(wal: &Wal, count: u64) {
    until(|| wal.last_lsn() >= Lsn(count));
}

#[test]
fn nothing_is_acknowledged_while_its_sync_is_under_way() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let hold = disk.hold_syncs();
        let (acknowledged, acknowledgements) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (wal, acknowledged) = (&wal, acknowledged.clone());
                scope.spawn(move || acknowledged.send(wal.append(b"x").unwrap()).unwrap());
            }
            hold.wait_for_held(1);
            until_given(&wal, 4);
            assert_eq!(wal.durable_lsn(), Lsn::ZERO);
            assert!(acknowledgements.try_recv().is_err());
            assert_eq!(wal.replay().unwrap().count(), 0, "what is not durable is not shown");
            hold.release();
        });
        assert_eq!(acknowledgements.try_iter().count(), 4);
        assert_eq!(after_power_cut(&disk, 1).len(), 4);
    }
}

#[test]
fn a_record_appended_during_a_sync_waits_for_one_of_its_own() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let hold = disk.hold_syncs();
        thread::scope(|scope| {
            let first = scope.spawn(|| wal.append(b"first").unwrap());
            hold.wait_for_held(1);
            // It enters while the sync is held, and so does its task among those that wait.
            let mut second = wal.submit(b"second").unwrap();
            let noop = Waker::noop();
            assert!(Pin::new(&mut second).poll(&mut Context::from_waker(noop)).is_pending());
            hold.let_through(1);
            assert_eq!(first.join().unwrap(), Lsn(1));
            hold.wait_for_held(1);
            assert_eq!(wal.durable_lsn(), Lsn(1));
            assert!(!second.is_durable());
            assert!(Pin::new(&mut second).poll(&mut Context::from_waker(noop)).is_pending());
            assert!((0..20).any(|seed| after_power_cut(&disk, seed).len() == 1), "it may still be lost");
            hold.release();
            assert_eq!(second.wait().unwrap(), Lsn(2));
        });
    }
}

#[test]
fn a_commit_waits_though_another_thread_writes_its_record() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let hold = disk.hold_syncs();
        let (acknowledged, acknowledgements) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| wal.append(b"leads the first round").unwrap());
            hold.wait_for_held(1);
            for name in ["one", "two"] {
                let (wal, acknowledged) = (&wal, acknowledged.clone());
                scope.spawn(move || acknowledged.send(wal.append(name).unwrap()).unwrap());
            }
            until_given(&wal, 3);
            hold.let_through(1);
            // One of the two leads the second round and takes the other's record along.
            hold.wait_for_held(1);
            assert!(acknowledgements.try_recv().is_err());
            hold.release();
        });
        assert_eq!(acknowledgements.try_iter().count(), 2);
    }
}

#[test]
fn sixty_four_committers_share_one_sync() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let before = disk.counts().syncs();
        let hold = disk.hold_syncs();
        thread::scope(|scope| {
            let first = scope.spawn(|| wal.append(b"first").unwrap());
            hold.wait_for_held(1);
            let others: Vec<_> = (0..64).map(|_| scope.spawn(|| wal.append(b"other").unwrap())).collect();
            until_given(&wal, 65);
            hold.let_through(1);
            first.join().unwrap();
            hold.let_through(1);
            for other in others {
                other.join().unwrap();
            }
        });
        assert_eq!(disk.counts().syncs() - before, 2, "{mode:?}");
        assert!(wal.metrics().records_per_sync > 30.0);
        hold.release();
    }
}

#[test]
fn a_lone_committer_is_not_held_back() {
    // Ten seconds and thousands of records: if a lone commit waited for either, this would take for ever.
    let mode = DurabilityMode::GroupCommit { max_delay: Duration::from_secs(3600), max_batch_size: 5000 };
    let disk = SimDisk::new();
    let wal = on(&disk, mode).open(PATH).unwrap();
    for expected in 1..=100 {
        assert_eq!(wal.append(b"x").unwrap(), Lsn(expected));
    }
}

#[test]
fn waiting_ends_a_hold_and_does_not_sit_out_the_delay() {
    let patient = Duration::from_secs(3600);
    for mode in [
        DurabilityMode::Async { flush_interval: patient },
        DurabilityMode::AsyncBatched { max_delay: patient, max_batch_size: u32::MAX },
        DurabilityMode::GroupCommit { max_delay: patient, max_batch_size: u32::MAX },
    ] {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let submit = || wal.submit(b"x").unwrap();
        submit().wait().unwrap();
        block_on(submit()).unwrap();
        assert!(submit().wait_timeout(patient).unwrap());
        let lsn = submit().lsn();
        wal.wait_durable(lsn).unwrap();
        let lsn = submit().lsn();
        wal.flush().unwrap();
        assert!(wal.durable_lsn() >= lsn);
        wal.append_with(Append::new(b"x").durability(Durability::Synchronous)).unwrap();
        wal.append_with(Append::new(b"x").durability(Durability::GroupCommit)).unwrap();
        assert_eq!(wal.durable_lsn(), Lsn(7));
    }
}

#[test]
fn asynchronous_records_are_synced_in_the_background() {
    for mode in ASYNCHRONOUS {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let before = disk.counts().syncs();
        let hold = disk.hold_syncs();
        wal.append(b"returned at once").unwrap();
        // Nobody asks, and a sync comes.
        hold.wait_for_held(1);
        assert_eq!(wal.durable_lsn(), Lsn::ZERO);
        hold.release();
        until(|| wal.durable_lsn() >= Lsn(1));
        assert!(disk.counts().syncs() > before);
        assert_eq!(after_power_cut(&disk, 3), [b"returned at once"]);
    }
}

#[test]
fn a_batched_log_syncs_by_count_before_the_delay_is_over() {
    let mode = DurabilityMode::AsyncBatched { max_delay: Duration::from_secs(3600), max_batch_size: 50 };
    let disk = SimDisk::new();
    let wal = on(&disk, mode).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    for _ in 0..50 {
        wal.append(b"x").unwrap();
    }
    hold.wait_for_held(1);
    hold.release();
    until(|| wal.durable_lsn() >= Lsn(50));
}

#[test]
fn flush_and_close_sync_what_the_asynchronous_modes_accepted() {
    for mode in ASYNCHRONOUS {
        for background in [true, false] {
            let disk = SimDisk::new();
            let wal = on(&disk, mode).background_threads(background).open(PATH).unwrap();
            for _ in 0..10 {
                wal.append(b"x").unwrap();
            }
            wal.flush().unwrap();
            assert_eq!(wal.durable_lsn(), Lsn(10));
            assert_eq!(after_power_cut(&disk, 5).len(), 10, "{mode:?}");
            for _ in 0..10 {
                wal.append(b"x").unwrap();
            }
            wal.close().unwrap();
            assert_eq!(after_power_cut(&disk, 6).len(), 20, "{mode:?}");
        }
    }
}

#[test]
fn an_append_has_the_durability_that_it_asked_for() {
    for mode in WAITING.into_iter().chain(ASYNCHRONOUS) {
        let disk = SimDisk::new();
        // Without threads, every sync is one that an append made.
        let wal = on(&disk, mode).background_threads(false).open(PATH).unwrap();
        let syncs_of = |durability| {
            let before = disk.counts().syncs();
            let lsn = wal.append_with(Append::new(b"x").durability(durability)).unwrap();
            assert_eq!(wal.durable_lsn() == lsn, durability != Durability::Async);
            disk.counts().syncs() - before
        };
        assert_eq!(syncs_of(Durability::Async), 0, "{mode:?}");
        assert_eq!(syncs_of(Durability::Synchronous), 1, "{mode:?}");
        assert_eq!(syncs_of(Durability::Async), 0, "{mode:?}");
        assert_eq!(syncs_of(Durability::GroupCommit), 1, "{mode:?}");
        assert_eq!(syncs_of(Durability::Async), 0, "{mode:?}");

        let before = disk.counts().syncs();
        let mut batch = wal.batch().durability(Durability::Async);
        batch.push(0, b"x").unwrap().push(0, b"y").unwrap();
        batch.commit().unwrap();
        assert_eq!(disk.counts().syncs(), before);
        let mut batch = wal.batch().durability(Durability::Synchronous);
        batch.push(0, b"x").unwrap().push(0, b"y").unwrap();
        assert_eq!(wal.durable_lsn().max(batch.commit().unwrap().last), wal.durable_lsn());
        assert_eq!(disk.counts().syncs(), before + 1);
    }
}

#[test]
fn a_log_with_no_option_set_loses_nothing_that_it_acknowledged() {
    let disk = SimDisk::new();
    let defaults = |disk: &SimDisk| Wal::options().storage(Arc::new(disk.clone()));
    let wal = defaults(&disk).open(PATH).unwrap();
    for seq in 0..5 {
        wal.append(Stamp::single(0, seq).payload(100)).unwrap();
        for seed in 0..5 {
            let wal = defaults(&disk.crash_clone(seed, Profile::Posix)).open(PATH).unwrap();
            assert_eq!(wal.last_lsn(), Lsn(u64::from(seq) + 1));
            for (record, seq) in wal.replay().unwrap().zip(0..) {
                assert_eq!(Stamp::of(&record.unwrap().payload), Stamp::single(0, seq));
            }
        }
    }
}

#[test]
fn synchronous_commits_of_one_thread_take_one_sync_each() {
    for mode in WAITING {
        let disk = SimDisk::new();
        // Without a thread that lays zeros ahead of the pen: only the commits' own bytes are counted.
        let wal = on(&disk, mode).background_threads(false).open(PATH).unwrap();
        let before = disk.counts();
        for _ in 0..100 {
            wal.append([7; 100]).unwrap();
        }
        let after = disk.counts();
        assert_eq!(after.syncs() - before.syncs(), 100, "{mode:?}");
        assert_eq!(after.bytes_written - before.bytes_written, 100 * 4096, "{mode:?}: a block for each");
    }
}

#[test]
fn a_timeout_is_indeterminate_once_the_record_was_accepted() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let hold = disk.hold_syncs();
        let failed = wal.append_timeout(b"x", Duration::from_millis(20)).unwrap_err();
        let error = failed.error();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_indeterminate());
        let lsn = error.lsns().unwrap().first;
        assert_eq!((lsn, wal.durable_lsn()), (Lsn(1), Lsn::ZERO));
        assert!(error.to_string().contains("do not append it again"), "{error}");
        assert_eq!(failed.into_payload(), b"x");
        hold.release();
        wal.wait_durable(lsn).unwrap();
        assert_eq!(wal.read(lsn).unwrap().unwrap().payload, b"x");
    }
}

#[test]
fn a_timeout_for_lack_of_room_left_nothing_behind() {
    let disk = SimDisk::new();
    let options = on(&disk, DurabilityMode::asynchronous()).num_stripes(1).stripe_capacity(4096);
    let wal = options.open(PATH).unwrap();
    let hold = disk.hold_syncs();
    // A sync is under way, so nobody empties the ring.
    wal.append(b"x").unwrap();
    hold.wait_for_held(1);
    let mut accepted = 1;
    while wal.try_append([0; 1000]).is_ok() {
        accepted += 1;
        assert!(accepted < 10_000);
    }
    let failed = wal.append_timeout([1; 1000], Duration::from_millis(20)).unwrap_err();
    assert_eq!(failed.error().kind(), ErrorKind::TimedOut);
    assert!(!failed.error().is_indeterminate());
    assert_eq!(failed.error().lsns(), None);
    hold.release();
    assert_eq!(wal.append(failed.into_payload()).unwrap(), Lsn(accepted + 1));
    wal.close().unwrap();
    assert_eq!(after_power_cut(&disk, 7).len() as u64, accepted + 1);
}

#[test]
fn a_ticket_that_timed_out_can_be_waited_for_again() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let ticket = wal.submit(b"x").unwrap();
    assert!(!ticket.wait_timeout(Duration::from_millis(20)).unwrap());
    assert!(!ticket.wait_timeout(Duration::ZERO).unwrap());
    hold.release();
    assert!(ticket.wait_timeout(Duration::from_secs(60)).unwrap());
    assert_eq!(ticket.wait().unwrap(), Lsn(1));
}

#[test]
fn a_ticket_wakes_the_task_that_polled_it_last() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let mut ticket = wal.submit(b"x").unwrap();
    // First polled where nobody will notice, then by a thread that sleeps until it is woken.
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let (polled, waits) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let waker = block_on::waker();
            let mut cx = Context::from_waker(&waker);
            assert!(Pin::new(&mut ticket).poll(&mut cx).is_pending());
            polled.send(()).unwrap();
            loop {
                thread::park();
                if let Poll::Ready(lsn) = Pin::new(&mut ticket).poll(&mut cx) {
                    assert_eq!(lsn.unwrap(), Lsn(1));
                    break;
                }
            }
        });
        waits.recv().unwrap();
        hold.release();
    });
}

#[test]
fn a_dropped_ticket_leaves_no_waker_behind() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let (waker, holders) = block_on::counted_waker();
    for _ in 0..10 {
        let mut ticket = wal.submit(b"x").unwrap();
        for _ in 0..3 {
            assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(holders.strong_count(), 2, "the task's own and the log's");
        }
        drop(ticket);
        assert_eq!(holders.strong_count(), 1);
    }
    hold.release();
    wal.close().unwrap();
    assert_eq!(after_power_cut(&disk, 1).len(), 10, "the records stay");
}

#[test]
fn every_waiter_gets_the_one_failure() {
    for mode in WAITING {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        assert_eq!(wal.append(b"safe").unwrap(), Lsn(1));
        let hold = disk.hold_syncs();
        disk.inject(Fault::eio(Op::Sync).on(".wal"));
        thread::scope(|scope| {
            let appends: Vec<_> = (0..16).map(|_| scope.spawn(|| wal.append(b"lost").unwrap_err())).collect();
            until_given(&wal, 17);
            let ticket = wal.submit(b"lost").unwrap();
            let task = wal.submit(b"lost").unwrap();
            let waited = scope.spawn(|| wal.wait_durable(Lsn(9)).unwrap_err());
            // Somebody else's flush takes the records of all and fails: that is everybody's failure.
            let flushed = scope.spawn(|| wal.flush().unwrap_err());
            let ticket = scope.spawn(|| ticket.wait().unwrap_err());
            let task = scope.spawn(|| block_on(task).unwrap_err());
            hold.wait_for_held(1);
            hold.release();
            let mut lsns: Vec<Lsn> = Vec::new();
            for append in appends {
                let error = append.join().unwrap();
                assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
                assert!(error.is_indeterminate(), "{error}");
                assert!(error.segment().unwrap().ends_with(".wal"));
                lsns.extend(error.lsns().unwrap().iter());
            }
            lsns.sort();
            assert_eq!(lsns, (2..=17).map(Lsn).collect::<Vec<_>>());
            for waiter in [waited, flushed, ticket, task] {
                let error = waiter.join().unwrap();
                assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
                assert!(error.is_indeterminate(), "{error}");
            }
        });
        assert_eq!(wal.durable_lsn(), Lsn(1));
    }
}

#[test]
fn a_failure_stays_and_what_was_acknowledged_before_it_survives() {
    for mode in WAITING.into_iter().chain(ASYNCHRONOUS) {
        for lost in [false, true] {
            let disk = SimDisk::new();
            let wal = on(&disk, mode).open(PATH).unwrap();
            wal.append(b"safe").unwrap();
            wal.flush().unwrap();
            disk.inject(if lost { Fault::lost_sync().on(".wal") } else { Fault::eio(Op::Sync).on(".wal") });
            let synchronous = Append::new(b"lost").durability(Durability::Synchronous);
            assert!(wal.append_with(synchronous).unwrap_err().is_indeterminate());
            // Every later sync would succeed; none of them is asked for.
            let syncs = disk.counts().syncs();
            for _ in 0..3 {
                for error in [
                    wal.append(b"x").unwrap_err(),
                    wal.append_with(synchronous).unwrap_err(),
                    wal.try_append(b"x").unwrap_err().into(),
                    wal.submit(b"x").unwrap_err().into(),
                ] {
                    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
                    assert!(!error.is_indeterminate(), "it was not accepted: {error}");
                }
                assert_eq!(wal.flush().unwrap_err().kind(), ErrorKind::Failed);
                assert_eq!(wal.wait_durable(Lsn(2)).unwrap_err().kind(), ErrorKind::Failed);
                wal.wait_durable(Lsn(1)).unwrap();
            }
            let health = wal.health();
            assert_eq!(health.state, HealthState::Failed);
            assert!(health.failure.unwrap().to_string().contains(".wal"));
            assert_eq!(wal.replay().unwrap().count(), 1, "what is durable can still be read");
            let error = wal.close().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed);
            assert_eq!(error.lsns().unwrap().first, Lsn(2), "close names what may be lost");
            assert_eq!(wal.close().unwrap_err().kind(), ErrorKind::Failed, "and says so again");
            assert_eq!(disk.counts().syncs(), syncs);
            assert_eq!(after_power_cut(&disk, 8)[0], b"safe");

            let wal = on(&disk, mode).open(PATH).unwrap();
            assert!(wal.last_lsn() >= Lsn(1));
            wal.append(b"goes on").unwrap();
            wal.close().unwrap();
        }
    }
}

#[test]
fn close_makes_durable_or_refuses_whatever_races_with_it() {
    for mode in WAITING.into_iter().chain(ASYNCHRONOUS) {
        for seed in 0..5 {
            let disk = SimDisk::new();
            let options = on(&disk, mode).num_stripes(2).stripe_capacity(4096).segment_size(64 << 10);
            let wal = options.open(PATH).unwrap();
            let accepted: Vec<u32> = thread::scope(|scope| {
                let writers: Vec<_> = (0..8)
                    .map(|writer| {
                        let wal = &wal;
                        scope.spawn(move || {
                            for seq in 0.. {
                                let payload = Stamp::single(writer, seq).payload(16 + seq as usize % 300);
                                let outcome = match seq % 4 {
                                    0 => wal.submit(&payload).map(drop).map_err(braidlog::Error::from),
                                    1 => wal.try_append(&payload).map(drop).map_err(braidlog::Error::from),
                                    _ => wal.append(&payload).map(drop),
                                };
                                match outcome {
                                    Ok(()) => {}
                                    // The stripe had no room: the same again, and wait.
                                    Err(error) if error.kind() == ErrorKind::Full => {
                                        match wal.append(&payload) {
                                            Ok(_) => {}
                                            Err(error) => return closed(&error, seq),
                                        }
                                    }
                                    Err(error) => return closed(&error, seq),
                                }
                            }
                            unreachable!("close ends the loop")
                        })
                    })
                    .collect();
                until_given(&wal, 200);
                wal.close().unwrap();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            let mut found = [0; 8];
            for payload in after_power_cut(&disk, seed) {
                let stamp = Stamp::of(&payload);
                assert_eq!(stamp.seq, found[stamp.writer as usize]);
                found[stamp.writer as usize] += 1;
            }
            assert_eq!(found[..], accepted[..], "{mode:?}: accepted is durable, refused is absent");
            assert_eq!(u64::from(found.iter().sum::<u32>()), wal.last_lsn().0);
        }
    }
}

/// A writer that were let in earlier would judge a log that is still being written, and cut its tail.
#[test]
fn no_other_writer_is_let_in_before_close_has_ended() {
    let disk = SimDisk::new();
    let patient = DurabilityMode::Async { flush_interval: Duration::from_secs(3600) };
    let wal = on(&disk, patient).open(PATH).unwrap();
    wal.append(b"x").unwrap();
    let dir = disk.open_dir(Path::new(PATH), false).unwrap();
    let hold = disk.hold_syncs();
    let let_in = thread::scope(|scope| {
        let closing = scope.spawn(|| wal.close());
        // The sync of the record, that of the seal, and that of the manifest.
        let let_in = [(); 3].map(|()| {
            hold.wait_for_held(1);
            let is_let_in = dir.try_lock().unwrap().is_some();
            hold.let_through(1);
            is_let_in
        });
        closing.join().unwrap().unwrap();
        let_in
    });
    assert_eq!(let_in, [false; 3], "the log is still being written");
    assert!(dir.try_lock().unwrap().is_some());
}

fn closed(error: &braidlog::Error, seq: u32) -> u32 {
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(!error.is_indeterminate());
    seq
}

#[test]
fn every_waiter_returns_when_the_log_is_closed() {
    let disk = SimDisk::new();
    let patient = DurabilityMode::Async { flush_interval: Duration::from_secs(3600) };
    let wal = on(&disk, patient).num_stripes(1).stripe_capacity(4096).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        let ticket = wal.submit(b"x").unwrap();
        let task = wal.submit(b"x").unwrap();
        let waits = scope.spawn(|| ticket.wait());
        let awaits = scope.spawn(|| block_on(task));
        hold.wait_for_held(1);
        // The ring fills while a sync is under way, and a writer waits for room.
        while wal.try_append([0; 500]).is_ok() {}
        let blocked = scope.spawn(|| wal.append([1; 3000]));
        let closes = scope.spawn(|| wal.close());
        hold.release();
        closes.join().unwrap().unwrap();
        waits.join().unwrap().unwrap();
        awaits.join().unwrap().unwrap();
        match blocked.join().unwrap() {
            Ok(lsn) => assert!(wal.durable_lsn() >= lsn),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        }
    });
}

#[test]
fn a_record_that_timed_out_and_a_closed_log_agree() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let hold = disk.hold_syncs();
    let error = wal.append_timeout(b"x", Duration::from_millis(5)).unwrap_err();
    assert!(error.error().is_indeterminate());
    thread::scope(|scope| {
        let closes = scope.spawn(|| wal.close());
        hold.wait_for_held(1);
        hold.release();
        closes.join().unwrap().unwrap();
    });
    assert_eq!(after_power_cut(&disk, 2), [b"x"], "it became durable after all");
}

#[test]
fn the_watermark_never_passes_a_sync_that_is_under_way() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::async_batched()).open(PATH).unwrap();
    let highest = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (wal, highest) = (&wal, &highest);
            scope.spawn(move || {
                for seq in 0..300 {
                    let lsn = wal.append(Stamp::single(writer, seq).payload(200)).unwrap();
                    highest.fetch_max(lsn.0, Ordering::SeqCst);
                }
            });
        }
        for seed in 0..30 {
            let durable = wal.durable_lsn();
            let found = after_power_cut(&disk, seed).len() as u64;
            assert!(durable.0 <= found, "{durable} was said to be durable, {found} were found");
        }
    });
    wal.flush().unwrap();
    assert_eq!(wal.durable_lsn().0, highest.into_inner());
}

#[test]
fn a_reader_beside_the_writer_sees_no_more_than_is_durable() {
    let disk = SimDisk::new();
    let options = on(&disk, DurabilityMode::asynchronous()).num_stripes(1).stripe_capacity(4096);
    let wal = options.background_threads(false).open(PATH).unwrap();
    let reader = on(&disk, DurabilityMode::default()).open_read_only(PATH).unwrap();
    for seq in 0..200 {
        // The ring is small, so that rounds are written which no sync covers yet.
        wal.append(Stamp::single(0, seq).payload(500)).unwrap();
        if seq % 40 == 39 {
            wal.flush().unwrap();
        }
        let seen = reader.last_lsn().unwrap();
        assert!(seen <= wal.durable_lsn(), "{seen} is seen, {} are durable", wal.durable_lsn());
        assert_eq!(reader.iter(..).unwrap().count() as u64, seen.0);
    }
    assert!(reader.last_lsn().unwrap() >= Lsn(120));
}

#[test]
fn a_sync_that_takes_long_is_told() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new());
    let wal = on(&disk, DurabilityMode::Synchronous).clock(clock.clone()).open(PATH).unwrap();
    assert_eq!(wal.health().state, HealthState::Ok);
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        scope.spawn(|| wal.append(b"x").unwrap());
        hold.wait_for_held(1);
        clock.advance(Duration::from_secs(5));
        let health = wal.health();
        assert_eq!(health.state, HealthState::SlowSync);
        assert!(health.sync_running_for.unwrap() >= Duration::from_secs(5));
        hold.release();
    });
    assert_eq!(wal.health().state, HealthState::Ok);
}
