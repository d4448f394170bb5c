//! What everybody who touches an open log shares: the parts, and how the coordinator's role changes hands.
//!
//! # The role
//! The coordinator stands behind a lock; who holds it *has the role*. Giving it up ([`Role`]'s drop) hands it
//! on: one of the committers that wait for the next sync is called to lead it, or the background thread is asked,
//! and then those who are satisfied are woken. So the disk is never idle while somebody waits for it.
//!
//! # The race that is handled
//! A waiter fails to take the role, and its holder gives it up before the waiter sleeps. The waiter has taken its
//! seat, or is in the list, before it tries; the holder gives the role up and then calls the seats and looks into the
//! list. So the waiter does not sleep, or is found asleep ([`committers`](crate::committers)).

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::{LogTail, Lsn};
use braidlog_storage::{Clock, FileIo, LockGuard, LogDir, is_no_space};

use crate::chore::Chore;
use crate::committers::Committers;
use crate::coordinator::{Coordinator, Want};
use crate::error::EngineError;
use crate::failure::{Failure, FailureCell};
use crate::flight::Flight;
use crate::flusher::Signal;
use crate::jobs::Jobs;
use crate::live::LiveIndex;
use crate::lsn::LsnAllocator;
use crate::metrics::Counters;
use crate::preparer::Preparer;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::primitive::thread;
use crate::primitive::{Condvar, Mutex, TriedMutex, TriedMutexGuard};
use crate::settings::{OnIoError, Settings};
use crate::space::Space;
use crate::stripes::Stripes;
use crate::waiters::Waiters;
use crate::wakers::Wakers;
use crate::writers::BlockedWriters;

/// How long a write that was refused for lack of space waits before it is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(20);

/// The parts of an open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Arc<dyn LogDir>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) first_lsn: Lsn,
    pub(crate) lsns: LsnAllocator,
    pub(crate) stripes: Stripes,
    pub(crate) space: Arc<Space>,
    pub(crate) waiters: Waiters,
    pub(crate) committers: Committers,
    pub(crate) blocked: BlockedWriters,
    pub(crate) failure: FailureCell,
    pub(crate) counters: Counters,
    pub(crate) demand: Demand,
    pub(crate) signal: Signal,
    pub(crate) preparer: Preparer,
    pub(crate) flight: Flight,
    pub(crate) wakers: Wakers,
    /// What readers of this process know of the segment under the pen.
    pub(crate) live: Arc<LiveIndex>,
    role: TriedMutex<Coordinator>,
    /// The last LSN written or handed over to be written. Relaxed: it decides whether a round is due, no more.
    pub(crate) handed_over: AtomicU64,
    /// The durable LSN that the last sync mark tells. Relaxed: it decides when the next is due, no more.
    pub(crate) marked: AtomicU64,
    /// When the last sync began, in nanoseconds of the monotonic clock. Relaxed, as above.
    pub(crate) sync_began: AtomicU64,
    /// When the first record of the segment under the pen was written, in nanoseconds of the monotonic clock
    /// plus one; 0 while it holds none. Relaxed, as above.
    pub(crate) ages_since: AtomicU64,
    /// The base of the segment under the pen, 0 before the first. Relaxed: it only rises, and whoever sees an older one
    /// takes fewer segments for given up.
    pub(crate) pen_base: AtomicU64,
    /// Set by close, and while the first segment is begun: nobody waits for space then. Relaxed: nothing
    /// depends on when it is seen.
    pub(crate) closing: AtomicBool,
    pub(crate) jobs: Jobs,
    pub(crate) chore: Option<Arc<dyn Chore>>,
    pub(crate) lock: Mutex<Option<Box<dyn LockGuard>>>,
    space_retry: (Mutex<()>, Condvar),
}

/// The right to drive the coordinator. Dropping it hands the role on and wakes, in that order, also when a
/// panic unwinds through its holder.
#[derive(Debug)]
pub(crate) struct Role<'a> {
    shared: &'a Shared,
    /// `None` only while being dropped.
    guard: Option<TriedMutexGuard<'a, Coordinator>>,
}

