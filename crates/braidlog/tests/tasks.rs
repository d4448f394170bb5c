//! Appends from tasks: they wait for room and durability without holding a thread, on any runtime, and may be dropped at
//! any moment.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use braidlog::{Append, Appending, Durability, DurabilityMode, ErrorKind, Lsn, Rung, Wal};
use braidlog_sim::{Fault, Hold, Op, Profile, SimDisk, Stamp};
use futures::executor::{LocalPool, ThreadPool};
use futures::task::{LocalSpawnExt, SpawnExt};
use futures::{SinkExt, StreamExt};

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/one_ring.rs"]
mod one_ring;
#[path = "support/patience.rs"]
mod patience;
use block_on::block_on;
use one_ring::one_ring;
use patience::until;

const PATH: &str = "wal";
/// Nothing is synced unless it is asked for.
const IDLE: DurabilityMode = DurabilityMode::Async { flush_interval: Duration::from_secs(3600) };

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// A log without room, and without a round that was ever written: the thread that would make some is held in its first write,
/// so that there is none before the hold is released. Gives how many records that took.
fn full(disk: &SimDisk, mode: DurabilityMode) -> (Wal, Hold, u64) {
    let wal = one_ring(disk, mode).open(PATH).unwrap();
    let writes = disk.hold(Op::Write);
    let mut first = wal.submit([1; 500]).unwrap().written();
    assert!(poll(&mut first, Waker::noop()).is_pending());
    // Zeros are laid only when a round was written, so it is the round.
    writes.wait_for_held(1);
    until(|| wal.submit([1; 500]).is_err());
    let accepted = wal.last_lsn().get();
    (wal, writes, accepted)
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counted(AtomicU32);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn an_append_waits_for_room_and_for_durability_and_then_gives_its_lsn() {
    for background in [true, false] {
        let disk = SimDisk::new();
        let options = one_ring(&disk, DurabilityMode::group_commit()).background_threads(background);
        let wal = options.open(PATH).unwrap();
        let writer = wal.writer();
        for seq in 0..200 {
            let payload = Stamp::single(0, seq).payload(1500);
            let lsn = match seq % 3 {
                0 => block_on(wal.append_async(payload)).unwrap(),
                1 => block_on(writer.append_async(&payload)).unwrap(),
                _ => block_on(wal.append_async_with(Append::new(&payload).kind(7))).unwrap(),
            };
            assert_eq!(lsn, Lsn(u64::from(seq) + 1));
            assert!(wal.durable_lsn() >= lsn);
        }
        let mut batch = wal.batch();
        batch.push(1, b"a").unwrap().push(1, b"b").unwrap();
        let lsns = block_on(batch.commit_async()).unwrap();
        assert_eq!((lsns.first, lsns.last), (Lsn(201), Lsn(202)));
        assert_eq!(wal.durable_lsn(), Lsn(202));
        let read = wal.read(Lsn(3)).unwrap().unwrap();
        assert_eq!((read.kind.0, Stamp::of(&read.payload)), (7, Stamp::single(0, 2)));
    }
}

#[test]
fn an_asynchronous_append_is_ready_when_it_is_accepted() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).open(PATH).unwrap();
    assert_eq!(block_on(wal.append_async(b"x")).unwrap(), Lsn(1));
    assert_eq!(wal.durable_lsn(), Lsn::ZERO);
    let durably = Append::new(b"y").durability(Durability::Synchronous);
    assert_eq!(block_on(wal.append_async_with(durably)).unwrap(), Lsn(2));
    assert_eq!(wal.durable_lsn(), Lsn(2));
    let ticket = block_on(wal.submit_async(b"z")).unwrap();
    assert_eq!((ticket.lsn(), ticket.is_durable()), (Lsn(3), false));
    assert_eq!(block_on(ticket).unwrap(), Lsn(3));
    let pieces = [IoSlice::new(b"in "), IoSlice::new(b"pieces")];
    let append = Append::vectored(&pieces).kind(5).schema(2);
    assert_eq!(block_on(wal.append_async_with(append)).unwrap(), Lsn(4));
    assert_eq!(block_on(wal.submit_async_with(append)).unwrap().wait().unwrap(), Lsn(5));
    let read = wal.read(Lsn(4)).unwrap().unwrap();
    assert_eq!((read.kind.0, &read.payload[..], read.fields.schema), (5, &b"in pieces"[..], Some(2)));
}

