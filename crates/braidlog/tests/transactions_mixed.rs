//! Transactions among everything else that happens to a log: plain records, batches, checkpoints, truncation, compression,
//! closings and crashes, in any order. What is replayed is what was committed: whole, in order, under ids that come once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use braidlog::{Append, Durability, Lsn, LsnRange, Options, Replay, TxId, Wal};
use braidlog_sim::{Profile, SimClock, SimDisk};
use proptest::prelude::*;
use proptest::sample::Index;

#[path = "support/small_log.rs"]
mod small_log;

use small_log::{PATH, small};

/// A record that was appended: its place, its payload, its transaction.
type Effect = (Lsn, Vec<u8>, Option<TxId>);

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    /// Records that are given up again.
    Mistake(Vec<usize>),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Durable,
    /// Accepted, so that a crash may take all of it.
    Accepted,
    Abort,
}

#[derive(Clone, Debug)]
enum Action {
    Append(usize),
    Batch(Vec<usize>),
    Transaction { steps: Vec<Step>, end: End },
    Checkpoint(Index),
    Truncate(Index),
    Compress,
    Reopen,
    Crash { seed: u64, profile: Index },
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..9000usize, 1..4)
}

fn action() -> impl Strategy<Value = Action> {
    let step = prop_oneof![3 => (0..9000usize).prop_map(Step::Append), 1 => lens().prop_map(Step::Mistake)];
    let end = prop_oneof![2 => Just(End::Durable), 2 => Just(End::Accepted), 1 => Just(End::Abort)];
    let transaction = (proptest::collection::vec(step, 0..6), end);
    prop_oneof![
        4 => (0..9000usize).prop_map(Action::Append),
        2 => lens().prop_map(Action::Batch),
        8 => transaction.prop_map(|(steps, end)| Action::Transaction { steps, end }),
        2 => any::<Index>().prop_map(Action::Checkpoint),
        2 => any::<Index>().prop_map(Action::Truncate),
        1 => Just(Action::Compress),
        1 => Just(Action::Reopen),
        2 => (any::<u64>(), any::<Index>()).prop_map(|(seed, profile)| Action::Crash { seed, profile }),
    ]
}

/// A log, and what it has to give.
struct Model {
    disk: SimDisk,
    wal: Wal,
    /// What was appended, in order.
    effects: Vec<Effect>,
    /// The last LSN of each append, batch and transaction: where a state may be saved.
    ends: Vec<Lsn>,
    /// The newest checkpoint.
    checkpoint: Lsn,
    /// Every id that was given out.
    ids: HashSet<TxId>,
    payloads: u64,
    /// How often something was cut, compressed, and lost.
    happened: [u32; 3],
}

fn options(disk: &SimDisk) -> Options {
    small(disk, &Arc::new(SimClock::new()))
}

impl Model {
    fn new() -> Model {
        let disk = SimDisk::new();
        let wal = options(&disk).open(PATH).unwrap();
        let (effects, ends, ids) = (Vec::new(), Vec::new(), HashSet::new());
        Model { disk, wal, effects, ends, checkpoint: Lsn::ZERO, ids, payloads: 0, happened: [0; 3] }
    }

