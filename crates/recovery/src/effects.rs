//! A transaction whose records came one by one, given where it takes effect.
//!
//! The rule: all of it is there, or none of it is given. Its commit says how many entries it has; they are counted before the first
//! record is given. If one was given up with others that were lost, the transaction takes no effect, and the loss is told.
//!
//! # How
//! The records of a small transaction that was seen from its begin are held in memory until then ([`watched`]). Otherwise what lies
//! between its begin and its end is read again: first, unless that was seen, for where it went back to a point and for the count,
//! then for the records. So it takes the memory of one more reader however large the transaction is, and 16 bytes for each time
//! that it went back and on.

mod watched;

use braidlog_format::{
    DecodeError, Kind, Lsn, LsnRange, TxBegin, TxCommit, TxDecision, TxGoBack, TxId, TxPrepare,
};

use crate::replay::History;
use crate::scan::Found;
use crate::{DamageCause, RecordRef, RecoveryError};

pub(crate) use self::watched::Watched;
use self::watched::{Held, Open};

/// The end of a transaction whose records came one by one.
#[derive(Clone, Copy, Debug)]
struct Ending {
    transaction: TxId,
    begin: Lsn,
    /// How many entries it has behind its begin; `None` if its TxPrepare says it.
    entries: Option<u64>,
    takes_effect: bool,
}

impl Ending {
    /// Whether entries of this kind may end a transaction with effect.
    fn is_by(kind: Kind) -> bool {
        #[cfg(braidlog_sabotage)]
        if kind == Kind::TX_PREPARE && braidlog_sabotage::is("prepared_takes_effect_undecided") {
            return true;
        }
        matches!(kind, Kind::TX_COMMIT | Kind::TX_DECISION)
    }

    /// What the entry that was found last in `history`, a commit or a decision, ends; `None` if its records stand behind it.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] for a mark that is none.
    fn of(history: &History, found: &Found) -> Result<Option<Ending>, RecoveryError> {
        let RecordRef { lsn, kind, payload, .. } = history.lend(found);
        #[cfg(braidlog_sabotage)]
        if kind == Kind::TX_PREPARE {
            let prepared = TxPrepare::decode(payload);
            return Ok(prepared.ok().map(|TxPrepare { transaction, begin, entries, .. }| Ending {
                transaction,
                begin,
                entries: Some(entries),
                takes_effect: true,
            }));
        }
        let ending = if kind == Kind::TX_COMMIT {
            TxCommit::decode(payload).map(|commit| {
                let TxCommit { transaction, begin, entries } = commit;
                begin.map(|begin| Ending { transaction, begin, entries: Some(entries), takes_effect: true })
            })
        } else {
            TxDecision::decode(payload).map(|decision| {
                let TxDecision { transaction, begin, commit } = decision;
                Some(Ending { transaction, begin, entries: None, takes_effect: commit })
            })
        };
        let ending = ending.and_then(|ending| match ending {
            Some(Ending { begin, .. }) if begin >= lsn => {
                Err(DecodeError::InvalidField { field: "begin LSN" })
            }
            ending => Ok(ending),
        });
        ending.map_err(|error| damaged(history, found, DamageCause::Entry(error)))
    }
}

/// That an entry is not what its log vouches for.
fn damaged(history: &History, found: &Found, cause: DamageCause) -> RecoveryError {
    let lsn = found.header.lsn;
    RecoveryError::damaged(history.file(), found.offset, LsnRange { first: lsn, last: lsn }, cause)
}

/// The records of a transaction that take effect, in LSN order.
#[derive(Debug)]
pub(crate) struct Delivery {
    source: Source,
    /// Where it takes effect.
    at: Lsn,
    /// The record that was given last, or the begin.
    given: Lsn,
    /// The last one to give.
    last: Lsn,
    /// The file and the offset of the mark, for what is wrong with it.
    mark: (String, u64),
}

/// Where the records come from.
#[derive(Debug)]
enum Source {
    /// They were held; so many of them were given.
    Held(Held, usize),
    /// They are read again.
    Log { history: Box<History>, transaction: TxId, gone_back: GoneBack },
}

