//! Verification by several threads, and entry by entry: both say what one thread says of the whole.

mod support;

use braidlog_format::Kind;
use braidlog_recovery::{EntryVerdict, VerifyHow, VerifyReport, verify, verify_with};
use braidlog_sim::{Profile, SimDisk};
use support::{Pen, files, open_dir, path, segment_path};

/// Some segments, the last one open.
fn log() -> SimDisk {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    for n in 0..6_u8 {
        pen.records(&[&[n; 40], &[n; 3000]]).sync().round(&[&[(1, b"a"), (2, b"batch")]]).rotate();
    }
    pen.records(&[b"the end"]).sync().idle_mark();
    disk
}

fn with_threads(disk: &SimDisk, threads: usize) -> VerifyReport {
    let mut last = None;
    let report = verify_with(&open_dir(disk), VerifyHow { threads, on_entry: None }, &mut |progress| {
        last = Some(progress);
    });
    let (report, last) = (report.unwrap(), last.expect("the progress is told"));
    assert_eq!((last.segments_done, last.segments_total), (report.segments, report.segments));
    assert_eq!((last.bytes_done, last.records), (report.bytes, report.records));
    report
}

#[test]
fn threads_find_what_one_thread_finds_in_the_same_order() {
    let whole = log();
    let mut images = vec![whole.crash_clone(0, Profile::Kept)];
    for (name, bytes) in files(&whole) {
        for at in (0..bytes.len() as u64).step_by(1501) {
            let image = whole.crash_clone(0, Profile::Kept);
            image.flip_bit(path(&name), at, 1);
            image.flip_bit(segment_path(5), 4096 + 60, 1);
            images.push(image);
        }
    }
    for image in images {
        let alone = verify(&open_dir(&image), &mut |_| {}).unwrap();
        for threads in [2, 5, 20] {
            assert_eq!(with_threads(&image, threads), alone);
        }
    }
}

#[test]
fn every_entry_gets_a_verdict_and_the_damaged_one_another() {
    let disk = log();
    disk.flip_bit(segment_path(5), 4096 + 48 + 32, 1);
    let mut seen = Vec::new();
    let mut on_entry = |entry: &EntryVerdict<'_>| {
        seen.push((entry.lsn.0, entry.kind, entry.payload_len, entry.is_valid()));
    };
    let how = VerifyHow { threads: 4, on_entry: Some(&mut on_entry) };
    let report = verify_with(&open_dir(&disk), how, &mut |_| {}).unwrap();
    assert_eq!(report, verify(&open_dir(&disk), &mut |_| {}).unwrap());
    let bad: Vec<_> = seen.iter().filter(|(.., valid)| !valid).collect();
    assert_eq!(bad, [&(5, Some(Kind(1)), Some(40), false)]);
    let records: Vec<u64> =
        seen.iter().filter(|(_, kind, ..)| kind.is_some_and(Kind::takes_lsn)).map(|seen| seen.0).collect();
    assert_eq!(records, (1..=25).collect::<Vec<_>>(), "in the order of the log");
    assert!(seen.iter().any(|(_, kind, ..)| *kind == Some(Kind::SYNC_MARK)));
}
