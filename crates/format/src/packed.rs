//! Packed segments: a finished segment made smaller, byte for byte the same when it is unpacked. A packed segment is a
//! [stream](crate::StreamHeader) of one head, the bytes of the segment's file in frames, an index of the frames, and a
//! trailer of fixed size that says where the index stands; then the end of every stream.
//!
//! The rule: each frame can be unpacked alone, and an index is believed only if its rows can be those of one file.

use crate::entry::{ENTRY_HEADER_LEN, entry_len, padded_len, u32_at, u64_at};
use crate::name::digits20;
use crate::{COMPRESSION_FIELDS_LEN, DecodeError, Kind, Lsn, STREAM_END_LEN, STREAM_PAYLOAD_MAX};

/// The first entry of a packed segment.
pub const PACKED_HEAD: Kind = Kind(1);
/// Bytes of the segment's file.
pub const PACKED_FRAME: Kind = Kind(2);
/// Where the frames stand.
pub const PACKED_INDEX: Kind = Kind(3);
/// Where the index stands; the last entry but the end.
pub const PACKED_TRAILER: Kind = Kind(4);

/// The most bytes of the segment's file that one frame holds.
pub const PACKED_FRAME_MAX: usize = STREAM_PAYLOAD_MAX;
/// The most frames of a packed segment: its index is one entry.
pub const PACKED_FRAMES_MAX: usize = (STREAM_PAYLOAD_MAX - ROWS) / ROW_LEN;

const _: () = assert!(PACKED_FRAMES_MAX > 40_000);

/// Bytes of a [`PackedHead`].
pub const PACKED_HEAD_LEN: usize = LEN + 8;
const BASE: usize = 0;
const LAST: usize = BASE + 8;
const LEN: usize = LAST + 8;

/// Bytes of a trailer's payload.
pub const PACKED_TRAILER_LEN: usize = 8;
/// Bytes from the beginning of the trailer to the end of the file.
pub const PACKED_TAIL_LEN: u64 = entry_len(PACKED_TRAILER_LEN as u64) + entry_len(STREAM_END_LEN);

const COUNT: usize = 0;
const SUM: usize = COUNT + 4;
const ROWS: usize = SUM + 4;
/// Bytes of one row of an index.
const ROW_LEN: usize = 24;

/// Which segment is packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackedHead {
    /// The segment's base LSN.
    pub base: Lsn,
    /// Its last LSN.
    pub last: Lsn,
    /// Bytes of its file when it is not packed.
    pub len: u64,
}

impl PackedHead {
    /// The payload.
    pub fn encode(&self) -> [u8; PACKED_HEAD_LEN] {
        let mut bytes = [0; PACKED_HEAD_LEN];
        bytes[BASE..LAST].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[LAST..LEN].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[LEN..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// What a payload says.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for a payload of another length, [`DecodeError::InvalidField`] for values that go with
    /// no segment.
    pub fn decode(payload: &[u8]) -> Result<PackedHead, DecodeError> {
        if payload.len() != PACKED_HEAD_LEN {
            return Err(DecodeError::Short { have: payload.len() as u64, need: PACKED_HEAD_LEN as u64 });
        }
        let head = PackedHead {
            base: Lsn(u64_at(payload, BASE)),
            last: Lsn(u64_at(payload, LAST)),
            len: u64_at(payload, LEN),
        };
        if head.base < Lsn::FIRST || head.last < head.base || head.last >= Lsn::MAX {
            return Err(DecodeError::InvalidField { field: "LSN" });
        }
        Ok(head)
    }
}

/// One frame, as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackedFrame {
    /// Where its bytes stand in the segment's file.
    pub offset: u64,
    /// Where its entry stands in the packed file.
    pub at: u64,
    /// If it begins with the header of an entry of the segment: the LSN in that header. [`Lsn::ZERO`] if not.
    pub lsn: Lsn,
}

/// Where the frames of a packed segment stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedIndex {
    /// The frames, in order; they hold every byte of the segment's file.
    pub frames: Vec<PackedFrame>,
    /// CRC-32 of all bytes of the segment's file.
    pub checksum: u32,
}

