//! Models of the queue of wakers: whoever gives one, and whoever ends the thread for them meanwhile, each is run once.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::loom_tasks::Unpark;
use super::small_log::{self, Engine};
use super::{model, model_with};
use crate::primitive::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::primitive::thread;
use crate::waiters::Sleeper;
use crate::wakers;

fn unparks_this_thread() -> Sleeper {
    Sleeper::Task(Waker::from(Arc::new(Unpark(thread::current()))))
}

#[test]
fn loom_wakers_given_away_are_run_though_the_thread_ends() {
    model(|| {
        let (engine, _disk) = small_log::open_for_threads();
        let waking = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || wakers::run(&engine.shared))
        };
        let giver = {
            let (engine, waker) = (Arc::clone(&engine), unparks_this_thread());
            thread::spawn(move || {
                engine.shared.wakers.give(vec![waker]);
                engine.shared.wakers.end();
            })
        };
        thread::park();
        giver.join().unwrap();
        waking.join().unwrap();
    });
}

/// As close does: it ends the thread for wakers and then waits for one that waits for a waker.
#[test]
fn loom_waker_given_while_the_log_closes_is_run_by_somebody() {
    model_with(2, || {
        let (engine, _disk) = small_log::open_for_threads();
        let waking = wakers::start(&engine.shared).unwrap();
        let waits = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let waker = unparks_this_thread();
                let giver = thread::spawn(move || {
                    // As who has the role, and gives it up.
                    engine.shared.wakers.give(vec![waker]);
                    engine.shared.wakers.run_unless_served();
                });
                thread::park();
                giver.join().unwrap();
            })
        };
        engine.shared.wakers.end();
        engine.shared.wakers.run_all();
        waits.join().unwrap();
        waking.join().unwrap();
    });
}

/// Counts how often it is run, and has another run.
struct ComesBack(Arc<Engine>, Arc<AtomicUsize>);

impl Wake for ComesBack {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Relaxed);
        self.0.shared.wakers.wake(vec![counts(&self.1)]);
    }
}

fn counts(runs: &Arc<AtomicUsize>) -> Sleeper {
    struct Counts(Arc<AtomicUsize>);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    Sleeper::Task(Waker::from(Arc::new(Counts(Arc::clone(runs)))))
}

#[test]
fn loom_wakers_that_have_others_run_leave_none_behind() {
    model(|| {
        let (engine, _disk) = small_log::open();
        let runs = Arc::new(AtomicUsize::new(0));
        let other = {
            let (engine, counted) = (Arc::clone(&engine), counts(&runs));
            thread::spawn(move || engine.shared.wakers.wake(vec![counted]))
        };
        let comes_back = Waker::from(Arc::new(ComesBack(Arc::clone(&engine), Arc::clone(&runs))));
        engine.shared.wakers.wake(vec![Sleeper::Task(comes_back), counts(&runs)]);
        other.join().unwrap();
        assert_eq!(runs.load(Relaxed), 4, "each once");
    });
}
