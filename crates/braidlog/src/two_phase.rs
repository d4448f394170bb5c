//! Two-phase commit over several logs, or whatever else can prepare: all of them commit, or none does.
//!
//! The rule: that it is a commit is durable in the coordinator's own log before any participant is told. What no decision stands there
//! for is rolled back (*presumed abort*): so a participant that is left in doubt is resolved by looking there, whoever died, and when.
//!
//! # Steps, and what a crash behind each leaves
//! 1. Every participant prepares, and is in doubt then. No decision is there: [`TwoPhaseCommit::recover`] rolls back.
//! 2. The decision is appended, with the names of the participants, durably. [`TwoPhaseCommit::recover`] commits.
//! 3. Every participant is told. Those that were not are told by [`TwoPhaseCommit::recover`]; those that were are not in doubt.
//! 4. An *end* is appended, and nothing waits for it: without it the participants are asked once more, and none is in doubt. What lies below
//!    the first decision without an end is given up at times, so the log stays short.

use std::collections::{BTreeMap, BTreeSet};
use std::error;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use braidlog_format::{Kind, Lsn};

use crate::prepared::decide;
use crate::{Append, BoxError, Durability, Error, Options, Result, StreamingTransaction, Wal};

/// A commit was decided: the global id, and the names of the participants.
const DECISION: u8 = 1;
/// Every participant knows of it: the global id.
const END: u8 = 2;
/// The most bytes of the name of a participant.
const NAME_MAX: usize = 255;
/// So many transactions end before the log is cut behind them.
const ENDS_PER_CUT: usize = 256;

/// Something that takes part in a transaction over several: a log, a database, another service.
///
/// Its part of the work is done before it is asked to prepare. After that it has to be able to do either, whatever happens to it: it keeps
/// the part as it is, durably, until it is told. It may be told the same thing twice, and answers as it did the first time.
///
/// [`LogParticipant`] is one that is a log.
pub trait Participant {
    /// What it is called: the same over all restarts, and different from all others of the coordinator. At most 255 bytes.
    fn name(&self) -> &str;

    /// Makes its part durable and undecided under `global_id`, which has at most 255 bytes.
    ///
    /// # Errors
    /// Anything: all are rolled back then, this one too.
    fn prepare(&mut self, global_id: &[u8]) -> Result<(), BoxError>;

    /// Lets its part take effect, durably. If nothing is in doubt under `global_id`, that was done before.
    ///
    /// # Errors
    /// Anything: it is told again by [`TwoPhaseCommit::recover`].
    fn commit(&mut self, global_id: &[u8]) -> Result<(), BoxError>;

    /// Gives its part up, durably if it was prepared. If nothing is in doubt under `global_id`, it is given up already, or was never
    /// prepared.
    ///
    /// # Errors
    /// Anything: it is told again by [`TwoPhaseCommit::recover`].
    fn rollback(&mut self, global_id: &[u8]) -> Result<(), BoxError>;

    /// The global ids under which it has something prepared and not decided, whoever gave them.
    ///
    /// # Errors
    /// Anything: it is asked again by the next [`TwoPhaseCommit::recover`].
    fn in_doubt(&mut self) -> Result<Vec<Vec<u8>>, BoxError>;
}

/// A log as a [`Participant`]: its part is a streaming transaction.
#[derive(Debug)]
pub struct LogParticipant {
    name: String,
    wal: Wal,
    open: Option<StreamingTransaction>,
}

impl LogParticipant {
    /// The log `wal`, under a name that stays the same.
    pub fn new(name: impl Into<String>, wal: &Wal) -> LogParticipant {
        LogParticipant { name: name.into(), wal: wal.clone(), open: None }
    }

    /// Its part of the next transaction, which begins when it is first asked for.
    ///
    /// # Errors
    /// As [`Wal::begin_streaming`].
    pub fn transaction(&mut self) -> Result<&mut StreamingTransaction> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.wal.begin_streaming()?,
        };
        Ok(self.open.insert(open))
    }
}

