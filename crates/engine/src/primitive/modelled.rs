//! What loom and shuttle lack, built from the mutex and the condition variable that they have: locks with the
//! calls of `parking_lot`, a cell that is set once.
//!
//! The rule: no wait with a time limit blocks. It lets others run and says that the time is over, as it may be
//! at any moment.

use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use super::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use super::{Inner, InnerCondvar, InnerGuard, before_wait, thread};

/// A mutex with the calls of `parking_lot`'s. A panic under it does not spoil it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(Inner<T>);

/// The right to use what the mutex guards.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only while [`Condvar`] has it.
    inner: Option<InnerGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(Inner::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, inner: Some(self.lock_inner()) }
    }

    fn lock_inner(&self) -> InnerGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = match self.0.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, inner: Some(inner) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("the condition variable gave it back")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("the condition variable gave it back")
    }
}

/// A condition variable with the calls of `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Condvar(InnerCondvar);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar(InnerCondvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        before_wait();
        let inner = guard.inner.take().expect("held");
        guard.inner = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    /// The time is over when others had the chance to run.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _limit: Duration) {
        guard.inner = None;
        thread::yield_now();
        guard.inner = Some(guard.mutex.lock_inner());
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A cell that is set once; whoever comes second waits until the first has set it.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
            setting: Mutex::new(()),
        }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _setting = self.setting.lock();
        self.value.set(value)?;
        self.is_set.store(true, Release);
        Ok(())
    }
}

/// Loom takes a sequentially consistent operation for one that acquires and releases; a fence it takes for what
/// it is.
pub(crate) fn fence_after_draw() {
    super::atomic::fence(super::atomic::Ordering::SeqCst);
}
