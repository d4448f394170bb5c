//! Listings that miss a segment, as one may that is made while the segment is packed: it had not yet its new name when the
//! listing came by, and not its old one any more.
//!
//! The rule: a listing misses one segment at most, and two in a row never the same one; whoever reads sees nothing of it.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use braidlog_format::{LogId, Lsn, SegmentName};
use braidlog_recovery::{
    BackupHow, ForkHow, LogReader, Manifest, Target, VerifyHow, backup, fork, resolve, verify_with,
};
use braidlog_sim::{SimClock, SimDisk};
use braidlog_storage::{Clock, DirEntry, LogDir, Storage};
use support::tamper::Tamper;
use support::{Pen, Written, open_dir};

const SEGMENTS: usize = 5;

/// Some segments of two rounds each, at moments of their own.
fn log() -> (SimDisk, Vec<Written>) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    for n in 0..SEGMENTS as u8 {
        pen.records(&[&[n; 40], &[n; 50]]).sync().records(&[&[n; 60]]).sync();
        if n + 1 < SEGMENTS as u8 {
            pen.rotate();
        }
    }
    pen.idle_mark();
    (disk, pen.model)
}

/// The directory, of which the listings with these numbers miss the segments with these bases.
fn missing(disk: &SimDisk, misses: &[(usize, u64)]) -> Arc<dyn LogDir> {
    let (misses, listings) = (misses.to_vec(), AtomicUsize::new(0));
    let after_list = move |listed: &mut Vec<DirEntry>| {
        let number = listings.fetch_add(1, Ordering::Relaxed);
        for &(_, base) in misses.iter().filter(|(at, _)| *at == number) {
            let name = SegmentName(Lsn(base)).to_string();
            listed.retain(|entry| entry.name != name);
        }
    };
    Tamper { after_list: Some(Arc::new(after_list)), ..Tamper::default() }.with(open_dir(disk))
}

/// All that somebody beside the writer reads.
fn check(disk: &SimDisk, model: &[Written], misses: &[(usize, u64)]) {
    let last = Lsn(model.len() as u64);
    let dir = || missing(disk, misses);
    let context = format!("{misses:?}");
    let whole = LogReader::open_read_only(open_dir(disk)).unwrap();
    let all: Vec<_> = whole.iter(Lsn(1), last).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), model.len());
    let readers = || {
        let beside = LogReader::open_read_only(dir()).unwrap_or_else(|error| panic!("{context}: {error}"));
        [beside, LogReader::of_writer(dir(), Lsn(1))]
    };
    for reader in readers() {
        let read: Vec<_> = reader.iter(Lsn(1), last).unwrap().map(Result::unwrap).collect();
        assert!(read == all, "{context}");
    }
    for reader in readers() {
        let read: Vec<_> = reader.iter_rev(Lsn(1), last).unwrap().map(Result::unwrap).collect();
        assert!(read.iter().rev().eq(&all), "{context}");
    }
    for record in &all {
        for reader in readers() {
            assert_eq!(reader.read(record.lsn, last).unwrap().as_ref(), Some(record), "{context}");
        }
        for reader in readers() {
            let first = all.iter().find(|other| other.timestamp_ns >= record.timestamp_ns).unwrap().lsn;
            assert_eq!(reader.first_since(record.timestamp_ns, last).unwrap(), first, "{context}");
        }
        for reader in readers() {
            let until = all.iter().rfind(|other| other.timestamp_ns <= record.timestamp_ns).unwrap().lsn;
            let found =
                resolve(&Target::time_ns(record.timestamp_ns), &reader, &Manifest::default(), last).unwrap();
            assert_eq!(found, until, "{context}");
        }
    }
    let report = verify_with(&dir(), VerifyHow { threads: 1, on_entry: None }, &mut |_| ());
    assert_eq!(report.unwrap().records, last.0, "{context}");
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
    for name in ["fork", "backup"] {
        let to = disk.crash_clone(0, braidlog_sim::Profile::Kept);
        let to_dir = to.open_dir(Path::new(name), true).unwrap();
        let made = if name == "fork" {
            let how = ForkHow {
                log_id: LogId([3; 16]),
                seed: 5,
                until: None,
                clock: Arc::clone(&clock),
                ahead: None,
                progress: None,
            };
            let reader = LogReader::of_writer(dir(), Lsn(1));
            fork(&reader, last, &to_dir, how).map(|report| report.segments).map_err(|error| error.to_string())
        } else {
            let how = BackupHow { link: false };
            backup(&dir(), &to_dir, &clock, how, None, &mut || Ok(last), &mut |_| ())
                .map(|report| report.segments)
                .map_err(|error| error.to_string())
        };
        assert_eq!(made, Ok(SEGMENTS), "{context}: {name}");
    }
}

#[test]
fn a_listing_that_misses_a_segment_which_is_being_packed_changes_nothing_for_whoever_reads() {
    let (disk, model) = log();
    // The last one is never packed.
    let bases: Vec<u64> = (0..SEGMENTS as u64 - 1).map(|n| 3 * n + 1).collect();
    let lock = open_dir(&disk).try_lock().unwrap().unwrap();
    for listing in 0..4 {
        for (index, &base) in bases.iter().enumerate() {
            check(&disk, &model, &[(listing, base)]);
            // The next one is packed at once.
            if let Some(&next) = bases.get(index + 1) {
                check(&disk, &model, &[(listing, base), (listing + 1, next)]);
            }
        }
    }
    drop(lock);
}
