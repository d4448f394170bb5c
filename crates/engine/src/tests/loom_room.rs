//! Models of a log without room: a writer that finds none sleeps until some is made, and whoever finds some finds
//! the space gate as the coordinator left it.

use std::sync::Arc;
use std::task::{Poll, Waker};

use braidlog_format::{Kind, Lsn};

use super::loom_tasks::Unpark;
use super::small_log::{self, submit};
use super::{model, model_with};
use crate::append::{Commit, How, Wait};
use crate::coordinator::Want;
use crate::error::EngineError;
use crate::flusher::Flusher;
use crate::lsn::LsnAllocator;
use crate::primitive::thread;
use crate::settings::Durability;
use crate::space::Space;
use crate::stripe::Content;
use crate::stripes::{Placed, Stripes};

/// A writer meets a full ring while another thread has the role and does `work` with it.
fn check(work: fn(&small_log::Engine)) {
    model_with(3, move || {
        let (engine, _disk) = small_log::open();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let writer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || submit(&engine, 3).unwrap())
        };
        work(&engine);
        assert_eq!(writer.join().unwrap(), Lsn(3), "a writer that may wait is never refused");
    });
}

#[test]
fn loom_writer_without_room_is_woken_by_the_round_that_makes_some() {
    check(|engine| {
        let _ = engine.shared.role().step(&engine.shared, Want::Drain);
    });
}

#[test]
fn loom_writer_without_room_leads_when_the_role_made_none() {
    check(|engine| drop(engine.shared.role()));
}

#[test]
fn loom_writer_sleeps_until_a_late_file_is_there() {
    // It looks at the gate once more when it is among the blocked: woken before that, it would sleep for ever.
    model(|| {
        let (engine, _disk) = small_log::open_for_threads();
        engine.shared.jobs.connect(); // To the maintenance thread, which this one plays.
        engine.shared.space.set_current(0, 0);
        let writer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || submit(&engine, 1).unwrap())
        };
        // As the maintenance thread does when it has made one.
        engine.shared.space.set_current(1 << 40, 1 << 40);
        engine.shared.wake_writers();
        assert_eq!(writer.join().unwrap(), Lsn(1), "a writer that may wait is never refused");
    });
}

/// Polls as a runtime does: again when it was woken.
fn append_as_task(engine: &small_log::Engine, payload: &[u8]) -> Result<Lsn, EngineError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut key = None;
    loop {
        match engine.poll_append(Kind(1), payload, Some(0), &mut key, &waker) {
            Poll::Ready(result) => {
                assert!(key.is_none(), "who is in waits no more");
                return result;
            }
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn loom_task_without_room_is_woken_by_the_round_that_makes_some() {
    model_with(2, || {
        let (engine, _disk) = small_log::open_for_threads();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let task = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || append_as_task(&engine, &[3]).unwrap())
        };
        let _ = engine.shared.role().step(&engine.shared, Want::Drain);
        assert_eq!(task.join().unwrap(), Lsn(3));
    });
}

#[test]
fn loom_task_without_room_is_served_by_the_background_thread() {
    model_with(2, || {
        let (engine, _disk) = small_log::open_for_threads();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let parker = engine.shared.signal.parker();
        let background = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let mut flusher = Flusher::new(&engine.shared);
                while engine.last_lsn() < Lsn(3) {
                    flusher.turn(&parker);
                }
            })
        };
        assert_eq!(append_as_task(&engine, &[3]).unwrap(), Lsn(3));
        background.join().unwrap();
    });
}

#[test]
fn loom_tasks_without_room_and_without_threads_make_it_themselves() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || drop(engine.shared.role()))
        };
        assert_eq!(append_as_task(&engine, &[3]).unwrap(), Lsn(3));
        other.join().unwrap();
    });
}

/// A large record draws on the budget before it asks the gate. One that is refused there was in the way of a task for a moment, which
/// nobody told when it was gone.
#[test]
fn loom_task_is_told_when_one_that_was_refused_gives_the_budget_back() {
    // Each copies large records.
    model_with(1, || {
        let (engine, _disk) = small_log::open_for_large_records();
        engine.shared.jobs.connect(); // To the maintenance thread, which this one plays.
        engine.shared.space.set_current(0, 0);
        let large: Arc<[u8]> = vec![1; small_log::LARGE].into();
        let refused = {
            let (engine, large) = (Arc::clone(&engine), Arc::clone(&large));
            let how = How { stripe: Some(0), wait: Wait::Never, commit: Commit::Later(Durability::Async) };
            thread::spawn(move || engine.append(Kind(1), &large, how))
        };
        let task = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || append_as_task(&engine, &large).unwrap())
        };
        engine.shared.space.set_current(1 << 40, 1 << 40);
        engine.shared.wake_writers();
        engine.shared.wakers.run_unless_served();
        if refused.join().unwrap().is_ok() {
            let _ = engine.shared.role().step(&engine.shared, Want::Drain);
        }
        task.join().unwrap();
    });
}

