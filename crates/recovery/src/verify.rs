//! Verifying a log: what is asked and what is told.
//!
//! The rule: a problem is what a crash cannot have done; what a crash can have done is a warning at most.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{Kind, Lsn, LsnRange};
use braidlog_storage::LogDir;

use crate::chain::{self, Chain};
use crate::check::check_segments;
use crate::checkpoint::check::check_checkpoints;
use crate::{Damage, DamageCause, Loss, Manifest, RecoveryError, dir};

/// How far a verification has come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Name of the segment that is being read.
    pub segment: String,
    /// Segments that are done.
    pub segments_done: usize,
    /// Segments in all.
    pub segments_total: usize,
    /// Bytes read until now.
    pub bytes_done: u64,
    /// Bytes of all segments, space allocated ahead included; more than will be read.
    pub bytes_total: u64,
    /// Valid records until now.
    pub records: u64,
}

/// Told of each entry.
pub type OnEntry<'a> = dyn FnMut(&EntryVerdict<'_>) + 'a;

/// How a verification goes about it.
pub struct VerifyHow<'a> {
    /// Segments that are read at once, each by a thread of its own.
    pub threads: usize,
    /// Told of each entry, in the order of the log; then one thread reads alone.
    pub on_entry: Option<&'a mut OnEntry<'a>>,
}

/// The verdict on one entry, or on a place where one should stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EntryVerdict<'a> {
    /// Name of the segment.
    pub segment: &'a str,
    /// Where it stands in its file.
    pub offset: u64,
    /// Its LSN; of an entry that takes none, and of a place where none can be read, the next one.
    pub lsn: Lsn,
    /// What it is; `None` if its header does not prove itself.
    pub kind: Option<Kind>,
    /// Bytes of its payload; `None` if its header does not prove itself.
    pub payload_len: Option<u32>,
    /// What is wrong with it; `None` if both checksums, its place and its LSN are right.
    pub damage: Option<DamageCause>,
}

impl EntryVerdict<'_> {
    /// Whether the entry is what was written there.
    pub fn is_valid(&self) -> bool {
        self.damage.is_none()
    }
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments of the log.
    pub segments: usize,
    /// Checkpoints of which every byte is as it was written.
    pub checkpoints: usize,
    /// Valid records.
    pub records: u64,
    /// Whole batches; a record on its own is a batch of one.
    pub batches: u64,
    /// Bytes of entries that were read and checked.
    pub bytes: u64,
    /// The first LSN of the log.
    pub first_lsn: Lsn,
    /// The last LSN of a whole batch that was found valid, [`Lsn::ZERO`] if there is none.
    pub last_lsn: Lsn,
    /// Whether a writer held the log.
    pub live: bool,
    /// How the log ends.
    pub tail: VerifyTail,
    /// LSNs that were given up earlier, and are recorded so.
    pub losses: Vec<Loss>,
    /// Every damaged place.
    pub problems: Vec<Problem>,
    /// What is lawful and worth knowing.
    pub warnings: Vec<Warning>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How a verified log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VerifyTail {
    /// There is no segment.
    Empty,
    /// A seal ends it.
    Sealed,
    /// A whole batch ends it, and nothing but zeros follows.
    Unsealed,
    /// Bytes follow that were never acknowledged; opening for writing will cut them.
    Torn,
    /// A writer is at work there.
    Live,
    /// The last segment is damaged, so that nobody knows.
    Damaged,
}

/// One damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// Name of the file: a segment, the manifest or a checkpoint.
    pub segment: String,
    /// The file offset of the first byte that is not what it should be.
    pub offset: u64,
    /// The LSNs that cannot be had because of it; empty if no record is known to be lost.
    pub lsns: LsnRange,
    /// What is wrong there.
    pub what: DamageCause,
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Problem {
        let Damage { segment, offset, lsns, cause } = damage;
        Problem { segment, offset, lsns, what: cause }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { segment, offset, lsns, what } = self;
        Damage { segment: segment.clone(), offset: *offset, lsns: *lsns, cause: *what }.fmt(f)
    }
}

