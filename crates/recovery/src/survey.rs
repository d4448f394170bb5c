//! A log as damaged as it may be: which of its records prove themselves, where, and what vouches for the others.
//!
//! The rule: nothing is changed and nothing is given up here. What proves itself in its place, as a whole batch, is a
//! *piece*; whether the LSNs between pieces were acknowledged is told by whatever was durable: marks, seals, the headers
//! of later segments, the manifest. A torn tail is judged as recovery judges it, and is no damage.
//!
//! # Limits
//! A log may have a hole in every block. What is kept of it is at most [`PIECES_MAX`] pieces, and the first and the last one of
//! each segment: of more than that the shortest are given up with the holes beside them. The damaged places of a segment are
//! told one by one up to [`PLACES_MAX`], and behind these as one.
//!
//! # Batches
//! A batch with a lost record is lost as a whole. Behind a place where nobody knows what was lost, the first records may
//! be the rest of a batch; they count only behind the next end of one, or behind a sync mark, which begins a round.

use std::sync::Arc;

use braidlog_format::{
    ENTRY_HEADER_LEN, Flags, Incarnation, Kind, LogId, Lsn, LsnRange, PACKED_FRAME_MAX, PACKED_FRAMES_MAX,
    Predecessor, Salt, SegmentHeader, SyncMark, UserMetadata,
};
use braidlog_storage::LogDir;

use crate::chain::{HeaderFound, header_in};
use crate::dir::{Listing, SegmentFile};
use crate::marks::{Behind, Lookout, find_entry, look_behind};
use crate::patient::Patient;
use crate::scan::{LastEntry, Position, Scan, Step, Stop};
use crate::tail::cause_of;
use crate::window::{STREAM_LEN, Window};
use crate::{Damage, DamageCause, ForeignFile, Loss, Manifest, RecoveryError, chain, salt, seal};

use pieces::thin;
pub(crate) use pieces::{PIECES_MAX, PLACES_MAX, Piece, together};
pub use progress::RepairProgress;
use progress::Teller;

mod pieces;
mod progress;

/// What there is of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Survey {
    /// The identity that its segments or its manifest say.
    pub(crate) log_id: Option<LogId>,
    /// Where it starts.
    pub(crate) start: Lsn,
    /// Its segment files, in LSN order.
    pub(crate) files: Vec<Surveyed>,
    /// Every record up to here was durable at some time.
    pub(crate) acknowledged: Lsn,
    /// No record above this one can have been given to anybody.
    pub(crate) bound: Lsn,
    /// The newest opening that left something.
    pub(crate) incarnation: Incarnation,
    /// Names of packed segments that are there as they were before, too.
    pub(crate) repeated: Vec<String>,
}

/// What there is of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Surveyed {
    /// The base LSN that its name says.
    pub(crate) base: Lsn,
    /// The name of its file.
    pub(crate) name: String,
    /// Whether it is packed.
    pub(crate) is_packed: bool,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// The last LSN that belongs into it, as later files say; `None` in the last one.
    pub(crate) limit: Option<Lsn>,
    /// What its header is.
    pub(crate) header: HeaderState,
    /// What proves itself, in order.
    pub(crate) pieces: Vec<Piece>,
    /// The last entry of the last piece that takes an LSN.
    pub(crate) last: Option<LastEntry>,
    /// Whether a seal ends it.
    pub(crate) sealed: bool,
    /// Transactions that are open at its end, says its seal.
    pub(crate) in_doubt: Vec<u64>,
    /// Every damaged place.
    pub(crate) damage: Vec<Damage>,
    /// What it says was given up earlier.
    pub(crate) losses: Vec<Loss>,
}

/// What the header of a segment is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HeaderState {
    /// It proves itself and belongs to the file's name.
    Good(Box<SegmentHeader>),
    /// It does not. The salt was solved from the entries, if there is one.
    Lost(Option<Salt>),
    /// It was never written.
    NotStarted,
}

impl Surveyed {
    /// The header, if it is good.
    pub(crate) fn good_header(&self) -> Option<&SegmentHeader> {
        if let HeaderState::Good(header) = &self.header { Some(header) } else { None }
    }
}

