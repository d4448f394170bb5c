//! What a crash leaves of the bytes of files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braidlog_sim::{Fault, Profile, Rng, SimDisk};
use braidlog_storage::{AlignedBuf, FileAccess, FileIo, LogFile, read_full_at, write_all_at};

use crate::{PAGE, create, open_dir, page};

const SEEDS: u64 = 1000;

/// A disk with the file `d/f`, whose name is durable.
fn disk_with_file() -> (SimDisk, Arc<dyn LogFile>) {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let file = create(&dir, "f");
    dir.sync().unwrap();
    (disk, file)
}

fn images(disk: &SimDisk, profile: Profile) -> impl Iterator<Item = Vec<u8>> {
    (0..SEEDS).map(move |seed| disk.crash_clone(seed, profile).read_raw("d/f"))
}

#[test]
fn synced_data_survives_every_honest_profile() {
    const FILES: usize = 3;
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new();
        let dir = open_dir(&disk);
        let files: Vec<_> = (0..FILES).map(|index| create(&dir, &index.to_string())).collect();
        dir.sync().unwrap();
        // The model: per file and page, what was synced last, or `None` once it is overwritten.
        let mut synced = vec![vec![Some(0); 8]; FILES];
        let mut written = vec![vec![None; 8]; FILES];
        for value in 1..30 {
            let (index, at) = (rng.index(FILES), rng.index(8));
            if rng.one_in(3) {
                if rng.one_in(2) { files[index].sync_data() } else { files[index].sync_all() }.unwrap();
                for (synced, written) in synced[index].iter_mut().zip(&mut written[index]) {
                    *synced = written.take().or(*synced);
                }
            } else {
                write_all_at(&*files[index], &page(value), (at * PAGE) as u64).unwrap();
                written[index][at] = Some(value);
                synced[index][at] = None;
            }
        }
        for profile in Profile::HONEST {
            let after = disk.crash_clone(seed, profile);
            for (index, synced) in synced.iter().enumerate() {
                let bytes = after.read_raw(format!("d/{index}"));
                for (at, value) in synced.iter().enumerate().filter_map(|(at, v)| v.map(|v| (at, v))) {
                    let found = bytes.chunks(PAGE).nth(at).map_or(vec![0; PAGE], <[u8]>::to_vec);
                    let is_hole = value == 0 && found.iter().all(|&byte| byte == 0);
                    assert!(
                        is_hole || found == page(value),
                        "seed {seed} {profile:?} file {index} page {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_unsynced_page_comes_out_old_new_or_torn() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(2), 0).unwrap();
    let mut seen = BTreeSet::new();
    for bytes in images(&disk, Profile::Posix) {
        assert_eq!(bytes.len(), PAGE);
        if bytes == page(1) {
            seen.insert("old");
        } else if bytes == page(2) {
            seen.insert("new");
        } else {
            for sector in bytes.chunks(512) {
                let (first, last) = (sector[0], sector[511]);
                seen.insert(match sector {
                    _ if sector.iter().all(|&byte| byte == 0) => "zeros",
                    _ if sector.iter().all(|&byte| byte == 1) => "old sector",
                    _ if sector.iter().all(|&byte| byte == 2) => "new sector",
                    _ if sector.iter().any(|&byte| byte > 2) => "garbage",
                    _ if (first, last) == (2, 1) => "prefix",
                    _ if (first, last) == (1, 2) => "suffix",
                    _ => "other",
                });
            }
        }
    }
    for outcome in ["old", "new", "zeros", "old sector", "new sector", "garbage", "prefix", "suffix"] {
        assert!(seen.contains(outcome), "{outcome} never came out");
    }
    let mut ordered: Vec<_> = images(&disk, Profile::Ordered).collect();
    assert!(ordered.contains(&page(1)) && ordered.contains(&page(2)));
    ordered.retain(|bytes| bytes[..512] != [1; 512][..] && bytes[PAGE - 512..] == [1; 512][..]);
    assert!(!ordered.is_empty(), "no write was cut short");
    assert!(images(&disk, Profile::Kept).all(|bytes| bytes == page(2)));
}

#[test]
fn a_page_without_unsynced_writes_is_left_alone_and_its_neighbours_are_not() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(2), page(3)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    // One byte of the middle page: the device writes all of it, and may tear all of it.
    write_all_at(&*file, &[9], PAGE as u64 + 700).unwrap();
    let mut is_neighbour_hurt = false;
    for bytes in images(&disk, Profile::Posix) {
        assert!(bytes[..PAGE] == page(1) && bytes[2 * PAGE..] == page(3));
        is_neighbour_hurt |= bytes[2 * PAGE - 512..2 * PAGE] != [2; 512][..];
    }
    assert!(is_neighbour_hurt, "power-safe overwrite was assumed");
}

#[test]
fn pages_come_through_in_any_order_under_posix_and_in_order_under_ordered() {
    let (disk, file) = disk_with_file();
    file.allocate(2 * PAGE as u64).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(1), 0).unwrap();
    write_all_at(&*file, &page(2), PAGE as u64).unwrap();
    let second_only = [page(0), page(2)].concat();
    assert!(images(&disk, Profile::Posix).any(|bytes| bytes == second_only));
    for bytes in images(&disk, Profile::Ordered) {
        if bytes[PAGE] == 2 {
            assert!(bytes[..PAGE] == page(1), "the second write overtook the first");
        }
    }
}

#[test]
fn order_holds_across_files_under_ordered() {
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let (first, second) = (create(&dir, "first"), create(&dir, "second"));
    dir.sync().unwrap();
    write_all_at(&*first, &page(1), 0).unwrap();
    write_all_at(&*second, &page(2), 0).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let after = disk.crash_clone(seed, Profile::Ordered);
        let lens = (after.read_raw("d/first").len(), after.read_raw("d/second").len());
        assert!(lens.0 == PAGE || lens.1 == 0, "seed {seed}: the second file overtook the first");
        outcomes.insert((lens.0 > 0, lens.1 > 0));
    }
    assert_eq!(outcomes.len(), 3);
}

#[test]
fn length_and_data_come_through_independently() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(2), PAGE as u64).unwrap();
    let images: Vec<_> = images(&disk, Profile::Posix).collect();
    assert!(images.contains(&page(1)), "neither");
    assert!(images.contains(&[page(1), page(2)].concat()), "both");
    assert!(images.contains(&[page(1), page(0)].concat()), "the length without the data");
    assert!(images.iter().any(|bytes| bytes.len() > PAGE && bytes.len() < 2 * PAGE), "a part of the length");
}

