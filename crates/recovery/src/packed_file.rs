//! A packed segment as the file that was packed: its length, its bytes at their offsets. Everything above the bytes stays
//! as it is.
//!
//! The rule: a frame that is not what was written gives zeros, and is noted. Zeros are no entry, so whoever reads stops
//! there as at any other damage, says which records that costs by what vouches for them, and may go on behind; the note
//! says why. What is stored as it was is given as it stands, for its entries prove themselves. Where the index or what leads
//! to it is damaged, the frames are found one behind the other; a file whose header or head is not what was written is not
//! opened.
//!
//! Bytes of two frames are kept unpacked, for those who read a frame piece by piece.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use braidlog_format::{
    COMPRESSION_FIELDS_LEN, DecodeError, ENTRY_HEADER_LEN, EntryHeader, ExtendedField, ExtendedFields, Flags,
    IndexPoint, Kind, Lsn, LsnRange, PACKED_FRAME, PACKED_FRAMES_AT, PACKED_FRAMES_MAX, PACKED_HEAD,
    PACKED_INDEX, PACKED_TAIL_LEN, PACKED_TRAILER, PACKED_TRAILER_LEN, PackedFrame, PackedHead, PackedIndex,
    STREAM_END_LEN, STREAM_HEADER_LEN, STREAM_PAYLOAD_MAX, StreamEnd, StreamHeader, StreamKind, entry_len,
    padded_len,
};
use braidlog_storage::{AlignedBuf, IO_ALIGN, LogFile, read_full_at};
use thiserror::Error;

use crate::compression::{self, Refusal};
use crate::locked::locked;
use crate::stream;
use crate::window::{GLANCE_LEN, Window};
use crate::{DamageCause, PackedFault, RecoveryError};

const ALIGN: u64 = IO_ALIGN as u64;
/// Frames that are kept unpacked.
const KEPT_MAX: usize = 2;

/// A packed segment, open for reading.
#[derive(Debug)]
pub(crate) struct PackedFile {
    file: Arc<dyn LogFile>,
    header: StreamHeader,
    head: PackedHead,
    index: PackedIndex,
    /// Where the index stands, and the last frame ends.
    index_at: u64,
    kept: Mutex<VecDeque<(usize, Arc<[u8]>)>>,
    faults: Mutex<BTreeMap<usize, PackedFault>>,
}

/// A frame is packed in a way that this build does not know. It comes through [`LogFile::read_at`] as the inside of an
/// [`io::Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("compressed with algorithm {algorithm}, which this build cannot unpack")]
pub(crate) struct CannotUnpack {
    pub(crate) algorithm: u8,
}

/// A frame's place here and there.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: usize,
    frame: PackedFrame,
    /// Bytes of the segment's file.
    len: usize,
    /// Bytes of the frame's entry.
    entry_len: u64,
}

