//! When a checkpoint is due.

use std::time::Duration;

use crate::Result;
use crate::options::{duration, within};

/// When a checkpoint is due: as soon as one of its limits is reached, counted from the last checkpoint, and never
/// while there is no new record. Set fields or chain the methods of the same names.
///
/// It says when; taking one is up to the application: it asks [`Wal::checkpoint_due`](crate::Wal::checkpoint_due),
/// listens for [`Event::CheckpointDue`](crate::Event::CheckpointDue), or registers with
/// [`Wal::set_snapshot_source`](crate::Wal::set_snapshot_source) what takes one on the maintenance thread.
///
/// ```
/// use braidlog::{CheckpointPolicy, Wal};
///
/// let policy = CheckpointPolicy::default().records(Some(1_000_000)).bytes(Some(256 << 20));
/// let options = Wal::options().checkpoint_policy(policy);
/// # drop(options);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CheckpointPolicy {
    /// So long after the last checkpoint, or after the log was opened: alone it is never reached by a program whose runs
    /// are all shorter. `records` counts over openings.
    ///
    /// Default: 5 min. Minimum: 1 ms. Maximum: 100 years of 365 days.
    pub interval: Option<Duration>,
    /// When so many records are durable that the last checkpoint does not hold.
    ///
    /// Default: 1,000. Minimum: 1.
    pub records: Option<u64>,
    /// When so many bytes were written to the log since the last checkpoint, or since the log was opened; as for
    /// `interval`, what earlier runs wrote does not count.
    ///
    /// Default: none. Minimum: 1.
    pub bytes: Option<u64>,
}

impl Default for CheckpointPolicy {
    fn default() -> CheckpointPolicy {
        CheckpointPolicy { interval: Some(Duration::from_secs(300)), records: Some(1000), bytes: None }
    }
}

impl CheckpointPolicy {
    /// No checkpoint is ever due.
    #[must_use]
    pub const fn never() -> CheckpointPolicy {
        CheckpointPolicy { interval: None, records: None, bytes: None }
    }

    /// Sets [`interval`](CheckpointPolicy#structfield.interval).
    #[must_use]
    pub const fn interval(self, interval: Option<Duration>) -> CheckpointPolicy {
        CheckpointPolicy { interval, ..self }
    }

    /// Sets [`records`](CheckpointPolicy#structfield.records).
    #[must_use]
    pub const fn records(self, records: Option<u64>) -> CheckpointPolicy {
        CheckpointPolicy { records, ..self }
    }

    /// Sets [`bytes`](CheckpointPolicy#structfield.bytes).
    #[must_use]
    pub const fn bytes(self, bytes: Option<u64>) -> CheckpointPolicy {
        CheckpointPolicy { bytes, ..self }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(interval) = self.interval {
            let most = Duration::from_secs(100 * 365 * 24 * 60 * 60);
            duration("checkpoint_policy.interval", interval, Duration::from_millis(1), most)?;
        }
        if let Some(records) = self.records {
            within("checkpoint_policy.records", records, 1, u64::MAX)?;
        }
        if let Some(bytes) = self.bytes {
            within("checkpoint_policy.bytes", bytes, 1, u64::MAX)?;
        }
        Ok(())
    }

    /// Whether one is due, so long and so many records and bytes after the last.
    pub(crate) fn is_due(&self, since: Duration, records: u64, bytes: u64) -> bool {
        let reached = self.interval.is_some_and(|most| since >= most)
            || self.records.is_some_and(|most| records >= most)
            || self.bytes.is_some_and(|most| bytes >= most);
        records > 0 && reached
    }

    /// Whether one may ever be due.
    pub(crate) fn is_ever_due(&self) -> bool {
        *self != CheckpointPolicy::never()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_limit_makes_one_due_and_none_does_without_a_new_record() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let policy = CheckpointPolicy::default();
        assert!(policy.is_due(minutes(5), 1, 0));
        assert!(!policy.is_due(minutes(4), 999, u64::MAX));
        assert!(policy.is_due(Duration::ZERO, 1000, 0));
        assert!(!policy.is_due(minutes(60), 0, 0));
        assert!(policy.bytes(Some(10)).is_due(Duration::ZERO, 1, 10));
        assert!(!CheckpointPolicy::never().is_due(minutes(60), u64::MAX, u64::MAX));
    }
}
