//! The preparer: makes files with space in them ahead of need, and lays zeros ahead of the pen.
//!
//! # Invariants
//! 1. A prepared file has no name in the log and holds no LSN: it may be thrown away at any time.
//! 2. Zeros go only above the pen, into space that is allocated, never into a range that the pen writes:
//!    [`Frontier`] hands each range to one of them.
//!
//! A write into allocated space that was never written makes the file system change its map of the file,
//! and the next sync pays for that; over zeros it does not. So a lone commit is as fast as the device.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use braidlog_format::{BLOCK_LEN, SEGMENT_HEADER_LEN, SegmentName, block_ceil, prepared_name};
use braidlog_storage::{AlignedBuf, FileAccess, FileIo, LogDir, LogFile, is_no_space, write_all_at};

use crate::primitive::{Condvar, Mutex};
use crate::space::{Prepared, SEAL_RESERVE, Space};
use crate::spares::Spares;

/// Bytes of zeros that are laid in one step: half of what the pen has written of the file, within these bounds. After
/// each step a sync also writes the file's map, so a pen that goes far has long steps; a log that ends
/// soon has few zeros.
const ZERO_STEP_MIN: u64 = 256 << 10;
const ZERO_STEP_MAX: u64 = 1 << 20;
/// How many steps the zeros are kept ahead of the pen.
const ZERO_LEAD_STEPS: u64 = 4;

/// Makes files with space in them.
#[derive(Debug)]
pub(crate) struct Preparer {
    dir: Arc<dyn LogDir>,
    space: Arc<Space>,
    io: FileIo,
    /// Bytes at which a segment is followed by the next.
    segment_size: u64,
    /// Bytes that a file is given, and those that it needs at the least.
    capacity: u64,
    capacity_min: u64,
    next_number: AtomicU64,
    spares: Spares,
    /// One file at a time, whoever makes it; and whether no more are made.
    ended: Mutex<bool>,
}

impl Preparer {
    pub(crate) fn new(
        dir: Arc<dyn LogDir>,
        space: Arc<Space>,
        io: FileIo,
        segment_size: u64,
        outstanding_max: u64,
    ) -> Preparer {
        let with_room = |room| block_ceil(SEGMENT_HEADER_LEN + room + SEAL_RESERVE);
        Preparer {
            spares: Spares::new(Arc::clone(&dir), io),
            dir,
            space,
            io,
            segment_size,
            // Twice what must be kept, so that the gate is open while the next file is being prepared.
            capacity: block_ceil(segment_size).max(with_room(2 * outstanding_max)),
            capacity_min: with_room(outstanding_max),
            next_number: AtomicU64::new(0),
            ended: Mutex::new(false),
        }
    }

    /// Whether a file should be prepared now.
    pub(crate) fn is_wanted(&self) -> bool {
        self.space.wants_prepared(self.segment_size)
    }

    /// Prepares a file if the log wants one.
    ///
    /// # Errors
    /// What the storage says, lack of space too; the space ledger knows of that already.
    pub(crate) fn prepare_if_wanted(&self) -> io::Result<()> {
        let ended = self.ended.lock();
        if self.is_wanted() { self.make(&ended, self.capacity, self.capacity_min) } else { Ok(()) }
    }

    /// Prepares a file of at least `capacity` bytes, whatever the log has.
    ///
    /// # Errors
    /// As [`Preparer::prepare_if_wanted`].
    pub(crate) fn prepare(&self, capacity: u64) -> io::Result<()> {
        let ended = self.ended.lock();
        // Whole blocks: zeros are laid up to the capacity, and direct I/O takes nothing less.
        let capacity = block_ceil(capacity);
        self.make(&ended, capacity.max(self.capacity), capacity.max(self.capacity_min))
    }

    /// Makes no more files, and waits for one that is being made: soon the directory may be another's, whose
    /// files have the same names.
    pub(crate) fn end(&self) {
        *self.ended.lock() = true;
        self.spares.end();
    }

    /// Makes a spare of a segment's file: see [`Spares::recycle`].
    ///
    /// # Errors
    /// What the storage says.
    pub(crate) fn recycle(&self, segment: SegmentName) -> io::Result<bool> {
        // A short one saves nothing; of a long one the rest would never be used.
        let lens = self.segment_size / 2..=self.capacity.saturating_mul(2);
        self.spares.recycle(segment, self.next_name(), lens)
    }

    /// Gives spare files up, because space is short; says whether there were any.
    pub(crate) fn give_spares_up(&self) -> bool {
        self.spares.give_all_up()
    }

    /// Bytes that a file needs at the least.
    #[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
    pub(crate) fn capacity_min(&self) -> u64 {
        self.capacity_min
    }

    fn next_name(&self) -> String {
        prepared_name(self.next_number.fetch_add(1, Relaxed))
    }

    /// Makes a file of `capacity` bytes, or of `capacity_min` where the device has no more.
    fn make(&self, ended: &bool, capacity: u64, capacity_min: u64) -> io::Result<()> {
        if *ended {
            return Err(io::Error::other("the log is closed"));
        }
        // Spares that do not become this file are gone then: their space is there for a new one.
        let reused = self.spares.take(capacity, capacity_min);
        let made = reused.map_or_else(|| self.allocate(capacity), Ok).or_else(|error| {
            if is_no_space(&error) && capacity_min < capacity {
                self.allocate(capacity_min)
            } else {
                Err(error)
            }
        });
        match made {
            Ok(prepared) => {
                self.space.add(prepared);
                Ok(())
            }
            Err(error) => {
                // That a larger file does not fit says nothing about a common one.
                if is_no_space(&error) && capacity_min <= self.capacity_min {
                    self.space.set_refused(true);
                }
                Err(error)
            }
        }
    }

