//! The last segment of a log that nobody writes: what of it is kept, and why. Nothing is changed.
//!
//! The rule: only bytes that the device gave back count. After a failed sync the page cache may show what
//! the device never got, so the file is synced, dropped from the cache and read past it before anything is
//! judged. A packed segment that comes last, because what stood behind it is gone, was whole when it was packed: what is
//! missing of it is damage, and it is never cut.

use std::sync::Arc;

use braidlog_format::{ENTRY_HEADER_LEN, Kind, Lsn, LsnRange, Predecessor, SegmentHeader};
use braidlog_storage::LogDir;

use crate::chain::{Segment, header_in};
use crate::marks::{Behind, look_behind};
use crate::scan::{Kept, LastEntry, Position, Scan, Step, Stop};
use crate::seal;
use crate::verdict::{Facts, Place, Verdict, judge};
use crate::window::{STREAM_LEN, Window};
use crate::{DamageCause, RecoveryError};

/// What the last segment holds.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) header: SegmentHeader,
    pub(crate) state: TailEnd,
    /// What recovery keeps of it.
    pub(crate) kept: Kept,
    /// Whether a transaction may be in doubt at its end: it is told by marks in it, or before it.
    pub(crate) may_be_in_doubt: bool,
    /// Whether it was meant to end with a seal that is no valid one.
    pub(crate) seal_broken: bool,
    /// Bytes behind the kept part that a crash left there, trailing zeros not counted.
    pub(crate) torn_bytes: u64,
    /// Bytes of the file, as far as it may be cut.
    pub(crate) len: u64,
    /// Bytes that the scan read.
    pub(crate) scanned_bytes: u64,
    /// The file, open for reading.
    pub(crate) window: Window,
}

/// How the last segment ends, damage excepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TailEnd {
    Sealed,
    Clean,
    Torn,
}

/// Syncs the last segment through a descriptor that cannot write, reads it from the device and judges it.
///
/// # Errors
/// [`RecoveryError::Damaged`] and [`RecoveryError::Newer`] by the verdict; [`RecoveryError::Io`].
pub(crate) fn examine(dir: &Arc<dyn LogDir>, segment: &Segment) -> Result<Tail, RecoveryError> {
    let name = segment.name.as_str();
    #[cfg(not(braidlog_sabotage))]
    let mut window = Window::open_synced(dir, name, STREAM_LEN)?;
    #[cfg(braidlog_sabotage)]
    let mut window = match braidlog_sabotage::is("tail_not_synced_at_open") {
        true => Window::open_device(dir, name, STREAM_LEN)?,
        false => Window::open_synced(dir, name, STREAM_LEN)?,
    };
    // Whatever the cache said, this is what is there.
    let header = header_in(&mut window)?.expect(window.name(), segment.header.base, Lsn::MAX)?;
    if let Some(facts) = seal::at_end(&mut window, &header)? {
        let last = (facts.last_lsn >= header.base).then_some(LastEntry {
            lsn: facts.last_lsn,
            offset: 0,
            timestamp_ns: facts.last_timestamp_ns,
            checksum: facts.last_checksum,
            lost: false,
        });
        let timestamp_ns = facts.timestamp_ns.max(facts.last_timestamp_ns);
        return Ok(Tail {
            header,
            state: TailEnd::Sealed,
            kept: Kept { end: facts.end, last, timestamp_ns },
            may_be_in_doubt: !facts.in_doubt.is_empty(),
            seal_broken: false,
            torn_bytes: 0,
            len: window.len(),
            scanned_bytes: 0,
            window,
        });
    }
    scan_and_judge(name, Scan::new(window, &header), &header)
}

