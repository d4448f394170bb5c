//! Transactions take effect as a whole or not at all, and their ids are kept: whatever else is written, whoever reads, after any
//! number of openings.

use std::sync::Arc;
use std::thread;

use braidlog::{
    Append, Applied, BoxError, CheckpointReader, Durability, DurabilityMode, ErrorKind, Kind, Lsn, Options,
    Record, RecordRef, Replay, Restore, Target, TxId, Wal,
};
use braidlog_sim::{SimClock, SimDisk};
use proptest::prelude::*;

#[path = "support/patience.rs"]
mod patience;
#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, small};

fn log() -> (SimDisk, Options) {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new()));
    (disk, options)
}

/// What an application is given: kind, payload, transaction.
type Effect = (u8, Vec<u8>, Option<TxId>);

fn effect(record: &Record) -> Effect {
    (record.kind.0, record.payload.clone(), record.fields.transaction)
}

/// What is recovered into.
#[derive(Default)]
struct Effects(Vec<Effect>);

impl Restore for Effects {
    fn restore(&mut self, _: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        Err("there is no checkpoint".into())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        self.0.push(effect(&record.to_owned()));
        Ok(Applied::Applied)
    }
}

fn effects(records: braidlog::Records) -> Vec<Effect> {
    records.map(|record| effect(&record.unwrap())).collect()
}

/// Everybody who is given records to apply them is given these.
#[track_caller]
fn assert_effects(wal: &Wal, options: &Options, expected: &[Effect]) {
    assert_eq!(effects(wal.replay().unwrap()), expected);
    let mut recovered = Effects::default();
    let report = wal.recover(&mut recovered).unwrap();
    assert_eq!((&recovered.0[..], report.total), (expected, expected.len() as u64));
    assert!(report.by_kind.keys().all(|kind| kind.is_user()));

    let mut states = [const { Vec::new() }; 3];
    let done = wal.replay_partitioned(
        Replay::new(),
        &mut states,
        |record| record.lsn.0,
        |state, record| {
            state.push(record.to_owned());
            Ok(())
        },
    );
    assert_eq!(done.unwrap().records, expected.len() as u64);
    let mut all = states.concat();
    all.sort_by_key(|record: &Record| record.lsn);
    assert_eq!(all.iter().map(effect).collect::<Vec<_>>(), expected);

    let mut feed = wal.subscribe(wal.first_lsn()).unwrap();
    let mut fed = Vec::new();
    while let Some(record) = feed.try_next().unwrap() {
        fed.push(effect(&record));
    }
    assert_eq!(fed, expected);
    assert_eq!(feed.lag(), 0, "what is left out is passed");

    let beside = options.open_read_only(PATH).unwrap();
    let last = beside.last_lsn().unwrap();
    if last == wal.durable_lsn() {
        assert_eq!(effects(beside.replay().unwrap()), expected);
    }
}

/// The history has each LSN, and before a transaction's records its commit.
#[track_caller]
fn assert_history(wal: &Wal, transactions: &[TxId]) {
    let history: Vec<Record> = wal.iter(..).unwrap().map(Result::unwrap).collect();
    let lsns: Vec<Lsn> = history.iter().map(|record| record.lsn).collect();
    assert_eq!(lsns, (1..=wal.durable_lsn().0).map(Lsn).collect::<Vec<_>>());
    let mut backward: Vec<Record> = wal.iter_rev(..).unwrap().map(Result::unwrap).collect();
    backward.reverse();
    assert_eq!(history, backward);
    let marks: Vec<&Record> = history.iter().filter(|record| !record.kind.is_user()).collect();
    assert_eq!(marks.len(), transactions.len());
    for (mark, &id) in marks.into_iter().zip(transactions) {
        assert_eq!((mark.kind, &mark.payload[..8]), (Kind::TX_COMMIT, &id.0.to_le_bytes()[..]));
        assert_eq!(wal.read(mark.lsn).unwrap().as_ref(), Some(mark));
        let count = u64::from_le_bytes(mark.payload[16..].try_into().unwrap());
        let after = &history[mark.lsn.0 as usize..];
        let of_it = after.iter().take_while(|record| record.fields.transaction == Some(id)).count();
        assert_eq!(of_it as u64, count);
        let last = &after[of_it - 1];
        assert!(mark.batch_continues && !last.batch_continues, "the batch is the transaction");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Savepoint,
    /// Goes back to the savepoint, of those that are known, at this place.
    Back(prop::sample::Index),
}

#[derive(Clone, Debug)]
enum End {
    Commit,
    Submit,
    Abort,
    Drop,
}

#[derive(Clone, Debug)]
enum Action {
    Append(usize),
    Batch(Vec<usize>),
    Transaction(Vec<Step>, End),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..900usize).prop_map(Step::Append),
        2 => Just(Step::Savepoint),
        2 => any::<prop::sample::Index>().prop_map(Step::Back),
    ];
    proptest::collection::vec(step, 0..10)
}

