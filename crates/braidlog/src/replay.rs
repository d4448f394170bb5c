//! How a log is replayed: which records, by how many threads, in how much memory.
//!
//! The rule: none of this changes which records are given, in which order, or what is called damaged and where.

use std::ops::{Bound, RangeBounds};
use std::thread;

use braidlog_format::Lsn;
use braidlog_recovery::ReadAhead;

use crate::Result;
use crate::options::within;

/// How [`Wal::replay_with`](crate::Wal::replay_with) and
/// [`ReadOnly::replay_with`](crate::ReadOnly::replay_with) replay. Set fields or chain the methods of the same
/// names.
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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Replay {
    /// How many threads read and check, the caller's own among them: while the caller works on a record, the others
    /// are at those that follow. They start when 1 MiB has been read, and end with the [`Records`](crate::Records).
    /// A log without [`background_threads`](crate::Options#structfield.background_threads) has one.
    ///
    /// Default: as many as the machine runs at once, at most 8. Minimum: 1. Maximum: 64.
    pub threads: usize,
    /// Bytes that are read ahead at most, by all threads together. Beside them the caller's own reader has 1 MiB
    /// until the others start; an entry that is larger than a buffer is read into one of its own.
    ///
    /// Default: 16 MiB. Minimum: 1 MiB. Maximum: 1 GiB.
    pub memory_bytes: usize,
    range: Option<Range>,
}

type Range = (Bound<Lsn>, Bound<Lsn>);

impl Default for Replay {
    fn default() -> Replay {
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
        Replay { threads, memory_bytes: 16 << 20, range: None }
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
    #[must_use]
    pub fn range(mut self, range: impl RangeBounds<Lsn>) -> Replay {
        self.range = Some((range.start_bound().cloned(), range.end_bound().cloned()));
        self
    }

    /// The records that are wanted, `None` for those behind the newest good checkpoint; and what may be read ahead of
    /// them.
    pub(crate) fn check(&self) -> Result<(Option<Range>, ReadAhead)> {
        within("threads", self.threads as u64, 1, 64)?;
        within("memory_bytes", self.memory_bytes as u64, 1 << 20, 1 << 30)?;
        let Replay { threads, memory_bytes, range } = *self;
        Ok((range, ReadAhead { threads, memory_bytes, after_bytes: 1 << 20 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn limits_are_accepted_and_what_lies_beyond_is_refused() {
        for (threads, memory_bytes) in [(1, 1 << 20), (64, 1 << 30)] {
            assert!(Replay::new().threads(threads).memory_bytes(memory_bytes).check().is_ok());
        }
        assert!(Replay::new().check().is_ok());
        for (threads, memory_bytes) in [(0, 1 << 20), (65, 1 << 20), (1, (1 << 20) - 1), (1, (1 << 30) + 1)] {
            let error = Replay::new().threads(threads).memory_bytes(memory_bytes).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
