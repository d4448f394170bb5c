//! Where the entries of the segment under the pen stand, for those who read them in this process.
//!
//! The rule: the lock is held for a look or for one point, of which there is one in 64 KiB of entries, and once for a sync; so
//! neither the pen nor a reader waits for the other. A point may be of an entry that is not written yet: a reader
//! asks only for what is durable, and for that the answer is right whatever came since.

use parking_lot::Mutex;

use braidlog_format::{INDEX_POINTS_MAX, IndexPoint, Lsn, Place, SegmentHeader};

/// Bytes of entries between two points of the sparse index, before it is thinned out.
const INDEX_STEP: u64 = 64 << 10;

/// The sparse index of the segment under the pen. A real lock, not the models': nobody who holds it waits.
#[derive(Debug, Default)]
pub struct LiveIndex(Mutex<Option<Live>>);

#[derive(Debug)]
struct Live {
    header: SegmentHeader,
    index: SparseIndex,
    /// Bytes before this offset are synced.
    synced_offset: u64,
}

impl LiveIndex {
    /// The first LSN of the segment under the pen. Every record that was durable before the question stands in it or in an
    /// earlier one.
    pub fn base(&self) -> Option<Lsn> {
        self.0.lock().as_ref().map(|live| live.header.base)
    }

    /// Where the entry with this LSN stands, which was durable before the question; `None` if that is in another segment.
    pub fn place_of(&self, lsn: Lsn) -> Option<Place> {
        let live = self.0.lock();
        let live = live.as_ref()?;
        let points = &live.index.points;
        let behind = points.partition_point(|point| point.lsn <= lsn);
        let from = *points.get(behind.checked_sub(1)?)?;
        let to = points.get(behind).map_or(live.synced_offset, |next| next.offset.min(live.synced_offset));
        Some(Place { header: live.header, from, to })
    }

    /// A segment comes under the pen; its first entry stands at `offset` or behind.
    pub(crate) fn begin(&self, header: &SegmentHeader, offset: u64) {
        *self.0.lock() = Some(Live { header: *header, index: SparseIndex::default(), synced_offset: offset });
    }

    /// An entry was encoded at `offset`, which is at least what this gave the last time: from where on the next one is
    /// wanted.
    pub(crate) fn note(&self, lsn: Lsn, offset: u64) -> u64 {
        let mut live = self.0.lock();
        live.as_mut().map_or(u64::MAX, |live| live.index.note(lsn, offset))
    }

    /// Everything before `offset` is synced.
    pub(crate) fn synced(&self, offset: u64) {
        if let Some(live) = &mut *self.0.lock() {
            live.synced_offset = offset;
        }
    }

    /// All points, for the seal.
    pub(crate) fn points(&self) -> Vec<IndexPoint> {
        self.0.lock().as_ref().map_or(Vec::new(), |live| live.index.points.clone())
    }
}

/// Where some entries stand: a point at least every [`INDEX_STEP`] bytes, fewer in a large segment.
#[derive(Debug)]
struct SparseIndex {
    points: Vec<IndexPoint>,
    step: u64,
}

impl Default for SparseIndex {
    fn default() -> Self {
        SparseIndex { points: Vec::new(), step: INDEX_STEP }
    }
}

impl SparseIndex {
    /// Adds a point; gives the offset from which on the next one is wanted.
    fn note(&mut self, lsn: Lsn, offset: u64) -> u64 {
        if self.points.len() == INDEX_POINTS_MAX {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.step *= 2;
        }
        self.points.push(IndexPoint { lsn, offset });
        offset + self.step
    }
}

#[cfg(all(test, not(braidlog_loom)))]
mod tests {
    use super::*;

    #[test]
    fn sparse_index_is_bounded_and_covers_the_segment() {
        let mut index = SparseIndex::default();
        let count = 5 * INDEX_POINTS_MAX as u64;
        let mut next = 0;
        for lsn in 1..=count {
            let offset = lsn * INDEX_STEP;
            if offset >= next {
                next = index.note(Lsn(lsn), offset);
            }
        }
        assert!(index.points.len() <= INDEX_POINTS_MAX);
        assert_eq!(index.points[0].lsn, Lsn(1));
        assert!(index.points.windows(2).all(|pair| pair[1].offset - pair[0].offset <= index.step));
        assert!(count * INDEX_STEP - index.points.last().unwrap().offset <= index.step);
    }
}
