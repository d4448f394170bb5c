//! The oracle: what was appended, what was promised about it, and so what may be found.
//!
//! # Invariants that [`Model::check`] holds a log against (their numbers are those of `docs/testing.md`)
//! * I1: what was acknowledged is there, byte for byte. I2: LSNs are dense from 1. I3: nothing is there that
//!   was not appended, or was refused, or was lost by an earlier crash. I4: each record is where its append
//!   said, once. I5: batches are whole, and not mixed. I7: the incarnation has risen. I15: a record stands
//!   behind everything that had been appended before its append began.
//! * Timestamps never fall.
//!
//! The rule: a payload is a [`Stamp`], and its kind follows from the stamp, so that a record proves itself.

use std::collections::{BTreeMap, HashMap};

use braidlog::{Incarnation, Lsn, LsnRange, RecordRef, Wal};
use braidlog_sim::Stamp;

/// What an append handed over: a record, or a batch.
#[derive(Clone, Debug)]
struct Unit {
    /// The stamp of its first record.
    stamp: Stamp,
    /// The length of each payload, in bytes.
    lens: Vec<u32>,
    /// The LSN of its first record, once its append has said so.
    first: Option<Lsn>,
    /// Everything up to here had been appended when its append began.
    floor: Lsn,
    /// Whether it can be found at all.
    may_be_present: bool,
}

/// Names an append that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitId(usize);

/// A record as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its LSN.
    pub lsn: Lsn,
    /// When it was written, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// Who wrote it; all its bytes were compared with what the stamp says.
    pub stamp: Stamp,
    /// Its length in bytes.
    pub len: u32,
    /// Its kind.
    pub kind: u8,
    /// Whether the next record belongs to the same batch.
    pub batch_continues: bool,
}

impl Seen {
    /// Looks at a record.
    ///
    /// # Panics
    /// If its payload is not one that a [`Stamp`] made.
    pub fn new(record: &RecordRef<'_>) -> Seen {
        Seen {
            lsn: record.lsn,
            timestamp_ns: record.timestamp_ns,
            stamp: Stamp::of(record.payload),
            len: record.payload.len() as u32,
            kind: record.kind.0,
            batch_continues: record.batch_continues,
        }
    }
}

/// The kind that the record with this stamp is appended with.
pub fn kind_of(stamp: Stamp) -> u8 {
    (stamp.writer.wrapping_mul(31).wrapping_add(stamp.seq.wrapping_mul(7)) % 240) as u8
}

/// What one log has been told, and has promised.
#[derive(Clone, Default, Debug)]
pub struct Model {
    units: Vec<Unit>,
    /// The unit of each writer's record.
    by_stamp: HashMap<(u32, u32), UnitId>,
    /// The unit at each LSN, from 1 on, where it is known.
    at: Vec<Option<UnitId>>,
    /// Everything up to here was acknowledged, or shown.
    durable: Lsn,
    /// The log itself vouches for everything up to here, by something durable that was written later: its damage
    /// can be told from a torn tail.
    vouched: Lsn,
    /// The highest LSN that an append has returned.
    returned: Lsn,
    /// The highest incarnation that is durable.
    incarnation: Incarnation,
    life: Life,
}

/// What a log has promised of its own life.
#[derive(Clone, Default, Debug)]
struct Life {
    /// The log starts here, or has done so: what lies below was given up.
    start: Lsn,
    /// The highest *replay from* of a checkpoint that was begun, which the log may have been cut by.
    replay_from: Option<Lsn>,
    /// The number of the last checkpoint that returned.
    checkpoint: u64,
    /// The holds that are set for sure, by name.
    holds: BTreeMap<String, Lsn>,
}

/// What a log that was found says of its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundLife {
    /// Its first LSN.
    pub first: Lsn,
    /// The number of its newest checkpoint; 0 if there is none.
    pub checkpoint: u64,
    /// Its holds.
    pub holds: BTreeMap<String, Lsn>,
}

impl FoundLife {
    /// What this log says.
    pub fn of(wal: &Wal) -> FoundLife {
        FoundLife {
            first: wal.first_lsn(),
            checkpoint: wal.checkpoints().last().map_or(0, |newest| newest.number),
            holds: wal.holds().into_iter().map(|hold| (hold.name, hold.lsn)).collect(),
        }
    }
}

