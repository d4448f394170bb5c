//! `braidlog backup`: brings a log into another directory, beside its writer or when it has none.

use braidlog::{Backup, BackupReport};
use serde::Serialize;

use crate::args::BackupArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `backup --json` prints.
#[derive(Serialize)]
struct Made {
    path: String,
    dest: String,
    log_id: String,
    first_lsn: u64,
    last_lsn: u64,
    segments: usize,
    checkpoints: usize,
    copied_files: usize,
    linked_files: usize,
    unchanged_files: usize,
    removed_files: usize,
    copied_bytes: u64,
    bytes: u64,
    seconds: f64,
}

/// Runs the subcommand.
pub fn run(args: &BackupArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let bar = output::progress(Some(0));
    let made = log.backup(Backup::new().copy(args.copy), &args.dest, |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    });
    bar.finish_and_clear();
    let made = Made::new(args, &made?);
    let mut out = Out::stdout();
    if args.json {
        out.json(&made)?;
    } else {
        print(&mut out, &made)?;
    }
    out.flush()
}

impl Made {
    fn new(args: &BackupArgs, report: &BackupReport) -> Made {
        Made {
            path: args.dir.display().to_string(),
            dest: args.dest.display().to_string(),
            log_id: report.log_id.to_string(),
            first_lsn: report.first_lsn.0,
            last_lsn: report.last_lsn.0,
            segments: report.segments,
            checkpoints: report.checkpoints,
            copied_files: report.copied,
            linked_files: report.linked,
            unchanged_files: report.unchanged,
            removed_files: report.removed,
            copied_bytes: report.copied_bytes,
            bytes: report.bytes,
            seconds: report.duration.as_secs_f64(),
        }
    }
}

fn print(out: &mut Out, made: &Made) -> Result<(), Failure> {
    out.line(format_args!(
        "backed up LSN {}..={} into {}: {}, {}, {}",
        made.first_lsn,
        made.last_lsn,
        made.dest,
        output::plural(made.segments as u64, "segment"),
        output::plural(made.checkpoints as u64, "checkpoint"),
        output::bytes(made.bytes)
    ))?;
    out.line(format_args!(
        "{} files copied ({}), {} linked, {} there already, {} of earlier backups removed, in {:.1} s",
        made.copied_files,
        output::bytes(made.copied_bytes),
        made.linked_files,
        made.unchanged_files,
        made.removed_files,
        made.seconds
    ))?;
    out.line("to restore, open a copy of it; one that was opened for writing takes no later backup")
}
