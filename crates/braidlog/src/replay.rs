//! How a log is replayed: which records, by how many threads, in how much memory, and who is told how far it is.
//!
//! The rule: none of this changes which records are given, in which order, or what is called damaged and where.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::thread;

use braidlog_format::Lsn;
use braidlog_recovery::{Progress, ReadAhead, ReplayProgress};
use braidlog_storage::Clock;

use crate::options::within;
use crate::{Result, Target};

/// Bytes of the buffer of the caller's own thread.
const OWN_BYTES: usize = 1 << 20;
/// Bytes of records of open transactions that are held at most.
const HELD_MAX: usize = 16 << 20;

/// How [`Wal::replay_with`](crate::Wal::replay_with), [`Wal::replay_partitioned`](crate::Wal::replay_partitioned) and
/// those of [`ReadOnly`](crate::ReadOnly) replay. Set fields or chain the methods of the same names.
///
/// ```
/// use braidlog::{Lsn, Replay, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("wal");
/// let wal = Wal::options().open(path)?;
/// wal.append(b"one")?;
/// wal.append(b"two")?;
/// let mut records = wal.replay_with(Replay::new().range(Lsn(2)..).threads(1))?;
/// while let Some(record) = records.next_ref() {
///     assert_eq!(record?.payload, b"two");
/// }
/// // Where another replay would go on.
/// assert_eq!(records.applied_to(), Lsn(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Replay {
    /// How many threads read and check, the caller's own among them: while the caller works on a record, the others
    /// are at those that follow. They start when 1 MiB has been read, and end with the [`Records`](crate::Records).
    /// A partitioned replay has as many threads again that apply. A log without
    /// [`background_threads`](crate::Options#structfield.background_threads) has one for all.
    ///
    /// Default: as many as the machine runs at once, at most 8. Minimum: 1. Maximum: 64.
    pub threads: usize,
    /// Bytes that the replay takes at most: the reader of the caller's own (1 MiB), records of [streaming
    /// transactions](crate::StreamingTransaction) that wait for their commits (a quarter of the rest, at most 16 MiB), what other
    /// threads read ahead, and the records that wait for the threads of a partitioned replay. What so many threads cannot use is not taken. Beside it
    /// an entry that is larger than a buffer is read into one of its own, and such a record of a partitioned replay is
    /// copied once, one at a time.
    ///
    /// Default: 64 MiB. Minimum: 2 MiB. Maximum: 1 GiB.
    pub memory_bytes: usize,
    range: Option<Range>,
    until: Option<Target>,
    progress: Option<Arc<Tell>>,
}

/// The records that are wanted.
pub(crate) type Range = (Bound<Lsn>, Bound<Lsn>);

type Tell = dyn Fn(&ReplayProgress) + Send + Sync;

/// A replay whose settings lie within their limits.
pub(crate) struct Checked {
    /// The records that are wanted, `None` for those behind the newest good checkpoint.
    pub(crate) range: Option<Range>,
    /// The point up to which they are wanted.
    pub(crate) until: Option<Target>,
    pub(crate) threads: usize,
    /// Bytes beside the reader of the caller's own and the records that are held.
    beside_bytes: usize,
    /// Bytes of records of open transactions that are held.
    held_bytes: usize,
    progress: Option<Arc<Tell>>,
}

impl Default for Replay {
    fn default() -> Replay {
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
        Replay { threads, memory_bytes: 64 << 20, range: None, until: None, progress: None }
    }
}

impl Replay {
    /// All records behind the newest good checkpoint, with the default threads and memory.
    pub fn new() -> Replay {
        Replay::default()
    }