impl PackedFile {
    /// The packed segment with this base.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] with the LSNs from `base` on, [`RecoveryError::Newer`], [`RecoveryError::Foreign`],
    /// [`RecoveryError::Io`].
    pub(crate) fn open(file: Arc<dyn LogFile>, name: &str, base: Lsn) -> Result<PackedFile, RecoveryError> {
        let mut window = Window::over(Arc::clone(&file), name, GLANCE_LEN)?;
        let lsns = LsnRange { first: base, last: Lsn::MAX };
        let damaged = |cause| RecoveryError::damaged(name, 0, lsns, cause);
        let header = match stream::header_in(&mut window, StreamKind::Packed) {
            Err(RecoveryError::Damaged(damage)) => return Err(damaged(damage.cause)),
            header => header?,
        };
        if header.number != base.0 {
            return Err(damaged(DamageCause::Misnamed { base: Lsn(header.number) }));
        }
        let mut parts = Parts { window: &mut window, header: &header };
        let (head, index, index_at) = parts.read_or_walk(base).map_err(|unread| match unread {
            Unread::Fault(at, DamageCause::Entry(what)) if what.is_newer() => {
                RecoveryError::Newer { file: name.to_owned(), offset: at, what }
            }
            Unread::Fault(at, DamageCause::Entry(what)) => {
                damaged(DamageCause::Packed { at, what: PackedFault::Entry(what) })
            }
            Unread::Fault(_, cause) => damaged(cause),
            Unread::Failed(error) => error,
        })?;
        Ok(PackedFile {
            file,
            header,
            head,
            index,
            index_at,
            kept: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    /// The last LSN of the segment.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.head.last
    }

    /// The packed file, with the bytes that it has on the disk.
    pub(crate) fn file(&self) -> &Arc<dyn LogFile> {
        &self.file
    }

    /// CRC-32 of the file that was packed.
    pub(crate) fn checksum(&self) -> u32 {
        self.index.checksum
    }

    /// The frames that begin with an entry, as points of an index of the segment's file.
    pub(crate) fn points(&self) -> impl DoubleEndedIterator<Item = IndexPoint> {
        let begun = self.index.frames.iter().filter(|frame| frame.lsn != Lsn::ZERO);
        begun.map(|frame| IndexPoint { lsn: frame.lsn, offset: frame.offset })
    }

    /// `point`, which is not above `lsn`, or the beginning of the frame that holds the entry with this LSN, whichever lies
    /// behind: so no other frame is unpacked for it.
    pub(crate) fn later_of(&self, point: IndexPoint, lsn: Lsn) -> IndexPoint {
        let frame = self.points().rfind(|point| point.lsn <= lsn);
        #[cfg(braidlog_sabotage)]
        let frame = match frame {
            frame if braidlog_sabotage::is("frame_behind_the_record") => {
                self.points().find(|point| point.lsn > lsn).or(frame)
            }
            frame => frame,
        };
        frame.filter(|frame| frame.offset > point.offset).unwrap_or(point)
    }

    /// What is wrong with the frames that hold these bytes of the segment's file, as far as they were read.
    pub(crate) fn fault(&self, offset: u64, len: u64) -> Option<DamageCause> {
        let faults = locked(&self.faults);
        let end = offset.saturating_add(len.max(1));
        faults.iter().find_map(|(&number, &what)| {
            let place = self.place(number)?;
            let holds = place.frame.offset < end && offset < place.frame.offset + place.len as u64;
            holds.then_some(DamageCause::Packed { at: place.frame.at, what })
        })
    }

    fn place(&self, number: usize) -> Option<Place> {
        let &frame = self.index.frames.get(number)?;
        let next = self.index.frames.get(number + 1);
        let (end, at_end) = next.map_or((self.head.len, self.index_at), |next| (next.offset, next.at));
        // The index was checked: neither is negative, and the length fits into an entry.
        let len = usize::try_from(end.saturating_sub(frame.offset)).unwrap_or(0);
        Some(Place { number, frame, len, entry_len: at_end.saturating_sub(frame.at) })
    }

    /// The frame that holds the byte at `offset`.
    fn place_of(&self, offset: u64) -> Option<Place> {
        let behind = self.index.frames.partition_point(|frame| frame.offset <= offset);
        self.place(behind.checked_sub(1)?)
    }

    /// Fills `out` with the whole frame.
    fn unpack(&self, place: Place, out: &mut [u8]) -> io::Result<()> {
        let span = self.span(place.frame.at, place.entry_len)?;
        let fault = match self.unpack_entry(place, span.bytes(), out) {
            Ok(()) => return Ok(()),
            Err(Unfit::Unknown(algorithm)) => return Err(io::Error::other(CannotUnpack { algorithm })),
            Err(Unfit::Fault(fault)) => fault,
        };
        out.fill(0);
        locked(&self.faults).insert(place.number, fault);
        Ok(())
    }

    fn unpack_entry(&self, place: Place, bytes: &[u8], out: &mut [u8]) -> Result<(), Unfit> {
        let entry = |error| Unfit::Fault(PackedFault::Entry(error));
        let invalid = |field| entry(DecodeError::InvalidField { field });
        let short = DecodeError::Short { have: bytes.len() as u64, need: place.entry_len };
        let (head, rest) = bytes.split_first_chunk().ok_or(entry(short))?;
        let header = EntryHeader::decode(head, self.header.salt, place.frame.at).map_err(entry)?;
        // The head is the first entry.
        let is_it = header.kind == PACKED_FRAME && header.lsn == Lsn(place.number as u64 + 2);
        if !is_it || header.flags != Flags::EXTENDED.with(Flags::COMPRESSED) {
            return Err(invalid("frame"));
        }
        let payload_len = header.payload_len as usize;
        let (payload, padding) = rest.split_at_checked(payload_len).ok_or(entry(short))?;
        header.check_payload(payload, padding).map_err(entry)?;
        let (fields, packed) = ExtendedFields::split(payload).map_err(entry)?;
        let mut algorithm = None;
        for field in fields {
            match field.map_err(entry)? {
                ExtendedField::Compression { algorithm: number, plain_len }
                    if plain_len as usize == out.len() =>
                {
                    algorithm = Some(number);
                }
                ExtendedField::Ignorable(..) => {}
                _ => return Err(invalid("extended field")),
            }
        }
        let algorithm = algorithm.ok_or(invalid("compression"))?;
        compression::decompress_into(algorithm, packed, out).map_err(|refusal| match refusal {
            Refusal::Unsupported => Unfit::Unknown(algorithm),
            Refusal::Invalid => Unfit::Fault(PackedFault::Frame),
        })
    }

    /// Bytes of the packed file; past the page cache whole blocks are read.
    fn span(&self, at: u64, len: u64) -> io::Result<Span> {
        let skip = at % ALIGN;
        let wanted = usize::try_from(skip + len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        let mut buf = AlignedBuf::zeroed(wanted);
        let filled = read_full_at(&*self.file, &mut buf, at - skip)?;
        Ok(Span { buf, skip: skip as usize, end: filled.min(wanted) })
    }

    /// The whole frame, unpacked now or a moment ago.
    fn kept(&self, place: Place) -> io::Result<Arc<[u8]>> {
        let kept = locked(&self.kept).iter().find(|(number, _)| *number == place.number).cloned();
        if let Some((_, bytes)) = kept {
            return Ok(bytes);
        }
        let mut bytes = vec![0; place.len];
        self.unpack(place, &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut kept = locked(&self.kept);
        kept.push_back((place.number, Arc::clone(&bytes)));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        Ok(bytes)
    }
}

/// What a frame's entry is not.
enum Unfit {
    Fault(PackedFault),
    /// It is packed in a way that this build does not know.
    Unknown(u8),
}

/// Bytes of a file in a buffer of whole blocks.
struct Span {
    buf: AlignedBuf,
    skip: usize,
    end: usize,
}

impl Span {
    fn bytes(&self) -> &[u8] {
        self.buf.get(self.skip..self.end).unwrap_or(&[])
    }
}

impl LogFile for PackedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.head.len)
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    /// Ends with the frame in which `offset` lies, so that no frame is unpacked of which no byte is needed.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(place) = self.place_of(offset).filter(|_| offset < self.head.len) else { return Ok(0) };
        let skip = usize::try_from(offset - place.frame.offset).unwrap_or(usize::MAX);
        let len = place.len.saturating_sub(skip).min(buf.len());
        let Some(out) = buf.get_mut(..len).filter(|out| !out.is_empty()) else { return Ok(0) };
        if place.entry_len == entry_len(place.len as u64) {
            // Stored as it was.
            let span = self.span(place.frame.at + ENTRY_HEADER_LEN + skip as u64, len as u64)?;
            let bytes = span.bytes();
            let (there, missing) = out.split_at_mut(bytes.len().min(len));
            there.copy_from_slice(bytes.get(..there.len()).unwrap_or(&[]));
            missing.fill(0);
        } else if len == place.len {
            self.unpack(place, out)?;
        } else {
            let bytes = self.kept(place)?;
            out.copy_from_slice(bytes.get(skip..skip + len).unwrap_or(&[]));
        }
        Ok(len)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        Err(read_only())
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&self) -> io::Result<()> {
        locked(&self.kept).clear();
        self.file.drop_cache()
    }
}

fn read_only() -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, "a packed segment is never written to")
}

