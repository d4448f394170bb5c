//! The first record of a time or later: found, not searched for.
//!
//! The rule: timestamps never decrease along a log, so each look halves what is left. First the segments, by the timestamp
//! that each header names for the end of the one before; then the points of one segment's index; then entry by entry between
//! two points, by their headers. What cannot be read is not judged here: the range then begins there, and reading it tells.

use std::sync::Arc;

use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, IndexPoint, Lsn, SEGMENT_HEADER_LEN, SegmentHeader};
use braidlog_storage::LogDir;

use crate::RecoveryError;
use crate::chain::header_in;
use crate::dir::segment_name;
use crate::index::{Indexes, Passed};
use crate::scan::{Position, Scan, Step};
use crate::seal;
use crate::window::{STREAM_LEN, Window};

/// Bytes of the buffer for a look at one header.
const LOOK_LEN: usize = 2 * SEGMENT_HEADER_LEN as usize;

/// The LSN of the first record with this timestamp or a later one; `up_to.next()` if there is none up to there. `bases` are
/// those of all segments, the first of which holds the start of the log.
pub(crate) fn first_since(
    dir: &Arc<dyn LogDir>,
    indexes: &Indexes,
    bases: &[Lsn],
    time_ns: u64,
    up_to: Lsn,
) -> Result<Lsn, RecoveryError> {
    let mut bases = bases;
    while let Some((_, before)) = bases.split_last().filter(|(last, _)| **last > up_to) {
        bases = before;
    }
    // Segments before `low` end too early, the one at `high` begins late enough.
    let (mut low, mut high) = (0, bases.len());
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let Some(&base) = bases.get(middle) else { break };
        let (_, header) = open(dir, base, up_to)?;
        if header.predecessor.is_some_and(|before| before.last_timestamp_ns < time_ns) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let Some(&base) = bases.get(low) else { return Ok(up_to.next()) };
    let last = bases.get(high).map_or(up_to, |next| next.prev());
    let (window, header) = open(dir, base, up_to)?;
    let first = first_in(indexes, window, &header, time_ns, last)?;
    Ok(first.min(up_to.next()))
}

fn open(dir: &Arc<dyn LogDir>, base: Lsn, up_to: Lsn) -> Result<(Window, SegmentHeader), RecoveryError> {
    let mut window = Window::open(dir, &segment_name(base), LOOK_LEN)?;
    let header = header_in(&mut window)?.expect(window.name(), base, up_to)?;
    Ok((window, header))
}

/// As [`first_since`], in one segment that ends with `last`; the LSN behind it if there is none.
fn first_in(
    indexes: &Indexes,
    mut window: Window,
    header: &SegmentHeader,
    time_ns: u64,
    last: Lsn,
) -> Result<Lsn, RecoveryError> {
    let mut passed = None;
    if indexes.place_of(header.base, last).is_none() {
        match seal::at_end(&mut window, header)? {
            Some(facts) => indexes.keep(header, facts.index, facts.offset),
            None => passed = Some(Passed::default()),
        }
    }
    let mut at = Position::first_of(header);
    // The last point that is known to be older is the one at `at`; those from `high` on are not older.
    let (mut low, mut high) = (header.base, last.next());
    while low < high {
        let middle = Lsn(low.0 + (high.0 - low.0) / 2);
        let place = indexes.place_of(header.base, middle).filter(|place| place.header.salt == header.salt);
        let Some(place) = place else { break };
        match timestamp_at(&mut window, header, place.from)? {
            Some(timestamp_ns) if timestamp_ns < time_ns => {
                at.offset = place.from.offset;
                at.next = place.from.lsn;
                low = middle.next();
            }
            Some(_) => high = place.from.lsn,
            None => break,
        }
    }
    if at.next > header.base {
        passed = None;
    }
    window.renew(STREAM_LEN)?;
    let mut scan = Scan::at(window, at);
    let first = loop {
        if scan.at.next > last {
            break scan.at.next;
        }
        match scan.step_over()? {
            Step::Entry(found) if found.header.kind.takes_lsn() => {
                if found.header.timestamp_ns >= time_ns {
                    break found.header.lsn;
                }
                if let Some(passed) = &mut passed {
                    passed.note(found.header.lsn, found.offset);
                }
            }
            Step::Entry(_) => {}
            Step::Stop(_) => break scan.at.next,
        }
    };
    if let Some(passed) = passed {
        indexes.keep_passed(header, passed);
    }
    Ok(first)
}

/// The timestamp of the entry at this point, if one proves itself there.
fn timestamp_at(
    window: &mut Window,
    header: &SegmentHeader,
    point: IndexPoint,
) -> Result<Option<u64>, RecoveryError> {
    window.fill(point.offset, ENTRY_HEADER_LEN)?;
    let entry = window.at(point.offset).first_chunk();
    let entry = entry.and_then(|bytes| EntryHeader::decode(bytes, header.salt, point.offset).ok());
    Ok(entry.filter(|entry| entry.lsn == point.lsn).map(|entry| entry.timestamp_ns))
}
