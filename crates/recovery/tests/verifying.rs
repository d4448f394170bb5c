//! Verification by several threads, and entry by entry: both say what one thread says of the whole.

mod support;

use braidlog_format::Kind;
#[cfg(feature = "zstd")]
use braidlog_format::Lsn;
use braidlog_recovery::{EntryVerdict, VerifyHow, VerifyReport, verify, verify_with};
use braidlog_sim::{Profile, SimDisk};
#[cfg(feature = "zstd")]
use support::packing::{bases, log as packable, pack_all, packed_name, records};
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

/// A damaged frame was said to cost every record up to the next sync mark, many frames behind it.
#[cfg(feature = "zstd")]
#[test]
fn a_damaged_frame_costs_the_records_in_it_and_no_other() {
    let pen = packable(3);
    let (disk, last) = (pen.disk.clone(), pen.next.0 - 1);
    assert!(pack_all(&disk, 8000) >= 3);
    let mut told = 0;
    for base in bases(&disk) {
        let name = path(&packed_name(base));
        if !disk.list_raw(support::DIR).iter().any(|(found, _)| *found == packed_name(base)) {
            continue;
        }
        let len = disk.read_raw(&name).len() as u64;
        for at in (4200..len.saturating_sub(2000)).step_by(len as usize / 7) {
            let image = disk.crash_clone(0, Profile::Kept);
            image.flip_bit(&name, at, 1);
            let report = verify(&open_dir(&image), &mut |_| {}).unwrap();
            let lost = report.problems.iter().flat_map(|problem| problem.lsns.first.0..=problem.lsns.last.0);
            let lost: Vec<u64> = lost.collect();
            // Who asks for one record is kept from it by nothing but the frames that hold it.
            let unread: Vec<u64> = (1..=last)
                .filter(|&lsn| records(&image, lsn, lsn).next().is_none_or(|record| record.is_err()))
                .collect();
            assert_eq!(lost, unread, "byte {at} of {base}: {:?}", report.problems);
            assert_eq!(report.records, last - lost.len() as u64);
            told += usize::from(!lost.is_empty());
        }
    }
    assert!(told > 10, "{told}");
    assert_eq!(records(&disk, 1, last).next().unwrap().unwrap().lsn, Lsn(1));
}
