//! Operations that are under way at the same time: what a crash makes of them, and in which order they end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braidlog_sim::{Action, Bound, Fault, Op, Profile, SimDisk};
use braidlog_storage::write_all_at;

use crate::{PAGE, create, open_dir, page};

#[test]
fn a_write_that_has_not_returned_may_be_there_in_any_part() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    dir.sync().unwrap();
    let hold = disk.hold(Op::Write);
    thread::scope(|scope| {
        let writing = scope.spawn(|| write_all_at(&*file, &page(2), 0).unwrap());
        hold.wait_for_held(1);
        let torn = [vec![2; 512], vec![1; PAGE - 512]].concat();
        for bound in [Bound::Ordered, Bound::Sectors] {
            let images = disk.crash_images(bound);
            let images: BTreeSet<_> = images.iter().map(|image| image.read_raw("d/f")).collect();
            for bytes in [&page(1), &page(2), &torn] {
                assert!(images.contains(bytes), "{bound:?}");
            }
        }
        let drawn = |profile| -> BTreeSet<_> {
            (0..500).map(|seed| disk.crash_clone(seed, profile).read_raw("d/f")).collect()
        };
        assert!(drawn(Profile::Posix).is_superset(&[page(1), page(2)].into()));
        assert!(drawn(Profile::Ordered).is_superset(&[page(1), page(2), torn].into()));
        assert_eq!(drawn(Profile::Kept), [page(1)].into(), "the call of a killed process did nothing yet");
        assert_eq!(disk.read_raw("d/f"), page(1), "and readers do not see it");

        file.sync_all().expect("other operations go on");
        assert!(drawn(Profile::Posix).len() > 2, "no sync covers what has not returned");
        hold.release();
        writing.join().unwrap();
    });
    file.sync_all().unwrap();
    assert_eq!(disk.crash_images(Bound::Damage).total(), 1, "nothing is under way any more");
}

#[test]
fn a_write_under_way_to_a_file_without_a_name_is_left_by_no_crash() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    dir.remove("f").unwrap();
    dir.sync().unwrap();
    disk.inject(Fault::hang(Op::Write));
    thread::scope(|scope| {
        scope.spawn(|| file.write_at(b"x", 0).unwrap());
        disk.wait_for_hung(1);
        assert_eq!(disk.crash_images(Bound::Damage).total(), 1);
        disk.clear_faults();
    });
}

#[test]
fn an_operation_that_is_alone_is_not_held_up_by_reordering() {
    let disk = SimDisk::new();
    disk.reorder(1);
    let file = create(&open_dir(&disk), "f");
    for count in 0..1000 {
        file.write_at(&[1], count).unwrap();
        file.sync_data().unwrap();
    }
    assert_eq!(disk.counts().syncs_data, 1000);
}

#[test]
fn operations_that_are_under_way_together_overtake_each_other_and_all_return() {
    const THREADS: u64 = 4;
    const WRITES: u64 = 500;
    let disk = SimDisk::new();
    let file = create(&open_dir(&disk), "f");
    disk.reorder(7);
    let called = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..WRITES {
                    let offset = called.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(file.write_at(&[1], offset).unwrap(), 1);
                }
            });
        }
        // A second room, while the first one is in use, loses nobody.
        disk.reorder(8);
    });
    let trace = disk.take_trace();
    let written = trace.iter().filter_map(|traced| match traced.action {
        Action::Write { offset, .. } => Some(offset),
        _ => None,
    });
    let written: Vec<_> = written.collect();
    let every: BTreeSet<_> = written.iter().copied().collect();
    assert_eq!((written.len() as u64, every.len() as u64), (THREADS * WRITES, THREADS * WRITES));
    assert!(!written.is_sorted(), "nothing was reordered");
}
