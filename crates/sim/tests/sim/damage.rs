//! Damage at rest is on the device, in every cache and in every image.

use braidlog_sim::{Profile, SimDisk};
use braidlog_storage::{FileAccess, FileIo, write_all_at};

use crate::{PAGE, create, names, open_dir, page};

fn disk_with_file() -> SimDisk {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, &page(0xf0), 0).unwrap();
    file.sync_all().unwrap();
    dir.sync().unwrap();
    disk
}

/// What the disk shows now and after every kind of crash.
fn everywhere(disk: &SimDisk, expected: &[u8]) {
    assert_eq!(disk.read_raw("d/f"), expected);
    let file = open_dir(disk).open("f", FileAccess::Read, FileIo::Buffered).unwrap();
    let mut read = vec![0; expected.len() + 1];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), expected.len());
    assert_eq!(&read[..expected.len()], expected);
    for profile in Profile::HONEST {
        for seed in 0..20 {
            assert_eq!(disk.crash_clone(seed, profile).read_raw("d/f"), expected, "{profile:?} {seed}");
        }
    }
}

#[test]
fn a_flipped_bit_is_the_only_change() {
    let disk = disk_with_file();
    disk.flip_bit("d/f", 1000, 0);
    let mut expected = page(0xf0);
    expected[1000] = 0xf1;
    everywhere(&disk, &expected);
    disk.flip_bit("d/f", 1000, 7);
    expected[1000] = 0x71;
    everywhere(&disk, &expected);
}

#[test]
#[should_panic(expected = "no byte 4096")]
fn a_bit_behind_the_end_cannot_be_flipped() {
    disk_with_file().flip_bit("d/f", PAGE as u64, 0);
}

#[test]
#[should_panic(expected = "no file d/g")]
fn a_missing_file_is_named() {
    disk_with_file().read_raw("d/g");
}

#[test]
fn raw_changes_of_bytes_and_length_are_durable() {
    let disk = disk_with_file();
    disk.write_raw("d/f", PAGE as u64 - 1, b"ab");
    let mut expected = page(0xf0);
    expected[PAGE - 1] = b'a';
    expected.push(b'b');
    everywhere(&disk, &expected);
    disk.truncate_raw("./d/f", 3);
    everywhere(&disk, &[0xf0; 3]);
    disk.truncate_raw("d/f", 5);
    everywhere(&disk, &[0xf0, 0xf0, 0xf0, 0, 0]);
}

#[test]
fn a_file_put_in_place_stays_and_a_removed_one_does_not_come_back() {
    let disk = disk_with_file();
    let dir = open_dir(&disk);
    dir.rename("f", "old", false).unwrap();
    disk.remove_raw("d/old");
    assert!(names(&dir).is_empty());
    for profile in [Profile::Posix, Profile::Ordered, Profile::Kept, Profile::LyingDisk] {
        assert!((0..100).all(|seed| disk.crash_clone(seed, profile).list_raw("d").is_empty()), "{profile:?}");
    }
    let after = disk_with_file().crash_clone(1, Profile::Posix);
    after.remove_raw("d/f");
    assert!((0..100).all(|seed| after.crash_clone(seed, Profile::LyingDisk).list_raw("d").is_empty()));

    create(&dir, "f");
    dir.remove("f").unwrap();
    create(&dir, "f");
    disk.put_raw("d/f", b"put");
    everywhere(&disk, b"put");
    assert_eq!(disk.list_raw("d"), [("f".to_owned(), 3)]);
    assert_eq!(disk.crash_clone(1, Profile::LyingDisk).read_raw("d/f"), b"put");
}

/// A synced file whose four sectors are filled with these values.
fn disk_with_sectors(values: [u8; 4]) -> SimDisk {
    let disk = disk_with_file();
    disk.put_raw("d/f", &sectors(values));
    disk
}

fn sectors(values: [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| [value; 512]).collect()
}

