//! Records from the last to the first, piece by piece.
//!
//! The rule: every record is read forward, with all that [`History`] checks, and then given backward. A piece is what lies
//! between two points of an index, so memory is bounded as for one record; it ends with the first record of the next piece,
//! so that the seam between two segments is checked as it is forward.

use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

use braidlog_format::{FieldsRef, IndexPoint, Kind, Lsn};
use braidlog_storage::LogDir;

use crate::index::Indexes;
use crate::pins::Pin;
use crate::replay::History;
use crate::{Loss, Record, RecordRef, RecoveryError};

/// Bytes of a piece that are worth to open a file for.
const PIECE_LEN: u64 = 128 << 10;

/// The records of an LSN range from the last to the first, with a buffer of what lies between two points of a segment's
/// index. In a segment without one, the first look for it reads the headers of all entries before.
///
/// As an [`Iterator`] it gives records with bytes of their own; [`ReverseRecords::next_ref`] lends them. After an
/// error it ends. A damaged payload hides no record behind it; of what stands behind a damaged header, nothing up to the next
/// place that the index knows is given.
#[derive(Debug)]
pub struct ReverseRecords {
    dir: Arc<dyn LogDir>,
    indexes: Arc<Indexes>,
    bases: Arc<[Lsn]>,
    /// The first record of the range.
    from: Lsn,
    /// The last record that was not read yet.
    to: Lsn,
    /// The last record of the range.
    last: Lsn,
    piece: Piece,
    /// What ends the range below the piece.
    error: Option<RecoveryError>,
    /// What was given up and passed over.
    losses: Vec<Loss>,
    /// Keeps the range from a truncation by this process.
    _pin: Option<Pin>,
}

/// Records that were read and not given yet.
#[derive(Debug, Default)]
struct Piece {
    /// In LSN order; given from the end.
    records: Vec<Kept>,
    payloads: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    lsn: Lsn,
    timestamp_ns: u64,
    kind: Kind,
    batch_continues: bool,
    /// Where its fields lie among the piece's payloads.
    fields: Range<usize>,
    /// Where its payload lies there.
    payload: Range<usize>,
}

impl ReverseRecords {
    /// The records from `to` to `from`, all of which are visible; `pin` stands at `from`.
    pub(crate) fn new(
        dir: &Arc<dyn LogDir>,
        indexes: &Arc<Indexes>,
        bases: Arc<[Lsn]>,
        from: Lsn,
        to: Lsn,
        pin: Option<Pin>,
    ) -> ReverseRecords {
        ReverseRecords {
            dir: Arc::clone(dir),
            indexes: Arc::clone(indexes),
            bases,
            from: from.max(Lsn::FIRST),
            to,
            last: to,
            piece: Piece::default(),
            error: None,
            losses: Vec::new(),
            _pin: pin,
        }
    }

    /// The record before the one that was given last, in this iterator's buffer; `None` before the first of the range and
    /// after an error.
    ///
    /// # Errors
    /// What stands between here and that record: see [`RecoveryError`].
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecoveryError>> {
        while self.piece.records.is_empty() {
            if let Some(error) = self.error.take() {
                self.to = Lsn::ZERO;
                return Some(Err(error));
            }
            if self.to < self.from {
                return None;
            }
            self.read_piece();
        }
        let Kept { lsn, timestamp_ns, kind, batch_continues, fields, payload } = self.piece.records.pop()?;
        let fields = FieldsRef::of_bytes(self.piece.payloads.get(fields).unwrap_or(&[]));
        let payload = self.piece.payloads.get(payload).unwrap_or(&[]);
        Some(Ok(RecordRef { lsn, effective_at: lsn, timestamp_ns, kind, batch_continues, fields, payload }))
    }

    /// LSNs of the range that were given up, as far as this has read, from the last to the first.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Reads the piece that ends with `to`, or as much of it as can be read from its end on.
    fn read_piece(&mut self) {
        let begin = self.begin_of(self.to).max(self.from);
        let mut from = begin;
        while let Err(error) = self.read(from) {
            // A record that cannot be read hides none behind it, if the scan comes past it.
            let next = match &error {
                RecoveryError::Damaged(damage) if damage.lsns.first >= from => damage.lsns.first.next(),
                _ => Lsn::MAX,
            };
            self.error = Some(error);
            from = next;
            if from > self.to {
                self.piece = Piece::default();
                break;
            }
        }
        self.to = begin.prev();
    }

    /// Reads the records from `from` to `to`, and the next one to see that it follows.
    fn read(&mut self, from: Lsn) -> Result<(), RecoveryError> {
        self.piece.records.clear();
        self.piece.payloads.clear();
        let next = self.to.next();
        let is_seam = next <= self.last && self.bases.binary_search(&next).is_ok();
        let mut records = self.records(from, if is_seam { next } else { self.to });
        while let Some(found) = records.find_next()? {
            let RecordRef { lsn, timestamp_ns, kind, batch_continues, fields, payload, .. } =
                records.lend(&found);
            if lsn <= self.to {
                let begin = self.piece.payloads.len();
                self.piece.payloads.extend_from_slice(fields.as_bytes());
                let fields = begin..self.piece.payloads.len();
                self.piece.payloads.extend_from_slice(payload);
                let payload = fields.end..self.piece.payloads.len();
                self.piece.records.push(Kept { lsn, timestamp_ns, kind, batch_continues, fields, payload });
            }
        }
        for loss in records.losses().iter().rev() {
            // The seam may show one that the piece behind it has shown.
            if !self.losses.contains(loss) {
                self.losses.push(loss.clone());
            }
        }
        Ok(())
    }

    /// Where a piece that ends with this record begins: at a place before it that an index knows.
    fn begin_of(&self, lsn: Lsn) -> Lsn {
        let behind = self.bases.partition_point(|&base| base <= lsn);
        let Some(&base) = behind.checked_sub(1).and_then(|index| self.bases.get(index)) else { return lsn };
        if self.indexes.place_of(base, lsn).is_none() {
            // A look for the record makes the index known. What is wrong is told when the piece is read.
            let _ = self.records(lsn, lsn).find_next();
        }
        let Some(mut begin) = self.indexes.point_before(base, lsn) else { return base };
        let to = self.indexes.place_of(base, lsn).map_or(begin.offset, |place| place.to);
        let len = |from: IndexPoint| to.saturating_sub(from.offset);
        // Points that are close to one another make one piece.
        while len(begin) < PIECE_LEN && begin.lsn > base {
            let before = self.indexes.point_before(base, begin.lsn.prev());
            let Some(before) =
                before.filter(|before| before.lsn < begin.lsn && len(*before) <= 2 * PIECE_LEN)
            else {
                break;
            };
            begin = before;
        }
        begin.lsn.max(base)
    }

    fn records(&self, from: Lsn, to: Lsn) -> History {
        History::new(&self.dir, &self.indexes, Arc::clone(&self.bases), from, to, None)
    }
}

impl Iterator for ReverseRecords {
    type Item = Result<Record, RecoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().map(|record| record.map(|record| record.to_owned()))
    }
}

impl FusedIterator for ReverseRecords {}