impl Participant for LogParticipant {
    fn name(&self) -> &str {
        &self.name
    }

    fn prepare(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        self.transaction()?;
        // What is prepared is decided by its global id.
        self.open.take().map(|open| open.prepare(global_id)).transpose()?;
        Ok(())
    }

    fn commit(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        decide(&self.wal.log, global_id, true)?;
        Ok(())
    }

    fn rollback(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        // What is in doubt was prepared. What is open beside it is a part of the next transaction.
        if decide(&self.wal.log, global_id, false)?.is_none() {
            self.open = None;
        }
        Ok(())
    }

    fn in_doubt(&mut self) -> Result<Vec<Vec<u8>>, BoxError> {
        Ok(self.wal.in_doubt().into_iter().map(|in_doubt| in_doubt.global_id).collect())
    }
}

/// A coordinator of two-phase commits, with a log of its own for its decisions. To be opened before the participants are used, with a
/// [`TwoPhaseCommit::recover`] over all of them.
///
/// It may be used by many threads at once. The global ids that it gives are unique among all coordinators, so several may use one
/// participant.
///
/// ```
/// # use braidlog::{LogParticipant, TwoPhaseCommit, Wal};
/// # let dir = tempfile::tempdir()?;
/// let debits = Wal::options().open(dir.path().join("debits"))?;
/// let credits = Wal::options().open(dir.path().join("credits"))?;
/// let (mut from, mut to) = (LogParticipant::new("debits", &debits), LogParticipant::new("credits", &credits));
/// let two_phase = TwoPhaseCommit::open(Wal::options(), dir.path().join("decisions"))?;
/// two_phase.recover(&mut [&mut from, &mut to]);
///
/// from.transaction()?.append(1, b"alice 10")?;
/// to.transaction()?.append(1, b"bob 10")?;
/// two_phase.commit(&mut [&mut from, &mut to])?;
/// assert_eq!((debits.replay()?.count(), credits.replay()?.count()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TwoPhaseCommit {
    wal: Wal,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The decisions that some participant may not know of, by global id.
    decided: BTreeMap<Vec<u8>, Decision>,
    /// The global ids of those that a call is at work for, so that nobody else resolves them, and an LSN of the coordinator's log that a
    /// decision about each lies behind.
    at_work: BTreeMap<Vec<u8>, Lsn>,
    /// How many have ended since the log was cut.
    ends: usize,
}

#[derive(Debug)]
struct Decision {
    lsn: Lsn,
    /// The names of the participants.
    participants: Vec<String>,
}

/// A transaction that was committed.
#[derive(Debug)]
#[non_exhaustive]
pub struct TwoPhaseOutcome {
    /// What the coordinator calls it.
    pub global_id: Vec<u8>,
    /// The participants that could not be told that it is committed. It stands all the same: [`TwoPhaseCommit::recover`] tells them.
    pub untold: Vec<Untold>,
}

/// A participant that could not be told, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct Untold {
    /// Its name.
    pub participant: String,
    /// What it said.
    pub error: BoxError,
}

/// Why a transaction was not committed, or is not known to be.
#[derive(Debug)]
#[non_exhaustive]
pub enum TwoPhaseError {
    /// A participant did not prepare, or the decision could not be made durable: the transaction is rolled back. Participants that could not be
    /// told so stay in doubt until [`TwoPhaseCommit::recover`] tells them.
    RolledBack {
        /// The name of the participant, or `None` if it was the coordinator's log.
        participant: Option<String>,
        /// What it said.
        error: BoxError,
    },
    /// The coordinator's log failed while the decision was being made durable. Every participant stays in doubt until the coordinator is opened
    /// again, which finds the decision or not, and [`TwoPhaseCommit::recover`] is called.
    Unknown(Error),
}

