//! Sparse indexes of segments, kept in memory: so that one record costs one read.
//!
//! The rule: an index is a claim. Who enters a segment by it lets the entry that it names prove itself, and otherwise goes
//! the long way, by header and seal; so an index that is old, or of a file that has become another's, costs time only.
//!
//! A segment's index comes from its seal when that is read; of the segment under the pen a writer of this process knows as
//! much. A reader that looks for a record passes over the ones before it, and their places are kept: they make an
//! index finer where it is asked for, and are all that there is where no seal is.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use braidlog_format::{IndexPoint, Lsn, Place, SegmentHeader};

use crate::locked::locked;

/// The most bytes that are kept: with 64 KiB between two points of 16 bytes each, an index of almost 16 GiB in large
/// segments.
const BYTES_MAX: usize = 4 << 20;
/// Bytes between two points of what was passed over.
const STEP: u64 = 16 << 10;
/// Two points of a segment whose seal was not read have at most so many bytes between them, or are not taken for neighbours.
const GAP_MAX: u64 = 256 << 10;

/// What the writer knows of the segment under its pen, if it is of this process.
pub trait WritersIndex: Send + Sync + Debug {
    /// The first LSN of that segment. Every record that was durable before the question stands in it or in an earlier one.
    fn base(&self) -> Option<Lsn>;

    /// Where the entry with this LSN stands, which was durable before the question; `None` if that is in another segment.
    fn place_of(&self, lsn: Lsn) -> Option<Place>;
}

/// The indexes that a reader has.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    kept: Mutex<Kept>,
    writers: Option<Arc<dyn WritersIndex>>,
}

#[derive(Debug, Default)]
struct Kept {
    by_base: BTreeMap<Lsn, Index>,
    /// Bytes of all of them.
    bytes: usize,
    /// Counts the questions, so that the index which was not asked for longest can be told.
    questions: u64,
}

/// What is known of one segment.
#[derive(Debug)]
struct Index {
    header: SegmentHeader,
    /// In LSN order.
    points: Vec<IndexPoint>,
    /// Where its seal stands; `None` if that was not read or there is none, and what is known may have gaps.
    end: Option<u64>,
    /// The number of the last question for it.
    asked: u64,
}

impl Indexes {
    /// Of a reader in the writer's process.
    pub(crate) fn beside(writers: Arc<dyn WritersIndex>) -> Indexes {
        Indexes { kept: Mutex::default(), writers: Some(writers) }
    }

    /// The base of the segment under the pen, as far as anybody knows.
    pub(crate) fn writers_base(&self) -> Option<Lsn> {
        self.writers.as_ref().and_then(|writers| writers.base())
    }

    /// Where in the segment of this base the entry with this LSN stands, which is visible.
    pub(crate) fn place_of(&self, base: Lsn, lsn: Lsn) -> Option<Place> {
        let of_writer = self.writers.as_ref().and_then(|writers| writers.place_of(lsn));
        let of_writer = of_writer.filter(|place| place.header.base == base);
        let mut kept = self.kept();
        let Some(index) = kept.ask(base) else { return of_writer };
        let Some(place) = of_writer.filter(|place| place.header.salt == index.header.salt) else {
            return of_writer.or_else(|| index.place_of(lsn));
        };
        // What the writer knows, made finer.
        let from = index.point_before(lsn).filter(|point| point.lsn > place.from.lsn);
        let to = index.point_behind(lsn).map_or(place.to, |next| next.offset.min(place.to));
        Some(Place { header: place.header, from: from.unwrap_or(place.from), to })
    }

    /// The last point that is known at or before the entry with this LSN, which is visible, in the segment of this base.
    pub(crate) fn point_before(&self, base: Lsn, lsn: Lsn) -> Option<IndexPoint> {
        if let Some(place) = self.place_of(base, lsn) {
            return Some(place.from);
        }
        self.kept().ask(base)?.point_before(lsn)
    }

    /// The last point that is known at or before the entry with this LSN, in a segment without a seal.
    pub(crate) fn last_before(&self, header: &SegmentHeader, lsn: Lsn) -> Option<IndexPoint> {
        let mut kept = self.kept();
        kept.ask(header.base).filter(|index| index.header.salt == header.salt)?.point_before(lsn)
    }

    /// Keeps what the seal at `end` says of a segment.
    pub(crate) fn keep(&self, header: &SegmentHeader, points: Vec<IndexPoint>, end: u64) {
        self.merge(header, points, Some(end));
    }

    /// Keeps what was passed over in a segment.
    pub(crate) fn keep_passed(&self, header: &SegmentHeader, passed: Passed) {
        if !passed.points.is_empty() {
            self.merge(header, passed.points, None);
        }
    }

