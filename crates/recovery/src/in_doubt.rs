//! Transactions that are prepared and not decided: what a log has to carry over every opening until somebody decides.
//!
//! The rule: the log itself is asked. A header says from where on, a seal whether it is worth it, and the marks between say the
//! rest; so nothing has to be kept beside the log, and a log without such transactions reads nothing for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braidlog_format::{
    FieldsRef, Flags, IN_DOUBT_UNKNOWN, Kind, Lsn, LsnRange, OpenTransaction, SegmentHeader, TxDecision,
    TxId, TxPrepare,
};
use braidlog_storage::LogDir;

use crate::chain::{self, End, Segment};
use crate::scan::{Found, Scan, Step, Stop};
use crate::window::{GLANCE_LEN, STREAM_LEN, Window};
use crate::{DamageCause, Manifest, RecoveryError, dir, seal, tail};

/// A transaction that is prepared and not decided.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct InDoubt {
    /// Its id.
    pub transaction: TxId,
    /// What its coordinator calls it.
    pub global_id: Vec<u8>,
    /// The LSN of its TxBegin.
    pub begin: Lsn,
    /// The LSN of its TxPrepare.
    pub prepared_at: Lsn,
}

impl InDoubt {
    /// One that was prepared just now.
    pub fn new(transaction: TxId, global_id: Vec<u8>, begin: Lsn, prepared_at: Lsn) -> InDoubt {
        InDoubt { transaction, global_id, begin, prepared_at }
    }

    /// As the engine carries it on.
    pub(crate) fn open(&self) -> OpenTransaction {
        OpenTransaction { transaction: self.transaction, begin: self.begin }
    }
}

/// The transactions that are in doubt where the last of `segments` ends: at `until`, its last LSN.
///
/// # Errors
/// [`RecoveryError::Damaged`] and [`RecoveryError::Newer`] by what stands between the first of them and `until`;
/// [`RecoveryError::Io`].
pub(crate) fn at_end(
    dir: &Arc<dyn LogDir>,
    segments: &[Segment],
    until: Lsn,
) -> Result<Vec<InDoubt>, RecoveryError> {
    let mut found = BTreeMap::new();
    let Some((last, before)) = segments.split_last() else { return Ok(Vec::new()) };
    let from = match last.header.open_from {
        Some(from) if may_begin_in_doubt(dir, before)? => from,
        _ => last.header.base,
    };
    let first = segments.partition_point(|segment| segment.header.base <= from).saturating_sub(1);
    for segment in segments.get(first..).unwrap_or(&[]) {
        look_through(dir, segment, segment.end.last().unwrap_or(until).min(until), &mut found)?;
    }
    Ok(found.into_values().collect())
}

/// The transactions that are in doubt in the log whose last record that can be read is `until`, beside a writer or not.
///
/// # Errors
/// [`RecoveryError::Damaged`], [`RecoveryError::Newer`] and [`RecoveryError::Foreign`] by what is read; [`RecoveryError::Io`].
pub fn in_doubt(dir: &Arc<dyn LogDir>, until: Lsn) -> Result<Vec<InDoubt>, RecoveryError> {
    let listing = dir::list(dir)?;
    let start = Manifest::load(dir)?.log_start;
    let chain = chain::inspect(dir, &listing, start, &[], &mut chain::refuse)?;
    let of_it = chain.segments.partition_point(|segment| segment.header.base <= until);
    at_end(dir, chain.segments.get(..of_it).unwrap_or(&[]), until)
}

/// Whether a transaction may be in doubt behind these segments: unless a seal there says that none is.
fn may_begin_in_doubt(dir: &Arc<dyn LogDir>, before: &[Segment]) -> Result<bool, RecoveryError> {
    let Some(last) = before.last() else { return Ok(true) };
    let End::Named(named) = &last.end else { return Ok(true) };
    let mut window = Window::open(dir, &last.name, GLANCE_LEN)?;
    let facts = seal::at_end(&mut window, &last.header)?.filter(|facts| facts.agrees_with(named));
    Ok(facts.is_none_or(|facts| !facts.in_doubt.is_empty()))
}

/// Takes in what the marks of a segment say, up to an LSN.
fn look_through(
    dir: &Arc<dyn LogDir>,
    segment: &Segment,
    until: Lsn,
    found: &mut BTreeMap<TxId, InDoubt>,
) -> Result<(), RecoveryError> {
    let mut scan = Scan::new(Window::open(dir, &segment.name, STREAM_LEN)?, &segment.header);
    while scan.at.next <= until {
        match scan.step()? {
            Step::Entry(entry) if is_of_two_phases(entry.header.kind) => note(&scan, &entry, found)?,
            Step::Entry(_) => {}
            Step::Stop(Stop::Newer(what)) => {
                return Err(RecoveryError::Newer {
                    file: segment.name.clone(),
                    offset: scan.at.offset,
                    what,
                });
            }
            Step::Stop(stop) => return Err(tail::damage(&scan.window, &scan.at, &stop, Some(until))),
        }
    }
    Ok(())
}

/// Whether entries of this kind prepare a transaction or decide about one.
fn is_of_two_phases(kind: Kind) -> bool {
    matches!(kind, Kind::TX_PREPARE | Kind::TX_DECISION)
}

fn note(scan: &Scan, entry: &Found, found: &mut BTreeMap<TxId, InDoubt>) -> Result<(), RecoveryError> {
    let lsn = entry.header.lsn;
    let (_, payload) = scan.content(entry);
    let noted = match entry.header.kind {
        Kind::TX_PREPARE => TxPrepare::decode(payload).map(|prepared| {
            let TxPrepare { transaction, begin, global_id, .. } = prepared;
            let in_doubt = InDoubt { transaction, global_id: global_id.to_vec(), begin, prepared_at: lsn };
            found.insert(transaction, in_doubt);
        }),
        _ => TxDecision::decode(payload).map(|decided| {
            found.remove(&decided.transaction);
        }),
    };
    noted.map_err(|error| {
        let lsns = LsnRange { first: lsn, last: lsn };
        RecoveryError::damaged(scan.window.name(), entry.offset, lsns, DamageCause::Entry(error))
    })
}

/// What the marks of one segment leave undecided, for a seal that is written behind them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Undecided(BTreeSet<u64>);

impl Undecided {
    /// Takes in an entry of the segment, with its payload as it stands there.
    pub(crate) fn note(&mut self, kind: Kind, flags: Flags, payload: &[u8]) {
        if !is_of_two_phases(kind) {
            return;
        }
        let proper = match flags.contains(Flags::EXTENDED) {
            true => FieldsRef::split(payload).map_or(&[][..], |(_, proper)| proper),
            false => payload,
        };
        if kind == Kind::TX_PREPARE {
            self.0.extend(TxPrepare::decode(proper).map(|prepared| prepared.transaction.0));
        } else if let Ok(decided) = TxDecision::decode(proper) {
            self.0.remove(&decided.transaction.0);
        }
    }

    /// The list for the segment's seal. Of what was open where the segment begins only its header is known.
    pub(crate) fn list(&self, header: &SegmentHeader) -> Vec<u64> {
        let unknown = header.open_from.map(|_| IN_DOUBT_UNKNOWN);
        unknown.into_iter().chain(self.0.iter().copied()).collect()
    }
}
