//! Recovery of an application: the newest good checkpoint, then the records behind it, in one call with one report.
//!
//! The rule: the application gets a checked state and then every durable record from where that state ends, or an error
//! and no claim. Nothing on disk changes, so whatever stopped it (the time, an error of the application, a panic) it can
//! be called again, with a state that is as new.

use std::collections::BTreeMap;
use std::time::Duration;

use braidlog_format::{Kind, Lsn, LsnRange};
use braidlog_storage::Clock;
use thiserror::Error;

use crate::ahead::ReadAhead;
use crate::checkpoint::CheckpointInfo;
use crate::checkpoint::reader::{CheckpointReader, Cut, TimeIsUp};
use crate::checkpoint::select::{PassedOver, Selection};
use crate::{BoxError, Loss, RecordRef, Records, RecoveryError};

/// A state that can be restored from checkpoints and records.
pub trait Restore {
    /// Takes the state of a checkpoint, or changes to it.
    ///
    /// The first call has [`base`](CheckpointReader::base) `None` and begins the state anew; each further one has the
    /// changes to what was taken before. Without a checkpoint there is no call.
    ///
    /// # Errors
    /// Whatever the application finds: the recovery ends with it.
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError>;

    /// Takes a record, in the order in which records [take effect](RecordRef::effective_at). If the checkpoint names an earlier
    /// record to be replayed upon it, some come again whose effect it holds already: those that took it up to the
    /// checkpoint's LSN.
    ///
    /// # Errors
    /// Whatever the application finds: the recovery ends with it, and the error says at which LSN.
    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError>;
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Applied {
    /// The state has its effect now.
    Applied,
    /// The state has it already, or has no use for it.
    Skipped,
}

/// Which part of a recovery is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RestorePhase {
    /// Checkpoint files are read and checked.
    Checking,
    /// The application takes the state of a checkpoint.
    Restoring,
    /// The application takes records.
    Replaying,
}

impl std::fmt::Display for RestorePhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RestorePhase::Checking => "checking a checkpoint",
            RestorePhase::Restoring => "restoring a checkpoint",
            RestorePhase::Replaying => "replaying records",
        })
    }
}

/// How far a recovery has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RestoreProgress {
    /// What is under way.
    pub phase: RestorePhase,
    /// Bytes of checkpoint files that were read in this phase.
    pub checkpoint_bytes: u64,
    /// Records that were replayed.
    pub records: u64,
    /// Records that there are to replay; 0 before that is known.
    pub records_total: u64,
    /// Bytes of their payloads until now.
    pub record_bytes: u64,
}

/// What a recovery did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The checkpoint that it began with; `None` if it began with the first record of the log.
    pub checkpoint: Option<CheckpointInfo>,
    /// How many files it took to restore that: one, and one for each change upon it.
    pub checkpoint_files: usize,
    /// Bytes of those files.
    pub checkpoint_bytes: u64,
    /// Newer checkpoints that could not be used, newest first, and why.
    pub passed_over: Vec<PassedOver>,
    /// The records that were replayed; empty if there were none.
    pub replayed: Option<LsnRange>,
    /// How many they were: `applied` and `skipped` together.
    pub total: u64,
    /// Records whose effect the state took.
    pub applied: u64,
    /// Records that the state had already, or had no use for.
    pub skipped: u64,
    /// Damaged places that cost no record: checkpoints that were passed over, and seals that opening the log found
    /// missing or damaged. Damage that costs a record is an error, never a count.
    pub damaged: u64,
    /// Bytes that opening the log cut because they had never been acknowledged.
    pub trimmed_bytes: u64,
    /// LSNs among those replayed that were given up earlier: no record has them.
    pub losses: Vec<Loss>,
    /// Records by kind.
    pub by_kind: BTreeMap<Kind, u64>,
    /// Bytes of their payloads.
    pub record_bytes: u64,
    /// Time by phase.
    pub time: RestoreTimes,
}

/// How long each phase of a recovery took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RestoreTimes {
    /// Opening the log for writing: the check of its chain and its end.
    pub opening: Duration,
    /// Reading and checking checkpoints.
    pub checking: Duration,
    /// Handing the state over.
    pub restoring: Duration,
    /// Replaying records.
    pub replaying: Duration,
}

impl RestoreTimes {
    /// All of them.
    pub fn total(&self) -> Duration {
        self.opening + self.checking + self.restoring + self.replaying
    }
}

/// Why a recovery did not come to its end.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The application could not take a state or a record.
    #[error("the application could not take {}: {source}", of(*lsn))]
    Application {
        /// The record; `None` if it was the state of a checkpoint.
        lsn: Option<Lsn>,
        /// What it said.
        source: BoxError,
    },
    /// The time was over.
    #[error(
        "the recovery did not end within {max_time:?}: it was {phase}, and {records} of {records_total} records were replayed"
    )]
    TimedOut {
        /// The time that was given.
        max_time: Duration,
        /// What was under way.
        phase: RestorePhase,
        /// Records that had been replayed.
        records: u64,
        /// Records that there were to replay; 0 if that was not known yet.
        records_total: u64,
    },
    /// The log or its checkpoints could not be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

fn of(lsn: Option<Lsn>) -> String {
    lsn.map_or("the state of a checkpoint".to_owned(), |lsn| format!("the record with LSN {lsn}"))
}

/// How a recovery goes about it.
pub struct RestoreHow<'a> {
    /// Where time comes from.
    pub clock: &'a dyn Clock,
    /// How long it may take, opening the log not counted.
    pub max_time: Option<Duration>,
    /// What may be read ahead of the application; `None` for nothing.
    pub ahead: Option<ReadAhead>,
    /// Bytes of records of open transactions that may be held, so as not to read them twice.
    pub held_bytes: usize,
    /// The record up to which the state is wanted: no newer checkpoint is used. `None` for the newest.
    pub until: Option<Lsn>,
    /// Told about once for each MiB, and at the end of each phase.
    pub progress: &'a mut dyn FnMut(&RestoreProgress),
}

