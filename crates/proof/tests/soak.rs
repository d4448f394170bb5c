//! The soak at a size that ends within a minute.

use std::time::Duration;

use braidlog_proof::soak;

#[test]
fn log_that_lives_loses_nothing_and_does_not_grow() {
    soak::child_main_if_asked();
    let args =
        ["--exact", "log_that_lives_loses_nothing_and_does_not_grow", "--nocapture", "--test-threads=1"];
    let counts = soak::run(Duration::from_secs(45), 1, &args);
    println!("{counts}");
    for name in ["kills", "closes", "backups", "checkpoints", "segments given up", "segments recycled"] {
        assert!(counts.get(name) > 0, "{name}: {counts}");
    }
    assert!(counts.get("acknowledged records checked") > 10_000, "the processes got to write: {counts}");
}
