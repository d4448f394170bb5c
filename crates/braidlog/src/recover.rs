//! Recovery of the application as calls of the handle: checkpoint and records in one, with a report; and what that
//! would cost.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::{
    Manifest, RecoveryEstimate, Restore, RestoreError, RestoreHow, RestoreProgress, RestoreReport, TailState,
    estimate, restore_read_only,
};
use braidlog_storage::{Clock, SystemClock};

use crate::{Error, ReadOnly, Replay, Result, Target, Wal};

/// How [`Wal::recover_with`] goes about it.
///
/// ```no_run
/// use std::time::Duration;
///
/// use braidlog::{Recover, Restore, Wal};
///
/// fn open(path: &str, state: &mut dyn Restore) -> braidlog::Result<Wal> {
///     let wal = Wal::options().open(path)?;
///     let how = Recover::new()
///         .max_time(Duration::from_secs(60))
///         .progress(|now| println!("{}: {} of {} records", now.phase, now.records, now.records_total));
///     let report = wal.recover_with(how, state)?;
///     println!("{} records in {:?}", report.total, report.time.total());
///     Ok(wal)
/// }
/// ```
#[must_use = "it says how to recover, and does not"]
pub struct Recover<'a> {
    max_time: Option<Duration>,
    replay: Replay,
    until: Option<Target>,
    progress: Option<Box<Progress<'a>>>,
}

type Progress<'a> = dyn FnMut(&RestoreProgress) + 'a;

impl<'a> Recover<'a> {
    /// Without a limit of time, with the threads and the memory of [`Replay::new`].
    pub fn new() -> Recover<'a> {
        Recover { max_time: None, replay: Replay::new(), until: None, progress: None }
    }

    /// Ends with [`TimedOut`](crate::ErrorKind::TimedOut) if it takes longer. It looks after each chunk of a checkpoint
    /// and after each record, and never interrupts the application.
    ///
    /// Default: no limit.
    pub fn max_time(self, max_time: Duration) -> Recover<'a> {
        Recover { max_time: Some(max_time), ..self }
    }

    /// The [threads](Replay#structfield.threads) and the [memory](Replay#structfield.memory_bytes) of the replay; its range and
    /// its progress are not used.
    pub fn replay(self, replay: Replay) -> Recover<'a> {
        Recover { replay, ..self }
    }

    /// Brings the state to where the log was at a point: begins with the newest checkpoint that is not behind it. The log
    /// keeps what it holds behind the point; to go on from there, [fork](Wal::fork) it.
    ///
    /// Default: the end of the log.
    pub fn until(self, target: Target) -> Recover<'a> {
        Recover { until: Some(target), ..self }
    }

    /// Tells how far it is: about once for each MiB, and at the end of each phase.
    pub fn progress(self, progress: impl FnMut(&RestoreProgress) + 'a) -> Recover<'a> {
        Recover { progress: Some(Box::new(progress)), ..self }
    }

    /// Has `restore` go about it so.
    fn run(
        self,
        path: &Arc<Path>,
        clock: &dyn Clock,
        may_have_threads: bool,
        until: Option<Lsn>,
        restore: impl FnOnce(RestoreHow<'_>) -> Result<RestoreReport, RestoreError>,
    ) -> Result<RestoreReport> {
        let Recover { max_time, replay, until: _, mut progress } = self;
        let checked = replay.check()?;
        let (ahead, held_bytes) = (checked.ahead(), checked.held_bytes());
        let ahead = may_have_threads.then_some(ahead);
        let mut tell = |now: &RestoreProgress| {
            if let Some(progress) = &mut progress {
                progress(now);
            }
        };
        let how = RestoreHow { clock, max_time, ahead, held_bytes, until, progress: &mut tell };
        restore(how).map_err(|error| Error::restore(path, error))
    }
}

impl Default for Recover<'_> {
    fn default() -> Self {
        Recover::new()
    }
}

impl fmt::Debug for Recover<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover")
            .field("max_time", &self.max_time)
            .field("replay", &self.replay)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// # Recovery of the application
impl Wal {
    /// Brings a new `state` to where the log is: hands over the newest checkpoint all of whose files are good, and then
    /// every durable record that it does not hold. Without a checkpoint that is every record of the log.
    ///
    /// A checkpoint that is damaged or missing is passed over for the one before, which costs a longer replay; the report
    /// says so. Nothing in the directory changes, so after an error it can be called again, with a state that is as
    /// new.
    ///
    /// # Errors
    /// [`Application`](crate::ErrorKind::Application) with the error of the [`Restore`], and
    /// [`Error::lsns`] with the record that it would not take; [`Damaged`](crate::ErrorKind::Damaged) if a record
    /// cannot be read back, or if no checkpoint can be used and the log does not go back to its first record;
    /// [`Newer`](crate::ErrorKind::Newer), and [`Unsupported`](crate::ErrorKind::Unsupported) for a checkpoint that is
    /// compressed in a way that is not built in; [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io).
    pub fn recover(&self, state: &mut dyn Restore) -> Result<RestoreReport> {
        self.recover_with(Recover::new(), state)
    }

