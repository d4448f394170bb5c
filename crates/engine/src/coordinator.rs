//! The flush coordinator: the only one that orders, writes and syncs.
//!
//! # Protocol
//! One [`step`](Coordinator::step) writes what is published, in LSN order, in rounds, and syncs if asked to.
//! A round: gather -> encode behind a sync mark -> account for the space -> release ring space -> write. A
//! sync covers the rounds written before it; only then does the durable LSN move. Whoever holds the role (the
//! lock around the coordinator) may call it: a background thread, a committing writer, a test.
//!
//! # Invariants
//! 1. Allocated >= published >= written >= durable, each monotone.
//! 2. The gap rule: a round ends before the first LSN that is not published. What is before is flushed now,
//!    nothing behind is written, acknowledged or shown.
//! 3. A round ends on a batch boundary, and so do the durable LSN and sync marks.
//! 4. After a failure no step does anything.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use braidlog_storage::AlignedBuf;

use crate::failure::{FailedOperation, Failure};
use crate::hold::Hold;
use crate::merge::{Merge, Next};
use crate::open_transactions::OpenTransactions;
use crate::pen::{Pen, Sink};
use crate::segment::{LastEntry, Segment};
use crate::shared::Shared;
use crate::spares::EarlierLife;
use braidlog_format::{
    BLOCK_LEN, ENTRY_HEADER_LEN, EntryHeader, Kind, LogTail, Lsn, Predecessor, Salt, SegmentHeader,
    SegmentName, SyncMark, entry_len, padded_len,
};

/// A round does not end for its length before it would come to this many bytes with the next frame, even if the pen's
/// buffer is smaller.
const ROUND_MIN: u64 = 1 << 20;
/// A part of a round that is this share of the pen's buffer is worth to be written by the thread for that.
const HAND_OVER_SHARE: usize = 8;
/// What a round takes in the file beside its entries: the sync mark and the pad.
const ROUND_OVERHEAD: u64 = 2 * BLOCK_LEN;
/// Rounds that one step writes before it syncs or returns.
const STEP_ROUNDS_MAX: usize = 8;
/// A round up to this many bytes is small: the next one is worth zeros ahead of the pen.
const SMALL_ROUND: u64 = 64 << 10;

/// What a step is asked to do beyond writing what is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Nothing: make room in the rings.
    Drain,
    /// Make what is written durable.
    Sync,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub(crate) struct Stepped {
    /// It wrote or synced something.
    pub(crate) progress: bool,
    /// It stopped at an LSN that was drawn and is not published yet.
    pub(crate) gap: bool,
}

/// The coordinator's state, owned by whoever holds the role.
#[derive(Debug)]
pub(crate) struct Coordinator {
    merge: Merge,
    pen: Pen,
    /// The segment under the pen; `None` while the device has no space for one.
    segment: Option<Segment>,
    /// The last segment that holds an LSN, for the next header.
    predecessor: Option<Predecessor>,
    /// Whether the next segment replaces an empty file of its name.
    replaces_empty: bool,
    header: HeaderConstants,
    /// Those of all that is encoded.
    open: OpenTransactions,
    last_timestamp_ns: u64,
    /// The last LSN encoded and written, or handed over to be written.
    written: Lsn,
    /// Frames that were encoded: a record, or a batch.
    appends: u64,
    /// What those who lead rounds of group commit have learned.
    pub(crate) hold: Hold,
    /// When a gap was first met, on the monotonic clock.
    gap_since: Option<Duration>,
}

/// What all segment headers of this incarnation share.
#[derive(Debug)]
struct HeaderConstants {
    log_id: braidlog_format::LogId,
    incarnation: braidlog_format::Incarnation,
    user_metadata: braidlog_format::UserMetadata,
    /// The state of the generator of salts (SplitMix64).
    salts: u64,
}

impl Coordinator {
    pub(crate) fn new(tail: &LogTail, settings: &crate::Settings) -> Coordinator {
        Coordinator {
            merge: Merge::new(settings.num_stripes, tail.next_lsn),
            pen: Pen::new(settings.write_buffer_size),
            segment: None,
            predecessor: tail.predecessor,
            replaces_empty: tail.replaces_empty,
            header: HeaderConstants {
                log_id: tail.log_id,
                incarnation: tail.incarnation,
                user_metadata: settings.user_metadata,
                salts: settings.salt_seed,
            },
            open: OpenTransactions::of(&tail.in_doubt),
            last_timestamp_ns: tail.last_timestamp_ns,
            written: tail.next_lsn.prev(),
            appends: 0,
            hold: Hold::default(),
            gap_since: None,
        }
    }

