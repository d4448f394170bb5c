//! Partitioned replay as calls of the handles: one thread reads, others apply.
//!
//! The rule: the states end as those of a replay by one thread, and so does the error. `docs/recovery.md` has the argument.

use std::sync::Arc;

use braidlog_recovery::{BoxError, PartitionHow, RecordRef, Replayed, Route, replay_partitioned};
use braidlog_storage::Clock;

use crate::read_only::system_clock;
use crate::replay::Checked;
use crate::{Error, ReadOnly, Records, Replay, Result, Wal};

/// # Partitioned replay
impl Wal {
    /// Replays into `states` on several threads. Each record goes to the state of its key: `key` says which that is, on the
    /// caller's thread, and [`partition_of`](crate::partition_of) which state a key has. Records of one key are applied in
    /// the order in which they take effect, those of different keys beside one another; a record that concerns all keys is routed to
    /// [all](Route::All) states. It pays where applying a record costs more than reading it, some 100 ns; take as many
    /// states as the machine has processors, or more.
    ///
    /// A batch is there as a whole or not at all, but its records are applied one by one, so states that are looked at
    /// meanwhile may have a part of it. When the call returns, all that it read is applied.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use braidlog::{Replay, Wal, partition_of};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("wal");
    /// let wal = Wal::options().open(path)?;
    /// for (account, amount) in [(1_u64, 10_u64), (2, 20), (1, 5)] {
    ///     wal.append([account.to_le_bytes(), amount.to_le_bytes()].concat())?;
    /// }
    /// let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    /// let mut states = vec![BTreeMap::<u64, u64>::new(); 4];
    /// let done = wal.replay_partitioned(
    ///     Replay::new(),
    ///     &mut states,
    ///     |record| number(&record.payload[..8]),
    ///     |state, record| {
    ///         *state.entry(number(&record.payload[..8])).or_default() += number(&record.payload[8..]);
    ///         Ok(())
    ///     },
    /// )?;
    /// assert_eq!(done.records, 3);
    /// assert_eq!(states[partition_of(1, 4)][&1], 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Wal::replay_with`] and [`Records::next_ref`]; [`Application`](crate::ErrorKind::Application) with the error of
    /// `apply`, and [`Error::lsns`] with the record: of several the first, as one thread would have met it;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without a state. [`Error::applied_to`] says up to where everything that takes
    /// [effect](RecordRef::effective_at) was applied. Above it some was and some was not, so whoever goes on with the same states must tell by
    /// that place and the LSN; new states can begin again.
    ///
    /// # Panics
    /// If `key` or `apply` does, when all threads have ended.
    pub fn replay_partitioned<S, R>(
        &self,
        replay: Replay,
        states: &mut [S],
        key: impl FnMut(&RecordRef<'_>) -> R,
        apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync,
    ) -> Result<Replayed>
    where
        S: Send,
        R: Into<Route>,
    {
        let mut how = replay.check()?;
        let records = self.iter(self.replay_range(&how)?)?.effects(how.held_bytes());
        if !self.log.background_threads {
            how.threads = 1;
        }
        run(records, &how, &self.log.clock, states, key, apply)
    }
}

/// # Partitioned replay
impl ReadOnly {
    /// Replays into `states` on several threads, as [`Wal::replay_partitioned`].
    ///
    /// # Errors
    /// As [`Wal::replay_partitioned`] and [`ReadOnly::replay_with`].
    ///
    /// # Panics
    /// As [`Wal::replay_partitioned`].
    pub fn replay_partitioned<S, R>(
        &self,
        replay: Replay,
        states: &mut [S],
        key: impl FnMut(&RecordRef<'_>) -> R,
        apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync,
    ) -> Result<Replayed>
    where
        S: Send,
        R: Into<Route>,
    {
        let how = replay.check()?;
        let records = self.iter(self.replay_range(&how)?)?.effects(how.held_bytes());
        run(records, &how, &system_clock(), states, key, apply)
    }
}

fn run<S, R>(
    records: Records,
    how: &Checked,
    clock: &Arc<dyn Clock>,
    states: &mut [S],
    key: impl FnMut(&RecordRef<'_>) -> R,
    apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync,
) -> Result<Replayed>
where
    S: Send,
    R: Into<Route>,
{
    if states.is_empty() {
        return Err(Error::option("states", "empty", "each record needs one to be applied to"));
    }
    let (ahead, memory_bytes) = how.ahead_and_handed_over();
    let (path, records) = records.into_inner();
    let progress = how.progress(clock);
    let how = PartitionHow { threads: how.threads, memory_bytes, progress };
    replay_partitioned(records.read_ahead(ahead), how, states, key, apply)
        .map_err(|stopped| Error::replay(&path, stopped))
}
