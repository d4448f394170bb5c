//! Partitioned replay beside a replay by one thread that applies, by turns: a map that costs 1 us of computing for each
//! record, as an application's might.
//!
//! The work is a chain of multiplications, as many as take 1 us here, so that no thread can do it for another or earlier. The
//! replay by one thread has threads that read ahead, as always; what is compared is who applies.
//!
//! # What is checked, after the clock
//! Both maps are the same, key by key, and hold every record.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::{RecordRef, Replay, Wal, partition_of};
use braidlog_measure::cpu;
use braidlog_measure::figure::Figure;
use serde::Serialize;

use crate::memory::{self, Half, Peak};
use crate::scratch;
use crate::workload::{Load, RECORD_BYTES, Result};

/// Records of the log that is replayed, about.
const RECORDS: u32 = 1_000_000;
/// Threads that append them.
const THREADS: u32 = 16;
/// What applying a record costs, in nanoseconds.
const COST_NS: f64 = 1000.0;
/// Keys of the map.
const KEYS: u64 = 10_000;

/// Both ways, and the memory of the second.
#[derive(Clone, Debug, Serialize)]
pub struct Partitioned {
    /// Records of 128 bytes in the log.
    pub records: u64,
    /// Partitions, as many as the machine runs threads at once.
    pub partitions: usize,
    /// Records per second, applied by one thread.
    pub one_thread: Figure,
    /// Records per second, applied in partitions.
    pub partitioned: Figure,
    /// The second to the first, repetition by repetition.
    pub ratio: Figure,
    /// Processor time for a record, all threads together, applied by one thread, in nanoseconds.
    pub one_thread_cpu_ns: Figure,
    /// The same, applied in partitions.
    pub partitioned_cpu_ns: Figure,
    /// What a process of its own took that replays in partitions and counts.
    pub memory: Peak,
}

/// The map: for each key how many records it had, and what they came to in their order.
type Map = HashMap<u64, (u64, u64)>;

/// Measures both.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Partitioned> {
    let dir = scratch::directory(base)?;
    let path = dir.path().join("log");
    Load::spread(THREADS, RECORDS).run(&path, &Wal::options())?;
    let memory = memory::child(Half::Partitioned, &path, u64::from(RECORDS) * RECORD_BYTES as u64)?;
    let wal = Wal::options().open(&path)?;
    let records = wal.durable_lsn().get();
    let partitions = thread::available_parallelism()?.get();
    let rounds = rounds_of(COST_NS);
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let (mut cpu_of_one, mut cpu_of_many) = (Vec::new(), Vec::new());
    let per_record = |cpu: Duration| cpu.as_nanos() as f64 / records as f64;
    // The first repetition warms up.
    for repetition in 0..=repetitions {
        let (start, used) = (Instant::now(), cpu::used());
        let expected = one_thread(&wal, rounds)?;
        let rate_of_one = records as f64 / start.elapsed().as_secs_f64();
        let used_by_one = cpu::used() - used;
        let (start, used) = (Instant::now(), cpu::used());
        let states = in_partitions(&wal, partitions, rounds)?;
        let rate_of_many = records as f64 / start.elapsed().as_secs_f64();
        let used_by_many = cpu::used() - used;
        if expected.values().map(|(count, _)| count).sum::<u64>() != records {
            return Err("a record is missing in the map".into());
        }
        let same = expected
            .iter()
            .all(|(key, value)| states[partition_of(*key, partitions)].get(key) == Some(value));
        if !same || states.iter().map(HashMap::len).sum::<usize>() != expected.len() {
            return Err("the maps differ".into());
        }
        if repetition > 0 {
            one.push(rate_of_one);
            many.push(rate_of_many);
            cpu_of_one.push(per_record(used_by_one));
            cpu_of_many.push(per_record(used_by_many));
        }
    }
    wal.close()?;
    let ratio = Figure::of(many.iter().zip(&one).map(|(many, one)| many / one));
    Ok(Partitioned {
        records,
        partitions,
        one_thread: Figure::of(one),
        partitioned: Figure::of(many),
        ratio,
        one_thread_cpu_ns: Figure::of(cpu_of_one),
        partitioned_cpu_ns: Figure::of(cpu_of_many),
        memory,
    })
}

fn one_thread(wal: &Wal, rounds: u64) -> Result<Map> {
    let mut map = Map::new();
    let mut records = wal.replay()?;
    while let Some(record) = records.next_ref() {
        apply(&mut map, &record?, rounds);
    }
    Ok(map)
}

fn in_partitions(wal: &Wal, partitions: usize, rounds: u64) -> Result<Vec<Map>> {
    let mut states = vec![Map::new(); partitions];
    let replay = Replay::new().threads(partitions.min(64));
    wal.replay_partitioned(replay, &mut states, key, |map, record| {
        apply(map, &record, rounds);
        Ok(())
    })?;
    Ok(states)
}

/// A key that many records share: the number of each among those of its thread says which.
fn key(record: &RecordRef<'_>) -> u64 {
    let number = record.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (number ^ number >> 32) % KEYS
}

fn apply(map: &mut Map, record: &RecordRef<'_>, rounds: u64) {
    let (count, sum) = map.entry(key(record)).or_default();
    *count += 1;
    *sum = compute(*sum ^ record.lsn.get(), rounds);
}

/// Rounds of [`compute`] that take so long, by the fastest of some tries.
fn rounds_of(cost_ns: f64) -> u64 {
    const TRIED: u64 = 100_000;
    let tries = (0..50).map(|seed| {
        let start = Instant::now();
        black_box(compute(seed, TRIED));
        start.elapsed().as_nanos() as f64
    });
    let fastest = tries.fold(f64::INFINITY, f64::min);
    (cost_ns / fastest * TRIED as f64) as u64
}

/// A chain of which each link needs the one before.
fn compute(seed: u64, rounds: u64) -> u64 {
    (0..rounds).fold(seed, |value, round| {
        black_box((value ^ round).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_come_to_the_same_map() {
        let dir = scratch::directory(None).unwrap();
        let load = Load::spread(3, 30_000);
        load.run(dir.path(), &Wal::options().segment_size(1 << 20)).unwrap();
        let wal = Wal::options().open(dir.path()).unwrap();
        let expected = one_thread(&wal, 3).unwrap();
        let states = in_partitions(&wal, 5, 3).unwrap();
        assert_eq!(expected.values().map(|(count, _)| count).sum::<u64>(), load.total());
        assert_eq!(states.into_iter().flatten().collect::<Map>(), expected);
        wal.close().unwrap();
    }
}
