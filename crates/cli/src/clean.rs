//! `braidlog clean`: gives up old segments, on a person's order.
//!
//! The rule: what a checkpoint, a hold or the newest segment needs stays, whatever is asked for; age goes by the
//! timestamps of the records, and is not believed when they lie in the future.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidlog::{KeptBy, Lsn, ReadOnly, SegmentInfo};
use serde::Serialize;

use crate::args::CleanArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `clean --json` prints.
#[derive(Serialize)]
struct Cleaned {
    path: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// Where the log started.
    first_lsn_before: u64,
    /// Where it starts now, or would.
    first_lsn: u64,
    /// The files that went, or would.
    segments: Vec<String>,
    /// Their bytes.
    bytes: u64,
    /// What keeps the oldest segment that is left.
    kept_by: String,
}

/// Runs the subcommand.
pub fn run(args: &CleanArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let first_lsn = log.first_lsn()?;
    let segments = log.segments()?;
    let (needed, by) = log.oldest_needed()?;
    let wanted = wanted(args, &log, &segments)?;
    if let Some(before) = args.before.filter(|&before| before > needed.0) {
        return Err(Failure::Failed(format!(
            "cannot give up what lies below LSN {before}: {by} keeps the log from LSN {needed} on; nothing was done"
        )));
    }
    // The segment that holds the first LSN that stays.
    let from = wanted.min(needed).max(first_lsn);
    let (start, by_transaction) = log.start_if_cut_at(from)?;
    let gone: Vec<&SegmentInfo> = segments.iter().filter(|segment| segment.base < start).collect();
    if !args.dry_run && !gone.is_empty() {
        let wal = log_dir::open_for_change(&args.dir, &args.config)?;
        wal.truncate_before(start)?;
        wal.close()?;
    }
    let kept_by = match by_transaction {
        KeptBy::Limits if wanted > needed => by,
        kept_by => kept_by,
    };
    let cleaned = Cleaned {
        path: args.dir.display().to_string(),
        dry_run: args.dry_run,
        first_lsn_before: first_lsn.0,
        first_lsn: start.0,
        bytes: gone.iter().map(|segment| segment.len_bytes).sum(),
        segments: gone.iter().map(|segment| segment.name.clone()).collect(),
        kept_by: match kept_by {
            KeptBy::Limits => "what was asked for".to_string(),
            other => other.to_string(),
        },
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&cleaned)?;
    } else {
        print(&mut out, &cleaned)?;
    }
    out.flush()
}

/// The first LSN that the order keeps. The newest segment stays.
fn wanted(args: &CleanArgs, log: &ReadOnly, segments: &[SegmentInfo]) -> Result<Lsn, Failure> {
    let Some(newest) = segments.last() else { return Ok(Lsn::FIRST) };
    let mut wanted = Lsn(args.before.unwrap_or(0)).min(newest.base);
    if let Some(keep) = args.keep {
        let place = segments.len().saturating_sub(keep as usize);
        wanted = wanted.max(segments[place.min(segments.len() - 1)].base);
    }
    if let Some(most) = args.max_bytes {
        let mut bytes = 0;
        let kept = segments.iter().rev().take_while(|segment| {
            bytes += segment.len_bytes;
            bytes <= most
        });
        wanted = wanted.max(kept.last().unwrap_or(newest).base);
    }
    if let Some(age) = args.older_than {
        wanted = wanted.max(of_age(age.into(), log, segments)?.unwrap_or(newest.base));
    }
    Ok(wanted)
}

/// The base of the first segment that holds a record younger than `age`; `None` if none does.
pub fn of_age(age: Duration, log: &ReadOnly, segments: &[SegmentInfo]) -> Result<Option<Lsn>, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let newest = |segment: &SegmentInfo| match segment.last {
        Some(last) => Ok(log.read(last)?.map(|record| u128::from(record.timestamp_ns))),
        None => Ok::<_, Failure>(None),
    };
    // Timestamps never decrease: the last one is the highest.
    for segment in segments.iter().rev() {
        let Some(timestamp) = newest(segment)? else { continue };
        if timestamp > now {
            return Err(Failure::Failed(format!(
                "the newest record is from {}, which lies in the future: a clock is wrong or was, and ages say nothing; \
                 nothing was done",
                output::rfc3339(u64::try_from(timestamp).unwrap_or(u64::MAX))
            )));
        }
        break;
    }
    let cutoff = now.saturating_sub(age.as_nanos());
    for segment in segments {
        if newest(segment)?.is_none_or(|timestamp| timestamp >= cutoff) {
            return Ok(Some(segment.base));
        }
    }
    Ok(None)
}

fn print(out: &mut Out, cleaned: &Cleaned) -> Result<(), Failure> {
    for name in &cleaned.segments {
        out.line(format_args!("{} {name}", if cleaned.dry_run { "would remove" } else { "removed" }))?;
    }
    let count = cleaned.segments.len() as u64;
    out.line(format_args!(
        "{}{}, {}; the log {} at LSN {}, kept by {}",
        if cleaned.dry_run { "would give up " } else { "gave up " },
        output::plural(count, "segment"),
        output::bytes(cleaned.bytes),
        if cleaned.dry_run { "would start" } else { "starts" },
        cleaned.first_lsn,
        cleaned.kept_by
    ))
}
