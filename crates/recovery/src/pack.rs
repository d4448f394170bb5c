//! Packing: a finished segment is written anew, compressed, and takes the place of the one that it was made of.
//!
//! # Order
//! 1. The segment is read from the device, every entry of it checked, and written as a stream under a temporary name, which
//!    is synced. One that cannot be read to the entry that the next segment names, or whose seal is not what that one says,
//!    stays as it is: what is damaged is not written anew.
//! 2. What was written is read back from the device, unpacked and compared with the segment, byte for byte.
//! 3. It gets its name, and the directory is synced.
//! 4. The original's name goes, and the directory is synced.
//!
//! A crash before 3 leaves the original and rubbish, one before the end of 4 perhaps both; then the original wins, and the
//! next opening removes the other. The original's file is never used again for another segment: a reader may have it open,
//! here or in another process, and nothing tells him.
//!
//! # Which
//! Only a segment that the next one names: so never the last. Nothing about a log's meaning changes, so neither holds nor
//! readers stand against it.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;

use braidlog_format::checksum::crc32_seeded;
use braidlog_format::{
    Flags, Lsn, LsnRange, PACKED_FRAME, PACKED_FRAMES_MAX, PACKED_HEAD, PACKED_INDEX, PACKED_TRAILER,
    PackedFrame, PackedHead, PackedIndex, PackedName, Predecessor, SEGMENT_HEADER_LEN, SegmentHeader,
    SegmentName, StreamHeader, StreamKind, ZSTD, compression_fields, packs, unfinished_packed_name,
};
use braidlog_storage::LogDir;

use crate::chain::{HeaderFound, header_in};
use crate::compression::Packer;
use crate::dir::path_of;
use crate::scan::{Scan, Step, Stop};
use crate::stream::StreamWriter;
use crate::tail::cause_of;
use crate::window::{GLANCE_LEN, STREAM_LEN, Window};
use crate::{DamageCause, ManifestStore, RecoveryError, compression};

/// Where a frame is cut although an entry goes on.
const FRAME_CUT: usize = 512 << 10;

/// How a segment is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackHow {
    /// The level of zstd, 1 to 19: higher is smaller and slower to make. Default: 3.
    pub level: i32,
    /// A frame ends with the entry that reaches this many bytes, at most 512 KiB: to read one record, one frame is
    /// unpacked. Default: 128 KiB.
    pub frame_bytes: usize,
}

impl Default for PackHow {
    fn default() -> PackHow {
        PackHow { level: 3, frame_bytes: 128 << 10 }
    }
}

impl PackHow {
    /// The longest segment that is packed, in bytes: 2.5 GiB with frames of 128 KiB. Its index is one entry, with a row for
    /// each frame.
    pub fn segment_max(&self) -> u64 {
        // Header, seal, and entries that are cut may take a frame more each.
        let frames = PACKED_FRAMES_MAX as u64 / 2 + 1;
        frames * self.frame_len() as u64 - 1
    }

    fn frame_len(&self) -> usize {
        self.frame_bytes.clamp(SEGMENT_HEADER_LEN as usize, FRAME_CUT)
    }
}

/// A segment that was packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Packed {
    /// Its base LSN.
    pub base: Lsn,
    /// Bytes of its file before.
    pub plain_bytes: u64,
    /// Bytes of its file now.
    pub packed_bytes: u64,
}

/// What came of packing a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PackingEnd {
    /// It is packed, and the original is gone.
    Packed(Packed),
    /// It would not be smaller by a sixteenth, and stays as it is.
    NotSmaller(Packed),
    /// It is larger than this version packs ([`PackHow::segment_max`]), and stays as it is.
    TooLarge,
    /// It cannot be packed now, and stays as it is: it has no successor yet, it is packed already, or the log has given it
    /// up.
    NotNow,
}

/// A segment that is being packed, step by step. Dropped before its end it leaves the segment as it was.
#[derive(Debug)]
pub struct Packing {
    dir: Arc<dyn LogDir>,
    store: Arc<ManifestStore>,
    base: Lsn,
    plain_len: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Writing(Box<Writing>),
    Comparing(Box<Comparing>),
    Ended(PackingEnd),
}

