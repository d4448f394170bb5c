//! A stream: a file beside the segments that is written once and whole, as a header block, entries by the codec of
//! segments, and an end entry that counts them.
//!
//! The rule: a stream is all there or damaged. Nothing tells a torn one from a damaged one, because it gets its name
//! only when it is synced; so a stream without its end is never a shorter stream.

use crate::checksum::{self, crc32};
use crate::entry::{u32_at, u64_at};
use crate::{BLOCK_LEN, DecodeError, FORMAT_VERSION, Kind, LogId, Salt};

/// Bytes of a stream's header block.
pub const STREAM_HEADER_LEN: u64 = BLOCK_LEN;
/// The most bytes that the payload of a stream's entry has, so that a reader needs no more memory.
pub const STREAM_PAYLOAD_MAX: usize = 1 << 20;
/// Bytes of the payload of an end entry.
pub const STREAM_END_LEN: u64 = 16;

const VERSION: usize = 4;
const RESERVED_0: usize = VERSION + 1;
const FLAGS: usize = RESERVED_0 + 1;
const LOG_ID: usize = FLAGS + 2;
const NUMBER: usize = LOG_ID + 16;
const SALT: usize = NUMBER + 8;
const RESERVED_1: usize = SALT + 4;
const CREATED_AT: usize = RESERVED_1 + 4;
const ALGORITHM: usize = CREATED_AT + 8;
const RESERVED_2: usize = ALGORITHM + 1;
const CHECKSUM: usize = STREAM_HEADER_LEN as usize - 4;
const _: () = assert!(LOG_ID.is_multiple_of(8) && NUMBER.is_multiple_of(8) && CREATED_AT.is_multiple_of(8));

/// What a stream holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamKind {
    /// What the log knows of its own life.
    Manifest,
    /// A state of the application.
    Checkpoint,
    /// A finished segment, compressed.
    Packed,
}

impl StreamKind {
    /// The first four bytes of such a file.
    pub const fn magic(self) -> [u8; 4] {
        match self {
            StreamKind::Manifest => *b"GMAN",
            StreamKind::Checkpoint => *b"GCKP",
            StreamKind::Packed => *b"GPAK",
        }
    }
}

/// The first block of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamHeader {
    /// What the stream holds.
    pub kind: StreamKind,
    /// The log to which the file belongs.
    pub log_id: LogId,
    /// Which one of its kind this is, from 1 in a log.
    pub number: u64,
    /// Bits that no other stream of the log has, mixed into every entry's checksum.
    pub salt: Salt,
    /// When the stream was begun, in nanoseconds since the Unix epoch; the timestamp of all its entries.
    pub created_at_ns: u64,
}

