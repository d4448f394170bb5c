//! A bounded view of one file: an aligned buffer that is moved over it. A packed segment is seen as it was before.
//!
//! The rule: the buffer has its capacity and no more, except for one entry whose proved header says that it
//! is longer *and* that ends inside the file. It goes back to its capacity when it moves on.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;

use braidlog_format::{Lsn, PackedName, unfinished_packed_name};
use braidlog_storage::{AlignedBuf, FileIo, IO_ALIGN, LogDir, LogFile};

use crate::packed_file::PackedFile;
use crate::patient::Patient;
use crate::segment_file::{self, Opened};
use crate::{DamageCause, RecoveryError};

/// Capacity for reading a segment through.
pub(crate) const STREAM_LEN: usize = 1 << 20;
/// Capacity for a look at a header or a seal.
pub(crate) const GLANCE_LEN: usize = 16 << 10;

const ALIGN: u64 = IO_ALIGN as u64;

/// A buffer over a file.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn LogFile>,
    /// The same, if it is a packed segment.
    packed: Option<Arc<PackedFile>>,
    name: String,
    /// Bytes of the file, as last seen.
    len: u64,
    capacity: usize,
    buf: AlignedBuf,
    /// The file offset of the buffer's first byte, a multiple of [`IO_ALIGN`] but in a packed segment.
    start: u64,
    /// Bytes of the file in the buffer.
    filled: usize,
}

impl Window {
    /// Opens a file for reading through the page cache.
    pub(crate) fn open(dir: &Arc<dyn LogDir>, name: &str, capacity: usize) -> Result<Window, RecoveryError> {
        Window::open_as(dir, name, capacity, FileIo::Buffered)
    }

    /// Opens a file for reading what the device has, not what the page cache believes; through the cache
    /// where the file system knows no other way.
    pub(crate) fn open_device(
        dir: &Arc<dyn LogDir>,
        name: &str,
        capacity: usize,
    ) -> Result<Window, RecoveryError> {
        past_the_cache(|io| Window::open_as(dir, name, capacity, io))
    }

    /// As [`open_device`](Window::open_device), of a packed segment that has not got its name yet.
    pub(crate) fn open_unfinished(
        dir: &Arc<dyn LogDir>,
        base: Lsn,
        capacity: usize,
    ) -> Result<Window, RecoveryError> {
        let name = unfinished_packed_name(base);
        past_the_cache(|io| {
            let file = segment_file::open_as_it_is(dir, &name, io)?.file;
            Window::of(Opened::packed(file, &name, base)?, capacity)
        })
    }

