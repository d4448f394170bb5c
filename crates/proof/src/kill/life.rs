//! The life of a process that will be killed: it opens the log, writes in every way that there is, closes it.
//!
//! The rule: it tells the [`Board`] before it asks the log, and again when the log has answered, and checks what
//! only a living process can: LSNs in the order in which appends returned, and a durable LSN that covers what
//! was acknowledged.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use braidlog::{
    Append, Durability, DurabilityMode, ErrorKind, IoMode, Lsn, LsnRange, Options, SyncMethod, Ticket, Wal,
};
use braidlog_sim::{Rng, STAMP_LEN, Stamp};
use serde::{Deserialize, Serialize};

use crate::board::{Board, OPERATIONS_MAX, Operation, State};
use crate::killing_storage::{KillingStorage, Trap};

/// How many tickets a writer holds before it waits for the oldest.
const TICKETS_MAX: usize = 24;

/// What a process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// The directory of the log.
    pub(super) dir: PathBuf,
    /// Where to tell what happened.
    pub(super) board: PathBuf,
    /// Draws everything but the interleaving.
    pub(super) seed: u64,
    /// The how-manieth process on this log, from 0; it makes the stamps of its records its own.
    pub(super) life: u32,
    /// How many threads write; at most [`WRITERS_MAX`].
    pub(super) writers: u32,
    /// How many operations each of them does, at most [`OPERATIONS_MAX`].
    pub(super) operations: u32,
    /// Where to die, unless the parent kills it.
    pub(super) trap: Option<Trap>,
    /// Whether the file system has direct I/O.
    pub(super) has_direct_io: bool,
    /// Whether the file system may be full: then appends may be refused for it.
    pub(super) may_be_full: bool,
}

/// The most writers that one process has.
pub(super) const WRITERS_MAX: u32 = 8;

/// The writer in the stamps of a process.
pub(super) fn stamp_writer(life: u32, writer: u32) -> u32 {
    life * WRITERS_MAX + writer
}

/// Any options that suit the file system: no two processes on one log agree in them.
pub(crate) fn any_options(rng: &mut Rng, has_direct_io: bool) -> Options {
    let modes = [
        DurabilityMode::Synchronous,
        DurabilityMode::group_commit(),
        DurabilityMode::GroupCommit { max_delay: Duration::ZERO, max_batch_size: 3 },
        DurabilityMode::asynchronous(),
        DurabilityMode::Async { flush_interval: Duration::from_micros(300) },
        DurabilityMode::async_batched(),
    ];
    let ways = [
        (IoMode::Auto, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::Fdatasync),
        (IoMode::Direct, SyncMethod::DirectSync),
    ];
    let (io_mode, sync_method) = ways[rng.index(if has_direct_io { ways.len() } else { 3 })];
    let options = Wal::options()
        .mode(modes[rng.index(modes.len())])
        .io_mode(io_mode)
        .sync_method(sync_method)
        .num_stripes(1 << rng.below(4))
        .stripe_capacity(4096 << rng.below(6))
        .segment_size((64 << 10) << rng.below(6))
        .write_buffer_size((8 << 10) << rng.below(5))
        .background_threads(!rng.one_in(4));
    if rng.one_in(8) { options.segment_age_max(Some(Duration::from_millis(5))) } else { options }
}

/// Lives the life that the orders describe, to its end if it comes to that.
pub(super) fn live(orders: &Orders) {
    let mut rng = Rng::new(orders.seed);
    let board = Board::open(&orders.board);
    let mut options = any_options(&mut rng, orders.has_direct_io);
    if let Some(trap) = orders.trap {
        options = options.storage(Arc::new(KillingStorage::new(trap)));
    }
    let wal = options.open(&orders.dir).expect("the log opens again");
    board.opened(wal.incarnation().0, wal.last_lsn().0);

    let returned = AtomicU64::new(wal.last_lsn().0);
    thread::scope(|scope| {
        for writer in 0..orders.writers {
            let writer = Writer {
                wal: &wal,
                handle: wal.writer(),
                board: &board,
                returned: &returned,
                rng: Rng::new(rng.next_u64()),
                writer,
                stamp_writer: stamp_writer(orders.life, writer),
                may_be_full: orders.may_be_full,
                next: 0,
                tickets: VecDeque::new(),
            };
            scope.spawn(move || writer.run(orders.operations));
        }
    });
    if rng.one_in(4) {
        drop(wal);
    } else {
        wal.close().expect("nothing fails but by a kill");
        board.closed();
    }
}

