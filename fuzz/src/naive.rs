//! Version 1 decoded once more, from `docs/format.md` alone: plain, slow, and without a line of the crate
//! that is tested. Whatever the two say differently is a bug in one of them.

/// Bytes of a block, and of a segment header.
pub const BLOCK: usize = 4096;
/// Bytes of an entry header.
pub const HEAD: usize = 32;

/// What stands at an offset of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Fewer bytes than a header has, or than the proved header says.
    Short {
        /// Bytes that the entry needs; 32 while its header is not whole.
        need: u64,
    },
    /// The header does not prove itself.
    HeaderChecksum,
    /// The header proves itself, its reserved bytes are not zero.
    Reserved,
    /// The header proves itself and has a flag bit above 3.
    NewerFlags,
    /// The header proves itself and has a kind of 252 or above that may not be skipped.
    NewerKind,
    /// The payload is not what the header vouches for.
    PayloadChecksum,
    /// The padding is not zero.
    Padding,
    /// A whole entry.
    Entry(Fields),
}

/// The fields of an entry's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Offset 0.
    pub lsn: u64,
    /// Offset 8.
    pub timestamp_ns: u64,
    /// Offset 16.
    pub checksum: u32,
    /// Offset 20.
    pub kind: u8,
    /// Offset 21.
    pub flags: u8,
    /// Offset 24.
    pub payload_len: u32,
}

impl Fields {
    /// Bytes of the entry in its file.
    pub fn entry_len(&self) -> u64 {
        HEAD as u64 + u64::from(self.payload_len).div_ceil(8) * 8
    }
}

/// The little-endian number in `bytes`, which has at most eight.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
}

/// CRC-32 of `bytes`, going on from `seed`.
pub fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |state, &byte| TABLE[usize::from(state as u8 ^ byte)] ^ (state >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut state = index as u32;
        let mut bit = 0;
        while bit < 8 {
            state = (state >> 1) ^ (0xEDB8_8320 * (state & 1));
            bit += 1;
        }
        table[index] = state;
        index += 1;
    }
    table
};

/// The checksum that the header at `offset` of a segment with this salt should have.
pub fn header_checksum(head: &[u8], salt: u32, offset: u64) -> u32 {
    let seed = salt.wrapping_add((offset / 8) as u32);
    crc32(crc32(seed, &head[..16]), &head[20..HEAD])
}

/// What stands at the start of `bytes`, at `offset` of a segment with this salt.
pub fn entry(bytes: &[u8], salt: u32, offset: u64) -> Verdict {
    if bytes.len() < HEAD {
        return Verdict::Short { need: HEAD as u64 };
    }
    let fields = Fields {
        lsn: number(&bytes[..8]),
        timestamp_ns: number(&bytes[8..16]),
        checksum: number(&bytes[16..20]) as u32,
        kind: bytes[20],
        flags: bytes[21],
        payload_len: number(&bytes[24..28]) as u32,
    };
    if header_checksum(bytes, salt, offset) != fields.checksum {
        return Verdict::HeaderChecksum;
    }
    if bytes[22..24] != [0, 0] {
        return Verdict::Reserved;
    }
    if fields.flags > 15 {
        return Verdict::NewerFlags;
    }
    if fields.kind >= 252 && fields.flags & 8 == 0 {
        return Verdict::NewerKind;
    }
    let need = fields.entry_len();
    if (bytes.len() as u64) < need {
        return Verdict::Short { need };
    }
    let end = HEAD + fields.payload_len as usize;
    if crc32(0, &bytes[HEAD..end]) != number(&bytes[28..32]) as u32 {
        return Verdict::PayloadChecksum;
    }
    if bytes[end..need as usize].iter().any(|&byte| byte != 0) {
        return Verdict::Padding;
    }
    Verdict::Entry(fields)
}

/// The fields of a segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFields {
    /// Offset 8.
    pub log_id: [u8; 16],
    /// Offset 24.
    pub incarnation: u64,
    /// Offset 32.
    pub salt: u32,
    /// Offset 40.
    pub base: u64,
    /// Bit 0 of offset 6.
    pub recycled: bool,
    /// Offset 48 to 76, if one is named.
    pub link: Option<Link>,
    /// Offset 352.
    pub open_from: u64,
    /// Offset 80.
    pub created_at_ns: u64,
    /// Offset 90.
    pub metadata_len: usize,
}

/// How a header names the segment before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its base.
    pub base: u64,
    /// Its last LSN.
    pub last: u64,
    /// That entry's timestamp.
    pub timestamp_ns: u64,
    /// That entry's header checksum.
    pub checksum: u32,
    /// Whether a synced seal ends it.
    pub sealed: bool,
}

