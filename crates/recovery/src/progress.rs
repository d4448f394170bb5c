//! How far a replay has come, told while it goes on.
//!
//! The rule: what is told never runs ahead. Every record up to the LSN that it names has been applied, so who notes that
//! LSN durably, after the state, can go on behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_storage::Clock;

/// Bytes of the log between two calls.
const PROGRESS_LEN: u64 = 1 << 20;

/// How far a replay has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReplayProgress {
    /// Every record of the range up to here has been applied; the one before the range if none has been. Of an iterator,
    /// every record that was given before the one that is asked for now.
    pub applied_to: Lsn,
    /// The last record of the range.
    pub last: Lsn,
    /// LSNs of the range up to `applied_to`.
    pub records: u64,
    /// Bytes of segments that were read, headers of entries included.
    pub log_bytes: u64,
    /// How long that took.
    pub elapsed: Duration,
}

impl ReplayProgress {
    /// LSNs of the range that are still to come.
    pub fn records_left(&self) -> u64 {
        self.last.0.saturating_sub(self.applied_to.0)
    }

    /// How long they will take, if they take as long as those before; `None` before the first one.
    pub fn time_left(&self) -> Option<Duration> {
        let share = (self.records > 0).then(|| self.records_left() as f64 / self.records as f64)?;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * share).ok()
    }
}

/// Who is told how far a replay has come, and by which clock.
#[derive(Clone)]
pub struct Progress {
    /// Called about once for each MiB of the log, and at the end.
    pub tell: Arc<dyn Fn(&ReplayProgress) + Send + Sync>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// The progress of one replay.
#[derive(Debug)]
pub(crate) struct Teller {
    how: Progress,
    began: Duration,
    /// The record before the range.
    before: Lsn,
    last: Lsn,
    /// How many bytes had been read when it was last told.
    told_at: u64,
}

impl Teller {
    /// Of a replay that begins now, behind the record `before`, and ends with `last`.
    pub(crate) fn begin(how: Progress, before: Lsn, last: Lsn) -> Teller {
        let began = how.clock.monotonic();
        Teller { how, began, before, last, told_at: 0 }
    }

    /// Whether it is time to tell, with so many bytes read.
    #[inline]
    pub(crate) fn is_due(&self, log_bytes: u64) -> bool {
        log_bytes.saturating_sub(self.told_at) >= PROGRESS_LEN
    }

    /// Tells that every record up to `applied_to` has been applied.
    pub(crate) fn tell(&mut self, log_bytes: u64, applied_to: Lsn) {
        self.told_at = log_bytes;
        let Teller { how, began, before, last, .. } = self;
        let last = (*last).max(*before);
        let applied_to = applied_to.max(*before).min(last);
        (how.tell)(&ReplayProgress {
            applied_to,
            last,
            records: applied_to.0 - before.0,
            log_bytes,
            elapsed: how.clock.monotonic().saturating_sub(*began),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_records_and_by_the_time_of_those_before() {
        let now = ReplayProgress {
            applied_to: Lsn(25),
            last: Lsn(100),
            records: 20,
            log_bytes: 1 << 20,
            elapsed: Duration::from_secs(4),
        };
        assert_eq!(now.records_left(), 75);
        assert_eq!(now.time_left(), Some(Duration::from_secs(15)));
        assert_eq!(ReplayProgress { records: 0, ..now }.time_left(), None);
    }
}
