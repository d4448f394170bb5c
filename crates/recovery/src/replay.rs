//! A log's history: every entry that takes an LSN, in LSN order, streamed from the segments.
//!
//! The rule: everything is checked before it is lent, and nothing is skipped but what the log itself says was given up. Each entry proves itself and
//! follows the one before it; at a segment's end its last entry must be the one that the next segment's header
//! names. All LSNs up to the end of the range were durable when the range was asked for, so a place that
//! cannot be read is damage; before it is called that, header and bytes are read again through the name, and
//! the manifest is asked whether the log was truncated meanwhile.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{EntryHeader, IndexPoint, Lsn, LsnRange, Place, SEGMENT_HEADER_LEN, SegmentHeader};
use braidlog_storage::{IO_ALIGN, LogDir};

use crate::ahead::{Ahead, Next, ReadAhead};
use crate::chain::header_in;
use crate::dir::{self, segment_name};
use crate::index::{Indexes, Passed};
use crate::pins::Pin;
use crate::progress::Teller;
use crate::scan::{Found, Position, Scan, Step, Stop};
use crate::seal;
use crate::tail::cause_of;
use crate::window::{STREAM_LEN, Window};
use crate::{Damage, DamageCause, Loss, Manifest, Progress, RecordRef, RecoveryError};

use planned::AtPart;

pub(crate) mod planned;

/// A range of at most this many records is read with a buffer of [`FEW_LEN`].
const FEW: u64 = 64;
/// Bytes of the buffer for a few records: about the step of a sparse index.
const FEW_LEN: usize = 64 << 10;
/// The most bytes that are read at once for them where an index knows how many are needed.
const SPAN_MAX: usize = 4 * FEW_LEN;

/// Streams the records of an LSN range, in order, one open file at a time, with a buffer of about 1 MiB (more
/// only while a record is read that is larger).
///
/// After an error it ends.
#[derive(Debug)]
pub(crate) struct History {
    dir: Arc<dyn LogDir>,
    indexes: Arc<Indexes>,
    /// The base LSNs of the segments that were known when somebody last looked, in order.
    bases: Arc<[Lsn]>,
    /// The next record to give.
    next: Lsn,
    /// The last record to give.
    to: Lsn,
    /// Bytes of the buffer.
    capacity: usize,
    open: Option<Open>,
    /// How much may be read ahead, once that is worth it.
    may: Option<ReadAhead>,
    /// What is read ahead.
    ahead: Option<Ahead>,
    /// Bytes that were passed in segments before the open one.
    passed: u64,
    /// Who is told how far this has come.
    teller: Option<Teller>,
    /// The segment and offset where bytes were last read again through the name.
    looked_again: Option<(Lsn, u64)>,
    /// LSNs that were given up and passed.
    losses: Vec<Loss>,
    /// Keeps the segment that is being read from a truncation by this process.
    pin: Option<Pin>,
    /// Whether the end of the range may move on: what is open stays so there.
    follows: bool,
    /// Of a damaged log: what a policy keeps of it.
    planned: Option<AtPart>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    scan: Scan,
    header: SegmentHeader,
    /// The base of the next segment, if one is known.
    successor: Option<Lsn>,
    /// Records up to this LSN are in this segment and in the range.
    quick_to: Lsn,
    /// Where reading began.
    entered_at: u64,
    /// Nothing before this offset was read ahead.
    ask_at: u64,
    /// The places of the records that are passed over, in a segment without a seal.
    passed_over: Option<Passed>,
}

impl Open {
    /// Bytes that were passed in this segment.
    fn passed(&self) -> u64 {
        self.scan.at.offset.saturating_sub(self.entered_at)
    }

    /// Takes `successor` for the base of the next segment, in a range that ends with `to`.
    fn follow(&mut self, successor: Option<Lsn>, to: Lsn) {
        self.successor = successor;
        self.quick_to = successor.map_or(to, |successor| successor.prev().min(to));
    }
}

