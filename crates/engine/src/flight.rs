//! Writes in flight: full buffers are written by a thread of their own while the coordinator encodes the next.
//!
//! # Protocol
//! The coordinator hands a full buffer over and gets a free one; with [`BUFFERS_MAX`] buffers under way it waits
//! for one. The thread writes them one by one, in the order in which they came. Before a sync, and before a segment
//! ends, the coordinator waits until nothing is in flight. Without a thread (none was asked for, or the log closes)
//! whoever hands over writes.
//!
//! # Invariants
//! 1. A sync is issued only when every write before the pen has completed ([`Flight::settle`]): it covers them.
//! 2. Writes in flight are above everything that was synced, and no two of them overlap.
//! 3. After a failed write nothing that waits here is written. The failure is told to whoever hands over or settles
//!    next, and nothing is made durable before that.
//! 4. The written LSN is the last one of a round of which every write, and every write before it, has completed.
//! 5. Memory is bounded: [`BUFFERS_MAX`] buffers, made when first needed.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::{AlignedBuf, LogFile, write_all_at};

use crate::failure::{FailedOperation, Failure};
use crate::primitive::thread::{self, JoinHandle};
use crate::primitive::{Condvar, Mutex};
use crate::shared::Shared;

/// Buffers beside the pen's own: one that is written, and one that is next, so that the device goes on while the
/// coordinator has not been scheduled yet.
const BUFFERS_MAX: usize = 2;

/// A file that writes go to, and what it is called in messages.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) file: Arc<dyn LogFile>,
    pub(crate) name: String,
}

/// A write that was handed over.
#[derive(Debug)]
struct Write {
    target: Arc<Target>,
    buffer: AlignedBuf,
    /// Bytes of the buffer that are to be written: whole blocks.
    filled: usize,
    offset: u64,
    /// The last LSN of the round that is written with it.
    completes: Option<Lsn>,
}

/// The writes that are under way, and the buffers that are free.
#[derive(Debug)]
pub(crate) struct Flight {
    state: Mutex<State>,
    /// Signalled when a write is handed over, and when the thread is to end.
    handed_over: Condvar,
    /// Signalled when a write has completed.
    completed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    /// The thread ends when nothing waits.
    ends: bool,
    waiting: VecDeque<Write>,
    is_writing: bool,
    /// What [`Write::completes`] says of the write that is under way.
    completes: Option<Lsn>,
    free: Vec<AlignedBuf>,
    /// Buffers that were made.
    made: usize,
    failure: Option<Failure>,
}

impl Target {
    /// Writes whole blocks at `offset`; the same bytes again if they are refused for lack of space.
    pub(crate) fn write(&self, shared: &Shared, blocks: &[u8], offset: u64) -> Result<(), Failure> {
        let failed = |error| Failure::new(FailedOperation::Write, &self.name, error);
        #[cfg(braidlog_sabotage)]
        if let Some(result) = self.write_wrongly(shared, blocks, offset) {
            return result.map_err(failed);
        }
        shared.with_space(|| write_all_at(&*self.file, blocks, offset)).map_err(failed)
    }

    #[cfg(braidlog_sabotage)]
    fn write_wrongly(&self, shared: &Shared, blocks: &[u8], offset: u64) -> Option<io::Result<()>> {
        if braidlog_sabotage::is("short_write_taken_for_whole") {
            return Some(self.file.write_at(blocks, offset).map(drop));
        }
        if braidlog_sabotage::is("failed_write_taken_for_whole") {
            let _ = write_all_at(&*self.file, blocks, offset);
            return Some(Ok(()));
        }
        if braidlog_sabotage::is("full_disk_taken_for_written") {
            return Some(match write_all_at(&*self.file, blocks, offset) {
                Err(error) if braidlog_storage::is_no_space(&error) => Ok(()),
                written => written,
            });
        }
        if braidlog_sabotage::is("retry_on_a_full_disk_goes_on_behind") {
            let mut done = 0;
            return Some(shared.with_space(|| {
                let from = std::mem::replace(&mut done, blocks.len().min(8192) - 4096);
                write_all_at(&*self.file, &blocks[from..], offset + from as u64)
            }));
        }
        None
    }
}

impl Flight {
    pub(crate) fn new() -> Flight {
        Flight { state: Mutex::new(State::default()), handed_over: Condvar::new(), completed: Condvar::new() }
    }

    /// From now on there is a thread.
    pub(crate) fn connect(&self) {
        self.state.lock().has_thread = true;
    }

