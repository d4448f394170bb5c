//! Checkpoints: states of the application in files of their own, so that what led to them need not be replayed.
//!
//! # Order
//! 1. A checkpoint is written under a temporary name, synced, renamed, and the directory is synced.
//! 2. The manifest names it, and forgets those that are not kept any more.
//! 3. The files of the forgotten ones are removed.
//!
//! A crash before 2 leaves a file that the manifest does not name, which the next opening removes; one before 3 as
//! well. So at each moment those that are named are whole, and no file that is named is ever written again. Nothing is
//! tried twice on one file: after a failed sync the next checkpoint has another number, and so another file.
//!
//! # Chains
//! A checkpoint holds all of the state, or what changed since the one before: [`chain`] decides what rests on what.

pub(crate) mod chain;
pub(crate) mod check;
pub(crate) mod reader;
pub(crate) mod select;
pub(crate) mod writer;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use braidlog_format::{
    CHECKPOINT_HEAD_LEN, CheckpointHead, CheckpointName, LogId, Lsn, ManifestCheckpoint, STREAM_END_LEN,
    STREAM_HEADER_LEN, StreamHeader, StreamKind, entry_len, unfinished_checkpoint_name,
};
use braidlog_storage::{Clock, LogDir};
use thiserror::Error;

use crate::locked::locked;
use crate::reserve::ReserveFor;
use crate::restore::{Restore, RestoreError, RestoreHow, RestoreReport, Restoring};
use crate::stream::StreamWriter;
use crate::{BoxError, LogReader, Manifest, ManifestStore, Needs, RecoveryError, compression};
use reader::{Cut, Tick};
use select::{KnownGood, Selection};
use writer::{CheckpointWriter, Failure};

/// A checkpoint that is complete and durable.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// Its number, which no other checkpoint of the log has; later ones have larger numbers.
    pub number: u64,
    /// It holds the state after the record with this LSN; [`Lsn::ZERO`]: before the first one.
    pub lsn: Lsn,
    /// The first record that must be replayed upon it: `lsn + 1`, or less while a transaction was open.
    pub replay_from: Lsn,
    /// The number of the checkpoint whose changes it holds; `None` if it holds all of the state.
    pub base: Option<u64>,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was begun, in nanoseconds since the Unix epoch.
    pub created_at_ns: u64,
    /// Name of its file.
    pub file: String,
}

/// Bytes of a checkpoint's file that holds nothing of a state: its header, its head and its end.
const EMPTY_LEN: u64 = STREAM_HEADER_LEN + entry_len(CHECKPOINT_HEAD_LEN as u64) + entry_len(STREAM_END_LEN);

impl CheckpointInfo {
    /// Whether it holds anything of a state. One without content says that the state is saved elsewhere.
    pub fn has_content(&self) -> bool {
        self.bytes > EMPTY_LEN
    }

    pub(crate) fn of(named: &ManifestCheckpoint) -> CheckpointInfo {
        CheckpointInfo {
            number: named.number,
            lsn: named.lsn,
            replay_from: named.replay_from,
            base: (named.base != 0).then_some(named.base),
            bytes: named.bytes,
            created_at_ns: named.created_at_ns,
            file: CheckpointName { lsn: named.lsn, number: named.number }.to_string(),
        }
    }

    /// All that a manifest names, in the order of their numbers.
    pub fn all(manifest: &Manifest) -> Vec<CheckpointInfo> {
        manifest.checkpoints.iter().map(CheckpointInfo::of).collect()
    }
}

/// What checkpoint is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointOrder {
    /// The state is that after the record with this LSN, which is durable.
    pub lsn: Lsn,
    /// How far the log is durable: the end of a batch, at or behind that record.
    pub durable: Lsn,
    /// The first record that must be replayed upon it.
    pub replay_from: Lsn,
    /// Whether only changes may be written, if there is a checkpoint to rest on.
    pub incremental: bool,
    /// Whether chunks are compressed.
    pub compress: bool,
    /// The most checkpoints that hold changes only, one upon the other.
    pub deltas_max: usize,
    /// How many chains are kept.
    pub chains_kept: usize,
}

