//! A packed segment is to every reader what it was before, and its damage is told as damage of the records that it costs.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use braidlog_format::checksum::crc32;
use braidlog_format::{
    Entry, EntryHeader, Lsn, PACKED_FRAME, PACKED_FRAMES_AT, StreamHeader, StreamKind, ZSTD,
};
use braidlog_recovery::{
    BackupHow, DamageCause, LogReader, PackHow, Packing, PackingEnd, ReadAhead, RecoveryError, SegmentState,
    backup, verify,
};
use braidlog_sim::{Rng, SimClock, SimDisk};
use braidlog_storage::{Clock, LogDir, Storage};
use support::packing::{
    bases, log, pack_all, pack_in_steps, packed_name, records, small_log, store_of, told,
};
use support::tamper::Tamper;
use support::{DIR, Pen, disk_with, files, open_dir, path, recovered, segment, segment_path, verified};

#[test]
fn packed_log_is_the_same_to_every_reader() {
    for seed in 0..4 {
        let plain = log(seed);
        let disk = disk_with(&files(&plain.disk));
        let last = plain.model.len() as u64;
        let before = told(records(&disk, 1, last));
        let (tail, report) = (recovered(&disk).unwrap().tail, verified(&disk).unwrap());
        let frame_bytes = [4096, 20_000, 128 << 10, 512 << 10][seed as usize];
        assert_eq!(pack_all(&disk, frame_bytes), 4);
        let names: Vec<_> = files(&disk).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().filter(|name| name.ends_with(".walz")).count(), 4, "{names:?}");
        assert_eq!(names.iter().filter(|name| name.ends_with(".wal")).count(), 1, "{names:?}");

        assert_eq!(told(records(&disk, 1, last)), before);
        for threads in [2, 3] {
            let ahead = ReadAhead { threads, memory_bytes: 3 << 20, after_bytes: 0 };
            assert_eq!(told(records(&disk, 1, last).read_ahead(ahead)), before, "{threads} threads");
        }
        let mut rng = Rng::new(seed);
        for _ in 0..20 {
            let from = rng.below(last) + 1;
            let to = from + rng.below((last + 1 - from).min(100));
            assert_eq!(
                told(records(&disk, from, to)),
                before[from as usize - 1..to as usize],
                "{from} to {to}"
            );
        }
        assert_eq!(verified(&disk).unwrap(), report);
        let again = recovered(&disk).unwrap();
        assert_eq!((again.tail.next_lsn, again.tail.predecessor), (tail.next_lsn, tail.predecessor));
        assert_eq!(again.report.removed_orphans, Vec::<String>::new());
        // It goes on as ever.
        let mut pen = Pen::reopen(&disk, plain.model);
        pen.records(&[b"more"]).seal();
        support::assert_holds(&disk, &pen.model);
    }
}

#[test]
fn both_lengths_of_a_packed_segment_are_told() {
    let pen = log(1);
    let reader = LogReader::open_read_only(open_dir(&pen.disk)).unwrap();
    let before = reader.segments().unwrap();
    assert!(before.iter().all(|info| !info.compressed && info.plain_bytes == info.len_bytes));
    pack_all(&pen.disk, 16 << 10);
    // This reader had seen the files before.
    let after = reader.segments().unwrap();
    let (last, packed) = after.split_last().unwrap();
    assert!(!last.compressed);
    for (info, before) in packed.iter().zip(&before) {
        assert_eq!(info.name, packed_name(info.base.0));
        assert_eq!((info.base, info.last, info.sealed), (before.base, before.last, before.sealed));
        assert_eq!((info.plain_bytes, info.compressed), (before.len_bytes, true));
        assert_eq!(info.len_bytes, pen.disk.read_raw(path(&info.name)).len() as u64);
        assert!(info.len_bytes < info.plain_bytes / 2, "{info:?}");
        assert_eq!(info.state, SegmentState::Finished);
    }
}

