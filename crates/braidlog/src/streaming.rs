//! Streaming transactions: their records go to the log as they come, and take effect when their commit does.
//!
//! The rule: nothing of one counts before its commit is in the log, and all of it counts then. Whoever ends it says so with one entry
//! behind all of its others; if nobody comes to that, it has no effect.

use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use braidlog_engine::{Commit, Durability, Engine, EngineError, EntryParts, How, Rung, Wait};
use braidlog_format::{Kind, Lsn, LsnRange, TxAbort, TxBegin, TxCommit, TxGoBack, TxId, TxPrepare};
use braidlog_recovery::InDoubt;

use crate::appending::{Content, Entering, Room};
use crate::log::{Log, LogRef, only};
use crate::prepared::{self, Prepared};
use crate::transaction::{Committed, Savepoint};
use crate::{Append, AppendError, Error, ErrorKind, Reach, Result, Ticket, Wal, Writer};

/// Records that take effect together, or not at all, and go to the log as they come: a transaction for more than fits into memory,
/// or that lasts. Made by [`Wal::begin_streaming`] or [`Writer::begin_streaming`].
///
/// Its records stand among those of others, and each is marked as [provisional](crate::RecordFields#structfield.provisional). Who
/// reads the log's history sees them there ([`Wal::iter`], [`Wal::read`]); who is given records to apply them ([`Wal::replay`],
/// [`Wal::recover`], [`Wal::subscribe`]) gets them when the transaction is committed, at the place of its commit, together and in
/// order, or never. [`RecordRef::effective_at`](crate::RecordRef#structfield.effective_at) tells that place.
///
/// It takes an entry of 40 bytes to begin, one of 56 to commit, and 16 bytes for each record. What is smaller than
/// [`max_record_bytes`](crate::Options#structfield.max_record_bytes) and ready at once is cheaper as a
/// [`Transaction`](crate::Transaction), which is one batch.
///
/// Dropped, it is [aborted](StreamingTransaction::abort). So it is too if the log is closed, or the process dies, before it is
/// committed.
///
/// ```
/// # use braidlog::Wal;
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// let mut load = wal.begin_streaming()?;
/// for row in 0..1000_u64 {
///     load.append(1, row.to_le_bytes())?; // in the log, and of no effect yet
/// }
/// wal.append(b"meanwhile")?;
/// assert_eq!(wal.replay()?.count(), 1);
/// let committed = load.commit()?;
///
/// let effects: Vec<_> = wal.replay()?.collect::<Result<_, _>>()?;
/// assert_eq!(effects.len(), 1001);
/// assert_eq!(effects[0].payload, b"meanwhile");
/// assert_eq!(effects[1].effective_at, committed.at);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a transaction takes effect only once it is committed"]
pub struct StreamingTransaction {
    log: LogRef,
    id: TxId,
    /// Its first entry.
    begin: Lsn,
    /// Small, as all of it is handed back with an error. A stripe that did not fit would be a preference less.
    stripe: Option<u16>,
    durability: Option<Durability>,
    /// Its entries behind the begin.
    entries: u64,
    /// Its records that will take effect.
    records: u64,
    /// The last of them, or the begin.
    last: Lsn,
    /// What was gone back to and the mark of it, of those that no later one goes back over, in order.
    gone_back: Vec<(Lsn, Lsn)>,
    has_ended: bool,
}

impl StreamingTransaction {
    fn begin(log: LogRef, stripe: Option<usize>) -> Result<StreamingTransaction> {
        log.check_open()?;
        let id = log.next_transaction()?;
        StreamingTransaction::begin_as(id, log, stripe)
    }

