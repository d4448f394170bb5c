//! Exhaustive enumeration: as many images as can be counted by hand, each once, and none missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use braidlog_sim::{Bound, Profile, Rng, SimDisk};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, write_all_at};

use crate::{PAGE, create, open_dir, page};

/// Names and bytes of `d`.
type Files = Vec<(String, Vec<u8>)>;

fn files(disk: &SimDisk) -> Files {
    let names = disk.list_raw("d").into_iter().map(|(name, _)| name);
    names.map(|name| (name.clone(), disk.read_raw(format!("d/{name}")))).collect()
}

/// Every image, which must come once.
fn all(disk: &SimDisk, bound: Bound) -> BTreeSet<Files> {
    let images = disk.crash_images(bound);
    let all: BTreeSet<_> = images.iter().map(|image| files(&image)).collect();
    assert_eq!(all.len() as u64, images.total(), "{bound:?}: an image came twice");
    all
}

fn total(disk: &SimDisk, bound: Bound) -> u64 {
    all(disk, bound).len() as u64
}

/// A disk with the file `d/f` of these bytes, durable in name and content.
fn disk_with(bytes: &[u8]) -> (SimDisk, Arc<dyn LogDir>, Arc<dyn LogFile>) {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, bytes, 0).unwrap();
    file.sync_all().unwrap();
    dir.sync().unwrap();
    (disk, dir, file)
}

#[test]
fn a_disk_that_is_synced_has_one_image() {
    let (disk, _dir, _file) = disk_with(&page(1));
    for bound in [Bound::Ordered, Bound::Pages, Bound::Sectors, Bound::Damage] {
        assert_eq!(all(&disk, bound), BTreeSet::from([files(&disk)]), "{bound:?}");
    }
}

#[test]
fn an_overwritten_page_is_old_new_torn_or_damaged() {
    let (disk, _dir, file) = disk_with(&page(1));
    write_all_at(&*file, &page(2), 0).unwrap();
    assert_eq!(total(&disk, Bound::Pages), 2);
    // Seven seams, with the new bytes before or behind.
    assert_eq!(total(&disk, Bound::Sectors), 2 + 2 * 7);
    // One of eight sectors of the old or the new page is zeros or garbage.
    assert_eq!(total(&disk, Bound::Damage), 16 + 2 * 8 * 2);
    // Eight sectors, cut behind none to all of them.
    assert_eq!(total(&disk, Bound::Ordered), 9);
}

#[test]
fn a_page_written_twice_mixes_any_two_of_its_versions() {
    let (disk, _dir, file) = disk_with(&page(1));
    write_all_at(&*file, &page(2), 0).unwrap();
    write_all_at(&*file, &page(3), 0).unwrap();
    assert_eq!(total(&disk, Bound::Pages), 3);
    // Three pairs of versions.
    assert_eq!(total(&disk, Bound::Sectors), 3 + 3 * 14);
    assert_eq!(total(&disk, Bound::Damage), 45 + 3 * 16);
    assert_eq!(total(&disk, Bound::Ordered), 1 + 8 + 8);
}

#[test]
fn pages_are_independent_of_each_other_and_of_other_files() {
    let (disk, dir, file) = disk_with(&[page(1), page(1)].concat());
    let other = create(&dir, "g");
    write_all_at(&*other, &page(1), 0).unwrap();
    other.sync_all().unwrap();
    dir.sync().unwrap();
    write_all_at(&*file, &[page(2), page(3)].concat(), 0).unwrap();
    write_all_at(&*other, &page(4), 0).unwrap();
    assert_eq!(total(&disk, Bound::Pages), 2 * 2 * 2);
    assert_eq!(total(&disk, Bound::Sectors), 16 * 16 * 16);
    assert_eq!(total(&disk, Bound::Ordered), 1 + 16 + 8);
}

#[test]
fn an_appended_page_comes_with_every_length_and_every_content_that_the_length_shows() {
    let (disk, _dir, file) = disk_with(&page(1));
    write_all_at(&*file, &page(2), PAGE as u64).unwrap();
    let expected = [page(1), [page(1), page(0)].concat(), [page(1), page(2)].concat()];
    let contents: BTreeSet<_> =
        all(&disk, Bound::Pages).into_iter().map(|files| files[0].1.clone()).collect();
    assert_eq!(contents, BTreeSet::from(expected));
    // No sector; or 1 to 8, which are zeros, new, or one of these up to any seam and the other from there on.
    assert_eq!(total(&disk, Bound::Sectors), 1 + (1..=8).map(|sectors| 2 + 2 * (sectors - 1)).sum::<u64>());
    assert_eq!(total(&disk, Bound::Ordered), 9);
}

