//! What must hold for any bytes, taken for a segment file.
//!
//! 1. No decoder panics, and each says what the naive one says.
//! 2. What a decoder accepts is encoded to the very same bytes.
//! 3. No length is believed unproven: what is said of an entry does not depend on the bytes behind it, and a
//!    header that does not prove itself is refused on its own 32 bytes.

use braidlog_format::{
    DecodeError, Entry, EntryHeader, ExtendedField, ExtendedFields, Flags, IndexPoint, Kind, PadLen, Salt,
    Seal, SealView, SegmentHeader, SegmentName, SyncMark, TornName, pad_len,
};

use crate::naive::{self, BLOCK, Fields, HEAD, Link, SegmentFields, Verdict};
use crate::naive_log;

/// What was found in a file: how much of the format an input reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Whether the segment header is valid.
    pub header: bool,
    /// Valid entries, found from the beginning without a break.
    pub entries: usize,
    /// Valid entries behind a break, at block boundaries.
    pub behind: usize,
    /// Sync marks among them.
    pub marks: usize,
    /// Seals among them.
    pub seals: usize,
    /// Entries among them whose extended fields are valid.
    pub extended: usize,
    /// Entries that prove themselves and are newer.
    pub newer: usize,
}

/// Checks everything about `bytes`, the content of a segment file.
///
/// # Panics
/// If anything does not hold.
pub fn check(bytes: &[u8]) -> Found {
    let mut found = Found { header: check_header(bytes), ..Found::default() };
    check_payloads(bytes);
    check_names(bytes);
    let salt = Salt(bytes.get(32..36).map_or(0, |salt| naive::number(salt) as u32));
    check_locate(bytes, salt);

    let mut offset = BLOCK;
    let mut broken = false;
    while offset < bytes.len() {
        let len = check_entry(&bytes[offset..], offset as u64, salt, &mut found);
        match len {
            Some(_) if broken => found.behind += 1,
            Some(_) => found.entries += 1,
            None => broken = true,
        }
        offset = len.map_or((offset / BLOCK + 1) * BLOCK, |len| offset + len);
    }
    found
}

pub(crate) fn check_header(bytes: &[u8]) -> bool {
    let Some(block) = bytes.first_chunk::<BLOCK>() else { return false };
    let decoded = SegmentHeader::decode(block);
    let expected = naive::segment_header(block);
    assert_eq!(decoded.ok().map(|header| fields_of(&header)), expected, "{decoded:?}");
    match decoded {
        Ok(header) => {
            assert_eq!(
                header.user_metadata.as_bytes(),
                &block[92..][..header.user_metadata.as_bytes().len()]
            );
            let mut again = [0xFF; BLOCK];
            header.encode(&mut again);
            assert!(again == *block, "{header:?} is encoded otherwise");
        }
        Err(DecodeError::ForeignMagic { found }) => assert!(found != *b"GWAL"),
        Err(DecodeError::NewerVersion { version }) => assert!(version > 1),
        Err(error) => assert_eq!(block[..4], *b"GWAL", "{error}"),
    }
    decoded.is_ok()
}

/// A header's fields, in the naive decoder's words.
fn fields_of(header: &SegmentHeader) -> SegmentFields {
    SegmentFields {
        log_id: header.log_id.0,
        incarnation: header.incarnation.0,
        salt: header.salt.0,
        base: header.base.0,
        recycled: header.recycled,
        link: header.predecessor.map(|named| Link {
            base: named.base.0,
            last: named.last.0,
            timestamp_ns: named.last_timestamp_ns,
            checksum: named.last_checksum,
            sealed: named.sealed,
        }),
        open_from: header.open_from.map_or(0, |lsn| lsn.0),
        created_at_ns: header.created_at_ns,
        metadata_len: header.user_metadata.as_bytes().len(),
    }
}

