//! Which checkpoint a recovery begins with: the newest one all of whose files prove themselves.
//!
//! The rule: nothing is handed over before the whole chain has been read and checked, and nothing that was passed over
//! is kept quiet. A file that a newer version wrote, or that this build cannot unpack, is not passed over: it is whole,
//! and whoever can read it should.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use braidlog_format::{LogId, Lsn, ManifestCheckpoint};
use braidlog_storage::LogDir;
use thiserror::Error;

use super::reader::{Cut, Part, Tick};
use super::{CheckpointInfo, chain};
use crate::locked::locked;
use crate::{Damage, ForeignFile, Manifest, RecoveryError};

/// A checkpoint that a recovery could not begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PassedOver {
    /// Which one.
    pub checkpoint: CheckpointInfo,
    /// Why not.
    pub why: PassedOverCause,
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PassedOver { checkpoint: CheckpointInfo { number, lsn, .. }, why } = self;
        write!(f, "checkpoint {number} at LSN {lsn}: {why}")
    }
}

/// Why a recovery could not begin with a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PassedOverCause {
    /// Its file is not what it was.
    #[error(transparent)]
    Damaged(Damage),
    /// Its file is missing.
    #[error("{file} is missing")]
    Missing {
        /// Name of the file.
        file: String,
    },
    /// Its file is another's.
    #[error("{file} does not belong to this log: {what}")]
    Foreign {
        /// Name of the file.
        file: String,
        /// What says so.
        what: ForeignFile,
    },
    /// The system could not read its file.
    #[error("{file} cannot be read: {kind}")]
    Unreadable {
        /// Name of the file.
        file: String,
        /// What the system said.
        kind: ErrorKind,
    },
    /// It holds the changes to a checkpoint that was passed over, or that is not there any more.
    #[error("it holds the changes to checkpoint {base}, which cannot be used")]
    NoBase {
        /// The number of that checkpoint.
        base: u64,
    },
    /// The log does not hold any more what must be replayed upon it.
    #[error("it needs the log from LSN {replay_from} on, which begins at {log_start}")]
    LogGone {
        /// The first record that must be replayed upon it.
        replay_from: Lsn,
        /// The first LSN of the log.
        log_start: Lsn,
    },
}

/// What a recovery begins with.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The files to hand over, in this order; none if replay begins where the log does.
    pub(crate) parts: Vec<Part>,
    /// The first record to replay.
    pub(crate) replay_from: Lsn,
    /// How far the log was durable, as the manifest says: the end of a batch.
    pub(crate) durable: Lsn,
    /// Newer checkpoints that cannot be used, newest first.
    pub(crate) passed_over: Vec<PassedOver>,
}

/// The newest checkpoint of which somebody knows that it is good: its number and end checksum.
#[derive(Debug, Default)]
pub struct KnownGood(Mutex<Option<(u64, u32)>>);

impl KnownGood {
    /// That this one is good.
    pub(crate) fn set(&self, named: &ManifestCheckpoint) {
        *locked(&self.0) = Some((named.number, named.end_checksum));
    }

    fn is(&self, named: &ManifestCheckpoint) -> bool {
        let known = *locked(&self.0);
        known == Some((named.number, named.end_checksum))
    }

    /// The first record that must be replayed by whoever has the state of the newest good checkpoint, or of the newest that is
    /// not behind the record `until`. Files are read only if nobody knows of that one that it is good. `look` gives the manifest as it is now: a checkpoint that was
    /// removed meanwhile, because a newer one was taken, is not passed over for an older one, but for that.
    ///
    /// # Errors
    /// [`RecoveryError::NoCheckpoint`] if the log alone does not lead to the state; [`RecoveryError::Truncated`] if
    /// none leads to `until`, and none of those that should is damaged; [`RecoveryError::Newer`],
    /// [`RecoveryError::Compressed`].
    pub fn replay_from(
        &self,
        dir: &Arc<dyn LogDir>,
        until: Option<Lsn>,
        look: &mut dyn FnMut() -> Result<Arc<Manifest>, RecoveryError>,
    ) -> Result<Lsn, RecoveryError> {
        let manifest = look()?;
        let manifest = until.map_or(manifest.clone(), |until| Arc::new(manifest.as_of(until)));
        match manifest.newest_checkpoint() {
            Some(newest) if self.is(newest) => return Ok(newest.replay_from),
            None if manifest.log_start == Lsn::FIRST => return Ok(Lsn::FIRST),
            _ => {}
        }
        match newest_good_now(dir, until, look, &mut |_| Ok(())) {
            Ok(selection) => {
                if let Some(newest) = selection.parts.last()
                    && selection.passed_over.is_empty()
                {
                    self.set(newest.named());
                }
                Ok(selection.replay_from)
            }
            Err(Cut::Recovery(error)) => Err(error),
            // No time was set.
            Err(Cut::Time) => Ok(manifest.log_start),
        }
    }
}

/// No checkpoint that is not newer than a point: if there never was one that is still named, the log was cut behind it.
fn unless_too_old(error: RecoveryError) -> RecoveryError {
    match error {
        RecoveryError::NoCheckpoint { log_start, passed_over } if passed_over.is_empty() => {
            RecoveryError::Truncated { first_lsn: log_start }
        }
        error => error,
    }
}

