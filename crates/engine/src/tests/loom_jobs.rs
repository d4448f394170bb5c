//! Model of the jobs' hand-over to the maintenance thread, whose own body it runs: what is asked for while the
//! thread is at work is not forgotten, and no asker blocks.

use std::sync::Arc;

use super::model_with;
use super::small_log;
use crate::maintenance;
use crate::primitive::thread;

#[test]
fn loom_file_that_is_asked_for_while_one_is_made_is_made_too() {
    model_with(3, || {
        let (engine, _disk) = small_log::open_for_threads();
        let shared = &engine.shared;
        let jobs = shared.jobs.connect();
        let maintenance = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || maintenance::run(&engine.shared, &jobs))
        };
        // The next file is due. When it is there, it is taken at once.
        shared.space.set_current(u64::MAX, 0);
        assert!(shared.jobs.ask_prepare());
        let taken = shared.space.take(0);
        assert!(shared.jobs.ask_prepare());
        shared.jobs.end();
        maintenance.join().unwrap();
        assert!(!shared.preparer.is_wanted(), "asked for and not made; one was taken: {}", taken.is_some());
    });
}
