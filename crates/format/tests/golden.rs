//! Kept files of every released version: encoding anew gives the same bytes, decoding gives the values that
//! are listed beside them.
//!
//! `fixtures/v1` is a whole log of three segments (sealed, sealed, not sealed) that any reader of version 1 opens,
//! one file by itself with every log kind and extended fields, and one that had an earlier life. Files of a released version are never
//! written again. Those of a version in the making are, by `BRAIDLOG_WRITE_FIXTURES=v1 cargo test -p
//! braidlog-format --test golden`; the change is then to be read in the listings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use braidlog_format::{
    BLOCK_LEN, ENTRY_HEADER_LEN, Entry, ExtendedFields, Flags, Incarnation, IndexPoint, Kind, LogId, Lsn,
    Predecessor, SEGMENT_HEADER_LEN, Salt, SealView, SegmentHeader, SegmentName, SyncMark, UserMetadata,
};

#[path = "support/document.rs"]
mod document;
#[path = "support/segment_writer.rs"]
mod segment_writer;

use document::Document;
use segment_writer::SegmentWriter;

const LOG_ID: LogId = LogId(*b"braidlog golden!");
const START_NS: u64 = 1_700_000_000_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// A payload that fills more than a block and is easy to know again.
fn long_payload() -> Vec<u8> {
    (0..5000_u32).map(|index| (index % 251) as u8).collect()
}

fn header(incarnation: u64, salt: u32, base: Lsn, predecessor: Option<Predecessor>) -> SegmentHeader {
    SegmentHeader {
        log_id: LOG_ID,
        incarnation: Incarnation(incarnation),
        salt: Salt(salt),
        base,
        predecessor,
        recycled: false,
        created_at_ns: START_NS + incarnation * 1000 * MILLISECOND,
        user_metadata: UserMetadata::new(b"kept for ever").unwrap(),
        open_from: None,
    }
}

/// Single records of every size class, an entry that may be skipped, a batch, an idle mark, a seal with an
/// index.
fn first() -> SegmentWriter {
    let mut segment = SegmentWriter::new(header(1, 0x0BAD_5EED, Lsn::FIRST, None));
    segment.begin_round(Lsn::ZERO, BLOCK_LEN);
    let one = segment.entry(Kind(0), Flags::NONE, b"the first record");
    segment.entry(Kind(239), Flags::NONE, b"");
    segment.entry(Kind(254), Flags::IGNORABLE, b"of a later version");
    segment.entry(Kind(7), Flags::IGNORABLE, b"padded");
    segment.end_round();

    segment.timestamp_ns += MILLISECOND;
    let synced = segment.offset();
    segment.begin_round(Lsn(3), synced);
    segment.entry(Kind(1), Flags::BATCH_CONTINUES, b"debit alice 10");
    let five = segment.entry(Kind(1), Flags::BATCH_CONTINUES, b"credit bob 7");
    segment.entry(Kind(2), Flags::NONE, b"credit carol 3");
    let seven = segment.entry(Kind(0), Flags::NONE, &long_payload());
    segment.end_round();

    segment.timestamp_ns += MILLISECOND;
    let synced = segment.offset();
    segment.begin_round(Lsn(7), synced);
    segment.end_round();

    let index = [(1, one), (5, five), (7, seven)];
    segment.seal(&[], &index.map(|(lsn, offset)| IndexPoint { lsn: Lsn(lsn), offset }));
    segment
}

/// The same incarnation goes on: a round that fills its block exactly, inside a batch.
fn second(first: &SegmentWriter) -> SegmentWriter {
    let mut segment = SegmentWriter::new(header(1, 0x5EED_0BAD, Lsn(8), Some(first.as_predecessor(true))));
    segment.timestamp_ns = first.timestamp_ns + MILLISECOND;
    segment.begin_round(Lsn(7), BLOCK_LEN);
    let eight = segment.entry(Kind(0), Flags::NONE, b"alone");
    let fills = 2 * BLOCK_LEN - segment.offset() - ENTRY_HEADER_LEN;
    segment.entry(Kind(4), Flags::BATCH_CONTINUES, &vec![0x99; fills as usize]);
    segment.end_round();
    assert_eq!(segment.offset(), 2 * BLOCK_LEN, "the round needed no pad");

    // The clock stood still.
    segment.begin_round(Lsn(7), BLOCK_LEN);
    segment.entry(Kind(4), Flags::NONE, b"the batch ends after the end of a round");
    segment.end_round();
    segment.seal(&[], &[IndexPoint { lsn: Lsn(8), offset: eight }]);
    segment
}

