//! Kept files beside the segments: encoding anew gives the same bytes, decoding gives the values that are listed
//! beside them. The rules are those of the kept segments, see `golden.rs`; written by
//! `BRAIDLOG_WRITE_FIXTURES=v1 cargo test -p braidlog-format --test golden_streams`.

use std::fs;
use std::path::{Path, PathBuf};

use braidlog_format::{
    CHECKPOINT_DATA, CHECKPOINT_HEAD, CheckpointHead, Flags, Incarnation, Kind, LogId, Lsn, LsnRange,
    ManifestCheckpoint, ManifestEntry, ManifestHead, PACKED_FRAME, PACKED_HEAD, PACKED_INDEX, PACKED_TRAILER,
    PackedFrame, PackedHead, PackedIndex, StreamHeader, StreamKind, ZSTD, checksum::crc32,
    compression_fields,
};

#[path = "support/stream_bytes.rs"]
mod stream_bytes;

use stream_bytes::{StreamBytes, listing};

const LOG_ID: LogId = LogId(*b"braidlog golden!");
const START_NS: u64 = 1_700_000_000_000_000_000;

/// Something of everything, and an entry that may be skipped.
fn manifest() -> Vec<u8> {
    let mut stream = StreamBytes::new(StreamHeader::new(StreamKind::Manifest, LOG_ID, 12, START_NS));
    let full = ManifestCheckpoint {
        number: 3,
        lsn: Lsn(900),
        replay_from: Lsn(901),
        base: 0,
        bytes: 1 << 33,
        created_at_ns: START_NS - 7,
        end_checksum: 0xDEAD_BEEF,
    };
    let delta = ManifestCheckpoint { number: 4, lsn: Lsn(950), replay_from: Lsn(940), base: 3, ..full };
    let entries = [
        ManifestEntry::Head(ManifestHead {
            log_start: Lsn(801),
            durable: Lsn(1000),
            uptime_ns: 86_400_000_000_000,
            next_checkpoint: 5,
        }),
        ManifestEntry::Checkpoint(full),
        ManifestEntry::Checkpoint(delta),
        ManifestEntry::Hold { lsn: Lsn(850), name: "archive" },
        ManifestEntry::Hold { lsn: Lsn(990), name: "replica \u{2192} 2" },
        ManifestEntry::RestorePoint { lsn: Lsn(930), time_ns: START_NS - 5, name: "before the move" },
        ManifestEntry::Loss {
            lsns: LsnRange { first: Lsn(910), last: Lsn(919) },
            incarnation: Incarnation(9),
            cause: 1,
            account: "ten records unreadable",
        },
        ManifestEntry::SegmentAge { base: Lsn(801), sealed_at_uptime_ns: 4_000_000_000_000 },
        ManifestEntry::SegmentAge { base: Lsn(945), sealed_at_uptime_ns: 80_000_000_000_000 },
        ManifestEntry::Stream { id: 1, last_sequence: 77, as_of: Lsn(1000), name: "orders" },
        ManifestEntry::Stream { id: 7, last_sequence: 0, as_of: Lsn(800), name: "tenant \u{2192} 7" },
    ];
    for entry in entries {
        let (fixed, text) = entry.encode();
        stream.entry(entry.kind(), Flags::NONE, &[fixed.as_bytes(), text.as_bytes()].concat());
    }
    stream.entry(Kind(99), Flags::IGNORABLE, b"of a later version");
    stream.end()
}

/// The head, a chunk as it is, one that is compressed, and an entry that may be skipped.
fn checkpoint() -> Vec<u8> {
    let mut stream = StreamBytes::new(StreamHeader::new(StreamKind::Checkpoint, LOG_ID, 4, START_NS - 7));
    let head = CheckpointHead { lsn: Lsn(950), replay_from: Lsn(940), base: Some(3) };
    stream.entry(CHECKPOINT_HEAD, Flags::NONE, &head.encode());
    stream.entry(CHECKPOINT_DATA, Flags::NONE, b"the state, as its application writes it");
    let len = 70_000_u32;
    let packed = [&compression_fields(ZSTD, len)[..], &zstd_run(len)].concat();
    stream.entry(CHECKPOINT_DATA, Flags::EXTENDED.with(Flags::COMPRESSED), &packed);
    stream.entry(Kind(99), Flags::IGNORABLE, b"of a later version");
    stream.end()
}

