//! Mutations that know the format: they change what a segment says and make its checksums right again, so
//! that fuzzing gets past them.

use crate::naive::{BLOCK, HEAD, crc32, header_checksum, number};

/// A source of random numbers (SplitMix64; Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// 2014), made anew from libFuzzer's seed for each mutation.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Mutates the first `size` bytes of `data`, at most to its whole length; how many bytes there are then.
///
/// `raw` is the mutation of plain bytes: of a slice, from so many bytes to at most so many.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    seed: u32,
    raw: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut random = Random(u64::from(seed));
    let max = data.len();
    if size < BLOCK + HEAD || random.below(4) == 0 {
        let size = raw(data, size, max);
        // Plain bytes go on as they are, or are dressed up as a segment.
        if random.below(2) == 0 {
            repair(&mut data[..size]);
        }
        return size;
    }
    let mut bytes = data[..size].to_vec();
    for _ in 0..=random.below(3) {
        structural(&mut bytes, &mut random, raw);
    }
    // Now and then one thing stays wrong, so that what is refused is explored as well.
    repair(&mut bytes);
    if random.below(6) == 0 {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    let size = bytes.len().min(max);
    data[..size].copy_from_slice(&bytes[..size]);
    size
}

/// Makes every checksum right that can be: of the header block, and of each entry that fits into the file, as
/// its length stands.
pub fn repair(bytes: &mut [u8]) {
    if bytes.len() < BLOCK {
        return;
    }
    let sum = crc32(0, &bytes[..BLOCK - 4]).to_le_bytes();
    bytes[BLOCK - 4..BLOCK].copy_from_slice(&sum);
    let salt = number(&bytes[32..36]) as u32;
    for (offset, len) in entries(bytes) {
        let entry = &mut bytes[offset..offset + len];
        let payload_len = number(&entry[24..28]) as usize;
        let sum = crc32(0, &entry[HEAD..HEAD + payload_len]).to_le_bytes();
        entry[28..32].copy_from_slice(&sum);
        let sum = header_checksum(entry, salt, offset as u64).to_le_bytes();
        entry[16..20].copy_from_slice(&sum);
    }
}

/// Offset and length of each entry, as the lengths stand, up to the first that does not fit. Zeros end it:
/// they are not made an entry.
fn entries(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut offset = BLOCK;
    while let Some(head) = bytes.get(offset..offset + HEAD) {
        let len = HEAD + (number(&head[24..28]) as usize).next_multiple_of(8);
        if head.iter().all(|&byte| byte == 0) || offset + len > bytes.len() {
            break;
        }
        found.push((offset, len));
        offset += len;
    }
    found
}

/// Changes one thing that the file says.
pub(crate) fn structural(
    bytes: &mut Vec<u8>,
    random: &mut Random,
    raw: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) {
    let all = entries(bytes);
    if bytes.len() < BLOCK || all.is_empty() {
        return;
    }
    let (offset, len) = random.pick(&all);
    match random.below(12) {
        0 => set_number(&mut bytes[offset..offset + 8], random), // LSN
        1 => set_number(&mut bytes[offset + 8..offset + 16], random), // timestamp
        2 => bytes[offset + 20] = random.pick(&[0, 7, 239, 240, 241, 242, 243, 250, 251, 252, 255]),
        3 => bytes[offset + 21] = random.pick(&[0, 1, 2, 4, 5, 6, 8, 12, 15, 16, 128]),
        4 => bytes[offset + 22 + random.below(2)] = random.pick(&[0, 1, 255]),
        5 => set_number(&mut bytes[offset + 24..offset + 28], random), // payload length
        6 => {
            // The payload: mutated as plain bytes of the same length.
            let payload = &mut bytes[offset + HEAD..offset + len];
            if !payload.is_empty() {
                let len = payload.len();
                raw(payload, len, len);
            }
        }
        7 => {
            // A number inside the payload: the fields of marks, seals and extended entries.
            let words = (len - HEAD) / 4;
            if words > 0 {
                let at = offset + HEAD + 4 * random.below(words.min(16));
                set_number(&mut bytes[at..at + 4], random);
            }
        }
        8 => {
            // A whole frame of the same segment inside a payload, as it stands elsewhere.
            let (from, frame) = random.pick(&all);
            let room = len - HEAD;
            let copy = bytes[from..from + frame.min(room)].to_vec();
            bytes[offset + HEAD..][..copy.len()].copy_from_slice(&copy);
        }
        9 => {
            // An entry once more, somewhere else.
            let (at, _) = random.pick(&all);
            let copy = bytes[offset..offset + len].to_vec();
            bytes.splice(at..at, copy);
        }
        10 => drop(bytes.drain(offset..offset + len)),
        _ => match random.below(4) {
            0 => set_number(&mut bytes[32..36], random), // salt
            1 => {
                let at = random.pick(&[4, 5, 6, 24, 36, 40, 48, 56, 64, 72, 76, 77, 80, 88, 89, 90, 92, 348, 352, 360]);
                let width = random.pick(&[1, 2, 4, 8]);
                set_number(&mut bytes[at..at + width], random);
            }
            2 => bytes.truncate(offset + random.below(len)),
            _ => {
                // A length that ends the file on a boundary, with zeros behind.
                let len = bytes.len().next_multiple_of(BLOCK) + BLOCK * random.below(2);
                bytes.resize(len, 0);
            }
        },
    }
}

/// Sets a little-endian number to one at an edge, or near the one that it was.
pub(crate) fn set_number(bytes: &mut [u8], random: &mut Random) {
    let was = number(bytes);
    let edge =
        [0, 1, 7, 8, 31, 32, 255, 4063, 4064, 4065, 4096, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX];
    let now = match random.below(5) {
        0 => was.wrapping_add(1),
        1 => was.wrapping_sub(1),
        2 => was ^ (1 << random.below(bytes.len() * 8)),
        3 => random.bits(),
        _ => random.pick(&edge),
    };
    let len = bytes.len();
    bytes.copy_from_slice(&now.to_le_bytes()[..len]);
}
