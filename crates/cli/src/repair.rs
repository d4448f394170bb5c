//! `braidlog repair`: makes a damaged log one that opens again, and accounts for every LSN.
//!
//! The rule: it says what it would do before it does it (`--dry-run`, for each policy, byte for byte), and moves what was
//! damaged into `quarantine`, where nothing is ever deleted.

use braidlog::{DamagePolicy, LsnRange, Repair, RepairReport, WhatBecame};
use serde::Serialize;

use crate::args::{PolicyArg, RepairArgs};
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `repair --json` prints: one for each policy.
#[derive(Serialize)]
struct Repaired {
    path: String,
    policy: String,
    dry_run: bool,
    /// Whether there was nothing to repair.
    clean: bool,
    kept: Vec<Range>,
    /// LSNs that are given up, though somebody may have been told that they were durable.
    lost: Vec<Range>,
    /// LSNs that are given up with them, and that nobody was told of.
    never_acknowledged: Vec<Range>,
    /// What earlier repairs gave up.
    earlier: Vec<Range>,
    files: Vec<File>,
    problems: Vec<String>,
    /// Where damaged files are, from the log's directory.
    quarantined: Vec<String>,
}

/// LSNs, both ends included.
#[derive(Serialize)]
struct Range {
    first_lsn: u64,
    last_lsn: u64,
}

/// What becomes of a file.
#[derive(Serialize)]
struct File {
    name: String,
    len_bytes: u64,
    what: &'static str,
    /// File offsets between which it has what is kept, the second ones not included.
    kept_bytes: Vec<[u64; 2]>,
}

/// Runs the subcommand.
pub fn run(args: &RepairArgs) -> Result<(), Failure> {
    log_dir::require_log(&args.dir)?;
    let policies = match args.policy {
        Some(policy) => vec![policy],
        None if args.dry_run => vec![PolicyArg::UntilDamage, PolicyArg::SkipDamaged],
        None => {
            let text = "say with --policy what may be given up: until-damage or skip-damaged; --dry-run shows what each keeps";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let mut out = Out::stdout();
    for policy in policies {
        let (bar, told) = output::repair_progress();
        let how = Repair::new(policy.into()).dry_run(args.dry_run);
        let report = braidlog::repair_with(&args.dir, &how, told);
        bar.finish_and_clear();
        let report = report?;
        let repaired = Repaired::new(args, &report);
        if args.json {
            out.json(&repaired)?;
        } else {
            print(&mut out, &repaired)?;
        }
    }
    out.flush()
}

impl From<PolicyArg> for DamagePolicy {
    fn from(policy: PolicyArg) -> DamagePolicy {
        match policy {
            PolicyArg::UntilDamage => DamagePolicy::UntilDamage,
            PolicyArg::SkipDamaged => DamagePolicy::SkipDamaged,
        }
    }
}

impl Repaired {
    fn new(args: &RepairArgs, report: &RepairReport) -> Repaired {
        let file = |file: &braidlog::RepairedFile| File {
            name: file.name.clone(),
            len_bytes: file.len_bytes,
            what: what(file.what),
            kept_bytes: file.kept_bytes.iter().map(|&(from, to)| [from, to]).collect(),
        };
        let earlier: Vec<LsnRange> = report.outcome.earlier.iter().map(|loss| loss.lsns).collect();
        Repaired {
            path: args.dir.display().to_string(),
            policy: report.policy.to_string(),
            dry_run: args.dry_run,
            clean: report.is_clean(),
            kept: ranges(&report.outcome.kept),
            lost: ranges(&report.outcome.lost),
            never_acknowledged: ranges(&report.outcome.never_acknowledged),
            earlier: ranges(&earlier),
            files: report.files.iter().map(file).collect(),
            problems: report.problems.iter().map(ToString::to_string).collect(),
            quarantined: report.quarantined.clone(),
        }
    }
}

fn ranges(ranges: &[LsnRange]) -> Vec<Range> {
    ranges.iter().map(|range| Range { first_lsn: range.first.0, last_lsn: range.last.0 }).collect()
}

fn what(what: WhatBecame) -> &'static str {
    match what {
        WhatBecame::Kept => "kept",
        WhatBecame::Rewritten => "rewritten",
        WhatBecame::Made => "made",
        WhatBecame::SetAside => "set aside",
        _ => "changed",
    }
}

fn print(out: &mut Out, repaired: &Repaired) -> Result<(), Failure> {
    let policy = &repaired.policy;
    for problem in &repaired.problems {
        out.line(format_args!("damaged: {problem}"))?;
    }
    if repaired.clean {
        return out.line(format_args!("{policy}: nothing to repair, {}", list("kept", &repaired.kept)));
    }
    let verb = if repaired.dry_run { "would be" } else { "are" };
    out.line(format_args!("{policy}: {}", list(&format!("{verb} kept"), &repaired.kept)))?;
    out.line(format_args!(
        "{policy}: {}",
        list(&format!("{verb} lost, though acknowledged"), &repaired.lost)
    ))?;
    if !repaired.never_acknowledged.is_empty() {
        let text = list(&format!("{verb} given up, never acknowledged"), &repaired.never_acknowledged);
        out.line(format_args!("{policy}: {text}"))?;
    }
    for file in &repaired.files {
        let kept = match &file.kept_bytes[..] {
            _ if file.what == "kept" => "as it is".to_owned(),
            [] => "nothing of it".to_owned(),
            pieces => {
                let pieces = pieces.iter().map(|[from, to]| format!("{from}..{to}")).collect::<Vec<_>>();
                format!("bytes {}", pieces.join(", "))
            }
        };
        let len = output::count(file.len_bytes);
        out.line(format_args!("{policy}: {} ({len} bytes) {}: {kept}", file.name, file.what))?;
    }
    for name in &repaired.quarantined {
        out.line(format_args!("{policy}: {name} has what was damaged"))?;
    }
    if !repaired.dry_run {
        out.line("the log opens again; it says at each opening what was lost")?;
    }
    Ok(())
}

fn list(what: &str, ranges: &[Range]) -> String {
    if ranges.is_empty() {
        return format!("no LSN {what}");
    }
    let ranges = ranges.iter().map(|range| format!("{}..={}", range.first_lsn, range.last_lsn));
    format!("LSN {} {what}", ranges.collect::<Vec<_>>().join(", "))
}
