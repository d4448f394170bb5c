//! The front door: an append finds room, is admitted, draws its LSN and is published; then it returns or
//! waits, as asked.
//!
//! # Invariants
//! 1. Before the LSN nothing is accepted, and an error leaves nothing behind. After the LSN an error says so:
//!    it carries the LSNs, and the record is indeterminate.
//! 2. A writer that waits holds no claim, no budget and no LSN.
//! 3. A writer that may block and finds no room drives the coordinator itself if nobody does: the log needs
//!    no thread to make progress.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use braidlog_format::checksum::{crc32, crc32_of_pieces};
use braidlog_format::{BLOCK_LEN, Kind, Lsn, LsnRange, SEGMENT_HEADER_LEN};
use braidlog_storage::is_no_space;

use crate::batch::{BatchBuf, check_kind, check_len, check_payload_len, check_takes_lsn};
use crate::callers_lock;
use crate::coordinator::Want;
use crate::error::EngineError;
use crate::primitive::thread;
use crate::settings::Durability;
use crate::shared::Shared;
use crate::space::{Gate, SEAL_RESERVE};
use crate::stripe::{Content, EntryParts};
use crate::stripes::Placed;
use crate::waiters::Sleeper;

/// How long a caller is prepared to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// As long as it takes.
    Forever,
    /// Until then.
    Until(Instant),
    /// Not at all.
    Never,
}

impl Wait {
    /// Parks the thread; says whether the deadline has not passed yet.
    pub(crate) fn park(self) -> bool {
        match self {
            Wait::Forever => {
                thread::park();
                true
            }
            Wait::Never => false,
            Wait::Until(deadline) => thread::park_until(deadline),
        }
    }
}

/// When an append returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// When the durability is reached; at once for [`Durability::Async`].
    Wait(Durability),
    /// When the record is in a stripe. Somebody may wait for it later.
    Later(Durability),
}

/// How a record is appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// The stripe to prefer; `None` for the thread's own.
    pub stripe: Option<usize>,
    /// How long to wait, for room and for durability together.
    pub wait: Wait,
    /// When to return.
    pub commit: Commit,
}

/// A batch, if it holds anything. Its entries were checked when they came into it.
pub(crate) fn whole(batch: &BatchBuf) -> Result<Content<'_>, EngineError> {
    if batch.is_empty() {
        return Err(EngineError::EmptyBatch);
    }
    Ok(Content::Batch { body: batch.body(), count: batch.count() })
}

impl Shared {
    /// Appends one record.
    pub(crate) fn append(&self, kind: Kind, payload: &[u8], how: How) -> Result<Lsn, EngineError> {
        self.append_content(&self.record(kind, payload)?, how).map(|lsns| lsns.first)
    }

    /// Appends one entry in pieces. Its kind may be one of the log's own.
    pub(crate) fn append_parts(&self, parts: EntryParts<'_>, how: How) -> Result<Lsn, EngineError> {
        self.append_content(&self.parts(parts)?, how).map(|lsns| lsns.first)
    }

    /// Appends an atomic batch.
    pub(crate) fn append_batch(&self, batch: &BatchBuf, how: How) -> Result<LsnRange, EngineError> {
        self.append_content(&whole(batch)?, how)
    }

