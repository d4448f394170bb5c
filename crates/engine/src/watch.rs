//! Following the durable LSN without asking for it: who shows others what is durable waits here.
//!
//! # Protocol
//! As for any [waiter](crate::waiters), with the next LSN for the one that it waits for: look, enter the list, look
//! again, sleep. Nothing is asked for on its behalf, so a log that syncs nothing wakes nobody. It is over when the
//! log has failed or is closed; what became durable before that is told first.

use std::task::{Poll, Waker};

use braidlog_format::Lsn;

use crate::append::Wait;
use crate::error::EngineError;
use crate::primitive::thread;
use crate::shared::Shared;
use crate::waiters::{Awaited, Key, Sleeper};

/// Names the watch of a task, so that it can be updated or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchKey(Key);

impl Shared {
    /// The durable LSN, if that is beyond `seen`; or why it will never be.
    pub(crate) fn beyond(&self, seen: Lsn) -> Option<Result<Lsn, EngineError>> {
        let durable_beyond = || Some(self.waiters.durable()).filter(|durable| *durable > seen);
        if let Some(durable) = durable_beyond() {
            return Some(Ok(durable));
        }
        // The failure first: a log that failed is closed too, one day.
        let end = match self.failure.get() {
            Some(failure) => EngineError::Failed { failure: failure.clone(), lsns: None },
            None if self.waiters.is_ended() => EngineError::Closed,
            None => return None,
        };
        // The last sync may have completed before the end, and after the look.
        Some(durable_beyond().ok_or(end))
    }

    /// Waits until the durable LSN is beyond `seen`.
    pub(crate) fn wait_beyond(&self, seen: Lsn, wait: Wait) -> Result<Lsn, EngineError> {
        let mut key = None;
        let beyond = loop {
            if let Some(beyond) = self.beyond(seen) {
                break beyond;
            }
            key = self.waiters.enter(Awaited::Watched, seen.next(), key, Sleeper::Thread(thread::current()));
            if let Some(beyond) = self.beyond(seen) {
                break beyond;
            }
            if !wait.park() {
                break self.beyond(seen).unwrap_or(Err(EngineError::TimedOut { lsns: None }));
            }
        };
        if let Some(key) = key {
            self.waiters.leave(Awaited::Watched, key);
        }
        beyond
    }

    /// As [`wait_beyond`](Shared::wait_beyond), for a task.
    pub(crate) fn poll_beyond(
        &self,
        seen: Lsn,
        key: &mut Option<WatchKey>,
        waker: &Waker,
    ) -> Poll<Result<Lsn, EngineError>> {
        let mut beyond = self.beyond(seen);
        if beyond.is_none() {
            // A key is for one LSN.
            let same = key.take_if(|WatchKey(key)| key.lsn() == seen.next());
            self.end_watch(key);
            let entered = self.waiters.enter(
                Awaited::Watched,
                seen.next(),
                same.map(|same| same.0),
                Sleeper::Task(waker.clone()),
            );
            *key = entered.map(WatchKey);
            beyond = self.beyond(seen);
        }
        match beyond {
            Some(beyond) => {
                self.end_watch(key);
                Poll::Ready(beyond)
            }
            None => Poll::Pending,
        }
    }

    /// A task watches no longer.
    pub(crate) fn end_watch(&self, key: &mut Option<WatchKey>) {
        if let Some(WatchKey(key)) = key.take() {
            self.waiters.leave(Awaited::Watched, key);
        }
    }
}
