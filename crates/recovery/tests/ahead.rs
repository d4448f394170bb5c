//! Threads that read ahead change nothing but the time: the same records and the same error, in the same place, as
//! one thread gives, on whole and on damaged logs.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braidlog_format::{BLOCK_LEN, Lsn};
use braidlog_recovery::{LogReader, ReadAhead, Records};
use braidlog_sim::{Rng, SimDisk};
use braidlog_storage::LogDir;
use support::tamper::Tamper;
use support::{Pen, disk_with, files, open_dir};

/// Reads ahead from the first byte on.
fn ahead(threads: usize, memory_bytes: usize) -> ReadAhead {
    ReadAhead { threads, memory_bytes, after_bytes: 0 }
}

/// Segments with and without a seal, batches, idle marks, records larger than a buffer and small ones.
fn log(seed: u64) -> Pen {
    let disk = SimDisk::new();
    let mut rng = Rng::new(seed);
    let mut pen = Pen::new(&disk);
    for segment in 0..4 {
        for _ in 0..rng.below(12) + 6 {
            let large = rng.one_in(12);
            let sizes: Vec<usize> = (0..rng.below(60) + 1)
                .map(|_| rng.below(300) as usize)
                .chain(large.then_some(70_000))
                .collect();
            let payloads: Vec<Vec<u8>> = sizes
                .iter()
                .map(|&size| {
                    let mut payload = vec![0; size];
                    rng.fill(&mut payload);
                    payload
                })
                .collect();
            let entries: Vec<(u8, &[u8])> = payloads.iter().map(|payload| (7, payload.as_slice())).collect();
            let in_batches: Vec<&[(u8, &[u8])]> = entries.chunks(rng.index(5) + 1).collect();
            pen.round(&in_batches);
            if rng.one_in(2) {
                pen.sync();
            }
            if rng.one_in(4) {
                pen.idle_mark();
            }
        }
        match segment {
            0 | 2 => {
                pen.rotate();
            }
            1 => {
                // A crash: the segment is left without a seal.
                pen.sync();
                let model = pen.model.clone();
                pen = Pen::reopen(&disk, model);
            }
            _ => {
                pen.seal();
            }
        }
    }
    pen
}

/// What a replay gives: each record, and the error with which it ends.
fn told(mut records: Records) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(record) = records.next_ref() {
        match record {
            Ok(record) => told.push(format!("{record:?}")),
            Err(error) => told.push(format!("{error:?}")),
        }
    }
    assert!(records.next_ref().is_none(), "it ends after its end");
    told
}

fn records(dir: &Arc<dyn LogDir>, from: u64, to: u64) -> Records {
    LogReader::of_writer(Arc::clone(dir), Lsn::FIRST).iter(Lsn(from), Lsn(to)).unwrap()
}

/// Asserts that threads give what one gives, and gives its number of records.
fn assert_same(disk: &SimDisk, from: u64, to: u64, what: &str) -> usize {
    let dir = open_dir(disk);
    let alone = told(records(&dir, from, to));
    for (threads, memory_bytes) in [(2, 64 << 10), (3, 400 << 10)] {
        let together = told(records(&dir, from, to).read_ahead(ahead(threads, memory_bytes)));
        let differs = alone.iter().zip(&together).position(|(one, other)| one != other);
        assert!(
            differs.is_none() && alone.len() == together.len(),
            "{what}: {threads} threads differ at {differs:?}, {} and {}:\n{:?}\n{:?}",
            alone.len(),
            together.len(),
            differs.map(|index| &alone[index]).or(alone.last()),
            differs.map(|index| &together[index]).or(together.last()),
        );
    }
    alone.len()
}

#[test]
fn any_range_of_a_whole_log_is_the_same() {
    for seed in 0..3 {
        let pen = log(seed);
        let last = pen.model.len() as u64;
        assert_eq!(assert_same(&pen.disk, 1, last, "all"), pen.model.len());
        let mut rng = Rng::new(seed);
        for _ in 0..10 {
            let from = rng.below(last) + 1;
            let to = from + rng.below(last + 1 - from);
            let count = assert_same(&pen.disk, from, to, &format!("seed {seed}, {from} to {to}"));
            assert_eq!(count as u64, to + 1 - from);
        }
    }
}

