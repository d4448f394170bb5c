//! Compressing finished segments: by itself, as an option says, or on order.
//!
//! The rule: nothing is lost by it. A compressed segment is written beside the original, synced, read back and compared,
//! and only then the original goes; to every reader both are the same.

use std::fmt;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::{PackHow, Problem};

use crate::{Error, Result, Wal};

/// Whether a log compresses its finished segments by itself, and when:
/// [`Options::compression`](crate::Options#structfield.compression).
///
/// It is the maintenance thread that does it, at half of its time, in steps between which files ahead of need are
/// prepared. Age is time during which the log was open for writing, as with [`Retention::age`](crate::Retention).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Never.
    #[default]
    Off,
    /// When a segment has been finished for so long.
    AfterAge(Duration),
    /// As soon as a segment is finished.
    AtOnce,
}

impl Compression {
    /// The age at which a segment is compressed; `None` for never.
    pub(crate) fn age(self) -> Option<Duration> {
        match self {
            Compression::Off => None,
            Compression::AfterAge(age) => Some(age),
            Compression::AtOnce => Some(Duration::ZERO),
        }
    }
}

/// Which segments [`Wal::compress_with`] compresses, and how well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Compress {
    /// Only segments all of whose records lie below this LSN. Default: every finished one.
    pub before: Option<Lsn>,
    /// The level of zstd, 1 to 19, in place of the log's own
    /// [`compression_level`](crate::Options#structfield.compression_level).
    pub level: Option<i32>,
}

impl Compress {
    /// All finished segments, at the log's own level.
    #[must_use]
    pub const fn new() -> Compress {
        Compress { before: None, level: None }
    }

    /// Sets [`before`](Compress#structfield.before).
    #[must_use]
    pub const fn before(self, before: Lsn) -> Compress {
        Compress { before: Some(before), ..self }
    }

    /// Sets [`level`](Compress#structfield.level).
    #[must_use]
    pub const fn level(self, level: i32) -> Compress {
        Compress { level: Some(level), ..self }
    }
}

/// How far [`Wal::compress_with`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CompressProgress {
    /// The base LSN of the segment that is being compressed.
    pub segment: Lsn,
    /// Bytes that were gone through: each of a segment twice, to write it and to compare.
    pub bytes_done: u64,
    /// Bytes that will be.
    pub bytes_total: u64,
}

/// What [`Wal::compress_with`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CompressReport {
    /// Segments that were compressed.
    pub compressed: usize,
    /// Bytes of their files before.
    pub plain_bytes: u64,
    /// Bytes of their files now.
    pub compressed_bytes: u64,
    /// Segments that stay as they are, and why.
    pub kept: Vec<KeptSegment>,
    /// What is damaged, so that its segment stays as it is.
    pub damaged: Vec<Problem>,
    /// How long it took.
    pub duration: Duration,
}

/// A segment that stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeptSegment {
    /// Its base LSN.
    pub base: Lsn,
    /// Why.
    pub why: WhyKept,
}

/// Why a segment stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum WhyKept {
    /// It would not be smaller by a sixteenth.
    NotSmaller,
    /// It is larger than can be compressed: 2.5 GiB. A smaller [`segment_size`](crate::Options#structfield.segment_size) makes
    /// those to come small enough.
    TooLarge,
    /// The log gave it up, or somebody else compressed it, meanwhile.
    Gone,
}

impl fmt::Display for WhyKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyKept::NotSmaller => "it would not be smaller by a sixteenth",
            WhyKept::TooLarge => "it is larger than can be compressed, which is 2.5 GiB",
            WhyKept::Gone => "it was given up or compressed meanwhile",
        })
    }
}

/// # Compression
impl Wal {
    /// Compresses every finished segment that is not compressed yet, on this thread; the one under the pen is none.
    /// Appends go on meanwhile, and so do readers, in this process and in others. Every entry is checked on the way. What
    /// is damaged stays as it is, and is told in the report; so does a segment of more than 2.5 GiB.
    ///
    /// The segments then are files that end in `.walz`, which whatever reads the log reads, if it is built with the cargo
    /// feature `zstd`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) in a build without the cargo feature `zstd`;
    /// [`Closed`](crate::ErrorKind::Closed), also when the log is closed meanwhile; [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace) from the system. Nothing is lost by any of them. `InvalidInput` also on a thread
    /// for which others may be waiting, and which would wait for them: in the progress of a compression, and while it writes a
    /// checkpoint.
    pub fn compress(&self) -> Result<CompressReport> {
        self.compress_with(Compress::new(), |_| ())
    }

    /// As [`Wal::compress`], of the segments that `how` says, and tells how far it is. `progress` may call the log; what would have to
    /// wait for this compression to end is refused there: another one, [`Wal::maintain`], [`Wal::close`].
    ///
    /// # Errors
    /// As [`Wal::compress`]; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a level that there is not, too.
    pub fn compress_with(
        &self,
        how: Compress,
        mut progress: impl FnMut(CompressProgress),
    ) -> Result<CompressReport> {
        let level = how.level.unwrap_or(self.log.upkeep.plan.compression_level);
        crate::options::level("level", level)?;
        if !cfg!(feature = "zstd") {
            let what = "this build cannot compress segments: build it with the cargo feature `zstd`";
            return Err(Error::refused(&self.log.path, what.to_owned()));
        }
        let pack = PackHow { level, ..PackHow::default() };
        self.log.upkeep.compress_now(&self.log, how.before, pack, &mut progress)
    }
}
