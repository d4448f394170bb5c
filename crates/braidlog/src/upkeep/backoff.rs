//! When a task that failed is tried again: soon, and then ever later, so that a disk that is in trouble is left alone.

use std::time::Duration;

/// How long after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// How long at most.
const MOST: Duration = Duration::from_secs(300);

/// The failures of one task in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Backoff {
    /// How many.
    pub(crate) failures: u32,
    /// When it is tried again, on the log's monotonic clock.
    retry_at: Duration,
}

impl Backoff {
    /// Whether the task may be tried, if it is due.
    pub(crate) fn allows(&self, now: Duration) -> bool {
        self.failures == 0 || now >= self.retry_at
    }

    /// How long until it is tried again; `None` if it has not failed.
    pub(crate) fn remaining(&self, now: Duration) -> Option<Duration> {
        (self.failures > 0).then(|| self.retry_at.saturating_sub(now))
    }

    /// Counts a failure; after which time it is tried again.
    pub(crate) fn failed(&mut self, now: Duration) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures);
        let delay = FIRST.saturating_mul(doubled).min(MOST);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.saturating_add(delay);
        delay
    }

    /// Counts a success; whether it ended a row of failures.
    pub(crate) fn succeeded(&mut self) -> bool {
        let had_failed = self.failures > 0;
        *self = Backoff::default();
        had_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_ever_later_up_to_five_minutes_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut now = Duration::ZERO;
        let mut delays = Vec::new();
        for _ in 0..11 {
            assert!(backoff.allows(now));
            let delay = backoff.failed(now);
            assert!(!backoff.allows(now) && !backoff.allows(now + delay - Duration::from_millis(1)));
            assert_eq!(backoff.remaining(now), Some(delay));
            delays.push(delay.as_secs());
            now += delay;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(backoff.succeeded());
        assert!(!backoff.succeeded());
        assert_eq!(backoff.failed(now), FIRST);
    }
}
