//! Damage at rest, everywhere: every byte of a small log is flipped, every sector zeroed or replaced, every
//! file cut at every length, taken away, renamed, swapped or copied. A model says which verdict is right.

mod support;

use std::ops::Range;

use braidlog_format::{Incarnation, Kind, Lsn, SEGMENT_HEADER_LEN, SegmentHeader};
use braidlog_recovery::{DamageCause, LogReader, RecoveryError, TailState, VerifyReport};
use braidlog_sim::{Profile, SimDisk};
use support::{
    DIR, Pen, Written, assert_holds, entries_of, files, header_of, open_dir, path, recovered, segment,
    segment_path, verified,
};

/// What the model knows of one file.
#[derive(Debug)]
struct Map {
    name: String,
    len: u64,
    /// Where each entry starts, and its kind.
    entries: Vec<(u64, Kind)>,
    /// Where the last entry that takes an LSN ends.
    records_end: u64,
    /// Where the seal starts, if it has one.
    seal: Option<u64>,
    last: bool,
}

impl Map {
    /// Where the entry starts that holds this byte; 0 for the header block.
    fn entry_at(&self, offset: u64) -> u64 {
        let behind = self.entries.partition_point(|(start, _)| *start <= offset);
        behind.checked_sub(1).map_or(0, |index| self.entries[index].0)
    }
}

fn map(disk: &SimDisk) -> Vec<Map> {
    let segments: Vec<_> = files(disk).into_iter().filter(|(name, _)| name.ends_with(".wal")).collect();
    let count = segments.len();
    let of = |(index, (name, bytes)): (usize, (String, Vec<u8>))| {
        let entries = entries_of(&bytes, header_of(&bytes).salt);
        let end_of = |index: usize| entries.get(index + 1).map_or(bytes.len() as u64, |(start, _)| *start);
        let last_record = entries.iter().rposition(|(_, kind)| kind.takes_lsn());
        Map {
            name,
            len: bytes.len() as u64,
            records_end: last_record.map_or(SEGMENT_HEADER_LEN, end_of),
            seal: entries.last().filter(|(_, kind)| *kind == Kind::SEAL).map(|(start, _)| *start),
            entries,
            last: index + 1 == count,
        }
    };
    segments.into_iter().enumerate().map(of).collect()
}

/// Three segments: one rotated and sealed, with a batch and an idle mark; one that a crash left without a seal
/// and with a trimmed tail; one that was closed.
fn closed_log() -> (SimDisk, Vec<Written>) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"first", &[1; 100]]).sync().round(&[&[(1, b"in"), (2, b"one"), (3, b"batch")]]).sync();
    pen.idle_mark().rotate();
    pen.records(&[b"second segment", &[2; 50]]).sync().records(&[b"torn"]);
    disk.write_raw(segment_path(6), pen.offset - 4070, &[0xFF; 60]);
    let mut pen = Pen::reopen(&disk, pen.model);
    pen.records(&[b"third segment"]).sync().records(&[&[3; 300], b"the end"]).idle_mark().seal();
    for torn in disk.list_raw(DIR).into_iter().filter(|(name, _)| name.ends_with(".torn")) {
        disk.remove_raw(path(&torn.0));
    }
    (disk, pen.model)
}

fn image_of(disk: &SimDisk) -> SimDisk {
    disk.crash_clone(0, Profile::Kept)
}

/// Reads the whole log; an error, or the records.
fn read_all(disk: &SimDisk) -> Result<Vec<Vec<u8>>, RecoveryError> {
    let reader = LogReader::open_read_only(open_dir(disk))?;
    reader.iter(Lsn::FIRST, Lsn::MAX)?.map(|record| record.map(|record| record.payload)).collect()
}

fn payloads(model: &[Written]) -> Vec<Vec<u8>> {
    model.iter().map(|written| written.payload.clone()).collect()
}

