//! Prepared transactions: complete, durable, and without effect until somebody decides, in this opening or a later one.
//!
//! The rule: once [`StreamingTransaction::prepare`] has returned, nothing but a decision ends the transaction. A decision is durable
//! when the call that makes it returns. The log knows all of it; what stands here beside is found in the log again by every opening.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use braidlog_engine::{Commit, Durability, How, Wait};
use braidlog_format::{IN_DOUBT_MAX, Kind, Lsn, TxDecision};
use braidlog_recovery::{self as recovery, InDoubt};

use crate::log::LogRef;
use crate::{Error, ReadOnly, Records, Result, StreamingTransaction, Wal};

/// The most bytes of a global id.
const GLOBAL_ID_MAX: usize = 255;

/// A transaction that is prepared: durable, complete, and of no effect until it is decided. Made by
/// [`StreamingTransaction::prepare`].
///
/// Dropping this decides nothing. The transaction stays [in doubt](Wal::in_doubt), over any number of openings, and is decided by its
/// global id then: [`Wal::commit_prepared`], [`Wal::rollback_prepared`].
#[must_use = "a prepared transaction takes no effect, and keeps its part of the log, until it is decided"]
pub struct Prepared {
    log: LogRef,
    in_doubt: InDoubt,
}

impl Prepared {
    pub(crate) fn new(log: LogRef, in_doubt: InDoubt) -> Prepared {
        Prepared { log, in_doubt }
    }

    /// What it is in the log.
    pub fn in_doubt(&self) -> &InDoubt {
        &self.in_doubt
    }

    /// Lets its records take effect; gives the LSN at which they do. Durable when it returns.
    ///
    /// # Errors
    /// As [`Wal::commit_prepared`].
    pub fn commit(self) -> Result<Lsn> {
        self.decide(true)
    }

    /// Gives it up: its records never take effect. Durable when it returns.
    ///
    /// # Errors
    /// As [`Wal::commit_prepared`].
    pub fn rollback(self) -> Result<()> {
        self.decide(false).map(drop)
    }

    fn decide(&self, commit: bool) -> Result<Lsn> {
        let global_id = &self.in_doubt.global_id;
        decide(&self.log, global_id, commit)?.ok_or_else(|| not_in_doubt(&self.log, global_id))
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("in_doubt", &self.in_doubt).finish_non_exhaustive()
    }
}

/// The global ids that are in use, and what for.
#[derive(Debug)]
pub(crate) struct GlobalIds(Mutex<BTreeMap<Vec<u8>, Use>>);

#[derive(Clone, Debug)]
enum Use {
    /// The transaction is being prepared.
    Preparing,
    InDoubt(InDoubt),
    /// Somebody is deciding.
    Deciding(InDoubt),
}

impl GlobalIds {
    /// Those that an opening found.
    pub(crate) fn of(in_doubt: &[InDoubt]) -> GlobalIds {
        let found = |found: &InDoubt| (found.global_id.clone(), Use::InDoubt(found.clone()));
        GlobalIds(Mutex::new(in_doubt.iter().map(found).collect()))
    }

    /// Takes a global id for a transaction that is about to be prepared, or says why it cannot have it.
    pub(crate) fn take(&self, global_id: &[u8]) -> Result<(), String> {
        let len = global_id.len();
        if len == 0 || len > GLOBAL_ID_MAX {
            return Err(format!("a global id has 1 to {GLOBAL_ID_MAX} bytes, and this one {len}"));
        }
        let mut uses = self.locked();
        if uses.contains_key(global_id) {
            let name = global_id.escape_ascii();
            return Err(format!(
                "a transaction is in doubt under the global id `{name}`: decide about it first"
            ));
        }
        if uses.len() >= IN_DOUBT_MAX {
            return Err(format!(
                "{IN_DOUBT_MAX} transactions are in doubt, and no more can be: decide about some"
            ));
        }
        uses.insert(global_id.to_vec(), Use::Preparing);
        Ok(())
    }

    /// The transaction is prepared.
    pub(crate) fn prepared(&self, in_doubt: InDoubt) {
        self.locked().insert(in_doubt.global_id.clone(), Use::InDoubt(in_doubt));
    }

    /// The global id is in use no more.
    pub(crate) fn give_back(&self, global_id: &[u8]) {
        self.locked().remove(global_id);
    }

    fn list(&self) -> Vec<InDoubt> {
        let uses = self.locked();
        let in_doubt = uses.values().filter_map(|used| match used {
            Use::Preparing => None,
            Use::InDoubt(in_doubt) | Use::Deciding(in_doubt) => Some(in_doubt.clone()),
        });
        in_doubt.collect()
    }

