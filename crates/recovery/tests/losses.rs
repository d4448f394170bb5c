//! Segments that were written anew, and losses that are recorded in them: everybody who reads passes them and tells.

mod support;

use std::sync::Arc;

use braidlog_format::{
    Flags, Incarnation, Kind, LogId, Lsn, LsnRange, Predecessor, Salt, SegmentHeader, UserMetadata,
};
use braidlog_recovery::{
    ForkHow, LogReader, Loss, LossCause, PartitionHow, ReadAhead, RecordRef, RecoveryError, SegmentWriter,
    Target, WrittenSegment, fork, recover, replay_partitioned, verify,
};
use braidlog_sim::{SimClock, SimDisk};
use braidlog_storage::{LogDir, Storage};
use support::{LOG_ID, Pen, Written, open_dir, recovered, segment, verified};

fn header(base: u64, predecessor: Option<Predecessor>) -> SegmentHeader {
    SegmentHeader {
        log_id: LOG_ID,
        incarnation: Incarnation(3),
        salt: Salt(0xABCD_0000 + base as u32),
        base: Lsn(base),
        predecessor,
        recycled: false,
        created_at_ns: 1,
        user_metadata: UserMetadata::EMPTY,
        open_from: None,
    }
}

fn loss(first: u64, last: u64) -> Loss {
    Loss {
        lsns: LsnRange { first: Lsn(first), last: Lsn(last) },
        incarnation: Incarnation(4),
        cause: LossCause::Damage,
        account: format!("{first} to {last}"),
    }
}

fn write(
    dir: &Arc<dyn LogDir>,
    header: SegmentHeader,
    named: Option<&Predecessor>,
    write: impl FnOnce(&mut SegmentWriter),
) -> WrittenSegment {
    let mut writer = SegmentWriter::create(dir, "1.prep", header).unwrap();
    write(&mut writer);
    let written = writer.finish(None, named).unwrap();
    dir.rename("1.prep", &segment(header.base.0), true).unwrap();
    dir.sync().unwrap();
    written
}

fn put(writer: &mut SegmentWriter, lsn: u64, batch_continues: bool) {
    assert_eq!(writer.next_lsn(), Lsn(lsn));
    let flags = if batch_continues { Flags::BATCH_CONTINUES } else { Flags::NONE };
    writer.record(100 + lsn, Kind((lsn % 200) as u8), flags, &payload(lsn)).unwrap();
}

fn payload(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; (lsn * 97 % 5000) as usize]
}

/// Three segments: losses at the beginning, in the middle and at an end whose last entry the next header names; a
/// segment that is lost as a whole; one with a loss at the end of the log.
fn lossy_log(disk: &SimDisk) -> Vec<Loss> {
    let dir = open_dir(disk);
    let first = write(&dir, header(1, None), None, |writer| {
        writer.loss(&loss(1, 3)).unwrap();
        (4..=199).for_each(|lsn| put(writer, lsn, lsn % 5 == 0));
        writer.loss(&loss(200, 250)).unwrap();
        put(writer, 251, false);
    });
    let second = write(&dir, header(252, first.predecessor), None, |writer| {
        put(writer, 252, false);
        writer.loss(&loss(253, 299)).unwrap();
    });
    // The header behind a lost entry still names what was there.
    let named = Predecessor { last_checksum: 77, last_timestamp_ns: 900, ..second.predecessor.unwrap() };
    write(&dir, header(252, first.predecessor), Some(&named), |writer| {
        put(writer, 252, false);
        writer.loss(&loss(253, 299)).unwrap();
    });
    let third = write(&dir, header(300, Some(named)), None, |writer| writer.loss(&loss(300, 399)).unwrap());
    write(&dir, header(400, third.predecessor), None, |writer| {
        put(writer, 400, false);
        writer.loss(&loss(401, 450)).unwrap();
    });
    vec![loss(1, 3), loss(200, 250), loss(253, 299), loss(300, 399), loss(401, 450)]
}

