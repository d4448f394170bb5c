//! The background thread: serves records that nobody blocks for, on a timer or when asked.
//!
//! # Protocol
//! It sleeps *armed* (records are unsynced, their timer runs), *marking* (nothing is unsynced, a sync mark is
//! due soon) or *idle* (neither; the segment may age). A writer that publishes a record without waiting for it
//! wakes a thread that is not armed, so that the timer starts, and an armed one when a ring is half full or a
//! batch is. Blocking committers lead their own rounds and need no thread; their syncs wake an idle one all
//! the same, so that it writes the mark that they owe.
//!
//! # The race that is handled
//! The thread decides to sleep while a writer publishes. The thread stores its state, fences and looks for
//! work; the writer draws its LSN and looks at the state, both sequentially consistent: [flusher.sleep]. If the
//! writer's look does not see the thread's store, it precedes the thread's fence in the one order of all such
//! operations, and so does the draw: the thread sees it. (A fence between draw and look would do the same; it
//! would make every append wait until its bytes have left the store buffer.) How full a ring is has no such order:
//! it only hastens what the timer does anyway. And if what the thread finds behind its fence calls for another
//! state than the one it has stored, in which nobody would wake it, it does not sleep.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;

use crate::coordinator::Want;
use crate::primitive::atomic::{AtomicU8, Ordering::Relaxed, Ordering::SeqCst, fence};
use crate::primitive::thread::{self, JoinHandle};
use crate::primitive::{Mutex, Parker, Unparker, fence_after_draw};
use crate::shared::Shared;

/// How long nothing is done before a sync mark tells what is durable.
const IDLE_MARK_DELAY: Duration = Duration::from_millis(100);
/// Bytes in the rings that are worth a round of their own.
const FULL_ROUND: u64 = 1 << 20;

const RUNNING: u8 = 0;
const ARMED: u8 = 1;
const MARKING: u8 = 2;
const IDLE: u8 = 3;

/// What the background thread is doing, and the way to wake it.
#[derive(Debug)]
pub(crate) struct Signal {
    /// One of the four above. Stored by the thread; whoever wakes it sets it back to `RUNNING`, so that only
    /// one of many writers makes the call. Its order is in the module's head.
    state: AtomicU8,
    unparker: Mutex<Option<Unparker>>,
}

impl Signal {
    pub(crate) fn new() -> Signal {
        Signal { state: AtomicU8::new(RUNNING), unparker: Mutex::new(None) }
    }

    /// What the thread sleeps on.
    pub(crate) fn parker(&self) -> Parker {
        let parker = Parker::new();
        *self.unparker.lock() = Some(parker.unparker().clone());
        parker
    }

    /// After a record was published that its writer does not wait for. `due` says that a ring is half full, or
    /// that as many records wait as start a round.
    pub(crate) fn published(&self, due: bool) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("published_without_a_fence") {
            if self.state.load(Relaxed) == IDLE {
                self.wake(IDLE);
            }
            return;
        }
        fence_after_draw();
        let state = self.state.load(SeqCst); // [flusher.sleep]
        if matches!(state, IDLE | MARKING) || (due && state == ARMED) {
            self.wake(state);
        }
    }

    /// After a sync, which its writer may have led.
    pub(crate) fn synced(&self) {
        fence(SeqCst); // [flusher.sleep]
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("idle_thread_not_told_of_a_sync") {
            return;
        }
        if self.state.load(Relaxed) == IDLE {
            self.wake(IDLE);
        }
    }

    /// Wakes the thread if it sleeps: something is asked for.
    pub(crate) fn notify(&self) {
        fence(SeqCst); // [flusher.sleep]
        let state = self.state.load(Relaxed);
        if state != RUNNING {
            self.wake(state);
        }
    }

    #[cold]
    fn wake(&self, state: u8) {
        if self.state.compare_exchange(state, RUNNING, Relaxed, Relaxed).is_ok()
            && let Some(unparker) = &*self.unparker.lock()
        {
            unparker.unpark();
        }
    }
}

/// Starts the thread. It ends when `shared.closing` is set and the signal given.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let parker = shared.signal.parker();
    let shared = Arc::clone(shared);
    thread::Builder::new().name("braidlog-flush".to_owned()).spawn(move || Flusher::new(&shared).run(&parker))
}

/// What the thread knows.
pub(crate) struct Flusher<'a> {
    shared: &'a Shared,
    /// The durable LSN when the thread last looked.
    seen: Lsn,
    /// The last LSN when unsynced records were first seen, and when that was on the monotonic clock. Once it
    /// is durable the next ones begin to count.
    pending: Option<(Lsn, Duration)>,
    /// When something was last seen to happen.
    active: Duration,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Now(Work),
    /// Nothing before that time, if ever; until then the thread sleeps in this state.
    Later(Option<Duration>, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Round(Want),
    IdleMark,
    Rotate,
}

impl<'a> Flusher<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Flusher<'a> {
        Flusher { shared, seen: shared.waiters.durable(), pending: None, active: Duration::ZERO }
    }
}

