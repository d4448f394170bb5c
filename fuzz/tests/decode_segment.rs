//! The checks of `decode_segment` on the kept inputs and on mutations of them, without libFuzzer: that they
//! pass, and that the mutations do get past the checksums.

use std::fs;
use std::path::{Path, PathBuf};

use braidlog_format::{Flags, Incarnation, IndexPoint, Kind, LogId, Lsn, Salt, SegmentHeader, UserMetadata};
use braidlog_fuzz::check::{Found, check};
use braidlog_fuzz::mutate::{mutate, repair};

#[path = "support/kept.rs"]
mod kept;
#[path = "../../crates/format/tests/support/segment_writer.rs"]
mod segment_writer;

use segment_writer::SegmentWriter;

/// The kept inputs, and the files of the format's own tests.
fn inputs() -> Vec<(PathBuf, Vec<u8>)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/format/tests/fixtures/v1");
    let files = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "wal"));
    let mut inputs: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(inputs.len(), 5);
    inputs.extend(kept::inputs("decode_segment"));
    inputs.sort();
    inputs
}

fn header(salt: u32) -> SegmentHeader {
    SegmentHeader {
        log_id: LogId([7; 16]),
        incarnation: Incarnation(1),
        salt: Salt(salt),
        base: Lsn::FIRST,
        predecessor: None,
        recycled: false,
        created_at_ns: 1,
        user_metadata: UserMetadata::EMPTY,
        open_from: None,
    }
}

/// A round whose second record carries a whole frame of the very segment, right but for its place.
fn frame_in_a_payload() -> Vec<u8> {
    let mut segment = SegmentWriter::new(header(1));
    segment.begin_round(Lsn::ZERO, 4096);
    let at = segment.entry(Kind(0), Flags::NONE, b"a frame to be copied") as usize;
    let frame = segment.bytes[at..].to_vec();
    segment.entry(Kind(0), Flags::BATCH_CONTINUES, &frame);
    segment.entry(Kind(0), Flags::EXTENDED, &[2, 0, 130, 0, b'x']);
    segment.end_round();
    segment.bytes
}

/// A segment that was sealed without holding a record.
fn empty_sealed() -> Vec<u8> {
    let mut segment = SegmentWriter::new(header(2));
    segment.seal(&[1, 2, 3], &[IndexPoint { lsn: Lsn(1), offset: 4096 }]);
    segment.bytes
}

/// A round, a block that was torn away, and a round behind it that says what was synced.
fn torn() -> Vec<u8> {
    let mut segment = SegmentWriter::new(header(3));
    for round in 0..3 {
        let synced = segment.bytes.len() as u64;
        segment.begin_round(Lsn(round), synced);
        segment.entry(Kind(round as u8), Flags::NONE, &[round as u8; 100]);
        segment.end_round();
    }
    segment.bytes[8192..12288].fill(0);
    segment.bytes
}

#[test]
fn seeds_are_what_this_file_makes() {
    let seeds: [(&str, Vec<u8>); 4] = [
        ("frame_in_a_payload", frame_in_a_payload()),
        ("empty_sealed", empty_sealed()),
        ("torn", torn()),
        ("name", b"00000000000000000042-3.torn\n".to_vec()),
    ];
    kept::assert_kept("decode_segment", &seeds);
}

#[test]
fn kept_inputs_pass_and_reach_everything() {
    let mut all = Found::default();
    for (path, bytes) in inputs() {
        let found = check(&bytes);
        println!("{}: {found:?}", path.display());
        all.header |= found.header;
        all.entries += found.entries;
        all.behind += found.behind;
        all.marks += found.marks;
        all.seals += found.seals;
        all.extended += found.extended;
        all.newer += found.newer;
    }
    assert!(all.header && all.entries >= 40 && all.behind >= 2, "{all:?}");
    assert!(all.marks >= 10 && all.seals >= 4 && all.extended >= 3, "{all:?}");
}

#[test]
fn repair_makes_stale_checksums_right() {
    let mut bytes = frame_in_a_payload();
    let before = check(&bytes);
    bytes[40] = 9; // base LSN
    bytes[32] ^= 0xFF; // salt: no entry proves itself any more
    assert_eq!(check(&bytes), Found::default());
    repair(&mut bytes);
    assert_eq!(check(&bytes), before);
}

#[test]
fn mutations_pass_and_get_past_the_checksums() {
    const RUNS: u32 = 20_000;
    let mut raw = kept::plain(1);
    let (mut sound, mut deep, mut newer, mut broken) = (0, 0, 0, 0);
    kept::mutations(
        &inputs(),
        RUNS,
        |data, size, seed| mutate(data, size, seed, &mut raw),
        |bytes| {
            let found = check(bytes);
            sound += u32::from(found.header);
            deep += u32::from(found.entries >= 3);
            newer += u32::from(found.newer > 0);
            broken += u32::from(found.behind > 0);
        },
    );
    let shares = [sound, deep, newer, broken].map(|count| 100 * count / RUNS);
    println!("per cent with a valid header, three entries, newer ones, entries behind a break: {shares:?}");
    assert!(shares[0] >= 40 && shares[1] >= 40 && shares[2] >= 1 && shares[3] >= 1, "{shares:?}");
}