/// Why there is no checkpoint. Those that there were are as before.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The application could not tell its state.
    #[error("the application could not write its state: {0}")]
    Application(BoxError),
    /// The order cannot be carried out.
    #[error(transparent)]
    Refused(CheckpointRefusal),
    /// The log is being closed.
    #[error("the log is being closed, and the checkpoint given up")]
    Cancelled,
    /// A file could not be written.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// Why an order cannot be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum CheckpointRefusal {
    /// There is a checkpoint of a later state.
    #[error("there is a checkpoint at LSN {newest} already, and they never go back: LSN {lsn} is below it")]
    GoesBack {
        /// The LSN that was asked for.
        lsn: Lsn,
        /// That of the newest checkpoint.
        newest: Lsn,
    },
    /// No replay can begin there upon that state.
    #[error("a replay upon the state at LSN {lsn} begins at {} or before, and at LSN 1 at the earliest: not at {replay_from}", lsn.next())]
    ReplayFrom {
        /// The LSN of the state.
        lsn: Lsn,
        /// Where replay was to begin.
        replay_from: Lsn,
    },
    /// What would have to be replayed was removed from the log.
    #[error("the log begins at LSN {log_start}, so no replay can begin at LSN {replay_from}")]
    BelowLog {
        /// Where replay was to begin.
        replay_from: Lsn,
        /// The first LSN of the log.
        log_start: Lsn,
    },
    /// This build has no compression.
    #[error("this build cannot compress: it was made without the cargo feature `zstd`")]
    NoCompression,
    /// The thread that asks is writing one.
    #[error("this thread is writing a checkpoint already")]
    Nested,
}

/// The checkpoints of a log that is open for writing. One is written at a time.
#[derive(Debug)]
pub struct Checkpoints {
    dir: Arc<dyn LogDir>,
    manifest: Arc<ManifestStore>,
    clock: Arc<dyn Clock>,
    log_id: LogId,
    writing: Mutex<Writing>,
    written: Condvar,
    /// Numbers of those that could not be read when somebody tried: nothing rests on them any more.
    bad: Mutex<BTreeSet<u64>>,
    good: KnownGood,
}

#[derive(Debug, Default)]
struct Writing {
    /// Who writes a checkpoint.
    by: Option<ThreadId>,
    /// The last number that was tried.
    tried: u64,
    /// Files of forgotten checkpoints that could not be removed, and of those that nobody knows to be named.
    leftover: Vec<String>,
}

impl Checkpoints {
    /// The checkpoints that the manifest names.
    pub fn new(
        dir: Arc<dyn LogDir>,
        manifest: Arc<ManifestStore>,
        clock: Arc<dyn Clock>,
        log_id: LogId,
    ) -> Checkpoints {
        let (writing, written) = (Mutex::default(), Condvar::new());
        let (bad, good) = (Mutex::default(), KnownGood::default());
        Checkpoints { dir, manifest, clock, log_id, writing, written, bad, good }
    }

    /// All checkpoints, in the order of their numbers.
    pub fn list(&self) -> Vec<CheckpointInfo> {
        CheckpointInfo::all(&self.manifest.current())
    }

    /// Whether this thread is writing one, and others wait for it.
    pub fn is_writing_here(&self) -> bool {
        locked(&self.writing).by == Some(thread::current().id())
    }

