//! Models of the waiters: nobody sleeps through the sync that satisfies it, nobody is told too early.

use std::sync::Arc;

use braidlog_format::Lsn;

use super::model;
use crate::primitive::thread;
use crate::waiters::{Sleeper, Waiters};

/// Waits as [`Shared::wait_for`](crate::shared::Shared) does for one who cannot lead.
fn wait(waiters: &Waiters, lsn: Lsn) {
    while waiters.durable() < lsn {
        if waiters.enter_thread(lsn, thread::current()).is_some() {
            thread::park();
        }
    }
}

#[test]
fn loom_waiter_that_registers_during_the_sync_is_woken() {
    model(|| {
        let waiters = Arc::new(Waiters::new(Lsn(0)));
        let sleeper = {
            let waiters = Arc::clone(&waiters);
            thread::spawn(move || {
                wait(&waiters, Lsn(1));
                assert!(waiters.durable() >= Lsn(1));
            })
        };
        waiters.advance(Lsn(1));
        waiters.satisfied(false).wake();
        sleeper.join().unwrap();
    });
}

#[test]
fn loom_each_waiter_returns_at_its_own_lsn() {
    model(|| {
        let waiters = Arc::new(Waiters::new(Lsn(0)));
        let sleepers: Vec<_> = [Lsn(1), Lsn(2)]
            .into_iter()
            .map(|lsn| {
                let waiters = Arc::clone(&waiters);
                thread::spawn(move || {
                    wait(&waiters, lsn);
                    assert!(waiters.durable() >= lsn, "never woken for what is not durable");
                })
            })
            .collect();
        for durable in [Lsn(1), Lsn(2)] {
            waiters.advance(durable);
            waiters.satisfied(false).wake();
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn loom_chosen_leader_is_taken_out_and_woken() {
    model(|| {
        let waiters = Arc::new(Waiters::new(Lsn(0)));
        let follower = {
            let waiters = Arc::clone(&waiters);
            // One that is woken as leader before its LSN is durable: it makes it durable itself.
            thread::spawn(move || {
                if waiters.enter_thread(Lsn(2), thread::current()).is_some() {
                    while waiters.durable() < Lsn(1) {
                        thread::park();
                    }
                    waiters.advance(Lsn(2));
                }
            })
        };
        // The role holder hands on until somebody was there to take the role.
        waiters.advance(Lsn(1));
        while waiters.durable() < Lsn(2) {
            waiters.satisfied(true).wake();
            thread::yield_now();
        }
        follower.join().unwrap();
    });
}

#[test]
fn loom_failure_reaches_one_who_enters_at_that_moment() {
    use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
    model(|| {
        let shared = Arc::new((Waiters::new(Lsn(0)), AtomicBool::new(false)));
        let sleeper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (waiters, failed) = &*shared;
                let key = waiters.enter_sleeper(Lsn(1), None, Sleeper::Thread(thread::current()));
                // As `poll_durable`: the failure is looked at after entering.
                if !failed.load(Relaxed) {
                    thread::park();
                }
                assert!(failed.load(Relaxed));
                waiters.leave(key.expect("never durable"));
            })
        };
        let (waiters, failed) = &*shared;
        failed.store(true, Relaxed);
        waiters.all().wake();
        sleeper.join().unwrap();
    });
}
