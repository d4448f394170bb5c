//! Verifying a log: everything is read, nothing is changed, every damaged place is told.
//!
//! The rule: a problem is what a crash cannot have done. Behind a damaged payload the check goes on at once,
//! for the header tells where the next entry stands; behind a damaged header it goes on at the next sync mark,
//! which tells the next LSN.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{EntryHeader, Flags, Lsn, LsnRange, Predecessor};
use braidlog_storage::{FileAccess, FileIo, LogDir};

use crate::chain::{self, Chain, End, HeaderFound, Segment, header_in};
use crate::marks::{Behind, find_restart, look_behind};
use crate::scan::{Scan, Step, Stop};
use crate::tail::cause_of;
use crate::verdict::{Facts, Place, Verdict, judge};
use crate::window::{STREAM_LEN, Window};
use crate::{Damage, DamageCause, RecoveryError, dir, seal};

/// How far a verification has come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Name of the segment that is being read.
    pub segment: String,
    /// Segments that are done.
    pub segments_done: usize,
    /// Segments in all.
    pub segments_total: usize,
    /// Bytes read until now.
    pub bytes_done: u64,
    /// Bytes of all segments, space allocated ahead included; more than will be read.
    pub bytes_total: u64,
    /// Valid records until now.
    pub records: u64,
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments of the log.
    pub segments: usize,
    /// Valid records.
    pub records: u64,
    /// Whole batches; a record on its own is a batch of one.
    pub batches: u64,
    /// Bytes of entries that were read and checked.
    pub bytes: u64,
    /// The first LSN of the log.
    pub first_lsn: Lsn,
    /// The last LSN of a whole batch that was found valid, [`Lsn::ZERO`] if there is none.
    pub last_lsn: Lsn,
    /// Whether a writer held the log.
    pub live: bool,
    /// How the log ends.
    pub tail: VerifyTail,
    /// Every damaged place.
    pub problems: Vec<Problem>,
    /// What is lawful and worth knowing.
    pub warnings: Vec<Warning>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How a verified log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VerifyTail {
    /// There is no segment.
    Empty,
    /// A seal ends it.
    Sealed,
    /// A whole batch ends it, and nothing but zeros follows.
    Unsealed,
    /// Bytes follow that were never acknowledged; opening for writing will cut them.
    Torn,
    /// A writer is at work there.
    Live,
    /// The last segment is damaged, so that nobody knows.
    Damaged,
}

/// One damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Name of the segment file.
    pub segment: String,
    /// The file offset of the first byte that is not what it should be.
    pub offset: u64,
    /// The LSNs that cannot be had because of it; empty if no record is known to be lost.
    pub lsns: LsnRange,
    /// What is wrong there.
    pub what: DamageCause,
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Problem {
        let Damage { segment, offset, lsns, cause } = damage;
        Problem { segment, offset, lsns, what: cause }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { segment, offset, lsns, what } = self;
        Damage { segment: segment.clone(), offset: *offset, lsns: *lsns, cause: *what }.fmt(f)
    }
}

/// Something lawful that is worth knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The last segment ends with bytes that were never acknowledged; opening for writing cuts them.
    TornTail {
        /// Name of the segment.
        segment: String,
        /// Where the last whole batch ends.
        offset: u64,
        /// Bytes behind it, trailing zeros not counted.
        bytes: u64,
    },
    /// The last segment ends with bytes that were meant to be its seal: a crash interrupted the closing, or
    /// something damaged it afterwards. No record is lost, and opening for writing cuts them.
    UnfinishedSeal {
        /// Name of the segment.
        segment: String,
        /// Where the seal starts.
        offset: u64,
    },
    /// A name that means nothing here.
    UnknownFile {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::TornTail { segment, offset, bytes } => {
                write!(f, "{segment} has {bytes} bytes behind offset {offset} that were never acknowledged")
            }
            Warning::UnfinishedSeal { segment, offset } => {
                write!(f, "{segment} has no complete seal at offset {offset}; no record is lost")
            }
            Warning::UnknownFile { name } => write!(f, "{name} is no file of the log"),
        }
    }
}