/// The frames of a packed file: where each entry's payload stands, and whether it is compressed.
fn frames_of(bytes: &[u8]) -> Vec<(usize, usize, bool)> {
    let header = StreamHeader::decode(bytes.first_chunk().unwrap(), StreamKind::Packed).unwrap();
    let mut frames = Vec::new();
    let mut at = PACKED_FRAMES_AT as usize;
    loop {
        let entry = Entry::decode(&bytes[at..], header.salt, at as u64).unwrap();
        if entry.header.kind != PACKED_FRAME {
            return frames;
        }
        frames.push((at + 32, entry.header.payload_len as usize, entry.header.flags.bits() != 0));
        at += entry.header.entry_len() as usize;
    }
}

#[test]
fn reading_one_record_unpacks_the_frame_that_holds_it_and_no_other() {
    let pen = log(2);
    pack_all(&pen.disk, 8 << 10);
    let bases = bases(&pen.disk);
    // With a seal, whose index leads into the frames too, and without one. The first one has a record larger than a frame.
    for (segment, larger) in [(0, 1), (1, 0)] {
        let (base, next) = (bases[segment], bases[segment + 1]);
        let readable = readable_with_one_frame(&pen, base, next);
        assert!(readable.len() > 4, "{readable:?}");
        assert_eq!(readable.iter().sum::<u64>() + larger, next - base, "{readable:?}");
    }
}

