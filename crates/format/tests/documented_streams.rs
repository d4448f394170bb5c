//! `docs/format.md` and the code say the same of the files beside the segments: header, end and every entry of the
//! manifest and of a checkpoint.

use braidlog_format::{
    CHECKPOINT_CHUNK_MAX, CHECKPOINT_DATA, CHECKPOINT_HEAD, CheckpointHead, DecodeError, FORMAT_VERSION,
    Incarnation, Kind, LogId, Lsn, LsnRange, ManifestCheckpoint, ManifestEntry, ManifestHead, PACKED_FRAME,
    PACKED_FRAME_MAX, PACKED_FRAMES_AT, PACKED_HEAD, PACKED_INDEX, PACKED_TAIL_LEN, PACKED_TRAILER,
    PackedFrame, PackedHead, PackedIndex, STREAM_END_LEN, STREAM_HEADER_LEN, Salt, StreamEnd, StreamHeader,
    StreamKind, checksum, entry_len,
};

#[path = "support/document.rs"]
mod document;

use document::{Document, Field, assert_fields, crc32_by_the_page};

const BLOCK: usize = STREAM_HEADER_LEN as usize;

fn sample_header(kind: StreamKind) -> StreamHeader {
    StreamHeader {
        kind,
        log_id: LogId(*b"sixteen id bytes"),
        number: 0x0102_0304_0506_0708,
        salt: Salt(0x1112_1314),
        created_at_ns: 0x5152_5354_5556_5758,
    }
}

#[test]
fn stream_header_is_as_documented() {
    for (kind, magic) in
        [(StreamKind::Manifest, b"GMAN"), (StreamKind::Checkpoint, b"GCKP"), (StreamKind::Packed, b"GPAK")]
    {
        let mut block = [0xFF; BLOCK];
        sample_header(kind).encode(&mut block);
        let checksum = crc32_by_the_page(0, &block[..4092]).to_le_bytes();
        let expected: [(&str, &[u8]); 9] = [
            ("magic", magic),
            ("version", &[1]),
            ("flags", &[0, 0]),
            ("log id", b"sixteen id bytes"),
            ("number", &[8, 7, 6, 5, 4, 3, 2, 1]),
            ("salt", &[0x14, 0x13, 0x12, 0x11]),
            ("created at", &0x5152_5354_5556_5758_u64.to_le_bytes()),
            ("checksum algorithm", &[1]),
            ("checksum", &checksum),
        ];
        assert_fields("Streams", &block, &expected);
        let section = Document::read().section("Streams").to_owned();
        assert!(section.contains(std::str::from_utf8(magic).unwrap()));
    }
    assert_eq!((FORMAT_VERSION, checksum::CRC32), (1, 1));
}

#[test]
fn impossible_fields_of_a_stream_header_are_refused() {
    let patched = |at: usize, bytes: &[u8]| {
        let mut block = [0; BLOCK];
        sample_header(StreamKind::Manifest).encode(&mut block);
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let checksum = crc32_by_the_page(0, &block[..4092]).to_le_bytes();
        block[4092..].copy_from_slice(&checksum);
        StreamHeader::decode(&block, StreamKind::Manifest)
    };
    assert_eq!(patched(0, b"GMAN"), Ok(sample_header(StreamKind::Manifest)));
    for Field { name, offset, len } in Document::read().layout("Streams") {
        let end = offset + len.unwrap();
        match name.as_str() {
            "reserved" => {
                for at in [offset, end - 1] {
                    assert_eq!(patched(at, &[1]), Err(DecodeError::InvalidField { field: "reserved" }));
                }
            }
            "version" => {
                assert_eq!(patched(offset, &[0]), Err(DecodeError::InvalidField { field: "version" }));
                assert!(patched(offset, &[2]).unwrap_err().is_newer());
            }
            "flags" | "checksum algorithm" => {
                assert!(patched(offset, &[2]).unwrap_err().is_newer(), "{name}")
            }
            "number" => {
                assert_eq!(patched(offset, &[0; 8]), Err(DecodeError::InvalidField { field: "number" }));
            }
            _ => {}
        }
    }
}

