//! `braidlog checkpoint`: says that the state up to the end of the log is saved elsewhere.
//!
//! The rule: it says so only when told `--yes`, because from then on the log may give up all that lies below.

use braidlog::Lsn;
use serde::Serialize;

use crate::args::CheckpointArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::Out;

/// What `checkpoint --json` prints.
#[derive(Serialize)]
struct Taken {
    path: String,
    lsn: u64,
}

/// Runs the subcommand.
pub fn run(args: &CheckpointArgs) -> Result<(), Failure> {
    if !args.yes {
        let lsn = place(args, log_dir::open(&args.dir)?.last_lsn()?)?;
        return Err(Failure::Usage(format!(
            "a checkpoint without content at LSN {lsn} says that your program has saved its state up to there \
             elsewhere: what lies below may be given up from then on, and a replay starts behind it. If that is so, \
             say --yes"
        )));
    }
    let wal = log_dir::open_for_change(&args.dir, &args.config)?;
    if let Some(kept) = wal.checkpoints().iter().rev().find(|checkpoint| checkpoint.has_content()) {
        return Err(Failure::Failed(format!(
            "the log's owner keeps its state in checkpoints ({}, up to LSN {}): a recovery from one without content \
             would lose that state; let the owner take the checkpoint",
            kept.file, kept.lsn
        )));
    }
    let lsn = place(args, wal.durable_lsn())?;
    wal.checkpoint(lsn, |_| Ok(()))?;
    wal.close()?;
    let taken = Taken { path: args.dir.display().to_string(), lsn: lsn.0 };
    let mut out = Out::stdout();
    if args.json {
        out.json(&taken)?;
    } else {
        out.line(format_args!(
            "checkpoint without content at LSN {lsn}: a replay starts at LSN {}, and what lies below may be given up",
            lsn.next()
        ))?;
    }
    out.flush()
}

/// The LSN of the checkpoint, in a log that is durable up to `last`.
fn place(args: &CheckpointArgs, last: Lsn) -> Result<Lsn, Failure> {
    let lsn = args.lsn.map_or(last, Lsn);
    if lsn > last || lsn == Lsn::ZERO {
        return Err(Failure::Failed(format!(
            "cannot take a checkpoint at LSN {lsn}: the last durable record is LSN {last}"
        )));
    }
    Ok(lsn)
}