/// Reads all of the log that these files are, whose manifest says no less than `manifest`. `progress` is told about once for
/// each MiB.
///
/// # Errors
/// [`RecoveryError::Newer`], [`RecoveryError::Foreign`]: no policy goes on there. [`RecoveryError::Io`].
pub(crate) fn survey(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    manifest: &Manifest,
    progress: &mut dyn FnMut(&RepairProgress),
) -> Result<Survey, RecoveryError> {
    let files = listing.segments_from(manifest.log_start);
    let headers = files.iter().map(|file| Opened::open(dir, *file)).collect::<Result<Vec<_>, _>>()?;
    let log_id = check_log_ids(manifest, &headers)?;
    let mut found = Survey {
        log_id,
        start: manifest.log_start,
        files: Vec::new(),
        acknowledged: manifest.durable.max(manifest.log_start.prev()),
        bound: Lsn::ZERO,
        incarnation: manifest.newest_incarnation().unwrap_or_default(),
        repeated: listing.repeated.clone(),
    };
    let mut told = Teller::new(progress, headers.iter().map(|opened| opened.plain_len));
    for (index, opened) in headers.iter().enumerate() {
        let next = headers.get(index + 1);
        told.begin(&opened.file.name());
        let surveyed = opened.survey(dir, next, manifest, &mut found, &mut told)?;
        told.end(opened.plain_len);
        found.files.push(surveyed);
        thin(found.files.iter_mut().map(|file| &mut file.pieces));
    }
    found.bound = found.bound.max(found.acknowledged);
    Ok(found)
}

/// The one identity that all say.
fn check_log_ids(manifest: &Manifest, files: &[Opened]) -> Result<Option<LogId>, RecoveryError> {
    let mut log_id = None;
    for file in files {
        let Some(header) = &file.found else { continue };
        match log_id {
            Some(expected) if expected != header.log_id => {
                let what = ForeignFile::LogId { found: header.log_id, expected };
                return Err(RecoveryError::Foreign { file: file.file.name(), what });
            }
            _ => log_id = Some(header.log_id),
        }
    }
    manifest.check_log_id(log_id)?;
    Ok(log_id.or(manifest.log_id()))
}

/// A segment file of which the header was looked at.
#[derive(Debug)]
struct Opened {
    file: SegmentFile,
    state: HeaderState,
    /// The header that proves itself, whether it belongs here or not.
    found: Option<Box<SegmentHeader>>,
    /// What is wrong with it.
    cause: Option<DamageCause>,
    /// Bytes of it, as it was before it was packed.
    plain_len: u64,
}

impl Opened {
    fn open(dir: &Arc<dyn LogDir>, file: SegmentFile) -> Result<Opened, RecoveryError> {
        let opened = |state, found, cause| Opened { file, state, found, cause, plain_len: file.len };
        let lost = |salt, cause| opened(HeaderState::Lost(salt), None, Some(cause));
        let (mut window, patient) = match Window::open_patient(dir, &file.name(), STREAM_LEN) {
            // A packed file in which nobody can find his way.
            Err(RecoveryError::Damaged(damage)) => return Ok(lost(None, damage.cause)),
            opened => opened?,
        };
        let plain_len = window.len();
        let header = header_in(&mut window)?;
        let opened = match header {
            HeaderFound::Valid(header) if header.base != file.base => Opened {
                cause: Some(DamageCause::Misnamed { base: header.base }),
                found: Some(header),
                ..lost(None, DamageCause::HeaderMissing)
            },
            HeaderFound::Valid(header) if header.incarnation.0 < u64::MAX => {
                opened(HeaderState::Good(header.clone()), Some(header), None)
            }
            HeaderFound::Valid(header) => {
                Opened { found: Some(header.clone()), ..lost(Some(header.salt), DamageCause::HeaderMissing) }
            }
            HeaderFound::NotStarted => opened(HeaderState::NotStarted, None, None),
            HeaderFound::Invalid(error) => {
                lost(salt::solve(&mut window, file.base)?, DamageCause::Header(error))
            }
            HeaderFound::Unreadable(cause) => lost(salt::solve(&mut window, file.base)?, cause),
            HeaderFound::Newer(what) => {
                return Err(RecoveryError::Newer { file: file.name(), offset: 0, what });
            }
            // A block that is gone says nothing about whose the file is; its entries do.
            HeaderFound::Foreign(what) => {
                match (salt::solve(&mut window, file.base)?, patient.is_unreadable(0)) {
                    (None, false) => return Err(RecoveryError::Foreign { file: file.name(), what }),
                    (salt, _) => lost(salt, DamageCause::HeaderMissing),
                }
            }
        };
        Ok(Opened { plain_len, ..opened })
    }