/// What a block says that is a segment header which version 1 accepts.
pub fn segment_header(block: &[u8]) -> Option<SegmentFields> {
    let zeros = |from: usize, to: usize| block[from..to].iter().all(|&byte| byte == 0);
    let at = |from: usize, to: usize| number(&block[from..to]);
    let largest = u64::MAX >> 1;
    let base = at(40, 48);
    let metadata_len = at(90, 92) as usize;
    let link = (!zeros(48, 77)).then(|| Link {
        base: at(48, 56),
        last: at(56, 64),
        timestamp_ns: at(64, 72),
        checksum: at(72, 76) as u32,
        sealed: block[76] == 1,
    });
    let linked = link.is_none_or(|link| {
        block[76] <= 1 && link.base <= link.last && link.last.checked_add(1) == Some(base)
    });
    let accepted = block[..5] == *b"GWAL\x01"
        && at(4092, 4096) == u64::from(crc32(0, &block[..4092]))
        && block[88] == 1
        && metadata_len <= 256
        && block[6] <= 1
        && [(5, 6), (7, 8), (36, 40), (77, 80), (89, 90), (348, 352), (360, 4092)]
            .iter()
            .all(|&(from, to)| zeros(from, to))
        && zeros(92 + metadata_len, 348)
        && (1..=largest).contains(&base)
        && at(352, 360) < base
        && linked;
    accepted.then(|| SegmentFields {
        log_id: std::array::from_fn(|index| block[8 + index]),
        incarnation: at(24, 32),
        salt: at(32, 36) as u32,
        base,
        recycled: block[6] == 1,
        link,
        open_from: at(352, 360),
        created_at_ns: at(80, 88),
        metadata_len,
    })
}

/// Whether a payload is that of a seal.
pub fn is_seal(payload: &[u8]) -> bool {
    if payload.len() < 44 {
        return false;
    }
    let (open, points) = (number(&payload[28..32]), number(&payload[32..36]));
    let lists = 8 * open + 16 * points;
    let len = (32 + 40 + lists + 4).next_multiple_of(BLOCK as u64) - 32;
    let trailer = payload.len() - 4;
    points <= 1000
        && len == payload.len() as u64
        && number(&payload[trailer..]) == len
        && payload[36..40].iter().all(|&byte| byte == 0)
        && payload[40 + lists as usize..trailer].iter().all(|&byte| byte == 0)
}

/// Whether a payload is that of a sync mark.
pub fn is_sync_mark(payload: &[u8]) -> bool {
    let block = BLOCK as u64;
    payload.len() == 16 && number(&payload[8..]) >= block && number(&payload[8..]).is_multiple_of(block)
}

/// Whether a payload is that of a TxPrepare.
pub fn is_prepare(payload: &[u8]) -> bool {
    payload.len() >= 24 && number(&payload[..8]) > 0 && (1..=u64::MAX >> 1).contains(&number(&payload[8..16]))
}

/// Whether a payload is that of a TxDecision.
pub fn is_decision(payload: &[u8]) -> bool {
    payload.len() == 24
        && is_prepare(payload)
        && matches!(payload[16], 1 | 2)
        && payload[17..].iter().all(|&byte| byte == 0)
}

/// The types and values of extended fields.
pub type ExtendedFields<'a> = Vec<(u8, &'a [u8])>;

/// The fields that an extended payload begins with, and the rest; `None` if they are not what the page says.
pub fn extended(payload: &[u8]) -> Option<(ExtendedFields<'_>, &[u8])> {
    let len = number(payload.get(..2)?) as usize;
    let (mut fields, rest) = payload[2..].split_at_checked(len)?;
    let mut found = Vec::new();
    while let [number, len, behind @ ..] = fields {
        let (value, next) = behind.split_at_checked(usize::from(*len))?;
        let known = matches!((number, len), (1 | 2 | 5, 8) | (3, 4) | (4, 5) | (6, 0) | (128.., _));
        found.push((*number, known.then_some(value)?));
        fields = next;
    }
    fields.is_empty().then_some((found, rest))
}

/// Whether the payload of a record begins with fields that a record can have: each type once, in order, none that says how
/// the payload is compressed, and none that says that it takes effect with a transaction unless it belongs to one.
pub fn has_fields_of_record(payload: &[u8]) -> bool {
    extended(payload).is_some_and(|(fields, _)| {
        let has = |number: u8| fields.iter().any(|(kind, _)| *kind == number);
        fields.is_sorted_by(|(before, _), (next, _)| before < next) && !has(4) && (has(1) || !has(6))
    })
}
