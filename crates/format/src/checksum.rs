//! The one checksum of the format: CRC-32 (ISO-HDLC, polynomial 0x04C11DB7 reflected), algorithm number 1.

use std::sync::LazyLock;

use crc32fast::Hasher;

/// The number of this algorithm in a segment header.
pub const CRC32: u8 = 1;

/// A fresh hasher. Making one asks what the processor can, which takes as long as a short checksum; a copy of this one
/// knows.
static FRESH: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// CRC-32 of `bytes`.
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut hasher = FRESH.clone();
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 of `pieces`, one behind the other.
pub fn crc32_of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = FRESH.clone();
    pieces.into_iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// CRC-32 of `bytes`, continuing from `seed`.
///
/// An entry's header checksum is seeded with its segment's salt and its place in the file, so that a
/// frame that was moved, is stale or was forged inside a payload never validates.
#[inline]
pub fn crc32_seeded(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 of the little-endian bytes of `words`, continuing from `seed`: what [`crc32_seeded`] gives for them.
///
/// An entry's header has this length, and every record pays for it twice. A general routine takes the bytes
/// behind the last sixteen one by one, each waiting for the one before; here no look-up waits for another
/// ("slicing": Kounavis and Berry, "A systematic approach to building high performance, software-based, CRC
/// generators", 2005, with a table for every place). Of the tables only those lines are warm whose bytes
/// change from header to header.
#[inline]
pub fn crc32_seeded_words(seed: u32, mut words: [u32; HEADER_WORDS]) -> u32 {
    words[0] ^= !seed;
    let mut crc = 0;
    for (tables, word) in TABLES.chunks_exact(4).zip(words) {
        for (table, byte) in tables.iter().zip(word.to_le_bytes()) {
            crc ^= table[usize::from(byte)];
        }
    }
    !crc
}

/// Words of an entry's header that its checksum covers.
pub(crate) const HEADER_WORDS: usize = 7;

/// What each byte value at each place of a header adds to the checksum.
static TABLES: [[u32; 256]; HEADER_WORDS * 4] = tables();

const fn tables() -> [[u32; 256]; HEADER_WORDS * 4] {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut tables = [[0; 256]; HEADER_WORDS * 4];
    let mut place = HEADER_WORDS * 4;
    while place > 0 {
        place -= 1;
        let mut byte = 0;
        while byte < 256 {
            // A byte at the last place; further ahead, what it leaves there and eight more zero bits.
            let last = place == HEADER_WORDS * 4 - 1;
            let mut crc = if last { byte as u32 } else { tables[place + 1][byte] };
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (if crc & 1 == 1 { POLYNOMIAL } else { 0 });
                bit += 1;
            }
            tables[place][byte] = crc;
            byte += 1;
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn checksum_of_words_is_that_of_their_bytes(seed: u32, words: [u32; HEADER_WORDS]) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(crc32_seeded_words(seed, words), crc32_seeded(seed, &bytes));
        }
    }
}
