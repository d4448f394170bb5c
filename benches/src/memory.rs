//! How much memory a process takes that appends, or replays in one way or the other, more than any memory holds.
//!
//! Each half runs in a process of its own, which says at its end the most that was resident (`VmHWM` of
//! `/proc/self/status`): one measurement cannot lower or hide another's.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use braidlog::{DurabilityMode, Replay, Wal};
use braidlog_measure::workload::{Load, RECORD_BYTES};
use braidlog_measure::{Result, space};
use serde::{Deserialize, Serialize};

/// Threads that append: enough that every stripe is used.
const THREADS: u32 = 64;

/// What a process took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peak {
    /// The most memory that was resident, in bytes.
    pub resident_bytes: u64,
    /// How long it worked, in seconds.
    pub seconds: f64,
}

/// Both halves.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Memory {
    /// Bytes of all payloads.
    pub payload_bytes: u64,
    /// Bytes of the directory afterwards.
    pub directory_bytes: u64,
    /// Appending, with default options but for the mode: `Async`.
    pub append: Peak,
    /// Opening and replaying, with every record checked.
    pub replay: Peak,
}

/// One half, as a child process is told to do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Append to a fresh log and close it.
    Append,
    /// Open the log and replay it.
    Replay,
    /// Open the log and replay it in partitions.
    Partitioned,
}

impl Half {
    /// The command-line option that asks for it.
    fn option(self) -> &'static str {
        match self {
            Half::Append => "--child-append",
            Half::Replay => "--child-replay",
            Half::Partitioned => "--child-partitioned",
        }
    }
}

/// Measures both halves over a log of so many payload bytes in `dir`, each in a child of this program.
///
/// # Errors
/// What went wrong, here or in a child.
pub fn measure(dir: &Path, payload_bytes: u64) -> Result<Memory> {
    let append = child(Half::Append, dir, payload_bytes)?;
    let directory_bytes = space::bytes_in(dir)?;
    let replay = child(Half::Replay, dir, payload_bytes)?;
    Ok(Memory {
        payload_bytes: load(payload_bytes)?.total() * RECORD_BYTES as u64,
        directory_bytes,
        append,
        replay,
    })
}

/// Does one half in a child of this program.
///
/// # Errors
/// What went wrong, here or in the child.
pub fn child(half: Half, dir: &Path, payload_bytes: u64) -> Result<Peak> {
    let output = Command::new(env::current_exe()?)
        .arg(half.option())
        .arg(dir)
        .args(["--memory-bytes", &payload_bytes.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Does one half in this process, and prints what it took.
///
/// # Errors
/// An error of the log, or one that says what is wrong with the result.
pub fn run_half(half: Half, dir: &Path, payload_bytes: u64) -> Result<()> {
    let load = load(payload_bytes)?;
    let options = Wal::options().mode(DurabilityMode::asynchronous());
    let start = Instant::now();
    match half {
        Half::Append => {
            let wal = options.open(dir)?;
            load.append(&wal)?;
            wal.close()?;
        }
        Half::Replay => load.check(&options, dir)?,
        Half::Partitioned => {
            let wal = options.open(dir)?;
            let mut counts = [0_u64; 16];
            wal.replay_partitioned(
                Replay::new(),
                &mut counts,
                |record| record.lsn.get(),
                |count, _| {
                    *count += 1;
                    Ok(())
                },
            )?;
            if counts.iter().sum::<u64>() != wal.durable_lsn().get() {
                return Err(format!("{counts:?} of {} records", wal.durable_lsn()).into());
            }
            wal.close()?;
        }
    }
    let peak = Peak { resident_bytes: resident_bytes_max()?, seconds: start.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&peak)?);
    Ok(())
}

fn load(payload_bytes: u64) -> Result<Load> {
    let records = u32::try_from(payload_bytes / RECORD_BYTES as u64)?;
    Ok(Load::spread(THREADS, records))
}

/// The most memory that this process has had resident, in bytes.
fn resident_bytes_max() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
