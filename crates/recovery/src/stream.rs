//! Streams as files: written once and whole under a name of their own, read entry by entry.
//!
//! The rule: a stream gets its name when every byte of it is durable, and nothing is lent from one that has not proved
//! itself. A writer holds about 2 MiB, and so does a reader, whatever the stream's length. Who must know that a stream
//! is complete before he uses any of it reads it twice.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::checksum::{crc32, crc32_seeded};
use braidlog_format::{
    DecodeError, ENTRY_HEADER_LEN, EntryHeader, Flags, Kind, Lsn, LsnRange, STREAM_HEADER_LEN,
    STREAM_PAYLOAD_MAX, StreamEnd, StreamHeader, StreamKind, padded_len,
};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, is_no_space, write_all_at};

use crate::dir::path_of;
use crate::reserve::{Reserve, ReserveFor};
use crate::window::Window;
use crate::{DamageCause, ForeignFile, RecoveryError, flip};

/// Bytes that are written at once.
const WRITE_LEN: usize = 1 << 20;
/// Bytes after which what was written is synced: a long stream neither fills the cache with what the device has not
/// got yet, nor ends in a sync that holds up everybody's.
const SYNC_LEN: u64 = 16 << 20;
/// Capacity for reading: the largest entry, wherever it begins, and some of the next.
const READ_LEN: usize = STREAM_PAYLOAD_MAX + (64 << 10);

/// Writes a stream under a temporary name. One that is not finished stays there as rubbish; the next writer of that
/// name, or the next opening of the log, removes it.
#[derive(Debug)]
pub struct StreamWriter {
    dir: Arc<dyn LogDir>,
    file: Arc<dyn LogFile>,
    name: String,
    header: StreamHeader,
    buf: Vec<u8>,
    /// Bytes in the file, those in the buffer not counted.
    written: u64,
    synced: u64,
    end: StreamEnd,
    /// Where it finds blocks if the device has none.
    reserve: Option<(Arc<Reserve>, ReserveFor)>,
    /// Whether nothing is written before the end.
    is_kept_whole: bool,
}

/// A stream that has its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamFinished {
    /// Bytes of the file.
    pub bytes: u64,
    /// The header checksum of its end entry.
    pub end_checksum: u32,
}