/// A task that gives up while room is made has appended nothing and leaves no waker, or has appended.
#[test]
fn loom_task_that_gives_up_waiting_for_room_leaves_nothing_behind() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let _ = engine.shared.role().step(&engine.shared, Want::Drain);
            })
        };
        let left = Arc::new(Unpark(thread::current()));
        let mut key = None;
        let waker = Waker::from(Arc::clone(&left));
        let polled = engine.poll_append(Kind(1), &[3], Some(0), &mut key, &waker);
        drop(waker);
        if let Some(key) = key {
            engine.forget_room(key);
        }
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&left), 1, "the waker of a dropped append is dropped");
        let last = if polled.is_ready() { Lsn(3) } else { Lsn(2) };
        assert_eq!(engine.last_lsn(), last);
    });
}

#[test]
fn loom_close_is_told_to_a_task_without_room() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        assert_eq!([1, 2].map(|payload| submit(&engine, payload).unwrap()), [Lsn(1), Lsn(2)]);
        let task = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || append_as_task(&engine, &[3]))
        };
        engine.close().unwrap();
        let appended = task.join().unwrap();
        let last = engine.last_lsn();
        match appended {
            Ok(lsn) => assert_eq!((lsn, engine.durable_lsn()), (Lsn(3), Lsn(3)), "accepted means durable"),
            Err(EngineError::Closed) => assert_eq!(last, Lsn(2), "it took no LSN"),
            Err(error) => panic!("{error}"),
        }
    });
}

/// What two threads share in the models of the gate.
struct Gated {
    stripes: Stripes,
    lsns: LsnAllocator,
    space: Space,
}

impl Gated {
    /// One ring of 128 bytes and an open gate.
    fn new() -> Arc<Gated> {
        let gated =
            Gated { stripes: Stripes::new(1, 128), lsns: LsnAllocator::new(Lsn(1)), space: Space::new(8) };
        gated.space.set_current(8, 8);
        Arc::new(gated)
    }

    fn place(&self, content: &Content<'_>, boxed: bool) -> Placed {
        let admit = || self.space.is_open();
        if boxed {
            self.stripes.place_boxed(content, &self.lsns, admit)
        } else {
            self.stripes.place(0, content, &self.lsns, admit)
        }
    }
}

fn record(payload: &[u8]) -> Content<'_> {
    Content::Record { kind: Kind(1), payload, checksum: 0 }
}

#[test]
fn loom_ring_space_is_found_behind_the_closed_gate_only() {
    model(|| {
        let gated = Gated::new();
        for _ in 0..2 {
            assert!(matches!(gated.place(&record(b"12345678"), false), Placed::Yes { .. }));
        }
        let writer = {
            let gated = Arc::clone(&gated);
            thread::spawn(move || gated.place(&record(b"12345678"), false))
        };
        // The coordinator's order: the round is accounted for, then its ring space is given back.
        gated.space.set_current(0, 0);
        gated.stripes.get(0).release(112);
        let placed = writer.join().unwrap();
        assert!(matches!(placed, Placed::Full | Placed::Refused), "an LSN without space: {placed:?}");
    });
}

#[test]
fn loom_budget_is_found_behind_the_closed_gate_only() {
    model(|| {
        let gated = Gated::new();
        let all = vec![0; 1 << 20];
        assert!(gated.stripes.exceeds_budget(all.len() as u64));
        assert!(matches!(gated.place(&record(&all), true), Placed::Yes { .. }));
        let writer = {
            let gated = Arc::clone(&gated);
            thread::spawn(move || gated.place(&record(b"1"), true))
        };
        let mut cost = 0;
        gated.stripes.overflow.take(|frame| cost = frame.cost);
        gated.space.set_current(0, 0);
        gated.stripes.give_back(cost);
        let placed = writer.join().unwrap();
        assert!(matches!(placed, Placed::Full | Placed::Refused), "an LSN without space: {placed:?}");
    });
}
