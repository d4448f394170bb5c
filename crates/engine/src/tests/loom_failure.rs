//! Models of a log that fails while others wait, on a whole log: everybody is told, nobody is acknowledged.

use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_sim::{Fault, Op};

use super::loom_tasks::run_task;
use super::model_with;
use super::small_log::{self, Engine, commit, submit};
use crate::error::EngineError;
use crate::primitive::thread;

/// Whatever was accepted is told with its LSNs; what came too late was not accepted.
#[track_caller]
fn assert_told(engine: &Engine, result: Result<(), EngineError>) {
    match result {
        Err(EngineError::Failed { lsns, .. }) => {
            assert!(lsns.is_none_or(|lsns| lsns.last <= engine.last_lsn()))
        }
        other => panic!("no sync succeeded: {other:?}"),
    }
    assert_eq!(engine.durable_lsn(), Lsn::ZERO);
}

/// Found by this model: an append that drew its LSN from the counter that the failure had just ended was told that
/// the log is *closed*. The bit that ends the counter is Relaxed, so on a machine with weak ordering it may be seen
/// before the failure that was set ahead of it; an application would have taken a failed disk for its own shutdown.
#[test]
fn loom_failed_sync_is_told_to_every_committer() {
    model_with(3, || {
        let (engine, disk) = small_log::open();
        disk.inject(Fault::eio(Op::Sync).forever());
        let other = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || assert_told(&engine, commit(&engine, 1).map(drop)))
        };
        assert_told(&engine, commit(&engine, 0).map(drop));
        other.join().unwrap();
    });
}

#[test]
fn loom_failed_sync_is_told_to_a_task() {
    model_with(3, || {
        let (engine, disk) = small_log::open_for_threads();
        disk.inject(Fault::eio(Op::Sync).forever());
        let lsn = submit(&engine, 1).unwrap();
        let committer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || assert_told(&engine, engine.flush()))
        };
        assert_told(&engine, run_task(&engine, lsn));
        committer.join().unwrap();
    });
}