/// The next opening: not sealed, with zeros that were laid ahead, and a clock that was far behind.
fn third(second: &SegmentWriter) -> SegmentWriter {
    let mut segment = SegmentWriter::new(header(2, 0xFFFF_FFFF, Lsn(11), Some(second.as_predecessor(true))));
    segment.timestamp_ns = second.timestamp_ns;
    segment.begin_round(Lsn(10), BLOCK_LEN);
    segment.entry(Kind(0), Flags::NONE, b"after the crash");
    segment.entry(Kind(0), Flags::NONE, b"the last record");
    segment.end_round();
    let len = segment.bytes.len() + BLOCK_LEN as usize;
    segment.bytes.resize(len, 0);
    segment
}

/// A file that was the first segment in an earlier life: behind its one round stand the old bytes.
fn recycled(first: &SegmentWriter, third: &SegmentWriter) -> SegmentWriter {
    let header = header(2, 0x0DD5_0F75, Lsn(13), Some(third.as_predecessor(false)));
    let mut segment = SegmentWriter::new(SegmentHeader { recycled: true, ..header });
    segment.timestamp_ns = third.timestamp_ns;
    segment.begin_round(Lsn(12), BLOCK_LEN);
    segment.entry(Kind(0), Flags::NONE, b"in a file that was another");
    segment.end_round();
    let earlier = &first.bytes[segment.bytes.len()..];
    segment.bytes.extend_from_slice(earlier);
    segment
}

/// A kind, the numbers of its payload and what follows them.
type Written = (Kind, &'static [(&'static str, u64)], &'static [u8]);

/// Every log kind with the payload that `docs/format.md` gives it, extended fields, transactions that are open and in doubt.
fn every_kind() -> SegmentWriter {
    let document = Document::read();
    let predecessor = Predecessor {
        base: Lsn(500),
        last: Lsn(999),
        last_timestamp_ns: START_NS - 1,
        last_checksum: 0xDEAD_BEEF,
        sealed: false,
    };
    let header = header(9, 0x1234_5678, Lsn(1000), Some(predecessor));
    let mut segment = SegmentWriter::new(SegmentHeader { open_from: Some(Lsn(900)), ..header });
    segment.begin_round(Lsn(999), BLOCK_LEN);
    let begin = segment.entry(
        Kind::TX_BEGIN,
        Flags::NONE,
        &document.payload("TxBegin", &[("transaction", 77)], b"a label"),
    );

    let mut fields = vec![0, 0];
    fields.extend([&[1, 8][..], &77_u64.to_le_bytes()].concat());
    fields.extend([&[2, 8][..], &5_u64.to_le_bytes()].concat());
    fields.extend([&[3, 4][..], &2_u32.to_le_bytes()].concat());
    fields.extend([200, 3, 1, 2, 3]);
    let len = u16::try_from(fields.len() - 2).unwrap();
    fields[..2].copy_from_slice(&len.to_le_bytes());
    fields.extend(b"in a transaction");
    segment.entry(Kind(3), Flags::EXTENDED, &fields);

    let mut fields = vec![12, 0, 1, 8];
    fields.extend(77_u64.to_le_bytes());
    fields.extend([6, 0]);
    fields.extend(b"to take effect with the transaction");
    segment.entry(Kind(4), Flags::EXTENDED, &fields);

    // What is packed is not this crate's: any bytes will do.
    let mut packed = vec![7, 0, 4, 5, 1, 100, 0, 0, 0];
    packed.extend(b"(packed)");
    segment.entry(Kind(3), Flags::EXTENDED.with(Flags::COMPRESSED), &packed);

    const TRANSACTION: (&str, u64) = ("transaction", 77);
    const BEGUN: (&str, u64) = ("begin LSN", 1000);
    let reserved_now: [Written; 7] = [
        (Kind::TX_GO_BACK, &[TRANSACTION, ("to LSN", 1000)], b""),
        (Kind::TX_PREPARE, &[TRANSACTION, BEGUN, ("entry count", 2)], b"a global id"),
        (Kind::TX_DECISION, &[TRANSACTION, BEGUN, ("decision", 1)], b""),
        (Kind::TX_COMMIT, &[("transaction", 76), ("begin LSN", 900), ("entry count", 0)], b""),
        (Kind::TX_ABORT, &[("transaction", 75), ("begin LSN", 901)], b""),
        (Kind::CHECKPOINT, &[("up to LSN", 990), ("oldest needed LSN", 900)], b"snapshot-4"),
        (Kind::RESTORE_POINT, &[], "before the move \u{2192} 2".as_bytes()),
    ];
    for (kind, numbers, rest) in reserved_now {
        segment.entry(kind, Flags::NONE, &document.payload(kind.name().unwrap(), numbers, rest));
    }

    let lost = segment.next;
    let loss = [("first LSN", lost.0), ("last LSN", lost.0 + 9), ("incarnation", 9), ("cause", 1)];
    segment.entry(Kind::LOSS, Flags::NONE, &document.payload("Loss", &loss, b"ten records unreadable"));
    segment.next = Lsn(lost.0 + 10);
    let after = segment.entry(Kind(0), Flags::NONE, b"the log goes on");
    segment.end_round();
    let index = [(1000, begin), (lost.0 + 10, after)];
    segment.seal(&[77, 78], &index.map(|(lsn, offset)| IndexPoint { lsn: Lsn(lsn), offset }));
    segment
}