impl Packing {
    /// Begins to pack the segment with this base, of which `next` is the successor's base. The caller is the log's writer,
    /// and packs one segment at a time.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`], [`RecoveryError::Newer`] and [`RecoveryError::Foreign`] if one of the two is not what it
    /// should be; [`RecoveryError::Io`], of kind `Unsupported` in a build without the cargo feature `zstd`.
    pub fn begin(
        dir: &Arc<dyn LogDir>,
        store: &Arc<ManifestStore>,
        base: Lsn,
        next: Lsn,
        how: PackHow,
    ) -> Result<Packing, RecoveryError> {
        let (dir, store) = (Arc::clone(dir), Arc::clone(store));
        let name = SegmentName(base).to_string();
        if !compression::IS_SUPPORTED {
            return Err(RecoveryError::io("compress", name)(ErrorKind::Unsupported.into()));
        }
        let mut after = Window::open(&dir, &SegmentName(next).to_string(), GLANCE_LEN)?;
        let named = match header_in(&mut after)? {
            HeaderFound::NotStarted => None,
            header => header.expect(after.name(), next, Lsn::MAX)?.predecessor,
        };
        let named = named.filter(|named| named.base == base && named.last >= base);
        let mut window = Window::open_device(&dir, &name, STREAM_LEN)?;
        let plain_len = window.len();
        let frame_len = how.frame_len();
        let stage = match named.filter(|_| window.packed().is_none()) {
            Some(_) if plain_len > how.segment_max() => Stage::Ended(PackingEnd::TooLarge),
            Some(named) => {
                let header = header_in(&mut window)?.expect(&name, base, named.last)?;
                Stage::Writing(Box::new(Writing::begin(&dir, window, header, named, how.level, frame_len)?))
            }
            None => Stage::Ended(PackingEnd::NotNow),
        };
        Ok(Packing { dir, store, base, plain_len, stage })
    }

    /// The segment's base LSN.
    pub fn base(&self) -> Lsn {
        self.base
    }

    /// Bytes that are to be gone through, twice those of the segment: written, then compared.
    pub fn bytes_total(&self) -> u64 {
        self.plain_len.saturating_mul(2)
    }

    /// Bytes that have been gone through.
    pub fn bytes_done(&self) -> u64 {
        match &self.stage {
            Stage::Writing(writing) => writing.frames.offset,
            Stage::Comparing(comparing) => self.plain_len.saturating_add(comparing.offset),
            Stage::Ended(_) => self.bytes_total(),
        }
    }

    /// Goes on for about `bytes` bytes; what came of it, when it has ended.
    ///
    /// # Errors
    /// As [`begin`](Packing::begin), for whatever is found meanwhile; [`RecoveryError::Io`] of kind `InvalidData` if what
    /// was written cannot be read back as it was. The segment is as before, unless the error is that the directory could
    /// not be synced: then it may be there packed, too.
    pub fn step(&mut self, bytes: u64) -> Result<Option<PackingEnd>, RecoveryError> {
        match &mut self.stage {
            Stage::Writing(writing) => {
                if writing.step(bytes)? {
                    let packed_len = writing.finish()?;
                    let packed =
                        Packed { base: self.base, plain_bytes: self.plain_len, packed_bytes: packed_len };
                    if packed_len > self.plain_len / 16 * 15 {
                        return self.give_up(PackingEnd::NotSmaller(packed)).map(Some);
                    }
                    self.stage = Stage::Comparing(Box::new(Comparing::begin(&self.dir, packed)?));
                }
                Ok(None)
            }
            Stage::Comparing(comparing) => {
                if !comparing.step(bytes)? {
                    return Ok(None);
                }
                let packed = comparing.packed;
                self.swap(packed).map(Some)
            }
            Stage::Ended(end) => Ok(Some(*end)),
        }
    }

