//! The example that crash-tests a store on top of Braidlog: it passes, and it finds the bugs planted in it.

#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/crash_test.rs"]
mod crash_test;

use crash_test::{Bug, run};

#[test]
fn the_store_of_the_example_keeps_its_promises_across_crashes() {
    let images = run(Bug::None, 3).unwrap();
    assert!(images >= 3, "{images} images");
}

#[test]
fn the_example_finds_a_store_that_answers_before_its_log_does() {
    let found = run(Bug::Early, 50).expect_err("the planted bug was not found").to_string();
    assert!(found.contains("was promised") || found.contains("second crash"), "{found}");
}

#[test]
fn the_example_finds_a_store_that_does_not_sync_its_snapshot() {
    run(Bug::Snapshot, 50).expect_err("the planted bug was not found");
}
