//! Waiting for durability: a thread leads the round that makes its record durable, or sleeps until another's
//! did; a task is woken.
//!
//! # Protocol
//! Look at the durable LSN; try to take the role and lead; enter the list of waiters; try the role once more
//! (see [`Shared`] for why); sleep. Durability is looked at before failure: what is durable was promised.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use braidlog_format::{Lsn, LsnRange};

use crate::append::Wait;
use crate::coordinator::Want;
use crate::error::EngineError;
use crate::primitive::thread;
use crate::settings::DurabilityMode;
use crate::shared::{Role, Shared};
use crate::waiters::{Key, Sleeper};

/// Names the waiting of a task, so that it can be updated or forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskKey(Key);

impl Shared {
    /// Waits until `lsns` are durable.
    pub(crate) fn wait_for(&self, lsns: LsnRange, wait: Wait) -> Result<(), EngineError> {
        loop {
            if let Some(settled) = self.settled(lsns) {
                return settled;
            }
            if !self.leads(wait) {
                return self.sleep_until(lsns, wait);
            }
            if let Some(role) = self.try_role() {
                self.lead(role, lsns.last);
                continue;
            }
            let Some(key) = self.waiters.enter_thread(lsns.last, thread::current()) else { continue };
            // The holder may have given the role up before this thread was in the list; and a failure may
            // have been told to those in the list before that.
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("committer_sleeps_without_asking_again") {
                thread::park();
                continue;
            }
            if self.failure.get().is_none() {
                match self.try_role() {
                    Some(role) => {
                        self.waiters.leave(key);
                        self.lead(role, lsns.last);
                        continue;
                    }
                    None => thread::park(),
                }
            }
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("woken_means_durable") {
                return Ok(());
            }
            if self.waiters.durable() < lsns.last {
                self.waiters.leave(key);
            }
        }
    }

    /// Waits without leading.
    fn sleep_until(&self, lsns: LsnRange, wait: Wait) -> Result<(), EngineError> {
        let mut key = None;
        let settled = loop {
            self.demand.ask_served(lsns.last);
            let sleeper = Sleeper::Thread(thread::current());
            key = self.waiters.enter_sleeper(lsns.last, key, sleeper);
            if let Some(settled) = self.settled(lsns) {
                break settled;
            }
            self.signal.notify();
            if !wait.park() {
                break self.settled(lsns).unwrap_or(Err(EngineError::TimedOut { lsns: Some(lsns) }));
            }
        };
        if let Some(key) = key {
            self.waiters.leave(key);
        }
        settled
    }

    /// Whether the wait is over: durable, or the log has failed before it was.
    fn settled(&self, lsns: LsnRange) -> Option<Result<(), EngineError>> {
        if self.waiters.durable() >= lsns.last {
            return Some(Ok(()));
        }
        let failure = self.failure.get()?;
        // The sync that covers these may have completed before the failure.
        Some(if self.waiters.durable() >= lsns.last {
            Ok(())
        } else {
            Err(EngineError::Failed { failure: failure.clone(), lsns: Some(lsns) })
        })
    }

    /// Runs rounds until `lsn` is durable or the log has failed.
    fn lead(&self, mut role: Role<'_>, lsn: Lsn) {
        while self.waiters.durable() < lsn && self.failure.get().is_none() {
            self.hold(&role);
            let stepped = role.step(self, Want::Sync);
            if stepped.gap && !stepped.progress {
                // A gap before `lsn`: its writer needs the processor, and then a handful of instructions.
                thread::yield_now();
            }
        }
    }

    /// Holds a group-commit round back until about as many records wait as the last round carried, so that
    /// writers which it woke can join this one. Bounded by `max_delay` and by half of what a sync takes, and
    /// over at once if somebody is in a hurry. A lone writer never waits: its last round carried one.
    fn hold(&self, role: &Role<'_>) {
        let DurabilityMode::GroupCommit { max_delay, max_batch_size } = self.settings.mode else { return };
        let (records, took) = role.last_sync();
        let expected = records.min(u64::from(max_batch_size));
        // Without threads the log is driven by its callers, maybe by one, on a clock that only they move:
        // nobody may be there to end the hold.
        if expected <= 1 || !self.settings.background {
            return;
        }
        let limit = max_delay.min(took / 2);
        let began = self.clock.monotonic();
        while self.lsns.last().0.saturating_sub(role.written().0) < expected
            && self.demand.urgent() <= self.waiters.durable()
            && self.clock.monotonic().saturating_sub(began) < limit
        {
            thread::yield_now();
        }
    }

    /// Asks for `lsns` to be made durable; ready when they are, or when the log has failed.
    pub(crate) fn poll_durable(
        &self,
        lsns: LsnRange,
        key: &mut Option<TaskKey>,
        waker: &Waker,
    ) -> Poll<Result<(), EngineError>> {
        if let Some(settled) = self.settled(lsns) {
            self.forget_key(key);
            return Poll::Ready(settled);
        }
        self.demand.ask_served(lsns.last);
        let sleeper = Sleeper::Task(waker.clone());
        *key = self.waiters.enter_sleeper(lsns.last, key.map(|key| key.0), sleeper).map(TaskKey);
        // Without threads nobody else would do it. If another has the role, it finds this task in the list
        // when it gives the role up, and wakes it.
        if !self.settings.background
            && let Some(role) = self.try_role()
        {
            self.forget_key(key);
            self.lead(role, lsns.last);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("task_enters_without_a_look") {
            self.signal.notify();
            return Poll::Pending;
        }
        if let Some(settled) = self.settled(lsns) {
            self.forget_key(key);
            return Poll::Ready(settled);
        }
        self.signal.notify();
        Poll::Pending
    }

    fn forget_key(&self, key: &mut Option<TaskKey>) {
        if let Some(TaskKey(key)) = key.take() {
            self.waiters.leave(key);
        }
    }

    /// A task waits no longer.
    pub(crate) fn forget(&self, TaskKey(key): TaskKey) {
        self.waiters.leave(key);
    }

    /// Waits until everything appended before the call is durable.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let last = self.lsns.last();
        self.demand.ask_urgent(last);
        self.wait_for(LsnRange { first: last, last }, Wait::Forever)
    }

    /// Waits until `lsn` is durable.
    pub(crate) fn wait_durable(&self, lsn: Lsn, wait: Wait) -> Result<(), EngineError> {
        let last = self.lsns.last();
        if lsn > last {
            return Err(EngineError::UnknownLsn { lsn, last });
        }
        self.demand.ask_urgent(lsn);
        self.wait_for(LsnRange { first: lsn, last: lsn }, wait)
    }

    /// The last LSN written, synced or not.
    pub(crate) fn written(&self) -> Lsn {
        Lsn(self.written.load(Relaxed))
    }
}