impl Delivery {
    /// What takes effect with the mark that was found last in `history`; `None` if nothing does. `seen` is all of the
    /// transaction, if it was seen from its begin and is complete.
    fn of(
        history: &mut History,
        found: &Found,
        ending: &Ending,
        seen: Option<Open>,
    ) -> Result<Option<Delivery>, RecoveryError> {
        let (at, begin, transaction) = (found.header.lsn, ending.begin, ending.transaction);
        let (gone_back, last, held) = match seen {
            Some(Open { gone_back, last, held, .. }) => (gone_back, last, held),
            None => {
                let mut between = history.again(begin, at.prev())?;
                match Counted::of(ending, &mut between)? {
                    Some(Counted { gone_back, last }) => (gone_back, last, None),
                    None if between.losses().is_empty() => {
                        return Err(damaged(history, found, DamageCause::TransactionIncomplete));
                    }
                    None => {
                        history.tell_losses(between.losses());
                        return Ok(None);
                    }
                }
            }
        };
        if last <= begin {
            return Ok(None);
        }
        let file = history.file().to_owned();
        let source = match held {
            Some(held) => Source::Held(held, 0),
            None => Source::Log { history: Box::new(history.again(begin, last)?), transaction, gone_back },
        };
        let mark = (file, found.offset);
        Ok(Some(Delivery { source, at, given: begin, last, mark }))
    }

    /// What would take effect with the TxPrepare at which `history` stands; `None` if nothing would.
    ///
    /// # Errors
    /// As for the decision that commits it.
    pub(crate) fn of_prepared(history: &mut History) -> Result<Option<Delivery>, RecoveryError> {
        let found = history.find_next()?.filter(|found| found.header.kind == Kind::TX_PREPARE);
        let Some(found) = found else { return Ok(None) };
        let prepared = TxPrepare::decode(history.lend(&found).payload);
        let ending = prepared.map(|TxPrepare { transaction, begin, entries, .. }| Ending {
            transaction,
            begin,
            entries: Some(entries),
            takes_effect: true,
        });
        let ending = ending.map_err(|error| damaged(history, &found, DamageCause::Entry(error)))?;
        Delivery::of(history, &found, &ending, None)
    }

    /// Where it takes effect.
    pub(crate) fn at(&self) -> Lsn {
        self.at
    }

    /// Whether all was given.
    pub(crate) fn is_over(&self) -> bool {
        self.given >= self.last
    }

    /// Goes to the next record; `None` if all were given.
    pub(crate) fn find_next(&mut self) -> Result<Option<Found>, RecoveryError> {
        let found = match &mut self.source {
            _ if self.given >= self.last => None,
            Source::Held(held, given) => {
                *given += 1;
                held.found(*given - 1)
            }
            Source::Log { history, transaction, gone_back } => loop {
                let Some(found) = history.find_next()? else { break None };
                let record = history.lend(&found);
                if is_of(&record, *transaction) && !gone_back.passes(record.lsn) {
                    break Some(found);
                }
            },
        };
        match found {
            Some(found) => self.given = found.header.lsn,
            None if self.is_over() => {}
            // All entries are there, and a mark of going back names none of them.
            None => {
                let (file, offset) = &self.mark;
                let lsns = LsnRange { first: self.at, last: self.at };
                let cause = DamageCause::TransactionIncomplete;
                return Err(RecoveryError::damaged(file, *offset, lsns, cause));
            }
        }
        Ok(found)
    }

    /// The record that was found last.
    pub(crate) fn lend(&self, found: &Found) -> RecordRef<'_> {
        let record = match &self.source {
            Source::Held(held, given) => {
                let content = given.checked_sub(1).and_then(|place| held.content(place));
                let (fields, payload) = content.unwrap_or_default();
                RecordRef::new(&found.header, fields, payload)
            }
            Source::Log { history, .. } => history.lend(found),
        };
        RecordRef { effective_at: self.at, batch_continues: !self.is_over(), ..record }
    }
}

/// Whether it is a record that takes effect with this transaction.
fn is_of(record: &RecordRef<'_>, transaction: TxId) -> bool {
    record.kind.is_user() && record.fields.provisional() && record.fields.transaction() == Some(transaction)
}