    fn merge(&self, header: &SegmentHeader, points: Vec<IndexPoint>, end: Option<u64>) {
        let mut kept = self.kept();
        let known = kept.take(header.base).filter(|index| index.header.salt == header.salt);
        let mut index = known.unwrap_or(Index { header: *header, points: Vec::new(), end: None, asked: 0 });
        index.points.reserve_exact(points.len());
        index.points.extend(points);
        index.points.sort_by_key(|point| point.lsn);
        index.points.dedup_by_key(|point| point.lsn);
        index.end = index.end.or(end);
        kept.put(index);
    }

    /// What the lock guards is whole between any two statements.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }
}

impl Index {
    fn place_of(&self, lsn: Lsn) -> Option<Place> {
        let from = self.point_before(lsn)?;
        let to = self.point_behind(lsn).map(|next| next.offset).or(self.end)?;
        let is_gap = self.end.is_none() && to.saturating_sub(from.offset) > GAP_MAX;
        (!is_gap).then_some(Place { header: self.header, from, to })
    }

    /// What it takes in memory. A segment's header is some hundred bytes, which are more than the points of a small segment.
    fn bytes(&self) -> usize {
        size_of::<(Lsn, Index)>() + self.points.capacity() * size_of::<IndexPoint>()
    }

    fn point_before(&self, lsn: Lsn) -> Option<IndexPoint> {
        let behind = self.points.partition_point(|point| point.lsn <= lsn);
        self.points.get(behind.checked_sub(1)?).copied()
    }

    fn point_behind(&self, lsn: Lsn) -> Option<IndexPoint> {
        self.points.get(self.points.partition_point(|point| point.lsn <= lsn)).copied()
    }
}

impl Kept {
    fn ask(&mut self, base: Lsn) -> Option<&Index> {
        self.questions += 1;
        let index = self.by_base.get_mut(&base)?;
        index.asked = self.questions;
        Some(index)
    }

    fn take(&mut self, base: Lsn) -> Option<Index> {
        let taken = self.by_base.remove(&base)?;
        self.bytes -= taken.bytes();
        Some(taken)
    }

    /// Keeps an index in place of the one that there was, and gives up the ones that were not asked for longest.
    fn put(&mut self, mut index: Index) {
        self.take(index.header.base);
        self.questions += 1;
        index.asked = self.questions;
        self.bytes += index.bytes();
        self.by_base.insert(index.header.base, index);
        while self.bytes > BYTES_MAX {
            let oldest = self.by_base.iter().min_by_key(|(_, index)| index.asked).map(|(base, _)| *base);
            let Some(oldest) = oldest else { return };
            self.take(oldest);
        }
    }
}

/// Collects points of what is passed over.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    points: Vec<IndexPoint>,
    next: u64,
}

impl Passed {
    /// Begins behind a point that is known.
    pub(crate) fn behind(known: Option<IndexPoint>) -> Passed {
        Passed { points: Vec::new(), next: known.map_or(0, |point| point.offset.saturating_add(STEP)) }
    }

    /// Begins behind a point from which it is far to the next one.
    pub(crate) fn within(place: &Place) -> Option<Passed> {
        let is_far = place.to.saturating_sub(place.from.offset) >= 2 * STEP;
        is_far.then(|| Passed::behind(Some(place.from)))
    }

