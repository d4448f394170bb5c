//! One structure of the format in some place: an entry, a segment header, a seal, a mark, extended fields, a
//! name. An input is a few dozen bytes, so that there are many of them in a second.
//!
//! The first byte says what it is; the next twelve are the salt and an offset, in units of eight bytes; the rest
//! is its bytes. A segment header gets its zeros from here, and so does a seal.

use braidlog_format::{PadLen, Salt, SealView, pad_len};

use crate::check::{Found, check_entry, check_header, check_names, check_payload};
use crate::mutate::{Random, set_number};
use crate::naive::{BLOCK, HEAD, crc32, header_checksum, number};

/// What an input is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Bytes of a file, from the offset on.
    Entry,
    /// The first bytes of a header block, and its last four.
    SegmentHeader,
    /// The number of blocks that a seal takes, the first bytes of its payload, and the last four.
    Seal,
    /// A payload.
    Payload,
    /// A file name.
    Name,
}

const SHAPES: [Shape; 5] = [Shape::Entry, Shape::SegmentHeader, Shape::Seal, Shape::Payload, Shape::Name];
/// Bytes before the structure's own.
pub const PLACE_LEN: usize = 13;

/// An input, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment<'a> {
    /// What it is taken for.
    pub shape: Shape,
    /// The salt of the segment that it stands in.
    pub salt: u32,
    /// Its place there, a multiple of 8.
    pub offset: u64,
    /// Its bytes.
    pub body: &'a [u8],
}

impl Fragment<'_> {
    /// The fragment that these bytes are; `None` if there are too few.
    pub fn of(bytes: &[u8]) -> Option<Fragment<'_>> {
        let (place, body) = bytes.split_at_checked(PLACE_LEN)?;
        Some(Fragment {
            shape: SHAPES[usize::from(place[0]) % SHAPES.len()],
            salt: number(&place[1..5]) as u32,
            offset: (number(&place[5..13]) >> 3) << 3,
            body,
        })
    }

    /// The bytes that are this fragment.
    pub fn to_bytes(&self) -> Vec<u8> {
        let shape = SHAPES.iter().position(|shape| *shape == self.shape).unwrap_or(0) as u8;
        let mut bytes = vec![shape];
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// Checks everything about one fragment; what it turned out to be.
///
/// # Panics
/// If anything does not hold.
pub fn check(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let Some(Fragment { shape, salt, offset, body }) = Fragment::of(bytes) else { return found };
    match shape {
        Shape::Entry => {
            // No file is so long that an entry in it could end beyond the last offset.
            let offset = offset.min(1 << 62);
            found.entries = usize::from(check_entry(body, offset, Salt(salt), &mut found).is_some());
            check_pad(offset);
        }
        Shape::SegmentHeader => {
            let mut block = [0; BLOCK];
            with_trailer(&mut block, body);
            found.header = check_header(&block);
        }
        Shape::Seal => {
            let blocks = 1 + usize::from(body.first().copied().unwrap_or(0)) % 4;
            let mut payload = vec![0; blocks * BLOCK - HEAD];
            with_trailer(&mut payload, body.get(1..).unwrap_or(&[]));
            found.seals = usize::from(check_payload(&payload).1);
            check_locate(offset, body);
        }
        Shape::Payload => {
            let (mark, _, extended) = check_payload(body);
            (found.marks, found.extended) = (mark.into(), extended.into());
        }
        Shape::Name => check_names(body),
    }
    found
}

/// Puts the last four bytes of `body` at the end, and what is before them at the beginning.
fn with_trailer(out: &mut [u8], body: &[u8]) {
    let (first, last) = body.split_at(body.len().saturating_sub(4));
    let room = out.len() - 4;
    let first = &first[..first.len().min(room)];
    out[..first.len()].copy_from_slice(first);
    out[room..][..last.len()].copy_from_slice(last);
}

/// A pad reaches the next boundary at which a header fits before it, and no further.
fn check_pad(offset: u64) {
    let block = BLOCK as u64;
    let end = offset + pad_len(offset).file_len();
    assert!(end.is_multiple_of(block));
    match pad_len(offset) {
        PadLen::None => assert!(offset.is_multiple_of(block)),
        PadLen::Payload(len) => {
            assert!(len <= 4088);
            assert!(end - offset < block + HEAD as u64);
        }
    }
}

/// A seal that is claimed lies in the file, behind its header, and ends with it.
fn check_locate(file_len: u64, body: &[u8]) {
    let Some(&trailer) = body.last_chunk::<4>() else { return };
    let payload_len = number(&trailer);
    let (block, head) = (BLOCK as u64, HEAD as u64);
    let expected = file_len.checked_sub(head + payload_len).filter(|start| {
        payload_len > 0 && file_len.is_multiple_of(block) && start.is_multiple_of(block) && *start >= block
    });
    assert_eq!(SealView::locate(file_len, trailer), expected);
}

/// Mutates as [`crate::mutate::mutate`] does, for this target.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    seed: u32,
    raw: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut random = Random(u64::from(seed));
    let max = data.len();
    if size <= PLACE_LEN || random.below(4) == 0 {
        let size = raw(data, size, max);
        if random.below(2) == 0 {
            repair(&mut data[..size]);
        }
        return size;
    }
    for _ in 0..=random.below(3) {
        change(&mut data[..size], &mut random);
    }
    repair(&mut data[..size]);
    if random.below(6) == 0 {
        data[random.below(size)] ^= 1 << random.below(8);
    }
    size
}

