//! Appends as futures: they wait for room, and then for durability, without holding the executor's thread.
//!
//! The rule: until a record is accepted, its future has left nothing in the log but a waker, which dropping it takes back; from
//! then on dropping it gives up the wait and never the record.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::{self, Thread};

use braidlog_engine::{BatchBuf, Durability, Engine, EngineError, EntryParts, RoomKey, Rung};
use braidlog_format::{Kind, Lsn, LsnRange};

use crate::log::{LogRef, only};
use crate::stream::OfStreams;
use crate::{Append, Error, Reach, Result, Ticket};

/// What is appended.
pub trait Content {
    /// Appends it when there is room.
    #[doc(hidden)]
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>>;
}

/// Where a future waits for room.
#[derive(Debug)]
pub struct Room {
    stripe: Option<usize>,
    key: Option<RoomKey>,
}

impl Room {
    /// The stripe to prefer, and the place where it waits.
    pub(crate) fn parts(&mut self) -> (Option<usize>, &mut Option<RoomKey>) {
        (self.stripe, &mut self.key)
    }
}

/// A payload, as a record of kind 0.
impl<P: AsRef<[u8]>> Content for P {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let Room { stripe, key } = room;
        engine.poll_append(Kind(0), self.as_ref(), *stripe, key, waker).map_ok(only)
    }
}

impl Content for Append<'_> {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let Room { stripe, key } = room;
        match self.plain() {
            Some(payload) => engine.poll_append(Kind(self.kind), payload, *stripe, key, waker).map_ok(only),
            None => {
                let poll = |parts: EntryParts<'_>| Ok(engine.poll_append_parts(parts, *stripe, key, waker));
                self.with_parts(poll)?.map_ok(only)
            }
        }
    }
}

/// A payload with a kind.
pub(crate) struct OfKind<P> {
    pub(crate) kind: u8,
    pub(crate) payload: P,
}

impl<P: AsRef<[u8]>> Content for OfKind<P> {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        Append::new(&self.payload).kind(self.kind).poll_append(engine, room, waker)
    }
}

/// An atomic batch, and which of its records are numbered by their streams.
pub(crate) struct Whole {
    pub(crate) records: BatchBuf,
    pub(crate) of_streams: OfStreams,
}

impl Content for Whole {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let Room { stripe, key } = room;
        let append = |records: &BatchBuf| engine.poll_append_batch(records, *stripe, key, waker);
        self.of_streams.place(&mut self.records, engine, append)
    }
}

/// A wait for room. The content goes as soon as it is in the log, or refused.
pub(crate) struct Entering<C> {
    log: LogRef,
    content: Option<C>,
    room: Room,
}

impl<C: Content> Entering<C> {
    pub(crate) fn new(log: LogRef, stripe: Option<usize>, content: C) -> Entering<C> {
        Entering { log, content: Some(content), room: Room { stripe, key: None } }
    }

    /// Ready when it is accepted or refused.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<LsnRange>> {
        self.poll_for_content(waker).map_ok(|(lsns, _)| lsns)
    }

    /// As `poll`, and gives the content back.
    fn poll_for_content(&mut self, waker: &Waker) -> Poll<Result<(LsnRange, C)>> {
        let Some(content) = &mut self.content else {
            let what = "this append is over: it was polled after it was ready";
            return Poll::Ready(Err(Error::refused(&self.log.path, what.to_owned())));
        };
        let accepted = ready!(content.poll_append(&self.log.engine, &mut self.room, waker));
        let content = self.content.take().expect("it was there");
        Poll::Ready(accepted.map(|lsns| (lsns, content)).map_err(|error| self.log.error(error)))
    }
}

/// Waits for room on this thread; the content comes back when it was accepted.
pub(crate) fn enter<C: Content>(log: &LogRef, stripe: Option<usize>, content: C) -> Result<(LsnRange, C)> {
    let mut entering = Entering::new(log.clone(), stripe, content);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match entering.poll_for_content(&waker) {
            Poll::Ready(entered) => return entered,
            Poll::Pending => {
                log.check_may_wait()?;
                thread::park();
            }
        }
    }
}

/// Wakes a thread that waits as a task does.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

impl<C> Drop for Entering<C> {
    fn drop(&mut self) {
        if let Some(key) = self.room.key.take() {
            self.log.engine.forget_room(key);
        }
    }
}

/// Waits for room, and then as the durability says.
pub(crate) struct Lasting<C> {
    entering: Entering<C>,
    durability: Durability,
    /// Waits for what was accepted to be durable.
    reach: Option<Reach>,
}

