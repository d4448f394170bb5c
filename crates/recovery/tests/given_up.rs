//! What a repair may give up, and no more: no LSN that anything on the disk may have had is given again, nothing that is
//! kept is told as lost, and what comes of a repair is a log like any other.
//!
//! The rule: each test is the story of a record that somebody may have been told of, and of which hardly anything is left.

mod support;

use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, Lsn, LsnRange};
use braidlog_recovery::{DamagePolicy, LogReader, Recovered};
use braidlog_sim::{Fault, Op, SimDisk};
use support::packing::store_of;
#[cfg(feature = "zstd")]
use support::packing::{pack_all, packed_name};
use support::repairing::{LOSSY, assert_told_as_recorded, image_of, log, open_with, with_quarantine};
use support::{LOG_ID, Pen, entries_of, header_of, open_dir, recovered, segment, segment_path, verified};

/// Where the record with this LSN stands in the segment with this base, whose records are all there.
fn offset_of(disk: &SimDisk, base: u64, lsn: u64) -> u64 {
    let bytes = disk.read_raw(segment_path(base));
    let entries = entries_of(&bytes, header_of(&bytes).salt);
    let records: Vec<u64> =
        entries.into_iter().filter(|(_, kind)| kind.takes_lsn()).map(|(offset, _)| offset).collect();
    records[(lsn - base) as usize]
}

/// Overwrites a part of a segment with what is nothing.
fn overwrite(disk: &SimDisk, base: u64, from: u64, to: u64) {
    disk.write_raw(segment_path(base), from, &vec![0xEE; (to - from) as usize]);
}

fn lsns(ranges: impl IntoIterator<Item = LsnRange>) -> Vec<u64> {
    ranges.into_iter().flat_map(|range| range.first.0..=range.last.0).collect()
}

/// Repairs, and asserts that the log goes on behind `last`, reads to its end, and accounts for each LSN once.
fn repaired(disk: &SimDisk, policy: DamagePolicy, last: u64, context: &str) -> Recovered {
    let context = format!("{policy}: {context}");
    let found = open_with(disk, policy).unwrap_or_else(|error| panic!("{context}: {error}"));
    let next = found.tail.next_lsn;
    assert!(next.0 > last, "{context}: LSN {next} is given again");
    let reader = LogReader::open_read_only(open_dir(disk)).unwrap();
    let mut records = reader.iter(found.report.first_lsn, next.prev()).unwrap();
    let record = |lsn| LsnRange { first: lsn, last: lsn };
    let mut told: Vec<LsnRange> = records.by_ref().map(|found| record(found.unwrap().lsn)).collect();
    told.extend(records.losses().iter().map(|loss| loss.lsns));
    told.sort_unstable_by_key(|range| range.first);
    let mut at = found.report.first_lsn;
    for range in &told {
        assert_eq!(range.first, at, "{context}: {told:?}");
        at = range.last.next();
    }
    assert_eq!(at, next, "{context}: {told:?}");
    // What an opening tells of losses is what a reader meets.
    let lost = |lsn| records.losses().iter().any(|loss| loss.lsns.contains(lsn));
    for loss in &found.report.losses {
        assert!(lost(loss.lsns.first) && lost(loss.lsns.last), "{context}: {loss}");
        let kept = told.iter().find(|range| loss.lsns.contains(range.first) && !lost(range.first));
        assert!(kept.is_none(), "{context}: {loss}, but {kept:?} is there");
    }
    if found.report.repaired.is_some() {
        assert!(verified(disk).unwrap().is_clean(), "{context}");
    }
    assert_eq!(recovered(disk).unwrap().tail, found.tail, "{context}");
    found
}

#[test]
fn a_last_segment_of_which_nothing_proves_itself_gives_no_lsn_again() {
    let (disk, model) = log();
    let len = disk.read_raw(segment_path(8)).len() as u64;
    for policy in LOSSY {
        let image = image_of(&disk);
        image.write_raw(segment_path(8), 0, &[0; 4096]);
        overwrite(&image, 8, 4096, len);
        repaired(&image, policy, model.len() as u64, "all of it is overwritten");

        let image = image_of(&disk);
        image.inject(Fault::eio(Op::Read).on(&segment(8)).forever());
        let dir = open_dir(&image);
        with_quarantine(&image, policy, |how| braidlog_recovery::repair(&dir, LOG_ID, how, &mut |_| ()))
            .unwrap();
        image.clear_faults();
        repaired(&image, policy, model.len() as u64, "none of it can be read");
    }
}

#[test]
fn what_stands_behind_a_lost_header_and_a_lost_beginning_is_no_torn_tail() {
    for policy in LOSSY {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        let payloads: Vec<Vec<u8>> = (0..200).map(|n| vec![n; 100]).collect();
        // One round: no later mark says that it was synced.
        pen.records(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>()).sync();
        disk.write_raw(segment_path(1), 0, &[0; 9000]);
        let found = repaired(&disk, policy, 200, "the header and the first records");
        let kept = lsns(found.report.repaired.unwrap().outcome.kept);
        match policy {
            DamagePolicy::SkipDamaged => assert!(kept.len() > 150 && kept.ends_with(&[199, 200]), "{kept:?}"),
            _ => assert_eq!(kept, []),
        }
    }
}

