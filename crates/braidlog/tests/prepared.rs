//! Prepared transactions: they outlive openings, keep their part of the log, and take effect only when somebody says so.

use std::sync::Arc;

use braidlog::{Append, ErrorKind, KeptBy, Kind, Lsn, Options, Retention, TxId, Wal};
use braidlog_sim::{Fault, Op, SimClock, SimDisk};

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, PER_SEGMENT, append, fill, small};

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

fn effects(wal: &Wal) -> Vec<Vec<u8>> {
    wal.replay()
        .unwrap()
        .map(|record| record.unwrap().payload)
        .filter(|payload| payload.len() < 1000)
        .collect()
}

/// Prepares a transaction of two records and one that it went back from.
fn prepare(wal: &Wal, global_id: &str) -> TxId {
    let mut tx = wal.begin_streaming().unwrap();
    let id = tx.id();
    tx.append(1, format!("{global_id} 1")).unwrap();
    let before = tx.savepoint();
    tx.append(1, b"a mistake").unwrap();
    tx.rollback_to(before).unwrap();
    tx.append(2, format!("{global_id} 2")).unwrap();
    let prepared = tx.prepare(global_id).unwrap();
    assert_eq!(prepared.in_doubt().global_id, global_id.as_bytes());
    id
}

fn names(wal: &Wal) -> Vec<String> {
    wal.in_doubt().into_iter().map(|found| String::from_utf8(found.global_id).unwrap()).collect()
}

fn both(global_id: &str) -> Vec<Vec<u8>> {
    [1, 2].map(|n| format!("{global_id} {n}").into_bytes()).to_vec()
}

#[test]
fn prepared_transaction_takes_effect_where_it_is_decided_and_its_handle_decides_nothing_by_going() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let id = prepare(&wal, "first");
    prepare(&wal, "second");
    wal.append(b"between").unwrap();
    assert_eq!(effects(&wal), [b"between"]);
    let records: Vec<_> = wal.in_doubt_records(b"first").unwrap().map(Result::unwrap).collect();
    assert_eq!(records.iter().map(|record| record.payload.clone()).collect::<Vec<_>>(), both("first"));
    assert!(records.iter().all(|record| record.fields.transaction == Some(id)));

    let at = wal.commit_prepared("first").unwrap();
    wal.rollback_prepared("second").unwrap();
    assert_eq!(effects(&wal), [&[b"between".to_vec()][..], &both("first")].concat());
    let first = wal.replay().unwrap().nth(1).unwrap().unwrap();
    assert_eq!((first.effective_at, first.kind), (at, Kind(1)));
    assert_eq!(names(&wal), Vec::<String>::new());

    let tx = wal.begin_streaming().unwrap();
    let prepared = tx.prepare("third").unwrap();
    assert_eq!(prepared.commit().unwrap(), wal.last_lsn());
    let again = wal.begin_streaming().unwrap().prepare("third").unwrap();
    again.rollback().unwrap();
    wal.close().unwrap();
    assert_eq!(options(&disk).open(PATH).unwrap().in_doubt(), []);
}

#[test]
fn gathered_transaction_can_be_prepared_too_with_all_that_its_records_say() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    let mut tx = wal.begin().unwrap();
    let id = tx.id();
    tx.append(1, b"gathered 1").unwrap();
    let before = tx.savepoint();
    tx.append(1, b"a mistake").unwrap();
    tx.rollback_to(before).unwrap();
    tx.append_with(Append::new(b"gathered 2").kind(7).schema(3)).unwrap();
    drop(tx.prepare("gathered").unwrap());
    wal.begin().unwrap().prepare("empty").unwrap().commit().unwrap();
    assert_eq!(effects(&wal), Vec::<Vec<u8>>::new());
    wal.close().unwrap();

    let wal = options(&disk).open(PATH).unwrap();
    assert_eq!(wal.in_doubt()[0].transaction, id);
    wal.commit_prepared("gathered").unwrap();
    assert_eq!(effects(&wal), both("gathered"));
    let last = wal.replay().unwrap().last().unwrap().unwrap();
    assert_eq!((last.kind, last.fields.schema, last.fields.transaction), (Kind(7), Some(3), Some(id)));
}

