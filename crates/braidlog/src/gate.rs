//! Who is at work in the log's directory beside the engine: checkpoints, and whatever else changes files.
//!
//! The rule: `close` releases the directory to the next writer only when nobody is inside, and nobody enters
//! afterwards. What is inside asks [`Gate::is_closing`] and ends early.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Counts who is inside, by thread.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closing: bool,
    inside: Vec<ThreadId>,
}

/// Somebody is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    gate: &'a Gate,
    thread: ThreadId,
}

impl Gate {
    /// Lets the caller in; `None` once the log is being closed.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        let mut state = self.locked();
        if state.is_closing {
            return None;
        }
        let thread = thread::current().id();
        state.inside.push(thread);
        Some(Inside { gate: self, thread })
    }

    /// Whether whoever is inside had better end.
    pub(crate) fn is_closing(&self) -> bool {
        self.locked().is_closing
    }

    /// Whether the calling thread is inside: `close` would wait for it.
    pub(crate) fn is_inside(&self) -> bool {
        self.locked().inside.contains(&thread::current().id())
    }

    /// Lets nobody in any more and returns when all have left. `false`, and nothing done, if the caller is inside
    /// himself: he would wait for himself.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        let mut state = self.locked();
        if state.inside.contains(&thread::current().id()) {
            return false;
        }
        state.is_closing = true;
        while !state.inside.is_empty() {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// The state is whole between any two statements, so a panic elsewhere does not spoil it.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.locked();
        if let Some(place) = state.inside.iter().position(|&thread| thread == self.thread) {
            state.inside.swap_remove(place);
        }
        drop(state);
        self.gate.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn closing_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Gate::default();
        let inside = gate.enter().unwrap();
        assert!(gate.is_inside());
        assert!(!gate.close(), "the one inside would wait for himself");
        assert!(!gate.is_closing());
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(gate.close());
                sender.send(()).unwrap();
            });
            while !gate.is_closing() {
                thread::yield_now();
            }
            assert!(gate.enter().is_none());
            assert!(receiver.try_recv().is_err(), "one is still inside");
            drop(inside);
            receiver.recv().unwrap();
        });
        assert!(gate.close(), "again");
    }
}
