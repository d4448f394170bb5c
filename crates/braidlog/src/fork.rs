//! Forking a log, as calls of the handles: what lies before a point becomes a log of its own.
//!
//! The rule: the old log is not touched, and the new one is there as a whole or refused.

use std::path::Path;
use std::sync::Arc;

use braidlog_format::{LogId, Lsn};
use braidlog_recovery::{self as recovery, ForkHow, ForkReport, LogReader, RecoveryError, TargetError};
use braidlog_storage::{Clock, Storage};

use crate::open::random;
use crate::read_only::system_clock;
use crate::{Error, ReadOnly, Replay, Result, Target, Wal};

/// # Fork
impl Wal {
    /// Makes a log in the directory `dest`, which is empty or not there yet, of what lies before a point of this one: to go
    /// on from there as if the rest had not happened. This log stays as it is, and appends to it go on meanwhile.
    ///
    /// The new log has an identity of its own; the records have their LSNs, timestamps, kinds and batches. The checkpoints
    /// that are not behind the point come along, and so do restore points and recorded losses; holds do not. What this log
    /// appended behind the point can never be taken for the new one's, nor the other way round: every header and checksum
    /// is written anew.
    ///
    /// ```
    /// use braidlog::{Target, Wal};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, rewound) = (dir.path().join("wal"), dir.path().join("rewound"));
    /// let wal = Wal::options().open(&path)?;
    /// wal.append(b"right")?;
    /// wal.restore_point("before-the-mistake")?;
    /// wal.append(b"wrong")?;
    /// wal.fork(&rewound, Target::restore_point("before-the-mistake"))?;
    ///
    /// let rewound = Wal::options().open(&rewound)?;
    /// assert_eq!(rewound.iter(..)?.count(), 1);
    /// assert_eq!(rewound.append(b"right again")?.get(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Wal::lsn_at`]; [`Truncated`](crate::ErrorKind::Truncated) if the new log could not be recovered: no checkpoint
    /// leads to the point, and this log does not go back to its first record; [`Foreign`](crate::ErrorKind::Foreign) if
    /// `dest` holds anything; [`Locked`](crate::ErrorKind::Locked) if somebody writes there;
    /// [`Damaged`](crate::ErrorKind::Damaged) if a record cannot be read back; [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace) from the system; [`Closed`](crate::ErrorKind::Closed). `dest` is empty then.
    /// A crash leaves it empty, or refused as damaged: remove it and fork again.
    pub fn fork(&self, dest: impl AsRef<Path>, until: Target) -> Result<ForkReport> {
        self.fork_with(dest, Replay::new().until(until))
    }

    /// As [`Wal::fork`], with the point, the threads, the memory and the progress of a [`Replay`]; its range is not used.
    /// Without a point it takes all that is durable.
    ///
    /// # Errors
    /// As [`Wal::fork`]; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a setting beyond its limits.
    pub fn fork_with(&self, dest: impl AsRef<Path>, replay: Replay) -> Result<ForkReport> {
        let log = &self.log;
        let _inside = log.enter()?;
        let of = Forked { path: &log.path, reader: &log.reader, last: self.durable_lsn() };
        of.into(&*log.storage, &log.clock, dest.as_ref(), &replay, log.background_threads)
    }
}

/// # Fork
impl ReadOnly {
    /// Makes a log in the directory `dest` of what lies before a point of this one, as [`Wal::fork`]: beside a writer in
    /// another process, or of a log that nobody has open.
    ///
    /// # Errors
    /// As [`Wal::fork`] and [`ReadOnly::last_lsn`]; [`Truncated`](crate::ErrorKind::Truncated) also if the writer gave up
    /// meanwhile what was still to be read.
    pub fn fork(&self, dest: impl AsRef<Path>, until: Target) -> Result<ForkReport> {
        self.fork_with(dest, Replay::new().until(until))
    }

    /// As [`ReadOnly::fork`], with the point, the threads, the memory and the progress of a [`Replay`]; its range is not
    /// used. Without a point it takes all that can be read.
    ///
    /// # Errors
    /// As [`ReadOnly::fork`]; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a setting beyond its limits.
    pub fn fork_with(&self, dest: impl AsRef<Path>, replay: Replay) -> Result<ForkReport> {
        let of = Forked { path: &self.path, reader: &self.reader, last: self.last_lsn()? };
        of.into(&*self.storage, &system_clock(), dest.as_ref(), &replay, true)
    }
}

/// The log of which a fork is made.
struct Forked<'a> {
    path: &'a Arc<Path>,
    reader: &'a LogReader,
    /// The last record that may be shown.
    last: Lsn,
}

impl Forked<'_> {
    fn into(
        self,
        storage: &dyn Storage,
        clock: &Arc<dyn Clock>,
        dest: &Path,
        replay: &Replay,
        may_have_threads: bool,
    ) -> Result<ForkReport> {
        let how = replay.check()?;
        let dest: Arc<Path> = dest.into();
        let to = storage
            .open_dir(&dest, true)
            .map_err(|source| Error::open("open or create the fork's directory", &dest, source))?;
        let lock = to.try_lock().map_err(|source| Error::open("lock the fork's directory", &dest, source))?;
        let _lock = lock.ok_or_else(|| Error::locked(&dest))?;
        let log_id = (u128::from(random(&dest)?) << 64 | u128::from(random(&dest)?)).to_le_bytes();
        let how = ForkHow {
            log_id: LogId(log_id),
            seed: random(&dest)?,
            until: how.until.as_ref(),
            clock: Arc::clone(clock),
            ahead: may_have_threads.then(|| how.ahead()),
            progress: how.progress(clock),
        };
        recovery::fork(self.reader, self.last, &to, how).map_err(|error| match error {
            TargetError::Recovery(error @ RecoveryError::Foreign { .. }) => Error::recovery(&dest, error),
            error => Error::target(self.path, error),
        })
    }
}
