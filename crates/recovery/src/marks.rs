//! What stands behind the byte at which a scan stopped: sync marks and seals that vouch for it, bytes that nothing
//! vouches for, or nothing of this life of the file.
//!
//! The rule: only an entry that is right in every field vouches for anything. A frame copied into a payload is
//! none: its checksum is seeded with the place and the segment that it was written for.
//!
//! # Recycled files
//! Behind the end of a recycled file's life stand bytes of an earlier one. So there only an entry whose header proves
//! itself, and whose LSN this life can have given, is taken for something that a crash left.

use braidlog_format::{
    BLOCK_LEN, ENTRY_ALIGN, ENTRY_HEADER_LEN, Entry, EntryHeader, Flags, Kind, Lsn, SegmentHeader,
};

use crate::RecoveryError;
use crate::scan::{Found, Position, check_mark};
use crate::seal::{self, SealFacts};
use crate::window::Window;

/// What stands behind a failing offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Behind {
    /// Where what a crash left ends, from the failing offset on: behind the last byte that is not zero; in a recycled
    /// file behind the last entry of this life. `None` if there is nothing.
    pub(crate) left_to: Option<u64>,
    /// The last LSN that was durable when something behind was written that also says that the failing
    /// offset was synced; `None` if nothing says so.
    pub(crate) vouched: Option<Lsn>,
    /// Every byte before this offset was synced, says the one that vouches for most; 0 if none does.
    pub(crate) synced_offset: u64,
}

impl Behind {
    /// What is known behind a failing offset that something seen earlier vouches for.
    pub(crate) fn vouching_for(stopped: &Position) -> Behind {
        Behind { vouched: Some(stopped.next.prev()), ..Behind::default() }
    }

    /// The bytes that a cut takes away, from the end of what is kept to the end of what a crash left.
    pub(crate) fn cut_bytes(&self, stopped: &Position) -> u64 {
        // Between the last whole batch and the failing offset stand entries, which go too.
        self.left_to.unwrap_or(stopped.offset).saturating_sub(stopped.kept().end)
    }
}

/// A round or a seal behind a damaged place, from which a scan can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Restart {
    /// Where it stands.
    pub(crate) offset: u64,
    /// The next LSN there.
    pub(crate) next: Lsn,
}

/// Reads all that follows the place where a scan stopped.
pub(crate) fn look_behind(
    window: &mut Window,
    header: &SegmentHeader,
    stopped: &Position,
) -> Result<Behind, RecoveryError> {
    Ok(Seen::from(window, header, stopped.offset)?.behind(stopped))
}

/// Looks behind one place of a file after another, going forward, and reads what is there once: a file that nobody writes, and
/// that may have a hole in every block.
#[derive(Debug, Default)]
pub(crate) struct Lookout(Option<Seen>);

impl Lookout {
    /// As [`look_behind`]; no place lies before the first one that was asked for.
    pub(crate) fn look_behind(
        &mut self,
        window: &mut Window,
        header: &SegmentHeader,
        stopped: &Position,
    ) -> Result<Behind, RecoveryError> {
        let seen = match self.0.take() {
            Some(seen) => seen,
            None => Seen::from(window, header, stopped.offset)?,
        };
        Ok(self.0.insert(seen).behind(stopped))
    }
}

/// What stands in a file from some offset on.
#[derive(Debug, Default)]
struct Seen {
    /// Where the last thing begins that a crash left, and where they all end.
    left: Option<(u64, u64)>,
    /// What vouches, but for what another one covers: so it is one as a rule, the last.
    vouching: Vec<Vouching>,
}

impl Seen {
    fn from(window: &mut Window, header: &SegmentHeader, offset: u64) -> Result<Seen, RecoveryError> {
        let mut seen = Seen::default();
        let mut at = offset;
        while at < window.len() {
            let next = next_block(at);
            window.fill(at, next - at)?;
            let block = window.at(at);
            let block = block.get(..(next - at) as usize).unwrap_or(block);
            if let Some(last) = last_nonzero(block) {
                let recycled = header.recycled;
                #[cfg(braidlog_sabotage)]
                let recycled = recycled && !braidlog_sabotage::is("recycled_flag_ignored");
                let left = if recycled {
                    last_of_this_life(window, header, at, next)?
                } else {
                    let last = at + last as u64;
                    Some((last, last + 1))
                };
                if let Some((start, end)) = left {
                    let end_before = seen.left.map_or(0, |(_, end)| end);
                    seen.left = Some((start, end.max(end_before)));
                }
                if at > offset
                    && let Some(evidence) = evidence_at(window, header, at)?
                {
                    seen.note(Vouching::of(&evidence));
                }
            }
            at = next;
        }
        Ok(seen)
    }