#[test]
fn bytes_behind_the_end_make_no_difference() {
    let (disk, _dir, file) = disk_with(b"");
    write_all_at(&*file, &[7; 100], 0).unwrap();
    // The length of none; of all, with zeros or the bytes. Nothing is torn where there is one sector.
    assert_eq!(total(&disk, Bound::Sectors), 3);
    // Garbage is a third content.
    assert_eq!(total(&disk, Bound::Damage), 4);
}

#[test]
fn an_allocation_is_there_or_not() {
    let (disk, _dir, file) = disk_with(b"");
    file.allocate(36 << 20).unwrap();
    for bound in [Bound::Ordered, Bound::Pages, Bound::Sectors, Bound::Damage] {
        let images = disk.crash_images(bound);
        let lens: Vec<_> = images.iter().map(|image| image.list_raw("d")[0].1).collect();
        assert_eq!(lens, [0, 36 << 20], "{bound:?}");
        assert_eq!(images.image(1).used_bytes(), 36 << 20, "{bound:?}");
    }
}

#[test]
fn a_cut_in_doubt_is_made_or_not() {
    let (disk, _dir, file) = disk_with(&[page(1), page(2)].concat());
    file.set_len(PAGE as u64).unwrap();
    let contents: BTreeSet<_> =
        all(&disk, Bound::Damage).into_iter().map(|files| files[0].1.clone()).collect();
    assert_eq!(contents, BTreeSet::from([page(1), [page(1), page(2)].concat()]));
    assert_eq!(all(&disk, Bound::Ordered), all(&disk, Bound::Damage));
}

#[test]
fn each_subset_of_the_names_in_doubt_comes_once() {
    let (disk, dir, _file) = disk_with(b"");
    create(&dir, "g");
    dir.remove("f").unwrap();
    dir.rename("g", "h", false).unwrap();
    let name_sets: BTreeSet<_> = all(&disk, Bound::Pages)
        .into_iter()
        .map(|files| files.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "))
        .collect();
    // The new file has no name, its first or its second one; the old one has its name or not.
    assert_eq!(name_sets, ["", "f", "f g", "f h", "g", "h"].map(str::to_owned).into());
    let ordered = all(&disk, Bound::Ordered);
    assert_eq!(ordered.len(), 4);
}

#[test]
fn a_name_in_doubt_multiplies_with_the_bytes_only_where_it_is_there() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, &page(1), 0).unwrap();
    assert_eq!(total(&disk, Bound::Pages), 1 + (1 + 2));
    // The name, then sector by sector.
    assert_eq!(total(&disk, Bound::Ordered), 1 + 1 + 8);
    file.sync_all().unwrap();
    assert_eq!(total(&disk, Bound::Pages), 1 + 1);
    dir.sync().unwrap();
    assert_eq!(total(&disk, Bound::Pages), 1);
}

#[test]
fn an_image_is_found_by_its_number_alone_and_outlives_the_disk() {
    let (disk, dir, file) = disk_with(&page(1));
    write_all_at(&*file, &page(2), 0).unwrap();
    create(&dir, "g");
    for bound in [Bound::Ordered, Bound::Pages, Bound::Sectors, Bound::Damage] {
        let images = disk.crash_images(bound);
        let in_order: Vec<_> = images.iter().map(|image| files(&image)).collect();
        assert_eq!(in_order[0], [("f".to_owned(), page(1))], "{bound:?}: nothing came through in the first");
        let other = create(&dir, "h");
        write_all_at(&*file, &page(3), 0).unwrap();
        for number in (0..images.total()).rev() {
            assert!(files(&images.image(number)) == in_order[number as usize], "{bound:?}: image {number}");
        }
        drop(other);
        dir.remove("h").unwrap();
        write_all_at(&*file, &page(2), 0).unwrap();
    }
}

#[test]
#[should_panic(expected = "none of number 2")]
fn an_image_beyond_the_last_is_refused() {
    let (disk, _dir, file) = disk_with(&page(1));
    write_all_at(&*file, &page(2), 0).unwrap();
    let _ = disk.crash_images(Bound::Pages).image(2);
}

