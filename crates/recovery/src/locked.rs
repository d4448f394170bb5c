//! Taking a lock.
//!
//! The rule: what a mutex of this crate guards is whole between any two statements, so that a panic elsewhere, in the
//! application's code or in a reader's, spoils it for nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The guard, whoever panicked while he had it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