impl fmt::Display for TwoPhaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TwoPhaseError::RolledBack { participant: Some(name), error } => {
                write!(f, "rolled back, because `{name}` did not prepare: {error}")
            }
            TwoPhaseError::RolledBack { participant: None, error } => {
                write!(f, "rolled back, because the decision could not be logged: {error}")
            }
            TwoPhaseError::Unknown(error) => {
                write!(f, "not known to be committed until the coordinator is opened again: {error}")
            }
        }
    }
}

impl error::Error for TwoPhaseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            TwoPhaseError::RolledBack { error, .. } => Some(&**error),
            TwoPhaseError::Unknown(error) => Some(error),
        }
    }
}

/// What a [`TwoPhaseCommit::recover`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resolved {
    /// The global ids that were in doubt somewhere and are committed.
    pub committed: BTreeSet<Vec<u8>>,
    /// Those that were in doubt somewhere and are rolled back.
    pub rolled_back: BTreeSet<Vec<u8>>,
    /// The participants that could not be asked, or told. The next recovery does.
    pub untold: Vec<Untold>,
}

impl TwoPhaseCommit {
    /// Opens the coordinator whose decisions are in the log in the directory `path`, which is made if it is not there. Of the options the
    /// durability mode does not matter.
    ///
    /// # Errors
    /// As [`Options::open`]; [`Damaged`](crate::ErrorKind::Damaged) and others as [`Wal::replay`]; [`InvalidInput`](crate::ErrorKind::InvalidInput)
    /// if it is the log of something else, or has given up records, of which none is taken for a decision that was never made.
    pub fn open(options: Options, path: impl AsRef<Path>) -> Result<TwoPhaseCommit> {
        let wal = options.open(path)?;
        let mut decided = BTreeMap::new();
        let mut records = wal.replay()?;
        for record in records.by_ref() {
            let record = record?;
            let names = names_in(&record.payload);
            match (record.kind, names) {
                (Kind(DECISION), Some((global_id, participants))) => {
                    decided.insert(global_id.into_bytes(), Decision { lsn: record.lsn, participants });
                }
                (Kind(END), Some((global_id, _))) => drop(decided.remove(global_id.as_bytes())),
                _ => {
                    let what = format!(
                        "record {} is none of a coordinator: this is the log of something else",
                        record.lsn
                    );
                    return Err(Error::refused(&wal.log.path, what));
                }
            }
        }
        if let Some(loss) = records.losses().first() {
            let what = format!(
                "records {} to {} of these decisions were given up, and one may have been to commit what a participant is in doubt \
                 about: decide that by hand, and begin with an empty directory",
                loss.lsns.first, loss.lsns.last
            );
            return Err(Error::refused(&wal.log.path, what));
        }
        Ok(TwoPhaseCommit { wal, state: Mutex::new(State { decided, ..State::default() }) })
    }