impl History {
    /// The records from `from` to `to`, all of which are durable; `pin` stands at `from`.
    pub(crate) fn new(
        dir: &Arc<dyn LogDir>,
        indexes: &Arc<Indexes>,
        bases: Arc<[Lsn]>,
        from: Lsn,
        to: Lsn,
        pin: Option<Pin>,
    ) -> History {
        let next = from.max(Lsn::FIRST);
        let capacity = capacity_for(next, to);
        History {
            dir: Arc::clone(dir),
            indexes: Arc::clone(indexes),
            bases,
            next,
            to,
            capacity,
            open: None,
            may: None,
            ahead: None,
            passed: 0,
            teller: None,
            looked_again: None,
            losses: Vec::new(),
            pin,
            follows: false,
            planned: None,
        }
    }

    /// The records from `from` on, none of which may be shown yet: [`show`](History::show) lets them.
    pub(crate) fn following(dir: &Arc<dyn LogDir>, indexes: &Arc<Indexes>, from: Lsn, pin: Pin) -> History {
        History { follows: true, ..History::new(dir, indexes, Arc::new([]), from, from.prev(), Some(pin)) }
    }

    /// Moves the end of the range on to `to`, which is durable by now.
    ///
    /// What lay behind the old end when it was read may have been written since, and is read anew.
    pub(crate) fn show(&mut self, to: Lsn) -> Result<(), RecoveryError> {
        self.to = to;
        self.capacity = capacity_for(self.next, to);
        if let Some(open) = &mut self.open {
            open.follow(open.successor, to);
            open.scan.window.renew(self.capacity)?;
        }
        Ok(())
    }

