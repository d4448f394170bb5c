//! Where a log may be cut without taking the beginning of a transaction from one that ends behind the cut.
//!
//! The rule: a log begins at a segment where no transaction is open, or only such ones as nothing before it belongs to. The
//! headers say it; so it holds for what commits next year, whoever holds or reads the log, and without a list of transactions.

use std::sync::Arc;

use braidlog_format::{Lsn, SegmentHeader};
use braidlog_storage::LogDir;

use crate::RecoveryError;
use crate::chain::header_in;
use crate::dir::{self, Listing, SegmentFile};
use crate::window::{GLANCE_LEN, Window};

/// A place at which a log may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The base of a segment.
    pub base: Lsn,
    /// Where a transaction begins that keeps the log from beginning later; `None` if none does.
    pub open_from: Option<Lsn>,
}

/// Where a log may begin that starts at `start` and is to give up what lies below `lsn`: with the segment that holds `lsn`, or
/// earlier, where a transaction begins that is open there. Not below `start`: what began there is gone.
///
/// # Errors
/// [`RecoveryError::Io`]; a header that is damaged says nothing, and the log does not begin there.
pub fn standing(dir: &Arc<dyn LogDir>, lsn: Lsn, start: Lsn) -> Result<Standing, RecoveryError> {
    standing_in(dir, &dir::list(dir)?, lsn, start)
}

/// As [`standing`], in a directory that was listed.
pub(crate) fn standing_in(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    lsn: Lsn,
    start: Lsn,
) -> Result<Standing, RecoveryError> {
    let mut at = Standing { base: round_down(listing, lsn, start), open_from: None };
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("cut_behind_the_begin_of_a_transaction") {
        return Ok(at);
    }
    while at.base > start {
        let Some(file) = listing.segments.iter().rfind(|file| file.base == at.base) else { break };
        let reaches = match header(dir, file) {
            Ok(header) => header.open_from,
            Err(error @ RecoveryError::Io { .. }) => return Err(error),
            Err(_) => Some(at.base.prev()),
        };
        let Some(from) = reaches else { break };
        at = Standing { base: round_down(listing, from, start), open_from: Some(from) };
    }
    Ok(at)
}

fn header(dir: &Arc<dyn LogDir>, file: &SegmentFile) -> Result<SegmentHeader, RecoveryError> {
    let mut window = Window::open(dir, &file.name(), GLANCE_LEN)?;
    header_in(&mut window)?.expect(window.name(), file.base, Lsn::MAX)
}

/// The base of the segment that holds `lsn`; not below `start`.
fn round_down(listing: &Listing, lsn: Lsn, start: Lsn) -> Lsn {
    let behind = listing.segments.partition_point(|file| file.base <= lsn);
    let base = behind.checked_sub(1).and_then(|index| listing.segments.get(index)).map(|file| file.base);
    base.map_or(start, |base| base.max(start))
}
