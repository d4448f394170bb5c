//! Where chunks wait for the threads that apply them, and where a failure is told.
//!
//! # The rule
//! There is a fixed number of chunks. Whoever reads waits for a free one, and hands over what idle threads have to come
//! before it does, so that somebody always has work: it never waits for a chunk that it holds itself.
//!
//! # A race that is handled
//! A thread that fails lowers `stop_at` before it gives its chunk back, under the mutex, and the reader looks at `stop_at`
//! under the mutex before it waits; so it does not wait for a chunk that nobody will give back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use braidlog_format::Lsn;

use super::Failure;
use super::chunk::Chunk;
use crate::RecordRef;
use crate::locked::locked;

/// Chunks that a thread can keep busy: one at work and some that wait.
const CHUNKS_PER_THREAD: usize = 16;
/// Bytes of payloads in a chunk, at most.
const CHUNK_LEN_MAX: usize = 128 << 10;
/// Bytes of payloads in a chunk, at least.
const CHUNK_LEN_MIN: usize = 4 << 10;

/// The queues of all threads.
pub(super) struct Board {
    queues: Mutex<Queues>,
    /// A chunk was given back.
    room: Condvar,
    /// One for each thread: it has work, or none will come any more.
    work: Box<[Condvar]>,
    /// Records before which so many were read are not applied any more, and those behind them. Relaxed is enough: a record is
    /// left out by any value that was ever true, and what failed is handed over by the mutex.
    stop_at: AtomicU64,
    /// The failure that comes first.
    failure: Mutex<Option<Failed>>,
    /// Bytes of payloads in a chunk.
    chunk_len: usize,
}

/// A record that was not applied.
pub(super) struct Failed {
    /// How many were read before it.
    pub(super) order: u64,
    pub(super) lsn: Lsn,
    pub(super) effective_at: Lsn,
    pub(super) why: Failure,
}

struct Queues {
    of: Vec<Queue>,
    free: Vec<Chunk>,
    /// Chunks that may still be made.
    unmade: usize,
    /// Whether a chunk is on its way that has grown.
    is_large_out: bool,
    /// Whether no more chunks will come.
    is_over: bool,
}

/// What one thread has before it.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Chunk>,
    /// Where the first record of the chunk that is at work takes effect.
    at: Option<Lsn>,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.at.is_none() && self.waiting.is_empty()
    }

    /// Where the first record takes effect that was handed over and may not have been applied.
    fn first(&self) -> Option<Lsn> {
        self.at.or_else(|| self.waiting.front()?.first())
    }
}

impl Board {
    /// For so many threads, with so many bytes in chunks.
    pub(super) fn new(threads: usize, memory_bytes: usize) -> Board {
        let chunks = threads.saturating_mul(CHUNKS_PER_THREAD);
        // Of a chunk's memory about two thirds are payloads.
        let chunk_len = memory_bytes / chunks.max(1) / 3 * 2;
        let chunk_len = chunk_len.clamp(CHUNK_LEN_MIN, CHUNK_LEN_MAX);
        let chunks =
            (memory_bytes / Chunk::memory_len(chunk_len)).clamp(2 * threads, chunks.max(2 * threads));
        Board {
            queues: Mutex::new(Queues {
                of: (0..threads).map(|_| Queue::default()).collect(),
                free: Vec::new(),
                unmade: chunks,
                is_large_out: false,
                is_over: false,
            }),
            room: Condvar::new(),
            work: (0..threads).map(|_| Condvar::new()).collect(),
            stop_at: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
            chunk_len,
        }
    }