impl Flusher<'_> {
    pub(crate) fn run(&mut self, parker: &Parker) {
        while !self.shared.closing.load(Relaxed) && self.shared.failure.get().is_none() {
            self.turn(parker);
        }
    }

    /// Does what is due and says so; or sleeps until something may be.
    pub(crate) fn turn(&mut self, parker: &Parker) -> Option<Work> {
        let durable = self.shared.waiters.durable();
        if durable != self.seen {
            self.seen = durable;
            self.active = self.shared.clock.monotonic();
        }
        match self.due() {
            Due::Now(work) => {
                self.work(work);
                Some(work)
            }
            Due::Later(_, asleep) => {
                self.sleep(parker, asleep);
                None
            }
        }
    }

    /// Sleeps in this state, unless there is something to do by now.
    fn sleep(&mut self, parker: &Parker, asleep: u8) {
        let shared = self.shared;
        shared.signal.state.store(asleep, Relaxed);
        fence(SeqCst); // [flusher.sleep]
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("flusher_sleeps_without_a_look") && asleep == IDLE {
            parker.park();
        }
        match self.due() {
            _ if shared.closing.load(Relaxed) => {}
            Due::Later(at, still) if still == asleep => match at {
                Some(at) => parker.park_timeout(at.saturating_sub(shared.clock.monotonic())),
                None => parker.park(),
            },
            _ => {}
        }
        shared.signal.state.store(RUNNING, Relaxed);
    }

    fn due(&mut self) -> Due {
        let shared = self.shared;
        let durable = shared.waiters.durable();
        let last = shared.lsns.last();
        let now = shared.clock.monotonic();
        if last == durable {
            self.pending = None;
            return self.idle_due(now);
        }
        if shared.demand.served() > durable {
            return Due::Now(Work::Round(Want::Sync));
        }
        if shared.demand.written().0 > shared.handed_over.load(Relaxed) {
            return Due::Now(Work::Round(Want::Drain));
        }
        let sync_began = Duration::from_nanos(shared.sync_began.load(Relaxed));
        let (_, since) = *self.pending.insert(still_pending(self.pending, durable, last, now, sync_began));
        let at = since + shared.settings.mode.delay();
        if at <= now || last.0 - durable.0 >= shared.settings.mode.batch_size() {
            Due::Now(Work::Round(Want::Sync))
        } else if shared.stripes.used() >= FULL_ROUND.min(self.ring_share())
            || shared.stripes.budget_used() > 0
        {
            Due::Now(Work::Round(Want::Drain))
        } else {
            // Not later than a mark may be due: others may make everything durable meanwhile.
            Due::Later(Some(at.min(now + IDLE_MARK_DELAY)), ARMED)
        }
    }

    /// Half a ring: a single writer must not fill its own before a round begins.
    fn ring_share(&self) -> u64 {
        self.shared.settings.stripe_capacity as u64 / 2
    }

    fn idle_due(&self, now: Duration) -> Due {
        let shared = self.shared;
        let since = shared.ages_since.load(Relaxed).checked_sub(1).map(Duration::from_nanos);
        let rotate =
            since.zip(shared.settings.segment_age_max).map(|(since, max)| (since + max, Work::Rotate));
        let owed = shared.marked.load(Relaxed) < shared.waiters.durable().0;
        let mark = owed.then_some((self.active + IDLE_MARK_DELAY, Work::IdleMark));
        match rotate.into_iter().chain(mark).min_by_key(|(at, _)| *at) {
            Some((at, work)) if at <= now => Due::Now(work),
            next => Due::Later(next.map(|(at, _)| at), if owed { MARKING } else { IDLE }),
        }
    }

    fn work(&mut self, work: Work) {
        let mut role = self.shared.role();
        let stepped = match work {
            Work::Round(want) => role.step(self.shared, want),
            Work::IdleMark => role.idle_mark(self.shared),
            Work::Rotate => role.rotate(self.shared),
        };
        drop(role);
        if stepped.gap && !stepped.progress {
            // The writer that drew the LSN needs the processor more than this thread does.
            thread::yield_now();
        }
    }
}

/// The last LSN whose delay runs, and since when it does.
///
/// What was pending may be durable by another thread's sync. What that sync left was appended after its rounds were
/// gathered, maybe long before this thread looked: its delay runs since the sync began.
fn still_pending(
    before: Option<(Lsn, Duration)>,
    durable: Lsn,
    last: Lsn,
    now: Duration,
    sync_began: Duration,
) -> (Lsn, Duration) {
    match before {
        Some((lsn, since)) if lsn > durable => (lsn, since),
        Some((_, since)) => (last, sync_began.max(since).min(now)),
        None => (last, now),
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Record 1 is appended at 0 ms, another's sync of it begins at 1 ms, record 2 is appended meanwhile. The thread
    /// looks at 10 ms, when the delay of record 1 is over: counted from there, record 2 would stay unsynced for nearly
    /// two delays.
    #[test]
    fn delay_runs_since_the_sync_that_left_a_record_behind() {
        let first = still_pending(None, Lsn(0), Lsn(1), ms(0), ms(0));
        assert_eq!(first, (Lsn(1), ms(0)));
        assert_eq!(still_pending(Some(first), Lsn(0), Lsn(2), ms(9), ms(0)), first, "the oldest counts");
        assert_eq!(still_pending(Some(first), Lsn(1), Lsn(2), ms(10), ms(1)), (Lsn(2), ms(1)));
        // A clock that was read before the sync began, and a sync that began before anything was pending.
        assert_eq!(still_pending(Some(first), Lsn(1), Lsn(2), ms(10), ms(11)), (Lsn(2), ms(10)));
        assert_eq!(still_pending(Some((Lsn(1), ms(5))), Lsn(1), Lsn(2), ms(10), ms(2)), (Lsn(2), ms(5)));
    }
}