/// One thread that writes.
struct Writer<'a> {
    wal: &'a Wal,
    handle: braidlog::Writer,
    board: &'a Board,
    /// The highest LSN that an append of any thread has returned.
    returned: &'a AtomicU64,
    rng: Rng,
    writer: u32,
    stamp_writer: u32,
    may_be_full: bool,
    /// The next operation.
    next: u32,
    /// Operations that are on their way, in their order.
    tickets: VecDeque<(u32, Ticket)>,
}

impl Writer<'_> {
    fn run(mut self, operations: u32) {
        while self.next < operations.min(OPERATIONS_MAX) {
            match self.rng.below(32) {
                0..6 => self.append(Durability::Async),
                6..11 => self.append(Durability::GroupCommit),
                11..14 => self.append(Durability::Synchronous),
                14..16 => self.append_by_mode(),
                16..18 => self.try_append(),
                18..21 => self.commit_batch(),
                21 => self.submit_batch(),
                22..29 => self.submit(),
                29 => self.flush(),
                _ => self.wait_for_oldest(),
            }
            if self.tickets.len() > TICKETS_MAX {
                self.wait_for_oldest();
            }
        }
        while !self.tickets.is_empty() {
            self.wait_for_oldest();
        }
    }

    fn append(&mut self, durability: Durability) {
        let (operation, payload, floor) = self.begin_one();
        let append = Append::new(&payload).kind(self.rng.below(240) as u8).durability(durability);
        let appended =
            if self.rng.one_in(2) { self.handle.append_with(append) } else { self.wal.append_with(append) };
        let Some(lsn) = self.accepted(operation, 1, appended) else { return };
        self.placed(operation, only(lsn), floor);
        if durability != Durability::Async {
            self.durable(operation, only(lsn));
        }
    }

    /// What it promises depends on the options, which only the log knows here: so it is not believed.
    fn append_by_mode(&mut self) {
        let (operation, payload, floor) = self.begin_one();
        let appended = self.handle.append(&payload);
        let Some(lsn) = self.accepted(operation, 1, appended) else { return };
        self.placed(operation, only(lsn), floor);
        if self.rng.one_in(4) {
            self.wal.wait_durable(lsn).expect("nothing fails but by a kill");
            self.durable(operation, only(lsn));
        }
    }

    fn try_append(&mut self) {
        let (operation, payload, floor) = self.begin_one();
        match self.handle.try_append(&payload) {
            Ok(lsn) => self.placed(operation, only(lsn), floor),
            Err(error) => self.refused(operation, 1, error.error()),
        }
    }

    fn commit_batch(&mut self) {
        let (operation, batch, floor) = self.begin_batch();
        let durable = self.rng.one_in(2);
        let durability = if durable { Durability::GroupCommit } else { Durability::Async };
        let count = batch.len() as u16;
        let committed = batch.durability(durability).commit();
        let Some(lsns) = self.accepted(operation, count, committed) else { return };
        self.placed(operation, lsns, floor);
        if durable {
            self.durable(operation, lsns);
        }
    }

    fn submit_batch(&mut self) {
        let (operation, batch, floor) = self.begin_batch();
        let count = batch.len() as u16;
        match batch.submit() {
            Ok(ticket) => self.hold(operation, ticket, floor),
            Err(error) => self.refused(operation, count, error.error()),
        }
    }

    fn submit(&mut self) {
        let (operation, payload, floor) = self.begin_one();
        match self.handle.submit(&payload) {
            Ok(ticket) => self.hold(operation, ticket, floor),
            Err(error) => self.refused(operation, 1, error.error()),
        }
    }

    fn flush(&mut self) {
        self.wal.flush().expect("nothing fails but by a kill");
        self.board.flushed(self.writer, self.next);
    }

    fn wait_for_oldest(&mut self) {
        if let Some((operation, ticket)) = self.tickets.pop_front() {
            let lsns = ticket.lsns();
            ticket.wait().expect("nothing fails but by a kill");
            self.durable(operation, lsns);
        }
    }

    fn hold(&mut self, operation: u32, ticket: Ticket, floor: u64) {
        self.placed(operation, ticket.lsns(), floor);
        self.tickets.push_back((operation, ticket));
    }

    /// A new record, its payload, and the highest LSN that was known before.
    fn begin_one(&mut self) -> (u32, Vec<u8>, u64) {
        let operation = self.begin(1);
        let stamp = Stamp::single(self.stamp_writer, operation);
        let payload = stamp.payload(self.any_len());
        (operation, payload, self.returned.load(Ordering::Acquire))
    }

    fn begin_batch(&mut self) -> (u32, braidlog::Batch, u64) {
        let count = 2 + self.rng.below(9) as u16;
        let operation = self.begin(count);
        let mut batch = if self.rng.one_in(2) { self.handle.batch() } else { self.wal.batch() };
        for index in 0..count {
            let stamp = Stamp { writer: self.stamp_writer, seq: operation, index, count };
            let payload = stamp.payload(self.any_len());
            batch.push(1, payload).expect("the batch is small");
        }
        (operation, batch, self.returned.load(Ordering::Acquire))
    }

    /// Most records are short, some are longer than a page, a few longer than what is left of a small segment.
    fn any_len(&mut self) -> usize {
        let most = match self.rng.below(200) {
            0 => 60_000,
            1..6 => 9000,
            _ => 300,
        };
        STAMP_LEN + self.rng.index(most)
    }

    fn begin(&mut self, count: u16) -> u32 {
        let operation = self.next;
        self.next += 1;
        self.board.note(self.writer, operation, Operation { state: State::Begun, count });
        operation
    }

    /// What an append that waits for room returned, unless it was refused.
    fn accepted<T>(&self, operation: u32, count: u16, appended: braidlog::Result<T>) -> Option<T> {
        if let Err(error) = &appended {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "nothing fails but by a kill: {error}");
            self.refused(operation, count, error);
        }
        appended.ok()
    }

    fn refused(&self, operation: u32, count: u16, error: &braidlog::Error) {
        let kind = error.kind();
        let is_lawful = kind == ErrorKind::Full || self.may_be_full && kind == ErrorKind::NoSpace;
        assert!(is_lawful && !error.is_indeterminate(), "nothing fails but by a kill: {error}");
        self.board.note(self.writer, operation, Operation { state: State::Refused, count });
    }

    /// `floor`: the highest LSN that was returned before the log was asked.
    fn placed(&self, operation: u32, lsns: LsnRange, floor: u64) {
        assert!(lsns.first.0 > floor, "LSN {} was given out after LSN {floor} had been", lsns.first);
        self.returned.fetch_max(lsns.last.0, Ordering::AcqRel);
        self.board.note(self.writer, operation, noted(State::Placed(lsns.first.0), lsns));
    }

    fn durable(&self, operation: u32, lsns: LsnRange) {
        assert!(self.wal.durable_lsn() >= lsns.last, "what was acknowledged is durable");
        self.board.note(self.writer, operation, noted(State::Durable(lsns.first.0), lsns));
    }
}

fn only(lsn: Lsn) -> LsnRange {
    LsnRange::with_count(lsn, 1)
}

fn noted(state: State, lsns: LsnRange) -> Operation {
    Operation { state, count: lsns.count() as u16 }
}
