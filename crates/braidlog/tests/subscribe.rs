//! A subscription: every durable record once and in order, never one that is not durable, for as long as the log is
//! open, and nothing asked of the log for it.
//!
//! The disk is simulated, so that a sync can be held, fail, or be followed by a power cut.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use braidlog::{
    DurabilityMode, ErrorKind, Lsn, Options, Record, Result, Subscription, SubscriptionStream, Wal,
};
use braidlog_sim::{Fault, Op, Profile, Rng, SimClock, SimDisk};
use futures_core::Stream;

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;
#[path = "support/small_log.rs"]
mod small_log;

use patience::{PATIENCE, until};

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

/// Several segments of records and batches from 16 threads.
fn write_from_16_threads(wal: &Wal, per_thread: u64) {
    thread::scope(|scope| {
        for writer in 0..16u64 {
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                for seq in 0..per_thread {
                    if rng.one_in(4) {
                        let mut batch = wal.batch();
                        for _ in 0..1 + rng.below(5) {
                            batch.push(0, vec![writer as u8; 1 + rng.index(300)]).unwrap();
                        }
                        batch.commit().unwrap();
                    } else {
                        wal.append(vec![seq as u8; rng.index(900)]).unwrap();
                    }
                }
            });
        }
    });
}

/// Everything that a subscription gives until it ends.
fn collect(subscription: Subscription) -> Vec<Record> {
    subscription.collect::<Result<_>>().unwrap()
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls for a record with a waker.
fn poll(stream: &mut SubscriptionStream, waker: &Waker) -> Poll<Option<Lsn>> {
    let polled = std::pin::Pin::new(stream).poll_next(&mut Context::from_waker(waker));
    polled.map(|record| record.map(|record| record.unwrap().lsn))
}

#[test]
fn every_record_comes_once_and_in_order_while_sixteen_threads_write() {
    for mode in [DurabilityMode::group_commit(), DurabilityMode::asynchronous()] {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        wal.append(b"before any subscription").unwrap();
        let first = wal.subscribe(Lsn::FIRST).unwrap();
        let first = thread::spawn(move || collect(first));
        write_from_16_threads(&wal, 40);
        // One that begins far behind what is durable, and one that begins where nothing is yet.
        let late = wal.subscribe(Lsn(100)).unwrap();
        let late = thread::spawn(move || collect(late));
        let ahead = wal.subscribe(Lsn(wal.last_lsn().0 + 10)).unwrap();
        let ahead = thread::spawn(move || collect(ahead));
        let from = wal.last_lsn().0 as usize + 9;
        write_from_16_threads(&wal, 20);
        // A segment goes on beyond its size while the file for the next is late.
        while small_log::bases(&disk, PATH).len() <= 3 {
            write_from_16_threads(&wal, 20);
        }
        wal.close().unwrap();

        let wal = on(&disk, mode).open(PATH).unwrap();
        let all: Vec<Record> = wal.iter(..).unwrap().collect::<Result<_>>().unwrap();
        assert!(all.iter().zip(1..).all(|(record, lsn)| record.lsn == Lsn(lsn)));
        assert_eq!(first.join().unwrap(), all);
        assert_eq!(late.join().unwrap(), all[99..]);
        assert_eq!(ahead.join().unwrap(), all[from..]);
    }
}

#[test]
fn a_record_comes_when_it_is_durable_and_not_before() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let mut subscription = wal.subscribe(Lsn::FIRST).unwrap();
    assert_eq!(subscription.try_next().unwrap(), None);
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        let writer = scope.spawn(|| wal.append(b"x").unwrap());
        hold.wait_for_held(1);
        assert_eq!(subscription.try_next().unwrap(), None, "written, and not synced");
        assert_eq!((subscription.lag(), subscription.has_ended()), (0, false));
        hold.release();
        assert_eq!(writer.join().unwrap(), Lsn(1));
    });
    assert_eq!(subscription.lag(), 1);
    let record = subscription.try_next().unwrap().unwrap();
    assert_eq!((record.lsn, record.payload.as_slice()), (Lsn(1), &b"x"[..]));
    assert_eq!((subscription.lag(), subscription.next_lsn()), (0, Lsn(2)));
}

#[test]
fn a_batch_becomes_available_as_a_whole() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let mut subscription = wal.subscribe(Lsn::FIRST).unwrap();
    let batch = || {
        let mut batch = wal.batch();
        for _ in 0..100 {
            // More than a write buffer: it is written in pieces.
            batch.push(0, vec![7; 1000]).unwrap();
        }
        batch.commit().unwrap()
    };
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        let writer = scope.spawn(batch);
        hold.wait_for_held(1);
        assert_eq!(subscription.try_next().unwrap(), None);
        hold.release();
        writer.join().unwrap();
    });
    let continues: Vec<bool> =
        (0..100).map(|_| subscription.try_next().unwrap().unwrap().batch_continues).collect();
    assert!(continues[..99].iter().all(|&continues| continues) && !continues[99]);
}