#[test]
fn everybody_who_reads_passes_a_recorded_loss_and_tells() {
    let disk = SimDisk::new();
    let losses = lossy_log(&disk);
    let found = recovered(&disk).unwrap();
    assert!(found.report.damaged_seals.is_empty(), "{:?}", found.report.damaged_seals);
    let report = verified(&disk).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(report.losses, losses);
    assert_eq!(found.tail.next_lsn, Lsn(451));
    assert_eq!(report.last_lsn, Lsn(450));

    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let there = |lsn: u64| !losses.iter().any(|loss| loss.lsns.contains(Lsn(lsn)));
    for threads in [1, 3] {
        let ahead = ReadAhead { threads, memory_bytes: 1 << 20, after_bytes: 0 };
        let mut records = reader.iter(Lsn(1), Lsn::MAX).unwrap().read_ahead(ahead);
        let lsns: Vec<u64> = records.by_ref().map(|record| record.unwrap().lsn.0).collect();
        assert_eq!(lsns, (1..=450).filter(|&lsn| there(lsn)).collect::<Vec<_>>());
        assert_eq!(records.losses(), losses);
    }
    for lsn in 1..=450 {
        match reader.read(Lsn(lsn), Lsn::MAX) {
            Ok(Some(record)) => assert!(there(lsn) && record.lsn == Lsn(lsn)),
            Err(RecoveryError::Lost(loss)) => assert!(!there(lsn) && loss.lsns.contains(Lsn(lsn))),
            other => panic!("LSN {lsn}: {other:?}"),
        }
    }
    let mut reverse = reader.iter_rev(Lsn(1), Lsn::MAX).unwrap();
    let lsns: Vec<u64> = reverse.by_ref().map(|record| record.unwrap().lsn.0).collect();
    assert_eq!(lsns, (1..=450).rev().filter(|&lsn| there(lsn)).collect::<Vec<_>>());
    let mut backward = reverse.losses().to_vec();
    backward.reverse();
    assert_eq!(backward, losses);
    // Shown piece by piece, as the log would grow; a piece may end in what is lost.
    let mut follower = reader.follow(Lsn(1)).unwrap();
    let mut lsns = Vec::new();
    for to in (1..=450).step_by(7).chain([450]) {
        follower.show(Lsn(to)).unwrap();
        while let Some(found) = follower.find_next().unwrap() {
            lsns.push(follower.lend(&found).lsn.0);
        }
        assert!(follower.next_lsn() > Lsn(to));
    }
    assert_eq!(lsns, (1..=450).filter(|&lsn| there(lsn)).collect::<Vec<_>>());
    assert_eq!(follower.losses(), losses);
    let mut part = reader.iter(Lsn(220), Lsn(260)).unwrap();
    assert_eq!(part.by_ref().map(|record| record.unwrap().lsn.0).collect::<Vec<_>>(), [251, 252]);
    assert_eq!(part.losses(), &losses[1..3]);
}

/// The losses that lie before a point.
fn up_to(losses: &[Loss], until: u64) -> Vec<Loss> {
    let mut losses: Vec<Loss> = losses.iter().filter(|loss| loss.lsns.first.0 <= until).cloned().collect();
    losses.iter_mut().for_each(|loss| loss.lsns.last = loss.lsns.last.min(Lsn(until)));
    losses
}

#[test]
fn a_fork_has_the_records_and_the_losses_before_its_point() {
    let disk = SimDisk::new();
    let losses = lossy_log(&disk);
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let all: Vec<_> = reader.iter(Lsn(1), Lsn::MAX).unwrap().map(Result::unwrap).collect();
    let is_edge =
        |lsn: u64| losses.iter().any(|loss| lsn.abs_diff(loss.lsns.first.0) < 2 || loss.lsns.last.0 == lsn);
    for until in (0..=450).filter(|&lsn| lsn % 25 == 0 || is_edge(lsn)) {
        let target = Target::lsn(Lsn(until));
        let dest = format!("fork {until}");
        let to = disk.open_dir(dest.as_ref(), true).unwrap();
        let how = ForkHow {
            log_id: LogId(*b"that of the fork"),
            seed: until,
            until: Some(&target),
            clock: Arc::new(SimClock::new()),
            ahead: None,
            progress: None,
        };
        let report = fork(&reader, Lsn(450), &to, how).unwrap();
        // A batch that the point lies in is left out; no loss lies in one.
        let opens_batch = all.iter().any(|record| record.lsn.0 == until && record.batch_continues);
        let end = if opens_batch { until - 1 } else { until };
        assert_eq!(report.last_lsn, Lsn(end), "up to {until}");
        let expected: Vec<_> = all.iter().filter(|record| record.lsn.0 <= end).cloned().collect();
        assert_eq!(
            (report.records, &report.losses),
            (expected.len() as u64, &up_to(&losses, end)),
            "{until}"
        );

        let verdict = verify(&to, &mut |_| {}).unwrap();
        assert!(verdict.is_clean(), "up to {until}: {:?}", verdict.problems);
        assert_eq!((verdict.last_lsn, verdict.losses), (Lsn(end), up_to(&losses, end)), "up to {until}");
        let forked = LogReader::open_read_only(Arc::clone(&to)).unwrap();
        let mut records = forked.iter(Lsn(1), Lsn::MAX).unwrap();
        let found: Vec<_> = records.by_ref().map(Result::unwrap).collect();
        assert!(found == expected, "up to {until}");
        assert_eq!(records.losses(), up_to(&losses, end), "up to {until}");
        let recovered = recover(&to, LOG_ID).unwrap();
        assert_eq!((recovered.tail.next_lsn, recovered.tail.log_id), (Lsn(end + 1), report.log_id));
    }
}