    /// The last LSN encoded and written, or handed over to be written.
    pub(crate) fn written(&self) -> Lsn {
        self.written
    }

    /// How many appends were encoded: a batch is one.
    pub(crate) fn appends(&self) -> u64 {
        self.appends
    }

    /// Whether the last sync mark tells less than is durable.
    fn owes_mark(&self, shared: &Shared) -> bool {
        self.segment.is_some() && shared.marked.load(Relaxed) < shared.waiters.durable().0
    }

    /// Writes what is published up to the last LSN drawn before the call, and syncs if asked to.
    pub(crate) fn step(&mut self, shared: &Shared, want: Want) -> Stepped {
        self.guarded(shared, |this| this.try_step(shared, want))
    }

    /// Writes a round without records, so that what is durable becomes provable. It is not synced.
    pub(crate) fn idle_mark(&mut self, shared: &Shared) -> Stepped {
        self.guarded(shared, |this| {
            if !this.owes_mark(shared) {
                return Ok(Stepped::default());
            }
            if this.make_room(shared, 0)? {
                this.write_round(shared, None, Want::Sync)?;
            }
            Ok(Stepped { progress: true, gap: false })
        })
    }

    /// Ends the segment under the pen, if it holds a record, and begins the next.
    pub(crate) fn rotate(&mut self, shared: &Shared) -> Stepped {
        self.guarded(shared, |this| {
            if !this.segment.as_ref().is_some_and(Segment::holds_records) || !this.has_next(shared, 0) {
                return Ok(Stepped::default());
            }
            if this.is_durable_before_the_end(shared)? {
                this.end_segment(shared)?;
                this.begin_segment(shared, 0)?;
            }
            Ok(Stepped { progress: true, gap: false })
        })
    }

    /// Ends the log: everything is written and synced, and the segment is sealed.
    pub(crate) fn finish(&mut self, shared: &Shared) -> Stepped {
        self.guarded(shared, |this| {
            if this.segment.is_some() {
                this.end_segment(shared)?;
                this.segment = None;
            }
            Ok(Stepped { progress: true, gap: false })
        })
    }