#[test]
fn a_subscription_asks_for_no_sync_and_is_woken_only_for_what_it_waits_for() {
    let disk = SimDisk::new();
    let mode = DurabilityMode::asynchronous();
    let wal = on(&disk, mode).background_threads(false).open(PATH).unwrap();
    let mut second = wal.subscribe(Lsn(2)).unwrap().into_stream();
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    let woken = || counted.0.load(Ordering::Relaxed);

    let syncs = disk.counts().syncs();
    wal.append(b"one").unwrap();
    assert!(poll(&mut second, &waker).is_pending());
    assert_eq!(wal.subscribe(Lsn(1)).unwrap().next_timeout(Duration::ZERO).unwrap(), None);
    assert_eq!((disk.counts().syncs(), woken()), (syncs, 0), "it asks for nothing");
    wal.flush().unwrap();
    assert_eq!(woken(), 0, "it is another record that it waits for");
    assert!(poll(&mut second, &waker).is_pending());
    wal.append(b"two").unwrap();
    assert_eq!(woken(), 0, "not durable yet");
    wal.flush().unwrap();
    assert_eq!(woken(), 1);
    assert_eq!(poll(&mut second, &waker), Poll::Ready(Some(Lsn(2))));
    assert!(poll(&mut second, &waker).is_pending());
    wal.append(b"three").unwrap();
    wal.close().unwrap();
    assert_eq!(woken(), 2);
    assert_eq!(poll(&mut second, &waker), Poll::Ready(Some(Lsn(3))));
    assert_eq!(poll(&mut second, &waker), Poll::Ready(None));
}

#[test]
fn a_task_is_woken_and_a_dropped_one_leaves_no_waker_behind() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    let (gone, holders) = block_on::counted_waker();
    let mut dropped = wal.subscribe(Lsn::FIRST).unwrap().into_stream();
    assert!(poll(&mut dropped, &gone).is_pending());
    drop((dropped, gone));
    assert!(holders.upgrade().is_none());

    let mut stream = wal.subscribe(Lsn::FIRST).unwrap().into_stream();
    thread::scope(|scope| {
        let task = scope.spawn(move || {
            let mut lsns = Vec::new();
            while let Some(record) =
                block_on::block_on(std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_next(cx)))
            {
                lsns.push(record.unwrap().lsn.0);
            }
            lsns
        });
        for _ in 0..50 {
            wal.append(b"x").unwrap();
        }
        wal.close().unwrap();
        assert_eq!(task.join().unwrap(), (1..=50).collect::<Vec<_>>());
    });
}

#[test]
fn close_gives_all_that_is_durable_and_then_ends_whoever_waits() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let subscription = wal.subscribe(Lsn::FIRST).unwrap();
            thread::spawn(move || collect(subscription).len())
        })
        .collect();
    let mut behind = wal.subscribe(Lsn::FIRST).unwrap();
    for _ in 0..20 {
        wal.append(b"accepted, and durable at close").unwrap();
    }
    wal.close().unwrap();
    for waiting in waiting {
        assert_eq!(waiting.join().unwrap(), 20);
    }
    assert_eq!((&mut behind).map(|record| record.unwrap().lsn).last(), Some(Lsn(20)));
    assert!(behind.has_ended() && behind.next_ref().is_none());
    assert_eq!(wal.subscribe(Lsn::FIRST).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_subscription_does_not_keep_the_log_open_and_its_end_finds_the_directory_free() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    wal.append(b"x").unwrap();
    let subscription = wal.subscribe(Lsn::FIRST).unwrap();
    let again = on(&disk, DurabilityMode::Synchronous);
    let follower = thread::spawn(move || {
        assert_eq!(collect(subscription).len(), 1);
        again.open(PATH).map(|wal| wal.last_lsn())
    });
    drop(wal);
    assert_eq!(follower.join().unwrap().unwrap(), Lsn(1));
}

#[test]
fn a_failure_is_told_once_after_everything_durable() {
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::Synchronous).open(PATH).unwrap();
    for _ in 0..5 {
        wal.append(b"x").unwrap();
    }
    let mut subscription = wal.subscribe(Lsn::FIRST).unwrap();
    let waiting = {
        let mut subscription = wal.subscribe(Lsn(6)).unwrap();
        thread::spawn(move || subscription.next().map(|record| record.unwrap_err().kind()))
    };
    disk.inject(Fault::eio(Op::Sync).forever());
    wal.append(b"lost").unwrap_err();
    assert_eq!(waiting.join().unwrap(), Some(ErrorKind::Failed));
    for lsn in 1..=5 {
        assert_eq!(subscription.next().unwrap().unwrap().lsn, Lsn(lsn));
    }
    let error = subscription.next().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Failed && !error.is_indeterminate());
    assert!(subscription.has_ended() && subscription.next().is_none());
    let _ = wal.close();
    assert_eq!(subscription.try_next().unwrap(), None);
}

