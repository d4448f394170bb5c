//! Transactions: records that take effect together or not at all, under an id that the log keeps.
//!
//! The rule: nothing of a transaction is in the log before it is committed or prepared, and all of it is one batch then, which its
//! `TxCommit` begins. So to give one up costs nothing, and there is no half of one for anybody to see.

use std::fmt;

use braidlog_engine::{BatchBuf, BatchPoint, Commit, Durability, EntryParts, How, Wait};
use braidlog_format::{FieldsRef, Kind, Lsn, LsnRange, TxCommit, TxId};

use crate::log::{Log, LogRef};
use crate::{Append, AppendError, Error, Prepared, Result, StreamingTransaction, Ticket, Wal, Writer};

/// Records that take effect together, or not at all. Made by [`Wal::begin`] or [`Writer::begin`].
///
/// They are gathered in memory. [`Transaction::commit`] appends them as one, with one sync; [`Transaction::abort`], or dropping the
/// transaction, leaves nothing in the log. Each record carries the transaction's [id](TxId), which is given back by whoever reads
/// the log, after any number of openings: [`RecordRef::fields`](crate::RecordRef#structfield.fields).
///
/// The commit itself is an entry of the log, of kind 244, and takes the LSN before the first record's. Who reads the log's
/// history sees it ([`Wal::iter`], [`Wal::read`]); who is given records to apply them ([`Wal::replay`], [`Wal::recover`],
/// [`Wal::subscribe`]) does not.
///
/// ```
/// # use braidlog::Wal;
/// # let dir = tempfile::tempdir()?;
/// # let wal = Wal::options().open(dir.path())?;
/// let mut tx = wal.begin()?;
/// tx.append(1, b"debit alice 10")?;
/// let before = tx.savepoint();
/// tx.append(1, b"credit bob 20")?;
/// tx.rollback_to(before)?; // it was to be 10
/// tx.append(1, b"credit bob 10")?;
/// let committed = tx.commit()?;
/// assert_eq!(committed.lsns.count(), 2);
///
/// for record in wal.replay()? {
///     assert_eq!(record?.fields.transaction, Some(committed.id));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a transaction is in the log only once it is committed"]
pub struct Transaction {
    log: LogRef,
    id: TxId,
    /// The commit, which is completed when it is known how many records there are, and the records.
    entries: BatchBuf,
    /// Small, as all of it is handed back with an error. A stripe that did not fit would be a preference less.
    stripe: Option<u16>,
    durability: Option<Durability>,
    /// Those that can be gone back to, in the order in which they were set.
    savepoints: Vec<(u64, BatchPoint)>,
    next_savepoint: u64,
}

/// A point inside a [`Transaction`] or a [`StreamingTransaction`](crate::StreamingTransaction), made by [`Transaction::savepoint`]
/// or [`StreamingTransaction::savepoint`](crate::StreamingTransaction::savepoint).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Savepoint {
    pub(crate) transaction: TxId,
    /// Which one it is; in a streaming transaction the LSN of the last record that took effect then.
    pub(crate) number: u64,
    /// How many records there were.
    pub(crate) records: u64,
}

impl Savepoint {
    /// Why a transaction cannot go back to it.
    pub(crate) fn refused(self, by: TxId, log: &Log) -> Error {
        let what = format!("a savepoint of transaction {} is none of transaction {by} now", self.transaction);
        Error::refused(&log.path, what)
    }
}

/// A transaction that was committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Committed {
    /// Its id, which each of its records carries.
    pub id: TxId,
    /// The LSN of its commit. Of a transaction that is one batch it stands before the records; of one without any, of which nothing
    /// is in the log, it is the last LSN that there was.
    pub at: Lsn,
    /// How many records take effect.
    pub records: u64,
    /// Its records: their LSNs follow one another. Of a [streaming](crate::StreamingTransaction) one they lie in this range, among
    /// other entries: it goes from its begin to its commit.
    pub lsns: LsnRange,
}

impl Transaction {
    fn begin(log: LogRef, stripe: Option<usize>) -> Result<Transaction> {
        let stripe = stripe.and_then(|stripe| u16::try_from(stripe).ok());
        log.check_open()?;
        let id = log.next_transaction()?;
        let entries = BatchBuf::new(log.max_record_bytes);
        Ok(Transaction {
            log,
            id,
            entries,
            stripe,
            durability: None,
            savepoints: Vec::new(),
            next_savepoint: 1,
        })
    }

    /// Its id, which no other transaction of the log has or gets, whether this one is committed or not.
    pub fn id(&self) -> TxId {
        self.id
    }

    /// Sets when [`Transaction::commit`] returns, whatever the mode of the log says.
    pub fn durability(mut self, durability: Durability) -> Transaction {
        self.durability = Some(durability);
        self
    }

    /// Adds a record. [`Transaction::append_with`] has more to say about it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if `kind` is above 239, or if the transaction would be larger than
    /// [`max_record_bytes`](crate::Options#structfield.max_record_bytes), where each record counts 40 bytes beside its payload and
    /// the commit 24. The transaction is as it was before.
    pub fn append(&mut self, kind: u8, payload: impl AsRef<[u8]>) -> Result<&mut Transaction> {
        self.append_with(Append::new(payload.as_ref()).kind(kind))
    }

