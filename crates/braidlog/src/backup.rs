//! Backing a log up into another directory, beside its writer or when it has none.
//!
//! The rule: what is in the backup is durable in the log, and the backup opens as a log.

use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery as recovery;
use braidlog_recovery::{BackupHow, BackupProgress, BackupReport, Manifest, Pins, RecoveryError};
use braidlog_storage::{Clock, LogDir, Storage, SystemClock};

use crate::{Error, ReadOnly, Result, Wal};

/// How a backup is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Backup {
    /// Whether every file is copied. If not, finished files get a second name in the backup's directory (a hard link)
    /// where both are on one file system that can: that takes no time and no space, and keeps them when the log gives
    /// them up; but a file that the disk damages is damaged in both.
    ///
    /// Default: false.
    pub copy: bool,
}

impl Backup {
    /// A backup that links what it can.
    #[must_use]
    pub const fn new() -> Backup {
        Backup { copy: false }
    }

    /// Sets [`copy`](Backup#structfield.copy).
    #[must_use]
    pub const fn copy(self, copy: bool) -> Backup {
        Backup { copy }
    }
}

/// # Backup
impl Wal {
    /// Backs the log up into the directory `dest`, which is made if need be: its segments up to
    /// [`Wal::durable_lsn`], its checkpoints and its manifest, so that `dest` opens as a log. Appends go on meanwhile.
    /// Into the backup of this log that an earlier call left there only what is new is brought.
    ///
    /// If it is interrupted, `dest` opens as the backup before, perhaps with some more records; the first one, and one of
    /// a log that starts behind the end of the backup before, is refused as damaged until it is whole, because the log in
    /// it is shorter than its manifest says. The next backup into it mends both.
    ///
    /// To restore, open a copy of `dest`. A backup that was itself opened for writing has gone on as a log of its own,
    /// with LSNs that this one gives to other records: a later backup refuses it.
    ///
    /// # Errors
    /// [`Foreign`](crate::ErrorKind::Foreign) if `dest` holds anything but a backup of this log, or is the log itself;
    /// [`Locked`](crate::ErrorKind::Locked) if somebody writes there; [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace) from the system; [`Damaged`](crate::ErrorKind::Damaged) if the log itself
    /// is, or the manifest of the backup, as the path in the error says; [`Closed`](crate::ErrorKind::Closed).
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(Backup::new(), dest, |_| ())
    }

    /// As [`Wal::backup`], as `how` says, and tells how far it is.
    ///
    /// # Errors
    /// As [`Wal::backup`].
    pub fn backup_with(
        &self,
        how: Backup,
        dest: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress),
    ) -> Result<BackupReport> {
        let log = &self.log;
        let _inside = log.enter()?;
        Backing { path: &log.path, storage: &*log.storage, how }.run(
            &log.dir,
            &log.clock,
            dest.as_ref(),
            Some(log.reader.pins()),
            &mut || Ok(log.engine.durable_lsn()),
            &mut progress,
        )
    }
}

/// # Backup
impl ReadOnly {
    /// Backs the log up into the directory `dest`, as [`Wal::backup`], up to what can be read now: beside a writer in
    /// another process, or of a log that nobody has open. What an earlier backup there has, perhaps one that the writer made,
    /// it keeps, although a reader cannot see as far yet.
    ///
    /// # Errors
    /// As [`Wal::backup`] and [`ReadOnly::last_lsn`].
    pub fn backup(
        &self,
        how: Backup,
        dest: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress),
    ) -> Result<BackupReport> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Backing { path: &self.path, storage: &*self.storage, how }.run(
            &self.dir,
            &clock,
            dest.as_ref(),
            None,
            &mut || self.reader.last_visible(),
            &mut progress,
        )
    }
}

/// A backup that is being made.
struct Backing<'a> {
    path: &'a Arc<Path>,
    storage: &'a dyn Storage,
    how: Backup,
}

impl Backing<'_> {
    fn run(
        &self,
        from: &Arc<dyn LogDir>,
        clock: &Arc<dyn Clock>,
        dest: &Path,
        pins: Option<&Pins>,
        durable: &mut dyn FnMut() -> Result<Lsn, RecoveryError>,
        progress: &mut dyn FnMut(BackupProgress),
    ) -> Result<BackupReport> {
        let dest: Arc<Path> = dest.into();
        let to = self
            .storage
            .open_dir(&dest, true)
            .map_err(|source| Error::open("open or create the backup's directory", &dest, source))?;
        let lock =
            to.try_lock().map_err(|source| Error::open("lock the backup's directory", &dest, source))?;
        let _lock = lock.ok_or_else(|| Error::locked(&dest))?;
        // What is wrong with it is not wrong with the log.
        Manifest::load(&to).map_err(|error| Error::recovery(&dest, error))?;
        let how = BackupHow { link: !self.how.copy };
        recovery::backup(from, &to, clock, how, pins, durable, progress).map_err(|error| match error {
            RecoveryError::Foreign { .. } => Error::recovery(&dest, error),
            _ => Error::recovery(self.path, error),
        })
    }
}
