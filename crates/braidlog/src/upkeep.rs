//! The upkeep of an open log: automatic checkpoints, retention, size. It is what makes a log bounded.
//!
//! # Rules
//! 1. One thread does it at a time: the maintenance thread as a chore, or a caller of [`Wal::maintain`].
//! 2. It holds no lock of the commit path, and nobody waits for it but who asks for it.
//! 3. What fails is told, tried again ever later, and keeps nothing else from being done. It loses nothing: a file goes
//!    only after the manifest has said, durably, that the log starts above it.
//! 4. Callbacks (events, the snapshot source) run without a lock, and may call the log.

mod backoff;
mod checkpoints;
mod compress;
mod retain;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use braidlog_engine::{Chore, HealthState};
use braidlog_format::Lsn;
use braidlog_recovery::{Extent, KeptBy, ManifestStore, Retention};
use braidlog_storage::{Clock, LogDir};

use crate::compress::Compression;
use crate::event::{Event, Listener, SizeState, UpkeepTask};
use crate::log::Log;
use crate::policy::CheckpointPolicy;
use crate::{Error, ErrorKind, Result};

use backoff::Backoff;
pub(crate) use checkpoints::Source;

use checkpoints::LastCheckpoint;
use compress::Compressing;
use retain::Seen;
use turn::Turn;

/// How often it is looked whether a checkpoint has become due, or whether a reader has gone on that keeps old segments.
const POLL: Duration = Duration::from_secs(1);

/// What the upkeep goes by.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) path: Arc<Path>,
    pub(crate) dir: Arc<dyn LogDir>,
    pub(crate) store: Arc<ManifestStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Retention,
    pub(crate) max_log_bytes: Option<u64>,
    pub(crate) checkpoint_policy: CheckpointPolicy,
    pub(crate) compression: Compression,
    pub(crate) compression_level: i32,
    pub(crate) on_event: Option<Listener>,
}

impl Plan {
    /// The least age by which anything goes; `None` if nothing does.
    fn age(&self) -> Option<Duration> {
        let compression = self.compression.age().filter(|age| *age > Duration::ZERO);
        self.retention.age.into_iter().chain(compression).min()
    }
}

#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) plan: Plan,
    /// When the log was opened, on the monotonic clock, and for how long it had been open before.
    opened_at: Duration,
    uptime_before: Duration,
    log: OnceLock<Weak<Log>>,
    turn: Turn,
    /// Held from the look at what is needed until the log starts where that look allows: a hold that is set meanwhile
    /// waits, and then sees where the log starts.
    cutting: Mutex<()>,
    compressing: Mutex<Compressing>,
    /// Who compresses on order now.
    compressing_by: Mutex<Option<ThreadId>>,
    state: Mutex<State>,
}

/// What the upkeep has come to.
#[derive(Debug, Default)]
struct State {
    stopped: bool,
    pauses: u32,
    source: Option<Source>,
    failures: BTreeMap<UpkeepTask, Failing>,
    counts: Counts,
    size: SizeState,
    log_bytes: u64,
    kept_by: Option<KeptBy>,
    last_checkpoint: LastCheckpoint,
    /// Since when segments have been finished, in uptime.
    sealed_at: BTreeMap<Lsn, Duration>,
    /// The uptime that the manifest knows.
    uptime_saved: Duration,
    seen: Option<Seen>,
    /// As of when the size is known.
    measured: Option<Seen>,
}

#[derive(Debug, Default)]
struct Failing {
    backoff: Backoff,
    error: Option<Error>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    runs: u64,
    checkpoints: u64,
    segments_removed: u64,
    segments_recycled: u64,
    bytes_freed: u64,
    segments_compressed: u64,
    bytes_saved: u64,
}

/// What the upkeep of a log has done and how it stands, given by [`Wal::upkeep`](crate::Wal::upkeep). Counts are of
/// this handle's time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpkeepStatus {
    /// Whether somebody holds it back: see [`Wal::pause_maintenance`](crate::Wal::pause_maintenance).
    pub paused: bool,
    /// How often it has looked for something to do.
    pub runs: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Segments given up, by retention or by [`Wal::truncate_before`](crate::Wal::truncate_before).
    pub segments_removed: u64,
    /// How many of them became files of new segments.
    pub segments_recycled: u64,
    /// Bytes of the segments that were given up.
    pub bytes_freed: u64,
    /// Segments compressed, by the [`compression`](crate::Options#structfield.compression) or by
    /// [`Wal::compress`](crate::Wal::compress).
    pub segments_compressed: u64,
    /// By how many bytes that made them smaller.
    pub bytes_saved: u64,
    /// Bytes of all files of the log at the last look, space that is allocated ahead included.
    pub log_bytes: u64,
    /// How that stands against [`max_log_bytes`](crate::Options#structfield.max_log_bytes).
    pub size: SizeState,
    /// The first LSN of the log.
    pub first_lsn: Lsn,
    /// What kept the log from starting later at the last look; `None` before the first.
    pub kept_by: Option<KeptBy>,
    /// Durable records that the last checkpoint does not hold.
    pub records_since_checkpoint: u64,
    /// For how long the log has been open for writing, over all openings.
    pub uptime: Duration,
    /// The tasks that failed when they were last tried.
    pub failing: Vec<UpkeepFailure>,
}

