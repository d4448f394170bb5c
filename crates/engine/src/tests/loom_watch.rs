//! Models of those who follow the durable LSN: nobody sleeps through a move or the end, nobody is told too early, and
//! nothing is done for them.

use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_sim::{Fault, Op};

use super::small_log::{self, commit, submit};
use super::{model, model_with};
use crate::append::Wait;
use crate::error::EngineError;
use crate::primitive::thread;
use crate::waiters::{Awaited, Sleeper, Waiters};

#[test]
fn loom_watcher_that_enters_while_the_durable_lsn_moves_is_woken() {
    model(|| {
        let waiters = Arc::new(Waiters::new(Lsn(0)));
        let watcher = {
            let waiters = Arc::clone(&waiters);
            thread::spawn(move || {
                let mut key = None;
                while waiters.durable() < Lsn(1) {
                    key = waiters.enter(Awaited::Watched, Lsn(1), key, Sleeper::Thread(thread::current()));
                    if key.is_some() {
                        thread::park();
                    }
                }
            })
        };
        waiters.advance(Lsn(1));
        let wake_ups = waiters.satisfied();
        assert!(!wake_ups.sleepers_left, "nobody serves a watcher");
        wake_ups.sleepers.into_iter().for_each(Sleeper::wake);
        watcher.join().unwrap();
    });
}

#[test]
fn loom_who_sees_the_end_sees_the_last_durable_lsn() {
    model(|| {
        let waiters = Arc::new(Waiters::new(Lsn(0)));
        let reader = {
            let waiters = Arc::clone(&waiters);
            thread::spawn(move || {
                if waiters.is_ended() {
                    assert_eq!(waiters.durable(), Lsn(1), "told that the log is closed before all was told");
                }
            })
        };
        waiters.advance(Lsn(1));
        waiters.end();
        reader.join().unwrap();
    });
}

#[test]
fn loom_watcher_is_told_what_is_durable_and_then_that_the_log_is_closed() {
    model_with(2, || {
        let (engine, _disk) = small_log::open();
        submit(&engine, 1).unwrap();
        let watcher = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                assert_eq!(engine.wait_beyond(Lsn(0), Wait::Forever).unwrap(), Lsn(1));
                assert_eq!(engine.durable_lsn(), Lsn(1));
                let end = engine.wait_beyond(Lsn(1), Wait::Forever);
                assert!(matches!(end, Err(EngineError::Closed)), "{end:?}");
            })
        };
        engine.close().unwrap();
        watcher.join().unwrap();
    });
}

#[test]
fn loom_failed_sync_is_told_to_a_watcher() {
    model_with(2, || {
        let (engine, disk) = small_log::open();
        disk.inject(Fault::eio(Op::Sync).forever());
        let watcher = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || {
                let end = engine.wait_beyond(Lsn(0), Wait::Forever);
                assert!(matches!(end, Err(EngineError::Failed { lsns: None, .. })), "{end:?}");
            })
        };
        commit(&engine, 1).unwrap_err();
        watcher.join().unwrap();
    });
}
