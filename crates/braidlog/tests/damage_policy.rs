//! What an application does with a damaged log: it opens it with a policy of its choice, is told what was lost, and goes
//! on.

use std::sync::Arc;

use braidlog::{
    DamagePolicy, ErrorKind, Lsn, LsnRange, Options, Repair, Wal, WhatBecame, repair, repair_with,
};
use braidlog_sim::{Fault, Op, Profile, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, append, bases, fill, payload, small};

const LOSSY: [DamagePolicy; 2] = [DamagePolicy::UntilDamage, DamagePolicy::SkipDamaged];

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

fn how(disk: &SimDisk, policy: DamagePolicy) -> Repair {
    Repair::new(policy).storage(Arc::new(disk.clone())).clock(Arc::new(SimClock::new()))
}

/// A closed log of four segments in which the first record of the second one is damaged; that record, and the last.
fn damaged() -> (SimDisk, Lsn, Lsn) {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    fill(&wal, 3);
    append(&wal, 2);
    wal.close().unwrap();
    let bad = bases(&disk, PATH)[1];
    disk.flip_bit(format!("{PATH}/{bad:020}.wal"), 4096 + 48 + 32 + 100, 1);
    (disk, Lsn(bad), wal.last_lsn())
}

fn lsns(wal: &Wal) -> (Vec<u64>, Vec<LsnRange>) {
    let mut records = wal.iter(..).unwrap();
    let mut lsns = Vec::new();
    for record in records.by_ref() {
        let record = record.unwrap();
        assert!(record.payload == payload(record.lsn));
        lsns.push(record.lsn.0);
    }
    (lsns, records.losses().iter().map(|loss| loss.lsns).collect())
}

#[test]
fn a_damaged_log_opens_with_a_policy_and_goes_on_above_what_was_lost() {
    for policy in LOSSY {
        let (disk, bad, last) = damaged();
        let wal = options(&disk).on_damage(policy).open(PATH).unwrap();
        let report = wal.recovery_report();
        let lost = match policy {
            DamagePolicy::SkipDamaged => LsnRange { first: bad, last: bad },
            _ => LsnRange { first: bad, last },
        };
        let repaired = report.repaired.as_ref().expect("it was damaged");
        assert_eq!((repaired.policy, &repaired.outcome.lost[..]), (policy, &[lost][..]));
        assert!(repaired.files.iter().any(|file| file.what == WhatBecame::Rewritten));
        assert_eq!(report.losses.len(), 1);
        let expected: Vec<u64> = (1..=last.0).filter(|&lsn| !lost.contains(Lsn(lsn))).collect();
        assert_eq!(lsns(&wal), (expected.clone(), vec![lost]));
        let error = wal.read(bad).unwrap_err();
        assert_eq!((error.kind(), error.lsns()), (ErrorKind::Lost, Some(lost)), "{error}");
        append(&wal, 1);
        assert_eq!(wal.last_lsn(), last.next());
        wal.close().unwrap();
        // The loss is said at every later opening, which needs no policy any more.
        let wal = options(&disk).open(PATH).unwrap();
        let report = wal.recovery_report();
        assert!(report.repaired.is_none());
        assert_eq!(report.losses.iter().map(|loss| loss.lsns).collect::<Vec<_>>(), [lost]);
        let reader = options(&disk).open_read_only(PATH).unwrap();
        assert_eq!(reader.losses().unwrap(), report.losses);
        assert_eq!(lsns(&wal), ([expected, vec![last.0 + 1]].concat(), vec![lost]));
        drop(wal);
        let verified = options(&disk).verify(PATH, |_| ()).unwrap();
        assert!(verified.is_clean() && verified.losses.len() == 1);
    }
}