#[test]
fn what_was_not_given_yet_is_not_truncated_and_what_was_is_let_go() {
    let (disk, clock) = (SimDisk::new(), Arc::new(SimClock::new()));
    let wal = small_log::small(&disk, &clock).open(PATH).unwrap();
    let mut subscription = wal.subscribe(Lsn::FIRST).unwrap();
    small_log::fill(&wal, 4);
    wal.checkpoint(wal.durable_lsn(), |_| Ok(())).unwrap();
    let truncate = || wal.truncate_before(Lsn(3 * small_log::PER_SEGMENT)).unwrap();
    assert_eq!(truncate(), Lsn::FIRST, "nothing was given yet");
    let bases = small_log::bases(&disk, PATH);
    for lsn in 1..=3 * small_log::PER_SEGMENT {
        let record = subscription.try_next().unwrap().unwrap();
        assert_eq!((record.lsn, record.payload), (Lsn(lsn), small_log::payload(Lsn(lsn))));
        let base = bases.iter().rfind(|base| **base <= lsn).unwrap();
        assert_eq!(truncate(), Lsn(*base), "LSN {lsn} was given, and what stands behind it not yet");
    }
    let first = truncate();
    assert!(first > Lsn::FIRST, "the segments that were given are let go");
    let error = wal.subscribe(first.prev()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert_eq!(subscription.by_ref().take(8).last().unwrap().unwrap().lsn, Lsn(32));
}

#[test]
fn a_waker_may_drop_the_subscription_that_woke_it_and_the_log_with_it() {
    struct DropAll(Mutex<Option<(SubscriptionStream, Wal)>>, AtomicBool);
    impl Wake for DropAll {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.store(true, Ordering::Relaxed);
        }
    }
    // Woken by the log's own thread, and by a committing one.
    for mode in [DurabilityMode::asynchronous(), DurabilityMode::Synchronous] {
        let disk = SimDisk::new();
        let wal = on(&disk, mode).open(PATH).unwrap();
        let mut stream = wal.subscribe(Lsn::FIRST).unwrap().into_stream();
        let all = Arc::new(DropAll(Mutex::default(), AtomicBool::new(false)));
        assert!(poll(&mut stream, &Waker::from(Arc::clone(&all))).is_pending());
        *all.0.lock().unwrap() = Some((stream, wal.clone()));
        wal.append(b"x").unwrap();
        drop(wal);
        until(|| all.1.load(Ordering::Relaxed));
        until(|| on(&disk, mode).open(PATH).is_ok_and(|wal| wal.last_lsn() == Lsn(1)));
    }
}

#[test]
fn a_waker_on_the_log_s_own_thread_is_refused_to_wait_and_close_returns() {
    struct Blocking(Mutex<Option<Subscription>>, mpsc::Sender<ErrorKind>);
    impl Wake for Blocking {
        fn wake(self: Arc<Self>) {
            let Some(mut subscription) = self.0.lock().unwrap().take() else { return };
            let error = loop {
                match subscription.next().expect("the log is open") {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            self.1.send(error.kind()).unwrap();
        }
    }
    let disk = SimDisk::new();
    let wal = on(&disk, DurabilityMode::asynchronous()).open(PATH).unwrap();
    let (sender, refused) = mpsc::channel();
    let blocking = Arc::new(Blocking(Mutex::new(Some(wal.subscribe(Lsn::FIRST).unwrap())), sender));
    let mut stream = wal.subscribe(Lsn::FIRST).unwrap().into_stream();
    assert!(poll(&mut stream, &Waker::from(blocking)).is_pending());
    wal.append(b"x").unwrap();
    assert_eq!(refused.recv_timeout(PATIENCE).unwrap(), ErrorKind::InvalidInput);
    wal.close().unwrap();
}

#[test]
fn nothing_that_a_subscriber_saw_is_taken_back_by_a_power_cut() {
    let modes = [
        DurabilityMode::Synchronous,
        DurabilityMode::group_commit(),
        DurabilityMode::asynchronous(),
        DurabilityMode::async_batched(),
    ];
    let mut lost = 0;
    for (mode, first_seed) in modes.into_iter().zip([0, 1000, 2000, 3000]) {
        let disk = SimDisk::new();
        disk.reorder(first_seed);
        let wal = on(&disk, mode).open(PATH).unwrap();
        let seen: Mutex<Vec<Record>> = Mutex::default();
        let is_over = AtomicBool::new(false);
        let subscription = wal.subscribe(Lsn::FIRST).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for record in subscription {
                    seen.lock().unwrap().push(record.unwrap());
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    write_from_16_threads(&wal, 1);
                }
                wal.close().unwrap();
            });
            for seed in first_seed..first_seed + 25 {
                let before = seen.lock().unwrap().len();
                until(|| seen.lock().unwrap().len() > before + 20);
                let count = seen.lock().unwrap().len();
                let last = wal.last_lsn();
                let after = disk.crash_clone(seed, Profile::Posix);
                let after = on(&after, DurabilityMode::Synchronous).open(PATH).unwrap();
                let found: Vec<Record> = after.iter(..).unwrap().collect::<Result<_>>().unwrap();
                let seen = seen.lock().unwrap();
                assert!(found.len() >= count, "seed {seed}: {} found, {count} seen", found.len());
                assert_eq!(found[..count], seen[..count], "seed {seed}");
                lost += u64::from(last > Lsn(found.len() as u64));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
    assert!(lost > 0, "no power cut took anything: the test shows nothing");
}