impl Model {
    /// An append has begun: from now on its records may be found. They have the given lengths in bytes.
    pub fn begin(&mut self, stamp: Stamp, lens: &[usize]) -> UnitId {
        assert_eq!(usize::from(stamp.count), lens.len());
        let id = UnitId(self.units.len());
        for index in 0..u32::from(stamp.count) {
            let known = self.by_stamp.insert((stamp.writer, stamp.seq + index), id);
            assert!(known.is_none(), "{stamp:?} was used before");
        }
        self.units.push(Unit {
            stamp,
            lens: lens.iter().map(|&len| len as u32).collect(),
            first: None,
            floor: self.returned,
            may_be_present: true,
        });
        id
    }

    /// The append has returned where its records are. They are in the log, durable or not.
    pub fn accept(&mut self, id: UnitId, lsns: LsnRange) {
        self.place(id, lsns);
        self.returned = self.returned.max(lsns.last);
    }

    /// The append has failed and said that its records may be there.
    pub fn accept_in_doubt(&mut self, id: UnitId, lsns: LsnRange) {
        self.place(id, lsns);
    }

    fn place(&mut self, id: UnitId, lsns: LsnRange) {
        let unit = &mut self.units[id.0];
        assert_eq!(lsns.count(), u64::from(unit.stamp.count), "{unit:?} got {lsns:?}");
        assert!(lsns.first > unit.floor, "I15: {unit:?} got {lsns:?}, behind what had been appended");
        assert!(unit.first.replace(lsns.first).is_none(), "{unit:?} got LSNs twice");
        let end = lsns.last.0 as usize;
        if self.at.len() < end {
            self.at.resize(end, None);
        }
        for place in &mut self.at[lsns.first.0 as usize - 1..end] {
            assert!(place.is_none(), "I4: {lsns:?} were given out before");
            *place = Some(id);
        }
    }

    /// The append has failed and said that nothing was accepted: its records must never be found.
    pub fn refuse(&mut self, id: UnitId) {
        self.units[id.0].may_be_present = false;
    }

    /// Everything up to this LSN was promised to be durable.
    pub fn acknowledge(&mut self, lsn: Lsn) {
        if lsn > self.durable {
            self.durable = lsn;
        }
    }

    /// Something that is durable was written when everything up to this LSN was: a round with its sync mark, or a
    /// segment that names the one before it.
    pub fn vouch(&mut self, lsn: Lsn) {
        self.vouched = self.vouched.max(lsn);
    }

    /// The log itself vouches for everything up to this LSN.
    pub fn vouched(&self) -> Lsn {
        self.vouched
    }

    /// The payload at an LSN, if it is known whose that is.
    pub fn payload(&self, lsn: Lsn) -> Option<Vec<u8>> {
        let unit = &self.units[(*self.at.get(lsn.0.checked_sub(1)? as usize)?)?.0];
        let index = lsn.0 - unit.first?.0;
        let stamp = Stamp { seq: unit.stamp.seq + index as u32, index: index as u16, ..unit.stamp };
        Some(stamp.payload(unit.lens[index as usize] as usize))
    }

    /// A handle has this incarnation, and has made that durable.
    pub fn incarnate(&mut self, incarnation: Incarnation) {
        self.incarnation = self.incarnation.max(incarnation);
    }

    /// A checkpoint is begun upon which replay begins here: from now on the log may be cut there.
    pub fn begin_checkpoint(&mut self, replay_from: Lsn) {
        self.life.replay_from = self.life.replay_from.max(Some(replay_from));
    }

    /// The checkpoint of this number is durable.
    pub fn checkpoint(&mut self, number: u64) {
        self.life.checkpoint = self.life.checkpoint.max(number);
    }

    /// A hold is about to be set, moved or released: until it is known to be set, it may be or not.
    pub fn doubt_hold(&mut self, name: &str) {
        self.life.holds.remove(name);
    }

    /// A hold is set, durably.
    pub fn hold(&mut self, name: &str, lsn: Lsn) {
        self.life.holds.insert(name.to_owned(), lsn);
    }

    /// The log says that it starts here.
    pub fn starts_at(&mut self, first: Lsn) {
        assert!(first >= self.life.start, "I16: the log starts at {first}, and did at {}", self.life.start);
        assert!(first <= self.start_max(), "I16: the log starts at {first}: {:?}", self.life);
        self.life.start = first;
    }

    /// The log starts here or before: the rest is needed.
    fn start_max(&self) -> Lsn {
        let checkpoint = self.life.replay_from.unwrap_or(Lsn::FIRST);
        self.life.holds.values().copied().fold(checkpoint, Lsn::min)
    }

