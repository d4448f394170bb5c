//! The ladder of durability: accepted, written, durable. Each rung is told when a record has come to it and not before,
//! to threads and to tasks, and what it promises holds after the crash that it is a promise about.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use braidlog::{Append, Durability, DurabilityMode, ErrorKind, HealthState, Lsn, Options, Rung, Ticket, Wal};
use braidlog_sim::{Fault, Op, Profile, SimDisk};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/patience.rs"]
mod patience;
use block_on::block_on;

const PATH: &str = "wal";
/// Nothing is synced unless it is asked for.
const IDLE: DurabilityMode = DurabilityMode::Async { flush_interval: std::time::Duration::from_secs(3600) };

fn on(disk: &SimDisk) -> Options {
    Wal::options().storage(Arc::new(disk.clone())).mode(IDLE)
}

/// How many records a crash leaves.
fn left(disk: &SimDisk, seed: u64, profile: Profile) -> usize {
    let after = disk.crash_clone(seed, profile);
    on(&after).open(PATH).unwrap().replay().unwrap().count()
}

fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn each_rung_is_told_when_it_is_reached_and_not_before() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let wal = on(&disk).background_threads(background).open(PATH).unwrap();
        let ticket = wal.submit(b"x").unwrap();
        assert!(ticket.has_reached(Rung::Accepted) && !ticket.has_reached(Rung::Written));
        assert_eq!(block_on(ticket.reach(Rung::Accepted)).unwrap(), Lsn(1));
        assert_eq!(
            [Rung::Accepted, Rung::Written, Rung::Durable].map(|rung| wal.reached(rung)),
            [Lsn(1), Lsn::ZERO, Lsn::ZERO]
        );
        assert_eq!(left(&disk, 1, Profile::Kept), 0, "a kill takes what is in memory");

        let syncs = wal.metrics().syncs;
        assert_eq!(block_on(ticket.written()).unwrap(), Lsn(1));
        assert!(ticket.has_reached(Rung::Written) && !ticket.is_durable());
        assert_eq!((wal.written_lsn(), wal.durable_lsn()), (Lsn(1), Lsn::ZERO));
        assert_eq!(wal.metrics().syncs, syncs, "it asks for no sync");
        assert_eq!(left(&disk, 1, Profile::Kept), 1, "it survives a kill");
        assert!((0..50).any(|seed| left(&disk, seed, Profile::Posix) == 0), "a power cut may take it");

        assert_eq!(block_on(ticket.durable()).unwrap(), Lsn(1));
        assert!((0..50).all(|seed| left(&disk, seed, Profile::Posix) == 1), "it survives a power cut");
        assert_eq!(ticket.wait().unwrap(), Lsn(1));
    }
}

/// The write is held, then the sync: who waits for the write is told before the sync that follows it has returned.
#[test]
fn a_write_is_told_while_the_sync_behind_it_is_under_way() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    let (writes, syncs) = (disk.hold(Op::Write), disk.hold_syncs());
    let ticket = wal.submit(b"x").unwrap();
    let mut durable = ticket.durable();
    assert!(is_pending(&mut durable), "and a sync is asked for");
    writes.wait_for_held(1);
    let mut written = ticket.written();
    assert!(is_pending(&mut written));
    assert_eq!(wal.written_lsn(), Lsn::ZERO, "the call that writes it has not returned");
    thread::scope(|scope| {
        let task = scope.spawn(|| block_on(written).unwrap());
        let blocked = scope.spawn(|| ticket.wait_reached(Rung::Written).unwrap());
        writes.release();
        syncs.wait_for_held(1);
        assert_eq!((task.join().unwrap(), blocked.join().unwrap()), (Lsn(1), Lsn(1)));
        assert_eq!((wal.written_lsn(), wal.durable_lsn()), (Lsn(1), Lsn::ZERO));
        assert!(is_pending(&mut durable));
        syncs.release();
    });
    assert_eq!(block_on(durable).unwrap(), Lsn(1));
}