#[test]
fn a_seed_gives_the_same_image_twice() {
    let (disk, file) = disk_with_file();
    for value in 1..20 {
        write_all_at(&*file, &page(value), u64::from(value) * 3000).unwrap();
    }
    for profile in [Profile::Posix, Profile::Ordered, Profile::Kept, Profile::LyingDisk] {
        let image = |seed| {
            let after = disk.crash_clone(seed, profile);
            let names = after.list_raw("d");
            (names.iter().map(|(name, _)| after.read_raw(format!("d/{name}"))).collect::<Vec<_>>(), names)
        };
        for seed in 0..50 {
            assert!(image(seed) == image(seed), "seed {seed} {profile:?}");
        }
        let different: BTreeSet<_> = (0..50).map(image).collect();
        assert_eq!(different.len() > 5, profile != Profile::Kept, "{profile:?}: {}", different.len());
    }
}

#[test]
fn an_image_and_its_disk_go_their_own_ways() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    let lock = open_dir(&disk).try_lock().unwrap().unwrap();
    let after = disk.crash_clone(0, Profile::Posix);
    write_all_at(&*file, &page(2), 0).unwrap();
    assert!(after.read_raw("d/f") == page(1));
    let other = open_dir(&after).open("f", FileAccess::Write, FileIo::Buffered).unwrap();
    write_all_at(&*other, &page(3), 0).unwrap();
    assert!(disk.read_raw("d/f") == page(2));
    assert!(open_dir(&after).try_lock().unwrap().is_some(), "a crash takes the lock with it");
    drop(lock);
}

#[test]
fn what_a_killed_process_wrote_is_there_and_not_yet_safe() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    create(&open_dir(&disk), "g");
    for seed in 0..20 {
        let killed = disk.crash_clone(seed, Profile::Kept);
        assert!(killed.read_raw("d/f") == page(1));
        assert_eq!(killed.list_raw("d").len(), 2);
    }
    let killed = disk.crash_clone(0, Profile::Kept);
    assert!(images(&killed, Profile::Posix).any(|bytes| bytes.is_empty()));
    assert!((0..SEEDS).any(|seed| killed.crash_clone(seed, Profile::Posix).list_raw("d").len() == 1));

    let dir = open_dir(&killed);
    dir.sync().unwrap();
    dir.open("f", FileAccess::Read, FileIo::Buffered).unwrap().sync_all().unwrap();
    assert!(images(&killed, Profile::Posix).all(|bytes| bytes == page(1)), "a reader's sync covers it");
}

#[test]
fn a_lying_disk_loses_what_was_synced() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(2), 0).unwrap();
    file.sync_all().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes == page(2)));
    let after: Vec<_> = (0..SEEDS).map(|seed| disk.crash_clone(seed, Profile::LyingDisk)).collect();
    let has_file = |disk: &&SimDisk| !disk.list_raw("d").is_empty();
    assert!(!after.iter().all(|disk| has_file(&disk)), "the name is never lost");
    let left: Vec<_> = after.iter().filter(has_file).map(|disk| disk.read_raw("d/f")).collect();
    for outcome in [vec![], page(0), page(2)] {
        assert!(left.contains(&outcome), "{} bytes", outcome.len());
    }
}

