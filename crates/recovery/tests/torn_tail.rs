//! A crash of the writer: what was acknowledged is recovered, what was not is trimmed, and the log goes on.

mod support;

use braidlog_format::Lsn;
use braidlog_recovery::{RecoveryError, TailState};
use braidlog_sim::{Fault, Op, Profile, Rng, SimDisk};
use support::{Pen, Written, assert_holds, files, path, recovered, segment, segment_path, verified};

#[test]
fn new_log_starts_at_the_first_lsn() {
    let disk = SimDisk::new();
    let found = recovered(&disk).unwrap();
    assert_eq!(found.report.tail, TailState::NewLog);
    assert_eq!((found.tail.next_lsn, found.tail.incarnation.0), (Lsn::FIRST, 1));
    assert_eq!((found.tail.log_id, found.tail.predecessor), (support::LOG_ID, None));
    assert!(!found.tail.replaces_empty);
    assert_eq!(found.report.last_lsn, Lsn::ZERO);
}

#[test]
fn closed_log_is_opened_without_a_scan() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).rotate().records(&[b"three"]).seal();
    let before = files(&disk);
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.tail, TailState::Sealed);
    assert_eq!((found.report.scanned_bytes, found.report.segments), (0, 2));
    let named = found.tail.predecessor.unwrap();
    let (lsn, timestamp_ns, checksum) = pen.last.unwrap();
    assert_eq!((named.base, named.last, named.sealed), (Lsn(3), lsn, true));
    assert_eq!((named.last_timestamp_ns, named.last_checksum), (timestamp_ns, checksum));
    assert_eq!(files(&disk), before, "nothing was changed");
}

#[test]
fn unsealed_log_ends_with_its_last_record() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).sync().idle_mark();
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.tail, TailState::Unsealed);
    let named = found.tail.predecessor.unwrap();
    let (lsn, timestamp_ns, checksum) = pen.last.unwrap();
    assert_eq!((named.base, named.last, named.sealed), (Lsn(1), lsn, false));
    assert_eq!((named.last_timestamp_ns, named.last_checksum), (timestamp_ns, checksum));
    assert_eq!(found.tail.last_timestamp_ns, pen.timestamp_ns);
    assert_eq!(disk.read_raw(segment_path(1)).len() as u64, pen.offset, "the space ahead is given back");
}

#[test]
fn acknowledged_record_survives_torn_tail() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"acknowledged"]).sync().round(&[&[(1, b"in a"), (2, b"batch")]]);
    // The middle of the batch did not reach the device.
    disk.write_raw(segment_path(1), pen.offset - 4000, &[0; 16]);
    let torn = disk.read_raw(segment_path(1));
    let found = recovered(&disk).unwrap();
    let TailState::Torn { segment: name, offset, cut_bytes, kept_as } = found.report.tail else {
        panic!("{:?}", found.report.tail);
    };
    assert_eq!((name, found.report.last_lsn), (segment(1), Lsn(1)));
    assert_holds(&disk, &pen.model[..1]);
    let kept = disk.read_raw(path(&kept_as.expect("the cut bytes are kept")));
    assert_eq!(kept.len() as u64, cut_bytes);
    assert_eq!(kept, torn[offset as usize..][..kept.len()]);
    assert!(torn[offset as usize + kept.len()..].iter().all(|&byte| byte == 0));
}

/// Two short reads of the same block in a row were taken for the end of the file. Recovery then believed that a header
/// was never written, or that a tail was torn: it replaced the segment, gave its incarnation out again, and would have
/// cut acknowledged records. A long run of the single-stepped driver met it (seed 3572), with an empty segment.
#[test]
fn short_reads_are_never_taken_for_the_end_of_a_file() {
    for direct in [false, true] {
        for records in [0usize, 1, 40] {
            let disk = SimDisk::new();
            let mut pen = Pen::new(&disk);
            pen.records(&[b"in an earlier segment"]).rotate();
            for number in 0..records {
                pen.records(&[&vec![number as u8; 700]]).sync();
            }
            disk.set_direct_supported(direct);
            let before = files(&disk);
            disk.inject(Fault::short(Op::Read).forever());
            let found = recovered(&disk).unwrap();
            disk.clear_faults();
            assert_eq!(found.report.last_lsn, Lsn(1 + records as u64), "direct: {direct}");
            assert!(!matches!(found.report.tail, TailState::Torn { .. }), "{:?}", found.report.tail);
            assert_eq!(found.report.segments, 2, "direct: {direct}");
            assert_eq!(files(&disk)[0], before[0]);
            assert_holds(&disk, &pen.model);
        }
    }
}