#[test]
fn zeroed_and_swapped_sectors_leave_the_others_alone() {
    let disk = disk_with_sectors([1, 2, 3, 4]);
    disk.zero_raw("d/f", 512, 1024);
    everywhere(&disk, &sectors([1, 0, 0, 4]));
    disk.swap_raw("d/f", 0, 1536, 512);
    everywhere(&disk, &sectors([4, 0, 0, 1]));
}

#[test]
fn a_stale_sector_is_as_it_once_was() {
    let disk = disk_with_sectors([1, 2, 3, 4]);
    let earlier = disk.crash_clone(0, Profile::Kept);
    disk.write_raw("d/f", 0, &sectors([5, 6, 7, 8]));
    disk.stale_raw("d/f", 512, 512, &earlier);
    everywhere(&disk, &sectors([5, 2, 7, 8]));
    earlier.truncate_raw("d/f", 512);
    disk.stale_raw("d/f", 1024, 512, &earlier);
    everywhere(&disk, &sectors([5, 2, 0, 8]));
}

#[test]
fn a_misdirected_write_is_missing_here_and_stands_there() {
    let disk = disk_with_sectors([1, 2, 3, 4]);
    let earlier = disk.crash_clone(0, Profile::Kept);
    disk.write_raw("d/f", 0, &[9; 512]);
    disk.misdirect_raw("d/f", 0, 1024, 512, &earlier);
    everywhere(&disk, &sectors([1, 2, 9, 4]));
}

#[test]
#[should_panic(expected = "no 512 bytes at 1537")]
fn sectors_behind_the_end_cannot_be_damaged() {
    disk_with_sectors([1, 2, 3, 4]).zero_raw("d/f", 1537, 512);
}

#[test]
fn files_are_duplicated_renamed_and_swapped_for_good() {
    let disk = disk_with_file();
    disk.put_raw("d/f", b"one");
    disk.put_raw("d/g", b"other");
    let contents = |disk: &SimDisk| -> Vec<(String, Vec<u8>)> {
        let names = disk.list_raw("d").into_iter().map(|(name, _)| name);
        names.map(|name| (name.clone(), disk.read_raw(format!("d/{name}")))).collect()
    };
    let check = |expected: &[(&str, &[u8])]| {
        let expected: Vec<_> =
            expected.iter().map(|&(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        assert_eq!(contents(&disk), expected);
        for profile in [Profile::Posix, Profile::Ordered, Profile::Kept] {
            assert!(
                (0..50).all(|seed| contents(&disk.crash_clone(seed, profile)) == expected),
                "{profile:?}"
            );
        }
    };
    disk.swap_files_raw("d/f", "d/g");
    check(&[("f", b"other"), ("g", b"one")]);
    disk.duplicate_raw("d/f", "h");
    check(&[("f", b"other"), ("g", b"one"), ("h", b"other")]);
    disk.rename_raw("d/g", "f");
    check(&[("f", b"one"), ("h", b"other")]);
}

#[test]
fn a_fingerprint_tells_disks_apart_by_what_reads_see() {
    let (disk, same) = (disk_with_file(), disk_with_file());
    assert_eq!(disk.fingerprint(), same.fingerprint());
    // Pages of zeros and pages that were never written read alike.
    disk.truncate_raw("d/f", 3 * PAGE as u64);
    same.write_raw("d/f", PAGE as u64, &[0; 2 * PAGE]);
    assert_eq!(disk.fingerprint(), same.fingerprint());
    same.flip_bit("d/f", 5000, 3);
    assert_ne!(disk.fingerprint(), same.fingerprint(), "a bit");
    same.flip_bit("d/f", 5000, 3);
    same.truncate_raw("d/f", 3 * PAGE as u64 - 1);
    assert_ne!(disk.fingerprint(), same.fingerprint(), "a length");
    let names = disk.crash_clone(0, Profile::Kept);
    names.put_raw("d/g", &[]);
    assert_ne!(disk.fingerprint(), names.fingerprint(), "a name");
}
