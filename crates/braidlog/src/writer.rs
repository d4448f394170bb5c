//! A handle for a hot thread: it prefers one stripe, and owns none.

use std::fmt;

use braidlog_engine::Wait;
use braidlog_format::Lsn;

use crate::log::{LogRef, only};
use crate::{Append, AppendError, Appending, Batch, Result, Submitting, Ticket};

/// A handle that prefers one stripe, made by [`Wal::writer`](crate::Wal::writer).
///
/// Give each thread that appends much its own: writers that differ in their stripe do not touch the same
/// memory but for the one counter that orders them. A preference is no claim: any number of writers may
/// share a stripe, and one that finds it in use takes another. A clone prefers a stripe of its own.
pub struct Writer {
    pub(crate) log: LogRef,
    pub(crate) stripe: usize,
}

impl Writer {
    pub(crate) fn new(log: LogRef) -> Writer {
        let stripe = log.engine.next_stripe_hint();
        Writer { log, stripe }
    }

    /// As [`Wal::append`](crate::Wal::append).
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, payload: impl AsRef<[u8]>) -> Result<Lsn> {
        self.append_with(Append::new(payload.as_ref()))
    }

    /// As [`Wal::append_with`](crate::Wal::append_with).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn append_with(&self, append: Append<'_>) -> Result<Lsn> {
        self.log.append(append, Some(self.stripe), Wait::Forever)
    }

    /// As [`Wal::try_append`](crate::Wal::try_append).
    ///
    /// # Errors
    /// As there.
    pub fn try_append<P: AsRef<[u8]>>(&self, payload: P) -> Result<Lsn, AppendError<P>> {
        let appended = self.log.try_append(Append::new(payload.as_ref()), Some(self.stripe));
        appended.map_err(|error| AppendError::new(error, payload))
    }

    /// As [`Wal::submit`](crate::Wal::submit).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn submit<P: AsRef<[u8]>>(&self, payload: P) -> Result<Ticket, AppendError<P>> {
        match self.log.submit(Append::new(payload.as_ref()), Some(self.stripe)) {
            Ok(lsn) => Ok(Ticket::new(self.log.clone(), only(lsn))),
            Err(error) => Err(AppendError::new(error, payload)),
        }
    }

    /// As [`Wal::append_async`](crate::Wal::append_async).
    ///
    /// # Errors
    /// As there.
    pub fn append_async<P: AsRef<[u8]>>(&self, payload: P) -> Appending<P> {
        Appending::new(self.log.clone(), Some(self.stripe), payload, None)
    }

    /// As [`Wal::append_async_with`](crate::Wal::append_async_with).
    ///
    /// # Errors
    /// As there.
    pub fn append_async_with<'a>(&self, append: Append<'a>) -> Appending<Append<'a>> {
        Appending::new(self.log.clone(), Some(self.stripe), append, append.durability)
    }

    /// As [`Wal::submit_async`](crate::Wal::submit_async).
    ///
    /// # Errors
    /// As there.
    pub fn submit_async<P: AsRef<[u8]>>(&self, payload: P) -> Submitting<P> {
        Submitting::new(self.log.clone(), Some(self.stripe), payload)
    }

    /// As [`Wal::submit_async_with`](crate::Wal::submit_async_with).
    ///
    /// # Errors
    /// As there.
    pub fn submit_async_with<'a>(&self, append: Append<'a>) -> Submitting<Append<'a>> {
        Submitting::new(self.log.clone(), Some(self.stripe), append)
    }

    /// As [`Wal::batch`](crate::Wal::batch).
    pub fn batch(&self) -> Batch {
        Batch::new(self.log.clone(), Some(self.stripe))
    }
}

impl Clone for Writer {
    fn clone(&self) -> Writer {
        Writer::new(self.log.another())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.log.path)
            .field("stripe", &self.stripe)
            .finish_non_exhaustive()
    }
}
