//! Who waits for which LSN to come to which rung, and how they are woken.
//!
//! # Protocol
//! A waiter's condition is `watermark >= its LSN`, never an epoch. It looks, enters the list under the lock
//! (looking once more there), and only then sleeps. Whoever moves a watermark first stores it, then takes the lock and
//! wakes those it satisfies. The durable LSN moves under the coordinator's role; the written LSN under the lock of
//! [`Flight`](crate::flight::Flight).
//!
//! *Watchers* wait in the same way in a list of their own, since nothing is done for them: they ask for no sync and
//! do not keep the background thread awake. While there are none they cost a look at an empty list, under the
//! lock that is taken anyway.
//!
//! # The races that are handled
//! * *A waiter enters between the store and the wake-up.* It takes the lock after the other did, so it sees
//!   the store and does not sleep; or it takes it before, and is found in the list. No wake-up is lost
//!   and nobody is woken for a record that is not there yet.
//! * *A watcher enters while the log ends.* The end is stored before the lock is taken, so the same holds of it.

mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use braidlog_format::Lsn;

use self::queue::Queue;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use crate::primitive::thread::Thread;
use crate::primitive::{Mutex, MutexGuard};

/// The watermarks and those who wait for them.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Every record up to here survives a power cut. Only the role holder stores it, and it only grows.
    durable: AtomicU64,
    /// Every record up to here was written: the system has it. Stored under the lock of the writes in flight; it only
    /// grows, and is never behind the durable LSN.
    written: AtomicU64,
    /// Whether the durable LSN stands where it is for good. Stored once, when the log has been closed.
    ended: AtomicBool,
    lists: Mutex<Lists>,
}

/// The waiters. A key is (LSN, number), so that the satisfied are a prefix.
#[derive(Debug, Default)]
struct Lists {
    written: Queue,
    durable: Queue,
    watched: Queue,
    next_number: u64,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaited {
    /// That an LSN is written.
    Written,
    /// That it is durable.
    Durable,
    /// That it is durable one day: nothing is done for it.
    Watched,
}

/// Names one waiting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key(Lsn, u64);

impl Key {
    /// What is waited for.
    pub(crate) fn lsn(self) -> Lsn {
        self.0
    }
}

/// One that waits and cannot lead.
#[derive(Debug)]
pub(crate) enum Sleeper {
    Thread(Thread),
    Task(Waker),
}

impl Sleeper {
    /// Wakes it if it is a thread; says so.
    pub(crate) fn unpark(&self) -> bool {
        match self {
            Sleeper::Thread(thread) => {
                thread.unpark();
                true
            }
            Sleeper::Task(_) => false,
        }
    }

    /// Wakes it; a task's waker is foreign code: see [`wakers`](crate::wakers).
    pub(crate) fn wake(self) {
        match self {
            Sleeper::Thread(thread) => thread.unpark(),
            // Foreign code. Its panic is told by the panic hook; it must neither keep the others from being
            // woken nor end the log's thread.
            Sleeper::Task(waker) => {
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
        }
    }
}

/// What a role holder does after it has given the role up.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct WakeUps {
    pub(crate) sleepers: Vec<Sleeper>,
    /// Whether sleepers that cannot lead still wait: the background thread must serve them.
    pub(crate) sleepers_left: bool,
}

impl Waiters {
    pub(crate) fn new(durable: Lsn) -> Waiters {
        Waiters {
            durable: AtomicU64::new(durable.0),
            written: AtomicU64::new(durable.0),
            ended: AtomicBool::new(false),
            lists: Mutex::new(Lists::default()),
        }
    }

    /// The durable LSN.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Acquire)) // [durable.advance]
    }

    /// Moves the durable LSN. Only the role holder calls this, after the sync that covers it has completed.
    pub(crate) fn advance(&self, durable: Lsn) {
        debug_assert!(self.durable() <= durable, "the durable LSN only grows");
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("durable_told_relaxed") {
            return self.durable.store(durable.0, std::sync::atomic::Ordering::Relaxed);
        }
        self.durable.store(durable.0, Release); // [durable.advance]
    }

    /// The written LSN.
    pub(crate) fn written(&self) -> Lsn {
        Lsn(self.written.load(Acquire)) // [written.advance]
    }

    /// Moves the written LSN, after every write up to it has completed. Only under the lock of the writes in flight.
    pub(crate) fn advance_written(&self, written: Lsn) {
        if written > self.written() {
            self.written.store(written.0, Release); // [written.advance]
        }
    }

