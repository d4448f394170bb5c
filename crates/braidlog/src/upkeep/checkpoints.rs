//! When a checkpoint is due, and taking one by the snapshot source.

use std::error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::Manifest;

use super::Upkeep;
use crate::event::Event;
use crate::log::{Log, LogRef};
use crate::{Error, Result, Wal};

/// What a snapshot source fails with.
pub(crate) type SourceError = Box<dyn error::Error + Send + Sync>;

type TakeCheckpoint = dyn Fn(&Wal) -> Result<(), SourceError> + Send + Sync;

/// What takes automatic checkpoints.
#[derive(Clone)]
pub(crate) struct Source(Arc<TakeCheckpoint>);

impl Source {
    pub(crate) fn new(source: impl Fn(&Wal) -> Result<(), SourceError> + Send + Sync + 'static) -> Source {
        Source(Arc::new(source))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// The last checkpoint, or the beginning of this opening: what the policy counts from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastCheckpoint {
    /// Its number; 0 if there is none.
    number: u64,
    /// When it was noticed, on the monotonic clock.
    at: Duration,
    /// Bytes that had been written to the log by then.
    bytes: u64,
    /// Whether it was told that the next one is due.
    due_told: bool,
}

impl LastCheckpoint {
    pub(super) fn opened(&mut self, manifest: &Manifest, now: Duration) {
        *self = LastCheckpoint { number: number_of(manifest), at: now, bytes: 0, due_told: false };
    }
}

fn number_of(manifest: &Manifest) -> u64 {
    manifest.newest_checkpoint().map_or(0, |newest| newest.number)
}

impl Upkeep {
    pub(crate) fn set_source(&self, source: Option<Source>) {
        let before = {
            let mut state = self.state();
            let source = source.filter(|_| !state.stopped);
            std::mem::replace(&mut state.source, source)
        };
        drop(before);
        self.ask();
    }

    /// If a checkpoint is due: the last durable LSN, and how many records the last checkpoint lacks.
    pub(crate) fn due(&self, log: &Log) -> Option<(Lsn, u64)> {
        let manifest = self.plan.store.current();
        let now = self.plan.clock.monotonic();
        let bytes = log.engine.bytes_written();
        let durable = log.engine.durable_lsn();
        let held = manifest.newest_checkpoint().map_or(Lsn::ZERO, |newest| newest.lsn);
        let mut state = self.state();
        let last = &mut state.last_checkpoint;
        if last.number != number_of(&manifest) {
            *last = LastCheckpoint { number: number_of(&manifest), at: now, bytes, due_told: false };
        }
        let records = durable.0.saturating_sub(held.0);
        let since = now.saturating_sub(last.at);
        let is_due = self.plan.checkpoint_policy.is_due(since, records, bytes.saturating_sub(last.bytes));
        is_due.then_some((durable, records))
    }

    /// A checkpoint is complete and durable.
    pub(crate) fn checkpoint_taken(&self, lsn: Lsn) {
        self.state().counts.checkpoints += 1;
        self.tell([Event::CheckpointTaken { lsn }]);
        self.ask();
    }

    pub(super) fn checkpoint_if_due(&self, log: &Arc<Log>) -> Result<()> {
        let Some((durable, records)) = self.due(log) else { return Ok(()) };
        let (was_told, source) = {
            let mut state = self.state();
            (std::mem::replace(&mut state.last_checkpoint.due_told, true), state.source.clone())
        };
        self.tell((!was_told).then_some(Event::CheckpointDue { durable, records }));
        let Some(Source(source)) = source else { return Ok(()) };
        let wal = Wal::of(LogRef::for_callback(Arc::clone(log)));
        let taken = catch_unwind(AssertUnwindSafe(|| source(&wal)));
        let failed = |error: io::Error| Error::open("take an automatic checkpoint", &self.plan.path, error);
        match taken {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => failed(io::Error::other(error)),
            }),
            Err(_) => Err(failed(io::Error::other("the snapshot source panicked"))),
        }
    }
}
