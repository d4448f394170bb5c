//! The smallest executor: one future, one thread that sleeps until it is woken.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker of the calling thread.
pub fn waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

/// A waker, and a view on how many hold it.
pub fn counted_waker() -> (Waker, Weak<impl Send + Sync>) {
    let unpark = Arc::new(Unpark(thread::current()));
    let view = Arc::downgrade(&unpark);
    (unpark.into(), view)
}

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}
