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