impl StreamWriter {
    /// Begins a stream in a new file of this name; one that has it is removed.
    ///
    /// # Errors
    /// [`RecoveryError::Io`], as of all calls.
    pub fn create(
        dir: &Arc<dyn LogDir>,
        name: &str,
        header: StreamHeader,
    ) -> Result<StreamWriter, RecoveryError> {
        match dir.remove(name) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(RecoveryError::io("remove", name)(error)),
        }
        let file = dir
            .open(name, FileAccess::CreateNew, FileIo::Buffered)
            .map_err(RecoveryError::io("create", name))?;
        let mut block = [0; STREAM_HEADER_LEN as usize];
        header.encode(&mut block);
        let mut buf = Vec::with_capacity(2 * WRITE_LEN);
        buf.extend_from_slice(&block);
        let end = StreamEnd { entries: 0, payload_bytes: 0 };
        Ok(StreamWriter {
            dir: Arc::clone(dir),
            file,
            name: name.to_owned(),
            header,
            buf,
            written: 0,
            synced: 0,
            end,
            reserve: None,
            is_kept_whole: false,
        })
    }

    /// Keeps all of the stream in the buffer until its end, so that it can use the reserve whatever its length: for a manifest,
    /// which is in memory anyway.
    #[must_use]
    pub(crate) fn kept_whole(mut self) -> StreamWriter {
        self.is_kept_whole = true;
        self
    }

    /// Lets the stream use a file of the log's reserve if it finds no space, and if all of it lies in the buffer then.
    #[must_use]
    pub(crate) fn with_reserve(mut self, reserve: Option<(Arc<Reserve>, ReserveFor)>) -> StreamWriter {
        self.reserve = reserve;
        self
    }

    /// Appends an entry whose payload is these parts, one behind the other.
    ///
    /// # Errors
    /// [`RecoveryError::Io`]; of kind `InvalidInput` if the payload has more than [`STREAM_PAYLOAD_MAX`] bytes.
    pub fn put(&mut self, kind: Kind, flags: Flags, parts: &[&[u8]]) -> Result<(), RecoveryError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > STREAM_PAYLOAD_MAX {
            return Err(RecoveryError::io("write", self.name.as_str())(ErrorKind::InvalidInput.into()));
        }
        self.push(kind, flags, len as u32, parts);
        self.end.entries += 1;
        self.end.payload_bytes += len as u64;
        if self.buf.len() >= WRITE_LEN && !self.is_kept_whole { self.flush() } else { Ok(()) }
    }

    /// Bytes of the stream until now.
    pub fn len_bytes(&self) -> u64 {
        self.written + self.buf.len() as u64
    }

    /// Ends the stream: makes it durable, and then gives it the name `name`, durably. A file of that name is replaced if
    /// `replace` says so.
    ///
    /// # Errors
    /// [`RecoveryError::Io`]; of kind `AlreadyExists` without `replace`. After an error the file may have either name,
    /// and after a failed sync of the directory the new name may be lost in a crash.
    pub fn finish(mut self, name: &str, replace: bool) -> Result<StreamFinished, RecoveryError> {
        let finished = self.complete()?;
        self.dir
            .rename(&self.name, name, replace)
            .map_err(RecoveryError::io("rename", self.name.as_str()))?;
        self.sync_name()?;
        Ok(finished)
    }

    /// Ends the stream and makes it durable under the name that it has; nothing may be put into it any more.
    pub(crate) fn complete(&mut self) -> Result<StreamFinished, RecoveryError> {
        let end_checksum =
            self.push(StreamEnd::KIND, Flags::NONE, self.end.encode().len() as u32, &[&self.end.encode()]);
        let is_in_memory = self.written == 0;
        match self.write_out().and_then(|()| self.sync_whole()) {
            Err(RecoveryError::Io { source, .. })
                if is_in_memory && is_no_space(&source) && self.take_reserve()? =>
            {
                self.write_out()?;
                self.cut_reserve()?;
                self.sync_whole()?;
            }
            done => done?,
        }
        self.buf.clear();
        Ok(StreamFinished { bytes: self.written, end_checksum })
    }

    fn sync_whole(&mut self) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("stream_not_synced_before_its_name") {
            return Ok(());
        }
        self.sync()
    }

    fn sync_name(&self) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("name_of_a_stream_not_synced") {
            return Ok(());
        }
        self.dir.sync().map_err(RecoveryError::io("sync", path_of(&self.dir)))
    }

    /// Puts an entry into the buffer; gives its header checksum.
    fn push(&mut self, kind: Kind, flags: Flags, payload_len: u32, parts: &[&[u8]]) -> u32 {
        let payload_checksum = match parts.split_first() {
            Some((first, rest)) => rest.iter().fold(crc32(first), |crc, part| crc32_seeded(crc, part)),
            None => crc32(&[]),
        };
        let lsn = Lsn(self.end.entries + 1);
        let timestamp_ns = self.header.created_at_ns;
        let header = EntryHeader { lsn, timestamp_ns, kind, flags, payload_len, payload_checksum };
        let bytes = header.encode(self.header.salt, self.len_bytes());
        self.buf.extend_from_slice(&bytes);
        for part in parts {
            self.buf.extend_from_slice(part);
        }
        self.buf.resize(self.buf.len().next_multiple_of(8), 0);
        EntryHeader::stored_checksum(&bytes)
    }

    /// Begins anew in a file of the reserve, if there is one: it has the temporary name now, and the file that found no
    /// space is gone.
    fn take_reserve(&mut self) -> Result<bool, RecoveryError> {
        let Some((reserve, what)) = &self.reserve else { return Ok(false) };
        let taken =
            reserve.take(*what, &self.name).map_err(RecoveryError::io("rename", self.name.as_str()))?;
        let Some(file) = taken else { return Ok(false) };
        (self.file, self.written, self.synced) = (file, 0, 0);
        Ok(true)
    }

    /// Behind the stream lie bytes of what the reserve was before.
    fn cut_reserve(&self) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("reserve_not_cut") {
            return Ok(());
        }
        self.file.set_len(self.written).map_err(RecoveryError::io("cut", self.name.as_str()))
    }

    /// Writes the buffer to the file, and keeps it.
    fn write_out(&mut self) -> Result<(), RecoveryError> {
        write_all_at(&*self.file, &self.buf, self.written)
            .map_err(RecoveryError::io("write", self.name.as_str()))?;
        self.written += self.buf.len() as u64;
        Ok(())
    }

    /// Writes the buffer to the file.
    fn flush(&mut self) -> Result<(), RecoveryError> {
        self.write_out()?;
        self.buf.clear();
        if self.written - self.synced >= SYNC_LEN { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if self.header.kind == StreamKind::Checkpoint && braidlog_sabotage::is("checkpoint_named_unsynced") {
            return Ok(());
        }
        #[cfg(braidlog_sabotage)]
        if self.header.kind == StreamKind::Packed && braidlog_sabotage::is("packed_named_unsynced") {
            return Ok(());
        }
        self.synced = self.written;
        self.file.sync_all().map_err(RecoveryError::io("sync", self.name.as_str()))
    }
}

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    window: Window,
    header: StreamHeader,
    /// Where the next entry begins.
    offset: u64,
    /// What was read until now.
    read: StreamEnd,
    /// The header checksum of the end entry, when it was reached.
    end_checksum: Option<u32>,
}