impl<C: Content> Lasting<C> {
    pub(crate) fn new(entering: Entering<C>, durability: Durability) -> Lasting<C> {
        Lasting { entering, durability, reach: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<LsnRange>> {
        self.poll_telling(cx, |_| ())
    }

    /// As `poll`, and shows the content when it has been accepted.
    pub(crate) fn poll_telling(
        &mut self,
        cx: &mut Context<'_>,
        accepted: impl FnOnce(&C),
    ) -> Poll<Result<LsnRange>> {
        if self.reach.is_none() {
            let (lsns, content) = ready!(self.entering.poll_for_content(cx.waker()))?;
            accepted(&content);
            if self.durability == Durability::Async {
                return Poll::Ready(Ok(lsns));
            }
            self.reach = Some(Reach::new(self.entering.log.clone(), lsns, Rung::Durable));
        }
        let reach = self.reach.as_mut().expect("just made");
        ready!(Pin::new(&mut *reach).poll(cx))?;
        Poll::Ready(Ok(reach.lsns))
    }

    fn lsns(&self) -> Option<LsnRange> {
        self.reach.as_ref().map(|reach| reach.lsns)
    }
}

/// A record on its way into the log, as a future that gives its [`Ticket`] when it is accepted. Made by
/// [`Wal::submit_async`](crate::Wal::submit_async) and [`Writer::submit_async`](crate::Writer::submit_async).
///
/// Nothing happens before it is polled. While there is no room it is pending; dropped then, nothing was appended. Once it is
/// ready the record is in the log, whatever becomes of the ticket.
///
/// # Errors
/// As [`Wal::submit`](crate::Wal::submit), but for [`Full`](crate::ErrorKind::Full): not accepted.
#[must_use = "futures do nothing unless polled"]
pub struct Submitting<C> {
    entering: Entering<C>,
}

impl<C: Content> Submitting<C> {
    pub(crate) fn new(log: LogRef, stripe: Option<usize>, content: C) -> Submitting<C> {
        Submitting { entering: Entering::new(log, stripe, content) }
    }
}

// What is appended is lent and never pinned.
impl<C> Unpin for Submitting<C> {}

impl<C: Content> Future for Submitting<C> {
    type Output = Result<Ticket>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Ticket>> {
        let entering = &mut self.get_mut().entering;
        let lsns = ready!(entering.poll(cx.waker()))?;
        Poll::Ready(Ok(Ticket::new(entering.log.clone(), lsns)))
    }
}

/// An append, as a future that gives the record's LSN when [`Wal::append`](crate::Wal::append) would return. Made by
/// [`Wal::append_async`](crate::Wal::append_async) and [`Writer::append_async`](crate::Writer::append_async).
///
/// Nothing happens before it is polled. Dropped before the record is accepted, it leaves nothing behind; dropped later, only
/// the wait is over, and the record is in the log. [`Appending::accepted`] tells which it would be now.
///
/// # Errors
/// As [`Wal::append`](crate::Wal::append).
#[must_use = "futures do nothing unless polled"]
pub struct Appending<C> {
    lasting: Lasting<C>,
}

impl<C: Content> Appending<C> {
    pub(crate) fn new(
        log: LogRef,
        stripe: Option<usize>,
        content: C,
        durability: Option<Durability>,
    ) -> Appending<C> {
        let durability = durability.unwrap_or(log.durability);
        Appending { lasting: Lasting::new(Entering::new(log, stripe, content), durability) }
    }

    /// The record's LSN, if it was accepted and is not durable yet, as far as this has been polled.
    pub fn accepted(&self) -> Option<Lsn> {
        self.lasting.lsns().map(|lsns| lsns.last)
    }
}

// As above.
impl<C> Unpin for Appending<C> {}

impl<C: Content> Future for Appending<C> {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        self.get_mut().lasting.poll(cx).map_ok(|lsns| lsns.last)
    }
}

/// A batch on its way into the log, as a future that gives its LSNs when [`Batch::commit`](crate::Batch::commit) would return.
/// Made by [`Batch::commit_async`](crate::Batch::commit_async).
///
/// As [`Appending`]: dropped before the batch is accepted, it leaves nothing behind; dropped later, the whole batch is in the
/// log.
///
/// # Errors
/// As [`Batch::commit`](crate::Batch::commit).
#[must_use = "futures do nothing unless polled"]
pub struct Committing {
    lasting: Lasting<Whole>,
}

impl Committing {
    pub(crate) fn new(
        log: LogRef,
        stripe: Option<usize>,
        whole: Whole,
        durability: Durability,
    ) -> Committing {
        Committing { lasting: Lasting::new(Entering::new(log, stripe, whole), durability) }
    }

    /// The batch's LSNs, if it was accepted and is not durable yet, as far as this has been polled.
    pub fn accepted(&self) -> Option<LsnRange> {
        self.lasting.lsns()
    }
}

impl Future for Committing {
    type Output = Result<LsnRange>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<LsnRange>> {
        self.get_mut().lasting.poll(cx)
    }
}

impl<C> fmt::Debug for Submitting<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitting").finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for Appending<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reach = &self.lasting.reach;
        f.debug_struct("Appending").field("accepted", &reach.as_ref().map(Reach::lsn)).finish_non_exhaustive()
    }
}

impl fmt::Debug for Committing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committing").field("accepted", &self.accepted()).finish_non_exhaustive()
    }
}