/// A segment, entry by entry, as text: what a reader has to find in it.
fn listing(bytes: &[u8]) -> String {
    let block = bytes.first_chunk().expect("the file has a header block");
    let header = SegmentHeader::decode(block).unwrap();
    let SegmentHeader {
        log_id,
        incarnation,
        salt,
        base,
        predecessor,
        recycled,
        created_at_ns,
        user_metadata,
        open_from,
    } = header;
    let mut out = format!(
        "log id {log_id}\nincarnation {incarnation}\nsalt {:#010x}\nbase LSN {base}\ncreated at {created_at_ns}\nuser metadata {}\n",
        salt.0,
        user_metadata.as_bytes().escape_ascii()
    );
    if recycled {
        out.push_str("recycled\n");
    }
    if let Some(open_from) = open_from {
        writeln!(out, "open from LSN {open_from}").unwrap();
    }
    match predecessor {
        None => out.push_str("no predecessor\n"),
        Some(Predecessor { base, last, last_timestamp_ns, last_checksum, sealed }) => writeln!(
            out,
            "predecessor {base}..={last}, timestamp {last_timestamp_ns}, checksum {last_checksum:#010x}, {}",
            if sealed { "sealed" } else { "not sealed" }
        )
        .unwrap(),
    }

    let mut offset = SEGMENT_HEADER_LEN;
    while (offset as usize) < bytes.len() {
        let rest = &bytes[offset as usize..];
        if rest.iter().all(|&byte| byte == 0) {
            writeln!(out, "{offset}: {} zeros", rest.len()).unwrap();
            break;
        }
        let entry = match Entry::decode(rest, salt, offset) {
            Err(_) if recycled => {
                writeln!(out, "{offset}: {} bytes of an earlier life", rest.len()).unwrap();
                break;
            }
            decoded => decoded.unwrap(),
        };
        let header = entry.header;
        let kind = header.kind.name().map_or_else(|| "user".to_owned(), str::to_owned);
        write!(
            out,
            "{offset}: LSN {}, timestamp {}, checksum {:#010x}, kind {} {kind}",
            header.lsn, header.timestamp_ns, entry.checksum, header.kind.0
        )
        .unwrap();
        for (flag, name) in [
            (Flags::BATCH_CONTINUES, "batch continues"),
            (Flags::COMPRESSED, "compressed"),
            (Flags::EXTENDED, "extended"),
            (Flags::IGNORABLE, "ignorable"),
        ] {
            if header.flags.contains(flag) {
                write!(out, ", {name}").unwrap();
            }
        }
        writeln!(out, ", {} bytes of CRC {:#010x}", header.payload_len, header.payload_checksum).unwrap();
        out.push_str(&payload_listing(&entry));
        offset += header.entry_len();
    }
    out
}

fn payload_listing(entry: &Entry<'_>) -> String {
    match entry.header.kind {
        Kind::PAD => String::new(),
        Kind::SYNC_MARK => {
            let mark = SyncMark::decode(entry.payload).unwrap();
            format!("  durable LSN {}, synced offset {}\n", mark.durable_lsn, mark.synced_offset)
        }
        Kind::SEAL => {
            let seal = SealView::decode(entry.payload).unwrap();
            let mut out = format!(
                "  count {}, last LSN {}, last timestamp {}, last checksum {:#010x}\n",
                seal.count, seal.last_lsn, seal.last_timestamp_ns, seal.last_checksum
            );
            for id in seal.in_doubt() {
                writeln!(out, "  in doubt {id}").unwrap();
            }
            for point in seal.index() {
                writeln!(out, "  LSN {} at {}", point.lsn, point.offset).unwrap();
            }
            out
        }
        _ if entry.header.flags.contains(Flags::EXTENDED) => {
            let (fields, rest) = ExtendedFields::split(entry.payload).unwrap();
            let mut out = String::new();
            for field in fields {
                writeln!(out, "  {:?}", field.unwrap()).unwrap();
            }
            writeln!(out, "  \"{}\"", rest.escape_ascii()).unwrap();
            out
        }
        _ if entry.payload.len() > 64 => String::new(),
        _ => format!("  \"{}\"\n", entry.payload.escape_ascii()),
    }
}