#[test]
fn torn_tail_is_gone_for_good_after_three_reopenings() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"first"]).sync();
    for round in 0..3u8 {
        pen.records(&[&[round; 100], &[round; 200]]).sync().records(&[&[0xEE; 3000]]);
        disk.write_raw(segment_path(pen.header.base.0), pen.offset - 4090, &[0xFF; 700]);
        let found = pen.assert_recovers(&disk);
        assert!(matches!(found.report.tail, TailState::Torn { .. }), "{round}: {:?}", found.report.tail);
        for _ in 0..3 {
            let again = recovered(&disk).unwrap();
            assert_eq!((again.report.tail, again.tail), (TailState::Unsealed, found.tail.clone()));
        }
        let model = std::mem::take(&mut pen.model);
        pen = Pen::start(&disk, &found.tail, model, 64 << 10);
    }
    pen.records(&[b"last"]).seal();
    let found = pen.assert_recovers(&disk);
    assert_eq!((found.report.segments, found.report.last_lsn), (4, Lsn(8)));
    assert_eq!(found.report.damaged_seals, [] as [String; 0], "a trimmed segment never had a seal");
    assert!(verified(&disk).unwrap().is_clean());
}

#[test]
fn batch_that_is_not_whole_is_cut_whole() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"before"]).sync();
    let start = pen.offset;
    pen.round(&[&[(1, b"a"), (1, b"b"), (1, b"c")]]);
    let bytes = disk.read_raw(segment_path(1));
    let entries = support::entries_of(&bytes, pen.header.salt);
    let third = entries.iter().filter(|(offset, kind)| *offset > start && kind.is_user()).nth(2).unwrap().0;
    // All that follows the first two entries of the batch is zero: nothing is torn, and yet it is not whole.
    disk.write_raw(segment_path(1), third, &vec![0; bytes.len() - third as usize]);
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.last_lsn, Lsn(1));
    assert!(matches!(found.report.tail, TailState::Torn { .. }));
}

#[test]
fn mark_and_pad_inside_a_batch_do_not_end_it() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.round(&[&[(1, b"a"), (1, b"b")]]);
    // The batch continues over the end of its round.
    pen.model.pop();
    let mut bytes = disk.read_raw(segment_path(1));
    let (second, _) = support::entries_of(&bytes, pen.header.salt)[2];
    pen.next = Lsn(2);
    bytes[second as usize..].fill(0);
    disk.put_raw(segment_path(1), &bytes);
    let pad = braidlog_format::pad_len(second);
    let braidlog_format::PadLen::Payload(len) = pad else { panic!("there is room") };
    let header = braidlog_format::EntryHeader::for_payload(
        Lsn(2),
        pen.timestamp_ns,
        braidlog_format::Kind::PAD,
        braidlog_format::Flags::NONE,
        &vec![0; len as usize],
    );
    disk.write_raw(segment_path(1), second, &header.encode(pen.header.salt, second));
    pen.offset = braidlog_format::block_ceil(second);
    let round = pen.encode_round(&[&[(1, b"b")]]);
    let image = disk.crash_clone(0, Profile::Kept);
    assert_eq!(recovered(&image).unwrap().report.last_lsn, Lsn::ZERO, "half a batch is none");
    disk.write_raw(segment_path(1), pen.offset, &round);
    let found = recovered(&disk).unwrap();
    assert_eq!(found.report.last_lsn, Lsn(2));
    assert_holds(&disk, &pen.model);
}

#[test]
fn segment_without_a_record_is_replaced_and_not_continued() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one"]).seal();
    for seal in [false, true] {
        let mut empty = Pen::reopen(&disk, pen.model.clone());
        empty.idle_mark();
        if seal {
            empty.seal();
        }
        let found = pen.assert_recovers(&disk);
        assert!(found.tail.replaces_empty);
        assert_eq!(found.tail.next_lsn, Lsn(2));
        assert_eq!(found.tail.predecessor, empty.header.predecessor);
        assert_eq!(found.tail.incarnation.0, empty.header.incarnation.0 + 1);
        assert_eq!(found.report.tail, if seal { TailState::Sealed } else { TailState::Unsealed });
    }
    let mut pen = Pen::reopen(&disk, pen.model);
    pen.records(&[b"two"]).seal();
    assert_eq!(pen.assert_recovers(&disk).report.segments, 2);
    assert!(verified(&disk).unwrap().is_clean());
}