    /// Begins the transaction that has this id, of which nothing is in the log.
    pub(crate) fn begin_as(id: TxId, log: LogRef, stripe: Option<usize>) -> Result<StreamingTransaction> {
        log.late_aborts.append(&log);
        let how = How { stripe, wait: Wait::Forever, commit: Commit::Later(log.durability) };
        let mark = Mark::new(Kind::TX_BEGIN, &TxBegin { transaction: id, label: &[] }.encode());
        let begin = mark.append(&log, how)?;
        let stripe = stripe.and_then(|stripe| u16::try_from(stripe).ok());
        let (durability, gone_back) = (None, Vec::new());
        let (entries, records, last, has_ended) = (0, 0, begin, false);
        Ok(StreamingTransaction {
            log,
            id,
            begin,
            stripe,
            durability,
            entries,
            records,
            last,
            gone_back,
            has_ended,
        })
    }

    /// Its id, which no other transaction of the log has.
    pub fn id(&self) -> TxId {
        self.id
    }

    /// The LSN of its first entry, which says that it begins. What lies behind is kept from being
    /// [truncated](crate::Wal::truncate_before) until the transaction has ended.
    pub fn begin_lsn(&self) -> Lsn {
        self.begin
    }

    /// Sets when [`StreamingTransaction::commit`] returns, whatever the mode of the log says.
    pub fn durability(mut self, durability: Durability) -> StreamingTransaction {
        self.durability = Some(durability);
        self
    }

    /// Appends a record; waits for room as long as it takes, and for nothing else. Gives its LSN.
    ///
    /// # Errors
    /// As [`Wal::append`], but that none is indeterminate. The transaction is as it was before.
    pub fn append(&mut self, kind: u8, payload: impl AsRef<[u8]>) -> Result<Lsn> {
        self.append_with(Append::new(payload.as_ref()).kind(kind))
    }

    /// Appends a record with pieces or a schema. When it is durable is the transaction's to say, so the record's own durability is
    /// not looked at.
    ///
    /// # Errors
    /// As [`StreamingTransaction::append`].
    pub fn append_with(&mut self, append: Append<'_>) -> Result<Lsn> {
        let (append, how) = (append.provisional_in(self.id), self.later(Wait::Forever));
        let appended = append.with_parts(|parts| self.log.engine.append_parts(parts, how));
        let lsn = appended.map_err(|error| self.log.error(error))?;
        self.took(lsn);
        Ok(lsn)
    }

    /// As [`StreamingTransaction::append_with`], and waits for room without holding the executor's thread. Dropped before the
    /// record is accepted, nothing of it is in the log.
    ///
    /// # Errors
    /// As [`StreamingTransaction::append`].
    pub async fn append_async(&mut self, append: Append<'_>) -> Result<Lsn> {
        let append = append.provisional_in(self.id);
        let mut entering = Entering::new(self.log.clone(), self.stripe.map(usize::from), append);
        // What was accepted is noted in the same poll, so dropping this between two polls forgets nothing.
        let lsn = poll_fn(|cx| entering.poll(cx.waker())).await?.last;
        self.took(lsn);
        Ok(lsn)
    }

