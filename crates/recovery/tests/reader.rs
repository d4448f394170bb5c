//! Reading: beside a writer in this process, beside another one's, and a log that nobody writes.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use braidlog_format::{Kind, Lsn};
use braidlog_recovery::{
    Disposed, LogReader, Manifest, ManifestStore, Pins, ReadAhead, RecoveryError, SegmentState, Target,
    resolve, truncate,
};
use braidlog_sim::{Action, SimClock, SimDisk};
use braidlog_storage::LockGuard;
use support::tamper::Tamper;
use support::{
    Pen, Written, assert_holds, checkpoint, files, open_dir, recovered, segment, segment_path, verified,
};

fn read_only(disk: &SimDisk) -> LogReader {
    LogReader::open_read_only(open_dir(disk)).unwrap()
}

fn collect(reader: &LogReader, from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    let records = reader.iter(Lsn(from), Lsn(to)).unwrap();
    records.map(|record| record.map(|record| (record.lsn.0, record.payload)).unwrap()).collect()
}

fn expected(model: &[Written], from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    (from..=to).map(|lsn| (lsn, model[lsn as usize - 1].payload.clone())).collect()
}

/// Five segments of records of many sizes.
fn long_log(disk: &SimDisk) -> Pen {
    let mut pen = Pen::new(disk);
    for n in 0..60u32 {
        let sizes = [n as usize % 90, 300 + n as usize, 1, 9000, 0];
        let payloads: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![n as u8; size]).collect();
        let payloads: Vec<&[u8]> = payloads.iter().map(|payload| payload.as_slice()).collect();
        pen.records(&payloads).sync();
        if n % 12 == 11 {
            pen.rotate();
        }
    }
    pen.records(&[b"last"]).sync();
    pen
}

#[test]
fn any_range_is_read_from_wherever_it_starts() {
    let disk = SimDisk::new();
    let mut pen = long_log(&disk);
    let last = pen.model.len() as u64;
    pen.seal();
    let reader = read_only(&disk);
    assert_eq!(reader.last_visible().unwrap(), Lsn(last));
    for from in (1..=last).step_by(7) {
        for to in [from, from + 1, from + 100, last] {
            let to = to.min(last);
            assert!(collect(&reader, from, to) == expected(&pen.model, from, to), "{from} to {to}");
        }
        let record = reader.read(Lsn(from), Lsn::MAX).unwrap().unwrap();
        assert_eq!((record.lsn, record.kind), (Lsn(from), Kind(1)));
    }
    assert!(collect(&reader, 0, u64::MAX) == expected(&pen.model, 1, last));
    assert_eq!(collect(&reader, last + 1, u64::MAX), []);
    assert_eq!(collect(&reader, 5, 4), []);
    assert_eq!(reader.read(Lsn(last + 1), Lsn::MAX).unwrap(), None);
    assert_eq!(reader.read(Lsn(3), Lsn(2)).unwrap(), None);
    assert_eq!(reader.read(Lsn::ZERO, Lsn::MAX).unwrap(), None);
}

#[test]
fn lent_and_owned_records_are_the_same() {
    let disk = SimDisk::new();
    let mut pen = long_log(&disk);
    pen.seal();
    let reader = read_only(&disk);
    let mut lent = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    let mut owned = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    while let Some(record) = lent.next_ref() {
        assert_eq!(record.unwrap().to_owned(), owned.next().unwrap().unwrap());
    }
    assert!(owned.next().is_none() && owned.next().is_none());
}

#[test]
fn sealed_segment_is_entered_by_its_index_and_not_from_its_start() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.ahead = 16 << 20;
    for n in 0..4000u32 {
        pen.records(&[&n.to_le_bytes(), &[7; 3000]]);
    }
    pen.rotate().records(&[b"more"]).sync();
    let reader = read_only(&disk);
    disk.take_trace();
    assert!(reader.read(Lsn(7001), Lsn::MAX).unwrap().is_some());
    let read: u64 = disk
        .take_trace()
        .iter()
        .map(|traced| match traced.action {
            Action::Read { len, .. } => len,
            _ => 0,
        })
        .sum();
    assert!(read < 4 << 20, "{read} bytes of a segment of 16 MiB");
}

