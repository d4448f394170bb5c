//! Records that become durable and visible together, or not at all.

use std::fmt;
use std::task::Poll;

use braidlog_engine::{BatchBuf, Commit, Durability, EngineError, How, Wait};
use braidlog_format::{Kind, LsnRange};

use crate::appending::{Whole, enter};
use crate::log::LogRef;
use crate::stream::{OfStreams, Stream, check_stream};
use crate::{Append, AppendError, Committing, Result, Ticket};

/// Records that are appended as one: their LSNs follow one another without a gap, no reader sees some of
/// them without the others, and recovery keeps all or none.
///
/// Made by [`Wal::batch`](crate::Wal::batch) or [`Writer::batch`](crate::Writer::batch). Nothing is in the
/// log until it is committed; dropping it before leaves no trace.
///
/// ```
/// # use braidlog::Wal;
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// let mut batch = wal.batch();
/// batch.push(1, b"debit alice 10")?.push(1, b"credit bob 10")?;
/// let lsns = batch.commit()?;
/// assert_eq!(lsns.count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch is in the log only once it is committed"]
pub struct Batch {
    log: LogRef,
    records: BatchBuf,
    of_streams: OfStreams,
    stripe: Option<usize>,
    durability: Option<Durability>,
}

impl Batch {
    pub(crate) fn new(log: LogRef, stripe: Option<usize>) -> Batch {
        let records = BatchBuf::new(log.max_record_bytes);
        Batch { log, records, of_streams: OfStreams::default(), stripe, durability: None }
    }

    /// Sets when [`Batch::commit`] returns, whatever the mode of the log says.
    pub fn durability(mut self, durability: Durability) -> Batch {
        self.durability = Some(durability);
        self
    }

    /// Adds a record. [`Batch::push_with`] has more to say about it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if `kind` is above 239, or if the batch would be
    /// larger than [`max_record_bytes`](crate::Options#structfield.max_record_bytes). The batch is as it was
    /// before.
    pub fn push(&mut self, kind: u8, payload: impl AsRef<[u8]>) -> Result<&mut Batch> {
        self.records.push(Kind(kind), payload.as_ref()).map_err(|error| self.log.error(error))?;
        Ok(self)
    }

    /// Adds a record with pieces or a schema; when it is durable is the batch's to say, so the record's own durability is not
    /// looked at.
    ///
    /// # Errors
    /// As [`Batch::push`].
    pub fn push_with(&mut self, append: Append<'_>) -> Result<&mut Batch> {
        let pushed = append.with_parts(|parts| self.records.push_parts(&parts));
        pushed.map_err(|error| self.log.error(error))?;
        Ok(self)
    }

    /// Adds a record of a stream, beside others of it, of other streams and of none. Its sequence is drawn when the batch is
    /// committed: those of one stream follow one another, in the order of the batch.
    ///
    /// # Errors
    /// As [`Batch::push_with`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a stream of another log.
    pub fn push_to(&mut self, stream: &Stream, append: Append<'_>) -> Result<&mut Batch> {
        check_stream(&self.log, stream)?;
        let pushed = self.of_streams.push(&mut self.records, stream, append);
        pushed.map_err(|error| self.log.error(error))?;
        Ok(self)
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of all its payloads.
    pub fn payload_bytes(&self) -> u64 {
        self.records.payload_bytes()
    }

    /// Appends the records, waits for space if it must and then as the durability says.
    ///
    /// # Errors
    /// As [`Wal::append`](crate::Wal::append), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for an
    /// empty batch.
    pub fn commit(self) -> Result<LsnRange> {
        let durability = self.durability.unwrap_or(self.log.durability);
        if !self.of_streams.is_empty() {
            let Batch { log, records, of_streams, stripe, .. } = self;
            let (lsns, _) = enter(&log, stripe, Whole { records, of_streams })?;
            log.wait_committed(lsns, durability)?;
            return Ok(lsns);
        }
        let commit = Commit::Wait(durability);
        self.log.append_batch(&self.records, How { stripe: self.stripe, wait: Wait::Forever, commit })
    }

    /// As [`Batch::commit`], as a future: waits for room and for durability without holding the executor's thread. Dropped before
    /// the batch was accepted, nothing of it is in the log; dropped later, all of it is.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_async(self) -> Committing {
        let durability = self.durability.unwrap_or(self.log.durability);
        let Batch { log, records, of_streams, stripe, .. } = self;
        Committing::new(log, stripe, Whole { records, of_streams }, durability)
    }

    /// Appends the records if there is room now. Waits for nothing; the batch comes back with the error.
    ///
    /// # Errors
    /// As [`Wal::submit`](crate::Wal::submit), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for an
    /// empty batch.
    pub fn submit(mut self) -> Result<Ticket, AppendError<Batch>> {
        let commit = Commit::Later(self.durability.unwrap_or(self.log.durability));
        let how = How { stripe: self.stripe, wait: Wait::Never, commit };
        let engine = &self.log.engine;
        let append = |records: &BatchBuf| Poll::Ready(engine.append_batch(records, how));
        let appended = match self.of_streams.place(&mut self.records, engine, append) {
            Poll::Ready(appended) => appended,
            Poll::Pending => Err(EngineError::Full),
        };
        match appended.map_err(|error| self.log.error(error)) {
            Ok(lsns) => Ok(Ticket::new(self.log, lsns)),
            Err(error) => Err(AppendError::new(error, self)),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("payload_bytes", &self.payload_bytes())
            .finish_non_exhaustive()
    }
}