impl StreamHeader {
    /// The header of a new stream. Its salt is made of all the rest, which no two streams have in common.
    pub fn new(kind: StreamKind, log_id: LogId, number: u64, created_at_ns: u64) -> StreamHeader {
        let (low, high) = (u64_at(&log_id.0, 0), u64_at(&log_id.0, 8));
        let magic = u64::from(u32_at(&kind.magic(), 0));
        let mut mixed = 0;
        for word in [low, high, magic, number, created_at_ns] {
            // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
            mixed = (mixed ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
        }
        StreamHeader { kind, log_id, number, salt: Salt(mixed as u32), created_at_ns }
    }

    /// Writes the block into `out`.
    pub fn encode(&self, out: &mut [u8; STREAM_HEADER_LEN as usize]) {
        out.fill(0);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.kind.magic());
        put(VERSION, &[FORMAT_VERSION]);
        put(LOG_ID, &self.log_id.0);
        put(NUMBER, &self.number.to_le_bytes());
        put(SALT, &self.salt.0.to_le_bytes());
        put(CREATED_AT, &self.created_at_ns.to_le_bytes());
        put(ALGORITHM, &[checksum::CRC32]);
        let sum = crc32(&out[..CHECKSUM]);
        out[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
    }

    /// The header that a file's first block proves to be, of a stream of this kind.
    ///
    /// # Errors
    /// As [`SegmentHeader::decode`](crate::SegmentHeader::decode), and in its order.
    pub fn decode(
        block: &[u8; STREAM_HEADER_LEN as usize],
        kind: StreamKind,
    ) -> Result<StreamHeader, DecodeError> {
        let found: [u8; 4] = block[..4].try_into().expect("four bytes");
        if found != kind.magic() {
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
        if block[FLAGS] != 0 || block[FLAGS + 1] != 0 {
            return Err(DecodeError::NewerFlags { bits: block[FLAGS] | block[FLAGS + 1] });
        }
        let zeros = |from: usize, to: usize| block[from..to].iter().all(|&byte| byte == 0);
        if !(zeros(RESERVED_0, FLAGS) && zeros(RESERVED_1, CREATED_AT) && zeros(RESERVED_2, CHECKSUM)) {
            return invalid("reserved");
        }
        let number = u64_at(block, NUMBER);
        if number == 0 {
            return invalid("number");
        }
        Ok(StreamHeader {
            kind,
            log_id: LogId(block[LOG_ID..LOG_ID + 16].try_into().expect("sixteen bytes")),
            number,
            salt: Salt(u32_at(block, SALT)),
            created_at_ns: u64_at(block, CREATED_AT),
        })
    }
}

/// The last entry of a stream. Where it stands the file ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamEnd {
    /// Entries before this one.
    pub entries: u64,
    /// Bytes of their payloads, without padding.
    pub payload_bytes: u64,
}

impl StreamEnd {
    /// The kind of an end entry, in every stream.
    pub const KIND: Kind = Kind(0);

    /// The payload's bytes.
    pub fn encode(&self) -> [u8; STREAM_END_LEN as usize] {
        let mut bytes = [0; STREAM_END_LEN as usize];
        bytes[..8].copy_from_slice(&self.entries.to_le_bytes());
        bytes[8..].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }

    /// What an end entry's payload says.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if it has another length.
    pub fn decode(payload: &[u8]) -> Result<StreamEnd, DecodeError> {
        if payload.len() as u64 != STREAM_END_LEN {
            return Err(DecodeError::InvalidField { field: "end length" });
        }
        Ok(StreamEnd { entries: u64_at(payload, 0), payload_bytes: u64_at(payload, 8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StreamHeader {
        StreamHeader::new(StreamKind::Manifest, LogId([7; 16]), 3, 8)
    }

    #[test]
    fn header_round_trips_and_is_of_one_kind() {
        let mut block = [0; STREAM_HEADER_LEN as usize];
        for (kind, other) in
            [(StreamKind::Manifest, StreamKind::Checkpoint), (StreamKind::Checkpoint, StreamKind::Manifest)]
        {
            let header = StreamHeader { kind, ..sample() };
            header.encode(&mut block);
            assert_eq!(StreamHeader::decode(&block, kind), Ok(header));
            let found = kind.magic();
            assert_eq!(StreamHeader::decode(&block, other), Err(DecodeError::ForeignMagic { found }));
        }
    }

    #[test]
    fn every_flipped_bit_of_the_block_is_noticed() {
        let mut block = [0; STREAM_HEADER_LEN as usize];
        sample().encode(&mut block);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(StreamHeader::decode(&block, StreamKind::Manifest).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn salts_differ_with_each_field_that_differs() {
        let salts = [
            sample().salt,
            StreamHeader::new(StreamKind::Checkpoint, LogId([7; 16]), 3, 8).salt,
            StreamHeader::new(StreamKind::Manifest, LogId([8; 16]), 3, 8).salt,
            StreamHeader::new(StreamKind::Manifest, LogId([7; 16]), 4, 8).salt,
            StreamHeader::new(StreamKind::Manifest, LogId([7; 16]), 3, 9).salt,
        ];
        for (index, salt) in salts.iter().enumerate() {
            assert!(!salts[..index].contains(salt), "{salts:?}");
        }
    }
}
