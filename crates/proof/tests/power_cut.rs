//! Power cuts of the release binary at a size that ends within a minute, and the control that they are noticed.
#![cfg(target_os = "linux")]

use braidlog_proof::power_cut;

#[test]
fn acknowledged_lines_survive_every_power_cut() {
    let counts = power_cut::run(20, 1, None);
    println!("{counts}");
    // Without FUSE the harness has said so, and counts none.
    let cuts = counts.get("power cuts");
    assert!(cuts == 20 || cuts == 0, "{counts}");
    assert!(
        cuts == 0 || counts.get("acknowledged lines checked") > 1000,
        "the command got to write: {counts}"
    );
}

#[test]
fn a_disk_that_ignores_flushes_is_noticed() {
    match power_cut::notices_a_lying_disk(1) {
        Ok(noticed) => println!("noticed: {}", noticed.expect("lost acknowledgements are noticed")),
        Err(why) => println!("SKIPPED: no FUSE file system can be mounted: {why}"),
    }
}
