//! Appending from a task: what finds no room leaves a waker and holds nothing.
//!
//! # Invariants
//! 1. A poll that is pending has appended nothing and holds no claim, no budget and no LSN: dropping it then leaves
//!    nothing behind. One that is ready has appended once.
//! 2. It waits for no round and for no other writer, and, in a log with threads, makes no round: the background thread does. It makes a file
//!    where its [blocking twin](crate::append) makes one itself, and waits for that: the file of a record larger than the whole budget; and
//!    the next segment's while the chore keeps the maintenance thread from it, when the one under the pen has no more room. Without threads
//!    nobody else would, so a poll does all that its twin does.
//!
//! # The races that are handled
//! * *Room is made while a task enters.* It tries once more when it is among the blocked; whoever makes room wakes them after
//!   that, and finds it.
//! * *The role is given up while a task enters, in a log without threads.* It tries the role once more when it has
//!   entered, and giving that up wakes it.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use braidlog_format::{Kind, Lsn, LsnRange};

use crate::append::{Wait, whole};
use crate::batch::BatchBuf;
use crate::callers_lock;
use crate::error::EngineError;
use crate::primitive::thread;
use crate::shared::Shared;
use crate::space::Gate;
use crate::stripe::{Content, EntryParts};
use crate::waiters::Sleeper;

/// Names the waiting of a task for room, so that it can be updated or forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomKey(u64);

impl Shared {
    /// Appends one record when there is room.
    pub(crate) fn poll_append(
        &self,
        kind: Kind,
        payload: &[u8],
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        self.poll_content(&self.record(kind, payload)?, stripe, key, waker).map_ok(|lsns| lsns.first)
    }

    /// Appends one entry in pieces when there is room. Its kind may be one of the log's own.
    pub(crate) fn poll_append_parts(
        &self,
        parts: EntryParts<'_>,
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        self.poll_content(&self.parts(parts)?, stripe, key, waker).map_ok(|lsns| lsns.first)
    }

    /// Appends an atomic batch when there is room.
    pub(crate) fn poll_append_batch(
        &self,
        batch: &BatchBuf,
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        self.poll_content(&whole(batch)?, stripe, key, waker)
    }

    fn poll_content(
        &self,
        content: &Content<'_>,
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let placed = self.poll_place(stripe.unwrap_or_else(thread::number), content, key, waker);
        if placed.is_ready()
            && let Some(key) = key.take()
        {
            self.forget_room(key);
        }
        placed.map_ok(|(lsn, half_full)| self.accepted(lsn, content, half_full))
    }

    fn poll_place(
        &self,
        preferred: usize,
        content: &Content<'_>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<(Lsn, bool), EngineError>> {
        if let Some(placed) = self.try_place(preferred, content)? {
            return Poll::Ready(Ok(placed));
        }
        if key.is_none() {
            self.counters.ring_full_waits.fetch_add(1, Relaxed);
        }
        self.make_room(Wait::Never);
        let number = self.blocked.enter(key.map(|RoomKey(number)| number), Sleeper::Task(waker.clone()));
        *key = Some(RoomKey(number));
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("task_waits_for_room_without_a_look") {
            return Poll::Pending;
        }
        if let Some(placed) = self.try_place(preferred, content)? {
            return Poll::Ready(Ok(placed));
        }
        let is_late = self.space.gate() == Gate::Late && self.jobs.is_served();
        if self.leads(Wait::Never) && !is_late {
            if callers_lock::leave_round() {
                return Poll::Pending;
            }
            // Giving the role up wakes this task, if nobody has it.
            drop(self.try_role());
        } else {
            self.signal.notify();
        }
        Poll::Pending
    }

    /// A task waits for room no longer.
    pub(crate) fn forget_room(&self, RoomKey(number): RoomKey) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("wait_for_room_not_forgotten") {
            return;
        }
        self.blocked.leave(number);
    }
}
