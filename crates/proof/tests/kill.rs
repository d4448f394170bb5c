//! The kill harness at a size that ends within a minute, and what it must notice.

use braidlog_proof::kill;

#[test]
fn acknowledged_records_survive_every_kill() {
    kill::child_main_if_asked();
    let args = ["--exact", "acknowledged_records_survive_every_kill", "--nocapture", "--test-threads=1"];
    let counts = kill::run(200, 1, None, &args);
    println!("{counts}");
    assert!(counts.get("kills") >= 100, "{counts}");
    assert!(
        counts.get("kills by the parent") > 0 && counts.get("kills before the log was open") > 0,
        "{counts}"
    );
    assert!(counts.get("acknowledged records checked") > 10_000, "the processes got to write: {counts}");
}
