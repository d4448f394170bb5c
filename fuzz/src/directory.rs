//! What must hold for any files in a directory, taken for a log.
//!
//! 1. Nothing panics, and no read asks for more than the files have.
//! 2. Recovery says what the naive reader says: the same log, or the same refusal, and the same files afterwards.
//! 3. Readers get exactly the records that the naive reader finds, or are refused where it is.
//! 4. Verification calls a log clean only if everything in it can be read, and an unreadable one never.
//! 5. Reading and verifying change nothing, nor does refusing; recovering once more finds nothing to do.

use std::path::Path;
use std::sync::Arc;

use braidlog_format::{LogId, LogTail, Lsn, LsnRange};
use braidlog_recovery::{
    DamageCause, LogReader, Recovered, RecoveryError, RecoveryReport, TailState, VerifyReport, VerifyTail,
    recover, verify,
};
use braidlog_sim::{Action, SimDisk};
use braidlog_storage::{LogDir, Storage};

use crate::container::{Files, TOTAL_MAX};
use crate::naive::{BLOCK, Link};
use crate::naive_log::{self, Ending, Opening, Record, Refusal};

/// The identity of a log that begins here.
const LOG_ID: LogId = LogId(*b"a log of nothing");
const DIR: &str = "log";

/// What a directory turned out to be: how much of recovery an input reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// What opening came to.
    pub opening: Outcome,
    /// How many records could be read; `None` if a reader was refused.
    pub records: Option<usize>,
    /// Whether verification found everything as it should be.
    pub clean: bool,
    /// Segments of the directory.
    pub segments: usize,
    /// Whether it is a log that starts later than at LSN 1.
    pub is_cut: bool,
}

/// What opening came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each is a verdict of docs/recovery.md")]
pub enum Outcome {
    New,
    Sealed,
    Clean,
    Torn,
    Damaged,
    Newer,
    Foreign,
}

/// Checks everything about a directory that holds `files`.
///
/// # Panics
/// If anything does not hold.
pub fn check(files: &Files) -> Found {
    let opening = naive_log::opening(files);
    let records =
        opening.as_ref().map_err(Refusal::clone).and_then(|opening| naive_log::records(files, opening));
    let disk = disk_with(files);
    let dir = open(&disk);

    let report = verify(&dir, &mut |_| {});
    check_verify(&report, &opening, &records, naive_log::ends_in_a_forged_seal(files));
    check_reader(&dir, &records, first_of(&opening));
    assert!(files_of(&disk) == *files, "reading or verifying changed something");

    let recovered = recover(&dir, LOG_ID);
    match (&recovered, &opening) {
        (Ok(recovered), Ok(opening)) => {
            assert_eq!(tail_of(&recovered.tail), tail_of_opening(opening));
            check_report(&recovered.report, opening);
            let left = files_of(&disk);
            for (name, bytes) in &left {
                assert!(opening.after.get(name) == Some(bytes), "{name} is not what recovery leaves");
            }
            assert_eq!(left.len(), opening.after.len(), "recovery removed too much");
            if !naive_log::ends_in_a_forged_seal(&left) {
                check_again(&disk, recovered, &records, opening.start);
            }
        }
        (Err(error), Err(refusal)) => {
            assert_eq!(&refusal_of(error), refusal, "{error}");
            assert!(files_of(&disk) == *files, "a refused log was changed");
        }
        _ => panic!("recovery: {recovered:?}; naive: {opening:?}"),
    }
    check_reads(&disk);
    Found {
        opening: match &opening {
            Ok(opening) => match opening.ending {
                Ending::New => Outcome::New,
                Ending::Sealed => Outcome::Sealed,
                Ending::Clean => Outcome::Clean,
                Ending::Torn(_) => Outcome::Torn,
            },
            Err(Refusal::Damaged { .. }) => Outcome::Damaged,
            Err(Refusal::Newer { .. }) => Outcome::Newer,
            Err(Refusal::Foreign { .. }) => Outcome::Foreign,
        },
        records: records.as_ref().ok().map(Vec::len),
        clean: report.is_ok_and(|report| report.is_clean()),
        segments: files.keys().filter(|name| naive_log::segment_base(name).is_some()).count(),
        is_cut: opening.is_ok_and(|opening| opening.start > 1),
    }
}

fn disk_with(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    open(&disk);
    for (name, bytes) in files {
        disk.put_raw(path(name), bytes);
    }
    disk
}

