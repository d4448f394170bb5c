//! A transaction whose records came one by one, given where it takes effect.
//!
//! The rule: all of it is there, or none of it is given. Its commit says how many entries it has; they are counted before the first
//! record is given. If one was given up with others that were lost, the transaction takes no effect, and the loss is told.
//!
//! # How
//! What lies between its begin and its end is read again, twice: first for where it went back to a point and for the count,
//! then for the records. So it takes the memory of one more reader however large the transaction is, and 16 bytes for each time
//! that it went back and on.

use braidlog_format::{Kind, Lsn, LsnRange, TxCommit, TxDecision, TxGoBack, TxId, TxPrepare};

use crate::replay::History;
use crate::scan::Found;
use crate::{DamageCause, RecordRef, RecoveryError};

/// The end of a transaction that takes effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    transaction: TxId,
    begin: Lsn,
    /// How many entries it has behind its begin; `None` if its TxPrepare says it.
    entries: Option<u64>,
    /// Where it takes effect.
    at: Lsn,
}

impl Ending {
    /// What the entry that was found last in `history`, a mark, ends; `None` if that takes no effect, or did so already.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] for a mark that is none.
    pub(crate) fn of(history: &History, found: &Found) -> Result<Option<Ending>, RecoveryError> {
        let RecordRef { lsn: at, kind, payload, .. } = history.lend(found);
        let ending = match kind {
            Kind::TX_COMMIT => TxCommit::decode(payload).map(|commit| {
                let TxCommit { transaction, begin, entries } = commit;
                // Of one batch: its records stand behind the mark.
                begin.map(|begin| Ending { transaction, begin, entries: Some(entries), at })
            }),
            Kind::TX_DECISION => TxDecision::decode(payload).map(|decision| {
                let TxDecision { transaction, begin, commit } = decision;
                commit.then_some(Ending { transaction, begin, entries: None, at })
            }),
            #[cfg(braidlog_sabotage)]
            Kind::TX_PREPARE if braidlog_sabotage::is("prepared_takes_effect_undecided") => {
                TxPrepare::decode(payload).map(|prepared| {
                    let TxPrepare { transaction, begin, entries, .. } = prepared;
                    Some(Ending { transaction, begin, entries: Some(entries), at })
                })
            }
            _ => return Ok(None),
        };
        let ending = ending.map_err(|error| damaged(history, found, DamageCause::Entry(error)))?;
        match ending {
            Some(ending) if ending.begin >= at => {
                let error = braidlog_format::DecodeError::InvalidField { field: "begin LSN" };
                Err(damaged(history, found, DamageCause::Entry(error)))
            }
            ending => Ok(ending),
        }
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
    history: History,
    transaction: TxId,
    /// Where it takes effect.
    at: Lsn,
    gone_back: GoneBack,
    /// The record that was given last, or the begin.
    given: Lsn,
    /// The last one to give.
    last: Lsn,
}

impl Delivery {
    /// What takes effect with the mark that was found last in `history`; `None` if nothing does.
    ///
    /// # Errors
    /// As [`Ending::of`], and [`RecoveryError::Damaged`] if the transaction is not complete; what stands between its begin and
    /// its end.
    pub(crate) fn of(history: &mut History, found: &Found) -> Result<Option<Delivery>, RecoveryError> {
        let Some(ending) = Ending::of(history, found)? else { return Ok(None) };
        let Ending { transaction, begin, at, .. } = ending;
        let mut between = history.again(begin, at.prev())?;
        let Some(counted) = Counted::of(&ending, &mut between)? else {
            if between.losses().is_empty() {
                return Err(damaged(history, found, DamageCause::TransactionIncomplete));
            }
            history.tell_losses(between.losses());
            return Ok(None);
        };
        let Counted { gone_back, last } = counted;
        if last <= begin {
            return Ok(None);
        }
        let history = history.again(begin, last)?;
        Ok(Some(Delivery { history, transaction, at, gone_back, given: begin, last }))
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
        while !self.is_over() {
            let Some(found) = self.history.find_next()? else { break };
            let record = self.history.lend(&found);
            if is_of(&record, self.transaction) && !self.gone_back.passes(record.lsn) {
                self.given = record.lsn;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record that was found last.
    pub(crate) fn lend(&self, found: &Found) -> RecordRef<'_> {
        let batch_continues = !self.is_over();
        RecordRef { effective_at: self.at, batch_continues, ..self.history.lend(found) }
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
    /// Reads what lies between begin and end; `None` if entries are missing.
    fn of(ending: &Ending, between: &mut History) -> Result<Option<Counted>, RecoveryError> {
        let Ending { transaction, begin, mut entries, .. } = *ending;
        let mut counted = Counted { gone_back: GoneBack::default(), last: begin };
        let mut count = 0;
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
                Kind::TX_PREPARE => TxPrepare::decode(record.payload).map(|mark| {
                    if mark.transaction == transaction {
                        entries = entries.or(Some(mark.entries));
                    }
                }),
                _ => Ok(()),
            };
            noted.map_err(|error| damaged(between, &found, DamageCause::Entry(error)))?;
        }
        Ok((entries == Some(count)).then_some(counted))
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
