//! A checkpoint file as it is read: once to be sure of it, once to hand its state over.
//!
//! The rule: a file is the one that the manifest names, byte for byte, or it is none. It is read to its end and checked
//! before the first byte is handed over; while it is handed over each chunk proves itself again.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use braidlog_format::{
    CHECKPOINT_DATA, CHECKPOINT_HEAD, CheckpointHead, CheckpointName, DecodeError, ExtendedField,
    ExtendedFields, Flags, LogId, Lsn, LsnRange, ManifestCheckpoint, StreamKind,
};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile};

use super::CheckpointInfo;
use crate::compression::{self, Refusal};
use crate::stream::StreamReader;
use crate::{DamageCause, ForeignFile, RecoveryError};

/// A checkpoint file that is open, so that it can be read though its name may go.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    file: Arc<dyn LogFile>,
    name: String,
    named: ManifestCheckpoint,
    log_id: LogId,
}

/// Told of bytes that were read, it says whether to go on.
pub(crate) type Tick<'a> = dyn FnMut(u64) -> Result<(), TimeIsUp> + 'a;

/// Whoever asked for the state wants no more of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the time that was given for the recovery is over")]
pub(crate) struct TimeIsUp;

/// Why a file was not read to its end.
#[derive(Debug)]
pub(crate) enum Cut {
    Time,
    Recovery(RecoveryError),
}

impl From<RecoveryError> for Cut {
    fn from(error: RecoveryError) -> Cut {
        Cut::Recovery(error)
    }
}

impl From<TimeIsUp> for Cut {
    fn from(_: TimeIsUp) -> Cut {
        Cut::Time
    }
}

impl Part {
    /// Opens the file of a checkpoint. What it holds is checked by [`Part::check`].
    pub(crate) fn open(
        dir: &Arc<dyn LogDir>,
        log_id: LogId,
        named: &ManifestCheckpoint,
    ) -> Result<Part, RecoveryError> {
        let name = CheckpointName { lsn: named.lsn, number: named.number }.to_string();
        let file = dir
            .open(&name, FileAccess::Read, FileIo::Buffered)
            .map_err(RecoveryError::io("open", name.as_str()))?;
        Ok(Part { file, name, named: *named, log_id })
    }

    /// The manifest's entry of it.
    pub(crate) fn named(&self) -> &ManifestCheckpoint {
        &self.named
    }

    /// What the manifest says of it.
    pub(crate) fn info(&self) -> CheckpointInfo {
        CheckpointInfo::of(&self.named)
    }

    /// Reads the whole file and proves that it is the one that the manifest names.
    pub(crate) fn check(&self, tick: &mut Tick<'_>) -> Result<(), Cut> {
        let mut entries = self.entries()?;
        loop {
            let before = entries.stream.bytes_read();
            let is_more = entries.next(None)?;
            tick(entries.stream.bytes_read() - before)?;
            if !is_more {
                return Ok(());
            }
        }
    }

    /// The state in it.
    pub(crate) fn read<'a>(
        &self,
        base_lsn: Option<Lsn>,
        tick: &'a mut Tick<'a>,
    ) -> Result<CheckpointReader<'a>, RecoveryError> {
        let entries = self.entries()?;
        let info = self.info();
        Ok(CheckpointReader {
            entries,
            info,
            base_lsn,
            chunk: Vec::new(),
            at: 0,
            is_over: false,
            cut: None,
            tick,
        })
    }

    /// Its entries as they stand. That they are a checkpoint's is for [`Part::check`] to say.
    pub(crate) fn stream(&self) -> Result<StreamReader, RecoveryError> {
        StreamReader::of_file(Arc::clone(&self.file), &self.name, StreamKind::Checkpoint)
    }

    fn entries(&self) -> Result<Entries, RecoveryError> {
        let stream = self.stream()?;
        let header = stream.header();
        if header.log_id != self.log_id {
            let what = ForeignFile::LogId { found: header.log_id, expected: self.log_id };
            return Err(RecoveryError::Foreign { file: self.name.clone(), what });
        }
        if header.number != self.named.number || stream.len_bytes() != self.named.bytes {
            return Err(RecoveryError::damaged(&*self.name, 0, NO_LSNS, DamageCause::NotTheNamed));
        }
        Ok(Entries { stream, named: self.named, is_begun: false })
    }
}

/// The entries of one checkpoint file, in the only order in which they may stand.
#[derive(Debug)]
struct Entries {
    stream: StreamReader,
    named: ManifestCheckpoint,
    is_begun: bool,
}

impl Entries {
    /// Passes the next chunk, which goes into `state` if that is wanted. `false` behind the last one, when the file has
    /// proved to be the one that the manifest names.
    fn next(&mut self, mut state: Option<&mut Vec<u8>>) -> Result<bool, RecoveryError> {
        loop {
            let Some(entry) = self.stream.next_entry()? else {
                let is_named = self.is_begun && self.stream.end_checksum() == Some(self.named.end_checksum);
                return if is_named { Ok(false) } else { Err(self.is_another(self.stream.bytes_read())) };
            };
            let offset = entry.offset;
            let taken = match (entry.kind, self.is_begun) {
                (CHECKPOINT_HEAD, false) if entry.flags == Flags::NONE => {
                    CheckpointHead::decode(entry.payload).map(Taken::Head)
                }
                (CHECKPOINT_DATA, true) => chunk(entry.flags, entry.payload, state.as_deref_mut()),
                (CHECKPOINT_HEAD | CHECKPOINT_DATA, _) => Err(DecodeError::InvalidField { field: "kind" }),
                _ if entry.flags.contains(Flags::IGNORABLE) => continue,
                (kind, _) => Err(DecodeError::NewerKind { kind: kind.0 }),
            };
            match taken.map_err(|error| self.stream.refused(offset, error))? {
                Taken::Head(head) if head == head_of(&self.named) => self.is_begun = true,
                Taken::Head(_) => return Err(self.is_another(offset)),
                Taken::Chunk => return Ok(true),
                Taken::Unsupported(algorithm) => {
                    return Err(RecoveryError::Compressed { file: self.stream.name().to_owned(), algorithm });
                }
            }
        }
    }