/// What is known of a transaction when it was read once.
#[derive(Debug)]
struct Counted {
    gone_back: GoneBack,
    /// The last of its records that takes effect, or its begin.
    last: Lsn,
}

impl Counted {
    /// Reads what lies from begin to end; `None` if entries are missing, the begin among them.
    fn of(ending: &Ending, between: &mut History) -> Result<Option<Counted>, RecoveryError> {
        let Ending { transaction, begin, mut entries, .. } = *ending;
        let mut counted = Counted { gone_back: GoneBack::default(), last: begin };
        let (mut count, mut has_begun) = (0, false);
        while let Some(found) = between.find_next()? {
            let record = between.lend(&found);
            if record.kind.is_user() {
                if is_of(&record, transaction) {
                    count += 1;
                    counted.last = record.lsn;
                }
                continue;
            }
            let noted = match record.kind {
                Kind::TX_GO_BACK => TxGoBack::decode(record.payload).map(|mark| {
                    if mark.transaction == transaction {
                        count += 1;
                        counted.gone_back.go_back(mark.to, record.lsn);
                        counted.last = mark.to;
                    }
                }),
                Kind::TX_BEGIN if record.lsn == begin => {
                    TxBegin::decode(record.payload).map(|mark| has_begun = mark.transaction == transaction)
                }
                Kind::TX_PREPARE => TxPrepare::decode(record.payload).map(|mark| {
                    if mark.transaction == transaction {
                        entries = entries.or(Some(mark.entries));
                    }
                }),
                _ => Ok(()),
            };
            noted.map_err(|error| damaged(between, &found, DamageCause::Entry(error)))?;
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("incomplete_transaction_given") {
            return Ok(Some(counted));
        }
        Ok((has_begun && entries == Some(count)).then_some(counted))
    }
}

/// Where a transaction went back to a point inside it: what lies between takes no effect.
#[derive(Debug, Default)]
struct GoneBack {
    /// The entry gone back to and the mark that says so, of those that no later one goes back over, in order.
    ranges: Vec<(Lsn, Lsn)>,
    /// How many ranges lie before the last LSN that was asked for.
    passed: usize,
}

impl GoneBack {
    /// The mark `mark` goes back to `to`.
    fn go_back(&mut self, to: Lsn, mark: Lsn) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("going_back_in_a_transaction_ignored") {
            return;
        }
        while self.ranges.pop_if(|(earlier, _)| *earlier >= to).is_some() {}
        self.ranges.push((to, mark));
    }

    /// Whether the record with this LSN takes no effect. Asked for in LSN order.
    fn passes(&mut self, lsn: Lsn) -> bool {
        while self.ranges.get(self.passed).is_some_and(|&(_, mark)| mark < lsn) {
            self.passed += 1;
        }
        self.ranges.get(self.passed).is_some_and(|&(to, _)| to < lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gone_back_from_is_what_a_stack_forgets() {
        // Entries in order: a record, or how many records are left when it goes back. LSNs count from 2, behind the begin.
        let scripts: [&[Option<usize>]; 6] = [
            &[None, None, None],
            &[None, None, Some(1), None],
            &[None, Some(0), None, Some(0), None],
            &[None, None, None, Some(2), None, Some(1), None, None],
            &[None, None, Some(2), None, Some(2), Some(0)],
            &[None, None, Some(1), None, Some(1), None, Some(2), Some(1), None],
        ];
        for script in scripts {
            let (mut stack, mut gone_back) = (Vec::new(), GoneBack::default());
            for (lsn, entry) in (2..).map(Lsn).zip(script) {
                match entry {
                    None => stack.push(lsn),
                    &Some(left) => {
                        stack.truncate(left);
                        gone_back.go_back(stack.last().copied().unwrap_or(Lsn(1)), lsn);
                    }
                }
            }
            let records = (2..).map(Lsn).zip(script).filter(|(_, entry)| entry.is_none());
            let given: Vec<Lsn> = records.map(|(lsn, _)| lsn).filter(|&lsn| !gone_back.passes(lsn)).collect();
            assert_eq!(given, stack, "{script:?}");
            assert!(gone_back.ranges.is_sorted());
        }
    }
}
