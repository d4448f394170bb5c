//! The threads that block until their records are durable: in two groups, each woken by one call.
//!
//! # Protocol
//! Those whom the sync under way covers are one group, the others, whom the next one covers, are the other; as
//! a sync begins the groups change places. A thread *takes a seat*: it reads which group is its own, and that
//! group's count of calls. Then it looks whether its record is durable and tries to take the role; only if
//! neither is so does it sleep, and only until the count is another one than on its seat. Who holds the role moves
//! the durable LSN, gives the role up, and then calls: one of those who wait for the next sync, to lead it,
//! and everybody whom the last one satisfied.
//!
//! # The races that are handled
//! * *A call between the seat and the sleep.* It changes the count, so the thread does not sleep. If the seat was
//!   taken after the call, what came before it is seen: the durable LSN, or that the role is free.
//! * *A sync begins while a seat is taken.* The covered LSN and the group stand in one word, which is read
//!   again after the count: if it is still the same, the call that ends this group's sync is still to come.
//! * *Several syncs under one role.* A sync that begins calls those of the one before first.
//!
//! So nobody sleeps past the end of the sync that covers its record, and nobody sleeps in the next group while the
//! role is free. A call may come for nothing; whoever was called looks again.

use crossbeam_utils::CachePadded;

use braidlog_format::Lsn;

use crate::primitive::Futex;
use crate::primitive::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Who waits for which sync.
#[derive(Debug)]
pub(crate) struct Committers {
    /// The last LSN that the last sync begun covers, shifted left by one; in bit 0 the group that waits for it.
    /// Only the role holder stores it.
    syncing: CachePadded<AtomicU64>,
    groups: [CachePadded<Group>; 2],
}

/// The threads of a group sleep on a word: the count of calls, shifted left by one; bit 0 is set once one of them
/// may sleep, and a call without it costs no system call. A thread that is held up between its look and its sleep
/// for exactly 2^31 calls would miss them.
#[derive(Debug, Default)]
struct Group(Futex);

/// Somebody may sleep.
const ASLEEP: u32 = 1;
/// One call.
const CALL: u32 = 2;

/// A place in a group, and the calls that were made to it by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) struct Seat {
    group: usize,
    seen: u32,
}

/// The sync that was the last one when the role was held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) struct LastSync {
    group: usize,
}

impl Committers {
    pub(crate) fn new(durable: Lsn) -> Committers {
        Committers { syncing: CachePadded::new(AtomicU64::new(durable.0 << 1)), groups: Default::default() }
    }

    /// Takes a seat for one that waits for `lsn`. Afterwards it looks at what it waits for, and tries the role.
    pub(crate) fn take_seat(&self, lsn: Lsn) -> Seat {
        loop {
            let syncing = self.syncing.load(Acquire); // [committers.sync]
            let covering = (syncing & 1) as usize;
            let group = if Lsn(syncing >> 1) >= lsn { covering } else { covering ^ 1 };
            let seen = self.groups[group].0.word().load(Acquire); // [committers.call]
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("group_not_checked_again") {
                return Seat { group, seen };
            }
            // Relaxed: if a call that ended a later sync was seen, its beginning is.
            if self.syncing.load(Relaxed) == syncing {
                return Seat { group, seen };
            }
        }
    }

    /// Sleeps until the seat is called, or for no reason.
    pub(crate) fn sleep(&self, seat: Seat) {
        let futex = &self.groups[seat.group].0;
        let asleep = seat.seen | ASLEEP;
        if seat.seen != asleep {
            // Relaxed: a call changes the same word, in one step.
            match futex.word().compare_exchange(seat.seen, asleep, Relaxed, Relaxed) {
                Ok(_) => {}
                Err(now) if now == asleep => {}
                Err(_) => return,
            }
        }
        futex.wait(asleep);
    }

    /// A sync begins that covers everything up to `last`. Only the role holder says so.
    pub(crate) fn sync_begins(&self, last: Lsn) {
        let before = self.last_sync();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("sync_begins_before_the_last_is_called") {
            return self.syncing.store(last.0 << 1 | (before.group ^ 1) as u64, Release);
        }
        self.call_satisfied(before);
        self.syncing.store(last.0 << 1 | (before.group ^ 1) as u64, Release); // [committers.sync]
    }

    /// The last sync begun. Asked by the role holder; the calls come after the role is given up.
    pub(crate) fn last_sync(&self) -> LastSync {
        LastSync { group: (self.syncing.load(Relaxed) & 1) as usize }
    }

    /// Calls everybody whom that sync covered.
    pub(crate) fn call_satisfied(&self, sync: LastSync) {
        self.groups[sync.group].call_all();
    }

    /// Calls one of those who wait for the sync after that one: the role is free.
    pub(crate) fn call_leader(&self, sync: LastSync) {
        self.groups[sync.group ^ 1].call_one();
    }

    /// Calls everybody: the log has failed.
    pub(crate) fn call_all(&self) {
        self.groups.iter().for_each(|group| group.call_all());
    }
}

#[cfg(all(test, braidlog_loom))]
impl Seat {
    /// How many calls were made to its group by then.
    pub(crate) fn calls(&self) -> u32 {
        self.seen / CALL
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
impl Committers {
    /// Whether a thread sleeps, or is about to.
    pub(crate) fn has_sleepers(&self) -> bool {
        self.groups.iter().any(|group| group.0.word().load(Relaxed) & ASLEEP != 0)
    }
}

impl Group {
    fn call_one(&self) {
        // The others sleep on: the bit stays.
        let before = self.0.word().fetch_add(CALL, Release); // [committers.call]
        if before & ASLEEP != 0 {
            self.0.wake_one();
        }
    }

    fn call_all(&self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("called_relaxed") {
            self.0.word().fetch_add(CALL, Relaxed);
            return self.0.wake_all();
        }
        let called = |word: u32| Some((word & !ASLEEP).wrapping_add(CALL));
        let before = self.0.word().fetch_update(Release, Relaxed, called); // [committers.call]
        if before.is_ok_and(|before| before & ASLEEP != 0) {
            self.0.wake_all();
        }
    }
}
