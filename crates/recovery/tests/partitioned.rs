//! Partitioned replay ends with the states of a replay by one thread, and with its error: on whole and on damaged logs,
//! whatever the partitions, the threads and the memory are, and wherever the application fails.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use braidlog_format::Lsn;
use braidlog_recovery::{
    BoxError, LogReader, PartitionHow, Progress, ReadAhead, RecordRef, Records, ReplayProgress,
    ReplayStopped, Replayed, RestoreError, Route, partition_of, replay_partitioned,
};
use braidlog_sim::{Rng, SimDisk};
use braidlog_storage::SystemClock;
use support::{Pen, disk_with, files, open_dir};

/// Records that say little, some large, in batches and segments.
fn log(seed: u64, rounds: u64) -> Pen {
    let disk = SimDisk::new();
    let mut rng = Rng::new(seed);
    let mut pen = Pen::new(&disk);
    for round in 0..rounds {
        let large = rng.one_in(10).then_some(9_000 + rng.index(20_000));
        let small: Vec<usize> = (0..rng.below(20) + 1).map(|_| rng.index(200) + 1).collect();
        let payloads: Vec<Vec<u8>> = small
            .into_iter()
            .chain(large)
            .map(|size| {
                let mut payload = vec![0; size];
                rng.fill(&mut payload);
                payload
            })
            .collect();
        let entries: Vec<(u8, &[u8])> = payloads.iter().map(|payload| (7, payload.as_slice())).collect();
        let batches: Vec<&[(u8, &[u8])]> = entries.chunks(rng.index(4) + 1).collect();
        pen.round(&batches).sync();
        if round % 7 == 6 {
            pen.rotate();
        }
    }
    pen
}

/// Few keys, so that their order is tried; some records concern all.
fn route(record: &RecordRef<'_>) -> Route {
    match record.payload.first() {
        Some(0..=9) => Route::All,
        Some(&key) => Route::Key(u64::from(key % 40)),
        None => Route::Key(0),
    }
}

/// What a partition's records came to, in their order.
type State = Vec<(Lsn, u64, bool, Vec<u8>)>;

fn take(state: &mut State, record: RecordRef<'_>) {
    state.push((record.lsn, record.timestamp_ns, record.batch_continues, record.payload.to_vec()));
}

fn records(disk: &SimDisk, from: u64, to: u64) -> Records {
    LogReader::of_writer(open_dir(disk), Lsn::FIRST).iter(Lsn(from), Lsn(to)).unwrap()
}

fn how(threads: usize, memory_bytes: usize) -> PartitionHow {
    PartitionHow { threads, memory_bytes, progress: None }
}

/// The records in partitions, applied by one thread up to what it meets.
fn serial(mut records: Records, partitions: usize, bad: &dyn Fn(Lsn) -> bool) -> (Vec<State>, Lsn, String) {
    let mut states = vec![State::new(); partitions];
    let mut applied_to = records.applied_to();
    while let Some(record) = records.next_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return (states, applied_to, error.to_string()),
        };
        if bad(record.lsn) {
            return (states, applied_to, told(record.lsn));
        }
        match route(&record) {
            Route::Key(key) => take(&mut states[partition_of(key, partitions)], record),
            Route::All => states.iter_mut().for_each(|state| take(state, record)),
        }
        applied_to = record.lsn;
    }
    (states, applied_to, String::new())
}

fn told(lsn: Lsn) -> String {
    let source = BoxError::from("will not");
    RestoreError::Application { lsn: Some(lsn), source }.to_string()
}

fn partitioned(
    records: Records,
    how: PartitionHow,
    partitions: usize,
    bad: &(dyn Fn(Lsn) -> bool + Sync),
) -> (Vec<State>, Lsn, String) {
    let mut states = vec![State::new(); partitions];
    let replayed = replay_partitioned(records, how, &mut states, route, |state, record| {
        if bad(record.lsn) {
            return Err("will not".into());
        }
        take(state, record);
        Ok(())
    });
    match replayed {
        Ok(Replayed { applied_to, .. }) => (states, applied_to, String::new()),
        Err(ReplayStopped { applied_to, error }) => (states, applied_to, error.to_string()),
    }
}

