//! Files of segments that were given up: which become spares, when they are used, and when they are given up.

use braidlog_format::{SegmentHeader, SegmentName};
use braidlog_sim::{Action, SimDisk};

use super::small_log::{self, Engine, commit};

/// Fills the segment under the pen with more than half of what it takes and begins the next; the name of the one before.
fn rotate(engine: &Engine) -> String {
    let first = engine.last_lsn().next();
    for _ in 0..10 {
        commit(engine, 1).unwrap();
    }
    let _ = engine.shared.role().rotate(&engine.shared);
    SegmentName(first).to_string()
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list_raw("wal").into_iter().map(|(name, _)| name).filter(|name| name != "LOCK").collect()
}

#[test]
fn segment_that_was_given_up_becomes_the_next_one() {
    let (engine, disk) = small_log::open();
    let old = rotate(&engine);
    let before = disk.read_raw(format!("wal/{old}"));
    assert!(engine.recycle(&old).unwrap());
    assert!(!names(&disk).contains(&old));
    // A file that was prepared before is used first.
    while engine.metrics().recycled == 0 {
        rotate(&engine);
    }
    let next = SegmentName(engine.last_lsn().next()).to_string();
    let after = disk.read_raw(format!("wal/{next}"));
    let header = |bytes: &[u8]| SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap();
    assert!(header(&after).recycled && !header(&before).recycled);
    assert_ne!(header(&after).salt, header(&before).salt);
    assert_eq!(after[4096..before.len()], before[4096..], "nothing is written where something was");
    engine.close().unwrap();
    assert!(names(&disk).iter().all(|name| name.ends_with(".wal")), "{:?}", names(&disk));
}

#[test]
fn old_name_is_gone_for_good_before_anything_is_written_to_the_file() {
    let (engine, disk) = small_log::open();
    let old = rotate(&engine);
    disk.take_trace();
    assert!(engine.recycle(&old).unwrap());
    while engine.metrics().recycled == 0 {
        rotate(&engine);
    }
    let trace = disk.take_trace();
    let renamed = trace.iter().enumerate().find_map(|(at, traced)| match &traced.action {
        Action::Rename { to, .. } if *traced.name == *old => Some((at, to)),
        _ => None,
    });
    let (at, to) = renamed.expect("it was renamed");
    let rest = &trace[at + 1..];
    let synced = rest.iter().position(|traced| traced.action == Action::SyncDir).expect("it was synced");
    let changed = rest.iter().position(|traced| {
        *traced.name == **to && matches!(traced.action, Action::Write { .. } | Action::Allocate { .. })
    });
    assert!(changed.is_some_and(|changed| synced < changed), "{rest:?}");
}

#[test]
fn linked_segment_is_not_recycled() {
    let (engine, disk) = small_log::open();
    let old = rotate(&engine);
    braidlog_storage::Storage::open_dir(&disk, "backup".as_ref(), true).unwrap();
    engine.shared.dir.link_into(&old, "backup".as_ref()).unwrap();
    let before = disk.read_raw(format!("backup/{old}"));
    assert!(!engine.recycle(&old).unwrap());
    assert!(names(&disk).contains(&old), "it is left to who asked");
    for _ in 0..3 {
        rotate(&engine);
    }
    assert_eq!(disk.read_raw(format!("backup/{old}")), before);
}

#[test]
fn what_is_under_the_pen_or_no_segment_or_too_much_is_not_recycled() {
    let (engine, disk) = small_log::open();
    let olds = [(); 3].map(|()| rotate(&engine));
    let current = SegmentName(engine.last_lsn().next()).to_string();
    assert!(!engine.recycle(&current).unwrap());
    assert_eq!(engine.recycle("MANIFEST").unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let missing = SegmentName(SegmentName::parse(&olds[1]).unwrap().0.prev()).to_string();
    assert_eq!(engine.recycle(&missing).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(olds.map(|old| engine.recycle(&old).unwrap()), [true, true, false], "two wait at most");
    let used = disk.used_bytes();
    assert!(engine.give_spares_up() && !engine.give_spares_up());
    assert!(disk.used_bytes() < used);
    engine.close().unwrap();
    assert!(
        engine.recycle(&current).is_err() || names(&disk).contains(&current),
        "a closed log takes nothing"
    );
}

#[test]
fn spare_is_used_where_a_new_file_does_not_fit_and_given_up_where_it_does_not_either() {
    for fits in [true, false] {
        let (engine, disk) = small_log::open();
        let old = rotate(&engine);
        assert!(engine.recycle(&old).unwrap());
        let spare_len = 12 * 4096;
        let preparer = &engine.shared.preparer;
        let missing = if fits { spare_len / 2 } else { 3 * spare_len };
        disk.set_capacity(Some(disk.used_bytes() + preparer.capacity_min() - missing));
        let used = disk.used_bytes();
        assert_eq!(preparer.prepare(0).is_ok(), fits);
        if !fits {
            assert_eq!(disk.used_bytes() + spare_len, used, "its space is there for others");
            assert!(!engine.give_spares_up());
            // And that is what a full disk gets first.
            disk.set_capacity(None);
        }
        commit(&engine, 1).unwrap();
        engine.close().unwrap();
    }
}
