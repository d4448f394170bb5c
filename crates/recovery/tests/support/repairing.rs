//! Repairs on the simulated disk, and a log that is worth it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery::{DamagePolicy, LogReader, Loss, OnDamage, Recovered, RecoveryError, recover_with};
use braidlog_sim::{Profile, SimClock, SimDisk};
use braidlog_storage::{LogDir, Storage};

use super::{DIR, LOG_ID, Pen, Written, open_dir, segment_path};

/// The policies that give something up.
pub const LOSSY: [DamagePolicy; 2] = [DamagePolicy::UntilDamage, DamagePolicy::SkipDamaged];

/// Opens the log for writing.
pub fn open_with(disk: &SimDisk, policy: DamagePolicy) -> Result<Recovered, RecoveryError> {
    let told = |source| RecoveryError::Io { operation: "open", file: DIR.to_owned(), source };
    let dir = disk.open_dir(Path::new(DIR), true).map_err(told)?;
    with_quarantine(disk, policy, |how| recover_with(&dir, LOG_ID, Some(how)))
}

/// Runs with what a repair needs.
pub fn with_quarantine<T>(disk: &SimDisk, policy: DamagePolicy, run: impl FnOnce(&OnDamage<'_>) -> T) -> T {
    let quarantine =
        |path: &str| -> std::io::Result<Arc<dyn LogDir>> { disk.open_dir(&Path::new(DIR).join(path), true) };
    run(&OnDamage { policy, clock: Arc::new(SimClock::new()), quarantine: &quarantine })
}

/// Three segments: one rotated and sealed, with batches; one that a crash left without a seal; one that is not
/// closed.
pub fn log() -> (SimDisk, Vec<Written>) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"first", &[1; 100]]).sync().round(&[&[(1, b"in"), (2, b"one"), (3, b"batch")]]).sync();
    pen.idle_mark().rotate();
    pen.records(&[b"second segment", &[2; 5000]]).sync().records(&[b"torn"]);
    disk.write_raw(segment_path(6), pen.offset - 4070, &[0xFF; 60]);
    let mut pen = Pen::reopen(&disk, pen.model);
    pen.records(&[b"third segment", b"more", b"of", b"it"]).sync();
    pen.round(&[&[(1, b"one more"), (1, b"batch")], &[(1, b"the end")]])
        .sync()
        .idle_mark()
        .sync()
        .idle_mark();
    pen.sync();
    (disk, pen.model)
}

/// Asserts that the losses that an opening told are those that the log records, each LSN once, in order.
pub fn assert_told_as_recorded(disk: &SimDisk, told: &[Loss], context: &str) {
    let reader = LogReader::open_read_only(open_dir(disk)).unwrap();
    let last = reader.last_visible().unwrap().0;
    let is_lost = |lsn: &u64| matches!(reader.read(Lsn(*lsn), Lsn::MAX), Err(RecoveryError::Lost(_)));
    let recorded: Vec<u64> = (1..=last).filter(is_lost).collect();
    let lsns: Vec<u64> = told.iter().flat_map(|loss| loss.lsns.first.0..=loss.lsns.last.0).collect();
    assert_eq!(lsns, recorded, "{context}: {told:?}");
    assert_eq!(reader.losses().unwrap(), told, "{context}");
}

/// The disk as it is.
pub fn image_of(disk: &SimDisk) -> SimDisk {
    disk.crash_clone(0, Profile::Kept)
}
