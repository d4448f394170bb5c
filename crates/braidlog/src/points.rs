//! Points in a log's time, as calls of the handles: where one lies, and names for those that one will want to go back to.
//!
//! The rule: a restore point is durable when its call returns, and so is every record that lies before it.

use braidlog_format::Lsn;
use braidlog_recovery::{Manifest, Target, resolve};

use crate::{Error, ReadOnly, Result, Wal};

/// A named point up to which a log can be restored. Given by [`Wal::restore_points`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RestorePoint {
    /// Its name.
    pub name: String,
    /// The last LSN before it.
    pub lsn: Lsn,
    /// When it was set, in nanoseconds since the Unix epoch, by the wall clock.
    pub time_ns: u64,
    /// Whether a recovery can still lead there: the log goes back to its first record, or keeps a checkpoint that is not
    /// newer. Whoever wants to keep it so sets a [hold](Wal::set_hold) where that checkpoint needs the log.
    pub is_reachable: bool,
}

impl RestorePoint {
    fn of(point: &braidlog_recovery::RestorePoint, manifest: &Manifest) -> RestorePoint {
        let braidlog_recovery::RestorePoint { name, lsn, time_ns } = point.clone();
        RestorePoint { name, lsn, time_ns, is_reachable: manifest.leads_to(lsn) }
    }

    fn all_of(manifest: &Manifest) -> Vec<RestorePoint> {
        manifest.restore_points.iter().map(|point| RestorePoint::of(point, manifest)).collect()
    }
}

/// # Points in time
impl Wal {
    /// Gives the end of the log, as it is now, a name, under which the log can be [recovered](crate::Recover::until),
    /// [replayed](crate::Replay::until) and [forked](Wal::fork) up to here. Makes every record durable that was appended
    /// before; the name is durable when this returns.
    ///
    /// It keeps nothing: when the log is truncated behind it, the point goes too.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name has not 1 to 255 bytes, or is taken;
    /// [`Failed`](crate::ErrorKind::Failed), [`Closed`](crate::ErrorKind::Closed); [`Io`](crate::ErrorKind::Io) and
    /// [`NoSpace`](crate::ErrorKind::NoSpace): the points are as before, or after a crash perhaps as asked for.
    pub fn restore_point(&self, name: &str) -> Result<RestorePoint> {
        let log = &self.log;
        log.check_name("restore point", name)?;
        self.flush()?;
        let _inside = log.enter()?;
        let (lsn, time_ns) = (self.durable_lsn(), log.clock.wall_ns());
        let mut is_new = false;
        let changed = log.manifest.change(|manifest| {
            is_new = manifest.set_restore_point(name, lsn, time_ns);
        });
        let manifest = changed.map_err(|error| Error::recovery(&log.path, error))?;
        if !is_new {
            let what =
                format!("there is a restore point `{name}` already: drop it first, or take another name");
            return Err(Error::refused(&log.path, what));
        }
        let point = braidlog_recovery::RestorePoint { name: name.to_owned(), lsn, time_ns };
        Ok(RestorePoint::of(&point, &manifest))
    }

    /// The restore points, in LSN order.
    pub fn restore_points(&self) -> Vec<RestorePoint> {
        RestorePoint::all_of(&self.log.manifest.current())
    }

    /// Drops a restore point; whether there was one of this name. No record goes by it.
    ///
    /// # Errors
    /// As [`Wal::restore_point`].
    pub fn drop_restore_point(&self, name: &str) -> Result<bool> {
        let _inside = self.log.enter()?;
        let mut was_there = false;
        let changed = self.log.manifest.change(|manifest| was_there = manifest.drop_restore_point(name));
        changed.map_err(|error| Error::recovery(&self.log.path, error))?;
        Ok(was_there)
    }

    /// The last record that lies before a point in the log's time, among those that are durable now: the one before
    /// [`Wal::first_lsn`] if none does. `wal.iter(..=wal.lsn_at(&target)?)` gives the records up to there.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no restore point of the name, or if the LSN lies behind
    /// the end of the log; [`Truncated`](crate::ErrorKind::Truncated) if the log begins behind the point; and as
    /// [`Wal::iter`] and [`Records::next_ref`](crate::Records::next_ref).
    pub fn lsn_at(&self, target: &Target) -> Result<Lsn> {
        let log = &self.log;
        log.check_open()?;
        resolve(target, &log.reader, &log.manifest.current(), self.durable_lsn())
            .map_err(|error| Error::target(&log.path, error))
    }
}

/// # Points in time
impl ReadOnly {
    /// The restore points, in LSN order.
    ///
    /// # Errors
    /// As [`ReadOnly::holds`].
    pub fn restore_points(&self) -> Result<Vec<RestorePoint>> {
        Ok(RestorePoint::all_of(&self.manifest()?))
    }

    /// The last record that lies before a point in the log's time, as [`Wal::lsn_at`], among those that can be read now.
    ///
    /// # Errors
    /// As [`Wal::lsn_at`] and [`ReadOnly::last_lsn`].
    pub fn lsn_at(&self, target: &Target) -> Result<Lsn> {
        let last = self.last_lsn()?;
        resolve(target, &self.reader, &self.manifest()?, last)
            .map_err(|error| Error::target(&self.path, error))
    }
}
