//! The handle of a log that is open for writing. Each call is a few lines: the engine and recovery do the
//! work.

use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braidlog_engine::{Health, HealthState, Metrics, Rung, Wait};
use braidlog_format::{Incarnation, LogId, Lsn};
use braidlog_recovery::{Record, RecoveryReport};
use braidlog_storage::{OsStorage, Storage};

use crate::log::{Log, LogRef, only, until};
use crate::replay::{Checked, Range};
use crate::{
    Append, AppendError, Appending, Batch, Error, Options, Reach, ReadOnly, Records, Replay, Result,
    Submitting, Subscription, Ticket, WalSink, Writer, read_only,
};

/// A write-ahead log, open for writing.
///
/// A clone is another handle on the same open log; all may be used from any thread at once. The log is
/// closed by [`Wal::close`], or as well as it can be when the last handle (a [`Wal`], [`Writer`], [`Batch`] or
/// [`Ticket`]) is dropped; only `close` can say that something was not saved.
pub struct Wal {
    pub(crate) log: LogRef,
}

impl Wal {
    pub(crate) fn new(log: Log) -> Wal {
        let wal = Wal { log: LogRef::new(log) };
        wal.log.upkeep.attach(wal.log.shared());
        wal
    }

    /// Another handle, for a callback of the log's own.
    pub(crate) fn of(log: LogRef) -> Wal {
        Wal { log }
    }

    /// The default options: see [`Options`].
    pub fn options() -> Options {
        Options::default()
    }

