//! One segment, entry by entry, from its header to the first byte that is no valid entry.
//!
//! # What is checked
//! Each entry proves itself in its place (checksum, salt, offset), has exactly the expected LSN and is not
//! older than the one before it; a sync mark or seal also says nothing that the scan knows to be false. A recorded loss
//! takes the place of the LSNs that were given up: the next entry goes on behind them.
//! Whether the stop is the end, a torn tail or damage is judged elsewhere.
//!
//! # Memory
//! One [`Window`]. It grows only to an entry whose header proved itself and that fits into the file.

use braidlog_format::{
    DecodeError, ENTRY_HEADER_LEN, Entry, EntryHeader, FieldsRef, Flags, Kind, LossEntry, Lsn, Predecessor,
    SEGMENT_HEADER_LEN, Salt, SegmentHeader, SyncMark, padded_len,
};
use braidlog_storage::AlignedBuf;

use crate::ahead::Run;
use crate::seal::SealFacts;
use crate::window::Window;
use crate::{Loss, RecoveryError};

/// The flags that this reader can follow. A compressed payload is not the caller's bytes as they stand; the format knows it,
/// and no writer of this version makes one.
const UNDERSTOOD: Flags = Flags::BATCH_CONTINUES.with(Flags::IGNORABLE).with(Flags::EXTENDED);

/// A scan of one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) window: Window,
    pub(crate) at: Position,
    /// Entries before this offset, in the window and from here on, have proved themselves already.
    proved_to: u64,
}

/// How far a scan has come: all that it knows, but for the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// The segment's salt.
    pub(crate) salt: Salt,
    /// The segment's base.
    pub(crate) base: Lsn,
    /// Where the next entry stands.
    pub(crate) offset: u64,
    /// The LSN that the next entry takes or names.
    pub(crate) next: Lsn,
    /// No entry to come is older.
    pub(crate) timestamp_ns: u64,
    /// Whether the last record said that its batch continues.
    pub(crate) batch_open: bool,
    /// The last entry that took an LSN.
    pub(crate) last: Option<LastEntry>,
    /// What would be kept if nothing valid followed, where that is not all up to here: see
    /// [`Position::kept`].
    held: Option<Kept>,
}

/// An entry that took an LSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LastEntry {
    pub(crate) lsn: Lsn,
    pub(crate) offset: u64,
    pub(crate) timestamp_ns: u64,
    pub(crate) checksum: u32,
    /// It was given up: what stands here is the recorded loss in its place, and the next segment may name the entry that
    /// was there.
    pub(crate) lost: bool,
}

impl LastEntry {
    /// Whether the next segment's header names another entry.
    pub(crate) fn differs_from(&self, named: &Predecessor) -> bool {
        !self.lost && (self.checksum != named.last_checksum || self.timestamp_ns != named.last_timestamp_ns)
    }
}

/// The part of a segment that ends on a batch boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    /// The file offset behind its last entry.
    pub(crate) end: u64,
    /// Its last entry that took an LSN.
    pub(crate) last: Option<LastEntry>,
    /// No entry in it is younger.
    pub(crate) timestamp_ns: u64,
}

/// A valid entry. Its payload lies in the scan's window until the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) header: EntryHeader,
    pub(crate) offset: u64,
}

/// What a step found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Entry(Found),
    Stop(Stop),
}

/// The header of an entry whose payload is not what the header vouches for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProvedHeader {
    pub(crate) header: EntryHeader,
    pub(crate) checksum: u32,
}

/// Why there is no next entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The file ends here.
    EndOfFile,
    /// The next header's bytes, as many as the file has, are zeros.
    Zeros(DecodeError),
    /// A valid seal ends the segment here.
    Seal(Box<SealFacts>),
    /// What stands here proves itself and is newer than this version.
    Newer(DecodeError),
    /// What stands here is no valid entry. If its header proves itself and is the expected one, only the
    /// payload is damaged, and the scan can go on behind it.
    Invalid(DecodeError, Option<ProvedHeader>),
}

impl Position {
    /// The first entry of a segment.
    pub(crate) fn first_of(header: &SegmentHeader) -> Position {
        let timestamp_ns = header.predecessor.map_or(0, |named| named.last_timestamp_ns);
        Position {
            salt: header.salt,
            base: header.base,
            offset: SEGMENT_HEADER_LEN,
            next: header.base,
            timestamp_ns,
            batch_open: false,
            last: None,
            held: None,
        }
    }

