//! What the maintenance thread is asked to do, and the way to ask it.
//!
//! # Protocol
//! Everything stands behind one lock, which nobody holds for longer than a look. Whoever asks sets what he wants; the
//! thread takes it before it looks at what is to be done, so that what is asked for meanwhile is done again. Files come
//! first, then zeros, then the chore.
//!
//! # Invariant
//! A chore begins when nothing else waits, and is seen to run from that same moment, under the lock. So a file that was
//! promised is made before it, and from then on nobody is promised one: who needs a file makes it himself. What a
//! chore left undone is looked for when it has ended.

use std::sync::Arc;
use std::time::Duration;

use crate::preparer::Frontier;
use crate::primitive::{Condvar, Mutex};

/// What the thread is to do next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Prepare a file if the log wants one.
    Prepare,
    /// Lay zeros ahead of the pen.
    LayZeros(Arc<Frontier>),
    /// Run the chore, and say when it has ended.
    Chore,
    /// Look at the time: nothing was asked for.
    Nothing,
    /// End.
    End,
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    /// Signalled when something is asked for. Only the thread waits.
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    /// There is a chore.
    has_chore: bool,
    /// The thread ends when it has done what waits; the chore does not count.
    ends: bool,
    /// The chore runs: nothing is taken before it has ended.
    in_chore: bool,
    prepare: bool,
    zeros: Option<Arc<Frontier>>,
    chore: bool,
}

impl State {
    /// Whether what is asked for is done soon.
    fn is_served(&self) -> bool {
        let is_free = !self.in_chore;
        #[cfg(braidlog_sabotage)]
        let is_free = is_free || braidlog_sabotage::is("file_promised_during_a_chore");
        self.has_thread && !self.ends && is_free
    }
}

impl Jobs {
    pub(crate) fn new(has_chore: bool) -> Jobs {
        Jobs { state: Mutex::new(State { has_chore, ..State::default() }), asked: Condvar::new() }
    }

    /// From now on there is a thread, which takes its jobs here.
    pub(crate) fn connect(&self) {
        self.state.lock().has_thread = true;
    }

    /// Whether the thread makes files that are asked for. If not, whoever needs one makes it.
    pub(crate) fn is_served(&self) -> bool {
        self.state.lock().is_served()
    }

    /// Asks for a file to be prepared; says whether the thread does it soon.
    pub(crate) fn ask_prepare(&self) -> bool {
        self.ask(|state| {
            let is_served = state.is_served();
            state.prepare |= is_served;
            is_served
        })
    }

    /// Asks for zeros to be laid; without a thread there are none, and during a chore none before its end.
    pub(crate) fn ask_zeros(&self, frontier: &Arc<Frontier>) {
        self.ask(|state| {
            let is_asked = state.has_thread && !state.ends;
            if is_asked {
                state.zeros = Some(Arc::clone(frontier));
            }
            is_asked
        });
    }

    /// Asks for the chore to be run, once more if it runs just now; says whether there is a thread that will.
    pub(crate) fn ask_chore(&self) -> bool {
        self.ask(|state| {
            let is_asked = state.has_thread && state.has_chore && !state.ends;
            state.chore |= is_asked;
            is_asked
        })
    }

    fn ask(&self, set: impl FnOnce(&mut State) -> bool) -> bool {
        let is_asked = set(&mut self.state.lock());
        if is_asked {
            self.asked.notify_one();
        }
        is_asked
    }

    /// The next job; waits for one, for at most `limit`.
    pub(crate) fn next(&self, limit: Option<Duration>) -> Job {
        let mut state = self.state.lock();
        let mut is_over = false;
        loop {
            #[cfg(braidlog_sabotage)]
            if state.chore && braidlog_sabotage::is("chore_begun_over_what_waits") {
                state.chore = false;
                state.in_chore = true;
                return Job::Chore;
            }
            #[cfg(braidlog_sabotage)]
            if state.prepare && braidlog_sabotage::is("job_cleared_after_the_work") {
                return Job::Prepare;
            }
            if std::mem::take(&mut state.prepare) {
                return Job::Prepare;
            }
            if let Some(frontier) = state.zeros.take() {
                return Job::LayZeros(frontier);
            }
            if state.ends {
                state.has_thread = false;
                return Job::End;
            }
            if std::mem::take(&mut state.chore) {
                state.in_chore = true;
                return Job::Chore;
            }
            if is_over {
                return Job::Nothing;
            }
            match limit {
                Some(limit) => {
                    self.asked.wait_for(&mut state, limit);
                    is_over = true;
                }
                None => self.asked.wait(&mut state),
            }
        }
    }

    /// The chore has ended. Whoever wanted a file meanwhile may have failed to make it: the thread looks.
    pub(crate) fn chore_ended(&self) {
        let mut state = self.state.lock();
        state.in_chore = false;
        state.prepare = true;
    }

    /// What waited is done now, whether it was asked for before or after it was begun.
    #[cfg(braidlog_sabotage)]
    pub(crate) fn forget_prepare(&self) {
        if braidlog_sabotage::is("job_cleared_after_the_work") {
            self.state.lock().prepare = false;
        }
    }

    /// Ends the thread when it has done what waits.
    pub(crate) fn end(&self) {
        self.state.lock().ends = true;
        self.asked.notify_one();
    }
}
