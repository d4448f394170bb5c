//! Backups of a log that was repaired, into a directory that has one from before: none has an older copy of a segment beside newer
//! ones, and none loses what only it still has.

mod support;

use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery::{
    BackupHow, BackupReport, DamagePolicy, ForeignFile, LogReader, RecoveryError, backup,
};
use braidlog_sim::{SimClock, SimDisk};
use braidlog_storage::{Clock, LogDir, Storage};
use support::repairing::{LOSSY, image_of, log, open_with};
use support::{Pen, Written, entries_of, files, header_of, open_dir, path, segment_path, verified};

const DEST: &str = "backup";

fn dest_of(disk: &SimDisk) -> Arc<dyn LogDir> {
    disk.open_dir(Path::new(DEST), true).unwrap()
}

fn back_up(disk: &SimDisk, last: u64) -> Result<BackupReport, RecoveryError> {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
    let how = BackupHow { link: false };
    backup(&open_dir(disk), &dest_of(disk), &clock, how, None, &mut || Ok(Lsn(last)), &mut |_| ())
}

fn files_of_backup(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list_raw(DEST).into_iter().map(|(name, _)| name);
    names.map(|name| (name.clone(), disk.read_raw(format!("{DEST}/{name}")))).collect()
}

/// What a reader of a directory is given.
#[derive(PartialEq, Eq, Debug)]
struct Read {
    records: Vec<(u64, Vec<u8>)>,
    losses: Vec<String>,
    /// Whether it comes to the end without an error.
    is_whole: bool,
}

fn read(dir: &Arc<dyn LogDir>) -> Read {
    let reader = LogReader::open_read_only(Arc::clone(dir)).unwrap();
    let mut records = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    let mut read = Vec::new();
    let mut is_whole = true;
    for record in records.by_ref() {
        match record {
            Ok(record) => read.push((record.lsn.0, record.payload)),
            Err(_) => is_whole = false,
        }
    }
    let losses = records.losses().iter().map(ToString::to_string).collect();
    Read { records: read, losses, is_whole }
}

fn is_refused(backed_up: &Result<BackupReport, RecoveryError>) -> bool {
    use ForeignFile::{BeforeRepair, Diverged};
    matches!(backed_up, Err(RecoveryError::Foreign { what: BeforeRepair | Diverged, .. }))
}

#[test]
fn a_backup_from_before_a_repair_keeps_what_the_log_gave_up() {
    let (whole, model) = log();
    back_up(&whole, model.len() as u64).unwrap();
    let (mut refused, mut brought) = (0, 0);
    for (name, bytes) in files(&whole).into_iter().filter(|(name, _)| name.ends_with(".wal")) {
        let end = entries_of(&bytes, header_of(&bytes).salt).last().unwrap().0;
        for at in (4096..end).step_by(37) {
            for policy in LOSSY {
                let context = format!("{name}, byte {at}, {policy}");
                let disk = image_of(&whole);
                disk.flip_bit(path(&name), at, 1);
                let repaired = open_with(&disk, policy).unwrap().report.repaired;
                let before = files_of_backup(&disk);
                let end = verified(&disk).unwrap().last_lsn.0;
                let backed_up = back_up(&disk, end);
                if repaired.is_some_and(|repaired| !repaired.outcome.lost.is_empty()) {
                    assert!(is_refused(&backed_up), "{context}: {backed_up:?}");
                    assert!(files_of_backup(&disk) == before, "{context}: it was changed");
                    refused += 1;
                } else if let Err(error) = &backed_up {
                    assert!(is_refused(&backed_up), "{context}: {error}");
                    assert!(files_of_backup(&disk) == before, "{context}: it was changed");
                } else {
                    assert_eq!(read(&dest_of(&disk)), read(&open_dir(&disk)), "{context}");
                    brought += 1;
                }
            }
        }
    }
    assert!(refused > 50, "{refused} refused, {brought} brought");
}

/// A segment of three records with so many bytes, and one more behind it. And where the third one stands.
fn three_and_one(len: usize) -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let payload = vec![7; len];
    pen.records(&[&payload, &payload, &payload]).sync().rotate().records(&[b"behind it"]).sync();
    let bytes = disk.read_raw(segment_path(1));
    let records = entries_of(&bytes, header_of(&bytes).salt);
    let third = records.iter().filter(|(_, kind)| kind.takes_lsn()).nth(2).unwrap().0;
    (disk, third)
}

/// Records of one length, the last of which is lost: the loss takes as much space up to the next block, so that neither header
/// nor seal nor length tell the segment that has it from the one that has the record.
#[test]
fn an_older_copy_with_the_same_header_seal_and_length_is_not_taken_for_the_repaired_segment() {
    let mut alike = 0;
    for len in (8..2000).step_by(56) {
        let (disk, third) = three_and_one(len);
        let bytes = disk.read_raw(segment_path(1));
        back_up(&disk, 4).unwrap();
        disk.flip_bit(segment_path(1), third + 32, 1);
        let report = open_with(&disk, DamagePolicy::SkipDamaged).unwrap().report;
        assert_eq!(report.losses.len(), 1);
        let now = disk.read_raw(segment_path(1));
        alike += usize::from(now.len() == bytes.len() && header_of(&now) == header_of(&bytes));
        let backed_up = back_up(&disk, 4);
        let is_told =
            matches!(backed_up, Err(RecoveryError::Foreign { what: ForeignFile::BeforeRepair, .. }));
        assert!(is_told, "{len}: {backed_up:?}");
    }
    assert!(alike > 5, "{alike}");
}

/// A copy does not look for damage in the log, and a link shares it.
#[test]
fn a_backup_that_is_damaged_as_the_log_was_gets_the_repaired_segment() {
    for len in [8, 900, 2000] {
        let (disk, third) = three_and_one(len);
        disk.flip_bit(segment_path(1), third + 32, 1);
        back_up(&disk, 4).unwrap();
        open_with(&disk, DamagePolicy::SkipDamaged).unwrap();
        assert!(!read(&dest_of(&disk)).is_whole);
        let report = back_up(&disk, 4).unwrap();
        assert_eq!(report.copied, 1, "{len}: {report:?}");
        let Read { records, losses, is_whole } = read(&dest_of(&disk));
        assert_eq!((records.len(), losses.len(), is_whole), (3, 1, true), "{len}");
        assert_eq!(read(&dest_of(&disk)), read(&open_dir(&disk)), "{len}");
    }
}

#[test]
fn backups_go_on_after_a_repair_in_a_directory_of_their_own() {
    let (whole, _) = log();
    for policy in LOSSY {
        let disk = image_of(&whole);
        disk.flip_bit(segment_path(1), 4096 + 48 + 32, 1);
        let found = open_with(&disk, policy).unwrap();
        back_up(&disk, found.report.last_lsn.0).unwrap();
        let model: Vec<Written> = (0..found.report.last_lsn.0)
            .map(|_| Written { kind: braidlog_format::Kind(1), payload: Vec::new(), batch_continues: false })
            .collect();
        let mut pen = Pen::reopen(&disk, model);
        pen.records(&[b"later"]).sync().rotate().records(&[b"and later"]).sync();
        let report = back_up(&disk, found.report.last_lsn.0 + 2).unwrap();
        assert!(report.unchanged > 0, "{policy}: {report:?}");
        assert_eq!(read(&dest_of(&disk)), read(&open_dir(&disk)), "{policy}");
        assert_eq!(read(&dest_of(&disk)).losses.len(), found.report.losses.len(), "{policy}");
    }
}
