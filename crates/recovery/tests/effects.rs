//! Effects of transactions whose entries lie among those of others: what is held in memory and what is read again come to the same,
//! decided ones take effect at their decision, and what is not complete is told and never given.

mod support;

use braidlog_format::{
    Incarnation, Kind, Lsn, RecordFields, TxAbort, TxBegin, TxCommit, TxDecision, TxGoBack, TxId, TxPrepare,
};
use braidlog_recovery::{DamageCause, LogReader, ReadAhead, Records, RecoveryError};
use braidlog_sim::{Rng, SimDisk};
use support::{Pen, open_dir};

/// Where it takes effect, its LSN, its payload, and whether the next one comes with it.
type Effect = (Lsn, Lsn, Vec<u8>, bool);

fn provisional(id: TxId) -> RecordFields {
    let mut fields = RecordFields::default();
    (fields.transaction, fields.provisional) = (Some(id), true);
    fields
}

fn mark(pen: &mut Pen, kind: Kind, payload: &[u8]) -> Lsn {
    pen.entries(&[(kind, RecordFields::default(), payload)])
}

/// A transaction as its writer knows it.
struct Tx {
    id: TxId,
    begin: Lsn,
    entries: u64,
    records: Vec<(Lsn, Vec<u8>)>,
    is_prepared: bool,
}

impl Tx {
    fn begin(pen: &mut Pen, opening: u64, number: u64) -> Tx {
        let id = TxId::new(Incarnation(opening), number).unwrap();
        let begin = mark(pen, Kind::TX_BEGIN, &TxBegin { transaction: id, label: b"" }.encode());
        Tx { id, begin, entries: 0, records: Vec::new(), is_prepared: false }
    }

    fn record(&mut self, pen: &mut Pen, payload: &[u8]) {
        let lsn = pen.entries(&[(Kind(7), provisional(self.id), payload)]);
        self.entries += 1;
        self.records.push((lsn, payload.to_vec()));
    }

    fn go_back(&mut self, pen: &mut Pen, left: usize) {
        self.records.truncate(left);
        let to = self.records.last().map_or(self.begin, |&(lsn, _)| lsn);
        mark(pen, Kind::TX_GO_BACK, &TxGoBack { transaction: self.id, to }.encode());
        self.entries += 1;
    }

    fn prepare(&mut self, pen: &mut Pen) {
        let &mut Tx { id: transaction, begin, entries, .. } = self;
        let prepare = TxPrepare { transaction, begin, entries, global_id: b"global" };
        mark(pen, Kind::TX_PREPARE, &[&prepare.encode()[..], b"global"].concat());
        self.is_prepared = true;
    }

    /// Ends it; what takes effect.
    fn end(self, pen: &mut Pen, commit: bool) -> Vec<Effect> {
        let Tx { id: transaction, begin, entries, records, is_prepared } = self;
        let at = match (is_prepared, commit) {
            (true, commit) => {
                mark(pen, Kind::TX_DECISION, &TxDecision { transaction, begin, commit }.encode())
            }
            (false, true) => {
                mark(pen, Kind::TX_COMMIT, &TxCommit { transaction, begin: Some(begin), entries }.encode())
            }
            (false, false) => mark(pen, Kind::TX_ABORT, &TxAbort { transaction, begin }.encode()),
        };
        let last = records.last().map(|&(lsn, _)| lsn);
        let given = records.into_iter().map(|(lsn, payload)| (at, lsn, payload, Some(lsn) != last));
        if commit { given.collect() } else { Vec::new() }
    }
}

fn records(disk: &SimDisk, from: Lsn) -> Records {
    LogReader::of_writer(open_dir(disk), Lsn::FIRST)
        .iter(from, LogReader::open_read_only(open_dir(disk)).unwrap().last_visible().unwrap())
        .unwrap()
}

fn given(records: Records) -> Vec<Effect> {
    let of = |record: braidlog_recovery::Record| {
        (record.effective_at, record.lsn, record.payload, record.batch_continues)
    };
    records.map(|record| of(record.unwrap())).collect()
}

