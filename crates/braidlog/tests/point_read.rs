//! What reading one record costs: one small read, wherever in the log it is.
//!
//! The disk is simulated and counts.

use std::sync::Arc;

use braidlog::{DurabilityMode, Lsn, Options, Wal};
use braidlog_sim::{Counts, Profile, Rng, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

const PATH: &str = "wal";
/// The step of the sparse index, one record, and a block on either side.
const READ_MAX: u64 = (64 << 10) + 900 + 2 * 4096;

fn on(disk: &SimDisk) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .mode(DurabilityMode::asynchronous())
        .background_threads(false)
        .segment_size(1 << 20)
}

/// The payload of the record with this LSN.
fn payload(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; 100 + (lsn as usize * 31) % 800]
}

/// Appends so many records, all durable.
fn fill(wal: &Wal, count: u64) {
    for _ in 0..count {
        let next = wal.last_lsn().next();
        assert_eq!(wal.append(payload(next.0)).unwrap(), next);
        if next.0.is_multiple_of(50) {
            wal.flush().unwrap();
        }
    }
    wal.flush().unwrap();
}

/// Calls that the disk served between two counts.
fn cost(before: &Counts, after: &Counts) -> (u64, u64, u64) {
    (after.reads - before.reads, after.bytes_read - before.bytes_read, after.opens - before.opens)
}

/// Reads one record after another in no order; each but the first of its segment with one read.
#[track_caller]
fn each_costs_one_read(disk: &SimDisk, last: u64, read: impl Fn(Lsn) -> Option<braidlog::Record>) {
    for warm_up in (1..=last).step_by(200) {
        read(Lsn(warm_up)).unwrap();
    }
    let mut rng = Rng::new(last);
    for lsn in (0..400).map(|_| 1 + rng.below(last)).chain([1, last]) {
        let before = disk.counts();
        let record = read(Lsn(lsn)).unwrap();
        assert_eq!((record.lsn, record.payload), (Lsn(lsn), payload(lsn)));
        let (reads, bytes, opens) = cost(&before, &disk.counts());
        assert_eq!((reads, opens), (1, 1), "LSN {lsn}");
        assert!(bytes <= READ_MAX, "LSN {lsn}: {bytes} bytes");
    }
}

#[test]
fn reading_a_record_costs_one_small_read_in_every_segment() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    fill(&wal, 8000);
    assert!(small_log::bases(&disk, PATH).len() >= 4, "sealed segments, and one under the pen");
    each_costs_one_read(&disk, 8000, |lsn| wal.read(lsn).unwrap());
    // What comes is known as it comes.
    for _ in 0..20 {
        fill(&wal, 300);
        let last = wal.last_lsn();
        let before = disk.counts();
        assert_eq!(wal.read(last).unwrap().unwrap().payload, payload(last.0));
        assert_eq!(cost(&before, &disk.counts()).0, 1, "LSN {last}");
    }
}

#[test]
fn reads_become_smaller_where_records_are_read() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    fill(&wal, 8000);
    for lsn in (1..=8000).step_by(10) {
        wal.read(Lsn(lsn)).unwrap().unwrap();
    }
    for lsn in (5..=8000).step_by(10) {
        let before = disk.counts();
        assert_eq!(wal.read(Lsn(lsn)).unwrap().unwrap().payload, payload(lsn));
        let (reads, bytes, _) = cost(&before, &disk.counts());
        assert!(reads == 1 && bytes <= 42 << 10, "LSN {lsn}: {bytes} bytes");
    }
}

#[test]
fn a_segment_without_a_seal_is_searched_once() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    fill(&wal, 1500);
    // A killed writer leaves no seal, and the next one begins a segment of its own.
    let disk = disk.crash_clone(1, Profile::Kept);
    let wal = on(&disk).open(PATH).unwrap();
    let last = wal.last_lsn().0;
    fill(&wal, 10);
    let before = disk.counts();
    assert_eq!(wal.read(Lsn(last - 100)).unwrap().unwrap().payload, payload(last - 100));
    assert!(cost(&before, &disk.counts()).0 > 5, "it is searched from its beginning");
    let mut rng = Rng::new(1);
    for lsn in (0..200).map(|_| 1 + rng.below(last - 200)) {
        let before = disk.counts();
        assert_eq!(wal.read(Lsn(lsn)).unwrap().unwrap().payload, payload(lsn));
        assert_eq!(cost(&before, &disk.counts()).0, 1, "LSN {lsn}");
    }
}

#[test]
fn reading_a_record_of_a_closed_log_costs_one_small_read() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    fill(&wal, 8000);
    wal.close().unwrap();
    let log = on(&disk).open_read_only(PATH).unwrap();
    each_costs_one_read(&disk, 8000, |lsn| log.read(lsn).unwrap());
}

#[test]
fn an_index_that_is_in_memory_hides_no_damage_of_a_record() {
    let disk = SimDisk::new();
    let wal = on(&disk).open(PATH).unwrap();
    fill(&wal, 5000);
    each_costs_one_read(&disk, 5000, |lsn| wal.read(lsn).unwrap());
    let name = format!("{PATH}/{:020}.wal", 1);
    let header_and_more = 200 << 10;
    for offset in (4096..header_and_more).step_by(512) {
        disk.flip_bit(&name, offset, 3);
    }
    let told = (1..200).filter(|&lsn| wal.read(Lsn(lsn)).is_err()).count();
    let right = (1..200).filter_map(|lsn| wal.read(Lsn(lsn)).ok()).all(|found| {
        let record = found.unwrap();
        record.payload == payload(record.lsn.0)
    });
    assert!(told > 50 && right, "{told} told");
}
