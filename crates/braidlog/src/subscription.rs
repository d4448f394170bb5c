//! The log as it grows: every record once, in order, when it is durable.
//!
//! The rule: a subscription asks the log for nothing. It is woken when something has become durable anyway, shows no
//! more than that, and does not keep the log open.

mod beside;
mod source;

use std::fmt;
use std::iter::FusedIterator;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use braidlog_engine::Wait;
use braidlog_format::Lsn;
use braidlog_recovery::{Follower, Loss, NextRecord, Record, RecordRef};
use futures_core::Stream;
use futures_core::stream::FusedStream;

pub(crate) use self::beside::Beside;
use self::source::{Reached, Source};
use crate::log::{Log, until};
use crate::{Error, Result};

/// The records of a log from one LSN on, for as long as the log is open. Made by [`Wal::subscribe`](crate::Wal::subscribe), and
/// for a log that another process writes by [`ReadOnly::subscribe`](crate::ReadOnly::subscribe).
///
/// It gives each record once, in LSN order and without a gap (but for what was [given up](Subscription::losses)), as soon as it is durable; those of a
/// [streaming transaction](crate::StreamingTransaction) where it is committed, together, and of one that is not none: first what is in the files, then
/// what comes, with no seam between the two. The records of a batch become available together. What was given once, no
/// crash takes back. As an [`Iterator`] it blocks until there is a record; [`Subscription::next_ref`] lends records from
/// its buffer; [`Subscription::into_stream`] gives a [`Stream`] for any runtime.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = braidlog::Wal::options().open(dir.path())?;
/// let mut feed = wal.subscribe(wal.first_lsn())?;
/// let follower = std::thread::spawn(move || {
///     while let Some(record) = feed.next_ref() {
///         let record = record.expect("the log has not failed");
///         println!("{} {:?}", record.lsn, record.payload);
///     }
///     feed.next_lsn() // where a later subscription goes on
/// });
/// wal.append(b"seen at once")?;
/// wal.close()?; // ends the feed
/// assert_eq!(follower.join().unwrap().get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it costs the log
///
/// It asks for no sync: under an asynchronous mode records come when the log syncs them. It keeps what it has not given yet
/// from being [truncated](crate::Wal::truncate_before), as every reader does, so one that is not asked holds the log from where it
/// stands on: watch [`Subscription::lag`].
///
/// # Its end
///
/// It ends when the log is closed, after what was durable then; with an [`Err`] if the log failed, after what was durable
/// before, or if a record cannot be read back. It does not keep the log open: that is for the handles.
/// Once the log is closed, the directory may be another writer's, who does not know of this reader; if he truncates what it
/// has not given yet, that is an error ([`Truncated`](crate::ErrorKind::Truncated)).
///
/// # Of another process's log
///
/// It shows what that process has marked as durable, which is up to 100 ms late after the last record of a burst. The system
/// wakes it when files change; a stream has a thread of its own for that (`braidlog-follow`), which ends at most a second
/// after it. It goes on over closings, kills and openings of the log, and has no end but an error. The writer does not
/// know of it: what it has not given yet may be truncated ([`Truncated`](crate::ErrorKind::Truncated)) unless a
/// [hold](crate::Wal::set_hold) keeps it.
#[must_use = "a subscription gives what it is asked for"]
pub struct Subscription {
    follower: Follower,
    source: Source,
    has_ended: bool,
}

impl Subscription {
    /// Of a log that is open in this process.
    pub(crate) fn new(log: Arc<Log>, follower: Follower) -> Subscription {
        Subscription { follower, source: Source::Writer { log, watch: None }, has_ended: false }
    }

    /// Of a log that another process may have open.
    pub(crate) fn beside(beside: Beside, follower: Follower) -> Subscription {
        Subscription { follower, source: Source::Beside(beside), has_ended: false }
    }

    /// Gives only the records of the [stream](crate::Stream) with this number. All others are read and passed over.
    #[must_use = "the records are given by what this returns"]
    pub fn of_stream(self, id: u64) -> Subscription {
        Subscription { follower: self.follower.of_stream(id), ..self }
    }

