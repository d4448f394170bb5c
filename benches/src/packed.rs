//! Replay of a log whose finished segments are compressed beside the same log without, by turns, from a warm page cache.
//!
//! The records are lines of text as a service logs them, of 128 bytes: of one kind words and two numbers vary, of the other six
//! numbers do. What zstd makes of them is told; how fast it unpacks them goes by how often something varies. Both logs are one:
//! the second is a copy of its directory.
//!
//! # What is checked, after the clock
//! Every way has seen every record: their count, and the sum of their LSNs. Every record that is read alone is the line of
//! its LSN.

use std::fs;
use std::path::Path;
use std::time::Instant;

use braidlog::{DurabilityMode, Lsn, Retention, Wal};
use braidlog_measure::cpu;
use braidlog_measure::figure::Figure;
use serde::Serialize;

use crate::replay::{Seen, count};
use crate::scratch;
use crate::workload::{RECORD_BYTES, Result};

/// Records of the log: some 340 MiB, five segments and a little.
const RECORDS: u64 = 2_000_000;
/// Records that are read alone in each repetition, from all over the log.
const READS: u64 = 2_000;

/// What the lines are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Text {
    /// A sentence with a time and a number in it.
    Sentences,
    /// Names and values, six of them numbers.
    Values,
}

/// Both logs.
#[derive(Clone, Debug, Serialize)]
pub struct Packed {
    /// What the records are.
    pub text: Text,
    /// Records of 128 bytes in each log.
    pub records: u64,
    /// Bytes of the segments that were compressed, before.
    pub plain_bytes: u64,
    /// And after.
    pub packed_bytes: u64,
    /// Bytes per second that were compressed and compared, of the segments as they were.
    pub packing: f64,
    /// Records per second of `Wal::iter`, one thread.
    pub one_thread: Pair,
    /// Records per second of `Wal::replay`, as many threads as the machine runs at once.
    pub all_threads: Pair,
    /// Records per second of `Wal::read`, one at a time.
    pub reads: Pair,
    /// Processor time of all threads for a record of `Wal::replay`, in nanoseconds; the ratio is compressed to plain.
    pub cpu_ns: Pair,
}

/// A figure of each log.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Without compression.
    pub plain: Figure,
    /// With it.
    pub packed: Figure,
    /// The second to the first, repetition by repetition.
    pub ratio: Figure,
}

impl Pair {
    fn of(plain: &[f64], packed: &[f64]) -> Pair {
        Pair {
            ratio: Figure::of(packed.iter().zip(plain).map(|(packed, plain)| packed / plain)),
            plain: Figure::of(plain.iter().copied()),
            packed: Figure::of(packed.iter().copied()),
        }
    }
}

/// Measures both, with either text.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<Packed>> {
    [Text::Sentences, Text::Values].into_iter().map(|text| measure_with(text, base, repetitions)).collect()
}

fn measure_with(text: Text, base: Option<&Path>, repetitions: usize) -> Result<Packed> {
    let dir = scratch::directory(base)?;
    let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
    write(text, &plain)?;
    fs::create_dir(&packed)?;
    for entry in fs::read_dir(&plain)? {
        let path = entry?.path();
        fs::copy(&path, packed.join(path.file_name().ok_or("a file without a name")?))?;
    }
    let options = Wal::options().retention(Retention::keep_all());
    let (plain, packed) = (options.open(plain)?, options.open(packed)?);
    let report = packed.compress()?;
    if report.compressed < 5 {
        return Err(format!("{report:?}").into());
    }
    let logs = [&plain, &packed];
    let (mut one, mut all, mut reads, mut cpu_ns) =
        ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    // The first repetition warms up.
    for repetition in 0..=repetitions {
        for (place, wal) in logs.into_iter().enumerate() {
            let rate_of_one = rate(|| count(wal.iter(..)?))?;
            let used = cpu::used();
            let rate_of_all = rate(|| count(wal.replay()?))?;
            let used = cpu::used() - used;
            let rate_of_reads = read_alone(text, wal)?;
            if repetition > 0 {
                one[place].push(rate_of_one);
                all[place].push(rate_of_all);
                reads[place].push(rate_of_reads);
                cpu_ns[place].push(used.as_nanos() as f64 / RECORDS as f64);
            }
        }
    }
    plain.close()?;
    packed.close()?;
    Ok(Packed {
        text,
        records: RECORDS,
        plain_bytes: report.plain_bytes,
        packed_bytes: report.compressed_bytes,
        packing: report.plain_bytes as f64 / report.duration.as_secs_f64(),
        one_thread: Pair::of(&one[0], &one[1]),
        all_threads: Pair::of(&all[0], &all[1]),
        reads: Pair::of(&reads[0], &reads[1]),
        cpu_ns: Pair::of(&cpu_ns[0], &cpu_ns[1]),
    })
}

fn write(text: Text, dir: &Path) -> Result<()> {
    let wal = Wal::options().mode(DurabilityMode::asynchronous()).open(dir)?;
    for lsn in 1..=RECORDS {
        wal.append(line(text, lsn))?;
    }
    wal.close()?;
    Ok(())
}

fn rate(mut way: impl FnMut() -> Result<Seen>) -> Result<f64> {
    let start = Instant::now();
    let seen = way()?;
    let took = start.elapsed();
    if seen != Seen::all_of(RECORDS) {
        return Err(format!("{seen:?} of a log with {RECORDS} records").into());
    }
    Ok(RECORDS as f64 / took.as_secs_f64())
}

fn read_alone(text: Text, wal: &Wal) -> Result<f64> {
    let start = Instant::now();
    for read in 0..READS {
        let lsn = mixed(read) % RECORDS + 1;
        let record = wal.read(Lsn(lsn))?.ok_or("a record is missing")?;
        if record.payload != line(text, lsn) {
            return Err(format!("LSN {lsn} is not what was written").into());
        }
    }
    Ok(READS as f64 / start.elapsed().as_secs_f64())
}

/// The line of this LSN.
fn line(text: Text, lsn: u64) -> Vec<u8> {
    const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "DEBUG"];
    const WHATS: [&str; 8] = [
        "order accepted",
        "payment captured",
        "shipment booked",
        "stock reserved",
        "invoice mailed",
        "address changed",
        "order cancelled",
        "refund issued",
    ];
    let bits = mixed(lsn);
    let (level, what) = (LEVELS[bits as usize % 4], WHATS[(bits >> 2) as usize % 8]);
    let (customer, order) = ((bits >> 8) % 50_000, (bits >> 24) % 10_000_000);
    let (minute, second) = (lsn / 6_000_000 % 60, lsn / 100_000 % 60);
    let mut line = match text {
        Text::Sentences => format!(
            "2026-01-01T00:{minute:02}:{second:02}Z INFO shop: {what} for customer {customer}, confirmation sent by mail, nothing left to do",
        ),
        Text::Values => format!(
            "2026-01-01T00:{minute:02}:{second:02}.{:06}Z {level} shop {what} order={order} customer={customer} took_us={} node=eu-{}",
            lsn % 100_000 * 10,
            (bits >> 40) % 5000,
            (bits >> 54) % 4,
        ),
    }
    .into_bytes();
    line.resize(RECORD_BYTES, b' ');
    line
}

/// Bits that look random.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_one_length_and_differ() {
        for text in [Text::Sentences, Text::Values] {
            let lines: Vec<_> = (1..1000).map(|lsn| line(text, lsn)).collect();
            assert!(lines.iter().all(|line| line.len() == RECORD_BYTES && line.ends_with(b" ")));
            assert!(lines.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
