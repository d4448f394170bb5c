//! Streaming transactions take effect with their commits, whole and in the order of these, whatever stands between their entries and
//! whoever is given what; and who goes on where he stopped gets each effect once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;

use braidlog::{
    Append, Applied, BoxError, CheckpointReader, Durability, DurabilityMode, ErrorKind, Kind, Lsn, Options,
    Record, RecordRef, Replay, Restore, Savepoint, StreamingTransaction, Target, TxId, Wal,
};
use braidlog_sim::{SimClock, SimDisk};
use proptest::prelude::*;

#[path = "support/block_on.rs"]
mod block_on;
#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, small};

fn log() -> (SimDisk, Options) {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new()));
    (disk, options)
}

/// What an application is given.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Effect {
    at: Lsn,
    lsn: Lsn,
    payload: Vec<u8>,
    transaction: Option<TxId>,
    /// Whether the next one comes with it.
    continues: bool,
}

impl Effect {
    fn of(record: &Record) -> Effect {
        assert!(record.kind.is_user());
        Effect {
            at: record.effective_at,
            lsn: record.lsn,
            payload: record.payload.clone(),
            transaction: record.fields.transaction,
            continues: record.batch_continues,
        }
    }
}

fn effects(records: braidlog::Records) -> Vec<Effect> {
    records.map(|record| Effect::of(&record.unwrap())).collect()
}

#[derive(Default)]
struct Recovered(Vec<Effect>);

impl Restore for Recovered {
    fn restore(&mut self, _: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        Err("there is no checkpoint".into())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        self.0.push(Effect::of(&record.to_owned()));
        Ok(Applied::Applied)
    }
}

/// Everybody who is given records to apply them is given these.
#[track_caller]
fn assert_effects(wal: &Wal, options: &Options, expected: &[Effect]) {
    assert_eq!(effects(wal.replay().unwrap()), expected);
    let mut recovered = Recovered::default();
    let report = wal.recover(&mut recovered).unwrap();
    assert_eq!((&recovered.0[..], report.total), (expected, expected.len() as u64));

    let mut states = [const { Vec::new() }; 3];
    let key = |record: &RecordRef<'_>| record.lsn.0;
    let apply = |state: &mut Vec<Effect>, record: RecordRef<'_>| {
        state.push(Effect::of(&record.to_owned()));
        Ok(())
    };
    let done = wal.replay_partitioned(Replay::new().threads(3), &mut states, key, apply).unwrap();
    assert_eq!(done.records, expected.len() as u64);
    for (partition, state) in states.iter().enumerate() {
        let of_it = |effect: &&Effect| braidlog::partition_of(effect.lsn.0, 3) == partition;
        assert!(state.iter().eq(expected.iter().filter(of_it)), "in order");
    }

    let mut feed = wal.subscribe(wal.first_lsn()).unwrap();
    let mut fed = Vec::new();
    while let Some(record) = feed.try_next().unwrap() {
        fed.push(Effect::of(&record));
    }
    assert_eq!(fed, expected);
    assert_eq!(feed.lag(), 0, "what has no effect is passed");

    let beside = options.open_read_only(PATH).unwrap();
    if beside.last_lsn().unwrap() == wal.durable_lsn() {
        assert_eq!(effects(beside.replay().unwrap()), expected);
    }
}

