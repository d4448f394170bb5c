//! The seam's body under shuttle: random schedules of the whole engine, each repeated from its seed.
//!
//! Everything is sequentially consistent there; weak orderings are loom's to check.

use std::sync::Arc;
use std::time::Duration;

pub(crate) use shuttle::sync::atomic;
pub(super) use shuttle::sync::{Condvar as InnerCondvar, Mutex as Inner, MutexGuard as InnerGuard};

use super::{Condvar, Mutex};
/// Shuttle switches threads where a lock is given up, too.
pub(crate) use super::{Mutex as TriedMutex, MutexGuard as TriedMutexGuard};

pub(crate) mod thread {
    //! Shuttle's threads, for which a time limit may be over at any moment.

    use std::time::Instant;

    use shuttle::rand::{RngCore, thread_rng};
    pub(crate) use shuttle::thread::{Builder, JoinHandle, Thread, ThreadId, current, park, yield_now};

    /// Lets others run; says by chance whether the deadline has passed.
    pub(crate) fn park_until(_deadline: Instant) -> bool {
        yield_now();
        thread_rng().next_u64() & 1 == 0
    }

    /// A number that each thread keeps.
    pub(crate) fn number() -> usize {
        current().id().into()
    }
}

/// Nothing is in the way of a wait.
pub(super) fn before_wait() {}

/// Parks one thread, apart from `thread::park`.
#[derive(Debug)]
pub(crate) struct Parker(Unparker);

/// Wakes the thread of a [`Parker`].
#[derive(Clone, Debug)]
pub(crate) struct Unparker(Arc<Token>);

#[derive(Debug)]
struct Token {
    is_there: Mutex<bool>,
    given: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker(Unparker(Arc::new(Token { is_there: Mutex::new(false), given: Condvar::new() })))
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park(&self) {
        let Token { is_there, given } = &*self.0.0;
        let mut is_there = is_there.lock();
        while !std::mem::take(&mut *is_there) {
            given.wait(&mut is_there);
        }
    }

    pub(crate) fn park_timeout(&self, _limit: Duration) {
        thread::yield_now();
        *self.0.0.is_there.lock() = false;
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        *self.0.is_there.lock() = true;
        self.0.given.notify_all();
    }
}

/// Shuttle does not watch memory.
#[derive(Debug)]
pub(crate) struct Witness;

impl Witness {
    pub(crate) fn new() -> Witness {
        Witness
    }

    pub(crate) fn owned(&mut self) {}
}