    /// What would be kept if nothing valid followed: the part that ends on a batch boundary.
    pub(crate) fn kept(&self) -> Kept {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("half_a_batch_kept") {
            return self.whole();
        }
        self.held.unwrap_or_else(|| self.whole())
    }

    /// All up to here.
    #[inline]
    fn whole(&self) -> Kept {
        Kept { end: self.offset, last: self.last, timestamp_ns: self.timestamp_ns }
    }

    /// Whether an entry with this header may stand here, and the position behind it.
    #[inline]
    fn accept(&mut self, header: &EntryHeader, checksum: u32) -> Result<(), DecodeError> {
        if header.lsn != self.next {
            return Err(DecodeError::InvalidField { field: "LSN" });
        }
        if header.timestamp_ns < self.timestamp_ns {
            return Err(DecodeError::InvalidField { field: "timestamp" });
        }
        // Fields belong to records.
        let has_fields = header.flags.contains(Flags::EXTENDED);
        if !UNDERSTOOD.contains(header.flags) || (has_fields && !header.kind.takes_lsn()) {
            return Err(DecodeError::NewerFlags { bits: header.flags.bits() });
        }
        if header.kind == Kind::LOSS {
            // Its payload says how the log goes on: see `accept_loss`.
            return Err(DecodeError::InvalidField { field: "loss" });
        }
        let offset = self.offset;
        if header.kind.takes_lsn() {
            let continues = header.flags.contains(Flags::BATCH_CONTINUES);
            if continues && self.held.is_none() {
                self.held = Some(self.whole());
            }
            self.next = Lsn(self.next.0.saturating_add(1));
            self.batch_open = continues;
            self.last = Some(LastEntry {
                lsn: header.lsn,
                offset,
                timestamp_ns: header.timestamp_ns,
                checksum,
                lost: false,
            });
        }
        self.offset += header.entry_len();
        self.timestamp_ns = header.timestamp_ns;
        if !self.batch_open {
            self.held = None;
        }
        Ok(())
    }
}

impl Position {
    /// As [`accept`](Position::accept), for a recorded loss: it takes the place of the LSNs that it names.
    fn accept_loss(&mut self, entry: &Entry<'_>) -> Result<(), DecodeError> {
        let Entry { header, checksum, payload } = entry;
        let loss = LossEntry::decode(payload)?;
        let invalid = |field| Err(DecodeError::InvalidField { field });
        if header.flags != Flags::NONE || self.batch_open {
            return invalid("loss");
        }
        if header.lsn != self.next || loss.lsns.first != self.next {
            return invalid("LSN");
        }
        if header.timestamp_ns < self.timestamp_ns {
            return invalid("timestamp");
        }
        self.last = Some(LastEntry {
            lsn: loss.lsns.last,
            offset: self.offset,
            timestamp_ns: header.timestamp_ns,
            checksum: *checksum,
            lost: true,
        });
        self.next = loss.lsns.last.next();
        self.offset += header.entry_len();
        self.timestamp_ns = header.timestamp_ns;
        Ok(())
    }
}

impl Scan {
    /// A scan of a segment from its first entry on.
    pub(crate) fn new(window: Window, header: &SegmentHeader) -> Scan {
        Scan::at(window, Position::first_of(header))
    }

    /// A scan that goes on at a position.
    pub(crate) fn at(window: Window, at: Position) -> Scan {
        Scan { window, at, proved_to: 0 }
    }

    /// Goes on in a run of entries that begins here, as far as they were proved without another look at their
    /// checksums. Gives the buffer that the window had.
    pub(crate) fn take(&mut self, run: Run) -> AlignedBuf {
        self.proved_to = run.proved_to;
        self.window.swap(run.buf, run.start, run.filled)
    }