/// An entry that lies in a reader's buffer, proved by its checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamEntry<'a> {
    /// The entry's kind, which means something in streams of this kind only.
    pub kind: Kind,
    /// How to read the payload.
    pub flags: Flags,
    /// The payload, extended fields included.
    pub payload: &'a [u8],
    /// Where the entry begins in its file.
    pub offset: u64,
}

impl StreamReader {
    /// Opens a stream of this kind and checks its header.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`], [`RecoveryError::Newer`], [`RecoveryError::Foreign`] for another kind of file, and
    /// [`RecoveryError::Io`], `NotFound` if there is no such file.
    pub fn open(dir: &Arc<dyn LogDir>, name: &str, kind: StreamKind) -> Result<StreamReader, RecoveryError> {
        StreamReader::over(Window::open(dir, name, READ_LEN)?, kind)
    }

    /// As [`StreamReader::open`]; reads past the page cache where the file system can.
    ///
    /// # Errors
    /// As [`StreamReader::open`].
    pub fn open_device(
        dir: &Arc<dyn LogDir>,
        name: &str,
        kind: StreamKind,
    ) -> Result<StreamReader, RecoveryError> {
        StreamReader::over(Window::open_device(dir, name, READ_LEN)?, kind)
    }

    /// As [`StreamReader::open`], of a file that is open.
    ///
    /// # Errors
    /// As [`StreamReader::open`].
    pub fn of_file(
        file: Arc<dyn LogFile>,
        name: &str,
        kind: StreamKind,
    ) -> Result<StreamReader, RecoveryError> {
        StreamReader::over(Window::over(file, name, READ_LEN)?, kind)
    }

    fn over(mut window: Window, kind: StreamKind) -> Result<StreamReader, RecoveryError> {
        let header = header_in(&mut window, kind)?;
        let read = StreamEnd { entries: 0, payload_bytes: 0 };
        Ok(StreamReader { window, header, offset: STREAM_HEADER_LEN, read, end_checksum: None })
    }

