//! Whose turn it is: upkeep is done by one thread at a time, and a callback of it may call the log.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    holder: Option<ThreadId>,
    /// Nobody gets it any more.
    has_ended: bool,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn. `None` if this very thread has it: a callback of the upkeep, which must not wait for its
    /// own end; and once turns have ended.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let this = thread::current().id();
        let mut state = self.lock();
        if state.holder == Some(this) {
            return None;
        }
        while state.holder.is_some() && !state.has_ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.has_ended {
            return None;
        }
        state.holder = Some(this);
        Some(Taken(self))
    }

    /// Ends turns; whoever waits for one waits no longer. A callback that closes the log has the turn, and waits for
    /// the maintenance thread, which may be waiting for the turn.
    pub(crate) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.lock().holder = None;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_is_one_threads_and_does_not_wait_for_itself() {
        let turn = Turn::default();
        let taken = turn.take().unwrap();
        assert!(turn.take().is_none());
        thread::scope(|scope| {
            let other = scope.spawn(|| drop(turn.take().unwrap()));
            drop(taken);
            other.join().unwrap();
        });
        assert!(turn.take().is_some());
    }

    #[test]
    fn who_waits_for_a_turn_that_its_holder_ends_does_not_get_it() {
        let turn = Turn::default();
        let taken = turn.take().unwrap();
        thread::scope(|scope| {
            let other = scope.spawn(|| turn.take().is_none());
            turn.end();
            assert!(other.join().unwrap(), "the holder still has it");
        });
        drop(taken);
        assert!(turn.take().is_none());
    }
}
