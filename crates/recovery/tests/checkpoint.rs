//! Checkpoints and what is restored from them: always a state that was checkpointed, and the records behind it.

mod support;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use braidlog_format::{Kind, LogId, Lsn, ManifestCheckpoint};
use braidlog_recovery::{
    CheckpointError, CheckpointOrder, CheckpointRefusal, Checkpoints, DamageCause, KnownGood, Manifest,
    ManifestStore, PassedOverCause, RecoveryError, RestoreError,
};
use braidlog_sim::{SimClock, SimDisk};
use support::keys::{Bytes, Keys, ORDER, Store, log_of, order_at, restored, try_restored, two_chains};
use support::{DIR, disk_with, files, open_dir, path, recovered, verified};

/// The names of checkpoint files, finished or not.
fn checkpoint_files(disk: &SimDisk) -> Vec<String> {
    let names = disk.list_raw(DIR).into_iter().map(|(name, _)| name);
    names.filter(|name| name.contains(".ckpt")).collect()
}

#[test]
fn a_state_of_any_size_comes_back_byte_for_byte() {
    let mib = 1 << 20;
    for (len, compress) in [0, 1, mib - 1, mib, mib + 1, 3 * mib + 7]
        .into_iter()
        .flat_map(|len| [false, cfg!(feature = "zstd")].map(|compress| (len, compress)))
    {
        let (disk, pen) = log_of(3);
        let store = Store::open(&disk);
        // What does not compress, and then what does.
        let mut seed = 7_u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let state: Vec<u8> = (0..len).map(|at| if at < mib { noise() } else { b'x' }).collect();
        let order = CheckpointOrder { compress, ..order_at(Lsn(2)) };
        let info = store
            .checkpoints
            .write(&order, &|| false, |writer| {
                assert_eq!(writer.base(), None);
                // In pieces of many sizes.
                let mut rest = state.as_slice();
                let mut step = 1;
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(step.min(rest.len()));
                    writer.write_all(piece)?;
                    (rest, step) = (behind, step * 3 % 100_003 + 1);
                }
                assert_eq!(writer.state_bytes(), len as u64);
                Ok(())
            })
            .unwrap();
        assert_eq!((info.lsn, info.replay_from, info.base), (Lsn(2), Lsn(3), None));
        assert_eq!(info.bytes, disk.read_raw(path(&info.file)).len() as u64);
        if compress && len > 2 * mib {
            assert!(info.bytes < 2 * mib as u64, "{} bytes", info.bytes);
        }

        let store = Store::open(&disk);
        assert_eq!(store.checkpoints.list(), std::slice::from_ref(&info));
        let mut found = Bytes::default();
        let report = restored(&store, &mut found, pen.durable);
        assert!(found.bytes == state, "{len} bytes, compressed: {compress}");
        assert_eq!((found.parts, found.applied), (vec![(None, Lsn(2))], vec![Lsn(3)]));
        assert_eq!((report.checkpoint, report.checkpoint_bytes), (Some(info.clone()), info.bytes));
        assert_eq!((report.total, report.applied, report.skipped, report.damaged), (1, 1, 0, 0));
        assert_eq!(report.by_kind, [(Kind(1), 1)].into());
    }
}

#[cfg(not(feature = "zstd"))]
#[test]
fn compression_that_is_not_built_in_is_refused_before_anything_is_written() {
    let (disk, _) = log_of(2);
    let store = Store::open(&disk);
    let before = files(&disk);
    let order = CheckpointOrder { compress: true, ..order_at(Lsn(2)) };
    let refused = store.write(&order, &Keys::default());
    assert!(matches!(refused, Err(CheckpointError::Refused(CheckpointRefusal::NoCompression))));
    assert!(files(&disk) == before);
}

#[test]
fn without_a_checkpoint_replay_begins_with_the_log() {
    let (disk, pen) = log_of(5);
    let (keys, report) = Store::open(&disk).restore(pen.durable).unwrap();
    assert_eq!(keys, Keys::of(&pen.model));
    assert_eq!((report.checkpoint, report.checkpoint_files, report.total), (None, 0, 5));
}