    /// An entry that takes an LSN was passed over.
    pub(crate) fn note(&mut self, lsn: Lsn, offset: u64) {
        if offset >= self.next {
            self.points.push(IndexPoint { lsn, offset });
            self.next = offset.saturating_add(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use braidlog_format::{Incarnation, LogId, Salt, UserMetadata};

    use super::*;

    fn header(base: u64, salt: u32) -> SegmentHeader {
        SegmentHeader {
            log_id: LogId([1; 16]),
            incarnation: Incarnation(1),
            salt: Salt(salt),
            base: Lsn(base),
            predecessor: None,
            recycled: false,
            created_at_ns: 0,
            user_metadata: UserMetadata::EMPTY,
            open_from: None,
        }
    }

    fn points(lsns: impl IntoIterator<Item = u64>) -> Vec<IndexPoint> {
        lsns.into_iter().map(|lsn| IndexPoint { lsn: Lsn(lsn), offset: lsn * 1000 }).collect()
    }

    fn passed(lsns: impl IntoIterator<Item = u64>) -> Passed {
        Passed { points: points(lsns), next: 0 }
    }

    fn span(indexes: &Indexes, base: u64, lsn: u64) -> Option<(u64, u64)> {
        indexes.place_of(Lsn(base), Lsn(lsn)).map(|place| (place.from.offset, place.to))
    }

    #[test]
    fn sealed_index_answers_for_every_lsn_and_an_open_one_up_to_its_last_point() {
        let indexes = Indexes::default();
        indexes.keep(&header(1, 7), points([1, 5, 9]), 12_000);
        assert_eq!(span(&indexes, 1, 1), Some((1000, 5000)));
        assert_eq!(span(&indexes, 1, 8), Some((5000, 9000)));
        assert_eq!(span(&indexes, 1, 11), Some((9000, 12_000)));
        assert_eq!(span(&indexes, 2, 11), None, "another segment");

        indexes.keep_passed(&header(20, 8), passed([20, 25]));
        assert_eq!(span(&indexes, 20, 24), Some((20_000, 25_000)));
        assert_eq!(span(&indexes, 20, 26), None, "who knows where that ends");
        assert_eq!(indexes.last_before(&header(20, 8), Lsn(26)), Some(points([25])[0]));
        assert_eq!(indexes.last_before(&header(20, 9), Lsn(26)), None, "another file by this name");
        indexes.keep_passed(&header(20, 8), passed([25, 30]));
        assert_eq!(span(&indexes, 20, 26), Some((25_000, 30_000)));
        indexes.keep_passed(&header(20, 9), passed([20]));
        assert_eq!(indexes.last_before(&header(20, 9), Lsn(99)), Some(points([20])[0]));
    }

    #[test]
    fn what_was_passed_over_makes_an_index_finer_and_a_gap_is_none() {
        let indexes = Indexes::default();
        indexes.keep_passed(&header(1, 7), passed([2, 400]));
        assert_eq!(span(&indexes, 1, 3), None, "more may be known of what lies between");
        indexes.keep(&header(1, 7), points([1, 9]), 500_000);
        assert_eq!(span(&indexes, 1, 3), Some((2000, 9000)));
        assert_eq!(span(&indexes, 1, 10), Some((9000, 400_000)));
        indexes.keep_passed(&header(1, 7), passed([5, 9]));
        assert_eq!(span(&indexes, 1, 3), Some((2000, 5000)));
        assert_eq!(indexes.kept().by_base[&Lsn(1)].points.len(), 5);
    }

    /// A writer that knows two points of the segment with base 1.
    #[derive(Debug)]
    struct Writer;

    impl WritersIndex for Writer {
        fn base(&self) -> Option<Lsn> {
            Some(Lsn(1))
        }

        fn place_of(&self, lsn: Lsn) -> Option<Place> {
            let [from, next] = [points([1])[0], points([100])[0]];
            (lsn < next.lsn).then_some(Place { header: header(1, 7), from, to: next.offset })
        }
    }

    #[test]
    fn the_narrower_of_two_answers_is_given() {
        let indexes = Indexes::beside(Arc::new(Writer));
        assert_eq!(span(&indexes, 1, 40), Some((1000, 100_000)));
        indexes.keep_passed(&header(1, 7), passed([30, 50]));
        assert_eq!(span(&indexes, 1, 40), Some((30_000, 50_000)));
        assert_eq!(span(&indexes, 1, 60), Some((50_000, 100_000)));
        assert_eq!(span(&indexes, 1, 20), Some((1000, 30_000)));
        indexes.keep_passed(&header(1, 8), passed([30, 50]));
        assert_eq!(span(&indexes, 1, 40), Some((1000, 100_000)), "another file by this name");
    }

    #[test]
    fn the_index_that_was_not_asked_for_longest_is_given_up() {
        let indexes = Indexes::default();
        let half = ((BYTES_MAX / 2 - size_of::<(Lsn, Index)>()) / size_of::<IndexPoint>()) as u64;
        indexes.keep(&header(1, 1), points(1..=half), 0);
        indexes.keep(&header(2, 1), points(2..2 + half), 0);
        assert!(span(&indexes, 1, 5).is_some());
        indexes.keep(&header(3, 1), points([3]), 4000);
        assert!(span(&indexes, 1, 5).is_some() && span(&indexes, 3, 3).is_some());
        assert_eq!(span(&indexes, 2, 5), None);
        assert!(indexes.kept().bytes <= BYTES_MAX);
    }

    #[test]
    fn many_small_segments_take_no_more_memory_than_few_large_ones() {
        let indexes = Indexes::default();
        let header_len = size_of::<SegmentHeader>();
        let count = 2 * BYTES_MAX / header_len;
        for base in 1..=count as u64 {
            indexes.keep(&header(base, 1), points([base]), 0);
        }
        let kept = indexes.kept().by_base.len();
        assert!(kept > 100 && kept * header_len < BYTES_MAX, "{kept} headers of {header_len} bytes");
    }
}