    /// The table is whole between any two statements.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides about the transaction under a global id; `None` if none is in doubt under it. Gives the LSN of the decision.
pub(crate) fn decide(log: &LogRef, global_id: &[u8], commit: bool) -> Result<Option<Lsn>> {
    log.check_open()?;
    let refused = |what: &str| {
        Error::refused(&log.path, format!("the transaction `{}` {what}", global_id.escape_ascii()))
    };
    let in_doubt = {
        let mut uses = log.global_ids.locked();
        match uses.get_mut(global_id) {
            None => return Ok(None),
            Some(Use::Preparing) => return Err(refused("is being prepared: decide when it is")),
            Some(Use::Deciding(_)) => return Err(refused("is being decided by another call")),
            Some(used @ Use::InDoubt(_)) => {
                let Use::InDoubt(in_doubt) = used.clone() else { return Ok(None) };
                *used = Use::Deciding(in_doubt.clone());
                in_doubt
            }
        }
    };
    let InDoubt { transaction, begin, .. } = in_doubt;
    let decision = TxDecision { transaction, begin, commit };
    let appended = log.append_mark(Kind::TX_DECISION, &[&decision.encode()], durably(log));
    match &appended {
        Ok(_) => log.global_ids.give_back(global_id),
        // Whether it is decided is for the next opening to see.
        Err(error) if error.is_indeterminate() => {}
        Err(_) => log.global_ids.prepared(in_doubt),
    }
    appended.map(Some)
}

/// Waits for room and for a sync, whatever the mode of the log says: others build on what is decided.
pub(crate) fn durably(log: &LogRef) -> How {
    let durability = match log.durability {
        Durability::Async => Durability::GroupCommit,
        durability => durability,
    };
    How { stripe: None, wait: Wait::Forever, commit: Commit::Wait(durability) }
}

fn not_in_doubt(log: &LogRef, global_id: &[u8]) -> Error {
    let name = global_id.escape_ascii();
    let what =
        format!("no transaction is in doubt under the global id `{name}`: it was decided, or never prepared");
    Error::refused(&log.path, what)
}

/// # Two-phase commit
impl Wal {
    /// The transactions that are prepared and not decided, by global id: those of this opening, and those that it found.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        self.log.global_ids.list()
    }

    /// The records that take effect if the transaction under this global id is committed, in LSN order, as a replay would give them then,
    /// with the LSN of its TxPrepare for the place at which they take effect.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if no transaction is in doubt under this global id; as [`Wal::iter`].
    pub fn in_doubt_records(&self, global_id: &[u8]) -> Result<Records> {
        let found = self.in_doubt().into_iter().find(|found| found.global_id == global_id);
        let found = found.ok_or_else(|| not_in_doubt(&self.log, global_id))?;
        self.iter(found.prepared_at..=found.prepared_at)?.of_prepared()
    }

    /// Commits the prepared transaction under this global id; gives the LSN at which its records take effect. Durable when it returns.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if no transaction is in doubt under this global id, as after a first decision,
    /// or if another call is deciding about it; as [`Wal::append`]. After an [indeterminate](crate::Error::is_indeterminate) error the
    /// next opening knows whether it is decided.
    pub fn commit_prepared(&self, global_id: impl AsRef<[u8]>) -> Result<Lsn> {
        let global_id = global_id.as_ref();
        decide(&self.log, global_id, true)?.ok_or_else(|| not_in_doubt(&self.log, global_id))
    }

    /// Gives up the prepared transaction under this global id: its records never take effect. Durable when it returns.
    ///
    /// # Errors
    /// As [`Wal::commit_prepared`].
    pub fn rollback_prepared(&self, global_id: impl AsRef<[u8]>) -> Result<()> {
        let global_id = global_id.as_ref();
        decide(&self.log, global_id, false)?.ok_or_else(|| not_in_doubt(&self.log, global_id))?;
        Ok(())
    }
}

/// # Two-phase commit
impl ReadOnly {
    /// The transactions that are prepared and not decided, by id. Reads the log from the begin of the first one on.
    ///
    /// # Errors
    /// As [`ReadOnly::last_lsn`], and [`Damaged`](crate::ErrorKind::Damaged) by what is read.
    pub fn in_doubt(&self) -> Result<Vec<InDoubt>> {
        let last = self.last_lsn()?;
        recovery::in_doubt(&self.dir, last).map_err(|error| Error::recovery(&self.path, error))
    }
}

impl StreamingTransaction {
    /// Makes the transaction durable and undecided, as its part of something larger: the first phase of a two-phase commit. Waits for room
    /// and for a sync, whatever the durability of the transaction or the log. `global_id` is what its coordinator calls it, 1 to 255 bytes.
    ///
    /// From then on only [`Prepared::commit`] and [`Prepared::rollback`] end it, or [`Wal::commit_prepared`] and
    /// [`Wal::rollback_prepared`], also after any number of openings. Its part of the log is kept until then. At most 1,024 transactions are
    /// in doubt at once.
    ///
    /// ```
    /// # use braidlog::Wal;
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::options().open(dir.path())?;
    /// let mut tx = wal.begin_streaming()?;
    /// tx.append(1, b"debit alice 10")?;
    /// drop(tx.prepare(b"transfer 7")?); // decides nothing
    /// wal.close()?;
    ///
    /// let wal = Wal::options().open(dir.path())?;
    /// assert_eq!(wal.in_doubt()[0].global_id, b"transfer 7");
    /// assert_eq!(wal.replay()?.count(), 0);
    /// wal.commit_prepared(b"transfer 7")?;
    /// assert_eq!(wal.replay()?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a global id of another length, or under which a transaction is in doubt, or if
    /// as many are as can be; as [`Wal::append`]. Unless the error is [indeterminate](crate::Error::is_indeterminate), the transaction is
    /// aborted; after one that is, the next opening knows whether it is in doubt.
    pub fn prepare(self, global_id: impl AsRef<[u8]>) -> Result<Prepared> {
        self.prepare_as(global_id.as_ref())
    }
}
