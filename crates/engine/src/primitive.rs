//! The seam through which the engine reaches threads and shared memory: the real ones, or loom's.
//!
//! Everything whose interleavings matter takes its atomics, cells, locks and parking from here, so that a
//! model checks the production code and not a copy of it. The cfg has a name of its own because a bare
//! `loom` would switch dependencies over too.

#[cfg(not(braidlog_loom))]
mod real {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;

    pub(crate) use parking_lot::{Mutex, MutexGuard};

    /// Stands for memory that is reached through raw pointers, which a model cannot watch.
    #[derive(Debug)]
    pub(crate) struct Witness;

    impl Witness {
        pub(crate) fn new() -> Witness {
            Witness
        }

        /// The memory is used by its owner alone.
        pub(crate) fn owned(&mut self) {}
    }
}

#[cfg(braidlog_loom)]
mod real {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::thread;

    /// Loom's mutex with the calls of `parking_lot`'s.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model does not panic under a lock")
        }
    }

    /// Fails the model if its owner has not acquired it from the one before.
    #[derive(Debug)]
    pub(crate) struct Witness(loom::cell::UnsafeCell<()>);

    impl Witness {
        pub(crate) fn new() -> Witness {
            Witness(loom::cell::UnsafeCell::new(()))
        }

        pub(crate) fn owned(&mut self) {
            self.0.with_mut(|_| {});
        }
    }
}

pub(crate) use real::*;
