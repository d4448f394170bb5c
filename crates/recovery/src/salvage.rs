//! The records of one segment file, whatever became of its log and of its header.
//!
//! The rule: a record is given only if it proves itself in its place, in a whole batch. Nothing else is asked: not the
//! file's name, not its header, not what stood before or behind it.

use std::sync::Arc;

use braidlog_format::{
    ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryHeader, Incarnation, LogId, Lsn, LsnRange, SEGMENT_HEADER_LEN, Salt,
};
use braidlog_storage::LogDir;

use crate::chain::{HeaderFound, header_in};
use crate::scan::{Scan, Step};
use crate::segment_file::base_of;
use crate::survey::{self, Piece};
use crate::window::{STREAM_LEN, Window};
use crate::{BoxError, Loss, Problem, RecordRef, RecoveryError, salt};

/// What was found in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The header of the file; `None` if it is lost.
    pub header: Option<SalvagedHeader>,
    /// The records that were given, as ranges of LSNs; what stands in [`losses`](SalvageReport::losses) counts too.
    pub found: Vec<LsnRange>,
    /// How many records they are.
    pub records: u64,
    /// Losses that the file records.
    pub losses: Vec<Loss>,
    /// Damaged places that were passed.
    pub problems: Vec<Problem>,
}

/// What the header of a file says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SalvagedHeader {
    /// The log to which it belongs.
    pub log_id: LogId,
    /// Its first LSN.
    pub base: Lsn,
    /// The opening that made it.
    pub incarnation: Incarnation,
}

/// Why a salvage ended early.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// Whoever takes the records could not take one.
    #[error("the record with LSN {lsn} could not be taken: {source}")]
    Application {
        /// Which one.
        lsn: Lsn,
        /// What was said.
        source: BoxError,
    },
    /// The file could not be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// Gives every record of the file `name` in `dir` that proves itself, in LSN order. Nothing is changed.
///
/// # Errors
/// [`RecoveryError::Foreign`] if nothing in it is a segment's, [`RecoveryError::Newer`], [`RecoveryError::Io`], and
/// [`RecoveryError::Damaged`] for a packed file in which nobody can find his way; what `take` says.
pub fn salvage(
    dir: &Arc<dyn LogDir>,
    name: &str,
    take: &mut dyn FnMut(RecordRef<'_>) -> Result<(), BoxError>,
) -> Result<SalvageReport, SalvageError> {
    let (mut window, patient) = Window::open_patient(dir, name, STREAM_LEN)?;
    let (header, found) = match header_in(&mut window)? {
        HeaderFound::Valid(header) => (*header, true),
        HeaderFound::Newer(what) => {
            return Err(RecoveryError::Newer { file: name.to_owned(), offset: 0, what }.into());
        }
        other => match (solve(&mut window, base_of(name))?, other) {
            (Some((salt, base)), _) => (survey::rebuilt(base, salt), false),
            (None, HeaderFound::Foreign(what)) if !patient.is_unreadable(0) => {
                return Err(RecoveryError::Foreign { file: name.to_owned(), what }.into());
            }
            (None, other) => {
                other.expect(name, base_of(name).unwrap_or(Lsn::FIRST), Lsn::MAX)?;
                (survey::rebuilt(Lsn::FIRST, Salt::default()), false)
            }
        },
    };
    let surveyed = survey::survey_alone(name, window, &patient, &header)?;
    let mut report = SalvageReport {
        header: found.then_some(SalvagedHeader {
            log_id: header.log_id,
            base: header.base,
            incarnation: header.incarnation,
        }),
        found: surveyed.pieces.iter().map(|piece| piece.lsns).collect(),
        records: 0,
        losses: surveyed.losses,
        problems: surveyed.damage.into_iter().map(Problem::from).collect(),
    };
    for piece in &surveyed.pieces {
        give(dir, name, piece, &mut report.records, take)?;
    }
    Ok(report)
}

/// The salt of a file without a header, and the LSN from which on its entries count.
fn solve(window: &mut Window, named: Option<Lsn>) -> Result<Option<(Salt, Lsn)>, RecoveryError> {
    let found = salt::solve(window, named.unwrap_or(Lsn::FIRST))?;
    let found = match (found, named) {
        // The file may have been given another name.
        (None, Some(_)) => salt::solve(window, Lsn::FIRST)?,
        (found, _) => found,
    };
    let Some(salt) = found else { return Ok(None) };
    // The first entry that proves itself says which LSN is next; what stands before it is lost.
    let mut at = SEGMENT_HEADER_LEN;
    while at < window.len() {
        window.fill(at, ENTRY_HEADER_LEN)?;
        let Some(bytes) = window.at(at).first_chunk() else { break };
        if let Ok(header) = EntryHeader::decode(bytes, salt, at) {
            return Ok(Some((salt, header.lsn)));
        }
        at = at.saturating_add(ENTRY_ALIGN);
    }
    Ok(None)
}

fn give(
    dir: &Arc<dyn LogDir>,
    name: &str,
    piece: &Piece,
    count: &mut u64,
    take: &mut dyn FnMut(RecordRef<'_>) -> Result<(), BoxError>,
) -> Result<(), SalvageError> {
    let (window, _) = Window::open_patient(dir, name, STREAM_LEN)?;
    let mut scan = Scan::at(window, piece.from);
    while scan.at.offset < piece.to {
        let Step::Entry(found) = scan.step()? else { break };
        if found.header.kind.takes_lsn() {
            *count += 1;
            let (fields, payload) = scan.content(&found);
            let record = RecordRef::new(&found.header, fields, payload);
            let lsn = record.lsn;
            take(record).map_err(|source| SalvageError::Application { lsn, source })?;
        }
    }
    Ok(())
}
