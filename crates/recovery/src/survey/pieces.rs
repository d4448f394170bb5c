//! What proves itself between two holes, and how many of that are kept.
//!
//! The rule: a piece that is left out is given up as the holes beside it are, by whoever plans. Nothing else is forgotten of
//! it: what it says of LSNs that were given out, or acknowledged, was noted when it was read.

use braidlog_format::LsnRange;

use crate::scan::Position;

/// The most pieces that are kept of a log, the first and the last one of each segment not counted. As many losses stand in the
/// manifest, which is written anew with each change.
pub(crate) const PIECES_MAX: usize = 1024;
/// The damaged places of a segment that are told one by one; those behind them are told as one, which reaches over
/// them all.
pub(crate) const PLACES_MAX: usize = 1024;

/// Entries of one segment that prove themselves, one behind the other, whole batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Where a scan of them begins.
    pub(crate) from: Position,
    /// The file offset behind them.
    pub(crate) to: u64,
    /// Their LSNs, what was given up earlier among them.
    pub(crate) lsns: LsnRange,
}

impl Piece {
    fn count(&self) -> u64 {
        self.lsns.last.0.saturating_sub(self.lsns.first.0)
    }
}

/// Leaves out the shortest pieces of these segments, if there are too many. The first one of each stays, for a log is kept up to its
/// first damage; and so does the last one, by which the next segment names it.
pub(crate) fn thin<'a>(segments: impl IntoIterator<Item = &'a mut Vec<Piece>>) {
    let mut segments: Vec<_> = segments.into_iter().filter(|pieces| pieces.len() > 2).collect();
    let inner = |pieces: &&mut Vec<Piece>| pieces.len() - 2;
    let excess = segments.iter().map(inner).sum::<usize>().saturating_sub(PIECES_MAX);
    if excess == 0 {
        return;
    }
    let counts = segments.iter().flat_map(|pieces| pieces.get(1..pieces.len() - 1).unwrap_or(&[]));
    let mut counts: Vec<u64> = counts.map(Piece::count).collect();
    counts.sort_unstable();
    // All that are longer than this stay, and of those that are as long the first ones.
    let least = counts.get(excess).copied().unwrap_or(u64::MAX);
    let mut as_long = counts.iter().skip(excess).take_while(|&&count| count == least).count();
    for pieces in &mut segments {
        let last = pieces.len() - 1;
        let mut index = 0;
        pieces.retain(|piece| {
            let is_inner = index > 0 && index < last;
            index += 1;
            let stays = !is_inner || piece.count() > least || (piece.count() == least && as_long > 0);
            as_long -= usize::from(stays && is_inner && piece.count() == least);
            stays
        });
    }
}

/// One range that reaches over two, the second of which lies behind the first; either may be empty.
pub(crate) fn together(first: LsnRange, second: LsnRange) -> LsnRange {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => LsnRange { first: first.first, last: first.last.max(second.last) },
    }
}

#[cfg(test)]
mod tests {
    use braidlog_format::{Lsn, Salt};

    use super::*;
    use crate::survey::rebuilt;

    fn pieces(counts: impl IntoIterator<Item = u64>) -> Vec<Piece> {
        let from = Position::first_of(&rebuilt(Lsn(1), Salt(0)));
        let mut next = 1;
        let piece = |count| {
            let lsns = LsnRange { first: Lsn(next), last: Lsn(next + count - 1) };
            // A hole of one record behind it.
            next += count + 1;
            Piece { from, to: 0, lsns }
        };
        counts.into_iter().map(piece).collect()
    }

    #[test]
    fn the_longest_pieces_stay_with_the_ends_of_each_segment() {
        let max = PIECES_MAX as u64;
        let mut first = pieces([1].into_iter().chain((0..2 * max).map(|n| 2 + n % 2)).chain([1]));
        let mut second = pieces([1, 1, 9, 1, 1]);
        let whole = pieces([5]);
        let mut third = whole.clone();
        let (before, ends) = (first.clone(), (first[0], first[first.len() - 1]));
        thin([&mut first, &mut second, &mut third]);
        assert_eq!(first.len() - 2 + second.len() - 2, PIECES_MAX);
        assert_eq!((first[0], first[first.len() - 1]), ends);
        // Of those with three records one had to make room for the one with nine.
        let counts: Vec<u64> = first.iter().map(|piece| piece.count() + 1).collect();
        assert_eq!(counts.iter().filter(|&&count| count == 3).count() as u64, max - 1);
        assert!(!counts.contains(&2));
        assert_eq!(second.iter().map(|piece| piece.count() + 1).collect::<Vec<_>>(), [1, 9, 1]);
        assert_eq!(third, whole);
        assert!(first.iter().all(|piece| before.contains(piece)) && first.is_sorted_by_key(|p| p.lsns.first));
        let again = (first.clone(), second.clone());
        thin([&mut first, &mut second, &mut third]);
        assert_eq!((first, second), again);
    }

    #[test]
    fn ranges_are_told_together() {
        let range = |first, last| LsnRange { first: Lsn(first), last: Lsn(last) };
        assert_eq!(together(range(3, 4), range(7, 9)), range(3, 9));
        assert_eq!(together(range(3, 2), range(7, 9)), range(7, 9));
        assert_eq!(together(range(3, 4), range(8, 7)), range(3, 4));
    }
}
