//! Numbers that must not be confused: each has a type of its own.

use std::fmt;
use std::num::ParseIntError;
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

    /// The LSN after this one.
    pub const fn next(self) -> Lsn {
        Lsn(self.0 + 1)
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LsnRange {
    /// The first LSN of the run.
    pub first: Lsn,
    /// The last LSN of the run.
    pub last: Lsn,
}

impl LsnRange {
    /// The run of `count` LSNs that starts at `first`.
    pub const fn with_count(first: Lsn, count: u64) -> LsnRange {
        LsnRange { first, last: Lsn((first.0 + count).saturating_sub(1)) }
    }

    /// How many LSNs the run holds.
    pub const fn count(self) -> u64 {
        (self.last.0 + 1).saturating_sub(self.first.0)
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
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Lsn> {
        (self.first.0..self.last.0 + 1).map(Lsn)
    }
}

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
