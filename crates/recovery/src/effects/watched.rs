//! Transactions that are open where a reader stands: what it has seen of each, and the records of the small ones.
//!
//! The rule: this saves reading and decides nothing. What is held is what would be read again; a transaction that was not seen
//! from its begin, that is too large, or of which anything is missing is read again.

use std::collections::HashMap;

use braidlog_format::{FieldsRef, Kind, Lsn, TxAbort, TxBegin, TxGoBack, TxId, TxPrepare};

use super::{Delivery, Ending, GoneBack, damaged};
use crate::replay::History;
use crate::scan::Found;
use crate::{DamageCause, RecordRef, RecoveryError};

/// The most transactions that are watched; others are read again when they end.
const WATCHED_MAX: usize = 4096;
/// One transaction holds at most this part of the memory for all.
const PART_OF_ONE: usize = 4;

/// The transactions that are open.
#[derive(Debug)]
pub(crate) struct Watched {
    open: HashMap<TxId, Open>,
    /// Bytes of records that are held.
    held: usize,
    /// As many of them as may be held.
    held_max: usize,
    /// The opening to which the last transaction belongs that began.
    opening: u64,
}

/// What was seen of an open transaction.
#[derive(Debug)]
pub(super) struct Open {
    begin: Lsn,
    /// Entries behind the begin.
    entries: u64,
    /// As many as there must be, by its TxPrepare.
    prepared: Option<u64>,
    /// The last record that takes effect, or the begin.
    pub(super) last: Lsn,
    pub(super) gone_back: GoneBack,
    /// Its records that take effect; `None` if they are too large.
    pub(super) held: Option<Held>,
}

impl Watched {
    /// None yet; so many bytes of records may be held.
    pub(crate) fn new(held_max: usize) -> Watched {
        // What is held in vectors that grow takes up to twice its bytes.
        Watched { open: HashMap::new(), held: 0, held_max: held_max / 2, opening: 0 }
    }

    /// Takes in the entry that was found last in `history`: a provisional record or one of the log's own. Gives what takes effect
    /// with it.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] for a mark that is none, or that commits what is not complete; what stands between begin and end
    /// of a transaction that is read again.
    pub(crate) fn take_in(
        &mut self,
        history: &mut History,
        found: &Found,
    ) -> Result<Option<Delivery>, RecoveryError> {
        let record = history.lend(found);
        let noted = match record.kind {
            kind if kind.is_user() => {
                self.record(found, &record);
                return Ok(None);
            }
            kind if Ending::is_by(kind) => {
                let Some(ending) = Ending::of(history, found)? else { return Ok(None) };
                let seen = self.end(ending.transaction);
                if !ending.takes_effect {
                    return Ok(None);
                }
                let complete = seen.filter(|seen| {
                    seen.begin == ending.begin && ending.entries.or(seen.prepared) == Some(seen.entries)
                });
                return Delivery::of(history, found, &ending, complete);
            }
            Kind::TX_BEGIN => {
                TxBegin::decode(record.payload).map(|mark| self.begin(mark.transaction, record.lsn))
            }
            Kind::TX_GO_BACK => TxGoBack::decode(record.payload).map(|mark| self.go_back(mark, record.lsn)),
            Kind::TX_PREPARE => TxPrepare::decode(record.payload).map(|mark| {
                if let Some(open) = self.open.get_mut(&mark.transaction) {
                    open.prepared = Some(mark.entries);
                }
            }),
            Kind::TX_ABORT => TxAbort::decode(record.payload).map(|mark| drop(self.end(mark.transaction))),
            _ => return Ok(None),
        };
        noted.map_err(|error| damaged(history, found, DamageCause::Entry(error)))?;
        Ok(None)
    }

    fn begin(&mut self, transaction: TxId, begin: Lsn) {
        if transaction.opening().0 > self.opening {
            // Of those that an earlier opening began only the prepared ones can still take effect.
            self.opening = transaction.opening().0;
            self.open.retain(|_, open| open.prepared.is_some());
            self.held = self.open.values().flat_map(|open| &open.held).map(Held::bytes).sum();
        }
        if self.open.len() < WATCHED_MAX {
            let (gone_back, held) = (GoneBack::default(), Some(Held::default()));
            self.open.insert(
                transaction,
                Open { begin, entries: 0, prepared: None, last: begin, gone_back, held },
            );
        }
    }

    fn record(&mut self, found: &Found, record: &RecordRef<'_>) {
        let Some(open) = record.fields.transaction().and_then(|id| self.open.get_mut(&id)) else { return };
        open.entries += 1;
        open.last = record.lsn;
        let Some(held) = &mut open.held else { return };
        let bytes = Held::bytes_of(record);
        let of_it = held.bytes() + bytes;
        if of_it > self.held_max / PART_OF_ONE || self.held + bytes > self.held_max {
            self.held -= held.bytes();
            open.held = None;
        } else {
            held.push(found, record);
            self.held += bytes;
        }
    }

    fn go_back(&mut self, mark: TxGoBack, lsn: Lsn) {
        let Some(open) = self.open.get_mut(&mark.transaction) else { return };
        open.entries += 1;
        open.last = mark.to;
        open.gone_back.go_back(mark.to, lsn);
        if let Some(held) = &mut open.held {
            self.held -= held.bytes();
            held.go_back(mark.to);
            self.held += held.bytes();
        }
    }

    fn end(&mut self, transaction: TxId) -> Option<Open> {
        let ended = self.open.remove(&transaction)?;
        self.held -= ended.held.as_ref().map_or(0, Held::bytes);
        Some(ended)
    }
}

/// Records of one transaction, in LSN order.
#[derive(Debug, Default)]
pub(super) struct Held {
    heads: Vec<Head>,
    /// Their fields and payloads, one behind the other.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Head {
    found: Found,
    /// Where its payload begins and ends; its fields begin where the record before it ends.
    payload_at: usize,
    end: usize,
}

impl Held {
    fn bytes_of(record: &RecordRef<'_>) -> usize {
        size_of::<Head>() + record.fields.as_bytes().len() + record.payload.len()
    }

    fn bytes(&self) -> usize {
        self.heads.len() * size_of::<Head>() + self.bytes.len()
    }

    fn push(&mut self, found: &Found, record: &RecordRef<'_>) {
        self.bytes.extend_from_slice(record.fields.as_bytes());
        let payload_at = self.bytes.len();
        self.bytes.extend_from_slice(record.payload);
        self.heads.push(Head { found: *found, payload_at, end: self.bytes.len() });
    }

    /// Forgets the records behind the one with this LSN.
    fn go_back(&mut self, to: Lsn) {
        self.heads.truncate(self.heads.partition_point(|head| head.found.header.lsn <= to));
        self.bytes.truncate(self.heads.last().map_or(0, |head| head.end));
    }

    /// The entry of the record at this place.
    pub(super) fn found(&self, place: usize) -> Option<Found> {
        self.heads.get(place).map(|head| head.found)
    }

    /// Fields and payload of the record at this place.
    pub(super) fn content(&self, place: usize) -> Option<(FieldsRef<'_>, &[u8])> {
        let head = self.heads.get(place)?;
        let from = place.checked_sub(1).and_then(|before| self.heads.get(before)).map_or(0, |head| head.end);
        let fields = FieldsRef::of_bytes(self.bytes.get(from..head.payload_at)?);
        Some((fields, self.bytes.get(head.payload_at..head.end)?))
    }
}
