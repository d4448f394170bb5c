//! A segment with thousands of holes: it takes a bounded number of reads, a bounded number of losses, and still accounts for
//! every LSN.
//!
//! The rule: work is counted in bytes that were read, never in time.

mod support;

use braidlog_format::{Lsn, LsnRange};
use braidlog_recovery::{DamagePolicy, LogReader, repair_plan, verify};
use braidlog_sim::{Action, SimDisk};
use support::repairing::{image_of, open_with};
use support::{Pen, entries_of, header_of, open_dir, path, recovered, segment_path};

const RECORDS: u64 = 40_000;
/// The most pieces and places that are told one by one, as the docs say.
const MAX: usize = 1024;
/// One record in so many has a bad header, but for a run of records in the middle.
const EVERY: u64 = 8;
const SPARED: LsnRange = LsnRange { first: Lsn(20_000), last: Lsn(20_400) };

fn payload(lsn: u64) -> [u8; 8] {
    lsn.to_le_bytes()
}

fn is_bad(lsn: u64) -> bool {
    lsn % EVERY == 3 && !SPARED.contains(Lsn(lsn))
}

/// One round of many records, synced as the mark of the next one says.
fn log() -> SimDisk {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let payloads: Vec<[u8; 8]> = (1..=RECORDS).map(payload).collect();
    pen.records(&payloads.iter().map(|payload| payload.as_slice()).collect::<Vec<_>>()).sync();
    pen.records(&[&payload(RECORDS + 1)]).sync();
    let mut bytes = disk.read_raw(segment_path(1));
    let entries = entries_of(&bytes, header_of(&bytes).salt);
    let records = entries.iter().filter(|(_, kind)| kind.takes_lsn());
    for ((offset, _), lsn) in records.zip(1..) {
        if is_bad(lsn) {
            bytes[*offset as usize] ^= 0x40;
        }
    }
    disk.put_raw(segment_path(1), &bytes);
    disk
}

/// Bytes that were read of files since the last call.
fn read_bytes(disk: &SimDisk) -> u64 {
    let trace = disk.take_trace();
    assert!(trace.len() < braidlog_sim::TRACE_MAX, "all of it is there");
    let read =
        |traced: &braidlog_sim::Traced| if let Action::Read { len, .. } = traced.action { len } else { 0 };
    trace.iter().map(read).sum()
}

#[test]
fn a_segment_full_of_holes_is_read_through_once_and_keeps_a_bounded_number_of_pieces() {
    // With its header gone, no hole is taken for a torn tail, and each asked anew what stands behind it.
    for header_is_lost in [false, true] {
        let disk = log();
        if header_is_lost {
            disk.write_raw(segment_path(1), 0, &[0; 4096]);
        }
        let len = disk.read_raw(segment_path(1)).len() as u64;
        disk.take_trace();
        let plan = repair_plan(&open_dir(&disk), DamagePolicy::SkipDamaged, &mut |_| ()).unwrap();
        let read = read_bytes(&disk);
        assert!(read < 6 * len, "{read} bytes of a file of {len}");
        assert!(plan.problems.len() <= MAX + 1, "{}", plan.problems.len());
        assert_eq!(plan.outcome.kept.len(), MAX + 2, "and what stands at both ends");
        assert_eq!(plan.losses.len(), MAX + 1);
        assert!(
            plan.outcome.kept.iter().any(|kept| kept.contains(SPARED.first) && kept.contains(SPARED.last))
        );
        // Every LSN is in one list.
        let lists = [&plan.outcome.kept, &plan.outcome.lost, &plan.outcome.never_acknowledged];
        let mut all: Vec<LsnRange> = lists.into_iter().flatten().copied().collect();
        all.sort_unstable_by_key(|range| range.first);
        let mut next = Lsn(1);
        for range in all {
            assert_eq!(range.first, next);
            next = range.last.next();
        }
        assert_eq!((next, plan.bound), (plan.bound.next(), Lsn(RECORDS + 1)));

        let found = open_with(&disk, DamagePolicy::SkipDamaged).unwrap();
        assert_eq!(found.tail.next_lsn, Lsn(RECORDS + 2), "no LSN is given again");
        assert!(
            disk.read_raw(path("MANIFEST")).len() < 200 << 10,
            "{}",
            disk.read_raw(path("MANIFEST")).len()
        );
        let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
        let mut kept = plan.outcome.kept.iter().flat_map(|kept| kept.first.0..=kept.last.0);
        for record in reader.iter(Lsn(1), Lsn::MAX).unwrap() {
            let record = record.unwrap();
            assert_eq!((Some(record.lsn.0), &record.payload[..]), (kept.next(), &payload(record.lsn.0)[..]));
        }
        assert_eq!(kept.next(), None, "what is told as kept is there");
        let again = recovered(&disk).unwrap();
        assert_eq!(again.report.losses, plan.losses);
        assert_eq!(reader.losses().unwrap(), plan.losses);
    }
}

#[test]
fn what_lies_before_the_first_of_many_holes_stays() {
    let disk = log();
    let plan = repair_plan(&open_dir(&disk), DamagePolicy::UntilDamage, &mut |_| ()).unwrap();
    assert_eq!(plan.outcome.kept, [LsnRange { first: Lsn(1), last: Lsn(2) }]);
    assert_eq!(plan.losses.len(), 1);
}

#[test]
fn a_verification_tells_a_bounded_number_of_places_which_cover_every_bad_record() {
    let disk = image_of(&log());
    let len = disk.read_raw(segment_path(1)).len() as u64;
    disk.take_trace();
    let report = verify(&open_dir(&disk), &mut |_| {}).unwrap();
    let read = read_bytes(&disk);
    assert!(read < 6 * len, "{read} bytes of a file of {len}");
    assert_eq!(report.problems.len(), MAX);
    let bad: Vec<u64> = (1..=RECORDS).filter(|&lsn| is_bad(lsn)).collect();
    assert!(bad.len() > 4 * MAX);
    assert_eq!(report.records, RECORDS + 1 - bad.len() as u64);
    let told = |lsn: &u64| report.problems.iter().any(|problem| problem.lsns.contains(Lsn(*lsn)));
    assert!(bad.iter().all(told));
    let one_by_one = report.problems.iter().take(MAX - 1).map(|problem| problem.lsns);
    assert!(one_by_one.zip(&bad).all(|(lsns, &bad)| lsns == LsnRange { first: Lsn(bad), last: Lsn(bad) }));
}
