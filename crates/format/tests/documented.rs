//! `docs/format.md` and the code say the same: every number in its tables is compared with what the
//! encoders write and the decoders accept.

use std::collections::BTreeMap;

use braidlog_format::{
    BLOCK_LEN, CHECKPOINT_RESERVE_NAME, CheckpointName, DecodeError, ENTRY_ALIGN, ENTRY_HEADER_LEN,
    EntryHeader, ExtendedField, ExtendedFields, FORMAT_VERSION, Flags, INDEX_POINTS_MAX, Incarnation,
    IndexPoint, Kind, LogId, Lsn, MAGIC, MANIFEST_NAME, MANIFEST_NEW_NAME, MANIFEST_RESERVE_NAMES,
    MANIFEST_TEXT_MAX, PackedName, PadLen, Predecessor, SEGMENT_HEADER_LEN, STREAM_PAYLOAD_MAX,
    SYNC_MARK_LEN, Salt, Seal, SealView, SegmentHeader, SegmentName, SyncMark, TornName, USER_METADATA_MAX,
    UserMetadata, checksum, pad_len, parse_unfinished_packed, prepared_name, seal_len,
    unfinished_checkpoint_name, unfinished_packed_name,
};

#[path = "support/document.rs"]
mod document;

use document::{Document, Field, assert_fields, crc32_by_the_page, fields_of};