impl PackedIndex {
    /// The payload.
    ///
    /// # Panics
    /// If there are more than [`PACKED_FRAMES_MAX`] frames.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.frames.len() <= PACKED_FRAMES_MAX, "an index is one entry");
        let mut bytes = Vec::with_capacity(ROWS + self.frames.len() * ROW_LEN);
        bytes.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.checksum.to_le_bytes());
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.offset.to_le_bytes());
            bytes.extend_from_slice(&frame.at.to_le_bytes());
            bytes.extend_from_slice(&frame.lsn.0.to_le_bytes());
        }
        bytes
    }

    /// What the payload of an index says that stands at `index_at` in the packed file of the segment `head`.
    ///
    /// # Errors
    /// [`DecodeError::Short`] for a payload of another length than its count says, [`DecodeError::InvalidField`] for
    /// rows that are not those of one file: the frames follow one another without a gap, here and there, from the first
    /// byte to the last, and none is too large.
    pub fn decode(payload: &[u8], head: &PackedHead, index_at: u64) -> Result<PackedIndex, DecodeError> {
        let short = |need: usize| DecodeError::Short { have: payload.len() as u64, need: need as u64 };
        let (fixed, rows) = payload.split_at_checked(ROWS).ok_or(short(ROWS))?;
        let count = u32_at(fixed, COUNT) as usize;
        if rows.len() != count.saturating_mul(ROW_LEN) {
            return Err(short(ROWS.saturating_add(count.saturating_mul(ROW_LEN))));
        }
        let row = |bytes: &[u8]| PackedFrame {
            offset: u64_at(bytes, 0),
            at: u64_at(bytes, 8),
            lsn: Lsn(u64_at(bytes, 16)),
        };
        let frames: Vec<PackedFrame> = rows.chunks_exact(ROW_LEN).map(row).collect();
        let index = PackedIndex { frames, checksum: u32_at(fixed, SUM) };
        if index.is_of(head, index_at) {
            Ok(index)
        } else {
            Err(DecodeError::InvalidField { field: "index" })
        }
    }

    /// Whether these frames can be those of one file.
    fn is_of(&self, head: &PackedHead, index_at: u64) -> bool {
        let Some(first) = self.frames.first() else { return false };
        let end = PackedFrame { offset: head.len, at: index_at, lsn: Lsn::ZERO };
        let nexts = self.frames.iter().skip(1).chain([&end]);
        first.offset == 0
            && first.at == PACKED_FRAMES_AT
            && self.frames.iter().zip(nexts).all(|(frame, next)| {
                let plain = next.offset.saturating_sub(frame.offset);
                let packed = next.at.saturating_sub(frame.at);
                (1..=PACKED_FRAME_MAX as u64).contains(&plain)
                    && (ENTRY_HEADER_LEN..=entry_len(plain)).contains(&packed)
                    && packed.is_multiple_of(8)
            })
            && self.frames.iter().map(|frame| frame.lsn).filter(|lsn| *lsn != Lsn::ZERO).is_sorted()
    }
}

/// Where the first frame stands in a packed file.
pub const PACKED_FRAMES_AT: u64 = crate::STREAM_HEADER_LEN + entry_len(PACKED_HEAD_LEN as u64);

/// Whether a frame of `plain` bytes that `packed` compressed bytes can become is stored so: only if that makes its entry
/// smaller. So the length of an entry says which it is.
pub const fn packs(plain: u64, packed: u64) -> bool {
    padded_len(packed + COMPRESSION_FIELDS_LEN as u64) < padded_len(plain)
}

/// The name of a packed segment: its base LSN in 20 digits and `.walz`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PackedName(pub Lsn);

impl PackedName {
    /// The base LSN that a file name says, if it is the name of a packed segment: LSNs are from 1.
    pub fn parse(name: &str) -> Option<PackedName> {
        let base = Lsn(digits20(name.strip_suffix(".walz")?)?);
        (base >= Lsn::FIRST).then_some(PackedName(base))
    }
}

