//! Models of the background thread as it goes to sleep, on a whole log: it never sleeps through what it is there
//! for. Each runs the thread's own body, turn by turn, until it has done what the model is about.

use std::sync::Arc;

use braidlog_format::Lsn;

use super::model_with;
use super::small_log::{self, Engine, commit, submit};
use crate::flusher::{Flusher, Work};
use crate::primitive::thread::{self, JoinHandle};

/// Starts the thread; it ends when it has done work after which `until` holds.
fn start(engine: &Arc<Engine>, until: fn(&Engine, Work) -> bool) -> JoinHandle<()> {
    let parker = engine.shared.signal.parker();
    let engine = Arc::clone(engine);
    thread::spawn(move || {
        let mut flusher = Flusher::new(&engine.shared);
        while !flusher.turn(&parker).is_some_and(|work| until(&engine, work)) {}
    })
}

#[test]
fn loom_flusher_syncs_a_record_that_nobody_waits_for() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        // Its first round may meet a gap: the LSN is drawn and not published yet.
        let flusher = start(&engine, |engine, _| engine.durable_lsn() == Lsn(1));
        assert_eq!(submit(&engine, 1).unwrap(), Lsn(1));
        flusher.join().unwrap();
    });
}

#[test]
fn loom_flusher_writes_the_mark_that_a_leader_owes() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let flusher = start(&engine, |_, work| work == Work::IdleMark);
        commit(&engine, 1).unwrap();
        flusher.join().unwrap();
    });
}

#[test]
fn loom_flusher_ends_when_the_log_closes() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let parker = engine.shared.signal.parker();
        let flusher = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || Flusher::new(&engine.shared).run(&parker))
        };
        engine.close().unwrap();
        flusher.join().unwrap();
    });
}
