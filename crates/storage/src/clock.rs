//! Time, as a component that a test can replace.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the log takes time from.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since the Unix epoch, as the wall clock says; it may jump either way.
    fn wall_ns(&self) -> u64;

    /// Time since a fixed point of this clock's own; never decreases.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The system's clocks; [`Clock::monotonic`] counts from now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        // A clock set before 1970 reads as 0; entries keep the last timestamp, which never decreases.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