#[test]
fn a_task_without_room_is_woken_when_there_is_some_and_appends_once() {
    let disk = SimDisk::new();
    let (wal, writes, before) = full(&disk, IDLE);
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    let mut append = wal.append_async([2; 500]);
    assert!(poll(&mut append, &waker).is_pending());
    assert!(poll(&mut append, &waker).is_pending());
    assert_eq!(wal.last_lsn(), Lsn(before), "it took no LSN");
    assert_eq!(append.accepted(), None);
    writes.release();
    until(|| counted.0.load(SeqCst) > 0);
    assert_eq!(block_on(&mut append).unwrap(), Lsn(before + 1));
    let again = block_on(&mut append).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidInput, "{again}");
    wal.flush().unwrap();
    assert_eq!(wal.replay().unwrap().count() as u64, before + 1);
}

/// Dropped before it is accepted an append was none; dropped later the record is there. Either way the log holds no waker.
#[test]
fn a_dropped_append_leaves_nothing_before_it_is_accepted_and_the_record_after() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::group_commit()).open(PATH).unwrap();
    drop(wal.append_async(b"never polled"));
    let (syncs, (waker, holders)) = (disk.hold_syncs(), block_on::counted_waker());
    let mut accepted = wal.append_async(b"accepted");
    assert!(poll(&mut accepted, &waker).is_pending());
    assert_eq!(accepted.accepted(), Some(Lsn(1)));
    assert_eq!(holders.strong_count(), 2, "the task's own and the log's");
    drop(accepted);
    assert_eq!(holders.strong_count(), 1);
    syncs.release();
    wal.close().unwrap();
    let after = one_ring(&disk.crash_clone(1, Profile::Posix), IDLE).open(PATH).unwrap();
    assert_eq!(after.last_lsn(), Lsn(1), "not what was never polled");
    assert_eq!(after.read(Lsn(1)).unwrap().unwrap().payload, b"accepted");

    let disk = SimDisk::new();
    let (wal, writes, before) = full(&disk, DurabilityMode::group_commit());
    for _ in 0..10 {
        let mut refused = wal.append_async([3; 500]);
        let mut batch = wal.batch();
        batch.push(1, [3; 500]).unwrap();
        let mut batch = batch.commit_async();
        for _ in 0..3 {
            assert!(poll(&mut refused, &waker).is_pending());
            assert!(poll(&mut batch, &waker).is_pending());
            assert_eq!(holders.strong_count(), 3, "the task's own and one for each wait");
        }
        assert_eq!((refused.accepted(), batch.accepted()), (None, None));
        drop((refused, batch));
        assert_eq!(holders.strong_count(), 1);
    }
    writes.release();
    wal.close().unwrap();
    let after = one_ring(&disk.crash_clone(1, Profile::Posix), IDLE).open(PATH).unwrap();
    assert_eq!(after.last_lsn(), Lsn(before), "nothing that was dropped before it was accepted");
    assert!(after.replay().unwrap().all(|record| !record.unwrap().payload.starts_with(&[3])));
}

/// A full disk is an error to who waits for room, also if it fills up while he does; when there is space, appends go on.
#[test]
fn a_full_disk_refuses_a_task_as_it_does_a_thread() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).open(PATH).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let pool = ThreadPool::builder().pool_size(2).create().unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let wal = wal.clone();
            let appends = async move {
                let mut accepted = 0;
                loop {
                    match wal.append_async([4; 1000]).await {
                        Ok(_) => accepted += 1,
                        Err(error) => return (accepted, error.kind()),
                    }
                }
            };
            pool.spawn_with_handle(appends).unwrap()
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        let (count, kind) = block_on(task);
        assert_eq!(kind, ErrorKind::NoSpace);
        accepted += count;
    }
    assert_eq!(wal.last_lsn().get(), accepted);
    disk.set_capacity(None);
    until(|| block_on(wal.append_async(b"again")).is_ok());
    wal.close().unwrap();
}

