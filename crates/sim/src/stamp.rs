//! Payloads that say who wrote them: each can be checked alone, byte for byte, and told from any other.
//!
//! The rule: a stamped payload is a function of its stamp and its length, in every version.

use crate::Rng;

/// Bytes at the head of a stamped payload.
pub const STAMP_LEN: usize = 16;

/// Who wrote a record, and what place it has in its batch: what the oracle of a crash test wants to know of
/// every record that it finds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp {
    /// The writer.
    pub writer: u32,
    /// The how-manieth record of that writer, from 0.
    pub seq: u32,
    /// Its place in its batch, from 0.
    pub index: u16,
    /// How many records the batch has; 1 for a record on its own.
    pub count: u16,
}

impl Stamp {
    /// A record on its own.
    pub fn single(writer: u32, seq: u32) -> Stamp {
        Stamp { writer, seq, index: 0, count: 1 }
    }

    /// The payload of `len` bytes that carries this stamp.
    ///
    /// # Panics
    /// If `len` is below [`STAMP_LEN`].
    pub fn payload(self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        bytes.extend_from_slice(&self.writer.to_le_bytes());
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        let mut fill = Rng::new(u64::from(self.writer) << 32 | u64::from(self.seq));
        while bytes.len() < len {
            bytes.extend_from_slice(&fill.next_u64().to_le_bytes());
        }
        assert!(len >= STAMP_LEN);
        bytes.truncate(len);
        bytes
    }

    /// The stamp of a payload, which must be exactly what [`Stamp::payload`] made.
    ///
    /// # Panics
    /// If it is anything else: what a log gave back was never appended.
    pub fn of(payload: &[u8]) -> Stamp {
        assert!(payload.len() >= STAMP_LEN, "a payload of {} bytes was never appended", payload.len());
        let u32_at =
            |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().expect("the length is right"));
        let u16_at =
            |at: usize| u16::from_le_bytes(payload[at..at + 2].try_into().expect("the length is right"));
        let stamp = Stamp { writer: u32_at(0), seq: u32_at(4), index: u16_at(8), count: u16_at(10) };
        assert_eq!(u32_at(12) as usize, payload.len(), "{stamp:?} has another length");
        assert!(payload == stamp.payload(payload.len()), "{stamp:?} has other bytes");
        stamp
    }
}