#[test]
fn index_that_points_nowhere_misleads_no_reader() {
    let shifts: [fn(&mut braidlog_format::IndexPoint); 4] = [
        |point| point.offset += 8,
        |point| point.offset = 4096,
        |point| point.offset = u64::MAX,
        |point| point.lsn = Lsn(point.lsn.0 - 1),
    ];
    for shift in shifts {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one", b"two", b"three", b"four"]);
        pen.index.iter_mut().for_each(shift);
        pen.seal();
        let reader = read_only(&disk);
        for lsn in 1..=4 {
            assert_eq!(collect(&reader, lsn, lsn), expected(&pen.model, lsn, lsn));
        }
    }
}

#[test]
fn reader_accepts_what_the_writer_may_write_and_keeps_its_buffer_small() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let large: Vec<u8> = (0..5u32 << 20).map(|n| (n % 251) as u8).collect();
    pen.records(&[b"small", &large, b"behind"]).sync();
    for _ in 0..300 {
        pen.records(&[&[5; 9000]]);
    }
    pen.seal();
    disk.take_trace();
    assert_holds(&disk, &pen.model);
    pen.assert_recovers(&disk);
    assert!(verified(&disk).unwrap().is_clean());
    let largest = |from: u64| {
        let reads = disk.take_trace();
        reads
            .iter()
            .filter_map(|traced| match traced.action {
                Action::Read { offset, len } if offset >= from => Some(len),
                _ => None,
            })
            .max()
            .unwrap_or(0)
    };
    // Behind the large record the buffer has its size again.
    assert!(largest(7 << 20) <= 1 << 20);
}

#[test]
fn reader_of_the_writer_s_process_sees_what_is_durable_at_each_call() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let _lock = pen.dir.try_lock().unwrap().unwrap();
    let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
    for n in 0..30u8 {
        pen.records(&[&[n; 10], &[n; 2000]]).sync();
        let durable = pen.durable.0;
        assert!(collect(&reader, 1, durable) == expected(&pen.model, 1, durable));
        let record = reader.read(pen.durable, pen.durable).unwrap().unwrap();
        assert_eq!(record.payload, pen.model.last().unwrap().payload);
        if n % 7 == 6 {
            pen.rotate();
        }
    }
}

#[test]
fn iterator_follows_the_log_into_segments_that_came_after_it() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
    pen.records(&[b"one", b"two"]).sync();
    // The range is durable before the iterator is asked, and in files that it did not list.
    let mut records = reader.iter(Lsn(1), Lsn(6)).unwrap();
    assert_eq!(records.next().unwrap().unwrap().payload, b"one");
    pen.rotate().records(&[b"three"]).rotate().records(&[b"four", b"five", b"six"]).sync();
    let rest: Vec<_> = records.map(|record| record.unwrap().payload).collect();
    assert_eq!(rest, [&b"two"[..], b"three", b"four", b"five", b"six"]);
}

#[test]
fn reader_beside_another_writer_shows_the_highest_sync_mark_and_no_more() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let lock = pen.dir.try_lock().unwrap().unwrap();
    let reader = read_only(&disk);
    assert_eq!(reader.last_visible().unwrap(), Lsn::ZERO);
    pen.records(&[b"one"]);
    assert_eq!(reader.last_visible().unwrap(), Lsn::ZERO, "written is not durable");
    pen.sync();
    assert_eq!(reader.last_visible().unwrap(), Lsn::ZERO, "durable is not told yet");
    pen.records(&[b"two"]);
    assert_eq!(reader.last_visible().unwrap(), Lsn(1));
    pen.sync().idle_mark();
    assert_eq!(reader.last_visible().unwrap(), Lsn(2));
    assert_eq!(collect(&reader, 1, u64::MAX), expected(&pen.model, 1, 2));
    pen.records(&[b"three"]).rotate();
    assert_eq!(reader.last_visible().unwrap(), Lsn(3), "the successor's header tells");
    pen.records(&[b"four"]).seal();
    assert_eq!(reader.last_visible().unwrap(), Lsn(4), "the seal tells");
    let infos = reader.segments().unwrap();
    let told: Vec<_> = infos.iter().map(|info| (info.base.0, info.last, info.sealed, info.state)).collect();
    let (finished, last) = (SegmentState::Finished, |lsn| Some(Lsn(lsn)));
    assert_eq!(told, [(1, last(3), true, finished), (4, last(4), true, finished)]);
    drop(lock);
    assert_eq!(collect(&reader, 1, u64::MAX), expected(&pen.model, 1, 4));
}