/// Whoever stops after so many records and goes on later has each effect: those of a transaction of which he had a part again.
#[track_caller]
fn assert_goes_on(wal: &Wal, expected: &[Effect], after: usize) {
    let mut records = wal.replay().unwrap();
    for _ in 0..after {
        records.next_ref().unwrap().unwrap();
    }
    let applied_to = records.applied_to();
    let had = expected[..after].iter().filter(|effect| effect.at <= applied_to).count();
    let is_part = after > 0 && expected[after - 1].transaction.is_some() && expected[after - 1].continues;
    assert!(had == after || is_part, "after {after} at {applied_to}");
    let again = Replay::new().range(applied_to.next()..);
    assert_eq!(effects(wal.replay_with(again).unwrap()), expected[had..], "after {after} at {applied_to}");

    let mut feed = wal.subscribe(wal.first_lsn()).unwrap();
    for _ in 0..after {
        feed.try_next().unwrap().unwrap();
    }
    let mut other = wal.subscribe(feed.next_lsn()).unwrap();
    assert_eq!(other.next_lsn(), feed.next_lsn());
    let mut fed = Vec::new();
    while let Some(record) = other.try_next().unwrap() {
        fed.push(Effect::of(&record));
    }
    assert_eq!(fed, expected[had..]);
}

/// The log as it was at a point has what was committed by then.
#[track_caller]
fn assert_point(wal: &Wal, expected: &[Effect], at: Lsn) {
    let there = expected.iter().filter(|effect| effect.at <= at).cloned().collect::<Vec<_>>();
    // Of a batch that goes on behind the point nothing is there.
    let cut = there.iter().rposition(|effect| !effect.continues).map_or(0, |last| last + 1);
    let until = Replay::new().until(Target::lsn(at));
    assert_eq!(effects(wal.replay_with(until).unwrap()), there[..cut], "up to {at}");
}

#[derive(Clone, Debug)]
enum Action {
    Append(usize),
    Simple(Vec<usize>),
    Begin,
    /// To the open transaction at this place, a record of so many bytes.
    Record(prop::sample::Index, usize),
    Savepoint(prop::sample::Index),
    Back(prop::sample::Index, prop::sample::Index),
    Commit(prop::sample::Index, bool),
    GiveUp(prop::sample::Index),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        3 => (0..3000usize).prop_map(Action::Append),
        1 => proptest::collection::vec(0..900usize, 1..5).prop_map(Action::Simple),
        4 => Just(Action::Begin),
        12 => (index(), 0..2000usize).prop_map(|(tx, len)| Action::Record(tx, len)),
        3 => index().prop_map(Action::Savepoint),
        3 => (index(), index()).prop_map(|(tx, to)| Action::Back(tx, to)),
        4 => (index(), any::<bool>()).prop_map(|(tx, submit)| Action::Commit(tx, submit)),
        1 => index().prop_map(Action::GiveUp),
        1 => Just(Action::Reopen),
    ]
}

/// A transaction that is open, and what it would have of effects.
struct Open {
    tx: StreamingTransaction,
    records: Vec<Effect>,
    savepoints: Vec<(Savepoint, usize)>,
    gone: Vec<Savepoint>,
}