#[test]
fn a_closed_or_failed_log_is_told_to_those_who_wait_for_room() {
    for failed in [true, false] {
        let disk = SimDisk::new();
        let (wal, writes, _) = full(&disk, IDLE);
        let appends: Vec<_> = (0..5)
            .map(|_| {
                let mut append = wal.append_async([5; 500]);
                assert!(poll(&mut append, Waker::noop()).is_pending());
                thread::spawn(move || block_on(append).unwrap_err())
            })
            .collect();
        thread::scope(|scope| {
            let closing = if failed {
                disk.inject(Fault::eio(Op::Write).on(".wal"));
                None
            } else {
                Some(scope.spawn(|| wal.close()))
            };
            if let Some(closing) = closing {
                until(|| is_refused(&wal));
                writes.release();
                closing.join().unwrap().unwrap();
            } else {
                writes.release();
            }
        });
        for append in appends {
            let error = append.join().unwrap();
            let expected = if failed { ErrorKind::Failed } else { ErrorKind::Closed };
            assert_eq!(error.kind(), expected, "{error}");
            assert!(!error.is_indeterminate(), "it was not accepted: {error}");
        }
    }
}

fn is_refused(wal: &Wal) -> bool {
    matches!(poll(&mut wal.append_async([5; 500]), Waker::noop()), Poll::Ready(Err(error)) if error.kind() == ErrorKind::Closed)
}

/// What each of many tasks appended is there, once and in its order, however small the ring.
fn check(wal: &Wal, tasks: u32, each: u32) {
    let mut next = vec![0; tasks as usize];
    for record in wal.iter(..).unwrap() {
        let stamp = Stamp::of(&record.unwrap().payload);
        assert_eq!(stamp.seq, next[stamp.writer as usize]);
        next[stamp.writer as usize] += 1;
    }
    assert!(next.iter().all(|next| *next == each), "{next:?}");
}

async fn write(wal: Wal, task: u32, each: u32) {
    for seq in 0..each {
        let payload = Stamp::single(task, seq).payload(400);
        match seq % 3 {
            0 => wal.append_async(payload).await.map(drop),
            1 => wal.submit_async(payload).await.map(drop),
            _ => wal.submit_async(payload).await.unwrap().written().await.map(drop),
        }
        .unwrap();
    }
}

#[test]
fn hundreds_of_tasks_share_a_ring_on_tokio() {
    for (mode, threads) in [(IDLE, 2), (DurabilityMode::group_commit(), 1)] {
        let disk = SimDisk::new();
        let wal = one_ring(&disk, mode).open(PATH).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..200).map(|task| tokio::spawn(write(wal.clone(), task, 9))).collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(wal.flush_async().await.unwrap(), Lsn(1800));
        });
        check(&wal, 200, 9);
        wal.close().unwrap();
    }
}

#[test]
fn hundreds_of_tasks_share_a_ring_on_another_executor() {
    // Of many threads, and of one.
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).open(PATH).unwrap();
    let pool = ThreadPool::builder().pool_size(2).create().unwrap();
    let tasks: Vec<_> =
        (0..100).map(|task| pool.spawn_with_handle(write(wal.clone(), task, 9)).unwrap()).collect();
    tasks.into_iter().for_each(block_on);
    wal.flush().unwrap();
    check(&wal, 100, 9);

    // Without threads of its own the log is driven by the executor's only one.
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).background_threads(false).open(PATH).unwrap();
    let mut pool = LocalPool::new();
    for task in 0..100 {
        pool.spawner().spawn_local(write(wal.clone(), task, 9)).unwrap();
    }
    pool.run();
    block_on(wal.flush_async()).unwrap();
    check(&wal, 100, 9);
}

