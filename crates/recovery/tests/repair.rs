//! Damaged logs under each policy: what is kept is what was written, every LSN is accounted for, none is given twice, and
//! the log opens afterwards as any other.

mod support;

use std::sync::Arc;

use braidlog_format::{LogId, Lsn, LsnRange};
use braidlog_recovery::{
    DamagePolicy, DamagedLog, LogReader, Loss, Manifest, ManifestStore, RecoveryError, RepairReport,
    WhatBecame, repair, repair_plan,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};
#[cfg(feature = "zstd")]
use support::packing::{pack_all, packed_name};
use support::repairing::{LOSSY, assert_told_as_recorded, image_of, log, open_with, with_quarantine};
use support::{
    LOG_ID, Pen, Written, entries_of, files, header_of, open_dir, path, recovered, segment, segment_path,
    verified,
};

/// What a reader of the whole log gets.
struct Read {
    lsns: Vec<u64>,
    last: u64,
}

/// Asserts that what can be read is what was written, and that every other LSN up to the end is one of a loss.
fn assert_accounted_for(disk: &SimDisk, model: &[Written], context: &str) -> Read {
    let reader =
        LogReader::open_read_only(open_dir(disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let last = reader.last_visible().unwrap().0;
    let mut records = reader.iter(Lsn::FIRST, Lsn::MAX).unwrap();
    let mut lsns = Vec::new();
    for record in records.by_ref() {
        let record = record.unwrap_or_else(|error| panic!("{context}: {error}"));
        let written = &model[record.lsn.0 as usize - 1];
        assert!(record.payload == written.payload, "{context}: the payload of LSN {}", record.lsn);
        assert_eq!(
            (record.kind, record.batch_continues),
            (written.kind, written.batch_continues),
            "{context}"
        );
        lsns.push(record.lsn.0);
    }
    let losses: Vec<LsnRange> = records.losses().iter().map(|loss| loss.lsns).collect();
    for lsn in 1..=last {
        let lost = losses.iter().filter(|lost| lost.contains(Lsn(lsn))).count();
        assert_eq!(
            lost + usize::from(lsns.contains(&lsn)),
            1,
            "{context}: LSN {lsn} of {lsns:?}, {losses:?}"
        );
    }
    // Batches are whole: what follows a record whose batch goes on is there too.
    for lsn in lsns.iter().filter(|&&lsn| model[lsn as usize - 1].batch_continues) {
        assert!(lsns.contains(&(lsn + 1)), "{context}: half a batch behind LSN {lsn}");
    }
    for lsn in lsns.iter().filter(|&&lsn| lsn > 1 && model[lsn as usize - 2].batch_continues) {
        assert!(lsns.contains(&(lsn - 1)), "{context}: half a batch before LSN {lsn}");
    }
    Read { lsns, last }
}

fn ranges(ranges: &[LsnRange]) -> Vec<u64> {
    ranges.iter().flat_map(|range| range.first.0..=range.last.0).collect()
}

/// All that must hold for a log of which `model` was acknowledged, whatever is damaged: what is left under a policy.
fn check(damaged: &SimDisk, model: &[Written], policy: DamagePolicy, context: &str) -> Option<RepairReport> {
    let context = format!("{policy}: {context}");
    let before = files(damaged);
    let refused = recovered(&image_of(damaged)).err();
    let planned = repair_plan(&open_dir(damaged), policy, &mut |_| ()).unwrap();
    let log = DamagedLog::open(&open_dir(damaged), policy, &mut |_| ()).unwrap();
    let mut records = log.iter(Lsn::FIRST, Lsn::MAX);
    let unrepaired: Vec<_> = records.by_ref().map(|record| record.unwrap()).collect();
    let passed = ranges_of(records.losses());
    let inside: Vec<u64> =
        unrepaired.iter().map(|record| record.lsn.0).filter(|lsn| (3..=9).contains(lsn)).collect();
    let part = log.iter(Lsn(3), Lsn(9)).map(|record| record.unwrap().lsn.0);
    assert!(part.eq(inside), "{context}");
    assert!(files(damaged) == before, "{context}: a plan changes nothing, and reading by it does not either");
    let found = open_with(damaged, policy).unwrap_or_else(|error| panic!("{context}: {error}"));
    let read = assert_accounted_for(damaged, model, &context);
    assert_eq!(found.tail.next_lsn.0, read.last + 1, "{context}");
    // What was read by the plan is what a repair leaves.
    let reader = LogReader::open_read_only(open_dir(damaged)).unwrap();
    let repaired: Vec<_> = reader.iter(Lsn::FIRST, Lsn::MAX).unwrap().map(|record| record.unwrap()).collect();
    assert!(unrepaired == repaired && passed == lost_lsns(&read), "{context}: {passed:?}");
    let Some(report) = found.report.repaired else {
        assert!(refused.is_none(), "{context}: not repaired, and {refused:?}");
        assert_eq!(read.lsns.len(), model.len(), "{context}");
        return None;
    };
    assert!(read.last >= model.len() as u64, "{context}: an acknowledged LSN is given again");
    assert_eq!(ranges(&report.outcome.kept), read.lsns, "{context}");
    let lost = [ranges(&report.outcome.lost), ranges(&report.outcome.never_acknowledged)].concat();
    assert_eq!(lost.len() + read.lsns.len(), read.last as usize, "{context}");
    assert_eq!((&report.outcome, &report.files), (&planned.outcome, &planned.files), "{context}");
    if policy == DamagePolicy::UntilDamage {
        assert!(read.lsns.iter().copied().eq(1..=read.lsns.len() as u64), "{context}: a prefix");
    }
    // From now on it is a log like any other, which says what it lost.
    let again = recovered(damaged).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(again.tail, found.tail, "{context}");
    assert_eq!(again.report.losses, found.report.losses, "{context}");
    assert_eq!(ranges_of(&again.report.losses), lost_lsns(&read), "{context}");
    let verified = verified(damaged).unwrap();
    assert!(verified.is_clean(), "{context}: {:?}", verified.problems);
    assert_eq!(verified.losses, again.report.losses, "{context}");
    let third = open_with(damaged, policy).unwrap();
    assert_eq!((third.tail, third.report.repaired), (again.tail.clone(), None), "{context}");
    // Nothing was deleted.
    let kept: Vec<Vec<u8>> = report.quarantined.iter().map(|name| damaged.read_raw(path(name))).collect();
    let now = files(damaged);
    for (name, bytes) in before.iter().filter(|(name, _)| name.contains(".wal")) {
        let stays = now.iter().any(|(other, now)| other == name && bytes.starts_with(now));
        assert!(stays || kept.contains(bytes), "{context}: {name} is gone");
    }
    Some(report)
}

fn ranges_of(losses: &[Loss]) -> Vec<u64> {
    losses.iter().flat_map(|loss| loss.lsns.first.0..=loss.lsns.last.0).collect()
}

fn lost_lsns(read: &Read) -> Vec<u64> {
    (1..=read.last).filter(|lsn| !read.lsns.contains(lsn)).collect()
}

#[test]
fn any_flipped_byte_costs_no_more_than_its_record_and_never_an_lsn() {
    let (disk, model) = log();
    for (name, bytes) in files(&disk).into_iter().filter(|(name, _)| name.ends_with(".wal")) {
        let entries = entries_of(&bytes, header_of(&bytes).salt);
        let end = entries.last().map_or(0, |(offset, _)| offset + 64);
        let step = if std::env::var_os("BRAIDLOG_LONG").is_some() { 1 } else { 13 };
        for at in (0..end).step_by(step) {
            for policy in LOSSY {
                let image = image_of(&disk);
                image.flip_bit(path(&name), at, (at % 8) as u32);
                let report = check(&image, &model, policy, &format!("{name}, byte {at}"));
                if let (Some(report), DamagePolicy::SkipDamaged) = (report, policy) {
                    // The record itself with its batch, and where its header is gone what may be the rest of one.
                    let lost = ranges(&report.outcome.lost);
                    assert!(lost.len() <= 4, "{name}, byte {at}: {lost:?}");
                }
            }
        }
    }
}

#[test]
fn lost_sectors_headers_and_files_cost_what_stood_in_them() {
    let (disk, model) = log();
    let names: Vec<String> = files(&disk).into_iter().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| name.ends_with(".wal")) {
        let len = disk.read_raw(path(name)).len() as u64;
        for policy in LOSSY {
            for at in (0..len.min(40_000)).step_by(512) {
                for filler in [0, 0xEE] {
                    let image = image_of(&disk);
                    image.write_raw(path(name), at, &[filler; 512]);
                    check(&image, &model, policy, &format!("{name}, sector at {at} of {filler:#x}"));
                }
            }
            for len in (0..len.min(40_000)).step_by(1000) {
                let image = image_of(&disk);
                image.truncate_raw(path(name), len);
                // A last segment that is cut says nothing: only a manifest knows.
                if *name != segment(8) {
                    check(&image, &model, policy, &format!("{name} cut at {len}"));
                }
            }
            let image = image_of(&disk);
            image.remove_raw(path(name));
            if *name != segment(8) {
                check(&image, &model, policy, &format!("{name} is missing"));
            }
        }
    }
}

#[test]
fn a_lost_header_costs_no_record() {
    let (disk, model) = log();
    for base in [1, 6, 8] {
        for filler in [0, 0x5E] {
            let image = image_of(&disk);
            image.write_raw(segment_path(base), 0, &[filler; 4096]);
            let found = open_with(&image, DamagePolicy::SkipDamaged).unwrap();
            let report = found.report.repaired.expect("a header was lost");
            assert_eq!(ranges(&report.outcome.kept), (1..=model.len() as u64).collect::<Vec<_>>(), "{base}");
            assert_eq!(report.outcome.lost, []);
            assert_accounted_for(&image, &model, "the header is lost");
            assert!(verified(&image).unwrap().is_clean());
        }
    }
}

#[test]
fn bytes_that_cannot_be_read_are_a_hole_like_any_other() {
    let (disk, model) = log();
    for policy in LOSSY {
        let image = image_of(&disk);
        image.inject(Fault::eio(Op::Read).on(&segment(6)).forever());
        let dir = open_dir(&image);
        let report = with_quarantine(&image, policy, |how| repair(&dir, LOG_ID, how, &mut |_| ())).unwrap();
        image.clear_faults();
        recovered(&image).unwrap();
        assert!(report.files.iter().any(|file| file.name == segment(6) && file.what != WhatBecame::Kept));
        let read = assert_accounted_for(&image, &model, "unreadable");
        assert!(read.lsns.starts_with(&[1, 2, 3, 4, 5]) && !read.lsns.contains(&6));
        assert_eq!(read.lsns.contains(&8), policy == DamagePolicy::SkipDamaged);
    }
}

#[test]
fn a_torn_tail_is_trimmed_under_every_policy() {
    for policy in [DamagePolicy::Refuse, DamagePolicy::UntilDamage, DamagePolicy::SkipDamaged] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one", b"two"]).sync().round(&[&[(1, b"half a"), (1, b"batch")]]);
        disk.write_raw(segment_path(1), pen.offset - 3990, &[0xAB; 200]);
        let found = open_with(&disk, policy).unwrap();
        assert!(found.report.repaired.is_none(), "{policy}");
        assert_eq!(found.tail.next_lsn, Lsn(3), "{policy}: what nobody was told of is given again");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn damaged_packed_segments_are_repaired_from_their_other_frames() {
    let (disk, model) = log();
    assert_eq!(pack_all(&disk, 600), 2);
    for base in [1, 6] {
        let packed = path(&packed_name(base));
        let len = disk.read_raw(&packed).len() as u64;
        for policy in LOSSY {
            for at in (0..len).step_by(97) {
                let image = image_of(&disk);
                image.flip_bit(&packed, at, 2);
                check(&image, &model, policy, &format!("packed {base}, byte {at}"));
            }
            let image = image_of(&disk);
            image.remove_raw(&packed);
            check(&image, &model, policy, &format!("packed {base} is missing")).unwrap();
        }
    }
    // Where both are, the packed one does not come back for the one that was damaged.
    let image = image_of(&disk);
    let bytes = log().0.read_raw(segment_path(6));
    image.put_raw(segment_path(6), &bytes);
    image.flip_bit(segment_path(6), 4096 + 48 + 32, 1);
    for policy in LOSSY {
        check(&image_of(&image), &model, policy, "packed and not").unwrap();
    }
}

/// Says durably how far the log goes, as `close` does.
fn put_manifest(disk: &SimDisk, durable: u64) {
    let store =
        ManifestStore::new(open_dir(disk), Arc::new(SimClock::new()), LOG_ID, Arc::new(Manifest::default()));
    store.change(|manifest| manifest.durable = Lsn(durable)).unwrap();
}

#[test]
fn an_end_that_only_the_manifest_knows_of_is_accounted_for() {
    let (disk, model) = log();
    put_manifest(&disk, model.len() as u64);
    let len = disk.read_raw(segment_path(8)).len() as u64;
    for policy in LOSSY {
        let image = image_of(&disk);
        image.remove_raw(segment_path(8));
        let report = check(&image, &model, policy, "the last file is missing").unwrap();
        assert_eq!(ranges(&report.outcome.lost), (8..=14).collect::<Vec<_>>());
        let image = image_of(&disk);
        [1, 6, 8].iter().for_each(|&base| image.remove_raw(segment_path(base)));
        let report = check(&image, &model, policy, "all files are missing").unwrap();
        assert_eq!(ranges(&report.outcome.lost), (1..=14).collect::<Vec<_>>());
        for cut in (0..len.min(40_000)).step_by(1500) {
            let image = image_of(&disk);
            image.truncate_raw(segment_path(8), cut);
            check(&image, &model, policy, &format!("the last file is cut at {cut}"));
            let image = image_of(&disk);
            // One that begins as no segment does is none of the log's.
            image.write_raw(segment_path(8), cut + 8, &vec![0xEE; (len - cut - 8) as usize]);
            check(&image, &model, policy, &format!("the last file is overwritten from {cut} on"));
        }
    }
}

#[test]
fn a_second_damage_is_repaired_beside_the_first() {
    let (disk, model) = log();
    for policy in LOSSY {
        for (first, second) in [(4096 + 48 + 32, 4096 + 200), (4096 + 200, 4096 + 48 + 32)] {
            let image = image_of(&disk);
            image.flip_bit(segment_path(8), first, 3);
            check(&image, &model, policy, "the first damage").unwrap();
            let losses = recovered(&image).unwrap().report.losses;
            image.flip_bit(segment_path(1), second, 3);
            let found = open_with(&image, policy).unwrap();
            let read = assert_accounted_for(&image, &model, "the second damage");
            assert!(found.report.repaired.is_some(), "{policy}");
            assert_told_as_recorded(&image, &found.report.losses, "the second damage");
            let told = ranges_of(&found.report.losses);
            assert!(ranges_of(&losses).iter().all(|lsn| told.contains(lsn)), "{policy}: none is forgotten");
            assert_eq!(found.tail.next_lsn.0, read.last + 1);
            assert!(verified(&image).unwrap().is_clean());
        }
    }
}

#[test]
fn with_refuse_no_file_changes() {
    let (disk, _) = log();
    disk.flip_bit(segment_path(8), 4096 + 100, 1);
    let before = disk.fingerprint();
    assert!(matches!(open_with(&disk, DamagePolicy::Refuse), Err(RecoveryError::Damaged(_))));
    assert_eq!(disk.fingerprint(), before);
}

#[test]
fn another_logs_segment_is_refused_under_every_policy() {
    let (disk, _) = log();
    let mut bytes = disk.read_raw(segment_path(6));
    let header = braidlog_format::SegmentHeader { log_id: LogId([9; 16]), ..header_of(&bytes) };
    header.encode(bytes.first_chunk_mut().unwrap());
    disk.put_raw(segment_path(6), &bytes);
    let before = disk.fingerprint();
    for policy in LOSSY {
        assert!(matches!(open_with(&disk, policy), Err(RecoveryError::Foreign { .. })));
    }
    assert_eq!(disk.fingerprint(), before);
}

/// Logs that are damaged in ways that take all steps of a repair.
fn damaged_logs() -> Vec<(&'static str, SimDisk)> {
    let whole = log().0;
    let damaged = |damage: &dyn Fn(&SimDisk)| {
        let image = image_of(&whole);
        damage(&image);
        image
    };
    #[cfg(feature = "zstd")]
    let packed = {
        let image = image_of(&whole);
        assert_eq!(pack_all(&image, 600), 2);
        image
    };
    vec![
        #[cfg(feature = "zstd")]
        ("a packed segment that cannot be opened, and one that was not removed", {
            packed.flip_bit(path(&packed_name(1)), 100, 1);
            packed.put_raw(segment_path(6), &whole.read_raw(segment_path(6)));
            packed.write_raw(segment_path(6), 0, &[0; 4096]);
            packed.flip_bit(segment_path(6), 4096 + 48 + 32, 1);
            packed
        }),
        (
            "a payload in the first segment",
            damaged(&|disk| disk.flip_bit(segment_path(1), 4096 + 48 + 32, 1)),
        ),
        (
            "a header of an entry in the last one",
            damaged(&|disk| disk.flip_bit(segment_path(8), 4096 + 48, 1)),
        ),
        ("a missing file", damaged(&|disk| disk.remove_raw(segment_path(6)))),
        (
            "two segments",
            damaged(&|disk| {
                disk.write_raw(segment_path(1), 4096, &[0xEE; 512]);
                disk.write_raw(segment_path(6), 0, &[0; 4096]);
            }),
        ),
    ]
}

#[test]
fn a_repair_that_crashed_anywhere_is_made_again_with_the_same_result() {
    for (what, disk) in damaged_logs() {
        for policy in LOSSY {
            let durable_files = image_of(&disk);
            let reference = image_of(&durable_files);
            let expected = open_with(&reference, policy).unwrap();
            let expected_files = wal_files(&reference);
            let set_aside = &expected.report.repaired.as_ref().expect("it was damaged").quarantined;
            let refused_before = recovered(&image_of(&durable_files)).is_err();
            let mut operations = 0;
            for after_effect in [false, true] {
                for n in 1.. {
                    let image = image_of(&durable_files);
                    let died = Fault::eio(Op::Any).nth(n);
                    image.inject(if after_effect { died.after_effect() } else { died });
                    image.inject(Fault::eio(Op::Any).nth(n + 1).forever());
                    let died = open_with(&image, policy);
                    image.clear_faults();
                    if died.is_ok() {
                        operations += n - 1;
                        break;
                    }
                    for seed in 0..4 {
                        for profile in Profile::HONEST {
                            let context =
                                format!("{what}, {policy}, operation {n}, {profile:?}, seed {seed}");
                            let after = image.crash_clone(seed, profile);
                            // Nobody goes on with half of it.
                            let plain = image_of(&after);
                            let opened = recovered(&plain);
                            if let Ok(found) = &opened {
                                assert_told_as_recorded(&plain, &found.report.losses, &context);
                            }
                            match opened {
                                Ok(found) if wal_files(&plain) == expected_files => {
                                    assert_eq!(found.tail, expected.tail, "{context}");
                                }
                                // The damage was of a kind that is not seen without reading all.
                                Ok(_) => assert!(!refused_before, "{context}: opened half repaired"),
                                Err(error) => {
                                    assert!(matches!(error, RecoveryError::Damaged(_)), "{context}: {error}")
                                }
                            }
                            let again = open_with(&after, policy)
                                .unwrap_or_else(|error| panic!("{context}: {error}"));
                            assert_eq!(again.tail, expected.tail, "{context}");
                            assert_eq!(again.report.losses, expected.report.losses, "{context}");
                            assert!(wal_files(&after) == expected_files, "{context}");
                            for name in set_aside {
                                let is_kept = after.read_raw(path(name)) == reference.read_raw(path(name));
                                assert!(is_kept, "{context}: {name} is another file");
                            }
                        }
                    }
                }
            }
            assert!(operations > 20, "{what}: {operations} operations");
        }
    }
}

fn wal_files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    files(disk).into_iter().filter(|(name, _)| name.contains(".wal")).collect()
}
