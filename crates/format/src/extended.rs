//! Extended fields: what an entry flagged *extended* carries before its payload proper.
//!
//! A `u16` gives the bytes of all fields; each field is a type byte, a length byte and its value. A field
//! whose type has the top bit set may be skipped by a reader that does not know it.
//!
//! A record's fields are [`RecordFields`] on the way out and [`FieldsRef`] on the way in. The rule: they take a multiple of
//! eight bytes, so the payload proper begins where an application may look at it as what it is.

use crate::entry::{ENTRY_ALIGN, u32_at, u64_at};
use crate::{DecodeError, TxId};

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
    /// Type 5: the record's place in its stream.
    Sequence(u64),
    /// Type 6, without a value: the record takes effect only if its transaction does.
    Provisional,
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
            (5, 8) => ExtendedField::Sequence(u64_at(value, 0)),
            (6, 0) => ExtendedField::Provisional,
            (128.., _) => ExtendedField::Ignorable(number, value),
            (1..=6, _) => {
                self.rest = &[];
                return Some(Err(DecodeError::InvalidField { field: "extended field" }));
            }
            _ => {
                self.rest = &[];
                return Some(Err(DecodeError::NewerField { number }));
            }
        }))
    }
}

/// What a record carries beside its payload. None of it: the record is a plain one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct RecordFields {
    /// The transaction to which it belongs.
    pub transaction: Option<TxId>,
    /// The stream to which it belongs.
    pub stream: Option<u64>,
    /// The version of its payload's schema.
    pub schema: Option<u32>,
    /// Its place in its stream, from 1.
    pub sequence: Option<u64>,
    /// Whether it takes effect only if its transaction does, and when that does: it is a record of a transaction whose records went
    /// to the log one by one. Without a transaction it says nothing, and is not written.
    pub provisional: bool,
}

/// Type of the field of a transaction's record, which no other field comes before.
const TRANSACTION: u8 = 1;
/// Type of the field, without a value, of a record that takes effect with its transaction.
const PROVISIONAL: u8 = 6;
/// Type of a field that fills the fields up with zeros.
const FILLER: u8 = 128;

/// Bytes of all fields of a record at most, with their length and what fills them up.
const FIELDS_MAX: usize = 40;

impl RecordFields {
    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        *self == RecordFields::default()
    }

    /// The bytes that stand before the payload proper of an entry flagged *extended*; none if it carries nothing.
    pub fn encode(&self) -> EncodedFields {
        let mut encoded = EncodedFields { bytes: [0; FIELDS_MAX], len: 0 };
        if self.is_empty() {
            return encoded;
        }
        encoded.len = 2;
        if let Some(transaction) = self.transaction {
            encoded.put(TRANSACTION, &transaction.0.to_le_bytes());
        }
        if let Some(stream) = self.stream {
            encoded.put(2, &stream.to_le_bytes());
        }
        if let Some(schema) = self.schema {
            encoded.put(3, &schema.to_le_bytes());
        }
        if let Some(sequence) = self.sequence {
            encoded.put(5, &sequence.to_le_bytes());
        }
        if self.provisional && self.transaction.is_some() {
            encoded.put(PROVISIONAL, &[]);
        }
        let over = encoded.len % ENTRY_ALIGN as usize;
        if over > 0 {
            // A length of all fields is even, so what is missing has room for type and length.
            let missing = ENTRY_ALIGN as usize - over;
            encoded.put(FILLER, &[0; ENTRY_ALIGN as usize][..missing - 2]);
        }
        let len = (encoded.len - 2) as u16;
        encoded.bytes[..2].copy_from_slice(&len.to_le_bytes());
        encoded
    }
}

/// The bytes of [`RecordFields`].
#[derive(Clone, Copy, Debug)]
pub struct EncodedFields {
    bytes: [u8; FIELDS_MAX],
    len: usize,
}

impl EncodedFields {
    fn put(&mut self, number: u8, value: &[u8]) {
        let to = self.len + 2 + value.len();
        let field = &mut self.bytes[self.len..to];
        field[0] = number;
        field[1] = value.len() as u8;
        field[2..].copy_from_slice(value);
        self.len = to;
    }
}

impl std::ops::Deref for EncodedFields {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The fields of a record, in the bytes that carry them. They were checked when they were split from the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FieldsRef<'a>(&'a [u8]);

impl<'a> FieldsRef<'a> {
    /// Splits the payload of a record flagged *extended* into its fields and the payload proper.
    ///
    /// # Errors
    /// [`DecodeError::NewerField`] for a field that this version does not know and may not skip;
    /// [`DecodeError::Short`] and [`DecodeError::InvalidField`] for what no writer makes: fields that contradict their
    /// lengths, are out of order or there twice, or belong to no record of a segment.
    pub fn split(payload: &'a [u8]) -> Result<(FieldsRef<'a>, &'a [u8]), DecodeError> {
        let (fields, proper) = ExtendedFields::split(payload)?;
        let bytes = fields.rest;
        let (mut before, mut has_transaction) = (0, false);
        for field in fields {
            let number = match field? {
                ExtendedField::Transaction(_) => {
                    has_transaction = true;
                    TRANSACTION
                }
                ExtendedField::Stream(_) => 2,
                ExtendedField::Schema(_) => 3,
                ExtendedField::Sequence(_) => 5,
                ExtendedField::Provisional if !has_transaction => {
                    return Err(DecodeError::InvalidField { field: "provisional" });
                }
                ExtendedField::Provisional => PROVISIONAL,
                ExtendedField::Ignorable(number, _) => number,
                ExtendedField::Compression { .. } => {
                    return Err(DecodeError::InvalidField { field: "compression" });
                }
            };
            if number <= before {
                return Err(DecodeError::InvalidField { field: "order of extended fields" });
            }
            before = number;
        }
        Ok((FieldsRef(bytes), proper))
    }

