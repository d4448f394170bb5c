//! The seam's body under loom: every interleaving of a small model, and every value that a load may read.
//!
//! Parking is built on loom's `Notify` and not on its `park`: that one's token is lost when the thread meets a
//! mutex between the call that wakes it and its sleep, and a thread that waits for a mutex is let run without it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::Notify;
pub(crate) use loom::sync::atomic;
pub(super) use loom::sync::{Condvar as InnerCondvar, Mutex as Inner, MutexGuard as InnerGuard};

use super::{Mutex, MutexGuard};

pub(crate) mod thread {
    //! Loom's threads, parked by tokens of the seam's own.

    use std::io;
    use std::sync::Arc;
    use std::time::Instant;

    use loom::sync::Notify;
    pub(crate) use loom::thread::{ThreadId, yield_now};

    loom::thread_local! {
        static TOKEN: Arc<Notify> = Arc::new(Notify::new());
    }

    /// A thread, as those who wake it know it.
    #[derive(Clone, Debug)]
    pub(crate) struct Thread {
        inner: loom::thread::Thread,
        token: Arc<Notify>,
    }

    impl Thread {
        pub(crate) fn id(&self) -> ThreadId {
            self.inner.id()
        }

        pub(crate) fn unpark(&self) {
            self.token.notify();
        }
    }

    pub(crate) fn current() -> Thread {
        Thread { inner: loom::thread::current(), token: TOKEN.with(Arc::clone) }
    }

    /// For the threads of a model itself.
    #[cfg(test)]
    pub(crate) fn spawn<T: 'static>(work: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        JoinHandle(loom::thread::spawn(work))
    }

    pub(crate) fn park() {
        // Cloned first: loom lets nobody switch while a thread's own value is in use.
        let token = TOKEN.with(Arc::clone);
        token.wait();
    }

    /// Lets others run; by then the deadline has passed.
    pub(crate) fn park_until(_deadline: Instant) -> bool {
        yield_now();
        false
    }

    /// Models name the stripe that they mean.
    pub(crate) fn number() -> usize {
        0
    }

    /// Starts threads.
    pub(crate) struct Builder(loom::thread::Builder);

    /// Waits for a thread's end.
    #[derive(Debug)]
    pub(crate) struct JoinHandle<T>(loom::thread::JoinHandle<T>);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(loom::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            self.0.spawn(work).map(JoinHandle)
        }
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn join(self) -> std::thread::Result<T> {
            self.0.join()
        }

        pub(crate) fn thread(&self) -> &loom::thread::Thread {
            self.0.thread()
        }
    }
}

/// A mutex that others try to take. Loom switches threads where a lock is taken and not where it is given up, since
/// nobody who waits for it can tell the difference; one who tries can. So giving this one up is seen beforehand.
#[derive(Debug)]
pub(crate) struct TriedMutex<T> {
    mutex: Mutex<T>,
    given_up: AtomicUsize,
}

/// The right to use what a [`TriedMutex`] guards.
#[derive(Debug)]
pub(crate) struct TriedMutexGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    given_up: &'a AtomicUsize,
}

impl<T> TriedMutex<T> {
    pub(crate) fn new(value: T) -> TriedMutex<T> {
        TriedMutex { mutex: Mutex::new(value), given_up: AtomicUsize::new(0) }
    }

    pub(crate) fn lock(&self) -> TriedMutexGuard<'_, T> {
        TriedMutexGuard { guard: self.mutex.lock(), given_up: &self.given_up }
    }

    pub(crate) fn try_lock(&self) -> Option<TriedMutexGuard<'_, T>> {
        self.given_up.load(Relaxed);
        self.mutex.try_lock().map(|guard| TriedMutexGuard { guard, given_up: &self.given_up })
    }
}

impl<T> Deref for TriedMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for TriedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for TriedMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.given_up.store(0, Relaxed);
    }
}

/// Takes loom's own token, which may be there from a `Notify` that was given before it was waited for: the wait
/// would end at once, and the signal would come later to a thread that waits for something else.
pub(super) fn before_wait() {
    loom::thread::current().unpark();
    loom::thread::park();
}

/// Parks one thread, apart from [`thread::park`].
#[derive(Debug)]
pub(crate) struct Parker(Unparker);

/// Wakes the thread of a [`Parker`].
#[derive(Clone, Debug)]
pub(crate) struct Unparker(Arc<Notify>);

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker(Unparker(Arc::new(Notify::new())))
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park(&self) {
        self.0.0.wait();
    }

    pub(crate) fn park_timeout(&self, _limit: Duration) {
        thread::yield_now();
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.notify();
    }
}

/// Fails the model if its owner has not acquired it from the one before.
#[derive(Debug)]
pub(crate) struct Witness(loom::cell::UnsafeCell<()>);

impl Witness {
    pub(crate) fn new() -> Witness {
        Witness(loom::cell::UnsafeCell::new(()))
    }

    /// The memory is used by its owner alone.
    pub(crate) fn owned(&mut self) {
        self.0.with_mut(|_| {});
    }
}