    /// Commits what the participants have done, everywhere or nowhere.
    ///
    /// # Errors
    /// [`TwoPhaseError::RolledBack`] and [`TwoPhaseError::Unknown`]. A participant that cannot be told of a commit is no error: see
    /// [`TwoPhaseOutcome::untold`].
    pub fn commit(
        &self,
        participants: &mut [&mut dyn Participant],
    ) -> Result<TwoPhaseOutcome, TwoPhaseError> {
        let global_id = self.next_global_id().map_err(|error| rolled_back(None, error.into()))?;
        let at_work = AtWork::new(self, &global_id);
        let names: Vec<String> =
            participants.iter().map(|participant| participant.name().to_owned()).collect();
        if let Some(name) = names.iter().find(|name| name.is_empty() || name.len() > NAME_MAX) {
            let what =
                format!("the name of a participant has 1 to {NAME_MAX} bytes, and this one {}", name.len());
            let error = Error::refused(&self.wal.log.path, what);
            roll_back(participants, &global_id);
            return Err(rolled_back(Some(name.clone()), error.into()));
        }
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            let what = "two participants have one name, by which it is noted who knows of a decision: give each its own";
            let error = Error::refused(&self.wal.log.path, what.to_owned());
            roll_back(participants, &global_id);
            return Err(rolled_back(None, error.into()));
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("participants_told_before_the_decision") {
            for participant in participants.iter_mut() {
                let _ = participant.prepare(global_id.as_bytes());
            }
            for participant in participants.iter_mut() {
                let _ = participant.commit(global_id.as_bytes());
            }
        }
        for (index, name) in names.iter().enumerate() {
            let Some(participant) = participants.get_mut(index) else { break };
            if let Err(error) = participant.prepare(global_id.as_bytes()) {
                roll_back(participants, &global_id);
                return Err(rolled_back(Some(name.clone()), error));
            }
        }
        let decision = payload_of(&global_id, &names);
        let append = Append::new(&decision).kind(DECISION).durability(Durability::GroupCommit);
        let lsn = match self.wal.append_with(append) {
            Ok(lsn) => lsn,
            Err(error) if error.is_indeterminate() => {
                // The decision may be in the log: nobody who uses this handle may say that it is not.
                std::mem::forget(at_work);
                return Err(TwoPhaseError::Unknown(error));
            }
            Err(error) => {
                roll_back(participants, &global_id);
                return Err(rolled_back(None, error.into()));
            }
        };
        let decision = Decision { lsn, participants: names };
        self.locked().decided.insert(global_id.clone().into_bytes(), decision);
        let mut untold = Vec::new();
        for participant in participants {
            if let Err(error) = participant.commit(global_id.as_bytes()) {
                untold.push(Untold { participant: participant.name().to_owned(), error });
            }
        }
        if untold.is_empty() {
            self.end(global_id.as_bytes());
        }
        Ok(TwoPhaseOutcome { global_id: global_id.into_bytes(), untold })
    }

    /// Decides whatever this coordinator has left in doubt at these participants: what it decided to commit is committed, everything else
    /// rolled back. Call it with all participants after opening, and whenever one that could not be told is there again. What another
    /// coordinator prepared, or a call of [`TwoPhaseCommit::commit`] is at work for, is left alone.
    pub fn recover(&self, participants: &mut [&mut dyn Participant]) -> Resolved {
        let mut resolved = Resolved::default();
        let mut told = BTreeSet::new();
        let prefix = self.prefix();
        // Those that are decided now and not told: a participant that is asked later may have been told of others meanwhile.
        let pending: Vec<Vec<u8>> = {
            let state = self.locked();
            state.decided.keys().filter(|id| !state.at_work.contains_key(*id)).cloned().collect()
        };
        for participant in participants {
            match self.resolve(&mut **participant, prefix.as_bytes(), &mut resolved) {
                Ok(()) => drop(told.insert(participant.name().to_owned())),
                Err(error) => {
                    resolved.untold.push(Untold { participant: participant.name().to_owned(), error });
                }
            }
        }
        for global_id in pending {
            let is_over = self
                .locked()
                .decided
                .get(&global_id)
                .is_some_and(|decision| decision.participants.iter().all(|name| told.contains(name)));
            if is_over {
                self.end(&global_id);
            }
        }
        resolved
    }

    /// The global ids of the commits that some participant may not know of yet.
    pub fn untold(&self) -> Vec<Vec<u8>> {
        self.locked().decided.keys().cloned().collect()
    }

