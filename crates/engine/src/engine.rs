//! The engine: an open log's write side, from start to close.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;

use braidlog_format::{Incarnation, Kind, LogId, LogTail, Lsn, LsnRange, SegmentName, prepared_name};
use braidlog_storage::{Clock, FileAccess, FileIo, LockGuard, LogDir, is_no_space};

use crate::append::{How, Wait};
use crate::batch::BatchBuf;
use crate::callers_lock;
use crate::chore::Chore;
use crate::commit::TaskKey;
use crate::error::EngineError;
use crate::live::LiveIndex;
use crate::metrics::{Health, HealthState, Metrics};
use crate::primitive::thread::{self, JoinHandle, ThreadId};
use crate::primitive::{Mutex, TriedMutex};
use crate::room::RoomKey;
use crate::rung::Rung;
use crate::settings::{Durability, IoMode, Settings, SyncMethod};
use crate::shared::Shared;
use crate::space::Gate;
use crate::stripe::EntryParts;
use crate::watch::WatchKey;
use crate::{flight, flusher, maintenance, wakers};

/// A sync that takes longer is told by [`Engine::health`].
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// The write side of an open log.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    log_id: LogId,
    incarnation: Incarnation,
    threads: Mutex<Threads>,
    /// What the first close came to; it holds the lock until then.
    closed: TriedMutex<Option<Result<(), EngineError>>>,
    /// The threads that a close under way waits for: the log's own, and the one that closes. A real lock: nobody
    /// holds it for longer than a look.
    awaited: parking_lot::Mutex<Vec<ThreadId>>,
}

/// The log's threads that run.
#[derive(Default)]
struct Threads {
    writing: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("log_id", &self.log_id)
            .field("incarnation", &self.incarnation)
            .finish()
    }
}

impl Engine {
    /// Starts to write where `tail` says that the log ends. The caller has recovered the directory and
    /// holds its lock, which the engine keeps until it is closed.
    ///
    /// Without space for a segment the engine starts all the same and takes appends once there is some. `chore` is
    /// run on the maintenance thread; a log without threads never runs it.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedIo`], [`EngineError::Start`], and [`EngineError::Failed`] if the first
    /// segment could not be put in place.
    pub fn start(
        dir: Arc<dyn LogDir>,
        lock: Box<dyn LockGuard>,
        tail: LogTail,
        settings: Settings,
        clock: Arc<dyn Clock>,
        chore: Option<Arc<dyn Chore>>,
    ) -> Result<Engine, EngineError> {
        let io = probe(&*dir, &settings)?;
        let background = settings.background;
        let shared = Arc::new(Shared::new(dir, lock, &tail, settings, clock, io, chore));
        match shared.preparer.prepare(0) {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {}
            Err(source) => {
                return Err(EngineError::Start {
                    what: "prepare the first segment",
                    source: Arc::new(source),
                });
            }
        }
        // Nobody waits for space in here: an open that could not go on would not return.
        shared.closing.store(true, Relaxed);
        let _ = shared.role().begin_if_prepared(&shared);
        shared.closing.store(false, Relaxed);
        if let Some(failure) = shared.failure.get() {
            return Err(EngineError::Failed { failure: failure.clone(), lsns: None });
        }
        let engine = Engine {
            shared,
            log_id: tail.log_id,
            incarnation: tail.incarnation,
            threads: Mutex::new(Threads::default()),
            closed: TriedMutex::new(None),
            awaited: parking_lot::Mutex::default(),
        };
        if background {
            let start = |what, started: std::io::Result<JoinHandle<()>>| {
                started.map_err(|source| EngineError::Start { what, source: Arc::new(source) })
            };
            let mut threads = engine.threads.lock();
            threads.others.push(start("start the maintenance thread", maintenance::start(&engine.shared))?);
            threads.others.push(start("start the waking thread", wakers::start(&engine.shared))?);
            threads.others.push(start("start the background thread", flusher::start(&engine.shared))?);
            threads.writing = Some(start("start the writing thread", flight::start(&engine.shared))?);
            let all = threads.others.iter().chain(&threads.writing);
            engine.awaited.lock().extend(all.map(|thread| thread.thread().id()));
            drop(threads);
        }
        Ok(engine)
    }

