//! The seal at the end of a segment: found from the file's end, without a scan.
//!
//! The rule: a seal is believed only if it proves itself and every field agrees with the segment's header.

use braidlog_format::{
    DecodeError, ENTRY_HEADER_LEN, Entry, EntryHeader, Flags, IndexPoint, Kind, Lsn, Predecessor, SealView,
    SegmentHeader,
};

use crate::RecoveryError;
use crate::flip::{self, Flipped};
use crate::marks::is_of_this_life;
use crate::window::Window;

const NOT_A_SEAL: DecodeError = DecodeError::InvalidField { field: "seal" };

/// What a segment's seal says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SealFacts {
    /// Where the seal starts.
    pub(crate) offset: u64,
    /// Where it ends.
    pub(crate) end: u64,
    /// The last LSN of the segment; the one before its base if it holds none.
    pub(crate) last_lsn: Lsn,
    /// The timestamp of the last entry that takes an LSN, in this or an earlier segment.
    pub(crate) last_timestamp_ns: u64,
    /// The header checksum of the last entry that takes an LSN here.
    pub(crate) last_checksum: u32,
    /// No entry of the segment is younger.
    pub(crate) timestamp_ns: u64,
    /// Transactions that are open at the end of the segment.
    pub(crate) in_doubt: Vec<u64>,
    /// The sparse index; its points are claims until what stands there proves itself.
    pub(crate) index: Vec<IndexPoint>,
}

impl SealFacts {
    /// What `entry` says, which stands at `offset` of the segment with this base.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is no seal or a field contradicts another.
    pub(crate) fn from_entry(entry: &Entry<'_>, offset: u64, base: Lsn) -> Result<SealFacts, DecodeError> {
        if entry.header.kind != Kind::SEAL || entry.header.flags != Flags::NONE {
            return Err(NOT_A_SEAL);
        }
        let view = SealView::decode(entry.payload)?;
        let next = view.last_lsn.0.checked_add(1);
        if next != Some(entry.header.lsn.0)
            || next != base.0.checked_add(view.count)
            || next > Some(Lsn::MAX.0)
        {
            return Err(NOT_A_SEAL);
        }
        Ok(SealFacts {
            offset,
            end: offset.saturating_add(entry.header.entry_len()),
            last_lsn: view.last_lsn,
            last_timestamp_ns: view.last_timestamp_ns,
            last_checksum: view.last_checksum,
            timestamp_ns: entry.header.timestamp_ns,
            in_doubt: view.in_doubt().collect(),
            index: view.index().collect(),
        })
    }

    /// Whether the next segment's header names this very end.
    pub(crate) fn agrees_with(&self, named: &Predecessor) -> bool {
        self.last_lsn == named.last
            && self.last_checksum == named.last_checksum
            && self.last_timestamp_ns == named.last_timestamp_ns
    }
}

/// The seal with which the file ends, if it ends with a valid one.
pub(crate) fn at_end(
    window: &mut Window,
    header: &SegmentHeader,
) -> Result<Option<SealFacts>, RecoveryError> {
    let Some(offset) = claimed_at(window)? else { return Ok(None) };
    at(window, header, offset)
}

/// The seal at `offset`, if a valid one stands there.
pub(crate) fn at(
    window: &mut Window,
    header: &SegmentHeader,
    offset: u64,
) -> Result<Option<SealFacts>, RecoveryError> {
    let Some(found) = proved_header(window, header, offset)? else { return Ok(None) };
    let need = found.entry_len();
    if found.kind != Kind::SEAL || window.fill(offset, need)? < need {
        return Ok(None);
    }
    let entry = Entry::decode(window.at(offset), header.salt, offset);
    Ok(entry.and_then(|entry| SealFacts::from_entry(&entry, offset, header.base)).ok())
}

/// Whether what stands at `offset`, where a scan stopped, was meant to be a seal: its first bytes or its
/// last ones say so. In a recycled file the last ones may be an earlier life's, and say nothing.
pub(crate) fn was_meant(
    window: &mut Window,
    header: &SegmentHeader,
    offset: u64,
) -> Result<bool, RecoveryError> {
    let len = window.len();
    let by_header = proved_header(window, header, offset)?.is_some_and(|found| {
        found.kind == Kind::SEAL && (!header.recycled || is_of_this_life(header, len, found.lsn))
    });
    Ok(by_header || (!header.recycled && claimed_at(window)? == Some(offset)))
}