#[test]
fn constants_are_as_documented() {
    let documented: BTreeMap<String, u64> = Document::read()
        .table("Constants")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().unwrap()))
        .collect();
    let coded = [
        ("block", BLOCK_LEN),
        ("entry header", ENTRY_HEADER_LEN),
        ("alignment", ENTRY_ALIGN),
        ("first LSN", Lsn::FIRST.0),
        ("largest LSN", Lsn::MAX.0),
        ("user metadata, most", USER_METADATA_MAX as u64),
        ("index points, most", INDEX_POINTS_MAX as u64),
        ("largest user kind", u64::from(Kind::USER_MAX.0)),
        ("stream payload, most", STREAM_PAYLOAD_MAX as u64),
        ("manifest name, most", MANIFEST_TEXT_MAX as u64),
    ];
    assert_eq!(documented, coded.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn checksum_is_as_documented() {
    assert_eq!(crc32_by_the_page(0, b"123456789"), 0xCBF4_3926);
    assert_eq!(checksum::crc32(b"123456789"), 0xCBF4_3926);
    for seed in [0, 1, 0xA1B2_C3D4, u32::MAX] {
        assert_eq!(checksum::crc32_seeded(seed, b"braid"), crc32_by_the_page(seed, b"braid"));
    }
    let (head, tail) = (&b"1234"[..], &b"56789"[..]);
    assert_eq!(crc32_by_the_page(checksum::crc32(head), tail), 0xCBF4_3926);
}

#[test]
fn file_names_are_as_documented() {
    let rows = Document::read().table("Directory");
    let examples: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    let torn = TornName { base: Lsn(42), incarnation: Incarnation(3) };
    let checkpoint = CheckpointName { lsn: Lsn(42), number: 7 };
    assert_eq!(
        examples,
        [
            &*SegmentName(Lsn(42)).to_string(),
            &*PackedName(Lsn(42)).to_string(),
            &*unfinished_packed_name(Lsn(42)),
            &*prepared_name(7),
            &*torn.to_string(),
            MANIFEST_NAME,
            MANIFEST_NEW_NAME,
            MANIFEST_RESERVE_NAMES[0],
            MANIFEST_RESERVE_NAMES[1],
            MANIFEST_RESERVE_NAMES[2],
            &*checkpoint.to_string(),
            &*unfinished_checkpoint_name(7),
            CHECKPOINT_RESERVE_NAME,
            "quarantine",
            "LOCK"
        ]
    );
    assert_eq!(SegmentName::parse(examples[0]), Some(SegmentName(Lsn(42))));
    assert_eq!(PackedName::parse(examples[1]), Some(PackedName(Lsn(42))));
    assert_eq!(parse_unfinished_packed(examples[2]), Some(Lsn(42)));
    assert_eq!(TornName::parse(examples[4]), Some(torn));
    assert_eq!(CheckpointName::parse(examples[10]), Some(checkpoint));
}

fn sample_header() -> SegmentHeader {
    SegmentHeader {
        log_id: LogId(*b"sixteen id bytes"),
        incarnation: Incarnation(0x0102_0304_0506_0708),
        salt: Salt(0x1112_1314),
        base: Lsn(0x2122_2324_2526_2728),
        predecessor: Some(Predecessor {
            base: Lsn(0x2122_2324_2526_2700),
            last: Lsn(0x2122_2324_2526_2727),
            last_timestamp_ns: 0x3132_3334_3536_3738,
            last_checksum: 0x4142_4344,
            sealed: true,
        }),
        recycled: true,
        created_at_ns: 0x5152_5354_5556_5758,
        user_metadata: UserMetadata::new(&[0x61; 200]).unwrap(),
        open_from: Some(Lsn(0x2122_2324_2526_2701)),
    }
}

#[test]
fn segment_header_is_as_documented() {
    let mut block = [0; SEGMENT_HEADER_LEN as usize];
    sample_header().encode(&mut block);
    let mut metadata = vec![0x61; 200];
    metadata.resize(256, 0);
    let checksum = crc32_by_the_page(0, &block[..4092]).to_le_bytes();
    let expected: [(&str, &[u8]); 17] = [
        ("magic", b"GWAL"),
        ("version", &[1]),
        ("flags", &[1, 0]),
        ("log id", b"sixteen id bytes"),
        ("incarnation", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("salt", &[0x14, 0x13, 0x12, 0x11]),
        ("base LSN", &0x2122_2324_2526_2728_u64.to_le_bytes()),
        ("predecessor base LSN", &0x2122_2324_2526_2700_u64.to_le_bytes()),
        ("predecessor last LSN", &0x2122_2324_2526_2727_u64.to_le_bytes()),
        ("predecessor timestamp", &0x3132_3334_3536_3738_u64.to_le_bytes()),
        ("predecessor checksum", &0x4142_4344_u32.to_le_bytes()),
        ("predecessor sealed", &[1]),
        ("created at", &0x5152_5354_5556_5758_u64.to_le_bytes()),
        ("checksum algorithm", &[1]),
        ("user metadata length", &200_u16.to_le_bytes()),
        ("user metadata", &metadata),
        ("open from LSN", &0x2122_2324_2526_2701_u64.to_le_bytes()),
    ];
    let mut expected = expected.to_vec();
    expected.push(("checksum", &checksum));
    assert_fields("Segment header", &block, &expected);
    assert_eq!((MAGIC, FORMAT_VERSION, checksum::CRC32), (*b"GWAL", 1, 1));
}

#[test]
fn first_segment_names_no_predecessor() {
    let mut block = [0; SEGMENT_HEADER_LEN as usize];
    SegmentHeader { base: Lsn::FIRST, predecessor: None, open_from: None, ..sample_header() }
        .encode(&mut block);
    let fields = fields_of(&Document::read().layout("Segment header"), &block);
    let named: Vec<_> = fields.iter().filter(|(name, _)| name.starts_with("predecessor ")).collect();
    assert_eq!(named.len(), 5);
    assert!(named.iter().all(|(_, value)| value.iter().all(|&byte| byte == 0)));
}

/// A block with bytes written over it, under a right checksum.
fn patched(at: usize, bytes: &[u8]) -> Result<SegmentHeader, DecodeError> {
    let mut block = [0; SEGMENT_HEADER_LEN as usize];
    sample_header().encode(&mut block);
    block[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32_by_the_page(0, &block[..4092]).to_le_bytes();
    block[4092..].copy_from_slice(&checksum);
    SegmentHeader::decode(&block)
}

#[test]
fn impossible_fields_of_a_header_are_refused() {
    let layout = Document::read().layout("Segment header");
    assert_eq!(patched(0, b"GWAL"), Ok(sample_header()));
    for Field { name, offset, len } in &layout {
        let end = offset + len.unwrap();
        let refused: &[(usize, &[u8])] = match name.as_str() {
            "reserved" => &[(*offset, &[1]), (end - 1, &[0x80])],
            "version" => &[(*offset, &[0])],
            "base LSN" => &[(*offset, &[0; 8]), (*offset, &(1_u64 << 63).to_le_bytes())],
            "predecessor base LSN" => &[(*offset, &[0x28])], // One above the last.
            "predecessor last LSN" => &[(*offset, &[0x26]), (*offset, &[0x28]), (*offset, &[0xFF; 8])],
            "predecessor sealed" => &[(*offset, &[2])],
            "user metadata length" => &[(*offset, &257_u16.to_le_bytes()), (*offset, &[0xFF; 2])],
            "user metadata" => &[(end - 1, &[1])], // Behind its length.
            _ => &[],
        };
        for (at, bytes) in refused {
            let found = patched(*at, bytes);
            assert!(matches!(found, Err(DecodeError::InvalidField { .. })), "{name}: {found:?}");
        }
    }
}

#[test]
fn fields_of_a_header_are_judged_in_the_documented_order() {
    let mut sound = [0; SEGMENT_HEADER_LEN as usize];
    sample_header().encode(&mut sound);
    let layout = Document::read().layout("Segment header");
    let at = |name: &str| layout.iter().find(|field| field.name == name).unwrap().offset;
    let seal = |block: &mut [u8; 4096]| {
        let checksum = crc32_by_the_page(0, &block[..4092]).to_le_bytes();
        block[4092..].copy_from_slice(&checksum);
    };

    // Each step breaks one field more, from the last one judged to the first.
    let mut block = sound;
    block[at("predecessor sealed")] = 2;
    seal(&mut block);
    assert_eq!(SegmentHeader::decode(&block), Err(DecodeError::InvalidField { field: "predecessor" }));
    block[at("flags")] = 2;
    seal(&mut block);
    assert!(SegmentHeader::decode(&block).unwrap_err().is_newer());
    block[at("checksum algorithm")] = 2;
    seal(&mut block);
    assert_eq!(SegmentHeader::decode(&block), Err(DecodeError::NewerChecksum { algorithm: 2 }));
    block[at("created at")] ^= 1;
    assert!(matches!(SegmentHeader::decode(&block), Err(DecodeError::HeaderChecksum { .. })));
    block[at("version")] = 2;
    assert_eq!(SegmentHeader::decode(&block), Err(DecodeError::NewerVersion { version: 2 }));
    block[at("magic")] = b'g';
    assert_eq!(SegmentHeader::decode(&block), Err(DecodeError::ForeignMagic { found: *b"gWAL" }));
}

#[test]
fn entry_header_is_as_documented() {
    let (salt, offset) = (Salt(0xFFFF_FFF0), 4096 + 8 * 77);
    let header = EntryHeader {
        lsn: Lsn(0x0102_0304_0506_0708),
        timestamp_ns: 0x1112_1314_1516_1718,
        kind: Kind(33),
        flags: Flags::BATCH_CONTINUES.with(Flags::IGNORABLE),
        payload_len: 0x2122_2324,
        payload_checksum: 0x3132_3334,
    };
    let bytes = header.encode(salt, offset);
    // The seed wraps: the salt is near its largest value.
    let seed = 0xFFFF_FFF0_u32.wrapping_add(u32::try_from(offset / 8).unwrap());
    let checksum = crc32_by_the_page(seed, &[&bytes[..16], &bytes[20..]].concat());
    let expected: [(&str, &[u8]); 7] = [
        ("LSN", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("timestamp", &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]),
        ("checksum", &checksum.to_le_bytes()),
        ("kind", &[33]),
        ("flags", &[9]),
        ("payload length", &[0x24, 0x23, 0x22, 0x21]),
        ("payload checksum", &[0x34, 0x33, 0x32, 0x31]),
    ];
    assert_fields("Entry", &bytes, &expected);
}

#[test]
fn flags_are_as_documented() {
    let documented: Vec<(u8, u8, String)> = Document::read()
        .table("Flags")
        .into_iter()
        .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2].clone()))
        .collect();
    let coded = [
        (Flags::BATCH_CONTINUES, "batch continues"),
        (Flags::COMPRESSED, "compressed"),
        (Flags::EXTENDED, "extended"),
        (Flags::IGNORABLE, "ignorable"),
    ];
    let coded = coded.map(|(flag, name)| (flag.bits().trailing_zeros() as u8, flag.bits(), name.to_owned()));
    assert_eq!(documented, coded);
    for bits in 0..=u8::MAX {
        let known = bits & !documented.iter().fold(0, |all, (_, value, _)| all | value) == 0;
        assert_eq!(Flags::from_bits(bits).is_ok(), known, "{bits:#010b}");
    }
}

