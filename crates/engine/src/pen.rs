//! The pen: the aligned buffer in which rounds are encoded, one stream of bytes cut into whole writes.

use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, Flags, Kind, Lsn, PadLen, Salt, pad_len};
use braidlog_storage::AlignedBuf;

use crate::failure::Failure;

/// Takes a buffer of which so many bytes, whole blocks, are for a file offset. It may leave another buffer of the
/// same length in its place.
pub(crate) type Sink<'a> = dyn FnMut(&mut AlignedBuf, usize, u64) -> Result<(), Failure> + 'a;

/// Encodes into a buffer and gives the buffer away whenever it is full.
#[derive(Debug)]
pub(crate) struct Pen {
    buffer: AlignedBuf,
    filled: usize,
    /// The file offset of the buffer's first byte, a block boundary.
    start: u64,
}

impl Pen {
    /// A pen with a buffer of `len` bytes, rounded up to whole blocks.
    pub(crate) fn new(len: usize) -> Pen {
        Pen { buffer: AlignedBuf::zeroed(len), filled: 0, start: 0 }
    }

    /// Bytes of the buffer.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that are encoded and not given away.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Starts to encode at this file offset, a block boundary.
    pub(crate) fn begin(&mut self, offset: u64) {
        debug_assert_eq!(self.filled, 0, "the round before was given away");
        self.start = offset;
    }

    /// The file offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.filled as u64
    }

    /// Room for the next `len` bytes, to be filled by the caller; `None` if the buffer has no more.
    pub(crate) fn room(&mut self, len: u64) -> Option<&mut [u8]> {
        let start = self.filled;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len))?;
        let room = self.buffer.get_mut(start..end)?;
        self.filled = end;
        Some(room)
    }

    /// Encodes bytes handed out by `read`, which fills each piece that it is given.
    pub(crate) fn put_with(
        &mut self,
        mut len: u64,
        sink: &mut Sink<'_>,
        mut read: impl FnMut(&mut [u8]),
    ) -> Result<(), Failure> {
        while len > 0 {
            if self.filled == self.buffer.len() {
                self.flush(sink)?;
            }
            let free = &mut self.buffer[self.filled..];
            let count = free.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            read(&mut free[..count]);
            self.filled += count;
            len -= count as u64;
        }
        Ok(())
    }

    /// Encodes `bytes`.
    pub(crate) fn put(&mut self, mut bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Failure> {
        self.put_with(bytes.len() as u64, sink, |piece| {
            let (now, later) = bytes.split_at(piece.len());
            piece.copy_from_slice(now);
            bytes = later;
        })
    }

    /// Encodes an entry of the log's own that takes no LSN.
    pub(crate) fn put_mark(
        &mut self,
        salt: Salt,
        next_lsn: Lsn,
        timestamp_ns: u64,
        kind: Kind,
        payload: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let header = EntryHeader::for_payload(next_lsn, timestamp_ns, kind, Flags::NONE, payload);
        self.put(&header.encode(salt, self.offset()), sink)?;
        self.put(payload, sink)?;
        let padding = header.entry_len() - ENTRY_HEADER_LEN - payload.len() as u64;
        self.put(&[0; 8][..padding as usize], sink)
    }

    /// Pads to a block boundary.
    pub(crate) fn pad(
        &mut self,
        salt: Salt,
        next_lsn: Lsn,
        timestamp_ns: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        const ZEROS: [u8; 8192] = [0; 8192];
        match pad_len(self.offset()) {
            PadLen::None => Ok(()),
            PadLen::Payload(len) => {
                self.put_mark(salt, next_lsn, timestamp_ns, Kind::PAD, &ZEROS[..len as usize], sink)
            }
        }
    }

    /// Gives away what the buffer holds, whole blocks.
    pub(crate) fn flush(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        if self.filled > 0 {
            sink(&mut self.buffer, self.filled, self.start)?;
            self.start += self.filled as u64;
            self.filled = 0;
        }
        Ok(())
    }
}
