//! Replay by the handles: in partitions, taken up again where it ended, and with a word on how far it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use braidlog::{ErrorKind, Lsn, Options, RecordRef, Replay, ReplayProgress, Route, Wal, partition_of};
use braidlog_sim::{Rng, SimDisk};

fn small() -> Options {
    Wal::options()
        .num_stripes(2)
        .stripe_capacity(64 << 10)
        .segment_size(256 << 10)
        .write_buffer_size(64 << 10)
}

/// A log of changes to accounts, in batches and alone; a payload is an account and an amount.
fn filled(dir: &std::path::Path, records: u64) -> Wal {
    let wal = small().open(dir).unwrap();
    let mut rng = Rng::new(5);
    while wal.last_lsn().get() < records {
        let mut batch = wal.batch();
        for _ in 0..rng.below(30) + 1 {
            let change = [rng.below(50).to_le_bytes(), rng.below(1000).to_le_bytes()].concat();
            batch.push(7, [change, vec![7; rng.index(300)]].concat()).unwrap();
        }
        batch.commit().unwrap();
    }
    wal
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

fn account(record: &RecordRef<'_>) -> u64 {
    number(&record.payload[..8])
}

/// Balances in which the order of the changes shows.
type Balances = BTreeMap<u64, u64>;

fn apply(balances: &mut Balances, record: &RecordRef<'_>) {
    let balance = balances.entry(account(record)).or_default();
    *balance = balance.wrapping_mul(3).wrapping_add(number(&record.payload[8..16]));
}

fn serial(wal: &Wal, replay: Replay) -> Balances {
    let mut balances = Balances::new();
    let mut records = wal.replay_with(replay).unwrap();
    while let Some(record) = records.next_ref() {
        apply(&mut balances, &record.unwrap());
    }
    balances
}

#[test]
fn partitions_come_to_the_map_that_one_thread_comes_to() {
    let dir = tempfile::tempdir().unwrap();
    let wal = filled(dir.path(), 20_000);
    let expected = serial(&wal, Replay::new().range(..));
    let last = wal.durable_lsn();
    for by_reader in [false, true] {
        if by_reader {
            // Beside its writer a reader would show what marks say, which is less.
            wal.close().unwrap();
        }
        let reader = Wal::open_read_only(dir.path()).unwrap();
        for (partitions, threads) in [(1, 2), (2, 2), (16, 3), (3, 8)] {
            let replay = Replay::new().range(..).threads(threads).memory_bytes(2 << 20);
            let mut states = vec![Balances::new(); partitions];
            let into = |balances: &mut Balances, record: RecordRef<'_>| {
                apply(balances, &record);
                Ok(())
            };
            let done = if by_reader {
                reader.replay_partitioned(replay.clone(), &mut states, account, into).unwrap()
            } else {
                wal.replay_partitioned(replay.clone(), &mut states, account, into).unwrap()
            };
            assert_eq!((done.applied_to, done.records), (last, last.get()));
            for (partition, state) in states.iter().enumerate() {
                assert!(state.keys().all(|&key| partition_of(key, partitions) == partition));
            }
            assert_eq!(states.into_iter().flatten().collect::<Balances>(), expected);
        }
    }
}

#[test]
fn an_error_of_the_application_names_its_record_and_what_was_applied() {
    let dir = tempfile::tempdir().unwrap();
    let wal = filled(dir.path(), 2000);
    let mut states = vec![0_u64; 4];
    let error = wal
        .replay_partitioned(
            Replay::new().range(..),
            &mut states,
            |record| record.lsn.get(),
            |count, record| {
                *count += 1;
                if record.lsn.get() >= 700 { Err("no more".into()) } else { Ok(()) }
            },
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Application);
    assert_eq!(error.lsns().map(|lsns| (lsns.first, lsns.last)), Some((Lsn(700), Lsn(700))));
    assert_eq!(error.applied_to(), Some(Lsn(699)));
    assert!(error.to_string().contains("700") && error.to_string().contains("699"), "{error}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no more");
}

#[test]
fn without_a_state_or_beyond_the_limits_nothing_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let wal = filled(dir.path(), 100);
    let ask = |replay, states: &mut [u64]| {
        let replayed = wal.replay_partitioned(replay, states, |_| Route::All, |_, _| panic!("a record"));
        replayed.unwrap_err().kind()
    };
    assert_eq!(ask(Replay::new(), &mut []), ErrorKind::InvalidInput);
    assert_eq!(ask(Replay::new().threads(0), &mut [1]), ErrorKind::InvalidInput);
    wal.close().unwrap();
    assert_eq!(ask(Replay::new(), &mut [1]), ErrorKind::Closed);
}

#[test]
fn a_replay_goes_on_where_an_interrupted_one_had_applied() {
    let dir = tempfile::tempdir().unwrap();
    let wal = filled(dir.path(), 5000);
    let expected = serial(&wal, Replay::new().range(..));
    let mut balances = Balances::new();
    let mut applied_to = Lsn::ZERO;
    let mut rng = Rng::new(8);
    while applied_to < wal.durable_lsn() {
        // The application notes how far it is, and dies somewhere.
        let mut records = wal.replay_with(Replay::new().range(applied_to.next()..)).unwrap();
        assert_eq!(records.applied_to(), applied_to);
        for _ in 0..rng.below(900) + 1 {
            let Some(record) = records.next_ref() else { break };
            apply(&mut balances, &record.unwrap());
        }
        applied_to = records.applied_to();
    }
    assert_eq!(balances, expected);
}

#[test]
fn progress_is_told_on_the_way_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = filled(dir.path(), 20_000);
    let last = wal.durable_lsn();
    for partitioned in [false, true] {
        let told: Arc<Mutex<Vec<ReplayProgress>>> = Arc::default();
        let tell = Arc::clone(&told);
        let replay = Replay::new().range(Lsn(11)..).progress(move |now| tell.lock().unwrap().push(*now));
        if partitioned {
            wal.replay_partitioned(replay, &mut [(); 3], account, |(), _| Ok(())).unwrap();
        } else {
            assert_eq!(wal.replay_with(replay).unwrap().count() as u64, last.get() - 10);
        }
        let told = told.lock().unwrap();
        assert!(told.len() >= 3, "told {} times of some 4 MB", told.len());
        assert!(told.is_sorted_by_key(|now| (now.applied_to, now.log_bytes, now.elapsed)));
        let end = told.last().unwrap();
        assert_eq!((end.applied_to, end.last, end.records_left()), (last, last, 0));
        assert_eq!(end.records, last.get() - 10);
        assert!(end.log_bytes > 3 << 20);
    }
}

#[test]
fn a_log_without_threads_of_its_own_applies_on_the_thread_of_the_caller() {
    let storage = Arc::new(SimDisk::new());
    let wal = small().background_threads(false).storage(storage).open("log").unwrap();
    for seq in 0..100_u64 {
        wal.append(seq.to_le_bytes()).unwrap();
    }
    let caller = std::thread::current().id();
    let mut states = vec![Vec::new(); 4];
    let replay = Replay::new().threads(4);
    wal.replay_partitioned(
        replay,
        &mut states,
        |record| record.lsn.get() % 10,
        |state, record| {
            assert_eq!(std::thread::current().id(), caller);
            state.push(record.lsn);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(states.iter().map(Vec::len).sum::<usize>(), 100);
    assert!(states.iter().all(|state| state.is_sorted()));
}