    /// The header that the next file names this segment by.
    fn named_by(&self, next: Option<&Opened>) -> Option<Predecessor> {
        let HeaderState::Good(header) = &next?.state else { return None };
        header.predecessor.filter(|named| named.base == self.file.base)
    }

    fn survey(
        &self,
        dir: &Arc<dyn LogDir>,
        next: Option<&Opened>,
        manifest: &Manifest,
        found: &mut Survey,
        told: &mut Teller<'_>,
    ) -> Result<Surveyed, RecoveryError> {
        let name = self.file.name();
        let named = self.named_by(next);
        let before_next = next.map(|next| match &next.state {
            // A file between this one and the next is missing: this one ends before it.
            HeaderState::Good(header) => match header.predecessor {
                Some(named) if named.base > self.file.base => named.base.prev(),
                _ => next.file.base.prev(),
            },
            _ => next.file.base.prev(),
        });
        let mut surveyed = Surveyed {
            base: self.file.base,
            name: name.clone(),
            is_packed: self.file.is_packed,
            len: self.file.len,
            limit: before_next,
            header: self.state.clone(),
            pieces: Vec::new(),
            last: None,
            sealed: false,
            in_doubt: Vec::new(),
            damage: Vec::new(),
            losses: Vec::new(),
        };
        if let Some(header) = self.found.as_ref().filter(|header| header.incarnation.0 < u64::MAX) {
            found.incarnation = found.incarnation.max(header.incarnation);
        }
        let last_of_file = before_next.unwrap_or(Lsn::MAX);
        if let Some(cause) = self.cause {
            let lsns = LsnRange { first: self.file.base, last: last_of_file };
            surveyed.damage.push(Damage { segment: name.clone(), offset: 0, lsns, cause });
        }
        // What stands before a file with a name was durable before it had it; a name that its header denies says nothing.
        let of_name = self.found.as_ref().map_or(self.file.base, |header| header.base);
        found.acknowledged = found.acknowledged.max(of_name.prev());
        let header = match (&self.state, &self.found) {
            (HeaderState::Good(header), _) => **header,
            (HeaderState::Lost(Some(salt)), _) => rebuilt(self.file.base, *salt),
            // What stands in a file under another's name keeps its LSNs from being given again, and no more.
            (HeaderState::Lost(None), Some(header)) => **header,
            (HeaderState::Lost(None), None) => {
                if next.is_none() && !self.is_settled(manifest) {
                    found.bound = found.bound.max(self.bound_of_nothing_proved(dir)?);
                }
                return Ok(surveyed);
            }
            (HeaderState::NotStarted, _) => return Ok(surveyed),
        };
        let (window, patient) = Window::open_patient(dir, &name, STREAM_LEN)?;
        let limit = if header.base == self.file.base { before_next } else { None };
        // What was packed was whole, whether or not its successor is still there to say so.
        let packed_last = window.packed().map_or(Lsn::ZERO, |packed| packed.last_lsn());
        if limit.is_none() {
            found.acknowledged = found.acknowledged.max(packed_last);
        }
        let reading = Reading {
            name: &name,
            header: &header,
            scan: Scan::new(window, &header),
            patient: &patient,
            limit,
            named,
            durable: if limit.is_none() { manifest.durable.max(packed_last) } else { Lsn::ZERO },
            is_settled: self.is_settled(manifest),
            told_to: surveyed.damage.last().map_or(Lsn::ZERO, |damage| damage.lsns.last.next()),
            found,
            surveyed: &mut surveyed,
            told,
            places: 0,
            thins: true,
        };
        reading.read()?;
        if header.base != self.file.base {
            surveyed.pieces.clear();
            surveyed.losses.clear();
            surveyed.last = None;
            surveyed.damage.truncate(1);
        }
        Ok(surveyed)
    }

    /// Whether a repair looked at this file before, while others may have stood behind it, and gave up LSNs in it or above.
    /// It said durably how far they can go, and nobody has written to the file since.
    fn is_settled(&self, manifest: &Manifest) -> bool {
        manifest.losses.iter().any(|loss| loss.lsns.last >= self.file.base)
    }

