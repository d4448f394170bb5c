//! Chores on the maintenance thread: nobody waits for one that goes on and on, nor for one that panics.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use parking_lot::Mutex;

use super::small_log::{self, Engine, commit};
use crate::chore::Chore;
use crate::space::Gate;

/// A chore that tells when it begins, and ends as it is told.
#[derive(Debug)]
struct Told {
    began: Mutex<Sender<()>>,
    orders: Mutex<Receiver<Order>>,
    /// What `stop` tells a run under way.
    on_stop: Mutex<Sender<Order>>,
}

#[derive(Debug)]
enum Order {
    Return(Option<Duration>),
    Panic,
}

impl Chore for Told {
    fn run(&self) -> Option<Duration> {
        self.began.lock().send(()).unwrap();
        match self.orders.lock().recv().unwrap() {
            Order::Return(again) => again,
            Order::Panic => panic!("as the test asks"),
        }
    }

    fn stop(&self) {
        self.on_stop.lock().send(Order::Return(None)).unwrap();
    }
}

/// A log with its threads and such a chore: who listens for its beginnings, and who gives the orders.
fn open() -> (Arc<Engine>, Receiver<()>, Sender<Order>) {
    let (began, beginnings) = mpsc::channel();
    let (order, orders) = mpsc::channel();
    let chore =
        Told { began: Mutex::new(began), orders: Mutex::new(orders), on_stop: Mutex::new(order.clone()) };
    let (engine, _) = small_log::open_with_chore(Arc::new(chore));
    (engine, beginnings, order)
}

#[test]
fn chore_that_goes_on_holds_up_neither_appends_nor_files() {
    let (engine, beginnings, order) = open();
    // The first segment has been put in place before there was a thread.
    assert!(engine.ask_chore());
    beginnings.recv().unwrap();
    while engine.metrics().rotations < 4 {
        commit(&engine, 1).unwrap();
    }
    assert_eq!(engine.shared.space.gate(), Gate::Open);
    assert_eq!(engine.metrics().chore_latency.count, 0, "all that was during one run");
    order.send(Order::Return(None)).unwrap();
    // Segments have been followed by others meanwhile, so it runs again.
    beginnings.recv().unwrap();
    engine.close().unwrap();
    assert_eq!(engine.metrics().chore_latency.count, 2, "close told it to stop, and waited for that");
}

#[test]
fn chore_runs_again_when_the_time_that_it_named_has_come() {
    let (engine, beginnings, order) = open();
    assert!(engine.ask_chore());
    for _ in 0..3 {
        beginnings.recv().unwrap();
        order.send(Order::Return(Some(Duration::ZERO))).unwrap();
    }
    beginnings.recv().unwrap();
    engine.close().unwrap();
    assert!(!engine.ask_chore(), "nobody would run it");
}

#[test]
fn chore_that_panics_is_counted_and_fails_nothing() {
    let (engine, beginnings, order) = open();
    assert!(engine.ask_chore());
    beginnings.recv().unwrap();
    order.send(Order::Panic).unwrap();
    commit(&engine, 1).unwrap();
    assert!(engine.ask_chore());
    beginnings.recv().unwrap();
    assert_eq!(engine.metrics().chore_panics, 1);
    commit(&engine, 2).unwrap();
    engine.close().unwrap();
    assert!(engine.health().failure.is_none());
}

#[test]
fn chore_may_close_the_log_that_runs_it() {
    // The owner of a log may drop its last handle while the chore borrows one: the log is then closed by its own thread.
    #[derive(Debug, Default)]
    struct Closer(Mutex<Option<Arc<Engine>>>, Mutex<Option<Sender<()>>>);
    impl Chore for Closer {
        fn run(&self) -> Option<Duration> {
            let engine = self.0.lock().take()?;
            engine.close().unwrap();
            drop(engine);
            self.1.lock().take()?.send(()).ok()?;
            None
        }

        fn stop(&self) {}
    }
    let chore = Arc::new(Closer::default());
    let (closed, is_closed) = mpsc::channel();
    *chore.1.lock() = Some(closed);
    let (engine, _disk) = small_log::open_with_chore(chore.clone());
    commit(&engine, 1).unwrap();
    *chore.0.lock() = Some(Arc::clone(&engine));
    assert!(engine.ask_chore());
    is_closed.recv().unwrap();
    assert!(engine.close().is_ok(), "what the first close came to");
}
