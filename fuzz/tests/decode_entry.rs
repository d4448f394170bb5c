//! The checks of `decode_entry` on the kept inputs and on mutations of them, without libFuzzer.

use braidlog_format::{EntryHeader, Flags, IndexPoint, Kind, Lsn, Salt, Seal, SyncMark};
use braidlog_fuzz::check::Found;
use braidlog_fuzz::fragment::{Fragment, Shape, check, mutate};

#[path = "support/kept.rs"]
mod kept;

fn fragment(shape: Shape, offset: u64, body: &[u8]) -> Vec<u8> {
    Fragment { shape, salt: 0xA1B2_C3D4, offset, body }.to_bytes()
}

fn entry(kind: Kind, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let header = EntryHeader::for_payload(Lsn(7), 1_700_000_000_000_000_000, kind, flags, payload);
    let mut bytes = header.encode(Salt(0xA1B2_C3D4), 4136).to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    fragment(Shape::Entry, 4136, &bytes)
}

/// The beginning and the last four bytes of a header block.
fn header() -> Vec<u8> {
    let block = include_bytes!("../../crates/format/tests/fixtures/v1/00000000000000000008.wal");
    let len = block[..4092].iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let mut body = block[..len].to_vec();
    body.extend_from_slice(&block[4092..4096]);
    fragment(Shape::SegmentHeader, 0, &body)
}

fn seal() -> Vec<u8> {
    let index = [IndexPoint { lsn: Lsn(1), offset: 4096 }, IndexPoint { lsn: Lsn(5), offset: 8192 }];
    let seal = Seal {
        count: 7,
        last_lsn: Lsn(7),
        last_timestamp_ns: 9,
        last_checksum: 5,
        in_doubt: &[3],
        index: &index,
    };
    let mut payload = vec![0; seal.payload_len() as usize];
    seal.encode(&mut payload);
    let mut body = vec![0];
    body.extend_from_slice(&payload[..80]);
    body.extend_from_slice(&payload[payload.len() - 4..]);
    fragment(Shape::Seal, 3 * 4096, &body)
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mark = SyncMark { durable_lsn: Lsn(6), synced_offset: 4096 }.encode();
    let fields = [16, 0, 1, 8, 42, 0, 0, 0, 0, 0, 0, 0, 3, 4, 7, 0, 0, 0, b'x'];
    vec![
        ("entry", entry(Kind(3), Flags::NONE, b"hello")),
        ("entry_extended", entry(Kind(3), Flags::EXTENDED, &fields)),
        ("entry_mark", entry(Kind::SYNC_MARK, Flags::NONE, &mark)),
        ("header", header()),
        ("seal", seal()),
        ("mark", fragment(Shape::Payload, 0, &mark)),
        ("extended", fragment(Shape::Payload, 0, &fields)),
        ("segment_name", fragment(Shape::Name, 0, b"00000000000000000042.wal")),
        ("torn_name", fragment(Shape::Name, 0, b"00000000000000000042-3.torn")),
    ]
}

#[test]
fn seeds_are_what_this_file_makes() {
    kept::assert_kept("decode_entry", &seeds());
}

#[test]
fn kept_inputs_pass_and_reach_everything() {
    let mut all = Found::default();
    for (path, bytes) in kept::inputs("decode_entry") {
        let found = check(&bytes);
        println!("{}: {found:?}", path.display());
        all.header |= found.header;
        all.entries += found.entries;
        all.marks += found.marks;
        all.seals += found.seals;
        all.extended += found.extended;
    }
    assert!(
        all.header && all.entries >= 3 && all.marks >= 2 && all.seals >= 1 && all.extended >= 2,
        "{all:?}"
    );
}

#[test]
fn mutations_pass_and_get_past_the_checksums() {
    const RUNS: u32 = 200_000;
    let mut raw = kept::plain(1);
    let (mut headers, mut entries, mut seals, mut newer) = (0, 0, 0, 0);
    kept::mutations(
        &kept::inputs("decode_entry"),
        RUNS,
        |data, size, seed| mutate(data, size, seed, &mut raw),
        |bytes| {
            let found = check(bytes);
            headers += u32::from(found.header);
            entries += found.entries as u32;
            seals += found.seals as u32;
            newer += found.newer as u32;
        },
    );
    let shares = [headers, entries, seals, newer].map(|count| 1000 * count / RUNS);
    println!("per mille that is a header, an entry, a seal, newer: {shares:?}");
    assert!(shares[0] >= 5 && shares[1] >= 100 && shares[2] >= 10 && shares[3] >= 5, "{shares:?}");
}