#[test]
fn changes_are_restored_upon_their_base_and_a_chain_has_an_end() {
    let (disk, pen) = log_of(20);
    let mut store = Store::open(&disk);
    let mut bases = Vec::new();
    for lsn in 1..=20 {
        let order = CheckpointOrder { incremental: true, deltas_max: 3, ..order_at(Lsn(lsn)) };
        let keys = Keys::of(&pen.model[..lsn as usize]);
        let info = store.write(&order, &keys).unwrap();
        bases.push(info.base);
        // The next one is by another process, or by this.
        if lsn % 3 == 0 {
            store = Store::open(&disk);
        }
        let (found, report) = store.restore(Lsn(lsn)).unwrap();
        assert_eq!(found, keys, "LSN {lsn}");
        assert_eq!(report.checkpoint_files as u64, (lsn - 1) % 4 + 1);
        assert_eq!(report.total, 0);
        let (found, report) = store.restore(pen.durable).unwrap();
        assert_eq!((found, report.total), (Keys::of(&pen.model), 20 - lsn));
        // Two chains at the most: the one that grows and the whole one before it.
        let numbers: Vec<_> = store.checkpoints.list().iter().map(|info| info.number).collect();
        let first = ((lsn - 1) / 4).saturating_sub(1) * 4 + 1;
        assert_eq!(numbers, (first..=lsn).collect::<Vec<_>>());
        assert_eq!(checkpoint_files(&disk).len(), numbers.len());
    }
    let expected: Vec<_> = (1..=20_u64).map(|number| (number % 4 != 1).then_some(number - 1)).collect();
    assert_eq!(bases, expected);
}

#[test]
fn only_the_last_ones_are_kept_and_never_fewer_than_one() {
    let (disk, pen) = log_of(6);
    let store = Store::open(&disk);
    for (lsn, chains_kept, left) in [(1, 2, 1), (2, 2, 2), (3, 2, 2), (4, 3, 3), (5, 1, 1), (6, 0, 1)] {
        let order = CheckpointOrder { chains_kept, ..order_at(Lsn(lsn)) };
        let info = store.write(&order, &Keys::of(&pen.model[..lsn as usize])).unwrap();
        assert_eq!(store.checkpoints.list().len(), left, "LSN {lsn}");
        let newest = store.checkpoints.list().pop();
        assert_eq!(newest, Some(info));
        assert_eq!(checkpoint_files(&disk).len(), left);
    }
}

#[test]
fn a_replay_beside_who_takes_checkpoints_begins_behind_the_one_that_is_there() {
    let (disk, pen) = log_of(6);
    let store = Store::open(&disk);
    let dir = open_dir(&disk);
    let order = |lsn| CheckpointOrder { chains_kept: 1, ..order_at(Lsn(lsn)) };
    store.write(&order(2), &Keys::of(&pen.model[..2])).unwrap();
    let mut looks = 0;
    // Between the look that begins the search and the next one another checkpoint takes the place of the first.
    let mut look = || {
        let seen = Manifest::load(&dir).map(Arc::new);
        looks += 1;
        if looks == 2 {
            store.write(&order(5), &Keys::of(&pen.model[..5])).unwrap();
        }
        seen
    };
    let good = KnownGood::default();
    assert_eq!(good.replay_from(&dir, None, &mut look).unwrap(), Lsn(6));
    assert!(looks > 2);
    // It is known to be good: nobody looks at it again.
    disk.flip_bit(path(&checkpoint_files(&disk)[0]), 4200, 1);
    assert_eq!(good.replay_from(&dir, None, &mut || Manifest::load(&dir).map(Arc::new)).unwrap(), Lsn(6));
}

