//! Reading ahead: threads that read and check what a scan will come to.
//!
//! # The rule
//! What a thread hands over is a proof about bytes, never a verdict: the entries of this life of this segment, from
//! here to there, prove themselves ([`run`]). The scan takes it only where it stands at the very beginning of such a
//! run, and still asks of each entry what depends on those before it. Whatever no thread could prove (damage, an end, a
//! file that cannot be read) the scan looks at itself, as if there were no threads. So records and errors,
//! and their order, are those of one thread.
//!
//! # Protocol
//! A thread takes a free buffer, then, alone, takes the next run for it ([`feed`]) and queues a place; then, beside the
//! others, reads and proves it and puts it in its place. The scan takes runs from the front. Where the first one is not
//! ready, it does a thread's work meanwhile, so that no processor is idle while there is room; and when there is none, it
//! goes on alone, so that it never waits for a thread that the system does not let run.
//!
//! # Memory
//! The buffers of the pool, the one that the scan has, and those of threads that the scan did not wait for. A thread
//! that finds none free waits.
//!
//! # A race that is handled
//! A thread that panics marks its place as lost and ends the reading ahead, so that nobody waits for it; the scan goes
//! on alone.

mod feed;
mod run;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use braidlog_format::{Lsn, Salt};
use braidlog_storage::{AlignedBuf, IO_ALIGN, LogDir};

use self::feed::Feed;
pub(crate) use self::run::Run;
use crate::locked::locked;
use crate::scan::Position;

/// Bytes of a buffer, at most; what is read at once.
const RUN_LEN_MAX: usize = 512 << 10;
/// Bytes of a buffer, at least.
const RUN_LEN_MIN: usize = 32 << 10;
/// Buffers that a thread can keep busy: one that it fills and some that wait for the scan.
const BUFFERS_PER_THREAD: usize = 4;

/// How much may be read ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAhead {
    /// Threads that read and check, the caller's own among them.
    pub threads: usize,
    /// Bytes of all buffers together.
    pub memory_bytes: usize,
    /// Bytes of the log that the caller's thread reads alone before the others start: a short range is not worth
    /// them.
    pub after_bytes: u64,
}

/// Threads at work; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What there is for a scan that asks.
pub(crate) enum Next {
    /// The run that begins where the scan stands.
    Run(Run),
    /// None begins before this offset of the segment.
    NotBefore(u64),
    /// None will come any more.
    Over,
}

#[derive(Debug)]
struct Shared {
    /// Locked before `queue`, by whoever needs both.
    feed: Mutex<Feed>,
    queue: Mutex<Queue>,
    /// A buffer is free, or nothing more is to be done.
    room: Condvar,
    /// Bytes of each buffer.
    run_len: usize,
}

#[derive(Debug)]
struct Queue {
    free: Vec<AlignedBuf>,
    /// Buffers that the pool may still make.
    unmade: usize,
    /// The runs that were read, in order.
    places: VecDeque<Place>,
    /// How many places were taken from the front.
    taken: u64,
    /// Nothing more is read.
    over: bool,
    /// How many threads sleep.
    threads_wait: usize,
}

/// The place of a run.
#[derive(Debug)]
struct Place {
    base: Lsn,
    salt: Salt,
    /// As [`Run::from`].
    from: u64,
    /// As [`Run::to`].
    to: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A thread is proving it.
    Pending,
    Ready(Run),
    /// Its thread panicked.
    Lost,
}

