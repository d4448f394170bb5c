//! Records of a range: the log's history as it stands, or the effects that it has on a state.
//!
//! The rule: an effect is given once, in the order of the places at which effects are taken, and those of one transaction
//! together. A transaction that is not committed within the range has none.

use std::iter::FusedIterator;
use std::sync::Arc;

use braidlog_format::{Flags, Lsn};
use braidlog_storage::LogDir;

use crate::effects::{Delivery, Watched};
use crate::index::Indexes;
use crate::pins::Pin;
use crate::replay::History;
use crate::scan::Found;
use crate::{Loss, Progress, ReadAhead, Record, RecordRef, RecoveryError};

/// Bytes of records of open transactions that are held if nobody says otherwise.
const HELD_LEN: usize = 1 << 20;

/// Streams the records of an LSN range, in order, one open file at a time, with a buffer of about 1 MiB (more
/// only while a record is read that is larger).
///
/// As an [`Iterator`] it gives records with bytes of their own; [`Records::next_ref`] lends them from its
/// buffer. After an error it ends.
#[derive(Debug)]
pub struct Records {
    history: History,
    /// The transactions that are open, if effects are given; `None` for the history.
    effects: Option<Box<Watched>>,
    /// The stream whose records are given; `None` for all records.
    only: Option<u64>,
    /// The transaction that takes effect where the history was read last.
    delivery: Option<Box<Delivery>>,
}

impl Records {
    /// The history as it stands.
    pub(crate) fn new(history: History) -> Records {
        Records { history, effects: None, only: None, delivery: None }
    }

    /// Effects from `from` on, none of which may be shown yet: [`show`](Records::show) lets them.
    pub(crate) fn following(dir: &Arc<dyn LogDir>, indexes: &Arc<Indexes>, from: Lsn, pin: Pin) -> Records {
        Records::new(History::following(dir, indexes, from, pin)).effects()
    }

    /// Moves the end of the range on to `to`, which is durable by now.
    pub(crate) fn show(&mut self, to: Lsn) -> Result<(), RecoveryError> {
        self.history.show(to)
    }

    /// The last LSN of the range.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.history.last_lsn()
    }

    /// LSNs of the range that were given up, as far as the reader has come: they were passed over. Those for which a
    /// transaction takes no effect may lie before the range.
    pub fn losses(&self) -> &[Loss] {
        self.history.losses()
    }

    /// Lets other threads read and check ahead of this one, once the range has turned out to be long. Records
    /// and errors are the same.
    #[must_use]
    pub fn read_ahead(self, how: ReadAhead) -> Records {
        Records { history: self.history.read_ahead(how), ..self }
    }

    /// Gives what has an effect on an application's state, where it takes effect: the log's own entries are left out, and the
    /// records of a transaction that came one by one are given with its commit, together.
    #[must_use]
    pub fn effects(self) -> Records {
        self.effects_holding(HELD_LEN)
    }

    /// As [`effects`](Records::effects), and holds records of transactions that are open in so many bytes, so as not to read them
    /// twice.
    #[must_use]
    pub fn effects_holding(self, bytes: usize) -> Records {
        Records { effects: Some(Box::new(Watched::new(bytes))), ..self }
    }

    /// Of a range that is a TxPrepare alone: gives what takes effect if that transaction is committed.
    ///
    /// # Errors
    /// As [`next_ref`](Records::next_ref).
    pub fn of_prepared(mut self) -> Result<Records, RecoveryError> {
        let delivery = Delivery::of_prepared(&mut self.history)?.map(Box::new);
        Ok(Records { delivery, ..self.effects() })
    }

    /// Gives only the records of the stream with this number.
    #[must_use]
    pub fn of_stream(self, id: u64) -> Records {
        Records { only: Some(id), ..self }
    }

    /// Tells how far it has come, about once for each MiB and at the end.
    #[must_use]
    pub fn progress(self, how: Progress) -> Records {
        Records { history: self.history.progress(how), ..self }
    }

    /// The last LSN up to which all was given: the record that was given last, or the last LSN behind it that has no effect or
    /// was given up; before the first one, the one before the range; within a transaction, the one before its commit. Who has
    /// applied what was given goes on behind it another time, and gets each effect once but for those of a transaction of
    /// which he had a part.
    pub fn applied_to(&self) -> Lsn {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("transaction_applied_with_its_first_record") {
            return self.history.applied_to();
        }
        match &self.delivery {
            Some(delivery) if !delivery.is_over() => delivery.at().prev(),
            _ => self.history.applied_to(),
        }
    }

    /// Bytes of segments that were read, headers of entries included.
    pub fn passed_bytes(&self) -> u64 {
        self.history.passed_bytes()
    }

    /// The next record, in this iterator's buffer; `None` at the end of the range and after an error.
    ///
    /// # Errors
    /// What stands between here and the next record: see [`RecoveryError`].
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecoveryError>> {
        match self.find_next() {
            Ok(Some(found)) => Some(Ok(self.lend(&found))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Goes to the next record; `None` as [`next_ref`](Records::next_ref).
    #[inline]
    pub(crate) fn find_next(&mut self) -> Result<Option<Found>, RecoveryError> {
        loop {
            let found = self.find_any()?;
            match (self.only, &found) {
                (Some(id), Some(found)) if self.lend(found).fields.stream() != Some(id) => {}
                _ => return Ok(found),
            }
        }
    }

    /// As `find_next`, whatever stream it is of.
    #[inline]
    fn find_any(&mut self) -> Result<Option<Found>, RecoveryError> {
        let quickly = if self.delivery.is_none() { self.history.advance_quickly() } else { None };
        match quickly {
            // One without fields belongs to no transaction.
            Some(found) if !(self.effects.is_some() && found.header.flags.contains(Flags::EXTENDED)) => {
                Ok(Some(found))
            }
            Some(found) if !self.history.lend(&found).fields.provisional() => Ok(Some(found)),
            quickly => self.advance(quickly),
        }
    }

    /// The record that was found last.
    #[inline]
    pub(crate) fn lend(&self, found: &Found) -> RecordRef<'_> {
        match &self.delivery {
            None => self.history.lend(found),
            Some(delivery) => delivery.lend(found),
        }
    }

    /// The next record, wherever it is, from `found` on, which was found in the history and may have to wait.
    #[cold]
    #[inline(never)]
    fn advance(&mut self, found: Option<Found>) -> Result<Option<Found>, RecoveryError> {
        if self.effects.is_none() {
            return self.history.advance();
        }
        let advanced = self.look_for_effect(found);
        if advanced.is_err() {
            self.delivery = None;
            self.history.end();
        }
        advanced
    }

    fn look_for_effect(&mut self, mut found: Option<Found>) -> Result<Option<Found>, RecoveryError> {
        loop {
            if let Some(delivery) = &mut self.delivery {
                if let Some(found) = delivery.find_next()? {
                    return Ok(Some(found));
                }
                self.delivery = None;
            }
            let found = match found.take() {
                Some(found) => found,
                None => match self.history.find_next()? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
            let record = self.history.lend(&found);
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("marks_given_as_records") {
                return Ok(Some(found));
            }
            if record.kind.is_user() && !record.fields.provisional() {
                return Ok(Some(found));
            }
            #[cfg(braidlog_sabotage)]
            if record.kind.is_user() && braidlog_sabotage::is("provisional_record_given_at_its_place") {
                return Ok(Some(found));
            }
            if let Some(watched) = &mut self.effects {
                self.delivery = watched.take_in(&mut self.history, &found)?.map(Box::new);
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().map(|record| record.map(|record| record.to_owned()))
    }
}

impl FusedIterator for Records {}
