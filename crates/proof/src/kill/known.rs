//! Everything that is known of a log without looking into it, and what a look into it must show.
//!
//! A life is one process on the log. What each life told its board is taken in when it is dead; a look, through
//! a handle that writes or one that only reads, is then held against all of it. Only what is new is read whole,
//! and some of what is old; the end of a chain reads everything again.
//!
//! # Invariants (as numbered in the proof plan)
//! I1 acknowledged records stand where they were put, I2 what is found is dense, I3 nothing is found that was
//! not begun, I4 nothing twice and nobody's records out of order, I5 batches are whole, I7 incarnations grow and
//! no LSN is given out twice, I8 what one look shows the next one shows, in whatever way it looks and whoever was
//! killed while opening in between.

use std::collections::HashMap;

use braidlog::{Lsn, Record};
use braidlog_sim::{Rng, Stamp};

use super::life::{WRITERS_MAX, stamp_writer};
use crate::board::{Operation, Phase, State, Told};

/// What is known of one log.
#[derive(Debug, Default)]
pub(super) struct Known {
    lives: Vec<Told>,
    /// Lives whose acknowledgements have been held against a look.
    settled: usize,
    /// What was found, in LSN order from 1.
    found: Vec<Stamp>,
    /// What the last look showed as the last LSN; `None` if a life may have appended since.
    shown: Option<u64>,
    /// The highest incarnation so far.
    incarnation: u64,
    /// Whether that one may be seen again: an opening that finds no space for a segment of its own has nowhere to
    /// put its number, gives out no LSN, and may share it with the next.
    is_unused: bool,
    may_be_full: bool,
    /// The last operation found of each writer.
    latest: HashMap<u32, u32>,
}

/// What a look into the log has to offer.
pub(super) struct Look<'a> {
    /// The last LSN that it shows.
    pub(super) last: Lsn,
    /// Its records from an LSN on.
    pub(super) records_from: &'a dyn Fn(Lsn) -> braidlog::Records,
    /// One of its records.
    pub(super) read: &'a dyn Fn(Lsn) -> Option<Record>,
}

impl Known {
    /// Nothing is known yet of a log, which may be on a full disk.
    pub(super) fn new(may_be_full: bool) -> Known {
        Known { may_be_full, ..Known::default() }
    }

    /// How many processes there were.
    pub(super) fn lives(&self) -> u32 {
        self.lives.len() as u32
    }

    /// The last LSN that was found.
    pub(super) fn last(&self) -> u64 {
        self.found.len() as u64
    }

    /// Takes in what a process told that is dead now.
    pub(super) fn bury(&mut self, told: Told) {
        if told.phase != Phase::Started {
            self.opened(told.incarnation, told.recovered);
            self.is_unused = self.may_be_full && !told.writers.iter().flatten().any(Operation::has_lsn);
            self.shown = None;
        } else {
            let idle = told.writers.iter().all(Vec::is_empty);
            assert!(idle, "a process writes after it has opened");
        }
        self.lives.push(told);
    }

    /// The log was opened for writing, and `recovered` was its last LSN.
    pub(super) fn opened(&mut self, incarnation: u64, recovered: u64) {
        let is_new = incarnation > self.incarnation || incarnation == self.incarnation && self.is_unused;
        assert!(is_new, "I7: incarnation {incarnation} comes after {}", self.incarnation);
        self.incarnation = incarnation;
        self.is_unused = self.may_be_full;
        if let Some(shown) = self.shown {
            assert_eq!(recovered, shown, "I8: opening keeps what a look has shown");
        }
        assert!(recovered >= self.last(), "I1: {} records were found, {recovered} are left", self.last());
    }

    /// Holds a look against what is known; how many records and acknowledgements were checked.
    pub(super) fn check(&mut self, look: &Look<'_>, rng: &mut Rng) -> (u64, u64) {
        let last = look.last.0;
        if let Some(shown) = self.shown {
            assert_eq!(last, shown, "I8: what was shown once is shown again");
        }
        assert!(last >= self.last(), "I1: {} records were found, {last} are left", self.last());
        self.shown = Some(last);

        let before = self.last();
        self.take_in((look.records_from)(Lsn(before + 1)));
        assert_eq!(self.last(), last, "I2: the records end where the log says that it ends");
        for _ in 0..before.min(4) {
            let lsn = Lsn(1 + rng.below(before));
            let record = (look.read)(lsn).unwrap_or_else(|| panic!("I1: LSN {lsn} was found before"));
            assert_eq!(Stamp::of(&record.payload), self.stamp_at(lsn.0), "I7: LSN {lsn}");
        }
        (last - before, self.settle())
    }