fn open(disk: &SimDisk) -> Arc<dyn LogDir> {
    disk.open_dir(Path::new(DIR), true).expect("the simulated disk has the directory")
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

fn files_of(disk: &SimDisk) -> Files {
    let names = disk.list_raw(DIR).into_iter();
    names.map(|(name, _)| (name.clone(), disk.read_raw(path(&name)))).collect()
}

/// A refusal in the naive reader's words.
fn refusal_of(error: &RecoveryError) -> Refusal {
    match error {
        RecoveryError::Damaged(damage) => Refusal::Damaged {
            segment: damage.segment.clone(),
            offset: damage.offset,
            first: damage.lsns.first.0,
            last: damage.lsns.last.0,
        },
        RecoveryError::Newer { file, offset, .. } => Refusal::Newer { file: file.clone(), offset: *offset },
        RecoveryError::Foreign { file, .. } => Refusal::Foreign { file: file.clone() },
        error => panic!("no bytes are the reason of: {error}"),
    }
}

type Tail = ([u8; 16], u64, u64, Option<Link>, u64, Vec<(u64, u64)>, bool);

fn tail_of(tail: &LogTail) -> Tail {
    let link = tail.predecessor.map(|named| Link {
        base: named.base.0,
        last: named.last.0,
        timestamp_ns: named.last_timestamp_ns,
        checksum: named.last_checksum,
        sealed: named.sealed,
    });
    let open = tail.in_doubt.iter().map(|open| (open.transaction.0, open.begin.0)).collect();
    (
        tail.log_id.0,
        tail.incarnation.0,
        tail.next_lsn.0,
        link,
        tail.last_timestamp_ns,
        open,
        tail.replaces_empty,
    )
}

fn tail_of_opening(opening: &Opening) -> Tail {
    let open = opening.in_doubt.clone();
    (
        opening.log_id.unwrap_or(LOG_ID.0),
        opening.incarnation,
        opening.next,
        opening.predecessor,
        opening.timestamp_ns,
        open,
        opening.replaces_empty,
    )
}

fn check_report(report: &RecoveryReport, opening: &Opening) {
    assert_eq!(report.damaged_seals, opening.damaged_seals);
    match (&report.tail, opening.ending) {
        (TailState::NewLog, Ending::New)
        | (TailState::Sealed, Ending::Sealed)
        | (TailState::Unsealed, Ending::Clean) => {}
        (TailState::Torn { cut_bytes, .. }, Ending::Torn(bytes)) => assert_eq!(*cut_bytes, bytes),
        (found, expected) => panic!("{found:?} is not {expected:?}"),
    }
}

/// What recovery left is a log like any other, and there is nothing to do.
fn check_again(disk: &SimDisk, first: &Recovered, records: &Result<Vec<Record<'_>>, Refusal>, start: u64) {
    let dir = open(disk);
    check_reader(&dir, records, Some(start));
    let before = files_of(disk);
    let again = recover(&dir, LOG_ID).expect("what recovery left can be recovered");
    assert_eq!(again.tail, first.tail);
    assert_eq!(again.report.removed_orphans, [""; 0]);
    assert!(!matches!(again.report.tail, TailState::Torn { .. }), "{:?}", again.report.tail);
    assert!(files_of(disk) == before, "the second recovery changed something");
}

/// A reader of the dead log gets exactly these records, streamed and one by one.
fn check_reader(dir: &Arc<dyn LogDir>, expected: &Result<Vec<Record<'_>>, Refusal>, first: Option<u64>) {
    match (read_all(dir, expected.as_deref().unwrap_or(&[]), first), expected) {
        (Ok(count), Ok(records)) => assert_eq!(count, records.len()),
        (Err(error), Err(refusal)) => {
            let same = match (&error, refusal) {
                (RecoveryError::Damaged(_), Refusal::Damaged { .. }) => true,
                (RecoveryError::Newer { .. } | RecoveryError::Foreign { .. }, _) => {
                    refusal_of(&error) == *refusal
                }
                _ => false,
            };
            assert!(same, "a reader: {error}; naive: {refusal:?}");
        }
        (Ok(count), Err(refusal)) => panic!("a reader got {count} records; naive: {refusal:?}"),
        (Err(error), Ok(records)) => panic!("a reader: {error}; naive: {} records", records.len()),
    }
}

/// The first LSN of the log, if it opens.
fn first_of(opening: &Result<Opening, Refusal>) -> Option<u64> {
    opening.as_ref().ok().map(|opening| opening.start)
}

/// Reads all records from `first` on; how many. As far as `expected` goes, they are compared.
fn read_all(
    dir: &Arc<dyn LogDir>,
    expected: &[Record<'_>],
    first: Option<u64>,
) -> Result<usize, RecoveryError> {
    let reader = LogReader::open_read_only(dir.clone())?;
    let first = first.unwrap_or(reader.first_lsn().0);
    assert_eq!(reader.first_lsn().0, first, "a log that opens starts where its manifest says");
    let mut records = reader.iter(Lsn(first), Lsn::MAX)?;
    let mut count = 0;
    let mut next = first;
    while let Some(record) = records.next_ref() {
        let record = record?;
        count += 1;
        assert!(record.lsn.0 >= next, "LSNs rise");
        let lsn = record.lsn.0;
        if let Some(expected) = expected.get(count - 1) {
            assert_eq!(record.lsn.0, expected.fields.lsn);
            assert_eq!(record.timestamp_ns, expected.fields.timestamp_ns);
            assert_eq!(record.kind.0, expected.fields.kind);
            assert_eq!(record.batch_continues, expected.fields.flags & 1 != 0);
            assert!(record.payload == expected.payload, "the payload of LSN {}", record.lsn);
        }
        let lost: u64 = records.losses().iter().map(|loss| loss.lsns.count()).sum();
        assert_eq!(lsn, first - 1 + count as u64 + lost, "LSNs are dense but for those given up");
        next = lsn + 1;
    }
    let lost: u64 = records.losses().iter().map(|loss| loss.lsns.count()).sum();
    let last = first - 1 + count as u64 + lost;
    assert_eq!(reader.last_visible()?.0, last, "what is visible can be read, or it is an error");
    // A lone record is found through the seal's index.
    for index in [count / 2, count.saturating_sub(1)] {
        let Some(record) = expected.get(index).filter(|_| index < count) else { continue };
        let found = reader.read(Lsn(record.fields.lsn), Lsn::MAX)?;
        let payload = found.as_ref().map(|record| record.payload.as_slice());
        assert!(payload == Some(record.payload), "LSN {} alone", record.fields.lsn);
    }
    for loss in records.losses() {
        let found = reader.read(loss.lsns.last, Lsn::MAX);
        assert!(matches!(found, Err(RecoveryError::Lost(found)) if found == *loss), "{loss}");
    }
    Ok(count)
}

fn check_verify(
    report: &Result<VerifyReport, RecoveryError>,
    opening: &Result<Opening, Refusal>,
    records: &Result<Vec<Record<'_>>, Refusal>,
    is_closed_unseen: bool,
) {
    match (report, records) {
        (Ok(report), Ok(_)) => {
            let first = first_of(opening).expect("what can be read opens");
            let last = Lsn(opening.as_ref().map_or(0, |opening| opening.next - 1));
            let last = LsnRange { first: last, last };
            for problem in &report.problems {
                // A reader compares the last entry of a segment where it goes on into the next.
                let at_end = matches!(problem.what, DamageCause::LastEntryDiffers | DamageCause::BatchCut)
                    && problem.lsns == last;
                // Opening takes a closing seal at its word. That a mark before it knows of more records is for
                // verification to tell; and that the batch before it was never closed, from which follows that a
                // file which was not started does not stand where the log goes on.
                let is_denied_start =
                    matches!(problem.what, DamageCause::HeaderMissing) && problem.lsns == last;
                let denied = is_closed_unseen && (problem.lsns.first > last.last || is_denied_start);
                assert!(at_end || denied || problem.lsns.is_empty(), "everything can be read, and {problem}");
            }
            if report.is_clean() {
                assert_eq!(report.first_lsn.0, first);
                assert_eq!(report.last_lsn, if last.last.0 < first { Lsn::ZERO } else { last.last });
                let ending = opening.as_ref().ok().map(|opening| opening.ending);
                let expected = match ending {
                    Some(Ending::New) => VerifyTail::Empty,
                    Some(Ending::Sealed) => VerifyTail::Sealed,
                    Some(Ending::Clean) => VerifyTail::Unsealed,
                    Some(Ending::Torn(_)) => VerifyTail::Torn,
                    None => VerifyTail::Damaged,
                };
                assert_eq!(report.tail, expected);
            }
        }
        (Ok(report), Err(refusal)) => assert!(!report.is_clean(), "a clean log was refused: {refusal:?}"),
        // Behind the last record of a segment something may be newer that no reader looks at.
        (Err(RecoveryError::Newer { .. }), _) => {}
        (Err(RecoveryError::Foreign { .. }), Err(_)) => {}
        (Err(error), _) => panic!("verification: {error}; naive: {records:?}"),
    }
}

/// No length was believed that the files do not have.
fn check_reads(disk: &SimDisk) {
    for traced in disk.take_trace() {
        if let Action::Read { len, .. } = traced.action {
            assert!(len <= (TOTAL_MAX + 2 * BLOCK) as u64, "{traced:?}");
        }
    }
}
