//! A clock that moves when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use braidlog_storage::Clock;

/// A clock that stands still until [`advance`](SimClock::advance) moves it.
#[derive(Debug)]
pub struct SimClock {
    /// Written by `set_wall_ns` and `advance`. `Relaxed` is enough everywhere: a reading guards no data.
    wall_ns: AtomicU64,
    /// Written by `advance` only.
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// A clock that says 1 000 000 000 s since the epoch, in September 2001.
    pub fn new() -> SimClock {
        SimClock { wall_ns: AtomicU64::new(1_000_000_000 * 1_000_000_000), monotonic_ns: AtomicU64::new(0) }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let by = by.as_nanos() as u64;
        self.wall_ns.fetch_add(by, Ordering::Relaxed);
        self.monotonic_ns.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets the wall clock, also backwards, as an operator or NTP may.
    pub fn set_wall_ns(&self, wall_ns: u64) {
        self.wall_ns.store(wall_ns, Ordering::Relaxed);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn wall_ns(&self) -> u64 {
        self.wall_ns.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_told() {
        let clock = SimClock::new();
        let (wall, monotonic) = (clock.wall_ns(), clock.monotonic());
        assert_eq!((clock.wall_ns(), clock.monotonic()), (wall, monotonic));
        clock.advance(Duration::from_nanos(5));
        assert_eq!((clock.wall_ns(), clock.monotonic()), (wall + 5, monotonic + Duration::from_nanos(5)));
        clock.set_wall_ns(3);
        assert_eq!((clock.wall_ns(), clock.monotonic()), (3, monotonic + Duration::from_nanos(5)));
    }
}
