//! What a crash leaves of names.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use braidlog_sim::{Op, Profile, SimDisk};
use braidlog_storage::{FileAccess, FileIo, write_all_at};

use crate::{create, open_dir};

const SEEDS: u64 = 500;

/// Every outcome of a power cut: the names with the first byte of each file.
fn outcomes(disk: &SimDisk, profile: Profile) -> BTreeSet<String> {
    let outcome = |seed| {
        let after = disk.crash_clone(seed, profile);
        let files = after.list_raw("d").into_iter().map(|(name, _)| {
            let first = after.read_raw(format!("d/{name}")).first().copied().unwrap_or(b'-');
            format!("{name}={}", first as char)
        });
        files.collect::<Vec<_>>().join(" ")
    };
    (0..SEEDS).map(outcome).collect()
}

/// A disk with the files of these names, each holding one synced byte; the names are synced too.
fn disk_with(files: &[(&str, u8)]) -> SimDisk {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    for &(name, byte) in files {
        let file = create(&dir, name);
        write_all_at(&*file, &[byte], 0).unwrap();
        file.sync_all().unwrap();
    }
    dir.sync().unwrap();
    disk
}

fn set(outcomes: &[&str]) -> BTreeSet<String> {
    outcomes.iter().map(|&outcome| outcome.to_owned()).collect()
}

#[test]
fn a_new_name_may_vanish_until_the_directory_is_synced_even_if_the_file_is() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, b"a", 0).unwrap();
    file.sync_all().unwrap();
    for profile in [Profile::Posix, Profile::Ordered] {
        assert_eq!(outcomes(&disk, profile), set(&["", "f=a"]), "{profile:?}");
    }
    assert_eq!(outcomes(&disk, Profile::Kept), set(&["f=a"]));
    dir.sync().unwrap();
    for profile in Profile::HONEST {
        assert_eq!(outcomes(&disk, profile), set(&["f=a"]), "{profile:?}");
    }
}

#[test]
fn a_removed_name_may_come_back_with_its_bytes() {
    let disk = disk_with(&[("f", b'a')]);
    let dir = open_dir(&disk);
    dir.remove("f").unwrap();
    for profile in [Profile::Posix, Profile::Ordered] {
        assert_eq!(outcomes(&disk, profile), set(&["", "f=a"]), "{profile:?}");
    }
    dir.sync().unwrap();
    assert_eq!(outcomes(&disk, Profile::Posix), set(&[""]));
}

#[test]
fn a_renamed_file_has_one_of_its_names_never_none_or_both() {
    let disk = disk_with(&[("1.prep", b'a')]);
    let dir = open_dir(&disk);
    dir.rename("1.prep", "1.wal", false).unwrap();
    for profile in [Profile::Posix, Profile::Ordered] {
        assert_eq!(outcomes(&disk, profile), set(&["1.prep=a", "1.wal=a"]), "{profile:?}");
    }
    dir.sync().unwrap();
    assert_eq!(outcomes(&disk, Profile::Posix), set(&["1.wal=a"]));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let disk = disk_with(&[("f", b'a'), ("new", b'b')]);
    let dir = open_dir(&disk);
    dir.rename("new", "f", true).unwrap();
    for profile in [Profile::Posix, Profile::Ordered] {
        assert_eq!(outcomes(&disk, profile), set(&["f=a new=b", "f=b"]), "{profile:?}");
    }
}

#[test]
fn changes_of_names_come_through_in_any_order_under_posix_only() {
    let disk = disk_with(&[("f", b'a')]);
    let dir = open_dir(&disk);
    create(&dir, "g");
    dir.remove("f").unwrap();
    assert_eq!(outcomes(&disk, Profile::Posix), set(&["f=a", "f=a g=-", "g=-", ""]));
    assert_eq!(outcomes(&disk, Profile::Ordered), set(&["f=a", "f=a g=-", "g=-"]));
}

#[test]
fn a_name_may_come_through_before_the_bytes_of_its_file() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, b"a", 0).unwrap();
    dir.sync().unwrap();
    assert!(outcomes(&disk, Profile::Posix).is_superset(&set(&["f=-", "f=a"])));
}

#[test]
fn a_sync_covers_only_the_names_made_before_it_was_asked_for() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    create(&dir, "f");
    let hold = disk.hold(Op::SyncDir);
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| dir.sync().unwrap());
        hold.wait_for_held(1);
        create(&dir, "g");
        assert_eq!(outcomes(&disk, Profile::Ordered), set(&["", "f=-", "f=- g=-"]));
        hold.release();
        syncing.join().unwrap();
    });
    assert_eq!(outcomes(&disk, Profile::Posix), set(&["f=-", "f=- g=-"]));
}

#[test]
fn the_sync_of_one_directory_leaves_others_alone() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    create(&dir, "f");
    open_other(&disk).sync().unwrap();
    assert_eq!(outcomes(&disk, Profile::Posix), set(&["", "f=-"]));
}

fn open_other(disk: &SimDisk) -> std::sync::Arc<dyn braidlog_storage::LogDir> {
    use braidlog_storage::Storage;
    disk.open_dir(std::path::Path::new("other"), true).unwrap()
}

#[test]
fn a_file_linked_into_another_directory_is_one_file_with_two_names() {
    let disk = disk_with(&[("a", b'1')]);
    let (dir, other) = (open_dir(&disk), open_other(&disk));
    let file = dir.open("a", FileAccess::Write, FileIo::Buffered).unwrap();
    assert_eq!(file.links().unwrap(), 1);
    dir.link_into("a", "other".as_ref()).unwrap();
    assert_eq!(file.links().unwrap(), 2);
    assert_eq!(dir.link_into("a", "other".as_ref()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(dir.link_into("b", "other".as_ref()).unwrap_err().kind(), ErrorKind::NotFound);
    let used = disk.used_bytes();
    dir.remove("a").unwrap();
    assert_eq!((file.links().unwrap(), disk.used_bytes()), (1, used), "its space is kept by the other name");
    write_all_at(&*file, b"2", 0).unwrap();

    // The name that is not synced may be missing, the one that is gone may be back; both name the same bytes.
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let after = disk.crash_clone(seed, Profile::Posix);
        let byte = |path: &str, dir: &str| {
            let is_there = after.list_raw(dir).iter().any(|(name, _)| name == "a");
            is_there.then(|| after.read_raw(path)[0])
        };
        let left = (byte("d/a", "d"), byte("other/a", "other"));
        if let (Some(one), Some(two)) = left {
            assert_eq!(one, two, "seed {seed}");
        }
        seen.insert((left.0.is_some(), left.1.is_some()));
    }
    assert_eq!(seen.len(), 4);
    other.sync().unwrap();
    let after = disk.crash_clone(1, Profile::Posix);
    assert_eq!(after.list_raw("other").len(), 1);
}
