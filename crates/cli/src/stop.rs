//! When to stop before the lines end: a signal, or the first failure.
//!
//! Writers and the reader sleep on channels, so the word to stop is one too: a channel that nothing is ever
//! sent on, and whose closing wakes everybody who listens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{self, Receiver, Sender};

use crate::failure::{Failure, INTERRUPTED};

/// The word to stop, and why it was given.
pub struct Stop {
    shared: Arc<Shared>,
    heard: Receiver<()>,
}

struct Shared {
    /// `None` once the run is to stop.
    open: Mutex<Option<Sender<()>>>,
    interrupted: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl Stop {
    /// Stops on SIGINT, SIGTERM and SIGHUP. A second one ends the process at once, which a log survives.
    pub fn on_signal() -> Result<Stop, Failure> {
        let (open, heard) = channel::bounded(0);
        let shared = Arc::new(Shared {
            open: Mutex::new(Some(open)),
            interrupted: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let told = shared.clone();
        ctrlc::set_handler(move || {
            if told.interrupted.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            lock(&told.open).take();
        })
        .map_err(|error| Failure::of("cannot listen for signals", error))?;
        Ok(Stop { shared, heard })
    }

    /// Becomes ready (disconnected) when the run is to stop.
    pub fn heard(&self) -> &Receiver<()> {
        &self.heard
    }

    /// Stops the run because of `failure`; the first one is told, later ones follow from it.
    pub fn fail(&self, failure: Failure) {
        lock(&self.shared.failure).get_or_insert(failure);
        lock(&self.shared.open).take();
    }

    /// Whether a signal stopped the run.
    pub fn is_interrupted(&self) -> bool {
        self.shared.interrupted.load(Ordering::Relaxed)
    }

    /// The failure that stopped the run, if one did.
    pub fn take_failure(&self) -> Option<Failure> {
        lock(&self.shared.failure).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