    /// Writes a checkpoint of the state that `fill` gives, and forgets those that are not kept any more. Waits while
    /// another is written. `is_cancelled` is asked at each write.
    ///
    /// # Errors
    /// See [`CheckpointError`]. Nothing but a file that means nothing stays behind, and the next opening removes it. If
    /// `fill` panics, the same holds.
    pub fn write(
        &self,
        order: &CheckpointOrder,
        is_cancelled: &dyn Fn() -> bool,
        fill: impl FnOnce(&mut CheckpointWriter<'_>) -> Result<(), BoxError>,
    ) -> Result<CheckpointInfo, CheckpointError> {
        #[cfg(braidlog_sabotage)]
        let order = &CheckpointOrder {
            replay_from: match order.replay_from {
                _ if braidlog_sabotage::is("open_transactions_forgotten") => order.lsn.next(),
                replay_from => replay_from,
            },
            ..*order
        };
        let mut turn = self.take_turn()?;
        let before = self.manifest.current();
        order.check(&before)?;
        let bad = locked(&self.bad).clone();
        #[cfg(braidlog_sabotage)]
        let bad = if braidlog_sabotage::is("damaged_checkpoint_built_upon") { BTreeSet::new() } else { bad };
        let base = if order.incremental {
            chain::base_for_next(&before.checkpoints, &bad, order.deltas_max)
        } else {
            None
        };
        let number = before.next_checkpoint.max(turn.tried() + 1);
        turn.set_tried(number);

        let name = CheckpointName { lsn: order.lsn, number }.to_string();
        let created_at_ns = self.clock.wall_ns();
        let mut unfinished = Unfinished {
            dir: &self.dir,
            name: unfinished_checkpoint_name(number),
            named: None,
            is_whole: false,
        };
        #[cfg(braidlog_sabotage)]
        if let Some(newest) = before.newest_checkpoint()
            && braidlog_sabotage::is("checkpoint_overwritten_in_place")
        {
            unfinished.name = CheckpointInfo::of(newest).file;
        }
        let header = StreamHeader::new(StreamKind::Checkpoint, self.log_id, number, created_at_ns);
        let stream = StreamWriter::create(&self.dir, &unfinished.name, header)?
            .with_reserve(self.manifest.reserve(ReserveFor::Checkpoint));
        let base_number = base.map(|base| base.number);
        let head = CheckpointHead { lsn: order.lsn, replay_from: order.replay_from, base: base_number };
        let base_lsn = base.map(|base| base.lsn);
        let mut writer = CheckpointWriter::begin(stream, &head, base_lsn, order.compress, is_cancelled)?;
        let filled = fill(&mut writer);
        match writer.take_failure() {
            None => filled.map_err(CheckpointError::Application)?,
            Some(Failure::Cancelled) => return Err(CheckpointError::Cancelled),
            Some(Failure::Recovery(error)) => return Err(error.into()),
        }
        unfinished.named = Some(&name);
        let finished = writer.finish(&name)?;
        // From here on it is the manifest that says what the file is.
        unfinished.is_whole = true;
        let named = ManifestCheckpoint {
            number,
            lsn: order.lsn,
            replay_from: order.replay_from,
            base: base_number.unwrap_or(0),
            bytes: finished.bytes,
            created_at_ns,
            end_checksum: finished.end_checksum,
        };
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("old_checkpoints_removed_first") {
            turn.remove(&self.dir, CheckpointInfo::all(&before).into_iter().map(|info| info.file).collect());
        }
        let changed = self.manifest.try_change(Some(ReserveFor::Named), |manifest| {
            // The log may have been truncated meanwhile.
            order.check(manifest)?;
            manifest.durable = manifest.durable.max(order.durable);
            manifest.next_checkpoint = number + 1;
            manifest.checkpoints.push(named);
            let kept = chain::kept(&manifest.checkpoints, &bad, order.chains_kept);
            manifest.checkpoints.retain(|checkpoint| kept.contains(&checkpoint.number));
            Ok::<(), CheckpointError>(())
        });
        if changed.is_err() {
            // A manifest that names it may stand there all the same, and then until the next change of it.
            let may_be_named =
                !Manifest::load(&self.dir).is_ok_and(|found| found.checkpoint(number).is_none());
            unfinished.is_whole = may_be_named;
            if may_be_named {
                turn.keep_for_now(name.clone());
            }
        }
        let after = changed?;
        self.good.set(&named);
        let forgotten = before.checkpoints.iter().filter(|old| after.checkpoint(old.number).is_none());
        turn.remove(&self.dir, forgotten.map(|old| CheckpointInfo::of(old).file).collect());
        Ok(CheckpointInfo::of(&named))
    }

    /// Restores `state` from the newest good checkpoint and the records of `reader` behind it, up to `last`, which is
    /// durable. What cannot be read is not built upon any more.
    ///
    /// # Errors
    /// See [`RestoreError`]; [`RecoveryError::NoCheckpoint`] if the log alone does not lead to the state.
    pub fn restore(
        &self,
        reader: &LogReader,
        last: Lsn,
        how: RestoreHow<'_>,
        state: &mut dyn Restore,
    ) -> Result<RestoreReport, RestoreError> {
        let until = how.until;
        restore_by(&mut |tick| self.newest_good(until, tick), reader, last, how, state)
    }

    /// What needs the log, and where its first reader stands. What cannot be read needs nothing: the checkpoint before
    /// it is what a recovery begins with.
    pub fn needs(&self, manifest: &Manifest, pin: Option<Lsn>) -> Needs {
        Needs::without(manifest, pin, &locked(&self.bad))
    }

    /// The first record that must be replayed by whoever has the state of the newest good checkpoint, or of the newest
    /// that is not behind the record `until`.
    ///
    /// # Errors
    /// As [`KnownGood::replay_from`].
    pub fn replay_from(&self, until: Option<Lsn>) -> Result<Lsn, RecoveryError> {
        self.good.replay_from(&self.dir, until, &mut || Ok(self.manifest.current()))
    }

    /// The newest good checkpoint that is not behind the record `until`, and where replay begins upon it.
    fn newest_good(&self, until: Option<Lsn>, tick: &mut Tick<'_>) -> Result<Selection, Cut> {
        let selected = select::newest_good_now(&self.dir, until, &mut || Ok(self.manifest.current()), tick);
        let passed_over = match &selected {
            Ok(selection) => selection.passed_over.as_slice(),
            Err(Cut::Recovery(RecoveryError::NoCheckpoint { passed_over, .. })) => passed_over,
            Err(_) => &[],
        };
        locked(&self.bad).extend(passed_over.iter().map(|passed| passed.checkpoint.number));
        selected
    }

    /// Waits until nobody else writes a checkpoint.
    fn take_turn(&self) -> Result<Turn<'_>, CheckpointError> {
        let me = thread::current().id();
        let mut writing = locked(&self.writing);
        while let Some(by) = writing.by {
            if by == me {
                return Err(CheckpointError::Refused(CheckpointRefusal::Nested));
            }
            writing = self.written.wait(writing).unwrap_or_else(PoisonError::into_inner);
        }
        writing.by = Some(me);
        Ok(Turn { of: self })
    }
}

