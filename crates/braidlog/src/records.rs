//! Records of the log's history or of its effects, streamed from the segments with bounded memory.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery as recovery;
use braidlog_recovery::{DamagedLog, LogReader, Loss, Progress, ReadAhead, Record, RecordRef, RecoveryError};

use crate::{Error, Result};

/// A run of records, without a gap but for what was [given up](Records::losses): of the log's history, in LSN order
/// ([`Wal::iter`](crate::Wal::iter)); or of its effects, in the order in which they are taken ([`Wal::replay`](crate::Wal::replay)):
/// [`RecordRef::effective_at`] never decreases, and the records of one transaction come together.
///
/// As an iterator it gives records that own their payload; [`Records::next_ref`] lends each payload from the
/// reader's buffer instead. It ends after the first error: the records before it are right, and what
/// follows the damage is not shown.
#[must_use = "records are read as they are asked for"]
pub struct Records {
    inner: recovery::Records,
    path: Arc<Path>,
}

impl Records {
    /// The part of `range` that is at most `visible`. A range without a start begins where the log does.
    pub(crate) fn open(
        reader: &LogReader,
        path: &Arc<Path>,
        range: impl RangeBounds<Lsn>,
        visible: Lsn,
    ) -> Result<Records> {
        let inner = open_range(reader, path, range, visible, |from, to| reader.iter(from, to))?;
        Ok(Records { inner, path: path.clone() })
    }

    /// The part of `range` that a policy keeps of a damaged log.
    pub(crate) fn of_damaged(log: &DamagedLog, path: &Arc<Path>, range: impl RangeBounds<Lsn>) -> Records {
        let (from, to) = clamp(&range, log.first_lsn(), log.last_lsn());
        Records { inner: log.iter(from, to), path: path.clone() }
    }

    /// Gives effects in place of the history, and holds records of open transactions in so many bytes.
    pub(crate) fn effects(self, held_bytes: usize) -> Records {
        Records { inner: self.inner.effects_holding(held_bytes), path: self.path }
    }

    /// Of a range that is a TxPrepare alone: what takes effect if that transaction is committed.
    pub(crate) fn of_prepared(self) -> Result<Records> {
        let Records { inner, path } = self;
        let inner = inner.of_prepared().map_err(|error| Error::recovery(&path, error))?;
        Ok(Records { inner, path })
    }

    /// Gives only the records of the [stream](crate::Stream) with this number. All others are read and passed over.
    #[must_use = "the records are given by what this returns"]
    pub fn of_stream(self, id: u64) -> Records {
        Records { inner: self.inner.of_stream(id), path: self.path }
    }

    /// Lets other threads read ahead of the caller.
    pub(crate) fn read_ahead(self, how: ReadAhead) -> Records {
        Records { inner: self.inner.read_ahead(how), path: self.path }
    }

    /// Tells how far the caller is.
    pub(crate) fn progress(self, how: Option<Progress>) -> Records {
        let Records { inner, path } = self;
        Records { inner: if let Some(how) = how { inner.progress(how) } else { inner }, path }
    }

    /// The records, and the log's path for their errors.
    pub(crate) fn into_inner(self) -> (Arc<Path>, recovery::Records) {
        (self.path, self.inner)
    }

    /// The LSN up to which all was given, before the first record the one before the range. Who has applied what he was given, and
    /// notes this with the state, goes on behind it another time: `wal.iter(applied_to.next()..)`, or the same as the
    /// [`Replay::range`](crate::Replay::range) of a replay. While the records of a [streaming
    /// transaction](crate::StreamingTransaction) are given it stands before the transaction's commit: whoever stops there gets all
    /// of them again.
    pub fn applied_to(&self) -> Lsn {
        self.inner.applied_to()
    }

    /// LSNs of the range that were given up when the log was [repaired](crate::repair()), as far as the reader has come: no
    /// record has them, and they were passed over.
    pub fn losses(&self) -> &[Loss] {
        self.inner.losses()
    }

