//! One flipped bit: the only damage that can be told from a write that never finished.
//!
//! A torn write leaves whole runs of old bytes; that the checksum of such a mixture differs from the right one
//! exactly as one flipped bit would make it differ happens about once in 2^32 / (bits looked at). Unless there was
//! but one bit in what was not written: then the two are the same bytes, and whoever asks has to see to it.

/// The generator of the format's CRC-32, in the bit order in which the register is shifted.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Where one flipped bit is, as a byte counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flipped {
    /// In the checked bytes.
    Checked(u64),
    /// In the checksum that is stored with them.
    Stored(u64),
}

/// The one flipped bit, in `len` checked bytes or in the checksum that is stored with them, that explains why
/// `computed` was found where `found` is stored; `None` if none does.
///
/// A CRC is linear: what a flipped bit changes depends on its distance from the end of the bytes alone.
pub(crate) fn find(found: u32, computed: u32, len: u64) -> Option<Flipped> {
    let difference = found ^ computed;
    if difference.is_power_of_two() {
        return Some(Flipped::Stored(u64::from(difference.trailing_zeros() / 8)));
    }
    let mut change = POLYNOMIAL;
    for distance in 0..len.saturating_mul(8) {
        if change == difference {
            return Some(Flipped::Checked(len.saturating_sub(1).saturating_sub(distance / 8)));
        }
        change = (change >> 1) ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use braidlog_format::checksum::crc32;

    #[test]
    fn each_single_flip_is_explained_and_two_are_not() {
        let mut bytes: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(37)).collect();
        let stored = crc32(&bytes);
        assert_eq!(find(stored, stored, 200), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Some(Flipped::Checked(bit as u64 / 8));
            assert_eq!(find(stored, crc32(&bytes), 200), flipped, "bit {bit}");
            let other = (bit + 77) % (bytes.len() * 8);
            bytes[other / 8] ^= 1 << (other % 8);
            assert_eq!(find(stored, crc32(&bytes), 200), None, "bits {bit} and {other}");
            bytes[other / 8] ^= 1 << (other % 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(find(stored ^ 1 << 9, stored, 200), Some(Flipped::Stored(1)));
    }
}