#[test]
fn header_that_was_never_written_is_no_obstacle() {
    for len in [0, 1, 4095, 4096, 65536] {
        for first in [false, true] {
            let disk = SimDisk::new();
            let mut model = Vec::new();
            if !first {
                let mut pen = Pen::new(&disk);
                pen.records(&[b"one"]).seal();
                model = pen.model;
            }
            support::open_dir(&disk);
            disk.put_raw(segment_path(model.len() as u64 + 1), &vec![0; len]);
            let found = recovered(&disk).unwrap();
            assert!(found.tail.replaces_empty, "length {len}");
            assert_eq!(found.tail.next_lsn.0, model.len() as u64 + 1);
            assert_holds(&disk, &model);
            assert!(verified(&disk).unwrap().is_clean());
            let mut pen = Pen::start(&disk, &found.tail, model, 64 << 10);
            pen.records(&[b"next"]).seal();
            pen.assert_recovers(&disk);
        }
    }
}

#[test]
fn header_that_was_never_written_is_damage_where_it_cannot_stand() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).seal();
    disk.put_raw(segment_path(7), &[]);
    let before = files(&disk);
    let Err(RecoveryError::Damaged(damage)) = recovered(&disk) else { panic!("records 3 to 6 are gone") };
    assert_eq!((damage.segment, damage.lsns.first, damage.lsns.last), (segment(7), Lsn(3), Lsn(6)));
    assert_eq!(files(&disk), before);
}

#[test]
fn seal_that_was_half_written_loses_nothing() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).sync().write_seal();
    let seal = pen.offset;
    for kept in [0, 8, 40, 512, 4000] {
        let image = disk.crash_clone(0, Profile::Kept);
        image.write_raw(segment_path(1), seal + kept, &vec![0; 4096 - kept as usize]);
        let report = verified(&image).unwrap();
        assert!(report.is_clean(), "{kept} bytes: a crash can do that: {:?}", report.problems);
        let found = pen.assert_recovers(&image);
        assert_eq!(found.report.last_lsn, Lsn(2));
        assert_eq!(found.report.damaged_seals.len(), usize::from(kept >= 40), "{kept} bytes");
    }
}

#[test]
fn seal_whose_cut_was_lost_ends_the_segment() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).seal();
    let len = disk.read_raw(segment_path(1)).len() as u64;
    disk.truncate_raw(segment_path(1), 64 << 10);
    disk.write_raw(segment_path(1), len + 4096, b"what stood there before");
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.tail, TailState::Sealed);
    assert_eq!(disk.read_raw(segment_path(1)).len() as u64, len);
    assert!(found.tail.predecessor.unwrap().sealed);
}

#[test]
fn records_that_a_failed_sync_lost_are_not_believed() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"safe"]).sync().records(&[b"lost"]);
    disk.inject(braidlog_sim::Fault::lost_sync());
    pen.file.sync_data().unwrap_err();
    // The page cache still shows it.
    assert!(disk.read_raw(segment_path(1)).windows(4).any(|bytes| bytes == b"lost"));
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.last_lsn, Lsn(1));
}

#[test]
fn records_that_only_the_page_cache_has_are_not_believed_where_it_cannot_be_dropped() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"safe"]).sync().records(&[b"lost"]);
    disk.inject(braidlog_sim::Fault::lost_sync());
    pen.file.sync_data().unwrap_err();
    let tamper = support::tamper::Tamper { keeps_its_cache: true, ..Default::default() };
    let dir = tamper.with(support::open_dir(&disk));
    let found = braidlog_recovery::recover(&dir, support::LOG_ID).unwrap();
    assert_eq!(found.report.last_lsn, Lsn(1));
}