#[test]
fn restore_point_that_was_set_after_the_caller_looked_is_stood_at_all_the_same() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two", b"three"]).sync().records(&[b"behind it"]).sync();
    let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
    let looked = Lsn(1);
    let mut manifest = Manifest::default();
    assert!(manifest.set_restore_point("here", Lsn(3), 0));
    let stood_at = resolve(&Target::restore_point("here"), &reader, &manifest, looked);
    assert_eq!(stood_at.unwrap(), Lsn(3));
}

#[test]
fn half_written_round_beside_a_writer_is_nobody_s_damage() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let _lock = pen.dir.try_lock().unwrap().unwrap();
    let reader = read_only(&disk);
    pen.records(&[b"one"]).sync().records(&[b"two"]).sync();
    let round = pen.encode_round(&[&[(1, &[7; 9000])], &[(1, b"tail")]]);
    for written in (0..round.len()).step_by(512) {
        pen.file.write_at(&round[..written], pen.offset).unwrap();
        let visible = reader.last_visible().unwrap();
        assert_eq!(visible, if written >= 48 { Lsn(2) } else { Lsn(1) }, "{written} bytes");
        assert!(verified(&disk).unwrap().is_clean());
        assert_eq!(read_only(&disk).last_visible().unwrap(), visible);
    }
}

#[test]
fn damage_that_a_mark_covers_is_told_beside_a_writer_too() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let _lock = pen.dir.try_lock().unwrap().unwrap();
    pen.records(&[b"one"]).sync();
    let start = pen.offset;
    pen.records(&[b"two"]).sync().records(&[b"three"]).sync().idle_mark();
    disk.write_raw(segment_path(1), start, &[0; 4096]);
    for error in [
        LogReader::open_read_only(open_dir(&disk)).unwrap_err(),
        LogReader::of_writer(open_dir(&disk), Lsn::FIRST)
            .iter(Lsn(1), Lsn(3))
            .unwrap()
            .nth(1)
            .unwrap()
            .unwrap_err(),
    ] {
        let RecoveryError::Damaged(damage) = error else { panic!("{error}") };
        assert_eq!((damage.segment, damage.offset), (segment(1), start));
        assert_eq!((damage.lsns.first, damage.lsns.last), (Lsn(2), Lsn(3)));
    }
    let report = verified(&disk).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].offset, start);
}

#[test]
fn iterator_ends_after_an_error() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two", b"three"]).seal();
    let bytes = disk.read_raw(segment_path(1));
    let second = support::entries_of(&bytes, pen.header.salt)[2].0;
    disk.flip_bit(segment_path(1), second + 34, 0);
    let reader = read_only(&disk);
    let mut records = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    assert!(records.next().unwrap().is_ok());
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none() && records.next_ref().is_none());
    // What stands behind the damage can be had on its own.
    assert_eq!(reader.read(Lsn(3), Lsn::MAX).unwrap().unwrap().payload, b"three");
}