#[test]
fn a_lost_sync_fails_once_and_loses_the_data_for_good() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(1)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &page(2), PAGE as u64).unwrap();
    write_all_at(&*file, &page(3), 2 * PAGE as u64).unwrap();
    disk.inject(Fault::lost_sync());
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));

    let seen = [page(1), page(2), page(3)].concat();
    let on_device = [page(1), page(1), page(0)].concat();
    assert!(disk.read_raw("d/f") == seen, "the cache still shows it");
    file.sync_all().expect("the next sync knows nothing of the loss");
    for profile in [Profile::Posix, Profile::Ordered] {
        assert!(images(&disk, profile).all(|bytes| bytes == on_device), "{profile:?}");
    }
    assert!(images(&disk, Profile::Kept).all(|bytes| bytes == seen), "the page cache outlives the process");

    let direct = open_dir(&disk).open("f", FileAccess::Read, FileIo::Direct).unwrap();
    let mut buf = AlignedBuf::zeroed(3 * PAGE);
    assert_eq!(read_full_at(&*direct, &mut buf, 0).unwrap(), buf.len());
    assert!(buf[..] == on_device[..], "a direct read sees the device");
    file.drop_cache().unwrap();
    assert!(disk.read_raw("d/f") == on_device, "so does everybody once the cache is dropped");
}

#[test]
fn what_is_written_after_a_lost_sync_is_seen_by_every_reader() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(1)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    write_all_at(&*file, &[page(2), page(2)].concat(), 0).unwrap();
    disk.inject(Fault::lost_sync());
    file.sync_all().unwrap_err();
    write_all_at(&*file, &page(3)[..100], 0).unwrap();
    file.set_len(PAGE as u64 + 100).unwrap();
    file.set_len(2 * PAGE as u64).unwrap();

    let mut expected = [page(1), page(1)].concat();
    expected[..100].fill(3);
    expected[PAGE + 100..].fill(0);
    let direct = open_dir(&disk).open("f", FileAccess::Read, FileIo::Direct).unwrap();
    let mut buf = AlignedBuf::zeroed(2 * PAGE);
    assert_eq!(read_full_at(&*direct, &mut buf, 0).unwrap(), buf.len());
    assert!(buf[..] == expected[..]);
    file.drop_cache().unwrap();
    assert!(disk.read_raw("d/f") == expected);
    file.sync_all().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes == expected));
}

#[test]
fn a_cut_in_doubt_shows_the_old_bytes_or_none() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(2)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(PAGE as u64).unwrap();
    let whole = [page(1), page(2)].concat();
    for profile in [Profile::Posix, Profile::Ordered] {
        let lens: BTreeSet<_> = images(&disk, profile)
            .inspect(|bytes| assert!(whole.starts_with(bytes), "{profile:?}"))
            .map(|bytes| bytes.len())
            .collect();
        assert!(lens.contains(&PAGE) && lens.contains(&(2 * PAGE)), "{profile:?}");
    }
}

#[test]
fn data_written_again_after_a_lost_sync_is_safe_once_synced() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    disk.inject(Fault::lost_sync());
    file.sync_all().unwrap_err();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_all().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes == page(1)));
    file.drop_cache().unwrap();
    assert!(disk.read_raw("d/f") == page(1));
}

#[test]
fn a_sync_covers_only_what_was_written_before_it_was_asked_for() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1), 0).unwrap();
    let hold = disk.hold_syncs();
    let syncing = thread::spawn({
        let file = file.clone();
        move || file.sync_all().unwrap()
    });
    hold.wait_for_held(1);
    write_all_at(&*file, &page(2), PAGE as u64).unwrap();
    assert!(images(&disk, Profile::Posix).any(|bytes| bytes.is_empty()), "the sync is not complete");
    hold.release();
    syncing.join().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes[..PAGE] == page(1)));
    assert!(images(&disk, Profile::Posix).any(|bytes| bytes.len() == PAGE));
}