#[test]
fn damage_is_told_at_the_same_record_and_in_the_same_words() {
    let long = std::env::var_os("BRAIDLOG_LONG").is_some();
    let (mut damaged, mut whole) = (0, 0);
    for seed in 0..if long { 20 } else { 3 } {
        let pen = log(seed);
        let last = pen.model.len() as u64;
        let healthy = files(&pen.disk);
        let mut rng = Rng::new(seed);
        for case in 0..if long { 400 } else { 40 } {
            let mut files = healthy.clone();
            for _ in 0..rng.below(2) + 1 {
                damage(&mut files, &mut rng);
            }
            // A record beyond the last is asked for, too: the log ends before it.
            let to = last + rng.below(2);
            let from = if rng.one_in(3) { rng.below(last) + 1 } else { 1 };
            let count = assert_same(&disk_with(&files), from, to, &format!("seed {seed}, case {case}"));
            if count as u64 == last + 1 - from { whole += 1 } else { damaged += 1 }
        }
    }
    assert!(damaged > 20 && whole > 5, "{damaged} damaged, {whole} whole");
}

/// Changes one place of one file, or takes a file away.
fn damage(files: &mut Vec<(String, Vec<u8>)>, rng: &mut Rng) {
    let segments: Vec<usize> = (0..files.len()).filter(|&file| files[file].0.ends_with(".wal")).collect();
    if segments.is_empty() {
        return;
    }
    let index = segments[rng.index(segments.len())];
    let other = segments[rng.index(segments.len())];
    let copy = files[other].1.clone();
    let bytes = &mut files[index].1;
    if bytes.is_empty() {
        return;
    }
    // Near a border of what is read at once, as often as anywhere.
    let at = match rng.below(2) {
        0 => rng.index(bytes.len()),
        _ => {
            let border = (rng.below(bytes.len() as u64) / (32 << 10) * (32 << 10)) as usize;
            (border + rng.index(96)).saturating_sub(48).min(bytes.len() - 1)
        }
    };
    let sector = at / BLOCK_LEN as usize * BLOCK_LEN as usize;
    let sector = sector..bytes.len().min(sector + BLOCK_LEN as usize);
    match rng.below(8) {
        0..=2 => bytes[at] ^= 1 << rng.below(8),
        3 => bytes[sector].fill(0),
        4 => rng.fill(&mut bytes[sector]),
        5 => bytes.truncate(at),
        6 => {
            let from = at.min(copy.len());
            let to = bytes.len().min(copy.len()).max(from);
            bytes[from..to].copy_from_slice(&copy[from..to]);
        }
        _ => {
            files.remove(index);
        }
    }
}

#[test]
fn an_index_that_lies_changes_nothing() {
    for lie in 0..4 {
        let mut pen = Pen::new(&SimDisk::new());
        for round in 0..40 {
            let payload = vec![round; 5000];
            pen.records(&[&payload, b"short", &payload]).sync();
        }
        for (number, point) in pen.index.iter_mut().enumerate() {
            match lie {
                0 => point.offset += 8,
                1 => point.lsn.0 += 1 << 40,
                2 if number % 3 == 0 => point.offset = point.offset * 7 % (1 << 30),
                _ => point.offset = 0,
            }
        }
        pen.seal();
        let last = pen.model.len() as u64;
        assert_eq!(assert_same(&pen.disk, 1, last, &format!("lie {lie}")), pen.model.len());
    }
}

#[test]
fn threads_end_with_the_replay_wherever_it_is_left() {
    let pen = log(2);
    let last = pen.model.len() as u64;
    let dir = open_dir(&pen.disk);
    let before = Arc::strong_count(&dir);
    for taken in [0, 1, 10, last / 2, last + 1] {
        let mut records = records(&dir, 1, last).read_ahead(ahead(4, 256 << 10));
        let mut seen = 0;
        while seen < taken && records.next_ref().transpose().unwrap().is_some() {
            seen += 1;
        }
        drop(records);
        assert_eq!(seen, taken.min(last));
        // What a thread holds of the directory it gives up when it ends, not before.
        assert_eq!(Arc::strong_count(&dir), before, "after {taken} records");
    }
}

#[test]
fn a_thread_that_panics_or_reads_other_bytes_costs_time_only() {
    let pen = log(0);
    let last = pen.model.len() as u64;
    let expected = told(records(&open_dir(&pen.disk), 1, last));
    for panics in [false, true] {
        let met = Arc::new(AtomicU64::new(0));
        let meets = Arc::clone(&met);
        let tamper = Tamper {
            after_cached_read: Some(Arc::new(move |_, _, bytes| {
                if thread::current().name() == Some("braidlog-replay") && !bytes.is_empty() {
                    meets.fetch_add(1, Ordering::Relaxed);
                    assert!(!panics, "a thread that was meant to panic");
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }
            })),
            ..Tamper::default()
        };
        let dir = tamper.with(open_dir(&pen.disk));
        // Whether a thread is fast enough to read anything is the scheduler's choice.
        while met.load(Ordering::Relaxed) == 0 {
            let got = told(records(&dir, 1, last).read_ahead(ahead(3, 200 << 10)));
            assert!(got == expected, "panics: {panics}");
        }
    }
}
