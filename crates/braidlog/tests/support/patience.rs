//! Waiting for something to come about, and failing if it does not.
#![allow(dead_code, reason = "each test file uses its part")]

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it did not come about within {PATIENCE:?}");
        thread::yield_now();
    }
}
