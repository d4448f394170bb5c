//! `braidlog restore-points`: the points of a log's time that have a name.

use braidlog::RestorePoint;
use serde::Serialize;

use crate::args::{RestorePointsArgs, RestorePointsCommand};
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `restore-points --json` prints.
#[derive(Serialize)]
struct Points {
    path: String,
    /// Whether nothing was done.
    dry_run: bool,
    last_lsn: u64,
    restore_points: Vec<Named>,
}

/// One restore point.
#[derive(Serialize)]
struct Named {
    name: String,
    /// The last LSN before it.
    lsn: u64,
    set_at: String,
    /// Records behind it.
    records_behind: u64,
    /// Whether a recovery can still lead there.
    reachable: bool,
}

/// Runs the subcommand.
pub fn run(args: &RestorePointsArgs) -> Result<(), Failure> {
    match &args.command {
        None => {}
        Some(RestorePointsCommand::Add { name, dry_run: false }) => {
            log_dir::require_log(&args.dir)?;
            let wal = log_dir::open_for_change(&args.dir, &args.config)?;
            wal.restore_point(name)?;
            wal.close()?;
        }
        Some(RestorePointsCommand::Drop { name, dry_run: false }) => {
            log_dir::require_log(&args.dir)?;
            let wal = log_dir::open_for_change(&args.dir, &args.config)?;
            let was_there = wal.drop_restore_point(name)?;
            wal.close()?;
            if !was_there {
                return Err(missing(name));
            }
        }
        Some(RestorePointsCommand::Add { name, .. } | RestorePointsCommand::Drop { name, .. }) => {
            return would(args, name);
        }
    }
    let log = log_dir::open(&args.dir)?;
    list(args, log.last_lsn()?.0, log.restore_points()?, false)
}

fn missing(name: &str) -> Failure {
    Failure::Failed(format!("there is no restore point `{name}`; `braidlog restore-points` lists them"))
}

/// Says what would be there then.
fn would(args: &RestorePointsArgs, name: &str) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let (last_lsn, mut points) = (log.last_lsn()?, log.restore_points()?);
    let found = points.iter().position(|point| point.name == name);
    match (&args.command, found) {
        (Some(RestorePointsCommand::Drop { .. }), Some(index)) => drop(points.remove(index)),
        (Some(RestorePointsCommand::Drop { .. }), None) => return Err(missing(name)),
        (_, Some(_)) => {
            return Err(Failure::Failed(format!(
                "there is a restore point `{name}` already: drop it first, or take another name"
            )));
        }
        (_, None) => {
            output::note(format_args!("it would lie behind LSN {last_lsn}; nothing was done"));
        }
    }
    list(args, last_lsn.0, points, true)
}

fn list(
    args: &RestorePointsArgs,
    last_lsn: u64,
    points: Vec<RestorePoint>,
    dry_run: bool,
) -> Result<(), Failure> {
    let named = |point: RestorePoint| Named {
        lsn: point.lsn.0,
        set_at: output::rfc3339(point.time_ns),
        records_behind: last_lsn.saturating_sub(point.lsn.0),
        reachable: point.is_reachable,
        name: point.name,
    };
    let points = Points {
        path: args.dir.display().to_string(),
        dry_run,
        last_lsn,
        restore_points: points.into_iter().map(named).collect(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&points)?;
        return out.flush();
    }
    for Named { name, lsn, set_at, records_behind, reachable } in &points.restore_points {
        out.line(format_args!(
            "{lsn:>20}  {set_at}  {name}  ({} behind it{})",
            output::plural(*records_behind, "record"),
            if *reachable { "" } else { "; no checkpoint leads there any more" }
        ))?;
    }
    if points.restore_points.is_empty() {
        out.line("no restore points")?;
    }
    out.flush()
}