fn is_structural(error: &RecoveryError) -> bool {
    matches!(error, RecoveryError::Damaged(_) | RecoveryError::Foreign { .. } | RecoveryError::Newer { .. })
}

/// Checks all three judges on a closed log of which these bytes of a file were changed.
fn check_changed(disk: &SimDisk, file: &Map, changed: Range<u64>, model: &[Written], single_bit: bool) {
    let context = format!("{} at {changed:?}", file.name);
    let in_header = changed.start < SEGMENT_HEADER_LEN;
    let in_closing_seal = file.last && file.seal.is_some_and(|seal| changed.start >= seal);
    let superseded = file.seal.is_none() && !file.last && changed.start >= file.records_end;
    let damages_a_record = !in_header && changed.start < file.records_end;
    let offset = file.entry_at(changed.start);

    let verdict = verified(disk);
    let problem = |report: &VerifyReport| {
        let problem = report.problems.first().unwrap_or_else(|| panic!("{context}: {report:?}"));
        assert_eq!((&problem.segment, problem.offset), (&file.name, offset), "{context}");
        assert_eq!(
            problem.lsns.is_empty(),
            !in_header && !damages_a_record || !takes_lsns(file, offset, &changed)
        );
    };
    match verdict {
        Ok(report) if superseded => assert!(report.is_clean(), "{context}: {:?}", report.problems),
        Ok(report) if in_closing_seal && (!single_bit || may_be_unwritten(disk, file, changed.start)) => {
            assert!(!report.warnings.is_empty() || !report.is_clean());
            // What a crash can have left is never called damage.
            assert!(!single_bit || report.is_clean(), "{context}: {:?}", report.problems);
        }
        Ok(report) => problem(&report),
        Err(error) => assert!(in_header && !single_bit && is_structural(&error), "{context}: {error}"),
    }

    match read_all(disk) {
        Ok(records) => {
            assert!(!in_header && !damages_a_record, "{context}: damage was not noticed");
            assert!(records == payloads(model), "{context}: wrong data");
        }
        Err(RecoveryError::Damaged(damage)) => {
            assert!(in_header || damages_a_record, "{context}: {damage}");
            assert_eq!((&damage.segment, damage.offset), (&file.name, offset), "{context}");
        }
        Err(error) => assert!(in_header && !single_bit && is_structural(&error), "{context}: {error}"),
    }

    let image = image_of(disk);
    let before = files(&image);
    match recovered(&image) {
        Ok(found) => {
            assert!(!in_header, "{context}: opened on a damaged header");
            assert_eq!(found.report.last_lsn.0, model.len() as u64, "{context}");
            let seal_damaged = file.seal.is_some_and(|seal| changed.start >= seal);
            if single_bit {
                assert_eq!(found.report.damaged_seals.contains(&file.name), seal_damaged, "{context}");
            }
            if in_closing_seal {
                assert_ne!(found.report.tail, TailState::Sealed, "{context}");
                assert_holds(&image, model);
            } else {
                assert_eq!(files(&image), before, "{context}");
            }
        }
        Err(error) => {
            assert!(in_header, "{context}: {error}");
            if single_bit {
                assert!(matches!(error, RecoveryError::Damaged(_)), "{context}: {error}");
            }
            assert_eq!(files(&image), before, "{context}: a refused log was changed");
        }
    }
}

/// Whether a torn write can have left this byte out: it is zero, and so is all before or behind it in its sector.
fn may_be_unwritten(disk: &SimDisk, file: &Map, at: u64) -> bool {
    let bytes = disk.read_raw(path(&file.name));
    let at = at as usize;
    let start = at - at % 512;
    let is_zero = |range: Range<usize>| bytes[range].iter().all(|&byte| byte == 0);
    is_zero(at..at + 1) && (is_zero(start..at) || is_zero(at..bytes.len().min(start + 512)))
}

