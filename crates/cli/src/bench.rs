//! `braidlog bench`: what a log does on the user's own disk, beside what the disk does alone.
//!
//! Each row is a mode, a number of threads and a record size. A repetition of it measures the raw disk and then a
//! fresh log, so that what disturbs one disturbs the other; their ratio is taken repetition by repetition. Time and
//! disk are bounded, and the one directory that is written to is fresh and removed in every end but a kill.

mod chart;
mod disk;
mod table;

use std::fs;
use std::path::Path;
use std::time::Duration;

use braidlog::{Options, Wal};
use braidlog_measure::figure::Figure;
use braidlog_measure::machine::Machine;
use braidlog_measure::space;
use braidlog_measure::workload::{Limits, Load, Run};
use serde::Serialize;
use tempfile::TempDir;

use crate::args::{BenchArgs, DurabilityArg};
use crate::config;
use crate::failure::Failure;
use crate::output::{self, Out};
use crate::stop::Stop;
use disk::{Disk, Raw};

/// The share of a row's time that the raw disk gets beside it.
const RAW_SHARE: f64 = 0.25;
/// The most that it gets: nobody who interrupts waits longer.
const RAW_SECONDS_MAX: f64 = 2.0;
/// Of asynchronous calls, which take less than the clock, one in so many is timed.
const ASYNC_TIMED_EVERY: u32 = 64;
/// What a record may take on the disk beside its payload. A durable one may have blocks of its own.
const OVERHEAD_BYTES_MAX: u64 = 64;
const DURABLE_OVERHEAD_BYTES_MAX: u64 = 2 * 4096;

/// What `bench --json` prints.
#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    machine: Machine,
    repetitions: u32,
    /// The disk alone, over all its turns.
    raw: Raw,
    rows: Vec<Row>,
}

/// A mode, a number of threads and a record size, and what was measured: figures over the repetitions.
#[derive(Serialize)]
pub struct Row {
    mode: &'static str,
    threads: u32,
    record_bytes: u64,
    /// Records of a repetition, all read back and counted.
    records: Figure,
    records_per_second: Figure,
    /// Bytes of payload per second.
    bytes_per_second: Figure,
    /// What this row is held against: `loop` (turns per second) or `stream` (bytes per second).
    raw: &'static str,
    /// Records or bytes per second of the log to the raw disk's just before.
    to_raw: Figure,
    /// How long a call took: in durable modes a commit.
    p50_ns: Figure,
    p99_ns: Figure,
    p999_ns: Figure,
    records_per_sync: Figure,
    cpu_seconds_per_million_records: Figure,
    /// Bytes of the closed log's directory for each record.
    disk_bytes_per_record: Figure,
}

/// Runs the subcommand.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let options = config::options(&args.config, Wal::options())?;
    let dir = check(args)?;
    let stop = Stop::on_signal()?;
    let mut disk = Disk::prepare(dir.path())?;
    let mut out = Out::stdout();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(dir.path()),
        repetitions: args.repetitions,
        rows: Vec::new(),
        raw: Raw::default(),
    };
    let measured = measure(args, &options, dir.path(), &mut disk, &stop, report, &mut out);
    drop(disk);
    let path = dir.path().display().to_string();
    dir.close().map_err(|error| Failure::of(path, error))?;
    let report = measured?;
    if let Some(file) = &args.plot {
        let svg = chart::draw(&report).map_err(|error| Failure::of(file.display(), error))?;
        fs::write(file, svg).map_err(|error| Failure::of(file.display(), error))?;
    }
    if args.json {
        out.json(&report)?;
    }
    out.flush()
}

/// Refuses what cannot be measured, before anything is written; then makes the one directory.
fn check(args: &BenchArgs) -> Result<TempDir, Failure> {
    let dir = &args.dir;
    if !fs::metadata(dir).map_err(|error| Failure::of(dir.display(), error))?.is_dir() {
        return Err(Failure::Usage(format!("{} is no directory", dir.display())));
    }
    let free = space::free_bytes(dir).map_err(|error| Failure::of(dir.display(), error))?;
    if free < args.max_bytes {
        return Err(Failure::Usage(format!(
            "{} has {} of free space and {} may be needed; allow less with --max-bytes",
            dir.display(),
            output::bytes(free),
            output::bytes(args.max_bytes)
        )));
    }
    if let Some(plot) = &args.plot {
        let parent = plot.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() || plot.is_dir() {
            return Err(Failure::Usage(format!("{} cannot be written", plot.display())));
        }
    }
    tempfile::Builder::new()
        .prefix("braidlog-bench-")
        .tempdir_in(dir)
        .map_err(|error| Failure::of(format_args!("cannot make a directory in {}", dir.display()), error))
}

