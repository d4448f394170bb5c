//! The maintenance thread: prepares files and lays zeros, so that neither a commit nor an append does.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use braidlog_storage::is_no_space;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use crate::failure::{FailedOperation, Failure};
use crate::preparer::Frontier;
use crate::shared::Shared;

/// How often a full device is asked for space again.
const SPACE_RETRY: Duration = Duration::from_millis(50);
/// Jobs that wait at the most: more of them would only repeat what is asked already.
const QUEUE: usize = 4;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Prepare a file if the log wants one.
    Prepare,
    /// Lay zeros ahead of the pen.
    LayZeros(Arc<Frontier>),
}

/// Starts the thread. It ends when the sender in `shared.jobs` is dropped.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let (sender, receiver) = bounded(QUEUE);
    let thread = {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("braidlog-maintenance".to_owned())
            .spawn(move || run(&shared, &receiver))?
    };
    *shared.jobs.lock() = Some(sender);
    Ok(thread)
}

fn run(shared: &Shared, jobs: &Receiver<Job>) {
    let zeros = Frontier::zeros();
    loop {
        let job = if shared.space.is_refused() {
            jobs.recv_timeout(SPACE_RETRY)
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match job {
            Ok(Job::LayZeros(frontier)) => while frontier.lay_step(&zeros) {},
            Ok(Job::Prepare) | Err(RecvTimeoutError::Timeout) => prepare(shared),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn prepare(shared: &Shared) {
    match shared.preparer.prepare_if_wanted() {
        Ok(()) => {
            if shared.space.is_refused() && !shared.space.wants_prepared(shared.preparer.capacity()) {
                shared.space.set_refused(false);
            }
            let _ = shared.role().begin_if_prepared(shared);
        }
        Err(error) if is_no_space(&error) => {}
        // Without a file appends would wait for ever; with one under the pen there is time to try again.
        Err(error) if !shared.space.is_open() => {
            let role = shared.role();
            shared.fail(Failure::new(FailedOperation::NextSegment, "the next segment", error));
            drop(role);
        }
        Err(_) => {}
    }
    shared.wake_writers();
}