/// `select!`, timeouts and the like drop futures between any two polls.
#[test]
fn appends_that_are_cancelled_at_any_moment_lose_no_other() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::group_commit()).open(PATH).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let kept = runtime.block_on(async {
        let tasks: Vec<_> = (0..100_u32)
            .map(|task| {
                let wal = wal.clone();
                tokio::spawn(async move {
                    let mut kept = 0;
                    for seq in 0..20 {
                        let append = wal.append_async(Stamp::single(task, seq).payload(600));
                        let patience = Duration::from_micros(u64::from(task * seq) % 700);
                        kept += u32::from(matches!(tokio::time::timeout(patience, append).await, Ok(Ok(_))));
                    }
                    kept
                })
            })
            .collect();
        let mut kept = 0;
        for task in tasks {
            kept += task.await.unwrap();
        }
        wal.append_async(b"the last one still finds room").await.unwrap();
        kept
    });
    let records = wal.replay().unwrap().count() as u64;
    assert_eq!(records, wal.last_lsn().get());
    assert!(records > u64::from(kept), "what was told as appended is there: {kept} of {records}");
}

#[test]
fn a_sink_pushes_back_while_there_is_no_room_and_flushes_what_it_took() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).open(PATH).unwrap();
    let mut sink = wal.sink().kind(3);
    let mut payloads = futures::stream::iter((0..300).map(|seq| Ok(Stamp::single(0, seq).payload(1000))));
    block_on(sink.send_all(&mut payloads)).unwrap();
    assert_eq!((sink.last_lsn(), wal.durable_lsn()), (Lsn(300), Lsn(300)), "sending all flushes");
    check(&wal, 1, 300);
    assert_eq!(wal.read(Lsn(9)).unwrap().unwrap().kind.0, 3);

    let disk = SimDisk::new();
    let (wal, writes, before) = full(&disk, IDLE);
    let mut sink = wal.sink();
    block_on(sink.feed(vec![6; 500])).unwrap();
    assert!(sink.is_waiting());
    assert!(poll(&mut sink.feed(vec![6; 500]), Waker::noop()).is_pending(), "it pushes back");
    writes.release();
    block_on(sink.close()).unwrap();
    assert_eq!((sink.last_lsn(), sink.is_waiting()), (Lsn(before + 1), false));
    assert!(wal.durable_lsn() >= Lsn(before + 1), "the log is flushed and stays open");

    let refused = block_on(wal.sink().kind(240).send(b"x")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
}

/// What a log is made of goes through both ends at once: a sink that fills it, and the stream that follows it.
#[test]
fn what_goes_into_a_sink_comes_out_of_a_subscription() {
    let disk = SimDisk::new();
    let wal = one_ring(&disk, DurabilityMode::group_commit()).open(PATH).unwrap();
    let stream = wal.subscribe(wal.first_lsn()).unwrap().into_stream();
    let mut sink = wal.sink();
    let sending = async {
        for seq in 0..100 {
            sink.send(Stamp::single(0, seq).payload(700)).await.unwrap();
        }
    };
    let receiving =
        stream.take(100).map(|record| Stamp::of(&record.unwrap().payload).seq).collect::<Vec<_>>();
    let (_, seqs) = futures::executor::block_on(futures::future::join(sending, receiving));
    assert_eq!(seqs, (0..100).collect::<Vec<_>>());
}

#[test]
fn futures_go_to_any_thread() {
    fn anywhere<T: Send + Unpin + 'static>(_: &T) {}
    let disk = SimDisk::new();
    let wal = one_ring(&disk, IDLE).open(PATH).unwrap();
    let append: Appending<Vec<u8>> = wal.append_async(vec![1]);
    anywhere(&append);
    anywhere(&wal.submit_async([1; 3]));
    anywhere(&wal.sink::<Vec<u8>>());
    anywhere(&wal.batch().commit_async());
    anywhere(&wal.reach(Rung::Written, Lsn(1)));
}