#[test]
fn a_data_sync_keeps_the_length_that_its_data_needs_and_no_other() {
    let (disk, file) = disk_with_file();
    file.allocate(4 * PAGE as u64).unwrap();
    write_all_at(&*file, &page(1), 0).unwrap();
    file.sync_data().unwrap();
    let lens: BTreeSet<_> = images(&disk, Profile::Posix).map(|bytes| bytes.len()).collect();
    assert!(lens.contains(&PAGE) && lens.contains(&(4 * PAGE)), "{lens:?}");
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes[..PAGE] == page(1)));

    file.sync_all().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes.len() == 4 * PAGE));

    write_all_at(&*file, &page(2), 3 * PAGE as u64).unwrap();
    file.set_len(PAGE as u64).unwrap();
    file.sync_data().unwrap();
    let lens: BTreeSet<_> = images(&disk, Profile::Posix).map(|bytes| bytes.len()).collect();
    assert!(lens.contains(&PAGE) && lens.contains(&(4 * PAGE)), "{lens:?}");
    file.sync_all().unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes == page(1)));
}

#[test]
fn a_data_sync_covers_a_cut_that_its_data_stands_on() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(1), page(1)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(PAGE as u64).unwrap();
    write_all_at(&*file, &page(2), 2 * PAGE as u64).unwrap();
    file.sync_data().unwrap();
    for profile in Profile::HONEST {
        assert!(images(&disk, profile).all(|bytes| bytes == [page(1), page(0), page(2)].concat()));
    }
}

#[test]
fn data_behind_a_synced_cut_never_comes_back() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(2), page(3)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(100).unwrap();
    file.sync_all().unwrap();
    file.set_len(3 * PAGE as u64).unwrap();
    write_all_at(&*file, &page(4), 2 * PAGE as u64).unwrap();
    for profile in Profile::HONEST {
        for bytes in images(&disk, profile) {
            assert!(bytes[..100] == page(1)[..100]);
            let end = bytes.len().min(2 * PAGE);
            assert!(bytes[100..end].iter().all(|&byte| byte == 0), "{profile:?}");
        }
    }
    // Without a sync between cut and growth it may.
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[page(1), page(2)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(PAGE as u64).unwrap();
    file.set_len(2 * PAGE as u64).unwrap();
    assert!(images(&disk, Profile::Posix).any(|bytes| bytes == [page(1), page(2)].concat()));
    assert!(images(&disk, Profile::Posix).any(|bytes| bytes == [page(1), page(0)].concat()));
}

#[test]
fn a_direct_sync_write_is_durable_when_it_returns() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &page(1)[1..], 1).unwrap();
    let direct = open_dir(&disk).open("f", FileAccess::Write, FileIo::DirectSync).unwrap();
    let mut buf = AlignedBuf::zeroed(PAGE);
    buf.fill(2);
    write_all_at(&*direct, &buf, 0).unwrap();
    assert_eq!(disk.counts().syncs(), 0);
    for profile in Profile::HONEST {
        assert!(images(&disk, profile).all(|bytes| bytes == page(2)), "{profile:?}");
    }
    // Also where a cut stands that is not durable yet.
    file.set_len(0).unwrap();
    write_all_at(&*direct, &buf, 0).unwrap();
    assert!(images(&disk, Profile::Posix).all(|bytes| bytes == page(2)));
    // Writes that were not durable stay so.
    write_all_at(&*file, &page(3), PAGE as u64).unwrap();
    write_all_at(&*direct, &buf, 2 * PAGE as u64).unwrap();
    let images: Vec<_> = images(&disk, Profile::Posix).collect();
    assert!(images.iter().all(|bytes| bytes[2 * PAGE..] == page(2)));
    assert!(images.iter().any(|bytes| bytes[PAGE..2 * PAGE] == page(0)));
}

#[test]
fn images_taken_while_threads_run_hold_everything_acknowledged() {
    const THREADS: usize = 4;
    const WRITES: u64 = 60;
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let files: Vec<_> = (0..THREADS).map(|index| create(&dir, &index.to_string())).collect();
    dir.sync().unwrap();
    let acknowledged: Vec<_> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let mut images = 0;
    thread::scope(|scope| {
        for (file, acknowledged) in files.iter().zip(&acknowledged) {
            scope.spawn(move || {
                for count in 1..=WRITES {
                    write_all_at(&**file, &page(count as u8), (count - 1) * PAGE as u64).unwrap();
                    file.sync_data().unwrap();
                    acknowledged.store(count, Ordering::SeqCst);
                }
            });
        }
        let is_done = || acknowledged.iter().all(|count| count.load(Ordering::SeqCst) == WRITES);
        let mut is_last = false;
        while !is_last {
            is_last = is_done();
            let promised: Vec<_> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
            for profile in Profile::HONEST {
                let after = disk.crash_clone(images, profile);
                for (index, promised) in promised.iter().enumerate() {
                    let bytes = after.read_raw(format!("d/{index}"));
                    for count in 1..=*promised {
                        let found = &bytes[(count as usize - 1) * PAGE..count as usize * PAGE];
                        assert!(found == page(count as u8), "image {images} {profile:?}");
                    }
                }
                images += 1;
            }
        }
    });
    assert!(images >= 3);
}