    /// The next record, its payload lent until the next call. `None` at the end.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) where an acknowledged record cannot be read back;
    /// [`Newer`](crate::ErrorKind::Newer) for an entry that this version does not know;
    /// [`Truncated`](crate::ErrorKind::Truncated) if another process, which writes the log, has truncated it beyond the
    /// next record; [`Io`](crate::ErrorKind::Io) from the system.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>>> {
        match self.next_beside_path()? {
            Ok((_, record)) => Some(Ok(record)),
            Err(error) => Some(Err(error)),
        }
    }

    /// As [`next_ref`](Records::next_ref), and the path of the log, for an error that the caller may find.
    #[inline]
    pub(crate) fn next_beside_path(&mut self) -> Option<Result<(&Arc<Path>, RecordRef<'_>)>> {
        let Records { inner, path } = self;
        match inner.next_ref()? {
            Ok(record) => Some(Ok((path, record))),
            Err(error) => Some(Err(Error::recovery(path, error))),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let next = self.inner.next();
        next.map(|next| next.map_err(|error| Error::recovery(&self.path, error)))
    }
}

impl FusedIterator for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("path", &self.path)
            .field("applied_to", &self.applied_to())
            .finish_non_exhaustive()
    }
}

/// Opens what `open` makes of the part of `range` that is at most `visible`. A range without a start begins where the log
/// does.
pub(crate) fn open_range<T>(
    reader: &LogReader,
    path: &Arc<Path>,
    range: impl RangeBounds<Lsn>,
    visible: Lsn,
    open: impl Fn(Lsn, Lsn) -> Result<T, RecoveryError>,
) -> Result<T> {
    let mut first = reader.first_lsn();
    loop {
        let (from, to) = clamp(&range, first, visible);
        match open(from, to) {
            Ok(opened) => return Ok(opened),
            // The log was truncated just now.
            Err(RecoveryError::Truncated { first_lsn })
                if matches!(range.start_bound(), Bound::Unbounded) && first_lsn > first =>
            {
                first = first_lsn;
            }
            Err(error) => return Err(Error::recovery(path, error)),
        }
    }
}

/// First and last LSN of `range` within `1..=visible`, from `first` on if it has no start; the last below the first if
/// there is none.
fn clamp(range: &impl RangeBounds<Lsn>, first: Lsn, visible: Lsn) -> (Lsn, Lsn) {
    let from = match range.start_bound() {
        Bound::Included(&lsn) => lsn,
        Bound::Excluded(&lsn) => Lsn(lsn.0.saturating_add(1)),
        Bound::Unbounded => first,
    };
    let to = match range.end_bound() {
        Bound::Included(&lsn) => lsn,
        Bound::Excluded(&lsn) => lsn.prev(),
        Bound::Unbounded => visible,
    };
    (from.max(Lsn::FIRST), to.min(visible))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_clamped_to_what_is_visible() {
        fn clamped(range: impl RangeBounds<Lsn>) -> Option<(Lsn, Lsn)> {
            Some(clamp(&range, Lsn(1), Lsn(10))).filter(|(from, to)| from <= to)
        }
        assert_eq!(clamped(..), Some((Lsn(1), Lsn(10))));
        assert_eq!(clamped(Lsn(0)..), Some((Lsn(1), Lsn(10))));
        assert_eq!(clamped(Lsn(3)..=Lsn(5)), Some((Lsn(3), Lsn(5))));
        assert_eq!(clamped(Lsn(3)..Lsn(5)), Some((Lsn(3), Lsn(4))));
        assert_eq!(clamped(Lsn(3)..=Lsn(50)), Some((Lsn(3), Lsn(10))));
        assert_eq!(clamped((Bound::Excluded(Lsn(3)), Bound::Unbounded)), Some((Lsn(4), Lsn(10))));
        assert_eq!(clamped(Lsn(11)..), None);
        assert_eq!(clamped(Lsn(5)..Lsn(5)), None);
        assert_eq!(clamped(..Lsn(0)), None);
        assert_eq!(clamp(&(..), Lsn(1), Lsn::ZERO), (Lsn(1), Lsn(0)));
        assert_eq!(clamped((Bound::Excluded(Lsn(u64::MAX)), Bound::Unbounded)), None);
    }

    #[test]
    fn a_range_without_a_start_begins_where_the_log_does() {
        assert_eq!(clamp(&(..), Lsn(4), Lsn(10)), (Lsn(4), Lsn(10)));
        assert_eq!(clamp(&(..=Lsn(3)), Lsn(4), Lsn(10)), (Lsn(4), Lsn(3)));
        // Who names a record gets it, or the error that it is gone.
        assert_eq!(clamp(&(Lsn(2)..), Lsn(4), Lsn(10)), (Lsn(2), Lsn(10)));
    }
}
