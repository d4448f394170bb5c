//! Sixty-four threads on the smallest rings: nothing lost, nothing doubled, one dense order, in every mode.
//!
//! Each cell is 64 threads with 10,000 records each, at most 256 MiB: 99 of 100 below 512 bytes, the others
//! up to 200 KiB, which is fifty times a ring.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braidlog::{Append, DurabilityMode, ErrorKind, Lsn, Ticket, Wal, Writer};
use braidlog_sim::{Rng, STAMP_LEN, Stamp};

const THREADS: u32 = 64;
const RECORDS_PER_THREAD: u32 = 10_000;
const CELL_BYTES_MAX: u64 = 256 << 20;
/// As small as a ring may be.
const STRIPE_CAPACITY: usize = 4096;
/// The most tickets that a thread keeps before it waits for them.
const TICKETS_MAX: usize = 32;

#[test]
fn synchronous_keeps_every_record_of_64_threads_in_one_order() {
    in_every_cell(DurabilityMode::Synchronous);
}

#[test]
fn group_commit_keeps_every_record_of_64_threads_in_one_order() {
    in_every_cell(DurabilityMode::group_commit());
}

#[test]
fn async_keeps_every_record_of_64_threads_in_one_order() {
    in_every_cell(DurabilityMode::asynchronous());
}

#[test]
fn async_batched_keeps_every_record_of_64_threads_in_one_order() {
    in_every_cell(DurabilityMode::async_batched());
}

fn in_every_cell(mode: DurabilityMode) {
    for num_stripes in [1, 4, 16] {
        cell(mode, num_stripes);
    }
}

fn cell(mode: DurabilityMode, num_stripes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let options = Wal::options().mode(mode).num_stripes(num_stripes).stripe_capacity(STRIPE_CAPACITY);
    let wal = options.open(dir.path()).unwrap();
    let returned = AtomicU64::new(0);
    let given: Vec<Vec<Lsn>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|writer| {
                let (wal, returned) = (&wal, &returned);
                scope.spawn(move || OneThread::new(wal, returned, writer).run())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total = u64::from(THREADS * RECORDS_PER_THREAD);
    assert_eq!(wal.last_lsn(), Lsn(total));
    wal.flush().unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(total));
    let metrics = wal.metrics();
    assert_eq!(metrics.appends, total);
    assert!(metrics.bytes <= CELL_BYTES_MAX, "{} bytes", metrics.bytes);
    wal.close().unwrap();

    let wal = options.open(dir.path()).unwrap();
    assert_eq!(wal.last_lsn(), Lsn(total));
    check(&wal, &given);
    wal.close().unwrap();
}

/// Every record once, where its append said, in one dense order; batches whole.
fn check(wal: &Wal, given: &[Vec<Lsn>]) {
    let mut next = [0; THREADS as usize];
    let mut expected = Lsn::FIRST;
    let mut open: Option<Stamp> = None;
    let mut records = wal.replay().unwrap();
    while let Some(record) = records.next_ref() {
        let record = record.unwrap();
        assert_eq!(record.lsn, expected);
        expected = expected.next();
        let stamp = Stamp::of(record.payload);
        let seq = &mut next[stamp.writer as usize];
        assert_eq!(stamp.seq, *seq, "writer {} lost its order at {}", stamp.writer, record.lsn);
        assert_eq!(given[stamp.writer as usize][*seq as usize], record.lsn);
        *seq += 1;
        match open {
            None => assert_eq!(stamp.index, 0),
            Some(before) => {
                assert_eq!(
                    (stamp.writer, stamp.index, stamp.count),
                    (before.writer, before.index + 1, before.count)
                );
            }
        }
        assert_eq!(record.batch_continues, stamp.index + 1 < stamp.count);
        open = record.batch_continues.then_some(stamp);
    }
    assert_eq!(next, [RECORDS_PER_THREAD; THREADS as usize]);
    assert_eq!(open, None);
}