#[test]
fn what_is_held_and_what_is_read_again_are_the_same() {
    for seed in 0..12 {
        let disk = SimDisk::new();
        let (mut pen, mut rng) = (Pen::new(&disk), Rng::new(seed));
        let (mut expected, mut open, mut opening) = (Vec::new(), Vec::<Tx>::new(), 1);
        for number in 1..400_u64 {
            let mut payload = vec![0; rng.index(600)];
            rng.fill(&mut payload);
            match rng.below(14) {
                0 | 1 => open.push(Tx::begin(&mut pen, opening, number)),
                2 | 3 => {
                    let lsn = pen.entries(&[(Kind(1), RecordFields::default(), &payload)]);
                    expected.push((lsn, lsn, payload, false));
                }
                4 if pen.last.is_some() && rng.one_in(4) => {
                    pen.sync().rotate();
                }
                5 if rng.one_in(12) => {
                    // The log is opened the next time: what is not prepared is over.
                    opening += 1;
                    open.retain(|tx| tx.is_prepared);
                }
                _ if open.is_empty() => {}
                draw => {
                    let at = rng.index(open.len());
                    let is_prepared = open[at].is_prepared;
                    match draw {
                        6 => expected.extend(open.swap_remove(at).end(&mut pen, !rng.one_in(4))),
                        _ if is_prepared => {}
                        7 => open[at].prepare(&mut pen),
                        8 => {
                            let left = rng.index(open[at].records.len() + 1);
                            open[at].go_back(&mut pen, left);
                        }
                        _ => open[at].record(&mut pen, &payload),
                    }
                }
            }
        }
        pen.sync().idle_mark().sync();
        for held in [0, 3000, 20_000, 1 << 20] {
            let from = Lsn(rng.below(pen.next.0 / 2) + 1);
            let behind: Vec<Effect> = expected.iter().filter(|(at, ..)| *at >= from).cloned().collect();
            for (from, expected) in [(Lsn::FIRST, &expected), (from, &behind)] {
                let mut records = records(&disk, from).effects_holding(held);
                if rng.one_in(2) {
                    let how = ReadAhead { threads: 2, memory_bytes: 128 << 10, after_bytes: 0 };
                    records = records.read_ahead(how);
                }
                assert_eq!(&given(records), expected, "seed {seed}, {held} bytes held, from {from}");
            }
        }
    }
}

#[test]
fn a_commit_of_what_is_not_there_is_damage_and_nothing_of_it_is_given() {
    let scripts: [fn(&mut Tx, &mut Pen); 4] = [
        |tx, _| tx.entries += 1,
        |tx, pen| {
            tx.record(pen, b"too many");
            tx.entries -= 1;
        },
        // A begin that is another entry, and one that goes back to an LSN that is none of its records'.
        |tx, _| tx.begin = tx.begin.next(),
        |tx, pen| {
            let to = pen.entries(&[(Kind(1), RecordFields::default(), b"plain")]);
            mark(pen, Kind::TX_GO_BACK, &TxGoBack { transaction: tx.id, to }.encode());
            tx.entries += 1;
        },
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        for held in [0, 1 << 20] {
            let disk = SimDisk::new();
            let mut pen = Pen::new(&disk);
            let mut tx = Tx::begin(&mut pen, 1, 1);
            tx.record(&mut pen, b"one");
            tx.record(&mut pen, b"two");
            script(&mut tx, &mut pen);
            tx.end(&mut pen, true);
            let at = pen.next.prev();
            pen.sync().idle_mark().sync();
            let mut records = records(&disk, Lsn::FIRST).effects_holding(held);
            let mut given = 0;
            let error = loop {
                match records.next_ref() {
                    Some(Ok(record)) => given += usize::from(record.fields.provisional()),
                    Some(Err(error)) => break error,
                    None => panic!("script {number}: no error, {given} given"),
                }
            };
            assert!(given == 0 || number == 3, "script {number}, {held} held: {given} given");
            let RecoveryError::Damaged(damage) = error else { panic!("{error}") };
            assert_eq!(damage.cause, DamageCause::TransactionIncomplete, "script {number}");
            assert_eq!((damage.lsns.first, damage.lsns.last), (at, at));
            assert!(records.next_ref().is_none(), "it ends there");
        }
    }
}

#[test]
fn a_mark_that_is_none_is_damage_where_effects_are_wanted_and_a_record_of_the_history() {
    for kind in [Kind::TX_BEGIN, Kind::TX_COMMIT, Kind::TX_ABORT, Kind::TX_GO_BACK, Kind::TX_DECISION] {
        let disk = SimDisk::new();
        let mut pen = Pen::new(&disk);
        let at = mark(&mut pen, kind, &[0; 24]);
        pen.sync().idle_mark().sync();
        assert_eq!(records(&disk, Lsn::FIRST).map(|record| record.unwrap().kind).collect::<Vec<_>>(), [kind]);
        let error = records(&disk, Lsn::FIRST).effects().next().unwrap().unwrap_err();
        let RecoveryError::Damaged(damage) = error else { panic!("{error}") };
        assert!(matches!(damage.cause, DamageCause::Entry(_)), "{kind:?}: {}", damage.cause);
        assert_eq!(damage.lsns.first, at);
    }
}
