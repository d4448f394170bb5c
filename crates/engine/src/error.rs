//! Why an append, a wait or a start did not succeed, with the facts that the facade turns into advice.

use std::io;
use std::sync::Arc;

use braidlog_format::{Lsn, LsnRange};
use thiserror::Error;

use crate::failure::Failure;

/// What went wrong in the engine.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no room in the stripes just now. Nothing was accepted.
    #[error("no room in the stripes just now")]
    Full,
    /// The device is full. Nothing was accepted; appends work again when space returns.
    #[error("no space left on the device")]
    NoSpace,
    /// The record or batch is over the limit.
    #[error("{len} bytes where at most {max} are accepted")]
    TooLarge {
        /// Bytes given, as the limit counts them.
        len: u64,
        /// Bytes accepted.
        max: u64,
    },
    /// The kind belongs to the log.
    #[error("kind {kind} is reserved: kinds 0 to 239 are free")]
    ReservedKind {
        /// The kind given.
        kind: u8,
    },
    /// A batch without entries takes no LSN.
    #[error("the batch is empty")]
    EmptyBatch,
    /// The deadline passed.
    #[error("timed out")]
    TimedOut {
        /// `None`: nothing was accepted. `Some`: accepted, and it may become durable: indeterminate.
        lsns: Option<LsnRange>,
    },
    /// The log is closed. Nothing was accepted.
    #[error("the log is closed")]
    Closed,
    /// The log has failed for good.
    #[error("the log has failed: {failure}")]
    Failed {
        /// The first failure.
        failure: Failure,
        /// `None`: nothing was accepted. `Some`: accepted, and it may be found after a restart:
        /// indeterminate.
        lsns: Option<LsnRange>,
    },
    /// The file system lacks what was asked for explicitly.
    #[error("the file system does not support {what}")]
    UnsupportedIo {
        /// The mode asked for.
        what: &'static str,
        /// What the storage said.
        source: Arc<io::Error>,
    },
    /// The log could not be started, or a file for a very large record not be made. Nothing was accepted.
    #[error("could not {what}")]
    Start {
        /// What could not be done.
        what: &'static str,
        /// What the storage said.
        source: Arc<io::Error>,
    },
    /// The LSN was not given out yet.
    #[error("LSN {lsn} was not given out yet, the last is {last}")]
    UnknownLsn {
        /// The LSN asked for.
        lsn: Lsn,
        /// The last LSN given out.
        last: Lsn,
    },
}