/// What one thread does, and the LSNs that it was given.
struct OneThread<'a> {
    wal: &'a Wal,
    handle: Writer,
    /// The largest LSN that any thread's append has returned.
    returned: &'a AtomicU64,
    writer: u32,
    rng: Rng,
    given: Vec<Lsn>,
    tickets: Vec<Ticket>,
}

impl<'a> OneThread<'a> {
    fn new(wal: &'a Wal, returned: &'a AtomicU64, writer: u32) -> OneThread<'a> {
        let rng = Rng::new(0x5eed_0000 + u64::from(writer));
        let given = Vec::with_capacity(RECORDS_PER_THREAD as usize);
        OneThread { wal, handle: wal.writer(), returned, writer, rng, given, tickets: Vec::new() }
    }

    fn run(mut self) -> Vec<Lsn> {
        while self.seq() < RECORDS_PER_THREAD {
            let before = self.returned.load(Ordering::SeqCst);
            let first_new = self.given.len();
            match self.rng.below(100) {
                0..3 => self.batch(),
                3..8 => self.submit(),
                8..13 => self.try_append(),
                13..50 => {
                    let payload = self.single();
                    self.given.push(self.handle.append(payload).unwrap());
                }
                _ => {
                    let payload = self.single();
                    self.given.push(self.wal.append_with(Append::new(&payload).kind(7)).unwrap());
                }
            }
            let (first, last) = (self.given[first_new], self.given[self.given.len() - 1]);
            assert!(first.0 > before, "LSN {first} was given after {before} had returned");
            self.returned.fetch_max(last.0, Ordering::SeqCst);
        }
        self.wait_for_tickets();
        self.given
    }

    fn seq(&self) -> u32 {
        self.given.len() as u32
    }

    fn single(&mut self) -> Vec<u8> {
        let len = self.len();
        Stamp::single(self.writer, self.seq()).payload(len)
    }

    fn len(&mut self) -> usize {
        let below = |rng: &mut Rng, bound| STAMP_LEN + rng.below(bound) as usize;
        match self.rng.below(2000) {
            0 => below(&mut self.rng, 200 << 10),
            1..10 => below(&mut self.rng, 20 << 10),
            10..20 => below(&mut self.rng, 8 << 10),
            20..400 => below(&mut self.rng, 496),
            _ => below(&mut self.rng, 112),
        }
    }

    fn batch(&mut self) {
        let count = (2 + self.rng.below(7) as u32).min(RECORDS_PER_THREAD - self.seq()) as u16;
        let mut batch = self.handle.batch();
        for index in 0..count {
            let stamp = Stamp { writer: self.writer, seq: self.seq() + u32::from(index), index, count };
            let len = self.len();
            batch.push(3, stamp.payload(len)).unwrap();
        }
        let lsns = batch.commit().unwrap();
        assert_eq!(lsns.count(), u64::from(count));
        self.given.extend(lsns.iter());
    }

    fn submit(&mut self) {
        let payload = self.single();
        match self.wal.submit(payload) {
            Ok(ticket) => {
                self.given.push(ticket.lsn());
                self.tickets.push(ticket);
            }
            Err(failed) => {
                assert_eq!(failed.error().kind(), ErrorKind::Full);
                self.given.push(self.wal.append(failed.into_payload()).unwrap());
            }
        }
        if self.tickets.len() == TICKETS_MAX {
            self.wait_for_tickets();
        }
    }

    fn try_append(&mut self) {
        let payload = self.single();
        let lsn = self.handle.try_append(payload).or_else(|failed| {
            assert_eq!(failed.error().kind(), ErrorKind::Full);
            self.handle.append(failed.into_payload())
        });
        self.given.push(lsn.unwrap());
    }

    fn wait_for_tickets(&mut self) {
        for ticket in self.tickets.drain(..) {
            let lsn = ticket.wait().unwrap();
            assert!(self.wal.durable_lsn() >= lsn);
        }
    }
}
