//! `braidlog compress`: makes finished segments smaller, on a person's order.
//!
//! The rule: it is the log's writer while it does so, and nothing is lost whatever ends it. Age goes by the timestamps of the
//! records, as in `clean`.

use braidlog::{Compress, CompressReport, Lsn, SegmentInfo, SegmentState};
use serde::Serialize;

use crate::args::CompressArgs;
use crate::clean;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `compress --json` prints.
#[derive(Serialize)]
struct Compressed {
    path: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// The segments that were looked at, or would be: they are finished, and were not compressed.
    segments: Vec<String>,
    /// Bytes of their files before.
    bytes: u64,
    /// What was done; left out in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Done>,
}

/// What was done.
#[derive(Serialize)]
struct Done {
    compressed: usize,
    /// Bytes of the files of these before.
    plain_bytes: u64,
    /// And now.
    compressed_bytes: u64,
    /// Segments that stay as they are.
    kept: Vec<Kept>,
    /// What is damaged, one line each.
    damaged: Vec<String>,
    seconds: f64,
}

/// A segment that stays as it is.
#[derive(Serialize)]
struct Kept {
    /// Its base LSN.
    base: u64,
    why: String,
}

/// Runs the subcommand.
pub fn run(args: &CompressArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let segments = log.segments()?;
    let before = match args.older_than {
        Some(age) => clean::of_age(age.into(), &log, &segments)?,
        None => None,
    };
    let wanted: Vec<&SegmentInfo> = wanted(&segments, before).collect();
    let mut compressed = Compressed {
        path: args.dir.display().to_string(),
        dry_run: args.dry_run,
        bytes: wanted.iter().map(|segment| segment.len_bytes).sum(),
        segments: wanted.iter().map(|segment| segment.name.clone()).collect(),
        done: None,
    };
    drop(log);
    if !args.dry_run {
        compressed.done = Some(Done::from(compress(args, before)?));
    }
    let mut out = Out::stdout();
    if args.json {
        out.json(&compressed)?;
    } else {
        print(&mut out, &compressed)?;
    }
    out.flush()?;
    let is_damaged = compressed.done.is_some_and(|done| !done.damaged.is_empty());
    if is_damaged { Err(Failure::Found) } else { Ok(()) }
}

/// The segments that are finished and not compressed, all of whose records lie below `before`. The last one of a log
/// that nobody writes is finished, too.
fn wanted(segments: &[SegmentInfo], before: Option<Lsn>) -> impl Iterator<Item = &SegmentInfo> {
    segments.iter().filter(move |segment| {
        let is_below = |last: Lsn| before.is_none_or(|before| last < before);
        segment.state == SegmentState::Finished && !segment.compressed && segment.last.is_some_and(is_below)
    })
}

fn compress(args: &CompressArgs, before: Option<Lsn>) -> Result<CompressReport, Failure> {
    let wal = log_dir::open_for_change(&args.dir, &args.config)?;
    let how = args.level.map_or(Compress::new(), |level| Compress::new().level(level));
    let how = before.map_or(how, |before| how.before(before));
    let bar = output::progress(Some(0));
    let report = wal.compress_with(how, |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    });
    bar.finish_and_clear();
    let report = report?;
    wal.close()?;
    Ok(report)
}

impl From<CompressReport> for Done {
    fn from(report: CompressReport) -> Done {
        Done {
            compressed: report.compressed,
            plain_bytes: report.plain_bytes,
            compressed_bytes: report.compressed_bytes,
            kept: report
                .kept
                .iter()
                .map(|kept| Kept { base: kept.base.0, why: kept.why.to_string() })
                .collect(),
            damaged: report.damaged.iter().map(ToString::to_string).collect(),
            seconds: report.duration.as_secs_f64(),
        }
    }
}

fn print(out: &mut Out, compressed: &Compressed) -> Result<(), Failure> {
    let Some(done) = &compressed.done else {
        for name in &compressed.segments {
            out.line(format_args!("would compress {name}"))?;
        }
        return out.line(format_args!(
            "would compress {}, {}",
            output::plural(compressed.segments.len() as u64, "segment"),
            output::bytes(compressed.bytes)
        ));
    };
    for problem in &done.damaged {
        out.line(format_args!("damaged, and left as it is: {problem}"))?;
    }
    for Kept { base, why } in &done.kept {
        out.line(format_args!("left the segment from LSN {base} on as it was: {why}"))?;
    }
    out.line(format_args!(
        "compressed {}, {} to {}, in {:.1} s",
        output::plural(done.compressed as u64, "segment"),
        output::bytes(done.plain_bytes),
        output::bytes(done.compressed_bytes),
        done.seconds
    ))?;
    Ok(())
}