    /// A payload that no other record has.
    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.payloads += 1;
        let mut payload = vec![(self.payloads % 251) as u8; len + 8];
        payload[..8].copy_from_slice(&self.payloads.to_le_bytes());
        payload
    }

    fn appended(&mut self, lsns: LsnRange, payloads: Vec<Vec<u8>>, id: Option<TxId>) {
        assert_eq!(lsns.count(), payloads.len() as u64);
        self.effects.extend((lsns.first.0..).zip(payloads).map(|(lsn, payload)| (Lsn(lsn), payload, id)));
        self.ends.push(lsns.last);
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(len) => {
                let payload = self.payload(*len);
                let lsn = self.wal.append_with(Append::new(&payload).kind(7)).unwrap();
                self.appended(LsnRange { first: lsn, last: lsn }, vec![payload], None);
            }
            Action::Batch(lens) => {
                let payloads: Vec<_> = lens.iter().map(|&len| self.payload(len)).collect();
                let mut batch = self.wal.batch();
                for payload in &payloads {
                    batch.push(9, payload).unwrap();
                }
                let lsns = batch.commit().unwrap();
                self.appended(lsns, payloads, None);
            }
            Action::Transaction { steps, end } => self.transaction(steps, *end),
            Action::Checkpoint(at) => {
                let later: Vec<Lsn> =
                    self.ends.iter().copied().filter(|&lsn| lsn > self.checkpoint).collect();
                if !later.is_empty() {
                    let lsn = *at.get(&later);
                    self.wal.checkpoint(lsn, |writer| Ok(writer.write_all(b"state")?)).unwrap();
                    self.checkpoint = lsn;
                }
            }
            Action::Truncate(at) => {
                // The log starts at a segment that it reaches, if it starts later at all.
                if self.checkpoint > Lsn::ZERO {
                    let lsn = Lsn(1 + at.index(self.checkpoint.0 as usize) as u64);
                    let before = self.wal.first_lsn();
                    let first = self.wal.truncate_before(lsn).unwrap();
                    assert!(before <= first && first <= lsn.max(before));
                    self.happened[0] += u32::from(first > before);
                }
            }
            Action::Compress => self.compress(),
            Action::Reopen => {
                self.wal.close().unwrap();
                self.wal = options(&self.disk).open(PATH).unwrap();
            }
            Action::Crash { seed, profile } => {
                let durable = self.wal.durable_lsn();
                self.disk = self.disk.crash_clone(*seed, *profile.get(&Profile::HONEST));
                self.wal = options(&self.disk).open(PATH).unwrap();
                self.lose_behind(self.wal.last_lsn(), durable);
            }
        }
    }

    /// A crash took what was behind `last`: nothing that was durable, and nothing in part.
    fn lose_behind(&mut self, last: Lsn, durable: Lsn) {
        assert!(last >= durable, "{durable} was durable, and {last} is the last");
        let kept = self.ends.partition_point(|&end| end <= last);
        self.happened[2] += u32::from(kept < self.ends.len());
        self.ends.truncate(kept);
        assert_eq!(self.ends.last().copied().unwrap_or(Lsn::ZERO), last, "something is there in part");
        self.effects.retain(|(lsn, ..)| *lsn <= last);
    }

    fn transaction(&mut self, steps: &[Step], end: End) {
        let mut tx = self.wal.begin().unwrap();
        let id = tx.id();
        assert!(self.ids.insert(id), "{id} was given before");
        let mut payloads = Vec::new();
        for step in steps {
            match step {
                Step::Append(len) => {
                    let payload = self.payload(*len);
                    tx.append(1, &payload).unwrap();
                    payloads.push(payload);
                }
                Step::Mistake(lens) => {
                    let savepoint = tx.savepoint();
                    for &len in lens {
                        tx.append(2, self.payload(len)).unwrap();
                    }
                    tx.rollback_to(savepoint).unwrap();
                }
            }
        }
        let tx = match end {
            End::Durable => tx,
            End::Accepted => tx.durability(Durability::Async),
            End::Abort => return tx.abort(),
        };
        let committed = tx.commit().unwrap();
        assert_eq!(committed.id, id);
        if !payloads.is_empty() {
            self.appended(committed.lsns, payloads, Some(id));
        }
    }

    #[cfg(feature = "zstd")]
    fn compress(&mut self) {
        self.happened[1] += self.wal.compress().unwrap().compressed as u32;
    }

    /// Without the feature there is nothing to compress with.
    #[cfg(not(feature = "zstd"))]
    fn compress(&mut self) {}

    #[track_caller]
    fn check(&self) {
        // What is only accepted is shown to nobody.
        self.wal.flush().unwrap();
        let since =
            |lsn: Lsn| -> Vec<Effect> { self.effects.iter().filter(|(at, ..)| *at > lsn).cloned().collect() };
        let read = |records: braidlog::Records| -> Vec<Effect> {
            records
                .map(Result::unwrap)
                .map(|record| (record.lsn, record.payload, record.fields.transaction))
                .collect()
        };
        let wal = &self.wal;
        // Of what was cut only whole segments went, so of the rest all is there.
        let kept = since(wal.first_lsn().prev());
        assert_eq!(read(wal.replay().unwrap()), since(self.checkpoint), "behind the checkpoint");
        assert_eq!(read(wal.replay_with(Replay::new().range(..)).unwrap()), kept, "from the start");
        let mut feed = wal.subscribe(wal.first_lsn()).unwrap();
        let mut fed = Vec::new();
        while let Some(record) = feed.try_next().unwrap() {
            fed.push((record.lsn, record.payload, record.fields.transaction));
        }
        assert_eq!(fed, kept, "a subscription");
    }
}

#[test]
fn committed_transactions_outlive_whatever_happens_to_the_log() {
    let happened = RefCell::new([0; 3]);
    let actions = proptest::collection::vec(action(), 1..50);
    proptest!(ProptestConfig::with_cases(150), |(actions in actions)| {
        let mut model = Model::new();
        for action in &actions {
            model.act(action);
            if matches!(action, Action::Reopen | Action::Crash { .. } | Action::Truncate(_) | Action::Compress) {
                model.check();
            }
        }
        model.check();
        happened.borrow_mut().iter_mut().zip(model.happened).for_each(|(all, of_one)| *all += of_one);
    });
    let [cut, compressed, lost] = happened.into_inner();
    assert!(
        cut > 0 && (compressed > 0 || cfg!(not(feature = "zstd"))) && lost > 0,
        "{cut} {compressed} {lost}"
    );
}
