//! The disk's capacity: what fits, what does not, and what gives space back.

use std::sync::Arc;

use braidlog_sim::{Profile, SimDisk};
use braidlog_storage::{FileAccess, FileIo, LogFile, is_no_space, write_all_at};

use crate::{PAGE, create, open_dir, page};

/// A disk with room for `pages`, and an empty file on it.
fn small_disk(pages: usize) -> (SimDisk, Arc<dyn LogFile>) {
    let disk = SimDisk::new();
    disk.set_capacity(Some((pages * PAGE) as u64));
    let file = create(&open_dir(&disk), "f");
    (disk, file)
}

fn used_pages(disk: &SimDisk) -> usize {
    disk.used_bytes() as usize / PAGE
}

#[test]
fn a_write_takes_what_fits_and_then_fails() {
    let (disk, file) = small_disk(2);
    assert_eq!(file.write_at(&[1; 3 * PAGE], 100).unwrap(), 2 * PAGE - 100);
    assert!(is_no_space(&file.write_at(&[1; 10], 2 * PAGE as u64).unwrap_err()));
    assert!(is_no_space(&write_all_at(&*file, &[2; 3 * PAGE], 0).unwrap_err()));
    assert_eq!(file.len().unwrap(), 2 * PAGE as u64);
    assert_eq!(used_pages(&disk), 2);
    write_all_at(&*file, &page(3), PAGE as u64).expect("overwriting takes no space");
}

#[test]
fn writes_inside_allocated_space_never_fail() {
    let (disk, file) = small_disk(3);
    file.allocate(2 * PAGE as u64 + 1).unwrap();
    assert_eq!(used_pages(&disk), 3);
    assert_eq!(disk.read_raw("d/f"), vec![0; 2 * PAGE + 1]);
    let other = create(&open_dir(&disk), "g");
    assert!(is_no_space(&other.write_at(b"x", 0).unwrap_err()));
    disk.set_capacity(Some(0));
    write_all_at(&*file, &[7; 3 * PAGE], 0).unwrap();
    assert!(is_no_space(&file.write_at(b"x", 3 * PAGE as u64).unwrap_err()));
}

#[test]
fn an_allocation_that_does_not_fit_fails_and_may_grow_the_file() {
    let (disk, file) = small_disk(2);
    assert!(is_no_space(&file.allocate(5 * PAGE as u64).unwrap_err()));
    assert_eq!((file.len().unwrap(), used_pages(&disk)), (2 * PAGE as u64, 2));
    file.allocate(2 * PAGE as u64).expect("what is allocated already is there");
}

#[test]
fn space_comes_back_when_it_is_cut_removed_or_granted() {
    let (disk, file) = small_disk(4);
    let dir = open_dir(&disk);
    file.allocate(4 * PAGE as u64).unwrap();
    file.set_len(PAGE as u64).unwrap();
    assert_eq!(used_pages(&disk), 1);
    let other = create(&dir, "g");
    write_all_at(&*other, &[1; 3 * PAGE], 0).unwrap();
    assert!(is_no_space(&file.write_at(b"x", PAGE as u64).unwrap_err()));

    dir.remove("g").unwrap();
    assert_eq!(used_pages(&disk), 4, "an open file keeps its space");
    drop(other);
    assert_eq!(used_pages(&disk), 1);
    write_all_at(&*file, &[1; 3 * PAGE], PAGE as u64).unwrap();

    assert!(is_no_space(&file.write_at(b"x", 4 * PAGE as u64).unwrap_err()));
    disk.set_capacity(None);
    write_all_at(&*file, b"x", 4 * PAGE as u64).unwrap();
}

#[test]
fn a_replaced_file_gives_its_space_back() {
    let (disk, file) = small_disk(4);
    let dir = open_dir(&disk);
    write_all_at(&*file, &[1; 3 * PAGE], 0).unwrap();
    drop(file);
    write_all_at(&*create(&dir, "g"), &page(2), 0).unwrap();
    assert_eq!(used_pages(&disk), 4);
    dir.rename("g", "f", true).unwrap();
    assert_eq!(used_pages(&disk), 1);
}

#[test]
fn a_hole_takes_no_space_until_it_is_written() {
    let (disk, file) = small_disk(1);
    file.set_len(100 * PAGE as u64).unwrap();
    assert_eq!(used_pages(&disk), 0);
    write_all_at(&*file, b"x", 50 * PAGE as u64).unwrap();
    assert!(is_no_space(&file.write_at(b"x", 0).unwrap_err()));
    assert!(is_no_space(&file.allocate(2 * PAGE as u64).unwrap_err()), "a hole has to find space");
}

#[test]
fn a_crash_keeps_the_space_that_it_keeps_the_length_of() {
    let (disk, file) = small_disk(4);
    let dir = open_dir(&disk);
    file.allocate(3 * PAGE as u64).unwrap();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    dir.sync().unwrap();
    for profile in Profile::HONEST {
        let after = disk.crash_clone(1, profile);
        assert_eq!(used_pages(&after), 3, "{profile:?}");
        after.set_capacity(Some(0));
        let file = open_dir(&after).open("f", FileAccess::Write, FileIo::Buffered).unwrap();
        write_all_at(&*file, &page(2), 2 * PAGE as u64).unwrap();
        assert!(is_no_space(&file.write_at(b"x", 3 * PAGE as u64).unwrap_err()));
    }
}