    /// Appends one record.
    ///
    /// # Errors
    /// See [`EngineError`]; an error that carries LSNs is indeterminate, any other left nothing behind.
    #[inline]
    pub fn append(&self, kind: Kind, payload: &[u8], how: How) -> Result<Lsn, EngineError> {
        self.shared.append(kind, payload, how)
    }

    /// Appends one entry in pieces, copied into the log where they are. Its kind may be one of the log's own that take
    /// an LSN.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn append_parts(&self, parts: EntryParts<'_>, how: How) -> Result<Lsn, EngineError> {
        self.shared.append_parts(parts, how)
    }

    /// Appends an atomic batch: recovered whole or not at all.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn append_batch(&self, batch: &BatchBuf, how: How) -> Result<LsnRange, EngineError> {
        self.shared.append_batch(batch, how)
    }

    /// Appends one record when there is room, and waits for no round: has `waker` woken when there may be some. It waits for a file
    /// where the blocking call makes one itself: for a record larger than the budget, or while the chore keeps the
    /// maintenance thread from the next segment's. `key` is `None` at
    /// the first call and names the wait afterwards; [`Engine::forget_room`] ends it early, and then nothing was appended.
    /// A call that was ready appended: it is not repeated.
    ///
    /// # Errors
    /// As [`Engine::append`]; it left nothing behind.
    pub fn poll_append(
        &self,
        kind: Kind,
        payload: &[u8],
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        self.shared.poll_append(kind, payload, stripe, key, waker)
    }

    /// As [`Engine::poll_append`], for an entry in pieces, whose kind may be one of the log's own.
    ///
    /// # Errors
    /// As there.
    pub fn poll_append_parts(
        &self,
        parts: EntryParts<'_>,
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        self.shared.poll_append_parts(parts, stripe, key, waker)
    }

    /// As [`Engine::poll_append`], for an atomic batch.
    ///
    /// # Errors
    /// As there.
    pub fn poll_append_batch(
        &self,
        batch: &BatchBuf,
        stripe: Option<usize>,
        key: &mut Option<RoomKey>,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        self.shared.poll_append_batch(batch, stripe, key, waker)
    }

    /// Ends the wait of a task that wants to append no more.
    pub fn forget_room(&self, key: RoomKey) {
        self.shared.forget_room(key);
    }

    /// Waits until `lsn` has come to `rung`; asks for what that takes at once.
    ///
    /// # Errors
    /// [`EngineError::UnknownLsn`] if it was not given out, [`EngineError::TimedOut`], and
    /// [`EngineError::Failed`] if the log failed before it was there.
    pub fn wait_reached(&self, lsn: Lsn, rung: Rung, wait: Wait) -> Result<(), EngineError> {
        self.shared.wait_reached(lsn, rung, wait)
    }

    /// Waits until records that this caller appended for later are durable, as an append of this durability that waits would.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    pub fn wait_committed(&self, lsns: LsnRange, durability: Durability) -> Result<(), EngineError> {
        self.shared.wait_committed(lsns, durability)
    }

    /// Asks for what it takes at once, and has `waker` woken when `lsn`, which was given out, has come to `rung` or the log has
    /// failed. `key` is `None` at the first call for a wait and names it afterwards; [`Engine::forget`] ends it early.
    pub fn poll_reached(
        &self,
        lsn: Lsn,
        rung: Rung,
        key: &mut Option<TaskKey>,
        waker: &Waker,
    ) -> Poll<Result<(), EngineError>> {
        self.shared.poll_reached(LsnRange { first: lsn, last: lsn }, rung, key, waker)
    }

    /// Ends the wait of a task that asks no more.
    pub fn forget(&self, key: TaskKey) {
        self.shared.forget(key);
    }

    /// The durable LSN, if it is beyond `seen`; an error if it never will be. Neither waits nor asks for a sync.
    ///
    /// # Errors
    /// [`EngineError::Closed`] and [`EngineError::Failed`], when what became durable before that was told.
    pub fn beyond(&self, seen: Lsn) -> Result<Option<Lsn>, EngineError> {
        self.shared.beyond(seen).transpose()
    }

    /// Waits until the durable LSN is beyond `seen`, and asks for no sync.
    ///
    /// # Errors
    /// [`EngineError::TimedOut`], and as [`Engine::beyond`].
    pub fn wait_beyond(&self, seen: Lsn, wait: Wait) -> Result<Lsn, EngineError> {
        self.shared.wait_beyond(seen, wait)
    }

    /// Has `waker` woken when [`Engine::beyond`] gives an answer. `key` is `None` at the first call, and is kept for the
    /// next one; [`Engine::end_watch`] ends the watch.
    pub fn poll_beyond(
        &self,
        seen: Lsn,
        key: &mut Option<WatchKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        self.shared.poll_beyond(seen, key, waker)
    }

    /// Ends the watch of a task that asks no more.
    pub fn end_watch(&self, key: &mut Option<WatchKey>) {
        self.shared.end_watch(key);
    }

    /// Whether the calling thread is one of the log's own, is closing it, or runs a waker of it. Others wait for such a thread, so it
    /// must not wait for what they do.
    pub fn is_own_thread(&self) -> bool {
        self.awaited.lock().contains(&thread::current().id()) || self.shared.wakers.is_run_here()
    }

    /// To be called before a thread waits for others in order to close the log. They may wait for what this thread owes them, if it runs a
    /// waker of the log: wakers that stand behind that one, or, on one of the log's own threads, all that it does. So the log
    /// accepts no more then, what it has accepted is made durable, and those wakers are run; later ones are run on another thread.
    ///
    /// `false` if a waker must not wait, because another one has begun to close the log.
    pub fn leave_wakers(&self) -> bool {
        let shared = &self.shared;
        if !shared.wakers.is_run_here() {
            return true;
        }
        if !shared.wakers.leave() {
            return false;
        }
        if shared.settings.background
            && let Ok(thread) = wakers::start(shared)
        {
            self.threads.lock().others.push(thread);
        }
        let last = shared.lsns.end();
        shared.wake_writers();
        shared.wakers.run_all();
        shared.drain(last);
        shared.wakers.run_all();
        true
    }

    /// Lets the caller append in `act` under a lock of his own, without waiting: no waker is run in it, and no round led, which waits for
    /// the disk. What this thread would do of that it does when `act` has returned, and the lock was given up in it.
    pub fn under_a_lock<T>(&self, act: impl FnOnce() -> T) -> T {
        let shared = &self.shared;
        let (done, owes_a_round) = callers_lock::within(act);
        if owes_a_round {
            shared.make_room(Wait::Never);
            // Giving the role up wakes who waits for room.
            drop(shared.try_role());
        }
        shared.wakers.run_unless_served();
        done
    }

    /// Sees to it that a segment of this opening is under the pen: its header is durable, so no later opening has this
    /// incarnation. Only an opening that found the device full is without one from its start.
    ///
    /// # Errors
    /// [`EngineError::NoSpace`] while there is no space for one, [`EngineError::Start`] if no file could be made for another
    /// reason, [`EngineError::Failed`] and [`EngineError::Closed`].
    pub fn ensure_begun(&self) -> Result<(), EngineError> {
        let shared = &*self.shared;
        if shared.pen_base.load(Relaxed) == 0 { shared.begin_first() } else { Ok(()) }
    }

    /// Waits until everything that was appended before the call is durable.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    pub fn flush(&self) -> Result<(), EngineError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("flush_does_not_sync") {
            return Ok(());
        }
        self.shared.flush()
    }

    /// Accepts no more, makes everything accepted durable, seals the segment, ends the threads and releases
    /// the directory. Later calls give what the first came to.
    ///
    /// # Errors
    /// [`EngineError::Failed`] with the LSNs that were accepted and could not be made durable;
    /// [`EngineError::Closed`] to a waker that the log runs while another call closes it.
    pub fn close(&self) -> Result<(), EngineError> {
        let this_thread = thread::current().id();
        // Another close may wait for this thread, or for a waker that stands behind the one that this thread runs.
        let closed = if self.is_own_thread() { self.closed.try_lock() } else { Some(self.closed.lock()) };
        let Some(mut closed) = closed else { return Err(EngineError::Closed) };
        if let Some(result) = &*closed {
            return result.clone();
        }
        self.awaited.lock().push(this_thread);
        let shared = &*self.shared;
        let last = shared.lsns.end();
        #[cfg(braidlog_sabotage)]
        let last = if braidlog_sabotage::is("close_does_not_drain") { Lsn::ZERO } else { last };
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("directory_released_first") {
            shared.lock.lock().take();
        }
        shared.hurry();
        shared.wake_writers();
        shared.jobs.end();
        if let Some(chore) = &shared.chore {
            chore.stop();
        }
        // Before the threads are waited for: a chore may be waiting for a record of its own, and the thread that would serve
        // it ends.
        shared.drain(last);
        // First the thread that writes, which runs no wakers and gives some; then the others, which may wait for one.
        shared.flight.end();
        let writing = self.threads.lock().writing.take();
        // A panic in it, or in another, has failed the log already, and is told below.
        let _ = writing.map(JoinHandle::join);
        shared.wakers.end();
        shared.wakers.run_all();
        shared.signal.notify();
        let others = std::mem::take(&mut self.threads.lock().others);
        for thread in others {
            // A waker that one of them runs may close the log: it does not wait for itself.
            if thread.thread().id() != this_thread {
                let _ = thread.join();
            }
        }
        let _ = shared.role().finish(shared);
        // An append that is still looking for room may be making a file.
        shared.preparer.end();
        for prepared in shared.space.take_all() {
            // What stays is removed at the next open.
            let _ = shared.dir.remove(&prepared.name);
        }
        if let Some(chore) = shared.chore.as_ref().filter(|_| shared.failure.get().is_none()) {
            chore.closed(shared.waiters.durable());
        }
        shared.lock.lock().take();
        let result = match shared.failure.get() {
            None => Ok(()),
            Some(failure) => {
                let lsns = LsnRange { first: shared.waiters.durable().next(), last };
                Err(EngineError::Failed {
                    failure: failure.clone(),
                    lsns: (!lsns.is_empty()).then_some(lsns),
                })
            }
        };
        #[cfg(braidlog_sabotage)]
        let result = if braidlog_sabotage::is("close_hides_the_failure") { Ok(()) } else { result };
        // Not before the directory is free: who is told that the log is closed may open it.
        shared.waiters.end();
        let wake_ups = shared.waiters.all();
        #[cfg(braidlog_sabotage)]
        let wake_ups =
            if braidlog_sabotage::is("watchers_not_told_of_close") { Default::default() } else { wake_ups };
        shared.wakers.wake(wake_ups.sleepers);
        shared.wakers.run_all();
        *closed = Some(result.clone());
        self.awaited.lock().clear();
        result
    }

    /// Asks for the chore to be run, once more if it runs just now. Never blocks; says whether there is a thread that
    /// will run it.
    pub fn ask_chore(&self) -> bool {
        self.shared.jobs.ask_chore()
    }

    /// Takes a segment's file that the log does not need any more, to begin a later segment in it. The caller has made
    /// sure, durably, that the log starts behind it, and that no reader of this process is in it.
    ///
    /// `true`: the name is gone from the directory, durably. `false`: nothing was changed, and the caller removes the
    /// file, because enough of them wait, it is linked from elsewhere, it is much shorter or longer than a segment, or it
    /// is not before the segment under the pen. Does not hold up appends.
    ///
    /// # Errors
    /// `InvalidInput` if it is no name of a segment; what the storage says: the name may be gone then, or not.
    pub fn recycle(&self, name: &str) -> io::Result<bool> {
        let shared = &*self.shared;
        let Some(segment) = SegmentName::parse(name) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a segment"));
        };
        if segment.0.0 >= shared.pen_base.load(Relaxed) || shared.failure.get().is_some() {
            return Ok(false);
        }
        let is_gone = shared.preparer.recycle(segment)?;
        // On a full device it may be what appends wait for.
        shared.prepare_ahead();
        shared.wakers.run_unless_served();
        Ok(is_gone)
    }

    /// Gives the files that wait to be recycled up, because their space is needed; says whether there were any.
    pub fn give_spares_up(&self) -> bool {
        self.shared.preparer.give_spares_up()
    }

    /// The last LSN given out; [`Lsn::ZERO`] in an empty log.
    pub fn last_lsn(&self) -> Lsn {
        self.shared.lsns.last()
    }

    /// Whether `lsn`, which was given out, has come to `rung`, and the log has not failed before it was durable.
    pub fn has_reached(&self, lsn: Lsn, rung: Rung) -> bool {
        matches!(self.shared.settled(rung, LsnRange { first: lsn, last: lsn }), Some(Ok(())))
    }

    /// The last LSN that has come to `rung`.
    pub fn watermark(&self, rung: Rung) -> Lsn {
        self.shared.watermark(rung)
    }

    /// The last LSN that survives a power cut.
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.waiters.durable()
    }

    /// Where the entries of the segment under the pen stand.
    pub fn live_index(&self) -> &Arc<LiveIndex> {
        &self.shared.live
    }

    /// The incarnation that this engine writes.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The log's identity.
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// How many stripes there are.
    pub fn num_stripes(&self) -> usize {
        self.shared.stripes.len()
    }

    /// A stripe for a writer handle to prefer, another at each call.
    pub fn next_stripe_hint(&self) -> usize {
        self.shared.stripes.next_hint()
    }

    /// How often a segment was followed by the next.
    pub fn rotations(&self) -> u64 {
        self.shared.counters.rotations.load(Relaxed)
    }

    /// Bytes of entries written, headers and padding included.
    pub fn bytes_written(&self) -> u64 {
        self.shared.counters.bytes.load(Relaxed)
    }

    /// What the log has done.
    pub fn metrics(&self) -> Metrics {
        let shared = &self.shared;
        // Read in the order in which they follow each other, so that the snapshot keeps durable <= last.
        let durable = shared.waiters.durable();
        let written = shared.waiters.written().max(durable);
        let last = shared.lsns.last().max(written);
        shared.counters.snapshot(last.0 + 1 - shared.first_lsn.0, written, durable, last)
    }

    /// Whether the log works, and why not.
    pub fn health(&self) -> Health {
        let shared = &self.shared;
        let since = shared.counters.sync_since.load(Relaxed).checked_sub(1).map(Duration::from_nanos);
        let sync_running_for = since.map(|since| shared.clock.monotonic().saturating_sub(since));
        // The end first: a failure is set before it ends the log, and must not look like a close.
        let is_ended = shared.lsns.is_ended();
        let failure = shared.failure.get().cloned();
        let state = if failure.is_some() {
            HealthState::Failed
        } else if is_ended {
            HealthState::Closed
        } else if shared.space.gate() == Gate::NoSpace {
            HealthState::NoSpace
        } else if sync_running_for.is_some_and(|running| running > SLOW_SYNC) {
            HealthState::SlowSync
        } else {
            HealthState::Ok
        };
        Health { state, failure, sync_running_for }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody is there to be told; what could not be saved was never acknowledged as durable.
        let _ = self.close();
    }
}

