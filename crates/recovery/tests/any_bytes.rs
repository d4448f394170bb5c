//! Whatever the bytes are: no panic, no wrong record, no disagreement between the judges, and none with a
//! decoder that knows nothing of marks, windows and verdicts.

mod support;

use braidlog_format::{BLOCK_LEN, Entry, EntryHeader, Flags, Kind, Lsn, SEGMENT_HEADER_LEN, Salt};
use braidlog_recovery::{LogReader, RecoveryError};
use braidlog_sim::SimDisk;
use proptest::prelude::*;
use support::{Pen, Written, disk_with, files, header_of, open_dir, recovered, segment, verified};

type Files = Vec<(String, Vec<u8>)>;

/// Two segments, of which the second is open.
fn sample() -> (Files, Vec<Written>) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.ahead = 40 << 10;
    pen.records(&[b"one", &[2; 100]]).sync().round(&[&[(1, b"a"), (2, &[3; 5000])]]).rotate();
    pen.records(&[b"three"]).sync().records(&[&[4; 300]]).sync().idle_mark().records(&[b"five"]);
    (files(&disk), pen.model)
}

/// One thing that happens to a file.
#[derive(Clone, Debug)]
enum Change {
    Byte {
        at: usize,
        value: u8,
    },
    Fill {
        at: usize,
        len: usize,
        value: u8,
    },
    Move {
        from: usize,
        to: usize,
        len: usize,
    },
    Cut {
        len: usize,
    },
    /// A field of an entry's header gets another value, and the checksum is right again.
    Field {
        entry: usize,
        field: usize,
        value: u64,
    },
    /// A field of the segment's header gets another value, and the checksum is right again.
    HeaderField {
        at: usize,
        value: u64,
    },
    /// A payload byte gets another value, and both checksums are right again.
    Payload {
        entry: usize,
        at: usize,
        value: u64,
    },
}

fn a_change() -> impl Strategy<Value = Change> {
    let at = || 0..50_000usize;
    let number = || {
        prop_oneof![
            any::<u64>(),
            0..64u64,
            Just(u64::MAX),
            Just(1 << 63),
            Just((1 << 63) - 1),
            Just(u64::from(u32::MAX)),
            (0..20u64).prop_map(|n| n * 4096)
        ]
    };
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, value)| Change::Byte { at, value }),
        (at(), 0..9000usize, prop_oneof![Just(0), any::<u8>()]).prop_map(|(at, len, value)| Change::Fill {
            at,
            len,
            value
        }),
        (at(), at(), 0..9000usize).prop_map(|(from, to, len)| Change::Move { from, to, len }),
        at().prop_map(|len| Change::Cut { len }),
        (0..30usize, 0..7usize, number()).prop_map(|(entry, field, value)| Change::Field {
            entry,
            field,
            value
        }),
        (0..400usize, number()).prop_map(|(at, value)| Change::HeaderField { at, value }),
        (0..30usize, 0..200usize, number()).prop_map(|(entry, at, value)| Change::Payload {
            entry,
            at,
            value
        }),
    ]
}

fn apply(bytes: &mut Vec<u8>, salt: Salt, change: &Change) {
    let len = bytes.len();
    let put = |bytes: &mut [u8], at: usize, value: u64, width: usize| {
        for (byte, new) in bytes.iter_mut().skip(at).take(width).zip(value.to_le_bytes()) {
            *byte = new;
        }
    };
    match *change {
        Change::Byte { at, value } => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        Change::Fill { at, len, value } => bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = value),
        Change::Move { from, to, len: count } => {
            let count = count.min(len.saturating_sub(from.max(to)));
            if count > 0 {
                bytes.copy_within(from..from + count, to);
            }
        }
        Change::Cut { len } => bytes.truncate(len),
        Change::Field { entry, field, value } => {
            let entries = support::entries_of(bytes, salt);
            let Some((start, _)) = entries.get(entry) else { return };
            let (at, width) = [(0, 8), (8, 8), (20, 1), (21, 1), (22, 2), (24, 4), (28, 4)][field];
            put(bytes, *start as usize + at, value, width);
            seal_entry(bytes, salt, *start as usize);
        }
        Change::HeaderField { at, value } => {
            if len >= 4096 {
                put(bytes, at, value, 8);
                let sum = braidlog_format::checksum::crc32(&bytes[..4092]);
                put(bytes, 4092, u64::from(sum), 4);
            }
        }
        Change::Payload { entry, at, value } => {
            let entries = support::entries_of(bytes, salt);
            let Some((start, _)) = entries.get(entry) else { return };
            let start = *start as usize;
            let count = u32::from_le_bytes(bytes[start + 24..][..4].try_into().unwrap()) as usize;
            if at + 8 <= count {
                put(bytes, start + 32 + at, value, 8);
                let sum = braidlog_format::checksum::crc32(&bytes[start + 32..][..count]);
                put(bytes, start + 28, u64::from(sum), 4);
                seal_entry(bytes, salt, start);
            }
        }
    }
}

/// Makes the checksum of an entry's header right.
fn seal_entry(bytes: &mut [u8], salt: Salt, start: usize) {
    let head = &bytes[start..start + 32];
    let mut rest = head[..16].to_vec();
    rest.extend(&head[20..]);
    let sum = braidlog_format::checksum::crc32_seeded(salt.seed(start as u64), &rest);
    bytes[start + 16..start + 20].copy_from_slice(&sum.to_le_bytes());
}

