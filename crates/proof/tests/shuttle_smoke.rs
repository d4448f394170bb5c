//! A whole log under shuttle, small: the seam carries every wait, so no schedule stops all threads for good.
//!
//! `RUSTFLAGS="--cfg braidlog_shuttle" cargo test -p braidlog-proof --test shuttle_smoke`
#![cfg(braidlog_shuttle)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use braidlog::storage::Clock;
use braidlog::{DurabilityMode, Lsn, Wal};
use braidlog_sim::SimDisk;
use shuttle::thread;

/// Schedules that each test tries.
const SCHEDULES: usize = 300;
/// What each reading moves the clock on by.
const TICK: Duration = Duration::from_micros(500);

/// A clock for which time passes as it is read: whatever waits for a time reaches it.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Ticking {
    fn tick(&self) -> u64 {
        self.0.fetch_add(TICK.as_nanos() as u64, Relaxed)
    }
}

impl Clock for Ticking {
    fn wall_ns(&self) -> u64 {
        1_000_000_000 + self.tick()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.tick())
    }
}

fn open(disk: &SimDisk, mode: DurabilityMode, background: bool) -> Wal {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .clock(Arc::new(Ticking::default()))
        .mode(mode)
        .num_stripes(2)
        .stripe_capacity(4096)
        .write_buffer_size(8192)
        .segment_size(64 << 10)
        .background_threads(background)
        .open("wal")
        .unwrap()
}

/// Three threads append two records each; whatever was accepted is there after close and open.
fn run(mode: DurabilityMode, background: bool) {
    let disk = SimDisk::new();
    let wal = open(&disk, mode, background);
    let writers: Vec<_> = (0..3u8)
        .map(|writer| {
            let wal = wal.clone();
            thread::spawn(move || [0, 1].map(|n| (wal.append([writer, n]).unwrap(), [writer, n])))
        })
        .collect();
    let mut wrote: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    wal.close().unwrap();
    let wal = open(&disk, mode, background);
    wrote.sort();
    let found: Vec<_> = wal.iter(..).unwrap().map(|record| record.unwrap()).collect();
    assert_eq!(found.len(), wrote.len());
    for (record, (lsn, payload)) in found.iter().zip(wrote) {
        assert_eq!((record.lsn, &record.payload[..]), (lsn, &payload[..]));
    }
    assert_eq!(wal.last_lsn(), Lsn(6));
    wal.close().unwrap();
}

#[test]
fn committers_lead_each_other_in_every_schedule() {
    shuttle::check_random(|| run(DurabilityMode::Synchronous, false), SCHEDULES);
}

#[test]
fn group_commit_with_its_threads_ends_in_every_schedule() {
    shuttle::check_pct(|| run(DurabilityMode::group_commit(), true), SCHEDULES, 3);
}

#[test]
fn asynchronous_records_are_saved_by_close_in_every_schedule() {
    shuttle::check_random(|| run(DurabilityMode::asynchronous(), true), SCHEDULES);
}
