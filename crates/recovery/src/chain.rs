//! The segments of a log as a chain: each header belongs to its file name, to this log, and to the segment
//! before it.
//!
//! The rule: the next segment's header decides where a segment ends; a file that is missing, renamed, copied
//! or swapped breaks a link and is told. Headers are read, entries are not.

use std::sync::Arc;

use braidlog_format::checksum::crc32;
use braidlog_format::{
    BLOCK_LEN, DecodeError, Incarnation, LogId, Lsn, LsnRange, MAGIC, PackedName, Predecessor,
    SEGMENT_HEADER_LEN, SegmentHeader,
};
use braidlog_storage::LogDir;

use crate::dir::{Listing, SegmentFile, segment_name};
use crate::verdict::{Facts, HeaderFact, Place, StopFact, Verdict, judge};
use crate::window::Window;
use crate::{Damage, DamageCause, ForeignFile, RecoveryError, flip};

/// A segment with a valid header that belongs where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    /// Bytes of the file on the disk when it was listed.
    pub(crate) len: u64,
    /// Bytes of the file as it was before it was packed; the same, if it is not.
    pub(crate) plain_len: u64,
    pub(crate) header: SegmentHeader,
    pub(crate) end: End,
}

impl Segment {
    /// Whether it is packed.
    pub(crate) fn is_packed(&self) -> bool {
        PackedName::parse(&self.name).is_some()
    }
}

/// Where a segment ends, as far as the others know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It is the last one.
    Open,
    /// The next header names its last entry.
    Named(Predecessor),
    /// The next file's name says which LSN is its last; that file's header is damaged.
    Before(Lsn),
    /// The next file is missing.
    Unknown,
}

impl End {
    /// The last LSN of the segment, if somebody names it.
    pub(crate) fn last(&self) -> Option<Lsn> {
        match self {
            End::Open | End::Unknown => None,
            End::Named(named) => Some(named.last),
            End::Before(next) => Some(next.prev()),
        }
    }
}

/// The segments of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chain {
    /// In LSN order.
    pub(crate) segments: Vec<Segment>,
    /// The base LSN of a last file whose header was never written.
    pub(crate) not_started: Option<Lsn>,
}

/// Where damage goes: recovery stops at the first, a verification collects.
pub(crate) type OnDamage<'a> = dyn FnMut(Damage) -> Result<(), RecoveryError> + 'a;

/// An [`OnDamage`] that stops at the first.
pub(crate) fn refuse(damage: Damage) -> Result<(), RecoveryError> {
    Err(RecoveryError::Damaged(damage))
}

/// Reads the headers of all segments from the log start on and checks the chain. Files below `start` are no part
/// of the log, whatever they hold. Of `known` segments, read earlier from the same directory, those that hold an
/// LSN are not read again: no file that holds one is ever replaced.
pub(crate) fn inspect(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    start: Lsn,
    known: &[Segment],
    on_damage: &mut OnDamage<'_>,
) -> Result<Chain, RecoveryError> {
    let mut chain = Chain::default();
    let mut before: Option<SegmentFile> = None;
    let mut files = listing.segments_from(start).iter().peekable();
    // A log is cut at a segment that is there.
    if start > Lsn::FIRST && files.peek().is_none() {
        on_damage(missing(start, Lsn::MAX.next()))?;
    }
    while let Some(file) = files.next() {
        let next_base = files.peek().map(|next| next.base);
        let known = known
            .binary_search_by_key(&file.base, |segment| segment.header.base)
            .ok()
            .and_then(|index| known.get(index))
            .filter(|segment| matches!(segment.end, End::Named(_)) && next_base.is_some())
            .filter(|segment| segment.name == file.name());
        let (header, plain_len) = match known {
            Some(segment) => (HeaderFound::Valid(Box::new(segment.header)), segment.plain_len),
            None => read_header(dir, *file)?,
        };
        let place = if next_base.is_some() { Place::Earlier } else { Place::Last };
        // What the stop would be does not matter to a header's verdict.
        let facts =
            Facts { header: header.fact(), place, stop: StopFact::End, batch_open: false, vouched: false };
        let damage = match (judge(facts), header) {
            // That a log was cut here says that the header was there.
            (Verdict::Absent, _) if before.is_some() || start == Lsn::FIRST => {
                chain.not_started = Some(file.base);
                break;
            }
            (Verdict::Absent, _) => Some(DamageCause::HeaderMissing),
            // The next opening could not be told from this one.
            (_, HeaderFound::Valid(header)) if header.incarnation.0 == u64::MAX => {
                Some(DamageCause::Header(DecodeError::InvalidField { field: "incarnation" }))
            }
            (_, HeaderFound::Valid(header)) => {
                check_first_or_link(&mut chain, start, before, *file, &header, on_damage)?;
                if header.base == file.base {
                    let name = file.name();
                    let (header, end) = (*header, End::Open);
                    chain.segments.push(Segment { name, len: file.len, plain_len, header, end });
                    None
                } else {
                    Some(DamageCause::Misnamed { base: header.base })
                }
            }
            (_, HeaderFound::NotStarted) => Some(DamageCause::HeaderMissing),
            (_, HeaderFound::Invalid(error)) => Some(DamageCause::Header(error)),
            (_, HeaderFound::Unreadable(cause)) => Some(cause),
            (_, HeaderFound::Newer(what)) => {
                return Err(RecoveryError::Newer { file: file.name(), offset: 0, what });
            }
            (_, HeaderFound::Foreign(what)) => {
                return Err(RecoveryError::Foreign { file: file.name(), what });
            }
        };
        if let Some(cause) = damage {
            let last = next_base.map_or(Lsn::MAX, Lsn::prev);
            let lsns = LsnRange { first: file.base, last };
            on_damage(Damage { segment: file.name(), offset: 0, lsns, cause })?;
            if before.is_none() && file.base != start {
                on_damage(missing(start, file.base))?;
            }
            if let Some(last) = chain.segments.last_mut()
                && before.is_some_and(|before| before.base == last.header.base)
            {
                last.end = End::Before(file.base);
            }
        }
        before = Some(*file);
    }
    Ok(chain)
}