/// As [`newest_good`], of the checkpoints that are not newer than the record `until`, if there is one, and of a manifest
/// that others may change meanwhile: `look` gives it as it is now. Whoever takes a checkpoint may remove what this one
/// looks for, after the manifest has changed.
pub(crate) fn newest_good_now(
    dir: &Arc<dyn LogDir>,
    until: Option<Lsn>,
    look: &mut dyn FnMut() -> Result<Arc<Manifest>, RecoveryError>,
    tick: &mut Tick<'_>,
) -> Result<Selection, Cut> {
    let mut manifest = look()?;
    loop {
        let selected = match until {
            Some(until) => match newest_good(dir, &manifest.as_of(until), tick) {
                Err(Cut::Recovery(error)) => Err(unless_too_old(error).into()),
                selected => selected,
            },
            None => newest_good(dir, &manifest, tick),
        };
        let now = look()?;
        #[cfg(braidlog_sabotage)]
        let now =
            if braidlog_sabotage::is("checkpoint_not_looked_for_again") { manifest.clone() } else { now };
        if now.checkpoints == manifest.checkpoints {
            return selected;
        }
        manifest = now;
    }
}

/// Reads and checks checkpoints from the newest on, until one can be used.
///
/// # Errors
/// [`RecoveryError::NoCheckpoint`] if there is none and the log does not begin with its first record;
/// [`RecoveryError::Newer`], [`RecoveryError::Compressed`].
fn newest_good(dir: &Arc<dyn LogDir>, manifest: &Manifest, tick: &mut Tick<'_>) -> Result<Selection, Cut> {
    // Who names a checkpoint has an identity.
    let log_id = manifest.log_id().unwrap_or_default();
    let all = manifest.checkpoints.as_slice();
    let log_start = manifest.log_start;
    let mut passed_over: Vec<PassedOver> = Vec::new();
    // What was found in files that others rest on.
    let mut known: BTreeMap<u64, Option<PassedOverCause>> = BTreeMap::new();
    'newest: for candidate in all.iter().rev() {
        let mut pass = |why| passed_over.push(PassedOver { checkpoint: CheckpointInfo::of(candidate), why });
        let replay_from = candidate.replay_from;
        if replay_from < log_start {
            pass(PassedOverCause::LogGone { replay_from, log_start });
            continue;
        }
        let Some(chain) = chain::chain_of(all, candidate.number) else {
            pass(PassedOverCause::NoBase { base: candidate.base });
            continue;
        };
        let mut parts = Vec::new();
        for named in &chain {
            let opened = match known.get(&named.number) {
                Some(Some(why)) => Err(why.clone()),
                seen => open_checked(dir, log_id, named, seen.is_some(), tick)?,
            };
            known.insert(named.number, opened.as_ref().err().cloned());
            match opened {
                Ok(part) => parts.push(part),
                Err(why) => {
                    // What is wrong with a base is told when its own turn comes.
                    let is_itself = named.number == candidate.number;
                    pass(if is_itself { why } else { PassedOverCause::NoBase { base: candidate.base } });
                    continue 'newest;
                }
            }
        }
        return Ok(Selection { parts, replay_from, durable: manifest.durable, passed_over });
    }
    if log_start == Lsn::FIRST {
        let durable = manifest.durable;
        return Ok(Selection { parts: Vec::new(), replay_from: log_start, durable, passed_over });
    }
    Err(RecoveryError::NoCheckpoint { log_start, passed_over }.into())
}

/// The open file of a checkpoint, checked unless that was done; or why it cannot be used.
fn open_checked(
    dir: &Arc<dyn LogDir>,
    log_id: LogId,
    named: &ManifestCheckpoint,
    is_known: bool,
    tick: &mut Tick<'_>,
) -> Result<Result<Part, PassedOverCause>, Cut> {
    let part = match Part::open(dir, log_id, named) {
        Ok(part) => part,
        Err(error) => return cause_of(error).map(Err),
    };
    #[cfg(braidlog_sabotage)]
    let is_known = is_known || braidlog_sabotage::is("checkpoint_not_verified");
    if is_known {
        return Ok(Ok(part));
    }
    match part.check(tick) {
        Ok(()) => Ok(Ok(part)),
        Err(Cut::Recovery(error)) => cause_of(error).map(Err),
        Err(Cut::Time) => Err(Cut::Time),
    }
}

/// Why a checkpoint is done without whose file cannot be had so; or an error that is none of its file.
pub(crate) fn cause_of(error: RecoveryError) -> Result<PassedOverCause, Cut> {
    Ok(match error {
        RecoveryError::Damaged(damage) => PassedOverCause::Damaged(damage),
        RecoveryError::Foreign { file, what } => PassedOverCause::Foreign { file, what },
        RecoveryError::Io { file, source, .. } if source.kind() == ErrorKind::NotFound => {
            PassedOverCause::Missing { file }
        }
        RecoveryError::Io { file, source, .. } => PassedOverCause::Unreadable { file, kind: source.kind() },
        error => return Err(error.into()),
    })
}
