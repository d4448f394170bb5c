//! Transactions that are prepared and not decided: every opening finds exactly those that there are, and no cut takes the
//! beginning of a transaction whose end the log still holds.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use braidlog_format::{
    Kind, LogId, Lsn, OpenTransaction, TxAbort, TxBegin, TxCommit, TxDecision, TxId, TxPrepare,
};
use braidlog_recovery::{
    BackupHow, DamagePolicy, Disposed, ForkHow, KeptBy, LogReader, ManifestStore, Pins, Record, Recovered,
    Standing, Target, backup, fork, recover, standing, truncate,
};
use braidlog_sim::{SimClock, SimDisk};
use braidlog_storage::{Clock, Storage};
use proptest::collection::vec;
use proptest::prelude::*;
use support::repairing::open_with;
use support::{LOG_ID, Pen, Written, disk_with, open_dir, recovered, segment_path};

/// What is done with a log and its transactions.
#[derive(Clone, Debug)]
enum Doing {
    Begin,
    Record,
    /// Of a transaction that is open, by place: prepares it, ends it, or decides it.
    Prepare(usize),
    End {
        place: usize,
        commit: bool,
    },
    Decide {
        place: usize,
        commit: bool,
    },
    Rotate,
    /// Opens the log anew, after a close or a crash.
    Reopen {
        sealed: bool,
    },
    /// Gives up what lies below a place in the log.
    Cut {
        at: usize,
    },
}

fn doing() -> impl Strategy<Value = Doing> {
    let place = 0..8usize;
    prop_oneof![
        3 => Just(Doing::Begin),
        3 => Just(Doing::Record),
        3 => place.clone().prop_map(Doing::Prepare),
        2 => (place.clone(), any::<bool>()).prop_map(|(place, commit)| Doing::End { place, commit }),
        2 => (place, any::<bool>()).prop_map(|(place, commit)| Doing::Decide { place, commit }),
        4 => Just(Doing::Rotate),
        2 => any::<bool>().prop_map(|sealed| Doing::Reopen { sealed }),
        2 => (1..200usize).prop_map(|at| Doing::Cut { at }),
    ]
}

/// A transaction as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Open {
    begin: Lsn,
    prepared_at: Option<Lsn>,
}

/// A log, and what has to be true of it.
struct Tested {
    disk: SimDisk,
    pen: Pen,
    open: BTreeMap<u64, Open>,
    next_id: u64,
    store: ManifestStore,
}

fn global_id(id: u64) -> Vec<u8> {
    format!("global {id}").into_bytes()
}

impl Tested {
    fn new() -> Tested {
        let disk = SimDisk::new();
        let (pen, store) = opened(&disk, Vec::new());
        Tested { disk, pen, open: BTreeMap::new(), next_id: 1, store }
    }

    fn mark(&mut self, kind: Kind, payload: &[u8]) -> Lsn {
        let lsn = self.pen.next;
        self.pen.round(&[&[(kind.0, payload)]]);
        lsn
    }

    fn place(&self, place: usize, prepared: bool) -> Option<(u64, Open)> {
        let mut those = self.open.iter().filter(|(_, open)| open.prepared_at.is_some() == prepared);
        those.nth(place).map(|(id, open)| (*id, *open))
    }

    fn begin(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let begin = self.mark(Kind::TX_BEGIN, &TxBegin { transaction: TxId(id), label: b"" }.encode());
        self.open.insert(id, Open { begin, prepared_at: None });
        id
    }

    fn prepare(&mut self, id: u64) {
        let begin = self.open[&id].begin;
        let (transaction, name) = (TxId(id), global_id(id));
        let prepare = TxPrepare { transaction, begin, entries: 0, global_id: &name };
        let payload = [&prepare.encode()[..], &name].concat();
        let prepared_at = Some(self.mark(Kind::TX_PREPARE, &payload));
        self.open.insert(id, Open { begin, prepared_at });
    }

    fn end(&mut self, id: u64, commit: bool) {
        let Open { begin, prepared_at } = self.open.remove(&id).unwrap();
        let transaction = TxId(id);
        match (prepared_at, commit) {
            (Some(_), commit) => {
                self.mark(Kind::TX_DECISION, &TxDecision { transaction, begin, commit }.encode())
            }
            (None, true) => {
                let commit = TxCommit { transaction, begin: Some(begin), entries: 0 };
                self.mark(Kind::TX_COMMIT, &commit.encode())
            }
            (None, false) => self.mark(Kind::TX_ABORT, &TxAbort { transaction, begin }.encode()),
        };
    }

