//! Whose turn it is: upkeep is done by one thread at a time, and a callback of it may call the log.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    holder: Mutex<Option<ThreadId>>,
    ended: Condvar,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn. `None` if this very thread has it: a callback of the upkeep, which must not wait for its
    /// own end.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let this = thread::current().id();
        let mut holder = self.lock();
        if *holder == Some(this) {
            return None;
        }
        while holder.is_some() {
            holder = self.ended.wait(holder).unwrap_or_else(PoisonError::into_inner);
        }
        *holder = Some(this);
        Some(Taken(self))
    }

    fn lock(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.ended.notify_one();
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
}
