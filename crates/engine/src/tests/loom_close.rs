//! Models of close against appends, on a whole log: what was accepted is durable when close returns, or close
//! tells of it.

use std::sync::Arc;

use braidlog_format::{Lsn, LsnRange};
use braidlog_sim::{Fault, Op};

use super::model_with;
use super::small_log::{self, commit, submit};
use crate::error::EngineError;
use crate::primitive::thread;

#[test]
fn loom_append_that_races_with_close_is_durable_or_refused() {
    model_with(3, || {
        let (engine, _disk) = small_log::open();
        let writer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || submit(&engine, 1))
        };
        engine.close().unwrap();
        match writer.join().unwrap() {
            Ok(lsn) => assert_eq!((lsn, engine.durable_lsn()), (Lsn(1), Lsn(1)), "accepted and lost"),
            Err(EngineError::Closed) => assert_eq!(engine.durable_lsn(), Lsn::ZERO),
            Err(other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn loom_commit_that_races_with_close_returns() {
    model_with(3, || {
        let (engine, _disk) = small_log::open();
        let writer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || commit(&engine, 1))
        };
        engine.close().unwrap();
        match writer.join().unwrap() {
            Ok(lsn) => assert_eq!((lsn, engine.durable_lsn()), (Lsn(1), Lsn(1))),
            Err(EngineError::Closed) => assert_eq!(engine.durable_lsn(), Lsn::ZERO),
            Err(other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn loom_two_appends_that_race_with_close_are_durable_or_refused() {
    model_with(3, || {
        let (engine, _disk) = small_log::open();
        let writers: Vec<_> = [1, 2]
            .into_iter()
            .map(|payload| {
                let engine = Arc::clone(&engine);
                thread::spawn(move || submit(&engine, payload))
            })
            .collect();
        engine.close().unwrap();
        let results = writers.into_iter().map(|writer| writer.join().unwrap());
        let accepted = results.filter(|result| match result {
            Ok(lsn) => *lsn <= engine.durable_lsn() || panic!("accepted and lost"),
            Err(EngineError::Closed) => false,
            Err(other) => panic!("{other:?}"),
        });
        assert_eq!(accepted.count() as u64, engine.durable_lsn().0, "nothing else is in the log");
    });
}

#[test]
fn loom_close_that_fails_tells_what_was_accepted() {
    model_with(3, || {
        let (engine, disk) = small_log::open();
        disk.inject(Fault::eio(Op::Sync).forever());
        let writer = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || submit(&engine, 1))
        };
        let closed = engine.close();
        let told = match closed {
            Err(EngineError::Failed { lsns, .. }) => lsns,
            Ok(()) => None,
            Err(other) => panic!("{other:?}"),
        };
        if writer.join().unwrap().is_ok() {
            assert_eq!(told, Some(LsnRange { first: Lsn(1), last: Lsn(1) }), "accepted, lost and not told");
        }
        assert_eq!(engine.durable_lsn(), Lsn::ZERO);
    });
}
