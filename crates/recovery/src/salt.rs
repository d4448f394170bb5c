//! The salt of a segment whose header is lost, solved from its entries.
//!
//! The rule: an entry's checksum is a CRC that goes on from salt and place, and a CRC can be run backwards. So one entry
//! with a right payload gives the salt that it claims, and the entry behind it proves it.
//!
//! # Limits
//! Nothing vouches for a length before the salt is known. So payloads are read piece by piece, however long they say that
//! they are, and all that are tried have no more bytes than the file has, twice.

use braidlog_format::{
    ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryHeader, Lsn, SEGMENT_HEADER_LEN, Salt,
    checksum::{crc32, crc32_seeded},
};

use crate::RecoveryError;
use crate::window::Window;

/// How far from the header an entry is looked for: what is damaged further is not found again.
const LOOK_LEN: u64 = 4 << 20;
/// Bytes of a payload that are looked at at once.
const PIECE_LEN: u64 = 64 << 10;
/// The generator of the format's CRC-32, in the bit order in which the register is shifted.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The salt of the segment with this base, whose entries the window holds; `None` if no two of them agree on one.
pub(crate) fn solve(window: &mut Window, base: Lsn) -> Result<Option<Salt>, RecoveryError> {
    let end = window.len().min(SEGMENT_HEADER_LEN.saturating_add(LOOK_LEN));
    let mut at = SEGMENT_HEADER_LEN;
    let mut left = window.len().saturating_mul(2);
    while at < end {
        if let Some(salt) = claimed(window, base, at, &mut left)? {
            return Ok(Some(salt));
        }
        at = at.saturating_add(ENTRY_ALIGN);
    }
    Ok(None)
}

/// The salt that the entry at `at` claims and the one behind it proves. `left` bytes of payloads may still be read.
fn claimed(window: &mut Window, base: Lsn, at: u64, left: &mut u64) -> Result<Option<Salt>, RecoveryError> {
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
    if behind.saturating_add(ENTRY_HEADER_LEN) > window.len() || header.entry_len() > *left {
        return Ok(None);
    }
    *left -= header.entry_len();
    let from = at.saturating_add(ENTRY_HEADER_LEN);
    if payload_checksum(window, from, u64::from(header.payload_len))? != Some(header.payload_checksum) {
        return Ok(None);
    }
    window.fill(behind, ENTRY_HEADER_LEN)?;
    let seed = seed_of(&bytes);
    let salt = Salt(seed.wrapping_sub(Salt(0).seed(at)));
    let next = window.at(behind).first_chunk();
    let proved = next.and_then(|next| EntryHeader::decode(next, salt, behind).ok());
    Ok(proved.filter(|next| next.lsn >= lsn && next.timestamp_ns >= header.timestamp_ns).map(|_| salt))
}

/// CRC-32 of so many bytes from `at` on; `None` if the file has fewer.
fn payload_checksum(window: &mut Window, mut at: u64, len: u64) -> Result<Option<u32>, RecoveryError> {
    let end = at.saturating_add(len);
    let mut checksum = crc32(&[]);
    while at < end {
        let piece = (end - at).min(PIECE_LEN);
        window.fill(at, piece)?;
        let Some(bytes) = window.at(at).get(..piece as usize) else { return Ok(None) };
        checksum = crc32_seeded(checksum, bytes);
        at += piece;
    }
    Ok(Some(checksum))
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
    use std::path::Path;

    use braidlog_format::{Flags, Kind};
    use braidlog_sim::{Action, SimDisk};
    use braidlog_storage::Storage;
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt(0x5EED_5A17);

    /// Entries of one life from `at` on, with payloads of these lengths.
    fn entries(at: u64, lens: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (lsn, &len) in (1..).zip(lens) {
            let payload = vec![lsn as u8; len];
            let header = EntryHeader::for_payload(Lsn(lsn), lsn, Kind(1), Flags::NONE, &payload);
            bytes.extend(header.encode(SALT, at + bytes.len() as u64));
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(ENTRY_ALIGN as usize), 0);
        }
        bytes
    }

    /// Solves a file whose header is lost. The longest read, and the bytes of all.
    fn solved(behind: &[u8]) -> (Option<Salt>, u64, u64) {
        let (disk, header) = (SimDisk::new(), vec![0; SEGMENT_HEADER_LEN as usize]);
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        disk.put_raw("log/file", &[&header, behind].concat());
        let mut window = Window::open_device(&dir, "file", 2 * PIECE_LEN as usize).unwrap();
        disk.take_trace();
        let salt = solve(&mut window, Lsn(1)).unwrap();
        let trace = disk.take_trace();
        assert!(trace.len() < braidlog_sim::TRACE_MAX);
        let read = trace.iter().filter_map(|traced| match traced.action {
            Action::Read { len, .. } => Some(len),
            _ => None,
        });
        (salt, read.clone().max().unwrap_or(0), read.sum())
    }

    #[test]
    fn an_entry_that_is_longer_than_the_window_gives_the_salt() {
        for lens in [&[3_000_000, 5][..], &[5, 3_000_000, 0], &[0, 0]] {
            let (salt, longest, _) = solved(&entries(SEGMENT_HEADER_LEN, lens));
            assert_eq!(salt, Some(SALT), "{lens:?}");
            assert!(longest <= 2 * PIECE_LEN + 8192, "{lens:?}: {longest}");
        }
    }

    /// Each of them was believed to be as long as it said, and the window grew to the whole file.
    #[test]
    fn headers_that_claim_huge_payloads_cost_no_memory_and_bounded_reads() {
        let len = 4 << 20;
        let mut bytes = Vec::new();
        while bytes.len() < 256 << 10 {
            let claimed = (len - bytes.len() as u64 - 4 * ENTRY_HEADER_LEN) as u32;
            let header = EntryHeader::for_payload(Lsn(7), 1, Kind(1), Flags::NONE, b"");
            let header = EntryHeader { payload_len: claimed, ..header };
            bytes.extend(header.encode(SALT, SEGMENT_HEADER_LEN + bytes.len() as u64));
        }
        bytes.resize(len as usize, 0xEE);
        let (salt, longest, all) = solved(&bytes);
        assert_eq!(salt, None);
        assert!(longest <= 2 * PIECE_LEN + 8192, "{longest}");
        assert!(all < 8 * len, "{all} bytes of a file of {len}");
    }

    proptest! {
        #[test]
        fn the_seed_of_any_header_is_found(salt: u32, lsn: u64, place in 0..u64::from(u32::MAX), kind in 0..=239_u8) {
            let header = EntryHeader::for_payload(Lsn(lsn), lsn ^ 7, Kind(kind), Flags::NONE, b"payload");
            let bytes = header.encode(Salt(salt), place * 8);
            prop_assert_eq!(seed_of(&bytes), Salt(salt).seed(place * 8));
        }
    }
}
