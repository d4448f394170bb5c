//! The maintenance thread: prepares files and lays zeros, so that neither a commit nor an append does.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use braidlog_storage::{AlignedBuf, is_no_space};

use crate::failure::{FailedOperation, Failure};
use crate::preparer::Frontier;
use crate::primitive::atomic::{AtomicBool, Ordering::AcqRel};
use crate::primitive::thread::{self, JoinHandle};
use crate::primitive::{Mutex, Receiver, RecvTimeoutError, Sender, bounded};
use crate::shared::Shared;

/// How often a full device is asked for space again.
const SPACE_RETRY: Duration = Duration::from_millis(50);
/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Prepare a file if the log wants one.
    Prepare,
    /// Lay zeros ahead of the pen.
    LayZeros(Arc<Frontier>),
}

/// The way to the thread. At most one job of each kind waits, so a job never finds the queue full.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// `None` if the engine has no threads, or they have ended.
    sender: Mutex<Option<Sender<Job>>>,
    /// Whether a job of the kind waits. Set by whoever asks, cleared by the thread before it looks at what is
    /// to be done; both by RMW with AcqRel, [jobs.wait]: an asker that finds the flag set comes before the
    /// thread's clearing, so the thread sees what made the asker ask.
    preparing: AtomicBool,
    laying: AtomicBool,
}

impl Jobs {
    pub(crate) fn new() -> Jobs {
        Jobs { sender: Mutex::new(None), preparing: AtomicBool::new(false), laying: AtomicBool::new(false) }
    }

    /// From now on there is a thread, which takes its jobs here.
    pub(crate) fn connect(&self) -> Receiver<Job> {
        let (sender, receiver) = bounded(2);
        *self.sender.lock() = Some(sender);
        receiver
    }

    /// Asks for a file to be prepared; says whether there is a thread to do it.
    pub(crate) fn ask_prepare(&self) -> bool {
        self.ask(&self.preparing, || Job::Prepare)
    }

    /// Asks for zeros to be laid; without a thread there are none.
    pub(crate) fn ask_zeros(&self, frontier: &Arc<Frontier>) {
        self.ask(&self.laying, || Job::LayZeros(Arc::clone(frontier)));
    }

    fn ask(&self, waits: &AtomicBool, job: impl FnOnce() -> Job) -> bool {
        let sender = self.sender.lock();
        let Some(sender) = &*sender else { return false };
        if !waits.swap(true, AcqRel) {
            // [jobs.wait]
            // It fails only when the thread has ended, and then the log is closing.
            let _ = sender.send(job());
        }
        true
    }

    /// Ends the thread when it has done what waits.
    pub(crate) fn end(&self) {
        self.sender.lock().take();
    }
}

/// Starts the thread. It ends with [`Jobs::end`].
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let receiver = shared.jobs.connect();
    let shared = Arc::clone(shared);
    // If it cannot be started, the sender is dropped with the engine, which does not start either.
    thread::Builder::new().name("braidlog-maintenance".to_owned()).spawn(move || run(&shared, &receiver))
}

/// The thread: does jobs until [`Jobs::end`].
pub(crate) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    let zeros = Frontier::zeros();
    loop {
        let job = if shared.space.is_refused() {
            jobs.recv_timeout(SPACE_RETRY)
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        // After a timeout a job may wait by now: its flag stays, or a second one could be sent, and a third
        // would find the queue full and block its sender, who holds the role.
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("job_cleared_after_the_work") && matches!(job, Ok(Job::Prepare)) {
            let _ = prepare(shared);
        }
        match &job {
            Ok(Job::LayZeros(_)) => shared.jobs.laying.swap(false, AcqRel), // [jobs.wait]
            Ok(Job::Prepare) => shared.jobs.preparing.swap(false, AcqRel),  // [jobs.wait]
            Err(_) => false,
        };
        // A panic is the storage's; it must not leave a log that waits for this thread for ever.
        #[cfg(braidlog_sabotage)]
        let job = match job {
            Ok(Job::Prepare) if braidlog_sabotage::is("job_cleared_after_the_work") => continue,
            job => job,
        };
        let done = match job {
            Ok(Job::LayZeros(frontier)) => {
                catch_unwind(AssertUnwindSafe(|| lay_zeros(shared, &frontier, &zeros)))
            }
            Ok(Job::Prepare) | Err(RecvTimeoutError::Timeout) => {
                catch_unwind(AssertUnwindSafe(|| prepare(shared)))
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let failed = match done {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => {
                let error = io::Error::other("a panic while files were being prepared");
                Failure::new(FailedOperation::Panic, "the log", error)
            }
        };
        let role = shared.role();
        shared.fail(failed);
        drop(role); // Wakes everybody.
    }
}

/// Lays zeros as long as the pen's lead is short. Lack of space is left for the pen to meet; any other
/// failure is one of the file, from which nothing more is acknowledged.
fn lay_zeros(shared: &Shared, frontier: &Frontier, zeros: &AlignedBuf) -> Result<(), Failure> {
    loop {
        match frontier.lay_step(zeros) {
            Ok(true) if shared.failure.get().is_none() => {}
            Ok(_) => return Ok(()),
            Err(error) if is_no_space(&error) => return Ok(()),
            Err(error) => {
                return Err(Failure::new(FailedOperation::Write, "the segment under the pen", error));
            }
        }
    }
}

fn prepare(shared: &Shared) -> Result<(), Failure> {
    let prepared = shared.preparer.prepare_if_wanted();
    let failed = match prepared {
        Ok(()) => {
            if shared.space.is_refused() && !shared.preparer.is_wanted() {
                shared.space.set_refused(false);
            }
            let _ = shared.role().begin_if_prepared(shared);
            Ok(())
        }
        Err(error) if is_no_space(&error) => Ok(()),
        // Without a file appends would wait for ever; with one under the pen there is time to try again.
        Err(error) if !shared.space.is_open() => {
            Err(Failure::new(FailedOperation::NextSegment, "the next segment", error))
        }
        Err(_) => Ok(()),
    };
    shared.wake_writers();
    failed
}