/// Bytes between two calls of the progress.
const PROGRESS_LEN: u64 = 1 << 20;

/// A recovery under way.
pub(crate) struct Restoring<'a> {
    how: RestoreHow<'a>,
    began: Duration,
    phase_began: Duration,
    now: RestoreProgress,
    /// Bytes since the progress was last told.
    untold: u64,
}

impl<'a> Restoring<'a> {
    pub(crate) fn begin(how: RestoreHow<'a>) -> Restoring<'a> {
        let began = how.clock.monotonic();
        let now = RestoreProgress {
            phase: RestorePhase::Checking,
            checkpoint_bytes: 0,
            records: 0,
            records_total: 0,
            record_bytes: 0,
        };
        Restoring { how, began, phase_began: began, now, untold: 0 }
    }

    /// Bytes of records that may be held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.how.held_bytes
    }

    /// That so many bytes more of a checkpoint were read.
    pub(crate) fn tick(&mut self, bytes: u64) -> Result<(), TimeIsUp> {
        self.now.checkpoint_bytes = self.now.checkpoint_bytes.saturating_add(bytes);
        self.passed(bytes)
    }

    /// Hands over the state of the selection, and then the records behind it, up to `last`.
    pub(crate) fn run(
        mut self,
        selection: Selection,
        records: Records,
        last: Lsn,
        state: &mut dyn Restore,
    ) -> Result<RestoreReport, RestoreError> {
        let Selection { parts, replay_from, passed_over, .. } = selection;
        let mut report = RestoreReport {
            checkpoint: parts.last().map(|part| part.info()),
            checkpoint_files: parts.len(),
            checkpoint_bytes: parts.iter().map(|part| part.info().bytes).sum(),
            damaged: passed_over.len() as u64,
            passed_over,
            ..RestoreReport::default()
        };
        report.time.checking = self.end_phase(RestorePhase::Restoring);
        let mut base_lsn = None;
        for part in &parts {
            let mut tick = |bytes| self.tick(bytes);
            let mut part = part.read(base_lsn, &mut tick)?;
            let restored = state.restore(&mut part);
            base_lsn = Some(part.lsn());
            let cut = part.take_cut();
            match cut {
                None => restored.map_err(|source| RestoreError::Application { lsn: None, source })?,
                Some(cut) => return Err(self.cut(cut)),
            }
        }
        report.time.restoring = self.end_phase(RestorePhase::Replaying);
        if replay_from <= last {
            self.now.records_total = last.0 - replay_from.0 + 1;
            report.replayed = Some(LsnRange { first: replay_from, last });
            self.replay(records, last, state, &mut report)?;
        }
        report.total = self.now.records;
        report.record_bytes = self.now.record_bytes;
        report.time.replaying = self.end_phase(RestorePhase::Replaying);
        Ok(report)
    }

    fn replay(
        &mut self,
        mut records: Records,
        last: Lsn,
        state: &mut dyn Restore,
        report: &mut RestoreReport,
    ) -> Result<(), RestoreError> {
        if let Some(ahead) = self.how.ahead {
            records = records.read_ahead(ahead);
        }
        while let Some(record) = records.next_ref() {
            let record = record?;
            let (lsn, kind, len) = (record.lsn, record.kind, record.payload.len() as u64);
            let is_last = record.effective_at == last && !record.batch_continues;
            let applied =
                state.apply(record).map_err(|source| RestoreError::Application { lsn: Some(lsn), source })?;
            match applied {
                Applied::Applied => report.applied += 1,
                Applied::Skipped => report.skipped += 1,
            }
            *report.by_kind.entry(kind).or_default() += 1;
            self.now.records += 1;
            self.now.record_bytes = self.now.record_bytes.saturating_add(len);
            // What comes last is complete, however long it took.
            if let Err(TimeIsUp) = self.passed(len)
                && !is_last
            {
                return Err(self.timed_out());
            }
        }
        report.losses = records.losses().to_vec();
        Ok(())
    }

    /// Tells the progress if it is time to, and whether there is time left.
    fn passed(&mut self, bytes: u64) -> Result<(), TimeIsUp> {
        self.untold = self.untold.saturating_add(bytes);
        if self.untold >= PROGRESS_LEN {
            self.tell();
        }
        match self.how.max_time {
            Some(max) if self.how.clock.monotonic().saturating_sub(self.began) > max => Err(TimeIsUp),
            _ => Ok(()),
        }
    }

    fn tell(&mut self) {
        self.untold = 0;
        (self.how.progress)(&self.now);
    }

    /// Ends the phase that is under way; how long it took.
    fn end_phase(&mut self, next: RestorePhase) -> Duration {
        self.tell();
        if self.now.phase != next {
            self.now.phase = next;
            self.now.checkpoint_bytes = 0;
        }
        let now = self.how.clock.monotonic();
        let took = now.saturating_sub(self.phase_began);
        self.phase_began = now;
        took
    }

    pub(crate) fn cut(&self, cut: Cut) -> RestoreError {
        match cut {
            Cut::Time => self.timed_out(),
            Cut::Recovery(error) => error.into(),
        }
    }

    fn timed_out(&self) -> RestoreError {
        let RestoreProgress { phase, records, records_total, .. } = self.now;
        let max_time = self.how.max_time.unwrap_or_default();
        RestoreError::TimedOut { max_time, phase, records, records_total }
    }
}
