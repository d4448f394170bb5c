//! A run of entries, one behind the other, in a buffer of its own.
//!
//! The rule: the entries that are called proved prove themselves in their places, with their payloads. Whether each may
//! follow the one before it is not asked here.

use std::sync::Arc;

use braidlog_format::{Entry, Lsn, Salt};
use braidlog_storage::{AlignedBuf, LogFile, read_full_at};

/// Entries of one segment, and the bytes that hold them.
#[derive(Debug)]
pub(crate) struct Run {
    /// The segment's base.
    pub(crate) base: Lsn,
    /// The segment's salt.
    pub(crate) salt: Salt,
    pub(crate) buf: AlignedBuf,
    /// The file offset of the buffer's first byte, a multiple of [`IO_ALIGN`](braidlog_storage::IO_ALIGN) but in a packed
    /// segment.
    pub(crate) start: u64,
    /// Bytes of the file in the buffer.
    pub(crate) filled: usize,
    /// Where they are still to be read from.
    pub(crate) unread: Option<Arc<dyn LogFile>>,
    /// The file offset of the first entry.
    pub(crate) from: u64,
    /// The file offset behind the last entry.
    pub(crate) to: u64,
    /// The entries before this offset have proved themselves.
    pub(crate) proved_to: u64,
}

impl Run {
    /// Reads the entries, if that was not done yet. What cannot be read is not proved.
    pub(crate) fn read(&mut self) {
        let Some(file) = self.unread.take() else { return };
        let len = usize::try_from(self.to.saturating_sub(self.start)).unwrap_or(usize::MAX);
        if let Some(bytes) = self.buf.get_mut(..len) {
            self.filled = read_full_at(&*file, bytes, self.start).unwrap_or(0);
        }
    }

    /// Checks the entries, up to the first that does not prove itself.
    pub(crate) fn prove(&mut self) {
        let mut offset = self.from;
        while offset < self.to {
            let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
            let bytes = self.buf.get(skip..self.filled).unwrap_or(&[]);
            let Ok(entry) = Entry::decode(bytes, self.salt, offset) else { break };
            offset = offset.saturating_add(entry.header.entry_len());
        }
        self.proved_to = offset;
    }
}