    /// How many records will take effect.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether none will.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Notes how far it has come, to go back to. Appends nothing, and takes no memory.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { transaction: self.id, number: self.last.0, records: self.records }
    }

    /// Goes back to `savepoint`: what was appended since then takes no effect. It can be gone back to again. Waits for room as
    /// long as it takes, for an entry of 48 bytes.
    ///
    /// Each time that it goes back, and on with another record, costs 16 bytes of memory: here until it ends, and later where it
    /// is replayed.
    ///
    /// # Errors
    /// As [`StreamingTransaction::append`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is a savepoint of another
    /// transaction, or was set behind one that this transaction has gone back to since. The transaction is as it was before.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let to = Lsn(savepoint.number);
        let at = self.gone_back.partition_point(|&(_, mark)| mark < to);
        let was_gone_back_from = self.gone_back.get(at).is_some_and(|&(earlier, _)| earlier < to);
        if savepoint.transaction != self.id || was_gone_back_from {
            return Err(savepoint.refused(self.id, &self.log));
        }
        if to == self.last {
            return Ok(());
        }
        let mark = Mark::new(Kind::TX_GO_BACK, &TxGoBack { transaction: self.id, to }.encode());
        let lsn = mark.append(&self.log, self.later(Wait::Forever))?;
        self.entries += 1;
        self.records = savepoint.records;
        self.last = to;
        while self.gone_back.pop_if(|(earlier, _)| *earlier >= to).is_some() {}
        self.gone_back.push((to, lsn));
        Ok(())
    }

    /// Lets the records take effect: appends the commit, and waits as the durability says. They are durable when it is.
    ///
    /// # Errors
    /// As [`Wal::append`]. Unless the error is [indeterminate](crate::Error::is_indeterminate), the transaction is aborted.
    pub fn commit(mut self) -> Result<Committed> {
        let commit = Commit::Wait(self.durability.unwrap_or(self.log.durability));
        let how = How { stripe: self.stripe.map(usize::from), wait: Wait::Forever, commit };
        self.log.late_aborts.append(&self.log);
        let appended = self.commit_mark().append(&self.log, how);
        self.has_ended = appended.as_ref().map_or_else(|error| error.is_indeterminate(), |_| true);
        Ok(self.committed(appended?))
    }

    /// As [`StreamingTransaction::commit`], and waits for room and for durability without holding the executor's thread. Dropped
    /// before the commit is accepted, the transaction is aborted; dropped later, it is committed.
    ///
    /// # Errors
    /// As [`StreamingTransaction::commit`].
    pub async fn commit_async(mut self) -> Result<Committed> {
        let mark = self.commit_mark();
        let mut entering = Entering::new(self.log.clone(), self.stripe.map(usize::from), mark);
        let accepted = poll_fn(|cx| entering.poll(cx.waker())).await?;
        self.has_ended = true;
        if self.durability.unwrap_or(self.log.durability) != Durability::Async {
            Reach::new(self.log.clone(), accepted, Rung::Durable).await?;
        }
        Ok(self.committed(accepted.last))
    }

    /// Lets the records take effect if there is room for the commit now. Waits for nothing; the transaction comes back with the
    /// error. The LSN of the ticket is that of the commit.
    ///
    /// # Errors
    /// As [`Wal::submit`].
    pub fn submit(mut self) -> Result<Ticket, AppendError<StreamingTransaction>> {
        match self.commit_mark().append(&self.log, self.later(Wait::Never)) {
            Ok(at) => {
                self.has_ended = true;
                Ok(Ticket::new(self.log.clone(), only(at)))
            }
            Err(error) => Err(AppendError::new(error, self)),
        }
    }

    /// The first phase of a two-phase commit.
    pub(crate) fn prepare_as(mut self, global_id: &[u8]) -> Result<Prepared> {
        self.log.check_open()?;
        let taken = self.log.global_ids.take(global_id);
        taken.map_err(|what| Error::refused(&self.log.path, what))?;
        self.log.late_aborts.append(&self.log);
        let (transaction, begin, entries) = (self.id, self.begin, self.entries);
        let payload = TxPrepare { transaction, begin, entries, global_id }.encode();
        let how = How { stripe: self.stripe.map(usize::from), ..prepared::durably(&self.log) };
        let appended = self.log.append_mark(Kind::TX_PREPARE, &[&payload, global_id], how);
        self.has_ended = appended.as_ref().map_or_else(|error| error.is_indeterminate(), |_| true);
        match appended {
            Ok(at) => {
                let in_doubt = InDoubt::new(transaction, global_id.to_vec(), begin, at);
                self.log.global_ids.prepared(in_doubt.clone());
                Ok(Prepared::new(self.log.clone(), in_doubt))
            }
            Err(error) => {
                self.log.global_ids.give_back(global_id);
                Err(error)
            }
        }
    }

    /// Gives it up: its records will never take effect. An entry says so if there is room for one, or when there is some; nobody
    /// waits for that, for without it they take no effect either. Dropping the transaction does the same.
    pub fn abort(self) {}

    /// In the log at some time, and not waited for.
    fn later(&self, wait: Wait) -> How {
        let commit = Commit::Later(self.durability.unwrap_or(self.log.durability));
        How { stripe: self.stripe.map(usize::from), wait, commit }
    }

    /// That a record was appended.
    fn took(&mut self, lsn: Lsn) {
        self.entries += 1;
        self.records += 1;
        self.last = lsn;
    }

    fn commit_mark(&self) -> Mark {
        let begin = Some(self.begin);
        Mark::new(Kind::TX_COMMIT, &TxCommit { transaction: self.id, begin, entries: self.entries }.encode())
    }

    fn committed(&self, at: Lsn) -> Committed {
        let lsns = LsnRange { first: self.begin, last: at };
        Committed { id: self.id, at, records: self.records, lsns }
    }
}

