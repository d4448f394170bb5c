//! Records from the last to the first.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery as recovery;
use braidlog_recovery::{Loss, Record, RecordRef};

use crate::records::open_range;
use crate::{Error, ReadOnly, Result, Wal};

/// A run of records from the last to the first, made by [`Wal::iter_rev`] and [`ReadOnly::iter_rev`].
///
/// Each record is read and checked as [`Records`](crate::Records) does; memory is bounded by what lies between two places of
/// a segment's index, about 128 KiB, and by the largest record. The records of a batch come from the last to the first
/// too. It ends after the first error: the records that were given are right, and what stands before the damage is not shown.
#[must_use = "records are read as they are asked for"]
pub struct ReverseRecords {
    inner: recovery::ReverseRecords,
    path: Arc<Path>,
}

impl ReverseRecords {
    /// LSNs of the range that were given up when the log was [repaired](crate::repair()), as far as the reader has come, from
    /// the last to the first: no record has them, and they were passed over.
    pub fn losses(&self) -> &[Loss] {
        self.inner.losses()
    }

    /// The record before the one that was given last, its payload lent until the next call. `None` at the beginning.
    ///
    /// # Errors
    /// As [`Records::next_ref`](crate::Records::next_ref).
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>>> {
        let ReverseRecords { inner, path } = self;
        Some(inner.next_ref()?.map_err(|error| Error::recovery(path, error)))
    }
}

impl Iterator for ReverseRecords {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let next = self.inner.next();
        next.map(|next| next.map_err(|error| Error::recovery(&self.path, error)))
    }
}

impl FusedIterator for ReverseRecords {}

impl fmt::Debug for ReverseRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseRecords").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Wal {
    /// The records of `range` that are durable now, from the last to the first.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = braidlog::Wal::options().open(dir.path())?;
    /// for name in ["one", "two", "three"] {
    ///     wal.append(name)?;
    /// }
    /// let newest = wal.iter_rev(..)?.next().unwrap()?;
    /// assert_eq!(newest.payload, b"three");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Wal::iter`].
    pub fn iter_rev(&self, range: impl RangeBounds<Lsn>) -> Result<ReverseRecords> {
        self.log.check_open()?;
        let (reader, path) = (&self.log.reader, &self.log.path);
        let inner =
            open_range(reader, path, range, self.durable_lsn(), |from, to| reader.iter_rev(from, to))?;
        Ok(ReverseRecords { inner, path: path.clone() })
    }
}

impl ReadOnly {
    /// The records of `range` that can be read now, from the last to the first.
    ///
    /// # Errors
    /// As [`ReadOnly::iter`].
    pub fn iter_rev(&self, range: impl RangeBounds<Lsn>) -> Result<ReverseRecords> {
        let (reader, path) = (&self.reader, &self.path);
        let inner = open_range(reader, path, range, self.last_lsn()?, |from, to| reader.iter_rev(from, to))?;
        Ok(ReverseRecords { inner, path: path.clone() })
    }
}