/// Reads the whole log and checks every byte that means something, past the page cache where the file
/// system can. It never writes; the last segment of a log that nobody writes is synced.
///
/// `progress` is called about once for each MiB.
///
/// # Errors
/// [`RecoveryError::Newer`], [`RecoveryError::Foreign`] and [`RecoveryError::Io`]: what keeps the log from
/// being read at all. Damage is in the report.
pub fn verify(
    dir: &Arc<dyn LogDir>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let live = dir.is_locked().map_err(RecoveryError::io("query", "LOCK"))?;
    let (chain, problems, unknown) = inspect(dir, live)?;
    let mut check = Check {
        dir,
        progress,
        told_bytes: 0,
        segments_total: chain.segments.len(),
        segments_done: 0,
        bytes_total: chain.segments.iter().fold(0, |total: u64, segment| total.saturating_add(segment.len)),
        report: VerifyReport {
            segments: chain.segments.len(),
            records: 0,
            batches: 0,
            bytes: 0,
            first_lsn: Lsn::FIRST,
            last_lsn: Lsn::ZERO,
            live,
            tail: if problems.is_empty() { VerifyTail::Empty } else { VerifyTail::Damaged },
            problems,
            warnings: unknown.into_iter().map(|name| Warning::UnknownFile { name }).collect(),
        },
    };
    for segment in &chain.segments {
        check.tell(segment, true);
        check.segment(segment)?;
        check.segments_done += 1;
        check.tell(segment, true);
    }
    let mut report = check.report;
    if report.tail != VerifyTail::Damaged {
        match chain.check_not_started(report.last_lsn.next()) {
            Err(RecoveryError::Damaged(damage)) => report.problems.push(damage.into()),
            other => drop(other?),
        }
    }
    Ok(report)
}