#[test]
fn the_written_lsn_stands_between_batches_and_never_behind_the_durable_one() {
    let disk = SimDisk::new();
    let wal = on(&disk).num_stripes(4).write_buffer_size(64 << 10).open(PATH).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let (mut last, mut moves) = (Lsn::ZERO, 0);
            while !done.load(SeqCst) {
                let durable = wal.durable_lsn();
                let written = wal.written_lsn();
                assert!(durable <= written && written >= last, "{durable} {written} {last}");
                assert_eq!(written.get() % 3, 0, "it stands within a batch");
                moves += u64::from(written > last);
                last = written;
            }
            moves
        });
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..200 {
                        let mut batch = wal.batch().durability(Durability::Async);
                        for _ in 0..3 {
                            batch.push(1, vec![7; 3000]).unwrap();
                        }
                        let lsns = batch.commit().unwrap();
                        match round % 10 {
                            0 => wal.wait_reached(Rung::Durable, lsns.last).unwrap(),
                            _ => wal.wait_reached(Rung::Written, lsns.last).unwrap(),
                        }
                        assert!(wal.written_lsn() >= lsns.last);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, SeqCst);
        assert!(looks.join().unwrap() > 1, "it was seen to move");
    });
    assert_eq!(wal.written_lsn(), Lsn(2400));
    assert_eq!(left(&disk, 1, Profile::Kept), 2400);
}

#[test]
fn what_is_only_written_is_no_promise_once_the_log_has_failed() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let wal = on(&disk).background_threads(background).open(PATH).unwrap();
        let safe = wal.submit(b"safe").unwrap();
        safe.wait_reached(Rung::Durable).unwrap();
        let ticket = wal.submit(b"written").unwrap();
        assert_eq!(block_on(ticket.written()).unwrap(), Lsn(2));
        disk.inject(Fault::eio(Op::Sync).on(".wal"));
        let error = block_on(ticket.durable()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        for error in
            [block_on(ticket.written()).unwrap_err(), ticket.wait_reached(Rung::Written).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            assert!(error.is_indeterminate(), "it was accepted: {error}");
        }
        assert!(!ticket.has_reached(Rung::Written) && ticket.has_reached(Rung::Accepted));
        assert_eq!(block_on(safe.written()).unwrap(), Lsn(1), "what is durable stays promised");
        assert_eq!(wal.written_lsn(), Lsn(2), "a watermark never falls");
    }
}

#[test]
fn a_write_that_fails_is_told_to_all_who_wait_for_it() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    let writes = disk.hold(Op::Write);
    let ticket = wal.submit(b"x").unwrap();
    thread::scope(|scope| {
        let task = scope.spawn(|| block_on(ticket.written()).unwrap_err());
        let blocked = scope.spawn(|| ticket.wait_reached(Rung::Written).unwrap_err());
        writes.wait_for_held(1);
        disk.inject(Fault::eio(Op::Write).on(".wal"));
        writes.release();
        for error in [task.join().unwrap(), blocked.join().unwrap()] {
            assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            assert!(error.is_indeterminate(), "{error}");
        }
    });
    assert_eq!(wal.written_lsn(), Lsn::ZERO);
}

#[test]
fn one_future_stands_for_a_thousand_records_and_flush_async_for_all() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    assert_eq!(block_on(wal.flush_async()).unwrap(), Lsn::ZERO, "an empty log has nothing to wait for");
    for batch in 1..=10 {
        let syncs = wal.metrics().syncs;
        for _ in 0..1000 {
            let _dropped: Ticket = wal.submit(b"x").unwrap();
        }
        assert_eq!(block_on(wal.durable(Lsn(batch * 1000))).unwrap(), Lsn(batch * 1000));
        assert!(wal.metrics().syncs <= syncs + 3, "one wait, and not a thousand syncs");
    }
    let lsn = wal.append_with(Append::new(b"x").durability(Durability::Async)).unwrap();
    let flushed = wal.flush_async();
    wal.append_with(Append::new(b"behind the call").durability(Durability::Async)).unwrap();
    assert_eq!(flushed.lsn(), lsn, "it stands for what came before the call");
    assert_eq!(block_on(flushed).unwrap(), lsn);

    let unknown = block_on(wal.durable(Lsn(1_000_000))).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput, "{unknown}");
    let unknown = wal.wait_reached(Rung::Written, Lsn(1_000_000)).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput, "{unknown}");
}