fn action() -> impl Strategy<Value = Action> {
    let end = prop_oneof![3 => Just(End::Commit), 2 => Just(End::Submit), 1 => Just(End::Abort), 1 => Just(End::Drop)];
    prop_oneof![
        3 => (0..3000usize).prop_map(Action::Append),
        1 => proptest::collection::vec(0..900usize, 1..5).prop_map(Action::Batch),
        6 => (steps(), end).prop_map(|(steps, end)| Action::Transaction(steps, end)),
        1 => Just(Action::Reopen),
    ]
}

/// Payloads that differ from one another.
#[derive(Default)]
struct Payloads(u64);

impl Payloads {
    fn next(&mut self, len: usize) -> Vec<u8> {
        self.0 += 1;
        let mut payload = vec![(self.0 % 251) as u8; len + 8];
        payload[..8].copy_from_slice(&self.0.to_le_bytes());
        payload
    }
}

/// Runs a transaction; what takes effect of it.
fn run(wal: &Wal, payloads: &mut Payloads, steps: &[Step], end: &End) -> (TxId, Vec<Effect>) {
    let mut tx = wal.begin().unwrap();
    let id = tx.id();
    let mut expected: Vec<Effect> = Vec::new();
    let mut savepoints = Vec::new();
    for step in steps {
        match step {
            Step::Append(len) => {
                let payload = payloads.next(*len);
                let kind = (len % 240) as u8;
                tx.append(kind, &payload).unwrap();
                expected.push((kind, payload, Some(id)));
            }
            Step::Savepoint => savepoints.push((tx.savepoint(), expected.len())),
            Step::Back(_) if savepoints.is_empty() => {}
            Step::Back(index) => {
                let index = index.index(savepoints.len());
                let (savepoint, len) = savepoints[index];
                tx.rollback_to(savepoint).unwrap();
                expected.truncate(len);
                for (gone, _) in savepoints.drain(index + 1..) {
                    assert_eq!(tx.rollback_to(gone).unwrap_err().kind(), ErrorKind::InvalidInput);
                }
            }
        }
        assert_eq!((tx.len(), tx.is_empty()), (expected.len(), expected.is_empty()));
    }
    match end {
        End::Commit => {
            let committed = tx.commit().unwrap();
            assert_eq!((committed.id, committed.lsns.count()), (id, expected.len() as u64));
            if !expected.is_empty() {
                assert_eq!(committed.lsns.last, wal.last_lsn());
            }
        }
        End::Submit if expected.is_empty() => {
            let refused = tx.submit().unwrap_err();
            assert_eq!(refused.error().kind(), ErrorKind::InvalidInput);
        }
        End::Submit => {
            let ticket = tx.submit().unwrap();
            assert_eq!(ticket.lsns().count(), expected.len() as u64 + 1);
            ticket.wait().unwrap();
        }
        End::Abort => tx.abort(),
        End::Drop => drop(tx),
    }
    match end {
        End::Commit | End::Submit => (id, expected),
        End::Abort | End::Drop => (id, Vec::new()),
    }
}

#[test]
fn committed_transactions_are_given_whole_with_their_ids_and_others_leave_nothing() {
    let actions = proptest::collection::vec(action(), 1..40);
    proptest!(ProptestConfig::with_cases(60), |(actions in actions)| whole_or_nothing(&actions));
}