    /// Adds a record with pieces or a schema; when it is durable is the transaction's to say, so the record's own durability is
    /// not looked at.
    ///
    /// # Errors
    /// As [`Transaction::append`].
    pub fn append_with(&mut self, append: Append<'_>) -> Result<&mut Transaction> {
        let before = self.entries.point();
        if self.entries.is_empty() {
            self.push_commit().map_err(|error| self.log.error(error))?;
        }
        let append = append.of_transaction(self.id);
        if let Err(error) = append.with_parts(|parts| self.entries.push_parts(&parts)) {
            self.entries.go_back(before);
            return Err(self.log.error(error));
        }
        Ok(self)
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.entries.len().saturating_sub(1)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes how far it has come, to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        let number = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.push((number, self.entries.point()));
        Savepoint { transaction: self.id, number, records: self.len() as u64 }
    }

    /// Forgets the records since `savepoint` was set, and the savepoints since then. It can be gone back to again.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is a savepoint of another transaction, or was set behind one that this
    /// transaction has gone back to since. The transaction is as it was before.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let found = self.savepoints.binary_search_by_key(&savepoint.number, |&(number, _)| number);
        let known = found.ok().filter(|_| savepoint.transaction == self.id);
        let Some((index, &(_, point))) = known.and_then(|index| Some((index, self.savepoints.get(index)?)))
        else {
            return Err(savepoint.refused(self.id, &self.log));
        };
        #[cfg(braidlog_sabotage)]
        let point = if braidlog_sabotage::is("nothing_taken_back") { self.entries.point() } else { point };
        self.entries.go_back(point);
        self.savepoints.truncate(index + 1);
        Ok(())
    }

    /// Appends the records, waits for space if it must and then as the durability says: one batch, one sync. Without records
    /// there is nothing to append, and it returns at once.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn commit(mut self) -> Result<Committed> {
        if self.is_empty() {
            self.log.check_open()?;
            let at = self.log.engine.last_lsn();
            return Ok(Committed { id: self.id, at, records: 0, lsns: LsnRange::with_count(at.next(), 0) });
        }
        self.complete_commit();
        let commit = Commit::Wait(self.durability.unwrap_or(self.log.durability));
        let how = How { stripe: self.stripe.map(usize::from), wait: Wait::Forever, commit };
        let LsnRange { first: at, last } = self.log.append_batch(&self.entries, how)?;
        let records = self.len() as u64;
        Ok(Committed { id: self.id, at, records, lsns: LsnRange { first: at.next(), last } })
    }

    /// Appends the records if there is room now. Waits for nothing; the transaction comes back with the error. The LSNs of the
    /// ticket are those of the commit and, behind it, of the records.
    ///
    /// # Errors
    /// As [`Wal::submit`], and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a transaction without records.
    pub fn submit(mut self) -> Result<Ticket, AppendError<Transaction>> {
        self.complete_commit();
        let commit = Commit::Later(self.durability.unwrap_or(self.log.durability));
        match self.log.append_batch(
            &self.entries,
            How { stripe: self.stripe.map(usize::from), wait: Wait::Never, commit },
        ) {
            Ok(lsns) => Ok(Ticket::new(self.log, lsns)),
            Err(error) => Err(AppendError::new(error, self)),
        }
    }

    /// Appends the records and makes the transaction durable and undecided, as [`StreamingTransaction::prepare`]: they are provisional
    /// then, one by one, and take effect where the transaction is committed.
    ///
    /// # Errors
    /// As there; the transaction is aborted.
    pub fn prepare(self, global_id: impl AsRef<[u8]>) -> Result<Prepared> {
        let stripe = self.stripe.map(usize::from);
        let mut streaming = StreamingTransaction::begin_as(self.id, self.log.clone(), stripe)?;
        for (kind, payload) in self.entries.entries().skip(1) {
            // They are of this crate's making.
            let (fields, proper) = FieldsRef::split(payload).unwrap_or_default();
            let append = Append::new(proper).kind(kind.0);
            streaming.append_with(match fields.schema() {
                Some(schema) => append.schema(schema),
                None => append,
            })?;
        }
        streaming.prepare(global_id)
    }

    /// Gives it up. Nothing of it is in the log, and dropping it does the same.
    pub fn abort(self) {}

    /// Adds the commit, before the first record.
    fn push_commit(&mut self) -> Result<(), braidlog_engine::EngineError> {
        let payload = self.commit_of(0);
        let pieces = [std::io::IoSlice::new(&payload)];
        self.entries.push_parts(&EntryParts { kind: Kind::TX_COMMIT, fields: &[], pieces: &pieces })
    }

    /// Lets the commit say how many records there are.
    fn complete_commit(&mut self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("commit_does_not_count_its_records") {
            return;
        }
        if !self.is_empty() {
            let payload = self.commit_of(self.len() as u64);
            self.entries.rewrite_first(&payload);
        }
    }

    fn commit_of(&self, records: u64) -> [u8; 24] {
        TxCommit { transaction: self.id, begin: None, entries: records }.encode()
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("id", &self.id).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// # Transactions
impl Wal {
    /// Begins a transaction: records that take effect together, or not at all. Waits for nothing, but for the log's first
    /// segment where the log was opened on a full device.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace) while a log that was opened on a full device has no space for its first segment;
    /// [`Closed`](crate::ErrorKind::Closed), [`Failed`](crate::ErrorKind::Failed); [`InvalidInput`](crate::ErrorKind::InvalidInput) when the log has been opened four
    /// million times, or has begun as many million transactions since it was.
    pub fn begin(&self) -> Result<Transaction> {
        Transaction::begin(self.log.clone(), None)
    }
}

/// # Transactions
impl Writer {
    /// As [`Wal::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn begin(&self) -> Result<Transaction> {
        Transaction::begin(self.log.clone(), Some(self.stripe))
    }
}