impl Deref for Role<'_> {
    type Target = Coordinator;

    fn deref(&self) -> &Coordinator {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl DerefMut for Role<'_> {
    fn deref_mut(&mut self) -> &mut Coordinator {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        let sync = shared.committers.last_sync();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("role_given_up_after_the_calls") {
            shared.committers.call_leader(sync);
            shared.committers.call_satisfied(sync);
            shared.wakers.wake(shared.waiters.satisfied().sleepers);
            self.guard = None;
            return;
        }
        self.guard = None;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("failure_wakes_a_leader_only") && shared.failure.get().is_some() {
            return shared.committers.call_leader(sync);
        }
        if shared.failure.get().is_some() {
            shared.committers.call_all();
            shared.wakers.wake(shared.waiters.all().sleepers);
        } else {
            shared.committers.call_leader(sync);
            shared.committers.call_satisfied(sync);
            let mut wake_ups = shared.waiters.satisfied();
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("task_left_to_nobody") {
                return shared.wakers.wake(wake_ups.sleepers);
            }
            if !shared.settings.background {
                // Nobody would serve a task that found the role taken: it asks again, and leads.
                wake_ups = shared.waiters.with_sleepers(wake_ups);
            } else if wake_ups.sleepers_left {
                shared.signal.notify();
            }
            shared.wakers.wake(wake_ups.sleepers);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("role_given_up_without_waking_writers") {
            return;
        }
        // A writer that found no room may have seen the role taken until now.
        shared.wakers.wake(shared.blocked.take_all());
        shared.wakers.run_unless_served();
    }
}

/// What is asked to be synced beyond the timer. Each is a highest LSN; all accesses are `Relaxed`, since
/// whoever asks either takes the role (a lock) or signals the background thread (a fence).
#[derive(Debug)]
pub(crate) struct Demand {
    /// By those for whom no round is held back.
    urgent: AtomicU64,
    /// By those who cannot lead: the background thread serves them at once.
    served: AtomicU64,
    /// To be written, and not synced.
    written: AtomicU64,
}

impl Demand {
    fn new() -> Demand {
        Demand { urgent: AtomicU64::new(0), served: AtomicU64::new(0), written: AtomicU64::new(0) }
    }

    pub(crate) fn ask_urgent(&self, lsn: Lsn) {
        self.urgent.fetch_max(lsn.0, Relaxed);
    }

    pub(crate) fn ask_served(&self, lsn: Lsn) {
        self.served.fetch_max(lsn.0, Relaxed);
    }

    pub(crate) fn ask_written(&self, lsn: Lsn) {
        self.written.fetch_max(lsn.0, Relaxed);
    }

    pub(crate) fn written(&self) -> Lsn {
        Lsn(self.written.load(Relaxed))
    }

    pub(crate) fn urgent(&self) -> Lsn {
        Lsn(self.urgent.load(Relaxed))
    }

    pub(crate) fn served(&self) -> Lsn {
        Lsn(self.served.load(Relaxed))
    }
}

impl Shared {
    pub(crate) fn new(
        dir: Arc<dyn LogDir>,
        lock: Box<dyn LockGuard>,
        tail: &LogTail,
        settings: Settings,
        clock: Arc<dyn Clock>,
        io: FileIo,
        chore: Option<Arc<dyn Chore>>,
    ) -> Shared {
        let stripes = Stripes::new(settings.num_stripes, settings.stripe_capacity);
        let space = Arc::new(Space::new(stripes.outstanding_max()));
        let (size, outstanding_max) = (settings.segment_size, stripes.outstanding_max());
        let preparer = Preparer::new(Arc::clone(&dir), Arc::clone(&space), io, size, outstanding_max);
        Shared {
            dir,
            clock,
            first_lsn: tail.next_lsn,
            lsns: LsnAllocator::new(tail.next_lsn),
            stripes,
            space,
            waiters: Waiters::new(tail.next_lsn.prev()),
            committers: Committers::new(tail.next_lsn.prev()),
            blocked: BlockedWriters::new(),
            failure: FailureCell::default(),
            counters: Counters::new(),
            demand: Demand::new(),
            signal: Signal::new(),
            preparer,
            flight: Flight::new(),
            wakers: Wakers::new(),
            live: Arc::default(),
            role: TriedMutex::new(Coordinator::new(tail, &settings)),
            handed_over: AtomicU64::new(tail.next_lsn.prev().0),
            marked: AtomicU64::new(tail.next_lsn.prev().0),
            sync_began: AtomicU64::new(0),
            ages_since: AtomicU64::new(0),
            pen_base: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            jobs: Jobs::new(chore.is_some()),
            chore,
            lock: Mutex::new(Some(lock)),
            space_retry: (Mutex::new(()), Condvar::new()),
            settings,
        }
    }

    /// Takes the role if nobody has it.
    pub(crate) fn try_role(&self) -> Option<Role<'_>> {
        self.role.try_lock().map(|guard| Role { shared: self, guard: Some(guard) })
    }

    /// Waits for the role. Not for those who may be made leader while they wait.
    pub(crate) fn role(&self) -> Role<'_> {
        Role { shared: self, guard: Some(self.role.lock()) }
    }

    /// Remembers the failure and closes the log for good: nothing more is accepted. Everybody is woken when
    /// the role is given up.
    pub(crate) fn fail(&self, failure: Failure) {
        if self.settings.on_io_error == OnIoError::Abort {
            eprintln!("braidlog: {failure}; aborting, as the policy on I/O errors asks");
            std::process::abort();
        }
        if self.failure.set(failure) {
            self.lsns.end();
        }
    }

    /// Wakes those who wait for what is written now, also under the role.
    pub(crate) fn tell_written(&self) {
        self.wakers.give(self.waiters.satisfied_by_writes());
    }

    /// Wakes writers that wait for room or for the gate, also under the role. Who has no role runs the wakers that no thread runs
    /// afterwards: [`Wakers::run_unless_served`].
    pub(crate) fn wake_writers(&self) {
        self.wakers.give(self.blocked.take_all());
    }

    /// Runs an operation for what holds an LSN. If it is refused for lack of space, the gate is closed and it
    /// is run again until there is some; only close gives up.
    ///
    /// # Errors
    /// What the operation says otherwise.
    pub(crate) fn with_space(&self, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut stalled = false;
        loop {
            match operation() {
                Err(error) if is_no_space(&error) && !self.closing.load(Relaxed) => {
                    if !std::mem::replace(&mut stalled, true) {
                        self.space.stall_begins();
                    }
                    if self.preparer.give_spares_up() {
                        continue;
                    }
                    self.wake_writers();
                    let mut waiting = self.space_retry.0.lock();
                    self.space_retry.1.wait_for(&mut waiting, SPACE_RETRY);
                }
                done => {
                    if stalled {
                        self.space.stall_ends();
                        self.wake_writers();
                    }
                    return done;
                }
            }
        }
    }

    /// Begins the first segment of this opening, which found no space for one, if there is some now.
    #[cold]
    pub(crate) fn begin_first(&self) -> Result<(), EngineError> {
        // Else the maintenance thread looks for space again, and the log closes without a file of this writer's.
        let made = if self.jobs.is_served() { Ok(()) } else { self.preparer.prepare_if_wanted() };
        let mut role = self.role();
        if self.lsns.is_ended() {
            drop(role);
            return Err(self.not_accepted());
        }
        let _ = role.begin_if_prepared(self);
        drop(role);
        match made {
            _ if self.lsns.is_ended() => Err(self.not_accepted()),
            _ if self.pen_base.load(Relaxed) != 0 => Ok(()),
            Err(error) if !is_no_space(&error) => {
                Err(EngineError::Start { what: "prepare the first segment", source: Arc::new(error) })
            }
            _ => Err(EngineError::NoSpace),
        }
    }

    /// Makes durable what was accepted, which is no more than `last` any more.
    pub(crate) fn drain(&self, last: Lsn) {
        while self.waiters.durable() < last && self.failure.get().is_none() {
            if !self.role().step(self, Want::Sync).progress {
                thread::yield_now(); // A gap: its writer publishes in a handful of instructions.
            }
        }
    }

    /// Ends waits for space: the log closes.
    pub(crate) fn hurry(&self) {
        self.closing.store(true, Relaxed);
        self.space_retry.1.notify_all();
    }

    /// Has a file prepared, if one is wanted: by the maintenance thread, or here if there is none or it is busy.
    pub(crate) fn prepare_ahead(&self) {
        if self.preparer.is_wanted() && !self.jobs.ask_prepare() {
            // Lack of space is in the ledger; any other error comes up when a file must be there.
            let _ = self.preparer.prepare_if_wanted();
            self.wake_writers();
        }
    }
}