/// Reads what stands around the frames.
struct Parts<'a> {
    window: &'a mut Window,
    header: &'a StreamHeader,
}

/// Why a part cannot be had.
enum Unread {
    /// It stands at this offset, and is not what was written.
    Fault(u64, DamageCause),
    Failed(RecoveryError),
}

impl From<RecoveryError> for Unread {
    fn from(error: RecoveryError) -> Unread {
        Unread::Failed(error)
    }
}

impl Parts<'_> {
    /// Head and index, and where the index stands or should stand.
    fn read_or_walk(&mut self, base: Lsn) -> Result<(PackedHead, PackedIndex, u64), Unread> {
        let (number, payload) = self.entry(STREAM_HEADER_LEN, PACKED_HEAD, PACKED_FRAMES_AT)?;
        let fault = |error| Unread::Fault(STREAM_HEADER_LEN, DamageCause::Entry(error));
        let head = PackedHead::decode(&payload).map_err(fault)?;
        if number != 1 || head.base != base {
            return Err(fault(DecodeError::InvalidField { field: "base LSN" }));
        }
        match self.index(&head) {
            Err(Unread::Fault(at, DamageCause::Entry(what))) if !what.is_newer() => {
                let walked = self.walk(&head)?.ok_or(Unread::Fault(at, DamageCause::Entry(what)))?;
                Ok((head, walked.0, walked.1))
            }
            found => found.map(|(index, index_at)| (head, index, index_at)),
        }
    }

    /// The index as the frames themselves tell it, from one to the next; `None` if there is a gap.
    fn walk(&mut self, head: &PackedHead) -> Result<Option<(PackedIndex, u64)>, RecoveryError> {
        let (mut at, mut offset) = (PACKED_FRAMES_AT, 0);
        let mut frames = Vec::new();
        while offset < head.len {
            self.window.fill(at, ENTRY_HEADER_LEN + COMPRESSION_FIELDS_LEN as u64)?;
            let Some((header, rest)) = self.window.at(at).split_first_chunk() else { return Ok(None) };
            let Ok(header) = EntryHeader::decode(header, self.header.salt, at) else { return Ok(None) };
            let plain_len = match header.flags {
                Flags::NONE => Some(header.payload_len),
                _ => rest.get(..COMPRESSION_FIELDS_LEN).and_then(plain_len_in),
            };
            let is_next = header.kind == PACKED_FRAME && header.lsn == Lsn(frames.len() as u64 + 2);
            let is_one_too_many = frames.len() == PACKED_FRAMES_MAX;
            let Some(plain_len) = plain_len.filter(|_| is_next && !is_one_too_many) else { return Ok(None) };
            frames.push(PackedFrame { offset, at, lsn: Lsn::ZERO });
            offset = offset.saturating_add(u64::from(plain_len));
            at = at.saturating_add(header.entry_len());
        }
        // Whoever needs the checksum of the whole file has written it himself.
        let index = PackedIndex { frames, checksum: 0 };
        Ok(PackedIndex::decode(&index.encode(), head, at).ok().map(|index| (index, at)))
    }

    fn index(&mut self, head: &PackedHead) -> Result<(PackedIndex, u64), Unread> {
        let invalid = |at, field| Unread::Fault(at, DamageCause::Entry(DecodeError::InvalidField { field }));
        let fault = |at| move |error| Unread::Fault(at, DamageCause::Entry(error));
        let end = self.window.len();
        let trailer_at = end.saturating_sub(PACKED_TAIL_LEN);
        let end_at = trailer_at + entry_len(PACKED_TRAILER_LEN as u64);

        let (ended, payload) = self.entry(end_at, StreamEnd::KIND, end)?;
        let counted = StreamEnd::decode(&payload).map_err(fault(end_at))?;
        let (trailed, payload) = self.entry(trailer_at, PACKED_TRAILER, end_at)?;
        let index_at = payload.try_into().map(u64::from_le_bytes);
        let index_at = index_at.map_err(|_| invalid(trailer_at, "trailer length"))?;
        let (indexed, payload) = self.entry(index_at, PACKED_INDEX, trailer_at)?;
        let index = PackedIndex::decode(&payload, head, index_at).map_err(fault(index_at))?;
        let frames = index.frames.len() as u64;
        if (indexed, trailed, ended, counted.entries) != (frames + 2, frames + 3, frames + 4, frames + 3) {
            return Err(invalid(end_at, "entries"));
        }
        Ok((index, index_at))
    }

    /// The number and the payload of the entry of this kind that stands at `at` and ends at `end`.
    fn entry(&mut self, at: u64, kind: Kind, end: u64) -> Result<(u64, Vec<u8>), Unread> {
        let fault = |error| Unread::Fault(at, DamageCause::Entry(error));
        let invalid = |field| fault(DecodeError::InvalidField { field });
        let need = end.saturating_sub(at);
        if at < STREAM_HEADER_LEN || need < ENTRY_HEADER_LEN {
            return Err(fault(DecodeError::Short { have: need, need: ENTRY_HEADER_LEN }));
        }
        self.window.fill(at, ENTRY_HEADER_LEN)?;
        let bytes = self.window.at(at).first_chunk();
        let bytes = bytes.ok_or(fault(DecodeError::Short { have: 0, need: ENTRY_HEADER_LEN }))?;
        let header = EntryHeader::decode(bytes, self.header.salt, at).map_err(fault)?;
        if header.kind != kind || header.flags != Flags::NONE || header.entry_len() != need {
            return Err(invalid("kind"));
        }
        if header.payload_len as usize > STREAM_PAYLOAD_MAX {
            return Err(invalid("payload length"));
        }
        self.window.fill(at, need)?;
        let bytes = self.window.at(at).get(ENTRY_HEADER_LEN as usize..).unwrap_or(&[]);
        let payload_len = header.payload_len as usize;
        let padded = usize::try_from(padded_len(payload_len as u64)).unwrap_or(usize::MAX);
        let (Some(payload), Some(padding)) = (bytes.get(..payload_len), bytes.get(payload_len..padded))
        else {
            return Err(fault(DecodeError::Short { have: bytes.len() as u64, need }));
        };
        header.check_payload(payload, padding).map_err(fault)?;
        Ok((header.lsn.0, payload.to_vec()))
    }
}

/// What the extended fields of a compressed frame say that it has unpacked.
fn plain_len_in(fields: &[u8]) -> Option<u32> {
    let (fields, _) = ExtendedFields::split(fields).ok()?;
    fields.filter_map(Result::ok).find_map(|field| match field {
        ExtendedField::Compression { plain_len, .. } => Some(plain_len),
        _ => None,
    })
}

const _: () = assert!(PACKED_TAIL_LEN == entry_len(PACKED_TRAILER_LEN as u64) + entry_len(STREAM_END_LEN));