#[test]
fn end_is_as_documented() {
    let end = StreamEnd { entries: 0x0102_0304_0506_0708, payload_bytes: 0x1112_1314_1516_1718 };
    let bytes = end.encode();
    assert_eq!(bytes.len() as u64, STREAM_END_LEN);
    let expected: [(&str, &[u8]); 2] = [
        ("entries", &0x0102_0304_0506_0708_u64.to_le_bytes()),
        ("payload bytes", &0x1112_1314_1516_1718_u64.to_le_bytes()),
    ];
    assert_fields("End", &bytes, &expected);
    assert_eq!(StreamEnd::decode(&bytes), Ok(end));
    assert!(StreamEnd::decode(&bytes[1..]).is_err());
    assert_eq!(StreamEnd::KIND, Kind(0));
}

/// One entry of each kind, with the numbers that its table lists and the text behind them.
fn samples() -> [(ManifestEntry<'static>, Vec<u64>, &'static str); 7] {
    let head = ManifestHead { log_start: Lsn(41), durable: Lsn(97), uptime_ns: 1 << 40, next_checkpoint: 8 };
    let checkpoint = ManifestCheckpoint {
        number: 7,
        lsn: Lsn(90),
        replay_from: Lsn(85),
        base: 6,
        bytes: 123_456,
        created_at_ns: 1 << 60,
        end_checksum: 0xDEAD_BEEF,
    };
    let lsns = LsnRange { first: Lsn(50), last: Lsn(59) };
    let incarnation = Incarnation(3);
    [
        (ManifestEntry::Head(head), vec![41, 97, 1 << 40, 8], ""),
        (ManifestEntry::Checkpoint(checkpoint), vec![7, 90, 85, 6, 123_456, 1 << 60, 0xDEAD_BEEF], ""),
        (ManifestEntry::Hold { lsn: Lsn(44), name: "replica" }, vec![44], "replica"),
        (ManifestEntry::RestorePoint { lsn: Lsn(60), time_ns: 9, name: "now" }, vec![60, 9], "now"),
        (ManifestEntry::Loss { lsns, incarnation, cause: 2, account: "ten" }, vec![50, 59, 3, 2], "ten"),
        (ManifestEntry::SegmentAge { base: Lsn(41), sealed_at_uptime_ns: 77 }, vec![41, 77], ""),
        (
            ManifestEntry::Stream { id: 3, last_sequence: 12, as_of: Lsn(96), name: "orders" },
            vec![3, 12, 96],
            "orders",
        ),
    ]
}

#[test]
fn entries_of_the_manifest_are_as_documented() {
    let document = Document::read();
    let rows = document.table("Manifest");
    assert_eq!(rows.len(), samples().len());
    for (row, (entry, numbers, text)) in rows.iter().zip(samples()) {
        assert_eq!(row[0], entry.kind().0.to_string(), "{row:?}");
        let heading = &row[1];
        let layout = document.layout(heading);
        let names = layout.iter().filter(|field| field.name != "reserved" && field.len.is_some());
        let names: Vec<&str> = names.map(|field| field.name.as_str()).collect();
        assert_eq!(names.len(), numbers.len(), "{heading}");
        let named: Vec<(&str, u64)> = names.into_iter().zip(numbers).collect();
        let payload = document.payload(heading, &named, text.as_bytes());
        let (fixed, encoded_text) = entry.encode();
        assert_eq!([fixed.as_bytes(), encoded_text.as_bytes()].concat(), payload, "{heading}");
        assert_eq!(ManifestEntry::decode(entry.kind(), &payload), Ok(entry), "{heading}");
        for Field { name, offset, len } in &layout {
            if let Some(len) = len.filter(|_| name != "reserved") {
                assert!(matches!(len, 1 | 4 | 8) && offset.is_multiple_of(len), "{heading}: {name}");
            }
        }
    }
    let unlisted = Kind(rows.len() as u8 + 1);
    assert!(ManifestEntry::decode(unlisted, &[]).unwrap_err().is_newer());
}

