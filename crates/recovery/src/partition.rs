//! Partitioned replay: one thread reads, the application says to which key each record belongs, and others apply:
//! records of one key in the order in which they take effect, those of different keys beside one another.
//!
//! # The rule
//! The states end as those of a replay by one thread. Each partition has one state and one thread, and that thread gets the
//! partition's records in the order in which they take effect. If records cannot be applied, the error is the one that one
//! thread would have met: that of the first of them. Every record before it is applied by then, and none of its partition
//! behind it.
//!
//! # Why the first is met
//! The reader numbers records as it reads them: their LSNs tell no order, for a transaction's take effect with its commit. A
//! failure lowers `stop_at` to its number. A thread leaves out a record only if it lies at or above `stop_at`, which never
//! rises; so all records below the last value are applied, or fail and lower it. The reader hands over what it has read
//! before it ends, whatever ended it.
//!
//! # Memory
//! Records are copied into chunks, of which there is a fixed number ([`board`]); who reads waits for one. A record that is
//! larger than a chunk has a buffer of its own, one at a time.

mod board;
mod chunk;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use braidlog_format::Lsn;

use self::board::{Board, Failed, Hands};
use crate::progress::Teller;
use crate::{BoxError, Loss, Progress, RecordRef, Records, RecoveryError, RestoreError};

/// Which partitions a record concerns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Route {
    /// The one of this key. All records of one key go to one partition, which other keys share.
    Key(u64),
    /// Each of them: a record that concerns all keys, such as one that empties a table. It is applied once in each
    /// partition, in its place among that partition's records.
    All,
}

impl From<u64> for Route {
    fn from(key: u64) -> Route {
        Route::Key(key)
    }
}

