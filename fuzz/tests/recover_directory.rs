//! The checks of `recover_directory` on the kept inputs and on mutations of them, without libFuzzer.

use std::collections::BTreeMap;

use braidlog_format::{
    Flags, Incarnation, Kind, LogId, Lsn, LsnRange, ManifestCheckpoint, ManifestEntry, ManifestHead,
    Predecessor, Salt, SegmentHeader, StreamHeader, StreamKind, UserMetadata,
};
use braidlog_fuzz::container::{Files, decode, encode};
use braidlog_fuzz::directory::{Outcome, check};
use braidlog_fuzz::rewrite::mutate;

#[path = "support/kept.rs"]
mod kept;
#[path = "../../crates/format/tests/support/segment_writer.rs"]
mod segment_writer;

#[path = "../../crates/format/tests/support/stream_bytes.rs"]
mod stream_bytes;

use segment_writer::SegmentWriter;
use stream_bytes::StreamBytes;

fn header(base: u64, salt: u32, predecessor: Option<Predecessor>) -> SegmentHeader {
    SegmentHeader {
        log_id: LogId([7; 16]),
        incarnation: Incarnation(base),
        salt: Salt(salt),
        base: Lsn(base),
        predecessor,
        recycled: false,
        created_at_ns: 1,
        user_metadata: UserMetadata::EMPTY,
        open_from: None,
    }
}

/// A round of so many records, behind a mark that vouches for everything before it.
fn round(segment: &mut SegmentWriter, records: u8) {
    segment.begin_round(segment.next.prev(), segment.offset());
    for number in 0..records {
        segment.entry(Kind(number), Flags::NONE, &[number; 40]);
    }
    segment.end_round();
}

/// A sealed segment with three records, and one that follows it.
fn two_segments() -> (SegmentWriter, SegmentWriter) {
    let mut first = SegmentWriter::new(header(1, 1, None));
    round(&mut first, 3);
    first.seal(&[], &[]);
    let second = SegmentWriter::new(header(4, 2, Some(first.as_predecessor(true))));
    (first, second)
}