    fn rotate(&mut self) {
        if self.pen.last.is_some() {
            self.pen.rotate();
        }
    }

    /// Opens the log anew: what was not prepared is over.
    fn reopen(&mut self, sealed: bool) {
        if sealed {
            self.pen.seal();
        } else {
            self.pen.sync();
        }
        self.open.retain(|_, open| open.prepared_at.is_some());
        (self.pen, self.store) = opened(&self.disk, self.pen.model.clone());
        self.assert_found();
    }

    /// Asserts that an opening finds what the model has in doubt.
    fn assert_found(&self) {
        let recovered = recovered(&self.disk).unwrap();
        let in_doubt: Vec<_> = recovered
            .report
            .in_doubt
            .iter()
            .map(|found| (found.transaction.0, found.begin, found.prepared_at, found.global_id.clone()))
            .collect();
        let expected: Vec<_> = self
            .open
            .iter()
            .filter_map(|(id, open)| Some((*id, open.begin, open.prepared_at?, global_id(*id))))
            .collect();
        assert_eq!(in_doubt, expected);
        let carried: Vec<_> = expected
            .iter()
            .map(|&(id, begin, ..)| OpenTransaction { transaction: TxId(id), begin })
            .collect();
        assert_eq!(recovered.tail.in_doubt, carried);
    }

    fn cut(&mut self, wanted: Lsn) -> Lsn {
        self.pen.sync();
        let dir = open_dir(&self.disk);
        // A checkpoint without content: all is needed from here on at the latest.
        support::checkpoint(&dir, &self.store, self.pen.next.prev().0);
        let pins = Pins::new(self.store.current().log_start);
        let mut remove =
            |name: &str| -> io::Result<Disposed> { dir.remove(name).map(|()| Disposed::Removed) };
        truncate(&dir, &self.store, &pins, self.pen.durable, wanted, &mut remove).unwrap().first_lsn
    }

    /// Asserts that what ends in the log begins in it, and what is open does.
    fn assert_whole_from(&self, start: Lsn) {
        for (index, written) in self.pen.model.iter().enumerate().skip(start.0 as usize - 1) {
            let begin = match written.kind {
                Kind::TX_COMMIT => TxCommit::decode(&written.payload).unwrap().begin,
                Kind::TX_PREPARE => Some(TxPrepare::decode(&written.payload).unwrap().begin),
                Kind::TX_DECISION => Some(TxDecision::decode(&written.payload).unwrap().begin),
                _ => None,
            };
            assert!(begin.is_none_or(|begin| begin >= start), "LSN {}: {written:?}", index + 1);
        }
        assert!(self.open.values().all(|open| open.begin >= start), "{:?}", self.open);
    }
}

