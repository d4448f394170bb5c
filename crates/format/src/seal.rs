//! The seal: the last entry of a finished segment. It vouches for every byte before it.
//!
//! It starts on a block boundary, its payload runs to one, and the payload's last four bytes are its own
//! length: a reader finds it from the end of the file without walking the entries.

use crate::entry::{u32_at, u64_at};
use crate::{BLOCK_LEN, DecodeError, ENTRY_HEADER_LEN, Lsn};

/// The most sparse-index points that a seal carries, so that its size has a bound.
pub const INDEX_POINTS_MAX: usize = 1000;

/// The most transactions that are prepared and not decided at once, so that a seal that lists them has a bound.
pub const IN_DOUBT_MAX: usize = 1024;
/// In the place of an id in the list of those in doubt: there may be some that the list does not name.
pub const IN_DOUBT_UNKNOWN: u64 = 0;

const COUNT: usize = 0;
const LAST_LSN: usize = COUNT + 8;
const LAST_TIMESTAMP: usize = LAST_LSN + 8;
const LAST_CHECKSUM: usize = LAST_TIMESTAMP + 8;
const IN_DOUBT_COUNT: usize = LAST_CHECKSUM + 4;
const INDEX_COUNT: usize = IN_DOUBT_COUNT + 4;
const RESERVED: usize = INDEX_COUNT + 4;
const LISTS: usize = RESERVED + 4;
const TRAILER_LEN: usize = 4;

/// One point of the sparse index: an entry's place in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexPoint {
    /// The LSN of the entry.
    pub lsn: Lsn,
    /// The file offset of its header.
    pub offset: u64,
}

/// What a seal says, to be encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal<'a> {
    /// How many LSNs the segment holds.
    pub count: u64,
    /// The last of them; the LSN before the segment's base if it holds none.
    pub last_lsn: Lsn,
    /// The timestamp of the last entry that takes an LSN; in a segment that holds none, one that no earlier
    /// entry's exceeds.
    pub last_timestamp_ns: u64,
    /// The header checksum of the last entry that takes an LSN in this segment; 0 if it holds none.
    pub last_checksum: u32,
    /// Ids of transactions that are prepared and not decided at the end of the segment; [`IN_DOUBT_UNKNOWN`] if whoever writes the
    /// seal cannot tell them. At most [`IN_DOUBT_MAX`] are, in what this version's writer makes.
    pub in_doubt: &'a [u64],
    /// The sparse index, in LSN order; at most [`INDEX_POINTS_MAX`] points.
    pub index: &'a [IndexPoint],
}

/// Bytes of the payload of a seal with these many transactions in doubt and index points: it runs from the
/// header at a block boundary to the next boundary that leaves room for all.
pub const fn seal_len(in_doubt: usize, index_points: usize) -> u64 {
    let content = LISTS + 8 * in_doubt + 16 * index_points + TRAILER_LEN;
    (ENTRY_HEADER_LEN + content as u64).next_multiple_of(BLOCK_LEN) - ENTRY_HEADER_LEN
}

impl Seal<'_> {
    /// Bytes of this seal's payload.
    pub const fn payload_len(&self) -> u64 {
        seal_len(self.in_doubt.len(), self.index.len())
    }

    /// Writes the payload into `out`, which has [`Seal::payload_len`] bytes.
    ///
    /// # Panics
    /// If `out` has another length or there are more than [`INDEX_POINTS_MAX`] points.
    pub fn encode(&self, out: &mut [u8]) {
        assert_eq!(out.len() as u64, self.payload_len(), "the seal's buffer has its length");
        assert!(self.index.len() <= INDEX_POINTS_MAX, "the sparse index is bounded");
        out.fill(0);
        out[COUNT..LAST_LSN].copy_from_slice(&self.count.to_le_bytes());
        out[LAST_LSN..LAST_TIMESTAMP].copy_from_slice(&self.last_lsn.0.to_le_bytes());
        out[LAST_TIMESTAMP..LAST_CHECKSUM].copy_from_slice(&self.last_timestamp_ns.to_le_bytes());
        out[LAST_CHECKSUM..IN_DOUBT_COUNT].copy_from_slice(&self.last_checksum.to_le_bytes());
        out[IN_DOUBT_COUNT..INDEX_COUNT].copy_from_slice(&(self.in_doubt.len() as u32).to_le_bytes());
        out[INDEX_COUNT..RESERVED].copy_from_slice(&(self.index.len() as u32).to_le_bytes());
        let ids = self.in_doubt.iter().copied();
        let points = self.index.iter().flat_map(|point| [point.lsn.0, point.offset]);
        for (slot, word) in out[LISTS..].chunks_exact_mut(8).zip(ids.chain(points)) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let trailer = out.len() - TRAILER_LEN;
        let len = out.len() as u32;
        out[trailer..].copy_from_slice(&len.to_le_bytes());
    }
}