    /// The next entry, proved with its payload. After a stop, the same stop again.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<Step, RecoveryError> {
        match self.step_quickly() {
            Some(found) => Ok(Step::Entry(found)),
            None => self.step_slowly(),
        }
    }

    /// The next entry, proved with its payload, if it lies in the window and is a user's or a pad. `None` decides
    /// nothing: [`step`](Scan::step) does.
    #[inline]
    pub(crate) fn step_quickly(&mut self) -> Option<Found> {
        let offset = self.at.offset;
        let bytes = self.window.at(offset);
        let (head, rest) = bytes.split_first_chunk()?;
        let proved = offset < self.proved_to;
        let header = if proved {
            EntryHeader::decode_proved(head).ok()?
        } else {
            EntryHeader::decode(head, self.at.salt, offset).ok()?
        };
        if !header.kind.is_user() && header.kind != Kind::PAD {
            return None;
        }
        let payload_len = header.payload_len as usize;
        let padded_len = padded_len(u64::from(header.payload_len)) as usize;
        let (payload, padding) = (rest.get(..payload_len)?, rest.get(payload_len..padded_len)?);
        if !proved {
            header.check_payload(payload, padding).ok()?;
        }
        check_fields(&header, payload).ok()?;
        self.at.accept(&header, EntryHeader::stored_checksum(head)).ok()?;
        Some(Found { header, offset })
    }

    /// As [`step`](Scan::step), for an entry that vouches for others, is not in the window or is not valid.
    fn step_slowly(&mut self) -> Result<Step, RecoveryError> {
        let offset = self.at.offset;
        let mut need = ENTRY_HEADER_LEN;
        let decoded = loop {
            self.window.fill(offset, need)?;
            match Entry::decode(self.window.at(offset), self.at.salt, offset) {
                // The header proved itself; its length counts only if the file has the bytes.
                Err(DecodeError::Short { need: more, .. })
                    if more > need && offset.saturating_add(more) <= self.window.len() =>
                {
                    need = more;
                }
                decoded => break decoded,
            }
        };
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("payload_checksum_ignored")
            && let Err(DecodeError::PayloadChecksum { .. }) = decoded
            && let Some(bytes) = self.window.at(offset).first_chunk()
            && let Ok(header) = EntryHeader::decode(bytes, self.at.salt, offset)
            && self.at.accept(&header, EntryHeader::stored_checksum(bytes)).is_ok()
        {
            return Ok(Step::Entry(Found { header, offset }));
        }
        let entry = match decoded {
            Ok(entry) => entry,
            Err(error) => return Ok(Step::Stop(self.stop(error))),
        };
        let header = entry.header;
        let before = self.at;
        let accepted = match header.kind {
            Kind::LOSS => self.at.accept_loss(&entry),
            _ => self.at.accept(&header, entry.checksum),
        };
        let accepted = accepted.and_then(|()| check_fields(&header, entry.payload));
        match accepted.and_then(|()| check_evidence(&entry, &before)) {
            Ok(None) => Ok(Step::Entry(Found { header, offset })),
            Ok(Some(facts)) => {
                self.at = before;
                Ok(Step::Stop(Stop::Seal(Box::new(facts))))
            }
            Err(error) => {
                self.at = before;
                Ok(Step::Stop(if error.is_newer() { Stop::Newer(error) } else { Stop::Invalid(error, None) }))
            }
        }
    }

    /// Steps over the next entry by its header alone: a damaged payload does not stop it.
    pub(crate) fn step_over(&mut self) -> Result<Step, RecoveryError> {
        let offset = self.at.offset;
        self.window.fill(offset, ENTRY_HEADER_LEN)?;
        let Some(bytes) = self.window.at(offset).first_chunk() else { return self.step_slowly() };
        let decoded = EntryHeader::decode(bytes, self.at.salt, offset);
        let checksum = EntryHeader::stored_checksum(bytes);
        match decoded {
            Ok(header)
                if !matches!(header.kind, Kind::SEAL | Kind::LOSS)
                    && offset.saturating_add(header.entry_len()) <= self.window.len()
                    && self.at.accept(&header, checksum).is_ok() =>
            {
                Ok(Step::Entry(Found { header, offset }))
            }
            _ => self.step_slowly(),
        }
    }

    /// The payload of the entry that the last step found.
    #[inline]
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        let from = ENTRY_HEADER_LEN as usize;
        let to = from.saturating_add(found.header.payload_len as usize);
        self.window.at(found.offset).get(from..to).unwrap_or(&[])
    }

    /// The fields and the payload proper of the record that the last step found.
    #[inline]
    pub(crate) fn content(&self, found: &Found) -> (FieldsRef<'_>, &[u8]) {
        let payload = self.payload(found);
        if !found.header.flags.contains(Flags::EXTENDED) {
            return (FieldsRef::default(), payload);
        }
        // The step has looked at them.
        FieldsRef::split(payload).unwrap_or_default()
    }

    /// The recorded loss that the last step found; `None` if that was another entry.
    pub(crate) fn loss(&self, found: &Found) -> Option<Loss> {
        let entry = (found.header.kind == Kind::LOSS).then(|| LossEntry::decode(self.payload(found)).ok());
        entry.flatten().map(Loss::from)
    }

    /// Goes on behind an entry whose payload is damaged.
    pub(crate) fn skip(&mut self, proved: &ProvedHeader) {
        // The stop gave it because it is acceptable here.
        let accepted = self.at.accept(&proved.header, proved.checksum);
        debug_assert!(accepted.is_ok(), "a proved header is the expected one");
    }

    /// Goes on at `offset`, where the entry says that `next` is the next LSN.
    pub(crate) fn resume(&mut self, offset: u64, next: Lsn) {
        self.at.held = Some(self.at.kept());
        self.at.offset = offset;
        self.at.next = next;
        self.at.batch_open = false;
    }

    /// Goes on at an entry behind a damaged place, whose LSN field says `next`. If no LSN lies between, nothing but the
    /// place changes.
    pub(crate) fn go_on_at(&mut self, offset: u64, next: Lsn) {
        if next != self.at.next {
            self.at.batch_open = false;
        }
        self.at.offset = offset;
        self.at.next = next;
        self.at.held = None;
    }

    /// What it means that no entry could be decoded here.
    fn stop(&self, error: DecodeError) -> Stop {
        let offset = self.at.offset;
        if offset >= self.window.len() {
            return Stop::EndOfFile;
        }
        let bytes = self.window.at(offset);
        let head = bytes.get(..ENTRY_HEADER_LEN as usize).unwrap_or(bytes);
        if head.iter().all(|&byte| byte == 0) {
            return Stop::Zeros(error);
        }
        if error.is_newer() {
            return Stop::Newer(error);
        }
        let proved = head.first_chunk().and_then(|bytes| {
            let header = EntryHeader::decode(bytes, self.at.salt, offset).ok()?;
            let checksum = EntryHeader::stored_checksum(bytes);
            let mut behind = self.at;
            behind.accept(&header, checksum).ok()?;
            (behind.offset <= self.window.len()).then_some(ProvedHeader { header, checksum })
        });
        Stop::Invalid(error, proved)
    }
}

