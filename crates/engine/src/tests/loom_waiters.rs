//! Models of the waiters: nobody sleeps through the sync that satisfies it, nobody is told too early.

use std::sync::Arc;

use braidlog_format::Lsn;

use super::model;
use crate::primitive::thread;
use crate::waiters::{Awaited, Sleeper, Waiters};

/// Waits as [`Shared::wait_for`](crate::shared::Shared) does for one who cannot lead.
fn wait(waiters: &Waiters, lsn: Lsn) {
    let mut key = None;
    while waiters.durable() < lsn {
        key = waiters.enter(Awaited::Durable, lsn, key, Sleeper::Thread(thread::current()));
        if key.is_some() {
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
        waiters.satisfied().sleepers.into_iter().for_each(Sleeper::wake);
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
            waiters.satisfied().sleepers.into_iter().for_each(Sleeper::wake);
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn loom_one_who_sees_its_lsn_durable_sees_the_sync() {
    use crate::primitive::atomic::{AtomicBool, Ordering::Relaxed};
    model(|| {
        let shared = Arc::new((Waiters::new(Lsn(0)), AtomicBool::new(false)));
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (waiters, synced) = &*shared;
                if waiters.durable() >= Lsn(1) {
                    assert!(synced.load(Relaxed), "told before the sync");
                }
            })
        };
        let (waiters, synced) = &*shared;
        synced.store(true, Relaxed);
        waiters.advance(Lsn(1));
        reader.join().unwrap();
    });
}
