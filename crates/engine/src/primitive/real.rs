//! The seam's body in every normal build: the real threads, locks and atomics, and nothing beside them.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic;

pub(crate) use crossbeam_utils::sync::{Parker, Unparker};
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
/// A mutex that others try to take: loom has to know.
pub(crate) use parking_lot::{Mutex as TriedMutex, MutexGuard as TriedMutexGuard};

pub(crate) mod thread {
    //! `std::thread`, and what it lacks.

    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    pub(crate) use std::thread::*;
    use std::time::{Duration, Instant};

    /// Parks the thread; says whether the deadline had not passed yet.
    pub(crate) fn park_until(deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return false;
        }
        park_timeout(left);
        true
    }

    /// A number that each thread keeps. They are given in the order in which threads first ask.
    pub(crate) fn number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
        }
        NUMBER.with(|number| {
            number.get().unwrap_or_else(|| {
                let next = NEXT.fetch_add(1, Relaxed);
                number.set(Some(next));
                next
            })
        })
    }
}

/// Between the drawing of an LSN and a look at the flusher's state, both sequentially consistent: nothing. The
/// models, which know sequentially consistent fences only, have one here.
pub(crate) fn fence_after_draw() {}

/// Stands for memory that is reached through raw pointers, which a model cannot watch.
#[derive(Debug)]
pub(crate) struct Witness;

impl Witness {
    pub(crate) fn new() -> Witness {
        Witness
    }

    /// The memory is used by its owner alone.
    pub(crate) fn owned(&mut self) {}
}