    /// As [`Wal::recover`], with a limit of time, a word on the progress, other threads, or up to a point in time.
    ///
    /// # Errors
    /// As [`Wal::recover`]; [`TimedOut`](crate::ErrorKind::TimedOut) when the time is over, which loses nothing;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a setting beyond its limits; with a point in time, as
    /// [`Wal::lsn_at`], and [`Truncated`](crate::ErrorKind::Truncated) if every checkpoint lies behind it and the log does
    /// not go back to its first record.
    pub fn recover_with(&self, recover: Recover<'_>, state: &mut dyn Restore) -> Result<RestoreReport> {
        let log = &self.log;
        log.check_open()?;
        let until = recover.until.as_ref().map(|target| self.lsn_at(target)).transpose()?;
        let mut report = recover.run(&log.path, &*log.clock, log.background_threads, until, |how| {
            log.checkpoints.restore(&log.reader, until.unwrap_or(self.durable_lsn()), how, state)
        })?;
        report.time.opening = log.report.duration;
        report.damaged += log.report.damaged_seals.len() as u64;
        if let TailState::Torn { cut_bytes, .. } = log.report.tail {
            report.trimmed_bytes = cut_bytes;
        }
        Ok(report)
    }

    /// What [`Wal::recover`] would read now, and how long that would take. It reads at most 8 MiB of the log, to
    /// measure how fast that goes.
    ///
    /// # Errors
    /// As [`Wal::iter`] and [`Records::next_ref`](crate::Records::next_ref).
    pub fn estimate_recovery(&self) -> Result<RecoveryEstimate> {
        let log = &self.log;
        log.check_open()?;
        let manifest = log.manifest.current();
        estimate(&log.dir, &manifest, &log.reader, self.durable_lsn(), &*log.clock)
            .map_err(|error| Error::recovery(&log.path, error))
    }
}

/// # Recovery of the application
impl ReadOnly {
    /// Brings a new `state` to where the log is, as [`Wal::recover`] does: up to [`ReadOnly::last_lsn`], or above it to a
    /// checkpoint that the writer took meanwhile. What opening the log for writing would repair is not in the report.
    ///
    /// A writer of another process takes checkpoints meanwhile as it likes, and this looks again when one that it looked for
    /// is gone. It does not keep that writer from giving up records that are still to be replayed: set a
    /// [hold](Wal::set_hold) there, or begin again, with a state that is as new.
    ///
    /// # Errors
    /// As [`Wal::recover`] and [`ReadOnly::last_lsn`]; [`Truncated`](crate::ErrorKind::Truncated) if the writer gave up
    /// records that were still to be replayed.
    pub fn recover(&self, state: &mut dyn Restore) -> Result<RestoreReport> {
        self.recover_with(Recover::new(), state)
    }

    /// As [`ReadOnly::recover`], with a limit of time, a word on the progress, other threads, or up to a point in time.
    ///
    /// # Errors
    /// As [`ReadOnly::recover`] and [`Wal::recover_with`].
    pub fn recover_with(&self, recover: Recover<'_>, state: &mut dyn Restore) -> Result<RestoreReport> {
        let until = recover.until.as_ref().map(|target| self.lsn_at(target)).transpose()?;
        let last = until.map_or_else(|| self.last_lsn(), Ok)?;
        recover.run(&self.path, &SystemClock::new(), true, until, |how| {
            restore_read_only(&self.dir, last, how, state)
        })
    }

    /// What recovering from this log would read now, and how long that would take, as
    /// [`Wal::estimate_recovery`] says it.
    ///
    /// # Errors
    /// As [`ReadOnly::checkpoints`], [`ReadOnly::iter`] and [`Records::next_ref`](crate::Records::next_ref).
    pub fn estimate_recovery(&self) -> Result<RecoveryEstimate> {
        let last = self.last_lsn()?;
        let told = |error| Error::recovery(&self.path, error);
        let manifest = Manifest::load(&self.dir).map_err(told)?;
        estimate(&self.dir, &manifest, &self.reader, last, &SystemClock::new()).map_err(told)
    }

    /// Where a replay begins: behind the newest good checkpoint, or the newest that is not behind the record `until`.
    pub(crate) fn replay_from(&self, until: Option<Lsn>) -> Result<Lsn> {
        let told = |error| Error::recovery(&self.path, error);
        let mut look = || Manifest::load(&self.dir).map(Arc::new);
        self.good.replay_from(&self.dir, until, &mut look).map_err(told)
    }
}