    /// Their bytes, to be kept elsewhere; [`FieldsRef::of_bytes`] reads them again.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// What stands before [`FieldsRef::as_bytes`] in an entry: how many bytes they are.
    pub fn len_bytes(self) -> [u8; 2] {
        (self.0.len() as u16).to_le_bytes()
    }

    /// The fields in bytes that [`FieldsRef::as_bytes`] gave.
    pub fn of_bytes(bytes: &'a [u8]) -> FieldsRef<'a> {
        FieldsRef(bytes)
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The transaction to which the record belongs.
    pub fn transaction(self) -> Option<TxId> {
        self.find(|field| if let ExtendedField::Transaction(id) = field { Some(TxId(id)) } else { None })
    }

    /// The stream to which it belongs.
    pub fn stream(self) -> Option<u64> {
        self.find(|field| if let ExtendedField::Stream(id) = field { Some(id) } else { None })
    }

    /// The version of its payload's schema.
    #[inline]
    pub fn schema(self) -> Option<u32> {
        // Nearly every record has none, and who reads typed records asks each.
        if self.is_empty() {
            return None;
        }
        self.find(|field| if let ExtendedField::Schema(version) = field { Some(version) } else { None })
    }

    /// Its place in its stream, from 1.
    pub fn sequence(self) -> Option<u64> {
        self.find(|field| if let ExtendedField::Sequence(number) = field { Some(number) } else { None })
    }

    /// Whether it takes effect only if its transaction does, and when that does.
    #[inline]
    pub fn provisional(self) -> bool {
        // Such a record begins with its transaction: the others are told by one byte.
        self.0.first() == Some(&TRANSACTION)
            && self.find(|field| matches!(field, ExtendedField::Provisional).then_some(())).is_some()
    }

    /// All of them.
    pub fn to_owned(self) -> RecordFields {
        RecordFields {
            transaction: self.transaction(),
            stream: self.stream(),
            schema: self.schema(),
            sequence: self.sequence(),
            provisional: self.provisional(),
        }
    }

    fn find<T>(self, wanted: impl Fn(ExtendedField<'a>) -> Option<T>) -> Option<T> {
        ExtendedFields { rest: self.0 }.find_map(|field| wanted(field.ok()?))
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
    fn fields_of_a_record_are_read_as_they_were_written_and_keep_the_payload_aligned() {
        for bits in 0..32u8 {
            let has = |bit: u8| bits & 1 << bit != 0;
            let fields = RecordFields {
                transaction: has(0).then_some(TxId(u64::MAX)),
                stream: has(1).then_some(7),
                schema: has(2).then_some(u32::MAX),
                sequence: has(3).then_some(1),
                // It says nothing without a transaction.
                provisional: has(4) && has(0),
            };
            let encoded = fields.encode();
            assert_eq!(encoded.is_empty(), bits & 15 == 0);
            assert_eq!(encoded.len() as u64 % ENTRY_ALIGN, 0, "{fields:?}");
            if bits & 15 != 0 {
                let bytes = [&encoded[..], b"proper"].concat();
                let (read, proper) = FieldsRef::split(&bytes).unwrap();
                assert_eq!((read.to_owned(), proper), (fields, &b"proper"[..]));
                assert_eq!([&read.len_bytes(), read.as_bytes()].concat(), encoded[..]);
            }
        }
    }

    #[test]
    fn fields_that_no_writer_makes_are_refused_and_unknown_ones_are_newer() {
        let schema = [3, 4, 0, 0, 0, 0];
        let twice = [&[12, 0][..], &schema, &schema].concat();
        assert!(!FieldsRef::split(&twice).unwrap_err().is_newer());
        let unknown = [2, 0, 7, 0];
        assert_eq!(FieldsRef::split(&unknown).unwrap_err(), DecodeError::NewerField { number: 7 });
        let of_no_transaction = [2, 0, PROVISIONAL, 0];
        assert!(!FieldsRef::split(&of_no_transaction).unwrap_err().is_newer());
        let of_no_record = compression_fields(ZSTD, 1);
        assert!(!FieldsRef::split(&of_no_record).unwrap_err().is_newer());
    }

    #[test]
    fn fields_that_lie_about_their_length_are_refused() {
        assert!(ExtendedFields::split(&[9, 0, 1]).is_err());
        let (mut fields, _) = ExtendedFields::split(&[3, 0, 1, 200, 0]).unwrap();
        assert!(fields.next().unwrap().is_err());
        assert!(fields.next().is_none());
    }
}