fn opened(disk: &SimDisk, model: Vec<Written>) -> (Pen, ManifestStore) {
    let recovered = recovered(disk).unwrap();
    let pen = Pen::start(disk, &recovered.tail, model, 64 << 10);
    let clock = Arc::new(SimClock::new());
    let store = ManifestStore::new(open_dir(disk), clock, recovered.tail.log_id, recovered.manifest);
    (pen, store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_in_doubt_is_found_and_no_transaction_loses_its_beginning(doings in vec(doing(), 1..60)) {
        let mut log = Tested::new();
        for doing in doings {
            match doing {
                Doing::Begin => {
                    log.begin();
                }
                Doing::Record => {
                    log.pen.records(&[b"a record"]);
                }
                Doing::Prepare(place) => {
                    if let Some((id, _)) = log.place(place, false) {
                        log.prepare(id);
                    }
                }
                Doing::End { place, commit } => {
                    if let Some((id, _)) = log.place(place, false) {
                        log.end(id, commit);
                    }
                }
                Doing::Decide { place, commit } => {
                    if let Some((id, _)) = log.place(place, true) {
                        log.end(id, commit);
                    }
                }
                Doing::Rotate => log.rotate(),
                Doing::Reopen { sealed } => log.reopen(sealed),
                Doing::Cut { at } => {
                    let start = log.cut(Lsn(at as u64));
                    log.assert_whole_from(start);
                }
            }
        }
        log.reopen(false);
        let start = log.cut(Lsn::MAX);
        log.assert_whole_from(start);
        log.reopen(true);
    }
}

#[test]
fn in_doubt_transaction_is_found_after_any_number_of_openings_until_it_is_decided() {
    let mut log = Tested::new();
    let id = log.begin();
    log.pen.records(&[b"of it, say"]);
    log.rotate();
    log.prepare(id);
    let lost = log.begin();
    for opening in 0..6 {
        log.reopen(opening % 2 == 0);
        log.pen.records(&[b"of another opening"]);
        if opening % 3 == 0 {
            log.rotate();
            log.pen.records(&[b"and another segment"]);
        }
    }
    assert!(!log.open.contains_key(&lost), "it was not prepared");
    assert_eq!(log.open.len(), 1);
    log.end(id, true);
    log.reopen(false);
    assert!(log.open.is_empty());
    log.pen.records(&[b"the next one"]);
    log.reopen(true);
    assert_eq!(support::header_of(&log.disk.read_raw(segment_path(log.pen.header.base.0))).open_from, None);
}

/// Only what may be in doubt is looked for: a log whose seals list none is not read from where a long transaction began.
#[test]
fn opening_reads_no_earlier_segment_unless_something_is_in_doubt() {
    let mut log = Tested::new();
    let id = log.begin();
    log.rotate();
    log.pen.records(&[b"one", b"two"]);
    log.rotate();
    log.pen.records(&[b"three"]);
    log.pen.sync();
    let damaged = segment_path(2);
    let bytes = log.disk.read_raw(&damaged);
    log.disk.put_raw(&damaged, &[&bytes[..4200], &[0xFF; 8][..], &bytes[4208..]].concat());
    assert_eq!(recovered(&log.disk).unwrap().report.in_doubt, []);

    log.disk.put_raw(&damaged, &bytes);
    log.prepare(id);
    log.rotate();
    log.pen.records(&[b"four"]).sync();
    assert_eq!(recovered(&log.disk).unwrap().report.in_doubt.len(), 1);
    log.disk.put_raw(&damaged, &[&bytes[..4200], &[0xFF; 8][..], &bytes[4208..]].concat());
    let refused = recovered(&log.disk).unwrap_err();
    assert!(refused.to_string().contains("00000000000000000002.wal"), "{refused}");
}

/// The log was cut at a segment in the middle of a transaction whose records and commit stood on its two sides.
#[test]
fn cut_stops_where_a_transaction_begins_that_was_open_there_and_says_so() {
    let mut log = Tested::new();
    log.pen.records(&[b"one"]);
    log.rotate();
    let first = log.begin(); // LSN 2, in the segment with that base
    log.rotate();
    let second = log.begin(); // LSN 3
    log.rotate();
    log.end(first, true); // LSN 4
    log.rotate();
    log.pen.records(&[b"five"]);
    log.end(second, false);
    log.rotate();
    log.pen.records(&[b"seven"]).sync();
    let dir = open_dir(&log.disk);
    let at = |lsn| standing(&dir, Lsn(lsn), Lsn(1)).unwrap();
    assert_eq!(at(1), Standing { base: Lsn(1), open_from: None });
    assert_eq!(at(2), Standing { base: Lsn(2), open_from: None });
    assert_eq!(at(3), Standing { base: Lsn(2), open_from: Some(Lsn(2)) });
    // The second is open there, and began where the first was.
    assert_eq!(at(5), Standing { base: Lsn(2), open_from: Some(Lsn(2)) });
    assert_eq!(at(7), Standing { base: Lsn(7), open_from: None });
    assert_eq!(standing(&dir, Lsn(5), Lsn(3)).unwrap().base, Lsn(3), "what lies below the start is gone");
    assert_eq!(log.cut(Lsn(5)), Lsn(2));
    assert_eq!(log.cut(Lsn(7)), Lsn(7));
    let told = KeptBy::Transaction { begin: Lsn(2) }.to_string();
    assert_eq!(told, "a transaction that begins at LSN 2");
}

/// The ids of those that were in doubt behind the first `until` entries.
fn in_doubt_after(model: &[Written], until: u64) -> Vec<u64> {
    let mut ids = BTreeSet::new();
    for written in &model[..until as usize] {
        if written.kind == Kind::TX_PREPARE {
            ids.insert(TxPrepare::decode(&written.payload).unwrap().transaction.0);
        } else if written.kind == Kind::TX_DECISION {
            ids.remove(&TxDecision::decode(&written.payload).unwrap().transaction.0);
        }
    }
    ids.into_iter().collect()
}

fn ids_of(recovered: &Recovered) -> Vec<u64> {
    recovered.report.in_doubt.iter().map(|found| found.transaction.0).collect()
}

/// Segments in whose middle, and over whose ends, transactions are prepared and decided.
fn log_of_many() -> Tested {
    let mut log = Tested::new();
    let [first, second, third] = [(); 3].map(|()| log.begin());
    log.prepare(first);
    log.rotate();
    log.prepare(second);
    log.end(first, true);
    log.pen.records(&[b"between"]);
    log.rotate();
    log.pen.records(&[b"nothing of them"]);
    log.rotate();
    log.prepare(third);
    log.end(second, false);
    let fourth = log.begin();
    log.prepare(fourth);
    log.end(third, true);
    log.rotate();
    log.end(fourth, true);
    log.pen.records(&[b"the end"]).sync();
    log
}

#[test]
fn fork_and_backup_have_in_doubt_what_was_at_their_last_record() {
    let log = log_of_many();
    let dir = open_dir(&log.disk);
    let reader = LogReader::open_read_only(Arc::clone(&dir)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new());
    let last = log.pen.durable;
    for until in 0..=last.0 {
        let expected = in_doubt_after(&log.pen.model, until);
        let fork_dir = log.disk.open_dir(format!("fork {until}").as_ref(), true).unwrap();
        let target = Target::lsn(Lsn(until));
        let how = ForkHow {
            log_id: LogId(*b"that of the fork"),
            seed: until,
            until: Some(&target),
            clock: Arc::clone(&clock),
            ahead: None,
            progress: None,
        };
        fork(&reader, last, &fork_dir, how).unwrap();
        assert_eq!(ids_of(&recover(&fork_dir, LOG_ID).unwrap()), expected, "a fork at {until}");

        let backup_dir = log.disk.open_dir(format!("backup {until}").as_ref(), true).unwrap();
        let how = BackupHow { link: false };
        backup(&dir, &backup_dir, &clock, how, None, &mut || Ok(Lsn(until)), &mut |_| ()).unwrap();
        assert_eq!(ids_of(&recover(&backup_dir, LOG_ID).unwrap()), expected, "a backup up to {until}");
    }
}

/// A repair writes segments anew whose header or seal it could not read. What it cannot know it must not deny.
#[test]
fn repair_forgets_nobody_who_is_in_doubt_and_cuts_no_transaction_in_two() {
    let log = log_of_many();
    let bases: Vec<u64> = files_of(&log.disk).iter().map(|(base, _)| *base).collect();
    for &base in &bases {
        // Its header, its seal or the end of its file, an entry in its middle.
        let len = log.disk.read_raw(segment_path(base)).len();
        for at in [100, len - 40, 4096 + 40] {
            let disk = disk_with(&support::files(&log.disk));
            let mut bytes = disk.read_raw(segment_path(base));
            bytes[at] ^= 0x10;
            disk.put_raw(segment_path(base), &bytes);
            let recovered = open_with(&disk, DamagePolicy::SkipDamaged).unwrap();
            let reader = LogReader::open_read_only(open_dir(&disk)).unwrap();
            let kept: Vec<_> = reader
                .iter(Lsn(1), Lsn::MAX)
                .unwrap()
                .map(|record| record.unwrap())
                .map(|Record { kind, payload, .. }| Written { kind, payload, batch_continues: false })
                .collect();
            let expected = in_doubt_after(&kept, kept.len() as u64);
            assert_eq!(ids_of(&recovered), expected, "{base}, byte {at}");
            let start = standing(&open_dir(&disk), Lsn::MAX, Lsn(1)).unwrap().base;
            assert!(recovered.report.in_doubt.iter().all(|found| found.begin >= start), "{base}, byte {at}");
        }
    }
}

fn files_of(disk: &SimDisk) -> Vec<(u64, Vec<u8>)> {
    support::files(disk)
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.strip_suffix(".wal")?.parse().ok()?, bytes)))
        .collect()
}