    /// Puts what was written in the place of the segment, while no truncation looks at either.
    fn swap(&mut self, packed: Packed) -> Result<PackingEnd, RecoveryError> {
        let store = Arc::clone(&self.store);
        let _turn = store.truncation();
        if store.current().log_start > self.base {
            return self.give_up(PackingEnd::NotNow);
        }
        let (unfinished, name) = (unfinished_packed_name(self.base), PackedName(self.base).to_string());
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("original_removed_before_the_packed_has_its_name") {
            let _ = self.dir.remove(&SegmentName(self.base).to_string());
        }
        // One that has the name is of an earlier attempt, in which the original stayed.
        self.dir.rename(&unfinished, &name, true).map_err(RecoveryError::io("rename", unfinished))?;
        self.stage = Stage::Ended(PackingEnd::Packed(packed));
        self.sync()?;
        let original = SegmentName(self.base).to_string();
        match self.dir.remove(&original) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(RecoveryError::io("remove", original)(error));
            }
            _ => self.sync()?,
        }
        Ok(PackingEnd::Packed(packed))
    }

    fn give_up(&mut self, end: PackingEnd) -> Result<PackingEnd, RecoveryError> {
        self.stage = Stage::Ended(end);
        let name = unfinished_packed_name(self.base);
        self.dir.remove(&name).map_err(RecoveryError::io("remove", name))?;
        Ok(end)
    }

    fn sync(&self) -> Result<(), RecoveryError> {
        self.dir.sync().map_err(RecoveryError::io("sync", path_of(&self.dir)))
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Ended(_)) {
            // What stays is rubbish, and goes with the next opening.
            let _ = self.dir.remove(&unfinished_packed_name(self.base));
        }
    }
}

/// The segment is read, checked and written.
#[derive(Debug)]
struct Writing {
    scan: Scan,
    named: Predecessor,
    /// Bytes of the segment's file.
    len: u64,
    /// Whether all is checked, so that only bytes are left.
    is_checked: bool,
    frames: Frames,
}

impl Writing {
    fn begin(
        dir: &Arc<dyn LogDir>,
        mut window: Window,
        header: SegmentHeader,
        named: Predecessor,
        level: i32,
        frame_len: usize,
    ) -> Result<Writing, RecoveryError> {
        let len = window.len();
        let name = unfinished_packed_name(header.base);
        let of_stream =
            StreamHeader::new(StreamKind::Packed, header.log_id, header.base.0, header.created_at_ns);
        let mut stream = StreamWriter::create(dir, &name, of_stream)?;
        let head = PackedHead { base: header.base, last: named.last, len };
        stream.put(PACKED_HEAD, Flags::NONE, &[&head.encode()])?;
        let packer = Packer::new(level).map_err(RecoveryError::io("compress", name.as_str()))?;
        let mut frames = Frames {
            stream,
            packer,
            name,
            frame_len,
            offset: 0,
            pending: Vec::with_capacity(FRAME_CUT),
            pending_lsn: Lsn::ZERO,
            places: Vec::new(),
            checksum: 0,
        };
        window.fill(0, SEGMENT_HEADER_LEN)?;
        frames.put_bytes(window.at(0).get(..SEGMENT_HEADER_LEN as usize).unwrap_or(&[]))?;
        frames.cut(Way::Plain)?;
        Ok(Writing { scan: Scan::new(window, &header), named, len, is_checked: false, frames })
    }

    /// Goes on for about `bytes` bytes; whether that was all.
    fn step(&mut self, bytes: u64) -> Result<bool, RecoveryError> {
        let from = self.frames.end();
        while self.frames.end().saturating_sub(from) < bytes {
            if self.is_checked {
                if !self.copy_rest()? {
                    return Ok(true);
                }
            } else {
                self.entry()?;
            }
        }
        Ok(false)
    }