    /// Writes what `buffer` holds, or has it written and leaves another buffer in its place.
    ///
    /// # Errors
    /// The failure of this write, or of one before it.
    pub(crate) fn hand_over(
        &self,
        shared: &Shared,
        target: &Arc<Target>,
        buffer: &mut AlignedBuf,
        filled: usize,
        offset: u64,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock();
        let free = loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if !state.has_thread {
                drop(state);
                return target.write(shared, &buffer[..filled], offset);
            }
            if let Some(free) = state.free.pop() {
                break free;
            }
            if state.made < BUFFERS_MAX {
                state.made += 1;
                break AlignedBuf::zeroed(buffer.len());
            }
            self.completed.wait(&mut state);
        };
        let buffer = std::mem::replace(buffer, free);
        state.waiting.push_back(Write {
            target: Arc::clone(target),
            buffer,
            filled,
            offset,
            completes: None,
        });
        drop(state);
        self.handed_over.notify_all();
        Ok(())
    }

    /// A round that ends with `last` was handed over, or written by the caller. The written LSN moves when the last write
    /// that is in flight now has completed: at once if there is none.
    pub(crate) fn round_ends(&self, shared: &Shared, last: Lsn) {
        let mut state = self.state.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("written_told_before_the_write") {
            return shared.waiters.advance_written(last);
        }
        let State { waiting, is_writing, completes, failure, .. } = &mut *state;
        match waiting.back_mut() {
            Some(write) => write.completes = Some(last),
            None if *is_writing => *completes = Some(last),
            None if failure.is_none() => shared.waiters.advance_written(last),
            None => {} // A write before it failed.
        }
    }

    /// Waits until nothing is in flight.
    ///
    /// # Errors
    /// The failure of a write that was.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        let mut state = self.state.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("sync_does_not_wait_for_writes") {
            return Ok(());
        }
        while state.is_writing || !state.waiting.is_empty() {
            self.completed.wait(&mut state);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("failed_write_in_flight_forgotten") {
            return Ok(());
        }
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Ends the thread when it has written what waits. From then on whoever hands over writes.
    pub(crate) fn end(&self) {
        self.state.lock().ends = true;
        self.handed_over.notify_all();
    }

    /// The next write, when there is one; `None` when there will be none.
    fn next(&self) -> Option<Write> {
        let mut state = self.state.lock();
        loop {
            if let Some(mut write) = state.waiting.pop_front() {
                state.is_writing = true;
                state.completes = write.completes.take();
                return Some(write);
            }
            if state.ends {
                state.has_thread = false;
                return None;
            }
            self.handed_over.wait(&mut state);
        }
    }

    fn complete(&self, shared: &Shared, buffer: AlignedBuf, written: Result<(), Failure>) {
        let mut state = self.state.lock();
        state.is_writing = false;
        state.free.push(buffer);
        let completes = state.completes.take();
        let has_failed = written.is_err();
        match written {
            Ok(()) => completes.into_iter().for_each(|last| shared.waiters.advance_written(last)),
            Err(failure) => {
                let unwritten = std::mem::take(&mut state.waiting);
                state.free.extend(unwritten.into_iter().map(|write| write.buffer));
                state.failure.get_or_insert(failure);
            }
        }
        drop(state);
        self.completed.notify_all();
        if has_failed {
            // Nobody may be about to look, and a role holder may wait for this thread, which therefore takes no role: a round
            // that syncs finds the failure, and tells everybody.
            shared.demand.ask_served(shared.lsns.last());
            shared.signal.notify();
        } else if completes.is_some() {
            shared.tell_written();
        }
    }
}

/// Starts the thread. It ends with [`Flight::end`].
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new().name("braidlog-write".to_owned()).spawn(move || run(&for_thread))?;
    shared.flight.connect();
    Ok(thread)
}

/// The thread: writes what is handed over until [`Flight::end`].
pub(crate) fn run(shared: &Shared) {
    while let Some(Write { target, buffer, filled, offset, .. }) = shared.flight.next() {
        let written = match shared.failure.get() {
            Some(failure) => Err(failure.clone()),
            // A panic is the storage's; it must not leave a coordinator that waits for this thread for ever.
            None => catch_unwind(AssertUnwindSafe(|| target.write(shared, &buffer[..filled], offset)))
                .unwrap_or_else(|_| {
                    let error = io::Error::other("a panic while the log was being written");
                    Err(Failure::new(FailedOperation::Panic, &target.name, error))
                }),
        };
        shared.flight.complete(shared, buffer, written);
    }
}