impl Ahead {
    /// Starts to read from the place `at` on, up to the record `to`. If the system has no threads to give, there are
    /// fewer.
    pub(crate) fn start(
        dir: &Arc<dyn LogDir>,
        bases: &Arc<[Lsn]>,
        at: &Position,
        to: Lsn,
        how: ReadAhead,
    ) -> Ahead {
        let threads = how.threads.max(1);
        let run_len = how.memory_bytes / (BUFFERS_PER_THREAD * threads + 1);
        let run_len = run_len.clamp(RUN_LEN_MIN, RUN_LEN_MAX) / IO_ALIGN * IO_ALIGN;
        // One is the scan's own; a pool without a buffer would stand still.
        let buffers = (how.memory_bytes / run_len).saturating_sub(1).clamp(1, BUFFERS_PER_THREAD * threads);
        let shared = Arc::new(Shared {
            feed: Mutex::new(Feed::new(Arc::clone(dir), Arc::clone(bases), at, to)),
            queue: Mutex::new(Queue {
                free: Vec::new(),
                unmade: buffers,
                places: VecDeque::new(),
                taken: 0,
                over: false,
                threads_wait: 0,
            }),
            room: Condvar::new(),
            run_len,
        });
        let spawn = |_| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name("braidlog-replay".to_owned());
            builder.spawn(move || shared.work()).ok()
        };
        let threads = (1..threads).map_while(spawn).collect();
        Ahead { shared, threads }
    }

    /// The run for a scan that stands at `at`. Those before it are given up.
    pub(crate) fn next(&self, at: &Position) -> Next {
        let mut queue = self.shared.queue();
        loop {
            let Some(place) = queue.places.front() else {
                if queue.over {
                    return Next::Over;
                }
                match self.help(queue) {
                    Ok(helped) => queue = helped,
                    // All buffers are with threads that have no run yet.
                    Err(_) => return Next::NotBefore(at.offset.saturating_add(self.shared.run_len as u64)),
                }
                continue;
            };
            if place.base > at.base {
                return Next::NotBefore(u64::MAX);
            }
            let is_here = place.base == at.base && place.salt == at.salt;
            if !is_here || place.from < at.offset {
                if let Some(run) = queue.take_first() {
                    self.shared.give_back(&mut queue, run.buf);
                }
                continue;
            }
            if place.from > at.offset {
                return Next::NotBefore(place.from);
            }
            let (is_pending, to) = (matches!(place.state, State::Pending), place.to);
            if !is_pending {
                return queue.take_first().map_or(Next::NotBefore(to), Next::Run);
            }
            match self.help(queue) {
                Ok(helped) => queue = helped,
                Err(_) => return Next::NotBefore(to),
            }
        }
    }

    /// Does a thread's work, if there is a buffer for it and something left to read.
    fn help<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
    ) -> Result<MutexGuard<'a, Queue>, MutexGuard<'a, Queue>> {
        if queue.over || !queue.take_buffer() {
            return Err(queue);
        }
        let buf = queue.free.pop();
        drop(queue);
        self.shared.read_and_prove(buf, true);
        Ok(self.shared.queue())
    }

    /// Takes back the buffer of a run, or another that may serve as one.
    pub(crate) fn give_back(&self, buf: AlignedBuf) {
        self.shared.give_back(&mut self.shared.queue(), buf);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.end();
        for thread in self.threads.drain(..) {
            // A panic was told when it happened, and cost nothing but time.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What the mutex guards is whole between any two statements.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    /// What a thread does.
    fn work(&self) {
        loop {
            let mut queue = self.queue();
            while !queue.over && !queue.take_buffer() {
                queue.threads_wait += 1;
                queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.threads_wait -= 1;
            }
            if queue.over {
                return;
            }
            let buf = queue.free.pop();
            drop(queue);
            self.read_and_prove(buf, false);
        }
    }

    /// Takes the next run, reads it into a buffer of the pool, made now if need be, proves it and puts it in its place.
    /// The scan proves nothing of a run that is its next one: it does so as it goes.
    fn read_and_prove(&self, buf: Option<AlignedBuf>, is_scan: bool) {
        let _ends = EndsIfPanicking(self);
        let buf = buf.unwrap_or_else(|| AlignedBuf::zeroed(self.run_len));
        let Ok(mut feed) = self.feed.lock() else { return self.end() };
        let Some(mut run) = feed.next(buf) else { return self.end() };
        let mut queue = self.queue();
        let is_first = queue.places.is_empty();
        let Run { base, salt, from, to, .. } = run;
        queue.places.push_back(Place { base, salt, from, to, state: State::Pending });
        let number = queue.taken + queue.places.len() as u64 - 1;
        drop(queue);
        let mut place = Taken { shared: self, number, run: None };
        drop(feed);
        run.read();
        if !(is_scan && is_first) {
            run.prove();
        }
        place.run = Some(run);
    }

    /// Puts a buffer into the pool if it fits there.
    fn give_back(&self, queue: &mut Queue, buf: AlignedBuf) {
        if buf.len() == self.run_len && queue.unmade > 0 {
            queue.unmade -= 1;
            queue.free.push(buf);
            if queue.threads_wait > 0 {
                self.room.notify_one();
            }
        }
    }

    /// Nothing more is read.
    fn end(&self) {
        self.queue().over = true;
        self.room.notify_all();
    }
}

impl Queue {
    /// Whether there is a buffer to be had: one in `free`, or the right to make one.
    fn take_buffer(&mut self) -> bool {
        let made = !self.free.is_empty();
        if !made && self.unmade > 0 {
            self.unmade -= 1;
            return true;
        }
        made
    }

    /// Takes the first place. Its run's buffer leaves the pool; a thread that is not ready with it keeps it until it is.
    fn take_first(&mut self) -> Option<Run> {
        let place = self.places.pop_front()?;
        self.taken += 1;
        self.unmade += 1;
        if let State::Ready(run) = place.state { Some(run) } else { None }
    }
}

/// Ends the reading ahead when a thread unwinds.
struct EndsIfPanicking<'a>(&'a Shared);

impl Drop for EndsIfPanicking<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

/// A place that a thread has promised to fill.
struct Taken<'a> {
    shared: &'a Shared,
    number: u64,
    run: Option<Run>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        let index = self.number.checked_sub(queue.taken).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| queue.places.get_mut(index)) {
            Some(place) => place.state = self.run.take().map_or(State::Lost, State::Ready),
            // The scan did not wait.
            None => {
                if let Some(run) = self.run.take() {
                    self.shared.give_back(&mut queue, run.buf);
                }
            }
        }
    }
}