#[test]
fn a_dropped_wait_leaves_no_waker_behind_at_any_rung() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    let writes = disk.hold(Op::Write);
    let (waker, holders) = block_on::counted_waker();
    for _ in 0..10 {
        let ticket = wal.submit(b"x").unwrap();
        for rung in [Rung::Written, Rung::Durable] {
            let mut reach = ticket.reach(rung);
            for _ in 0..3 {
                assert!(Pin::new(&mut reach).poll(&mut Context::from_waker(&waker)).is_pending());
                assert_eq!(holders.strong_count(), 2, "the task's own and the log's");
            }
            drop(reach);
            assert_eq!(holders.strong_count(), 1, "{rung:?}");
        }
    }
    writes.release();
    wal.close().unwrap();
    assert_eq!(left(&disk, 1, Profile::Posix), 10, "the records stay");
}

/// Wakers that are run before a sync come from who holds the coordinator's role. One that appends waits for that role.
#[test]
fn a_waker_may_append_to_the_log_that_woke_it() {
    struct Appends {
        wal: Wal,
        appended: Mutex<mpsc::Sender<Lsn>>,
    }
    impl Wake for Appends {
        fn wake(self: Arc<Self>) {
            let lsn =
                self.wal.append_with(Append::new(b"from the waker").durability(Durability::Synchronous));
            // The second time nobody listens any more.
            let _ = self.appended.lock().unwrap().send(lsn.unwrap());
        }
    }
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    let (appended, appends) = mpsc::channel();
    let (writes, syncs) = (disk.hold(Op::Write), disk.hold_syncs());
    let ticket = wal.submit(b"x").unwrap();
    let (mut written, mut durable) = (ticket.written(), ticket.durable());
    assert!(is_pending(&mut durable), "and a sync is asked for");
    writes.wait_for_held(1);
    let waker = Waker::from(Arc::new(Appends { wal: wal.clone(), appended: Mutex::new(appended) }));
    let polled = Pin::new(&mut written).poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    writes.release();
    syncs.wait_for_held(1);
    syncs.release();
    assert_eq!(appends.recv().unwrap(), Lsn(2));
    assert_eq!(block_on(durable).unwrap(), Lsn(1));
    patience::until(|| wal.durable_lsn() >= Lsn(2));
}

/// The thread that writes full buffers noted the failure and told nobody: who waited for such a record to be written slept until
/// the next sync was due, which in an asynchronous mode may be an hour.
#[test]
fn a_write_of_a_full_buffer_that_fails_is_told_at_once() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    // The first full buffer is written by whoever fills it.
    wal.append(vec![7; 400 << 10]).unwrap();
    wal.flush().unwrap();
    let writes = disk.hold(Op::Write);
    let ticket = wal.submit(vec![7; 400 << 10]).unwrap();
    let written = ticket.written();
    let (tell, told) = mpsc::channel();
    let waits = thread::spawn(move || tell.send(block_on(written).unwrap_err().kind()));
    writes.wait_for_held(1);
    disk.inject(Fault::eio(Op::Write).on(".wal"));
    writes.release();
    let mut kind = None;
    patience::until(|| {
        kind = kind.or(told.try_recv().ok());
        kind.is_some()
    });
    assert_eq!(kind, Some(ErrorKind::Failed));
    assert_eq!(wal.health().state, HealthState::Failed);
    waits.join().unwrap().unwrap();
}
