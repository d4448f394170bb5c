//! Numbers that must not be confused: each has a type of its own.

use std::fmt;
use std::iter::FusedIterator;
use std::num::ParseIntError;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

/// A log sequence number: the place of a record in the total order. Dense, and the first is 1.
///
/// Across crashes the pair ([`Incarnation`], `Lsn`) is unique; an `Lsn` that was acknowledged is never
/// given out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// "Before the first record": what an empty log reports as its last LSN.
    pub const ZERO: Lsn = Lsn(0);
    /// The LSN of the first record of a log.
    pub const FIRST: Lsn = Lsn(1);
    /// The largest LSN; the bit above it says that the log accepts no more.
    pub const MAX: Lsn = Lsn((1 << 63) - 1);

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The LSN after this one. No log gives out one above [`Lsn::MAX`].
    pub const fn next(self) -> Lsn {
        Lsn(self.0.saturating_add(1))
    }

    /// The LSN before this one; [`Lsn::ZERO`] has none and stays.
    pub const fn prev(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({})", self.0)
    }
}

impl FromStr for Lsn {
    type Err = ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Lsn)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> u64 {
        lsn.0
    }
}

/// A contiguous run of LSNs, both ends included; empty when `last < first`.
///
/// ```
/// use braidlog_format::{Lsn, LsnRange};
///
/// let range = LsnRange::from(Lsn(3)..=Lsn(5));
/// assert_eq!(range.into_iter().collect::<Vec<_>>(), [Lsn(3), Lsn(4), Lsn(5)]);
/// assert!(range.contains(Lsn(4)));
/// assert_eq!("3..=5".parse(), Ok(range));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LsnRange {
    /// The first LSN of the run.
    pub first: Lsn,
    /// The last LSN of the run.
    pub last: Lsn,
}

impl LsnRange {
    /// The run of `count` LSNs that starts at `first`.
    pub const fn with_count(first: Lsn, count: u64) -> LsnRange {
        LsnRange { first, last: Lsn(first.0.saturating_add(count).saturating_sub(1)) }
    }

    /// How many LSNs the run holds.
    pub const fn count(self) -> u64 {
        self.last.0.saturating_add(1).saturating_sub(self.first.0)
    }

    /// Whether the run holds none.
    pub const fn is_empty(self) -> bool {
        self.last.0 < self.first.0
    }

    /// Whether `lsn` lies in the run.
    pub const fn contains(self, lsn: Lsn) -> bool {
        self.first.0 <= lsn.0 && lsn.0 <= self.last.0
    }

    /// Each LSN of the run, in order.
    pub fn iter(self) -> LsnIter {
        LsnIter(self.first.0..self.last.0.saturating_add(1))
    }
}

impl IntoIterator for LsnRange {
    type Item = Lsn;
    type IntoIter = LsnIter;

    fn into_iter(self) -> LsnIter {
        self.iter()
    }
}

impl From<RangeInclusive<Lsn>> for LsnRange {
    fn from(range: RangeInclusive<Lsn>) -> LsnRange {
        LsnRange { first: *range.start(), last: *range.end() }
    }
}

/// The LSNs of an [`LsnRange`], in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LsnIter(Range<u64>);

impl Iterator for LsnIter {
    type Item = Lsn;

    fn next(&mut self) -> Option<Lsn> {
        self.0.next().map(Lsn)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for LsnIter {
    fn next_back(&mut self) -> Option<Lsn> {
        self.0.next_back().map(Lsn)
    }
}

impl FusedIterator for LsnIter {}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// The identity of a log: 128 random bits drawn when its directory is created, kept in every segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// How many times the log has been opened for writing, this time included; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of a transaction, from 1. No other transaction of the log has it.
///
/// It is made of the opening of the log that began the transaction and of a number in that opening, and is written
/// `opening.number`: `3.17`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TxId(pub u64);

impl TxId {
    /// Low bits of an id that count in one opening. So a log can be opened 4 million times, and have 4 million million transactions
    /// in each.
    const NUMBER_BITS: u32 = 42;

    /// The id of the transaction `number`, from 1, of this opening; `None` if either is too large.
    pub const fn new(opening: Incarnation, number: u64) -> Option<TxId> {
        if opening.0 >> (64 - TxId::NUMBER_BITS) != 0 || number >> TxId::NUMBER_BITS != 0 {
            return None;
        }
        Some(TxId(opening.0 << TxId::NUMBER_BITS | number))
    }

    /// The opening of the log that began it.
    pub const fn opening(self) -> Incarnation {
        Incarnation(self.0 >> TxId::NUMBER_BITS)
    }

    /// Its number in that opening, from 1.
    pub const fn number(self) -> u64 {
        self.0 & ((1 << TxId::NUMBER_BITS) - 1)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.opening(), self.number())
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxId({self})")
    }
}

/// 32 random bits per life of a segment file, mixed into each entry's checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Salt(pub u32);

impl Salt {
    /// The seed of the header checksum of an entry that stands at `offset` of its file.
    pub const fn seed(self, offset: u64) -> u32 {
        self.0.wrapping_add((offset / 8) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_lies_between_their_ends() {
        let range = LsnRange::with_count(Lsn(3), 4);
        assert_eq!(range, LsnRange::from(Lsn(3)..=Lsn(6)));
        assert_eq!(range.iter().rev().collect::<Vec<_>>(), [6, 5, 4, 3].map(Lsn));
        assert_eq!((range.iter().count() as u64, range.count()), (4, 4));
        assert!(range.contains(Lsn(3)) && range.contains(Lsn(6)));
        assert!(!range.contains(Lsn(2)) && !range.contains(Lsn(7)));
        let empty = LsnRange::with_count(Lsn(3), 0);
        assert!(empty.is_empty() && empty.into_iter().next().is_none() && empty.count() == 0);
    }

    /// Numbers that no log gives out, but anybody may make.
    #[test]
    fn numbers_at_the_end_of_their_type_do_not_overflow() {
        let end = Lsn(u64::MAX);
        assert_eq!(end.next(), end);
        assert_eq!(Lsn::ZERO.prev(), Lsn::ZERO);
        let all = LsnRange { first: Lsn(2), last: end };
        assert_eq!(all.count(), u64::MAX - 2);
        assert_eq!(all.iter().next(), Some(Lsn(2)));
        assert_eq!(LsnRange::with_count(end, 9).last, Lsn(u64::MAX - 1));
    }
}
