//! The maintenance thread: prepares files and lays zeros, so that neither a commit nor an append does; and runs the
//! chore when nothing of that is asked for.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use braidlog_storage::{AlignedBuf, is_no_space};

use crate::failure::{FailedOperation, Failure};
use crate::jobs::Job;
use crate::preparer::Frontier;
use crate::primitive::thread::{self, JoinHandle};
use crate::shared::Shared;

/// How often a full device is asked for space again.
const SPACE_RETRY: Duration = Duration::from_millis(50);
/// After which time a chore that panicked is called again.
const PANIC_RETRY: Duration = Duration::from_secs(60);

/// Starts the thread. It ends with [`Jobs::end`](crate::jobs::Jobs::end).
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let builder = thread::Builder::new().name("braidlog-maintenance".to_owned());
    let thread = builder.spawn(move || run(&for_thread))?;
    shared.jobs.connect();
    Ok(thread)
}

/// The thread: does jobs until [`Jobs::end`](crate::jobs::Jobs::end).
pub(crate) fn run(shared: &Shared) {
    let zeros = Frontier::zeros();
    // When the chore is due, on the monotonic clock.
    let mut chore_due = None;
    loop {
        let is_refused = shared.space.is_refused();
        let job = shared.jobs.next(limit(shared, is_refused, chore_due));
        // A panic is the storage's; it must not leave a log that waits for this thread for ever.
        let done = match job {
            Job::LayZeros(frontier) => {
                catch_unwind(AssertUnwindSafe(|| lay_zeros(shared, &frontier, &zeros)))
            }
            Job::Prepare => catch_unwind(AssertUnwindSafe(|| prepare(shared))),
            Job::Nothing => {
                if chore_due.is_some_and(|at| at <= shared.clock.monotonic()) {
                    shared.jobs.ask_chore();
                }
                if !is_refused {
                    continue;
                }
                catch_unwind(AssertUnwindSafe(|| prepare(shared)))
            }
            Job::Chore => {
                chore_due = run_chore(shared);
                shared.jobs.chore_ended();
                continue;
            }
            Job::End => return,
        };
        #[cfg(braidlog_sabotage)]
        shared.jobs.forget_prepare();
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

/// How long the thread sleeps if it is not asked for anything.
fn limit(shared: &Shared, is_refused: bool, chore_due: Option<Duration>) -> Option<Duration> {
    let until_chore = chore_due.map(|at| at.saturating_sub(shared.clock.monotonic()));
    is_refused.then_some(SPACE_RETRY).into_iter().chain(until_chore).min()
}

/// Runs the chore; says when it is due again, on the monotonic clock.
fn run_chore(shared: &Shared) -> Option<Duration> {
    let chore = shared.chore.as_ref()?;
    let began = shared.clock.monotonic();
    let again = catch_unwind(AssertUnwindSafe(|| chore.run())).unwrap_or_else(|_| {
        shared.counters.chore_panics.fetch_add(1, Relaxed);
        Some(PANIC_RETRY)
    });
    let ended = shared.clock.monotonic();
    shared.counters.chore_latency.record(ended.saturating_sub(began));
    again.and_then(|again| ended.checked_add(again))
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
    shared.wakers.run_unless_served();
    failed
}