    /// The LSN of the last record to give.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.to
    }

    /// LSNs of the range that were given up, as far as the reader has come: they were passed over.
    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Lets other threads read and check ahead of this one, once the range has turned out to be long. Records
    /// and errors are the same.
    pub(crate) fn read_ahead(mut self, how: ReadAhead) -> History {
        self.may = (how.threads > 1).then_some(how);
        self
    }

    /// Tells how far it has come, about once for each MiB and at the end.
    pub(crate) fn progress(mut self, how: Progress) -> History {
        self.teller = Some(Teller::begin(how, self.next.prev(), self.to));
        self
    }

    /// The record that was given last, or the last LSN that was given up behind it and passed; before the first one, the
    /// one before the range. Who has applied it goes on behind it another time.
    pub(crate) fn applied_to(&self) -> Lsn {
        self.next.prev()
    }

    /// Bytes of segments that were read, headers of entries included.
    pub(crate) fn passed_bytes(&self) -> u64 {
        self.passed.saturating_add(self.open.as_ref().map_or(0, Open::passed))
    }

    /// The records from `from` to `to`, of the log that this reads, which it has read or could have read.
    pub(crate) fn again(&self, from: Lsn, to: Lsn) -> Result<History, RecoveryError> {
        if let Some(at) = &self.planned {
            return Ok(at.again(&self.dir, from, to));
        }
        let pin = self.pin.as_ref().map(|pin| pin.another(from)).transpose();
        let pin = pin.map_err(|first_lsn| RecoveryError::Truncated { first_lsn })?;
        Ok(History::new(&self.dir, &self.indexes, Arc::clone(&self.bases), from, to, pin))
    }

    /// Ends the range here.
    pub(crate) fn end(&mut self) {
        self.to = Lsn::ZERO;
        self.is_over();
    }

    /// The file that is being read.
    pub(crate) fn file(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.scan.window.name())
    }

    /// Tells of LSNs that were given up, if that was not told yet: somebody met them who read again.
    pub(crate) fn tell_losses(&mut self, losses: &[Loss]) {
        for loss in losses {
            if !self.losses.contains(loss) {
                self.losses.push(loss.clone());
            }
        }
    }

    /// Goes to the next record; `None` at the end of the range.
    #[inline]
    pub(crate) fn find_next(&mut self) -> Result<Option<Found>, RecoveryError> {
        match self.advance_quickly() {
            Some(found) => Ok(Some(found)),
            None => self.advance(),
        }
    }

    /// The record that was found last.
    #[inline]
    pub(crate) fn lend(&self, found: &Found) -> RecordRef<'_> {
        let content = self.open.as_ref().map(|open| open.scan.content(found));
        let (fields, payload) = content.unwrap_or_default();
        RecordRef::new(&found.header, fields, payload)
    }

    /// The next record, if it is a user's and follows in the window. `None` decides nothing: [`advance`](History::advance) does.
    #[inline]
    pub(crate) fn advance_quickly(&mut self) -> Option<Found> {
        let open = self.open.as_mut()?;
        let at = &open.scan.at;
        if at.next != self.next || at.next > open.quick_to {
            return None;
        }
        let found = open.scan.step_quickly().filter(|found| found.header.kind.is_user())?;
        self.next = open.scan.at.next;
        Some(found)
    }

    /// The next record, wherever it is; `None` at the end of the range.
    #[cold]
    #[inline(never)]
    pub(crate) fn advance(&mut self) -> Result<Option<Found>, RecoveryError> {
        let (passed, applied_to) = (self.passed_bytes(), self.applied_to());
        if let Some(teller) = self.teller.as_mut().filter(|teller| teller.is_due(passed)) {
            teller.tell(passed, applied_to);
        }
        let advanced = self.look_for_next().map_err(|error| self.unless_truncated(error));
        if advanced.is_err() {
            self.to = Lsn::ZERO;
        }
        let is_over = match &advanced {
            Ok(Some(_)) => false,
            Ok(None) => !self.follows,
            Err(_) => true,
        };
        if is_over {
            self.is_over();
        }
        advanced
    }

    /// That there is nothing more to give.
    fn is_over(&mut self) {
        self.passed = self.passed_bytes();
        if let Some(mut teller) = self.teller.take() {
            teller.tell(self.passed, self.applied_to());
        }
        self.open = None;
        self.ahead = None;
        self.may = None;
        self.pin = None;
    }

    /// What is wrong with the next record, unless the log does not hold it any more: its file may be gone, or be another
    /// segment's by now. The manifest said so before anything happened to the file.
    fn unless_truncated(&self, error: RecoveryError) -> RecoveryError {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("truncation_told_as_damage") {
            return error;
        }
        match Manifest::load(&self.dir) {
            Ok(Manifest { log_start, .. }) if self.next < log_start => {
                RecoveryError::Truncated { first_lsn: log_start }
            }
            _ => error,
        }
    }

    fn look_for_next(&mut self) -> Result<Option<Found>, RecoveryError> {
        if self.planned.is_some() {
            return self.look_in_parts();
        }
        loop {
            if self.next > self.to {
                return Ok(None);
            }
            let Some(open) = &mut self.open else {
                if self.bases.is_empty() {
                    self.relist()?;
                }
                let entered = match self.enter_by_index(self.next)? {
                    Some(entered) => entered,
                    None => self.open_at(self.next)?,
                };
                self.open = Some(entered);
                self.move_pin();
                continue;
            };
            if open.successor == Some(open.scan.at.next) {
                self.passed = self.passed.saturating_add(open.passed());
                let next = self.cross()?;
                #[cfg(braidlog_sabotage)]
                if self.follows && braidlog_sabotage::is("seam_between_segments_skipped") {
                    self.next = next.header.base.next();
                }
                self.open = Some(next);
                self.move_pin();
                continue;
            }
            // Records before the first one that is wanted are passed over by their headers: damage to a
            // payload there does not concern the caller.
            let wanted = open.scan.at.next >= self.next;
            if wanted {
                if let Some(passed) = open.passed_over.take() {
                    self.indexes.keep_passed(&open.header, passed);
                }
                if open.scan.at.offset >= open.ask_at {
                    self.take_ahead();
                }
            }
            let Some(open) = &mut self.open else { continue };
            match if wanted { open.scan.step()? } else { open.scan.step_over()? } {
                Step::Entry(found) if wanted && found.header.kind.takes_lsn() => {
                    self.next = open.scan.at.next;
                    return Ok(Some(found));
                }
                Step::Entry(found) => {
                    if let Some(passed) = open.passed_over.as_mut().filter(|_| found.header.kind.takes_lsn())
                    {
                        passed.note(found.header.lsn, found.offset);
                    }
                    if let Some(loss) = open.scan.loss(&found) {
                        self.pass_loss(loss)?;
                    }
                }
                Step::Stop(stop) => self.stopped(stop)?,
            }
        }
    }

    /// Goes on behind LSNs that were given up.
    fn pass_loss(&mut self, loss: Loss) -> Result<(), RecoveryError> {
        let Some(open) = &self.open else { return Ok(()) };
        let at = &open.scan.at;
        if let (Some(successor), Some(last)) = (open.successor, at.last)
            && at.next > successor
        {
            let lsns = LsnRange { first: successor, last: successor.prev() };
            let name = open.scan.window.name();
            return Err(RecoveryError::damaged(name, last.offset, lsns, DamageCause::LastEntryDiffers));
        }
        if at.next > self.next {
            self.next = at.next;
            self.losses.push(loss);
        }
        Ok(())
    }

    /// Lets go of the segments before the open one.
    fn move_pin(&mut self) {
        #[cfg(braidlog_sabotage)]
        if self.follows && braidlog_sabotage::is("subscription_lets_go_of_what_it_has_not_given") {
            self.pin = None;
        }
        if let Some(pin) = &mut self.pin {
            pin.move_to(self.next);
        }
    }

    /// Goes on in what was read ahead, if a run begins here; starts to read ahead when that has become worth it.
    fn take_ahead(&mut self) {
        let Some(open) = &mut self.open else { return };
        let passed = self.passed.saturating_add(open.passed());
        if let Some(how) = self.may.take_if(|how| passed >= how.after_bytes) {
            self.ahead = Some(Ahead::start(&self.dir, &self.bases, &open.scan.at, self.to, how));
            // For a header, and for what cannot be read ahead.
            self.capacity = FEW_LEN;
        }
        let Some(ahead) = &self.ahead else { return };
        match ahead.next(&open.scan.at) {
            Next::Run(run) => {
                open.ask_at = run.to;
                ahead.give_back(open.scan.take(run));
            }
            Next::NotBefore(offset) => open.ask_at = offset,
            Next::Over => self.ahead = None,
        }
    }

    /// Opens the segment that holds `lsn` where an index that is in memory knows it, with one read; `None` if there is no
    /// such index, or it does not prove itself.
    fn enter_by_index(&mut self, lsn: Lsn) -> Result<Option<Open>, RecoveryError> {
        let behind = self.bases.partition_point(|&base| base <= lsn);
        let base = behind.checked_sub(1).and_then(|index| self.bases.get(index)).copied();
        let Some(place) = base.and_then(|base| self.indexes.place_of(base, lsn)) else { return Ok(None) };
        let Place { header, from, .. } = place;
        // What the range needs of this segment, from block to block, and no more at once than pays.
        let to = self.indexes.place_of(header.base, self.to).map_or(u64::MAX, |last| last.to);
        let span = usize::try_from(to.saturating_sub(from.offset)).unwrap_or(usize::MAX);
        let span_max = if self.capacity == FEW_LEN { SPAN_MAX } else { STREAM_LEN };
        let capacity = (span.min(span_max) + IO_ALIGN).next_multiple_of(IO_ALIGN);
        let mut window = match Window::open(&self.dir, &segment_name(header.base), capacity) {
            Ok(window) => window,
            Err(RecoveryError::Damaged(_)) => return Ok(None),
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut at = Position::first_of(&header);
        let from = window.packed().map_or(from, |packed| packed.later_of(from, lsn));
        if !seek(&mut window, from, &mut at)? {
            return Ok(None);
        }
        let mut open = Open {
            scan: Scan::at(window, at),
            header,
            successor: None,
            quick_to: Lsn::ZERO,
            entered_at: at.offset,
            ask_at: 0,
            passed_over: Passed::within(&place),
        };
        open.follow(self.bases.get(behind).copied(), self.to);
        Ok(Some(open))
    }

    /// Opens the segment that holds `lsn`, at the nearest place before it that the seal's index knows.
    fn open_at(&mut self, lsn: Lsn) -> Result<Open, RecoveryError> {
        let mut relisted = false;
        loop {
            let behind = self.bases.partition_point(|&base| base <= lsn);
            let successor = self.bases.get(behind).copied();
            let last = successor.map_or(self.to, Lsn::prev);
            let base = behind.checked_sub(1).and_then(|index| self.bases.get(index)).copied();
            let opened = base.map(|base| (base, Window::open(&self.dir, &segment_name(base), self.capacity)));
            let (base, mut window) = match opened {
                Some((base, Ok(window))) => (base, window),
                Some((_, Err(RecoveryError::Io { source, .. }))) if source.kind() == ErrorKind::NotFound => {
                    if relisted {
                        return Err(missing(lsn, last));
                    }
                    self.relist()?;
                    relisted = true;
                    continue;
                }
                // Of a packed segment that cannot be opened.
                Some((base, Err(RecoveryError::Damaged(damage)))) => {
                    let lsns = LsnRange { first: base, last };
                    return Err(RecoveryError::Damaged(Damage { lsns, ..damage }));
                }
                Some((_, Err(error))) => return Err(error),
                None => return Err(missing(lsn, last)),
            };
            let header = header_in(&mut window)?.expect(window.name(), base, last)?;
            let mut at = Position::first_of(&header);
            let passed_over = if lsn > base { self.seek(&mut window, &header, lsn, &mut at)? } else { None };
            let mut open = Open {
                scan: Scan::at(window, at),
                header,
                successor: None,
                quick_to: Lsn::ZERO,
                entered_at: at.offset,
                ask_at: 0,
                passed_over,
            };
            open.follow(successor, self.to);
            return Ok(open);
        }
    }

    /// Moves `at` to the last place before `lsn` that is known: by the seal, which is kept in memory then, or else by what
    /// was passed over before. Gives what is to be noted of what is passed over now.
    fn seek(
        &self,
        window: &mut Window,
        header: &SegmentHeader,
        lsn: Lsn,
        at: &mut Position,
    ) -> Result<Option<Passed>, RecoveryError> {
        let first = IndexPoint { lsn: header.base, offset: at.offset };
        if let Some(facts) = seal::at_end(window, header)? {
            let behind = facts.index.partition_point(|point| point.lsn <= lsn);
            let point = behind.checked_sub(1).and_then(|index| facts.index.get(index)).copied();
            let point = point.filter(|point| point.offset < facts.offset).unwrap_or(first);
            let point = window.packed().map_or(point, |packed| packed.later_of(point, lsn));
            seek(window, point, at)?;
            self.indexes.keep(header, facts.index, facts.offset);
            return Ok(None);
        }
        let known = self.indexes.last_before(header, lsn);
        let point = known.unwrap_or(first);
        let point = window.packed().map_or(point, |packed| packed.later_of(point, lsn));
        seek(window, point, at)?;
        Ok(Some(Passed::behind(known)))
    }

    /// Goes on in the next segment, whose header must name the last entry that was read.
    fn cross(&mut self) -> Result<Open, RecoveryError> {
        let Some(Open { scan, .. }) = &self.open else { return self.open_at(self.next) };
        let (at, name) = (scan.at, scan.window.name().to_owned());
        let opened = self.open_at(at.next)?;
        let named = opened.header.predecessor.filter(|named| named.base == at.base);
        let Some(named) = named else {
            let lsns = LsnRange { first: at.next, last: at.next.prev() };
            let name = opened.scan.window.name();
            return Err(RecoveryError::damaged(name, 0, lsns, DamageCause::Unlinked));
        };
        if let Some(last) = at.last {
            let lsns = LsnRange { first: last.lsn, last: last.lsn };
            if last.differs_from(&named) {
                return Err(RecoveryError::damaged(name, last.offset, lsns, DamageCause::LastEntryDiffers));
            }
            if at.batch_open {
                return Err(RecoveryError::damaged(name, last.offset, lsns, DamageCause::BatchCut));
            }
        }
        Ok(opened)
    }

    /// The scan cannot go on and the range does: either the log does so elsewhere, or the place has to be
    /// looked at again, or it is damaged.
    fn stopped(&mut self, stop: Stop) -> Result<(), RecoveryError> {
        self.relist()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(passed) = open.passed_over.take() {
            self.indexes.keep_passed(&open.header, passed);
        }
        let at = open.scan.at;
        let behind = self.bases.partition_point(|&base| base <= open.header.base);
        open.follow(self.bases.get(behind).copied(), self.to);
        if open.successor == Some(at.next) {
            return Ok(());
        }
        let name = open.scan.window.name().to_owned();
        if self.looked_again != Some((open.header.base, at.offset)) {
            self.looked_again = Some((open.header.base, at.offset));
            return self.look_again(&name, at);
        }
        let lsns = LsnRange { first: at.next, last: open.successor.map_or(self.to, Lsn::prev) };
        match (stop, open.successor) {
            (Stop::Newer(what), _) => Err(RecoveryError::Newer { file: name, offset: at.offset, what }),
            (Stop::Seal(_), None) => Err(missing(at.next, self.to)),
            (stop, _) => {
                let cause = cause_of(&open.scan.window, &stop, &at);
                Err(RecoveryError::damaged(name, at.offset, lsns, cause))
            }
        }
    }

    /// Reads the place at which the scan stopped again, from the file that has the name now.
    fn look_again(&mut self, name: &str, at: Position) -> Result<(), RecoveryError> {
        let mut window = match Window::open_device(&self.dir, name, self.capacity) {
            Ok(window) => window,
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                self.open = None;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(open) = &mut self.open else { return Ok(()) };
        let header = header_in(&mut window)?.expect(window.name(), at.base, self.to)?;
        // A file that was replaced held no LSN, so the one in its place is read from its beginning.
        let at = if header.salt == at.salt { at } else { Position::first_of(&header) };
        open.scan = Scan::at(window, at);
        open.header = header;
        Ok(())
    }

    fn relist(&mut self) -> Result<(), RecoveryError> {
        self.bases = bases(&self.dir)?;
        Ok(())
    }
}

/// How large a buffer reads these records with as few reads, and as little beside them, as pays.
fn capacity_for(next: Lsn, to: Lsn) -> usize {
    if to.0.saturating_sub(next.0) < FEW { FEW_LEN } else { STREAM_LEN }
}

/// The base LSNs of the segments that stand in the directory now, in order; those that it loses meanwhile may be among them.
///
/// A listing is not made at one moment. It has every name that is there from its beginning to its end, and of a name that
/// comes or goes meanwhile nobody knows. A writer that packs a segment gives it a second name and then takes the first one: one
/// listing may miss both. Each later one has the second name, and a segment that such a later one misses had its first name
/// all through the one before. So two listings in a row together have every segment that is there all the time, and so do any
/// two in the middle of truncations, which only take away, and of a rotation, whose new segment whoever reads to the end of the
/// last known one looks for again.
pub(crate) fn bases(dir: &Arc<dyn LogDir>) -> Result<Arc<[Lsn]>, RecoveryError> {
    let mut files = dir::list(dir)?.segments;
    files.extend(dir::list(dir)?.segments);
    let mut bases: Vec<Lsn> = files.iter().map(|file| file.base).collect();
    bases.sort_unstable();
    bases.dedup();
    Ok(bases.into())
}

fn missing(first: Lsn, last: Lsn) -> RecoveryError {
    RecoveryError::damaged(segment_name(first), 0, LsnRange { first, last }, DamageCause::FileMissing)
}

/// Moves `at`, which is the beginning of a segment, to a place in it, if the entry there proves itself; whether it does.
fn seek(window: &mut Window, point: IndexPoint, at: &mut Position) -> Result<bool, RecoveryError> {
    if point.lsn < at.base || point.offset < SEGMENT_HEADER_LEN {
        return Ok(false);
    }
    window.fill(point.offset, braidlog_format::ENTRY_HEADER_LEN)?;
    let entry = window.at(point.offset).first_chunk();
    let proved = entry.and_then(|bytes| EntryHeader::decode(bytes, at.salt, point.offset).ok());
    // The frame of a packed segment may begin with an entry that takes none, and carries the next one.
    let is_proved = proved.is_some_and(|entry| entry.lsn == point.lsn);
    if is_proved {
        at.offset = point.offset;
        at.next = point.lsn;
    }
    Ok(is_proved)
}
