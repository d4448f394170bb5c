//! Why bytes are not what they should be.

use thiserror::Error;

/// Why these bytes are not a segment header or an entry of this segment, at this offset.
///
/// Decoding never says more than the bytes prove: whether a bad entry is a torn tail or damage is
/// judged elsewhere, by what stands after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the structure needs.
    #[error("{have} bytes where {need} are needed")]
    Short {
        /// Bytes there are.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
    /// The file does not begin with the magic of a segment.
    #[error("not a Braidlog segment: the file begins with {found:02x?}")]
    ForeignMagic {
        /// The four bytes found.
        found: [u8; 4],
    },
    /// The segment was written by a newer version of the format.
    #[error("format version {version}, this reader knows up to {}", crate::FORMAT_VERSION)]
    NewerVersion {
        /// The version found.
        version: u8,
    },
    /// The segment uses a checksum algorithm that this reader does not know.
    #[error("checksum algorithm {algorithm} is not known")]
    NewerChecksum {
        /// The number found.
        algorithm: u8,
    },
    /// The entry has flag bits that this version does not define.
    #[error("flag bits {bits:#04x} are not known")]
    NewerFlags {
        /// All flag bits found.
        bits: u8,
    },
    /// The entry has a log kind that this version does not define and may not skip.
    #[error("entry kind {kind} is not known")]
    NewerKind {
        /// The kind found.
        kind: u8,
    },
    /// The entry has an extended field that this version does not define and may not skip.
    #[error("extended field {number} is not known")]
    NewerField {
        /// The type found.
        number: u8,
    },
    /// The header's checksum does not match: damaged, stale, moved, or never written.
    #[error("header checksum is {found:#010x}, computed {computed:#010x}")]
    HeaderChecksum {
        /// The checksum in the bytes.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The header proves itself but its payload does not.
    #[error("payload checksum is {found:#010x}, computed {computed:#010x}")]
    PayloadChecksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the payload.
        computed: u32,
    },
    /// Bytes that must be zero are not.
    #[error("bytes that must be zero are not")]
    NonZeroPadding,
    /// The structure proves itself but a field has a value that it can never have.
    #[error("field `{field}` has an impossible value")]
    InvalidField {
        /// The name of the field in `docs/format.md`.
        field: &'static str,
    },
}

impl DecodeError {
    /// Whether the bytes prove themselves and are merely newer than this reader.
    pub const fn is_newer(self) -> bool {
        matches!(
            self,
            DecodeError::NewerVersion { .. }
                | DecodeError::NewerChecksum { .. }
                | DecodeError::NewerFlags { .. }
                | DecodeError::NewerKind { .. }
                | DecodeError::NewerField { .. }
        )
    }
}