impl std::fmt::Display for PackedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}.walz", self.0.0)
    }
}

/// The name of the packed segment with this base while it is written: `<base>.walz.new`. Left-over ones are removed at
/// open.
pub fn unfinished_packed_name(base: Lsn) -> String {
    format!("{}.new", PackedName(base))
}

/// The base LSN that a file name says, if it is the name of a packed segment that is being written.
pub fn parse_unfinished_packed(name: &str) -> Option<Lsn> {
    PackedName::parse(name.strip_suffix(".new")?).map(|PackedName(base)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> PackedHead {
        PackedHead { base: Lsn(5), last: Lsn(90), len: 10_000 }
    }

    fn index() -> (PackedIndex, u64) {
        let at = PACKED_FRAMES_AT;
        let frames = vec![
            PackedFrame { offset: 0, at, lsn: Lsn::ZERO },
            PackedFrame { offset: 4096, at: at + 4128, lsn: Lsn(5) },
            PackedFrame { offset: 6000, at: at + 4128 + 200, lsn: Lsn::ZERO },
            PackedFrame { offset: 8192, at: at + 4128 + 232, lsn: Lsn(91) },
        ];
        (PackedIndex { frames, checksum: 7 }, at + 4128 + 232 + 1840)
    }

    #[test]
    fn names_round_trip_and_others_are_left_alone() {
        let name = PackedName(Lsn(42));
        assert_eq!(name.to_string(), "00000000000000000042.walz");
        assert_eq!(PackedName::parse(&name.to_string()), Some(name));
        assert_eq!(parse_unfinished_packed(&unfinished_packed_name(Lsn(42))), Some(Lsn(42)));
        for other in ["42.walz", "00000000000000000042.wal", "00000000000000000042.walz.new", ".walz"] {
            assert_eq!(PackedName::parse(other), None, "{other}");
        }
        for other in ["00000000000000000042.walz", "00000000000000000042.wal.new", "42.walz.new", ".new"] {
            assert_eq!(parse_unfinished_packed(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_round_trips_and_impossible_ones_are_refused() {
        assert_eq!(PackedHead::decode(&head().encode()), Ok(head()));
        assert!(PackedHead::decode(&head().encode()[1..]).is_err());
        for impossible in [
            PackedHead { base: Lsn(0), ..head() },
            PackedHead { last: Lsn(4), ..head() },
            PackedHead { last: Lsn::MAX, ..head() },
        ] {
            assert!(PackedHead::decode(&impossible.encode()).is_err(), "{impossible:?}");
        }
    }

    #[test]
    fn an_index_round_trips_and_one_with_a_gap_is_refused() {
        let (index, at) = index();
        let decode = |index: &PackedIndex| PackedIndex::decode(&index.encode(), &head(), at);
        assert_eq!(decode(&index), Ok(index.clone()));
        let bytes = index.encode();
        assert!(PackedIndex::decode(&bytes[..bytes.len() - 1], &head(), at).is_err());
        assert!(PackedIndex::decode(&bytes, &head(), at + 8).is_err(), "the last frame would be too large");
        assert!(PackedIndex::decode(&bytes, &PackedHead { len: 8192, ..head() }, at).is_err());
        let broken = |change: &dyn Fn(&mut Vec<PackedFrame>)| {
            let mut broken = index.clone();
            change(&mut broken.frames);
            decode(&broken).is_err()
        };
        assert!(broken(&|frames| frames.clear()));
        assert!(broken(&|frames| frames[0].offset = 8));
        assert!(broken(&|frames| frames[0].at += 8));
        assert!(broken(&|frames| frames.swap(1, 2)));
        assert!(broken(&|frames| frames[2].offset = frames[1].offset));
        assert!(broken(&|frames| frames[2].at += 4));
        assert!(broken(&|frames| frames[3].lsn = Lsn(4)));
    }

    #[test]
    fn only_what_makes_an_entry_smaller_is_stored_compressed() {
        assert!(packs(4096, 4000));
        assert!(!packs(4096, 4096) && !packs(16, 8) && !packs(24, 9));
        assert!(packs(24, 7));
    }
}