    fn note(&mut self, new: Vouching) {
        if !self.vouching.iter().any(|known| new.is_covered_by(known)) {
            self.vouching.retain(|known| !known.is_covered_by(&new));
            self.vouching.push(new);
        }
    }

    /// What it says of a place. What vouches for one stands behind it.
    fn behind(&self, stopped: &Position) -> Behind {
        let left_to = self.left.filter(|(start, _)| *start >= stopped.offset).map(|(_, end)| end);
        let mut behind = Behind { left_to, ..Behind::default() };
        for vouching in self.vouching.iter().filter(|vouching| vouching.covers(stopped)) {
            behind.vouched = behind.vouched.max(Some(vouching.durable));
            behind.synced_offset = behind.synced_offset.max(vouching.synced_offset);
        }
        behind
    }
}

/// Where the last entry of a recycled file's present life begins and ends, of those that begin between `at` and `next`; `None`
/// if none does. Only headers are looked at: a crash may have left an entry without its payload.
fn last_of_this_life(
    window: &mut Window,
    header: &SegmentHeader,
    at: u64,
    next: u64,
) -> Result<Option<(u64, u64)>, RecoveryError> {
    window.fill(at, next - at + ENTRY_HEADER_LEN)?;
    let len = window.len();
    let bytes = window.at(at);
    let mut last = None;
    for offset in (at..next).step_by(ENTRY_ALIGN as usize) {
        let Some(head) = bytes.get((offset - at) as usize..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        // The LSN first: of all that stands there, hardly anything gets past it.
        if is_of_this_life(header, len, EntryHeader::stored_lsn(head))
            && let Ok(found) = EntryHeader::decode(head, header.salt, offset)
        {
            last = Some((offset, offset.saturating_add(found.entry_len()).min(len)));
        }
    }
    Ok(last)
}

/// Whether the present life of a file of `len` bytes can have given this LSN, or named it as the next: those of
/// earlier lives lie below its base, and each that it gave took a header.
pub(crate) fn is_of_this_life(header: &SegmentHeader, len: u64, lsn: Lsn) -> bool {
    lsn >= header.base && lsn.0 - header.base.0 <= len / ENTRY_HEADER_LEN
}

/// The first round or seal behind the place where a scan stopped, from which it can go on.
pub(crate) fn find_restart(
    window: &mut Window,
    header: &SegmentHeader,
    stopped: &Position,
) -> Result<Option<Restart>, RecoveryError> {
    let mut at = next_block(stopped.offset);
    while at < window.len() {
        if let Some(evidence) = evidence_at(window, header, at)?
            && evidence.next() >= stopped.next
        {
            return Ok(Some(Restart { offset: at, next: evidence.next() }));
        }
        at = next_block(at);
    }
    Ok(None)
}

/// The first entry behind the place where a scan stopped that proves itself and may stand there, in a segment that ends with
/// the LSN `last`. Whatever stands between was something else, of which the LSNs between were.
pub(crate) fn find_entry(
    window: &mut Window,
    stopped: &Position,
    last: Lsn,
) -> Result<Option<Found>, RecoveryError> {
    let mut offset = stopped.offset.saturating_add(ENTRY_ALIGN);
    while offset < window.len() {
        window.fill(offset, ENTRY_HEADER_LEN)?;
        let Some(bytes) = window.at(offset).first_chunk() else { break };
        let lsn = EntryHeader::stored_lsn(bytes);
        // The LSN first: of all that stands there, hardly anything gets past it.
        if lsn >= stopped.next
            && lsn <= last.next()
            && let Ok(header) = EntryHeader::decode(bytes, stopped.salt, offset)
            && header.timestamp_ns >= stopped.timestamp_ns
            && is_believed(window, stopped, offset, &header)?
        {
            return Ok(Some(Found { header, offset }));
        }
        offset = offset.saturating_add(ENTRY_ALIGN);
    }
    Ok(None)
}

/// Whether an entry behind the place where a scan stopped, whose header proves itself, is one. A checksum alone fits by chance
/// once in 2^32 places: so either the payload proves itself too, or the LSN is one that as many bytes can have taken.
fn is_believed(
    window: &mut Window,
    stopped: &Position,
    offset: u64,
    header: &EntryHeader,
) -> Result<bool, RecoveryError> {
    let need = header.entry_len();
    if offset.saturating_add(need) > window.len() {
        return Ok(false);
    }
    if header.lsn.0 - stopped.next.0 <= (offset - stopped.offset) / ENTRY_HEADER_LEN {
        return Ok(true);
    }
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("header_behind_damage_believed") {
        return Ok(true);
    }
    window.fill(offset, need)?;
    Ok(Entry::decode(window.at(offset), stopped.salt, offset).is_ok())
}

/// An entry that says something about the bytes before it.
enum Evidence {
    Mark { next: Lsn, durable: Lsn, synced_offset: u64 },
    Seal(Box<SealFacts>),
}

impl Evidence {
    /// The next LSN where it stands.
    fn next(&self) -> Lsn {
        match self {
            Evidence::Mark { next, .. } => *next,
            Evidence::Seal(facts) => facts.last_lsn.next(),
        }
    }

    /// The last LSN that it knows to be durable.
    fn durable(&self) -> Lsn {
        match self {
            Evidence::Mark { durable, .. } => *durable,
            Evidence::Seal(facts) => facts.last_lsn,
        }
    }

    /// Every byte before this offset was synced before it was written.
    fn synced_offset(&self) -> u64 {
        match self {
            Evidence::Mark { synced_offset, .. } => *synced_offset,
            Evidence::Seal(facts) => facts.offset,
        }
    }
}

/// What an entry says that vouches for others.
#[derive(Clone, Copy, Debug)]
struct Vouching {
    next: Lsn,
    durable: Lsn,
    synced_offset: u64,
}

impl Vouching {
    fn of(evidence: &Evidence) -> Vouching {
        let (next, durable) = (evidence.next(), evidence.durable());
        Vouching { next, durable, synced_offset: evidence.synced_offset() }
    }

    /// Whether it says that the byte at which the scan stopped was synced. One that denies what the scan has
    /// read, or that the segment before was complete, says nothing.
    fn covers(&self, stopped: &Position) -> bool {
        self.synced_offset > stopped.offset
            && self.durable >= stopped.base.prev()
            && self.next >= stopped.next
    }

    /// Whether another one covers whatever this one does, and says no less of it.
    fn is_covered_by(&self, other: &Vouching) -> bool {
        self.next <= other.next && self.durable <= other.durable && self.synced_offset <= other.synced_offset
    }
}

fn evidence_at(
    window: &mut Window,
    header: &SegmentHeader,
    at: u64,
) -> Result<Option<Evidence>, RecoveryError> {
    window.fill(at, ENTRY_HEADER_LEN)?;
    let Some(bytes) = window.at(at).first_chunk() else { return Ok(None) };
    let Ok(found) = EntryHeader::decode(bytes, header.salt, at) else { return Ok(None) };
    match found.kind {
        Kind::SEAL => Ok(seal::at(window, header, at)?.map(|facts| Evidence::Seal(Box::new(facts)))),
        Kind::SYNC_MARK
            if found.flags == Flags::NONE && found.lsn >= header.base && found.lsn <= Lsn::MAX =>
        {
            window.fill(at, found.entry_len().min(BLOCK_LEN))?;
            let mark = Entry::decode(window.at(at), header.salt, at).and_then(|entry| check_mark(&entry, at));
            Ok(mark.ok().map(|mark| Evidence::Mark {
                next: found.lsn,
                durable: mark.durable_lsn,
                synced_offset: mark.synced_offset,
            }))
        }
        _ => Ok(None),
    }
}

fn next_block(offset: u64) -> u64 {
    (offset - offset % BLOCK_LEN).saturating_add(BLOCK_LEN)
}

/// The index of the last byte that is not zero. Almost all blocks asked about are zeros, so that is looked
/// at first, many bytes at a time.
fn last_nonzero(block: &[u8]) -> Option<usize> {
    if block.chunks(64).all(|chunk| chunk.iter().fold(0, |all, &byte| all | byte) == 0) {
        return None;
    }
    block.iter().rposition(|&byte| byte != 0)
}
