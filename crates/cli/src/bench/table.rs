//! The table of `braidlog bench`, row by row as they are measured.

use braidlog_measure::figure::Figure;

use super::disk::Raw;
use super::{Report, Row};
use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::output::{self, Out};

/// What is measured on what, and the heads of the columns.
pub fn head(out: &mut Out, report: &Report, args: &BenchArgs) -> Result<(), Failure> {
    let machine = &report.machine;
    out.line(format_args!("{}, {} threads, load {}", machine.processor, machine.threads, machine.load))?;
    out.line(format_args!("{}, kernel {}", machine.file_system, machine.kernel))?;
    out.line(format_args!(
        "medians of {} of {} s each, with the spread; x raw: to the disk alone, measured just before\n",
        output::plural(u64::from(args.repetitions), "repetition"),
        args.seconds
    ))?;
    out.line(format_args!(
        "{:<5} {:>7} {:>8} {:>11} {:>7} {:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "mode",
        "threads",
        "bytes",
        "records/s",
        "spread",
        "MB/s",
        "x raw",
        "p50",
        "p99",
        "p99.9",
        "rec/sync",
        "CPU s/M",
        "disk B/r"
    ))?;
    out.flush()
}

/// One row.
pub fn row(out: &mut Out, row: &Row) -> Result<(), Failure> {
    let time = |ns: Figure| output::duration(ns.median as u64);
    out.line(format_args!(
        "{:<5} {:>7} {:>8} {:>11} {:>7} {:>8.1} {:>6.2} {:>9} {:>9} {:>9} {:>9.1} {:>7.2} {:>8.0}",
        row.mode,
        row.threads,
        row.record_bytes,
        output::count(row.records_per_second.median as u64),
        spread(row.records_per_second),
        row.bytes_per_second.median / 1e6,
        row.to_raw.median,
        time(row.p50_ns),
        time(row.p99_ns),
        time(row.p999_ns),
        row.records_per_sync.median,
        row.cpu_seconds_per_million_records.median,
        row.disk_bytes_per_record.median
    ))?;
    out.flush()
}

/// The disk alone.
pub fn foot(out: &mut Out, raw: &Raw) -> Result<(), Failure> {
    let direct = if raw.has_direct_io { "direct" } else { "buffered: no direct I/O here" };
    out.line("")?;
    let turns = [
        ("write 4096 + fdatasync, buffered", raw.loop_buffered_per_second),
        ("write 4096 + fdatasync, direct", raw.loop_direct_per_second),
    ];
    for (what, rate) in turns {
        if let Some(rate) = rate {
            let (median, spread) = (output::count(rate.median as u64), spread(rate));
            out.line(format_args!("raw: {what:<35} {median:>9} /s {spread:>7}"))?;
        }
    }
    if let Some(rate) = raw.stream_bytes_per_second {
        let what = format!("stream of 1 MiB, {direct}");
        out.line(format_args!("raw: {what:<35} {:>7.1} MB/s {:>7}", rate.median / 1e6, spread(rate)))?;
    }
    out.flush()
}

/// Half of the distance between the least and the greatest, to the median.
fn spread(figure: Figure) -> String {
    format!("±{:.0}%", (figure.max - figure.min) / figure.median * 50.0)
}
