//! A wait for records to come to a rung of the ladder of durability, as a future.
//!
//! The rule: it asks the log for what it waits for when it is first polled. Dropping it gives up the wait and nothing
//! else, and leaves no waker behind.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use braidlog_engine::{Rung, TaskKey};
use braidlog_format::{Lsn, LsnRange};

use crate::Result;
use crate::log::LogRef;

/// A future that is ready when records, and all before them, have come to a [`Rung`]; it gives the last one's LSN. Made by
/// [`Wal::durable`](crate::Wal::durable), [`Wal::reach`](crate::Wal::reach),
/// [`Wal::flush_async`](crate::Wal::flush_async) and [`Ticket::written`](crate::Ticket::written); needs no runtime in
/// particular.
///
/// One stands for any number of records: of a thousand that were submitted, await the last LSN. It may be dropped at any time,
/// also between polls, as in a `select!`: the records stay in the log. It keeps the log open, as any handle does.
///
/// # Errors
/// [`Failed`](crate::ErrorKind::Failed) if the log failed before the records were durable: also if they had been written, since a
/// system that could not write or sync promises nothing of what it had. [`InvalidInput`](crate::ErrorKind::InvalidInput) for
/// an LSN that was not given out when it is polled.
#[must_use = "futures do nothing unless polled"]
pub struct Reach {
    pub(crate) log: LogRef,
    pub(crate) lsns: LsnRange,
    rung: Rung,
    /// Where the engine keeps the waker of the task that polled last.
    key: Option<TaskKey>,
}

impl Reach {
    pub(crate) fn new(log: LogRef, lsns: LsnRange, rung: Rung) -> Reach {
        Reach { log, lsns, rung, key: None }
    }

    /// The LSN that is waited for, the last one.
    pub fn lsn(&self) -> Lsn {
        self.lsns.last
    }

    /// The rung that is waited for.
    pub fn rung(&self) -> Rung {
        self.rung
    }
}

impl Future for Reach {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let Reach { log, lsns, rung, key } = self.get_mut();
        let reached = log.engine.poll_reached(lsns.last, *rung, key, cx.waker());
        reached.map(|result| match result {
            Ok(()) => Ok(lsns.last),
            Err(error) => Err(log.error_after(error, *lsns)),
        })
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.log.engine.forget(key);
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("lsns", &self.lsns).field("rung", &self.rung).finish_non_exhaustive()
    }
}
