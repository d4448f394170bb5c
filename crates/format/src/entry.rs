//! An entry: a 32-byte header that proves itself, and a payload that the header vouches for.

use crate::checksum::{crc32, crc32_seeded_words};
use crate::{DecodeError, Flags, Kind, Lsn, Salt};

/// Bytes of an entry's header.
pub const ENTRY_HEADER_LEN: u64 = 32;
/// Entries start on multiples of this many bytes.
pub const ENTRY_ALIGN: u64 = 8;

const LSN: usize = 0;
const TIMESTAMP: usize = LSN + 8;
const CHECKSUM: usize = TIMESTAMP + 8;
const KIND: usize = CHECKSUM + 4;
const FLAGS: usize = KIND + 1;
const RESERVED: usize = FLAGS + 1;
const PAYLOAD_LEN: usize = RESERVED + 2;
const PAYLOAD_CHECKSUM: usize = PAYLOAD_LEN + 4;
const _: () =
    assert!(PAYLOAD_CHECKSUM + 4 == ENTRY_HEADER_LEN as usize && KIND == CHECKSUM + 4 && FLAGS == KIND + 1);

/// `payload_len` and its padding, in bytes.
pub const fn padded_len(payload_len: u64) -> u64 {
    payload_len.next_multiple_of(ENTRY_ALIGN)
}

/// The bytes that an entry with this payload length takes in a file.
pub const fn entry_len(payload_len: u64) -> u64 {
    ENTRY_HEADER_LEN + padded_len(payload_len)
}

/// The header of an entry, as decoded or to be encoded. Its checksum is computed on the way out and
/// proved on the way in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryHeader {
    /// The entry's LSN; for kinds that take none, the next one.
    pub lsn: Lsn,
    /// Nanoseconds since the Unix epoch; never decreases in LSN order.
    pub timestamp_ns: u64,
    /// What the entry is.
    pub kind: Kind,
    /// How to read it.
    pub flags: Flags,
    /// Bytes of the payload, without padding.
    pub payload_len: u32,
    /// CRC-32 of the payload.
    pub payload_checksum: u32,
}

impl EntryHeader {
    /// The header of an entry that carries `payload`.
    ///
    /// # Panics
    /// If the payload has more than `u32::MAX` bytes.
    pub fn for_payload(lsn: Lsn, timestamp_ns: u64, kind: Kind, flags: Flags, payload: &[u8]) -> EntryHeader {
        let payload_len = u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB");
        EntryHeader { lsn, timestamp_ns, kind, flags, payload_len, payload_checksum: crc32(payload) }
    }

    /// The bytes that this entry takes in a file, header and padding included.
    pub const fn entry_len(&self) -> u64 {
        entry_len(self.payload_len as u64)
    }

    /// The header's bytes in a segment with this salt, at this file offset.
    pub fn encode(&self, salt: Salt, offset: u64) -> [u8; ENTRY_HEADER_LEN as usize] {
        let mut bytes =
            EntryHeader::encode_unplaced(self.kind, self.flags, self.payload_len, self.payload_checksum);
        EntryHeader::place(&mut bytes, self.lsn, self.timestamp_ns, salt, offset);
        bytes
    }

    /// The header that `bytes` prove to be, in a segment with this salt, at this file offset.
    ///
    /// # Errors
    /// [`DecodeError::HeaderChecksum`] if the bytes are no header of this segment at this offset. A
    /// header that proves itself but carries unknown flags or a kind that may not be skipped gives an
    /// error whose [`DecodeError::is_newer`] is true.
    #[inline]
    pub fn decode(
        bytes: &[u8; ENTRY_HEADER_LEN as usize],
        salt: Salt,
        offset: u64,
    ) -> Result<EntryHeader, DecodeError> {
        let found = EntryHeader::stored_checksum(bytes);
        let computed = header_checksum(bytes, salt, offset);
        if found != computed {
            return Err(DecodeError::HeaderChecksum { found, computed });
        }
        EntryHeader::decode_proved(bytes)
    }