/// A sync mark whose checksums are right and whose fields cannot be: a writer's bug, or a forger's work.
#[test]
fn mark_that_contradicts_itself_vouches_for_nothing() {
    use braidlog_format::{EntryHeader, Flags, Kind, SyncMark};
    // What stands in the mark's header as next LSN, what it says is durable, what it says is synced; the
    // mark stands at block 4, and the scan stops in block 2 with LSN 2 expected.
    let vouching = (4, 3, 4 * 4096);
    for (mark, vouches) in [
        (vouching, true),
        ((4, 4, 4 * 4096), false),
        ((4, u64::MAX, 4 * 4096), false),
        ((4, 3, 5 * 4096), false),
        ((4, 3, 4 * 4096 - 8), false),
        ((4, 3, 0), false),
        ((4, 3, 2 * 4096), false),
        ((1, 0, 4 * 4096), false),
        ((0, 0, 4 * 4096), false),
        ((1 << 63, 3, 4 * 4096), false),
        ((u64::MAX, 3, 4 * 4096), false),
    ] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one"]);
        assert_eq!(pen.offset, 2 * 4096);
        let (next, durable_lsn, synced_offset) = mark;
        let payload = SyncMark { durable_lsn: Lsn(durable_lsn), synced_offset }.encode();
        let header =
            EntryHeader::for_payload(Lsn(next), pen.timestamp_ns, Kind::SYNC_MARK, Flags::NONE, &payload);
        disk.write_raw(segment_path(1), 2 * 4096, b"no entry");
        disk.write_raw(segment_path(1), 4 * 4096, &header.encode(pen.header.salt, 4 * 4096));
        disk.write_raw(segment_path(1), 4 * 4096 + 32, &payload);
        match recovered(&disk) {
            Err(RecoveryError::Damaged(damage)) => {
                assert!(vouches, "{mark:?}: {damage}");
                assert_eq!((damage.offset, damage.lsns.first, damage.lsns.last), (2 * 4096, Lsn(2), Lsn(3)));
            }
            Ok(found) => {
                assert!(!vouches, "{mark:?}");
                assert_eq!(found.report.last_lsn, Lsn(1));
            }
            Err(error) => panic!("{mark:?}: {error}"),
        }
    }
}

#[test]
fn left_over_prepared_files_are_removed_and_strange_ones_stay() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one"]).seal();
    for name in ["7.prep", "12.prep", "notes.txt", "x.prep", "LOCK"] {
        disk.put_raw(path(name), b"something");
    }
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.removed_prepared, ["12.prep", "7.prep"]);
    assert_eq!(found.report.ignored, ["notes.txt", "x.prep"]);
    let names: Vec<_> = disk.list_raw(support::DIR).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [segment(1), "LOCK".into(), "notes.txt".into(), "x.prep".into()]);
}

#[test]
fn four_torn_tails_are_kept_and_the_oldest_goes() {
    let disk = SimDisk::new();
    let mut model: Vec<Written> = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..6 {
        let mut pen = Pen::reopen(&disk, std::mem::take(&mut model));
        pen.records(&[b"kept"]).sync().records(&[b"torn"]);
        disk.write_raw(segment_path(pen.header.base.0), pen.offset - 4040, &[1; 100]);
        let found = pen.assert_recovers(&disk);
        let TailState::Torn { kept_as: Some(name), .. } = found.report.tail else { panic!() };
        kept.push(name);
        model = pen.model;
    }
    let names = disk.list_raw(support::DIR).into_iter().map(|(name, _)| name);
    let torn: Vec<_> = names.filter(|name| name.ends_with(".torn")).collect();
    kept.sort();
    assert_eq!(torn, kept[2..]);
}

#[test]
fn full_disk_does_not_keep_a_torn_tail_from_being_trimmed() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"kept"]).sync().records(&[&[7; 9000]]);
    disk.write_raw(segment_path(1), pen.offset - 6000, &[1; 100]);
    disk.set_capacity(Some(disk.used_bytes() + 4096));
    let found = pen.assert_recovers(&disk);
    let TailState::Torn { kept_as: None, cut_bytes, .. } = found.report.tail else {
        panic!("{:?}", found.report.tail);
    };
    assert!(cut_bytes >= 9000);
    assert_eq!(disk.list_raw(support::DIR).len(), 1, "no half-written file is left");
    assert_eq!(recovered(&disk).unwrap().report.tail, TailState::Unsealed);
}