/// Asserts that threads do what one does. Above the place where a replay ended partitions may be further, in order.
fn assert_same(disk: &SimDisk, from: u64, to: u64, bad: &(dyn Fn(Lsn) -> bool + Sync), what: &str) {
    for (partitions, threads, memory_bytes, ahead) in
        [(1, 4, 0, false), (2, 2, 1 << 20, true), (7, 3, 0, false), (5, 8, 100 << 10, true), (4, 1, 0, true)]
    {
        let what = format!("{what}: {partitions} partitions, {threads} threads, {memory_bytes} bytes");
        let (expected, applied_to, error) = serial(records(disk, from, to), partitions, bad);
        let all = serial(records(disk, from, to), partitions, &|_| false).0;
        let mut records = records(disk, from, to);
        if ahead {
            records = records.read_ahead(ReadAhead { threads: 2, memory_bytes: 128 << 10, after_bytes: 0 });
        }
        let got = partitioned(records, how(threads, memory_bytes), partitions, bad);
        assert_eq!((got.1, &got.2), (applied_to, &error), "{what}");
        for (partition, (got, expected)) in got.0.iter().zip(&expected).enumerate() {
            assert!(got.starts_with(expected), "{what}: partition {partition} lacks records");
            assert!(all[partition].starts_with(got) && (got == expected || !error.is_empty()), "{what}");
        }
    }
}

#[test]
fn states_are_those_of_one_thread() {
    for seed in 0..6 {
        let pen = log(seed, 30);
        let last = pen.model.len() as u64;
        let mut rng = Rng::new(seed);
        assert_same(&pen.disk, 1, last, &|_| false, "all");
        for _ in 0..4 {
            let from = rng.below(last) + 1;
            let to = from + rng.below(last + 1 - from);
            assert_same(&pen.disk, from, to, &|_| false, &format!("seed {seed}, {from} to {to}"));
        }
    }
}

#[test]
fn an_error_at_any_record_is_the_error_of_one_thread_and_all_before_it_is_applied() {
    let pen = log(1, 12);
    let last = pen.model.len() as u64;
    for at in 1..=last {
        assert_same(&pen.disk, 1, last, &|lsn| lsn.0 == at, &format!("an error at {at}"));
    }
}

#[test]
fn of_many_errors_the_lowest_is_told() {
    let pen = log(2, 30);
    let last = pen.model.len() as u64;
    let mut rng = Rng::new(9);
    for case in 0..30 {
        let (from, step) = (rng.below(last) + 1, rng.below(9) + 1);
        let bad = move |lsn: Lsn| lsn.0 >= from && (lsn.0 - from).is_multiple_of(step);
        assert_same(&pen.disk, 1, last, &bad, &format!("case {case}, from {from}, each {step}"));
    }
}

#[test]
fn damage_is_told_as_to_one_thread_and_all_before_it_is_applied() {
    let pen = log(3, 20);
    let last = pen.model.len() as u64;
    let healthy = files(&pen.disk);
    let mut rng = Rng::new(3);
    for case in 0..30 {
        let mut files = healthy.clone();
        let index = rng.index(files.len());
        let bytes = &mut files[index].1;
        if !bytes.is_empty() {
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let disk = disk_with(&files);
        assert_same(&disk, 1, last, &|_| false, &format!("case {case}"));
        // The application fails before, behind, or where the damage is.
        let bad = rng.below(last) + 1;
        assert_same(&disk, 1, last, &move |lsn| lsn.0 == bad, &format!("case {case}, an error at {bad}"));
    }
}

#[test]
fn a_panic_of_the_application_comes_through_when_the_threads_have_ended() {
    let pen = log(4, 10);
    let last = pen.model.len() as u64;
    for (in_key, at) in [(false, 1), (false, last / 2), (true, last / 2), (true, last)] {
        let applied = AtomicU64::new(0);
        let mut states = [0, 1, 2];
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            replay_partitioned(
                records(&pen.disk, 1, last),
                how(3, 0),
                &mut states,
                |record| {
                    assert!(!in_key || record.lsn.0 != at, "the key was meant to panic");
                    record.lsn.0
                },
                |_, record| {
                    assert!(in_key || record.lsn.0 != at, "the application was meant to panic");
                    applied.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            )
            .map_err(|stopped| stopped.error.to_string())
        }));
        let payload = panicked.expect_err("it panics");
        let said = payload.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(said.contains("was meant to panic"), "{said}");
        assert!(applied.load(Ordering::Relaxed) < last);
    }
}

