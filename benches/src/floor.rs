//! The log and the device side by side, in one run, by turns: what disturbs one disturbs the other.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidlog::storage::FileIo;
use braidlog::{DurabilityMode, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::{Figure, median_us};
use braidlog_measure::raw::{RawFile, Turns};
use braidlog_measure::workload::{Load, RECORD_BYTES, Run};
use serde::Serialize;

use crate::scratch;
use crate::slow::SlowStorage;

/// Commits of each kind in a repetition of the lone writer.
const LONE_COMMITS: u64 = 400;
/// Turns of the raw loop before each repetition of the group.
const GROUP_RAW_TURNS: u64 = 200;
/// Records of a repetition of the group.
const GROUP_RECORDS: u32 = 200_000;
/// Records of a repetition of the asynchronous threads.
const ASYNC_RECORDS: u32 = 2_000_000;

/// One thread under `Synchronous`, beside the raw loop. Microseconds for a commit: medians of each
/// repetition.
#[derive(Clone, Debug, Serialize)]
pub struct Lone {
    /// Commits of each kind in a repetition.
    pub commits: u64,
    /// An append of 128 bytes.
    pub log_us: Figure,
    /// A write of 4096 bytes through the page cache, and `fdatasync`.
    pub buffered_us: Figure,
    /// The same past the page cache; `None` on a file system without direct I/O.
    pub direct_us: Option<Figure>,
    /// The log to the buffered loop, repetition by repetition.
    pub to_buffered: Figure,
    /// The log to the direct loop, repetition by repetition.
    pub to_direct: Option<Figure>,
}

/// 64 threads under `GroupCommit`.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// The least time that a sync was made to take, in microseconds; `None` for the disk as it is.
    pub sync_min_us: Option<f64>,
    /// How many threads commit.
    pub threads: u32,
    /// Durable commits per second, each waited for by its thread.
    pub commits_per_second: Figure,
    /// Records that share an `fdatasync`.
    pub records_per_sync: Figure,
    /// A commit as its thread sees it, in microseconds: the median.
    pub commit_p50_us: Figure,
    /// The same: 99 of 100 are faster.
    pub commit_p99_us: Figure,
    /// The log's own `fdatasync` meanwhile, in microseconds: the median.
    pub sync_p50_us: Figure,
    /// `fdatasync` alone in a raw loop of direct writes (buffered, if need be) just before, in microseconds: the
    /// median.
    pub raw_sync_us: Figure,
}

/// Threads under `Async`, the final flush included.
#[derive(Clone, Debug, Serialize)]
pub struct Asynchronous {
    /// How many threads append.
    pub threads: u32,
    /// Records of 128 bytes per second, all durable at the end.
    pub records_per_second: Figure,
    /// Bytes of the closed log's directory for each record.
    pub disk_bytes_per_record: f64,
}

/// Measures the lone writer.
///
/// # Errors
/// An error of the log or the system.
pub fn lone(base: Option<&Path>, repetitions: usize) -> Result<Lone> {
    let dir = scratch::directory(base)?;
    let blocks = LONE_COMMITS * (repetitions as u64 + 1);
    let mut buffered = RawFile::prepare(&dir.path().join("buffered"), FileIo::Buffered, blocks)?;
    let mut direct = RawFile::prepare(&dir.path().join("direct"), FileIo::Direct, blocks).ok();
    let wal = Wal::options().mode(DurabilityMode::Synchronous).open(dir.path().join("log"))?;

    let (mut log_us, mut buffered_us, mut direct_us) = (Vec::new(), Vec::new(), Vec::new());
    // The first repetition warms up: the log lays zeros ahead of small rounds only once it has seen some.
    for repetition in 0..=repetitions {
        let log = median_us(&mut append_alone(&wal)?);
        let loop_buffered = median_us(&mut buffered.turns(LONE_COMMITS)?.whole);
        let loop_direct = match &mut direct {
            Some(direct) => Some(median_us(&mut direct.turns(LONE_COMMITS)?.whole)),
            None => None,
        };
        if repetition > 0 {
            log_us.push(log);
            buffered_us.push(loop_buffered);
            direct_us.extend(loop_direct);
        }
    }
    let appended = wal.last_lsn();
    wal.close()?;
    if appended.get() != blocks {
        return Err(format!("{appended} records for {blocks} appends").into());
    }

    let ratio = |to: &[f64]| Figure::of(log_us.iter().zip(to).map(|(log, raw)| log / raw));
    Ok(Lone {
        commits: LONE_COMMITS,
        to_buffered: ratio(&buffered_us),
        to_direct: direct.is_some().then(|| ratio(&direct_us)),
        direct_us: direct.is_some().then(|| Figure::of(direct_us.iter().copied())),
        buffered_us: Figure::of(buffered_us),
        log_us: Figure::of(log_us),
    })
}