    /// Holds what a log that was found says of its life against what it had promised.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check_life(&self, found: &FoundLife) {
        let FoundLife { first, checkpoint, holds } = found;
        assert!(*first >= self.life.start, "I16: what was given up is back: {found:?} of {:?}", self.life);
        assert!(*first <= self.start_max(), "I16: what is needed is gone: {found:?} of {:?}", self.life);
        assert!(*checkpoint >= self.life.checkpoint, "a checkpoint is lost: {found:?} of {:?}", self.life);
        for (name, lsn) in &self.life.holds {
            assert_eq!(holds.get(name), Some(lsn), "the hold {name} is lost");
        }
    }

    /// The log goes on from what was found.
    pub fn settle_life(&mut self, found: &FoundLife, replay_from: Option<Lsn>) {
        let FoundLife { first, checkpoint, ref holds } = *found;
        self.life = Life { start: first, replay_from, checkpoint, holds: holds.clone() };
    }

    /// Everything up to this LSN was promised to be durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The last LSN that is known to have been given out.
    pub fn last(&self) -> Lsn {
        Lsn(self.at.len() as u64)
    }

    /// The highest LSN that an append has returned.
    pub fn returned(&self) -> Lsn {
        self.returned
    }

    /// Whether it is known of every LSN up to the last whose it is.
    pub fn is_dense(&self) -> bool {
        self.at.iter().all(Option::is_some)
    }

    /// Holds what recovery found against what was promised, and the incarnation it writes in.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check(&self, found: &[Seen], incarnation: Incarnation) {
        self.check_recovered(found);
        assert!(
            incarnation > self.incarnation,
            "I7: the incarnation is {incarnation:?} after {:?}",
            self.incarnation
        );
    }

    /// As [`Model::check`], for a log that is not opened for writing.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check_recovered(&self, found: &[Seen]) {
        self.check_content(found);
        let last = Lsn(found.len() as u64);
        assert!(last >= self.durable, "I1: {last} is the last record found, {} were promised", self.durable);
    }

    /// Holds what a reader of an open log was shown against what may be shown, at most up to `durable`.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check_shown(&self, found: &[Seen], durable: Lsn) {
        self.check_content(found);
        assert!(found.len() as u64 <= durable.0, "{} records shown, {durable} is durable", found.len());
    }

    fn check_content(&self, found: &[Seen]) {
        let mut lsn = Lsn::ZERO;
        let mut timestamp_ns = 0;
        let mut open: Option<Stamp> = None;
        let mut seen_in_doubt = Vec::new();
        for record in found {
            lsn = lsn.next();
            assert_eq!(record.lsn, lsn, "I2: dense");
            let Seen { stamp, .. } = *record;
            let known = self.by_stamp.get(&(stamp.writer, stamp.seq));
            let Some(&id) = known else { panic!("I3: {record:?} was never appended") };
            let unit = &self.units[id.0];
            assert!(unit.may_be_present, "I3: {record:?} was refused, or lost before");
            let place = self.at.get(lsn.0 as usize - 1).copied().flatten();
            match (unit.first, place) {
                (Some(first), _) => {
                    assert_eq!(lsn.0, first.0 + u64::from(stamp.index), "I4: {record:?} is of {unit:?}");
                }
                (None, Some(other)) => panic!("I4: {record:?} where {:?} is", self.units[other.0]),
                (None, None) => {
                    assert!(lsn > unit.floor, "I15: {record:?} is of {unit:?}");
                    if stamp.index == 0 {
                        assert!(!seen_in_doubt.contains(&id.0), "I4: {record:?} is there twice");
                        seen_in_doubt.push(id.0);
                    }
                }
            }
            let index = stamp.index;
            assert_eq!((stamp.count, stamp.seq), (unit.stamp.count, unit.stamp.seq + u32::from(index)));
            assert_eq!(record.len, unit.lens[usize::from(index)], "I1: {record:?} is of {unit:?}");
            assert_eq!(record.kind, kind_of(stamp), "I1: the kind of {record:?}");
            assert_eq!(index, open.map_or(0, |before| before.index + 1), "I5: {record:?} behind {open:?}");
            assert_eq!(record.batch_continues, index + 1 < stamp.count, "I5: {record:?}");
            assert!(record.timestamp_ns >= timestamp_ns, "{record:?} is older than the record before it");
            timestamp_ns = record.timestamp_ns;
            open = record.batch_continues.then_some(stamp);
        }
        assert_eq!(open, None, "I5: the last batch is whole");
    }

    /// The log goes on from what was found: that is durable now, and nothing else may ever come back.
    pub fn settle(&mut self, found: &[Seen]) {
        self.at.clear();
        for unit in &mut self.units {
            unit.may_be_present = false;
            unit.first = None;
        }
        for record in found {
            let id = self.by_stamp[&(record.stamp.writer, record.stamp.seq)];
            let unit = &mut self.units[id.0];
            unit.may_be_present = true;
            unit.first.get_or_insert(record.lsn);
            self.at.push(Some(id));
        }
        self.durable = self.last();
        self.returned = self.durable;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn seen(lsn: u64, stamp: Stamp) -> Seen {
        let batch_continues = stamp.index + 1 < stamp.count;
        Seen { lsn: Lsn(lsn), timestamp_ns: lsn, stamp, len: 20, kind: kind_of(stamp), batch_continues }
    }

    fn range(first: u64, last: u64) -> LsnRange {
        LsnRange { first: Lsn(first), last: Lsn(last) }
    }

    fn batch(index: u16) -> Stamp {
        Stamp { writer: 1, seq: u32::from(index), index, count: 2 }
    }

    /// One record that was acknowledged, a batch that was accepted, one of which nothing is known, and one
    /// that was refused.
    fn model() -> Model {
        let mut model = Model::default();
        let acknowledged = model.begin(Stamp::single(0, 0), &[20]);
        model.accept(acknowledged, range(1, 1));
        model.acknowledge(Lsn(1));
        let accepted = model.begin(batch(0), &[20, 20]);
        model.accept(accepted, range(2, 3));
        model.begin(Stamp::single(2, 0), &[20]);
        let refused = model.begin(Stamp::single(3, 0), &[20]);
        model.refuse(refused);
        model.incarnate(Incarnation(1));
        model
    }

    fn lawful() -> Vec<Seen> {
        vec![seen(1, Stamp::single(0, 0)), seen(2, batch(0)), seen(3, batch(1)), seen(4, Stamp::single(2, 0))]
    }

    #[test]
    fn what_may_be_found_is_accepted() {
        for len in [1, 3, 4] {
            model().check(&lawful()[..len], Incarnation(2));
        }
        model().check_shown(&[], Lsn::ZERO);
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        type Breaking = fn(&mut Vec<Seen>);
        let breakings: [(&str, Breaking); 12] = [
            ("I1", |found| found.clear()),
            ("I1", |found| found[0].kind += 1),
            ("I1", |found| found[1].len += 1),
            ("I2", |found| found[1].lsn = Lsn(3)),
            ("I3", |found| found[3].stamp = Stamp::single(3, 0)),
            ("I3", |found| found[3].stamp = Stamp::single(4, 0)),
            ("I4", |found| found[0].stamp = Stamp::single(2, 0)),
            ("I4", |found| found.push(seen(5, Stamp::single(2, 0)))),
            ("I5", |found| found.truncate(2)),
            ("I5", |found| found[1].batch_continues = false),
            ("I4", |found| {
                found.remove(1);
                found[1].lsn = Lsn(2);
                found[2].lsn = Lsn(3);
            }),
            ("older", |found| found[3].timestamp_ns = 2),
        ];
        for (what, breaking) in breakings {
            let mut found = lawful();
            breaking(&mut found);
            let panic = catch_unwind(|| model().check(&found, Incarnation(2))).expect_err(what);
            let told = panic.downcast_ref::<String>().expect("it says why");
            assert!(told.contains(what), "{told} is not {what}");
        }
        assert!(catch_unwind(|| model().check(&lawful(), Incarnation(1))).is_err(), "I7");
        assert!(catch_unwind(|| model().check_shown(&lawful(), Lsn(3))).is_err(), "I14");
    }

    #[test]
    fn what_a_crash_lost_never_comes_back() {
        let mut model = model();
        model.settle(&lawful()[..3]);
        assert!(catch_unwind(|| model.check(&lawful(), Incarnation(2))).is_err(), "it was lost");
        assert!(catch_unwind(|| model.check(&lawful()[..1], Incarnation(2))).is_err(), "it was recovered");
        model.check(&lawful()[..3], Incarnation(2));
    }
}