    /// The stream's header.
    pub fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        self.window.name()
    }

    /// Bytes that were read and proved.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }

    /// Bytes of the file.
    pub fn len_bytes(&self) -> u64 {
        self.window.len()
    }

    /// The header checksum of the end entry; `None` before it was reached.
    pub fn end_checksum(&self) -> Option<u32> {
        self.end_checksum
    }

    /// The next entry; `None` behind the last one, when the end entry has proved that all were there.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] where the stream is not what was written, [`RecoveryError::Newer`] for an entry that
    /// proves itself and is newer than this version, [`RecoveryError::Io`].
    pub fn next_entry(&mut self) -> Result<Option<StreamEntry<'_>>, RecoveryError> {
        if self.end_checksum.is_some() {
            return Ok(None);
        }
        let offset = self.offset;
        let (header, checksum) = self.header_at(offset)?;
        let payload_len = u64::from(header.payload_len);
        let need = ENTRY_HEADER_LEN + padded_len(payload_len);
        if self.window.fill(offset, need)? < need {
            return Err(self.damage(DecodeError::Short { have: self.window.len() - offset, need }));
        }
        self.offset += need;
        let is_end = header.kind == StreamEnd::KIND;
        if !is_end {
            self.read.entries += 1;
            self.read.payload_bytes += payload_len;
        }
        let checked = {
            let bytes = self.window.at(offset).get(ENTRY_HEADER_LEN as usize..).unwrap_or(&[]);
            let (payload, padding) =
                bytes.split_at_checked(header.payload_len as usize).unwrap_or((&[], &[]));
            let padding = padding.get(..(padded_len(payload_len) - payload_len) as usize).unwrap_or(&[]);
            header.check_payload(payload, padding)
        };
        if let Err(error) = checked {
            self.offset = offset;
            return Err(self.damage(error));
        }
        if is_end {
            return self.ended(offset, header.payload_len, checksum).map(|()| None);
        }
        let payload = self.window.at(offset).get(ENTRY_HEADER_LEN as usize..).unwrap_or(&[]);
        let payload = payload.get(..header.payload_len as usize).unwrap_or(&[]);
        Ok(Some(StreamEntry { kind: header.kind, flags: header.flags, payload, offset }))
    }

    /// That an entry of this stream is not what its kind must be: damage, though it proves itself, or newer.
    pub fn refused(&self, offset: u64, error: DecodeError) -> RecoveryError {
        let file = self.window.name().to_owned();
        if error.is_newer() {
            return RecoveryError::Newer { file, offset, what: error };
        }
        RecoveryError::damaged(file, offset, NO_LSNS, DamageCause::Entry(error))
    }

    /// The header of the entry at `offset`, and its checksum.
    fn header_at(&mut self, offset: u64) -> Result<(EntryHeader, u32), RecoveryError> {
        self.window.fill(offset, ENTRY_HEADER_LEN)?;
        let Some(bytes) = self.window.at(offset).first_chunk() else {
            return Err(self.incomplete(offset));
        };
        let decoded = EntryHeader::decode(bytes, self.header.salt, offset);
        let checksum = EntryHeader::stored_checksum(bytes);
        let header = decoded.map_err(|error| self.refused(offset, error))?;
        let invalid = |field| Err(self.refused(offset, DecodeError::InvalidField { field }));
        if header.lsn != Lsn(self.read.entries + 1) {
            return invalid("LSN");
        }
        if header.timestamp_ns != self.header.created_at_ns {
            return invalid("timestamp");
        }
        if header.flags.contains(Flags::BATCH_CONTINUES) {
            return invalid("flags");
        }
        if header.payload_len as usize > STREAM_PAYLOAD_MAX {
            return invalid("payload length");
        }
        Ok((header, checksum))
    }

    /// The end entry at `offset` has proved itself: whether it ends what was read, and the file.
    fn ended(&mut self, offset: u64, payload_len: u32, checksum: u32) -> Result<(), RecoveryError> {
        let payload = self.window.at(offset).get(ENTRY_HEADER_LEN as usize..).unwrap_or(&[]);
        // Without the padding, with which an end that is too short would look like one.
        let payload = payload.get(..payload_len as usize).unwrap_or(&[]);
        let end = StreamEnd::decode(payload).map_err(|error| self.refused(offset, error))?;
        if end != self.read || self.window.len() != self.offset {
            return Err(self.incomplete(offset));
        }
        self.end_checksum = Some(checksum);
        Ok(())
    }

    fn damage(&self, error: DecodeError) -> RecoveryError {
        RecoveryError::damaged(self.window.name(), self.offset, NO_LSNS, DamageCause::Entry(error))
    }

    fn incomplete(&self, offset: u64) -> RecoveryError {
        RecoveryError::damaged(self.window.name(), offset, NO_LSNS, DamageCause::Incomplete)
    }
}

/// No record is known to be lost with a file beside the segments.
const NO_LSNS: LsnRange = LsnRange { first: Lsn::FIRST, last: Lsn::ZERO };

