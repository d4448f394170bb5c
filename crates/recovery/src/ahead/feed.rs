//! Cuts the segments into runs, in order, each as it is asked for.
//!
//! The rule: where entries begin is told by the seal's sparse index, or else found by hopping from header to header, which
//! claim their lengths. Both prove nothing yet: a wrong claim costs what is read after it, no more. A run is believed when
//! it is proved, and taken when a scan comes to its very beginning. An entry that fits into no buffer is left to
//! the scan.

use std::sync::Arc;

use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, IndexPoint, Kind, Lsn, SEGMENT_HEADER_LEN, Salt};
use braidlog_storage::{AlignedBuf, IO_ALIGN, LogDir, LogFile, read_full_at};

use super::Run;
use crate::RecoveryError;
use crate::chain::header_in;
use crate::dir::segment_name;
use crate::scan::Position;
use crate::seal;
use crate::window::{GLANCE_LEN, Window};

/// What is read next.
#[derive(Debug)]
pub(super) struct Feed {
    dir: Arc<dyn LogDir>,
    /// The base LSNs of the segments, in order.
    bases: Arc<[Lsn]>,
    /// Which of them is opened next.
    next: usize,
    /// The last record that is wanted.
    to: Lsn,
    open: Option<Source>,
}

/// The segment that is being cut.
#[derive(Debug)]
struct Source {
    file: Arc<dyn LogFile>,
    base: Lsn,
    salt: Salt,
    /// Where the next entry stands.
    offset: u64,
    /// Where others do, the seal last; empty in a segment that has none. In a packed one: where its frames begin.
    index: Vec<IndexPoint>,
    /// Of what a run's beginning in the file is a multiple: to read whole frames, and no other, it begins with one.
    align: u64,
}

/// What follows a run.
enum After {
    /// An entry of the same segment.
    Entry(u64),
    /// The next segment.
    Segment,
    /// Nothing that is wanted.
    Nothing,
}

impl Feed {
    /// From the place `at` on, up to the record `to`.
    pub(super) fn new(dir: Arc<dyn LogDir>, bases: Arc<[Lsn]>, at: &Position, to: Lsn) -> Feed {
        let next = bases.partition_point(|&base| base < at.base);
        let mut feed = Feed { dir, bases, next, to, open: None };
        feed.open_next();
        if let Some(source) = feed.open.as_mut().filter(|source| source.base == at.base) {
            source.offset = at.offset;
        }
        feed
    }

    /// The next run, not proved and perhaps not read yet; `None` if there is none.
    pub(super) fn next(&mut self, mut buf: AlignedBuf) -> Option<Run> {
        loop {
            if self.open.is_none() && !self.open_next() {
                return None;
            }
            let Some(source) = &mut self.open else { continue };
            let &mut Source { base, salt, offset: from, align, .. } = source;
            let start = from - from % align;
            let (to, after, unread, filled) = match source.point_within(start, buf.len()) {
                Some(point) => {
                    let after = if point.lsn > self.to { After::Nothing } else { After::Entry(point.offset) };
                    (point.offset, after, Some(Arc::clone(&source.file)), 0)
                }
                None => {
                    let filled = read_full_at(&*source.file, &mut buf, start).unwrap_or(0);
                    let ends = filled < buf.len();
                    let bytes = buf.get(..filled).unwrap_or(&[]);
                    let (to, after) = hop(bytes, start, from, ends, salt, self.to);
                    (to, after, None, filled)
                }
            };
            match after {
                After::Entry(offset) => source.offset = offset,
                After::Segment => self.open = None,
                After::Nothing => {
                    self.open = None;
                    self.next = self.bases.len();
                }
            }
            if to > from {
                return Some(Run { base, salt, buf, start, filled, unread, from, to, proved_to: from });
            }
        }
    }

    /// Opens the next segment; whether there was one. One that cannot be opened is left to the scan.
    fn open_next(&mut self) -> bool {
        let Some(&base) = self.bases.get(self.next).filter(|&&base| base <= self.to) else { return false };
        self.next += 1;
        self.open = Source::open(&self.dir, base).ok();
        true
    }
}

impl Source {
    fn open(dir: &Arc<dyn LogDir>, base: Lsn) -> Result<Source, RecoveryError> {
        let mut window = Window::open(dir, &segment_name(base), GLANCE_LEN)?;
        let header = header_in(&mut window)?.expect(window.name(), base, Lsn::MAX)?;
        let (index, align) = match window.packed() {
            Some(packed) => (packed.points().collect(), 1),
            None => {
                let index = seal::at_end(&mut window, &header)?.map_or(Vec::new(), |facts| {
                    let end = IndexPoint { lsn: facts.last_lsn.next(), offset: facts.offset };
                    facts.index.into_iter().chain([end]).collect()
                });
                (index, IO_ALIGN as u64)
            }
        };
        let file = window.into_file();
        Ok(Source { file, base, salt: header.salt, offset: SEGMENT_HEADER_LEN, index, align })
    }

    /// The last point up to which a buffer of `len` bytes reaches from `start` on.
    fn point_within(&self, start: u64, len: usize) -> Option<IndexPoint> {
        let behind = self.index.partition_point(|point| point.offset <= start.saturating_add(len as u64));
        let point = behind.checked_sub(1).and_then(|index| self.index.get(index))?;
        (point.offset > self.offset).then_some(*point)
    }
}

/// Hops from the entry at `from` to the last one that lies in `bytes`, which stand at `start` and are the file's last
/// ones if it `ends` with them: the offset behind it, and what follows.
fn hop(bytes: &[u8], start: u64, from: u64, ends: bool, salt: Salt, to: Lsn) -> (u64, After) {
    let mut offset = from;
    loop {
        let skip = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let rest = bytes.get(skip..).unwrap_or(&[]);
        let cut = |after| (offset, if ends { After::Segment } else { after });
        let Some(head) = rest.first_chunk::<{ ENTRY_HEADER_LEN as usize }>() else {
            return cut(After::Entry(offset));
        };
        let Ok(header) = EntryHeader::decode_proved(head) else { return (offset, After::Segment) };
        // Zeros have no LSN.
        if header.lsn < Lsn::FIRST || header.kind == Kind::SEAL {
            return (offset, After::Segment);
        }
        if header.lsn > to {
            return (offset, After::Nothing);
        }
        let behind = offset.saturating_add(header.entry_len());
        if header.entry_len() > rest.len() as u64 {
            if offset > from {
                return cut(After::Entry(offset));
            }
            // Longer than a buffer, or a wrong claim.
            let proved = EntryHeader::decode(head, salt, offset).is_ok();
            return if proved { cut(After::Entry(behind)) } else { (offset, After::Segment) };
        }
        offset = behind;
    }
}