/// How many records of a packed segment can be read when one frame after the other is the only one that is whole.
fn readable_with_one_frame(pen: &Pen, base: u64, next: u64) -> Vec<u64> {
    let name = path(&packed_name(base));
    let whole = pen.disk.read_raw(&name);
    let frames: Vec<_> = frames_of(&whole).into_iter().filter(|&(_, _, packed)| packed).collect();
    let mut readable = vec![0; frames.len()];
    for (number, kept) in frames.iter().enumerate() {
        let mut bytes = whole.clone();
        for frame in frames.iter().filter(|frame| *frame != kept) {
            bytes[frame.0 + frame.1 / 2] ^= 4;
        }
        let disk = disk_with(&files(&pen.disk));
        disk.put_raw(&name, &bytes);
        let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
        for (lsn, written) in (base..next).zip(&pen.model[base as usize - 1..]) {
            match reader.read(Lsn(lsn), Lsn(lsn)) {
                Ok(record) => {
                    assert_eq!(record.unwrap().payload, written.payload);
                    readable[number] += 1;
                }
                Err(RecoveryError::Damaged(damage)) => {
                    assert!(matches!(damage.cause, DamageCause::Packed { .. }), "{damage}");
                    assert!(damage.lsns.first <= Lsn(lsn) && Lsn(lsn) <= damage.lsns.last, "{damage}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    readable
}

#[test]
fn packed_segment_beside_its_original_means_nothing_and_goes_with_the_next_opening() {
    let pen = log(3);
    let disk = disk_with(&files(&pen.disk));
    pack_all(&disk, 16 << 10);
    let stale = disk.read_raw(path(&packed_name(bases(&disk)[1])));
    for rubbish in [&stale[..], &stale[..5000], b"", &[0; 9000]] {
        let disk = disk_with(&files(&pen.disk));
        let base = bases(&disk)[1];
        disk.put_raw(path(&packed_name(base)), rubbish);
        disk.put_raw(path(&format!("{}.new", packed_name(1))), rubbish);
        assert!(verified(&disk).unwrap().is_clean());
        support::assert_holds(&disk, &pen.model);
        let removed = recovered(&disk).unwrap().report.removed_orphans;
        assert_eq!(removed, [format!("{}.new", packed_name(1)), packed_name(base)]);
        assert_eq!(files(&disk).len(), files(&pen.disk).len());
        support::assert_holds(&disk, &pen.model);
    }
}

/// Damages the file of the packed segment `base`, and asserts that every judge tells it and no wrong record is shown.
fn assert_told(pen: &Pen, disk: &SimDisk, base: u64, bytes: &[u8], whole: &[String], context: &str) {
    let disk = disk_with(&files(disk));
    disk.put_raw(path(&packed_name(base)), bytes);
    let last = pen.model.len() as u64;
    let told = told(records(&disk, 1, last));
    let good = told.iter().zip(whole).take_while(|(one, other)| one == other).count();
    let verified = verify(&open_dir(&disk), &mut |_| {});
    let report = match verified {
        Ok(report) => report,
        // Nobody can tell a file of another kind, or of a later version, from a damaged one.
        Err(RecoveryError::Foreign { .. } | RecoveryError::Newer { .. }) => panic!("{context}: {told:?}"),
        Err(error) => panic!("{context}: {error}"),
    };
    assert!(!report.is_clean(), "{context}: it is told");
    for problem in &report.problems {
        assert_eq!(problem.segment, packed_name(base), "{context}: {problem}");
    }
    if good == whole.len() {
        let is_lost = report.problems.iter().any(|problem| !problem.lsns.is_empty());
        assert!(!is_lost, "{context}: {:?}", report.problems);
        return;
    }
    // What could be read is right, the first that could not be is in the range that is told, and so by the verification.
    assert_eq!(told.len(), good + 1, "{context}: {:?}", told.last());
    let next = Lsn(good as u64 + 1);
    let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
    let first = reader.iter(Lsn(1), Lsn(last)).unwrap().find_map(Result::err);
    let Some(RecoveryError::Damaged(damage)) = first else { panic!("{context}: {first:?}") };
    assert!(damage.lsns.first <= next && next <= damage.lsns.last, "{context}: {damage}, and not {next}");
    assert_eq!(damage.segment, packed_name(base), "{context}");
    let is_told = |lsn: Lsn| {
        report.problems.iter().any(|problem| problem.lsns.first <= lsn && lsn <= problem.lsns.last)
    };
    assert!(is_told(next), "{context}: {:?}", report.problems);
}

#[test]
fn every_flipped_bit_and_every_lost_end_of_a_packed_segment_is_told() {
    let (disk, pen, [_, base, _]) = small_log();
    pack_all(&disk, 4096);
    let whole = told(records(&disk, 1, pen.model.len() as u64));
    let bytes = disk.read_raw(path(&packed_name(base)));
    let frames = frames_of(&bytes);
    let mut rng = Rng::new(9);
    // Everything around the frames, and some of what they hold.
    let tail = frames.last().map_or(0, |(at, len, _)| at + len);
    let headers = frames.iter().flat_map(|&(at, _, _)| at - 32..at + 8);
    let head = (0..100).chain(4080..PACKED_FRAMES_AT as usize);
    let sampled = (0..400).map(|_| rng.index(bytes.len()));
    let places: Vec<usize> = head.chain(headers).chain(tail..bytes.len()).chain(sampled).collect();
    for at in places {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_told(&pen, &disk, base, &flipped, &whole, &format!("byte {at} of {}", bytes.len()));
    }
    for len in (0..bytes.len()).step_by(bytes.len() / 50).chain(bytes.len() - 100..bytes.len()) {
        assert_told(&pen, &disk, base, &bytes[..len], &whole, &format!("{len} bytes are left"));
    }
    let longer = [&bytes[..], &[0; 8]].concat();
    assert_told(&pen, &disk, base, &longer, &whole, "eight bytes more");
}

#[test]
fn packed_segment_under_the_name_of_another_is_told() {
    let pen = log(6);
    let disk = disk_with(&files(&pen.disk));
    pack_all(&disk, 12 << 10);
    let all = bases(&disk);
    let other = disk.read_raw(path(&packed_name(all[2])));
    disk.put_raw(path(&packed_name(all[1])), &other);
    let report = verified(&disk).unwrap();
    let cause = report.problems[0].what;
    assert_eq!(cause, DamageCause::Misnamed { base: Lsn(all[2]) });
    assert_eq!((report.problems[0].lsns.first, report.problems[0].lsns.last), (Lsn(all[1]), Lsn(all[2] - 1)));
    assert!(matches!(recovered(&disk), Err(RecoveryError::Damaged(_))));
}

#[test]
fn what_cannot_or_need_not_be_packed_stays_as_it_is() {
    let pen = log(7);
    let disk = disk_with(&files(&pen.disk));
    let dir = open_dir(&disk);
    let store = store_of(&dir);
    let all = bases(&disk);
    let before = files(&disk);
    // The last one has no successor, and one that is not the next is none.
    assert!(Packing::begin(&dir, &store, Lsn(all[4]), Lsn(all[4] + 5), PackHow::default()).is_err());
    let not_next = pack_in_steps(&dir, &store, (all[0], all[2]), 4096, 1000).unwrap();
    assert_eq!(not_next, PackingEnd::NotNow);
    // Damage is told, and not written anew.
    let name = segment_path(all[1]);
    let mut bytes = disk.read_raw(&name);
    bytes[9000] ^= 1;
    disk.put_raw(&name, &bytes);
    let Err(RecoveryError::Damaged(damage)) = pack_in_steps(&dir, &store, (all[1], all[2]), 4096, 1000)
    else {
        panic!("it is damaged")
    };
    assert_eq!((damage.segment, damage.lsns.last), (segment(all[1]), Lsn(all[2] - 1)));
    bytes[9000] ^= 1;
    disk.put_raw(&name, &bytes);
    assert_eq!(files(&disk), before);
    // A seal that is not what the next segment says is damage as well.
    let name = segment_path(all[2]);
    let mut bytes = disk.read_raw(&name);
    let at = bytes.len() - 2000;
    bytes[at] ^= 1;
    disk.put_raw(&name, &bytes);
    let Err(RecoveryError::Damaged(damage)) = pack_in_steps(&dir, &store, (all[2], all[3]), 4096, 1000)
    else {
        panic!("it is damaged")
    };
    assert_eq!((damage.cause, damage.lsns.is_empty()), (DamageCause::Seal, true));
    bytes[at] ^= 1;
    disk.put_raw(&name, &bytes);
    // Dropped before its end.
    let mut packing = Packing::begin(&dir, &store, Lsn(all[0]), Lsn(all[1]), PackHow::default()).unwrap();
    assert_eq!(packing.step(1).unwrap(), None);
    drop(packing);
    assert_eq!(files(&disk), before);
    // Packed already.
    let done = pack_in_steps(&dir, &store, (all[0], all[1]), 4096, 1000).unwrap();
    assert!(matches!(done, PackingEnd::Packed(packed) if packed.base == Lsn(all[0])));
    let again = pack_in_steps(&dir, &store, (all[0], all[1]), 4096, 1000).unwrap();
    assert_eq!(again, PackingEnd::NotNow);
}

#[test]
fn a_segment_with_more_frames_than_an_index_holds_stays_as_it_is_and_is_called_too_large() {
    let (disk, _, [base, next, _]) = small_log();
    let how = PackHow { frame_bytes: 4096, ..PackHow::default() };
    let (dir, name) = (open_dir(&disk), segment_path(base));
    let store = store_of(&dir);
    let bytes = disk.read_raw(&name);
    for (len, is_too_large) in [(how.segment_max(), false), (how.segment_max() + 1, true)] {
        // Space behind its seal, as a crash may leave it.
        disk.put_raw(&name, &bytes);
        disk.truncate_raw(&name, len);
        let begun = Packing::begin(&dir, &store, Lsn(base), Lsn(next), how).unwrap().step(1).unwrap();
        assert_eq!(begun == Some(PackingEnd::TooLarge), is_too_large, "{len}: {begun:?}");
    }
    assert!(disk.list_raw(DIR).iter().any(|(found, _)| *found == segment(base)));
    assert_eq!(PackHow::default().segment_max() >> 29, 5, "2.5 GiB, as the documents say");
}

#[test]
fn segment_that_does_not_become_smaller_stays_as_it_is() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    let mut rng = Rng::new(1);
    let noise = [(); 20].map(|()| {
        let mut noise = vec![0; 3000];
        rng.fill(&mut noise);
        noise
    });
    pen.records(&noise.each_ref().map(|noise| noise.as_slice())).rotate();
    pen.records(&[b"last"]).sync();
    let before = files(&disk);
    let dir = open_dir(&disk);
    let end = pack_in_steps(&dir, &store_of(&dir), (1, 21), 4096, 1000).unwrap();
    assert!(matches!(end, PackingEnd::NotSmaller(_)), "{end:?}");
    assert_eq!(files(&disk), before);
}

#[test]
fn writes_to_a_packed_segment_that_comes_last_are_not_needed() {
    // What stood behind it is gone: the log ends with a packed segment, and goes on.
    for seed in [1, 2] {
        let pen = log(seed);
        let all = bases(&pen.disk);
        // One with a seal, and one that a crash left without.
        for (last, next) in [(all[2], all[3]), (all[1], all[2])] {
            let disk = disk_with(&files(&pen.disk));
            pack_all(&disk, 8 << 10);
            let packed = disk.read_raw(path(&packed_name(last)));
            let dir = open_dir(&disk);
            for base in all.iter().filter(|base| **base >= next) {
                let name = if *base == all[4] { segment(*base) } else { packed_name(*base) };
                dir.remove(&name).unwrap();
            }
            dir.sync().unwrap();
            support::assert_holds(&disk, &pen.model[..next as usize - 1]);
            assert_eq!(recovered(&disk).unwrap().tail.next_lsn, Lsn(next));
            let mut pen = Pen::reopen(&disk, pen.model.clone());
            pen.records(&[b"more"]).seal();
            support::assert_holds(&disk, &pen.model);
            assert_eq!(disk.read_raw(path(&packed_name(last))), packed);
            // A frame that is damaged there is no torn tail.
            let frames = frames_of(&packed);
            let (at, len, _) = *frames.iter().find(|(_, _, is_packed)| *is_packed).unwrap();
            let mut bytes = packed.clone();
            bytes[at + len / 2] ^= 1;
            let damaged = disk_with(&files(&disk));
            open_dir(&damaged).remove(&segment(next)).unwrap();
            damaged.put_raw(path(&packed_name(last)), &bytes);
            let found = recovered(&damaged);
            let is_sealed = last == all[2];
            assert!(is_sealed || matches!(found, Err(RecoveryError::Damaged(_))), "{found:?}");
            assert!(!verified(&damaged).unwrap().is_clean());
        }
    }
}

#[test]
fn reader_that_has_the_original_open_reads_on() {
    let pen = log(8);
    let whole = told(records(&pen.disk, 1, pen.model.len() as u64));
    for stop in [1, 5, 40] {
        let disk = disk_with(&files(&pen.disk));
        let reader = Arc::new(LogReader::of_writer(open_dir(&disk), Lsn::FIRST));
        let mut records = reader.iter(Lsn(1), Lsn(pen.model.len() as u64)).unwrap();
        let mut got: Vec<String> = Vec::new();
        for _ in 0..stop {
            got.push(format!("{:?}", records.next_ref().unwrap().unwrap()));
        }
        pack_all(&disk, 8 << 10);
        got.extend(told(records));
        assert_eq!(got, whole);
    }
}

/// A directory in which the log is packed just before the `n`-th question about it; whether it was.
fn packed_before_question(disk: &SimDisk, n: usize) -> (Arc<dyn LogDir>, Arc<AtomicUsize>) {
    let (asked, for_asked) = (Arc::new(AtomicUsize::new(0)), disk.clone());
    let counts = Arc::clone(&asked);
    let before_question: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        if counts.fetch_add(1, Relaxed) == n {
            pack_all(&for_asked, 8 << 10);
        }
    });
    let tamper = Tamper { before_question: Some(before_question), ..Tamper::default() };
    (tamper.with(open_dir(disk)), asked)
}

#[test]
fn segments_that_are_packed_at_any_moment_are_read_all_the_same() {
    let pen = log(11);
    let last = pen.model.len() as u64;
    let whole = told(records(&pen.disk, 1, last));
    for threads in [1, 3] {
        for n in 0.. {
            let disk = disk_with(&files(&pen.disk));
            let (dir, asked) = packed_before_question(&disk, n);
            let reader = LogReader::open_read_only(dir).unwrap();
            let ahead = ReadAhead { threads, memory_bytes: 3 << 20, after_bytes: 0 };
            let records = reader.iter(Lsn(1), Lsn(last)).unwrap().read_ahead(ahead);
            assert_eq!(told(records), whole, "question {n}, {threads} threads");
            let bases: Vec<_> = reader.segments().unwrap().iter().map(|info| info.base.0).collect();
            assert_eq!(bases, support::packing::bases(&disk), "question {n}");
            let report = verify(&reader_dir(&disk, n), &mut |_| {}).unwrap();
            assert!(report.is_clean() && report.records == last, "question {n}: {:?}", report.problems);
            if asked.load(Relaxed) <= n {
                assert!(n > 10, "{n} questions");
                break;
            }
        }
    }
}

/// As above, of a log that may have been packed already.
fn reader_dir(disk: &SimDisk, n: usize) -> Arc<dyn LogDir> {
    packed_before_question(disk, n / 2).0
}

#[test]
fn backup_that_is_made_while_segments_are_packed_is_whole() {
    let pen = log(12);
    let last = pen.model.len() as u64;
    for link in [false, true] {
        for n in 0.. {
            let disk = disk_with(&files(&pen.disk));
            let (from, asked) = packed_before_question(&disk, n);
            let to = disk.open_dir(Path::new("backup"), true).unwrap();
            let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
            let mut durable = || Ok(Lsn(last));
            let mut run = || backup(&from, &to, &clock, BackupHow { link }, None, &mut durable, &mut |_| {});
            let made = run().unwrap_or_else(|error| panic!("question {n}: {error}"));
            assert_eq!(made.last_lsn, Lsn(last), "question {n}");
            let report = verify(&to, &mut |_| {}).unwrap();
            assert!(report.is_clean() && report.records == last, "question {n}: {:?}", report.problems);
            if asked.load(Relaxed) <= n {
                assert!(n > 10, "{n} questions");
                break;
            }
            // The next one has what the log has, and nothing else.
            run().unwrap();
            let report = verify(&to, &mut |_| {}).unwrap();
            assert!(report.is_clean() && report.records == last, "question {n}: {:?}", report.problems);
            let names = |dir: &str| -> Vec<String> {
                let names = disk.list_raw(dir).into_iter().map(|(name, _)| name);
                let mut names: Vec<_> = names.filter(|name| name.contains(".wal")).collect();
                names.sort();
                names
            };
            assert_eq!(names("backup"), names(support::DIR), "question {n}");
        }
    }
}

#[test]
fn frame_that_this_build_cannot_unpack_is_no_damage_and_keeps_nothing_else_from_being_read() {
    let (disk, pen, [_, base, next]) = small_log();
    pack_all(&disk, 4096);
    let name = path(&packed_name(base));
    let mut bytes = disk.read_raw(&name);
    let header = StreamHeader::decode(bytes.first_chunk().unwrap(), StreamKind::Packed).unwrap();
    let (at, len, _) = *frames_of(&bytes).iter().find(|(_, _, packed)| *packed).unwrap();
    // The number of an algorithm that nobody has, in an entry that proves itself.
    assert_eq!(bytes[at + 4], ZSTD);
    bytes[at + 4] = 200;
    let entry = EntryHeader::decode(bytes[at - 32..].first_chunk().unwrap(), header.salt, at as u64 - 32);
    let entry = EntryHeader { payload_checksum: crc32(&bytes[at..at + len]), ..entry.unwrap() };
    bytes[at - 32..at].copy_from_slice(&entry.encode(header.salt, at as u64 - 32));
    disk.put_raw(&name, &bytes);
    assert!(recovered(&disk).is_ok(), "it opens, and can be written on");
    let reader = LogReader::of_writer(open_dir(&disk), Lsn::FIRST);
    let last = Lsn(pen.model.len() as u64);
    for lsn in (1..base).chain(next..=last.0) {
        assert_eq!(
            reader.read(Lsn(lsn), last).unwrap().unwrap().payload,
            pen.model[lsn as usize - 1].payload
        );
    }
    let Err(RecoveryError::Compressed { file, algorithm }) = reader.read(Lsn(base), last) else { panic!() };
    assert_eq!((file, algorithm), (packed_name(base), 200));
    assert!(matches!(verified(&disk), Err(RecoveryError::Compressed { .. })));
}

#[test]
fn damage_to_the_index_costs_no_record() {
    let (disk, pen, [_, base, _]) = small_log();
    pack_all(&disk, 4096);
    let whole = told(records(&disk, 1, pen.model.len() as u64));
    let name = path(&packed_name(base));
    let bytes = disk.read_raw(&name);
    let (at, len, _) = *frames_of(&bytes).last().unwrap();
    // The index, the trailer, the end, and all of them.
    let index = (at + len).next_multiple_of(8);
    let end = bytes.len();
    for lost in [index..index + 40, end - 88..end - 80, end - 20..end - 10, index..end] {
        let mut damaged = bytes.clone();
        damaged[lost.clone()].fill(0xA5);
        disk.put_raw(&name, &damaged);
        assert_eq!(told(records(&disk, 1, pen.model.len() as u64)), whole, "{lost:?}");
        let report = verified(&disk).unwrap();
        assert_eq!(report.problems.len(), 1, "{lost:?}: {:?}", report.problems);
        assert!(report.problems[0].lsns.is_empty(), "{}", report.problems[0]);
    }
    disk.put_raw(&name, &bytes[..index]);
    assert_eq!(told(records(&disk, 1, pen.model.len() as u64)), whole, "the file ends behind its frames");
    assert!(!verified(&disk).unwrap().is_clean());
}

#[test]
fn whatever_happens_to_a_packed_file_no_wrong_record_is_shown() {
    let (disk, pen, [_, base, _]) = small_log();
    pack_all(&disk, 4096);
    let last = pen.model.len() as u64;
    let whole = told(records(&disk, 1, last));
    let name = path(&packed_name(base));
    let bytes = disk.read_raw(&name);
    let mut rng = Rng::new(77);
    let (mut refused, mut read) = (0, 0);
    for round in 0..600 {
        let mut damaged = bytes.clone();
        for _ in 0..rng.below(3) + 1 {
            let from = rng.index(damaged.len());
            let to = (from + rng.index(300)).min(damaged.len());
            match rng.below(4) {
                0 => rng.fill(&mut damaged[from..to]),
                1 => damaged[from..to].fill(0),
                2 => drop(damaged.drain(from..to)),
                _ => damaged.extend_from_within(from..to),
            }
        }
        disk.put_raw(&name, &damaged);
        let report = verified(&disk);
        let is_clean = report.as_ref().is_ok_and(|report| report.is_clean());
        let refuses = matches!(report, Err(RecoveryError::Foreign { .. } | RecoveryError::Newer { .. }));
        assert!(refuses || damaged == bytes || !is_clean, "round {round}: it is told");
        for threads in [1, 2] {
            let ahead = ReadAhead { threads, memory_bytes: 3 << 20, after_bytes: 0 };
            let told = told(records(&disk, 1, last).read_ahead(ahead));
            let good = told.iter().zip(&whole).take_while(|(one, other)| one == other).count();
            assert!(good == whole.len() || told.len() == good + 1, "round {round}: {:?}", told.get(good));
            if good == whole.len() { read += 1 } else { refused += 1 }
        }
    }
    assert!(refused > 300 && read > 100, "{refused} refused, {read} read");
}