#[test]
fn entries_of_a_checkpoint_are_as_documented() {
    let document = Document::read();
    let rows = document.table("Checkpoint files");
    let kinds = [(CHECKPOINT_HEAD, "Checkpoint head"), (CHECKPOINT_DATA, "Checkpoint data")];
    assert_eq!(rows.len(), kinds.len());
    for (row, (kind, name)) in rows.iter().zip(kinds) {
        assert_eq!((row[0].as_str(), row[1].as_str()), (&*kind.0.to_string(), name));
    }
    assert!(document.section("Checkpoint files").contains("A chunk has at most 1 MiB"));
    assert_eq!(CHECKPOINT_CHUNK_MAX, 1 << 20);
    for (head, base) in [
        (CheckpointHead { lsn: Lsn(90), replay_from: Lsn(85), base: Some(6) }, 6),
        (CheckpointHead { lsn: Lsn(90), replay_from: Lsn(85), base: None }, 0),
    ] {
        let numbers = [("up to LSN", 90), ("replay from", 85), ("base", base)];
        let payload = document.payload("Checkpoint head", &numbers, b"");
        assert_eq!(head.encode().to_vec(), payload);
        assert_eq!(CheckpointHead::decode(&payload), Ok(head));
    }
}

#[test]
fn entries_of_a_packed_segment_are_as_documented() {
    let document = Document::read();
    let rows = document.table("Packed segments");
    let kinds = [
        (PACKED_HEAD, "Packed head"),
        (PACKED_FRAME, "Packed frame"),
        (PACKED_INDEX, "Packed index"),
        (PACKED_TRAILER, "Packed trailer"),
    ];
    assert_eq!(rows.len(), kinds.len());
    for (row, (kind, name)) in rows.iter().zip(kinds) {
        assert_eq!((row[0].as_str(), row[1].as_str()), (&*kind.0.to_string(), name));
    }
    let section = document.section("Packed segments");
    assert!(section.contains("A frame has at most 1 MiB") && PACKED_FRAME_MAX == 1 << 20);
    assert!(section.contains("40 and 48 bytes with their headers") && PACKED_TAIL_LEN == 40 + 48);

    let head = PackedHead { base: Lsn(41), last: Lsn(90), len: 4096 + 500 };
    let numbers = [("base LSN", 41), ("last LSN", 90), ("length", 4596)];
    let payload = document.payload("Packed head", &numbers, b"");
    assert_eq!(head.encode().to_vec(), payload);
    assert_eq!(PackedHead::decode(&payload), Ok(head));

    let second = PACKED_FRAMES_AT + entry_len(4096);
    let frames = vec![
        PackedFrame { offset: 0, at: PACKED_FRAMES_AT, lsn: Lsn(0) },
        PackedFrame { offset: 4096, at: second, lsn: Lsn(41) },
    ];
    let rows: Vec<u8> =
        [0, PACKED_FRAMES_AT, 0, 4096, second, 41].iter().flat_map(|number| number.to_le_bytes()).collect();
    let index = PackedIndex { frames, checksum: 0xDEAD_BEEF };
    let payload = document.payload("Packed index", &[("count", 2), ("checksum", 0xDEAD_BEEF)], &rows);
    assert_eq!(index.encode(), payload);
    let index_at = second + entry_len(500);
    assert_eq!(PackedIndex::decode(&payload, &head, index_at), Ok(index));
    assert!(PackedIndex::decode(&payload, &head, index_at + 8).is_err());

    let trailer = document.payload("Packed trailer", &[("index offset", index_at)], b"");
    assert_eq!(trailer, index_at.to_le_bytes());
}