    /// Runs `work` unless the log has failed; makes an error, or a panic, the log's failure.
    fn guarded(
        &mut self,
        shared: &Shared,
        work: impl FnOnce(&mut Coordinator) -> Result<Stepped, Failure>,
    ) -> Stepped {
        struct PanicGuard<'a>(&'a Shared);
        impl Drop for PanicGuard<'_> {
            fn drop(&mut self) {
                #[cfg(braidlog_sabotage)]
                if braidlog_sabotage::is("panic_not_told") {
                    return;
                }
                let error = std::io::Error::other("a panic while the log was being written");
                self.0.fail(Failure::new(FailedOperation::Panic, "the log", error));
            }
        }
        if shared.failure.get().is_some() {
            return Stepped::default();
        }
        let guard = PanicGuard(shared);
        let done = work(self);
        std::mem::forget(guard);
        done.unwrap_or_else(|failure| {
            if let Some(segment) = &self.segment {
                segment.frontier().halt();
            }
            shared.fail(failure);
            Stepped::default()
        })
    }

    fn try_step(&mut self, shared: &Shared, want: Want) -> Result<Stepped, Failure> {
        let target = shared.lsns.last();
        let mut stepped = Stepped::default();
        for _ in 0..STEP_ROUNDS_MAX {
            if self.merge.next_lsn() > target {
                break;
            }
            let Some(next) = self.merge.peek(&shared.stripes) else {
                stepped.gap = true;
                break;
            };
            stepped.progress = true;
            if !self.make_room(shared, next.body_len())? {
                break;
            }
            self.write_round(shared, Some(next), want)?;
        }
        self.note_gap(shared, stepped);
        if want == Want::Sync && self.written > shared.waiters.durable() {
            self.sync(shared)?;
            stepped.progress = true;
        }
        Ok(stepped)
    }

    fn note_gap(&mut self, shared: &Shared, stepped: Stepped) {
        if stepped.progress
            && let Some(since) = self.gap_since.take()
        {
            shared.counters.gap_latency.record(shared.clock.monotonic().saturating_sub(since));
        }
        if stepped.gap && self.gap_since.is_none() {
            self.gap_since = Some(shared.clock.monotonic());
        }
    }

    /// Makes sure that the segment under the pen takes a round that begins with a frame of this body length. If not, what
    /// is written has become durable, and the role is to be given up before this is called again.
    fn make_room(&mut self, shared: &Shared, body_len: u64) -> Result<bool, Failure> {
        let need = body_len + ROUND_OVERHEAD;
        let Some(segment) = &self.segment else { return self.begin_segment(shared, need).map(|()| true) };
        let fits = segment.room_behind(segment.offset()) >= need;
        let over = segment.offset() + need > shared.settings.segment_size;
        let aged = shared
            .settings
            .segment_age_max
            .zip(segment.first_written())
            .is_some_and(|(max, since)| shared.clock.monotonic().saturating_sub(since) >= max);
        let holds_records = segment.holds_records();
        let due = (aged && self.has_next(shared, need)) || (over && shared.space.has_prepared(need));
        if holds_records && (!fits || due) {
            if !self.is_durable_before_the_end(shared)? {
                return Ok(false);
            }
            self.end_segment(shared)?;
            self.begin_segment(shared, need)?;
        } else if !fits {
            self.extend_segment(shared, need)?;
        }
        Ok(true)
    }

    /// Whether the segment under the pen may be ended under this role: if all that is written was durable before. If not,
    /// it is now. To end a segment and begin the next may have to wait for space, and who waits for what has become durable
    /// under this role is woken when it is given up.
    fn is_durable_before_the_end(&mut self, shared: &Shared) -> Result<bool, Failure> {
        if self.written == shared.waiters.durable() {
            return Ok(true);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("seal_before_sync")
            || braidlog_sabotage::is("end_of_segment_acks_before_its_sync")
            || braidlog_sabotage::is("durable_and_not_told_during_a_rotation")
        {
            return Ok(true);
        }
        self.sync(shared)?;
        Ok(false)
    }

    /// Whether a file with this much room is there to follow an aged segment. If none can be made, the segment
    /// ages anew: its own space is not given away, and a log that can go on in it has not failed.
    fn has_next(&mut self, shared: &Shared, need: u64) -> bool {
        if shared.space.has_prepared(need) {
            return true;
        }
        if shared.preparer.prepare(0).is_ok() {
            return shared.space.has_prepared(need);
        }
        let now = shared.clock.monotonic();
        self.segment.as_mut().expect("it is under the pen").age_from(now);
        shared.ages_since.store(now.as_nanos() as u64 + 1, Relaxed);
        false
    }

    /// Begins the next segment, with room for `need` bytes of rounds.
    fn begin_segment(&mut self, shared: &Shared, need: u64) -> Result<(), Failure> {
        let base = self.written.next();
        let prepared = loop {
            if let Some(prepared) = shared.space.take(need) {
                break prepared;
            }
            shared.with_space(|| shared.preparer.prepare(0)).map_err(|error| {
                Failure::new(FailedOperation::NextSegment, &SegmentName(base).to_string(), error)
            })?;
        };
        let header = SegmentHeader {
            log_id: self.header.log_id,
            incarnation: self.header.incarnation,
            salt: self.header.next_salt(prepared.earlier),
            base,
            predecessor: self.predecessor,
            recycled: prepared.earlier.is_some(),
            created_at_ns: shared.clock.wall_ns(),
            user_metadata: self.header.user_metadata,
            open_from: self.open.from(),
        };
        #[cfg(braidlog_sabotage)]
        let header = match header {
            header if braidlog_sabotage::is("open_from_too_high") => {
                SegmentHeader { open_from: header.open_from.map(|_| base.prev()), ..header }
            }
            header => header,
        };
        let segment = Segment::begin(shared, prepared, &header, self.replaces_empty)?;
        self.replaces_empty = false;
        shared.counters.recycled.fetch_add(u64::from(header.recycled), Relaxed);
        shared.pen_base.store(base.0, Relaxed);
        shared.ages_since.store(0, Relaxed);
        self.segment = Some(segment);
        self.extend_segment(shared, need)?;
        shared.wake_writers(); // The gate may have been closed while no file was under the pen.
        shared.jobs.ask_chore(); // There may be one segment more than is to be kept.
        Ok(())
    }

    /// Gives the segment under the pen space for `need` bytes of rounds. Only a frame larger than a whole
    /// segment comes to this, and its space was admitted in some file; here it is in the right one.
    fn extend_segment(&mut self, shared: &Shared, need: u64) -> Result<(), Failure> {
        let segment = self.segment.as_mut().expect("a segment is under the pen");
        shared.flight.settle()?;
        segment.extend(shared, need)?;
        tell_room(shared, segment);
        Ok(())
    }

    /// Tries to begin a segment if none is under the pen and a prepared file is there.
    pub(crate) fn begin_if_prepared(&mut self, shared: &Shared) -> Stepped {
        self.guarded(shared, |this| {
            if this.segment.is_some() || !shared.space.has_prepared(0) {
                return Ok(Stepped::default());
            }
            this.begin_segment(shared, 0)?;
            Ok(Stepped { progress: true, gap: false })
        })
    }

    /// Syncs and seals the segment under the pen. What stands there beyond the durable LSN is a mark, or the log closes.
    fn end_segment(&mut self, shared: &Shared) -> Result<(), Failure> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("seal_before_sync") {
            self.segment.as_ref().expect("a segment is under the pen").write_seal(
                shared,
                self.last_timestamp_ns,
                &self.open.in_doubt(),
            )?;
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("end_of_segment_acks_before_its_sync") {
            shared.waiters.advance(self.written);
        }
        self.sync(shared)?;
        let segment = self.segment.as_mut().expect("a segment is under the pen");
        segment.seal(shared, self.last_timestamp_ns, &self.open.in_doubt())?;
        if let Some(predecessor) = segment.as_predecessor(true) {
            self.predecessor = Some(predecessor);
            shared.counters.rotations.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Makes everything written durable, and says so.
    fn sync(&mut self, shared: &Shared) -> Result<(), Failure> {
        let segment = self.segment.as_mut().expect("what is written is in a segment");
        if segment.synced_offset() == segment.offset() {
            return Ok(());
        }
        shared.flight.settle()?;
        shared.tell_written(); // They need not wait for the sync.
        shared.committers.sync_begins(self.written);
        let before = shared.clock.monotonic();
        shared.sync_began.store(before.as_nanos() as u64, Relaxed);
        shared.counters.sync_since.store(before.as_nanos() as u64 + 1, Relaxed);
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("ack_before_sync") {
            shared.waiters.advance(self.written);
            shared.committers.call_satisfied(shared.committers.last_sync());
        }
        let synced = segment.sync(shared.settings.sync_method);
        #[cfg(braidlog_sabotage)]
        let synced = match synced {
            Err(_) if braidlog_sabotage::is("failed_sync_tried_again") => {
                segment.sync(shared.settings.sync_method)
            }
            synced => synced,
        };
        shared.counters.sync_since.store(0, Relaxed);
        synced?;
        let took = shared.clock.monotonic().saturating_sub(before);
        shared.counters.sync_latency.record(took);
        let records = self.written.0 - shared.waiters.durable().0;
        shared.counters.syncs.fetch_add(1, Relaxed);
        shared.counters.records_synced.fetch_add(records, Relaxed);
        shared.waiters.advance(self.written);
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("watermark_of_what_was_drawn") {
            shared.waiters.advance(shared.lsns.last());
        }
        // A thread that leads does what the background thread sleeps through: it must know that a mark is owed
        // and that the segment ages.
        shared.signal.synced();
        Ok(())
    }

    /// Encodes one round, `first` and what follows it up to a gap or the limits, and writes it or has it written.
    fn write_round(&mut self, shared: &Shared, first: Option<Next>, want: Want) -> Result<(), Failure> {
        let segment = self.segment.as_mut().expect("room was made");
        let timestamp_ns = self.last_timestamp_ns.max(shared.clock.wall_ns());
        #[cfg(braidlog_sabotage)]
        let timestamp_ns = match timestamp_ns {
            _ if braidlog_sabotage::is("clock_set_back_believed") => shared.clock.wall_ns(),
            timestamp_ns => timestamp_ns,
        };
        let start = segment.offset();
        self.pen.begin(start);
        let mark = SyncMark { durable_lsn: shared.waiters.durable(), synced_offset: segment.synced_offset() };
        #[cfg(braidlog_sabotage)]
        let mark = match mark {
            _ if braidlog_sabotage::is("mark_of_unsynced_rounds") => {
                SyncMark { durable_lsn: self.written, synced_offset: start }
            }
            SyncMark { durable_lsn, .. } if braidlog_sabotage::is("mark_tells_too_little") => {
                SyncMark { durable_lsn, synced_offset: (segment.synced_offset() - BLOCK_LEN).max(BLOCK_LEN) }
            }
            mark => mark,
        };
        shared.marked.store(mark.durable_lsn.0, Relaxed);

        let target = Arc::clone(segment.target());
        let frontier = Arc::clone(segment.frontier());
        let mut sink = |buffer: &mut AlignedBuf, filled: usize, offset: u64| {
            frontier.take_over(offset + filled as u64);
            shared.flight.hand_over(shared, &target, buffer, filled, offset)
        };
        let salt = segment.salt();
        let next_lsn = self.written.next();
        self.pen.put_mark(salt, next_lsn, timestamp_ns, Kind::SYNC_MARK, &mark.encode(), &mut sink)?;

        // A segment that is over its size already goes on because its successor is late: no limit then.
        let size_max = match &first {
            Some(next) if start + next.body_len() + ROUND_OVERHEAD > shared.settings.segment_size => u64::MAX,
            _ => shared.settings.segment_size,
        };
        // With its pad a round of common frames fills the buffer and no more: one write.
        let length_max = ROUND_MIN.max(self.pen.capacity() as u64) - ENTRY_HEADER_LEN;
        let end_max = (start + length_max)
            .min(size_max - ROUND_OVERHEAD)
            .min((start + segment.room_behind(start)).saturating_sub(ROUND_OVERHEAD));
        let mut given_back = 0;
        let mut alone = false;
        let mut next = first;
        let mut more = false;
        while let Some(frame) = next {
            let encode = Encode { pen: &mut self.pen, open: &mut self.open, timestamp_ns, salt };
            match frame {
                Next::InRing { stripe, frame } => {
                    let ring = shared.stripes.get(stripe);
                    encode.frame(segment, frame.lsn, frame.body_len, &mut sink, |at, out| {
                        ring.read_body(&frame, at, out)
                    })?;
                    self.merge.pass(&shared.stripes, stripe, &frame);
                }
                Next::Boxed { .. } => {
                    let frame = self.merge.take_boxed();
                    shared.counters.overflow_appends.fetch_add(1, Relaxed);
                    let body = &frame.body;
                    encode.frame(segment, frame.lsn, body.len() as u64, &mut sink, |at, out| {
                        out.copy_from_slice(&body[at as usize..at as usize + out.len()]);
                    })?;
                    alone |= shared.stripes.exceeds_budget(body.len() as u64);
                    given_back += frame.cost;
                }
            }
            self.appends += 1;
            let end = self.pen.offset();
            next = self.merge.peek(&shared.stripes);
            more = next.is_some();
            next = next.filter(|next| end + next.body_len() <= end_max);
        }
        let written = self.merge.next_lsn().prev();
        self.pen.pad(salt, written.next(), timestamp_ns, &mut sink)?;
        let end = self.pen.offset();
        segment.move_pen(end, shared.clock.monotonic());
        // The gate closes, if it must, before writers get space: see `space`.
        tell_room(shared, segment);
        if alone {
            // Not before: the gate would open on room that this frame has taken.
            shared.space.release_alone();
        }
        if given_back > 0 {
            shared.stripes.give_back(given_back);
        }
        // Writers that wait for a ring are woken when there is room for many records, or when the role is
        // given up: woken after each of many rounds in a row they would only fill what little is free.
        let roomy = self.merge.release(&shared.stripes) && shared.stripes.is_half_empty();
        if roomy || given_back > 0 {
            shared.wake_writers();
        }
        // Who waits for a small round, or for nothing but this one, writes it without a hand-over.
        let is_large = self.pen.filled() >= self.pen.capacity() / HAND_OVER_SHARE;
        if is_large && (more || want == Want::Drain) {
            self.pen.flush(&mut sink)?;
        } else {
            self.pen.flush(&mut |buffer, filled, offset| {
                frontier.take_over(offset + filled as u64);
                target.write(shared, &buffer[..filled], offset)
            })?;
        }

        if end - start <= SMALL_ROUND && segment.frontier().wants_zeros() {
            shared.jobs.ask_zeros(segment.frontier());
        }
        shared.prepare_ahead();
        self.last_timestamp_ns = timestamp_ns;
        self.written = written;
        if let Some(since) = segment.first_written() {
            shared.ages_since.store(since.as_nanos() as u64 + 1, Relaxed);
        }
        shared.handed_over.store(written.0, Relaxed);
        shared.flight.round_ends(shared, written);
        shared.counters.rounds.fetch_add(1, Relaxed);
        shared.counters.bytes.fetch_add(end - start, Relaxed);
        Ok(())
    }
}

/// Tells the space ledger what the segment under the pen has left.
fn tell_room(shared: &Shared, segment: &Segment) {
    let offset = segment.offset();
    shared
        .space
        .set_current(segment.room_behind(offset), shared.settings.segment_size.saturating_sub(offset));
}

impl HeaderConstants {
    /// The next salt, another than the file had before: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn next_salt(&mut self, earlier: Option<EarlierLife>) -> Salt {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("one_salt_for_all_segments") {
            return Salt(1);
        }
        self.salts = self.salts.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.salts;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let salt = (z ^ (z >> 31)) as u32;
        let is_taken = earlier.is_some_and(|earlier| earlier.salt.0 == salt);
        Salt(salt.wrapping_add(u32::from(is_taken)))
    }
}

