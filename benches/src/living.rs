//! What a log's life costs its writers: a log that only grows, beside one that takes checkpoints, gives segments up,
//! uses their files again and is backed up all the while.
//!
//! Both get the same load, by turns; the rule is that the second pays for nothing in the first's place. It is checked
//! that it did live: checkpoints, segments that went and backups are counted.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use braidlog::{Backup, CheckpointPolicy, DurabilityMode, Options, Retention, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::Figure;
use braidlog_measure::workload::Load;
use serde::Serialize;

use crate::scratch;

/// Bytes of a segment, so that one goes several times a second.
const SEGMENT_SIZE: u64 = 8 << 20;
/// Records after which a checkpoint is due.
const CHECKPOINT_RECORDS: u64 = 50_000;
/// Bytes of the state that a checkpoint saves.
const STATE_BYTES: usize = 1 << 20;
/// From the end of a backup to the begin of the next.
const BACKUP_EVERY: Duration = Duration::from_millis(500);

/// One load on both logs.
#[derive(Clone, Debug, Serialize)]
pub struct Living {
    /// Threads that append.
    pub threads: u32,
    /// Whether each append is durable when it returns, or all are after a flush.
    pub durable: bool,
    /// Records per second of the log that only grows.
    pub growing_per_second: Figure,
    /// Of the one that lives.
    pub living_per_second: Figure,
    /// The second to the first, repetition by repetition.
    pub ratio: Figure,
    /// Checkpoints that were taken in all repetitions.
    pub checkpoints: u64,
    /// Segments that were given up.
    pub segments_removed: u64,
    /// How many of them became new ones.
    pub segments_recycled: u64,
    /// Backups that were made.
    pub backups: u64,
}

/// Measures both logs: durable commits of 16 and 64 threads, asynchronous appends of 1 and 4.
///
/// # Errors
/// An error of the log or the system, or a log that did not live.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<Living>> {
    let group = DurabilityMode::group_commit();
    let rows = [(16, group, 40_000), (64, group, 80_000), (1, DurabilityMode::asynchronous(), 500_000)];
    let rows = rows.into_iter().chain([(4, DurabilityMode::asynchronous(), 500_000)]);
    rows.map(|(threads, mode, records)| row(base, repetitions, Load::spread(threads, records), mode))
        .collect()
}

fn row(base: Option<&Path>, repetitions: usize, load: Load, mode: DurabilityMode) -> Result<Living> {
    let dir = scratch::directory(base)?;
    let options = Wal::options().mode(mode).segment_size(SEGMENT_SIZE);
    let growing = options
        .clone()
        .retention(Retention::keep_all())
        .checkpoint_policy(CheckpointPolicy::never())
        .open(dir.path().join("growing"))?;
    let living = open_living(&options, &dir.path().join("living"))?;
    let (over, backups) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut growing_per_second, mut living_per_second) = (Vec::new(), Vec::new());
    let measured = thread::scope(|scope| -> Result<()> {
        let backing = scope.spawn(|| back_up(&living, &dir.path().join("backup"), &over, &backups));
        // The first repetition warms up.
        let mut measure = || -> Result<()> {
            for repetition in 0..=repetitions {
                for (wal, rates) in [(&growing, &mut growing_per_second), (&living, &mut living_per_second)] {
                    let elapsed = load.append(wal)?;
                    if repetition > 0 {
                        rates.push(load.total() as f64 / elapsed.as_secs_f64());
                    }
                }
            }
            Ok(())
        };
        let measured = measure();
        over.store(true, Relaxed);
        backing.thread().unpark();
        backing.join().map_err(|_| "the backup panicked")??;
        measured
    });
    measured?;
    let status = living.upkeep();
    let appended = (repetitions as u64 + 1) * load.total();
    for wal in [growing, living] {
        if wal.durable_lsn().get() != appended {
            return Err(format!("{} of {appended} records are durable", wal.durable_lsn()).into());
        }
        wal.close()?;
    }
    let row = Living {
        threads: load.threads,
        durable: mode == DurabilityMode::group_commit(),
        ratio: Figure::of(
            living_per_second.iter().zip(&growing_per_second).map(|(living, other)| living / other),
        ),
        growing_per_second: Figure::of(growing_per_second),
        living_per_second: Figure::of(living_per_second),
        checkpoints: status.checkpoints,
        segments_removed: status.segments_removed,
        segments_recycled: status.segments_recycled,
        backups: backups.into_inner(),
    };
    if row.checkpoints == 0 || row.segments_removed == 0 || row.backups == 0 {
        return Err(format!("it did not live: {row:?}").into());
    }
    Ok(row)
}

fn open_living(options: &Options, dir: &Path) -> Result<Wal> {
    let wal = options
        .clone()
        .retention(Retention::segments(2))
        .checkpoint_policy(CheckpointPolicy::never().records(Some(CHECKPOINT_RECORDS)))
        .open(dir)?;
    let state = vec![0xB1; STATE_BYTES];
    wal.set_snapshot_source(move |wal| {
        wal.checkpoint(wal.durable_lsn(), |writer| Ok(writer.write_all(&state)?))?;
        Ok(())
    });
    Ok(wal)
}

/// Copies what is new, again and again; links would keep files from being used again.
fn back_up(wal: &Wal, dir: &Path, over: &AtomicBool, backups: &AtomicU64) -> braidlog::Result<()> {
    while !over.load(Relaxed) {
        wal.backup_with(Backup::new().copy(true), dir, |_| ())?;
        backups.fetch_add(1, Relaxed);
        thread::park_timeout(BACKUP_EVERY);
    }
    Ok(())
}
