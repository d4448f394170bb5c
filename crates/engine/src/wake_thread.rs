//! Wakers that are run while the coordinator's role is held: on a thread for that.
//!
//! A waker is foreign code: it may append to this very log and wait for the role. So whoever has the role wakes threads, which
//! is a call of the system, and gives the wakers of tasks to this thread. What can wait until the role is given up is
//! woken then, by its last holder, and does not come here.
//!
//! # Protocol
//! Wakers are given under the lock and taken out under it, and run outside. A log without a thread for that keeps
//! them until somebody gives the role up ([`WakeThread::run_unless_served`]); there is one who has it, or none would have been given.

use std::io;
use std::sync::Arc;

use crate::primitive::atomic::{AtomicBool, Ordering::Relaxed};
use crate::primitive::thread::{self, JoinHandle};
use crate::primitive::{Condvar, Mutex};
use crate::shared::Shared;
use crate::waiters::Sleeper;

/// The wakers that are to be run.
#[derive(Debug)]
pub(crate) struct WakeThread {
    state: Mutex<State>,
    /// Whether there is a thread. Relaxed: it is set before the log has users and taken back when it closes, and closing runs
    /// what is left.
    is_served: AtomicBool,
    /// Signalled when some were given, and when the thread is to end.
    given: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ends: bool,
    sleepers: Vec<Sleeper>,
}

impl WakeThread {
    pub(crate) fn new() -> WakeThread {
        WakeThread {
            state: Mutex::new(State::default()),
            is_served: AtomicBool::new(false),
            given: Condvar::new(),
        }
    }

    /// Wakes the threads among `sleepers`, and has the tasks woken.
    pub(crate) fn give(&self, sleepers: impl IntoIterator<Item = Sleeper>) {
        let mut tasks = Vec::new();
        for sleeper in sleepers {
            match sleeper {
                #[cfg(braidlog_sabotage)]
                task if braidlog_sabotage::is("wakers_run_under_the_role") => task.wake(),
                Sleeper::Thread(_) => sleeper.wake(),
                Sleeper::Task(_) => tasks.push(sleeper),
            }
        }
        if !tasks.is_empty() {
            self.state.lock().sleepers.append(&mut tasks);
            self.given.notify_all();
        }
    }

    /// Runs what was given where no thread does it. Not under the role.
    pub(crate) fn run_unless_served(&self) {
        if !self.is_served.load(Relaxed) {
            self.run_all();
        }
    }

    /// Runs what was given and not run. Not under the role.
    pub(crate) fn run_all(&self) {
        let sleepers = std::mem::take(&mut self.state.lock().sleepers);
        sleepers.into_iter().for_each(Sleeper::wake);
    }

    /// Ends the thread when it has run what was given.
    pub(crate) fn end(&self) {
        self.is_served.store(false, Relaxed);
        self.state.lock().ends = true;
        self.given.notify_all();
    }

    /// What was given, when there is something; `None` when the thread is to end.
    fn next(&self) -> Option<Vec<Sleeper>> {
        let mut state = self.state.lock();
        while state.sleepers.is_empty() {
            if state.ends {
                return None;
            }
            self.given.wait(&mut state);
        }
        Some(std::mem::take(&mut state.sleepers))
    }
}

/// Starts the thread. It ends with [`WakeThread::end`].
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new().name("braidlog-wake".to_owned()).spawn(move || run(&for_thread))?;
    shared.wake_thread.is_served.store(true, Relaxed);
    Ok(thread)
}

/// The thread: runs what is given until [`WakeThread::end`].
pub(crate) fn run(shared: &Shared) {
    while let Some(sleepers) = shared.wake_thread.next() {
        sleepers.into_iter().for_each(Sleeper::wake);
    }
}