/// Whether any LSN is lost when the entry at `offset` is: one without LSN whose header is whole loses none, and
/// neither do those whose headers are found again behind them.
fn takes_lsns(file: &Map, offset: u64, changed: &Range<u64>) -> bool {
    let index = file.entries.iter().position(|(start, _)| *start == offset);
    let Some(index) = index else { return true };
    let header_is_whole = changed.start >= offset + 32;
    if header_is_whole {
        return file.entries[index].1.takes_lsn();
    }
    // Without its header nobody knows where the next entry stands; the first one whose header was not changed tells.
    let rest = file.entries[index..].iter();
    let hit = rest.take_while(|(start, _)| *start < changed.end.next_multiple_of(8));
    hit.into_iter().any(|(_, kind)| kind.takes_lsn())
}

/// A seal whose write a power cut interrupted just before its last set bit was called damage: it looks as if that bit
/// had flipped. Nothing was lost, but `verify` failed on a log that was as it should be.
#[test]
fn seal_that_lacks_what_a_torn_write_left_out_is_no_damage() {
    let disk = SimDisk::new();
    // The seal's LSN is 8: its first byte has one set bit.
    Pen::new(&disk).records(&[&b"seven"[..]; 7]).sync().seal();
    let maps = map(&disk);
    let file = maps.last().unwrap();
    let seal = file.seal.unwrap();
    let whole = disk.read_raw(path(&file.name));
    let (mut torn, mut single) = (0, 0);
    for sector in (seal..file.len).step_by(512) {
        let end = file.len.min(sector + 512);
        for cut in sector..end {
            for (from, to) in [(cut, end), (sector, cut)] {
                let (from, to) = (from as usize, to as usize);
                let lost: u32 = whole[from..to].iter().map(|byte| byte.count_ones()).sum();
                if lost == 0 {
                    continue;
                }
                let image = image_of(&disk);
                image.write_raw(path(&file.name), from as u64, &vec![0; to - from]);
                let report = verified(&image).unwrap();
                assert!(report.is_clean(), "{from}..{to}: {:?}", report.problems);
                torn += 1;
                single += u32::from(lost == 1);
            }
        }
    }
    assert!(torn > 50 && single > 0, "{torn} torn, {single} by one bit");
}

/// A closing seal in whose place a power cut left an old block of the device was called damage: a sync mark of the same
/// segment, whose checksum is right but for one bit of the place that it is seeded with.
#[test]
fn old_block_in_the_place_of_a_seal_is_no_damage() {
    // Some of these blocks and seals differ in one bit of their places.
    for rounds in 1..=6 {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        for _ in 0..rounds {
            pen.records(&[b"a round"]).sync();
        }
        pen.seal();
        let maps = map(&disk);
        let file = maps.last().unwrap();
        let whole = disk.read_raw(path(&file.name));
        let seal = file.seal.unwrap();
        for block in (SEGMENT_HEADER_LEN..seal).step_by(4096) {
            let image = image_of(&disk);
            // One sector of the device: the end of the seal is there, and says where it begins.
            image.write_raw(path(&file.name), seal, &whole[block as usize..block as usize + 512]);
            let report = verified(&image).unwrap();
            assert!(report.is_clean(), "block {block} at {seal}: {:?}", report.problems);
        }
    }
}

/// Every byte of the log, with one bit of it flipped; with `BRAIDLOG_LONG` set, every bit.
#[test]
fn flipped_bit_is_told_and_located_and_never_read_over() {
    let (disk, model) = closed_log();
    let maps = map(&disk);
    assert_eq!(maps.len(), 3);
    assert!(verified(&disk).unwrap().is_clean());
    let every_bit = std::env::var_os("BRAIDLOG_LONG").is_some();
    for file in &maps {
        for offset in 0..file.len {
            for bit in if every_bit { 0..8 } else { (offset % 8) as u32..(offset % 8) as u32 + 1 } {
                disk.flip_bit(path(&file.name), offset, bit);
                check_changed(&disk, file, offset..offset + 1, &model, true);
                disk.flip_bit(path(&file.name), offset, bit);
            }
        }
    }
    assert!(verified(&disk).unwrap().is_clean());
    assert_holds(&disk, &model);
}