    /// Sets [`threads`](Replay#structfield.threads).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Replay {
        self.threads = threads;
        self
    }

    /// Sets [`memory_bytes`](Replay#structfield.memory_bytes).
    #[must_use]
    pub fn memory_bytes(mut self, memory_bytes: usize) -> Replay {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Replays the records of `range`, whatever checkpoints there are; `..` for all that the log holds.
    ///
    /// A replay that was interrupted goes on behind what it [applied](crate::Records::applied_to), if the application
    /// noted that LSN with its state.
    #[must_use]
    pub fn range(mut self, range: impl RangeBounds<Lsn>) -> Replay {
        self.range = Some((range.start_bound().cloned(), range.end_bound().cloned()));
        self
    }

    /// Replays no further than up to a point in the log's time. Without a [range](Replay::range) it begins behind the newest
    /// checkpoint that is not behind that point.
    ///
    /// ```
    /// # use braidlog::{Replay, Target, Wal};
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = Wal::options().open(dir.path())?;
    /// wal.append(b"the old way")?;
    /// wal.restore_point("before-migration")?;
    /// wal.append(b"the new way")?;
    /// let before = Replay::new().until(Target::restore_point("before-migration"));
    /// assert_eq!(wal.replay_with(before)?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn until(mut self, target: Target) -> Replay {
        self.until = Some(target);
        self
    }

    /// Calls `progress` about once for each MiB of the log that was read, and at the end, on the thread that asks for the
    /// records. It is told up to which LSN they have been applied, and what is left.
    ///
    /// ```
    /// # use braidlog::{Replay, Wal};
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = Wal::options().open(dir.path())?;
    /// # wal.append(b"payload")?;
    /// let replay = Replay::new().progress(|now| {
    ///     println!("{} records, {} left, {:?} to go", now.records, now.records_left(), now.time_left());
    /// });
    /// assert_eq!(wal.replay_with(replay)?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(&ReplayProgress) + Send + Sync + 'static) -> Replay {
        self.progress = Some(Arc::new(progress));
        self
    }

    pub(crate) fn check(&self) -> Result<Checked> {
        within("threads", self.threads as u64, 1, 64)?;
        within("memory_bytes", self.memory_bytes as u64, 2 << 20, 1 << 30)?;
        let Replay { threads, memory_bytes, range, .. } = *self;
        let (until, progress) = (self.until.clone(), self.progress.clone());
        let held_bytes = ((memory_bytes - OWN_BYTES) / 4).min(HELD_MAX);
        let beside_bytes = memory_bytes - OWN_BYTES - held_bytes;
        Ok(Checked { range, until, threads, beside_bytes, held_bytes, progress })
    }
}

impl Checked {
    /// The records of the range, or from `from` on, up to `until`.
    pub(crate) fn range_from(&self, from: impl FnOnce() -> Result<Lsn>, until: Option<Lsn>) -> Result<Range> {
        let (start, end) = match self.range {
            Some(range) => range,
            None => (Bound::Included(from()?), Bound::Unbounded),
        };
        let end = match (end, until) {
            (end, None) => end,
            (Bound::Included(end), Some(until)) => Bound::Included(end.min(until)),
            (Bound::Excluded(end), Some(until)) if end <= until => Bound::Excluded(end),
            (_, Some(until)) => Bound::Included(until),
        };
        Ok((start, end))
    }

    /// Bytes of records of open transactions that may be held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What may be read ahead of a caller who applies himself.
    pub(crate) fn ahead(&self) -> ReadAhead {
        self.ahead_in(self.beside_bytes)
    }

    /// What may be read ahead of a caller who hands records over, and the bytes of what was handed over.
    pub(crate) fn ahead_and_handed_over(&self) -> (ReadAhead, usize) {
        let handed_over = self.beside_bytes / 2;
        (self.ahead_in(self.beside_bytes - handed_over), handed_over)
    }

    fn ahead_in(&self, memory_bytes: usize) -> ReadAhead {
        ReadAhead { threads: self.threads, memory_bytes, after_bytes: OWN_BYTES as u64 }
    }

    /// Who is told how far it is, by this clock.
    pub(crate) fn progress(&self, clock: &Arc<dyn Clock>) -> Option<Progress> {
        let tell = Arc::clone(self.progress.as_ref()?);
        Some(Progress { tell, clock: Arc::clone(clock) })
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replay { threads, memory_bytes, range, until, progress: _ } = self;
        f.debug_struct("Replay")
            .field("threads", threads)
            .field("memory_bytes", memory_bytes)
            .field("range", range)
            .field("until", until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn limits_are_accepted_and_what_lies_beyond_is_refused() {
        for (threads, memory_bytes) in [(1, 2 << 20), (64, 1 << 30)] {
            assert!(Replay::new().threads(threads).memory_bytes(memory_bytes).check().is_ok());
        }
        assert!(Replay::new().check().is_ok());
        for (threads, memory_bytes) in [(0, 2 << 20), (65, 2 << 20), (1, (2 << 20) - 1), (1, (1 << 30) + 1)] {
            let error = Replay::new().threads(threads).memory_bytes(memory_bytes).check().err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }

    #[test]
    fn all_parts_together_take_what_is_stated() {
        let checked = Replay::new().memory_bytes(64 << 20).check().unwrap();
        let own = OWN_BYTES + checked.held_bytes();
        assert_eq!(checked.ahead().memory_bytes + own, 64 << 20);
        let (ahead, handed_over) = checked.ahead_and_handed_over();
        assert_eq!(ahead.memory_bytes + handed_over + own, 64 << 20);
    }
}
