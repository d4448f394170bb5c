//! The promise that a submitted record will be durable: waited for by a thread, or awaited by a task.
//!
//! The rule: dropping a ticket gives up the wait and never the write, and leaves no waker behind.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use braidlog_engine::{EngineError, Rung, Wait};
use braidlog_format::{Lsn, LsnRange};

use crate::log::{LogRef, until};
use crate::{Reach, Result};

/// A record, or a batch, that is in the log and not yet known to be durable.
///
/// It completes when the whole of it is durable, in every mode. Wait for it with [`Ticket::wait`], or
/// `.await` it on any runtime; either asks for a sync at once. It may be dropped at any time: the record
/// stays in the log. Who needs less than durability waits for [another rung](Ticket::written), or for one after the other.
///
/// An error after this point is [indeterminate](crate::Error::is_indeterminate): the record was accepted.
///
/// ```
/// # use braidlog::{Rung, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// let ticket = wal.submit(b"x")?;
/// ticket.wait_reached(Rung::Written)?; // the system has it: it survives a kill of this process
/// ticket.wait()?; // the device has it: it survives a power cut
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the record is durable only when the ticket has completed"]
pub struct Ticket {
    /// Waits for it to be durable.
    reach: Reach,
}

impl Ticket {
    pub(crate) fn new(log: LogRef, lsns: LsnRange) -> Ticket {
        Ticket { reach: Reach::new(log, lsns, Rung::Durable) }
    }

    /// The LSN of the record; of a batch, its last.
    pub fn lsn(&self) -> Lsn {
        self.reach.lsns.last
    }

    /// The LSNs of all records that the ticket stands for.
    pub fn lsns(&self) -> LsnRange {
        self.reach.lsns
    }

    /// Whether it is durable already. Neither waits nor asks for anything.
    pub fn is_durable(&self) -> bool {
        self.has_reached(Rung::Durable)
    }

    /// Whether it has come to this rung already. Neither waits nor asks for anything.
    pub fn has_reached(&self, rung: Rung) -> bool {
        self.reach.log.engine.has_reached(self.lsn(), rung)
    }

    /// A future that is ready when it is written: when it survives a kill of the process. It asks for the write at once, which
    /// takes 4 KiB of the file for a record that is written alone, and for no sync.
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn written(&self) -> Reach {
        self.reach(Rung::Written)
    }

    /// A future that is ready when it is durable: as the ticket itself, which stays.
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn durable(&self) -> Reach {
        self.reach(Rung::Durable)
    }

    /// A future that is ready when it has come to this rung.
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn reach(&self, rung: Rung) -> Reach {
        Reach::new(self.reach.log.clone(), self.lsns(), rung)
    }

    /// Waits until it is durable, and gives [`Ticket::lsn`].
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before that.
    pub fn wait(self) -> Result<Lsn> {
        self.wait_reached(Rung::Durable)
    }

    /// Waits until it has come to this rung, and gives [`Ticket::lsn`].
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn wait_reached(&self, rung: Rung) -> Result<Lsn> {
        let Reach { log, lsns, .. } = &self.reach;
        log.wait(*lsns, rung, Wait::Forever)?;
        Ok(lsns.last)
    }

    /// Waits at most `timeout`; whether it is durable now. The ticket can be waited for again.
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before it was durable.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        let Reach { log, lsns, .. } = &self.reach;
        match log.engine.wait_reached(lsns.last, Rung::Durable, until(timeout)) {
            Ok(()) => Ok(true),
            Err(EngineError::TimedOut { .. }) => Ok(false),
            Err(error) => Err(log.error_after(error, *lsns)),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        Pin::new(&mut self.get_mut().reach).poll(cx)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("lsns", &self.lsns()).finish_non_exhaustive()
    }
}