/// Whether one flipped bit is all that is wrong with the seal that was meant to stand at `offset`. Then it
/// was written completely and damaged later; anything else may be a write that a crash interrupted, and so may
/// be a bit that is missing where a torn write can have left it out. In a recycled file a torn write leaves other
/// bytes, of which nobody can tell how many bits they were off.
pub(crate) fn was_flipped(
    window: &mut Window,
    header: &SegmentHeader,
    offset: u64,
) -> Result<bool, RecoveryError> {
    if header.recycled || !was_meant(window, header, offset)? {
        return Ok(false);
    }
    // Only a proved header may ask for more than itself.
    let need = proved_header(window, header, offset)?.map_or(ENTRY_HEADER_LEN, |found| found.entry_len());
    if window.fill(offset, need)? < need {
        return Ok(false);
    }
    let bytes = window.at(offset);
    let place = match Entry::decode(bytes, header.salt, offset) {
        Err(DecodeError::HeaderChecksum { found, computed }) => {
            // The header's own checksum stands amid the bytes that it checks.
            flip::find(found, computed, ENTRY_HEADER_LEN - 4).map(|flipped| match flipped {
                Flipped::Checked(byte) if byte < HEADER_CHECKSUM => byte,
                Flipped::Checked(byte) => byte.saturating_add(4),
                Flipped::Stored(byte) => HEADER_CHECKSUM.saturating_add(byte),
            })
        }
        Err(DecodeError::PayloadChecksum { found, computed }) => {
            // A header that proves itself has the checksum that was stored.
            match flip::find(found, computed, need.saturating_sub(ENTRY_HEADER_LEN)) {
                Some(Flipped::Checked(byte)) => Some(ENTRY_HEADER_LEN.saturating_add(byte)),
                Some(Flipped::Stored(_)) | None => None,
            }
        }
        _ => None,
    };
    // The checksum is seeded with the place: another entry, left here by a write that went astray or as an old block
    // of the device, can look as if a bit of it had flipped.
    let is_seal = place == Some(KIND) || bytes.get(KIND as usize) == Some(&Kind::SEAL.0);
    Ok(is_seal && place.is_some_and(|place| !may_be_unwritten(bytes, place)))
}

/// Where the kind of an entry stands in its header.
const KIND: u64 = 20;

/// Where the checksum of an entry's header stands in it.
const HEADER_CHECKSUM: u64 = 16;

/// Whether the byte at `place` may be wrong because it was never written: it is zero, as the file is ahead of its
/// pen, and so is all before or all behind it in its sector, of which a torn write leaves the beginning or the end.
fn may_be_unwritten(seal: &[u8], place: u64) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let sector = seal.chunks(SECTOR_LEN).nth(usize::try_from(place).unwrap_or(usize::MAX) / SECTOR_LEN);
    let parts = sector.and_then(|sector| sector.split_at_checked(place as usize % SECTOR_LEN));
    parts.is_some_and(|(before, from)| {
        from.split_first().is_some_and(|(byte, behind)| *byte == 0 && (is_zero(before) || is_zero(behind)))
    })
}

/// The least that a device writes at once, in bytes. A seal begins at a block, and so at a sector.
const SECTOR_LEN: usize = 512;

/// Where the last four bytes of the file say that its seal starts.
fn claimed_at(window: &mut Window) -> Result<Option<u64>, RecoveryError> {
    let Some(trailer) = window.len().checked_sub(4) else { return Ok(None) };
    window.fill(trailer, 4)?;
    Ok(window.at(trailer).first_chunk::<4>().and_then(|bytes| SealView::locate(window.len(), *bytes)))
}

/// The entry header at `offset`, if one proves itself there.
fn proved_header(
    window: &mut Window,
    header: &SegmentHeader,
    offset: u64,
) -> Result<Option<EntryHeader>, RecoveryError> {
    window.fill(offset, ENTRY_HEADER_LEN)?;
    let bytes = window.at(offset).first_chunk();
    Ok(bytes.and_then(|bytes| EntryHeader::decode(bytes, header.salt, offset).ok()))
}