/// The partition, of so many, to which the records of a key go: 0 to one less than there are, and 0 if there is none. It
/// stays the same within a version of this crate.
#[inline]
pub fn partition_of(key: u64, partitions: usize) -> usize {
    // Upper bits of the product depend on all bits of the key, whatever it is a multiple of.
    let mixed = (key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = mixed ^ mixed >> 32;
    ((u128::from(mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * partitions as u128) >> 64) as usize
}

/// How a partitioned replay goes about it.
#[derive(Clone, Debug)]
pub struct PartitionHow {
    /// Threads that apply; more than there are partitions are not used. With one, the caller's applies.
    pub threads: usize,
    /// Bytes of all chunks together; at least two small ones for each thread are made.
    pub memory_bytes: usize,
    /// Who is told how far it has come, on the caller's thread.
    pub progress: Option<Progress>,
}

/// What a replay did that came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// All that takes effect in the range, up to here, was applied; the LSN before the range if it was empty.
    pub applied_to: Lsn,
    /// Records that were applied; one that concerned all partitions counts once.
    pub records: u64,
    /// Bytes of their payloads.
    pub record_bytes: u64,
    /// LSNs of the range that were given up once, as the log recorded it.
    pub losses: Vec<Loss>,
}

impl Replayed {
    fn nothing(before: Lsn) -> Replayed {
        Replayed { applied_to: before, records: 0, record_bytes: 0, losses: Vec::new() }
    }
}

/// A replay that did not come to its end.
#[derive(Debug)]
pub struct ReplayStopped {
    /// All that takes effect in the range up to here was applied.
    pub applied_to: Lsn,
    /// Why it ended.
    pub error: RestoreError,
}

/// Why a record was not applied.
enum Failure {
    Application(BoxError),
    Panic(Box<dyn Any + Send>),
}

/// Applies `records` to `states`, one for each partition: each record to that of its [key](Route).
///
/// # Errors
/// [`RestoreError::Application`] of the first record that was not applied, [`RestoreError::Recovery`] if the log could not
/// be read. Above [`ReplayStopped::applied_to`] some records of other partitions may have been applied.
///
/// # Panics
/// If `key` or `apply` do, when all threads have ended, or if there is no state.
pub fn replay_partitioned<S, R>(
    records: Records,
    how: PartitionHow,
    states: &mut [S],
    key: impl FnMut(&RecordRef<'_>) -> R,
    apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync,
) -> Result<Replayed, ReplayStopped>
where
    S: Send,
    R: Into<Route>,
{
    assert!(!states.is_empty(), "records need a state to be applied to");
    let threads = how.threads.min(states.len());
    if threads > 1 {
        beside_one_another(records, how, threads, states, key, apply)
    } else {
        one_by_one(records, how.progress, states, key, apply)
    }
}

/// The caller's thread reads and applies.
fn one_by_one<S, R: Into<Route>>(
    mut records: Records,
    progress: Option<Progress>,
    states: &mut [S],
    mut key: impl FnMut(&RecordRef<'_>) -> R,
    apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError>,
) -> Result<Replayed, ReplayStopped> {
    if let Some(progress) = progress {
        records = records.progress(progress);
    }
    let mut done = Replayed::nothing(records.applied_to());
    let stopped = |done: Replayed, error| Err(ReplayStopped { applied_to: done.applied_to, error });
    while let Some(record) = records.next_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return stopped(done, error.into()),
        };
        let len = record.payload.len() as u64;
        let applied = match key(&record).into() {
            Route::Key(key) => {
                let partition = partition_of(key, states.len());
                states.get_mut(partition).map_or(Ok(()), |state| apply(state, record))
            }
            Route::All => states.iter_mut().try_for_each(|state| apply(state, record)),
        };
        if let Err(source) = applied {
            return stopped(done, RestoreError::Application { lsn: Some(record.lsn), source });
        }
        done.records += 1;
        done.record_bytes = done.record_bytes.saturating_add(len);
        done.applied_to = records.applied_to();
    }
    done.losses = records.losses().to_vec();
    Ok(done)
}

/// The caller's thread reads, `threads` others apply.
fn beside_one_another<S, R>(
    records: Records,
    how: PartitionHow,
    threads: usize,
    states: &mut [S],
    key: impl FnMut(&RecordRef<'_>) -> R,
    apply: impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync,
) -> Result<Replayed, ReplayStopped>
where
    S: Send,
    R: Into<Route>,
{
    let before = records.applied_to();
    let board = Board::new(threads, how.memory_bytes);
    let partitions = states.len();
    let mut of_thread: Vec<Vec<&mut S>> = (0..threads).map(|_| Vec::new()).collect();
    for (partition, state) in states.iter_mut().enumerate() {
        if let Some(of_thread) = of_thread.get_mut(partition % threads) {
            of_thread.push(state);
        }
    }
    let (read, failed) = thread::scope(|scope| {
        let (board, apply) = (&board, &apply);
        let mut running = Vec::new();
        // Ends the threads, also if one cannot be made or the key panics.
        let ends = EndsWhenDropped(board);
        for (index, states) in of_thread.into_iter().enumerate() {
            let builder = thread::Builder::new().name("braidlog-apply".to_owned());
            let work = move || work(board, index, threads, states, apply);
            match builder.spawn_scoped(scope, work) {
                Ok(thread) => running.push(thread),
                Err(source) => {
                    let file = "the replay".to_owned();
                    let error = RecoveryError::Io { operation: "make a thread for", file, source };
                    return ((Replayed::nothing(before), Some(error)), None);
                }
            }
        }
        let read = read(records, board, threads, partitions, how.progress, key);
        drop(ends);
        for thread in running {
            // What the application did there was caught.
            let _ = thread.join();
        }
        (read, board.take_failure())
    });
    match (read, failed) {
        (_, Some(Failed { why: Failure::Panic(payload), .. })) => resume_unwind(payload),
        (_, Some(Failed { why: Failure::Application(source), lsn, effective_at, .. })) => {
            let error = RestoreError::Application { lsn: Some(lsn), source };
            Err(ReplayStopped { applied_to: effective_at.prev().max(before), error })
        }
        ((read, Some(error)), None) => {
            Err(ReplayStopped { applied_to: read.applied_to, error: error.into() })
        }
        ((read, None), None) => Ok(read),
    }
}

/// Reads records and hands them over, until the range ends, the log cannot be read, or a record was not applied.
fn read<R: Into<Route>>(
    mut records: Records,
    board: &Board,
    threads: usize,
    partitions: usize,
    progress: Option<Progress>,
    mut key: impl FnMut(&RecordRef<'_>) -> R,
) -> (Replayed, Option<RecoveryError>) {
    let mut teller = progress.map(|how| Teller::begin(how, records.applied_to(), records.last_lsn()));
    let mut read = Replayed::nothing(records.applied_to());
    let mut hands = Hands::new(board, threads);
    let mut error = None;
    while let Some(record) = records.next_ref() {
        let record = match record {
            Ok(record) => record,
            Err(found) => {
                error = Some(found);
                break;
            }
        };
        let (order, len) = (read.records, record.payload.len() as u64);
        let handed_over = match key(&record).into() {
            Route::Key(key) => {
                let partition = partition_of(key, partitions);
                hands.put(partition % threads, order, Some(partition), &record)
            }
            Route::All => {
                (0..threads).fold(false, |handed, thread| hands.put(thread, order, None, &record) | handed)
            }
        };
        read.records += 1;
        read.record_bytes = read.record_bytes.saturating_add(len);
        read.applied_to = records.applied_to();
        if handed_over {
            if board.has_stopped() {
                break;
            }
            if let Some(teller) = teller.as_mut().filter(|teller| teller.is_due(records.passed_bytes())) {
                teller.tell(records.passed_bytes(), hands.applied_to(read.applied_to));
            }
        }
    }
    hands.hand_over_all();
    board.wait_until_idle();
    if let Some(teller) = &mut teller {
        teller.tell(records.passed_bytes(), hands.applied_to(read.applied_to));
    }
    read.losses = records.losses().to_vec();
    (read, error)
}

/// What a thread does that applies: of every `threads` partitions, from `index` on, one is its own.
fn work<S>(
    board: &Board,
    index: usize,
    threads: usize,
    mut states: Vec<&mut S>,
    apply: &(impl Fn(&mut S, RecordRef<'_>) -> Result<(), BoxError> + Sync),
) {
    while let Some(chunk) = board.take(index) {
        let mut at = (0, Lsn::ZERO, Lsn::ZERO);
        let applied = catch_unwind(AssertUnwindSafe(|| -> Result<(), BoxError> {
            for (order, partition, record) in chunk.records() {
                if board.is_left_out(order) {
                    break;
                }
                at = (order, record.lsn, record.effective_at);
                match partition {
                    Some(partition) => {
                        states.get_mut(partition / threads).map_or(Ok(()), |state| apply(state, record))?;
                    }
                    None => states.iter_mut().try_for_each(|state| apply(state, record))?,
                }
            }
            Ok(())
        }));
        let failure = match applied {
            Ok(Ok(())) => None,
            Ok(Err(source)) => Some(Failure::Application(source)),
            Err(payload) => Some(Failure::Panic(payload)),
        };
        if let Some(why) = failure {
            let (order, lsn, effective_at) = at;
            board.fail(Failed { order, lsn, effective_at, why });
        }
        board.give_back(index, chunk);
    }
}

/// Ends the threads when they have applied what was handed over.
struct EndsWhenDropped<'a>(&'a Board);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_over_the_partitions_whatever_they_are_multiples_of() {
        for partitions in [1, 2, 3, 7, 16] {
            for step in [1_u64, 2, 8, 1000, 4096, 1 << 32, 1 << 50] {
                let mut counts = vec![0_u32; partitions];
                for number in 0..8000 {
                    counts[partition_of(number * step, partitions)] += 1;
                }
                let fair = 8000 / partitions as u32;
                let spread = counts.iter().all(|&count| count > fair / 2 && count < fair * 2);
                assert!(spread, "{partitions} partitions, multiples of {step}: {counts:?}");
            }
        }
    }
}