fn scan_and_judge(name: &str, mut scan: Scan, header: &SegmentHeader) -> Result<Tail, RecoveryError> {
    let mut may_be_in_doubt = header.open_from.is_some();
    let stop = loop {
        match scan.step()? {
            Step::Entry(found) => may_be_in_doubt |= found.header.kind == Kind::TX_PREPARE,
            Step::Stop(stop) => break stop,
        }
    };
    let at = scan.at;
    let mut window = scan.window;
    let packed_last = window.packed().map(|packed| packed.last_lsn());
    if let Some(last) = packed_last.filter(|last| at.batch_open || at.next != last.next()) {
        return Err(damage(&window, &at, &stop, Some(last)));
    }
    let behind = match stop {
        Stop::Zeros(_) | Stop::Invalid(..) => look_behind(&mut window, header, &at)?,
        Stop::EndOfFile | Stop::Seal(_) | Stop::Newer(_) => Behind::default(),
    };
    #[cfg(braidlog_sabotage)]
    let behind = match behind {
        behind if braidlog_sabotage::is("damage_cut_as_torn_tail") => Behind { vouched: None, ..behind },
        behind => behind,
    };
    let (state, seal) = match (judge(Facts::of_stop(Place::Last, &stop, &behind, at.batch_open)), stop) {
        // The seal may have reached the device without the cut that was made before it: what lies behind a
        // seal is not read.
        (Verdict::Sealed, Stop::Seal(facts)) => (TailEnd::Sealed, Some(facts)),
        (Verdict::CleanEnd, _) => (TailEnd::Clean, None),
        (Verdict::TornTail, _) => (TailEnd::Torn, None),
        (Verdict::Newer, Stop::Newer(what)) => {
            return Err(RecoveryError::Newer { file: name.to_owned(), offset: at.offset, what });
        }
        (_, stop) => return Err(damage(&window, &at, &stop, behind.vouched)),
    };
    let seal_broken =
        state != TailEnd::Sealed && !at.batch_open && seal::was_meant(&mut window, header, at.offset)?;
    let kept = match &seal {
        Some(facts) => {
            let timestamp_ns = at.kept().timestamp_ns.max(facts.timestamp_ns);
            Kept { end: facts.end, timestamp_ns, ..at.kept() }
        }
        None => at.kept(),
    };
    Ok(Tail {
        header: *header,
        state,
        kept,
        may_be_in_doubt: seal.map_or(may_be_in_doubt, |facts| !facts.in_doubt.is_empty()),
        seal_broken,
        torn_bytes: if state == TailEnd::Torn { behind.cut_bytes(&at) } else { 0 },
        len: if packed_last.is_some() { kept.end } else { window.len() },
        scanned_bytes: at.offset,
        window,
    })
}

/// The error for a place that something vouches for.
pub(crate) fn damage(window: &Window, at: &Position, stop: &Stop, vouched: Option<Lsn>) -> RecoveryError {
    let lsns = LsnRange { first: at.next, last: vouched.unwrap_or(at.next.prev()) };
    RecoveryError::damaged(window.name(), at.offset, lsns, cause_of(window, stop, at))
}

/// What is wrong where a scan stopped and should have gone on.
pub(crate) fn cause_of(window: &Window, stop: &Stop, at: &Position) -> DamageCause {
    let len = match stop {
        Stop::Invalid(_, Some(proved)) => proved.header.entry_len(),
        _ => ENTRY_HEADER_LEN,
    };
    if let Some(fault) = window.fault(at.offset, len) {
        return fault;
    }
    match stop {
        Stop::Seal(_) if at.batch_open => DamageCause::BatchCut,
        Stop::EndOfFile | Stop::Seal(_) => DamageCause::EndsEarly,
        Stop::Zeros(error) | Stop::Newer(error) | Stop::Invalid(error, _) => DamageCause::Entry(*error),
    }
}

impl Tail {
    /// The LSN that the next record takes.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.kept.last.map_or(self.header.base, |last| last.lsn.next())
    }

    /// Where the log ends: name of the segment, offset, and whether a seal stands there.
    pub(crate) fn place(&self) -> (&str, u64, bool) {
        (self.window.name(), self.kept.end, self.state == TailEnd::Sealed)
    }

    /// The last segment that holds an LSN, as the next header has to name it.
    pub(crate) fn predecessor(&self) -> Option<Predecessor> {
        match self.kept.last {
            Some(last) => Some(Predecessor {
                base: self.header.base,
                last: last.lsn,
                last_timestamp_ns: last.timestamp_ns,
                last_checksum: last.checksum,
                sealed: self.state == TailEnd::Sealed,
            }),
            None => self.header.predecessor,
        }
    }
}