fn measure(
    args: &BenchArgs,
    options: &Options,
    dir: &Path,
    disk: &mut Disk,
    stop: &Stop,
    mut report: Report,
    out: &mut Out,
) -> Result<Report, Failure> {
    let rows = args.modes.len() * args.threads.len() * args.sizes.len();
    let raw_seconds = (args.seconds * RAW_SHARE).min(RAW_SECONDS_MAX);
    let bar = output::steps(rows as u64 * u64::from(args.repetitions));
    if !args.json {
        bar.suspend(|| table::head(out, &report, args))?;
    }
    for &mode in &args.modes {
        for &record_bytes in &args.sizes {
            for &threads in &args.threads {
                let cell = Cell { args, options, mode, threads, record_bytes };
                let mut repetitions = Vec::new();
                for _ in 0..args.repetitions {
                    bar.set_message(format!("{} {threads} x {}", cell.name(), output::bytes(record_bytes)));
                    let raw = disk.measure(mode, raw_seconds, args.max_bytes / 8)?;
                    let run = cell.run(&dir.join("log"), stop);
                    if stop.is_interrupted() {
                        return Err(Failure::Interrupted);
                    }
                    repetitions.push((run?, raw));
                    bar.inc(1);
                }
                let row = cell.row(&repetitions);
                if !args.json {
                    bar.suspend(|| table::row(out, &row))?;
                }
                report.rows.push(row);
            }
        }
    }
    bar.finish_and_clear();
    report.raw = disk.told();
    if !args.json {
        table::foot(out, &report.raw)?;
    }
    Ok(report)
}

/// One row, to be measured.
struct Cell<'a> {
    args: &'a BenchArgs,
    options: &'a Options,
    mode: DurabilityArg,
    threads: u32,
    record_bytes: u64,
}

impl Cell<'_> {
    fn name(&self) -> &'static str {
        match self.mode {
            DurabilityArg::Async => "async",
            DurabilityArg::Group => "group",
            DurabilityArg::Sync => "sync",
        }
    }

    /// Appends to a fresh log at `log`, reads it back, and removes it.
    fn run(&self, log: &Path, stop: &Stop) -> Result<Run, Failure> {
        let (overhead_bytes, timed_every) = match self.mode {
            DurabilityArg::Async => (OVERHEAD_BYTES_MAX, ASYNC_TIMED_EVERY),
            DurabilityArg::Group | DurabilityArg::Sync => (DURABLE_OVERHEAD_BYTES_MAX, 1),
        };
        // A quarter is for what the log has laid ahead of its pen, and for the raw files.
        let records = self.args.max_bytes / 4 * 3 / (self.record_bytes + overhead_bytes);
        let load = Load {
            threads: self.threads,
            records: u32::try_from(records / u64::from(self.threads)).unwrap_or(u32::MAX).max(1),
            record_bytes: self.record_bytes as usize,
        };
        let limits = Limits {
            time_max: Duration::from_secs_f64(self.args.seconds),
            timed_every: timed_every.min(load.records),
            stop: &|| stop.is_interrupted(),
        };
        let run = load.run_within(log, &self.options(), limits);
        let removed = fs::remove_dir_all(log);
        let run = run.map_err(|error| {
            Failure::of(
                format_args!("{}, {} threads, {} bytes", self.name(), self.threads, self.record_bytes),
                error,
            )
        })?;
        removed.map_err(|error| Failure::of(log.display(), error))?;
        Ok(run)
    }

    /// As configured, but for smaller files where little space is allowed.
    fn options(&self) -> Options {
        let mode = config::mode(self.mode, self.options.mode);
        let options = self.options.clone().mode(mode);
        let segment_size = options.segment_size.min(self.args.max_bytes / 16);
        options.segment_size(segment_size)
    }

    fn row(&self, repetitions: &[(Run, f64)]) -> Row {
        let figure = |of: &dyn Fn(&Run) -> f64| Figure::of(repetitions.iter().map(|(run, _)| of(run)));
        let bytes = self.record_bytes as f64;
        let (raw, raw_unit) = match self.mode {
            DurabilityArg::Async => ("stream", bytes),
            DurabilityArg::Group | DurabilityArg::Sync => ("loop", 1.0),
        };
        Row {
            mode: self.name(),
            threads: self.threads,
            record_bytes: self.record_bytes,
            records: figure(&|run| run.records as f64),
            records_per_second: figure(&Run::rate),
            bytes_per_second: figure(&|run| run.rate() * bytes),
            raw,
            to_raw: Figure::of(repetitions.iter().map(|(run, raw)| run.rate() * raw_unit / raw)),
            p50_ns: figure(&|run| run.latencies.quantile_ns(0.5) as f64),
            p99_ns: figure(&|run| run.latencies.quantile_ns(0.99) as f64),
            p999_ns: figure(&|run| run.latencies.quantile_ns(0.999) as f64),
            records_per_sync: figure(&|run| run.metrics.records_per_sync),
            cpu_seconds_per_million_records: figure(&Run::cpu_seconds_per_million),
            disk_bytes_per_record: figure(&Run::disk_bytes_per_record),
        }
    }
}
