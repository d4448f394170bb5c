//! Models of the coordinator's role as it changes hands, on a whole log: no committer sleeps while nobody leads,
//! none is acknowledged by another's wake-up.

use std::sync::Arc;

use super::model_with;
use super::small_log::{self, commit, submit};
use crate::primitive::thread;

/// So many committers append one record each and wait for it.
fn check(committers: u8, preemptions: usize) {
    model_with(preemptions, move || {
        let (engine, _disk) = small_log::open();
        let others: Vec<_> = (1..committers)
            .map(|payload| {
                let engine = Arc::clone(&engine);
                thread::spawn(move || {
                    let lsn = commit(&engine, payload).unwrap();
                    assert!(engine.durable_lsn() >= lsn, "acknowledged before it is durable");
                })
            })
            .collect();
        let lsn = commit(&engine, 0).unwrap();
        assert!(engine.durable_lsn() >= lsn, "acknowledged before it is durable");
        others.into_iter().for_each(|other| other.join().unwrap());
        let metrics = engine.metrics();
        assert_eq!(metrics.durable_lsn.0, u64::from(committers));
        assert!((1..=u64::from(committers)).contains(&metrics.syncs), "one sync may serve many");
    });
}

#[test]
fn loom_two_committers_hand_the_role_on() {
    check(2, 2);
}

#[test]
fn loom_three_committers_hand_the_role_on() {
    // Threads switch where one of them waits, and there only: with one preemption it runs for many minutes.
    check(3, 0);
}

#[test]
fn loom_flush_covers_what_was_appended_before_it() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || commit(&engine, 1).unwrap())
        };
        let lsn = submit(&engine, 0).unwrap();
        engine.flush().unwrap();
        assert!(engine.durable_lsn() >= lsn, "flushed before it is durable");
        other.join().unwrap();
    });
}
