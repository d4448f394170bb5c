//! What the lines fed to the command became, and what its log must show for it.
//!
//! Each line is its round, its number in the round, and bytes that nothing but those two and the seed decide, so
//! that a record proves itself. A check reads the whole log.
//!
//! # Invariants (as numbered in the proof plan)
//! I1, I2, I3, I4, I5, I7, I8: as [`LineOracle::check`] says.

use std::collections::{BTreeMap, HashSet};

use braidlog_sim::Rng;

use crate::command::Record;

/// One run of the command.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Lines in a batch.
    batch: u64,
    /// Lines that it may have taken.
    fed: u64,
    /// The last LSN that was found before it.
    found_before: u64,
}

/// A line: which run it was fed to, and its number there.
type Line = (u64, u64);

/// All that is known of one log.
#[derive(Debug)]
pub struct LineOracle {
    seed: u64,
    rounds: Vec<Round>,
    acknowledged: BTreeMap<u64, Line>,
    found: Vec<Line>,
}

/// The text of a line. Most are short, some are longer than a page, a few longer than a small segment.
pub fn text_of(seed: u64, round: u64, line: u64) -> String {
    let mut rng = Rng::new(seed ^ round << 40 ^ line);
    let filler = match rng.below(400) {
        0 => rng.below(90_000),
        1..9 => rng.below(10_000),
        _ => rng.below(300),
    };
    let mut text = format!("{round} {line} ");
    text.extend((0..filler).map(|_| char::from(b'!' + rng.below(90) as u8)));
    text
}

impl LineOracle {
    /// An empty log, whose lines are made from `seed`.
    pub fn new(seed: u64) -> LineOracle {
        LineOracle { seed, rounds: Vec::new(), acknowledged: BTreeMap::new(), found: Vec::new() }
    }

    /// What the lines are made from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A new run of the command with so many lines in a batch; its number. Its lines are [`text_of`] it.
    pub fn begin(&mut self, batch: u64) -> u64 {
        self.rounds.push(Round { batch, fed: 0, found_before: self.found.len() as u64 });
        self.rounds.len() as u64 - 1
    }

    /// The last run may have taken so many lines.
    ///
    /// # Panics
    /// If there was no run.
    pub fn fed(&mut self, lines: u64) {
        self.rounds.last_mut().expect("a run has begun").fed = lines;
    }

    /// The last run acknowledged a line.
    ///
    /// # Errors
    /// If it cannot have that LSN.
    ///
    /// # Panics
    /// If there was no run.
    pub fn acknowledge(&mut self, line: u64, lsn: u64) -> Result<(), String> {
        let round = self.rounds.len() as u64 - 1;
        let before = self.rounds.last().expect("a run has begun").found_before;
        if lsn <= before {
            return Err(format!("I7: LSN {lsn} was found before line {line} of run {round} got it"));
        }
        match self.acknowledged.insert(lsn, (round, line)) {
            None => Ok(()),
            Some(other) => Err(format!("I7: LSN {lsn} was given to {other:?} and to {:?}", (round, line))),
        }
    }

    /// How many lines were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// How many records the last check found.
    pub fn found(&self) -> u64 {
        self.found.len() as u64
    }