/// Finds out how the directory's files can be written, by writing one.
fn probe(dir: &dyn LogDir, settings: &Settings) -> Result<FileIo, EngineError> {
    // A name that is removed at the next open if this process ends here.
    let name = &prepared_name(u64::MAX);
    let (wanted, what) = match (settings.sync_method, settings.io_mode) {
        (SyncMethod::DirectSync, _) => (FileIo::DirectSync, "the sync method DirectSync"),
        (_, IoMode::Direct) => (FileIo::Direct, "the I/O mode Direct"),
        (_, IoMode::Buffered) => return Ok(FileIo::Buffered),
        (_, IoMode::Auto) => (FileIo::Direct, ""),
    };
    #[cfg(braidlog_sabotage)]
    let wanted = match wanted {
        FileIo::DirectSync if braidlog_sabotage::is("direct_sync_without_the_flag") => FileIo::Direct,
        wanted => wanted,
    };
    let _ = dir.remove(name);
    let opened = dir.open(name, FileAccess::CreateNew, wanted);
    let mode_is_known = opened.is_ok();
    let probed = opened.and_then(|file| {
        let block = braidlog_storage::AlignedBuf::zeroed(braidlog_storage::IO_ALIGN);
        braidlog_storage::write_all_at(&*file, &block, 0)
    });
    let _ = dir.remove(name);
    match probed {
        Ok(()) => Ok(wanted),
        // A device too full for the block has opened the file so. One too full for the file says nothing: who
        // asks for the mode learns of it at the first real write, who does not must not.
        Err(error) if is_no_space(&error) && (mode_is_known || !what.is_empty()) => Ok(wanted),
        Err(_) if what.is_empty() => Ok(FileIo::Buffered),
        Err(source) => Err(EngineError::UnsupportedIo { what, source: Arc::new(source) }),
    }
}
