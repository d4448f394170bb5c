//! A subscription to a log that another writer has, or none: every record that can be read, once and in order, over
//! closings and openings, and never one that a power cut takes back.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use braidlog::{DurabilityMode, ErrorKind, Lsn, Options, Record, Result, Subscription, Wal};
use braidlog_sim::{Profile, SimClock, SimDisk};
use futures_core::Stream;

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/small_log.rs"]
mod small_log;

use patience::until;

const PATH: &str = "wal";

fn on(disk: &SimDisk, mode: DurabilityMode) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .mode(mode)
        .num_stripes(2)
        .stripe_capacity(8192)
        .segment_size(64 << 10)
        .write_buffer_size(16 << 10)
}

fn beside(disk: &SimDisk) -> braidlog::ReadOnly {
    on(disk, DurabilityMode::Synchronous).open_read_only(PATH).unwrap()
}

fn write(wal: &Wal, threads: u8, per_thread: usize) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in 0..per_thread {
                    if n % 5 == 4 {
                        let mut batch = wal.batch();
                        for index in 0..4u8 {
                            batch.push(index, vec![thread; 10 * n + usize::from(index)]).unwrap();
                        }
                        batch.commit().unwrap();
                    } else {
                        wal.append(vec![thread; 11 * n]).unwrap();
                    }
                }
            });
        }
    });
}

/// The next records, waiting for each.
fn take(subscription: &mut Subscription, count: u64) -> Vec<Record> {
    subscription.take(count as usize).collect::<Result<_>>().unwrap()
}

#[test]
fn every_record_comes_once_over_closings_and_openings() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::group_commit()).open(PATH).unwrap();
    wal.append(b"first").unwrap();
    let log = beside(&disk);
    let mut subscription = log.subscribe(Lsn::FIRST).unwrap();
    let follower = thread::spawn(move || {
        let seen = take(&mut subscription, 1 + 3 * 16 * 32);
        (seen, subscription)
    });
    write(&wal, 16, 20);
    wal.close().unwrap();
    // The log is closed for a while, and goes on.
    for mode in [DurabilityMode::asynchronous(), DurabilityMode::Synchronous] {
        let wal = on(&disk, mode).open(PATH).unwrap();
        write(&wal, 16, 20);
        wal.close().unwrap();
    }
    let (seen, mut subscription) = follower.join().unwrap();
    let all: Vec<Record> = log.iter(..).unwrap().collect::<Result<_>>().unwrap();
    assert!(seen == all && small_log::bases(&disk, PATH).len() >= 3);
    assert_eq!((subscription.try_next().unwrap(), subscription.has_ended()), (None, false));
    assert_eq!(subscription.next_timeout(Duration::from_millis(1)).unwrap(), None);
    assert_eq!((subscription.lag(), subscription.next_lsn()), (0, Lsn(all.len() as u64 + 1)));
}

#[test]
fn a_task_is_woken_when_another_process_has_made_a_record_durable() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let mut stream = beside(&disk).subscribe(Lsn::FIRST).unwrap().into_stream();
    assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
    for lsn in 1..=5 {
        thread::scope(|scope| {
            let task = scope.spawn(|| {
                let next = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
                block_on::block_on(next).unwrap().unwrap().lsn
            });
            wal.append(b"x").unwrap();
            assert_eq!(task.join().unwrap(), Lsn(lsn));
        });
    }
}

#[test]
fn a_subscriber_that_the_writer_does_not_know_of_is_told_when_its_records_are_gone() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small_log::small(&disk, &clock).open(PATH).unwrap();
    small_log::fill(&wal, 5);
    wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    let log = small_log::small(&disk, &clock).open_read_only(PATH).unwrap();
    let mut subscription = log.subscribe(Lsn::FIRST).unwrap();
    assert_eq!(subscription.next().unwrap().unwrap().lsn, Lsn(1));
    assert!(wal.truncate_before(Lsn(4 * small_log::PER_SEGMENT)).unwrap() > Lsn(20));
    let error = subscription.find_map(|record| record.err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert!(subscription.has_ended() && subscription.next().is_none());
    assert_eq!(log.subscribe(Lsn::FIRST).unwrap_err().kind(), ErrorKind::Truncated);
}

#[test]
fn nothing_that_was_seen_beside_a_writer_is_taken_back_by_a_power_cut() {
    let mut lost = 0;
    for (mode, first_seed) in [(DurabilityMode::group_commit(), 0), (DurabilityMode::asynchronous(), 1000)] {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let seen: Mutex<Vec<Record>> = Mutex::default();
        let is_over = AtomicBool::new(false);
        let mut subscription = beside(&disk).subscribe(Lsn::FIRST).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(record) = subscription.next_timeout(Duration::from_millis(100)).unwrap() {
                        seen.lock().unwrap().push(record);
                    }
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    write(&wal, 4, 5);
                }
            });
            for seed in first_seed..first_seed + 25 {
                let before = seen.lock().unwrap().len();
                until(|| seen.lock().unwrap().len() > before + 20);
                let count = seen.lock().unwrap().len();
                let last = wal.last_lsn();
                let after = disk.crash_clone(seed, Profile::Posix);
                let after = on(&after, DurabilityMode::Synchronous).open(PATH).unwrap();
                let found: Vec<Record> = after.iter(..).unwrap().collect::<Result<_>>().unwrap();
                assert!(found.len() >= count, "seed {seed}: {} found, {count} seen", found.len());
                assert_eq!(found[..count], seen.lock().unwrap()[..count], "seed {seed}");
                lost += u64::from(last > Lsn(found.len() as u64));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
    assert!(lost > 0, "no power cut took anything: the test shows nothing");
}
