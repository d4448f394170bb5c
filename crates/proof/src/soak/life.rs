//! A process of a soak: it opens the log, recovers its state, and lets sixteen writers, checkpoints, retention, backups
//! and holds run beside one another until its time is over or it is killed.
//!
//! The rule: the state is changed under one lock, in the order of the LSNs, and a checkpoint is taken of exactly what it
//! is then. No writer waits for the disk under that lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{panic, process, thread};

use braidlog::{Backup, Checkpoint, CheckpointPolicy, ErrorKind, Event, Lsn, Retention, Ticket, Wal};
use braidlog_sim::Rng;
use serde::{Deserialize, Serialize};

use super::notes::{Notes, Tally};
use super::state::{Ledger, WRITERS, record};

/// Bytes of a segment: small, so that they go and come often.
const SEGMENT_SIZE: u64 = 2 << 20;
/// What the log is told to stay below, and what it may take on the device.
pub(super) const DISK_MAX: u64 = 64 << 20;
/// Descriptors and memory that a process may have, however long it lives: some twice what it needs.
const DESCRIPTORS_MAX: u64 = 32;
const MEMORY_KIB_MAX: u64 = 96 << 10;

/// The holds of backups, by turns: one for the last that is whole, one for the next.
const BACKUP_HOLDS: [&str; 2] = ["backup, even", "backup, odd"];

/// What a process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) log: PathBuf,
    pub(super) backup: PathBuf,
    pub(super) notes: PathBuf,
    pub(super) seed: u64,
    /// After this long it closes the log.
    pub(super) life: Duration,
}

/// What the threads of a process share.
struct Life<'a> {
    wal: Wal,
    ledger: Arc<Mutex<Ledger>>,
    notes: &'a Notes,
    orders: &'a Orders,
    /// Set when the time is over.
    over: AtomicBool,
    /// Signalled then.
    ended: (Mutex<()>, Condvar),
}

/// Lives the life that the orders describe, to its end if it comes to that.
pub(super) fn live(orders: &Orders) {
    // At once: a kill must not come before a broken promise is told.
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::abort();
    }));
    let notes = Notes::open(&orders.notes);
    let mut rng = Rng::new(orders.seed);
    let told = Notes::open(&orders.notes);
    let wal = Wal::options()
        .segment_size(SEGMENT_SIZE)
        .num_stripes(4)
        .stripe_capacity(64 << 10)
        .retention(Retention::segments(1 + rng.below(4) as u32))
        .max_log_bytes(Some(DISK_MAX))
        .checkpoint_policy(CheckpointPolicy::never().records(Some(500 << rng.below(5))))
        .on_event(move |event| match event {
            Event::CheckpointTaken { .. } => told.add(Tally::Checkpoints, 1),
            Event::Truncated { segments, recycled: again, .. } => {
                told.add(Tally::Removed, *segments);
                told.add(Tally::Recycled, *again);
            }
            Event::UpkeepFailed { task, error, .. } => panic!("the upkeep failed at {task}: {error}"),
            _ => {}
        })
        .open(&orders.log)
        .expect("the log opens again");

    let mut ledger = Ledger::default();
    wal.recover(&mut ledger).expect("the state can be recovered");
    let said = Notes::read(&orders.notes);
    ledger.check_counts("the log", &said.acked, &said.begun);
    let counts: [u64; WRITERS] = std::array::from_fn(|writer| ledger.count(writer));
    let ledger = Arc::new(Mutex::new(ledger));

    let (source, seed) = (Arc::clone(&ledger), rng.next_u64());
    let draws = Mutex::new(Rng::new(seed));
    wal.set_snapshot_source(move |wal| {
        let state = source.lock().expect("nobody panicked").clone();
        let back = draws.lock().expect("nobody panicked").below(100);
        // Now and then as if a transaction were open.
        let from = Lsn(state.lsn().0.saturating_sub(back) + 1).max(wal.first_lsn());
        let checkpoint = Checkpoint::at(state.lsn()).replay_from(from).incremental();
        wal.checkpoint_with(checkpoint, |writer| state.save(writer))?;
        Ok(())
    });

    let life = Life {
        wal,
        ledger,
        notes: &notes,
        orders,
        over: AtomicBool::new(false),
        ended: (Mutex::new(()), Condvar::new()),
    };
    thread::scope(|scope| {
        for (writer, &count) in counts.iter().enumerate() {
            let (life, rng) = (&life, Rng::new(rng.next_u64()));
            scope.spawn(move || life.write(writer, count, rng));
        }
        let (backups, holds) = (Rng::new(rng.next_u64()), Rng::new(rng.next_u64()));
        scope.spawn(|| life.back_up(backups));
        scope.spawn(|| life.hold(holds));
        life.pause(orders.life);
        life.over.store(true, Relaxed);
        life.ended.1.notify_all();
    });
    life.wal.close().expect("nothing fails but by a kill");
}