    /// The last LSN that a record of this file can have had, which comes last and of which nothing proves itself.
    fn bound_of_nothing_proved(&self, dir: &Arc<dyn LogDir>) -> Result<Lsn, RecoveryError> {
        let count = match Window::open_patient(dir, &self.file.name(), STREAM_LEN) {
            Ok((mut window, _)) => {
                // Whatever stands there may be of its present life.
                let header = SegmentHeader { recycled: false, ..rebuilt(self.file.base, Salt::default()) };
                let at = Position::first_of(&header);
                let left_to = look_behind(&mut window, &header, &at)?.left_to;
                records_max(left_to.unwrap_or(at.offset).saturating_sub(at.offset))
            }
            // A packed file that does not say how much is in it: as many frames as it has space for.
            Err(RecoveryError::Damaged(_)) => {
                let frames = (self.file.len / ENTRY_HEADER_LEN).min(PACKED_FRAMES_MAX as u64);
                records_max(frames.saturating_mul(PACKED_FRAME_MAX as u64))
            }
            Err(error) => return Err(error),
        };
        Ok(above(self.file.base.prev(), count))
    }
}

/// The most records that as many bytes can have been, the last of them perhaps cut.
fn records_max(bytes: u64) -> u64 {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("ruined_records_counted_as_none") {
        return 0;
    }
    bytes.div_ceil(ENTRY_HEADER_LEN)
}

fn above(lsn: Lsn, count: u64) -> Lsn {
    Lsn(lsn.0.saturating_add(count).min(Lsn::MAX.0))
}

/// What proves itself in a file of which nothing but the salt and a base is known, to its last byte: there is no torn tail
/// where nobody goes on.
pub(crate) fn survey_alone(
    name: &str,
    window: Window,
    patient: &Patient,
    header: &SegmentHeader,
) -> Result<Surveyed, RecoveryError> {
    let mut surveyed = Surveyed {
        base: header.base,
        name: name.to_owned(),
        is_packed: window.packed().is_some(),
        len: window.len(),
        limit: None,
        header: HeaderState::Lost(Some(header.salt)),
        pieces: Vec::new(),
        last: None,
        sealed: false,
        in_doubt: Vec::new(),
        damage: Vec::new(),
        losses: Vec::new(),
    };
    let mut found = Survey::default();
    let nobody = &mut |_: &RepairProgress| ();
    let reading = Reading {
        name,
        header,
        scan: Scan::new(window, header),
        patient,
        limit: Some(Lsn::MAX),
        named: None,
        durable: Lsn::ZERO,
        is_settled: false,
        found: &mut found,
        surveyed: &mut surveyed,
        told: &mut Teller::new(nobody, [].into_iter()),
        places: 0,
        told_to: Lsn::ZERO,
        // Whoever looks for what is left of a single file is given all of it.
        thins: false,
    };
    reading.read()?;
    // Where it ends is no damage: nobody says that there was more.
    surveyed.damage.retain(|damage| damage.lsns.last < Lsn::MAX);
    Ok(surveyed)
}

/// As much of a lost header as a scan needs. That the file may have had an earlier life has to be assumed.
pub(crate) fn rebuilt(base: Lsn, salt: Salt) -> SegmentHeader {
    SegmentHeader {
        log_id: LogId::default(),
        incarnation: Incarnation(0),
        salt,
        base,
        predecessor: None,
        recycled: true,
        created_at_ns: 0,
        user_metadata: UserMetadata::EMPTY,
        open_from: None,
    }
}

/// A segment that is read.
struct Reading<'a, 't> {
    name: &'a str,
    header: &'a SegmentHeader,
    scan: Scan,
    patient: &'a Patient,
    /// The last LSN of the segment; `None` in the last one.
    limit: Option<Lsn>,
    /// As the next header names its end.
    named: Option<Predecessor>,
    /// In the last segment: every record up to here was durable, says the manifest.
    durable: Lsn,
    /// That no LSN above can be in it.
    is_settled: bool,
    found: &'a mut Survey,
    surveyed: &'a mut Surveyed,
    told: &'a mut Teller<'t>,
    /// Damaged places until now.
    places: usize,
    /// Every LSN before this one is one of a damaged place or of a piece.
    told_to: Lsn,
    /// Whether there may be too many pieces to keep.
    thins: bool,
}