/// A task of the upkeep that fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpkeepFailure {
    /// Which one.
    pub task: UpkeepTask,
    /// Why it failed the last time.
    pub error: Error,
    /// How often it has failed in a row.
    pub failures: u32,
    /// After which time it is tried again.
    pub retry_in: Duration,
}

/// Holds back the upkeep of a log until it is dropped. Made by [`Wal::pause_maintenance`](crate::Wal::pause_maintenance).
#[must_use = "the upkeep goes on when this is dropped"]
pub struct Pause(Arc<Upkeep>);

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").field("path", &self.0.plan.path).finish_non_exhaustive()
    }
}

impl Upkeep {
    pub(crate) fn new(plan: Plan) -> Upkeep {
        let manifest = plan.store.current();
        let uptime_before = Duration::from_nanos(manifest.uptime_ns);
        let ages = manifest.ages.iter();
        let sealed_at = ages.map(|age| (age.base, Duration::from_nanos(age.sealed_at_uptime_ns))).collect();
        let state = State { sealed_at, uptime_saved: uptime_before, ..State::default() };
        Upkeep {
            opened_at: plan.clock.monotonic(),
            uptime_before,
            log: OnceLock::new(),
            turn: Turn::default(),
            cutting: Mutex::new(()),
            compressing: Mutex::default(),
            compressing_by: Mutex::default(),
            state: Mutex::new(state),
            plan,
        }
    }

    /// Tells it which log it is of, once that log is open, and has it begin.
    pub(crate) fn attach(&self, log: &Arc<Log>) {
        self.state().last_checkpoint.opened(&self.plan.store.current(), self.plan.clock.monotonic());
        let _ = self.log.set(Arc::downgrade(log));
        log.engine.ask_chore();
    }

    /// Does all that is due now, whatever failed before. The first error is given; all is tried.
    pub(crate) fn maintain(&self, log: &Arc<Log>) -> Result<()> {
        if log.checkpoints.is_writing_here() || self.is_compressing_here() {
            let what = "this thread is writing a checkpoint or compressing, for which the upkeep may be waiting: do it afterwards";
            return Err(Error::refused(&self.plan.path, what.to_owned()));
        }
        let Some(_turn) = self.turn.take() else { return Ok(()) };
        if !self.may_run(log) {
            return Ok(());
        }
        self.run_tasks(log, true)
    }

    pub(crate) fn pause(self: &Arc<Upkeep>) -> Pause {
        self.state().pauses += 1;
        // One that is under way ends first, unless it waits for this thread.
        if !self.is_compressing_here() && !self.log().is_some_and(|log| log.checkpoints.is_writing_here()) {
            drop(self.turn.take());
        }
        Pause(Arc::clone(self))
    }

    pub(crate) fn status(&self, log: &Log) -> UpkeepStatus {
        let manifest = self.plan.store.current();
        let held = manifest.newest_checkpoint().map_or(Lsn::ZERO, |newest| newest.lsn);
        let now = self.plan.clock.monotonic();
        let state = self.state();
        let failing = state.failures.iter().filter_map(|(&task, failing)| {
            let retry_in = failing.backoff.remaining(now)?;
            let error = failing.error.clone()?;
            Some(UpkeepFailure { task, error, failures: failing.backoff.failures, retry_in })
        });
        UpkeepStatus {
            paused: state.pauses > 0,
            runs: state.counts.runs,
            checkpoints: state.counts.checkpoints,
            segments_removed: state.counts.segments_removed,
            segments_recycled: state.counts.segments_recycled,
            bytes_freed: state.counts.bytes_freed,
            segments_compressed: state.counts.segments_compressed,
            bytes_saved: state.counts.bytes_saved,
            log_bytes: state.log_bytes,
            size: state.size,
            first_lsn: manifest.log_start,
            kept_by: state.kept_by.clone(),
            records_since_checkpoint: log.engine.durable_lsn().0.saturating_sub(held.0),
            uptime: self.uptime(),
            failing: failing.collect(),
        }
    }

    /// Whether something is wrong that a person should look at.
    pub(crate) fn needs_attention(&self) -> bool {
        let state = self.state();
        state.size == SizeState::Critical || state.failures.values().any(|failing| failing.error.is_some())
    }

    /// For how long the log has been open for writing, over all openings.
    pub(crate) fn uptime(&self) -> Duration {
        self.uptime_before + self.plan.clock.monotonic().saturating_sub(self.opened_at)
    }

    /// Has the chore run soon.
    pub(crate) fn ask(&self) {
        if let Some(log) = self.log() {
            log.engine.ask_chore();
        }
    }

    fn log(&self) -> Option<Arc<Log>> {
        self.log.get()?.upgrade()
    }

    fn may_run(&self, log: &Log) -> bool {
        let state = self.state();
        let works = !matches!(log.engine.health().state, HealthState::Failed | HealthState::Closed);
        works && !state.stopped && state.pauses == 0
    }