#[test]
fn nothing_that_reads_changes_the_directory() {
    let mut disks = Vec::new();
    for end in 0..5 {
        let disk = SimDisk::new();
        let mut pen = long_log(&disk);
        match end {
            0 => drop(pen.seal()),
            1 => drop(pen.records(&[b"not synced"])),
            2 => {
                pen.records(&[b"torn"]);
                let base = pen.header.base.0;
                disk.write_raw(segment_path(base), pen.offset - 4040, &[9; 30]);
            }
            3 => disk.flip_bit(segment_path(1), 5000, 2),
            _ => disk.put_raw(support::path("9.prep"), b"prepared"),
        }
        disks.push(disk);
    }
    for disk in disks {
        for live in [false, true] {
            let dir = open_dir(&disk);
            let lock = live.then(|| dir.try_lock().unwrap().unwrap());
            let before = files(&disk);
            disk.take_trace();
            let _ = verified(&disk);
            if let Ok(reader) = LogReader::open_read_only(open_dir(&disk)) {
                let _ = reader.iter(Lsn(1), Lsn::MAX).map(|records| records.count());
                let _ = reader.segments();
            }
            assert!(files(&disk) == before);
            for traced in disk.take_trace() {
                let reads = matches!(
                    traced.action,
                    Action::Open
                        | Action::Read { .. }
                        | Action::SyncData
                        | Action::SyncAll
                        | Action::DropCache
                );
                assert!(reads, "{traced:?}");
            }
            drop(lock);
        }
    }
}

#[test]
fn dead_log_shows_what_recovery_would_keep_and_keeps_what_it_showed() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one"]).sync().records(&[b"two"]);
    let round = pen.encode_round(&[&[(1, b"half"), (1, b"batch")]]);
    pen.file.write_at(&round[..100], pen.offset).unwrap();
    let reader = read_only(&disk);
    assert_eq!(reader.last_visible().unwrap(), Lsn(2));
    // It was synced before it was shown.
    for seed in 0..30 {
        let after = disk.crash_clone(seed, braidlog_sim::Profile::Posix);
        assert_eq!(recovered(&after).unwrap().report.last_lsn, Lsn(2), "seed {seed}");
    }
}

/// What a writer may do while a reader looks.
#[derive(Clone, Copy, Debug)]
enum Move {
    Rotate,
    Close,
    ReopenTorn,
    ReplaceEmpty,
}

#[test]
fn writer_that_moves_under_a_reader_s_look_is_never_called_damage() {
    for what in [Move::Rotate, Move::Close, Move::ReopenTorn, Move::ReplaceEmpty] {
        for verify in [false, true] {
            for at in 1.. {
                let disk = SimDisk::new();
                let mut pen = Pen::new(&disk);
                pen.records(&[b"one", b"two"]).sync().records(&[b"three"]).sync();
                let mut lock = Some(pen.dir.try_lock().unwrap().unwrap());
                match what {
                    Move::Rotate | Move::Close => {}
                    Move::ReopenTorn => {
                        pen.records(&[b"torn"]);
                        disk.write_raw(segment_path(1), pen.offset - 4040, &[9; 30]);
                        lock = None;
                    }
                    Move::ReplaceEmpty => {
                        pen.seal();
                        let model = pen.model.clone();
                        pen = Pen::reopen(&disk, model);
                        pen.idle_mark();
                        lock = None;
                    }
                }
                let model = pen.model.clone();
                let before = pen.durable;
                let dir = open_dir(&disk);
                let deed_disk = disk.clone();
                let held = Arc::new(Mutex::new(None));
                let keep = Arc::clone(&held);
                let deed = move || match what {
                    Move::Rotate => {
                        pen.rotate().records(&[b"four"]).sync().records(&[b"five"]);
                        *keep.lock().unwrap() = lock;
                    }
                    Move::Close => {
                        pen.seal();
                        drop(lock);
                    }
                    Move::ReopenTorn | Move::ReplaceEmpty => {
                        let dir = open_dir(&deed_disk);
                        let lock = dir.try_lock().unwrap().unwrap();
                        let mut model = pen.model.clone();
                        model.truncate(3);
                        let mut pen = Pen::reopen(&deed_disk, model);
                        pen.records(&[b"four"]).sync().records(&[b"five"]);
                        *keep.lock().unwrap() = Some(lock);
                    }
                };
                let questions = Arc::new(AtomicU64::new(0));
                let (count, deed) = (Arc::clone(&questions), Mutex::new(Some(deed)));
                let before_question = move || {
                    if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
                        deed.lock().unwrap().take().expect("it is done once")();
                    }
                };
                let tamper = Tamper { before_question: Some(Arc::new(before_question)), ..Tamper::default() };
                let dir = tamper.with(dir);
                let context = format!("{what:?}, question {at}");
                if verify {
                    let report = braidlog_recovery::verify(&dir, &mut |_| {});
                    let report = report.unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!(report.is_clean(), "{context}: {:?}", report.problems);
                } else {
                    let reader = LogReader::open_read_only(dir);
                    let reader = reader.unwrap_or_else(|error| panic!("{context}: {error}"));
                    let visible = reader.last_visible().unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!(visible.next() >= before, "{context}: {visible}");
                    let records = reader.iter(Lsn(1), visible).unwrap();
                    for (index, record) in records.enumerate() {
                        let record = record.unwrap_or_else(|error| panic!("{context}: {error}"));
                        if let Some(written) = model.get(index).filter(|_| index < 3) {
                            assert_eq!(record.payload, written.payload, "{context}");
                        }
                    }
                }
                if questions.load(Ordering::Relaxed) < at {
                    assert!(at > 3, "{context}");
                    break;
                }
                drop(held);
            }
        }
    }
}