fn fixtures(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

/// Compares what is encoded now with a kept file and its listing, or writes both if told to.
fn check(version: &str, name: &str, bytes: &[u8]) {
    let path = fixtures(version).join(name);
    let listed = path.with_extension("txt");
    if std::env::var("BRAIDLOG_WRITE_FIXTURES").is_ok_and(|wanted| wanted == version) {
        fs::write(&path, bytes).unwrap();
        fs::write(&listed, listing(bytes)).unwrap();
    }
    let kept = fs::read(&path).unwrap();
    assert_eq!(listing(&kept), fs::read_to_string(&listed).unwrap(), "{name} decodes to what is listed");
    let differs = bytes.iter().zip(&kept).position(|(now, then)| now != then);
    assert_eq!((differs, bytes.len()), (None, kept.len()), "{name} is encoded to the same bytes");
}

#[test]
fn log_of_version_1_is_encoded_and_decoded_as_ever() {
    let first = first();
    let second = second(&first);
    let third = third(&second);
    for (base, segment) in [(1, &first), (8, &second), (11, &third)] {
        check("v1", &SegmentName(Lsn(base)).to_string(), &segment.bytes);
    }
}

#[test]
fn every_kind_of_version_1_is_encoded_and_decoded_as_ever() {
    check("v1", "every_kind.wal", &every_kind().bytes);
}

#[test]
fn recycled_file_of_version_1_is_encoded_and_decoded_as_ever() {
    let first = first();
    check("v1", "recycled.wal", &recycled(&first, &third(&second(&first))).bytes);
}

#[test]
fn every_kind_is_in_the_kept_files() {
    let bytes = fs::read(fixtures("v1").join("every_kind.wal")).unwrap();
    let salt = SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap().salt;
    let mut kinds = Vec::new();
    let mut offset = SEGMENT_HEADER_LEN;
    while (offset as usize) < bytes.len() {
        let entry = Entry::decode(&bytes[offset as usize..], salt, offset).unwrap();
        kinds.push(entry.header.kind);
        offset += entry.header.entry_len();
    }
    for kind in (240..=255).map(Kind).filter(|kind| kind.is_known()) {
        assert!(kinds.contains(&kind), "{}", kind.name().unwrap());
    }
}

#[test]
fn kept_files_of_a_version_stay_as_they_were() {
    // The last guard: neither a change of the encoders nor a writing of the fixtures passes unseen.
    let kept = [
        ("00000000000000000001.wal", 24576, 0x6810_B573),
        ("00000000000000000008.wal", 16384, 0x54B4_3ED4),
        ("00000000000000000011.wal", 12288, 0x4F56_8018),
        ("every_kind.wal", 12288, 0xD3E1_B83B),
        ("recycled.wal", 24576, 0x8819_BBAD),
    ];
    for (name, len, checksum) in kept {
        let bytes = fs::read(fixtures("v1").join(name)).unwrap();
        let found = (bytes.len(), braidlog_format::checksum::crc32(&bytes));
        assert_eq!(found, (len, checksum), "{name}: {found:x?}");
        assert!(found.0 as u64 >= SEGMENT_HEADER_LEN + ENTRY_HEADER_LEN);
    }
}

#[test]
fn seals_of_kept_files_are_found_from_their_ends() {
    for (name, sealed) in [
        ("00000000000000000001.wal", true),
        ("00000000000000000008.wal", true),
        ("00000000000000000011.wal", false),
        ("every_kind.wal", true),
        ("recycled.wal", false), // The one that stands there is of the earlier life.
    ] {
        let bytes = fs::read(fixtures("v1").join(name)).unwrap();
        let salt = SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap().salt;
        let start = SealView::locate(bytes.len() as u64, *bytes.last_chunk().unwrap());
        let found = start.and_then(|start| Entry::decode(&bytes[start as usize..], salt, start).ok());
        assert_eq!(found.is_some_and(|entry| entry.header.kind == Kind::SEAL), sealed, "{name}");
    }
}
