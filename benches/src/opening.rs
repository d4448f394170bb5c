//! How long it takes to open a long log that has a recent checkpoint, after a crash.
//!
//! A child fills the log, takes a checkpoint, appends some more and is gone without closing. Then the page cache is told
//! to forget the files, and the log is opened and recovered. The rule: what is timed first is everything before the
//! application gets its first record: opening, and reading the checkpoint.

use std::env;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use braidlog::{
    Applied, BoxError, CheckpointReader, DurabilityMode, Options, RecordRef, Restore, Retention, Wal,
};
use braidlog_measure::Result;
use braidlog_measure::figure::Figure;
use serde::Serialize;

use crate::{replay, scratch};

/// Bytes of each record that makes the log long.
const FILL_BYTES: usize = 64 << 10;
/// Bytes of the state in the checkpoint.
const STATE_BYTES: usize = 1 << 20;
/// Records of 128 bytes behind the checkpoint: some 16 MiB.
const RECORDS_BEHIND: u64 = 100_000;

/// What opening took.
#[derive(Clone, Debug, Serialize)]
pub struct Opening {
    /// Bytes of the log's payloads.
    pub payload_bytes: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Opening for writing, ready to append, in milliseconds.
    pub open_ms: Figure,
    /// From the begin of opening to the application's first record, the checkpoint included, in milliseconds.
    pub first_record_ms: Figure,
    /// The replay behind it, in milliseconds.
    pub replay_ms: Figure,
    /// Records that were replayed.
    pub replayed: u64,
}

/// What the records and the checkpoint are counted in.
struct Counter {
    began: Instant,
    first_record: Option<Duration>,
    state_bytes: usize,
    records: u64,
}

impl Restore for Counter {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> std::result::Result<(), BoxError> {
        let mut state = Vec::new();
        self.state_bytes = part.read_to_end(&mut state)?;
        Ok(())
    }

    fn apply(&mut self, _: RecordRef<'_>) -> std::result::Result<Applied, BoxError> {
        self.first_record.get_or_insert_with(|| self.began.elapsed());
        self.records += 1;
        Ok(Applied::Applied)
    }
}

/// Measures a log of so many payload bytes.
///
/// # Errors
/// An error of the log, the system or the child, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize, payload_bytes: u64) -> Result<Opening> {
    let dir = scratch::directory(base)?;
    let dir = dir.path().join("log");
    let (mut open_ms, mut first_record_ms, mut replay_ms) = (Vec::new(), Vec::new(), Vec::new());
    let mut segments = 0;
    for _ in 0..repetitions {
        let child = Command::new(env::current_exe()?)
            .arg("--child-long")
            .arg(&dir)
            .args(["--growth-bytes", &payload_bytes.to_string()])
            .output()?;
        if child.status.success() {
            return Err("the child closed the log".into());
        }
        replay::drop_cache(&dir)?;
        let began = Instant::now();
        let wal = options().open(&dir)?;
        open_ms.push(milliseconds(began.elapsed()));
        segments = wal.recovery_report().segments;
        let mut counter = Counter { began, first_record: None, state_bytes: 0, records: 0 };
        wal.recover(&mut counter)?;
        let all = began.elapsed();
        if counter.state_bytes != STATE_BYTES || counter.records != RECORDS_BEHIND {
            let said = String::from_utf8_lossy(&child.stderr).into_owned();
            let found = format!("{} bytes of state and {} records", counter.state_bytes, counter.records);
            return Err(format!("{found} were recovered; {said}").into());
        }
        let first = counter.first_record.ok_or("no record was replayed")?;
        first_record_ms.push(milliseconds(first));
        replay_ms.push(milliseconds(all - first));
        wal.close()?;
    }
    Ok(Opening {
        payload_bytes,
        segments,
        open_ms: Figure::of(open_ms),
        first_record_ms: Figure::of(first_record_ms),
        replay_ms: Figure::of(replay_ms),
        replayed: RECORDS_BEHIND,
    })
}

fn options() -> Options {
    Wal::options().mode(DurabilityMode::asynchronous()).retention(Retention::keep_all())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Makes the log as long as that, takes a checkpoint, appends a little more, and is gone. Does not return unless
/// something fails.
///
/// # Errors
/// An error of the log.
pub fn run_child(dir: &Path, payload_bytes: u64) -> Result<()> {
    let wal = options().open(dir)?;
    let payload = vec![0xB1; FILL_BYTES];
    while wal.last_lsn().get() < payload_bytes / FILL_BYTES as u64 {
        wal.append(&payload)?;
    }
    let lsn = wal.last_lsn();
    wal.checkpoint(lsn, |writer| Ok(writer.write_all(&[0xB1; STATE_BYTES])?))?;
    for _ in 0..RECORDS_BEHIND {
        wal.append([0xB1; 128])?;
    }
    wal.flush()?;
    std::process::abort()
}
