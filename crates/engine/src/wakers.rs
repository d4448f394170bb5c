//! The wakers of tasks that are to be run, and who runs them.
//!
//! A waker is foreign code: it may append to this very log, wait for the role, or close the log. So it is run under no lock and not under
//! the role, and no thread that runs one holds another: those that wait to be run stand in one queue, from which each is taken
//! when its turn has come.
//!
//! # Protocol
//! * Who has no role puts what it found into the queue, and runs the queue until it is empty ([`Wakers::wake`]).
//! * Who has the role, or is waited for by its holder, wakes threads, which is a call of the system, and leaves wakers in the queue
//!   ([`Wakers::give`]) to a thread for that. Where there is none, they are run when the role is given up ([`Wakers::run_unless_served`]).
//! * A waker that comes back into the log and finds others has put them into the queue: its thread goes on with them when it returns, and the
//!   thread for wakers meanwhile. It does not run them inside of the first one: its stack would have no bound.
//! * Who has a lock that a waker may want leaves them in the queue too, and runs it when he has given the lock up
//!   ([`Engine::under_a_lock`](crate::Engine::under_a_lock)).
//! * Who closes the log waits for other threads, which may wait for wakers. So it ends the thread for wakers and empties the queue before that; from
//!   then on wakers are run by who tells. If it is a waker that closes the log, its thread may be the one that others wait for, already by then: see
//!   [`Engine::leave_wakers`](crate::Engine::leave_wakers). A second waker that closes the log meanwhile waits for nobody: it is told that the log is closed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::callers_lock;
use crate::primitive::atomic::{AtomicBool, Ordering::Relaxed};
use crate::primitive::thread::{self, JoinHandle, ThreadId};
use crate::primitive::{Condvar, Mutex, MutexGuard};
use crate::shared::Shared;
use crate::waiters::Sleeper;

/// A queue for so many is kept when it is empty.
const KEPT_CAPACITY: usize = 256;

/// The wakers that are to be run.
#[derive(Debug)]
pub(crate) struct Wakers {
    state: Mutex<State>,
    /// Whether a thread runs what is given. Relaxed: it is taken back under the lock under which the thread is told to end, so who gives
    /// something that the thread may not find sees that.
    is_served: AtomicBool,
    /// Signalled when some were given, and when the thread is to end.
    given: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ends: bool,
    /// A waker closes the log: see [`Wakers::leave`].
    is_left: bool,
    tasks: VecDeque<Sleeper>,
    /// The threads that run wakers.
    running: Vec<ThreadId>,
}

impl Wakers {
    pub(crate) fn new() -> Wakers {
        Wakers {
            state: Mutex::new(State::default()),
            is_served: AtomicBool::new(false),
            given: Condvar::new(),
        }
    }

    /// Wakes everybody, for who may run wakers: outside of all locks, and not under the role.
    pub(crate) fn wake(&self, sleepers: Vec<Sleeper>) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("wakers_held_by_who_runs_them") {
            return sleepers.into_iter().for_each(Sleeper::wake);
        }
        if let Some(state) = self.put(sleepers) {
            self.run(state);
        }
    }

    /// Wakes the threads among `sleepers`, and has the tasks woken.
    pub(crate) fn give(&self, sleepers: Vec<Sleeper>) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("wakers_run_under_the_role") {
            return sleepers.into_iter().for_each(Sleeper::wake);
        }
        if self.put(sleepers).is_some() {
            self.given.notify_all();
        }
    }

    /// Wakes threads and puts tasks into the queue, if there are any.
    fn put(&self, mut sleepers: Vec<Sleeper>) -> Option<MutexGuard<'_, State>> {
        sleepers.retain(|sleeper| !sleeper.unpark());
        if sleepers.is_empty() {
            return None;
        }
        let mut state = self.state.lock();
        if state.tasks.is_empty() {
            state.tasks = sleepers.into();
        } else {
            state.tasks.extend(sleepers);
        }
        Some(state)
    }

    /// Runs what was given where no thread does it. Not under the role.
    pub(crate) fn run_unless_served(&self) {
        if !self.is_served.load(Relaxed) {
            self.run(self.state.lock());
        }
    }

    /// Runs the queue until it is empty, unless the caller is inside of a waker that this thread runs.
    fn run<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.tasks.is_empty() {
            return;
        }
        let this_thread = thread::current().id();
        if callers_lock::is_held() || state.running.contains(&this_thread) {
            drop(state);
            self.given.notify_all();
            return;
        }
        state.running.push(this_thread);
        state = self.run_all_from(state);
        state.running.retain(|thread| *thread != this_thread);
        if state.tasks.capacity() > KEPT_CAPACITY {
            state.tasks = VecDeque::new();
        }
    }

    fn run_all_from<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while let Some(task) = state.tasks.pop_front() {
            drop(state);
            task.wake();
            state = self.state.lock();
        }
        state
    }

    /// Runs what is in the queue, also inside of a waker: the caller is about to wait for others.
    pub(crate) fn run_all(&self) {
        drop(self.run_all_from(self.state.lock()));
    }

    /// Whether the calling thread runs a waker just now.
    pub(crate) fn is_run_here(&self) -> bool {
        let this_thread = thread::current().id();
        self.state.lock().running.contains(&this_thread)
    }

    /// Whether a waker may wait for others in order to close the log: the first one may.
    pub(crate) fn leave(&self) -> bool {
        let mut state = self.state.lock();
        !state.ends && !std::mem::replace(&mut state.is_left, true)
    }

    /// Ends the thread when it has run what was given: from now on who gives the role up runs what was given under it. The thread that
    /// writes is gone by then.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ends = true;
        self.is_served.store(false, Relaxed);
        drop(state);
        self.given.notify_all();
    }

    /// Waits until there is something to run, and gives the right to; `None` when the thread is to end.
    fn next(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        while state.tasks.is_empty() {
            if state.ends {
                return None;
            }
            self.given.wait(&mut state);
        }
        Some(state)
    }
}

/// Starts the thread. It ends with [`Wakers::end`].
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new().name("braidlog-wake".to_owned()).spawn(move || run(&for_thread))?;
    let state = shared.wakers.state.lock();
    shared.wakers.is_served.store(!state.ends, Relaxed);
    drop(state);
    Ok(thread)
}

/// The thread: runs what is given until [`Wakers::end`].
pub(crate) fn run(shared: &Shared) {
    while let Some(state) = shared.wakers.next() {
        shared.wakers.run(state);
    }
}
