//! Watching a directory of a simulated disk.
//!
//! The rule: a change between two calls of `wait` is never missed, because a version is compared and not a
//! notification awaited.

use std::io::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidlog_storage::Watch;

use crate::state::Shared;

#[derive(Debug)]
pub(crate) struct SimWatch {
    shared: Arc<Shared>,
    key: Arc<PathBuf>,
    /// The version that the last call saw.
    seen: u64,
}

impl SimWatch {
    pub(crate) fn new(shared: Arc<Shared>, key: Arc<PathBuf>, seen: u64) -> SimWatch {
        SimWatch { shared, key, seen }
    }
}

impl Watch for SimWatch {
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        // A deadline beyond what the clock can say is none.
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.state.lock();
        loop {
            let version = state.directory(&self.key).version;
            if version != self.seen {
                self.seen = version;
                return Ok(true);
            }
            match deadline {
                Some(deadline) => {
                    if self.shared.changed.wait_until(&mut state, deadline).timed_out()
                        && state.directory(&self.key).version == self.seen
                    {
                        return Ok(false);
                    }
                }
                None => self.shared.changed.wait(&mut state),
            }
        }
    }
}
