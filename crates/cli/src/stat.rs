//! `braidlog stat`: what a log holds, on one screen.

use std::path::Path;

use serde::Serialize;

use crate::args::FactArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// What `stat --json` prints.
#[derive(Serialize)]
struct Stat {
    path: String,
    /// Whether a process has the log open for writing.
    live: bool,
    /// How many times the log has been opened for writing.
    incarnation: u64,
    /// 0 in an empty log, as `last_lsn`.
    first_lsn: u64,
    last_lsn: u64,
    records: u64,
    segments: usize,
    /// Segments that end with a seal: they are complete.
    sealed_segments: usize,
    /// Bytes of the segment files, with what a writer has laid ahead of its pen.
    bytes: u64,
    /// Segments that are compressed.
    compressed_segments: usize,
    /// Bytes of the segment files when none is compressed.
    plain_bytes: u64,
    /// When the oldest segment was created, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// When the newest segment was created, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_segment: Option<String>,
    /// LSNs that repairs gave up, in LSN order.
    losses: Vec<Loss>,
    /// Tails that recovery cut off and kept.
    torn_files: Vec<String>,
}

/// LSNs that were given up.
#[derive(Serialize)]
struct Loss {
    first_lsn: u64,
    last_lsn: u64,
    /// The opening of the log that gave them up.
    incarnation: u64,
    /// What was found where.
    account: String,
}

/// Runs the subcommand.
pub fn run(args: &FactArgs) -> Result<(), Failure> {
    let stat = look(&args.dir)?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&stat)?;
    } else {
        print(&mut out, &stat)?;
    }
    out.flush()
}

fn look(dir: &Path) -> Result<Stat, Failure> {
    let log = log_dir::open(dir)?;
    let live = log.is_live()?;
    let last_lsn = log.last_lsn()?.0;
    let segments = log.segments()?;
    let first_lsn = segments.first().map_or(1, |first| first.base.0);
    // A segment that was created but holds nothing durable yet does not make the log longer.
    let records = (last_lsn + 1).saturating_sub(first_lsn);
    Ok(Stat {
        path: dir.display().to_string(),
        live,
        incarnation: segments.iter().map(|segment| segment.incarnation.0).max().unwrap_or(0),
        first_lsn: first_lsn.min(last_lsn),
        last_lsn,
        records,
        segments: segments.len(),
        sealed_segments: segments.iter().filter(|segment| segment.sealed).count(),
        bytes: segments.iter().map(|segment| segment.len_bytes).sum(),
        compressed_segments: segments.iter().filter(|segment| segment.compressed).count(),
        plain_bytes: segments.iter().map(|segment| segment.plain_bytes).sum(),
        created: segments.first().map(|segment| output::rfc3339(segment.created_at_ns)),
        newest_segment: segments.last().map(|segment| output::rfc3339(segment.created_at_ns)),
        losses: log.losses()?.into_iter().map(Loss::from).collect(),
        torn_files: log_dir::names(dir)?.into_iter().filter(|name| name.ends_with(".torn")).collect(),
    })
}

impl From<braidlog::Loss> for Loss {
    fn from(loss: braidlog::Loss) -> Loss {
        let braidlog::Loss { lsns, incarnation, account, .. } = loss;
        Loss { first_lsn: lsns.first.0, last_lsn: lsns.last.0, incarnation: incarnation.0, account }
    }
}

fn print(out: &mut Out, stat: &Stat) -> Result<(), Failure> {
    out.line(format_args!("path         {}", stat.path))?;
    out.line(format_args!(
        "state        {}",
        if stat.live { "open for writing" } else { "not open for writing" }
    ))?;
    out.line(format_args!("incarnation  {}", stat.incarnation))?;
    match stat.records {
        0 => out.line("records      none")?,
        n => out.line(format_args!(
            "records      {}, LSN {}..={}",
            output::count(n),
            stat.first_lsn,
            stat.last_lsn
        ))?,
    }
    out.line(format_args!(
        "segments     {}, {} of them sealed, {}",
        stat.segments,
        stat.sealed_segments,
        output::bytes(stat.bytes)
    ))?;
    if stat.compressed_segments > 0 {
        out.line(format_args!(
            "compressed   {} of them, {} without",
            stat.compressed_segments,
            output::bytes(stat.plain_bytes)
        ))?;
    }
    if let (Some(oldest), Some(newest)) = (&stat.created, &stat.newest_segment) {
        out.line(format_args!("created      {oldest}"))?;
        out.line(format_args!("newest file  {newest}"))?;
    }
    for Loss { first_lsn, last_lsn, incarnation, account } in &stat.losses {
        out.line(format_args!(
            "lost         LSN {first_lsn}..={last_lsn}, given up by opening {incarnation}: {account}"
        ))?;
    }
    for name in &stat.torn_files {
        out.line(format_args!("torn tail    {name}, cut off by recovery and kept"))?;
    }
    Ok(())
}