/// Where whole batches end.
#[derive(Clone, Copy)]
struct Run {
    /// Where the piece begins.
    from: Position,
    /// Where the last batch of it begins.
    last_batch: Position,
    /// Where that ends.
    to: Position,
}

impl Run {
    fn from(at: Position) -> Run {
        Run { from: at, last_batch: at, to: at }
    }
}

impl Reading<'_, '_> {
    fn read(mut self) -> Result<(), RecoveryError> {
        let mut run = Run::from(self.scan.at);
        // Whether the next records may be the rest of a batch of which some are lost.
        let mut dropping = false;
        // Everything before this offset was synced, says something behind a place that was passed.
        let mut synced_offset = 0;
        let mut lookout = Lookout::default();
        loop {
            let at = self.scan.at;
            self.told.reach(at.offset);
            if let Some(limit) = self.limit.filter(|&limit| at.next > limit) {
                if at.batch_open && !dropping {
                    self.damage(&at, limit, DamageCause::BatchCut);
                }
                self.look_at_seal(limit)?;
                break;
            }
            let stop = match self.scan.step()? {
                Step::Entry(found) => {
                    let header = found.header;
                    if header.kind == Kind::SYNC_MARK
                        && let Ok(mark) = SyncMark::decode(self.scan.payload(&found))
                    {
                        self.acknowledge(mark.durable_lsn);
                    }
                    self.surveyed.losses.extend(self.scan.loss(&found));
                    let ends = header.kind == Kind::LOSS
                        || (header.kind.takes_lsn() && !header.flags.contains(Flags::BATCH_CONTINUES));
                    if dropping {
                        // Not kept, but given out once.
                        self.bound(self.scan.at.next.prev());
                        // A round begins with a mark, and no batch reaches into another round.
                        if ends || header.kind == Kind::SYNC_MARK {
                            dropping = false;
                            run = Run::from(if ends { self.scan.at } else { at });
                        }
                    } else if !self.scan.at.batch_open {
                        if ends {
                            run.last_batch = run.to;
                        }
                        run.to = self.scan.at;
                    }
                    continue;
                }
                Step::Stop(stop) => stop,
            };
            match &stop {
                Stop::Newer(what) => {
                    return Err(RecoveryError::Newer {
                        file: self.name.to_owned(),
                        offset: at.offset,
                        what: *what,
                    });
                }
                Stop::Seal(facts) => {
                    self.acknowledge(facts.last_lsn);
                    self.surveyed.sealed = true;
                    self.surveyed.in_doubt.clone_from(&facts.in_doubt);
                    if at.batch_open && !dropping {
                        self.damage(&at, at.next.prev(), DamageCause::BatchCut);
                    }
                    break;
                }
                _ => {}
            }
            let behind = match &stop {
                _ if self.limit.is_some() || at.offset < synced_offset => Behind::vouching_for(&at),
                _ => lookout.look_behind(&mut self.scan.window, self.header, &at)?,
            };
            synced_offset = synced_offset.max(behind.synced_offset);
            let is_damage = behind.vouched.is_some()
                || at.next <= self.durable
                // Where the header is gone, what stands there was not torn by a crash.
                || (matches!(self.surveyed.header, HeaderState::Lost(_)) && behind.left_to.is_some())
                || self.patient.is_unreadable_behind(at.offset);
            if !is_damage {
                // The end of the log, or a torn tail.
                break;
            }
            if !dropping {
                self.keep(run.from, run.to);
            }
            let cause = cause_of(&self.scan.window, &stop, &at);
            let Some(drops) = self.go_on(&stop)? else {
                self.bound_what_is_left(&behind);
                let last = self.limit.unwrap_or(self.found.bound).max(at.next.prev());
                self.damage(&at, last, cause);
                return Ok(());
            };
            self.damage(&at, self.scan.at.next.prev(), cause);
            // What stands behind says that these LSNs were given out, whether or not it is kept.
            self.bound(self.scan.at.next.prev());
            dropping = drops;
            run = Run::from(self.scan.at);
        }
        if dropping {
            return Ok(());
        }
        let at = self.scan.at;
        if let Some(named) = &self.named
            && let Some(last) = at.last.filter(|last| last.lsn >= named.last)
            && (last.lsn > named.last || last.differs_from(named))
        {
            let lsns = LsnRange { first: run.last_batch.next, last: named.last };
            self.surveyed.damage.push(Damage {
                segment: self.name.to_owned(),
                offset: last.offset,
                lsns,
                cause: DamageCause::LastEntryDiffers,
            });
            run.to = run.last_batch;
        }
        self.keep(run.from, run.to);
        Ok(())
    }

