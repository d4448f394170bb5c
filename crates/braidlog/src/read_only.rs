//! Looking at a log without writing to it: beside its writer, or when nobody has it open.
//!
//! The rule: nothing here changes a byte or a name in the directory, and no lock is taken.

use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery as recovery;
use braidlog_recovery::{
    EntryVerdict, KnownGood, LogReader, Loss, Record, SegmentInfo, VerifyHow, VerifyProgress, VerifyReport,
};
use braidlog_storage::{Clock, LogDir, OsStorage, Storage, SystemClock, Watch};

use crate::replay::{Checked, Range};
use crate::subscription::Beside;
use crate::{Error, Records, Replay, Result, Subscription};

pub(crate) fn open(storage: &Arc<dyn Storage>, path: &Path) -> Result<ReadOnly> {
    let (path, dir) = open_dir(&**storage, path)?;
    let reader = LogReader::open_read_only(dir.clone()).map_err(|error| Error::recovery(&path, error))?;
    let reader = Arc::new(reader);
    Ok(ReadOnly { path, dir, reader, good: KnownGood::default(), storage: storage.clone() })
}

/// Reads and checks every byte of the log in the directory `path`, beside a live writer or not, and changes
/// none. As many segments are read at once as the machine has threads, at most 8.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = braidlog::Wal::options().open(dir.path())?;
/// # wal.append(b"payload")?;
/// # wal.close()?;
/// let report = braidlog::verify(dir.path())?;
/// assert!(report.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Foreign`](crate::ErrorKind::Foreign) if there is no such directory, [`Io`](crate::ErrorKind::Io) from
/// the system. Damage is no error here: the report lists it.
pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport> {
    verify_with(path, |_| ())
}

/// As [`verify`], and tells how far it is.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(path: impl AsRef<Path>, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport> {
    verify_in(&OsStorage, path.as_ref(), verifying_threads(), &mut progress)
}

pub(crate) fn verify_in(
    storage: &dyn Storage,
    path: &Path,
    threads: usize,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let (path, dir) = open_dir(storage, path)?;
    let how = VerifyHow { threads, on_entry: None };
    recovery::verify_with(&dir, how, progress).map_err(|error| Error::recovery(&path, error))
}

/// The most segments that are verified at once.
const THREADS_MAX: usize = 8;

/// How many segments are verified at once.
pub(crate) fn verifying_threads() -> usize {
    thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX))
}