#[test]
fn a_batch_of_which_one_record_is_damaged_is_lost_as_a_whole() {
    let (disk, model) = log();
    let batch = 3..=5;
    for (lsn, into) in batch.clone().flat_map(|lsn| [(lsn, 0), (lsn, ENTRY_HEADER_LEN)]) {
        let image = image_of(&disk);
        image.flip_bit(segment_path(1), offset_of(&disk, 1, lsn) + into, 1);
        let context = format!("LSN {lsn}, {into} bytes into it");
        let found = repaired(&image, DamagePolicy::SkipDamaged, model.len() as u64, &context);
        let kept = lsns(found.report.repaired.unwrap().outcome.kept);
        let others: Vec<u64> = (1..=model.len() as u64).filter(|lsn| !batch.contains(lsn)).collect();
        assert_eq!(kept, others, "{context}");
    }
}

#[test]
fn a_header_that_fits_by_chance_is_not_taken_for_the_next_entry() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", &[2; 400], b"three"]).sync().records(&[b"four"]).sync();
    let (bytes, at) = (disk.read_raw(segment_path(1)), offset_of(&disk, 1, 2));
    let salt = header_of(&bytes).salt;
    let header = EntryHeader::decode(bytes[at as usize..].first_chunk().unwrap(), salt, at).unwrap();
    // In what is damaged stands what proves itself as a header of a record far ahead, whose payload is another.
    disk.flip_bit(segment_path(1), at, 1);
    let chance = EntryHeader { lsn: Lsn(1_000_000), payload_len: 64, ..header };
    disk.write_raw(segment_path(1), at + 64, &chance.encode(salt, at + 64));
    let found = repaired(&disk, DamagePolicy::SkipDamaged, 4, "a header by chance");
    // The third may be the rest of a batch that began with the second.
    assert_eq!(lsns(found.report.repaired.unwrap().outcome.kept), [1, 4]);
    assert_eq!(found.tail.next_lsn, Lsn(5));
}

#[test]
fn a_record_that_may_be_the_rest_of_a_lost_batch_gives_its_lsn_to_no_other() {
    for policy in LOSSY {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"a", b"b", b"c"]).sync();
        store_of(&open_dir(&disk)).change(|manifest| manifest.durable.0 = 2).unwrap();
        disk.flip_bit(segment_path(1), offset_of(&disk, 1, 2), 1);
        let found = repaired(&disk, policy, 3, "a header of an entry in the last round");
        let outcome = found.report.repaired.unwrap().outcome;
        assert_eq!((lsns(outcome.lost), lsns(outcome.never_acknowledged)), (vec![2], vec![3]), "{policy}");
    }
}

#[test]
fn lsns_that_only_a_later_mark_passed_are_not_given_again() {
    for policy in LOSSY {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        // Only the first round was synced when the others were written.
        pen.records(&[b"1", b"2"]).sync();
        pen.records(&[b"3", b"4"]).records(&[b"5", b"6"]).records(&[b"7", b"8"]);
        let at = |lsn| offset_of(&disk, 1, lsn);
        let (two, six, seven, eight) = (at(2), at(6), at(7), at(8));
        overwrite(&disk, 1, two, six + ENTRY_HEADER_LEN);
        overwrite(&disk, 1, seven, eight + ENTRY_HEADER_LEN);
        repaired(&disk, policy, 6, "all records but the first");
    }
}

#[test]
fn a_repair_that_crashed_is_made_with_another_policy_and_tells_what_that_one_gave_up() {
    let (disk, _) = log();
    disk.flip_bit(segment_path(1), 4096 + 48 + 32, 1);
    for (first, second) in [(LOSSY[0], LOSSY[1]), (LOSSY[1], LOSSY[0])] {
        let mut crashes = 0;
        for n in 1.. {
            let image = image_of(&disk);
            let dir = open_dir(&image);
            image.inject(Fault::eio(Op::Any).nth(n).forever());
            let died = with_quarantine(&image, first, |how| {
                braidlog_recovery::repair(&dir, LOG_ID, how, &mut |_| ())
            });
            image.clear_faults();
            if died.is_ok() {
                break;
            }
            crashes += 1;
            let context = format!("{first} failed at operation {n}");
            let refusing = image_of(&image);
            if let Ok(found) = recovered(&refusing) {
                assert_told_as_recorded(&refusing, &found.report.losses, &context);
            }
            let found = repaired(&image, second, 14, &context);
            assert_told_as_recorded(&image, &found.report.losses, &context);
        }
        assert!(crashes > 20, "{first}: {crashes}");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_segment_that_ends_with_a_loss_is_packed_as_any_other() {
    let (disk, model) = log();
    disk.flip_bit(segment_path(6), offset_of(&disk, 6, 7) + ENTRY_HEADER_LEN, 1);
    let found =
        repaired(&disk, DamagePolicy::SkipDamaged, model.len() as u64, "the last record of a segment");
    assert_eq!(lsns(found.report.losses.iter().map(|loss| loss.lsns)), [7]);
    assert_eq!(pack_all(&disk, 600), 2);
    repaired(&disk, DamagePolicy::SkipDamaged, model.len() as u64, "packed");
}

#[cfg(feature = "zstd")]
#[test]
fn a_packed_segment_without_a_successor_has_no_torn_tail() {
    let (disk, _) = log();
    assert_eq!(pack_all(&disk, 600), 2);
    disk.remove_raw(segment_path(8));
    let packed = support::path(&packed_name(6));
    for policy in LOSSY {
        for at in (0..disk.read_raw(&packed).len() as u64).step_by(97) {
            let image = image_of(&disk);
            image.flip_bit(&packed, at, 2);
            let found = repaired(&image, policy, 7, &format!("byte {at}"));
            assert!(found.report.last_lsn >= Lsn(7), "{policy}, byte {at}");
        }
    }
}
