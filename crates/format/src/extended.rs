//! Extended fields: what an entry flagged *extended* carries before its payload proper.
//!
//! A `u16` gives the bytes of all fields; each field is a type byte, a length byte and its value. A field
//! whose type has the top bit set may be skipped by a reader that does not know it.

use crate::DecodeError;
use crate::entry::{u32_at, u64_at};

/// One typed field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExtendedField<'a> {
    /// Type 1: the transaction to which the entry belongs.
    Transaction(u64),
    /// Type 2: the stream to which the entry belongs.
    Stream(u64),
    /// Type 3: the version of the payload's schema.
    Schema(u32),
    /// Type 4: how the payload is compressed (1 = zstd) and its bytes before that.
    Compression {
        /// The algorithm's number.
        algorithm: u8,
        /// Bytes of the payload when decompressed; a claim until proved.
        plain_len: u32,
    },
    /// A type from 128 to 255 that this version does not know and may skip.
    Ignorable(u8, &'a [u8]),
}

/// Walks the fields of an extended payload.
#[derive(Clone, Debug)]
pub struct ExtendedFields<'a> {
    rest: &'a [u8],
}

/// The algorithm number of zstd in a compression field.
pub const ZSTD: u8 = 1;

/// Bytes of [`compression_fields`].
pub const COMPRESSION_FIELDS_LEN: usize = 9;

/// What stands before a compressed payload: its extended fields, of which compression is the only one.
pub fn compression_fields(algorithm: u8, plain_len: u32) -> [u8; COMPRESSION_FIELDS_LEN] {
    let [a, b, c, d] = plain_len.to_le_bytes();
    [7, 0, 4, 5, algorithm, a, b, c, d]
}

impl<'a> ExtendedFields<'a> {
    /// Splits the payload of an extended entry into its fields and the payload proper.
    ///
    /// # Errors
    /// [`DecodeError::Short`] if the payload ends before its fields do.
    pub fn split(payload: &'a [u8]) -> Result<(ExtendedFields<'a>, &'a [u8]), DecodeError> {
        let short = |need: usize| DecodeError::Short { have: payload.len() as u64, need: need as u64 };
        let (len, rest) = payload.split_first_chunk::<2>().ok_or(short(2))?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (fields, payload) = rest.split_at_checked(len).ok_or(short(2 + len))?;
        Ok((ExtendedFields { rest: fields }, payload))
    }
}

impl<'a> Iterator for ExtendedFields<'a> {
    type Item = Result<ExtendedField<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.rest.split_first_chunk::<2>().and_then(|(&[number, len], rest)| {
            rest.split_at_checked(usize::from(len)).map(|(value, rest)| (number, value, rest))
        });
        let Some((number, value, rest)) = field else {
            let have = self.rest.len() as u64;
            self.rest = &[];
            return Some(Err(DecodeError::Short { have, need: have + 1 }));
        };
        self.rest = rest;
        Some(Ok(match (number, value.len()) {
            (1, 8) => ExtendedField::Transaction(u64_at(value, 0)),
            (2, 8) => ExtendedField::Stream(u64_at(value, 0)),
            (3, 4) => ExtendedField::Schema(u32_at(value, 0)),
            (4, 5) => ExtendedField::Compression { algorithm: value[0], plain_len: u32_at(value, 1) },
            (128.., _) => ExtendedField::Ignorable(number, value),
            _ => {
                self.rest = &[];
                return Some(Err(DecodeError::InvalidField { field: "extended field" }));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_payload_come_apart() {
        let mut bytes = vec![18, 0, 1, 8];
        bytes.extend(42u64.to_le_bytes());
        bytes.extend([3, 4, 7, 0, 0, 0, 200, 0]);
        bytes.extend(b"payload");
        let (fields, payload) = ExtendedFields::split(&bytes).unwrap();
        assert_eq!(payload, b"payload");
        assert_eq!(
            fields.collect::<Result<Vec<_>, _>>().unwrap(),
            [ExtendedField::Transaction(42), ExtendedField::Schema(7), ExtendedField::Ignorable(200, &[])]
        );
    }

    #[test]
    fn compression_fields_are_read_as_they_were_written() {
        let bytes = [&compression_fields(ZSTD, 70_000)[..], b"squeezed"].concat();
        let (mut fields, payload) = ExtendedFields::split(&bytes).unwrap();
        let compression = ExtendedField::Compression { algorithm: ZSTD, plain_len: 70_000 };
        assert_eq!((fields.next(), fields.next(), payload), (Some(Ok(compression)), None, &b"squeezed"[..]));
    }

    #[test]
    fn fields_that_lie_about_their_length_are_refused() {
        assert!(ExtendedFields::split(&[9, 0, 1]).is_err());
        let (mut fields, _) = ExtendedFields::split(&[3, 0, 1, 200, 0]).unwrap();
        assert!(fields.next().unwrap().is_err());
        assert!(fields.next().is_none());
    }
}