/// A disk with up to four operations in doubt on the files of a directory, and what each page may hold: each
/// version of a page is filled with one byte that no other has.
struct Tiny {
    disk: SimDisk,
    versions: Vec<BTreeSet<u8>>,
}

impl Tiny {
    fn new(seed: u64) -> Tiny {
        let mut rng = Rng::new(seed);
        let (disk, dir, file) = disk_with(&[page(1), page(2)].concat());
        let mut versions: Vec<_> = [1, 2, 0].map(|value| BTreeSet::from([value])).into();
        for value in 3..4 + rng.below(4) as u8 {
            match rng.below(6) {
                0 => drop(dir.open("g", FileAccess::CreateNew, FileIo::Buffered)),
                1 => drop(dir.rename("f", "h", true)),
                2 => file.sync_data().unwrap(),
                _ => {
                    let at = rng.index(3);
                    write_all_at(&*file, &page(value), (at * PAGE) as u64).unwrap();
                    versions[at].insert(value);
                }
            }
        }
        Tiny { disk, versions }
    }

    /// How many seams the page has that has most, if there are only whole sectors of its versions.
    fn seams(&self, files: &Files) -> Option<usize> {
        let pages = files.iter().flat_map(|(_, bytes)| bytes.chunks(PAGE).zip(&self.versions));
        pages.map(|(page, versions)| seams(page, versions)).try_fold(0, |most, seams| Some(most.max(seams?)))
    }
}

fn seams(page: &[u8], versions: &BTreeSet<u8>) -> Option<usize> {
    let value_of = |sector: &[u8]| {
        let value = sector[0];
        (sector.iter().all(|&byte| byte == value) && versions.contains(&value)).then_some(value)
    };
    let values: Vec<_> = page.chunks(512).map(value_of).collect::<Option<_>>()?;
    Some(values.windows(2).filter(|pair| pair[0] != pair[1]).count())
}

#[test]
fn every_image_of_a_seed_that_is_within_the_bound_is_enumerated() {
    let (mut whole, mut torn) = (0, 0);
    for seed in 0..60 {
        let tiny = Tiny::new(seed);
        let pages = all(&tiny.disk, Bound::Pages);
        // Each operation more multiplies the images by a score.
        let is_few = tiny.disk.crash_images(Bound::Sectors).total() < 10_000;
        let sectors = if is_few { all(&tiny.disk, Bound::Sectors) } else { BTreeSet::new() };
        assert!(!is_few || sectors.is_superset(&pages), "seed {seed}");
        for crash in 0..300 {
            let found = files(&tiny.disk.crash_clone(crash, Profile::Posix));
            let is_multiple_of = |unit| found.iter().all(|(_, bytes)| bytes.len().is_multiple_of(unit));
            match tiny.seams(&found) {
                Some(0) if is_multiple_of(PAGE) => {
                    assert!(pages.contains(&found), "seed {seed}, crash {crash}");
                    whole += 1;
                }
                Some(0 | 1) if is_multiple_of(512) && is_few => {
                    assert!(sectors.contains(&found), "seed {seed}, crash {crash}");
                    torn += 1;
                }
                _ => {}
            }
        }
    }
    assert!(whole > 1000 && torn > 300, "{whole} whole and {torn} torn images say too little");
}

#[test]
fn every_enumerated_image_comes_out_of_some_seed() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    write_all_at(&*file, &[page(1), page(2)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(3), 0).unwrap();
    write_all_at(&*file, &page(4), 2 * PAGE as u64).unwrap();
    let drawn =
        |profile| -> BTreeSet<_> { (0..4000).map(|seed| files(&disk.crash_clone(seed, profile))).collect() };
    assert!(drawn(Profile::Posix).is_superset(&all(&disk, Bound::Pages)));
    assert_eq!(drawn(Profile::Ordered), all(&disk, Bound::Ordered), "there is no other ordered image");
}

#[test]
fn seeds_of_the_ordered_profile_draw_from_the_enumerated_images_only() {
    for seed in 0..60 {
        let disk = Tiny::new(seed).disk;
        let images: BTreeSet<_> =
            disk.crash_images(Bound::Ordered).iter().map(|image| files(&image)).collect();
        for crash in 0..100 {
            let found = files(&disk.crash_clone(crash, Profile::Ordered));
            assert!(images.contains(&found), "seed {seed}, crash {crash}");
        }
    }
}