#[test]
fn kinds_are_as_documented() {
    let rows = Document::read().table("Kinds");
    assert_eq!(rows.len(), 16);
    for (number, row) in (240..=255).zip(&rows) {
        let kind = Kind(number);
        assert_eq!(row[0], number.to_string());
        assert_eq!(Some(&*row[1]), kind.name());
        assert_eq!(row[2], if kind.takes_lsn() { "yes" } else { "no" }, "{row:?}");
        assert_eq!(row[3] != "never", kind.is_known(), "{row:?}");
        assert!(!kind.is_user());
    }
    let constants = [
        (Kind::SYNC_MARK, "SyncMark"),
        (Kind::PAD, "Pad"),
        (Kind::SEAL, "Seal"),
        (Kind::TX_BEGIN, "TxBegin"),
        (Kind::TX_COMMIT, "TxCommit"),
        (Kind::TX_ABORT, "TxAbort"),
        (Kind::TX_PREPARE, "TxPrepare"),
        (Kind::TX_DECISION, "TxDecision"),
        (Kind::TX_GO_BACK, "TxGoBack"),
        (Kind::CHECKPOINT, "Checkpoint"),
        (Kind::RESTORE_POINT, "RestorePoint"),
        (Kind::LOSS, "Loss"),
    ];
    for (kind, name) in constants {
        assert_eq!(kind.name(), Some(name));
    }
    for number in 0..=Kind::USER_MAX.0 {
        let kind = Kind(number);
        assert!(kind.is_user() && kind.is_known() && kind.takes_lsn() && kind.name().is_none());
    }
}

