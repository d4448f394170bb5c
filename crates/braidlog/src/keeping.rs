//! What a log keeps, as calls of its handle: where it starts, who holds it, its upkeep.

use std::error;

use braidlog_format::Lsn;
use braidlog_recovery::{KeptBy, Manifest, Needs, standing};

use crate::log::Log;
use crate::upkeep::Source;
use crate::{Error, Pause, ReadOnly, Result, UpkeepStatus, Wal};

/// A named hold: somebody needs the log from an LSN on. Given by [`Wal::holds`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The first LSN that it keeps.
    pub lsn: Lsn,
}

impl Hold {
    pub(crate) fn of(hold: &braidlog_recovery::Hold) -> Hold {
        Hold { name: hold.name.clone(), lsn: hold.lsn }
    }
}

/// # What the log keeps
impl Wal {
    /// The first LSN that is needed, and by what: the oldest checkpoint that is kept, a hold, a reader of this
    /// process. No retention makes the log start above it.
    pub fn oldest_needed(&self) -> (Lsn, KeptBy) {
        self.log.upkeep.oldest_needed(&self.log)
    }

    /// Gives up the segments that hold nothing from `lsn` on; gives the first LSN of the log then. Files go as wholes,
    /// so that is `lsn` at most. It stops where a reader of this process stands, and where a transaction begins that is open
    /// at the segment with which the log would start. To cut below an LSN up to which a state
    /// was saved elsewhere, take a checkpoint without content there first.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the newest checkpoint or a hold needs something below
    /// `lsn`, which the error names, or if there is no checkpoint; nothing is given up then. A checkpoint that a
    /// [recovery](Wal::recover) of this handle passed over does not count.
    /// [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) and [`NoSpace`](crate::ErrorKind::NoSpace)
    /// from the system: the log is whole, and files that should have gone go later.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        let _inside = self.log.enter()?;
        self.log.upkeep.truncate_before(&self.log, lsn)
    }

    /// Keeps the log from `lsn` on, durably and over all openings, until the hold of this name is moved or released:
    /// for a reader, a replica, an archive that still needs it. A hold that exists is moved, forwards or back.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name has not 1 to 255 bytes, or if the log starts
    /// above `lsn`; [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace): the holds are as before, or after a crash perhaps as asked for.
    pub fn set_hold(&self, name: &str, lsn: Lsn) -> Result<()> {
        self.log.check_name("hold", name)?;
        let _inside = self.log.enter()?;
        self.log.upkeep.set_hold(name, lsn)
    }

    /// Releases a hold; whether there was one of this name.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace), as [`Wal::set_hold`].
    pub fn release_hold(&self, name: &str) -> Result<bool> {
        let _inside = self.log.enter()?;
        self.log.upkeep.release_hold(name)
    }

    /// The holds, in the order of their names.
    pub fn holds(&self) -> Vec<Hold> {
        self.log.upkeep.plan.store.current().holds.iter().map(Hold::of).collect()
    }

    /// Whether a checkpoint is due by the [`checkpoint_policy`](crate::Options#structfield.checkpoint_policy).
    pub fn checkpoint_due(&self) -> bool {
        self.log.upkeep.due(&self.log).is_some()
    }

    /// Registers what takes checkpoints by itself: `source` is called on the maintenance thread, or by
    /// [`Wal::maintain`], whenever one is [due](Wal::checkpoint_due). It chooses an LSN up to which it has applied
    /// everything, and calls [`Wal::checkpoint`] or its like. If it fails it is called again later, as
    /// [`Event::UpkeepFailed`](crate::Event::UpkeepFailed) says. A source that is registered replaces the one before;
    /// closing the log ends it.
    ///
    /// A source that owns a handle of the log keeps it open. The one that it is given does not, nor does what is made
    /// of it: when the last other handle goes, the log is closed under it, as by `close`. [`Wal::close`] waits for a
    /// source that is at work: do not call it with a lock that the source needs.
    pub fn set_snapshot_source<F>(&self, source: F)
    where
        F: Fn(&Wal) -> Result<(), Box<dyn error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        self.log.upkeep.set_source(Some(Source::new(source)));
    }

    /// Takes the snapshot source back.
    pub fn clear_snapshot_source(&self) {
        self.log.upkeep.set_source(None);
    }

    /// Holds the upkeep back until the guard is dropped: no automatic checkpoint begins and no segment goes but by an
    /// order. It waits for what is under way, but not while its own thread is writing a checkpoint, which that may wait
    /// for. Files ahead of need are prepared all the same.
    pub fn pause_maintenance(&self) -> Pause {
        self.log.upkeep.pause()
    }

    /// Does the upkeep that is due on this thread, what failed before included; for a log without
    /// [`background_threads`](crate::Options#structfield.background_threads), and to know that it is done. Does nothing
    /// while it is [paused](Wal::pause_maintenance).
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`InvalidInput`](crate::ErrorKind::InvalidInput) from within a checkpoint
    /// that is being written; and the first of the errors that its tasks came to; all were tried.
    pub fn maintain(&self) -> Result<()> {
        self.log.check_open()?;
        self.log.upkeep.maintain(self.log.shared())
    }

    /// What the upkeep has done, and how it stands.
    pub fn upkeep(&self) -> UpkeepStatus {
        let log: &Log = &self.log;
        log.upkeep.status(log)
    }
}

/// # What the log keeps
impl ReadOnly {
    /// The holds, in the order of their names.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) and [`Newer`](crate::ErrorKind::Newer) for the log's manifest;
    /// [`Io`](crate::ErrorKind::Io) from the system.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        Ok(self.manifest()?.holds.iter().map(Hold::of).collect())
    }

    /// The first LSN that is needed, and by what, as [`Wal::oldest_needed`]; readers are not known here.
    ///
    /// # Errors
    /// As [`ReadOnly::holds`].
    pub fn oldest_needed(&self) -> Result<(Lsn, KeptBy)> {
        let manifest = self.manifest()?;
        Ok(Needs::of(&manifest, None).oldest(manifest.log_start))
    }

    /// With which LSN the log would start if what lies below `lsn` were given up, and what keeps it from starting later: the
    /// [limits](KeptBy::Limits) of the order, or a [transaction](KeptBy::Transaction) that is open there.
    ///
    /// # Errors
    /// As [`ReadOnly::holds`].
    pub fn start_if_cut_at(&self, lsn: Lsn) -> Result<(Lsn, KeptBy)> {
        let standing = standing(&self.dir, lsn, self.manifest()?.log_start);
        let standing = standing.map_err(|error| Error::recovery(&self.path, error))?;
        let kept_by = standing.open_from.map_or(KeptBy::Limits, |begin| KeptBy::Transaction { begin });
        Ok((standing.base, kept_by))
    }

    pub(crate) fn manifest(&self) -> Result<Manifest> {
        Manifest::load(&self.dir).map_err(|error| Error::recovery(&self.path, error))
    }
}