/// The chain, what is wrong with it, and the names that mean nothing. Beside a writer a problem counts only if
/// it is found twice: a segment may be replaced between listing and reading.
fn inspect(dir: &Arc<dyn LogDir>, live: bool) -> Result<(Chain, Vec<Problem>, Vec<String>), RecoveryError> {
    let mut before: Option<Vec<Problem>> = None;
    let mut looks = 0;
    loop {
        looks += 1;
        let mut problems = Vec::new();
        let listing = dir::list(dir)?;
        let chain = chain::inspect(dir, &listing, &[], &mut |damage| {
            problems.push(Problem::from(damage));
            Ok(())
        });
        match chain {
            Ok(chain) if !live || problems.is_empty() || before.as_ref() == Some(&problems) => {
                return Ok((chain, problems, listing.unknown));
            }
            Ok(_) => before = Some(problems),
            Err(RecoveryError::Io { source, .. })
                if live && looks < LOOKS_MAX && source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// The most looks at the headers beside a writer.
const LOOKS_MAX: usize = 32;
/// Bytes between two calls of the progress function.
const TELL_BYTES: u64 = 1 << 20;

/// A verification at work.
struct Check<'a> {
    dir: &'a Arc<dyn LogDir>,
    progress: &'a mut dyn FnMut(VerifyProgress),
    told_bytes: u64,
    segments_total: usize,
    segments_done: usize,
    bytes_total: u64,
    report: VerifyReport,
}

impl Check<'_> {
    fn tell(&mut self, segment: &Segment, now: bool) {
        if now || self.report.bytes - self.told_bytes >= TELL_BYTES {
            self.told_bytes = self.report.bytes;
            (self.progress)(VerifyProgress {
                segment: segment.name.clone(),
                segments_done: self.segments_done,
                segments_total: self.segments_total,
                bytes_done: self.report.bytes,
                bytes_total: self.bytes_total,
                records: self.report.records,
            });
        }
    }

    fn problem(&mut self, segment: &Segment, offset: u64, lsns: LsnRange, what: DamageCause) {
        self.report.problems.push(Problem { segment: segment.name.clone(), offset, lsns, what });
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), RecoveryError> {
        let last = segment.end == End::Open;
        if last {
            self.report.tail = if self.report.live { VerifyTail::Live } else { VerifyTail::Damaged };
        }
        if last && !self.report.live {
            let name = segment.name.as_str();
            let file = self.dir.open(name, FileAccess::Read, FileIo::Buffered);
            let file = file.map_err(RecoveryError::io("open", name))?;
            file.sync_data().map_err(RecoveryError::io("sync", name))?;
        }
        let mut window = Window::open_device(self.dir, &segment.name, STREAM_LEN)?;
        match header_in(&mut window)? {
            HeaderFound::Valid(header) if *header == segment.header => {}
            // The writer replaced an empty segment since the headers were read.
            HeaderFound::Valid(_) if last && self.report.live => return Ok(()),
            found => {
                let last = segment.end.last().unwrap_or(Lsn::MAX);
                return match found.expect(segment.header.base, last) {
                    Err(RecoveryError::Damaged(damage)) => {
                        self.report.problems.push(damage.into());
                        Ok(())
                    }
                    other => other.map(drop),
                };
            }
        }
        let mut scan = Scan::new(window, &segment.header);
        if last {
            self.last_segment(segment, &mut scan)?
        } else {
            self.earlier_segment(segment, &mut scan)?
        }
        if let Some(kept) = scan.at.kept.last {
            self.report.last_lsn = self.report.last_lsn.max(kept.lsn);
        }
        Ok(())
    }

    /// Steps on while entries are valid, up to the one with the LSN `until`; why it stopped, if it did before.
    fn walk(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        until: Option<Lsn>,
    ) -> Result<Option<Stop>, RecoveryError> {
        while until.is_none_or(|until| scan.at.next <= until) {
            match scan.step()? {
                Step::Entry(found) => {
                    self.count(&found.header);
                    self.tell(segment, false);
                }
                Step::Stop(Stop::Newer(what)) => {
                    let file = segment.name.clone();
                    return Err(RecoveryError::Newer { file, offset: scan.at.offset, what });
                }
                Step::Stop(stop) => return Ok(Some(stop)),
            }
        }
        Ok(None)
    }

    fn count(&mut self, entry: &EntryHeader) {
        self.report.bytes = self.report.bytes.saturating_add(entry.entry_len());
        if entry.kind.takes_lsn() {
            self.report.records += 1;
            self.report.batches += u64::from(!entry.flags.contains(Flags::BATCH_CONTINUES));
        }
    }

    /// Goes on behind the damaged place at which the scan stands, which is told. Whether there is where to.
    fn pass(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        stop: &Stop,
        until: Option<Lsn>,
    ) -> Result<bool, RecoveryError> {
        let (offset, first) = (scan.at.offset, scan.at.next);
        let mut going_on = true;
        if let Stop::Invalid(_, Some(proved)) = stop {
            scan.skip(proved);
        } else if let Some(restart) = find_restart(&mut scan.window, &segment.header, &scan.at)? {
            scan.resume(restart.offset, restart.next);
        } else {
            going_on = false;
        }
        let last = match (going_on, until) {
            (true, Some(until)) => until.min(scan.at.next.prev()),
            (true, None) => scan.at.next.prev(),
            (false, until) => until.unwrap_or(first.prev()),
        };
        self.problem(segment, offset, LsnRange { first, last }, cause_of(stop));
        Ok(going_on)
    }

    fn earlier_segment(&mut self, segment: &Segment, scan: &mut Scan) -> Result<(), RecoveryError> {
        let until = segment.end.last();
        while let Some(stop) = self.walk(segment, scan, until)? {
            // Nobody knows where a segment before a missing one ends.
            let clean = matches!(stop, Stop::EndOfFile | Stop::Zeros(_) | Stop::Seal(_));
            if until.is_none() && clean && !scan.at.batch_open {
                return Ok(());
            }
            if matches!(stop, Stop::Seal(_)) {
                let lsns = LsnRange { first: scan.at.next, last: until.unwrap_or(scan.at.next.prev()) };
                self.problem(segment, scan.at.offset, lsns, DamageCause::EndsEarly);
                return Ok(());
            }
            if !self.pass(segment, scan, &stop, until)? {
                return Ok(());
            }
        }
        if let Some(last) = scan.at.last
            && scan.at.batch_open
        {
            let lsns = LsnRange { first: last.lsn, last: last.lsn };
            self.problem(segment, last.offset, lsns, DamageCause::BatchCut);
        }
        if let End::Named(named) = &segment.end {
            if let Some(last) = scan.at.last
                && last.lsn == named.last
                && (last.checksum != named.last_checksum || last.timestamp_ns != named.last_timestamp_ns)
            {
                let lsns = LsnRange { first: last.lsn, last: last.lsn };
                self.problem(segment, last.offset, lsns, DamageCause::LastEntryDiffers);
            }
            // Behind the last entry of a segment that a crash left without a seal, bytes are superseded.
            if named.sealed {
                self.seal_of(segment, scan, named)?;
            }
        }
        Ok(())
    }

    /// Checks what stands between the last record of an earlier segment and its seal, and the seal.
    fn seal_of(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        named: &Predecessor,
    ) -> Result<(), RecoveryError> {
        let nothing = LsnRange { first: named.last.next(), last: named.last };
        loop {
            let stop = self.walk(segment, scan, Some(named.last.next()))?;
            match stop {
                Some(Stop::Seal(facts)) if facts.agrees_with(named) && facts.end == scan.window.len() => {
                    self.report.bytes = self.report.bytes.saturating_add(facts.end - facts.offset);
                    return Ok(());
                }
                None | Some(Stop::Seal(_)) => {
                    self.problem(segment, scan.at.offset, nothing, DamageCause::Seal);
                    return Ok(());
                }
                Some(stop) => {
                    let offset = scan.at.offset;
                    let restart = find_restart(&mut scan.window, &segment.header, &scan.at)?;
                    let Some(restart) = restart.filter(|restart| restart.next == named.last.next()) else {
                        self.problem(segment, offset, nothing, DamageCause::Seal);
                        return Ok(());
                    };
                    self.problem(segment, offset, nothing, cause_of(&stop));
                    scan.resume(restart.offset, restart.next);
                }
            }
        }
    }

    fn last_segment(&mut self, segment: &Segment, scan: &mut Scan) -> Result<(), RecoveryError> {
        // Up to here something vouches for every byte.
        let mut vouched_offset = 0;
        let mut looked_again = None;
        while let Some(stop) = self.walk(segment, scan, None)? {
            let offset = scan.at.offset;
            let mut behind = Behind::default();
            if !matches!(stop, Stop::Seal(_) | Stop::EndOfFile) && offset >= vouched_offset {
                behind = look_behind(&mut scan.window, &segment.header, &scan.at)?;
                vouched_offset = behind.synced_offset;
            }
            if offset < vouched_offset && behind.vouched.is_none() {
                behind.vouched = Some(scan.at.next.prev());
            }
            let verdict = judge(Facts::of_stop(Place::Last, &stop, &behind, scan.at.batch_open));
            let (tail, dead) = match verdict {
                Verdict::Sealed => {
                    if let Stop::Seal(facts) = &stop {
                        self.report.bytes = self.report.bytes.saturating_add(facts.end - facts.offset);
                    }
                    self.report.tail = VerifyTail::Sealed;
                    return Ok(());
                }
                Verdict::CleanEnd => (VerifyTail::Unsealed, !self.report.live),
                Verdict::TornTail => (VerifyTail::Torn, !self.report.live),
                _ => (VerifyTail::Damaged, true),
            };
            if tail == VerifyTail::Damaged {
                if self.report.live && looked_again != Some(offset) {
                    looked_again = Some(offset);
                    if !self.look_again(segment, scan)? {
                        return Ok(());
                    }
                    continue;
                }
                if matches!(stop, Stop::Seal(_)) || !self.pass(segment, scan, &stop, None)? {
                    if matches!(stop, Stop::Seal(_)) {
                        let lsns = LsnRange { first: scan.at.next, last: scan.at.next.prev() };
                        self.problem(segment, offset, lsns, cause_of(&stop));
                    }
                    self.report.tail = VerifyTail::Damaged;
                    return Ok(());
                }
                continue;
            }
            if dead {
                self.report.tail = tail;
                self.dead_tail(segment, scan, tail, &behind)?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Tells how a last segment ends that nobody writes.
    fn dead_tail(
        &mut self,
        segment: &Segment,
        scan: &mut Scan,
        tail: VerifyTail,
        behind: &Behind,
    ) -> Result<(), RecoveryError> {
        let (offset, kept) = (scan.at.offset, scan.at.kept.end);
        if scan.at.batch_open || tail == VerifyTail::Unsealed {
            if tail == VerifyTail::Torn {
                let last = behind.last_nonzero.unwrap_or(offset.saturating_sub(1));
                let bytes = last.saturating_sub(kept).saturating_add(1);
                self.report.warnings.push(Warning::TornTail {
                    segment: segment.name.clone(),
                    offset: kept,
                    bytes,
                });
            }
            return Ok(());
        }
        if seal::was_flipped(&mut scan.window, &segment.header, offset)? {
            let lsns = LsnRange { first: scan.at.next, last: scan.at.next.prev() };
            self.problem(segment, offset, lsns, DamageCause::Seal);
        } else if seal::was_meant(&mut scan.window, &segment.header, offset)? {
            self.report.warnings.push(Warning::UnfinishedSeal { segment: segment.name.clone(), offset });
        } else {
            let bytes = behind.last_nonzero.map_or(0, |last| last.saturating_sub(kept).saturating_add(1));
            self.report.warnings.push(Warning::TornTail {
                segment: segment.name.clone(),
                offset: kept,
                bytes,
            });
        }
        Ok(())
    }

    /// Reads the failing place again through the name. Whether it is the same file still.
    fn look_again(&mut self, segment: &Segment, scan: &mut Scan) -> Result<bool, RecoveryError> {
        let mut window = match Window::open_device(self.dir, &segment.name, STREAM_LEN) {
            Ok(window) => window,
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let same = matches!(header_in(&mut window)?, HeaderFound::Valid(header) if *header == segment.header);
        scan.window = window;
        Ok(same)
    }
}