fn append_alone(wal: &Wal) -> Result<Vec<Duration>> {
    let payload = [0xB1; RECORD_BYTES];
    let mut took = Vec::with_capacity(LONE_COMMITS as usize);
    for _ in 0..LONE_COMMITS {
        let start = Instant::now();
        let lsn = wal.append(payload)?;
        took.push(start.elapsed());
        if wal.durable_lsn() < lsn {
            return Err(format!("LSN {lsn} was acknowledged before it was durable").into());
        }
    }
    Ok(took)
}

/// Measures the group; with `sync_min`, as on a disk whose syncs take at least so long.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn group(base: Option<&Path>, repetitions: usize, sync_min: Option<Duration>) -> Result<Group> {
    let mut options = Wal::options().mode(DurabilityMode::group_commit());
    if let Some(sync_min) = sync_min {
        options = options.storage(Arc::new(SlowStorage { sync_min }));
    }
    let load = Load::spread(64, GROUP_RECORDS);
    let mut rows = Vec::new();
    for _ in 0..repetitions {
        let dir = scratch::directory(base)?;
        let mut raw =
            RawFile::prepare(&dir.path().join("raw"), FileIo::Direct, GROUP_RAW_TURNS).or_else(|_| {
                RawFile::prepare(&dir.path().join("raw-buffered"), FileIo::Buffered, GROUP_RAW_TURNS)
            })?;
        let Turns { mut sync, .. } = raw.turns(GROUP_RAW_TURNS)?;
        let run = load.run(&dir.path().join("log"), &options)?;
        rows.push((median_us(&mut sync), run));
    }
    let us = |ns: u64| ns as f64 / 1000.0;
    Ok(Group {
        sync_min_us: sync_min.map(|sync_min| us(sync_min.as_nanos() as u64)),
        threads: load.threads,
        commits_per_second: Figure::of(rows.iter().map(|(_, run)| run.rate())),
        records_per_sync: Figure::of(rows.iter().map(|(_, run)| run.metrics.records_per_sync)),
        commit_p50_us: Figure::of(rows.iter().map(|(_, run)| us(run.metrics.commit_latency.p50_ns))),
        commit_p99_us: Figure::of(rows.iter().map(|(_, run)| us(run.metrics.commit_latency.p99_ns))),
        sync_p50_us: Figure::of(rows.iter().map(|(_, run)| us(run.metrics.sync_latency.p50_ns))),
        raw_sync_us: Figure::of(rows.iter().map(|&(raw, _)| raw)),
    })
}

/// Measures the asynchronous threads: 1, 4, 16 and 64 of them, by turns.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn asynchronous(base: Option<&Path>, repetitions: usize) -> Result<Vec<Asynchronous>> {
    let options = Wal::options().mode(DurabilityMode::asynchronous());
    let mut rows = [1, 4, 16, 64].map(|threads| (threads, Vec::new()));
    for _ in 0..repetitions {
        for (threads, runs) in &mut rows {
            let dir = scratch::directory(base)?;
            let load = Load::spread(*threads, ASYNC_RECORDS);
            runs.push(load.run(dir.path(), &options)?);
        }
    }
    let told = rows.map(|(threads, runs)| Asynchronous {
        threads,
        records_per_second: Figure::of(runs.iter().map(Run::rate)),
        disk_bytes_per_record: Figure::of(runs.iter().map(Run::disk_bytes_per_record)).median,
    });
    Ok(told.into())
}