    /// Holds all records of the log against what is known.
    ///
    /// # Errors
    /// The first promise that is broken: I2 dense LSNs, I3 only what was fed, I4 each line once and runs in order,
    /// I5 batches whole, I1 each acknowledged line at its LSN, I8 what was found before is found again.
    pub fn check(&mut self, records: &[Record]) -> Result<(), String> {
        let mut found = Vec::new();
        // The line that must come next, inside a batch.
        let mut due: Option<Line> = None;
        for (lsn, record) in (1..).zip(records) {
            ensure(record.lsn == lsn, || format!("I2: LSN {} stands where {lsn} should", record.lsn))?;
            let (round, line) = self.identify(record)?;
            let batch = self.rounds[round as usize].batch;
            match due {
                Some(due) => ensure(due == (round, line), || {
                    format!("I5: LSN {lsn} is {:?}, inside a batch that goes on with {due:?}", (round, line))
                })?,
                None => ensure((line - 1) % batch == 0, || {
                    format!("I5: LSN {lsn}, {:?}, does not begin a batch", (round, line))
                })?,
            }
            due = (line % batch != 0).then_some((round, line + 1));
            let in_order = found.last().is_none_or(|&(before, _)| before <= round);
            ensure(in_order, || format!("I4: LSN {lsn} is of run {round}, after a later one"))?;
            found.push((round, line));
        }
        ensure(due.is_none(), || "I5: the last batch is not whole".to_string())?;
        let lines: HashSet<_> = found.iter().collect();
        ensure(lines.len() == found.len(), || "I4: a line is there twice".to_string())?;
        for (&lsn, line) in &self.acknowledged {
            ensure(found.get(lsn as usize - 1) == Some(line), || {
                format!("I1: LSN {lsn}, {line:?}, was acknowledged; the log ends at {}", found.len())
            })?;
        }
        let is_kept = found.starts_with(&self.found);
        ensure(is_kept, || format!("I8: {} records were found, now {}", self.found.len(), found.len()))?;
        self.found = found;
        Ok(())
    }

    /// The line that a record is.
    fn identify(&self, record: &Record) -> Result<Line, String> {
        let phantom = || format!("I3: LSN {} was never fed: {:.60}", record.lsn, record.payload);
        let mut words = record.payload.splitn(3, ' ').map(|word| word.parse().ok());
        let (Some(Some(round)), Some(Some(line))) = (words.next(), words.next()) else {
            return Err(phantom());
        };
        let was_fed = self.rounds.get(round as usize).is_some_and(|known| (1..=known.fed).contains(&line));
        ensure(was_fed && record.payload == text_of(self.seed, round, line), phantom)?;
        Ok((round, line))
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An oracle after one run of ten lines with these acknowledgements, and the log of these lines.
    fn check(batch: u64, acknowledged: &[(u64, u64)], lines: &[u64]) -> Result<(), String> {
        let mut oracle = LineOracle::new(7);
        oracle.begin(batch);
        oracle.fed(10);
        for &(line, lsn) in acknowledged {
            oracle.acknowledge(line, lsn)?;
        }
        let records = (1..).zip(lines).map(|(lsn, &line)| Record { lsn, payload: text_of(7, 0, line) });
        oracle.check(&records.collect::<Vec<_>>())
    }

    #[track_caller]
    fn broken(outcome: Result<(), String>, promise: &str) {
        let message = outcome.unwrap_err();
        assert!(message.starts_with(promise), "{message}");
    }

    #[test]
    fn an_honest_log_passes() {
        check(1, &[(2, 1), (1, 2)], &[2, 1, 5]).unwrap();
        check(2, &[(3, 1)], &[3, 4, 1, 2]).unwrap();
        check(1, &[], &[]).unwrap();
    }

    #[test]
    fn each_lie_is_noticed() {
        broken(check(1, &[(1, 1), (2, 2)], &[1]), "I1");
        broken(check(1, &[(1, 1)], &[2, 1]), "I1");
        broken(check(1, &[], &[11]), "I3");
        broken(check(1, &[], &[1, 1]), "I4");
        broken(check(2, &[], &[1, 2, 3]), "I5");
        broken(check(2, &[], &[1, 3]), "I5");
        broken(check(2, &[], &[2]), "I5");
        broken(check(1, &[(1, 1), (2, 1)], &[1]), "I7");
    }

    #[test]
    fn a_gap_and_a_loss_of_what_was_shown_are_noticed() {
        let mut oracle = LineOracle::new(7);
        oracle.begin(1);
        oracle.fed(10);
        let record = |lsn, line| Record { lsn, payload: text_of(7, 0, line) };
        oracle.check(&[record(1, 1), record(2, 2)]).unwrap();
        broken(oracle.check(&[record(1, 1)]), "I8");
        broken(oracle.check(&[record(1, 1), record(3, 2)]), "I2");
        oracle.begin(1);
        broken(oracle.acknowledge(1, 2), "I7");
    }
}
