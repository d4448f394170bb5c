//! Whether an append or a commit costs more when the log is long.
//!
//! A short log (one record) and a long one (200 segments) take the same appends and commits, by turns; the rule is
//! that neither pays for what was written before. Times are those of real logs with all their threads.
//! Instructions are counted by callgrind in a child whose log has no threads of its own, so that all work is in the
//! functions that are counted, and the count is nearly the same every time.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use braidlog::{Append, Durability, DurabilityMode, Options, Wal, Writer};
use braidlog_measure::Result;
use braidlog_measure::figure::{Figure, median_us};
use braidlog_measure::workload::RECORD_BYTES;
use serde::Serialize;

use crate::scratch;

/// Segments of the long log.
const SEGMENTS: u64 = 200;
/// Bytes of each record that makes it long.
const FILL_BYTES: usize = 64 << 10;
/// Asynchronous appends of a repetition, the flush behind them included.
const APPENDS: u64 = 200_000;
/// Commits of a repetition.
const COMMITS: u64 = 400;
/// Appends, in batches too, or commits, that are counted in a child.
const COUNTED_APPENDS: u64 = 20_000;
const COUNTED_COMMITS: u64 = 1_000;
/// Records of a batch that is counted in a child.
const BATCH: u64 = 100;

/// The same work on a short and on a long log.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// Bytes of the long log's payloads.
    pub payload_bytes: u64,
    /// Segments that it had before the first measurement.
    pub segments: u64,
    /// An asynchronous append of 128 bytes, the flush included, in nanoseconds.
    pub append_ns: Pair,
    /// A durable append of 128 bytes, in microseconds: medians of each repetition.
    pub commit_us: Pair,
    /// Instructions of an append, with its share of the flush; `None` without valgrind.
    pub append_instructions: Option<Counted>,
    /// Instructions of a durable append.
    pub commit_instructions: Option<Counted>,
}

/// One figure of both logs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    /// Of the short log.
    pub short: Figure,
    /// Of the long one.
    pub long: Figure,
    /// The long to the short, repetition by repetition.
    pub ratio: Figure,
}

/// Instructions for one record on both logs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Counted {
    /// On the short log.
    pub short: f64,
    /// On the long one.
    pub long: f64,
}

/// What a child does to a log, so that its instructions are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Asynchronous appends and a flush.
    Appends,
    /// Durable appends.
    Commits,
    /// Durable batches of 100; for one record of them.
    Batches,
}

impl Work {
    /// The command-line option that asks for it.
    fn option(self) -> &'static str {
        match self {
            Work::Appends => "--child-appends",
            Work::Commits => "--child-commits",
            Work::Batches => "--child-batches",
        }
    }

    /// The function that is counted.
    fn function(self) -> &'static str {
        match self {
            Work::Appends => "braidlog_benches::growth::appends",
            Work::Commits => "braidlog_benches::growth::commits",
            Work::Batches => "braidlog_benches::growth::batches",
        }
    }

    fn count(self) -> u64 {
        match self {
            Work::Appends | Work::Batches => COUNTED_APPENDS,
            Work::Commits => COUNTED_COMMITS,
        }
    }
}