    /// The file proves itself and is not the one that the manifest means.
    fn is_another(&self, offset: u64) -> RecoveryError {
        RecoveryError::damaged(self.stream.name(), offset, NO_LSNS, DamageCause::NotTheNamed)
    }
}

/// What an entry was.
enum Taken {
    Head(CheckpointHead),
    Chunk,
    /// A chunk that this build cannot read.
    Unsupported(u8),
}

/// The head of the file that the manifest names so.
fn head_of(named: &ManifestCheckpoint) -> CheckpointHead {
    let base = (named.base != 0).then_some(named.base);
    CheckpointHead { lsn: named.lsn, replay_from: named.replay_from, base }
}

/// Puts the bytes of a chunk into `state`.
fn chunk(flags: Flags, payload: &[u8], state: Option<&mut Vec<u8>>) -> Result<Taken, DecodeError> {
    let invalid = |field| DecodeError::InvalidField { field };
    if flags == Flags::NONE {
        if let Some(state) = state {
            state.extend_from_slice(payload);
        }
        return Ok(Taken::Chunk);
    }
    if flags != Flags::EXTENDED.with(Flags::COMPRESSED) {
        return Err(invalid("flags"));
    }
    let (fields, packed) = ExtendedFields::split(payload)?;
    let mut compression = None;
    for field in fields {
        match field? {
            ExtendedField::Compression { algorithm, plain_len } => compression = Some((algorithm, plain_len)),
            ExtendedField::Ignorable(..) => {}
            _ => return Err(invalid("extended field")),
        }
    }
    let (algorithm, plain_len) = compression.ok_or(invalid("compression"))?;
    match compression::decompress(algorithm, plain_len, packed) {
        Ok(plain) => {
            if let Some(state) = state {
                *state = plain;
            }
            Ok(Taken::Chunk)
        }
        Err(Refusal::Unsupported) => Ok(Taken::Unsupported(algorithm)),
        Err(Refusal::Invalid) => Err(invalid("compression")),
    }
}

/// No record is lost with a checkpoint.
pub(crate) const NO_LSNS: LsnRange = LsnRange { first: Lsn::FIRST, last: Lsn::ZERO };

/// Hands over the state of one checkpoint file, through [`Read`] or [`BufRead`], in the order in which it was written.
/// It holds a chunk of 1 MiB beside a buffer of as much.
pub struct CheckpointReader<'a> {
    entries: Entries,
    info: CheckpointInfo,
    base_lsn: Option<Lsn>,
    /// The chunk that is being handed over, and how much of it was.
    chunk: Vec<u8>,
    at: usize,
    is_over: bool,
    cut: Option<Cut>,
    tick: &'a mut Tick<'a>,
}

impl CheckpointReader<'_> {
    /// The checkpoint.
    pub fn info(&self) -> &CheckpointInfo {
        &self.info
    }

    /// The state is that after the record with this LSN.
    pub fn lsn(&self) -> Lsn {
        self.info.lsn
    }

    /// `None`: this is all of the state, to begin with. `Some`: these are the changes to the state as of that LSN, which
    /// was handed over just before.
    pub fn base(&self) -> Option<Lsn> {
        self.base_lsn
    }

    /// What kept the state from being handed over whole.
    pub(crate) fn take_cut(&mut self) -> Option<Cut> {
        self.cut.take()
    }

    /// Goes on to the next chunk, if all of this one was handed over.
    fn advance(&mut self) -> Result<(), Cut> {
        while self.at >= self.chunk.len() && !self.is_over {
            let before = self.entries.stream.bytes_read();
            self.at = 0;
            self.chunk.clear();
            self.is_over = !self.entries.next(Some(&mut self.chunk))?;
            (self.tick)(self.entries.stream.bytes_read() - before)?;
        }
        Ok(())
    }
}

impl BufRead for CheckpointReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.cut.is_some() {
            return Err(io::Error::other("the state could not be read before"));
        }
        if let Err(cut) = self.advance() {
            self.chunk.clear();
            let told = match &cut {
                Cut::Time => io::Error::new(io::ErrorKind::TimedOut, TimeIsUp),
                Cut::Recovery(RecoveryError::Io { source, .. }) => {
                    io::Error::new(source.kind(), source.to_string())
                }
                Cut::Recovery(error) => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
            };
            self.cut = Some(cut);
            return Err(told);
        }
        Ok(self.chunk.get(self.at..).unwrap_or(&[]))
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.chunk.len());
    }
}

impl Read for CheckpointReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let read = ready.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl std::fmt::Debug for CheckpointReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointReader").field("info", &self.info).finish_non_exhaustive()
    }
}