/// What looks while the log is truncated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Verify,
    Read,
    ReadAhead,
}

/// The files that go are removed, or become segments again while a reader has them open.
#[test]
fn truncation_under_a_reader_s_look_is_told_as_such_and_never_as_damage() {
    for recycled in [false, true] {
        for look in [Look::Verify, Look::Read, Look::ReadAhead] {
            let (mut whole, mut truncated) = (0, 0);
            for at in 1.. {
                let context = format!("{look:?}, recycled: {recycled}, question {at}");
                let disk = SimDisk::new();
                let mut pen = Pen::new(&disk);
                for n in 0..4u8 {
                    // Larger than a reader's buffer, so that it comes back for more.
                    pen.records(&[&[n; 90_000], &[n; 90_000], &[n; 9]]).rotate();
                }
                pen.records(&[b"thirteen"]).sync().records(&[b"fourteen"]).sync().idle_mark();
                let _lock = pen.dir.try_lock().unwrap().unwrap();
                let model = pen.model.clone();
                let clock = Arc::new(SimClock::new());
                let (dir, log_id) = (open_dir(&disk), pen.header.log_id);
                let store = ManifestStore::new(Arc::clone(&dir), clock, log_id, Arc::default());
                checkpoint(&dir, &store, 13);
                let writer = Arc::new(Mutex::new(Some(pen)));
                let held = Arc::clone(&writer);
                let deed = move || {
                    let mut held = held.lock().unwrap();
                    let pen = held.as_mut().expect("it is done once");
                    let pins = Pins::new(Lsn::FIRST);
                    let mut dispose = |name: &str| {
                        if !recycled {
                            return pen.dir.remove(name).map(|()| Disposed::Removed);
                        }
                        // The spare before goes; this one is kept.
                        if let Some(spare) = pen.spare.replace("99.prep".to_owned()) {
                            pen.dir.remove(&spare)?;
                        }
                        pen.dir.rename(name, "99.prep", false)?;
                        pen.dir.sync().map(|()| Disposed::Recycled)
                    };
                    let done = truncate(&pen.dir.clone(), &store, &pins, pen.durable, Lsn(13), &mut dispose);
                    assert_eq!(done.unwrap().first_lsn, Lsn(13));
                    pen.rotate().records(&[&[0xCC; 100_000], b"sixteen"]).sync().idle_mark();
                };
                let questions = Arc::new(AtomicU64::new(0));
                let (count, deed) = (Arc::clone(&questions), Mutex::new(Some(deed)));
                let before = move || {
                    if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
                        deed.lock().unwrap().take().expect("it is done once")();
                    }
                };
                let before: Arc<dyn Fn() + Send + Sync> = Arc::new(before);
                let tamper = Tamper {
                    before_question: Some(Arc::clone(&before)),
                    before_read: Some(before),
                    ..Tamper::default()
                };
                let dir = tamper.with(dir);
                if look == Look::Verify {
                    let report = braidlog_recovery::verify(&dir, &mut |_| {});
                    let report = report.unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!(report.is_clean(), "{context}: {:?}", report.problems);
                    whole += 1;
                } else {
                    let reader = LogReader::open_read_only(dir);
                    let reader = reader.unwrap_or_else(|error| panic!("{context}: {error}"));
                    let visible = reader.last_visible().unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert!(visible >= Lsn(14), "{context}: {visible}");
                    let check = |from: Lsn| {
                        let records = reader.iter(from, Lsn(14))?;
                        let how = ReadAhead { threads: 2, memory_bytes: 4 << 20, after_bytes: 1 };
                        let records = if look == Look::Read { records } else { records.read_ahead(how) };
                        for (record, lsn) in records.zip(from.0..) {
                            let record = record?;
                            assert_eq!(record.lsn, Lsn(lsn), "{context}");
                            assert!(
                                record.payload == model[lsn as usize - 1].payload,
                                "{context}: LSN {lsn}"
                            );
                        }
                        Ok(())
                    };
                    // A second reading finds the log as it is then.
                    for _ in 0..2 {
                        match check(reader.first_lsn()) {
                            Ok(()) => whole += 1,
                            Err(RecoveryError::Truncated { first_lsn: Lsn(13) }) => truncated += 1,
                            Err(error) => panic!("{context}: {error}"),
                        }
                        reader.last_visible().unwrap_or_else(|error| panic!("{context}: {error}"));
                    }
                }
                if questions.load(Ordering::Relaxed) < at {
                    break;
                }
            }
            assert!(whole > 5 && (look == Look::Verify || truncated > 5), "{whole} and {truncated}");
        }
    }
}