#[test]
fn a_damaged_or_missing_file_costs_a_longer_replay_and_no_more() {
    let (disk, store, pen) = two_chains();
    let all = store.checkpoints.list();
    let expected = Keys::of(&pen.model);
    // Which file is gone; which checkpoint is used then, and how many were passed over.
    for (lost, used, passed_over) in [(6, 5, 1), (5, 4, 2), (4, 3, 3), (3, 6, 0), (1, 6, 0)] {
        for damage in ["missing", "flipped", "cut", "zeros", "another", "older"] {
            let image = disk.crash_clone(0, braidlog_sim::Profile::Kept);
            let file = path(&all[lost - 1].file);
            match damage {
                "missing" => image.remove_raw(&file),
                "flipped" => image.flip_bit(&file, 4096 + 40, 3),
                "cut" => image.truncate_raw(&file, all[lost - 1].bytes - 8),
                "zeros" => image.put_raw(&file, &vec![0; 5000]),
                "another" => image.put_raw(&file, &b"It was the best of times. ".repeat(200)),
                // A whole checkpoint, of the very same log, in the wrong place.
                _ => {
                    let bytes = image.read_raw(path(&all[(lost + 1) % 6].file));
                    image.put_raw(&file, &bytes);
                }
            }
            let told = format!("{damage}: {lost}");
            let store = Store::open(&image);
            let (found, report) =
                store.restore(pen.durable).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert_eq!(found, expected, "{told}");
            assert_eq!(report.checkpoint.as_ref().map(|info| info.number), Some(used as u64), "{told}");
            assert_eq!(report.total, pen.durable.0 - all[used - 1].lsn.0, "{told}");
            assert_eq!(report.passed_over.len(), passed_over, "{told}: {:?}", report.passed_over);
            assert_eq!(report.damaged, passed_over as u64, "{told}");
            for passed in &report.passed_over {
                let is_it = passed.checkpoint.number == lost as u64;
                let of_base = matches!(passed.why, PassedOverCause::NoBase { .. });
                assert_ne!(is_it, of_base, "{told}: {passed}");
                match (&passed.why, damage) {
                    (PassedOverCause::Missing { file }, "missing") => assert_eq!(*file, all[lost - 1].file),
                    (PassedOverCause::Damaged(_), "flipped" | "cut" | "zeros" | "older") => {}
                    (PassedOverCause::Foreign { .. }, "another") => {}
                    (PassedOverCause::NoBase { .. }, _) => {}
                    (why, _) => panic!("{told}: {why}"),
                }
            }
            // Nothing is built upon what could not be read, and what rests on it is given up.
            let order = CheckpointOrder { incremental: true, ..order_at(Lsn(12)) };
            let next = store.write(&order, &expected).unwrap();
            assert_eq!(next.base, Some(used as u64), "{told}");
            let (found, report) = Store::open(&image).restore(pen.durable).unwrap();
            assert_eq!((found, report.passed_over.len()), (expected.clone(), 0), "{told}");
        }
    }
}

#[test]
fn no_flipped_bit_ever_hands_a_wrong_state_over() {
    let (disk, store, pen) = two_chains();
    let expected = Keys::of(&pen.model);
    let (base, newest) = (store.checkpoints.list()[3].clone(), store.checkpoints.list()[5].clone());
    for info in [base, newest] {
        let file = path(&info.file);
        for offset in 0..info.bytes {
            // All bits of what says something, one of each byte of the zeros that fill the header's block.
            let bits =
                if (96..4092).contains(&offset) { offset as u32 % 8..offset as u32 % 8 + 1 } else { 0..8 };
            for bit in bits {
                disk.flip_bit(&file, offset, bit);
                let (found, report) = store.restore(pen.durable).unwrap();
                disk.flip_bit(&file, offset, bit);
                assert_eq!(found, expected, "{}: bit {bit} of byte {offset}", info.file);
                let passed = report.passed_over.last().expect("a flipped bit is noticed");
                assert_eq!(passed.checkpoint.number, info.number, "bit {bit} of byte {offset}");
                assert!(
                    matches!(passed.why, PassedOverCause::Damaged(_)),
                    "bit {bit} of byte {offset}: {passed}"
                );
            }
        }
    }
    assert_eq!(store.restore(pen.durable).unwrap().1.passed_over, []);
}

#[test]
fn verification_tells_of_each_checkpoint_that_cannot_be_used() {
    let (disk, store, _) = two_chains();
    let list = store.checkpoints.list();
    let report = verified(&disk).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!((report.checkpoints, report.warnings), (list.len(), vec![]));
    let kept = files(&disk);
    for (info, other) in list.iter().zip(list.iter().skip(1).chain(&list)) {
        let harms: [&dyn Fn(&SimDisk); 3] = [
            &|image| image.remove_raw(path(&info.file)),
            &|image| image.flip_bit(path(&info.file), info.bytes - 40, 3),
            &|image| image.put_raw(path(&info.file), &image.read_raw(path(&other.file))),
        ];
        for (number, harm) in harms.into_iter().enumerate() {
            let image = disk_with(&kept);
            harm(&image);
            let report = verified(&image).unwrap();
            let [problem] = report.problems.as_slice() else { panic!("{number}: {:?}", report.problems) };
            assert_eq!((problem.segment.as_str(), problem.lsns.is_empty()), (info.file.as_str(), true));
            match number {
                0 => assert_eq!(problem.what, DamageCause::FileMissing),
                1 => assert!(matches!(problem.what, DamageCause::Entry(_)), "{problem}"),
                _ => assert_eq!(problem.what, DamageCause::NotTheNamed),
            }
            assert_eq!(report.checkpoints, list.len() - 1);
            // Nothing of it keeps the log from being opened.
            let before = files(&image);
            assert_eq!(recovered(&image).unwrap().report.removed_orphans, [""; 0]);
            assert!(files(&image) == before);
        }
    }
}