    /// As [`EntryHeader::decode`], of bytes whose checksum was proved before, or that are about to be.
    ///
    /// # Errors
    /// As [`EntryHeader::decode`], but for the checksum.
    #[inline]
    pub fn decode_proved(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> Result<EntryHeader, DecodeError> {
        if bytes[RESERVED] != 0 || bytes[RESERVED + 1] != 0 {
            return Err(DecodeError::InvalidField { field: "reserved" });
        }
        let kind = Kind(bytes[KIND]);
        let flags = Flags::from_bits(bytes[FLAGS])?;
        if !kind.is_known() && !flags.contains(Flags::IGNORABLE) {
            return Err(DecodeError::NewerKind { kind: kind.0 });
        }
        Ok(EntryHeader {
            lsn: Lsn(u64_at(bytes, LSN)),
            timestamp_ns: u64_at(bytes, TIMESTAMP),
            kind,
            flags,
            payload_len: u32_at(bytes, PAYLOAD_LEN),
            payload_checksum: u32_at(bytes, PAYLOAD_CHECKSUM),
        })
    }

    /// The header's bytes but for what only its place decides (LSN, timestamp, checksum): what a writer
    /// can make before it has an LSN. [`EntryHeader::place`] completes them.
    #[inline]
    pub fn encode_unplaced(
        kind: Kind,
        flags: Flags,
        payload_len: u32,
        payload_checksum: u32,
    ) -> [u8; ENTRY_HEADER_LEN as usize] {
        let mut bytes = [0; ENTRY_HEADER_LEN as usize];
        // Eight bytes at a time: this is on the path of every append.
        let kind_and_flags = u64::from(kind.0) << 32 | u64::from(flags.bits()) << 40;
        let len_and_checksum = u64::from(payload_len) | u64::from(payload_checksum) << 32;
        bytes[CHECKSUM..CHECKSUM + 8].copy_from_slice(&kind_and_flags.to_le_bytes());
        bytes[PAYLOAD_LEN..].copy_from_slice(&len_and_checksum.to_le_bytes());
        bytes
    }

    /// Completes bytes made by [`EntryHeader::encode_unplaced`]; gives the checksum that was set.
    #[inline]
    pub fn place(
        bytes: &mut [u8; ENTRY_HEADER_LEN as usize],
        lsn: Lsn,
        timestamp_ns: u64,
        salt: Salt,
        offset: u64,
    ) -> u32 {
        bytes[LSN..LSN + 8].copy_from_slice(&lsn.0.to_le_bytes());
        bytes[TIMESTAMP..TIMESTAMP + 8].copy_from_slice(&timestamp_ns.to_le_bytes());
        let checksum = header_checksum(bytes, salt, offset);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Adds flags to bytes made by [`EntryHeader::encode_unplaced`].
    pub fn add_flags_unplaced(bytes: &mut [u8; ENTRY_HEADER_LEN as usize], flags: Flags) {
        bytes[FLAGS] |= flags.bits();
    }

    /// Takes flags from bytes made by [`EntryHeader::encode_unplaced`].
    pub fn remove_flags_unplaced(bytes: &mut [u8; ENTRY_HEADER_LEN as usize], flags: Flags) {
        bytes[FLAGS] &= !flags.bits();
    }

    /// Sets the checksum of the payload in bytes made by [`EntryHeader::encode_unplaced`].
    pub fn set_payload_checksum_unplaced(bytes: &mut [u8; ENTRY_HEADER_LEN as usize], checksum: u32) {
        bytes[PAYLOAD_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The kind that stands in header bytes of one's own making.
    #[inline]
    pub fn kind_unplaced(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> Kind {
        Kind(bytes[KIND])
    }

    /// The payload length that stands in header bytes of one's own making.
    #[inline]
    pub fn payload_len_unplaced(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> u32 {
        u32_at(bytes, PAYLOAD_LEN)
    }

    /// The LSN that stands in encoded header bytes, proved or not.
    #[inline]
    pub fn stored_lsn(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> Lsn {
        Lsn(u64_at(bytes, 0))
    }

    /// The checksum that stands in encoded header bytes, proved or not.
    #[inline]
    pub fn stored_checksum(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> u32 {
        u32_at(bytes, CHECKSUM)
    }

    /// Whether `payload` and its `padding` are what this header vouches for.
    ///
    /// # Errors
    /// [`DecodeError::PayloadChecksum`] or [`DecodeError::NonZeroPadding`].
    #[inline]
    pub fn check_payload(&self, payload: &[u8], padding: &[u8]) -> Result<(), DecodeError> {
        let computed = crc32(payload);
        if computed != self.payload_checksum {
            return Err(DecodeError::PayloadChecksum { found: self.payload_checksum, computed });
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::NonZeroPadding);
        }
        Ok(())
    }
}

/// A whole entry in a slice: its header, and its payload without padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The header, proved.
    pub header: EntryHeader,
    /// The checksum that stands in the header's bytes.
    pub checksum: u32,
    /// The payload, proved.
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry at the start of `bytes`, which stand at `offset` of a segment with this salt.
    ///
    /// # Errors
    /// What [`EntryHeader::decode`] and [`EntryHeader::check_payload`] say, or [`DecodeError::Short`]
    /// if the slice ends before the entry does. The length is believed only once the header is proved.
    #[inline]
    pub fn decode(bytes: &'a [u8], salt: Salt, offset: u64) -> Result<Entry<'a>, DecodeError> {
        let have = bytes.len() as u64;
        let Some((head, rest)) = bytes.split_first_chunk::<{ ENTRY_HEADER_LEN as usize }>() else {
            return Err(DecodeError::Short { have, need: ENTRY_HEADER_LEN });
        };
        let header = EntryHeader::decode(head, salt, offset)?;
        let need = header.entry_len();
        if have < need {
            return Err(DecodeError::Short { have, need });
        }
        let (payload, rest) = rest.split_at(header.payload_len as usize);
        let padding = &rest[..(need - ENTRY_HEADER_LEN) as usize - payload.len()];
        header.check_payload(payload, padding)?;
        Ok(Entry { header, checksum: EntryHeader::stored_checksum(head), payload })
    }
}

#[inline]
fn header_checksum(bytes: &[u8; ENTRY_HEADER_LEN as usize], salt: Salt, offset: u64) -> u32 {
    let word = |index: usize| u32_at(bytes, index * 4);
    // All words but the checksum itself.
    const _: () = assert!(CHECKSUM == 4 * 4);
    let words = [word(0), word(1), word(2), word(3), word(5), word(6), word(7)];
    crc32_seeded_words(salt.seed(offset), words)
}

/// The little-endian number at `at`, which lies inside `bytes`.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The little-endian number at `at`, which lies inside `bytes`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(0xA5A5_5A5A);

    fn sample() -> Vec<u8> {
        let header = EntryHeader::for_payload(Lsn(7), 99, Kind(3), Flags::BATCH_CONTINUES, b"hello");
        let mut bytes = header.encode(SALT, 4096).to_vec();
        bytes.extend_from_slice(b"hello\0\0\0");
        bytes
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample();
        assert_eq!(Entry::decode(&good, SALT, 4096).unwrap().payload, b"hello");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::decode(&bad, SALT, 4096).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn moved_or_stale_entry_never_validates() {
        let good = sample();
        assert!(Entry::decode(&good, SALT, 4104).is_err());
        assert!(Entry::decode(&good, Salt(1), 4096).is_err());
    }

    #[test]
    fn length_is_not_believed_before_the_header_is() {
        let mut bytes = sample();
        bytes[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Entry::decode(&bytes, SALT, 4096), Err(DecodeError::HeaderChecksum { .. })));
    }

    #[test]
    fn unknown_log_kind_is_newer_unless_ignorable() {
        let header = EntryHeader::for_payload(Lsn(1), 0, Kind(255), Flags::NONE, b"");
        let error = EntryHeader::decode(&header.encode(SALT, 8), SALT, 8).unwrap_err();
        assert!(error.is_newer());
        let header = EntryHeader { flags: Flags::IGNORABLE, ..header };
        assert_eq!(EntryHeader::decode(&header.encode(SALT, 8), SALT, 8), Ok(header));
    }
}
