//! Entries that take no LSN and keep a round in shape: the sync mark before it, the pad behind it.

use crate::entry::u64_at;
use crate::{BLOCK_LEN, DecodeError, ENTRY_HEADER_LEN, Lsn, entry_len};

/// Bytes of a sync mark's payload.
pub const SYNC_MARK_LEN: u64 = 16;

/// What a sync mark says. Both numbers come from completed syncs and stand on a batch boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncMark {
    /// Every record up to here was durable when the mark was written.
    pub durable_lsn: Lsn,
    /// Every byte of this file before this offset was synced when the mark was written. A bad byte
    /// before it is damage, not a torn tail.
    pub synced_offset: u64,
}

impl SyncMark {
    /// The payload's bytes.
    pub fn encode(&self) -> [u8; SYNC_MARK_LEN as usize] {
        let mut bytes = [0; SYNC_MARK_LEN as usize];
        bytes[..8].copy_from_slice(&self.durable_lsn.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.synced_offset.to_le_bytes());
        bytes
    }

    /// What a sync mark's payload says.
    ///
    /// # Errors
    /// [`DecodeError::InvalidField`] if the payload is not that of a sync mark.
    pub fn decode(payload: &[u8]) -> Result<SyncMark, DecodeError> {
        if payload.len() as u64 != SYNC_MARK_LEN {
            return Err(DecodeError::InvalidField { field: "sync mark length" });
        }
        let mark = SyncMark { durable_lsn: Lsn(u64_at(payload, 0)), synced_offset: u64_at(payload, 8) };
        if mark.synced_offset < BLOCK_LEN || !mark.synced_offset.is_multiple_of(BLOCK_LEN) {
            return Err(DecodeError::InvalidField { field: "sync mark offset" });
        }
        Ok(mark)
    }
}

/// How a file is filled from an offset to a block boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PadLen {
    /// The offset is a boundary already.
    None,
    /// A pad entry whose payload is this many zeros.
    Payload(u32),
}

/// The pad that takes `offset` to the next block boundary, or to the one after it where fewer than 32
/// bytes are left.
pub const fn pad_len(offset: u64) -> PadLen {
    let rest = offset.next_multiple_of(BLOCK_LEN) - offset;
    if rest == 0 {
        PadLen::None
    } else if rest < ENTRY_HEADER_LEN {
        PadLen::Payload((rest + BLOCK_LEN - ENTRY_HEADER_LEN) as u32)
    } else {
        PadLen::Payload((rest - ENTRY_HEADER_LEN) as u32)
    }
}

impl PadLen {
    /// Bytes that the pad takes in the file.
    pub const fn file_len(self) -> u64 {
        match self {
            PadLen::None => 0,
            PadLen::Payload(len) => entry_len(len as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_aligned_offset_is_padded_to_a_boundary() {
        for offset in (0..3 * BLOCK_LEN).step_by(8) {
            let end = offset + pad_len(offset).file_len();
            assert_eq!(end % BLOCK_LEN, 0);
            assert!(end - offset < BLOCK_LEN + ENTRY_HEADER_LEN);
        }
    }
}