#[test]
fn checkpoint_and_log_both_gone_is_a_refusal_that_says_so() {
    let (disk, store, pen) = two_chains();
    store.manifest.change(|manifest| manifest.log_start = Lsn(5)).unwrap();
    for info in store.checkpoints.list() {
        disk.flip_bit(path(&info.file), 5, 0);
    }
    let Err(RestoreError::Recovery(error)) = store.restore(pen.durable) else { panic!("nothing to restore") };
    let RecoveryError::NoCheckpoint { log_start, passed_over } = &error else { panic!("{error}") };
    assert_eq!((*log_start, passed_over.len()), (Lsn(5), 6));
    let causes = |number| &passed_over.iter().find(|passed| passed.checkpoint.number == number).unwrap().why;
    assert!(matches!(causes(1), PassedOverCause::LogGone { replay_from: Lsn(2), log_start: Lsn(5) }));
    assert!(matches!(causes(4), PassedOverCause::Damaged(_)));
    assert!(matches!(causes(6), PassedOverCause::NoBase { base: 5 }));
    let text = error.to_string();
    assert!(text.contains("begins at LSN 5") && text.contains("checkpoint 6 at LSN 10"), "{text}");
}

#[test]
fn a_checkpoint_of_a_newer_version_is_not_passed_over() {
    let (disk, store, pen) = two_chains();
    let newest = store.checkpoints.list().pop().unwrap();
    let mut bytes = disk.read_raw(path(&newest.file));
    bytes[4] = 200;
    let sum = braidlog_format::checksum::crc32(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&sum.to_le_bytes());
    disk.put_raw(path(&newest.file), &bytes);
    let Err(RestoreError::Recovery(error)) = store.restore(pen.durable) else { panic!("it is newer") };
    assert!(matches!(&error, RecoveryError::Newer { file, .. } if *file == newest.file), "{error}");
}

#[test]
fn orders_that_lead_nowhere_are_refused() {
    let (disk, pen) = log_of(9);
    let store = Store::open(&disk);
    store.write(&order_at(Lsn(6)), &Keys::of(&pen.model[..6])).unwrap();
    store.manifest.change(|manifest| manifest.log_start = Lsn(5)).unwrap();
    let before = files(&disk);
    for (order, refusal) in [
        (order_at(Lsn(5)), CheckpointRefusal::GoesBack { lsn: Lsn(5), newest: Lsn(6) }),
        (
            CheckpointOrder { replay_from: Lsn(9), ..order_at(Lsn(7)) },
            CheckpointRefusal::ReplayFrom { lsn: Lsn(7), replay_from: Lsn(9) },
        ),
        (
            CheckpointOrder { replay_from: Lsn::ZERO, ..order_at(Lsn(7)) },
            CheckpointRefusal::ReplayFrom { lsn: Lsn(7), replay_from: Lsn::ZERO },
        ),
        (
            CheckpointOrder { replay_from: Lsn(4), ..order_at(Lsn(7)) },
            CheckpointRefusal::BelowLog { replay_from: Lsn(4), log_start: Lsn(5) },
        ),
    ] {
        match store.write(&order, &Keys::default()) {
            Err(CheckpointError::Refused(found)) => assert_eq!(found, refusal),
            other => panic!("{refusal}: {other:?}"),
        }
    }
    assert!(files(&disk) == before);
    // The same state once more is no step back.
    store.write(&order_at(Lsn(6)), &Keys::of(&pen.model[..6])).unwrap();
}

