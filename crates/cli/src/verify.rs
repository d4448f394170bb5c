//! `braidlog verify`: reads every byte of a log and tells each thing that is wrong, one a line.
//!
//! It never writes: whatever there is to see stays as it is for whoever looks next. Exit code 1 if there is
//! damage.

use braidlog::{EntryVerdict, Lsn, VerifyProgress, VerifyReport};
use serde::Serialize;

use crate::args::VerifyArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `verify --json` prints.
#[derive(Serialize)]
struct Verdict {
    path: String,
    clean: bool,
    segments: u64,
    records: u64,
    batches: u64,
    bytes: u64,
    /// 0 in an empty log, as `last_lsn`.
    first_lsn: u64,
    last_lsn: u64,
    /// Whether a process has the log open for writing: what it has not synced yet was not judged.
    live: bool,
    /// What earlier repairs gave up.
    losses: Vec<String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// What `verify --entries --json` prints for each entry.
#[derive(Serialize)]
struct Entry<'a> {
    segment: &'a str,
    offset: u64,
    lsn: u64,
    /// Left out if the entry's header does not prove itself, as `len`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u32>,
    valid: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

/// One thing that is wrong.
#[derive(Serialize)]
struct Problem {
    segment: String,
    offset: u64,
    /// The first LSN that cannot be had because of it; left out if no record is known to be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_lsn: Option<u64>,
    /// The last one; left out if nobody knows where the loss ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_lsn: Option<u64>,
    what: String,
}

/// Runs the subcommand.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    log_dir::require_log(&args.dir)?;
    let bar = output::progress(Some(0));
    let told = |progress: VerifyProgress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    };
    let mut out = Out::stdout();
    let checked = if args.entries {
        let mut printed = Ok(());
        let checked = braidlog::verify_entries(
            &args.dir,
            |entry| {
                if printed.is_ok() {
                    printed = print_entry(&mut out, entry, args.json);
                }
            },
            told,
        );
        printed?;
        checked
    } else {
        braidlog::verify_with(&args.dir, told)
    };
    bar.finish_and_clear();
    let verdict = Verdict::new(args.dir.display().to_string(), checked?);
    if args.json {
        out.json(&verdict)?;
    } else {
        print(&mut out, &verdict)?;
    }
    out.flush()?;
    if verdict.clean { Ok(()) } else { Err(Failure::Found) }
}

impl Verdict {
    fn new(path: String, report: VerifyReport) -> Verdict {
        Verdict {
            path,
            clean: report.is_clean(),
            segments: report.segments as u64,
            records: report.records,
            batches: report.batches,
            bytes: report.bytes,
            first_lsn: report.first_lsn.0.min(report.last_lsn.0),
            last_lsn: report.last_lsn.0,
            live: report.live,
            losses: report.losses.iter().map(ToString::to_string).collect(),
            problems: report.problems.into_iter().map(Problem::from).collect(),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<braidlog::Problem> for Problem {
    fn from(problem: braidlog::Problem) -> Problem {
        let lost = Some(problem.lsns).filter(|lsns| !lsns.is_empty());
        Problem {
            first_lsn: lost.map(|lsns| lsns.first.0),
            last_lsn: lost.map(|lsns| lsns.last).filter(|last| *last != Lsn::MAX).map(Lsn::get),
            segment: problem.segment,
            offset: problem.offset,
            what: problem.what.to_string(),
        }
    }
}

impl Problem {
    fn lost(&self) -> String {
        match (self.first_lsn, self.last_lsn) {
            (None, _) => "no record is lost".to_string(),
            (Some(first), None) => format!("LSN {first} and those after it"),
            (Some(first), Some(last)) => format!("LSN {first}..={last}"),
        }
    }
}

fn print_entry(out: &mut Out, entry: &EntryVerdict<'_>, json: bool) -> Result<(), Failure> {
    let what = entry.damage.map(|damage| damage.to_string());
    if json {
        return out.json(&Entry {
            segment: entry.segment,
            offset: entry.offset,
            lsn: entry.lsn.0,
            kind: entry.kind.map(|kind| kind.0),
            len: entry.payload_len,
            valid: entry.is_valid(),
            what,
        });
    }
    let kind = match entry.kind {
        None => "?".to_owned(),
        Some(kind) => kind.name().map_or_else(|| kind.0.to_string(), str::to_owned),
    };
    let len = entry.payload_len.map_or("?".to_owned(), |len| len.to_string());
    out.line(format_args!(
        "{} {} LSN {} kind {kind} {len} bytes: {}",
        entry.segment,
        entry.offset,
        entry.lsn,
        what.as_deref().unwrap_or("valid")
    ))
}

fn print(out: &mut Out, verdict: &Verdict) -> Result<(), Failure> {
    for loss in &verdict.losses {
        out.line(format_args!("lost earlier: {loss}"))?;
    }
    for problem in &verdict.problems {
        out.line(format_args!(
            "damaged: {} at byte {} ({}): {}",
            problem.segment,
            problem.offset,
            problem.lost(),
            problem.what
        ))?;
    }
    for warning in &verdict.warnings {
        out.line(format_args!("warning: {warning}"))?;
    }
    let range = match verdict.records {
        0 => "no LSN".to_string(),
        _ => format!("LSN {}..={}", verdict.first_lsn, verdict.last_lsn),
    };
    out.line(format_args!(
        "{}: {} in {}, {}, {range}{}",
        if verdict.clean {
            "clean".to_string()
        } else {
            output::plural(verdict.problems.len() as u64, "problem")
        },
        output::plural(verdict.records, "record"),
        output::plural(verdict.segments, "segment"),
        output::bytes(verdict.bytes),
        if verdict.live { " (open for writing; up to its last sync)" } else { "" }
    ))?;
    if !verdict.clean {
        out.line(
            "the files are as they were; restore them from a backup, or copy them and see what `braidlog repair --dry-run` would keep",
        )?;
    }
    Ok(())
}