/// What the payload of a seal says; its lists stay where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealView<'a> {
    /// As [`Seal::count`].
    pub count: u64,
    /// As [`Seal::last_lsn`].
    pub last_lsn: Lsn,
    /// As [`Seal::last_timestamp_ns`].
    pub last_timestamp_ns: u64,
    /// As [`Seal::last_checksum`].
    pub last_checksum: u32,
    in_doubt: &'a [u8],
    index: &'a [u8],
}

impl<'a> SealView<'a> {
    /// Where a seal would start in a file of `file_len` bytes that ends with `trailer`, its last four
    /// bytes; `None` if no seal can end so. What stands there must still prove itself.
    pub fn locate(file_len: u64, trailer: [u8; 4]) -> Option<u64> {
        let len = u64::from(u32::from_le_bytes(trailer));
        let start = file_len.checked_sub(ENTRY_HEADER_LEN.checked_add(len)?)?;
        (file_len.is_multiple_of(BLOCK_LEN) && start % BLOCK_LEN == 0 && start >= BLOCK_LEN && len > 0)
            .then_some(start)
    }

    /// What a seal's payload, proved by its checksum, says.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it is not the payload of a seal.
    pub fn decode(payload: &'a [u8]) -> Result<SealView<'a>, DecodeError> {
        let invalid = |field| DecodeError::InvalidField { field };
        if payload.len() < LISTS + TRAILER_LEN {
            return Err(invalid("seal length"));
        }
        if u32_at(payload, payload.len() - TRAILER_LEN) as usize != payload.len() {
            return Err(invalid("seal trailer"));
        }
        let ids = u32_at(payload, IN_DOUBT_COUNT) as usize;
        let points = u32_at(payload, INDEX_COUNT) as usize;
        if points > INDEX_POINTS_MAX || ids > payload.len() || seal_len(ids, points) != payload.len() as u64 {
            return Err(invalid("seal lists"));
        }
        let (in_doubt, rest) = payload[LISTS..payload.len() - TRAILER_LEN].split_at(8 * ids);
        let (index, rest) = rest.split_at(16 * points);
        if payload[RESERVED..LISTS].iter().chain(rest).any(|&byte| byte != 0) {
            return Err(invalid("seal reserved"));
        }
        Ok(SealView {
            count: u64_at(payload, COUNT),
            last_lsn: Lsn(u64_at(payload, LAST_LSN)),
            last_timestamp_ns: u64_at(payload, LAST_TIMESTAMP),
            last_checksum: u32_at(payload, LAST_CHECKSUM),
            in_doubt,
            index,
        })
    }

    /// As [`Seal::in_doubt`].
    pub fn in_doubt(&self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.in_doubt.chunks_exact(8).map(|word| u64_at(word, 0))
    }

    /// The sparse index, in LSN order.
    pub fn index(&self) -> impl ExactSizeIterator<Item = IndexPoint> + 'a {
        self.index
            .chunks_exact(16)
            .map(|words| IndexPoint { lsn: Lsn(u64_at(words, 0)), offset: u64_at(words, 8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_round_trips_and_is_found_from_the_end() {
        let index: Vec<_> = (0..300).map(|n| IndexPoint { lsn: Lsn(n), offset: n * 64 }).collect();
        let seal = Seal {
            count: 12,
            last_lsn: Lsn(13),
            last_timestamp_ns: 5,
            last_checksum: 6,
            in_doubt: &[7, 8],
            index: &index,
        };
        let mut payload = vec![1; seal.payload_len() as usize];
        seal.encode(&mut payload);
        let view = SealView::decode(&payload).unwrap();
        assert_eq!((view.count, view.last_lsn, view.last_checksum), (12, Lsn(13), 6));
        assert_eq!(view.in_doubt().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(view.index().collect::<Vec<_>>(), index);
        for reserved in [RESERVED, payload.len() - TRAILER_LEN - 1] {
            let mut dirty = payload.clone();
            dirty[reserved] = 1;
            assert!(SealView::decode(&dirty).is_err());
        }
        let end = 3 * BLOCK_LEN + ENTRY_HEADER_LEN + payload.len() as u64;
        let trailer = payload.last_chunk::<4>().unwrap();
        assert_eq!(SealView::locate(end, *trailer), Some(3 * BLOCK_LEN));
        assert_eq!(SealView::locate(end, [0xFF; 4]), None);
        assert_eq!(SealView::locate(0, *trailer), None);
    }

    #[test]
    fn largest_seal_takes_six_blocks() {
        assert_eq!(ENTRY_HEADER_LEN + seal_len(0, INDEX_POINTS_MAX), 4 * BLOCK_LEN);
        assert_eq!(ENTRY_HEADER_LEN + seal_len(IN_DOUBT_MAX, INDEX_POINTS_MAX), 6 * BLOCK_LEN);
        assert_eq!(ENTRY_HEADER_LEN + seal_len(0, 0), BLOCK_LEN);
    }
}