/// Measures a long log of so many payload bytes beside a short one.
///
/// # Errors
/// An error of the log, the system or a child, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize, payload_bytes: u64) -> Result<Growth> {
    let dir = scratch::directory(base)?;
    let (short_dir, long_dir) = (dir.path().join("short"), dir.path().join("long"));
    let options = options(payload_bytes);
    let short = options.open(&short_dir)?;
    short.append([0; RECORD_BYTES])?;
    let long = options.open(&long_dir)?;
    fill(&long, payload_bytes)?;
    let segments = long.metrics().rotations + 1;

    let (mut append_ns, mut commit_us) = ([vec![], vec![]], [vec![], vec![]]);
    // The first repetition warms up.
    for repetition in 0..=repetitions {
        for (which, wal) in [&short, &long].into_iter().enumerate() {
            let writer = wal.writer();
            let start = Instant::now();
            appends(wal, &writer, APPENDS)?;
            let append = start.elapsed().as_nanos() as f64 / APPENDS as f64;
            let mut took = Vec::with_capacity(COMMITS as usize);
            for _ in 0..COMMITS {
                let start = Instant::now();
                commits(&writer, 1)?;
                took.push(start.elapsed());
            }
            if repetition > 0 {
                append_ns[which].push(append);
                commit_us[which].push(median_us(&mut took));
            }
        }
    }
    let appended = (repetitions as u64 + 1) * (APPENDS + COMMITS);
    let filled = payload_bytes / FILL_BYTES as u64;
    for (wal, before) in [(short, 1), (long, filled)] {
        let durable = wal.durable_lsn().get();
        wal.close()?;
        if durable != before + appended {
            return Err(format!("{durable} records for {before} and {appended} more").into());
        }
    }
    let counted = |work| -> Result<Option<Counted>> {
        let Some(short) = instructions(work, &short_dir, payload_bytes)? else { return Ok(None) };
        let Some(long) = instructions(work, &long_dir, payload_bytes)? else { return Ok(None) };
        Ok(Some(Counted { short, long }))
    };
    Ok(Growth {
        payload_bytes,
        segments,
        append_ns: Pair::of(append_ns),
        commit_us: Pair::of(commit_us),
        append_instructions: counted(Work::Appends)?,
        commit_instructions: counted(Work::Commits)?,
    })
}

impl Pair {
    fn of([short, long]: [Vec<f64>; 2]) -> Pair {
        let ratio = Figure::of(long.iter().zip(&short).map(|(long, short)| long / short));
        Pair { short: Figure::of(short), long: Figure::of(long), ratio }
    }
}

fn options(payload_bytes: u64) -> Options {
    let segment_size = (payload_bytes / SEGMENTS).max(64 << 10);
    Wal::options().mode(DurabilityMode::asynchronous()).segment_size(segment_size)
}

fn fill(wal: &Wal, payload_bytes: u64) -> Result<()> {
    let payload = vec![0xB1; FILL_BYTES];
    for _ in 0..payload_bytes / FILL_BYTES as u64 {
        wal.append(&payload)?;
    }
    Ok(wal.flush()?)
}

#[inline(never)]
fn appends(wal: &Wal, writer: &Writer, count: u64) -> Result<()> {
    for number in 0..count {
        writer.append(payload(number))?;
    }
    Ok(wal.flush()?)
}

#[inline(never)]
fn commits(writer: &Writer, count: u64) -> Result<()> {
    for number in 0..count {
        writer.append_with(Append::new(&payload(number)).durability(Durability::Synchronous))?;
    }
    Ok(())
}

#[inline(never)]
fn batches(writer: &Writer, count: u64) -> Result<()> {
    for first in (0..count).step_by(BATCH as usize) {
        let mut batch = writer.batch().durability(Durability::GroupCommit);
        for number in first..first + BATCH {
            batch.push(0, payload(number))?;
        }
        batch.commit()?;
    }
    Ok(())
}

fn payload(number: u64) -> [u8; RECORD_BYTES] {
    let mut payload = [0xB1; RECORD_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Instructions for one record, counted in a child; `None` if there is no valgrind.
fn instructions(work: Work, dir: &Path, payload_bytes: u64) -> Result<Option<f64>> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={}", work.function()))
        .arg(env::current_exe()?)
        .arg(work.option())
        .arg(dir)
        .args(["--growth-bytes", &payload_bytes.to_string()]);
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(said.into_owned().into());
    }
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).ok_or("callgrind counts")?.1;
    let collected: u64 = collected.trim().parse()?;
    if collected == 0 {
        return Err(format!("callgrind has not seen {}", work.function()).into());
    }
    Ok(Some(collected as f64 / work.count() as f64))
}

/// Does the work in this process, on a log that has no threads.
///
/// # Errors
/// An error of the log.
pub fn run_child(work: Work, dir: &Path, payload_bytes: u64) -> Result<()> {
    let wal = options(payload_bytes).background_threads(false).open(dir)?;
    let writer = wal.writer();
    // What is done once, such as touching memory for the first time, is not counted.
    for number in 0..work.count() {
        writer.append(payload(number))?;
    }
    wal.flush()?;
    match work {
        Work::Appends => appends(&wal, &writer, work.count())?,
        Work::Commits => commits(&writer, work.count())?,
        Work::Batches => batches(&writer, work.count())?,
    }
    Ok(wal.close()?)
}