/// Something lawful that is worth knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The last segment ends with bytes that were never acknowledged; opening for writing cuts them.
    TornTail {
        /// Name of the segment.
        segment: String,
        /// Where the last whole batch ends.
        offset: u64,
        /// Bytes behind it, trailing zeros not counted.
        bytes: u64,
    },
    /// The last segment ends with bytes that were meant to be its seal: a crash interrupted the closing, or
    /// something damaged it afterwards. No record is lost, and opening for writing cuts them.
    UnfinishedSeal {
        /// Name of the segment.
        segment: String,
        /// Where the seal starts.
        offset: u64,
    },
    /// A checkpoint is packed in a way that this build does not know; what is in it was not checked.
    PackedCheckpoint {
        /// Name of its file.
        name: String,
        /// The number of the way; 1 is zstd.
        algorithm: u8,
    },
    /// A name that means nothing here.
    UnknownFile {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::TornTail { segment, offset, bytes } => {
                write!(f, "{segment} has {bytes} bytes behind offset {offset} that were never acknowledged")
            }
            Warning::UnfinishedSeal { segment, offset } => {
                write!(f, "{segment} has no complete seal at offset {offset}; no record is lost")
            }
            Warning::PackedCheckpoint { name, algorithm } => {
                write!(f, "{name} is packed with algorithm {algorithm}, which this build cannot unpack")
            }
            Warning::UnknownFile { name } => write!(f, "{name} is no file of the log"),
        }
    }
}

/// Reads the whole log and checks every byte that means something, past the page cache where the file
/// system can. It never writes, and syncs nothing.
///
/// `progress` is called about once for each MiB.
///
/// # Errors
/// [`RecoveryError::Newer`], [`RecoveryError::Foreign`] and [`RecoveryError::Io`]: what keeps the log from
/// being read at all. Damage is in the report.
pub fn verify(
    dir: &Arc<dyn LogDir>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    verify_with(dir, VerifyHow { threads: 1, on_entry: None }, progress)
}

/// As [`verify`], by several threads, or with a verdict for each entry.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    dir: &Arc<dyn LogDir>,
    how: VerifyHow<'_>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, RecoveryError> {
    let live = dir.is_locked().map_err(RecoveryError::io("query", "LOCK"))?;
    let Inspected { chain, manifest, problems, unknown } = inspect(dir, live)?;
    let report = VerifyReport {
        segments: chain.segments.len(),
        checkpoints: 0,
        records: 0,
        batches: 0,
        bytes: 0,
        first_lsn: manifest.log_start,
        last_lsn: Lsn::ZERO,
        live,
        tail: if problems.is_empty() { VerifyTail::Empty } else { VerifyTail::Damaged },
        losses: Vec::new(),
        problems,
        warnings: unknown.into_iter().map(|name| Warning::UnknownFile { name }).collect(),
    };
    let mut report = check_segments(dir, &chain, &manifest, report, how, progress)?;
    check_checkpoints(dir, &manifest, &mut report)?;
    if report.tail != VerifyTail::Damaged {
        let base = chain.last().map_or(Lsn::FIRST, |last| last.header.base);
        match chain.check_not_started(report.last_lsn.next().max(base)) {
            Err(RecoveryError::Damaged(damage)) => report.problems.push(damage.into()),
            other => drop(other?),
        }
    }
    Ok(report)
}

/// What headers and manifest say.
struct Inspected {
    chain: Chain,
    /// Where it is damaged: one that says no more than that the log starts at its first file.
    manifest: Manifest,
    problems: Vec<Problem>,
    /// Names that mean nothing.
    unknown: Vec<String>,
}

/// The most looks at the headers beside a writer.
const LOOKS_MAX: usize = 32;

/// Beside a writer a problem counts only if it is found twice: a segment may be replaced, or the log truncated, between
/// listing and reading.
fn inspect(dir: &Arc<dyn LogDir>, live: bool) -> Result<Inspected, RecoveryError> {
    let mut before: Option<Vec<Problem>> = None;
    let mut looks = 0;
    loop {
        looks += 1;
        let mut problems = Vec::new();
        let listing = dir::list(dir)?;
        let manifest = match Manifest::load(dir) {
            Err(RecoveryError::Damaged(damage)) => {
                problems.push(damage.into());
                Manifest::starting_at(listing.segments.first().map_or(Lsn::FIRST, |file| file.base))
            }
            loaded => loaded?,
        };
        let chain = chain::inspect(dir, &listing, manifest.log_start, &[], &mut |damage| {
            problems.push(Problem::from(damage));
            Ok(())
        });
        match chain {
            Ok(chain) if !live || problems.is_empty() || before.as_ref() == Some(&problems) => {
                manifest.check_log_id(chain.log_id())?;
                return Ok(Inspected { chain, manifest, problems, unknown: listing.unknown });
            }
            Ok(_) => before = Some(problems),
            Err(RecoveryError::Io { source, .. })
                if live && looks < LOOKS_MAX && source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}