impl Drop for StreamingTransaction {
    fn drop(&mut self) {
        if !self.has_ended {
            let abort = TxAbort { transaction: self.id, begin: self.begin };
            self.log.late_aborts.add(abort);
            self.log.late_aborts.append(&self.log);
        }
    }
}

impl fmt::Debug for StreamingTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingTransaction")
            .field("id", &self.id)
            .field("begin_lsn", &self.begin)
            .field("len", &self.records)
            .finish_non_exhaustive()
    }
}

/// A mark of a transaction.
struct Mark {
    kind: Kind,
    payload: [u8; 24],
    len: usize,
}

impl Mark {
    fn new<const LEN: usize>(kind: Kind, payload: &[u8; LEN]) -> Mark {
        let mut mark = Mark { kind, payload: [0; 24], len: LEN };
        mark.payload[..LEN].copy_from_slice(payload);
        mark
    }

    fn payload(&self) -> &[u8] {
        &self.payload[..self.len]
    }

    fn append(&self, log: &Log, how: How) -> Result<Lsn> {
        log.append_mark(self.kind, &[self.payload()], how)
    }
}

impl Content for Mark {
    fn poll_append(
        &mut self,
        engine: &Engine,
        room: &mut Room,
        waker: &Waker,
    ) -> Poll<Result<LsnRange, EngineError>> {
        let (stripe, key) = room.parts();
        let pieces = [IoSlice::new(self.payload())];
        let parts = EntryParts { kind: self.kind, fields: &[], pieces: &pieces };
        engine.poll_append_parts(parts, stripe, key, waker).map_ok(only)
    }
}

/// Aborts that are not in the log yet: there was no room for them, and who gave the transaction up waits for nothing. They go there
/// with the next mark of a transaction, or before the upkeep or an order cuts the
/// log. One that never does is no harm: without it the transaction takes no effect either.
#[derive(Debug, Default)]
pub(crate) struct LateAborts(Mutex<Vec<TxAbort>>);

impl LateAborts {
    fn add(&self, abort: TxAbort) {
        self.locked().push(abort);
    }

    /// Appends those for which there is room now. Nothing is locked meanwhile.
    pub(crate) fn append(&self, log: &Log) {
        let how = How { stripe: None, wait: Wait::Never, commit: Commit::Later(Durability::Async) };
        let next = || self.locked().pop();
        while let Some(abort) = next() {
            let appended = Mark::new(Kind::TX_ABORT, &abort.encode()).append(log, how);
            // If nothing can be appended any more, nothing has to be.
            if appended.is_err_and(|error| !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Failed)) {
                return self.add(abort);
            }
        }
    }

    /// The list is whole between any two statements.
    fn locked(&self) -> MutexGuard<'_, Vec<TxAbort>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Streaming transactions
impl Wal {
    /// Begins a transaction whose records go to the log as they come and take effect when it is committed. Waits for room, for
    /// the entry that says that it begins.
    ///
    /// # Errors
    /// As [`Wal::begin`] and [`Wal::append`].
    pub fn begin_streaming(&self) -> Result<StreamingTransaction> {
        StreamingTransaction::begin(self.log.clone(), None)
    }
}

/// # Streaming transactions
impl Writer {
    /// As [`Wal::begin_streaming`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_streaming(&self) -> Result<StreamingTransaction> {
        StreamingTransaction::begin(self.log.clone(), Some(self.stripe))
    }
}
