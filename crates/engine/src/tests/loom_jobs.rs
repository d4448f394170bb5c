//! Models of the hand-over of jobs to the maintenance thread, whose own body they run: what is asked for while the thread is at
//! work is not forgotten, no asker blocks, and nobody waits for a chore.

use std::sync::Arc;

use super::small_log::{self, submit};
use super::{model, model_with};
use crate::chore::Chore;
use crate::maintenance;
use crate::primitive::atomic::{AtomicU64, Ordering::Relaxed};
use crate::primitive::thread::{self, JoinHandle};
use crate::primitive::{Condvar, Mutex};
use crate::space::Gate;

/// Runs the maintenance thread in one of the model's own.
fn maintain(engine: &Arc<small_log::Engine>) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    engine.shared.jobs.connect();
    thread::spawn(move || maintenance::run(&engine.shared))
}

#[test]
fn loom_file_that_is_asked_for_while_one_is_made_is_made_too() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let shared = &engine.shared;
        let maintenance = maintain(&engine);
        // The next file is due. When it is there, it is taken at once.
        shared.space.set_current(u64::MAX, 0);
        assert!(shared.jobs.ask_prepare());
        let taken = shared.space.take(0);
        assert!(shared.jobs.ask_prepare());
        shared.jobs.end();
        maintenance.join().unwrap();
        assert!(!shared.preparer.is_wanted(), "asked for and not made; one was taken: {}", taken.is_some());
    });
}

/// A chore that does not return before it is allowed to.
#[derive(Debug, Default)]
struct Stubborn {
    may_return: Mutex<bool>,
    allowed: Condvar,
}

impl Stubborn {
    fn allow(&self) {
        *self.may_return.lock() = true;
        self.allowed.notify_all();
    }
}

impl Chore for Stubborn {
    fn run(&self) -> Option<std::time::Duration> {
        let mut may_return = self.may_return.lock();
        while !*may_return {
            self.allowed.wait(&mut may_return);
        }
        None
    }

    fn stop(&self) {}
}

#[test]
fn loom_writer_at_a_late_file_does_not_wait_for_a_chore() {
    // The round that needs the file asks for it, and makes it if it is not promised one. A chore that begins
    // between the two, or over a file that was promised, would leave the writer asleep until the chore ends, and it
    // does not end before the writer has written.
    model(|| {
        let chore = Arc::new(Stubborn::default());
        let (engine, _disk) = small_log::open_for_threads_with(Some(chore.clone()));
        let shared = &engine.shared;
        shared.space.set_current(0, 0);
        assert_eq!(shared.space.gate(), Gate::Late);
        let maintenance = maintain(&engine);
        shared.jobs.ask_chore();
        shared.prepare_ahead();
        submit(&engine, 1).unwrap();
        chore.allow();
        shared.jobs.end();
        maintenance.join().unwrap();
    });
}

/// A chore that remembers what it saw of a change.
#[derive(Debug, Default)]
struct Onlooker {
    change: AtomicU64,
    seen: AtomicU64,
}

impl Chore for Onlooker {
    fn run(&self) -> Option<std::time::Duration> {
        self.seen.store(self.change.load(Relaxed), Relaxed);
        None
    }

    fn stop(&self) {}
}

#[test]
fn loom_chore_that_is_asked_for_while_it_runs_runs_again() {
    model(|| {
        let chore = Arc::new(Onlooker::default());
        let (engine, _disk) = small_log::open_for_threads_with(Some(chore.clone()));
        let maintenance = maintain(&engine);
        for change in 1..=2 {
            chore.change.store(change, Relaxed);
            assert!(engine.ask_chore());
        }
        // The thread ends by itself only when it has nothing to do; a chore that waits when it is told to end is not
        // run, so it is told when the last one has been seen.
        while chore.seen.load(Relaxed) < 2 {
            thread::yield_now();
        }
        engine.shared.jobs.end();
        maintenance.join().unwrap();
    });
}
