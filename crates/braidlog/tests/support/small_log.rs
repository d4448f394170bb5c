//! A log of small segments without threads, on a simulated disk and clock, whose records prove themselves.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use braidlog::{CheckpointPolicy, DurabilityMode, Lsn, Options, ReadOnly, Records, Result, Wal};
use braidlog_sim::{SimClock, SimDisk};

/// Where the log is.
pub const PATH: &str = "wal";
/// Records that more than fill a segment.
pub const PER_SEGMENT: u64 = 8;

/// Options of such a log.
pub fn small(disk: &SimDisk, clock: &Arc<SimClock>) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .clock(clock.clone())
        .mode(DurabilityMode::Synchronous)
        .background_threads(false)
        .num_stripes(1)
        .stripe_capacity(16 << 10)
        .segment_size(64 << 10)
        .write_buffer_size(16 << 10)
        .checkpoint_policy(CheckpointPolicy::never())
}

/// The payload of the record with this LSN.
pub fn payload(lsn: Lsn) -> Vec<u8> {
    let mut payload = vec![(lsn.0 % 251) as u8; 8000];
    payload[..8].copy_from_slice(&lsn.0.to_le_bytes());
    payload
}

/// Appends so many records.
pub fn append(wal: &Wal, count: u64) {
    for _ in 0..count {
        let next = wal.last_lsn().next();
        assert_eq!(wal.append(payload(next)).unwrap(), next);
    }
}

/// Appends records for so many segments, and some more.
pub fn fill(wal: &Wal, segments: u64) {
    append(wal, segments * PER_SEGMENT);
}

/// Checks that these are the records from `first` to `last`, all of them, byte for byte.
#[track_caller]
pub fn assert_records(records: Result<Records>, first: Lsn, last: Lsn) {
    let mut next = first;
    for record in records.unwrap() {
        let record = record.unwrap();
        assert_eq!(record.lsn, next);
        assert_eq!(record.payload, payload(next), "LSN {next}");
        next = next.next();
    }
    assert_eq!(next, last.next());
}

/// The base LSNs of the segment files in a directory.
pub fn bases(disk: &SimDisk, dir: &str) -> Vec<u64> {
    let names = disk.list_raw(dir).into_iter();
    let mut bases: Vec<u64> =
        names.filter_map(|(name, _)| name.strip_suffix(".wal").map(|base| base.parse().unwrap())).collect();
    bases.sort_unstable();
    bases
}

/// Checks a whole log, read only: its records from its first LSN on; gives the last.
#[track_caller]
pub fn assert_reads(log: &ReadOnly) -> Lsn {
    let (first, last) = (log.first_lsn().unwrap(), log.last_lsn().unwrap());
    assert_records(log.iter(first..), first, last);
    last
}
