//! The log as the end of a stream: payloads go in, and flushing makes them durable.
//!
//! The rule: at most one payload is here and not in the log. What was accepted stays, whatever becomes of the sink.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use braidlog_engine::Rung;
use braidlog_format::Lsn;
use futures_sink::Sink;

use crate::appending::{Entering, OfKind};
use crate::log::{LogRef, only};
use crate::{Error, Reach, Result};

/// A [`Sink`] of payloads, each a record. Made by [`Wal::sink`](crate::Wal::sink).
///
/// It is ready for the next payload when the last one is in the log, so a full ring pushes back on who sends. Flushing is
/// done when everything that was sent is durable, in every mode. Closing it is flushing it: the log stays open.
///
/// Dropping it leaves out a payload that found no room yet ([`WalSink::is_waiting`]), and nothing else.
///
/// # Errors
/// As [`Wal::submit`](crate::Wal::submit) for what was sent last, but for [`Full`](crate::ErrorKind::Full): it was not accepted,
/// and the sink goes on without it. When flushing, as [`Reach`].
#[must_use = "sinks do nothing unless polled"]
pub struct WalSink<P> {
    log: LogRef,
    kind: u8,
    /// What was sent last, while it is not in the log.
    entering: Option<Entering<OfKind<P>>>,
    last: Lsn,
    /// The wait for the last record, while it goes on.
    flushing: Option<Reach>,
}

impl<P: AsRef<[u8]>> WalSink<P> {
    pub(crate) fn new(log: LogRef) -> WalSink<P> {
        WalSink { log, kind: 0, entering: None, last: Lsn::ZERO, flushing: None }
    }

    /// Sets the kind of its records: 0 to 239.
    pub fn kind(mut self, kind: u8) -> WalSink<P> {
        self.kind = kind;
        self
    }

    /// The LSN of the last record that it brought into the log; [`Lsn::ZERO`] before the first.
    pub fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// Whether a payload was sent that is not in the log yet.
    pub fn is_waiting(&self) -> bool {
        self.entering.is_some()
    }
}

// The payload is lent and never pinned.
impl<P> Unpin for WalSink<P> {}

impl<P: AsRef<[u8]>> Sink<P> for WalSink<P> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sink = self.get_mut();
        if let Some(entering) = &mut sink.entering {
            let accepted = ready!(entering.poll(cx.waker()));
            sink.entering = None;
            sink.last = accepted?.last;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, payload: P) -> Result<()> {
        let sink = self.get_mut();
        if sink.is_waiting() {
            let what = "the sink is not ready: what was sent before is not in the log yet";
            return Err(Error::refused(&sink.log.path, what.to_owned()));
        }
        let content = OfKind { kind: sink.kind, payload };
        sink.entering = Some(Entering::new(sink.log.clone(), None, content));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sink = self.get_mut();
        ready!(Pin::new(&mut *sink).poll_ready(cx))?;
        let last = only(sink.last);
        let log = &sink.log;
        let flushing = match &mut sink.flushing {
            Some(flushing) if flushing.lsn() == last.last => flushing,
            flushing => flushing.insert(Reach::new(log.clone(), last, Rung::Durable)),
        };
        let flushed = ready!(Future::poll(Pin::new(flushing), cx));
        sink.flushing = None;
        Poll::Ready(flushed.map(drop))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

impl<P> fmt::Debug for WalSink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalSink").field("last_lsn", &self.last).finish_non_exhaustive()
    }
}
