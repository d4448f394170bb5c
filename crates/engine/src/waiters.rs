//! Who waits for which LSN to become durable, and how they are woken.
//!
//! # Protocol
//! A waiter's condition is `durable LSN >= its LSN`, never an epoch. It looks, enters the list under the lock
//! (looking once more there), and only then sleeps. The coordinator's role holder first stores the durable
//! LSN, then takes the lock and wakes those it satisfies.
//!
//! *Watchers* wait in the same way in a list of their own, since nothing is done for them: they ask for no sync and
//! do not keep the background thread awake. While there are none they cost a look at an empty list, under the
//! lock that is taken anyway.
//!
//! # The races that are handled
//! * *A waiter enters between the store and the wake-up.* It takes the lock after the role holder did, so it sees
//!   the store and does not sleep; or it takes it before, and is found in the list. No wake-up is lost
//!   and nobody is woken for a record that is not durable.
//! * *A watcher enters while the log ends.* The end is stored before the lock is taken, so the same holds of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use braidlog_format::Lsn;

use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use crate::primitive::thread::Thread;
use crate::primitive::{Mutex, MutexGuard};

/// The durable LSN and those who wait for it.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Every record up to here survives a power cut. Only the role holder stores it, and it only grows.
    durable: AtomicU64,
    /// Whether the durable LSN stands where it is for good. Stored once, when the log has been closed.
    ended: AtomicBool,
    lists: Mutex<Lists>,
}

/// The waiters. A key is (LSN, number), so that the satisfied are a prefix.
#[derive(Debug, Default)]
struct Lists {
    tasks: BTreeMap<Key, Sleeper>,
    watchers: BTreeMap<Key, Sleeper>,
    next_number: u64,
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
    fn wake(self) {
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
    sleepers: Vec<Sleeper>,
    /// Whether sleepers that cannot lead still wait: the background thread must serve them.
    pub(crate) sleepers_left: bool,
}

impl WakeUps {
    /// Wakes everybody, outside of all locks.
    pub(crate) fn wake(self) {
        self.sleepers.into_iter().for_each(Sleeper::wake);
    }
}

impl Waiters {
    pub(crate) fn new(durable: Lsn) -> Waiters {
        Waiters {
            durable: AtomicU64::new(durable.0),
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

    /// Enters one that cannot lead, under its old key if it has one; `None` if there is nothing to wait for
    /// any more.
    pub(crate) fn enter_sleeper(&self, lsn: Lsn, key: Option<Key>, sleeper: Sleeper) -> Option<Key> {
        let mut lists = self.lock_unless_durable(lsn)?;
        let key = key.unwrap_or_else(|| lists.key(lsn));
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("waker_not_replaced") && lists.tasks.contains_key(&key) {
            return Some(key);
        }
        let replaced = lists.tasks.insert(key, sleeper);
        drop(lists);
        // After the lock, as in `leave`: the last waker of a task may drop a ticket, which leaves this list.
        drop(replaced);
        Some(key)
    }

    /// Enters a watcher, under its old key if it has one; `None` if what it waits for is durable.
    pub(crate) fn enter_watcher(&self, lsn: Lsn, key: Option<Key>, sleeper: Sleeper) -> Option<Key> {
        let mut lists = self.lock_unless_durable(lsn)?;
        let key = key.unwrap_or_else(|| lists.key(lsn));
        let replaced = lists.watchers.insert(key, sleeper);
        drop(lists);
        drop(replaced);
        Some(key)
    }

    fn lock_unless_durable(&self, lsn: Lsn) -> Option<MutexGuard<'_, Lists>> {
        let lists = self.lists.lock();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("waiter_enters_without_a_look") {
            return Some(lists);
        }
        (self.durable() < lsn).then_some(lists)
    }

    /// Leaves the list, if still in it.
    pub(crate) fn leave(&self, key: Key) {
        let mut lists = self.lists.lock();
        // The value is dropped after the lock: a waker may run foreign code.
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("ticket_not_forgotten") {
            return;
        }
        let gone = lists.tasks.remove(&key);
        drop(lists);
        drop(gone);
    }

    /// A watcher's [`leave`](Waiters::leave).
    pub(crate) fn leave_watch(&self, key: Key) {
        let mut lists = self.lists.lock();
        let gone = lists.watchers.remove(&key);
        drop(lists);
        drop(gone);
    }

    /// Takes out everybody whom the durable LSN satisfies.
    pub(crate) fn satisfied(&self) -> WakeUps {
        let mut lists = self.lists.lock();
        let behind = Key(self.durable().next(), 0);
        let mut sleepers = take_before(&mut lists.tasks, behind);
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("watchers_woken_with_the_next_waiter") && sleepers.is_empty() {
            return WakeUps { sleepers, sleepers_left: !lists.tasks.is_empty() };
        }
        sleepers.append(&mut take_before(&mut lists.watchers, behind));
        WakeUps { sleepers, sleepers_left: !lists.tasks.is_empty() }
    }

    /// Takes out every sleeper too: without a background thread each asks again, and one of them leads.
    pub(crate) fn with_sleepers(&self, mut wake_ups: WakeUps) -> WakeUps {
        let mut lists = self.lists.lock();
        let tasks = std::mem::take(&mut lists.tasks);
        drop(lists);
        wake_ups.sleepers.extend(tasks.into_values());
        wake_ups.sleepers_left = false;
        wake_ups
    }

    /// Takes out everybody: the log has failed or is closed.
    pub(crate) fn all(&self) -> WakeUps {
        let mut lists = self.lists.lock();
        let tasks = std::mem::take(&mut lists.tasks);
        let watchers = std::mem::take(&mut lists.watchers);
        drop(lists);
        WakeUps {
            sleepers: tasks.into_values().chain(watchers.into_values()).collect(),
            sleepers_left: false,
        }
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
}

fn take_before<V>(map: &mut BTreeMap<Key, V>, end: Key) -> Vec<V> {
    match map.first_key_value() {
        Some((first, _)) if *first < end => {
            let rest = map.split_off(&end);
            std::mem::replace(map, rest).into_values().collect()
        }
        _ => Vec::new(),
    }
}