fn whole_or_nothing(actions: &[Action]) {
    let (_disk, options) = log();
    let mut wal = options.clone().open(PATH).unwrap();
    let (mut payloads, mut expected, mut committed) = (Payloads::default(), Vec::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for action in actions {
        match action {
            Action::Append(len) => {
                let payload = payloads.next(*len);
                wal.append_with(Append::new(&payload).kind(7)).unwrap();
                expected.push((7, payload, None));
            }
            Action::Batch(lens) => {
                let mut batch = wal.batch();
                for len in lens {
                    let payload = payloads.next(*len);
                    batch.push(9, &payload).unwrap();
                    expected.push((9, payload, None));
                }
                batch.commit().unwrap();
            }
            Action::Transaction(steps, end) => {
                let before = wal.last_lsn();
                let (id, effects) = run(&wal, &mut payloads, steps, end);
                assert!(seen.insert(id), "{id} was given before");
                assert_eq!(id.opening(), wal.incarnation());
                if effects.is_empty() {
                    assert_eq!(wal.last_lsn(), before, "nothing is in the log");
                } else {
                    committed.push(id);
                }
                expected.extend(effects);
            }
            Action::Reopen => {
                wal.close().unwrap();
                wal = options.clone().open(PATH).unwrap();
            }
        }
    }
    assert_effects(&wal, &options, &expected);
    assert_history(&wal, &committed);
    wal.close().unwrap();
    let wal = options.clone().open(PATH).unwrap();
    assert_effects(&wal, &options, &expected);
    assert_history(&wal, &committed);
}

#[test]
fn a_transaction_takes_one_sync_and_an_append_each_takes_one_for_each() {
    let (_disk, options) = log();
    let wal = options.open(PATH).unwrap();
    let syncs = |work: &dyn Fn()| {
        let before = wal.metrics().syncs;
        work();
        wal.metrics().syncs - before
    };
    let in_one = syncs(&|| {
        let mut tx = wal.begin().unwrap();
        for _ in 0..20 {
            tx.append(1, b"in one").unwrap();
        }
        tx.commit().unwrap();
    });
    let one_by_one = syncs(&|| {
        for _ in 0..20 {
            wal.append(b"one by one").unwrap();
        }
    });
    assert_eq!((in_one, one_by_one), (1, 20));
}

#[test]
fn transactions_of_many_threads_are_each_in_one_piece() {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new()));
    let options = options.background_threads(true).num_stripes(4).mode(DurabilityMode::group_commit());
    let wal = options.open(PATH).unwrap();
    thread::scope(|scope| {
        for thread in 0..8u8 {
            let writer = wal.writer();
            let wal = &wal;
            scope.spawn(move || {
                for round in 0..30u8 {
                    let mut tx = if round % 2 == 0 { wal.begin() } else { writer.begin() }.unwrap();
                    for place in 0..=round % 7 {
                        tx.append(thread, [round, place]).unwrap();
                    }
                    if round % 5 == 4 {
                        tx.abort();
                    } else {
                        tx.durability(Durability::Async).commit().unwrap();
                    }
                    wal.append_with(Append::new(&[round]).kind(100).durability(Durability::Async)).unwrap();
                }
            });
        }
    });
    wal.flush().unwrap();
    let records: Vec<Record> = wal.replay().unwrap().map(Result::unwrap).collect();
    let of_transactions: Vec<&Record> = records.iter().filter(|record| record.kind.0 != 100).collect();
    let mut ids = Vec::new();
    for records in of_transactions.chunk_by(|a, b| a.fields.transaction == b.fields.transaction) {
        let round = records[0].payload[0];
        let payloads: Vec<&[u8]> = records.iter().map(|record| &record.payload[..]).collect();
        let expected: Vec<[u8; 2]> = (0..=round % 7).map(|place| [round, place]).collect();
        assert_eq!(payloads, expected);
        let lsns: Vec<u64> = records.iter().map(|record| record.lsn.0).collect();
        assert!(lsns.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{lsns:?}");
        ids.push(records[0].fields.transaction.unwrap());
    }
    assert_eq!(ids.len(), 8 * 24);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8 * 24, "each id is one transaction's");
}