/// Checks a valid header against what stands before its file, and tells the segment before it where it ends.
fn check_first_or_link(
    chain: &mut Chain,
    start: Lsn,
    before: Option<SegmentFile>,
    file: SegmentFile,
    header: &SegmentHeader,
    on_damage: &mut OnDamage<'_>,
) -> Result<(), RecoveryError> {
    if let Some(first) = chain.segments.first()
        && first.header.log_id != header.log_id
    {
        let what = ForeignFile::LogId { found: header.log_id, expected: first.header.log_id };
        return Err(RecoveryError::Foreign { file: file.name(), what });
    }
    if header.base != file.base {
        return Ok(());
    }
    let Some(before) = before else {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("log_start_not_checked") {
            return Ok(());
        }
        return if file.base == start { Ok(()) } else { on_damage(missing(start, file.base)) };
    };
    let last = chain.segments.last_mut().filter(|last| last.header.base == before.base);
    let incarnation = last.as_ref().map_or(Incarnation(0), |last| last.header.incarnation);
    match header.predecessor {
        Some(named) if named.base == before.base && header.incarnation >= incarnation => {
            if let Some(last) = last {
                last.end = End::Named(named);
            }
            Ok(())
        }
        Some(named) if named.base > before.base => {
            if let Some(last) = last {
                last.end = End::Unknown;
            }
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("missing_segment_passed_over") {
                return Ok(());
            }
            on_damage(missing(named.base, file.base))
        }
        _ => {
            if let Some(last) = last {
                last.end = End::Unknown;
            }
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("link_not_checked") {
                return Ok(());
            }
            let lsns = LsnRange { first: file.base, last: file.base.prev() };
            on_damage(Damage { segment: file.name(), offset: 0, lsns, cause: DamageCause::Unlinked })
        }
    }
}

/// No file holds the LSNs from `first` up to the file with base `next`.
pub(crate) fn missing(first: Lsn, next: Lsn) -> Damage {
    Damage {
        segment: segment_name(first),
        offset: 0,
        lsns: LsnRange { first, last: next.prev() },
        cause: DamageCause::FileMissing,
    }
}

impl Chain {
    /// The last segment with a header.
    pub(crate) fn last(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// The identity of the log.
    pub(crate) fn log_id(&self) -> Option<LogId> {
        self.segments.first().map(|segment| segment.header.log_id)
    }

    /// Whether a file that was never started stands where the log, which goes on at `next`, will put its
    /// next segment.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] if it stands elsewhere: then records between are gone.
    pub(crate) fn check_not_started(&self, next: Lsn) -> Result<bool, RecoveryError> {
        match self.not_started {
            None => Ok(false),
            Some(base) if base == next => Ok(true),
            Some(base) => {
                let lsns = LsnRange { first: next.min(base), last: next.max(base).prev() };
                let name = segment_name(base);
                Err(RecoveryError::damaged(name, 0, lsns, DamageCause::HeaderMissing))
            }
        }
    }
}

/// What the first block of a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFound {
    Valid(Box<SegmentHeader>),
    /// The file is shorter than the block, or zero throughout.
    NotStarted,
    Invalid(DecodeError),
    /// The segment is packed, and the file is damaged so that nothing of it can be had.
    Unreadable(DamageCause),
    Newer(DecodeError),
    Foreign(ForeignFile),
}