/// As records take effect with the commit at `at`.
fn committed_at(at: Lsn, mut records: Vec<Effect>) -> Vec<Effect> {
    let last = records.len();
    for (index, effect) in records.iter_mut().enumerate() {
        effect.at = at;
        effect.continues = index + 1 < last;
    }
    records
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

#[test]
fn effects_are_those_of_a_model() {
    let actions = proptest::collection::vec(action(), 1..70);
    proptest!(ProptestConfig::with_cases(80), |(actions in actions)| as_the_model(&actions));
}

fn as_the_model(actions: &[Action]) {
    let (_disk, options) = log();
    let mut wal = options.clone().open(PATH).unwrap();
    let (mut payloads, mut expected, mut open) = (Payloads::default(), Vec::new(), Vec::<Open>::new());
    for action in actions {
        let place = match action {
            Action::Record(tx, _) | Action::Savepoint(tx) | Action::Back(tx, _) | Action::Commit(tx, _) => tx,
            Action::GiveUp(tx) => tx,
            Action::Append(len) => {
                let payload = payloads.next(*len);
                let lsn = wal.append(&payload).unwrap();
                expected.push(Effect { at: lsn, lsn, payload, transaction: None, continues: false });
                continue;
            }
            Action::Simple(lens) => {
                let mut tx = wal.begin().unwrap();
                let of_it: Vec<_> = lens.iter().map(|len| payloads.next(*len)).collect();
                for payload in &of_it {
                    tx.append(1, payload).unwrap();
                }
                let committed = tx.commit().unwrap();
                assert_eq!(committed.at.next(), committed.lsns.first);
                for (lsn, payload) in committed.lsns.into_iter().zip(of_it) {
                    let continues = lsn < committed.lsns.last;
                    let transaction = Some(committed.id);
                    expected.push(Effect { at: lsn, lsn, payload, transaction, continues });
                }
                continue;
            }
            Action::Begin => {
                let tx = wal.begin_streaming().unwrap();
                let (records, savepoints, gone) = (Vec::new(), Vec::new(), Vec::new());
                open.push(Open { tx, records, savepoints, gone });
                continue;
            }
            Action::Reopen => {
                wal.close().unwrap();
                open.iter_mut().for_each(|open| {
                    assert_eq!(open.tx.append(1, b"").unwrap_err().kind(), ErrorKind::Closed);
                });
                open.clear();
                wal = options.clone().open(PATH).unwrap();
                continue;
            }
        };
        if open.is_empty() {
            continue;
        }
        let place = place.index(open.len());
        match action {
            Action::Record(_, len) => {
                let Open { tx, records, .. } = &mut open[place];
                let payload = payloads.next(*len);
                let lsn = tx.append((len % 240) as u8, &payload).unwrap();
                let transaction = Some(tx.id());
                records.push(Effect { at: lsn, lsn, payload, transaction, continues: false });
            }
            Action::Savepoint(_) => {
                let Open { tx, records, savepoints, .. } = &mut open[place];
                savepoints.push((tx.savepoint(), records.len()));
            }
            Action::Back(_, to) => {
                let Open { tx, records, savepoints, gone } = &mut open[place];
                if savepoints.is_empty() {
                    continue;
                }
                let (savepoint, len) = savepoints[to.index(savepoints.len())];
                tx.rollback_to(savepoint).unwrap();
                records.truncate(len);
                gone.extend(savepoints.iter().filter(|(_, known)| *known > len).map(|(gone, _)| *gone));
                savepoints.retain(|(_, known)| *known <= len);
                for gone in gone {
                    assert_eq!(tx.rollback_to(*gone).unwrap_err().kind(), ErrorKind::InvalidInput);
                }
            }
            Action::Commit(_, submit) => {
                let Open { tx, records, .. } = open.swap_remove(place);
                assert_eq!(tx.len(), records.len() as u64);
                let (id, begin) = (tx.id(), tx.begin_lsn());
                let at = if *submit {
                    tx.submit().unwrap().wait().unwrap()
                } else {
                    let committed = tx.commit().unwrap();
                    assert_eq!((committed.id, committed.records), (id, records.len() as u64));
                    assert_eq!((committed.lsns.first, committed.lsns.last), (begin, committed.at));
                    committed.at
                };
                expected.extend(committed_at(at, records));
            }
            Action::GiveUp(_) => open.swap_remove(place).tx.abort(),
            _ => unreachable!("done above"),
        }
    }
    wal.flush().unwrap();
    assert_effects(&wal, &options, &expected);
    let some = (0..=expected.len()).step_by(1 + expected.len() / 7);
    some.for_each(|after| assert_goes_on(&wal, &expected, after));
    let last = wal.durable_lsn().0;
    (1..=last).step_by(1 + last as usize / 7).for_each(|at| assert_point(&wal, &expected, Lsn(at)));
    drop(open);
    wal.close().unwrap();
    let wal = options.clone().open(PATH).unwrap();
    assert_effects(&wal, &options, &expected);
}

#[test]
fn the_history_has_every_entry_where_it_stands() {
    let (_disk, options) = log();
    let wal = options.open(PATH).unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    let first = tx.append(3, b"first").unwrap();
    let savepoint = tx.savepoint();
    let schema = tx.append_with(Append::new(b"second").schema(7)).unwrap();
    let plain = wal.append(b"plain").unwrap();
    tx.rollback_to(savepoint).unwrap();
    let aborted = wal.begin_streaming().unwrap();
    aborted.abort();
    let committed = tx.commit().unwrap();

    let history: Vec<Record> = wal.iter(..).unwrap().map(Result::unwrap).collect();
    let kinds: Vec<u8> = history.iter().map(|record| record.kind.0).collect();
    assert_eq!(kinds, [243, 3, 0, 0, 248, 243, 245, 244]);
    for (place, record) in history.iter().enumerate() {
        assert_eq!((record.lsn, record.effective_at), (Lsn(place as u64 + 1), Lsn(place as u64 + 1)));
        assert_eq!(record.fields.provisional, record.lsn == first || record.lsn == schema);
        assert_eq!(wal.read(record.lsn).unwrap().as_ref(), Some(record));
    }
    assert_eq!(wal.read(schema).unwrap().unwrap().fields.schema, Some(7));
    let given: Vec<Lsn> = wal.replay().unwrap().map(|record| record.unwrap().lsn).collect();
    assert_eq!(given, [plain, first]);
    assert_eq!(committed.at, history[7].lsn);
}

#[test]
fn a_transaction_larger_than_all_rings_is_given_in_one_piece() {
    let (_disk, options) = log();
    let wal = options.clone().open(PATH).unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    let mut plain = Vec::new();
    for number in 0..400_u64 {
        tx.append(1, [&number.to_le_bytes()[..], &[7; 3000]].concat()).unwrap();
        if number % 10 == 0 {
            plain.push(wal.append_with(Append::new(b"plain").durability(Durability::Async)).unwrap());
        }
    }
    let committed = tx.commit().unwrap();
    assert_eq!(committed.records, 400);
    let behind = wal.append(b"behind").unwrap();

    let given = effects(wal.replay().unwrap());
    let (before, rest) = given.split_at(plain.len());
    assert_eq!(before.iter().map(|effect| effect.lsn).collect::<Vec<_>>(), plain);
    let (of_it, rest) = rest.split_at(400);
    for (number, effect) in (0_u64..).zip(of_it) {
        assert_eq!((effect.at, &effect.payload[..8]), (committed.at, &number.to_le_bytes()[..]));
    }
    assert_eq!(rest.iter().map(|effect| effect.lsn).collect::<Vec<_>>(), [behind]);
    assert_effects(&wal, &options, &given);
}

#[test]
fn transactions_of_many_threads_are_given_in_the_order_of_their_commits() {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new()));
    let options = options.background_threads(true).num_stripes(4).mode(DurabilityMode::group_commit());
    let wal = options.open(PATH).unwrap();
    let committed = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for thread in 0..6u8 {
            let (writer, wal, committed) = (wal.writer(), &wal, &committed);
            scope.spawn(move || {
                for round in 0..25u8 {
                    let begun = if round % 2 == 0 { wal.begin_streaming() } else { writer.begin_streaming() };
                    let mut tx = begun.unwrap().durability(Durability::Async);
                    let (mut payloads, from) = (Vec::new(), tx.savepoint());
                    for place in 0..=round % 7 {
                        payloads.push(vec![thread, round, place]);
                        tx.append(1, &payloads[usize::from(place)]).unwrap();
                        if round % 6 == 3 && place == 2 {
                            tx.rollback_to(from).unwrap();
                            payloads.iter_mut().for_each(|payload| payload.clear());
                        }
                        wal.append_with(Append::new(&[place]).kind(100).durability(Durability::Async))
                            .unwrap();
                    }
                    payloads.retain(|payload| !payload.is_empty());
                    if round % 5 < 4 {
                        let done = tx.commit().unwrap();
                        committed.lock().unwrap().insert(done.at, (done.id, payloads));
                    }
                }
            });
        }
    });
    wal.flush().unwrap();
    let mut committed = committed.into_inner().unwrap();
    let given: Vec<Effect> = wal
        .replay()
        .unwrap()
        .map(Result::unwrap)
        .filter(|record| record.kind != Kind(100))
        .map(|record| Effect::of(&record))
        .collect();
    assert!(given.is_sorted_by_key(|effect| (effect.at, effect.lsn)));
    for of_one in given.chunk_by(|one, next| one.at == next.at) {
        let (id, payloads) = committed.remove(&of_one[0].at).expect("a commit, and one of its kind");
        assert!(of_one.iter().all(|effect| effect.transaction == Some(id)));
        assert!(of_one.iter().map(|effect| &effect.payload).eq(&payloads));
    }
    assert!(committed.values().all(|(_, payloads)| payloads.is_empty()), "{committed:?}");
}