    /// Reads everything again and compares.
    pub(super) fn check_all(&mut self, records: braidlog::Records) {
        let found = std::mem::take(&mut self.found);
        self.latest.clear();
        self.take_in(records);
        assert!(self.found == found, "I8: a second reading of everything shows the same");
    }

    /// Appends new records to what was found.
    fn take_in(&mut self, records: braidlog::Records) {
        for record in records {
            let record = record.unwrap_or_else(|error| panic!("I12: nothing is damaged: {error}"));
            let lsn = self.last() + 1;
            assert_eq!(record.lsn.0, lsn, "I2: LSNs are dense");
            let stamp = Stamp::of(&record.payload);
            self.check_begun(lsn, stamp);
            self.check_order(lsn, stamp);
            self.found.push(stamp);
        }
        if let Some(stamp) = self.found.last() {
            assert_eq!(stamp.index + 1, stamp.count, "I5: the last batch is whole");
        }
    }

    fn check_begun(&self, lsn: u64, stamp: Stamp) {
        let told = &self.lives.get((stamp.writer / WRITERS_MAX) as usize);
        let operation = told.and_then(|told| {
            let writer = told.writers.get((stamp.writer % WRITERS_MAX) as usize)?;
            writer.get(stamp.seq as usize)
        });
        let Some(&Operation { state, count }) = operation else {
            panic!("I3: {stamp:?} at LSN {lsn} was never begun");
        };
        assert_eq!(stamp.count, count, "I3: LSN {lsn} {stamp:?} was begun otherwise");
        match state {
            State::Begun => {}
            State::Refused => panic!("I4: LSN {lsn} {stamp:?} was refused"),
            State::Placed(first) | State::Durable(first) => {
                assert_eq!(lsn, first + u64::from(stamp.index), "I1: {stamp:?} was put elsewhere");
            }
        }
    }

    fn check_order(&mut self, lsn: u64, stamp: Stamp) {
        if stamp.index > 0 {
            let expected = Stamp { index: stamp.index - 1, ..stamp };
            assert_eq!(self.found.last(), Some(&expected), "I5: LSN {lsn} {stamp:?} stands inside its batch");
            return;
        }
        if let Some(before) = self.found.last() {
            assert_eq!(before.index + 1, before.count, "I5: {before:?} is cut off before LSN {lsn}");
            let (life, life_before) = (stamp.writer / WRITERS_MAX, before.writer / WRITERS_MAX);
            assert!(life >= life_before, "I4: LSN {lsn} {stamp:?} comes after a later process's records");
        }
        if let Some(seq) = self.latest.insert(stamp.writer, stamp.seq) {
            assert!(stamp.seq > seq, "I4: LSN {lsn} {stamp:?} comes after {seq}");
        }
    }

    /// Holds the answers of the lives that are new against what was found.
    fn settle(&mut self) -> u64 {
        let mut acknowledged = 0;
        for life in self.settled..self.lives.len() {
            let end = self.end_of(life);
            let told = &self.lives[life];
            for (writer, operations) in (0..).zip(&told.writers) {
                for (seq, operation) in (0..).zip(operations) {
                    let stamp = Stamp {
                        writer: stamp_writer(life as u32, writer),
                        seq,
                        index: 0,
                        count: operation.count,
                    };
                    acknowledged += self.settle_one(stamp, operation.state, told.recovered, end);
                }
            }
        }
        self.settled = self.lives.len();
        acknowledged
    }

    /// Where the records of a life end: where the next one that opened the log began.
    fn end_of(&self, life: usize) -> u64 {
        let mut later = self.lives[life + 1..].iter();
        later.find(|told| told.phase != Phase::Started).map_or(self.last(), |told| told.recovered)
    }

