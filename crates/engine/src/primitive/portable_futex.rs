//! The seam's futex where the system has none, and in models: a word beside a lock and a condition variable.
//!
//! The race that is handled: a thread looks at the word under the lock, and who wakes takes that lock after it has
//! changed the word. So the thread sees the change, or sleeps already.

use super::atomic::{AtomicU32, Ordering::Relaxed};
use super::{Condvar, Mutex};

/// A word that threads sleep on.
#[derive(Debug)]
pub(crate) struct Futex {
    word: AtomicU32,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Default for Futex {
    fn default() -> Self {
        Futex { word: AtomicU32::new(0), lock: Mutex::new(()), woken: Condvar::new() }
    }
}

impl Futex {
    /// The word. Who changes it for those who sleep wakes them afterwards.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Sleeps if the word is `expected`, until woken or for no reason.
    pub(crate) fn wait(&self, expected: u32) {
        let mut guard = self.lock.lock();
        if self.word.load(Relaxed) == expected {
            self.woken.wait(&mut guard);
        }
    }

    /// Wakes one who sleeps.
    pub(crate) fn wake_one(&self) {
        drop(self.lock.lock());
        self.woken.notify_one();
    }

    /// Wakes all who sleep.
    pub(crate) fn wake_all(&self) {
        drop(self.lock.lock());
        self.woken.notify_all();
    }
}