#[test]
fn a_replay_in_partitions_tells_what_was_lost() {
    let disk = SimDisk::new();
    let losses = lossy_log(&disk);
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let count = reader.iter(Lsn(1), Lsn::MAX).unwrap().count() as u64;
    for threads in [1, 3] {
        let how = PartitionHow { threads, memory_bytes: 0, progress: None };
        let records = reader.iter(Lsn(1), Lsn::MAX).unwrap();
        let mut counts = [0; 3];
        let key = |record: &RecordRef<'_>| record.lsn.0;
        let done = replay_partitioned(records, how, &mut counts, key, |count, _| {
            *count += 1;
            Ok(())
        });
        let done = done.unwrap();
        assert_eq!((done.records, counts.iter().sum::<u64>(), done.losses), (count, count, losses.clone()));
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_loss_is_passed_in_a_packed_segment_as_in_a_plain_one() {
    let disk = SimDisk::new();
    let losses = lossy_log(&disk);
    // One that would not become smaller stays.
    assert_eq!(support::packing::pack_all(&disk, 600), 2);
    let report = verified(&disk).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(report.losses, losses);
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let mut records = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    let lsns: Vec<u64> = records.by_ref().map(|record| record.unwrap().lsn.0).collect();
    let there = |lsn: &u64| !losses.iter().any(|loss| loss.lsns.contains(Lsn(*lsn)));
    assert_eq!(lsns, (1..=450).filter(there).collect::<Vec<_>>());
    assert_eq!(records.losses(), losses);
    for lsn in 1..=450 {
        let found = reader.read(Lsn(lsn), Lsn::MAX);
        assert_eq!(there(&lsn), matches!(found, Ok(Some(record)) if record.lsn == Lsn(lsn)), "{lsn}");
    }
}

#[test]
fn a_lost_lsn_is_never_given_again() {
    let disk = SimDisk::new();
    lossy_log(&disk);
    let found = recovered(&disk).unwrap();
    let nothing = Written { kind: Kind(0), payload: Vec::new(), batch_continues: false };
    let model = vec![nothing; found.tail.next_lsn.prev().0 as usize];
    let mut pen = Pen::start(&disk, &found.tail, model, 64 << 10);
    assert_eq!(pen.next, Lsn(451));
    pen.records(&[b"goes on"]).seal();
    assert!(verified(&disk).unwrap().is_clean());
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let records: Vec<_> =
        reader.iter(Lsn(400), Lsn::MAX).unwrap().map(|record| record.unwrap().lsn.0).collect();
    assert_eq!(records, [400, 451]);
}

#[test]
fn a_loss_that_contradicts_what_stands_beside_it_is_damage() {
    // One that reaches into the next segment.
    let disk = SimDisk::new();
    let dir = open_dir(&disk);
    let first = write(&dir, header(1, None), None, |writer| {
        put(writer, 1, false);
        writer.loss(&loss(2, 9)).unwrap();
    });
    let named = Predecessor { last: Lsn(5), ..first.predecessor.unwrap() };
    write(&dir, header(6, Some(named)), None, |writer| put(writer, 6, false));
    assert!(!verified(&disk).unwrap().is_clean());
    let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
    let mut records = reader.iter(Lsn(1), Lsn::MAX).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, Lsn(1));
    assert!(
        matches!(records.next(), Some(Err(RecoveryError::Damaged(damage))) if damage.segment == segment(1))
    );
    assert!(records.next().is_none());
}