    /// How many acknowledged records were checked.
    fn settle_one(&self, stamp: Stamp, state: State, recovered: u64, end: u64) -> u64 {
        let (first, is_durable) = match state {
            State::Placed(first) => (first, false),
            State::Durable(first) => (first, true),
            State::Begun | State::Refused => return 0,
        };
        assert!(first > recovered, "I7: LSN {first} of {stamp:?} was recovered, and given out again");
        let last = first + u64::from(stamp.count) - 1;
        if is_durable {
            assert!(
                last <= end,
                "I1: LSN {first} to {last}, {stamp:?}, was acknowledged; the log ends at {end}"
            );
        }
        if first <= end {
            // It is there: what follows in the order that the log had given out is, up to the end.
            for index in 0..stamp.count {
                let stamp = Stamp { index, ..stamp };
                assert_eq!(self.stamp_at(first + u64::from(index)), stamp, "I1: LSN {first} + {index}");
            }
        }
        if is_durable { u64::from(stamp.count) } else { 0 }
    }

    fn stamp_at(&self, lsn: u64) -> Stamp {
        *self.found.get(lsn as usize - 1).unwrap_or_else(|| panic!("I5: LSN {lsn} is cut off its batch"))
    }
}

#[cfg(test)]
mod tests {
    //! Each lie that the log could tell, told by a log that is made for it.

    use std::sync::Arc;

    use braidlog::Wal;
    use braidlog_sim::SimDisk;

    use super::*;

    fn told(operations: &[State]) -> Told {
        let operations = operations.iter().map(|&state| Operation { state, count: 1 });
        Told { phase: Phase::Opened, incarnation: 1, recovered: 0, writers: vec![operations.collect()] }
    }

    /// Looks into a log that holds these records.
    fn look(known: &mut Known, records: &[Stamp]) {
        let wal = Wal::options().storage(Arc::new(SimDisk::new())).background_threads(false);
        let wal = wal.open("wal").unwrap();
        for stamp in records {
            wal.append(stamp.payload(100)).unwrap();
        }
        let look = Look {
            last: wal.last_lsn(),
            records_from: &|lsn| wal.iter(lsn..).unwrap(),
            read: &|lsn| wal.read(lsn).unwrap(),
        };
        known.check(&look, &mut Rng::new(0));
    }

    fn check(told: Told, records: &[Stamp]) {
        let mut known = Known::default();
        known.bury(told);
        look(&mut known, records);
    }

    #[test]
    fn an_honest_log_passes() {
        let states = [State::Durable(1), State::Refused, State::Placed(2), State::Begun, State::Placed(3)];
        check(told(&states), &[Stamp::single(0, 0), Stamp::single(0, 2)]);
    }

    #[test]
    #[should_panic(expected = "I1: LSN 2 to 2")]
    fn a_lost_acknowledgement_is_noticed() {
        check(told(&[State::Durable(1), State::Durable(2)]), &[Stamp::single(0, 0)]);
    }

    #[test]
    #[should_panic(expected = "I1: Stamp")]
    fn an_acknowledged_record_in_another_place_is_noticed() {
        check(told(&[State::Durable(2), State::Begun]), &[Stamp::single(0, 0), Stamp::single(0, 1)]);
    }

    #[test]
    #[should_panic(expected = "I3")]
    fn a_phantom_is_noticed() {
        check(told(&[State::Durable(1)]), &[Stamp::single(0, 0), Stamp::single(0, 1)]);
    }

    #[test]
    #[should_panic(expected = "I4")]
    fn a_refused_record_that_is_there_is_noticed() {
        check(told(&[State::Refused]), &[Stamp::single(0, 0)]);
    }

    #[test]
    #[should_panic(expected = "I4")]
    fn a_record_that_is_there_twice_is_noticed() {
        check(told(&[State::Begun, State::Begun]), &[Stamp::single(0, 1), Stamp::single(0, 1)]);
    }

    #[test]
    #[should_panic(expected = "I5")]
    fn half_a_batch_is_noticed() {
        let mut told = told(&[State::Begun]);
        told.writers[0][0].count = 2;
        check(told, &[Stamp { writer: 0, seq: 0, index: 0, count: 2 }]);
    }

    #[test]
    #[should_panic(expected = "I7")]
    fn an_lsn_that_is_given_out_again_is_noticed() {
        let mut known = Known::default();
        known.bury(told(&[State::Durable(1)]));
        known.bury(Told { incarnation: 2, recovered: 1, ..told(&[State::Placed(1)]) });
        look(&mut known, &[Stamp::single(0, 0)]);
    }

    #[test]
    #[should_panic(expected = "I8")]
    fn a_record_that_was_shown_and_is_gone_is_noticed() {
        let mut known = Known::default();
        known.bury(told(&[State::Begun]));
        look(&mut known, &[Stamp::single(0, 0)]);
        look(&mut known, &[]);
    }
}