    /// Notes the seal of a segment that others say ends with this LSN, if it has one.
    fn look_at_seal(&mut self, last: Lsn) -> Result<(), RecoveryError> {
        let facts = seal::at_end(&mut self.scan.window, self.header)?;
        if let Some(facts) = facts.filter(|facts| facts.last_lsn == last) {
            self.surveyed.sealed = true;
            self.surveyed.in_doubt = facts.in_doubt;
        }
        Ok(())
    }

    /// Goes on behind the damaged place at which the scan stands, if anything behind it proves itself. Whether the records
    /// there may be the rest of a batch that is not whole.
    fn go_on(&mut self, stop: &Stop) -> Result<Option<bool>, RecoveryError> {
        let at = self.scan.at;
        if let Stop::Invalid(_, Some(proved)) = stop {
            self.scan.skip(proved);
            #[cfg(braidlog_sabotage)]
            if braidlog_sabotage::is("rest_of_a_lost_batch_kept") {
                return Ok(Some(false));
            }
            return Ok(Some(self.scan.at.batch_open));
        }
        let limit = self.limit.unwrap_or(Lsn::MAX);
        let Some(found) = find_entry(&mut self.scan.window, &at, limit)? else { return Ok(None) };
        self.scan.go_on_at(found.offset, found.header.lsn);
        let drops =
            if found.header.lsn == at.next { at.batch_open } else { found.header.kind != Kind::SYNC_MARK };
        Ok(Some(drops))
    }

    /// Nothing behind the scan proves itself. In the last segment each 32 bytes that are left there may have been a record.
    fn bound_what_is_left(&mut self, behind: &Behind) {
        if self.limit.is_some() {
            return;
        }
        let at = self.scan.at;
        let left_to = match behind.left_to {
            Some(left_to) => left_to,
            None if self.patient.is_unreadable_behind(at.offset) => self.scan.window.len(),
            None => at.offset,
        };
        let left = if self.is_settled { 0 } else { left_to.saturating_sub(at.offset) };
        let count = records_max(left);
        self.bound(above(at.next.prev(), count).max(self.durable));
    }

    /// LSNs up to this one may have been given out.
    fn bound(&mut self, lsn: Lsn) {
        self.found.bound = self.found.bound.max(lsn);
    }

    fn acknowledge(&mut self, lsn: Lsn) {
        self.found.acknowledged = self.found.acknowledged.max(lsn);
    }

    /// Notes what proves itself from one position to another.
    fn keep(&mut self, from: Position, to: Position) {
        if to.next > from.next {
            let lsns = LsnRange { first: from.next, last: to.next.prev() };
            self.surveyed.pieces.push(Piece { from, to: to.offset, lsns });
            if self.thins && self.surveyed.pieces.len() > 2 * PIECES_MAX {
                thin([&mut self.surveyed.pieces]);
            }
            self.surveyed.last = to.last;
            self.bound(lsns.last);
        }
    }

    /// Notes a damaged place, which costs the LSNs behind the last piece up to `last`.
    fn damage(&mut self, at: &Position, last: Lsn, cause: DamageCause) {
        let kept = self.surveyed.pieces.last().map_or(self.header.base, |piece| piece.lsns.last.next());
        let lsns = LsnRange { first: kept.max(self.told_to).min(last.next()), last };
        self.told_to = self.told_to.max(last.next());
        match self.surveyed.damage.last_mut().filter(|_| self.places >= PLACES_MAX) {
            Some(last) => last.lsns = together(last.lsns, lsns),
            None => {
                let segment = self.name.to_owned();
                self.surveyed.damage.push(Damage { segment, offset: at.offset, lsns, cause });
            }
        }
        self.places += 1;
    }
}

/// A file that is missing, or has nothing of what its name says.
pub(crate) fn missing(lsns: LsnRange) -> Damage {
    chain::missing(lsns.first, lsns.last.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last one may end in zeros, which do not count as bytes that were written.
    #[test]
    fn a_record_of_which_only_a_part_is_left_counts() {
        assert_eq!([0, 1, 31, 32, 33, 64].map(records_max), [0, 1, 1, 1, 2, 2]);
    }
}
