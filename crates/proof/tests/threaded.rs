//! The log with all its threads under shuttle: some workloads of `braidlog_proof::threaded`.
//!
//! `RUSTFLAGS="--cfg braidlog_shuttle" CARGO_TARGET_DIR=target/shuttle cargo test -p braidlog-proof --test threaded`
#![cfg(braidlog_shuttle)]

use std::panic::catch_unwind;

use braidlog_proof::extent::Extent;
use braidlog_proof::threaded;
use braidlog_sim::Profile;

#[test]
fn every_promise_holds_in_every_schedule() {
    let counts = threaded::run(&Extent { threads: 2, ..Extent::rounds(0, 150) });
    println!("{counts}");
    assert_eq!(counts.get("schedules"), 150 * threaded::SCHEDULES as u64);
    assert!(counts.get("images") > counts.get("schedules"), "{counts}");
    assert!(counts.get("segments that another follows") > counts.get("schedules") / 10, "{counts}");
}

#[test]
fn a_device_that_ignores_flushes_is_found_out() {
    let lying = |seed| threaded::round_on(seed, |disk, seed, _| disk.crash_clone(seed, Profile::LyingDisk));
    let noticed = (0..6).filter(|&seed| catch_unwind(|| lying(seed)).is_err()).count();
    assert_eq!(noticed, 6, "workloads of six that noticed");
}
