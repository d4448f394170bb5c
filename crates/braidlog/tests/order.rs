//! One order for all: LSNs follow real time, threads, batches and the clock, whatever stripe a record took.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use braidlog::storage::{Clock, SystemClock};
use braidlog::{Append, Durability, DurabilityMode, Lsn, Wal};
use braidlog_sim::Stamp;

const THREADS: u32 = 16;

#[test]
fn an_append_that_returned_lies_below_one_called_later() {
    for num_stripes in [1, 4, 16] {
        let dir = tempfile::tempdir().unwrap();
        let mode = DurabilityMode::asynchronous();
        let wal = Wal::options().mode(mode).num_stripes(num_stripes).open(dir.path()).unwrap();
        let returned = AtomicU64::new(0);
        thread::scope(|scope| {
            for writer in 0..THREADS {
                let (wal, returned) = (&wal, &returned);
                scope.spawn(move || {
                    let handle = wal.writer();
                    for seq in 0..5000 {
                        let before = returned.load(Ordering::SeqCst);
                        let lsn = handle.append(Stamp::single(writer, seq).payload(32)).unwrap();
                        assert!(lsn.0 > before, "{lsn} was given after {before} had returned");
                        returned.fetch_max(lsn.0, Ordering::SeqCst);
                    }
                });
            }
        });
        wal.close().unwrap();
    }
}

#[test]
fn records_of_one_thread_keep_their_order_whatever_their_durability() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().num_stripes(4).stripe_capacity(4096).open(dir.path()).unwrap();
    thread::scope(|scope| {
        for writer in 0..THREADS {
            let wal = &wal;
            scope.spawn(move || {
                for seq in 0..100 {
                    let durability = match (writer + seq) % 3 {
                        0 => Durability::Synchronous,
                        1 => Durability::GroupCommit,
                        _ => Durability::Async,
                    };
                    // Now and then larger than the ring, so that records overtake beside it if they can.
                    let len = if seq % 10 == 0 { 20_000 } else { 50 };
                    let payload = Stamp::single(writer, seq).payload(len);
                    wal.append_with(Append::new(&payload).durability(durability)).unwrap();
                }
            });
        }
    });
    wal.flush().unwrap();
    let mut next = [0; THREADS as usize];
    for (expected, record) in (1..).zip(wal.replay().unwrap()) {
        let record = record.unwrap();
        assert_eq!(record.lsn, Lsn(expected));
        let stamp = Stamp::of(&record.payload);
        assert_eq!(stamp.seq, next[stamp.writer as usize]);
        next[stamp.writer as usize] += 1;
    }
    assert_eq!(next, [100; THREADS as usize]);
}

#[test]
fn batches_of_many_threads_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let mode = DurabilityMode::async_batched();
    let wal = Wal::options().mode(mode).num_stripes(4).stripe_capacity(4096).open(dir.path()).unwrap();
    thread::scope(|scope| {
        for writer in 0..THREADS {
            let wal = &wal;
            scope.spawn(move || {
                for seq in 0..200 {
                    let count = 1 + (seq % 7) as u16;
                    let mut batch = wal.batch();
                    for index in 0..count {
                        batch.push(0, Stamp { writer, seq, index, count }.payload(40)).unwrap();
                    }
                    assert_eq!(batch.commit().unwrap().count(), u64::from(count));
                }
            });
        }
    });
    wal.flush().unwrap();
    let mut open: Option<Stamp> = None;
    for record in wal.replay().unwrap() {
        let record = record.unwrap();
        let stamp = Stamp::of(&record.payload);
        match open {
            None => assert_eq!(stamp.index, 0),
            Some(before) => assert_eq!(stamp, Stamp { index: before.index + 1, ..before }),
        }
        assert_eq!(record.batch_continues, stamp.index + 1 < stamp.count);
        open = record.batch_continues.then_some(stamp);
    }
    assert_eq!(open, None);
}

#[test]
fn lsns_stay_dense_while_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mode = DurabilityMode::asynchronous();
    let wal = Wal::options().mode(mode).num_stripes(1).stripe_capacity(4096).open(dir.path()).unwrap();
    let accepted = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..8 {
            let (wal, accepted) = (&wal, &accepted);
            scope.spawn(move || {
                for seq in 0..2000 {
                    let payload = Stamp::single(writer, seq).payload(16 + (seq as usize * 37) % 900);
                    let outcome = match seq % 3 {
                        0 => wal.try_append(payload).map(drop).map_err(braidlog::Error::from),
                        1 => wal.submit(payload).map(drop).map_err(braidlog::Error::from),
                        _ => wal.append_with(Append::new(&payload).kind(200 + (seq % 50) as u8)).map(drop),
                    };
                    accepted.fetch_add(u64::from(outcome.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    wal.flush().unwrap();
    let accepted = accepted.into_inner();
    assert_eq!(wal.last_lsn(), Lsn(accepted));
    for (expected, record) in (1..).zip(wal.replay().unwrap()) {
        assert_eq!(record.unwrap().lsn, Lsn(expected));
    }
}

#[test]
fn what_is_durable_only_grows_and_never_passes_what_was_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().mode(DurabilityMode::async_batched()).open(dir.path()).unwrap();
    let (start, done) = (Barrier::new(5), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut before = Lsn::ZERO;
            while !done.load(Ordering::Acquire) {
                let durable = wal.durable_lsn();
                // The last LSN is read after the durable one, so it can only be larger.
                assert!(before <= durable && durable <= wal.last_lsn());
                before = durable;
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (wal, start) = (&wal, &start);
                scope.spawn(move || {
                    start.wait();
                    for seq in 0..5000 {
                        wal.append(Stamp::single(writer, seq).payload(64)).unwrap();
                    }
                })
            })
            .collect();
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Release);
        assert!(ends.iter().all(Result::is_ok));
    });
}

/// A wall clock that is set by hand.
#[derive(Debug)]
struct Wall {
    wall_ns: AtomicI64,
    monotonic: SystemClock,
}

impl Clock for Wall {
    fn wall_ns(&self) -> u64 {
        self.wall_ns.load(Ordering::SeqCst) as u64
    }

    fn monotonic(&self) -> Duration {
        self.monotonic.monotonic()
    }
}

#[test]
fn timestamps_never_decrease_though_the_clock_is_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Wall { wall_ns: AtomicI64::new(5_000_000), monotonic: SystemClock::new() });
    for _ in 0..3 {
        let wal = Wal::options().segment_size(64 << 10).clock(clock.clone()).open(dir.path()).unwrap();
        for step in [7, -3_000, 10, -1, 5_000, -40] {
            clock.wall_ns.fetch_add(step * 100, Ordering::SeqCst);
            wal.append([0; 9000]).unwrap();
            wal.append([0; 9000]).unwrap();
        }
        wal.close().unwrap();
    }
    let reader = Wal::open_read_only(dir.path()).unwrap();
    let timestamps: Vec<u64> = reader.iter(..).unwrap().map(|record| record.unwrap().timestamp_ns).collect();
    assert_eq!(timestamps.len(), 36);
    assert!(timestamps.is_sorted(), "{timestamps:?}");
    assert!(timestamps[0] >= 4_000_000 && timestamps[35] > timestamps[0]);
}
