//! `braidlog estimate`: how long a recovery of the application would read.

use braidlog::RecoveryEstimate;
use serde::Serialize;

use crate::args::FactArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `estimate --json` prints.
#[derive(Serialize)]
struct Estimate {
    path: String,
    /// The last LSN that the checkpoint holds; left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_lsn: Option<u64>,
    checkpoint_files: usize,
    checkpoint_bytes: u64,
    records: u64,
    log_bytes: u64,
    /// Of the log, and of the checkpoint.
    bytes_per_second: u64,
    checkpoint_bytes_per_second: u64,
    /// Whether the rates were measured here.
    measured: bool,
    seconds: f64,
    at_least_seconds: f64,
    at_most_seconds: f64,
}

/// Runs the subcommand.
pub fn run(args: &FactArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let found: RecoveryEstimate = log.estimate_recovery()?;
    let estimate = Estimate {
        path: args.dir.display().to_string(),
        checkpoint_lsn: found.checkpoint.as_ref().map(|checkpoint| checkpoint.lsn.0),
        checkpoint_files: found.checkpoint_files,
        checkpoint_bytes: found.checkpoint_bytes,
        records: found.records,
        log_bytes: found.log_bytes,
        bytes_per_second: found.bytes_per_second,
        checkpoint_bytes_per_second: found.checkpoint_bytes_per_second,
        measured: found.measured,
        seconds: found.duration.as_secs_f64(),
        at_least_seconds: found.at_least().as_secs_f64(),
        at_most_seconds: found.at_most().as_secs_f64(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&estimate)?;
    } else {
        print(&mut out, &estimate)?;
    }
    out.flush()
}

fn print(out: &mut Out, estimate: &Estimate) -> Result<(), Failure> {
    match estimate.checkpoint_lsn {
        None => out.line("checkpoint   none: the replay starts with the first record")?,
        Some(lsn) => out.line(format_args!(
            "checkpoint   at LSN {lsn}, {} in {}",
            output::bytes(estimate.checkpoint_bytes),
            output::plural(estimate.checkpoint_files as u64, "file")
        ))?,
    }
    out.line(format_args!(
        "replay       {}, about {}",
        output::plural(estimate.records, "record"),
        output::bytes(estimate.log_bytes)
    ))?;
    let duration = |seconds: f64| output::duration((seconds * 1e9) as u64);
    out.line(format_args!(
        "reading      about {} ({} to {}), at {} a second, {}",
        duration(estimate.seconds),
        duration(estimate.at_least_seconds),
        duration(estimate.at_most_seconds),
        output::bytes(estimate.bytes_per_second),
        if estimate.measured { "measured" } else { "assumed: there is too little to measure by" }
    ))?;
    out.line("             what your program does with each record comes on top")
}