#[test]
fn every_known_log_kind_has_its_payload_documented() {
    let document = Document::read();
    for kind in (240..=255).map(Kind).filter(|kind| kind.is_known()) {
        let name = kind.name().unwrap();
        if kind == Kind::PAD {
            assert!(!document.section(name).trim().is_empty());
            continue;
        }
        for field in document.layout(name) {
            // Numbers stand at multiples of their size, so that a reader may take them as they stand.
            if let Some(len) = field.len.filter(|_| field.name != "reserved") {
                assert!(matches!(len, 1 | 4 | 8) && field.offset.is_multiple_of(len), "{name}: {field:?}");
            }
        }
    }
}

#[test]
fn sync_mark_is_as_documented() {
    let mark = SyncMark { durable_lsn: Lsn(0x0102_0304_0506_0708), synced_offset: 0x1112_1314_1516_1000 };
    let bytes = mark.encode();
    assert_eq!(bytes.len() as u64, SYNC_MARK_LEN);
    let expected: [(&str, &[u8]); 2] = [
        ("durable LSN", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("synced offset", &[0, 0x10, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]),
    ];
    assert_fields("SyncMark", &bytes, &expected);
    for synced_offset in [0, 8, 4095, 4104] {
        assert!(SyncMark::decode(&SyncMark { synced_offset, ..mark }.encode()).is_err());
    }
}

#[test]
fn pad_is_as_documented() {
    let longest = (0..4096).step_by(8).filter_map(|offset| match pad_len(offset) {
        PadLen::None => None,
        PadLen::Payload(len) => Some(len),
    });
    let longest = longest.max().unwrap();
    assert!(Document::read().section("Pad").contains(&format!("at most {longest}.")));
}

#[test]
fn seal_is_as_documented() {
    let index = [IndexPoint { lsn: Lsn(7), offset: 4128 }, IndexPoint { lsn: Lsn(9), offset: 8224 }];
    let seal = Seal {
        count: 0x0102_0304_0506_0708,
        last_lsn: Lsn(0x1112_1314_1516_1718),
        last_timestamp_ns: 0x2122_2324_2526_2728,
        last_checksum: 0x3132_3334,
        in_doubt: &[5],
        index: &index,
    };
    let mut payload = vec![0xFF; seal.payload_len() as usize];
    seal.encode(&mut payload);
    let mut lists: Vec<u8> = [5_u64, 7, 4128, 9, 8224].iter().flat_map(|word| word.to_le_bytes()).collect();
    lists.resize(payload.len() - 40 - 4, 0);
    lists.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let expected: [(&str, &[u8]); 7] = [
        ("count", &0x0102_0304_0506_0708_u64.to_le_bytes()),
        ("last LSN", &0x1112_1314_1516_1718_u64.to_le_bytes()),
        ("last timestamp", &0x2122_2324_2526_2728_u64.to_le_bytes()),
        ("last checksum", &0x3132_3334_u32.to_le_bytes()),
        ("in doubt count", &1_u32.to_le_bytes()),
        ("index point count", &2_u32.to_le_bytes()),
        ("lists", &lists),
    ];
    assert_fields("Seal", &payload, &expected);
    assert_eq!((ENTRY_HEADER_LEN as usize + payload.len()) % 4096, 0);

    for points in [INDEX_POINTS_MAX, INDEX_POINTS_MAX + 1] {
        let len = seal_len(0, points) as usize;
        let mut payload = vec![0; len];
        payload[32..36].copy_from_slice(&u32::try_from(points).unwrap().to_le_bytes());
        payload[len - 4..].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        assert_eq!(SealView::decode(&payload).is_ok(), points == INDEX_POINTS_MAX);
    }
}

#[test]
fn extended_fields_are_as_documented() {
    let rows = Document::read().table("Extended fields");
    let mut payload = vec![0, 0];
    for row in &rows {
        let (number, len): (u8, u8) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        payload.extend([number, len]);
        payload.extend((1..=len).map(|byte| byte * 16 + number));
    }
    let len = u16::try_from(payload.len() - 2).unwrap();
    payload[..2].copy_from_slice(&len.to_le_bytes());
    payload.extend(b"rest");
    let (fields, rest) = ExtendedFields::split(&payload).unwrap();
    assert_eq!(rest, b"rest");
    let expected = [
        ExtendedField::Transaction(0x8171_6151_4131_2111),
        ExtendedField::Stream(0x8272_6252_4232_2212),
        ExtendedField::Schema(0x4333_2313),
        ExtendedField::Compression { algorithm: 0x14, plain_len: 0x5444_3424 },
        ExtendedField::Sequence(0x8575_6555_4535_2515),
        ExtendedField::Provisional,
    ];
    assert_eq!(fields.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    let names: Vec<_> = rows.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(names, ["transaction", "stream", "schema", "compression", "sequence", "provisional"]);

    for number in 0..=u8::MAX {
        let field = [3, 0, number, 1, 0xEE];
        let (mut fields, _) = ExtendedFields::split(&field).unwrap();
        // No documented field has one byte, so only the types that may be skipped are accepted.
        assert_eq!(fields.next().unwrap().is_ok(), number >= 128, "type {number}");
    }
}

#[test]
fn example_is_what_the_encoder_writes() {
    let header = EntryHeader::for_payload(Lsn(7), 1_700_000_000_000_000_000, Kind(3), Flags::NONE, b"hello");
    let mut bytes = header.encode(Salt(0xA1B2_C3D4), 4136).to_vec();
    bytes.extend(b"hello\0\0\0");
    let shown: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(Document::read().hex("An example"), bytes, "{}", shown.join(" "));
}