/// As [`Checkpoints::restore`], of a log that is only read, beside a writer of another process or without one. Such a
/// writer waits for nobody: if it gives up records that are still to be replayed, the recovery ends with
/// [`RecoveryError::Truncated`], and one that is begun anew finds a newer checkpoint.
///
/// # Errors
/// As [`Checkpoints::restore`], and those of the manifest.
pub fn restore_read_only(
    dir: &Arc<dyn LogDir>,
    last: Lsn,
    how: RestoreHow<'_>,
    state: &mut dyn Restore,
) -> Result<RestoreReport, RestoreError> {
    // A checkpoint may be newer than the last sync mark, which is all that a reader elsewhere goes by: here it is known
    // how far the log is durable.
    let reader = LogReader::of_writer(Arc::clone(dir), Lsn::FIRST);
    let mut look = || Manifest::load(dir).map(Arc::new);
    let until = how.until;
    restore_by(&mut |tick| select::newest_good_now(dir, until, &mut look, tick), &reader, last, how, state)
}

/// Restores `state` from what `newest_good` selects, and the records behind it.
fn restore_by(
    newest_good: &mut dyn FnMut(&mut Tick<'_>) -> Result<Selection, Cut>,
    reader: &LogReader,
    last: Lsn,
    how: RestoreHow<'_>,
    state: &mut dyn Restore,
) -> Result<RestoreReport, RestoreError> {
    let mut restoring = Restoring::begin(how);
    loop {
        let selection = match newest_good(&mut |bytes| restoring.tick(bytes)) {
            Ok(selection) => selection,
            Err(cut) => return Err(restoring.cut(cut)),
        };
        // A checkpoint may have been taken since the caller asked how far the log is durable, and within a batch. The
        // manifest that names it says how far the log was durable by then, which is the end of one.
        let last = last.max(selection.durable);
        // Before the application gets anything, so that no truncation of this process passes what it will be given.
        match reader.iter(selection.replay_from, last) {
            Ok(records) => {
                let records = records.effects_holding(restoring.held_bytes());
                return restoring.run(selection, records, last, state);
            }
            // A newer checkpoint was taken just now, and the log cut by it.
            Err(RecoveryError::Truncated { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl CheckpointOrder {
    /// Whether it goes with what the log knows of itself.
    fn check(&self, manifest: &Manifest) -> Result<(), CheckpointError> {
        let CheckpointOrder { lsn, replay_from, .. } = *self;
        let refuse = |refusal| Err(CheckpointError::Refused(refusal));
        if self.compress && !compression::IS_SUPPORTED {
            return refuse(CheckpointRefusal::NoCompression);
        }
        if replay_from < Lsn::FIRST || replay_from > lsn.next() {
            return refuse(CheckpointRefusal::ReplayFrom { lsn, replay_from });
        }
        let log_start = manifest.log_start;
        if replay_from < log_start {
            return refuse(CheckpointRefusal::BelowLog { replay_from, log_start });
        }
        match manifest.newest_checkpoint() {
            Some(newest) if newest.lsn > lsn => {
                refuse(CheckpointRefusal::GoesBack { lsn, newest: newest.lsn })
            }
            _ => Ok(()),
        }
    }
}

/// The right to write a checkpoint, given back when it is dropped, in a panic too.
struct Turn<'a> {
    of: &'a Checkpoints,
}

impl Turn<'_> {
    fn tried(&self) -> u64 {
        locked(&self.of.writing).tried
    }

    fn set_tried(&mut self, number: u64) {
        locked(&self.of.writing).tried = number;
    }

    /// Leaves a file that the manifest on disk may name until the next checkpoint is named.
    fn keep_for_now(&mut self, name: String) {
        locked(&self.of.writing).leftover.push(name);
    }

    /// Removes files that the manifest does not name any more. One that cannot be removed now is tried again after the
    /// next checkpoint, and by the next opening.
    fn remove(&mut self, dir: &Arc<dyn LogDir>, mut names: Vec<String>) {
        names.append(&mut locked(&self.of.writing).leftover);
        names.retain(|name| match dir.remove(name) {
            Ok(()) => false,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        });
        locked(&self.of.writing).leftover = names;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(&self.of.writing).by = None;
        self.of.written.notify_one();
    }
}

/// A file that is removed if it does not come to its end.
struct Unfinished<'a> {
    dir: &'a Arc<dyn LogDir>,
    /// The name under which it is written.
    name: String,
    /// The one that it gets then.
    named: Option<&'a str>,
    is_whole: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            // What cannot be removed means nothing, and the next opening tries again.
            for name in std::iter::once(self.name.as_str()).chain(self.named) {
                drop(self.dir.remove(name));
            }
        }
    }
}