fn records_of(disk: &SimDisk) -> Result<Vec<(Lsn, Vec<u8>)>, RecoveryError> {
    let reader = LogReader::open_read_only(open_dir(disk))?;
    let visible = reader.last_visible()?;
    let records: Result<Vec<_>, _> = reader
        .iter(Lsn::FIRST, Lsn::MAX)?
        .map(|record| record.map(|record| (record.lsn, record.payload)))
        .collect();
    let records = records?;
    assert_eq!(records.len() as u64, visible.0, "what is visible can be read, or it is an error");
    Ok(records)
}

/// `BRAIDLOG_LONG` makes it a long run.
fn cases() -> u32 {
    if std::env::var_os("BRAIDLOG_LONG").is_some() { 200_000 } else { 2000 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_bytes_are_judged_without_a_panic_and_alike(
        changes in prop::collection::vec((0..2usize, a_change()), 1..5),
    ) {
        let (mut files, _) = sample();
        let salts: Vec<Salt> = files.iter().map(|(_, bytes)| header_of(bytes).salt).collect();
        for (file, change) in &changes {
            apply(&mut files[*file].1, salts[*file], change);
        }
        let disk = disk_with(&files);
        let report = verified(&disk);
        let read = records_of(&disk);
        prop_assert!(support::files(&disk) == files);
        let found = recovered(&disk);
        match (&read, &found) {
            (Ok(records), Ok(found)) => {
                prop_assert_eq!(records.len() as u64, found.report.last_lsn.0);
                prop_assert!(records.iter().enumerate().all(|(index, (lsn, _))| lsn.0 == index as u64 + 1));
                // What recovery left is a log like any other.
                prop_assert_eq!(&records_of(&disk).unwrap(), records);
                prop_assert_eq!(&recovered(&disk).unwrap().tail, &found.tail);
            }
            // Recovery does not read the records of sealed segments, a reader does.
            (Err(_), Ok(_)) => prop_assert!(report.is_err() || !report.unwrap().is_clean()),
            (_, Err(_)) => {
                prop_assert!(read.is_err());
                prop_assert!(support::files(&disk) == files, "a refused log was changed");
            }
        }
    }

    #[test]
    fn any_file_is_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000), base in 0..4u64) {
        let disk = disk_with(&[(segment(base), bytes)]);
        let _ = verified(&disk);
        let _ = records_of(&disk);
        let _ = recovered(&disk);
    }

    #[test]
    fn open_segment_ends_where_a_naive_decoder_says(
        rounds in prop::collection::vec(prop::collection::vec((0..4u8, 0..9000usize), 0..4), 1..8),
        cut in any::<prop::sample::Index>(),
        torn in any::<bool>(),
    ) {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.ahead = 300 << 10;
        for round in &rounds {
            let payloads: Vec<(u8, Vec<u8>)> =
                round.iter().map(|(kind, len)| (*kind, vec![*kind ^ 0x5A; *len])).collect();
            let batch: Vec<(u8, &[u8])> = payloads.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())).collect();
            let batches: Vec<&[(u8, &[u8])]> = if batch.is_empty() { vec![] } else { vec![&batch] };
            // Nothing is synced: no mark vouches for anything.
            pen.round(&batches);
        }
        let name = segment(1);
        let mut bytes = disk.read_raw(support::path(&name));
        let end = pen.offset as usize;
        let cut = SEGMENT_HEADER_LEN as usize + cut.index(end - SEGMENT_HEADER_LEN as usize + 1);
        if torn {
            bytes[cut..].fill(0xC3);
        } else {
            bytes.truncate(cut);
        }
        let (last, records) = naive(&bytes);
        let disk = disk_with(&[(name, bytes)]);
        let read = records_of(&disk).unwrap();
        prop_assert_eq!(read.len(), last);
        prop_assert!(read.iter().map(|(_, payload)| payload).eq(records.iter().take(last)));
        let found = recovered(&disk).unwrap();
        prop_assert_eq!(found.report.last_lsn.0 as usize, last);
        prop_assert_eq!(found.report.tail == braidlog_recovery::TailState::Unsealed, !torn && cut == found_end(&disk));
    }
}

fn found_end(disk: &SimDisk) -> usize {
    disk.read_raw(support::segment_path(1)).len()
}

/// The number of records in whole batches, and the payloads of all records, decoded from the bytes in one go.
fn naive(bytes: &[u8]) -> (usize, Vec<Vec<u8>>) {
    let salt = header_of(bytes).salt;
    let (mut at, mut whole, mut records) = (BLOCK_LEN as usize, 0, Vec::new());
    while let Ok(entry) = Entry::decode(&bytes[at..], salt, at as u64) {
        if entry.header.kind.takes_lsn() {
            records.push(entry.payload.to_vec());
            if !entry.header.flags.contains(Flags::BATCH_CONTINUES) {
                whole = records.len();
            }
        }
        at += entry.header.entry_len() as usize;
    }
    (whole, records)
}

#[test]
fn header_that_claims_a_huge_payload_costs_no_memory() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one"]).sync();
    // The header proves itself, and the file is too short for what it says.
    let huge = EntryHeader {
        payload_len: u32::MAX,
        ..EntryHeader::for_payload(pen.next, pen.timestamp_ns, Kind(1), Flags::NONE, b"")
    };
    disk.write_raw(support::segment_path(1), pen.offset, &huge.encode(pen.header.salt, pen.offset));
    disk.take_trace();
    assert_eq!(pen.assert_recovers(&disk).report.last_lsn, Lsn(1));
    for traced in disk.take_trace() {
        if let braidlog_sim::Action::Read { len, .. } = traced.action {
            assert!(len <= 1 << 20, "{traced:?}");
        }
    }
}
