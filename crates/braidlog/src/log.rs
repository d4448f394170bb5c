//! What all handles of one open log share: the engine that writes, the reader, and what was found at open.
//!
//! The rule: every handle reaches the engine through here, so that each inner error gets the log's path,
//! and the records of a call that were accepted, in one place.

use std::io::IoSlice;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use braidlog_engine::{BatchBuf, Commit, Durability, Engine, EngineError, EntryParts, How, Rung, Wait};
use braidlog_format::{Kind, Lsn, LsnRange, MANIFEST_TEXT_MAX, TxId};
use braidlog_recovery::{Checkpoints, LogReader, ManifestStore, RecoveryReport};
use braidlog_storage::{Clock, LogDir, Storage};

use crate::gate::{Gate, Inside};
use crate::prepared::GlobalIds;
use crate::streaming::LateAborts;
use crate::streams::Streams;
use crate::upkeep::Upkeep;
use crate::{Append, Error, Kinds, Result};

pub(crate) struct Log {
    pub(crate) path: Arc<Path>,
    pub(crate) engine: Engine,
    pub(crate) reader: LogReader,
    pub(crate) report: RecoveryReport,
    /// Where the log starts, and what else it knows of its own life.
    pub(crate) manifest: Arc<ManifestStore>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) dir: Arc<dyn LogDir>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Who is at work in the directory beside the engine.
    pub(crate) gate: Gate,
    /// The most checkpoints of changes in a row.
    pub(crate) checkpoint_chain_max: usize,
    /// How many chains of checkpoints are kept.
    pub(crate) checkpoints_kept: usize,
    pub(crate) upkeep: Arc<Upkeep>,
    /// Where the files are, for a backup.
    pub(crate) storage: Arc<dyn Storage>,
    /// What an append asks for that does not say.
    pub(crate) durability: Durability,
    pub(crate) max_record_bytes: u64,
    /// The names of kinds.
    pub(crate) kinds: Kinds,
    /// Whether the log may have threads of its own.
    pub(crate) background_threads: bool,
    /// How many transactions were begun.
    pub(crate) transactions: AtomicU64,
    /// The global ids of prepared transactions.
    pub(crate) global_ids: GlobalIds,
    /// Streaming transactions that were given up without a word in the log.
    pub(crate) late_aborts: LateAborts,
    pub(crate) streams: Streams,
    /// Set when `close` is called.
    pub(crate) closed: OnceLock<()>,
}

/// A handle's reference to the log. A clone shares a count with the one that it is cloned from: a ticket's is its
/// writer's, so that threads with a writer each count in memory of their own.
#[derive(Clone)]
pub(crate) struct LogRef(Arc<Held>);

/// What a handle has of the log.
struct Held {
    log: Arc<Log>,
    /// `None` in a handle that a callback was given: it does not keep the log open.
    open: Option<Arc<Open>>,
}

/// What keeps the log open: it is closed when the last of its counts goes, whoever is at work on it then. The upkeep
/// counts the log, not this, so who dropped the last handle finds the directory free.
struct Open(Arc<Log>);

impl Drop for Open {
    fn drop(&mut self) {
        // Nobody is there to be told. If this thread is at work in the directory, the log ends with that work.
        let _ = self.0.close();
    }
}

impl LogRef {
    pub(crate) fn new(log: Log) -> LogRef {
        let log = Arc::new(log);
        let open = Some(Arc::new(Open(Arc::clone(&log))));
        LogRef(Arc::new(Held { log, open }))
    }

    /// One for a callback of the log's own.
    pub(crate) fn for_callback(log: Arc<Log>) -> LogRef {
        LogRef(Arc::new(Held { log, open: None }))
    }

    /// The log itself, counted by all.
    pub(crate) fn shared(&self) -> &Arc<Log> {
        &self.0.log
    }

    /// One with a count of its own.
    pub(crate) fn another(&self) -> LogRef {
        let Held { log, open } = &*self.0;
        LogRef(Arc::new(Held { log: Arc::clone(log), open: open.clone() }))
    }
}

impl Deref for LogRef {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.0.log
    }
}

impl Log {
    /// Appends, waiting for room and then for durability as long as `wait` allows.
    #[inline]
    pub(crate) fn append(&self, append: Append<'_>, stripe: Option<usize>, wait: Wait) -> Result<Lsn> {
        let durability = append.durability.unwrap_or(self.durability);
        self.place(append, How { stripe, wait, commit: Commit::Wait(durability) })
    }

    #[inline]
    pub(crate) fn place(&self, append: Append<'_>, how: How) -> Result<Lsn> {
        let appended = match append.plain() {
            Some(payload) => self.engine.append(Kind(append.kind), payload, how),
            None => append.with_parts(|parts| self.engine.append_parts(parts, how)),
        };
        appended.map_err(|error| self.error(error))
    }

