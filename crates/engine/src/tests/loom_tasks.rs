//! Models of the futures' wakers, on a whole log: whoever is told that it is pending is woken.

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use braidlog_format::Lsn;

use super::model_with;
use super::small_log::{self, Engine, submit};
use crate::error::EngineError;
use crate::flusher::Flusher;
use crate::primitive::thread::{self, Thread};
use crate::rung::Rung;

/// Wakes the thread that runs a task.
pub(super) struct Unpark(pub(super) Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Of no use to anybody; its owner counts what is left of it.
pub(super) struct Useless;

impl Wake for Useless {
    fn wake(self: Arc<Self>) {}
}

/// Polls as a runtime does: again when it was woken.
pub(super) fn run_task(engine: &Engine, lsn: Lsn) -> Result<(), EngineError> {
    run_task_at(engine, Rung::Durable, lsn)
}

/// The same for any rung.
pub(super) fn run_task_at(engine: &Engine, rung: Rung, lsn: Lsn) -> Result<(), EngineError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut key = None;
    loop {
        match engine.poll_reached(lsn, rung, &mut key, &waker) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

fn submit_and_wait(engine: &Engine, payload: u8) {
    let lsn = submit(engine, payload).unwrap();
    run_task(engine, lsn).unwrap();
    assert!(engine.durable_lsn() >= lsn, "ready before it is durable");
}

#[test]
fn loom_tasks_without_threads_lead_or_are_woken_to() {
    model_with(3, || {
        let (engine, _disk) = small_log::open();
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || submit_and_wait(&engine, 1))
        };
        submit_and_wait(&engine, 2);
        other.join().unwrap();
        assert_eq!(engine.durable_lsn(), Lsn(2));
    });
}

#[test]
fn loom_task_is_served_by_the_background_thread() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let lsn = submit(&engine, 1).unwrap();
        let parker = engine.shared.signal.parker();
        let background = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let mut flusher = Flusher::new(&engine.shared);
                while engine.durable_lsn() < lsn {
                    flusher.turn(&parker);
                }
            })
        };
        run_task(&engine, lsn).unwrap();
        assert!(engine.durable_lsn() >= lsn, "ready before it is durable");
        background.join().unwrap();
    });
}

#[test]
fn loom_waker_that_replaces_another_is_the_one_that_is_woken() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let lsn = submit(&engine, 1).unwrap();
        let committer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.flush().unwrap())
        };
        let useless = Waker::from(Arc::new(Useless));
        let useful = Waker::from(Arc::new(Unpark(thread::current())));
        let mut key = None;
        let mut polled = engine.poll_reached(lsn, Rung::Durable, &mut key, &useless);
        while polled.is_pending() {
            polled = engine.poll_reached(lsn, Rung::Durable, &mut key, &useful);
            if polled.is_pending() {
                thread::park();
            }
        }
        assert!(matches!(polled, Poll::Ready(Ok(()))) && engine.durable_lsn() >= lsn);
        committer.join().unwrap();
    });
}

#[test]
fn loom_forgotten_task_leaves_no_waker_behind() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let lsn = submit(&engine, 1).unwrap();
        // Nobody makes it durable, which would end its wait.
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || drop(engine.shared.role()))
        };
        let left = Arc::new(Useless);
        let mut key = None;
        let _ = engine.poll_reached(lsn, Rung::Durable, &mut key, &Waker::from(Arc::clone(&left)));
        if let Some(key) = key {
            engine.forget(key);
        }
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&left), 1, "the waker of a dropped ticket is dropped");
    });
}