/// Whether the extended fields of an entry, if it has any, can be followed. The entry has proved itself, so fields that cannot be
/// are what another version wrote, and no damage.
#[inline]
fn check_fields(header: &EntryHeader, payload: &[u8]) -> Result<(), DecodeError> {
    if !header.flags.contains(Flags::EXTENDED) {
        return Ok(());
    }
    match FieldsRef::split(payload) {
        Ok(_) => Ok(()),
        Err(error) if error.is_newer() => Err(error),
        Err(_) => Err(DecodeError::NewerFlags { bits: header.flags.bits() }),
    }
}

/// What an entry that was accepted at `at` says about others: the facts, if it is a seal.
///
/// # Errors
/// [`DecodeError::InvalidField`] if a mark or a seal says what cannot be, or denies what was read.
fn check_evidence(entry: &Entry<'_>, at: &Position) -> Result<Option<SealFacts>, DecodeError> {
    match entry.header.kind {
        Kind::SYNC_MARK => check_mark(entry, at.offset).map(|_| None),
        Kind::SEAL => {
            let facts = SealFacts::from_entry(entry, at.offset, at.base)?;
            let agrees = match at.last.filter(|last| last.lsn == facts.last_lsn) {
                Some(last) => {
                    last.lost
                        || (last.checksum, last.timestamp_ns)
                            == (facts.last_checksum, facts.last_timestamp_ns)
                }
                // A scan that began in the middle may not have seen the last entry.
                None => facts.last_lsn >= at.base || facts.last_checksum == 0,
            };
            if agrees { Ok(Some(facts)) } else { Err(DecodeError::InvalidField { field: "seal" }) }
        }
        _ => Ok(None),
    }
}

/// What a sync mark at `offset` says.
///
/// # Errors
/// [`DecodeError::InvalidField`] if a field contradicts another or the mark's place, or it is no plain mark: one
/// with a flag would be believed by a scan and vouch for nothing.
pub(crate) fn check_mark(entry: &Entry<'_>, offset: u64) -> Result<SyncMark, DecodeError> {
    let mark = SyncMark::decode(entry.payload)?;
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("contradicting_mark_believed") {
        return Ok(mark);
    }
    if entry.header.flags != Flags::NONE {
        return Err(DecodeError::InvalidField { field: "sync mark flags" });
    }
    if mark.durable_lsn >= entry.header.lsn || mark.synced_offset > offset {
        return Err(DecodeError::InvalidField { field: "sync mark" });
    }
    Ok(mark)
}