/// A segment of a header block and a run of one byte, which is not one that holds entries: to this file they are bytes.
/// One frame is as it is, the other compressed.
fn packed() -> Vec<u8> {
    let base = Lsn(801);
    let mut stream = StreamBytes::new(StreamHeader::new(StreamKind::Packed, LOG_ID, base.0, START_NS - 9));
    let (block, len) = ([b'h'; 4096], 70_000_u32);
    let head = PackedHead { base, last: Lsn(900), len: 4096 + u64::from(len) };
    stream.entry(PACKED_HEAD, Flags::NONE, &head.encode());
    let mut frames = vec![PackedFrame { offset: 0, at: stream.bytes.len() as u64, lsn: Lsn(0) }];
    stream.entry(PACKED_FRAME, Flags::NONE, &block);
    frames.push(PackedFrame { offset: 4096, at: stream.bytes.len() as u64, lsn: base });
    let packed = [&compression_fields(ZSTD, len)[..], &zstd_run(len)].concat();
    stream.entry(PACKED_FRAME, Flags::EXTENDED.with(Flags::COMPRESSED), &packed);
    let index_at = stream.bytes.len() as u64;
    let checksum = crc32(&[&block[..], &vec![b'x'; len as usize]].concat());
    let index = PackedIndex { frames, checksum }.encode();
    assert!(PackedIndex::decode(&index, &head, index_at).is_ok());
    stream.entry(PACKED_INDEX, Flags::NONE, &index);
    stream.entry(PACKED_TRAILER, Flags::NONE, &index_at.to_le_bytes());
    stream.end()
}

/// A frame of zstd that repeats one byte, written by hand (RFC 8878): magic, a frame header with the content size, and a
/// block of run length, which is flagged as the last.
fn zstd_run(len: u32) -> Vec<u8> {
    let [low, middle, high, _] = (len << 3 | 1 << 1 | 1).to_le_bytes();
    [&[0x28, 0xB5, 0x2F, 0xFD, 0xA0][..], &len.to_le_bytes(), &[low, middle, high, b'x']].concat()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Compares what is encoded now with a kept file and its listing, or writes both if told to.
fn check(name: &str, kind: StreamKind, bytes: &[u8]) {
    let path = fixtures().join(name);
    let listed = fixtures().join(format!("{name}.txt"));
    if std::env::var("BRAIDLOG_WRITE_FIXTURES").is_ok_and(|wanted| wanted == "v1") {
        fs::write(&path, bytes).unwrap();
        fs::write(&listed, listing(bytes, kind)).unwrap();
    }
    let kept = fs::read(&path).unwrap();
    assert_eq!(
        listing(&kept, kind),
        fs::read_to_string(&listed).unwrap(),
        "{name} decodes to what is listed"
    );
    let differs = bytes.iter().zip(&kept).position(|(now, then)| now != then);
    assert_eq!((differs, bytes.len()), (None, kept.len()), "{name} is encoded to the same bytes");
}

#[test]
fn manifest_of_version_1_is_encoded_and_decoded_as_ever() {
    check("every_entry.manifest", StreamKind::Manifest, &manifest());
}

#[test]
fn checkpoint_of_version_1_is_encoded_and_decoded_as_ever() {
    check("delta.ckpt", StreamKind::Checkpoint, &checkpoint());
}

#[test]
fn packed_segment_of_version_1_is_encoded_and_decoded_as_ever() {
    check("packed.walz", StreamKind::Packed, &packed());
}

#[test]
fn kept_files_of_a_version_stay_as_they_were() {
    // The last guard: neither a change of the encoders nor a writing of the fixtures passes unseen.
    let kept = [
        ("every_entry.manifest", 4928, 0xA563_93C7),
        ("delta.ckpt", 4384, 0x712A_5301),
        ("packed.walz", 8512, 0x087E_9410),
    ];
    for (name, len, checksum) in kept {
        let bytes = fs::read(fixtures().join(name)).unwrap();
        let found = (bytes.len(), braidlog_format::checksum::crc32(&bytes));
        assert_eq!(found, (len, checksum), "{name}: {found:x?}");
    }
}
