//! Waiting for durability, or for less: a thread leads the round that makes its record durable, or sleeps until another's
//! did; a task is woken.
//!
//! # Protocol
//! Take a seat among the committers; look at the durable LSN; try to take the role and lead; sleep until the seat
//! is called (see [`committers`](crate::committers) for why in this order). Durability is looked at before
//! failure: what is durable was promised.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;

use braidlog_format::{Lsn, LsnRange};

use crate::append::Wait;
use crate::coordinator::{Stepped, Want};
use crate::error::EngineError;
use crate::hold::{Held, Hold, Plan};
use crate::primitive::thread;
use crate::rung::Rung;
use crate::settings::{Durability, DurabilityMode};
use crate::shared::{Role, Shared};
use crate::waiters::{Awaited, Key, Sleeper};

/// Names the waiting of a task, so that it can be updated or forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskKey(Awaited, Key);

impl Shared {
    /// Waits until `lsns` are durable.
    pub(crate) fn wait_for(&self, lsns: LsnRange, wait: Wait) -> Result<(), EngineError> {
        if !self.leads(wait) {
            return self.is_durable(lsns).unwrap_or_else(|| self.sleep_until(lsns, Rung::Durable, wait));
        }
        loop {
            let seat = self.committers.take_seat(lsns.last);
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("seat_taken_after_the_look")
                && self.is_durable(lsns).is_none()
                && self.try_role().is_none()
            {
                self.committers.sleep(self.committers.take_seat(lsns.last));
                continue;
            }
            if let Some(settled) = self.is_durable(lsns) {
                return settled;
            }
            match self.try_role() {
                Some(role) => self.lead(role, lsns.last),
                None => self.committers.sleep(seat),
            }
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("woken_means_durable") {
                return Ok(());
            }
        }
    }

    /// Whether `lsns` are durable, or the log has failed before they were.
    fn is_durable(&self, lsns: LsnRange) -> Option<Result<(), EngineError>> {
        self.settled(Rung::Durable, lsns)
    }

    /// Waits without leading until `lsns` are durable; or, asked for no more than that they are written, drives the
    /// coordinator to write them if nobody does.
    fn sleep_until(&self, lsns: LsnRange, rung: Rung, wait: Wait) -> Result<(), EngineError> {
        let Some(awaited) = rung.awaited() else { return Ok(()) };
        let mut key = None;
        let settled = loop {
            match rung {
                Rung::Written => self.demand.ask_written(lsns.last),
                _ => self.demand.ask_served(lsns.last),
            }
            let sleeper = Sleeper::Thread(thread::current());
            key = self.waiters.enter(awaited, lsns.last, key, sleeper);
            if let Some(settled) = self.settled(rung, lsns) {
                break settled;
            }
            let role = if rung == Rung::Written && self.leads(wait) { self.try_role() } else { None };
            if let Some(mut role) = role {
                let stepped = role.step(self, Want::Drain);
                drop(role);
                if let Some(settled) = self.settled(rung, lsns) {
                    break settled;
                }
                if stepped.progress || stepped.gap {
                    thread::yield_now(); // To the writer that stands in the gap, or to the thread that writes.
                    continue;
                }
                // All is handed over: who writes it tells when it is done.
            } else {
                self.signal.notify();
            }
            if !wait.park() {
                break self.settled(rung, lsns).unwrap_or(Err(EngineError::TimedOut { lsns: Some(lsns) }));
            }
        };
        if let Some(key) = key {
            self.waiters.leave(awaited, key);
        }
        settled
    }