impl Life<'_> {
    /// Waits for this long, or until the time is over.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut guard = self.ended.0.lock().expect("nobody panicked");
        while !self.over.load(Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = self.ended.1.wait_timeout(guard, left).expect("nobody panicked").0;
        }
    }

    /// Appends one writer's records, each when the one before is durable, or a few at a time.
    fn write(&self, writer: usize, mut count: u64, mut rng: Rng) {
        while !self.over.load(Relaxed) {
            let tickets: Vec<Ticket> = (0..=rng.below(4))
                .map(|_| {
                    count += 1;
                    self.notes.begin(writer, count);
                    self.append(writer, &record(writer, count))
                })
                .collect();
            for ticket in tickets {
                ticket.wait().expect("nothing fails but by a kill");
            }
            self.notes.ack(writer, count);
        }
    }

    /// Appends a record and takes it into the state, in one step.
    fn append(&self, writer: usize, bytes: &[u8]) -> Ticket {
        loop {
            let mut ledger = self.ledger.lock().expect("nobody panicked");
            match self.wal.submit(bytes) {
                Ok(ticket) => {
                    ledger.push(writer, bytes, ticket.lsn());
                    return ticket;
                }
                Err(refused) => {
                    drop(ledger);
                    assert_eq!(refused.error().kind(), ErrorKind::Full, "{}", refused.error());
                    self.wal.flush().expect("nothing fails but by a kill");
                }
            }
        }
    }

    /// Backs the log up, again and again, and looks at what the process has grown to. A hold keeps the log from the end
    /// of the last whole backup on, so that one that is interrupted leaves that.
    fn back_up(&self, mut rng: Rng) {
        while !self.over.load(Relaxed) {
            let acked = self.notes.acked();
            let holds = self.wal.holds();
            let oldest =
                holds.iter().filter(|hold| BACKUP_HOLDS.contains(&&*hold.name)).min_by_key(|hold| hold.lsn);
            let [next, before] = match oldest {
                Some(oldest) if oldest.name == BACKUP_HOLDS[0] => [BACKUP_HOLDS[1], BACKUP_HOLDS[0]],
                _ => BACKUP_HOLDS,
            };
            let durable = self.wal.durable_lsn().max(Lsn::FIRST);
            self.wal.set_hold(next, durable).expect("what is durable can be held");
            let how = Backup::new().copy(rng.one_in(2));
            self.wal.backup_with(how, &self.orders.backup, |_| ()).expect("a backup is made");
            self.wal.release_hold(before).expect("a hold can be let go");
            self.notes.backed_up(&acked);
            let (descriptors, memory_kib) = (descriptors(), memory_kib());
            self.notes.most(Tally::MostDescriptors, descriptors);
            self.notes.most(Tally::MostMemoryKib, memory_kib);
            assert!(descriptors <= DESCRIPTORS_MAX, "{descriptors} open descriptors");
            assert!(memory_kib <= MEMORY_KIB_MAX, "{memory_kib} KiB of memory");
            self.pause(Duration::from_millis(rng.below(400)));
        }
    }

    /// Holds the log for a reader, reads from there, lets go.
    fn hold(&self, mut rng: Rng) {
        while !self.over.load(Relaxed) {
            let from = self.wal.durable_lsn().max(Lsn::FIRST);
            self.wal.set_hold("reader", from).expect("what is durable can be held");
            self.pause(Duration::from_millis(rng.below(100)));
            let read = self.wal.iter(from..).expect("what is held can be read");
            let mut next = from;
            for record in read.take(1000) {
                assert_eq!(record.expect("what is held can be read").lsn, next);
                next = next.next();
            }
            self.wal.release_hold("reader").expect("a hold can be let go");
            self.pause(Duration::from_millis(rng.below(100)));
        }
    }
}

fn descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn memory_kib() -> u64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