/// As [`verify_with`], and gives the verdict on each entry, in the order of the log: on records, and on the log's own
/// entries between them. One thread reads.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = braidlog::Wal::options().open(dir.path())?;
/// # wal.append(b"payload")?;
/// # wal.close()?;
/// let mut valid = 0;
/// let report = braidlog::verify_entries(dir.path(), |entry| valid += u32::from(entry.is_valid()), |_| ())?;
/// assert!(report.is_clean() && valid > 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify`].
pub fn verify_entries(
    path: impl AsRef<Path>,
    mut on_entry: impl FnMut(&EntryVerdict<'_>),
    mut progress: impl FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let (path, dir) = open_dir(&OsStorage, path.as_ref())?;
    let how = VerifyHow { threads: 1, on_entry: Some(&mut on_entry) };
    recovery::verify_with(&dir, how, &mut progress).map_err(|error| Error::recovery(&path, error))
}

/// The clock of who reads.
pub(crate) fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn open_dir(storage: &dyn Storage, path: &Path) -> Result<(Arc<Path>, Arc<dyn LogDir>)> {
    let path: Arc<Path> = path.into();
    let dir = storage
        .open_dir(&path, false)
        .map_err(|source| Error::open("open the log's directory", &path, source))?;
    Ok((path, dir))
}

/// A log that is only read, opened by [`Wal::open_read_only`](crate::Wal::open_read_only).
///
/// Beside a live writer it shows what that writer has marked as durable, and each call looks again. Of a log
/// that nobody has open it shows what opening it for writing would keep.
pub struct ReadOnly {
    pub(crate) path: Arc<Path>,
    pub(crate) dir: Arc<dyn LogDir>,
    pub(crate) reader: Arc<LogReader>,
    pub(crate) good: KnownGood,
    /// Where the files are, for a backup.
    pub(crate) storage: Arc<dyn Storage>,
}

impl ReadOnly {
    /// The last record that can be read now; if there is none, the one before [`ReadOnly::first_lsn`].
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if acknowledged records cannot be read back, and as
    /// [`Wal::open_read_only`](crate::Wal::open_read_only).
    pub fn last_lsn(&self) -> Result<Lsn> {
        self.reader.last_visible().map_err(|error| self.error(error))
    }

    /// The first LSN of the log, of which it may hold none yet. It rises when the writer truncates the log.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`].
    pub fn first_lsn(&self) -> Result<Lsn> {
        self.last_lsn()?;
        Ok(self.reader.first_lsn())
    }

    /// Every record that can be read now behind the newest good checkpoint, as [`Wal::replay`](crate::Wal::replay) reads
    /// them.
    ///
    /// # Errors
    /// As [`Wal::replay`](crate::Wal::replay) and [`ReadOnly::last_lsn`].
    pub fn replay(&self) -> Result<Records> {
        self.replay_with(Replay::new())
    }

    /// As [`ReadOnly::replay`], with a range, a point in time, threads and memory of the caller's choice, and a word on
    /// the progress.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a setting beyond its limits, and as
    /// [`ReadOnly::iter`].
    pub fn replay_with(&self, replay: Replay) -> Result<Records> {
        let how = replay.check()?;
        let records = self
            .iter(self.replay_range(&how)?)?
            .effects(how.held_bytes())
            .progress(how.progress(&system_clock()));
        Ok(records.read_ahead(how.ahead()))
    }

    /// The records that a replay asks for.
    pub(crate) fn replay_range(&self, how: &Checked) -> Result<Range> {
        let until = how.until.as_ref().map(|target| self.lsn_at(target)).transpose()?;
        how.range_from(|| self.replay_from(until), until)
    }

    /// The records of `range` that can be read now, read as they are asked for by the caller's thread alone.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`]; [`Truncated`](crate::ErrorKind::Truncated) for a start below
    /// [`ReadOnly::first_lsn`]; while reading, as [`Records::next_ref`].
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Result<Records> {
        Records::open(&self.reader, &self.path, range, self.last_lsn()?)
    }

    /// Every record from `from` on, each as soon as it can be read, over closings and openings of the log. `from` need not be
    /// written yet: `last_lsn()?.next()` follows what is to come.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`]; [`Truncated`](crate::ErrorKind::Truncated) for a start below
    /// [`ReadOnly::first_lsn`].
    pub fn subscribe(&self, from: Lsn) -> Result<Subscription> {
        let last = self.last_lsn()?;
        let follower = self.reader.follow(from).map_err(|error| self.error(error))?;
        let beside = Beside::new(self.reader.clone(), self.dir.clone(), self.path.clone(), last);
        Ok(Subscription::beside(beside, follower))
    }

    /// The record with this LSN; `None` if it cannot be read yet. Looks again at the log only for a record that was not
    /// there at the last look. Once the index of a segment is known, a record of it costs one read, as for [`Wal::read`](crate::Wal::read).
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`] and [`Records::next_ref`].
    pub fn read(&self, lsn: Lsn) -> Result<Option<Record>> {
        self.reader.read(lsn, Lsn::MAX).map_err(|error| self.error(error))
    }

    /// The segment files of the log, in LSN order.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`].
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        self.reader.segments().map_err(|error| self.error(error))
    }

    /// LSNs that were given up when the log was [repaired](crate::repair()), in LSN order: no record has them, and none ever
    /// will. Each costs one small read, which finds that the log records it.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`].
    pub fn losses(&self) -> Result<Vec<Loss>> {
        self.reader.losses().map_err(|error| self.error(error))
    }

    /// Whether somebody has the log open for writing now.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) from the system.
    pub fn is_live(&self) -> Result<bool> {
        self.dir.is_locked().map_err(|source| Error::open("look for a writer", &self.path, source))
    }

    /// The directory of the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts to watch the directory, to look again when something changed. A change is no promise of a new
    /// record: ask [`ReadOnly::last_lsn`].
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if the system has no watch to give.
    pub fn watch(&self) -> Result<Watcher> {
        let watch =
            self.dir.watch().map_err(|source| Error::open("watch the directory", &self.path, source))?;
        Ok(Watcher { path: self.path.clone(), watch })
    }

    fn error(&self, error: recovery::RecoveryError) -> Error {
        Error::recovery(&self.path, error)
    }
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnly").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Wakes when files of a log change, made by [`ReadOnly::watch`].
#[derive(Debug)]
pub struct Watcher {
    path: Arc<Path>,
    watch: Box<dyn Watch>,
}

impl Watcher {
    /// Waits until something changed since the last call (or since the watch began), at most `timeout`;
    /// whether something did.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) from the system.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        self.watch.wait(timeout).map_err(|source| Error::open("watch the directory", &self.path, source))
    }
}
