//! File names: what a directory entry says before anything is read.

use crate::{Incarnation, Lsn};

/// The name of a segment: its base LSN in 20 digits and `.wal`, so that names sort as LSNs do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentName(pub Lsn);

impl SegmentName {
    /// The base LSN that a file name says, if it is the name of a segment: LSNs are from 1.
    pub fn parse(name: &str) -> Option<SegmentName> {
        let base = Lsn(digits20(name.strip_suffix(".wal")?)?);
        (base >= Lsn::FIRST).then_some(SegmentName(base))
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}.wal", self.0.0)
    }
}

/// The name of a file that keeps the bytes of a torn tail: base LSN of its segment, and the incarnation
/// that cut it, as `<20 digits>-<incarnation>.torn`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TornName {
    /// The base LSN of the segment that was cut.
    pub base: Lsn,
    /// The incarnation that cut it.
    pub incarnation: Incarnation,
}

impl TornName {
    /// What a file name says, if it is the name of a torn tail.
    pub fn parse(name: &str) -> Option<TornName> {
        let (base, incarnation) = name.strip_suffix(".torn")?.split_once('-')?;
        if incarnation.starts_with('0') && incarnation != "0" {
            return None; // Another file than the one that has this incarnation in its name.
        }
        Some(TornName { base: Lsn(digits20(base)?), incarnation: Incarnation(digits(incarnation)?) })
    }
}

impl std::fmt::Display for TornName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}-{}.torn", self.base.0, self.incarnation)
    }
}

/// The name of a file that is being prepared and holds no LSN yet: `<n>.prep`. Left-over ones are
/// removed at open.
pub fn prepared_name(number: u64) -> String {
    format!("{number}.prep")
}

pub(crate) fn digits20(text: &str) -> Option<u64> {
    if text.len() == 20 { digits(text) } else { None }
}

pub(crate) fn digits(text: &str) -> Option<u64> {
    // `u64::from_str` also takes a leading `+`.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_left_alone() {
        let name = SegmentName(Lsn(42));
        assert_eq!(name.to_string(), "00000000000000000042.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        for other in [
            "42.wal",
            "+0000000000000000042.wal",
            "00000000000000000042.wal.bak",
            "00000000000000000000.wal",
            "LOCK",
            "99999999999999999999.wal",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
        let torn = TornName { base: Lsn(7), incarnation: Incarnation(3) };
        assert_eq!(TornName::parse(&torn.to_string()), Some(torn));
        for other in ["7-3.torn", "00000000000000000007-03.torn", "00000000000000000007-.torn"] {
            assert_eq!(TornName::parse(other), None, "{other}");
        }
    }
}
