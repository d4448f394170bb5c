//! A log as a reader sees it: which records are visible, and where they are.

use std::sync::Arc;

use braidlog_format::{Incarnation, Lsn};
use braidlog_storage::LogDir;

use crate::{Record, Records, RecoveryError};

/// A log opened for reading. Any number of threads may use one at once; it changes nothing in the
/// directory.
#[derive(Debug)]
pub struct LogReader {
    dir: Arc<dyn LogDir>,
}

/// A segment, as a reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Name of the file.
    pub name: String,
    /// The first LSN that the segment holds, or would hold.
    pub base: Lsn,
    /// The last LSN that is visible in it; `None` if there is none.
    pub last: Option<Lsn>,
    /// Bytes of the file, space allocated ahead included.
    pub len_bytes: u64,
    /// Whether a valid seal ends it.
    pub sealed: bool,
    /// The opening of the log that wrote it.
    pub incarnation: Incarnation,
    /// When it was created, in nanoseconds since the Unix epoch.
    pub created_at_ns: u64,
    /// Where it stands in its life.
    pub state: SegmentState,
}

/// Where a segment stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SegmentState {
    /// A writer has it under the pen.
    Writing,
    /// Nothing will be written to it any more.
    Finished,
}

impl LogReader {
    /// A reader in the writer's own process: the caller says with each call how far the log is durable.
    pub fn of_writer(dir: Arc<dyn LogDir>) -> LogReader {
        LogReader { dir }
    }

    /// A reader of a log that another process may be writing (it shows what a sync mark says is durable) or
    /// that nobody writes (it shows what recovery would keep). It changes no byte; the last segment of a
    /// log that nobody writes is synced, so that what is shown stays.
    ///
    /// # Errors
    /// What [`recover`](crate::recover) would say, see [`RecoveryError`].
    pub fn open_read_only(dir: Arc<dyn LogDir>) -> Result<LogReader, RecoveryError> {
        Ok(LogReader { dir })
    }

    /// The last LSN that is visible now, [`Lsn::ZERO`] if there is none. It looks again at each call, and
    /// never goes back.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn last_visible(&self) -> Result<Lsn, RecoveryError> {
        Ok(Lsn::ZERO)
    }

    /// The record with this LSN; `None` if it lies beyond `up_to` or is not visible.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn read(&self, lsn: Lsn, up_to: Lsn) -> Result<Option<Record>, RecoveryError> {
        if lsn > up_to { Ok(None) } else { self.iter(lsn, lsn)?.next().transpose() }
    }

    /// The records from `from` to `to`, both included, as far as they are visible now.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn iter(&self, from: Lsn, to: Lsn) -> Result<Records, RecoveryError> {
        let _ = (from, to);
        Ok(Records { dir: Arc::clone(&self.dir) })
    }

    /// The segments of the log, in LSN order.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, RecoveryError> {
        Ok(Vec::new())
    }
}