/// What encoding a frame needs beside the segment.
struct Encode<'a> {
    pen: &'a mut Pen,
    open: &'a mut OpenTransactions,
    timestamp_ns: u64,
    salt: Salt,
}

impl Encode<'_> {
    /// Encodes a frame's entries; `read` copies from its body.
    fn frame(
        self,
        segment: &mut Segment,
        first: Lsn,
        body_len: u64,
        sink: &mut Sink<'_>,
        read: impl Fn(u64, &mut [u8]),
    ) -> Result<(), Failure> {
        let Encode { pen, open, timestamp_ns, salt } = self;
        let mut note = |header: &[u8; ENTRY_HEADER_LEN as usize], lsn, at| {
            let kind = EntryHeader::kind_unplaced(header);
            if OpenTransactions::concerns(kind) {
                let len = u64::from(EntryHeader::payload_len_unplaced(header));
                open.note(kind, lsn, len, |mark| read(at + ENTRY_HEADER_LEN, mark));
            }
        };
        let start = pen.offset();
        let mut lsn = first;
        let mut at = 0;
        let mut checksum = 0;
        if let Some(mut body) = pen.room(body_len) {
            while at < body_len {
                // Completed before it is stored: reading back what was just copied would wait for the copy.
                let mut header = [0; ENTRY_HEADER_LEN as usize];
                read(at, &mut header);
                checksum = EntryHeader::place(&mut header, lsn, timestamp_ns, salt, start + at);
                segment.note_entry(lsn, start + at);
                note(&header, lsn, at);
                let len = entry_len(u64::from(EntryHeader::payload_len_unplaced(&header)));
                let (entry, rest) = body.split_at_mut(len as usize);
                let (head, payload) =
                    entry.split_first_chunk_mut().expect("an entry is longer than its header");
                *head = header;
                read(at + ENTRY_HEADER_LEN, payload);
                body = rest;
                at += len;
                lsn = lsn.next();
            }
        }
        // A frame that does not fit in what is left of the buffer, piece by piece.
        while at < body_len {
            let offset = pen.offset();
            let mut header = [0; ENTRY_HEADER_LEN as usize];
            read(at, &mut header);
            checksum = EntryHeader::place(&mut header, lsn, timestamp_ns, salt, offset);
            segment.note_entry(lsn, offset);
            note(&header, lsn, at);
            pen.put(&header, sink)?;
            at += ENTRY_HEADER_LEN;
            let rest = padded_len(u64::from(EntryHeader::payload_len_unplaced(&header)));
            pen.put_with(rest, sink, |piece| {
                read(at, piece);
                at += piece.len() as u64;
            })?;
            lsn = lsn.next();
        }
        segment.note_last(LastEntry { lsn: lsn.prev(), timestamp_ns, checksum });
        Ok(())
    }
}