fn directory(files: &[(&str, &[u8])]) -> Files {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

const FIRST: &str = "00000000000000000001.wal";
const SECOND: &str = "00000000000000000004.wal";

/// A log whose writer was killed: two rounds, and space that was allocated ahead.
fn open_log() -> Files {
    let (first, mut second) = two_segments();
    round(&mut second, 2);
    round(&mut second, 1);
    second.bytes.resize(second.bytes.len() + 8192, 0);
    directory(&[(FIRST, &first.bytes), (SECOND, &second.bytes), ("LOCK", b""), ("1.prep", b"new")])
}

/// A batch that was torn, beside the tails of earlier openings.
fn torn_log() -> Files {
    let (first, mut second) = two_segments();
    round(&mut second, 1);
    second.begin_round(Lsn(3), 4096);
    second.entry(Kind(1), Flags::BATCH_CONTINUES, b"half of a batch");
    second.bytes.extend_from_slice(&[0xC3; 600]);
    let mut files = directory(&[(FIRST, &first.bytes), (SECOND, &second.bytes), ("mine.txt", b"mine")]);
    for incarnation in 1..=4 {
        files.insert(format!("{:020}-{incarnation}.torn", 1), vec![incarnation]);
    }
    files
}

/// A round was lost that a later mark vouches for.
fn hole() -> Files {
    let (first, mut second) = two_segments();
    for _ in 0..3 {
        round(&mut second, 1);
    }
    second.bytes[8192..12288].fill(0);
    directory(&[(FIRST, &first.bytes), (SECOND, &second.bytes)])
}

/// A log that was closed, with old bytes behind the seal: the cut before it was lost.
fn sealed_before_garbage() -> Files {
    let (first, mut second) = two_segments();
    round(&mut second, 2);
    second.seal(&[9], &[]);
    second.bytes.extend_from_slice(&[0x77; 5000]);
    directory(&[(FIRST, &first.bytes), (SECOND, &second.bytes)])
}

/// A closed log whose successor never got its header.
fn absent_successor() -> Files {
    let (first, _) = two_segments();
    directory(&[(FIRST, &first.bytes), (SECOND, &[0; 8192])])
}

/// A closed log whose last segment holds nothing.
fn empty_successor() -> Files {
    let (first, mut second) = two_segments();
    second.seal(&[], &[]);
    directory(&[(FIRST, &first.bytes), (SECOND, &second.bytes)])
}

/// A log that was cut, with a manifest that says something of everything; what went is still there.
fn cut_log() -> Files {
    let (first, mut second) = two_segments();
    round(&mut second, 3);
    round(&mut second, 1);
    let checkpoint = ManifestCheckpoint {
        number: 2,
        lsn: Lsn(5),
        replay_from: Lsn(5),
        base: 0,
        bytes: 5000,
        created_at_ns: 1,
        end_checksum: 7,
    };
    let head = ManifestHead { log_start: Lsn(4), durable: Lsn(6), uptime_ns: 9, next_checkpoint: 3 };
    let lsns = LsnRange { first: Lsn(2), last: Lsn(2) };
    let entries = [
        ManifestEntry::Head(head),
        ManifestEntry::Checkpoint(checkpoint),
        ManifestEntry::Hold { lsn: Lsn(4), name: "archive" },
        ManifestEntry::Hold { lsn: Lsn(5), name: "replica" },
        ManifestEntry::RestorePoint { lsn: Lsn(4), time_ns: 3, name: "before" },
        ManifestEntry::Loss { lsns, incarnation: Incarnation(1), cause: 1, account: "one" },
        ManifestEntry::SegmentAge { base: Lsn(4), sealed_at_uptime_ns: 8 },
        ManifestEntry::Stream { id: 1, last_sequence: 2, as_of: Lsn(5), name: "orders" },
    ];
    let mut manifest = StreamBytes::new(StreamHeader::new(StreamKind::Manifest, LogId([7; 16]), 3, 1));
    for entry in entries {
        let (fixed, text) = entry.encode();
        manifest.entry(entry.kind(), Flags::NONE, &[fixed.as_bytes(), text.as_bytes()].concat());
    }
    manifest.entry(Kind(99), Flags::IGNORABLE, b"later");
    let manifest = manifest.end();
    directory(&[
        (FIRST, &first.bytes[..5000]),
        (SECOND, &second.bytes),
        ("MANIFEST", &manifest),
        ("MANIFEST.new", &manifest[..4100]),
        ("00000000000000000003-1.ckpt", b"forgotten"),
        ("00000000000000000005-2.ckpt", b"named"),
    ])
}

/// The log that version 1 is known by.
fn fixture() -> Files {
    const NAMES: [&str; 3] = [FIRST, "00000000000000000008.wal", "00000000000000000011.wal"];
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/format/tests/fixtures/v1");
    NAMES.iter().map(|name| ((*name).to_owned(), std::fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn seeds_are_what_this_file_makes() {
    let seeds = [
        ("open_log", open_log()),
        ("torn_log", torn_log()),
        ("hole", hole()),
        ("sealed_before_garbage", sealed_before_garbage()),
        ("absent_successor", absent_successor()),
        ("empty_successor", empty_successor()),
        ("fixture", fixture()),
        ("cut_log", cut_log()),
    ];
    let encoded = seeds.map(|(name, files)| {
        assert!(decode(&encode(&files)) == files, "{name}");
        (name, encode(&files))
    });
    kept::assert_kept("recover_directory", &encoded);
}

#[test]
fn kept_inputs_pass_and_reach_every_verdict() {
    let mut outcomes = BTreeMap::new();
    for (path, bytes) in kept::inputs("recover_directory") {
        let found = check(&decode(&bytes));
        println!("{}: {found:?}", path.display());
        *outcomes.entry(found.opening).or_insert(0) += 1;
    }
    for outcome in [Outcome::Sealed, Outcome::Clean, Outcome::Torn, Outcome::Damaged] {
        assert!(outcomes.contains_key(&outcome), "{outcome:?}: {outcomes:?}");
    }
}

#[test]
fn mutations_pass_and_reach_every_verdict() {
    const RUNS: u32 = 10_000;
    let mut raw = kept::plain(2);
    let mut outcomes = BTreeMap::new();
    let (mut read, mut unread, mut cut) = (0, 0, 0);
    kept::mutations(
        &kept::inputs("recover_directory"),
        RUNS,
        |data, size, seed| mutate(data, size, seed, &mut raw),
        |bytes| {
            let found = check(&decode(bytes));
            *outcomes.entry(found.opening).or_insert(0) += 1;
            read += u32::from(found.segments >= 2 && found.records.is_some_and(|records| records > 3));
            cut += u32::from(found.is_cut);
            unread += u32::from(found.opening <= Outcome::Torn && found.records.is_none());
        },
    );
    println!("{outcomes:?}; {read} read over two segments, {unread} opened and not readable, {cut} cut");
    for outcome in
        [Outcome::Sealed, Outcome::Clean, Outcome::Torn, Outcome::Damaged, Outcome::Newer, Outcome::Foreign]
    {
        assert!(
            outcomes.get(&outcome).is_some_and(|&count| count >= RUNS / 200),
            "{outcome:?}: {outcomes:?}"
        );
    }
    // Kept findings are small, often of one segment, and take their share of the runs.
    assert!(read >= RUNS / 20 && unread >= RUNS / 200 && cut >= RUNS / 200, "{read} {unread} {cut}");
}
