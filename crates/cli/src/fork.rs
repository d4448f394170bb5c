//! `braidlog fork`: makes a log of its own of what lies before a point of another, to go on from there.

use braidlog::{Lsn, ReadOnly, Replay};
use serde::Serialize;

use crate::args::ForkArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `fork --json` prints.
#[derive(Serialize)]
struct Forked {
    path: String,
    dest: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// The new log's identity; none before it is made.
    log_id: Option<String>,
    first_lsn: u64,
    /// The last record before the point.
    last_lsn: u64,
    records: u64,
    /// Records behind the point, which only the old log has.
    left_behind: u64,
    /// LSNs of the checkpoints that come along.
    checkpoints: Vec<u64>,
    /// Checkpoints that cannot be used and were left behind, and why.
    passed_over: Vec<String>,
    /// LSNs that were given up once, first and last.
    lost_lsns: Vec<[u64; 2]>,
}

/// Runs the subcommand.
pub fn run(args: &ForkArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let last_lsn = log.last_lsn()?;
    let forked = if args.dry_run { would(args, &log)? } else { make(args, &log)? };
    let forked = Forked { left_behind: last_lsn.0.saturating_sub(forked.last_lsn), ..forked };
    let mut out = Out::stdout();
    if args.json {
        out.json(&forked)?;
    } else {
        print(&mut out, &forked)?;
    }
    out.flush()
}

/// Looks at what would be made.
fn would(args: &ForkArgs, log: &ReadOnly) -> Result<Forked, Failure> {
    let is_free = match log_dir::names(&args.dest) {
        Ok(names) => names.iter().all(|name| name == "LOCK"),
        Err(_) => !args.dest.exists(),
    };
    if !is_free {
        return Err(Failure::Failed(format!(
            "{} is not an empty directory, and a fork goes into one, or into one that is not there yet",
            args.dest.display()
        )));
    }
    let last = match &args.until {
        Some(point) => log.lsn_at(&point.target(args.exclusive))?,
        None => log.last_lsn()?,
    };
    let first = log.first_lsn()?;
    let checkpoints = log.checkpoints()?.into_iter().map(|info| info.lsn).filter(|&lsn| lsn <= last);
    let mut records = log.iter(first..=last)?;
    // LSNs that no record has were given up once.
    let (mut count, mut next, mut lost_lsns) = (0, first.0, Vec::new());
    while let Some(record) = records.next_ref().transpose()? {
        if record.lsn.0 > next {
            lost_lsns.push([next, record.lsn.0 - 1]);
        }
        next = record.lsn.0 + 1;
        count += 1;
    }
    if next <= last.0 {
        lost_lsns.push([next, last.0]);
    }
    Ok(Forked {
        path: args.dir.display().to_string(),
        dest: args.dest.display().to_string(),
        dry_run: true,
        log_id: None,
        first_lsn: first.0,
        last_lsn: last.0,
        records: count,
        left_behind: 0,
        checkpoints: checkpoints.map(|Lsn(lsn)| lsn).collect(),
        passed_over: Vec::new(),
        lost_lsns,
    })
}

fn make(args: &ForkArgs, log: &ReadOnly) -> Result<Forked, Failure> {
    let bar = output::steps(0);
    let shown = bar.clone();
    let mut replay = Replay::new().progress(move |now| {
        shown.set_length(now.records + now.records_left());
        shown.set_position(now.records);
    });
    if let Some(point) = &args.until {
        replay = replay.until(point.target(args.exclusive));
    }
    let made = log.fork_with(&args.dest, replay);
    bar.finish_and_clear();
    let made = made?;
    Ok(Forked {
        path: args.dir.display().to_string(),
        dest: args.dest.display().to_string(),
        dry_run: false,
        log_id: Some(made.log_id.to_string()),
        first_lsn: made.first_lsn.0,
        last_lsn: made.last_lsn.0,
        records: made.records,
        left_behind: 0,
        checkpoints: made.checkpoints.iter().map(|info| info.lsn.0).collect(),
        passed_over: made.passed_over.iter().map(ToString::to_string).collect(),
        lost_lsns: made.losses.iter().map(|loss| [loss.lsns.first.0, loss.lsns.last.0]).collect(),
    })
}

fn print(out: &mut Out, forked: &Forked) -> Result<(), Failure> {
    out.line(format_args!(
        "{} LSN {}..={} into {}: {}, {}; {} behind it {}",
        if forked.dry_run { "would fork" } else { "forked" },
        forked.first_lsn,
        forked.last_lsn,
        forked.dest,
        output::plural(forked.records, "record"),
        output::plural(forked.checkpoints.len() as u64, "checkpoint"),
        output::plural(forked.left_behind, "record"),
        if forked.dry_run { "would stay in the old log alone" } else { "are in the old log alone" },
    ))?;
    for why in &forked.passed_over {
        out.line(format_args!("left behind: {why}"))?;
    }
    for [first, last] in &forked.lost_lsns {
        out.line(format_args!("lost before, and still: LSN {first}..={last}"))?;
    }
    if let Some(log_id) = &forked.log_id {
        out.line(format_args!("it is a log of its own, {log_id}, and opens as one"))?;
    }
    Ok(())
}