impl HeaderFound {
    fn fact(&self) -> HeaderFact {
        match self {
            HeaderFound::Valid(_) => HeaderFact::Valid,
            HeaderFound::NotStarted => HeaderFact::NotStarted,
            HeaderFound::Invalid(_) | HeaderFound::Unreadable(_) => HeaderFact::Invalid,
            HeaderFound::Newer(_) => HeaderFact::Newer,
            HeaderFound::Foreign(_) => HeaderFact::Foreign,
        }
    }
}

impl HeaderFound {
    /// The header of the segment with this base in the file of this name, which is needed for the LSNs up to `last`.
    ///
    /// # Errors
    /// Whatever else the block is.
    pub(crate) fn expect(self, file: &str, base: Lsn, last: Lsn) -> Result<SegmentHeader, RecoveryError> {
        let file = file.to_owned();
        let cause = match self {
            HeaderFound::Valid(header) if header.base == base => return Ok(*header),
            HeaderFound::Valid(header) => DamageCause::Misnamed { base: header.base },
            HeaderFound::NotStarted => DamageCause::HeaderMissing,
            HeaderFound::Invalid(error) => DamageCause::Header(error),
            HeaderFound::Unreadable(cause) => cause,
            HeaderFound::Newer(what) => return Err(RecoveryError::Newer { file, offset: 0, what }),
            HeaderFound::Foreign(what) => return Err(RecoveryError::Foreign { file, what }),
        };
        Err(RecoveryError::damaged(file, 0, LsnRange { first: base, last }, cause))
    }
}

/// Reads a segment's header, and how long its file is when it is not packed.
fn read_header(dir: &Arc<dyn LogDir>, file: SegmentFile) -> Result<(HeaderFound, u64), RecoveryError> {
    let mut window = match Window::open(dir, &file.name(), SEGMENT_HEADER_LEN as usize) {
        Ok(window) => window,
        Err(RecoveryError::Damaged(damage)) => return Ok((HeaderFound::Unreadable(damage.cause), file.len)),
        Err(error) => return Err(error),
    };
    let plain_len = if window.packed().is_some() { window.len() } else { file.len };
    Ok((header_in(&mut window)?, plain_len))
}

/// The header of a segment that is open.
pub(crate) fn header_in(window: &mut Window) -> Result<HeaderFound, RecoveryError> {
    window.fill(0, SEGMENT_HEADER_LEN)?;
    let bytes = window.at(0);
    let Some(block) = bytes.first_chunk::<{ SEGMENT_HEADER_LEN as usize }>() else {
        let begun = bytes.iter().zip(MAGIC).take_while(|(byte, magic)| **byte == *magic).count();
        return match bytes.first_chunk::<4>() {
            // A header that was cut short begins as one does; whatever else is this short is none of ours.
            Some(found) if begun < MAGIC.len() && bytes.iter().any(|&byte| byte != 0) => {
                Ok(HeaderFound::Foreign(ForeignFile::Magic { found: *found }))
            }
            _ => Ok(HeaderFound::NotStarted),
        };
    };
    let error = match SegmentHeader::decode(block) {
        Ok(header) => return Ok(HeaderFound::Valid(Box::new(header))),
        Err(error) => error,
    };
    if block.iter().all(|&byte| byte == 0) {
        return Ok(if is_zero_throughout(window)? {
            HeaderFound::NotStarted
        } else {
            HeaderFound::Invalid(error)
        });
    }
    // One flipped bit in the magic or the version must not make a segment look foreign or newer.
    let computed = crc32(block.split_last_chunk::<4>().map_or(&[], |(checked, _)| checked));
    let found = block.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if flip::find(found, computed, SEGMENT_HEADER_LEN - 4).is_some() {
        return Ok(HeaderFound::Invalid(DecodeError::HeaderChecksum { found, computed }));
    }
    Ok(match error {
        DecodeError::ForeignMagic { found: [0, 0, 0, 0] } => HeaderFound::Invalid(error),
        DecodeError::ForeignMagic { found } => HeaderFound::Foreign(ForeignFile::Magic { found }),
        error if error.is_newer() => HeaderFound::Newer(error),
        error => HeaderFound::Invalid(error),
    })
}

fn is_zero_throughout(window: &mut Window) -> Result<bool, RecoveryError> {
    let mut at = 0;
    while at < window.len() {
        window.fill(at, BLOCK_LEN)?;
        let bytes = window.at(at);
        if bytes.is_empty() {
            break;
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at = at.saturating_add(bytes.len() as u64);
    }
    Ok(true)
}
