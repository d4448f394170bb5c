//! The example that keeps a map in a log with checkpoints: it does what it says, and keeps its promises when it is killed.

#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/state_machine.rs"]
mod state_machine;

use std::path::Path;
use std::process::Command;

use state_machine::{Store, self_test, work};

/// The directory in which this process is the one that is killed.
const DIR: &str = "BRAIDLOG_TEST_STATE_MACHINE";

#[test]
fn the_map_of_the_example_survives_being_killed_at_any_moment() {
    if let Some(dir) = std::env::var_os(DIR) {
        work(Path::new(&dir)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "the_map_of_the_example_survives_being_killed_at_any_moment",
            "--nocapture",
        ]);
        command.env(DIR, dir.path());
        command
    };
    let promised = self_test(dir.path(), 15, &command).unwrap();
    assert!(promised > 100, "{promised} values were promised");
}

#[test]
fn the_map_of_the_example_holds_what_was_put() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.count(), round);
        store.put(&format!("key {round}"), b"first").unwrap();
        store.put(&format!("key {round}"), &[round as u8; 3]).unwrap();
        if round % 2 == 0 {
            store.checkpoint().unwrap();
        }
        for earlier in 0..=round {
            assert_eq!(store.get(&format!("key {earlier}")), Some(vec![earlier as u8; 3]));
        }
        assert_eq!(store.get("no key"), None);
    }
}