    /// What the mutex guards is whole between any two statements.
    fn queues(&self) -> MutexGuard<'_, Queues> {
        locked(&self.queues)
    }

    /// The next chunk for a thread; `None` if there will be none.
    pub(super) fn take(&self, thread: usize) -> Option<Chunk> {
        let mut queues = self.queues();
        let work = self.work.get(thread)?;
        loop {
            let queue = queues.of.get_mut(thread)?;
            #[cfg(braidlog_sabotage)]
            if queue.waiting.len() > 1 && braidlog_sabotage::is("order_within_a_key_broken") {
                queue.waiting.swap(0, 1);
            }
            if let Some(chunk) = queue.waiting.pop_front() {
                queue.at = chunk.first();
                return Some(chunk);
            }
            if queues.is_over {
                return None;
            }
            queues = work.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes back the chunk that a thread has applied.
    pub(super) fn give_back(&self, thread: usize, mut chunk: Chunk) {
        let was_large = chunk.clear();
        let mut queues = self.queues();
        queues.free.push(chunk);
        queues.is_large_out &= !was_large;
        if let Some(queue) = queues.of.get_mut(thread) {
            queue.at = None;
        }
        self.room.notify_one();
    }

    /// That this record was not applied.
    pub(super) fn fail(&self, failed: Failed) {
        let order = failed.order;
        let mut first = locked(&self.failure);
        if first.as_ref().is_none_or(|known| order < known.order) {
            *first = Some(failed);
        }
        self.stop_at.fetch_min(order, Ordering::Relaxed);
    }

    /// The failure that comes first.
    pub(super) fn take_failure(&self) -> Option<Failed> {
        locked(&self.failure).take()
    }

    /// Whether the record before which so many were read is not to be applied any more.
    #[inline]
    pub(super) fn is_left_out(&self, order: u64) -> bool {
        order >= self.stop_at.load(Ordering::Relaxed)
    }

    /// Whether a record was not applied.
    pub(super) fn has_stopped(&self) -> bool {
        self.stop_at.load(Ordering::Relaxed) < u64::MAX
    }

    /// Where the first record takes effect that was not applied.
    pub(super) fn stopped_at(&self) -> Option<Lsn> {
        locked(&self.failure).as_ref().map(|failed| failed.effective_at)
    }

    /// Returns when everything that was handed over has been applied or left out.
    pub(super) fn wait_until_idle(&self) {
        let mut queues = self.queues();
        while !queues.of.iter().all(Queue::is_idle) {
            queues = self.room.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the threads when they have applied what waits for them.
    pub(super) fn end(&self) {
        self.queues().is_over = true;
        for work in &self.work {
            work.notify_one();
        }
    }
}

/// The chunks that are being filled, one for each thread.
pub(super) struct Hands<'a> {
    board: &'a Board,
    chunks: Vec<Option<Chunk>>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(board: &'a Board, threads: usize) -> Hands<'a> {
        Hands { board, chunks: (0..threads).map(|_| None).collect() }
    }

    /// Copies a record, before which `order` were read, for a thread: for one of its partitions or, with `None`, for all. Whether a chunk was handed over,
    /// or would have been, had not a record failed: then this one is left out.
    #[inline]
    pub(super) fn put(
        &mut self,
        thread: usize,
        order: u64,
        partition: Option<usize>,
        record: &RecordRef<'_>,
    ) -> bool {
        let len = record.fields.as_bytes().len() + record.payload.len();
        match self.chunks.get_mut(thread) {
            Some(Some(chunk)) if chunk.has_room(len) => {
                chunk.push(order, partition, record);
                false
            }
            _ => {
                self.put_into_next(thread, order, partition, record);
                true
            }
        }
    }

    #[cold]
    fn put_into_next(&mut self, thread: usize, order: u64, partition: Option<usize>, record: &RecordRef<'_>) {
        let is_large = record.fields.as_bytes().len() + record.payload.len() > self.board.chunk_len;
        let mut queues = self.board.queues();
        self.hand_over(&mut queues, thread);
        loop {
            if self.board.has_stopped() {
                return;
            }
            if !(is_large && queues.is_large_out)
                && let Some(free) = queues.free_chunk()
            {
                queues.is_large_out |= is_large;
                drop(queues);
                let mut chunk = free.unwrap_or_else(|| Chunk::new(self.board.chunk_len));
                chunk.push(order, partition, record);
                if let Some(place) = self.chunks.get_mut(thread) {
                    *place = Some(chunk);
                }
                if is_large {
                    self.hand_over(&mut self.board.queues(), thread);
                }
                return;
            }
            // What is held back here for idle threads may be all that there is.
            for idle in 0..self.chunks.len() {
                if queues.of.get(idle).is_some_and(Queue::is_idle) {
                    self.hand_over(&mut queues, idle);
                }
            }
            queues = self.board.room.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands a thread what has been filled for it.
    fn hand_over(&mut self, queues: &mut Queues, thread: usize) {
        let chunk = self.chunks.get_mut(thread).and_then(Option::take);
        if let (Some(chunk), Some(queue)) = (chunk, queues.of.get_mut(thread)) {
            queue.waiting.push_back(chunk);
            if let Some(work) = self.board.work.get(thread) {
                work.notify_one();
            }
        }
    }

    /// Hands every thread what has been filled for it.
    pub(super) fn hand_over_all(&mut self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("last_of_a_partition_not_waited_for") {
            return;
        }
        let mut queues = self.board.queues();
        for thread in 0..self.chunks.len() {
            self.hand_over(&mut queues, thread);
        }
    }

    /// All that takes effect up to here has been applied, of what was read up to `read`. A failure is known before its chunk
    /// is given back.
    pub(super) fn applied_to(&self, read: Lsn) -> Lsn {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("progress_of_what_was_read") {
            return read;
        }
        let queues = self.board.queues();
        let failed = self.board.stopped_at();
        let handed_over = queues.of.iter().filter_map(Queue::first);
        let held = self.chunks.iter().flatten().filter_map(Chunk::first);
        handed_over.chain(held).chain(failed).map(Lsn::prev).fold(read, Lsn::min)
    }
}

impl Queues {
    /// A free chunk, or `Some(None)` for the right to make one.
    fn free_chunk(&mut self) -> Option<Option<Chunk>> {
        if let Some(chunk) = self.free.pop() {
            return Some(Some(chunk));
        }
        let may_make = self.unmade > 0;
        self.unmade -= usize::from(may_make);
        may_make.then_some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_failures_stands_whichever_came_first() {
        // Its LSN says nothing of which that is: records of a transaction that is committed late may have low ones.
        for orders in [[5, 9], [9, 5]] {
            let board = Board::new(2, 1 << 20);
            for order in orders {
                let why = Failure::Application(order.to_string().into());
                let (lsn, effective_at) = (Lsn(100 - order), Lsn(100 + order));
                board.fail(Failed { order, lsn, effective_at, why });
            }
            assert_eq!(board.stopped_at(), Some(Lsn(105)));
            assert_eq!([4, 5, 6, 9].map(|order| board.is_left_out(order)), [false, true, true, true]);
            assert_eq!(board.take_failure().map(|failed| failed.lsn), Some(Lsn(95)));
        }
    }
}