    /// Runs rounds until `lsn` is durable or the log has failed.
    pub(crate) fn lead<'a>(&'a self, mut role: Role<'a>, lsn: Lsn) {
        let mut told = self.waiters.durable();
        while self.waiters.durable() < lsn && self.failure.get().is_none() {
            let stepped = match self.settings.mode {
                // Without threads the log is driven by its callers, maybe by one, on a clock that only they move:
                // nobody may be there to end a hold.
                DurabilityMode::GroupCommit { max_delay, max_batch_size } if self.settings.background => {
                    let plan = role.hold.plan(max_delay, u64::from(max_batch_size));
                    self.hold(&mut role, plan);
                    let stepped = self.measured_step(&mut role);
                    self.tell_hold(&role.hold, role.hold.plan(max_delay, u64::from(max_batch_size)));
                    stepped
                }
                _ => role.step(self, Want::Sync),
            };
            let durable = self.waiters.durable();
            if durable > told && durable < lsn {
                // A gap before `lsn`, or a segment that ends before it and may wait for space. Who waits for what is
                // durable must not wait for it too: giving the role up wakes them.
                told = durable;
                drop(role);
                role = self.role();
            }
            if stepped.gap && !stepped.progress {
                // Its writer needs the processor, and then a handful of instructions.
                thread::yield_now();
            }
        }
    }

    /// Holds a round of group commit back as planned: see [`hold`](crate::hold). Over at once if somebody is in a
    /// hurry.
    fn hold(&self, role: &mut Role<'_>, plan: Option<Plan>) {
        let written = role.written();
        let waiting = || self.lsns.last().0.saturating_sub(written.0);
        let urgent = || self.demand.urgent() > self.waiters.durable();
        let began_with = waiting();
        let Some(plan) = plan.filter(|plan| began_with < plan.expected && !urgent()) else { return };
        let began = self.clock.monotonic();
        let (mut ended_with, mut arrival, mut lasted) = (began_with, began, Duration::ZERO);
        while plan.goes_on(ended_with, lasted, began + lasted - arrival) {
            thread::yield_now();
            let now = self.clock.monotonic();
            lasted = now.saturating_sub(began);
            let came = waiting();
            if came > ended_with {
                (ended_with, arrival) = (came, now);
            }
            if urgent() {
                return;
            }
        }
        role.hold.round_held(&plan, Held { began_with, ended_with, lasted });
        self.counters.hold_latency.record(lasted);
        self.counters.holds_filled.fetch_add(u64::from(ended_with >= plan.expected), Relaxed);
    }

    /// Steps, and learns from it what a round costs and how many committers there are.
    fn measured_step(&self, role: &mut Role<'_>) -> Stepped {
        let (before, began) = (self.waiters.durable(), self.clock.monotonic());
        let (written, appends) = (role.written(), role.appends());
        let stepped = role.step(self, Want::Sync);
        let (records, appends) = (role.written().0 - written.0, role.appends() - appends);
        role.hold.carried(records, appends);
        let durable = self.waiters.durable();
        if durable > before {
            let took = self.clock.monotonic().saturating_sub(began);
            let waiting = self.lsns.last().0.saturating_sub(durable.0);
            role.hold.round_done(durable.0 - before.0, took, waiting);
        }
        stepped
    }

    /// Tells people how the next round is held.
    fn tell_hold(&self, hold: &Hold, plan: Option<Plan>) {
        let counters = &self.counters;
        counters.round_cost_ns.store(hold.cost_ns(), Relaxed);
        counters.hold_records.store(plan.map_or(0, |plan| plan.expected), Relaxed);
        counters.hold_limit_ns.store(plan.map_or(0, |plan| plan.limit.as_nanos() as u64), Relaxed);
    }

    /// Asks for `lsns` to be brought to the rung; ready when they are there, or when the log has failed.
    pub(crate) fn poll_reached(
        &self,
        lsns: LsnRange,
        rung: Rung,
        key: &mut Option<TaskKey>,
        waker: &Waker,
    ) -> Poll<Result<(), EngineError>> {
        if self.waiters.durable() < lsns.last {
            let last = self.lsns.last();
            if lsns.last > last {
                return Poll::Ready(Err(EngineError::UnknownLsn { lsn: lsns.last, last }));
            }
        }
        if let Some(settled) = self.settled(rung, lsns) {
            self.forget_key(key);
            return Poll::Ready(settled);
        }
        let Some(awaited) = rung.awaited() else { return Poll::Ready(Ok(())) };
        self.ask_for(rung, lsns.last);
        let sleeper = Sleeper::Task(waker.clone());
        let entered = self.waiters.enter(awaited, lsns.last, key.map(|TaskKey(_, key)| key), sleeper);
        *key = entered.map(|key| TaskKey(awaited, key));
        // Without threads nobody else would do it. If another has the role, it finds this task in the list
        // when it gives the role up, and wakes it.
        if !self.settings.background
            && let Some(role) = self.try_role()
        {
            self.forget_key(key);
            self.bring(role, rung, lsns.last);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("task_enters_without_a_look") {
            self.signal.notify();
            return Poll::Pending;
        }
        if let Some(settled) = self.settled(rung, lsns) {
            self.forget_key(key);
            return Poll::Ready(settled);
        }
        self.signal.notify();
        Poll::Pending
    }

    /// Runs rounds until `lsn` has come to the rung or the log has failed, in a log without threads.
    fn bring<'a>(&'a self, mut role: Role<'a>, rung: Rung, lsn: Lsn) {
        if rung == Rung::Durable {
            return self.lead(role, lsn);
        }
        while self.waiters.written() < lsn && self.failure.get().is_none() {
            let stepped = role.step(self, Want::Drain);
            // As in `lead`: at a gap, or at the end of a segment, others are told what is done.
            drop(role);
            if !stepped.progress {
                thread::yield_now();
            }
            role = self.role();
        }
    }

    fn forget_key(&self, key: &mut Option<TaskKey>) {
        if let Some(key) = key.take() {
            self.forget(key);
        }
    }

    /// A task waits no longer.
    pub(crate) fn forget(&self, TaskKey(awaited, key): TaskKey) {
        self.waiters.leave(awaited, key);
    }

    /// Waits until everything appended before the call is durable.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let last = self.lsns.last();
        self.demand.ask_urgent(last);
        self.wait_for(LsnRange { first: last, last }, Wait::Forever)
    }

    /// Waits until what was appended for later is durable, as an append of this durability that waits would.
    pub(crate) fn wait_committed(&self, lsns: LsnRange, durability: Durability) -> Result<(), EngineError> {
        if durability == Durability::Async {
            return Ok(());
        }
        let began = self.clock.monotonic();
        if durability == Durability::Synchronous {
            self.demand.ask_urgent(lsns.last);
        }
        self.wait_for(lsns, Wait::Forever)?;
        self.counters.commit_latency.record(self.clock.monotonic().saturating_sub(began));
        Ok(())
    }

    /// Waits until `lsn` has come to the rung.
    pub(crate) fn wait_reached(&self, lsn: Lsn, rung: Rung, wait: Wait) -> Result<(), EngineError> {
        if self.waiters.durable() >= lsn {
            return Ok(()); // Of many tickets most find it so.
        }
        let last = self.lsns.last();
        if lsn > last {
            return Err(EngineError::UnknownLsn { lsn, last });
        }
        let lsns = LsnRange { first: lsn, last: lsn };
        match rung {
            Rung::Durable => {
                self.demand.ask_urgent(lsn);
                self.wait_for(lsns, wait)
            }
            rung => self.settled(rung, lsns).unwrap_or_else(|| self.sleep_until(lsns, rung, wait)),
        }
    }
}
