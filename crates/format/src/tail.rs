//! The one value that passes from recovery to the engine.

use crate::{Incarnation, LogId, Lsn, Predecessor, TxId};

/// Where a recovered log ends and how it goes on: recovery ends by making one, the engine begins by
/// taking one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogTail {
    /// The log's identity, drawn anew for a new log.
    pub log_id: LogId,
    /// The incarnation that is about to write: one more than any found.
    pub incarnation: Incarnation,
    /// The LSN that the first new record takes.
    pub next_lsn: Lsn,
    /// The last segment that holds an LSN, as the next header has to name it; `None` in a log without
    /// records.
    pub predecessor: Option<Predecessor>,
    /// The timestamp below which no new entry's may lie.
    pub last_timestamp_ns: u64,
    /// The transactions that are prepared and not decided, by id.
    pub in_doubt: Vec<OpenTransaction>,
    /// A segment file that holds no LSN stands under the name that the next segment takes, and is to be
    /// replaced by it.
    pub replaces_empty: bool,
}

/// A transaction that has begun and has no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenTransaction {
    /// Its id.
    pub transaction: TxId,
    /// The LSN of its TxBegin.
    pub begin: Lsn,
}
