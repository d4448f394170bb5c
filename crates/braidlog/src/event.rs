//! What a log tells of its upkeep while it is open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;

use crate::Error;

/// Something that happened in the upkeep of a log, told to [`Options::on_event`](crate::Options::on_event).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A checkpoint is due by the [`CheckpointPolicy`](crate::CheckpointPolicy). Told once, until one is taken.
    CheckpointDue {
        /// The last durable LSN.
        durable: Lsn,
        /// Durable records that the last checkpoint does not hold.
        records: u64,
    },
    /// A checkpoint is complete and durable.
    CheckpointTaken {
        /// The last LSN whose effect it holds.
        lsn: Lsn,
    },
    /// The log starts later now.
    Truncated {
        /// Its first LSN.
        first_lsn: Lsn,
        /// Segments that went.
        segments: u64,
        /// How many of them will be used again as files of new segments.
        recycled: u64,
        /// Bytes of their files.
        bytes: u64,
    },
    /// A segment was compressed.
    Compressed {
        /// Its base LSN.
        base: Lsn,
        /// Bytes of its file before.
        plain_bytes: u64,
        /// Bytes of its file now.
        compressed_bytes: u64,
    },
    /// The size of the log, measured against [`max_log_bytes`](crate::Options#structfield.max_log_bytes), is in
    /// another state.
    SizeChanged {
        /// The state now.
        state: SizeState,
        /// Bytes of all files of the log.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A task of the upkeep has failed. It is tried again, after 1 s at first and then after twice as long each time,
    /// up to 5 min; told at each failure.
    UpkeepFailed {
        /// Which task.
        task: UpkeepTask,
        /// Why.
        error: Error,
        /// After which time it is tried again.
        retry_after: Duration,
    },
    /// A task that had failed has succeeded.
    UpkeepRecovered {
        /// Which task.
        task: UpkeepTask,
    },
}

/// A task of the upkeep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum UpkeepTask {
    /// Taking an automatic checkpoint.
    Checkpoint,
    /// Giving up segments and checkpoints that the [`Retention`](crate::Retention) does not keep.
    Retention,
    /// Compressing finished segments.
    Compression,
    /// Measuring the log.
    Size,
}

impl UpkeepTask {
    /// All of them, in the order in which they are done.
    pub(crate) const ALL: [UpkeepTask; 4] =
        [UpkeepTask::Checkpoint, UpkeepTask::Retention, UpkeepTask::Compression, UpkeepTask::Size];
}

impl fmt::Display for UpkeepTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UpkeepTask::Checkpoint => "checkpoint",
            UpkeepTask::Retention => "retention",
            UpkeepTask::Compression => "compression",
            UpkeepTask::Size => "size",
        })
    }
}

/// How large a log is against [`max_log_bytes`](crate::Options#structfield.max_log_bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum SizeState {
    /// Below 80 % of the limit, or there is no limit.
    #[default]
    Fine,
    /// At 80 % of the limit or above.
    Warning,
    /// At 90 % of the limit or above.
    Critical,
}

impl SizeState {
    pub(crate) fn of(bytes: u64, limit: Option<u64>) -> SizeState {
        let Some(limit) = limit else { return SizeState::Fine };
        // Without an overflow, and a limit of tenths that is rounded up.
        let tenths = |tenths: u64| u128::from(bytes) * 10 >= u128::from(limit) * u128::from(tenths);
        match () {
            () if tenths(9) => SizeState::Critical,
            () if tenths(8) => SizeState::Warning,
            () => SizeState::Fine,
        }
    }
}

impl fmt::Display for SizeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SizeState::Fine => "fine",
            SizeState::Warning => "warning",
            SizeState::Critical => "critical",
        })
    }
}

/// Who is told of [`Event`]s. Made by [`Options::on_event`](crate::Options::on_event).
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(&Event) + Send + Sync>);

impl Listener {
    /// One that calls `listener`.
    pub fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Listener {
        Listener(Arc::new(listener))
    }

    pub(crate) fn tell(&self, event: &Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_a_warning_at_eight_tenths_and_critical_at_nine() {
        let state = |bytes| SizeState::of(bytes, Some(1000));
        assert_eq!([799, 800, 899, 900, 5000].map(state), {
            use SizeState::{Critical, Fine, Warning};
            [Fine, Warning, Warning, Critical, Critical]
        });
        assert_eq!(SizeState::of(u64::MAX, Some(u64::MAX)), SizeState::Critical);
        assert_eq!(SizeState::of(u64::MAX, None), SizeState::Fine);
    }
}
