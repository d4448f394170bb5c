//! Models of the rungs below durability: who waits for a write is woken by it and not before, whoever writes.

use std::sync::Arc;
use std::task::Waker;

use braidlog_format::{Lsn, LsnRange};

use super::loom_tasks::{Useless, run_task_at};
use super::small_log::{self, submit};
use super::{model, model_with};
use crate::append::Wait;
use crate::coordinator::Want;
use crate::flusher::Flusher;
use crate::primitive::atomic::{AtomicBool, Ordering::Relaxed};
use crate::primitive::thread;
use crate::rung::Rung;
use crate::waiters::{Awaited, Sleeper, Waiters};

#[test]
fn loom_waiter_for_a_write_is_woken_by_it_and_sees_it() {
    model(|| {
        let shared = Arc::new((Waiters::new(Lsn(0)), AtomicBool::new(false)));
        let sleeper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (waiters, written) = &*shared;
                let mut key = None;
                while waiters.written() < Lsn(1) {
                    let sleeper = Sleeper::Thread(thread::current());
                    key = waiters.enter(Awaited::Written, Lsn(1), key, sleeper);
                    if key.is_some() {
                        thread::park();
                    }
                }
                assert!(written.load(Relaxed), "told before the write");
            })
        };
        let (waiters, written) = &*shared;
        written.store(true, Relaxed);
        waiters.advance_written(Lsn(1));
        waiters.satisfied_by_writes().into_iter().for_each(Sleeper::wake);
        sleeper.join().unwrap();
    });
}

#[test]
fn loom_tasks_at_two_rungs_without_threads_lead_or_are_woken_to() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let lsn = submit(&engine, 1).unwrap();
                run_task_at(&engine, Rung::Written, lsn).unwrap();
                assert!(engine.watermark(Rung::Written) >= lsn, "ready before it is written");
            })
        };
        let lsn = submit(&engine, 2).unwrap();
        run_task_at(&engine, Rung::Durable, lsn).unwrap();
        other.join().unwrap();
        assert_eq!(engine.watermark(Rung::Written), Lsn(2));
    });
}

#[test]
fn loom_wait_for_a_write_is_served_by_the_background_thread() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let lsn = submit(&engine, 1).unwrap();
        let parker = engine.shared.signal.parker();
        let background = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let mut flusher = Flusher::new(&engine.shared);
                while engine.watermark(Rung::Written) < lsn {
                    flusher.turn(&parker);
                }
            })
        };
        run_task_at(&engine, Rung::Written, lsn).unwrap();
        background.join().unwrap();
    });
}

#[test]
fn loom_thread_that_waits_for_a_write_drives_it_or_is_woken() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        let lsn = submit(&engine, 1).unwrap();
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || drop(engine.shared.role()))
        };
        engine.wait_reached(lsn, Rung::Written, Wait::Forever).unwrap();
        other.join().unwrap();
    });
}

/// A task that ends its wait while the write that it waits for is done.
#[test]
fn loom_forgotten_wait_for_a_write_leaves_no_waker_behind() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let lsn = submit(&engine, 1).unwrap();
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let _ = engine.shared.role().step(&engine.shared, Want::Drain);
            })
        };
        let left = Arc::new(Useless);
        let mut key = None;
        let _ = engine.poll_reached(lsn, Rung::Written, &mut key, &Waker::from(Arc::clone(&left)));
        if let Some(key) = key {
            engine.forget(key);
        }
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&left), 1, "the waker of a dropped wait is dropped");
        let lsns = LsnRange { first: lsn, last: lsn };
        assert!(engine.shared.settled(Rung::Written, lsns).is_some_and(|settled| settled.is_ok()));
    });
}
