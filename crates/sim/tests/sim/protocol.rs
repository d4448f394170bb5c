//! Counts, traces and holds: what a test can see of a protocol and do to its moments.

use std::io::ErrorKind;
use std::thread;

use braidlog_sim::{Action, Fault, Op, Profile, SimDisk, TRACE_MAX};
use braidlog_storage::{FileAccess, FileIo, write_all_at};

use crate::{create, open_dir, page};

#[test]
fn the_trace_tells_every_operation_in_its_order() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "1.prep");
    file.allocate(9000).unwrap();
    write_all_at(&*file, b"abc", 5).unwrap();
    file.sync_all().unwrap();
    dir.rename("1.prep", "1.wal", false).unwrap();
    dir.sync().unwrap();
    disk.inject(Fault::error(Op::Write, ErrorKind::StorageFull));
    file.write_at(b"de", 8).unwrap_err();
    file.set_len(3).unwrap();
    file.sync_data().unwrap();
    file.drop_cache().unwrap();
    let reader = dir.open("1.wal", FileAccess::Read, FileIo::Buffered).unwrap();
    assert_eq!(reader.read_at(&mut [0; 10], 1).unwrap(), 2);
    dir.remove("1.wal").unwrap();

    let trace = disk.take_trace();
    let directories: Vec<_> = trace.iter().map(|traced| traced.directory.to_str().unwrap()).collect();
    assert_eq!(directories[..2], ["", ""], "the directory is made in the one above");
    assert!(directories[2..].iter().all(|directory| *directory == "d"));
    let told: Vec<_> = trace.iter().map(|t| (&*t.name, t.action.clone(), t.error)).collect();
    let rename = Action::Rename { to: "1.wal".to_owned(), replace: false };
    assert_eq!(
        told,
        [
            ("d", Action::MakeDir, None),
            ("", Action::SyncDir, None),
            ("1.prep", Action::Create, None),
            ("1.prep", Action::Allocate { len: 9000 }, None),
            ("1.prep", Action::Write { offset: 5, len: 3 }, None),
            ("1.prep", Action::SyncAll, None),
            ("1.prep", rename, None),
            ("", Action::SyncDir, None),
            ("1.wal", Action::Write { offset: 8, len: 2 }, Some(ErrorKind::StorageFull)),
            ("1.wal", Action::SetLen { len: 3 }, None),
            ("1.wal", Action::SyncData, None),
            ("1.wal", Action::DropCache, None),
            ("1.wal", Action::Open, None),
            ("1.wal", Action::Read { offset: 1, len: 2 }, None),
            ("1.wal", Action::Remove, None),
        ]
    );
    assert!(disk.take_trace().is_empty(), "each operation is told once");

    let counts = disk.counts();
    assert_eq!((counts.creates, counts.opens, counts.renames, counts.removes), (1, 1, 1, 1));
    assert_eq!((counts.writes, counts.bytes_written, counts.failures), (1, 3, 1));
    assert_eq!((counts.reads, counts.bytes_read), (1, 2));
    assert_eq!((counts.syncs_data, counts.syncs_all, counts.syncs(), counts.dir_syncs), (1, 1, 2, 2));
    assert_eq!((counts.allocates, counts.set_lens, counts.cache_drops), (1, 1, 1));
    assert_eq!(counts.dirs_made, 1);
}

#[test]
fn a_trace_keeps_the_newest_operations() {
    let disk = SimDisk::new();
    let file = create(&open_dir(&disk), "f");
    for offset in 0..TRACE_MAX as u64 + 10 {
        file.write_at(b"x", offset).unwrap();
    }
    let trace = disk.take_trace();
    assert_eq!(trace.len(), TRACE_MAX);
    assert_eq!(trace[0].action, Action::Write { offset: 10, len: 1 });
}

#[test]
fn held_syncs_wait_until_they_are_let_through_or_released() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    let hold = disk.hold_syncs();
    thread::scope(|scope| {
        let syncing: Vec<_> = (0..3).map(|_| scope.spawn(|| file.sync_data().unwrap())).collect();
        hold.wait_for_held(3);
        file.write_at(b"x", 0).expect("other operations are not held");
        dir.sync().expect("nor are directories");
        assert_eq!((hold.held(), disk.counts().syncs()), (3, 0));
        hold.let_through(1);
        while disk.counts().syncs() == 0 {
            thread::yield_now();
        }
        assert_eq!((hold.held(), disk.counts().syncs()), (2, 1));
        hold.release();
        for syncing in syncing {
            syncing.join().unwrap();
        }
    });
    assert_eq!(disk.counts().syncs(), 3);
    file.sync_data().expect("a released hold is gone");
}

#[test]
fn an_operation_passes_every_hold_that_matches() {
    let disk = SimDisk::new();
    let file = create(&open_dir(&disk), "f");
    let (writes, everything) = (disk.hold(Op::Write), disk.hold(Op::Any));
    thread::scope(|scope| {
        let writing = scope.spawn(|| file.write_at(b"x", 0).unwrap());
        writes.wait_for_held(1);
        assert_eq!(everything.held(), 0);
        writes.release();
        everything.wait_for_held(1);
        assert_eq!(disk.counts().writes, 0);
        drop(everything);
        writing.join().unwrap();
    });
    assert_eq!(disk.counts().writes, 1);
}

#[test]
fn a_crash_image_can_be_taken_while_an_operation_is_held() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    dir.sync().unwrap();
    let hold = disk.hold(Op::Write);
    thread::scope(|scope| {
        scope.spawn(|| write_all_at(&*file, &page(1), 0).unwrap());
        hold.wait_for_held(1);
        let after = disk.crash_clone(1, Profile::Kept);
        assert!(after.read_raw("d/f").is_empty());
        create(&open_dir(&after), "g").write_at(b"x", 0).expect("holds do not go with an image");
        hold.release();
    });
}
