//! Writers that found no room: they sleep here until the coordinator has made some.
//!
//! # Protocol
//! A writer, a thread or a task, enters under the lock, tries once more, and only then sleeps. The coordinator gives room back
//! first and then takes the lock. As with [`Waiters`](crate::waiters::Waiters), whoever takes the lock
//! second sees what the other did before it. Everybody is woken whenever there may be room: who is not quick enough
//! enters again, so a task that is dropped when it was woken takes nobody's turn.

use std::collections::BTreeMap;

use crate::primitive::Mutex;
use crate::waiters::Sleeper;

/// The writers that wait for room.
#[derive(Debug, Default)]
pub(crate) struct BlockedWriters(Mutex<Blocked>);

/// By the number of their waiting.
#[derive(Debug, Default)]
struct Blocked {
    sleepers: BTreeMap<u64, Sleeper>,
    next: u64,
}

impl BlockedWriters {
    pub(crate) fn new() -> BlockedWriters {
        BlockedWriters::default()
    }

    /// Enters one, under its old number if it has one.
    pub(crate) fn enter(&self, number: Option<u64>, sleeper: Sleeper) -> u64 {
        let mut blocked = self.0.lock();
        let number = number.unwrap_or(blocked.next);
        blocked.next = blocked.next.max(number + 1);
        let replaced = blocked.sleepers.insert(number, sleeper);
        drop(blocked);
        // After the lock: a waker may run foreign code when it is dropped.
        drop(replaced);
        number
    }

    /// Leaves, if still here.
    pub(crate) fn leave(&self, number: u64) {
        let mut blocked = self.0.lock();
        let gone = blocked.sleepers.remove(&number);
        drop(blocked);
        drop(gone);
    }

    /// Takes everybody out, to be woken.
    #[must_use = "they sleep until they are woken"]
    pub(crate) fn take_all(&self) -> Vec<Sleeper> {
        let sleepers = std::mem::take(&mut self.0.lock().sleepers);
        sleepers.into_values().collect()
    }

    /// Takes everybody out if `there_is_room` says so, when all who entered before had their look at it.
    #[must_use = "they sleep until they are woken"]
    pub(crate) fn take_all_if(&self, there_is_room: impl FnOnce() -> bool) -> Vec<Sleeper> {
        let mut blocked = self.0.lock();
        let sleepers = if there_is_room() { std::mem::take(&mut blocked.sleepers) } else { BTreeMap::new() };
        drop(blocked);
        sleepers.into_values().collect()
    }
}