    /// One record, if it may be appended.
    #[inline]
    pub(crate) fn record<'a>(&self, kind: Kind, payload: &'a [u8]) -> Result<Content<'a>, EngineError> {
        check_kind(kind)?;
        check_len(payload.len() as u64, self.settings.max_record_bytes)?;
        Ok(Content::Record { kind, payload, checksum: crc32(payload) })
    }

    /// One entry in pieces, if it may be appended.
    pub(crate) fn parts<'a>(&self, parts: EntryParts<'a>) -> Result<Content<'a>, EngineError> {
        check_takes_lsn(parts.kind)?;
        check_len(parts.proper_len(), self.settings.max_record_bytes)?;
        let payload_len = check_payload_len(parts.payload_len())?;
        Ok(Content::Parts { parts, payload_len, checksum: crc32_of_pieces(parts.all()) })
    }

    fn append_content(&self, content: &Content<'_>, how: How) -> Result<LsnRange, EngineError> {
        #[cfg(braidlog_sabotage)]
        let how = match how.commit {
            Commit::Wait(_) if braidlog_sabotage::is("durability_of_append_ignored") => {
                How { commit: Commit::Wait(self.settings.mode.durability()), ..how }
            }
            _ => how,
        };
        let durability = match how.commit {
            Commit::Wait(durability) if durability != Durability::Async => durability,
            _ => {
                let (lsn, half_full) = self.place(content, how)?;
                return Ok(self.accepted(lsn, content, half_full));
            }
        };
        let began = self.clock.monotonic();
        let (lsn, _) = self.place(content, how)?;
        let lsns = LsnRange::with_count(lsn, content.count());
        if durability == Durability::Synchronous {
            self.demand.ask_urgent(lsns.last);
        }
        self.wait_for(lsns, how.wait)?;
        self.counters.commit_latency.record(self.clock.monotonic().saturating_sub(began));
        Ok(lsns)
    }

    /// Has the background thread turn to what was published and nobody waits for here; gives its LSNs.
    pub(crate) fn accepted(&self, first: Lsn, content: &Content<'_>, half_full: bool) -> LsnRange {
        let lsns = LsnRange::with_count(first, content.count());
        let batch_size = self.settings.mode.batch_size();
        let waiting = || lsns.last.0.saturating_sub(self.waiters.durable().0);
        let batch_full = batch_size != u64::MAX && waiting() >= batch_size;
        self.signal.published(half_full || batch_full);
        lsns
    }

    /// Publishes `content`, waiting for room as long as allowed. Gives its first LSN, and whether a ring is
    /// half full by it.
    #[inline]
    fn place(&self, content: &Content<'_>, how: How) -> Result<(Lsn, bool), EngineError> {
        // Numbers in turn spread any number of threads evenly.
        let preferred = how.stripe.unwrap_or_else(thread::number);
        // The common case, without what it needs to tell why it did not succeed.
        let mut placed = Placed::Full;
        if self.stripes.fits_ring(content.body_len()) {
            placed = self.stripes.place(preferred, content, &self.lsns, || self.space.is_open());
            if let Placed::Yes { lsn, half_full } = placed {
                return Ok((lsn, half_full));
            }
        }
        self.place_by_all_means(placed, preferred, content, how)
    }

    /// As [`Shared::place`], which did not succeed at once.
    #[cold]
    fn place_by_all_means(
        &self,
        placed: Placed,
        preferred: usize,
        content: &Content<'_>,
        how: How,
    ) -> Result<(Lsn, bool), EngineError> {
        if placed == Placed::Refused {
            self.after_refusal();
        }
        if let Some(placed) = self.try_place(preferred, content)? {
            return Ok(placed);
        }
        if how.wait == Wait::Never {
            self.signal.notify();
            return Err(EngineError::Full);
        }
        self.counters.ring_full_waits.fetch_add(1, Relaxed);
        loop {
            self.make_room(how.wait);
            if let Some(placed) = self.try_place(preferred, content)? {
                return Ok(placed);
            }
            let number = self.blocked.enter(None, Sleeper::Thread(thread::current()));
            let placed = self.try_place(preferred, content);
            if !matches!(placed, Ok(None)) {
                self.blocked.leave(number);
                return placed.map(|placed| placed.expect("just matched"));
            }
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("writer_sleeps_without_asking_for_the_role") {
                how.wait.park();
                continue;
            }
            // Nobody has the role: its last holder may have woken the blocked before this writer was one. No
            // round makes a file that is late: whoever does opens the gate first and then wakes the blocked.
            let is_late = self.space.gate() == Gate::Late && self.jobs.is_served();
            let nobody_drives = self.leads(how.wait) && !is_late && self.try_role().is_some();
            let in_time = nobody_drives || how.wait.park();
            self.blocked.leave(number);
            if !in_time {
                return Err(EngineError::TimedOut { lsns: None });
            }
        }
    }

    /// Whether a caller that waits so may hold the coordinator's role: a round can take as long as the disk
    /// likes, so a deadline forbids it, unless nobody else would do it.
    pub(crate) fn leads(&self, wait: Wait) -> bool {
        wait == Wait::Forever || !self.settings.background
    }

    /// Drives the coordinator to give ring space back, if nobody else does; or asks the background thread.
    pub(crate) fn make_room(&self, wait: Wait) {
        if !self.leads(wait) {
            self.signal.notify();
        } else if !callers_lock::leave_round()
            && let Some(mut role) = self.try_role()
        {
            let stepped = role.step(self, Want::Drain);
            drop(role);
            if !stepped.progress {
                thread::yield_now();
            }
        }
    }

    /// Publishes `content` if there is room now; `None` if there is none.
    pub(crate) fn try_place(
        &self,
        preferred: usize,
        content: &Content<'_>,
    ) -> Result<Option<(Lsn, bool)>, EngineError> {
        let body_len = content.body_len();
        let placed = if self.stripes.fits_ring(body_len) {
            self.stripes.place(preferred, content, &self.lsns, || self.space.is_open())
        } else {
            let alone = self.stripes.exceeds_budget(body_len);
            let refusal = Cell::new(None);
            let admit = || if alone { self.admit_alone(body_len, &refusal) } else { self.space.is_open() };
            let placed = self.stripes.place_boxed(content, &self.lsns, admit);
            match refusal.take() {
                // The gate may be open for common records.
                Some(error) if is_no_space(&error) && !self.lsns.is_ended() => {
                    self.counters.space_refusals.fetch_add(1, Relaxed);
                    return Err(EngineError::NoSpace);
                }
                Some(error) if !self.lsns.is_ended() => {
                    let source = Arc::new(error);
                    return Err(EngineError::Start { what: "prepare a file for so large a record", source });
                }
                _ => placed,
            }
        };
        if placed == Placed::Refused {
            self.after_refusal();
        }
        match placed {
            Placed::Yes { lsn, half_full } => Ok(Some((lsn, half_full))),
            Placed::Ended => Err(self.not_accepted()),
            Placed::Full | Placed::Refused if self.lsns.is_ended() => Err(self.not_accepted()),
            // Full too: what stands in the way may be what waits for space.
            Placed::Full | Placed::Refused if self.space.gate() == Gate::NoSpace => self.refused_for_space(),
            Placed::Full | Placed::Refused if self.space.gate() == Gate::Late => self.late().map(|()| None),
            Placed::Full | Placed::Refused => Ok(None),
        }
    }

    /// What was not admitted has had the budget for a moment, or has closed the gate, and somebody who met that may be among the blocked. While the gate
    /// is closed they are let be: whoever opens it wakes them.
    #[cold]
    fn after_refusal(&self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("budget_given_back_untold") {
            return;
        }
        self.wakers.give(self.blocked.take_all_if(|| self.space.is_open()));
        self.wakers.run_unless_served();
    }

    /// The device is full. Where no maintenance thread looks for space again, the caller does.
    fn refused_for_space(&self) -> Result<Option<(Lsn, bool)>, EngineError> {
        if !self.jobs.is_served() {
            self.prepare_ahead();
            self.wakers.run_unless_served();
            if self.space.is_open() {
                return Ok(None);
            }
        }
        self.counters.space_refusals.fetch_add(1, Relaxed);
        Err(EngineError::NoSpace)
    }

    /// The next file is not there. Where no maintenance thread makes it, the round that wanted it has tried once;
    /// the caller tries again, and nobody else would.
    fn late(&self) -> Result<(), EngineError> {
        if self.jobs.is_served() {
            return Ok(());
        }
        match self.preparer.prepare_if_wanted() {
            Ok(()) => {
                self.after_refusal(); // The gate may be open by it.
                Ok(())
            }
            Err(error) if is_no_space(&error) => self.refused_for_space().map(drop),
            Err(_) if self.lsns.is_ended() => Err(self.not_accepted()),
            Err(error) => {
                Err(EngineError::Start { what: "prepare the next segment", source: Arc::new(error) })
            }
        }
    }

    /// Sees to it that one file has room for a frame that is larger than the budget, beside everything else
    /// that can hold an LSN. The frame has the whole budget, so there is one at a time; if it is not admitted,
    /// its reservation ends before it gives the budget to another. `refusal` tells why no file could be made.
    fn admit_alone(&self, body_len: u64, refusal: &Cell<Option<io::Error>>) -> bool {
        let admitted = self.reserve_alone(body_len, refusal);
        if !admitted {
            self.space.release_alone();
        }
        admitted
    }

    fn reserve_alone(&self, body_len: u64, refusal: &Cell<Option<io::Error>>) -> bool {
        let needed = self.space.reserve_alone(body_len + 2 * BLOCK_LEN);
        if self.space.is_open() {
            return true;
        }
        if self.space.is_stalled() {
            // No file would open the gate: each attempt would take the space that is waited for.
            return false;
        }
        match self.preparer.prepare(SEGMENT_HEADER_LEN + needed + SEAL_RESERVE) {
            Ok(()) => self.space.is_open(),
            Err(error) => {
                refusal.set(Some(error));
                false
            }
        }
    }

    /// Why the log accepts nothing any more.
    pub(crate) fn not_accepted(&self) -> EngineError {
        // Looked at first: who sees the end sees the failure that was set before it, and does not take a log
        // that failed for one that was closed.
        let is_ended = self.lsns.is_ended();
        debug_assert!(is_ended, "asked by one who met the end");
        match self.failure.get() {
            Some(failure) => EngineError::Failed { failure: failure.clone(), lsns: None },
            None => EngineError::Closed,
        }
    }
}