#[test]
fn file_system_without_direct_io_recovers_as_well() {
    let disk = SimDisk::new();
    disk.set_direct_supported(false);
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one"]).sync().records(&[b"torn"]);
    disk.write_raw(segment_path(1), pen.offset - 4040, &[1; 100]);
    assert_eq!(pen.assert_recovers(&disk).report.last_lsn, Lsn(1));
}

#[test]
fn interrupted_and_short_reads_change_nothing() {
    use braidlog_sim::{Fault, Op};
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[&[3; 5000], b"two"]).sync().records(&[b"torn"]);
    disk.write_raw(segment_path(1), pen.offset - 4040, &[1; 100]);
    disk.inject(Fault::interrupted(Op::Any).one_in(3, 1).forever().on(".nothing"));
    disk.inject(Fault::interrupted(Op::Read).one_in(3, 1).forever());
    disk.inject(Fault::short(Op::Read).one_in(2, 2).forever());
    disk.inject(Fault::short(Op::Write).one_in(2, 3).forever());
    let found = pen.assert_recovers(&disk);
    assert!(matches!(found.report.tail, TailState::Torn { kept_as: Some(_), .. }));
    assert!(disk.faults_struck() > 0);
}

/// Many lives of one log: each ends with a power cut at a random moment, and the next begins with what
/// recovery says.
#[test]
fn no_crash_loses_what_was_acknowledged_nor_invents_anything() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new();
        let mut model: Vec<Written> = Vec::new();
        let mut durable = Lsn::ZERO;
        let mut incarnation = 0;
        for life in 0..4 {
            let context = format!("seed {seed}, life {life}");
            let found = recovered(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(found.report.last_lsn >= durable, "{context}");
            assert!(found.report.last_lsn.0 <= model.len() as u64, "{context}");
            assert!(found.tail.incarnation.0 > incarnation, "{context}");
            incarnation = found.tail.incarnation.0;
            model.truncate(found.report.last_lsn.0 as usize);
            assert!(model.last().is_none_or(|last| !last.batch_continues), "{context}");
            assert_holds(&disk, &model);
            // What was recovered is durable: a power cut right now changes nothing.
            let cut = disk.crash_clone(seed, Profile::Posix);
            let again = recovered(&cut).unwrap_or_else(|error| panic!("{context}, cut again: {error}"));
            assert_eq!(again.tail, found.tail, "{context}");
            let report = verified(&cut).unwrap();
            assert!(report.is_clean(), "{context}: {:?}", report.problems);

            let mut pen = Pen::start(&disk, &found.tail, std::mem::take(&mut model), 64 << 10);
            live(&mut pen, &mut rng);
            model = std::mem::take(&mut pen.model);
            durable = pen.durable;
            let profile = Profile::HONEST[rng.index(3)];
            drop(pen);
            disk = disk.crash_clone(rng.next_u64(), profile);
            let report = verified(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(report.is_clean(), "{context}: a crash is no damage: {:?}", report.problems);
        }
    }
}

/// A few random steps of a writer.
fn live(pen: &mut Pen, rng: &mut Rng) {
    for _ in 0..rng.below(8) {
        match rng.below(8) {
            0 if pen.last.is_some() => drop(pen.rotate()),
            1 => drop(pen.idle_mark()),
            2 | 3 => drop(pen.sync()),
            _ => {
                let mut batches = Vec::new();
                for _ in 0..=rng.below(3) {
                    let batch: Vec<Vec<u8>> = (0..=rng.below(3))
                        .map(|_| {
                            let most = [20, 300, 6000][rng.index(3)];
                            let mut payload = vec![0; rng.index(most)];
                            rng.fill(&mut payload);
                            payload
                        })
                        .collect();
                    batches.push(batch);
                }
                let batches: Vec<Vec<(u8, &[u8])>> = batches
                    .iter()
                    .map(|batch| batch.iter().map(|payload| (9, payload.as_slice())).collect())
                    .collect();
                let batches: Vec<&[(u8, &[u8])]> = batches.iter().map(|batch| batch.as_slice()).collect();
                pen.round(&batches);
            }
        }
    }
    match rng.below(6) {
        0 => drop(pen.seal()),
        1 => drop(pen.sync().write_seal()),
        _ => {}
    }
}