    /// Appends if there is room now, and then waits as long as the durability that is asked for takes.
    pub(crate) fn try_append(&self, append: Append<'_>, stripe: Option<usize>) -> Result<Lsn> {
        let lsn = self.submit(append, stripe)?;
        match append.durability.unwrap_or(self.durability) {
            Durability::Async => {}
            Durability::Synchronous | Durability::GroupCommit => {
                self.wait(only(lsn), Rung::Durable, Wait::Forever)?
            }
        }
        Ok(lsn)
    }

    /// Appends if there is room now, and waits for nothing.
    #[inline]
    pub(crate) fn submit(&self, append: Append<'_>, stripe: Option<usize>) -> Result<Lsn> {
        let durability = append.durability.unwrap_or(self.durability);
        self.place(append, How { stripe, wait: Wait::Never, commit: Commit::Later(durability) })
    }

    pub(crate) fn append_batch(&self, batch: &BatchBuf, how: How) -> Result<LsnRange> {
        self.engine.append_batch(batch, how).map_err(|error| self.error(error))
    }

    /// Appends a mark of a transaction, given in pieces.
    pub(crate) fn append_mark(&self, kind: Kind, pieces: &[&[u8]], how: How) -> Result<Lsn> {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let parts = EntryParts { kind, fields: &[], pieces: &pieces };
        self.engine.append_parts(parts, how).map_err(|error| self.error(error))
    }

    /// The id of a transaction that begins. Nobody is shown one whose opening the log may forget: the next opening would give
    /// the same again.
    pub(crate) fn next_transaction(&self) -> Result<TxId> {
        self.engine.ensure_begun().map_err(|error| self.error(error))?;
        let number = self.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        let incarnation = self.engine.incarnation();
        #[cfg(braidlog_sabotage)]
        let incarnation = if braidlog_sabotage::is("transactions_numbered_from_one_at_every_opening") {
            braidlog_format::Incarnation(1)
        } else {
            incarnation
        };
        TxId::new(incarnation, number).ok_or_else(|| {
            let what = "this log cannot number another transaction: an opening has 2^42 of them, and a log 2^22 openings with any";
            Error::refused(&self.path, what.to_owned())
        })
    }

    /// Waits until records that were accepted have come to the rung.
    pub(crate) fn wait(&self, lsns: LsnRange, rung: Rung, wait: Wait) -> Result<()> {
        self.engine.wait_reached(lsns.last, rung, wait).map_err(|error| self.error_after(error, lsns))
    }

    /// Waits for records that were just accepted, as this durability says.
    pub(crate) fn wait_committed(&self, lsns: LsnRange, durability: Durability) -> Result<()> {
        self.engine.wait_committed(lsns, durability).map_err(|error| self.error_after(error, lsns))
    }

    /// Makes all that was accepted durable, and ends the log for every handle.
    pub(crate) fn close(&self) -> Result<()> {
        if !self.gate.is_inside() && !self.engine.leave_wakers() {
            return Err(self.error(EngineError::Closed));
        }
        if !self.gate.close() {
            let what = "this thread is at work in the log's directory, which closing the log would wait for: close it afterwards";
            return Err(Error::refused(&self.path, what.to_owned()));
        }
        let _ = self.closed.set(());
        self.engine.close().map_err(|error| self.error(error))
    }

    /// Refuses to go on after `close`: the directory may belong to another writer by now.
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.closed.get() {
            Some(()) => Err(self.error(EngineError::Closed)),
            None => Ok(()),
        }
    }

    /// Refuses a name that the manifest cannot hold; `of` says whose it is.
    pub(crate) fn check_name(&self, of: &str, name: &str) -> Result<()> {
        let len = name.len();
        if (1..=MANIFEST_TEXT_MAX).contains(&len) {
            return Ok(());
        }
        let what = format!("the name of a {of} has 1 to {MANIFEST_TEXT_MAX} bytes, and this one {len}");
        Err(Error::refused(&self.path, what))
    }

    /// Refuses to wait for the log on a thread for which closing it would wait.
    pub(crate) fn check_may_wait(&self) -> Result<()> {
        if self.engine.is_own_thread() || self.gate.is_inside() {
            let what = "this thread is the log's own, or is at work in its directory, and closing the log would wait for it: \
                        ask without waiting, or on another thread";
            return Err(Error::refused(&self.path, what.to_owned()));
        }
        Ok(())
    }

    /// Lets the caller work in the directory, which is the log's until he has ended.
    pub(crate) fn enter(&self) -> Result<Inside<'_>> {
        self.gate.enter().ok_or_else(|| Error::closed(&self.path))
    }

    pub(crate) fn error(&self, error: EngineError) -> Error {
        Error::engine(&self.path, error)
    }

    pub(crate) fn error_after(&self, error: EngineError, accepted: LsnRange) -> Error {
        Error::engine_after(&self.path, error, accepted)
    }
}

/// The run of this one LSN, which need not be one that was given out.
pub(crate) fn only(lsn: Lsn) -> LsnRange {
    LsnRange { first: lsn, last: lsn }
}

/// Until `timeout` from now; one too long for the clock is for ever.
pub(crate) fn until(timeout: Duration) -> Wait {
    Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until)
}
