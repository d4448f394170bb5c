//! Writers that found no room: they sleep here until the coordinator has made some.
//!
//! # Protocol
//! A writer enters under the lock, tries once more, and only then sleeps. The coordinator gives room back
//! first and then takes the lock. As with [`Waiters`](crate::waiters::Waiters), whoever takes the lock
//! second sees what the other did before it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::primitive::Mutex;
use crate::primitive::thread::{self, Thread};

/// The writers that wait for room.
#[derive(Debug, Default)]
pub(crate) struct BlockedWriters {
    threads: Mutex<Vec<(u64, Thread)>>,
    /// Names each waiting. Relaxed: only uniqueness counts.
    next: AtomicU64,
}

impl BlockedWriters {
    pub(crate) fn new() -> BlockedWriters {
        BlockedWriters::default()
    }

    /// Enters the calling thread.
    pub(crate) fn enter(&self) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        self.threads.lock().push((number, thread::current()));
        number
    }

    /// Leaves, if still here.
    pub(crate) fn leave(&self, number: u64) {
        self.threads.lock().retain(|(other, _)| *other != number);
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(|(_, thread)| thread.unpark());
    }
}
