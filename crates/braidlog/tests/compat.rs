//! Logs that released versions wrote: read as ever, changed by nobody who only reads, and gone on with.
//!
//! The files are those of `crates/format/tests/fixtures`, whose bytes and values are tested there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use braidlog::{Lsn, Record, TailState, Wal};

fn kept(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/fixtures").join(version)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// What version 1 wrote: kinds and payloads from LSN 1, and which records go on in the next one's batch.
fn expected() -> Vec<(u8, Vec<u8>, bool)> {
    let long = (0..5000_u32).map(|index| (index % 251) as u8).collect();
    [
        (0, b"the first record".to_vec(), false),
        (239, Vec::new(), false),
        (7, b"padded".to_vec(), false),
        (1, b"debit alice 10".to_vec(), true),
        (1, b"credit bob 7".to_vec(), true),
        (2, b"credit carol 3".to_vec(), false),
        (0, long, false),
        (0, b"alone".to_vec(), false),
        (4, vec![0x99; 3976], true),
        (4, b"the batch ends after the end of a round".to_vec(), false),
        (0, b"after the crash".to_vec(), false),
        (0, b"the last record".to_vec(), false),
    ]
    .into()
}

fn assert_as_ever(records: &[Record]) {
    let found: Vec<_> = records
        .iter()
        .map(|record| (record.kind.0, record.payload.clone(), record.batch_continues))
        .collect();
    assert!(found == expected());
    assert!(records.iter().zip(1..).all(|(record, lsn)| record.lsn == Lsn(lsn)));
    assert!(records.is_sorted_by_key(|record| record.timestamp_ns));
}

#[test]
fn log_of_version_1_is_read_as_ever_and_left_as_it_is() {
    let dir = kept("v1");
    let before = files(&dir);
    let report = braidlog::verify(&dir).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let log = Wal::open_read_only(&dir).unwrap();
    let records: Vec<_> = log.iter(..).unwrap().map(Result::unwrap).collect();
    assert_as_ever(&records);
    for record in &records {
        assert_eq!(log.read(record.lsn).unwrap().as_ref(), Some(record));
    }
    assert!(files(&dir) == before);
}

#[test]
fn log_of_version_1_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&kept("v1")) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let wal = Wal::options().open(dir.path()).unwrap();
    let report = wal.recovery_report();
    assert!(matches!(report.tail, TailState::Unsealed), "{report:?}");
    assert_eq!((report.segments, wal.incarnation().0), (3, 3));
    let records: Vec<_> = wal.replay().unwrap().map(Result::unwrap).collect();
    assert_as_ever(&records);
    assert_eq!(wal.append(b"of this version").unwrap(), Lsn(13));
    wal.close().unwrap();

    assert!(braidlog::verify(dir.path()).unwrap().is_clean());
    let log = Wal::open_read_only(dir.path()).unwrap();
    let mut records: Vec<_> = log.iter(..).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.pop().unwrap().payload, b"of this version");
    assert_as_ever(&records);
}