    /// Ends the coordinator's log, as [`Wal::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<()> {
        self.wal.close()
    }

    /// Decides what this participant has in doubt.
    fn resolve(
        &self,
        participant: &mut dyn Participant,
        prefix: &[u8],
        resolved: &mut Resolved,
    ) -> Result<(), BoxError> {
        for global_id in participant.in_doubt()? {
            if !global_id.starts_with(prefix) {
                continue;
            }
            let commit = {
                let state = self.locked();
                if state.at_work.contains_key(&global_id) {
                    continue;
                }
                state.decided.contains_key(&global_id)
            };
            if commit {
                participant.commit(&global_id)?;
                resolved.committed.insert(global_id);
            } else if participant.in_doubt()?.contains(&global_id) {
                // Asked again: a call that was at work when it was first asked may have committed it since, and have ended.
                participant.rollback(&global_id)?;
                resolved.rolled_back.insert(global_id);
            }
        }
        Ok(())
    }

    /// Every participant knows of this commit.
    fn end(&self, global_id: &[u8]) {
        let text = String::from_utf8_lossy(global_id);
        let payload = payload_of(&text, &[]);
        // If it is lost, the participants are asked once more.
        let ended = self.wal.append_with(Append::new(&payload).kind(END).durability(Durability::Async));
        let mut state = self.locked();
        state.decided.remove(global_id);
        state.ends += 1;
        if ended.is_err() || state.ends < ENDS_PER_CUT {
            return;
        }
        state.ends = 0;
        let pending = state.decided.values().map(|decision| decision.lsn);
        let coming = state.at_work.values().map(|lsn| lsn.next());
        // Read with the lock held: who begins later decides behind it.
        let needed = pending.chain(coming).min().unwrap_or(self.wal.durable_lsn());
        drop(state);
        // Without a cut the log is longer, and says the same.
        let _ = self.cut(needed);
    }

    /// Gives up what lies below `needed`.
    fn cut(&self, needed: Lsn) -> Result<()> {
        if needed <= Lsn::FIRST {
            return Ok(());
        }
        self.wal.checkpoint(needed.prev(), |_| Ok(()))?;
        self.wal.truncate_before(needed)?;
        Ok(())
    }

    /// What no other transaction of any coordinator is called.
    fn next_global_id(&self) -> Result<String> {
        Ok(format!("{}{}", self.prefix(), self.wal.log.next_transaction()?))
    }

    /// How the global ids of this coordinator begin.
    fn prefix(&self) -> String {
        format!("{}/", self.wal.recovery_report().log_id)
    }

    /// The state is whole between any two statements.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a call is at work for a transaction.
struct AtWork<'a> {
    coordinator: &'a TwoPhaseCommit,
    global_id: Vec<u8>,
}

impl<'a> AtWork<'a> {
    fn new(coordinator: &'a TwoPhaseCommit, global_id: &str) -> AtWork<'a> {
        let global_id = global_id.as_bytes().to_vec();
        coordinator.locked().at_work.insert(global_id.clone(), coordinator.wal.last_lsn());
        AtWork { coordinator, global_id }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.coordinator.locked().at_work.remove(&self.global_id);
    }
}

fn rolled_back(participant: Option<String>, error: BoxError) -> TwoPhaseError {
    TwoPhaseError::RolledBack { participant, error }
}

/// Tells all to roll back. Who cannot be told is in doubt, and no decision is there for what he is asked about.
fn roll_back(participants: &mut [&mut dyn Participant], global_id: &str) {
    for participant in participants {
        let _ = participant.rollback(global_id.as_bytes());
    }
}

/// A global id and names, each behind its length in one byte.
fn payload_of(global_id: &str, names: &[String]) -> Vec<u8> {
    let mut payload = Vec::new();
    for text in std::iter::once(global_id).chain(names.iter().map(String::as_str)) {
        payload.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        payload.extend_from_slice(text.as_bytes());
    }
    payload
}

/// What [`payload_of`] made.
fn names_in(mut payload: &[u8]) -> Option<(String, Vec<String>)> {
    let mut texts = Vec::new();
    while let Some((&len, rest)) = payload.split_first() {
        let (text, behind) = rest.split_at_checked(usize::from(len))?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        payload = behind;
    }
    let mut texts = texts.into_iter();
    Some((texts.next()?, texts.collect()))
}
