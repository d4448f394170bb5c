//! The seam's futex where the system has one: threads sleep on a word, and one call wakes all of them.

use std::sync::atomic::AtomicU32;

use rustix::thread::futex::{self, Flags};

/// A word that threads sleep on.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    word: AtomicU32,
}

impl Futex {
    /// The word. Who changes it for those who sleep wakes them afterwards.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Sleeps if the word is `expected`, until woken or for no reason.
    pub(crate) fn wait(&self, expected: u32) {
        // An error says that the word was another, or that a signal came: the caller looks again.
        let _ = futex::wait(&self.word, Flags::PRIVATE, expected, None);
    }

    /// Wakes the one who has slept for longest.
    pub(crate) fn wake_one(&self) {
        self.wake(1);
    }

    /// Wakes all who sleep.
    pub(crate) fn wake_all(&self) {
        self.wake(i32::MAX as u32);
    }

    fn wake(&self, count: u32) {
        let woken = futex::wake(&self.word, Flags::PRIVATE, count);
        debug_assert!(woken.is_ok(), "the word is there: {woken:?}");
    }
}
