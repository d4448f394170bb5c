//! Wakers that come back into the log: nobody waits for one that stands behind them, and they do not stand upon each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::small_log::{self, commit};
use crate::chore::Chore;
use crate::error::EngineError;
use crate::waiters::Sleeper;

const PATIENCE: Duration = Duration::from_secs(60);

/// A task whose waker does this.
fn task(run: impl Fn() + Send + Sync + 'static) -> Sleeper {
    struct Run<F>(F);
    impl<F: Fn() + Send + Sync + 'static> Wake for Run<F> {
        fn wake(self: Arc<Self>) {
            self.0();
        }
    }
    Sleeper::Task(Waker::from(Arc::new(Run(run))))
}

/// Waits for its waker.
#[derive(Debug)]
struct Waits {
    began: Mutex<Sender<()>>,
    woken: Mutex<Receiver<()>>,
}

impl Chore for Waits {
    fn run(&self) -> Option<Duration> {
        self.began.lock().send(()).unwrap();
        self.woken.lock().recv().unwrap();
        None
    }

    fn stop(&self) {}
}

/// The close joined the maintenance thread, which waited for the second waker; the first one waited for the close.
#[test]
fn close_does_not_wait_for_a_waker_behind_one_that_closes_too() {
    let ((began, beginning), (wake, woken)) = (mpsc::channel(), mpsc::channel());
    let chore = Waits { began: Mutex::new(began), woken: Mutex::new(woken) };
    let (engine, _disk) = small_log::open_with_chore(Arc::new(chore));
    assert!(engine.ask_chore());
    beginning.recv().unwrap();

    let (told, tells) = mpsc::channel();
    let closes = {
        let (engine, told) = (Arc::clone(&engine), told.clone());
        task(move || {
            while !engine.shared.lsns.is_ended() {
                thread::yield_now();
            }
            told.send(engine.close()).unwrap();
        })
    };
    let wakes = Mutex::new(wake);
    let wakes = task(move || wakes.lock().send(()).unwrap());
    let runner = {
        let engine = Arc::clone(&engine);
        thread::spawn(move || engine.shared.wakers.wake(vec![closes, wakes]))
    };
    let closing = Arc::clone(&engine);
    thread::spawn(move || told.send(closing.close()).unwrap());
    for _ in 0..2 {
        // The waker's is refused, unless the other has ended by then.
        let closed = tells.recv_timeout(PATIENCE).expect("it ends");
        assert!(matches!(closed, Ok(()) | Err(EngineError::Closed)), "{closed:?}");
    }
    engine.close().unwrap();
    runner.join().unwrap();
}

/// Each of them leads a round, and would have run the next one inside: a stack without a bound.
#[test]
fn wakers_that_append_run_one_after_another() {
    let (engine, _disk) = small_log::open();
    let (inside, deepest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (engine, inside, deepest) = (Arc::clone(&engine), inside.clone(), deepest.clone());
            task(move || {
                deepest.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                commit(&engine, 1).unwrap();
                engine.shared.wakers.wake(vec![task(|| ())]);
                inside.fetch_sub(1, SeqCst);
            })
        })
        .collect();
    engine.shared.wakers.wake(tasks);
    assert_eq!((engine.durable_lsn().0, deepest.load(SeqCst)), (100, 1));
}

/// A waker took the lock under which its thread appended.
#[test]
fn no_waker_is_run_under_a_lock_of_who_appends() {
    let (engine, _disk) = small_log::open();
    let lock = Arc::new(Mutex::new(0));
    let (asked, free) = (Arc::clone(&lock), Arc::new(AtomicUsize::new(0)));
    let asks = {
        let free = Arc::clone(&free);
        move || {
            let got = asked.try_lock().is_some();
            free.fetch_add(if got { 1 } else { 1000 }, SeqCst);
        }
    };
    engine.under_a_lock(|| {
        let _held = lock.lock();
        engine.shared.wakers.wake(vec![task(asks.clone())]);
        engine.shared.wakers.give(vec![task(asks)]);
        engine.shared.wakers.run_unless_served();
    });
    engine.close().unwrap();
    assert_eq!(free.load(SeqCst), 2, "both were run, and each found the lock free");
}
