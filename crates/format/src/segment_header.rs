//! The first block of a segment file: whose it is, where it stands in the log, and where the segment
//! before it ends.

use crate::checksum::{self, crc32};
use crate::entry::{u32_at, u64_at};
use crate::{BLOCK_LEN, DecodeError, Incarnation, LogId, Lsn, Salt};

/// The first four bytes of a segment file.
pub const MAGIC: [u8; 4] = *b"GWAL";
/// The version of the format that this crate writes; it reads every version up to it.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes of the header block.
pub const SEGMENT_HEADER_LEN: u64 = BLOCK_LEN;
/// The most bytes of user metadata that a header carries.
pub const USER_METADATA_MAX: usize = 256;

/// Header flag: the file had an earlier life, whose bytes may stand behind what this one wrote.
const RECYCLED: u8 = 1;

const VERSION: usize = 4;
const RESERVED_0: usize = VERSION + 1;
const FLAGS: usize = RESERVED_0 + 1;
const LOG_ID: usize = FLAGS + 2;
const INCARNATION: usize = LOG_ID + 16;
const SALT: usize = INCARNATION + 8;
const RESERVED_1: usize = SALT + 4;
const BASE: usize = RESERVED_1 + 4;
const PRED_BASE: usize = BASE + 8;
const PRED_LAST: usize = PRED_BASE + 8;
const PRED_TIMESTAMP: usize = PRED_LAST + 8;
const PRED_CHECKSUM: usize = PRED_TIMESTAMP + 8;
const PRED_SEALED: usize = PRED_CHECKSUM + 4;
const RESERVED_2: usize = PRED_SEALED + 1;
const CREATED_AT: usize = RESERVED_2 + 3;
const ALGORITHM: usize = CREATED_AT + 8;
const RESERVED_3: usize = ALGORITHM + 1;
const METADATA_LEN: usize = RESERVED_3 + 1;
const METADATA: usize = METADATA_LEN + 2;
const RESERVED_4: usize = METADATA + USER_METADATA_MAX;
const OPEN_FROM: usize = RESERVED_4 + 4;
const RESERVED_5: usize = OPEN_FROM + 8;
const CHECKSUM: usize = SEGMENT_HEADER_LEN as usize - 4;
const _: () = assert!(LOG_ID.is_multiple_of(8) && BASE.is_multiple_of(8) && CREATED_AT.is_multiple_of(8));
const _: () = assert!(OPEN_FROM.is_multiple_of(8));

/// Where a segment ends, as its successor's header says it. This decides: what the file holds beyond is
/// superseded, neither read nor a duplicate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predecessor {
    /// The first LSN of the segment.
    pub base: Lsn,
    /// Its last LSN.
    pub last: Lsn,
    /// The timestamp of the entry with that LSN.
    pub last_timestamp_ns: u64,
    /// The header checksum of that entry.
    pub last_checksum: u32,
    /// Whether a synced seal ends it.
    pub sealed: bool,
}

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The log to which the segment belongs.
    pub log_id: LogId,
    /// The opening of the log that created the segment.
    pub incarnation: Incarnation,
    /// Random bits of this life of the file, mixed into every entry's checksum.
    pub salt: Salt,
    /// The LSN of the first entry that takes one.
    pub base: Lsn,
    /// The segment before this one; `None` in the first.
    pub predecessor: Option<Predecessor>,
    /// Whether the file had an earlier life: behind its last round stand bytes of that one, where otherwise zeros are.
    pub recycled: bool,
    /// When the segment was created, in nanoseconds since the Unix epoch.
    pub created_at_ns: u64,
    /// What the application wants to find in every segment.
    pub user_metadata: UserMetadata,
    /// Where the first of the transactions begins that are open where this segment does: what commits from here on may have
    /// begun there, and nothing earlier. `None` if none is open.
    pub open_from: Option<Lsn>,
}

/// Up to [`USER_METADATA_MAX`] bytes of the application's own, kept in every segment header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserMetadata {
    bytes: [u8; USER_METADATA_MAX],
    len: u16,
}

impl UserMetadata {
    /// No bytes.
    pub const EMPTY: UserMetadata = UserMetadata { bytes: [0; USER_METADATA_MAX], len: 0 };

    /// These bytes; `None` if there are more than [`USER_METADATA_MAX`].
    pub fn new(bytes: &[u8]) -> Option<UserMetadata> {
        let mut metadata = UserMetadata::EMPTY;
        metadata.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        metadata.len = bytes.len() as u16;
        Some(metadata)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for UserMetadata {
    fn default() -> Self {
        UserMetadata::EMPTY
    }
}

impl std::fmt::Debug for UserMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserMetadata({})", self.as_bytes().escape_ascii())
    }
}

