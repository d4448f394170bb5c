//! A recorded loss: LSNs that were given up because their records could not be had any more.
//!
//! The rule: what is lost is said for ever. The log's own entry takes the place of the lost records, each reader passes
//! it and tells, and no later record gets one of these LSNs.

use std::fmt;
use std::sync::Arc;

use braidlog_format::{Incarnation, LossEntry, Lsn, LsnRange};
use braidlog_storage::LogDir;

use crate::index::Indexes;
use crate::replay::{History, bases};
use crate::{Damage, Manifest, RecoveryError};

/// LSNs that were given up: no record has them, and none ever will.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Loss {
    /// Which ones.
    pub lsns: LsnRange,
    /// The opening of the log that gave them up.
    pub incarnation: Incarnation,
    /// Why.
    pub cause: LossCause,
    /// For people: what was found where.
    pub account: String,
}

/// Why LSNs were given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum LossCause {
    /// Bytes were not what they had been, or could not be read.
    Damage = 1,
    /// A file was missing.
    FileMissing = 2,
}

/// The losses of which the manifest speaks and that the segments record, by one small read for each. A repair names them in the
/// manifest before it touches a file, so one that was interrupted may have named some that it never came to: where the
/// records still stand nothing was lost, and where they are still damaged `on_damage` hears of it. What lay in segments that
/// the log has given up since is taken from the manifest.
pub(crate) fn recorded(
    dir: &Arc<dyn LogDir>,
    manifest: &Manifest,
    on_damage: &mut dyn FnMut(Damage) -> Result<(), RecoveryError>,
) -> Result<Vec<Loss>, RecoveryError> {
    let mut told = Vec::new();
    let mut looking = None;
    for loss in &manifest.losses {
        if loss.lsns.first < manifest.log_start {
            told.push(loss.clone());
            continue;
        }
        let places = match &mut looking {
            Some(places) => places,
            looking => looking.insert(Places::of(dir)?),
        };
        match places.look(loss)? {
            Place::Recorded => told.push(loss.clone()),
            Place::Record => {}
            Place::Damaged(damage) => on_damage(damage)?,
        }
    }
    Ok(told)
}

/// The places of losses in the segments of a directory.
pub(crate) struct Places<'a> {
    dir: &'a Arc<dyn LogDir>,
    indexes: Arc<Indexes>,
    bases: Arc<[Lsn]>,
}

/// What stands where a loss should.
pub(crate) enum Place {
    /// The loss.
    Recorded,
    /// The first record of which it speaks.
    Record,
    /// Nothing that can be read.
    Damaged(Damage),
}

impl Places<'_> {
    pub(crate) fn of(dir: &Arc<dyn LogDir>) -> Result<Places<'_>, RecoveryError> {
        Ok(Places { dir, indexes: Arc::default(), bases: bases(dir)? })
    }

    /// Reads where a loss should stand.
    pub(crate) fn look(&self, loss: &Loss) -> Result<Place, RecoveryError> {
        let first = loss.lsns.first;
        let mut records = History::new(self.dir, &self.indexes, Arc::clone(&self.bases), first, first, None);
        match records.find_next() {
            Ok(_) if records.losses().is_empty() => Ok(Place::Record),
            Ok(_) => Ok(Place::Recorded),
            Err(RecoveryError::Damaged(damage)) => Ok(Place::Damaged(damage)),
            Err(error) => Err(error),
        }
    }
}

impl Loss {
    /// As the log and the manifest keep it.
    pub(crate) fn entry(&self) -> LossEntry<'_> {
        let Loss { lsns, incarnation, cause, account } = self;
        LossEntry { lsns: *lsns, incarnation: *incarnation, cause: *cause as u8, account }
    }
}

impl From<LossEntry<'_>> for Loss {
    fn from(entry: LossEntry<'_>) -> Loss {
        let LossEntry { lsns, incarnation, cause, account } = entry;
        let cause =
            if cause == LossCause::FileMissing as u8 { LossCause::FileMissing } else { LossCause::Damage };
        Loss { lsns, incarnation, cause, account: account.to_owned() }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { lsns, incarnation, account, .. } = self;
        write!(f, "records {lsns} were given up by opening {incarnation}: {account}")
    }
}