/// Checks `here`, the bytes of a file from offset `at` on; the bytes that its entry takes, if it begins with one.
pub(crate) fn check_entry(here: &[u8], at: u64, salt: Salt, found: &mut Found) -> Option<usize> {
    let expected = naive::entry(here, salt.0, at);
    let decoded = Entry::decode(here, salt, at);
    assert_eq!(verdict(here, &decoded), expected, "at {at}: {decoded:?}");

    if let Some(head) = here.first_chunk::<HEAD>() {
        let alone = EntryHeader::decode(head, salt, at);
        if expected == Verdict::HeaderChecksum {
            assert_eq!(Entry::decode(head, salt, at), decoded, "the header alone decides");
        }
        if let Ok(header) = alone {
            assert_eq!(header.encode(salt, at), *head, "{header:?} is encoded otherwise");
        }
        found.newer += usize::from(alone.is_err_and(DecodeError::is_newer));
    }
    let entry = decoded.ok()?;
    let len = entry.header.entry_len() as usize;
    assert_eq!(Entry::decode(&here[..len], salt, at), decoded, "what is behind does not matter");
    assert!(Entry::decode(&here[..len - 1], salt, at).is_err());

    let header = entry.header;
    let again =
        EntryHeader::for_payload(header.lsn, header.timestamp_ns, header.kind, header.flags, entry.payload);
    let mut encoded = again.encode(salt, at).to_vec();
    encoded.extend_from_slice(entry.payload);
    encoded.resize(len, 0);
    assert!(encoded == here[..len], "{header:?} and its payload are encoded otherwise");

    let (mark, seal, extended) = check_payload(entry.payload);
    found.marks += usize::from(header.kind == Kind::SYNC_MARK && mark);
    found.seals += usize::from(header.kind == Kind::SEAL && seal);
    found.extended += usize::from(header.flags.contains(Flags::EXTENDED) && extended);
    if header.kind == Kind::PAD
        && let PadLen::Payload(pad) = pad_len(at)
        && pad == header.payload_len
    {
        assert!((at + len as u64).is_multiple_of(BLOCK as u64), "a pad ends on a boundary");
    }
    Some(len)
}

/// What the decoder said, in the naive one's words.
fn verdict(bytes: &[u8], decoded: &Result<Entry<'_>, DecodeError>) -> Verdict {
    match *decoded {
        Ok(entry) => {
            let header = entry.header;
            assert_eq!(entry.payload.len(), header.payload_len as usize);
            assert_eq!(entry.payload, &bytes[HEAD..][..entry.payload.len()]);
            Verdict::Entry(Fields {
                lsn: header.lsn.0,
                timestamp_ns: header.timestamp_ns,
                checksum: entry.checksum,
                kind: header.kind.0,
                flags: header.flags.bits(),
                payload_len: header.payload_len,
            })
        }
        Err(DecodeError::Short { have, need }) => {
            assert_eq!(have, bytes.len() as u64);
            assert!(have < need);
            Verdict::Short { need }
        }
        Err(DecodeError::HeaderChecksum { .. }) => Verdict::HeaderChecksum,
        Err(DecodeError::InvalidField { .. }) => Verdict::Reserved,
        Err(DecodeError::NewerFlags { .. }) => Verdict::NewerFlags,
        Err(DecodeError::NewerKind { .. }) => Verdict::NewerKind,
        Err(DecodeError::PayloadChecksum { .. }) => Verdict::PayloadChecksum,
        Err(DecodeError::NonZeroPadding) => Verdict::Padding,
        Err(error) => panic!("an entry is not refused with {error}"),
    }
}

/// The decoders of payloads on bytes that nothing vouches for, of many lengths.
fn check_payloads(bytes: &[u8]) {
    check_payload(bytes);
    for len in [16, 44, BLOCK - HEAD] {
        if let Some(payload) = bytes.get(..len) {
            check_payload(payload);
        }
    }
}

