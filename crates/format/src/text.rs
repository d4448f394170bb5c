//! Identities as people and other programs write them: text that reads back, and `serde`.
//!
//! The rule: what `Display` writes, `FromStr` reads, to the same value; anything else is an error that says what is expected.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::{Incarnation, Kind, LogId, LsnRange, TxId};

/// A text that is not what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not {expected}")]
pub struct ParseIdError {
    expected: &'static str,
}

impl FromStr for LsnRange {
    type Err = ParseIdError;

    /// Reads `3..=9`.
    fn from_str(text: &str) -> Result<LsnRange, ParseIdError> {
        let parsed = text.split_once("..=").and_then(|(first, last)| {
            Some(LsnRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        parsed.ok_or(ParseIdError { expected: "a range of LSNs like 3..=9" })
    }
}

impl FromStr for LogId {
    type Err = ParseIdError;

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<LogId, ParseIdError> {
        let mut id = [0; 16];
        let is_read = text.len() == 32
            && text.as_bytes().chunks(2).zip(&mut id).all(|(digits, byte)| {
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                let read = digit(0).zip(digit(1)).map(|(high, low)| (high << 4 | low) as u8);
                *byte = read.unwrap_or_default();
                read.is_some()
            });
        if is_read { Ok(LogId(id)) } else { Err(ParseIdError { expected: "32 hexadecimal digits" }) }
    }
}

impl FromStr for Incarnation {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Incarnation, ParseIdError> {
        text.parse().map(Incarnation).map_err(|_| ParseIdError { expected: "the number of an incarnation" })
    }
}

impl FromStr for TxId {
    type Err = ParseIdError;

    /// Reads `3.17`: the opening, and the number in it.
    fn from_str(text: &str) -> Result<TxId, ParseIdError> {
        let parsed = text
            .split_once('.')
            .and_then(|(opening, number)| TxId::new(opening.parse().ok()?, number.parse().ok()?));
        parsed.ok_or(ParseIdError { expected: "the id of a transaction like 3.17" })
    }
}

impl FromStr for Kind {
    type Err = ParseIdError;

    /// Reads the number.
    fn from_str(text: &str) -> Result<Kind, ParseIdError> {
        text.parse().map(Kind).map_err(|_| ParseIdError { expected: "a kind from 0 to 255" })
    }
}

impl fmt::Display for Kind {
    /// Writes the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Incarnation> for u64 {
    fn from(incarnation: Incarnation) -> u64 {
        incarnation.0
    }
}

/// [`Lsn`], [`Incarnation`], [`TxId`] and [`Kind`] are numbers, a range is a table of `first` and `last`. A [`LogId`] is text where
/// people read it, and 16 bytes elsewhere.
#[cfg(feature = "serde")]
mod by_serde {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;
    use crate::Lsn;

    macro_rules! number {
        ($($name:ident($inner:ty)),*) => { $(
            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    self.0.serialize(serializer)
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                    <$inner>::deserialize(deserializer).map($name)
                }
            }
        )* };
    }

    number!(Lsn(u64), Incarnation(u64), TxId(u64), Kind(u8));

    impl Serialize for LogId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                serializer.collect_str(self)
            } else {
                self.0.serialize(serializer)
            }
        }
    }

    impl<'de> Deserialize<'de> for LogId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogId, D::Error> {
            if deserializer.is_human_readable() {
                String::deserialize(deserializer)?.parse().map_err(Error::custom)
            } else {
                <[u8; 16]>::deserialize(deserializer).map(LogId)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;

    #[test]
    fn what_is_written_reads_back() {
        for lsn in [Lsn::ZERO, Lsn(7), Lsn::MAX] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
            assert_eq!(Incarnation(lsn.0).to_string().parse(), Ok(Incarnation(lsn.0)));
            let range = LsnRange { first: lsn, last: Lsn(9) };
            assert_eq!(range.to_string().parse(), Ok(range));
        }
        for id in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            assert_eq!(LogId(id).to_string().parse(), Ok(LogId(id)));
            assert_eq!(LogId(id).to_string().to_uppercase().parse(), Ok(LogId(id)));
        }
        for id in [TxId(0), TxId::new(Incarnation(3), 17).unwrap(), TxId(u64::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for kind in [Kind(0), Kind::USER_MAX, Kind(255)] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_what_is_expected() {
        for text in ["", "3", "3..9", "3..=", "..=9", "-1..=3", "3..=9..=12"] {
            let error = text.parse::<LsnRange>().unwrap_err();
            assert_eq!(error.to_string(), "not a range of LSNs like 3..=9", "{text}");
        }
        // The last one has 32 bytes, and a character across two of them.
        let long = "0".repeat(33);
        for text in ["", "0", &long[..31], &long, &"g".repeat(32), &format!("{}é", &long[..30])] {
            let error = text.parse::<LogId>().unwrap_err();
            assert_eq!(error.to_string(), "not 32 hexadecimal digits", "{text}");
        }
        for text in ["", "3", "3.", ".17", "3.17.1", "4194304.1", "1.4398046511104"] {
            let error = text.parse::<TxId>().unwrap_err();
            assert_eq!(error.to_string(), "not the id of a transaction like 3.17", "{text}");
        }
        assert!("256".parse::<Kind>().is_err());
        assert!("-1".parse::<Incarnation>().is_err());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn identities_go_through_serde() {
        let all = (Lsn(7), LsnRange { first: Lsn(3), last: Lsn(9) }, LogId([1; 16]), Incarnation(2), Kind(5));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"[7,{"first":3,"last":9},"01010101010101010101010101010101",2,5]"#);
        assert_eq!(serde_json::from_str::<(Lsn, LsnRange, LogId, Incarnation, Kind)>(&text).unwrap(), all);
        let error = serde_json::from_str::<LogId>("\"01\"").unwrap_err().to_string();
        assert!(error.contains("not 32 hexadecimal digits"), "{error}");
    }
}
