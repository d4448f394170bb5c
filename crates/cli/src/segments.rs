//! `braidlog segments`: the files that make up a log, in LSN order.

use braidlog::SegmentInfo;
use serde::Serialize;

use crate::args::FactArgs;
use crate::failure::Failure;
use crate::log_dir;
use crate::output::{self, Out};

/// One segment in `segments --json`, which prints an array of them.
#[derive(Serialize)]
struct Segment {
    name: String,
    /// The first LSN, which the segment has or will have.
    base_lsn: u64,
    /// Left out in a segment that holds no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_lsn: Option<u64>,
    records: u64,
    /// Bytes of the file, with what a writer has laid ahead of its pen.
    bytes: u64,
    /// Bytes of the file when it is not compressed.
    plain_bytes: u64,
    /// Whether it is compressed.
    compressed: bool,
    /// Whether a seal ends it: it is complete.
    sealed: bool,
    incarnation: u64,
    /// RFC 3339.
    created: String,
}

impl From<SegmentInfo> for Segment {
    fn from(info: SegmentInfo) -> Segment {
        Segment {
            base_lsn: info.base.0,
            last_lsn: info.last.map(|last| last.0),
            records: info.last.map_or(0, |last| (last.0 + 1).saturating_sub(info.base.0)),
            bytes: info.len_bytes,
            plain_bytes: info.plain_bytes,
            compressed: info.compressed,
            sealed: info.sealed,
            incarnation: info.incarnation.0,
            created: output::rfc3339(info.created_at_ns),
            name: info.name,
        }
    }
}

/// Runs the subcommand.
pub fn run(args: &FactArgs) -> Result<(), Failure> {
    let log = log_dir::open(&args.dir)?;
    let segments: Vec<Segment> = log.segments()?.into_iter().map(Segment::from).collect();
    let mut out = Out::stdout();
    if args.json {
        out.json(&segments)?;
        return out.flush();
    }
    out.line(format_args!(
        "{:<25} {:>12} {:>12} {:>12} {:>12} {:>12} {:>6} {:>11}  created",
        "name", "first LSN", "last LSN", "records", "bytes", "plain bytes", "sealed", "incarnation"
    ))?;
    for segment in &segments {
        out.line(format_args!(
            "{:<25} {:>12} {:>12} {:>12} {:>12} {:>12} {:>6} {:>11}  {}",
            segment.name,
            segment.base_lsn,
            segment.last_lsn.map_or_else(|| "-".to_string(), |last| last.to_string()),
            segment.records,
            segment.bytes,
            segment.plain_bytes,
            if segment.sealed { "yes" } else { "no" },
            segment.incarnation,
            segment.created
        ))?;
    }
    out.flush()
}