/// Whether a payload is that of a sync mark, of a seal, and of an extended entry.
pub(crate) fn check_payload(payload: &[u8]) -> (bool, bool, bool) {
    let mark = SyncMark::decode(payload);
    assert_eq!(mark.is_ok(), naive::is_sync_mark(payload), "{mark:?}");
    if let Ok(mark) = mark {
        assert_eq!(mark.encode(), payload);
        assert_eq!(mark.durable_lsn.0, naive::number(&payload[..8]));
        assert_eq!(mark.synced_offset, naive::number(&payload[8..]));
    }

    let seal = SealView::decode(payload);
    assert_eq!(seal.is_ok(), naive::is_seal(payload), "{seal:?}");
    if let Ok(view) = seal {
        let open: Vec<u64> = view.in_doubt().collect();
        let index: Vec<IndexPoint> = view.index().collect();
        let seal = Seal {
            count: view.count,
            last_lsn: view.last_lsn,
            last_timestamp_ns: view.last_timestamp_ns,
            last_checksum: view.last_checksum,
            in_doubt: &open,
            index: &index,
        };
        let counted = [naive::number(&payload[28..32]), naive::number(&payload[32..36])];
        assert_eq!([open.len() as u64, index.len() as u64], counted);
        let numbers = [seal.count, seal.last_lsn.0, seal.last_timestamp_ns];
        assert_eq!(numbers, [0, 8, 16].map(|at| naive::number(&payload[at..at + 8])));
        assert_eq!(u64::from(seal.last_checksum), naive::number(&payload[24..28]));
        let mut again = vec![0xFF; payload.len()];
        seal.encode(&mut again);
        assert!(again == payload, "{view:?} is encoded otherwise");
    }
    (mark.is_ok(), seal.is_ok(), check_extended(payload))
}

fn check_extended(payload: &[u8]) -> bool {
    let expected = naive::extended(payload);
    let found = ExtendedFields::split(payload)
        .and_then(|(fields, rest)| Ok((fields.collect::<Result<Vec<ExtendedField<'_>>, _>>()?, rest)));
    let (Ok((fields, rest)), Some((expected, expected_rest))) = (&found, &expected) else {
        assert_eq!(found.is_ok(), expected.is_some(), "{found:?}");
        return false;
    };
    assert_eq!(rest, expected_rest);
    assert_eq!(fields.len(), expected.len());
    for (field, &(kind, value)) in fields.iter().zip(expected) {
        let same = match *field {
            ExtendedField::Transaction(id) => kind == 1 && id == naive::number(value),
            ExtendedField::Stream(id) => kind == 2 && id == naive::number(value),
            ExtendedField::Schema(version) => kind == 3 && u64::from(version) == naive::number(value),
            ExtendedField::Compression { algorithm, plain_len } => {
                kind == 4 && algorithm == value[0] && u64::from(plain_len) == naive::number(&value[1..])
            }
            ExtendedField::Sequence(number) => kind == 5 && number == naive::number(value),
            ExtendedField::Provisional => kind == 6 && value.is_empty(),
            ExtendedField::Ignorable(found, bytes) => kind >= 128 && found == kind && bytes == value,
            _ => false,
        };
        assert!(same, "{field:?} for type {kind}");
    }
    true
}

/// A seal that is found from the end of the file lies inside it and reaches to its end.
fn check_locate(bytes: &[u8], salt: Salt) {
    let Some(trailer) = bytes.last_chunk::<4>() else { return };
    let start = SealView::locate(bytes.len() as u64, *trailer);
    let len = naive::number(trailer) as usize;
    let expected = bytes.len().checked_sub(len + HEAD);
    let expected = expected.filter(|start| {
        bytes.len().is_multiple_of(BLOCK) && start.is_multiple_of(BLOCK) && *start >= BLOCK && len > 0
    });
    assert_eq!(start, expected.map(|start| start as u64));
    if let Some(start) = expected
        && let Ok(entry) = Entry::decode(&bytes[start..], salt, start as u64)
        && entry.header.kind == Kind::SEAL
        && SealView::decode(entry.payload).is_ok()
    {
        assert_eq!(start + entry.header.entry_len() as usize, bytes.len());
    }
}

/// A name that is accepted is the one that is written for what it says.
pub(crate) fn check_names(bytes: &[u8]) {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
    let Ok(name) = std::str::from_utf8(&line[..line.len().min(64)]) else { return };
    let segment = SegmentName::parse(name);
    assert_eq!(segment.map(|segment| segment.0.0), naive_log::segment_base(name), "{name}");
    if let Some(segment) = segment {
        assert_eq!(segment.to_string(), name);
    }
    let torn = TornName::parse(name);
    let expected = naive_log::torn_name(name);
    assert_eq!(torn.map(|torn| (torn.incarnation.0, torn.base.0)), expected, "{name}");
    if let Some(torn) = torn {
        assert_eq!(torn.to_string(), name);
    }
}
