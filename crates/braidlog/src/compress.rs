//! Compressing finished segments: by itself, as an option says, or on order.
//!
//! The rule: nothing is lost by it. A compressed segment is written beside the original, synced, read back and compared,
//! and only then the original goes; to every reader both are the same.

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
    /// Segments that stay as they are because they would not be smaller by a sixteenth, or are larger than can be
    /// compressed (2.5 GiB).
    pub kept: usize,
    /// What is damaged, so that its segment stays as it is.
    pub damaged: Vec<Problem>,
    /// How long it took.
    pub duration: Duration,
}

/// # Compression
impl Wal {
    /// Compresses every finished segment that is not compressed yet, on this thread; the one under the pen is none.
    /// Appends go on meanwhile, and so do readers, in this process and in others. Every entry is checked on the way. What
    /// is damaged stays as it is, and is told in the report.
    ///
    /// The segments then are files that end in `.walz`, which whatever reads the log reads, if it is built with the cargo
    /// feature `zstd`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) in a build without the cargo feature `zstd`;
    /// [`Closed`](crate::ErrorKind::Closed), also when the log is closed meanwhile; [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace) from the system. Nothing is lost by any of them.
    pub fn compress(&self) -> Result<CompressReport> {
        self.compress_with(Compress::new(), |_| ())
    }

    /// As [`Wal::compress`], of the segments that `how` says, and tells how far it is. `progress` must not compress itself.
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
        let _inside = self.log.enter()?;
        self.log.upkeep.compress_now(&self.log, how.before, pack, &mut progress)
    }
}
