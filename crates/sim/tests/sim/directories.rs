//! What a crash leaves of directories themselves.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use braidlog_sim::{Bound, Fault, Op, Profile, SimDisk};
use braidlog_storage::{Storage, write_all_at};

use crate::create;

fn exists(disk: &SimDisk, path: &str) -> bool {
    disk.open_dir(Path::new(path), false).is_ok()
}

/// Which of `a` and `a/b` power cuts leave.
fn outcomes(disk: &SimDisk, profile: Profile) -> BTreeSet<(bool, bool)> {
    let left = |disk: SimDisk| (exists(&disk, "a"), exists(&disk, "a/b"));
    (0..100).map(|seed| left(disk.crash_clone(seed, profile))).collect()
}

fn enumerated(disk: &SimDisk, bound: Bound) -> Vec<(bool, bool)> {
    disk.crash_images(bound).iter().map(|disk| (exists(&disk, "a"), exists(&disk, "a/b"))).collect()
}

#[test]
fn a_directory_is_in_doubt_until_the_one_above_is_synced() {
    let disk = SimDisk::new();
    let hold = disk.hold(Op::SyncDir);
    thread::scope(|scope| {
        let opening = scope.spawn(|| disk.open_dir(Path::new("a/b"), true).unwrap());
        hold.wait_for_held(1);
        let expected = [(false, false), (true, false)];
        for profile in [Profile::Posix, Profile::Ordered, Profile::LyingDisk] {
            assert_eq!(outcomes(&disk, profile), expected.into(), "{profile:?}");
        }
        assert_eq!(outcomes(&disk, Profile::Kept), [(true, false)].into());
        let killed = disk.crash_clone(0, Profile::Kept);
        assert_eq!(outcomes(&killed, Profile::Posix), expected.into(), "a kill makes nothing safer");
        assert_eq!(enumerated(&disk, Bound::Pages), expected);
        assert_eq!(enumerated(&disk, Bound::Ordered), expected);

        hold.let_through(1);
        while disk.counts().dirs_made < 2 {
            thread::yield_now();
        }
        hold.wait_for_held(1);
        assert_eq!(outcomes(&disk, Profile::Posix), [(true, false), (true, true)].into());
        hold.release();
        opening.join().unwrap();
    });
    for profile in Profile::HONEST {
        assert_eq!(outcomes(&disk, profile), [(true, true)].into(), "{profile:?}");
    }
}

#[test]
fn a_directory_whose_sync_failed_is_synced_by_whoever_opens_it_to_create() {
    let disk = SimDisk::new();
    disk.inject(Fault::eio(Op::SyncDir));
    disk.open_dir(Path::new("a"), true).unwrap_err();
    assert!(exists(&disk, "a"), "it is there, but not safe");
    assert!(outcomes(&disk, Profile::Posix).contains(&(false, false)));
    disk.open_dir(Path::new("a/b"), true).unwrap();
    assert_eq!(outcomes(&disk, Profile::Posix), [(true, true)].into());
    let syncs = disk.counts().dir_syncs;
    disk.open_dir(Path::new("a/b"), true).unwrap();
    assert_eq!(disk.counts().dir_syncs, syncs, "what is safe is not synced again");
}

#[test]
fn a_lost_directory_takes_along_what_was_synced_in_it() {
    let disk = SimDisk::new();
    disk.inject(Fault::eio(Op::SyncDir));
    disk.open_dir(Path::new("a"), true).unwrap_err();
    let dir = disk.open_dir(Path::new("a"), false).unwrap();
    let file = create(&dir, "f");
    write_all_at(&*file, b"x", 0).unwrap();
    file.sync_all().unwrap();
    dir.sync().unwrap();
    let left = |disk: SimDisk| exists(&disk, "a").then(|| disk.list_raw("a"));
    let expected = [None, Some(vec![("f".to_owned(), 1)])];
    let drawn: BTreeSet<_> = (0..100).map(|seed| left(disk.crash_clone(seed, Profile::Posix))).collect();
    assert_eq!(drawn, expected.clone().into());
    assert_eq!(disk.crash_images(Bound::Damage).iter().map(left).collect::<Vec<_>>(), expected);

    disk.open_dir(Path::new(""), false).unwrap().sync().unwrap();
    assert_eq!(disk.crash_images(Bound::Damage).total(), 1, "a sync of the root covers it");
}