impl SegmentHeader {
    /// Writes the block into `out`.
    pub fn encode(&self, out: &mut [u8; SEGMENT_HEADER_LEN as usize]) {
        out.fill(0);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(VERSION, &[FORMAT_VERSION]);
        put(FLAGS, &[if self.recycled { RECYCLED } else { 0 }]);
        put(LOG_ID, &self.log_id.0);
        put(INCARNATION, &self.incarnation.0.to_le_bytes());
        put(SALT, &self.salt.0.to_le_bytes());
        put(BASE, &self.base.0.to_le_bytes());
        if let Some(predecessor) = self.predecessor {
            put(PRED_BASE, &predecessor.base.0.to_le_bytes());
            put(PRED_LAST, &predecessor.last.0.to_le_bytes());
            put(PRED_TIMESTAMP, &predecessor.last_timestamp_ns.to_le_bytes());
            put(PRED_CHECKSUM, &predecessor.last_checksum.to_le_bytes());
            put(PRED_SEALED, &[u8::from(predecessor.sealed)]);
        }
        put(CREATED_AT, &self.created_at_ns.to_le_bytes());
        put(ALGORITHM, &[checksum::CRC32]);
        put(METADATA_LEN, &self.user_metadata.len.to_le_bytes());
        put(METADATA, self.user_metadata.as_bytes());
        put(OPEN_FROM, &self.open_from.unwrap_or(Lsn::ZERO).0.to_le_bytes());
        let sum = crc32(&out[..CHECKSUM]);
        out[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
    }

    /// The header that a file's first block proves to be.
    ///
    /// # Errors
    /// [`DecodeError::ForeignMagic`] and [`DecodeError::NewerVersion`] are told before the checksum is
    /// looked at, so that a foreign or newer file is called that and not damaged.
    pub fn decode(block: &[u8; SEGMENT_HEADER_LEN as usize]) -> Result<SegmentHeader, DecodeError> {
        let found: [u8; 4] = block[..4].try_into().expect("four bytes");
        if found != MAGIC {
            return Err(DecodeError::ForeignMagic { found });
        }
        if block[VERSION] > FORMAT_VERSION {
            return Err(DecodeError::NewerVersion { version: block[VERSION] });
        }
        let found = u32_at(block, CHECKSUM);
        let computed = crc32(&block[..CHECKSUM]);
        if found != computed {
            return Err(DecodeError::HeaderChecksum { found, computed });
        }
        let invalid = |field| Err(DecodeError::InvalidField { field });
        if block[VERSION] == 0 {
            return invalid("version");
        }
        if block[ALGORITHM] != checksum::CRC32 {
            return Err(DecodeError::NewerChecksum { algorithm: block[ALGORITHM] });
        }
        let newer = (block[FLAGS] & !RECYCLED) | block[FLAGS + 1];
        if newer != 0 {
            return Err(DecodeError::NewerFlags { bits: newer });
        }
        let metadata_len = usize::from(u16::from_le_bytes([block[METADATA_LEN], block[METADATA_LEN + 1]]));
        let Some(user_metadata) = UserMetadata::new(&block[METADATA..][..metadata_len.min(RESERVED_4)])
        else {
            return invalid("user metadata length");
        };
        let zeros = |from: usize, to: usize| block[from..to].iter().all(|&byte| byte == 0);
        if !(zeros(RESERVED_0, FLAGS)
            && zeros(RESERVED_1, BASE)
            && zeros(RESERVED_2, CREATED_AT)
            && zeros(RESERVED_3, METADATA_LEN)
            && zeros(METADATA + metadata_len, RESERVED_4)
            && zeros(RESERVED_4, OPEN_FROM)
            && zeros(RESERVED_5, CHECKSUM))
        {
            return invalid("reserved");
        }
        let base = Lsn(u64_at(block, BASE));
        if base < Lsn::FIRST || base > Lsn::MAX {
            return invalid("base LSN");
        }
        let predecessor = if zeros(PRED_BASE, RESERVED_2) {
            None
        } else {
            let predecessor = Predecessor {
                base: Lsn(u64_at(block, PRED_BASE)),
                last: Lsn(u64_at(block, PRED_LAST)),
                last_timestamp_ns: u64_at(block, PRED_TIMESTAMP),
                last_checksum: u32_at(block, PRED_CHECKSUM),
                sealed: block[PRED_SEALED] != 0,
            };
            if block[PRED_SEALED] > 1
                || predecessor.base > predecessor.last
                || predecessor.last.0.checked_add(1) != Some(base.0)
            {
                return invalid("predecessor");
            }
            Some(predecessor)
        };
        let open_from = Some(Lsn(u64_at(block, OPEN_FROM))).filter(|&lsn| lsn != Lsn::ZERO);
        if open_from.is_some_and(|lsn| lsn >= base) {
            return invalid("open from LSN");
        }
        Ok(SegmentHeader {
            log_id: LogId(block[LOG_ID..LOG_ID + 16].try_into().expect("sixteen bytes")),
            incarnation: Incarnation(u64_at(block, INCARNATION)),
            salt: Salt(u32_at(block, SALT)),
            base,
            predecessor,
            recycled: block[FLAGS] & RECYCLED != 0,
            created_at_ns: u64_at(block, CREATED_AT),
            user_metadata,
            open_from,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            log_id: LogId([7; 16]),
            incarnation: Incarnation(3),
            salt: Salt(9),
            base: Lsn(11),
            predecessor: Some(Predecessor {
                base: Lsn(1),
                last: Lsn(10),
                last_timestamp_ns: 5,
                last_checksum: 6,
                sealed: true,
            }),
            recycled: true,
            created_at_ns: 8,
            user_metadata: UserMetadata::new(b"mine").unwrap(),
            open_from: Some(Lsn(4)),
        }
    }

    #[test]
    fn header_round_trips() {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        let first = SegmentHeader {
            predecessor: None,
            base: Lsn::FIRST,
            recycled: false,
            open_from: None,
            ..sample()
        };
        for header in [sample(), first] {
            header.encode(&mut block);
            assert_eq!(SegmentHeader::decode(&block), Ok(header));
        }
    }

    #[test]
    fn every_flipped_bit_of_the_block_is_noticed() {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        sample().encode(&mut block);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn foreign_and_newer_files_are_called_that() {
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        sample().encode(&mut block);
        block[VERSION] = 2;
        assert_eq!(SegmentHeader::decode(&block), Err(DecodeError::NewerVersion { version: 2 }));
        block[0] = b'X';
        assert!(matches!(SegmentHeader::decode(&block), Err(DecodeError::ForeignMagic { .. })));
    }
}
