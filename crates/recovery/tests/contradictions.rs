//! Entries that prove themselves and deny what stands beside them: no crash and no rot makes them, a mistake of a
//! writer does, and then all judges must say the same of them.
//!
//! Each of these was found by the fuzz target `recover_directory`, beside a reader that knows the documents only.

mod support;

use braidlog_format::{BLOCK_LEN, EntryHeader, Flags, IndexPoint, Kind, Lsn, Seal, SyncMark};
use braidlog_recovery::{DamageCause, RecoveryError, TailState};
use braidlog_sim::SimDisk;
use support::{Pen, assert_holds, recovered, segment_path, verified};

/// A log of two records, both durable, not closed.
fn two_records(disk: &SimDisk) -> Pen {
    let mut pen = Pen::new(disk);
    pen.records(&[b"one"]).sync().records(&[b"two"]).sync();
    pen
}

/// An entry as it stands at `offset`, with the next LSN.
fn entry(pen: &Pen, offset: u64, kind: Kind, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let header = EntryHeader::for_payload(pen.next, pen.timestamp_ns, kind, flags, payload);
    let mut bytes = header.encode(pen.header.salt, offset).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// A seal of the pen's segment that says so of its last entry.
fn seal(pen: &Pen, last_timestamp_ns: u64, last_checksum: u32) -> Vec<u8> {
    let last_lsn = pen.next.prev();
    let index: &[IndexPoint] = &[];
    let count = pen.next.0 - pen.header.base.0;
    let seal = Seal { count, last_lsn, last_timestamp_ns, last_checksum, in_doubt: &[], index };
    let mut payload = vec![0; seal.payload_len() as usize];
    seal.encode(&mut payload);
    entry(pen, pen.offset, Kind::SEAL, Flags::NONE, &payload)
}

/// The scan took a sync mark with a flag for a mark, the search for evidence did not: whether the bytes before it
/// could be cut depended on who looked first. The format gives marks no flags, so it is none, to both.
#[test]
fn mark_with_a_flag_is_no_mark() {
    for flag in [Flags::BATCH_CONTINUES, Flags::IGNORABLE] {
        let disk = SimDisk::new();
        let pen = two_records(&disk);
        let mark = SyncMark { durable_lsn: Lsn(2), synced_offset: pen.offset }.encode();
        disk.write_raw(segment_path(1), pen.offset, &entry(&pen, pen.offset, Kind::SYNC_MARK, flag, &mark));
        let found = recovered(&disk).unwrap();
        let TailState::Torn { offset, .. } = found.report.tail else { panic!("{:?}", found.report.tail) };
        assert_eq!((offset, found.report.last_lsn), (pen.offset, Lsn(2)));
        assert_holds(&disk, &pen.model);
    }
}

/// A flag that this version cannot follow stays what it was, also on a mark: newer, and nothing is cut.
#[test]
fn mark_or_seal_with_a_newer_flag_is_newer() {
    for kind in [Kind::SYNC_MARK, Kind::SEAL] {
        let disk = SimDisk::new();
        let pen = two_records(&disk);
        let bytes = entry(&pen, pen.offset, kind, Flags::EXTENDED, &[0; 16]);
        disk.write_raw(segment_path(1), pen.offset, &bytes);
        let error = recovered(&disk).unwrap_err();
        assert!(matches!(error, RecoveryError::Newer { offset, .. } if offset == pen.offset), "{error}");
    }
}

/// The cut before a closing seal was lost, and the seal names another timestamp for the last record than the record
/// has. The scan compared the checksum only and kept the seal, the next opening found it at the end of the file
/// and believed its timestamp: two openings of the same records went on from two different times.
#[test]
fn seal_with_another_timestamp_than_the_last_record_is_not_kept() {
    let disk = SimDisk::new();
    let pen = two_records(&disk);
    let (_, timestamp_ns, checksum) = pen.last.unwrap();
    disk.write_raw(segment_path(1), pen.offset, &seal(&pen, timestamp_ns + 1, checksum));
    disk.write_raw(segment_path(1), pen.offset + BLOCK_LEN, &[0x77; 100]);
    let first = recovered(&disk).unwrap();
    assert!(matches!(first.report.tail, TailState::Torn { .. }), "{:?}", first.report.tail);
    assert_eq!(first.tail.last_timestamp_ns, timestamp_ns);
    assert_eq!(recovered(&disk).unwrap().tail, first.tail);
}

/// A closing seal is believed when the log is opened, and what it says of the last record goes into the next
/// segment's header, with which a reader compares the record. `verify` called a log clean whose seal names another
/// checksum: the next opening would have made everything behind it unreadable.
#[test]
fn closing_seal_that_denies_the_last_record_is_a_problem() {
    let disk = SimDisk::new();
    let pen = two_records(&disk);
    let (_, timestamp_ns, checksum) = pen.last.unwrap();
    disk.truncate_raw(segment_path(1), pen.offset);
    disk.write_raw(segment_path(1), pen.offset, &seal(&pen, timestamp_ns, checksum ^ 1));
    let report = verified(&disk).unwrap();
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!((problem.offset, problem.what), (pen.offset, DamageCause::Seal));
    assert!(problem.lsns.is_empty(), "both records can be read");
}

/// Records stand behind a seal, and another seal ends the file. Recovery looks at the end and keeps them all;
/// `verify` walked to the first seal, and called a log clean in which a reader finds no record at all.
#[test]
fn seal_before_the_closing_one_is_a_problem() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let early = pen.encode_seal();
    disk.write_raw(segment_path(1), pen.offset, &early);
    let at = pen.offset;
    pen.offset += early.len() as u64;
    pen.records(&[b"one"]).seal();
    assert_eq!(recovered(&disk).unwrap().report.last_lsn, Lsn(1));
    let report = verified(&disk).unwrap();
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!((problem.offset, problem.what), (at, DamageCause::Seal));
    assert_eq!((problem.lsns.first, problem.lsns.last), (Lsn(1), Lsn(1)));
}
