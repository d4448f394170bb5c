//! What group commit chooses on disks of different speed: how long it holds a round back, and for how many.
//!
//! Threads commit one record after the other on a storage whose syncs take at least so long. The choice is read
//! from the log's own metrics while they run, once a millisecond; the median counts.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use braidlog::{DurabilityMode, Lsn, Metrics, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::Figure;
use braidlog_measure::workload::Load;
use serde::Serialize;

use crate::scratch;
use crate::slow::SlowStorage;

/// The least time of a sync on each disk, in microseconds, and the commits of each thread in a repetition.
const DISKS: [(u64, u32); 3] = [(50, 2000), (500, 400), (5000, 60)];
/// How many threads commit.
const THREADS: [u32; 4] = [1, 4, 16, 64];

/// So many threads on one disk.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// The least time of a sync, in microseconds.
    pub sync_min_us: u64,
    /// How many threads commit.
    pub threads: u32,
    /// Durable commits per second.
    pub commits_per_second: Figure,
    /// A commit as its thread sees it, in microseconds: the median.
    pub commit_p50_us: Figure,
    /// The same: 999 of 1000 are faster.
    pub commit_p999_us: Figure,
    /// Records that a sync covered.
    pub records_per_sync: Figure,
    /// What a round costs, as the log has measured it, in microseconds.
    pub round_cost_us: Figure,
    /// As many waiting records as end a hold; 0 if rounds are not held.
    pub hold_records: Figure,
    /// The longest that a round is held, in microseconds; 0 if rounds are not held.
    pub hold_limit_us: Figure,
    /// How long rounds were held, in microseconds: the median.
    pub hold_p50_us: Figure,
    /// The share of rounds that were held.
    pub held: Figure,
    /// The share of the held rounds that everybody joined who was expected.
    pub filled: Figure,
}

/// Measures each disk with each number of threads, by turns.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<Choice>> {
    let cells: Vec<_> =
        DISKS.iter().flat_map(|&(us, each)| THREADS.map(|threads| (us, threads, each))).collect();
    let mut runs = vec![Vec::new(); cells.len()];
    for _ in 0..repetitions {
        for (&(us, threads, each), runs) in cells.iter().zip(&mut runs) {
            let dir = scratch::directory(base)?;
            runs.push(run(&dir.path().join("log"), Duration::from_micros(us), threads, each)?);
        }
    }
    Ok(cells.iter().zip(runs).map(|(&(us, threads, _), runs)| choice(us, threads, &runs)).collect())
}

/// One run.
#[derive(Clone, Debug)]
struct Run {
    rate: f64,
    /// The log's metrics while the threads commit.
    meanwhile: Vec<Metrics>,
    end: Metrics,
}

fn run(dir: &Path, sync_min: Duration, threads: u32, each: u32) -> Result<Run> {
    let options =
        Wal::options().mode(DurabilityMode::group_commit()).storage(Arc::new(SlowStorage { sync_min }));
    let load = Load::spread(threads, threads * each);
    let wal = options.open(dir)?;
    let (elapsed, meanwhile) = thread::scope(|scope| {
        let commits = scope.spawn(|| load.append(&wal));
        let mut meanwhile = vec![wal.metrics()];
        while !commits.is_finished() {
            thread::sleep(Duration::from_millis(1));
            meanwhile.push(wal.metrics());
        }
        let elapsed = commits.join().map_err(|_| "a committer panicked")??;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((elapsed, meanwhile))
    })?;
    let (end, durable) = (wal.metrics(), wal.durable_lsn());
    wal.close()?;
    if durable != Lsn(load.total()) {
        return Err(format!("{} records were committed, {durable} are durable", load.total()).into());
    }
    load.check(&options, dir)?;
    Ok(Run { rate: load.total() as f64 / elapsed.as_secs_f64(), meanwhile, end })
}

fn choice(sync_min_us: u64, threads: u32, runs: &[Run]) -> Choice {
    let us = |ns: u64| ns as f64 / 1000.0;
    let each = |of: &dyn Fn(&Run) -> f64| Figure::of(runs.iter().map(of));
    let chosen = |of: &dyn Fn(&Metrics) -> f64| each(&|run| Figure::of(run.meanwhile.iter().map(of)).median);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    Choice {
        sync_min_us,
        threads,
        commits_per_second: each(&|run| run.rate),
        commit_p50_us: each(&|run| us(run.end.commit_latency.p50_ns)),
        commit_p999_us: each(&|run| us(run.end.commit_latency.p999_ns)),
        records_per_sync: each(&|run| run.end.records_per_sync),
        round_cost_us: chosen(&|metrics| us(metrics.round_cost_ns)),
        hold_records: chosen(&|metrics| metrics.hold_records as f64),
        hold_limit_us: chosen(&|metrics| us(metrics.hold_limit_ns)),
        hold_p50_us: each(&|run| us(run.end.hold_latency.p50_ns)),
        held: each(&|run| share(run.end.hold_latency.count, run.end.syncs)),
        filled: each(&|run| share(run.end.holds_filled, run.end.hold_latency.count)),
    }
}