    /// Enters one, under its old key if it has one; `None` if there is nothing to wait for any more.
    pub(crate) fn enter(
        &self,
        awaited: Awaited,
        lsn: Lsn,
        key: Option<Key>,
        sleeper: Sleeper,
    ) -> Option<Key> {
        let mut lists = self.lock_unless_reached(awaited, lsn)?;
        let key = key.unwrap_or_else(|| lists.key(lsn));
        let list = lists.list(awaited);
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("waker_not_replaced") && awaited != Awaited::Watched && list.contains(key) {
            return Some(key);
        }
        let replaced = list.enter(key, sleeper);
        drop(lists);
        // After the lock, as in `leave`: the last waker of a task may drop a ticket, which leaves this list.
        drop(replaced);
        Some(key)
    }

    fn lock_unless_reached(&self, awaited: Awaited, lsn: Lsn) -> Option<MutexGuard<'_, Lists>> {
        let lists = self.lists.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("waiter_enters_without_a_look") {
            return Some(lists);
        }
        let reached = match awaited {
            Awaited::Written => self.written(),
            Awaited::Durable | Awaited::Watched => self.durable(),
        };
        (reached < lsn).then_some(lists)
    }

    /// Leaves the list, if still in it.
    pub(crate) fn leave(&self, awaited: Awaited, key: Key) {
        let mut lists = self.lists.lock();
        // The value is dropped after the lock: a waker may run foreign code.
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("ticket_not_forgotten") && awaited != Awaited::Watched {
            return;
        }
        let gone = lists.list(awaited).leave(key);
        drop(lists);
        drop(gone);
    }

    /// Takes out everybody whom the watermarks satisfy.
    pub(crate) fn satisfied(&self) -> WakeUps {
        let mut sleepers = Vec::new();
        let mut lists = self.lists.lock();
        lists.written.take_up_to(self.written(), &mut sleepers);
        let durable = self.durable();
        lists.durable.take_up_to(durable, &mut sleepers);
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("watchers_woken_with_the_next_waiter") && sleepers.is_empty() {
            return WakeUps { sleepers, sleepers_left: lists.has_asking() };
        }
        lists.watched.take_up_to(durable, &mut sleepers);
        WakeUps { sleepers, sleepers_left: lists.has_asking() }
    }

    /// Takes out everybody who waits for no more than the written LSN to be written.
    pub(crate) fn satisfied_by_writes(&self) -> Vec<Sleeper> {
        let mut sleepers = Vec::new();
        let mut lists = self.lists.lock();
        lists.written.take_up_to(self.written(), &mut sleepers);
        sleepers
    }

    /// Takes out every sleeper too: without a background thread each asks again, and one of them leads.
    pub(crate) fn with_sleepers(&self, mut wake_ups: WakeUps) -> WakeUps {
        let mut lists = self.lists.lock();
        lists.written.take_all(&mut wake_ups.sleepers);
        lists.durable.take_all(&mut wake_ups.sleepers);
        wake_ups.sleepers_left = false;
        wake_ups
    }

    /// Takes out everybody: the log has failed or is closed.
    pub(crate) fn all(&self) -> WakeUps {
        let mut wake_ups = self.with_sleepers(WakeUps::default());
        self.lists.lock().watched.take_all(&mut wake_ups.sleepers);
        wake_ups
    }

    /// The durable LSN stands where it is for good: the log is closed. Afterwards [`all`](Waiters::all) are to be woken.
    pub(crate) fn end(&self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("end_told_relaxed") {
            return self.ended.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        self.ended.store(true, Release); // [watch.end]
    }

    /// Whether the durable LSN, asked for afterwards, is the last one.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Acquire) // [watch.end]
    }
}

impl Lists {
    fn key(&mut self, lsn: Lsn) -> Key {
        self.next_number += 1;
        Key(lsn, self.next_number)
    }

    fn list(&mut self, awaited: Awaited) -> &mut Queue {
        match awaited {
            Awaited::Written => &mut self.written,
            Awaited::Durable => &mut self.durable,
            Awaited::Watched => &mut self.watched,
        }
    }

    /// Whether there are some who asked for something.
    fn has_asking(&self) -> bool {
        !self.written.is_empty() || !self.durable.is_empty()
    }
}
