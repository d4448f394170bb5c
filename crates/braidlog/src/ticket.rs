//! The promise that a submitted record will be durable: waited for by a thread, or awaited by a task.
//!
//! The rule: dropping a ticket gives up the wait and never the write, and leaves no waker behind.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use braidlog_engine::{EngineError, TaskKey, Wait};
use braidlog_format::{Lsn, LsnRange};

use crate::Result;
use crate::log::{LogRef, until};

/// A record, or a batch, that is in the log and not yet known to be durable.
///
/// It completes when the whole of it is durable, in every mode. Wait for it with [`Ticket::wait`], or
/// `.await` it on any runtime; either asks for a sync at once. It may be dropped at any time: the record
/// stays in the log.
///
/// An error after this point is [indeterminate](crate::Error::is_indeterminate): the record was accepted.
#[must_use = "the record is durable only when the ticket has completed"]
pub struct Ticket {
    log: LogRef,
    lsns: LsnRange,
    /// Where the engine keeps the waker of the task that polled last.
    key: Option<TaskKey>,
}

impl Ticket {
    pub(crate) fn new(log: LogRef, lsns: LsnRange) -> Ticket {
        Ticket { log, lsns, key: None }
    }

    /// The LSN of the record; of a batch, its last.
    pub fn lsn(&self) -> Lsn {
        self.lsns.last
    }

    /// The LSNs of all records that the ticket stands for.
    pub fn lsns(&self) -> LsnRange {
        self.lsns
    }

    /// Whether it is durable already. Neither waits nor asks for anything.
    pub fn is_durable(&self) -> bool {
        self.log.engine.durable_lsn() >= self.lsns.last
    }

    /// Waits until it is durable, and gives [`Ticket::lsn`].
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before that.
    pub fn wait(self) -> Result<Lsn> {
        self.log.wait(self.lsns, Wait::Forever)?;
        Ok(self.lsns.last)
    }

    /// Waits at most `timeout`; whether it is durable now. The ticket can be waited for again.
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before it was durable.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        match self.log.engine.wait_durable(self.lsns.last, until(timeout)) {
            Ok(()) => Ok(true),
            Err(EngineError::TimedOut { .. }) => Ok(false),
            Err(error) => Err(self.log.error_after(error, self.lsns)),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let ticket = self.get_mut();
        let durable = ticket.log.engine.poll_durable(ticket.lsns.last, &mut ticket.key, cx.waker());
        durable.map(|result| match result {
            Ok(()) => Ok(ticket.lsns.last),
            Err(error) => Err(ticket.log.error_after(error, ticket.lsns)),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.log.engine.forget(key);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("lsns", &self.lsns).finish_non_exhaustive()
    }
}