    /// The next record, its payload lent until the next call; waits for it as long as it takes. `None` at the end.
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) when the log has failed and everything durable was given; as
    /// [`Records::next_ref`](crate::Records::next_ref) when a record cannot be read. Either is the end.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), and no end, if there is nothing to give and this thread is the
    /// log's own (a waker, a listener) or at work in its directory: closing the log would wait for it.
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>>> {
        match self.wait_for_next(Wait::Forever) {
            Ok(found) => found.map(|found| Ok(self.follower.lend(&found))),
            Err(error) => Some(Err(error)),
        }
    }

    /// The next record if it is durable. `None` otherwise: [`Subscription::has_ended`] tells whether one may still come.
    ///
    /// # Errors
    /// As [`Subscription::next_ref`].
    pub fn try_next(&mut self) -> Result<Option<Record>> {
        let found = self.wait_for_next(Wait::Never)?;
        Ok(found.map(|found| self.follower.lend(&found).to_owned()))
    }

    /// The next record, waiting at most `timeout` for it. `None` if none came: [`Subscription::has_ended`] tells whether one
    /// may still come.
    ///
    /// # Errors
    /// As [`Subscription::next_ref`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let found = self.wait_for_next(until(timeout))?;
        Ok(found.map(|found| self.follower.lend(&found).to_owned()))
    }

    /// This subscription as a [`Stream`], to be polled on any runtime. Records that are in the files are read in the poll.
    pub fn into_stream(self) -> SubscriptionStream {
        SubscriptionStream(self)
    }

    /// Where another subscription goes on: behind the LSN up to which all was given, which is before the commit while the records
    /// of a streaming transaction are given. What an application has applied it acknowledges by this.
    pub fn next_lsn(&self) -> Lsn {
        self.follower.next_lsn()
    }

    /// How many LSNs are durable, and what takes effect there was not given yet; of another process's log, as it was when this last waited.
    pub fn lag(&self) -> u64 {
        self.source.last().0.saturating_sub(self.next_lsn().prev().0)
    }

    /// LSNs that were given up when the log was [repaired](crate::repair()), as far as this has come: no record has them, and
    /// they were passed over.
    pub fn losses(&self) -> &[Loss] {
        self.follower.losses()
    }

    /// Whether it gives nothing any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What must become durable beyond for the next record to be given.
    fn seen(&self) -> Lsn {
        self.next_lsn().prev()
    }

    /// Goes to the next record, waiting for it if need be; `None` if the wait is over or there is none to come.
    fn wait_for_next(&mut self, wait: Wait) -> Result<Option<NextRecord>> {
        loop {
            if let Some(found) = self.find_next()? {
                return Ok(Some(found));
            }
            if self.has_ended {
                return Ok(None);
            }
            let reached = self.source.wait_beyond(self.seen(), wait);
            if !self.go_on(reached)? {
                return Ok(None);
            }
        }
    }

    /// As [`wait_for_next`](Subscription::wait_for_next), for a task.
    fn poll_for_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<NextRecord>>> {
        loop {
            if let Some(found) = self.find_next()? {
                return Poll::Ready(Ok(Some(found)));
            }
            if self.has_ended {
                return Poll::Ready(Ok(None));
            }
            let seen = self.seen();
            let reached = ready!(self.source.poll_beyond(seen, cx));
            self.go_on(reached)?;
        }
    }

    /// Goes to the next record, if one may be shown.
    fn find_next(&mut self) -> Result<Option<NextRecord>> {
        self.follower.find_next().map_err(|error| {
            self.has_ended = true;
            Error::recovery(self.source.path(), error)
        })
    }

    /// Shows what is durable now, or ends; whether there may be more to give.
    fn go_on(&mut self, reached: Result<Reached>) -> Result<bool> {
        let shown = match reached {
            Ok(Reached::NoFurther) => return Ok(false),
            Ok(Reached::Refused(error)) => return Err(error),
            Ok(Reached::Durable(durable)) => {
                let shown = self.follower.show(durable);
                shown.map(|()| true).map_err(|error| Error::recovery(self.source.path(), error))
            }
            Ok(Reached::End) => Ok(false),
            Err(error) => Err(error),
        };
        self.has_ended = !matches!(shown, Ok(true));
        shown
    }
}

impl Iterator for Subscription {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        self.next_ref().map(|record| record.map(|record| record.to_owned()))
    }
}

impl FusedIterator for Subscription {}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("next_lsn", &self.next_lsn()).finish_non_exhaustive()
    }
}

/// A [`Subscription`] for tasks: a [`Stream`] of its records that is pending until one is durable. Made by
/// [`Subscription::into_stream`]; it may be dropped at any time, in a waker too.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct SubscriptionStream(Subscription);

impl SubscriptionStream {
    /// The subscription, to ask how far it is.
    pub fn get_ref(&self) -> &Subscription {
        &self.0
    }

    /// The subscription, to go on blocking.
    pub fn into_inner(self) -> Subscription {
        self.0
    }
}

impl Stream for SubscriptionStream {
    type Item = Result<Record>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        let subscription = &mut self.get_mut().0;
        let found = ready!(subscription.poll_for_next(cx));
        Poll::Ready(
            found.map(|found| found.map(|found| subscription.follower.lend(&found).to_owned())).transpose(),
        )
    }
}

impl FusedStream for SubscriptionStream {
    fn is_terminated(&self) -> bool {
        self.0.has_ended
    }
}