#[test]
fn lost_or_misplaced_sector_is_told_and_never_read_over() {
    let (disk, model) = closed_log();
    let maps = map(&disk);
    let originals = files(&disk);
    let bytes_of = |name: &str| &originals.iter().find(|(other, _)| other == name).unwrap().1;
    for file in &maps {
        let good = bytes_of(&file.name);
        for at in (0..file.len).step_by(512) {
            let sector = at as usize..(at + 512).min(file.len) as usize;
            let foreign = &bytes_of(&maps[0].name)[4096..4608];
            for bad in [&[0; 512][..], &[0xFF; 512], foreign, b"GWAL"] {
                let bad = &bad[..bad.len().min(sector.len())];
                let good = &good[sector.start..][..bad.len()];
                let Some(first) = good.iter().zip(bad).position(|(good, bad)| good != bad) else { continue };
                disk.write_raw(path(&file.name), at, bad);
                check_changed(&disk, file, at + first as u64..at + bad.len() as u64, &model, false);
                disk.write_raw(path(&file.name), at, good);
            }
        }
    }
    assert_eq!(files(&disk), originals);
}

#[test]
fn file_cut_at_any_length_is_judged_right() {
    let (disk, model) = closed_log();
    let maps = map(&disk);
    for file in &maps {
        let bytes = disk.read_raw(path(&file.name));
        let header = header_of(&bytes);
        let first = header.base.0 as usize;
        for len in (0..file.len).filter(|len| len % 7 == 0 || len % 512 < 40) {
            let context = format!("{} cut to {len}", file.name);
            let image = image_of(&disk);
            image.truncate_raw(path(&file.name), len);
            let before = files(&image);
            let found = recovered(&image);
            if file.last {
                // Nothing tells a last file that was cut from one that a crash left so: a prefix is recovered.
                let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
                let whole = file.entries.iter().enumerate().filter(|(index, (_, kind))| {
                    let end = file.entries.get(index + 1).map_or(file.len, |(start, _)| *start);
                    kind.takes_lsn() && end <= len
                });
                let last = first - 1 + whole.count();
                assert_eq!(found.report.last_lsn.0 as usize, last, "{context}");
                assert_holds(&image, &model[..last]);
                let report = verified(&image).unwrap();
                assert!(report.is_clean(), "{context}: {:?}", report.problems);
            } else if len < SEGMENT_HEADER_LEN {
                assert!(matches!(found, Err(RecoveryError::Damaged(_))), "{context}");
                assert_eq!(files(&image), before, "{context}");
                assert!(!verified(&image).unwrap().is_clean());
                assert!(matches!(read_all(&image), Err(RecoveryError::Damaged(_))));
            } else {
                let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(found.report.damaged_seals.len(), usize::from(file.seal.is_some()), "{context}");
                let harmless = file.seal.is_none() && len >= file.records_end;
                assert_eq!(verified(&image).unwrap().is_clean(), harmless, "{context}");
                match read_all(&image) {
                    Ok(records) => {
                        assert!(len >= file.records_end, "{context}");
                        assert!(records == payloads(&model), "{context}");
                    }
                    Err(RecoveryError::Damaged(damage)) => {
                        assert!(len < file.records_end, "{context}: {damage}");
                        assert_eq!(damage.segment, file.name);
                        assert!(!damage.lsns.is_empty(), "{context}");
                    }
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
    }
}

#[test]
fn missing_file_is_told_by_name_and_lsns() {
    let (disk, model) = closed_log();
    let maps = map(&disk);
    for (index, file) in maps.iter().enumerate() {
        let image = image_of(&disk);
        image.remove_raw(path(&file.name));
        let before = files(&image);
        if file.last {
            // Nothing names the last file: that it is gone cannot be seen.
            let base = file.name.trim_end_matches(".wal").parse::<usize>().unwrap();
            assert_holds(&image, &model[..base - 1]);
            continue;
        }
        let next: u64 = maps[index + 1].name.trim_end_matches(".wal").parse().unwrap();
        for error in [recovered(&image).unwrap_err(), read_all(&image).unwrap_err()] {
            let RecoveryError::Damaged(damage) = error else { panic!("{error}") };
            assert_eq!((damage.segment, damage.cause), (file.name.clone(), DamageCause::FileMissing));
            assert_eq!(damage.lsns.last, Lsn(next - 1));
        }
        assert_eq!(files(&image), before);
        let report = verified(&image).unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        assert_eq!(report.problems[0].what, DamageCause::FileMissing);
    }
}

#[test]
fn renamed_swapped_or_copied_segment_is_refused() {
    let (disk, _) = closed_log();
    let maps = map(&disk);
    let mut images = Vec::new();
    for file in &maps {
        for base in [2, 5, 7, 100] {
            let renamed = image_of(&disk);
            let bytes = renamed.read_raw(path(&file.name));
            renamed.remove_raw(path(&file.name));
            renamed.put_raw(segment_path(base), &bytes);
            images.push((format!("{} renamed to {base}", file.name), renamed));
            let copied = image_of(&disk);
            copied.put_raw(segment_path(base), &bytes);
            images.push((format!("{} copied to {base}", file.name), copied));
        }
        for other in &maps {
            if other.name != file.name {
                let swapped = image_of(&disk);
                let (one, two) = (swapped.read_raw(path(&file.name)), swapped.read_raw(path(&other.name)));
                swapped.put_raw(path(&file.name), &two);
                swapped.put_raw(path(&other.name), &one);
                images.push((format!("{} swapped with {}", file.name, other.name), swapped));
                let overwritten = image_of(&disk);
                overwritten.put_raw(path(&file.name), &two);
                images.push((format!("{} overwritten with {}", file.name, other.name), overwritten));
            }
        }
    }
    for (context, image) in images {
        let before = files(&image);
        assert!(matches!(recovered(&image), Err(RecoveryError::Damaged(_))), "{context}");
        assert!(matches!(read_all(&image), Err(RecoveryError::Damaged(_))), "{context}");
        assert!(!verified(&image).unwrap().is_clean(), "{context}");
        assert_eq!(files(&image), before, "{context}");
    }
}

#[test]
fn segment_of_another_log_is_foreign() {
    let (disk, _) = closed_log();
    let maps = map(&disk);
    for file in &maps {
        let image = image_of(&disk);
        let bytes = image.read_raw(path(&file.name));
        let mut header = header_of(&bytes);
        header.log_id.0[3] ^= 1;
        let mut block = [0; SEGMENT_HEADER_LEN as usize];
        header.encode(&mut block);
        image.write_raw(path(&file.name), 0, &block);
        let before = files(&image);
        assert!(matches!(recovered(&image), Err(RecoveryError::Foreign { .. })));
        assert!(matches!(verified(&image), Err(RecoveryError::Foreign { .. })));
        assert_eq!(files(&image), before);
    }
}

#[test]
fn file_that_is_no_segment_is_foreign_and_untouched() {
    let (disk, _) = closed_log();
    for text in [&b"#!/bin/sh\n"[..], &[b'x'; 5000]] {
        let image = image_of(&disk);
        image.put_raw(segment_path(11), text);
        let Err(RecoveryError::Foreign { file, .. }) = recovered(&image) else { panic!("foreign") };
        assert_eq!(file, segment(11));
        assert_eq!(image.read_raw(segment_path(11)), text);
        assert!(matches!(verified(&image), Err(RecoveryError::Foreign { .. })));
    }
}

#[test]
fn newer_file_is_called_that_and_untouched() {
    let (disk, _) = closed_log();
    for file in map(&disk) {
        let image = image_of(&disk);
        // A newer version may keep its checksum elsewhere, but one that keeps it is newer all the same.
        let mut block = image.read_raw(path(&file.name))[..4096].to_vec();
        block[4] = 2;
        let sum = braidlog_format::checksum::crc32(&block[..4092]);
        block[4092..].copy_from_slice(&sum.to_le_bytes());
        image.write_raw(path(&file.name), 0, &block);
        let before = files(&image);
        for error in
            [recovered(&image).unwrap_err(), verified(&image).unwrap_err(), read_all(&image).unwrap_err()]
        {
            let RecoveryError::Newer { file: name, .. } = error else { panic!("{error}") };
            assert_eq!(name, file.name);
        }
        assert_eq!(files(&image), before);
    }
}

#[test]
fn newer_entry_is_called_that_unless_it_may_be_ignored() {
    use braidlog_format::{EntryHeader, Flags};
    for ignorable in [false, true] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one"]).sync();
        let flags = if ignorable { Flags::IGNORABLE } else { Flags::NONE };
        let entry = EntryHeader::for_payload(pen.next, pen.timestamp_ns, Kind(254), flags, b"");
        disk.write_raw(segment_path(1), pen.offset, &entry.encode(pen.header.salt, pen.offset));
        let before = files(&disk);
        match recovered(&disk) {
            Ok(found) => assert!(ignorable && found.report.last_lsn == Lsn(1)),
            Err(RecoveryError::Newer { offset, .. }) => {
                assert!(!ignorable);
                assert_eq!(offset, pen.offset);
                assert_eq!(files(&disk), before);
                assert!(matches!(verified(&disk), Err(RecoveryError::Newer { .. })));
                assert!(matches!(read_all(&disk), Err(RecoveryError::Newer { .. })));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A log that a crash left open: acknowledged data that sync marks cover, an acknowledged last group that
/// none covers yet, and a torn tail.
#[test]
fn damage_below_a_sync_mark_is_refused_and_above_it_trimmed() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", &[1; 5000]]).sync().records(&[b"three"]).sync().idle_mark();
    // Everything up to here is covered by the idle mark.
    let covered = pen.synced_offset;
    pen.records(&[b"four"]);
    let len = pen.offset + 4096;
    disk.truncate_raw(segment_path(1), len);
    let bytes = disk.read_raw(segment_path(1));
    let entries = entries_of(&bytes, pen.header.salt);
    let marks: Vec<_> = entries
        .iter()
        .filter(|(_, kind)| *kind == Kind::SYNC_MARK)
        .map(|(start, _)| {
            (*start, u64::from_le_bytes(bytes[*start as usize + 40..][..8].try_into().unwrap()))
        })
        .collect();
    for offset in SEGMENT_HEADER_LEN..len {
        disk.flip_bit(segment_path(1), offset, (offset % 8) as u32);
        let context = format!("offset {offset}");
        let behind = entries.partition_point(|(start, _)| *start <= offset);
        let failing = if offset >= pen.offset { pen.offset } else { entries[behind - 1].0 };
        let vouched = marks.iter().any(|(mark, synced)| *mark > failing && *synced > failing);
        assert_eq!(vouched, failing < covered, "{context}: the idle mark covers all but itself");
        let kept = entries.iter().filter(|(start, kind)| *start < failing && kind.takes_lsn()).count();
        let image = image_of(&disk);
        let before = files(&image);
        if vouched {
            for error in [recovered(&image).unwrap_err(), read_all(&image).unwrap_err()] {
                let RecoveryError::Damaged(damage) = error else { panic!("{context}: {error}") };
                assert_eq!((damage.offset, damage.lsns.first.0), (failing, kept as u64 + 1), "{context}");
                assert_eq!(damage.lsns.last, Lsn(3), "{context}");
            }
            let report = verified(&image).unwrap();
            assert_eq!(report.problems.len(), 1, "{context}: {:?}", report.problems);
            assert_eq!(report.problems[0].offset, failing, "{context}");
            assert_eq!(report.last_lsn, Lsn(4), "{context}: it goes on behind the damage");
            assert_eq!(files(&image), before);
        } else {
            assert!(verified(&image).unwrap().is_clean(), "{context}");
            assert_holds(&image, &pen.model[..kept]);
            assert_eq!(files(&image), before, "{context}: a reader changes nothing");
            let found = recovered(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(found.report.last_lsn.0, kept as u64, "{context}");
            assert_holds(&image, &pen.model[..kept]);
        }
        disk.flip_bit(segment_path(1), offset, (offset % 8) as u32);
    }
}

/// The same bytes may stand in a payload: an application may log what it finds in a log.
#[test]
fn frames_inside_payloads_are_never_taken_for_the_log_s_own() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).sync().records(&[b"three"]).sync().idle_mark();
    let whole = disk.read_raw(segment_path(1))[..pen.offset as usize].to_vec();
    // The copied marks and pads come to stand at block boundaries of the same segment.
    let skew = 4096 - 48 - 32;
    let mut copy = vec![0; skew];
    copy.extend(&whole);
    let (start, kept) = (pen.offset, pen.model.len());
    pen.records(&[&copy, b"after"]);
    for at in [start + 8, start + 60, start + 4096 + 100] {
        let image = image_of(&disk);
        image.flip_bit(segment_path(1), at, 3);
        // Nothing was acknowledged behind the flip, though marks of this segment stand there.
        let found = recovered(&image).unwrap_or_else(|error| panic!("at {at}: {error}"));
        assert_eq!(found.report.last_lsn.0 as usize, kept, "at {at}");
    }
    pen.sync();
    let found = pen.assert_recovers(&disk);
    assert_eq!(found.report.last_lsn.0 as usize, pen.model.len());
}

#[test]
fn every_damaged_place_is_told_in_one_verification() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    for n in 0..10u8 {
        pen.records(&[&[n; 60], &[n; 70], &[n; 80]]).sync();
    }
    pen.rotate().records(&[b"second"]).seal();
    let bytes = disk.read_raw(segment_path(1));
    let entries = entries_of(&bytes, pen_salt(&bytes));
    let records: Vec<u64> =
        entries.iter().filter(|(_, kind)| kind.takes_lsn()).map(|(start, _)| *start).collect();
    // The payloads of records 2 and 5, and the header of record 14.
    disk.flip_bit(segment_path(1), records[1] + 40, 1);
    disk.flip_bit(segment_path(1), records[4] + 40, 1);
    disk.flip_bit(segment_path(1), records[13] + 3, 1);
    let report = verified(&disk).unwrap();
    let told: Vec<_> = report
        .problems
        .iter()
        .map(|problem| (problem.offset, problem.lsns.first.0, problem.lsns.last.0))
        .collect();
    assert_eq!(told, [(records[1], 2, 2), (records[4], 5, 5), (records[13], 14, 14)]);
    assert_eq!(report.records, 31 - 3);
    assert_eq!(report.last_lsn, Lsn(31));
}

fn pen_salt(bytes: &[u8]) -> braidlog_format::Salt {
    header_of(bytes).salt
}

#[test]
fn wrong_order_is_damage_though_each_entry_proves_itself() {
    use braidlog_format::{EntryHeader, Flags};
    for (lsn, timestamp_ns) in [(3, 5000), (1, 5000), (2, 1)] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        pen.records(&[b"one"]).sync();
        let entry = EntryHeader::for_payload(Lsn(lsn), timestamp_ns, Kind(1), Flags::NONE, b"");
        disk.write_raw(segment_path(1), pen.offset, &entry.encode(pen.header.salt, pen.offset));
        let found = recovered(&disk).unwrap();
        assert_eq!(found.report.last_lsn, Lsn(1), "LSN {lsn} at {timestamp_ns} ns");
        assert!(matches!(found.report.tail, TailState::Torn { .. }));
    }
}

#[test]
fn successor_decides_where_its_predecessor_ends() {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    pen.records(&[b"one", b"two"]).sync();
    // The next segment begins at LSN 2: what the first one holds beyond is superseded.
    let bytes = disk.read_raw(segment_path(1));
    let first = entries_of(&bytes, pen.header.salt)[1].0;
    let checksum = u32::from_le_bytes(bytes[first as usize + 16..][..4].try_into().unwrap());
    let mut tail = recovered(&image_of(&disk)).unwrap().tail;
    tail.next_lsn = Lsn(2);
    let named = tail.predecessor.as_mut().unwrap();
    (named.last, named.last_checksum) = (Lsn(1), checksum);
    let mut pen = Pen::start(&disk, &tail, pen.model, 64 << 10);
    pen.records(&[b"another two"]).seal();
    assert_holds(&disk, &pen.model);
    assert!(verified(&disk).unwrap().is_clean());
    assert_eq!(recovered(&disk).unwrap().report.last_lsn, Lsn(2));
}

/// What a restored backup or a mixed-up copy brings: a whole segment of this very log, from another time.
#[test]
fn segment_from_another_time_of_the_log_is_damage() {
    let (disk, _) = closed_log();
    let last = map(&disk).pop().unwrap();
    let whole = header_of(&disk.read_raw(path(&last.name)));
    let (mut names_none, mut names_an_earlier_one, mut is_older) = (whole, whole, whole);
    names_none.predecessor = None;
    names_an_earlier_one.predecessor.as_mut().unwrap().base = Lsn(1);
    is_older.incarnation = Incarnation(0);
    for (what, header) in
        [("none", names_none), ("an earlier one", names_an_earlier_one), ("an older life", is_older)]
    {
        let image = image_of(&disk);
        write_header(&image, &last.name, &header);
        let untouched = files(&image);
        for found in [recovered(&image).map(drop), read_all(&image).map(drop)] {
            let Err(RecoveryError::Damaged(damage)) = found else { panic!("{what}: taken for the next one") };
            assert_eq!((damage.cause, &damage.segment), (DamageCause::Unlinked, &last.name), "{what}");
        }
        let report = verified(&image).unwrap();
        assert!(report.problems.iter().any(|problem| problem.what == DamageCause::Unlinked), "{what}");
        assert_eq!(files(&image), untouched, "{what}");
    }
}

fn write_header(disk: &SimDisk, name: &str, header: &SegmentHeader) {
    let mut block = [0; SEGMENT_HEADER_LEN as usize];
    header.encode(&mut block);
    disk.write_raw(path(name), 0, &block);
}

#[test]
fn last_entry_that_the_successor_does_not_name_is_damage() {
    let (disk, model) = closed_log();
    let mut header = header_of(&disk.read_raw(segment_path(6)));
    header.predecessor.as_mut().unwrap().last_checksum ^= 1;
    write_header(&disk, &segment(6), &header);
    let Err(RecoveryError::Damaged(damage)) = read_all(&disk) else { panic!("another segment stood there") };
    assert_eq!((damage.cause, &damage.segment), (DamageCause::LastEntryDiffers, &segment(1)));
    // Who reads backward comes to that seam from the other side.
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let told = reader.iter_rev(Lsn(1), Lsn::MAX).unwrap().find_map(Result::err);
    let Some(RecoveryError::Damaged(backward)) = told else {
        panic!("another segment stood there: {told:?}")
    };
    assert_eq!((backward.cause, backward.segment), (damage.cause, damage.segment));
    let report = verified(&disk).unwrap();
    assert!(report.problems.iter().any(|problem| problem.what == DamageCause::LastEntryDiffers));
    assert_eq!(report.records, model.len() as u64);
}