    fn run_tasks(&self, log: &Arc<Log>, forced: bool) -> Result<()> {
        self.state().counts.runs += 1;
        let mut result = Ok(());
        for task in UpkeepTask::ALL {
            if self.state().stopped {
                break;
            }
            let now = self.plan.clock.monotonic();
            let allowed = self.state().failures.get(&task).is_none_or(|failing| failing.backoff.allows(now));
            if !allowed && !forced {
                continue;
            }
            let done = with_space_of_spares(log, || match task {
                UpkeepTask::Checkpoint => self.checkpoint_if_due(log),
                UpkeepTask::Retention => self.keep_to_retention(log, forced),
                UpkeepTask::Compression => self.compress_due(log, forced),
                UpkeepTask::Size => self.measure(log, forced),
            });
            // A task that the log's close ends has not failed.
            if done.is_ok() || !log.gate.is_closing() {
                self.settle(task, &done);
            }
            result = result.and(done);
        }
        result
    }

    /// Counts what a task came to, and tells of it.
    fn settle(&self, task: UpkeepTask, done: &Result<()>) {
        let event = {
            let mut state = self.state();
            let failing = state.failures.entry(task).or_default();
            match done {
                Ok(()) => {
                    failing.error = None;
                    failing.backoff.succeeded().then_some(Event::UpkeepRecovered { task })
                }
                Err(error) => {
                    let retry_after = failing.backoff.failed(self.plan.clock.monotonic());
                    failing.error = Some(error.clone());
                    Some(Event::UpkeepFailed { task, error: error.clone(), retry_after })
                }
            }
        };
        self.tell(event);
    }

    /// Measures the log, and tells when its size is in another state.
    fn measure(&self, log: &Log, forced: bool) -> Result<()> {
        let plan = &self.plan;
        let looked = self.look(log);
        if !forced && self.state().measured == Some(looked) {
            return Ok(());
        }
        let Ok(inside) = log.enter() else { return Ok(()) };
        let look = || self.recovered(Extent::of(&plan.dir, plan.store.current().log_start));
        let mut extent = look()?;
        // Files that wait to be used again are no use to a log that is too large.
        if SizeState::of(extent.bytes, plan.max_log_bytes) > SizeState::Fine && log.engine.give_spares_up() {
            extent = look()?;
        }
        drop(inside);
        let size = SizeState::of(extent.bytes, plan.max_log_bytes);
        let before = {
            let mut state = self.state();
            state.log_bytes = extent.bytes;
            state.measured = Some(looked);
            std::mem::replace(&mut state.size, size)
        };
        let limit = plan.max_log_bytes.filter(|_| size != before);
        self.tell(limit.map(|limit| Event::SizeChanged { state: size, bytes: extent.bytes, limit }));
        Ok(())
    }

    /// After which time there may be something to do again.
    fn next_run(&self) -> Option<Duration> {
        let plan = &self.plan;
        let now = plan.clock.monotonic();
        let compression = self.compress_again();
        let state = self.state();
        let retries = state.failures.values().filter_map(|failing| failing.backoff.remaining(now));
        let is_heard = state.source.is_some() || plan.on_event.is_some();
        let waits_for_reader = matches!(state.kept_by, Some(KeptBy::Reader { .. }));
        let polls = (is_heard && plan.checkpoint_policy.is_ever_due()) || waits_for_reader;
        // Age is looked at, and saved, finely enough that a log keeps little longer than it should.
        let of_age =
            plan.age().map(|age| (age / 16).clamp(Duration::from_secs(1), Duration::from_secs(3600)));
        retries.chain(polls.then_some(POLL)).chain(of_age).chain(compression).min()
    }

    fn tell(&self, events: impl IntoIterator<Item = Event>) {
        let Some(listener) = &self.plan.on_event else { return };
        for event in events {
            // A listener that panics has had its say; the upkeep goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.tell(&event)));
        }
    }

    fn recovered<T>(&self, result: Result<T, braidlog_recovery::RecoveryError>) -> Result<T> {
        result.map_err(|error| Error::recovery(&self.plan.path, error))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does it again without the files that wait to be used again, if there is no space: they hold what it takes to make
/// some.
fn with_space_of_spares<T>(log: &Log, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    match attempt() {
        Err(error) if error.kind() == ErrorKind::NoSpace && log.engine.give_spares_up() => attempt(),
        done => done,
    }
}

impl Chore for Upkeep {
    fn run(&self) -> Option<Duration> {
        let log = self.log()?;
        let _turn = self.turn.take()?;
        if !self.may_run(&log) {
            return None;
        }
        // What failed is told and counted.
        let _ = self.run_tasks(&log, false);
        self.next_run()
    }

    fn stop(&self) {
        self.turn.end();
        let mut state = self.state();
        state.stopped = true;
        // It may own what owns the log.
        let source = state.source.take();
        drop(state);
        drop(source);
        self.stop_compressing();
    }

    fn closed(&self, last: Lsn) {
        if let Some(log) = self.log() {
            log.streams.note_counted(&log);
        }
        // Nothing is lost if it fails: see `Wal::close`.
        let _ = self.save_end(last);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.state().pauses -= 1;
        self.0.ask();
    }
}
