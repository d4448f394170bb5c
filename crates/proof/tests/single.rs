//! The log on one thread, with a crash at every storage operation: a short run of `braidlog_proof::single`.

use std::panic::catch_unwind;

use braidlog_proof::extent::Extent;
use braidlog_proof::single;
use braidlog_sim::Profile;

#[test]
fn every_promise_holds_at_every_storage_operation() {
    let counts = single::run(&Extent { threads: 2, ..Extent::rounds(0, 60) });
    println!("{counts}");
    for what in [
        "images",
        "images of a struck recovery",
        "crashes gone on from",
        "logs failed",
        "full disks healed",
        "errors told",
        "failed openings",
        "logs gone on with",
        "damaged records told",
        "bursts that no sync covered",
        "checkpoints",
        "checkpoints of changes",
        "truncations",
        "cuts by the retention",
    ] {
        assert!(counts.get(what) > 0, "no {what}: {counts}");
    }
}

/// Seeds that once failed, each with its story; they draw otherwise now that logs are cut too. The log's faults:
/// * 3572: two short reads of a header in a row, taken for the end of its file; the segment was replaced.
/// * 2936: an old block of the device in the place of a closing seal, which `verify` called damage.
/// * 2209: a checkpoint within a batch, of which a reader was shown the first part.
///
/// The driver's own:
/// * 113: the disk of a crash that the run went on from was still full, and the driver did not know.
/// * 6: an image in which a failed sync had lost pages, which a reader drops from the cache.
/// * 2774: a disk that failed three reads in a row, where the driver asked only twice.
const KEPT: [u64; 6] = [6, 113, 2209, 2774, 2936, 3572];

#[test]
fn seeds_that_once_failed_pass() {
    for seed in KEPT {
        single::run(&Extent::rounds(seed, 1));
    }
}

#[test]
fn a_device_that_ignores_flushes_is_found_out() {
    let lying = |seed| single::round_on(seed, |disk, seed, _| disk.crash_clone(seed, Profile::LyingDisk));
    let noticed = (0..5).filter(|&seed| catch_unwind(|| lying(seed)).is_err()).count();
    assert_eq!(noticed, 5, "runs of five that noticed");
}
