//! Records in LSN order, streamed from the segments with bounded memory.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery as recovery;
use braidlog_recovery::{LogReader, ReadAhead, Record, RecordRef};

use crate::{Error, Result};

/// A run of records, in LSN order and without a gap.
///
/// As an iterator it gives records that own their payload; [`Records::next_ref`] lends each payload from the
/// reader's buffer instead. It ends after the first error: the records before it are right, and what
/// follows the damage is not shown.
#[must_use = "records are read as they are asked for"]
pub struct Records {
    /// `None` for a range without records.
    inner: Option<recovery::Records>,
    path: Arc<Path>,
}

impl Records {
    /// The part of `range` that is at most `visible`.
    pub(crate) fn open(
        reader: &LogReader,
        path: &Arc<Path>,
        range: impl RangeBounds<Lsn>,
        visible: Lsn,
    ) -> Result<Records> {
        let inner = match clamp(range, visible) {
            Some((from, to)) => Some(reader.iter(from, to).map_err(|error| Error::recovery(path, error))?),
            None => None,
        };
        Ok(Records { inner, path: path.clone() })
    }

    /// Lets other threads read ahead of the caller.
    pub(crate) fn read_ahead(self, how: ReadAhead) -> Records {
        Records { inner: self.inner.map(|inner| inner.read_ahead(how)), path: self.path }
    }

    /// The next record, its payload lent until the next call. `None` at the end.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) where an acknowledged record cannot be read back;
    /// [`Newer`](crate::ErrorKind::Newer) for an entry that this version does not know;
    /// [`Io`](crate::ErrorKind::Io) from the system.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>>> {
        let Records { inner, path } = self;
        match inner.as_mut()?.next_ref()? {
            Ok(record) => Some(Ok(record)),
            Err(error) => Some(Err(Error::recovery(path, error))),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let next = self.inner.as_mut()?.next();
        next.map(|next| next.map_err(|error| Error::recovery(&self.path, error)))
    }
}

impl FusedIterator for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("path", &self.path).finish_non_exhaustive()
    }
}

/// First and last LSN of `range` within `1..=visible`; `None` if there is none.
fn clamp(range: impl RangeBounds<Lsn>, visible: Lsn) -> Option<(Lsn, Lsn)> {
    let from = match range.start_bound() {
        Bound::Included(&lsn) => lsn,
        Bound::Excluded(&lsn) => Lsn(lsn.0.checked_add(1)?),
        Bound::Unbounded => Lsn::FIRST,
    };
    let to = match range.end_bound() {
        Bound::Included(&lsn) => lsn,
        Bound::Excluded(&lsn) => lsn.prev(),
        Bound::Unbounded => visible,
    };
    let (from, to) = (from.max(Lsn::FIRST), to.min(visible));
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_clamped_to_what_is_visible() {
        let visible = Lsn(10);
        assert_eq!(clamp(.., visible), Some((Lsn(1), Lsn(10))));
        assert_eq!(clamp(Lsn(0).., visible), Some((Lsn(1), Lsn(10))));
        assert_eq!(clamp(Lsn(3)..=Lsn(5), visible), Some((Lsn(3), Lsn(5))));
        assert_eq!(clamp(Lsn(3)..Lsn(5), visible), Some((Lsn(3), Lsn(4))));
        assert_eq!(clamp(Lsn(3)..=Lsn(50), visible), Some((Lsn(3), Lsn(10))));
        assert_eq!(clamp((Bound::Excluded(Lsn(3)), Bound::Unbounded), visible), Some((Lsn(4), Lsn(10))));
        assert_eq!(clamp(Lsn(11).., visible), None);
        assert_eq!(clamp(Lsn(5)..Lsn(5), visible), None);
        assert_eq!(clamp(..Lsn(0), visible), None);
        assert_eq!(clamp(.., Lsn::ZERO), None);
        assert_eq!(clamp((Bound::Excluded(Lsn(u64::MAX)), Bound::Unbounded), visible), None);
    }
}