#[test]
fn a_subscription_sees_a_transaction_when_it_is_committed() {
    let (_disk, options) = log();
    let wal = options.open(PATH).unwrap();
    let mut feed = wal.subscribe(Lsn(1)).unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    tx.append(1, b"one").unwrap();
    tx.append(1, b"two").unwrap();
    wal.append(b"plain").unwrap();
    assert_eq!(feed.try_next().unwrap().unwrap().payload, b"plain");
    assert_eq!((feed.try_next().unwrap(), feed.lag()), (None, 0));
    let at = tx.commit().unwrap().at;
    let one = feed.try_next().unwrap().unwrap();
    assert_eq!((&one.payload[..], one.effective_at, one.batch_continues), (&b"one"[..], at, true));
    assert_eq!((feed.next_lsn(), feed.lag()), (at, 1), "a part of it is nothing yet");
    let two = feed.try_next().unwrap().unwrap();
    assert_eq!((&two.payload[..], two.batch_continues), (&b"two"[..], false));
    assert_eq!((feed.next_lsn(), feed.lag()), (at.next(), 0));
}

#[test]
fn a_point_that_the_application_recognizes_lies_at_the_commit() {
    let (_disk, options) = log();
    let wal = options.open(PATH).unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    tx.append(1, b"to be recognized").unwrap();
    wal.append(b"before the commit").unwrap();
    let at = tx.commit().unwrap().at;
    wal.append(b"behind").unwrap();
    let target = || Target::when(|record| record.payload == b"to be recognized");
    assert_eq!(wal.lsn_at(&target()).unwrap(), at);
    let without = Replay::new().until(target().exclusive());
    let given: Vec<Vec<u8>> =
        wal.replay_with(without).unwrap().map(|record| record.unwrap().payload).collect();
    assert_eq!(given, [b"before the commit"]);
}