/// A read through the page cache may return, for a moment, what stood there before a write that went past it.
#[test]
fn stale_page_beside_a_writer_is_read_again_before_it_is_called_damage() {
    for (stale_reads, of_writer) in [(1, false), (1, true), (2, false), (2, true)] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        let _lock = pen.dir.try_lock().unwrap().unwrap();
        pen.records(&[b"one"]).sync();
        let stale = pen.offset;
        pen.records(&[b"two"]).sync().records(&[b"three"]).sync().idle_mark();
        let left = AtomicU64::new(stale_reads);
        let after_cached_read = move |_: &str, offset: u64, bytes: &mut [u8]| {
            let Some(from) = stale.checked_sub(offset).map(|from| from as usize) else { return };
            if let Some(bytes) = bytes.get_mut(from..from + 4096)
                && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                bytes.fill(0);
            }
        };
        let tamper = Tamper { after_cached_read: Some(Arc::new(after_cached_read)), ..Tamper::default() };
        let dir = tamper.with(open_dir(&disk));
        let reader = if of_writer {
            LogReader::of_writer(dir, Lsn::FIRST)
        } else {
            let reader = LogReader::open_read_only(dir).unwrap();
            assert_eq!(reader.last_visible().unwrap(), Lsn(3));
            reader
        };
        assert_eq!(collect(&reader, 1, 3), expected(&pen.model, 1, 3));
    }
}

#[test]
fn writer_that_opens_while_a_dead_log_is_judged_shows_no_record_before_it_is_durable() {
    for at in 1..8 {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one"]).sync();
        let model = pen.model.clone();
        let writer = Arc::new(Mutex::new(None::<(Pen, Box<dyn LockGuard>)>));
        let (shared, deed_disk, questions) = (Arc::clone(&writer), disk.clone(), AtomicU64::new(0));
        let before_question = move || {
            let mut writer = shared.lock().unwrap();
            if questions.fetch_add(1, Ordering::Relaxed) + 1 == at {
                let lock = open_dir(&deed_disk).try_lock().unwrap().unwrap();
                *writer = Some((Pen::reopen(&deed_disk, model.clone()), lock));
            }
            // From then on it writes and syncs nothing.
            if let Some((pen, _)) = &mut *writer {
                pen.records(&[b"not durable"]);
            }
        };
        let tamper = Tamper { before_question: Some(Arc::new(before_question)), ..Tamper::default() };
        let reader = LogReader::open_read_only(tamper.with(open_dir(&disk))).unwrap();
        let shown = reader.last_visible().unwrap();
        let writer = writer.lock().unwrap();
        assert_eq!(shown, Lsn(1), "question {at}");
        assert!(writer.is_some(), "question {at}");
    }
}
