//! Whole streams in memory, made by the crate's encoders, and a stream as text: what a reader has to find in it.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::fmt::Write as _;

use braidlog_format::{
    CHECKPOINT_HEAD, CheckpointHead, ENTRY_HEADER_LEN, Entry, EntryHeader, ExtendedFields, Flags, Kind, Lsn,
    ManifestEntry, PACKED_HEAD, PACKED_INDEX, PACKED_TRAILER, PackedHead, STREAM_HEADER_LEN, StreamEnd,
    StreamHeader, StreamKind,
};

/// A stream that grows.
pub struct StreamBytes {
    pub bytes: Vec<u8>,
    header: StreamHeader,
    end: StreamEnd,
}

impl StreamBytes {
    pub fn new(header: StreamHeader) -> StreamBytes {
        let mut block = [0; STREAM_HEADER_LEN as usize];
        header.encode(&mut block);
        StreamBytes { bytes: block.to_vec(), header, end: StreamEnd { entries: 0, payload_bytes: 0 } }
    }

    /// Writes an entry.
    pub fn entry(&mut self, kind: Kind, flags: Flags, payload: &[u8]) {
        self.push(kind, flags, payload);
        self.end.entries += 1;
        self.end.payload_bytes += payload.len() as u64;
    }

    /// Writes the end; gives all bytes.
    pub fn end(mut self) -> Vec<u8> {
        self.push(StreamEnd::KIND, Flags::NONE, &self.end.encode());
        self.bytes
    }

    fn push(&mut self, kind: Kind, flags: Flags, payload: &[u8]) {
        let lsn = Lsn(self.end.entries + 1);
        let header = EntryHeader::for_payload(lsn, self.header.created_at_ns, kind, flags, payload);
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&header.encode(self.header.salt, offset));
        self.bytes.extend_from_slice(payload);
        self.bytes.resize((offset + header.entry_len()) as usize, 0);
    }
}

/// A stream, entry by entry, as text.
pub fn listing(bytes: &[u8], kind: StreamKind) -> String {
    let header = StreamHeader::decode(bytes.first_chunk().unwrap(), kind).unwrap();
    let StreamHeader { kind, log_id, number, salt, created_at_ns } = header;
    let mut out = format!(
        "{kind:?} of log id {log_id}\nnumber {number}\nsalt {:#010x}\ncreated at {created_at_ns}\n",
        salt.0
    );
    let mut offset = STREAM_HEADER_LEN;
    while (offset as usize) < bytes.len() {
        let entry = Entry::decode(&bytes[offset as usize..], salt, offset).unwrap();
        let header = entry.header;
        writeln!(
            out,
            "{offset}: number {}, checksum {:#010x}, kind {}, flags {:#x}, {} bytes of CRC {:#010x}",
            header.lsn,
            entry.checksum,
            header.kind.0,
            header.flags.bits(),
            header.payload_len,
            header.payload_checksum
        )
        .unwrap();
        out.push_str(&payload_listing(kind, &entry));
        offset += header.entry_len();
        assert!(header.entry_len() >= ENTRY_HEADER_LEN);
    }
    out
}

fn payload_listing(kind: StreamKind, entry: &Entry<'_>) -> String {
    if entry.header.kind == StreamEnd::KIND {
        return format!("  {:?}\n", StreamEnd::decode(entry.payload).unwrap());
    }
    if kind == StreamKind::Manifest {
        return match ManifestEntry::decode(entry.header.kind, entry.payload) {
            Ok(decoded) => format!("  {decoded:?}\n"),
            Err(error) => format!("  {error}: \"{}\"\n", entry.payload.escape_ascii()),
        };
    }
    if kind == StreamKind::Packed && entry.header.kind == PACKED_HEAD {
        return format!("  {:?}\n", PackedHead::decode(entry.payload).unwrap());
    }
    if kind == StreamKind::Packed && matches!(entry.header.kind, PACKED_INDEX | PACKED_TRAILER) {
        return format!("  {:02x?}\n", entry.payload);
    }
    if kind == StreamKind::Checkpoint && entry.header.kind == CHECKPOINT_HEAD {
        return format!("  {:?}\n", CheckpointHead::decode(entry.payload).unwrap());
    }
    let mut out = String::new();
    let mut rest = entry.payload;
    if entry.header.flags.contains(Flags::EXTENDED) {
        let (fields, behind) = ExtendedFields::split(entry.payload).unwrap();
        for field in fields {
            writeln!(out, "  {:?}", field.unwrap()).unwrap();
        }
        rest = behind;
    }
    if rest.len() <= 64 {
        writeln!(out, "  \"{}\"", rest.escape_ascii()).unwrap();
    }
    out
}