#[test]
fn a_damaged_log_is_read_as_a_policy_would_keep_it_and_stays_as_it_is() {
    let (disk, bad, last) = damaged();
    let before = disk.fingerprint();
    for policy in LOSSY {
        let log = options(&disk).on_damage(policy).read_damaged(PATH).unwrap();
        assert_eq!((log.first_lsn(), log.last_lsn()), (Lsn(1), last));
        let mut records = log.iter(..);
        let lsns: Vec<u64> = records.by_ref().map(|record| record.unwrap().lsn.0).collect();
        let passed: Vec<LsnRange> = records.losses().iter().map(|loss| loss.lsns).collect();
        assert_eq!(passed, log.report().outcome.lost);
        let kept = |lsn: &u64| if policy == DamagePolicy::SkipDamaged { *lsn != bad.0 } else { *lsn < bad.0 };
        assert_eq!(lsns, (1..=last.0).filter(kept).collect::<Vec<_>>());
    }
    assert_eq!(disk.fingerprint(), before);
    assert_eq!(options(&disk).read_damaged(PATH).unwrap_err().kind(), ErrorKind::InvalidInput);
    let wal = options(&disk).open(PATH).unwrap();
    let error = options(&disk).on_damage(DamagePolicy::SkipDamaged).read_damaged(PATH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    drop(wal);
}

#[test]
fn repair_needs_the_log_to_itself_and_a_dry_run_changes_nothing() {
    let (disk, bad, _) = damaged();
    let before = disk.fingerprint();
    let would = repair(PATH, &how(&disk, DamagePolicy::SkipDamaged).dry_run(true)).unwrap();
    assert_eq!(would.outcome.lost, [LsnRange { first: bad, last: bad }]);
    let told = repair(PATH, &how(&disk, DamagePolicy::Refuse)).unwrap();
    assert_eq!(told.problems, would.problems);
    assert_eq!(disk.fingerprint(), before);
    // A log is damaged in a sealed segment and opens; nobody repairs it under its writer.
    let wal = options(&disk).open(PATH).unwrap();
    for dry_run in [false, true] {
        let error = repair(PATH, &how(&disk, DamagePolicy::SkipDamaged).dry_run(dry_run)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
    drop(wal);
    let would = repair(PATH, &how(&disk, DamagePolicy::SkipDamaged).dry_run(true)).unwrap();
    let mut told = Vec::new();
    let done =
        repair_with(PATH, &how(&disk, DamagePolicy::SkipDamaged), |now| told.push(now.clone())).unwrap();
    assert!(told.is_sorted_by_key(|now| (now.segments_done, now.bytes_done)), "{told:?}");
    let end = told.last().unwrap();
    assert!(end.segments_done > 1 && end.bytes_done > 64 << 10, "{end:?}");
    assert_eq!((end.segments_done, end.bytes_done), (end.segments_total, end.bytes_total));
    assert_eq!((&done.outcome, &done.files), (&would.outcome, &would.files));
    assert!(!done.quarantined.is_empty());
    assert!(repair(PATH, &how(&disk, DamagePolicy::SkipDamaged)).unwrap().is_clean());
}

#[test]
fn a_lossy_opening_that_crashed_anywhere_comes_to_the_same_when_it_is_tried_again() {
    for policy in LOSSY {
        let (disk, _, last) = damaged();
        let reference = disk.crash_clone(0, Profile::Kept);
        let wal = options(&reference).on_damage(policy).open(PATH).unwrap();
        let expected = (lsns(&wal), wal.recovery_report().losses.clone());
        drop(wal);
        let mut crashes = 0;
        for n in 1.. {
            let image = disk.crash_clone(0, Profile::Kept);
            image.inject(Fault::eio(Op::Any).nth(n));
            image.inject(Fault::eio(Op::Any).nth(n + 1).forever());
            let opened = options(&image).on_damage(policy).open(PATH);
            image.clear_faults();
            if opened.is_ok() {
                break;
            }
            crashes += 1;
            let after = image.crash_clone(n, Profile::Posix);
            let wal = options(&after).on_damage(policy).open(PATH).unwrap();
            assert_eq!((lsns(&wal), wal.recovery_report().losses.clone()), expected, "operation {n}");
            append(&wal, 1);
            assert_eq!(wal.last_lsn(), last.next(), "operation {n}");
        }
        assert!(crashes > 30, "{crashes}");
    }
}
