//! What tickets and tasks cost when there are many: memory is that of those who wait, and nothing is done twice.
//!
//! The rule: allocations and wake-ups are counted, and no time is measured. The tests take turns, since the count is that of the
//! whole process, and stop the log's threads in a held sync while they count.

use std::alloc::System;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use braidlog::{DurabilityMode, Lsn, Ticket, Wal};
use braidlog_sim::SimDisk;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[path = "support/patience.rs"]
mod patience;
use patience::until;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Calls that took memory.
fn calls(stats: &Stats) -> usize {
    stats.allocations + stats.reallocations
}

/// Bytes that were taken and not given back.
fn kept_bytes(stats: &Stats) -> i64 {
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(waker)).is_ready()
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counted(AtomicU64);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_hundred_thousand_tickets_in_flight_cost_little_memory_and_one_wake_up_each() {
    const TICKETS: u64 = 100_000;
    // What the disk and the log's threads may take meanwhile: one call for each ticket would be a hundred times as much.
    const FEW: usize = 1000;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = SimDisk::new();
    let options = Wal::options().storage(Arc::new(disk.clone())).mode(DurabilityMode::group_commit());
    let wal = options.num_stripes(1).stripe_capacity(16 << 20).open("wal").unwrap();
    let writer = wal.writer();
    let syncs = disk.hold_syncs();
    let mut first = wal.submit(b"occupies the log with a sync").unwrap();
    assert!(!poll(&mut first, Waker::noop()));
    syncs.wait_for_held(1);

    let mut tickets: Vec<Ticket> = Vec::with_capacity(TICKETS as usize);
    let region = Region::new(ALLOCATOR);
    tickets.extend((0..TICKETS).map(|_| writer.submit(b"x").unwrap()));
    let submitted = region.change();
    assert!(calls(&submitted) < FEW, "a ticket that nobody polls takes no memory");

    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    for ticket in &mut tickets {
        assert!(!poll(ticket, &waker));
        assert!(!poll(ticket, &waker), "polled again, it waits once");
    }
    let waiting = region.change();
    assert!(calls(&waiting) < 2 * FEW, "{} calls for memory", calls(&waiting));
    let each = kept_bytes(&waiting) as u64 / TICKETS;
    assert!(each <= 100, "{each} bytes for a ticket");

    // In two syncs: the one that is held covers the first record, the next one all others.
    let region = Region::new(ALLOCATOR);
    syncs.release();
    until(|| counted.0.load(SeqCst) == TICKETS);
    let completed = region.change();
    // The disk takes memory for each of some 1,200 blocks.
    assert!(calls(&completed) < 5 * FEW, "{} calls for memory", calls(&completed));
    assert!(tickets.iter_mut().all(|ticket| poll(ticket, &waker)));
    drop(tickets);
    assert_eq!(counted.0.load(SeqCst), TICKETS, "each was woken once");
    drop(waker);
    assert_eq!(Arc::strong_count(&counted), 1, "no waker is left");
    assert_eq!(wal.durable_lsn(), Lsn(TICKETS + 1));
    wal.close().unwrap();
}

#[test]
fn ten_thousand_tasks_that_await_one_append_each_cost_less_than_a_kibibyte_each() {
    const TASKS: u64 = 10_000;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = SimDisk::new();
    let options = Wal::options().storage(Arc::new(disk.clone())).mode(DurabilityMode::group_commit());
    let wal = options.stripe_capacity(4 << 20).open("wal").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let syncs = disk.hold_syncs();
    let mut first = wal.submit(b"occupies the log with a sync").unwrap();
    assert!(!poll(&mut first, Waker::noop()));
    syncs.wait_for_held(1);

    let pending = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::with_capacity(TASKS as usize);
    let region = Region::new(ALLOCATOR);
    for _ in 0..TASKS {
        let (wal, pending) = (wal.clone(), Arc::clone(&pending));
        tasks.push(runtime.spawn(async move {
            let mut append = wal.append_async([7; 128]);
            poll_fn(|cx| {
                let polled = Pin::new(&mut append).poll(cx);
                pending.fetch_add(u64::from(polled.is_pending()), SeqCst);
                polled
            })
            .await
        }));
    }
    until(|| pending.load(SeqCst) == TASKS);
    assert_eq!(wal.last_lsn(), Lsn(TASKS + 1), "all are accepted and wait for their sync");
    let each = kept_bytes(&region.change()) as u64 / TASKS;
    assert!(each < 1024, "{each} bytes for a task, its payload of 128 bytes in it");

    syncs.release();
    let mut lsns: Vec<Lsn> = tasks.into_iter().map(|task| runtime.block_on(task).unwrap().unwrap()).collect();
    lsns.sort();
    assert_eq!(lsns, (2..TASKS + 2).map(Lsn).collect::<Vec<_>>(), "each has its record");
    assert_eq!(pending.load(SeqCst), TASKS, "no task was woken for nothing");
    assert_eq!(wal.durable_lsn(), Lsn(TASKS + 1));
    wal.close().unwrap();
}