    /// Opens the log in the directory `path` for reading, beside its writer or when it has none. Takes no
    /// lock and changes nothing.
    ///
    /// # Errors
    /// [`Foreign`](crate::ErrorKind::Foreign) if there is no such directory or it holds another program's
    /// files, [`Newer`](crate::ErrorKind::Newer), [`Damaged`](crate::ErrorKind::Damaged), and
    /// [`Io`](crate::ErrorKind::Io) from the system.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<ReadOnly> {
        let storage: Arc<dyn Storage> = Arc::new(OsStorage);
        read_only::open(&storage, path.as_ref())
    }

    /// Appends a record of kind 0 and returns its LSN: when it is durable, under
    /// [`Synchronous`](crate::DurabilityMode::Synchronous) and
    /// [`GroupCommit`](crate::DurabilityMode::GroupCommit); at once, in the asynchronous modes. Waits while
    /// there is no room.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a payload above
    /// [`max_record_bytes`](Options#structfield.max_record_bytes), [`NoSpace`](crate::ErrorKind::NoSpace) and
    /// [`Closed`](crate::ErrorKind::Closed): not accepted. [`Failed`](crate::ErrorKind::Failed) once the log has
    /// failed: [`Error::is_indeterminate`](crate::Error::is_indeterminate) tells whether this record was
    /// accepted before.
    pub fn append(&self, payload: impl AsRef<[u8]>) -> Result<Lsn> {
        self.append_with(Append::new(payload.as_ref()))
    }

    /// Appends a record with a kind or a durability of its own; otherwise as [`Wal::append`].
    ///
    /// # Errors
    /// As [`Wal::append`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a kind above 239.
    #[inline]
    pub fn append_with(&self, append: Append<'_>) -> Result<Lsn> {
        self.log.append(append, None, Wait::Forever)
    }

    /// As [`Wal::append`], but never waits for room: hands the payload back instead.
    ///
    /// # Errors
    /// [`Full`](crate::ErrorKind::Full) if there is no room just now, and as [`Wal::append`].
    pub fn try_append<P: AsRef<[u8]>>(&self, payload: P) -> Result<Lsn, AppendError<P>> {
        let appended = self.log.try_append(Append::new(payload.as_ref()), None);
        appended.map_err(|error| AppendError::new(error, payload))
    }

    /// As [`Wal::append`], but waits at most `timeout` in all, for room and for durability.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and as [`Wal::append`]. If the record had been accepted, the
    /// error is [indeterminate](crate::Error::is_indeterminate) and the record may still become durable:
    /// [`Wal::wait_durable`] on the LSN that it names tells.
    pub fn append_timeout<P: AsRef<[u8]>>(
        &self,
        payload: P,
        timeout: Duration,
    ) -> Result<Lsn, AppendError<P>> {
        let appended = self.log.append(Append::new(payload.as_ref()), None, until(timeout));
        appended.map_err(|error| AppendError::new(error, payload))
    }

    /// Appends a record if there is room, and waits for nothing: the [`Ticket`] completes when it is durable.
    ///
    /// # Errors
    /// [`Full`](crate::ErrorKind::Full) if there is no room just now,
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`NoSpace`](crate::ErrorKind::NoSpace),
    /// [`Closed`](crate::ErrorKind::Closed), [`Failed`](crate::ErrorKind::Failed): not accepted.
    #[inline]
    pub fn submit<P: AsRef<[u8]>>(&self, payload: P) -> Result<Ticket, AppendError<P>> {
        let submitted = self.submit_with(Append::new(payload.as_ref()));
        submitted.map_err(|error| AppendError::new(error, payload))
    }

    /// As [`Wal::submit`], with a kind or a durability of its own: the latter says how soon the log turns to
    /// the record unasked.
    ///
    /// # Errors
    /// As [`Wal::submit`].
    pub fn submit_with(&self, append: Append<'_>) -> Result<Ticket> {
        let lsn = self.log.submit(append, None)?;
        Ok(Ticket::new(self.log.clone(), only(lsn)))
    }

    /// As [`Wal::append`], as a future: waits for room, and then for durability if the mode says so, without holding the
    /// executor's thread. Nothing happens before it is polled. Dropped before the record was accepted, it has appended nothing;
    /// dropped later, the record is in the log and only the wait is over.
    ///
    /// In a log [without threads](Options#structfield.background_threads) a poll does the work that the call would do.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append_async<P: AsRef<[u8]>>(&self, payload: P) -> Appending<P> {
        Appending::new(self.log.clone(), None, payload, None)
    }

    /// As [`Wal::append_async`], with a kind or a durability of its own.
    ///
    /// # Errors
    /// As [`Wal::append_with`].
    pub fn append_async_with<'a>(&self, append: Append<'a>) -> Appending<Append<'a>> {
        Appending::new(self.log.clone(), None, append, append.durability)
    }

    /// As [`Wal::submit`], as a future that waits for room: it gives the [`Ticket`] when the record is accepted. For tasks that
    /// keep many records on their way and are to be held back, not refused, when the log is full.
    ///
    /// # Errors
    /// As [`Wal::submit`], but for [`Full`](crate::ErrorKind::Full).
    pub fn submit_async<P: AsRef<[u8]>>(&self, payload: P) -> Submitting<P> {
        Submitting::new(self.log.clone(), None, payload)
    }

    /// As [`Wal::submit_async`], with a kind of its own.
    ///
    /// # Errors
    /// As there, and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a kind above 239.
    pub fn submit_async_with<'a>(&self, append: Append<'a>) -> Submitting<Append<'a>> {
        Submitting::new(self.log.clone(), None, append)
    }

    /// The log as a [`Sink`](futures_sink::Sink) of payloads.
    pub fn sink<P: AsRef<[u8]>>(&self) -> WalSink<P> {
        WalSink::new(self.log.clone())
    }

    /// An empty batch: its records become durable and visible together, or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(self.log.clone(), None)
    }

    /// A handle that prefers one stripe: one for each thread that appends much.
    pub fn writer(&self) -> Writer {
        Writer::new(self.log.another())
    }

    /// Returns when every record that was appended before the call is durable, in every mode.
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed), [`Closed`](crate::ErrorKind::Closed).
    pub fn flush(&self) -> Result<()> {
        self.log.check_open()?;
        self.log.engine.flush().map_err(|error| self.log.error(error))
    }

    /// A future that is ready when every record that was appended before the call is durable, in every mode; it gives the last
    /// one's LSN. Its twin that blocks is [`Wal::flush`].
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn flush_async(&self) -> Reach {
        self.durable(self.last_lsn())
    }

    /// A future that is ready when the record with this LSN, and every one before it, is durable: one for any number of
    /// submitted records. It asks for a sync when it is first polled. Its twin that blocks is [`Wal::wait_durable`].
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn durable(&self, lsn: Lsn) -> Reach {
        self.reach(Rung::Durable, lsn)
    }

    /// A future that is ready when the record with this LSN, and every one before it, has come to this rung.
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn reach(&self, rung: Rung, lsn: Lsn) -> Reach {
        Reach::new(self.log.clone(), only(lsn), rung)
    }

    /// Returns when the record with this LSN, and every one before it, has come to this rung. Asks at once for what that takes.
    ///
    /// # Errors
    /// As [`Reach`].
    pub fn wait_reached(&self, rung: Rung, lsn: Lsn) -> Result<()> {
        self.log.wait(only(lsn), rung, Wait::Forever)
    }

    /// Returns when the record with this LSN, and every one before it, is durable. Asks for a sync at once.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if no append has returned this LSN yet;
    /// [`Failed`](crate::ErrorKind::Failed) if the log failed before it was durable.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.wait_reached(Rung::Durable, lsn)
    }

    /// The first LSN of the log, of which it may hold none yet: 1, until the log is truncated.
    pub fn first_lsn(&self) -> Lsn {
        self.log.manifest.current().log_start
    }

    /// The last LSN that was given to a record; the one before [`Wal::first_lsn`] in a log without records.
    pub fn last_lsn(&self) -> Lsn {
        self.log.engine.last_lsn()
    }

    /// Every record up to this LSN has come to this rung; it never falls. Once the log has failed, what is
    /// [written](Rung::Written) and not durable is no promise.
    pub fn reached(&self, rung: Rung) -> Lsn {
        self.log.engine.watermark(rung)
    }

    /// Every record up to this LSN is [written](Rung::Written): [`Wal::reached`].
    pub fn written_lsn(&self) -> Lsn {
        self.reached(Rung::Written)
    }

    /// Every record up to this LSN is durable; it never falls.
    pub fn durable_lsn(&self) -> Lsn {
        self.log.engine.durable_lsn()
    }

    /// Which opening of the log for writing this is, counted from 1. No two give out the same LSN under the same
    /// number; one that found the device full, and gave out none, may share its number with the next.
    pub fn incarnation(&self) -> Incarnation {
        self.log.engine.incarnation()
    }

    /// The identity of the log, drawn when its directory was first opened.
    pub fn log_id(&self) -> LogId {
        self.log.engine.log_id()
    }

    /// What opening the log found, and what it cut or left alone.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.log.report
    }

    /// Every durable record that the newest good checkpoint does not hold, up to [`Wal::durable_lsn`] as it is now, in
    /// that order; without a checkpoint every record. Read and checked by as many threads as the machine runs at once,
    /// in 64 MiB at most. [`Records::next_ref`] lends them, which is the fastest way.
    ///
    /// For who keeps the state elsewhere; [`Wal::recover`] hands the checkpoint over too. [`Wal::replay_with`] has a
    /// range for all.
    ///
    /// # Errors
    /// As [`Wal::iter`]; [`Damaged`](crate::ErrorKind::Damaged) if no checkpoint can be used and the log does not go back
    /// to its first record.
    pub fn replay(&self) -> Result<Records> {
        self.replay_with(Replay::new())
    }

    /// As [`Wal::replay`], with a range, a point in time, threads and memory of the caller's choice, and a word on the
    /// progress.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a setting beyond its limits, and as [`Wal::iter`]; with a
    /// point in time, as [`Wal::recover_with`].
    pub fn replay_with(&self, replay: Replay) -> Result<Records> {
        let how = replay.check()?;
        let records = self
            .iter(self.replay_range(&how)?)?
            .effects(how.held_bytes())
            .progress(how.progress(&self.log.clock));
        Ok(if self.log.background_threads { records.read_ahead(how.ahead()) } else { records })
    }

    /// The records that a replay asks for.
    pub(crate) fn replay_range(&self, how: &Checked) -> Result<Range> {
        self.log.check_open()?;
        let until = how.until.as_ref().map(|target| self.lsn_at(target)).transpose()?;
        let from = || self.log.checkpoints.replay_from(until);
        how.range_from(|| from().map_err(|error| Error::recovery(&self.log.path, error)), until)
    }

    /// The records of `range` that are durable now, read as they are asked for by the caller's thread alone: the log's history,
    /// where the commit of a [`Transaction`](crate::Transaction) has its place too, with a kind above 239.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`Truncated`](crate::ErrorKind::Truncated) for a start below
    /// [`Wal::first_lsn`]; [`Io`](crate::ErrorKind::Io) from the system; while reading, as [`Records::next_ref`]. What is
    /// being read is not truncated.
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Result<Records> {
        self.log.check_open()?;
        Records::open(&self.log.reader, &self.log.path, range, self.durable_lsn())
    }

    /// Every record from `from` on, each as soon as it is durable, for as long as the log is open. `from` need not be written
    /// yet: `wal.durable_lsn().next()` follows what is to come, and [`Wal::first_lsn`] begins with the log.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`Truncated`](crate::ErrorKind::Truncated) for a start below
    /// [`Wal::first_lsn`].
    pub fn subscribe(&self, from: Lsn) -> Result<Subscription> {
        self.log.check_open()?;
        let follower = self.log.reader.follow(from);
        let follower = follower.map_err(|error| Error::recovery(&self.log.path, error))?;
        Ok(Subscription::new(self.log.shared().clone(), follower))
    }

    /// The record with this LSN; `None` if it is not durable yet. Costs one read of at most 64 KiB, or 128 KiB in a segment
    /// of up to 128 MiB, less where records are read often, and more only for a record that is larger; the first in each
    /// segment that is finished reads its header and its seal beside that.
    ///
    /// # Errors
    /// As [`Wal::iter`] and [`Records::next_ref`].
    pub fn read(&self, lsn: Lsn) -> Result<Option<Record>> {
        self.log.check_open()?;
        let durable = self.durable_lsn();
        if lsn < Lsn::FIRST || lsn > durable {
            return Ok(None);
        }
        self.log.reader.read(lsn, durable).map_err(|error| Error::recovery(&self.log.path, error))
    }

    /// Counts and latencies since the log was opened.
    pub fn metrics(&self) -> Metrics {
        self.log.engine.metrics()
    }

    /// Whether the log works, and if not, why.
    pub fn health(&self) -> Health {
        let mut health = self.log.engine.health();
        if health.state == HealthState::Ok && self.log.upkeep.needs_attention() {
            health.state = HealthState::Upkeep;
        }
        health
    }

    /// How many stripes there are: [`num_stripes`](Options#structfield.num_stripes), rounded up to a power of
    /// two.
    pub fn num_stripes(&self) -> usize {
        self.log.engine.num_stripes()
    }

    /// The directory of the log.
    pub fn path(&self) -> &Path {
        &self.log.path
    }

    /// Closes the log for every handle: makes all that was accepted durable, seals the last segment, ends the
    /// log's threads and releases the directory. Later calls on any handle get
    /// [`Closed`](crate::ErrorKind::Closed), but for those that wait for what is durable already or only tell a
    /// number. Closing again does nothing and says the same.
    ///
    /// At the end the log's manifest is made to say where the log ends, if it holds anything that the manifest does not know
    /// of: should files be lost at that end later, that is damage then, and not a shorter log. Every record is durable before
    /// that, so if the manifest cannot be written `close` succeeds all the same; it says what is durable, and not what can
    /// be told of a loss at rest. The manifest then knows of what it knew before. Dropping the last handle does the same.
    ///
    /// # Errors
    /// [`Failed`](crate::ErrorKind::Failed) if the log has failed: [`Error::lsns`](crate::Error::lsns) names what
    /// had been accepted and may not have been saved. The directory is released all the same.
    /// [`Closed`](crate::ErrorKind::Closed) to a waker that calls this while another call closes the log, which may
    /// be waiting for that very waker: what closing comes to is told to the other.
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }
}

impl Clone for Wal {
    fn clone(&self) -> Wal {
        Wal { log: self.log.another() }
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("path", &self.log.path)
            .field("last_lsn", &self.last_lsn())
            .field("durable_lsn", &self.durable_lsn())
            .field("is_closed", &self.log.closed.get().is_some())
            .finish_non_exhaustive()
    }
}
