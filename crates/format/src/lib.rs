//! Braidlog's bytes on disk, version 1: bytes to values and back.
//!
//! The rule of this crate: no I/O, no threads, no clock, no allocation on the way in or out, and no
//! panic whatever the bytes. A length is used only after the header that carries it has proved itself.
//!
//! A segment file is one 4096-byte [`SegmentHeader`] and then entries, each an [`EntryHeader`] of 32
//! bytes and a payload padded with zeros to a multiple of 8. A stream (the manifest, a checkpoint, a packed segment) is a
//! [`StreamHeader`], such entries, and a [`StreamEnd`]. `docs/format.md` has every byte.

mod checkpoint;
pub mod checksum;
mod entry;
mod error;
mod extended;
mod id;
mod kind;
mod loss;
mod manifest;
mod mark;
mod name;
mod packed;
mod place;
mod seal;
mod segment_header;
mod stream;
mod tail;
mod text;
mod transaction;

pub use checkpoint::{
    CHECKPOINT_CHUNK_MAX, CHECKPOINT_DATA, CHECKPOINT_HEAD, CHECKPOINT_HEAD_LEN, CHECKPOINT_RESERVE_NAME,
    CheckpointHead, CheckpointName, parse_unfinished_checkpoint, unfinished_checkpoint_name,
};
pub use entry::{ENTRY_ALIGN, ENTRY_HEADER_LEN, Entry, EntryHeader, entry_len, padded_len};
pub use error::DecodeError;
pub use extended::{
    COMPRESSION_FIELDS_LEN, EncodedFields, ExtendedField, ExtendedFields, FieldsRef, RecordFields, ZSTD,
    compression_fields,
};
pub use id::{Incarnation, LogId, Lsn, LsnIter, LsnRange, Salt, TxId};
pub use kind::{Flags, Kind};
pub use loss::{LOSS_LEN, LossEntry};
pub use manifest::{
    MANIFEST_NAME, MANIFEST_NEW_NAME, MANIFEST_RESERVE_NAMES, MANIFEST_TEXT_MAX, ManifestCheckpoint,
    ManifestEntry, ManifestFixed, ManifestHead,
};
pub use mark::{PadLen, SYNC_MARK_LEN, SyncMark, pad_len};
pub use name::{SegmentName, TornName, prepared_name};
pub use packed::{
    PACKED_FRAME, PACKED_FRAME_MAX, PACKED_FRAMES_AT, PACKED_FRAMES_MAX, PACKED_HEAD, PACKED_HEAD_LEN,
    PACKED_INDEX, PACKED_TAIL_LEN, PACKED_TRAILER, PACKED_TRAILER_LEN, PackedFrame, PackedHead, PackedIndex,
    PackedName, packs, parse_unfinished_packed, unfinished_packed_name,
};
pub use place::Place;
pub use seal::{IN_DOUBT_MAX, IN_DOUBT_UNKNOWN, INDEX_POINTS_MAX, IndexPoint, Seal, SealView, seal_len};
pub use segment_header::{
    FORMAT_VERSION, MAGIC, Predecessor, SEGMENT_HEADER_LEN, SegmentHeader, USER_METADATA_MAX, UserMetadata,
};
pub use stream::{
    STREAM_END_LEN, STREAM_HEADER_LEN, STREAM_PAYLOAD_MAX, StreamEnd, StreamHeader, StreamKind,
};
pub use tail::{LogTail, OpenTransaction};
pub use text::ParseIdError;
pub use transaction::{TxAbort, TxBegin, TxCommit, TxDecision, TxGoBack, TxPrepare};

/// Bytes of the unit of writing: each round starts on a multiple of it, so that no byte of an entry
/// covered by a completed sync is ever written again.
pub const BLOCK_LEN: u64 = 4096;

/// Rounds `offset` up to the next block boundary.
pub fn block_ceil(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_LEN)
}