    /// Takes the next entry, or finds that there is none to be checked any more.
    fn entry(&mut self) -> Result<(), RecoveryError> {
        let Writing { scan, named, frames, .. } = self;
        let is_behind = scan.at.next > named.last && !scan.at.batch_open;
        if is_behind && !named.sealed {
            return self.checked();
        }
        let stop = match scan.step()? {
            Step::Entry(found) if is_behind && found.header.kind.takes_lsn() => {
                let lsns = LsnRange { first: named.last.next(), last: named.last };
                let name = scan.window.name();
                return Err(RecoveryError::damaged(name, found.offset, lsns, DamageCause::LastEntryDiffers));
            }
            Step::Entry(found) => {
                let len = usize::try_from(found.header.entry_len()).unwrap_or(usize::MAX);
                let bytes = scan.window.at(found.offset).get(..len).unwrap_or(&[]);
                return frames.put_entry(found.header.lsn, bytes);
            }
            Step::Stop(stop) => stop,
        };
        match stop {
            Stop::Seal(facts)
                if is_behind && named.sealed && facts.agrees_with(named) && facts.end == self.len =>
            {
                self.checked()
            }
            Stop::Newer(what) => {
                let file = scan.window.name().to_owned();
                Err(RecoveryError::Newer { file, offset: scan.at.offset, what })
            }
            stop => {
                let lsns = LsnRange { first: scan.at.next, last: named.last };
                let cause = match stop {
                    _ if is_behind => DamageCause::Seal,
                    stop => cause_of(&scan.window, &stop, &scan.at),
                };
                Err(RecoveryError::damaged(scan.window.name(), scan.at.offset, lsns, cause))
            }
        }
    }

    /// Every entry up to the one that the next segment names was checked: whether it is that one.
    fn checked(&mut self) -> Result<(), RecoveryError> {
        let Writing { scan, named, frames, .. } = self;
        if let Some(last) = scan.at.last
            && (last.lsn > named.last || last.differs_from(named))
        {
            let lsns = LsnRange { first: last.lsn, last: last.lsn };
            let name = scan.window.name();
            return Err(RecoveryError::damaged(name, last.offset, lsns, DamageCause::LastEntryDiffers));
        }
        frames.cut(Way::Packed)?;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("packed_index_off_by_a_frame") {
            let mut lsn = Lsn::ZERO;
            frames.places.iter_mut().rev().for_each(|place| std::mem::swap(&mut place.lsn, &mut lsn));
        }
        // The seal begins with the header of an entry; what follows the entries of a segment without one may be anything.
        frames.pending_lsn = if named.sealed { scan.at.next } else { Lsn::ZERO };
        self.is_checked = true;
        Ok(())
    }

    /// Takes some bytes of the seal, or of what a crash left behind the entries; whether there were any.
    fn copy_rest(&mut self) -> Result<bool, RecoveryError> {
        let at = self.frames.end();
        let left = self.len.saturating_sub(at);
        let way = if self.named.sealed { Way::Plain } else { Way::Packed };
        if left == 0 {
            self.frames.cut(way)?;
            return Ok(false);
        }
        let window = &mut self.scan.window;
        let held = window.fill(at, left.min(self.frames.frame_len as u64))?;
        let bytes = window.at(at).get(..usize::try_from(held).unwrap_or(0)).unwrap_or(&[]);
        if bytes.is_empty() {
            let source = ErrorKind::UnexpectedEof.into();
            return Err(RecoveryError::io("read", window.name())(source));
        }
        self.frames.put_bytes(bytes)?;
        if self.frames.pending.len() >= self.frames.frame_len {
            self.frames.cut(way)?;
        }
        Ok(true)
    }

    /// Writes index, trailer and end, and makes all of it durable; bytes of the file.
    fn finish(&mut self) -> Result<u64, RecoveryError> {
        let Frames { stream, places, checksum, .. } = &mut self.frames;
        let index = PackedIndex { frames: mem::take(places), checksum: *checksum };
        let index_at = stream.len_bytes();
        stream.put(PACKED_INDEX, Flags::NONE, &[&index.encode()])?;
        stream.put(PACKED_TRAILER, Flags::NONE, &[&index_at.to_le_bytes()])?;
        Ok(stream.complete()?.bytes)
    }
}

/// How a frame is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Compressed, if that makes it smaller.
    Packed,
    /// As it is: what is looked at without a record being wanted.
    Plain,
}

/// The frames of a packed segment, as they are made.
#[derive(Debug)]
struct Frames {
    stream: StreamWriter,
    packer: Packer,
    name: String,
    frame_len: usize,
    /// Where the pending bytes stand in the segment's file.
    offset: u64,
    pending: Vec<u8>,
    /// The LSN of the entry with which they begin; [`Lsn::ZERO`] if they begin with none.
    pending_lsn: Lsn,
    places: Vec<PackedFrame>,
    /// CRC-32 of the bytes before the pending ones.
    checksum: u32,
}