#[test]
fn wrong_global_ids_and_second_decisions_are_refused() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    prepare(&wal, "taken");
    for (global_id, why) in [(&b"taken"[..], "in doubt under"), (b"", "1 to 255"), (&[b'x'; 256], "1 to 255")]
    {
        let mut tx = wal.begin_streaming().unwrap();
        tx.append(1, b"never").unwrap();
        let error = tx.prepare(global_id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{error}");
    }
    wal.commit_prepared("taken").unwrap();
    for error in [wal.commit_prepared("taken").unwrap_err(), wal.rollback_prepared("no such").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(effects(&wal), both("taken"), "what was refused was aborted");
    // The longest one, and as many as there can be.
    wal.begin_streaming().unwrap().prepare([b'x'; 255]).unwrap().rollback().unwrap();
    for n in 0..1024 {
        drop(wal.begin_streaming().unwrap().prepare(format!("{n}")).unwrap());
    }
    let error = wal.begin_streaming().unwrap().prepare("one more").unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
    wal.close().unwrap();
    let wal = options(&disk).open(PATH).unwrap();
    assert_eq!(wal.in_doubt().len(), 1024);
    wal.commit_prepared("77").unwrap();
    prepare(&wal, "one more");
    wal.close().unwrap();
    assert!(wal.commit_prepared("78").unwrap_err().kind() == ErrorKind::Closed);
}

#[test]
fn in_doubt_transaction_outlives_openings_rotations_checkpoints_and_cuts_and_keeps_its_part_of_the_log() {
    let disk = SimDisk::new();
    let keep_one = |options: Options| options.retention(Retention::segments(1).checkpoints(1));
    let wal = keep_one(options(&disk)).open(PATH).unwrap();
    fill(&wal, 2);
    let id = prepare(&wal, "kept");
    let begin = wal.in_doubt()[0].begin;
    fill(&wal, 2);
    wal.close().unwrap();
    for opening in 0..4 {
        let wal = keep_one(options(&disk)).open(PATH).unwrap();
        assert_eq!(wal.recovery_report().in_doubt, wal.in_doubt());
        assert_eq!((names(&wal), wal.in_doubt()[0].transaction), (vec!["kept".to_owned()], id));
        fill(&wal, 2);
        wal.checkpoint(wal.last_lsn(), |_| Ok(())).unwrap();
        wal.maintain().unwrap();
        assert_eq!(wal.upkeep().kept_by, Some(KeptBy::Transaction { begin }));
        assert_eq!(wal.truncate_before(wal.last_lsn()).unwrap(), wal.first_lsn());
        assert!(wal.first_lsn() <= begin && wal.first_lsn() > Lsn(1));
        assert_eq!(wal.in_doubt_records(b"kept").unwrap().count(), 2);
        let read_only = options(&disk).open_read_only(PATH).unwrap();
        assert_eq!(read_only.in_doubt().unwrap(), wal.in_doubt());
        if opening % 2 == 0 {
            wal.close().unwrap();
        }
    }
    let wal = keep_one(options(&disk)).open(PATH).unwrap();
    let at = wal.commit_prepared("kept").unwrap();
    append(&wal, 2 * PER_SEGMENT);
    let given: Vec<_> =
        wal.replay().unwrap().map(Result::unwrap).filter(|record| record.effective_at == at).collect();
    assert_eq!(given.iter().map(|record| record.payload.clone()).collect::<Vec<_>>(), both("kept"));
    wal.checkpoint(wal.last_lsn(), |_| Ok(())).unwrap();
    wal.maintain().unwrap();
    assert!(wal.first_lsn() > begin, "nothing keeps it any more");
}

#[test]
fn fork_between_prepare_and_decision_is_in_doubt_and_decides_for_itself() {
    let disk = SimDisk::new();
    let wal = options(&disk).open(PATH).unwrap();
    prepare(&wal, "forked");
    fill(&wal, 1);
    let point = wal.last_lsn();
    wal.commit_prepared("forked").unwrap();
    let target = braidlog::Target::lsn(point);
    wal.fork("fork", target).unwrap();
    let fork = options(&disk).open("fork").unwrap();
    assert_eq!((names(&fork), names(&wal)), (vec!["forked".to_owned()], vec![]));
    fork.rollback_prepared("forked").unwrap();
    assert_eq!((effects(&fork), effects(&wal)), (vec![], both("forked")));
}

/// Every storage operation of a life with a prepare and a decision fails once for good, and the power goes: what was prepared is in
/// doubt, what was decided is decided, and what was neither is one or the other, as a whole.
#[test]
fn crash_at_any_operation_leaves_a_transaction_undecided_or_decided_as_it_was_acknowledged() {
    let mut operations = 0;
    for n in 1.. {
        let disk = SimDisk::new();
        let wal = options(&disk).open(PATH).unwrap();
        disk.inject(Fault::eio(Op::Any).nth(n).forever());
        let struck = disk.faults_struck();
        let (mut prepared, mut decided) = (false, false);
        let lived = (|| {
            let mut tx = wal.begin_streaming()?;
            for payload in both("it") {
                tx.append(1, payload)?;
            }
            for _ in 0..PER_SEGMENT {
                wal.append(vec![0; 8000])?;
            }
            let handle = tx.prepare("it")?;
            prepared = true;
            for _ in 0..PER_SEGMENT {
                wal.append(vec![0; 8000])?;
            }
            handle.commit()?;
            decided = true;
            wal.close()
        })();
        let is_over = disk.faults_struck() == struck;
        disk.clear_faults();
        if is_over {
            lived.unwrap();
            break;
        }
        operations = n;
        for profile in braidlog_sim::Profile::HONEST {
            let context = format!("operation {n}, {profile:?}");
            let mut after = disk.crash_clone(n, profile);
            for opening in 0..3 {
                let wal = options(&after).open(PATH).unwrap_or_else(|error| panic!("{context}: {error}"));
                let (in_doubt, effects) = (names(&wal), effects(&wal));
                assert!(in_doubt.is_empty() || effects.is_empty(), "{context}, opening {opening}");
                assert!(
                    !prepared || !in_doubt.is_empty() || effects == both("it"),
                    "{context}, opening {opening}"
                );
                assert!(!decided || effects == both("it"), "{context}, opening {opening}");
                assert!(effects.is_empty() || effects == both("it"), "{context}, opening {opening}");
                wal.append(b"0".repeat(2000)).unwrap();
                drop(wal);
                after = after.crash_clone(n + 1, profile);
            }
            let wal = options(&after).open(PATH).unwrap();
            if !names(&wal).is_empty() {
                wal.commit_prepared("it").unwrap();
                assert_eq!(effects(&wal), both("it"), "{context}");
            }
        }
    }
    assert!(operations > 20, "{operations} operations");
}
