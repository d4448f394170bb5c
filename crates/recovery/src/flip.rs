//! One flipped bit: the only damage that can be told from a write that never finished.
//!
//! A torn write leaves whole runs of old bytes; that the checksum of such a mixture differs from the right one
//! exactly as one flipped bit would make it differ happens about once in 2^32 / (bits looked at).

/// The generator of the format's CRC-32, in the bit order in which the register is shifted.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Whether one flipped bit, in `len` checked bytes or in the checksum that is stored with them, explains why
/// `computed` was found where `found` is stored.
///
/// A CRC is linear: what a flipped bit changes depends on its distance from the end of the bytes alone.
pub(crate) fn explains(found: u32, computed: u32, len: u64) -> bool {
    let difference = found ^ computed;
    if difference.is_power_of_two() {
        return true;
    }
    let mut change = POLYNOMIAL;
    for _ in 0..len.saturating_mul(8) {
        if change == difference {
            return true;
        }
        change = (change >> 1) ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use braidlog_format::checksum::crc32;

    #[test]
    fn each_single_flip_is_explained_and_two_are_not() {
        let mut bytes: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(37)).collect();
        let stored = crc32(&bytes);
        assert!(!explains(stored, stored, 200));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(explains(stored, crc32(&bytes), 200), "bit {bit}");
            let other = (bit + 77) % (bytes.len() * 8);
            bytes[other / 8] ^= 1 << (other % 8);
            assert!(!explains(stored, crc32(&bytes), 200), "bits {bit} and {other}");
            bytes[other / 8] ^= 1 << (other % 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(explains(stored ^ 1 << 9, stored, 200), "a flip in the stored checksum");
    }
}
