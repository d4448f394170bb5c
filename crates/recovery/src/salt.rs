//! The salt of a segment whose header is lost, solved from its entries.
//!
//! The rule: an entry's checksum is a CRC that goes on from salt and place, and a CRC can be run backwards. So one entry
//! with a right payload gives the salt that it claims, and the entry behind it proves it.

use braidlog_format::{
    ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryHeader, Lsn, SEGMENT_HEADER_LEN, Salt, checksum::crc32_seeded,
};

use crate::RecoveryError;
use crate::window::Window;

/// How far from the header an entry is looked for: what is damaged further is not found again.
const LOOK_LEN: u64 = 4 << 20;
/// The generator of the format's CRC-32, in the bit order in which the register is shifted.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The salt of the segment with this base, whose entries the window holds; `None` if no two of them agree on one.
pub(crate) fn solve(window: &mut Window, base: Lsn) -> Result<Option<Salt>, RecoveryError> {
    let end = window.len().min(SEGMENT_HEADER_LEN.saturating_add(LOOK_LEN));
    let mut at = SEGMENT_HEADER_LEN;
    while at < end {
        if let Some(salt) = claimed(window, base, at)? {
            return Ok(Some(salt));
        }
        at = at.saturating_add(ENTRY_ALIGN);
    }
    Ok(None)
}

/// The salt that the entry at `at` claims and the one behind it proves.
fn claimed(window: &mut Window, base: Lsn, at: u64) -> Result<Option<Salt>, RecoveryError> {
    window.fill(at, ENTRY_HEADER_LEN)?;
    let Some(bytes) = window.at(at).first_chunk::<{ ENTRY_HEADER_LEN as usize }>().copied() else {
        return Ok(None);
    };
    let lsn = EntryHeader::stored_lsn(&bytes);
    // A recorded loss takes many LSNs and no bytes, so there is no limit above.
    if lsn < base || lsn > Lsn::MAX {
        return Ok(None);
    }
    let Ok(header) = EntryHeader::decode_proved(&bytes) else { return Ok(None) };
    let behind = at.saturating_add(header.entry_len());
    if behind > window.len() {
        return Ok(None);
    }
    let need = header.entry_len().saturating_add(ENTRY_HEADER_LEN);
    if window.fill(at, need)? < need {
        return Ok(None);
    }
    let entry = window.at(at).get(ENTRY_HEADER_LEN as usize..).unwrap_or(&[]);
    let (payload, padding) = (header.payload_len as usize, (header.entry_len() - ENTRY_HEADER_LEN) as usize);
    let (Some(payload), Some(padding)) = (entry.get(..payload), entry.get(payload..padding)) else {
        return Ok(None);
    };
    if header.check_payload(payload, padding).is_err() {
        return Ok(None);
    }
    let seed = seed_of(&bytes);
    let salt = Salt(seed.wrapping_sub(Salt(0).seed(at)));
    let next = window.at(behind).first_chunk();
    let proved = next.and_then(|next| EntryHeader::decode(next, salt, behind).ok());
    Ok(proved.filter(|next| next.lsn >= lsn && next.timestamp_ns >= header.timestamp_ns).map(|_| salt))
}

/// The seed with which this header's checksum is right.
fn seed_of(bytes: &[u8; ENTRY_HEADER_LEN as usize]) -> u32 {
    let (before, rest) = bytes.split_at(16);
    let checked = [before, rest.get(4..).unwrap_or(&[])].concat();
    // What the bytes add to a register of zeros; the rest of the register is the seed, shifted.
    let mut register = !EntryHeader::stored_checksum(bytes) ^ !crc32_seeded(u32::MAX, &checked);
    for _ in 0..checked.len() * 8 {
        let carried = register >> 31;
        register = ((register ^ if carried == 1 { POLYNOMIAL } else { 0 }) << 1) | carried;
    }
    !register
}

#[cfg(test)]
mod tests {
    use braidlog_format::{Flags, Kind};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_seed_of_any_header_is_found(salt: u32, lsn: u64, place in 0..u64::from(u32::MAX), kind in 0..=239_u8) {
            let header = EntryHeader::for_payload(Lsn(lsn), lsn ^ 7, Kind(kind), Flags::NONE, b"payload");
            let bytes = header.encode(Salt(salt), place * 8);
            prop_assert_eq!(seed_of(&bytes), Salt(salt).seed(place * 8));
        }
    }
}
