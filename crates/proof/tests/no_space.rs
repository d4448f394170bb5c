//! Full file systems at a size that ends within a minute.
#![cfg(target_os = "linux")]

use braidlog_proof::{kill, no_space};

#[test]
fn a_full_file_system_loses_nothing_and_heals() {
    kill::child_main_if_asked();
    let args = ["--exact", "a_full_file_system_loses_nothing_and_heals", "--nocapture", "--test-threads=1"];
    let counts = no_space::run(1, 1, None, &args);
    println!("{counts}");
    // Without the right to mount the harness has said so, and counts none.
    assert_eq!(counts.get("fillings") > 0, counts.get("kills on a full disk") > 0, "{counts}");
    assert!(counts.get("fillings") >= 4 || counts.0.is_empty(), "{counts}");
}