/// The header of a stream of this kind.
pub(crate) fn header_in(window: &mut Window, kind: StreamKind) -> Result<StreamHeader, RecoveryError> {
    window.fill(0, STREAM_HEADER_LEN)?;
    let name = window.name().to_owned();
    let have = window.at(0).len() as u64;
    let damaged = |error| RecoveryError::damaged(&*name, 0, NO_LSNS, DamageCause::StreamHeader(error));
    let Some(block) = window.at(0).first_chunk::<{ STREAM_HEADER_LEN as usize }>() else {
        return Err(damaged(DecodeError::Short { have, need: STREAM_HEADER_LEN }));
    };
    let error = match StreamHeader::decode(block, kind) {
        Ok(header) => return Ok(header),
        Err(error) => error,
    };
    // One flipped bit in the magic or the version must not make a file look foreign or newer.
    let computed = crc32(block.split_last_chunk::<4>().map_or(&[], |(checked, _)| checked));
    let found = block.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if flip::find(found, computed, STREAM_HEADER_LEN - 4).is_some() {
        return Err(damaged(DecodeError::HeaderChecksum { found, computed }));
    }
    Err(match error {
        DecodeError::ForeignMagic { found: [0, 0, 0, 0] } => damaged(error),
        DecodeError::ForeignMagic { found } => {
            RecoveryError::Foreign { file: name, what: ForeignFile::Magic { found } }
        }
        what if what.is_newer() => RecoveryError::Newer { file: name, offset: 0, what },
        error => damaged(error),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braidlog_format::LogId;
    use braidlog_sim::SimDisk;
    use braidlog_storage::Storage;

    use super::*;

    fn disk() -> (SimDisk, Arc<dyn LogDir>) {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        (disk, dir)
    }

    fn header() -> StreamHeader {
        StreamHeader::new(StreamKind::Checkpoint, LogId([1; 16]), 1, 77)
    }

    /// A small stream under the name `it`; its entries have the kinds 1, 2, 3, and so on.
    fn write(dir: &Arc<dyn LogDir>, payloads: &[Vec<u8>]) -> StreamFinished {
        let mut writer = StreamWriter::create(dir, "it.new", header()).unwrap();
        for (kind, payload) in (1..).zip(payloads) {
            let (front, back) = payload.split_at(payload.len() / 3);
            writer.put(Kind(kind), Flags::NONE, &[front, back]).unwrap();
        }
        writer.finish("it", false).unwrap()
    }

    /// The entries of a stream, and the checksum of its end.
    type Read = (Vec<(Kind, Vec<u8>)>, Option<u32>);

    fn read(dir: &Arc<dyn LogDir>) -> Result<Read, RecoveryError> {
        let mut reader = StreamReader::open(dir, "it", StreamKind::Checkpoint)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push((entry.kind, entry.payload.to_vec()));
        }
        assert!(reader.next_entry()?.is_none(), "the end stays the end");
        assert_eq!(reader.bytes_read(), reader.len_bytes());
        Ok((entries, reader.end_checksum()))
    }

    fn samples() -> Vec<Vec<u8>> {
        [0, 1, 8, 13, 100].map(|len: usize| (0..len).map(|at| at as u8 ^ 0x5A).collect()).to_vec()
    }

    #[test]
    fn what_was_written_is_read_and_the_temporary_name_is_gone() {
        let (disk, dir) = disk();
        for payloads in [samples(), Vec::new()] {
            let finished = write(&dir, &payloads);
            let (entries, end_checksum) = read(&dir).unwrap();
            let expected: Vec<_> = (1..).map(Kind).zip(payloads).collect();
            assert_eq!(entries, expected);
            assert_eq!(end_checksum, Some(finished.end_checksum));
            assert_eq!(disk.read_raw("log/it").len() as u64, finished.bytes);
            assert_eq!(disk.list_raw("log").len(), 1);
            dir.remove("it").unwrap();
        }
    }

    #[test]
    fn long_stream_is_written_and_read_in_bounded_memory() {
        let (_, dir) = disk();
        let payload = vec![3; STREAM_PAYLOAD_MAX];
        let mut writer = StreamWriter::create(&dir, "it.new", header()).unwrap();
        let capacity = writer.buf.capacity();
        for _ in 0..40 {
            writer.put(Kind(2), Flags::NONE, &[b"x"]).unwrap();
            writer.put(Kind(2), Flags::NONE, &[&payload]).unwrap();
            assert_eq!(writer.buf.capacity(), capacity);
        }
        let too_large = vec![0; STREAM_PAYLOAD_MAX + 1];
        assert!(writer.put(Kind(2), Flags::NONE, &[&too_large]).is_err());
        writer.finish("it", false).unwrap();
        let (entries, _) = read(&dir).unwrap();
        assert_eq!(entries.len(), 80);
        assert!(entries.iter().skip(1).step_by(2).all(|(_, read)| *read == payload));
    }

    #[test]
    fn a_name_that_is_taken_is_replaced_only_if_that_is_asked_for() {
        let (_, dir) = disk();
        write(&dir, &samples());
        let writer = StreamWriter::create(&dir, "it.new", header()).unwrap();
        assert!(writer.finish("it", false).is_err());
        // The rubbish of the attempt is in nobody's way.
        let writer = StreamWriter::create(&dir, "it.new", header()).unwrap();
        writer.finish("it", true).unwrap();
        assert!(read(&dir).unwrap().0.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_damage_and_nothing_else() {
        let (disk, dir) = disk();
        write(&dir, &samples());
        let bytes = disk.read_raw("log/it");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.put_raw("log/it", &flipped);
            assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn stream_of_another_length_is_damaged() {
        let (disk, dir) = disk();
        write(&dir, &samples());
        let bytes = disk.read_raw("log/it");
        for len in 0..bytes.len() {
            disk.put_raw("log/it", &bytes[..len]);
            assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))), "{len} bytes");
        }
        disk.put_raw("log/it", &[&bytes[..], &[0; 8]].concat());
        assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))));
    }

    #[test]
    fn entries_in_another_order_or_of_another_stream_are_damage() {
        let (disk, dir) = disk();
        write(&dir, &samples());
        let bytes = disk.read_raw("log/it");
        // Two entries of equal length change places.
        let (one, two) = (STREAM_HEADER_LEN as usize + 32, STREAM_HEADER_LEN as usize + 72);
        let mut swapped = bytes.clone();
        swapped[one..two].copy_from_slice(&bytes[two..two + 40]);
        swapped[two..two + 40].copy_from_slice(&bytes[one..two]);
        disk.put_raw("log/it", &swapped);
        assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))));
        // The header of the next stream stands before the entries of this one.
        let mut block = [0; STREAM_HEADER_LEN as usize];
        StreamHeader::new(StreamKind::Checkpoint, LogId([1; 16]), 2, 77).encode(&mut block);
        disk.put_raw("log/it", &[&block, &bytes[STREAM_HEADER_LEN as usize..]].concat());
        assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))));
    }

    #[test]
    fn end_that_proves_itself_and_has_another_length_is_damage() {
        let (disk, dir) = disk();
        write(&dir, &samples());
        let bytes = disk.read_raw("log/it");
        let at = bytes.len() - 48;
        let entry =
            EntryHeader::decode(bytes[at..].first_chunk().unwrap(), header().salt, at as u64).unwrap();
        assert_eq!((entry.kind, entry.payload_len), (StreamEnd::KIND, 16));
        for len in [0, 15, 17, 24] {
            let mut payload = bytes[at + 32..].to_vec();
            payload.resize(len, 0);
            let other = EntryHeader { payload_len: len as u32, payload_checksum: crc32(&payload), ..entry };
            let mut ended = bytes[..at].to_vec();
            ended.extend(other.encode(header().salt, at as u64));
            ended.extend(&payload);
            ended.resize(at + other.entry_len() as usize, 0);
            disk.put_raw("log/it", &ended);
            assert!(matches!(read(&dir), Err(RecoveryError::Damaged(_))), "{len} bytes");
        }
    }

    #[test]
    fn foreign_and_newer_files_are_called_that() {
        let (disk, dir) = disk();
        write(&dir, &samples());
        let told = StreamReader::open(&dir, "it", StreamKind::Manifest);
        assert!(matches!(told, Err(RecoveryError::Foreign { .. })));
        let mut bytes = disk.read_raw("log/it");
        bytes[4] = 2;
        bytes[100] = 1;
        disk.put_raw("log/it", &bytes);
        assert!(matches!(read(&dir), Err(RecoveryError::Newer { .. })));
    }
}
