//! The log on one thread, with a crash at every storage operation: a short run of `braidlog_proof::single`.

use std::panic::catch_unwind;

use braidlog_proof::extent::Extent;
use braidlog_proof::single;
use braidlog_sim::Profile;

#[test]
fn every_promise_holds_at_every_storage_operation() {
    let counts = single::run(&Extent::rounds(0, 20));
    println!("{counts}");
    for what in ["images", "images of a struck recovery", "crashes gone on from", "logs failed"] {
        assert!(counts.get(what) > 0, "no {what}: {counts}");
    }
}

#[test]
fn a_device_that_ignores_flushes_is_found_out() {
    let lying = |seed| single::round_on(seed, |disk, seed, _| disk.crash_clone(seed, Profile::LyingDisk));
    let noticed = (0..5).filter(|&seed| catch_unwind(|| lying(seed)).is_err()).count();
    assert_eq!(noticed, 5, "runs of five that noticed");
}
