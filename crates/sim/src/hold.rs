//! Holding operations back, so that a test can look at the moment in which they are under way.
//!
//! The rule: a held operation has been asked for and has not taken effect. A sync that is held covers what
//! was written before it was asked for, whatever is written while it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::Op;
use crate::state::{Shared, State};

/// How long a test may wait for an operation before it is taken for stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One hold, as the disk knows it.
pub(crate) struct Held {
    op: Op,
    waiting: usize,
    permits: usize,
}

#[derive(Default)]
pub(crate) struct Holds {
    next_id: u64,
    active: BTreeMap<u64, Held>,
}

/// Holds operations back until it is released or dropped. Made by [`SimDisk::hold`](crate::SimDisk::hold).
#[must_use = "a hold that is dropped holds nothing"]
pub struct Hold {
    shared: Arc<Shared>,
    id: u64,
}

impl Hold {
    pub(crate) fn new(shared: Arc<Shared>, op: Op) -> Hold {
        let id = {
            let holds = &mut shared.state.lock().holds;
            holds.next_id += 1;
            holds.active.insert(holds.next_id, Held { op, waiting: 0, permits: 0 });
            holds.next_id
        };
        Hold { shared, id }
    }

    /// How many operations wait here now.
    pub fn held(&self) -> usize {
        self.shared.state.lock().holds.active[&self.id].waiting
    }

    /// Waits until at least `n` operations wait here.
    ///
    /// # Panics
    /// If that has not come about within a minute.
    pub fn wait_for_held(&self, n: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        while state.holds.active[&self.id].waiting < n {
            let timed_out = self.shared.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!timed_out, "{} operations are held, not {n}", state.holds.active[&self.id].waiting);
        }
    }

    /// Lets `n` operations pass, which wait or come later.
    pub fn let_through(&self, n: usize) {
        self.shared.state.lock().holds.active.get_mut(&self.id).expect("it lives while we do").permits += n;
        self.shared.changed.notify_all();
    }

    /// Lets everything go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.state.lock().holds.active.remove(&self.id);
        self.shared.changed.notify_all();
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits behind every hold that matches, one after the other.
    pub(crate) fn pass_holds(&self, state: &mut MutexGuard<'_, State>, op: Op) {
        let mut passed = 0;
        // Holds are numbered upwards: a higher one that comes while this waits is met in its turn.
        while let Some(id) = state.holds.next_matching(op, passed) {
            passed = id;
            self.wait_behind(state, id);
        }
    }

    fn wait_behind(&self, state: &mut MutexGuard<'_, State>, id: u64) {
        let mut is_counted = false;
        while let Some(held) = state.holds.active.get_mut(&id) {
            if held.permits > 0 {
                held.permits -= 1;
                held.waiting -= usize::from(is_counted);
                return;
            }
            if !is_counted {
                is_counted = true;
                held.waiting += 1;
                self.changed.notify_all();
            }
            self.changed.wait(state);
        }
    }
}

impl Holds {
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    fn next_matching(&self, op: Op, after: u64) -> Option<u64> {
        self.active.range(after + 1..).find(|(_, held)| held.op.covers(op)).map(|(&id, _)| id)
    }
}