impl Frames {
    /// Where the next bytes stand in the segment's file.
    fn end(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// Takes a whole entry.
    fn put_entry(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), RecoveryError> {
        if self.pending.len() >= self.frame_len || self.pending.len() + bytes.len() > FRAME_CUT {
            self.cut(Way::Packed)?;
        }
        if self.pending.is_empty() {
            self.pending_lsn = lsn;
        }
        self.put_bytes(bytes)?;
        // What is left of an entry that was cut is a frame of its own, so that the next one begins with an entry.
        if bytes.len() > FRAME_CUT { self.cut(Way::Packed) } else { Ok(()) }
    }

    fn put_bytes(&mut self, mut bytes: &[u8]) -> Result<(), RecoveryError> {
        while !bytes.is_empty() {
            let room = FRAME_CUT.saturating_sub(self.pending.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.pending.extend_from_slice(now);
            bytes = later;
            if !bytes.is_empty() {
                self.cut(Way::Packed)?;
            }
        }
        Ok(())
    }

    /// Writes the pending bytes as a frame, if there are any.
    fn cut(&mut self, way: Way) -> Result<(), RecoveryError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let plain = &self.pending;
        self.places.push(PackedFrame {
            offset: self.offset,
            at: self.stream.len_bytes(),
            lsn: self.pending_lsn,
        });
        let packed = match way {
            Way::Packed => {
                let packed = self.packer.pack(plain).map_err(RecoveryError::io("compress", &*self.name))?;
                Some(packed).filter(|packed| packs(plain.len() as u64, packed.len() as u64))
            }
            Way::Plain => None,
        };
        match packed {
            Some(packed) => {
                let fields = compression_fields(ZSTD, u32::try_from(plain.len()).unwrap_or(u32::MAX));
                let flags = Flags::EXTENDED.with(Flags::COMPRESSED);
                self.stream.put(PACKED_FRAME, flags, &[&fields, &packed])?;
            }
            None => self.stream.put(PACKED_FRAME, Flags::NONE, &[plain])?,
        }
        self.checksum = crc32_seeded(self.checksum, plain);
        self.offset += plain.len() as u64;
        self.pending.clear();
        self.pending_lsn = Lsn::ZERO;
        Ok(())
    }
}

/// What was written is read back and compared.
#[derive(Debug)]
struct Comparing {
    original: Window,
    written: Window,
    packed: Packed,
    offset: u64,
    checksum: u32,
}

impl Comparing {
    fn begin(dir: &Arc<dyn LogDir>, packed: Packed) -> Result<Comparing, RecoveryError> {
        let original = Window::open_device(dir, &SegmentName(packed.base).to_string(), STREAM_LEN)?;
        let written = Window::open_unfinished(dir, packed.base, STREAM_LEN)?;
        Ok(Comparing { original, written, packed, offset: 0, checksum: 0 })
    }

    /// Goes on for about `bytes` bytes; whether that was all.
    fn step(&mut self, bytes: u64) -> Result<bool, RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("packed_not_compared") {
            return Ok(true);
        }
        let end = self.offset.saturating_add(bytes.max(1)).min(self.packed.plain_bytes);
        while self.offset < end {
            let at = self.offset;
            self.original.fill(at, 1)?;
            self.written.fill(at, 1)?;
            let (one, other) = (self.original.at(at), self.written.at(at));
            let len = one.len().min(other.len());
            let same = one.get(..len).filter(|one| len > 0 && other.get(..len) == Some(one));
            let Some(same) = same.filter(|_| self.written.fault(at, len as u64).is_none()) else {
                return Err(self.differs());
            };
            self.checksum = crc32_seeded(self.checksum, same);
            self.offset += len as u64;
        }
        if self.offset < self.packed.plain_bytes {
            return Ok(false);
        }
        let is_it = self.written.len() == self.packed.plain_bytes
            && self.original.len() == self.packed.plain_bytes
            && self.written.packed().is_some_and(|written| written.checksum() == self.checksum);
        if is_it { Ok(true) } else { Err(self.differs()) }
    }

    fn differs(&self) -> RecoveryError {
        let what = format!("at offset {} it does not unpack to what was packed", self.offset);
        RecoveryError::io("compress", self.written.name())(io::Error::new(ErrorKind::InvalidData, what))
    }
}