#[test]
fn an_error_a_panic_and_a_closing_log_leave_no_trace() {
    let (disk, pen) = log_of(4);
    let store = Store::open(&disk);
    store.write(&order_at(Lsn(2)), &Keys::of(&pen.model[..2])).unwrap();
    let before = files(&disk);
    let order = order_at(Lsn(4));
    let half = vec![7; 3 << 20];

    let failed = store.checkpoints.write(&order, &|| false, |writer| {
        writer.write_all(&half)?;
        Err("no more of it".into())
    });
    assert!(
        matches!(&failed, Err(CheckpointError::Application(error)) if error.to_string() == "no more of it")
    );
    assert!(files(&disk) == before);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        drop(store.checkpoints.write(&order, &|| false, |writer| {
            writer.write_all(&half)?;
            panic!("in the middle of it");
        }));
    }));
    assert!(panicked.is_err());
    assert!(files(&disk) == before);

    let asked = std::cell::Cell::new(0);
    let is_closing = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let cancelled = store.checkpoints.write(&order, &is_closing, |writer| {
        // An application that does not listen.
        drop(writer.write_all(&half));
        drop(writer.write_all(&half));
        Ok(())
    });
    assert!(matches!(cancelled, Err(CheckpointError::Cancelled)), "{cancelled:?}");
    assert!(files(&disk) == before);

    let nested = store.checkpoints.write(&order, &|| false, |_| {
        let inner = store.checkpoints.write(&order, &|| false, |_| Ok(()));
        assert!(matches!(inner, Err(CheckpointError::Refused(CheckpointRefusal::Nested))));
        Ok(())
    });
    nested.unwrap();
    assert_eq!(store.checkpoints.list().len(), 2);
}

#[test]
fn the_order_of_a_checkpoint_without_content_is_lawful() {
    // Who saves his state elsewhere takes one to say so; and the empty log has a state too.
    let disk = SimDisk::new();
    let store = Store::open(&disk);
    store.checkpoints.write(&ORDER, &|| false, |_| Ok(())).unwrap();
    let mut found = Bytes::default();
    let report = restored(&store, &mut found, Lsn::ZERO);
    assert_eq!((found.bytes.len(), found.parts, report.total), (0, vec![(None, Lsn::ZERO)], 0));
}

/// The kept file of version 1 holds changes to a checkpoint 3, of which there is no file; its base is put beside it.
#[test]
fn the_kept_checkpoint_of_version_1_is_read_as_ever() {
    let golden = include_bytes!("../../format/tests/fixtures/v1/delta.ckpt");
    let log_id = LogId(*b"braidlog golden!");
    // The records of the transaction that was open, and those before them.
    let (disk, _) = log_of(950);
    let dir = open_dir(&disk);
    let clock = Arc::new(SimClock::new());
    let manifest = Arc::new(ManifestStore::new(dir.clone(), clock.clone(), log_id, Arc::default()));
    let store = Store {
        checkpoints: Checkpoints::new(dir.clone(), manifest.clone(), clock.clone(), log_id),
        dir,
        clock,
        manifest,
    };
    store.manifest.change(|manifest| manifest.next_checkpoint = 3).unwrap();
    store
        .checkpoints
        .write(&order_at(Lsn(900)), &|| false, |writer| Ok(writer.write_all(b"base ")?))
        .unwrap();
    let delta = ManifestCheckpoint {
        number: 4,
        lsn: Lsn(950),
        replay_from: Lsn(940),
        base: 3,
        bytes: golden.len() as u64,
        created_at_ns: 0,
        end_checksum: 0xE430_47A1,
    };
    store
        .manifest
        .change(|manifest| {
            manifest.checkpoints.push(delta);
            manifest.next_checkpoint = 5;
        })
        .unwrap();
    disk.put_raw(path("00000000000000000950-4.ckpt"), golden);

    let mut found = Bytes::default();
    let restored = try_restored(&store, &mut found, Lsn(930), None);
    if cfg!(feature = "zstd") {
        restored.unwrap();
        assert_eq!(found.parts, [(None, Lsn(900)), (Some(Lsn(900)), Lsn(950))]);
        let text = b"base the state, as its application writes it";
        assert!(found.bytes == [&text[..], &[b'x'; 70_000]].concat());
    } else {
        let Err(RestoreError::Recovery(RecoveryError::Compressed { file, algorithm: 1 })) = restored else {
            panic!("a file that cannot be unpacked is not passed over: {restored:?}")
        };
        assert_eq!(file, "00000000000000000950-4.ckpt");
        assert_eq!(found.parts, []);
    }
}