#[test]
fn what_a_transaction_refuses_leaves_it_as_it_was() {
    let (_disk, options) = log();
    let wal = options.max_record_bytes(1000).open(PATH).unwrap();
    let mut tx = wal.begin().unwrap();
    // The commit counts 24 bytes, and each record 40 beside its payload.
    let most = vec![7; 1000 - 24 - 40];
    assert_eq!(tx.append(1, vec![7; 1000 - 24 - 39]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tx.append(240, b"the log's own").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(tx.is_empty());
    tx.append(1, &most).unwrap();
    assert_eq!(tx.append(1, b"").unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut other = wal.begin().unwrap();
    let savepoint = other.savepoint();
    assert_eq!(tx.rollback_to(savepoint).unwrap_err().kind(), ErrorKind::InvalidInput);
    let committed = tx.commit().unwrap();
    assert_eq!((committed.lsns.first, committed.lsns.last), (Lsn(2), Lsn(2)));
    assert_eq!(wal.read(Lsn(2)).unwrap().unwrap().payload, most);

    other.append(1, b"late").unwrap();
    let empty = wal.begin().unwrap();
    wal.close().unwrap();
    for error in [other.commit().unwrap_err(), empty.commit().unwrap_err(), wal.begin().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_record_of_a_transaction_has_pieces_and_a_schema_too() {
    let (_disk, options) = log();
    let wal = options.open(PATH).unwrap();
    let mut tx = wal.begin().unwrap();
    let pieces = [std::io::IoSlice::new(b"head"), std::io::IoSlice::new(b"body")];
    tx.append_with(Append::vectored(&pieces).kind(3).schema(5)).unwrap();
    let id = tx.commit().unwrap().id;
    let record = wal.replay().unwrap().next().unwrap().unwrap();
    assert_eq!((record.kind.0, &record.payload[..]), (3, &b"headbody"[..]));
    assert_eq!((record.fields.transaction, record.fields.schema), (Some(id), Some(5)));
    assert_eq!(id.to_string(), "1.1");
}

#[test]
fn a_point_inside_a_transaction_leaves_it_out_and_a_fork_keeps_ids() {
    let (disk, options) = log();
    let wal = options.clone().open(PATH).unwrap();
    let mut payloads = Payloads::default();
    let mut expected = Vec::new();
    let mut ends = vec![Lsn::ZERO];
    for count in [3, 1, 4] {
        let steps = vec![Step::Append(50); count];
        expected.push(run(&wal, &mut payloads, &steps, &End::Commit).1);
        ends.push(wal.last_lsn());
    }
    for lsn in 1..=wal.last_lsn().0 {
        let whole = ends.iter().rposition(|end| end.0 <= lsn).unwrap();
        assert_eq!(wal.lsn_at(&Target::lsn(Lsn(lsn))).unwrap(), ends[whole]);
        let replayed = effects(wal.replay_with(Replay::new().until(Target::lsn(Lsn(lsn)))).unwrap());
        assert_eq!(replayed, expected[..whole].concat());
        let dest = format!("fork{lsn}");
        wal.fork(&dest, Target::lsn(Lsn(lsn))).unwrap();
        let fork = small(&disk, &Arc::new(SimClock::new())).open(&dest).unwrap();
        assert_eq!(effects(fork.replay().unwrap()), expected[..whole].concat(), "{dest}");
        assert!(fork.begin().unwrap().id().opening() > wal.incarnation(), "ids of a fork are new");
    }
    // An application that looks for a record meets its own only.
    let end = Target::when(|record| {
        assert!(record.kind.is_user());
        false
    });
    assert_eq!(wal.lsn_at(&end).unwrap(), wal.last_lsn());
}

/// An opening that found no space for its first segment was forgotten with its number, and the next one showed the same ids.
#[test]
fn no_id_is_shown_that_a_later_opening_gives_again() {
    for background in [false, true] {
        let (disk, options) = log();
        let options = options.background_threads(background);
        let wal = options.clone().open(PATH).unwrap();
        wal.append(b"x").unwrap();
        wal.close().unwrap();
        disk.set_capacity(Some(disk.used_bytes()));
        for _ in 0..2 {
            let wal = options.clone().open(PATH).unwrap();
            assert_eq!(wal.begin().unwrap_err().kind(), ErrorKind::NoSpace);
            wal.close().unwrap();
            assert_eq!(wal.begin().unwrap_err().kind(), ErrorKind::Closed);
        }
        let wal = options.clone().open(PATH).unwrap();
        wal.begin().unwrap_err();
        disk.set_capacity(None);
        // The log goes on by itself, without an append.
        patience::until(|| wal.begin().is_ok());
        let shown = wal.begin().unwrap().id();
        assert_eq!(shown.opening(), wal.incarnation());
        wal.close().unwrap();
        let wal = options.open(PATH).unwrap();
        let mut tx = wal.begin().unwrap();
        tx.append(1, b"z").unwrap();
        assert!(tx.commit().unwrap().id > shown, "given again");
    }
}