    fn allocate(&self, capacity: u64) -> io::Result<Prepared> {
        let name = self.next_name();
        let file = self.dir.open(&name, FileAccess::CreateNew, self.io)?;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("space_not_allocated") {
            return Ok(Prepared { name, file, capacity, earlier: None });
        }
        match file.allocate(capacity) {
            Ok(()) => Ok(Prepared { name, file, capacity, earlier: None }),
            Err(error) => {
                drop(file);
                // Its space is needed more than its error: left-over files go at the next open.
                let _ = self.dir.remove(&name);
                Err(error)
            }
        }
    }
}

/// Up to where a segment's file is zeroed, and who may write beyond.
#[derive(Debug)]
pub(crate) struct Frontier {
    file: Arc<dyn LogFile>,
    state: Mutex<FrontierState>,
    /// Signalled when a step has ended.
    step_ended: Condvar,
}

#[derive(Debug)]
struct FrontierState {
    /// Where the pen began.
    began: u64,
    /// Everything before is written, or belongs to the pen.
    zeroed: u64,
    /// Where the pen stands.
    pen: u64,
    /// Zeros are laid below this offset only.
    limit: u64,
    /// The step that is being laid begins here.
    step: Option<u64>,
}

impl Frontier {
    /// Of a file whose first `written` bytes were written in an earlier life, in which no zeros are needed. The pen
    /// stands at `pen`, and zeros are laid below `limit`.
    pub(crate) fn new(file: Arc<dyn LogFile>, pen: u64, limit: u64, written: u64) -> Frontier {
        // Whole blocks: the last one may have been written in part.
        let zeroed = pen.max(written - written % BLOCK_LEN);
        let state = FrontierState { began: pen, zeroed, pen, limit, step: None };
        Frontier { file, state: Mutex::new(state), step_ended: Condvar::new() }
    }

    /// The pen is about to write up to `end`. Waits for a step that stands in its way, and takes the range
    /// over.
    pub(crate) fn take_over(&self, end: u64) {
        let mut state = self.state.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("pen_does_not_wait_for_zeros") {
            state.step = None;
        }
        while state.step.is_some_and(|step| step < end) {
            self.step_ended.wait(&mut state);
        }
        state.pen = end;
        state.zeroed = state.zeroed.max(end);
    }

    /// Whether the zeros ahead of the pen run short.
    pub(crate) fn wants_zeros(&self) -> bool {
        self.state.lock().wants_step(ZERO_LEAD_STEPS / 2)
    }

    /// Lays no more zeros; a step under way may still end.
    pub(crate) fn halt(&self) {
        self.state.lock().limit = 0;
    }

    /// Lays no more zeros, and waits for a step under way.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.limit = 0;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("seal_does_not_wait_for_zeros") {
            return;
        }
        while state.step.is_some() {
            self.step_ended.wait(&mut state);
        }
    }

    /// Lays one step of zeros if the lead is short; says whether it did.
    ///
    /// # Errors
    /// What the storage says; no more zeros are laid in this file.
    pub(crate) fn lay_step(&self, zeros: &AlignedBuf) -> io::Result<bool> {
        let mut state = self.state.lock();
        if state.step.is_some() || !state.wants_step(ZERO_LEAD_STEPS) {
            return Ok(false);
        }
        let start = state.zeroed;
        let len = state.step_len().min(state.limit - start);
        state.zeroed = start + len;
        state.step = Some(start);
        drop(state);
        /// Ends the step also when the storage panics: the pen waits for it.
        struct Step<'a>(&'a Frontier);
        impl Drop for Step<'_> {
            fn drop(&mut self) {
                self.0.state.lock().step = None;
                self.0.step_ended.notify_all();
            }
        }
        let step = Step(self);
        let laid = write_all_at(&*self.file, &zeros[..len as usize], start);
        if laid.is_err() {
            self.halt();
        }
        drop(step);
        laid.map(|()| true)
    }

    /// The buffer that [`Frontier::lay_step`] takes.
    pub(crate) fn zeros() -> AlignedBuf {
        AlignedBuf::zeroed(ZERO_STEP_MAX as usize)
    }
}

impl FrontierState {
    fn wants_step(&self, lead_steps: u64) -> bool {
        self.zeroed < self.limit && self.zeroed - self.pen < lead_steps * self.step_len()
    }

    /// Bytes of the next step, whole blocks.
    fn step_len(&self) -> u64 {
        block_ceil((self.pen - self.began) / 2).clamp(ZERO_STEP_MIN, ZERO_STEP_MAX)
    }
}

#[cfg(all(test, not(braidlog_loom)))]
mod tests {
    use super::*;

    #[test]
    fn zeros_ahead_grow_with_what_is_written_and_stay_bounded() {
        let began = SEGMENT_HEADER_LEN;
        let mut state = FrontierState { began, zeroed: began, pen: began, limit: u64::MAX, step: None };
        let (mut steps, mut pen) = (0, began);
        while pen < began + (64 << 20) {
            pen += 16 << 10;
            state.pen = pen;
            state.zeroed = state.zeroed.max(pen);
            while state.wants_step(ZERO_LEAD_STEPS) {
                state.zeroed += state.step_len();
                steps += 1;
            }
            let (written, ahead) = (pen - began, state.zeroed - pen);
            assert!(ahead >= ZERO_STEP_MIN, "{ahead} bytes ahead of {written}");
            assert!(
                ahead <= (5 * ZERO_STEP_MIN).max(3 * written).min(5 * ZERO_STEP_MAX),
                "{ahead} of {written}"
            );
        }
        assert!(steps <= 80, "{steps} steps in 64 MiB");
    }
}