    /// As [`open_device`](Window::open_device), for a file that nobody writes: what it holds is made durable
    /// first, through the very descriptor that is read then, since the name may be given to another file.
    pub(crate) fn open_synced(
        dir: &Arc<dyn LogDir>,
        name: &str,
        capacity: usize,
    ) -> Result<Window, RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("page_cache_believed") {
            return Window::open(dir, name, capacity);
        }
        let mut window = Window::open_device(dir, name, capacity)?;
        window.file.sync_all().map_err(RecoveryError::io("sync", name))?;
        window.file.drop_cache().map_err(RecoveryError::io("drop from the cache", name))?;
        window.len = window.file.len().map_err(RecoveryError::io("read", name))?;
        window.filled = 0;
        Ok(window)
    }

    /// As [`open_device`](Window::open_device), of a file that may be damaged in any way: what cannot be read is given as
    /// bytes that are nothing.
    pub(crate) fn open_patient(
        dir: &Arc<dyn LogDir>,
        name: &str,
        capacity: usize,
    ) -> Result<(Window, Arc<Patient>), RecoveryError> {
        let mut patient = None;
        let window = past_the_cache(|io| {
            let file = segment_file::open_as_it_is(dir, name, io)?.file;
            let over = Arc::new(Patient::over(file));
            patient = Some(over.clone());
            let opened = match PackedName::parse(name) {
                Some(PackedName(base)) => Opened::packed(over, name, base)?,
                None => Opened { file: over, packed: None, name: name.to_owned() },
            };
            Window::of(opened, capacity)
        })?;
        patient
            .map(|patient| (window, patient))
            .ok_or_else(|| RecoveryError::io("open", name)(ErrorKind::NotFound.into()))
    }

    fn open_as(
        dir: &Arc<dyn LogDir>,
        name: &str,
        capacity: usize,
        io: FileIo,
    ) -> Result<Window, RecoveryError> {
        Window::of(segment_file::open(dir, name, io)?, capacity)
    }

    /// Opens a file for reading, also that of a packed segment, as the bytes that it has on the disk.
    pub(crate) fn open_as_it_is(
        dir: &Arc<dyn LogDir>,
        name: &str,
        capacity: usize,
    ) -> Result<Window, RecoveryError> {
        Window::of(segment_file::open_as_it_is(dir, name, FileIo::Buffered)?, capacity)
    }

    /// A buffer over a file that is open.
    pub(crate) fn over(file: Arc<dyn LogFile>, name: &str, capacity: usize) -> Result<Window, RecoveryError> {
        Window::of(Opened { file, packed: None, name: name.to_owned() }, capacity)
    }

    fn of(opened: Opened, capacity: usize) -> Result<Window, RecoveryError> {
        let Opened { file, packed, name } = opened;
        let len = file.len().map_err(RecoveryError::io("read", name.as_str()))?;
        // A small file needs no more than itself.
        let buf = AlignedBuf::zeroed(usize::try_from(len).unwrap_or(capacity).min(capacity));
        Ok(Window { file, packed, name, len, capacity: buf.len(), buf, start: 0, filled: 0 })
    }

    /// The file.
    pub(crate) fn into_file(self) -> Arc<dyn LogFile> {
        self.file
    }

    /// The packed segment, if it is one.
    pub(crate) fn packed(&self) -> Option<&Arc<PackedFile>> {
        self.packed.as_ref()
    }

    /// What is wrong with the packed segment at these bytes, which were read as zeros for it.
    pub(crate) fn fault(&self, offset: u64, len: u64) -> Option<DamageCause> {
        self.packed.as_ref().and_then(|packed| packed.fault(offset, len))
    }

    /// The file's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file, as last seen.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What the buffer holds of the file from `offset` on; nothing if it does not hold that byte.
    #[inline]
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.buf.get(skip..self.filled)).unwrap_or(&[])
    }

    /// Forgets what the buffer holds, and how long the file was: a writer went on. Reads with a buffer of this capacity
    /// from now on.
    pub(crate) fn renew(&mut self, capacity: usize) -> Result<(), RecoveryError> {
        self.len = self.file.len().map_err(RecoveryError::io("read", self.name.as_str()))?;
        self.capacity =
            usize::try_from(self.len).unwrap_or(capacity).min(capacity).next_multiple_of(IO_ALIGN);
        self.filled = 0;
        Ok(())
    }

    /// Takes another buffer, which holds `filled` bytes of the file from `start` on; gives back the one it had.
    pub(crate) fn swap(&mut self, buf: AlignedBuf, start: u64, filled: usize) -> AlignedBuf {
        self.start = start;
        self.filled = filled;
        mem::replace(&mut self.buf, buf)
    }

    /// Makes [`at`](Window::at) hold the end of the file, as much of it as the buffer takes. What a packed segment ends
    /// with is read as it is asked for: more would be unpacked for nothing.
    pub(crate) fn fill_end(&mut self) -> Result<(), RecoveryError> {
        if self.packed.is_some() {
            return Ok(());
        }
        let start = self.len.saturating_sub(self.capacity as u64).next_multiple_of(ALIGN);
        self.fill(start, self.len.saturating_sub(start)).map(|_| ())
    }

    /// Makes [`at`](Window::at) hold `need` bytes from `offset` on, or as many as the file has there; how
    /// many of them it holds.
    ///
    /// The caller asks for more than the capacity only for an entry that proved its length.
    pub(crate) fn fill(&mut self, offset: u64, need: u64) -> Result<u64, RecoveryError> {
        let held = self.at(offset).len() as u64;
        if held >= need {
            return Ok(need);
        }
        let end = offset.saturating_add(need).min(self.len);
        if offset >= end {
            return Ok(0);
        }
        self.slide(offset, end).map_err(segment_file::read_error(&self.name))?;
        Ok(need.min(self.at(offset).len() as u64))
    }

    /// Moves the buffer so that it begins with the block of `offset` and holds the bytes up to `end`, which
    /// lies in the file.
    fn slide(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let from = offset - offset % self.align() as u64;
        let span = usize::try_from(end - from).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        let capacity = span.max(self.capacity).next_multiple_of(IO_ALIGN);
        let kept = self.at(from).len().min(capacity);
        let kept = kept - kept % self.align();
        let skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let source = skip..skip.saturating_add(kept);
        if capacity == self.buf.len() {
            if kept > 0 {
                self.buf.copy_within(source, 0);
            }
        } else {
            let mut buf = AlignedBuf::zeroed(capacity);
            if let (Some(to), Some(from)) = (buf.get_mut(..kept), self.buf.get(source)) {
                to.copy_from_slice(from);
            }
            self.buf = buf;
        }
        self.start = from;
        self.filled = kept;
        self.read(end)
    }

    /// Of what offsets and lengths of reads are multiples.
    fn align(&self) -> usize {
        if self.packed.is_some() { 1 } else { IO_ALIGN }
    }

    /// Reads until the buffer is full or the file ends; of a packed segment no frame beyond the one that holds the byte
    /// before `end`. Only the file's length says that it ends: a read may be short at any time, and records behind it must
    /// not be taken for never written.
    fn read(&mut self, end: u64) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let held = self.start + self.filled as u64;
            if held >= self.len || (self.packed.is_some() && held >= end) {
                return Ok(());
            }
            // Past the page cache every read begins on a block, so a short one is begun again on its last. One that
            // came no further goes on where it stopped: past the cache that is refused, which is an answer too.
            let begin = if tries == 0 { self.filled - self.filled % self.align() } else { self.filled };
            let Some(room) = self.buf.get_mut(begin..).filter(|room| !room.is_empty()) else {
                return Ok(());
            };
            match self.file.read_at(room, self.start + begin as u64) {
                Ok(read) if begin + read > self.filled => {
                    self.filled = begin + read;
                    tries = 0;
                }
                Ok(_) if self.file.len()? <= held => {
                    // The file ends here, whatever its length was: a writer cut it for its seal.
                    self.len = self.len.min(held);
                    return Ok(());
                }
                Ok(_) if tries == TRIES_MAX => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => tries += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Opens a file past the page cache; through it where the file system knows no other way.
fn past_the_cache(
    mut open: impl FnMut(FileIo) -> Result<Window, RecoveryError>,
) -> Result<Window, RecoveryError> {
    let direct = open(FileIo::Direct).and_then(|mut window| {
        // Some file systems take the flag and refuse the first read.
        window.fill(0, 1)?;
        Ok(window)
    });
    match direct {
        Err(RecoveryError::Io { source, .. })
            if matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
        {
            open(FileIo::Buffered)
        }
        other => other,
    }
}

/// How often a file that is longer than what was read of it is asked for more without giving any.
const TRIES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braidlog_sim::SimDisk;
    use braidlog_storage::Storage;

    use super::*;

    fn window(bytes: &[u8], capacity: usize) -> Window {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        disk.put_raw("log/file", bytes);
        Window::open_device(&dir, "file", capacity).unwrap()
    }

    #[test]
    fn every_byte_is_found_wherever_the_buffer_stands() {
        let bytes: Vec<u8> = (0..40_001u32).map(|n| (n % 251) as u8).collect();
        let mut window = window(&bytes, 8192);
        let mut at = 17u64;
        for step in 0..4000u64 {
            at = (at * 7919 + step) % 45_000;
            let need = 1 + step % 6000;
            let held = window.fill(at, need).unwrap();
            let there = (bytes.len() as u64).saturating_sub(at);
            assert_eq!(held, need.min(there), "{need} bytes at {at}");
            assert_eq!(window.at(at)[..held as usize], bytes[at.min(40_001) as usize..][..held as usize]);
        }
    }

    #[test]
    fn buffer_grows_for_one_entry_and_goes_back() {
        let bytes = vec![7; 3 << 20];
        let mut window = window(&bytes, 64 << 10);
        assert_eq!(window.buf.len(), 64 << 10);
        assert_eq!(window.fill(5000, 1 << 20).unwrap(), 1 << 20);
        assert!(window.buf.len() <= (1 << 20) + 2 * IO_ALIGN);
        assert_eq!(window.fill(2 << 20, 32).unwrap(), 32);
        assert_eq!(window.buf.len(), 64 << 10);
        // What lies behind the end of the file is not waited for.
        assert_eq!(window.fill(100, u64::MAX).unwrap(), (3 << 20) - 100);
        assert_eq!(window.fill(3 << 20, 1).unwrap(), 0);
    }
}
