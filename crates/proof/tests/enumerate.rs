//! Tiny workloads, every moment and every image: the shortest of those of `braidlog_proof::enumerate`.

use braidlog_proof::enumerate;
use braidlog_proof::extent::Extent;

#[test]
fn every_image_of_every_moment_of_the_shortest_workloads_is_recovered() {
    let extent = Extent { threads: 2, ..Extent::rounds(0, enumerate::workloads(1) + 36) };
    let counts = enumerate::run(&extent, 1000);
    println!("{counts}");
    assert_eq!(counts.get("workloads"), 60);
    for what in ["moments in order", "moments with ruined sectors", "images of a struck recovery"] {
        assert!(counts.get(what) > 100, "{what}: {counts}");
    }
    assert!(counts.get("images") > 5000, "{counts}");
}