/// Changes one thing that the fragment says.
fn change(bytes: &mut [u8], random: &mut Random) {
    // Offset and width of the fields, as the format's tables have them.
    let fields: &[(usize, usize)] = match Fragment::of(bytes).map(|fragment| fragment.shape) {
        Some(Shape::Entry) => {
            &[(0, 8), (8, 8), (20, 1), (21, 1), (22, 2), (24, 4), (32, 2), (34, 1), (35, 1), (36, 8)]
        }
        Some(Shape::SegmentHeader) => &[
            (0, 4),
            (4, 1),
            (5, 1),
            (6, 2),
            (24, 8),
            (32, 4),
            (36, 4),
            (40, 8),
            (48, 8),
            (56, 8),
            (64, 8),
            (72, 4),
            (76, 1),
            (77, 1),
            (88, 1),
            (89, 1),
            (90, 2),
            (92, 8),
        ],
        Some(Shape::Seal) => &[(0, 1), (1, 8), (9, 8), (17, 8), (25, 4), (29, 4), (33, 4), (37, 4), (41, 8)],
        Some(Shape::Payload) => &[(0, 8), (8, 8), (0, 2), (2, 1), (3, 1), (12, 1), (13, 1)],
        _ => &[(0, 1), (20, 1), (21, 1), (24, 1)],
    };
    match random.below(8) {
        0 => set_number(&mut bytes[1..5], random),
        1 => set_number(&mut bytes[5..PLACE_LEN], random),
        _ => {
            let (at, width) = random.pick(fields);
            if let Some(field) = bytes.get_mut(PLACE_LEN + at..PLACE_LEN + at + width) {
                set_number(field, random);
            }
        }
    }
}

/// Makes the checksums right, and the lengths that a reader compares.
fn repair(bytes: &mut [u8]) {
    let Some(Fragment { shape, salt, offset, body }) = Fragment::of(bytes) else { return };
    match shape {
        Shape::Entry if body.len() >= HEAD => {
            let payload_len = number(&body[24..28]) as usize;
            let sum = body.get(HEAD..HEAD + payload_len).map(|payload| crc32(0, payload).to_le_bytes());
            let entry = &mut bytes[PLACE_LEN..];
            if let Some(sum) = sum {
                entry[28..32].copy_from_slice(&sum);
            }
            let sum = header_checksum(entry, salt, offset.min(1 << 62)).to_le_bytes();
            entry[16..20].copy_from_slice(&sum);
        }
        Shape::SegmentHeader if body.len() >= 4 => {
            let mut block = [0; BLOCK];
            with_trailer(&mut block, body);
            let sum = crc32(0, &block[..BLOCK - 4]).to_le_bytes();
            let len = bytes.len();
            bytes[len - 4..].copy_from_slice(&sum);
        }
        Shape::Seal if body.len() > 5 => {
            let blocks = 1 + u32::from(body[0]) % 4;
            let len = bytes.len();
            bytes[len - 4..].copy_from_slice(&(blocks * BLOCK as u32 - HEAD as u32).to_le_bytes());
        }
        _ => {}
    }
}
