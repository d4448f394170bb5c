//! Every way to read a log gives the same records: a short run of `braidlog_proof::readings`.

use braidlog_proof::extent::Extent;
use braidlog_proof::readings;

#[test]
fn every_way_to_read_a_log_gives_the_same_records() {
    let counts = readings::run(&Extent { threads: 2, ..Extent::rounds(0, 24) });
    println!("{counts}");
    for what in ["records", "truncations", "backups", "packed segments", "forks"] {
        assert!(counts.get(what) > 0, "no {what}: {counts}");
    }
}