#[test]
fn a_task_waits_for_room_and_gives_up_what_it_drops() {
    let disk = SimDisk::new();
    let options = small(&disk, &Arc::new(SimClock::new())).background_threads(true);
    let wal = options.open(PATH).unwrap();
    block_on::block_on(async {
        let mut tx = wal.begin_streaming().unwrap();
        for number in 0..100_u64 {
            tx.append_async(Append::new(&[&number.to_le_bytes()[..], &[1; 2000]].concat())).await.unwrap();
        }
        let committed = tx.commit_async().await.unwrap();
        assert_eq!(committed.records, 100);
        assert!(wal.durable_lsn() >= committed.at);
        let given_up = wal.begin_streaming().unwrap();
        drop(given_up.commit_async());
        assert_eq!(wal.replay().unwrap().count(), 100);
    });
    wal.flush().unwrap();
    let last = wal.iter(..).unwrap().last().unwrap().unwrap();
    assert_eq!(last.kind, Kind(245), "a future that was never polled commits nothing");
}

#[test]
fn an_abort_without_room_waits_for_the_next_mark_and_holds_up_nobody() {
    let (_disk, options) = log();
    let wal = options.mode(DurabilityMode::asynchronous()).open(PATH).unwrap();
    let tx = wal.begin_streaming().unwrap();
    let id = tx.id();
    for len in [100, 0] {
        while wal.submit(vec![0; len]).is_ok() {}
    }
    drop(tx);
    wal.flush().unwrap();
    let aborts = || {
        let history = wal.iter(..).unwrap().map(Result::unwrap);
        history
            .filter(|record| record.kind == Kind(245))
            .map(|record| record.payload[..8].to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(aborts(), Vec::<Vec<u8>>::new());
    wal.begin_streaming().unwrap().commit().unwrap();
    wal.flush().unwrap();
    assert_eq!(aborts(), [id.0.to_le_bytes().to_vec()]);
}

#[test]
fn partitions_fail_where_one_thread_does_and_go_on_there() {
    let (_disk, options) = log();
    let wal = options.background_threads(true).open(PATH).unwrap();
    let mut early = wal.begin_streaming().unwrap();
    for number in 0..60_u64 {
        early.append(1, number.to_le_bytes()).unwrap();
        wal.append_with(Append::new(b"plain").durability(Durability::Async)).unwrap();
    }
    let mut late = wal.begin_streaming().unwrap();
    late.append(1, b"committed first").unwrap();
    late.commit().unwrap();
    early.commit().unwrap();
    wal.append(b"behind").unwrap();
    let expected = effects(wal.replay().unwrap());
    for bad in (0..expected.len()).step_by(5) {
        let failing = expected[bad].lsn;
        let mut states = [const { Vec::new() }; 4];
        let key = |record: &RecordRef<'_>| record.lsn.0;
        let error = wal
            .replay_partitioned(Replay::new().threads(4), &mut states, key, |state, record| {
                if record.lsn == failing {
                    return Err("will not".into());
                }
                state.push(Effect::of(&record.to_owned()));
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.lsns().map(|lsns| lsns.first), Some(failing));
        // Nobody has had a part of the transaction in which it failed.
        let applied_to = error.applied_to().unwrap();
        assert_eq!(applied_to, expected[bad].at.prev());
        for (partition, state) in states.iter().enumerate() {
            let of_it = |effect: &&Effect| braidlog::partition_of(effect.lsn.0, 4) == partition;
            let before = expected[..bad].iter().filter(of_it).count();
            assert!(state.iter().eq(expected.iter().filter(of_it).take(state.len())), "in order");
            assert!(state.len() >= before, "all before it");
        }
        let again = wal.replay_with(Replay::new().range(applied_to.next()..)).unwrap();
        let behind: Vec<Effect> = expected.iter().filter(|effect| effect.at > applied_to).cloned().collect();
        assert_eq!(effects(again), behind);
    }
}

#[test]
fn a_fork_inside_a_transaction_is_without_it_and_one_behind_its_commit_has_it() {
    let (_disk, options) = log();
    let wal = options.clone().open(PATH).unwrap();
    let plain = wal.append(b"before").unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    tx.append(1, b"one").unwrap();
    let inside = wal.append(b"between").unwrap();
    tx.append(1, b"two").unwrap();
    let id = tx.id();
    let at = tx.commit().unwrap().at;
    let forked = |name: &str, until: Lsn| {
        wal.fork(name, Target::lsn(until)).unwrap();
        options.clone().open(name).unwrap()
    };
    let short = forked("short", inside);
    assert_eq!(
        effects(short.replay().unwrap()).iter().map(|effect| effect.at).collect::<Vec<_>>(),
        [plain, inside]
    );
    let mut other = short.begin_streaming().unwrap();
    assert_ne!(other.id(), id, "an id of the old log's future is none of the fork's");
    other.append(1, b"of the fork").unwrap();
    other.commit().unwrap();
    assert_eq!(effects(short.replay().unwrap()).last().unwrap().payload, b"of the fork");
    let whole = forked("whole", at);
    assert_eq!(effects(whole.replay().unwrap()), effects(wal.replay().unwrap()));
}
