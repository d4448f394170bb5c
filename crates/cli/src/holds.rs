//! `braidlog holds`: who keeps a log from being truncated, and from where on.

use braidlog::{Hold, Lsn};
use serde::Serialize;

use crate::args::{HoldsArgs, HoldsCommand};
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `holds --json` prints.
#[derive(Serialize)]
struct Holds {
    path: String,
    first_lsn: u64,
    last_lsn: u64,
    holds: Vec<Held>,
}

/// One hold.
#[derive(Serialize)]
struct Held {
    name: String,
    /// The first LSN that it keeps.
    lsn: u64,
    /// Records from there to the end of the log.
    records: u64,
}

/// Runs the subcommand.
pub fn run(args: &HoldsArgs) -> Result<(), Failure> {
    match &args.command {
        None => list(args),
        Some(HoldsCommand::Set { name, lsn }) => {
            log_dir::require_log(&args.dir)?;
            let wal = log_dir::open_for_change(&args.dir, &args.config)?;
            wal.set_hold(name, Lsn(*lsn))?;
            wal.close()?;
            list(args)
        }
        Some(HoldsCommand::Release { name }) => {
            log_dir::require_log(&args.dir)?;
            let wal = log_dir::open_for_change(&args.dir, &args.config)?;
            let was_there = wal.release_hold(name)?;
            wal.close()?;
            if !was_there {
                return Err(Failure::Failed(format!(
                    "there is no hold `{name}`; `braidlog holds` lists them"
                )));
            }
            list(args)
        }
    }
}

fn list(args: &HoldsArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let last_lsn = log.last_lsn()?.0;
    let held = |Hold { name, lsn, .. }: Hold| Held {
        name,
        lsn: lsn.0,
        records: (last_lsn + 1).saturating_sub(lsn.0),
    };
    let holds = Holds {
        path: args.dir.display().to_string(),
        first_lsn: log.first_lsn()?.0,
        last_lsn,
        holds: log.holds()?.into_iter().map(held).collect(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&holds)?;
        return out.flush();
    }
    for hold in &holds.holds {
        out.line(format_args!(
            "{:>20}  {}  (holds {})",
            hold.lsn,
            hold.name,
            output::plural(hold.records, "record")
        ))?;
    }
    if holds.holds.is_empty() {
        out.line("no holds")?;
    }
    out.flush()
}
