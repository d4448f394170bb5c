//! What everybody who touches an open log shares: the parts, and how the coordinator's role changes hands.
//!
//! # The role
//! The coordinator stands behind a lock; who holds it *has the role*. Giving it up ([`Role`]'s drop) hands it
//! on: the next waiting thread is made leader, or the background thread is asked, and then those who are
//! satisfied are woken. So the disk is never idle while somebody waits for it.
//!
//! # The race that is handled
//! A waiter fails to take the role, and its holder gives it up before the waiter is in the list. The
//! waiter enters the list, under its lock, and tries the role once more; the holder gives the role up and
//! then looks into the list, under its lock. Whoever comes second sees the other.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use braidlog_format::{LogTail, Lsn, SEGMENT_HEADER_LEN, block_ceil};
use braidlog_storage::{Clock, FileIo, LockGuard, LogDir};
use crossbeam::channel::Sender;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::coordinator::Coordinator;
use crate::failure::{Failure, FailureCell};
use crate::flusher::Signal;
use crate::lsn::LsnAllocator;
use crate::maintenance::Job;
use crate::metrics::Counters;
use crate::preparer::{Frontier, Preparer};
use crate::settings::{OnIoError, Settings};
use crate::space::{SEAL_RESERVE, Space};
use crate::stripes::Stripes;
use crate::waiters::Waiters;
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
    pub(crate) blocked: BlockedWriters,
    pub(crate) failure: FailureCell,
    pub(crate) counters: Counters,
    pub(crate) demand: Demand,
    pub(crate) signal: Signal,
    pub(crate) preparer: Preparer,
    role: Mutex<Coordinator>,
    /// The last LSN written; for people, hence Relaxed.
    pub(crate) written: AtomicU64,
    /// The durable LSN that the last sync mark tells. Relaxed: it decides when the next is due, no more.
    pub(crate) marked: AtomicU64,
    /// When the segment under the pen was begun, in nanoseconds of the monotonic clock plus one; 0 while it
    /// holds no record. Relaxed, as above.
    pub(crate) segment_begun: AtomicU64,
    /// Set once, by close. Relaxed: it hurries waits for space along, nothing depends on when.
    pub(crate) closing: AtomicBool,
    /// To the maintenance thread; `None` if the engine has no threads, or they have ended.
    pub(crate) jobs: Mutex<Option<Sender<Job>>>,
    pub(crate) lock: Mutex<Option<Box<dyn LockGuard>>>,
    space_retry: (Mutex<()>, Condvar),
}

/// The right to drive the coordinator. Dropping it hands the role on and wakes, in that order, also when a
/// panic unwinds through its holder.
#[derive(Debug)]
pub(crate) struct Role<'a> {
    shared: &'a Shared,
    /// `None` only while being dropped.
    guard: Option<MutexGuard<'a, Coordinator>>,
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
        self.guard = None;
        if shared.failure.get().is_some() {
            shared.waiters.all().wake();
        } else {
            let wake_ups = shared.waiters.satisfied(true);
            if wake_ups.sleepers_left {
                shared.signal.notify();
            }
            wake_ups.wake();
        }
        // A writer that found no room may have seen the role taken until now.
        shared.blocked.wake_all();
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
}

impl Demand {
    fn new() -> Demand {
        Demand { urgent: AtomicU64::new(0), served: AtomicU64::new(0) }
    }

    pub(crate) fn ask_urgent(&self, lsn: Lsn) {
        self.urgent.fetch_max(lsn.0, Relaxed);
    }

    pub(crate) fn ask_served(&self, lsn: Lsn) {
        self.served.fetch_max(lsn.0, Relaxed);
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
    ) -> Shared {
        let stripes = Stripes::new(settings.num_stripes, settings.stripe_capacity);
        let space = Arc::new(Space::new(stripes.outstanding_max()));
        let capacity_min = block_ceil(SEGMENT_HEADER_LEN + stripes.outstanding_max() + SEAL_RESERVE);
        let capacity = block_ceil(settings.segment_size).max(capacity_min);
        let preparer = Preparer::new(Arc::clone(&dir), Arc::clone(&space), io, capacity, capacity_min);
        Shared {
            dir,
            clock,
            first_lsn: tail.next_lsn,
            lsns: LsnAllocator::new(tail.next_lsn),
            stripes,
            space,
            waiters: Waiters::new(tail.next_lsn.prev()),
            blocked: BlockedWriters::new(),
            failure: FailureCell::default(),
            counters: Counters::new(),
            demand: Demand::new(),
            signal: Signal::new(),
            preparer,
            role: Mutex::new(Coordinator::new(tail, &settings)),
            written: AtomicU64::new(tail.next_lsn.prev().0),
            marked: AtomicU64::new(tail.next_lsn.prev().0),
            segment_begun: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            jobs: Mutex::new(None),
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

    /// Wakes writers that wait for room or for the gate.
    pub(crate) fn wake_writers(&self) {
        self.blocked.wake_all();
    }

    /// A write or an allocation for what holds an LSN was refused for lack of space: closes the gate and
    /// waits a little. Says whether to try again; only close gives up.
    pub(crate) fn wait_for_space(&self) -> bool {
        if self.closing.load(Relaxed) {
            return false;
        }
        self.space.set_refused(true);
        self.wake_writers();
        let mut waiting = self.space_retry.0.lock();
        self.space_retry.1.wait_for(&mut waiting, SPACE_RETRY);
        true
    }

    /// Ends waits for space: the log closes.
    pub(crate) fn hurry(&self) {
        self.closing.store(true, Relaxed);
        self.space_retry.1.notify_all();
    }

    /// Writes whole blocks to the segment under the pen.
    pub(crate) fn write(
        &self,
        segment: &crate::segment::Segment,
        blocks: &[u8],
        offset: u64,
    ) -> Result<(), Failure> {
        segment.frontier().take_over(offset + blocks.len() as u64);
        segment.write(blocks, offset, || self.wait_for_space())
    }

    /// Has a file prepared, if one is wanted: by the maintenance thread, or here if there is none.
    pub(crate) fn prepare_ahead(&self) {
        if self.space.wants_prepared(self.preparer.capacity()) && !self.send(Job::Prepare) {
            // Lack of space is in the ledger; any other error comes up when a file must be there.
            let _ = self.preparer.prepare_if_wanted();
            self.wake_writers();
        }
    }

    /// Has zeros laid ahead of the pen, if there is a thread for it.
    pub(crate) fn lay_zeros(&self, frontier: Arc<Frontier>) {
        self.send(Job::LayZeros(frontier));
    }

    /// Sends a job; says whether there is a thread to do it. A full queue holds a job of each kind already.
    fn send(&self, job: Job) -> bool {
        match &*self.jobs.lock() {
            Some(jobs) => {
                let _ = jobs.try_send(job);
                true
            }
            None => false,
        }
    }
}