#[test]
fn progress_never_runs_ahead_of_what_is_applied_and_ends_at_the_end() {
    let mut pen = Pen::new(&SimDisk::new());
    for round in 0..120_u32 {
        let payload = vec![round as u8; 40_000];
        pen.records(&[&payload, b"short"]).sync();
    }
    let last = pen.model.len() as u64;
    for (threads, fails_at) in [(1, None), (3, None), (3, Some(last / 2))] {
        let applied: Arc<Vec<AtomicU64>> = Arc::new((0..=last).map(|_| AtomicU64::new(0)).collect());
        let seen: Arc<Mutex<Vec<ReplayProgress>>> = Arc::default();
        let tell = {
            let (applied, seen) = (Arc::clone(&applied), Arc::clone(&seen));
            move |now: &ReplayProgress| {
                let missing =
                    (1..=now.applied_to.0).find(|&lsn| applied[lsn as usize].load(Ordering::Acquire) == 0);
                assert_eq!(missing, None, "told as applied up to {}", now.applied_to);
                assert_eq!((now.records, now.last), (now.applied_to.0, Lsn(last)));
                seen.lock().unwrap().push(*now);
            }
        };
        let progress = Some(Progress { tell: Arc::new(tell), clock: Arc::new(SystemClock::new()) });
        let mut states = [(); 5];
        let replayed = replay_partitioned(
            records(&pen.disk, 1, last),
            PartitionHow { progress, ..how(threads, 1 << 20) },
            &mut states,
            |record| record.lsn.0,
            |(), record| {
                if Some(record.lsn.0) == fails_at {
                    return Err("will not".into());
                }
                applied[record.lsn.0 as usize].store(1, Ordering::Release);
                Ok(())
            },
        );
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 3, "told {} times of 4.8 MB", seen.len());
        assert!(seen.is_sorted_by_key(|now| (now.applied_to, now.log_bytes)));
        let ended_at = fails_at.map_or(last, |lsn| lsn - 1);
        assert_eq!(seen.last().unwrap().applied_to, Lsn(ended_at));
        match (replayed, fails_at) {
            (Ok(done), None) => assert_eq!((done.applied_to, done.records), (Lsn(last), last)),
            (Err(stopped), Some(_)) => assert_eq!(stopped.applied_to, Lsn(ended_at)),
            (replayed, _) => panic!("{replayed:?}"),
        }
    }
}

#[test]
fn who_reads_waits_for_who_applies_and_holds_no_more_than_the_chunks() {
    let mut pen = Pen::new(&SimDisk::new());
    for _ in 0..100 {
        pen.records(&[[7; 4000].as_slice(); 10]).sync();
    }
    let last = pen.model.len() as u64;
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let read = AtomicU64::new(0);
    let applied = AtomicU64::new(0);
    // Of so much memory more than half is payloads, and there is a record that waits for its chunk.
    let memory_bytes = 256 << 10;
    let held_max = memory_bytes as u64 / 4000 + 1;
    let mut go = Some(go);
    let mut states = [(); 2];
    let replayed = replay_partitioned(
        records(&pen.disk, 1, last),
        how(2, memory_bytes),
        &mut states,
        |record| {
            read.fetch_add(1, Ordering::Relaxed);
            // Nothing is applied before so many have been read: who reads does not wait as long as there is room.
            if record.lsn.0 == 16 {
                go = None;
            }
            record.lsn.0
        },
        |(), _| {
            let _ = wait.lock().unwrap().recv();
            let ahead = read.load(Ordering::Relaxed) - applied.fetch_add(1, Ordering::Relaxed);
            assert!(ahead <= held_max, "{ahead} records are held");
            Ok(())
        },
    );
    assert_eq!(replayed.unwrap().records, last);
    assert_eq!(applied.load(Ordering::Relaxed), last);
}
