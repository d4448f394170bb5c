//! The one checksum of the format: CRC-32 (ISO-HDLC, polynomial 0x04C11DB7 reflected), algorithm number 1.

/// The number of this algorithm in a segment header.
pub const CRC32: u8 = 1;

/// CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC-32 of `bytes`, continuing from `seed`.
///
/// An entry's header checksum is seeded with its segment's salt and its place in the file, so that a
/// frame that was moved, is stale or was forged inside a payload never validates.
pub fn crc32_seeded(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}
