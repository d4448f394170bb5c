//! A damaged log made one that opens again, as a plan says.
//!
//! # Order
//! 1. The manifest says what is given up, and that no LSN up to the plan's bound is ever given again. From here on a log
//!    that ends before it is refused as damaged, never continued.
//! 2. Files that are set aside go into the quarantine and out of the log, the last one first: whatever is left of them ends
//!    before the bound.
//! 3. Damaged files are put into the quarantine too; then each is written anew under a name that an opening removes,
//!    synced, and takes the place of the old one. Those that are missing are made in the same way.
//!
//! An opening tells a loss once its segment records it, so what step 1 says is no more than a plan until then.
//!
//! A crash between any two steps leaves a log that is refused, or reads as it did before; the same policy
//! then comes to the same files. Each rewritten file is right beside the old ones and beside the new ones: its last record
//! keeps the checksum by which the next header names it.
//!
//! # The salt
//! A header's checksum is seeded with salt + offset / 8. A rewritten segment in which the last record stands elsewhere has
//! a salt that differs by as much, so the checksum is the same, and the next segment need not be touched.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{
    LogId, Lsn, PackedName, Predecessor, Salt, SegmentHeader, UserMetadata, checksum::crc32, prepared_name,
};
use braidlog_storage::{Clock, LogDir};

use crate::dir::path_of;
use crate::plan::{Action, Part, Planned, RepairPlan};
use crate::quarantine::Quarantine;
use crate::rewrite::{SegmentWriter, WrittenSegment};
use crate::scan::{Scan, Step};
use crate::survey::{HeaderState, Piece, Survey, Surveyed};
use crate::window::{STREAM_LEN, Window};
use crate::{DamageCause, Manifest, ManifestStore, RecoveryError, dir};

/// Does what `plan` says of the log that was surveyed. Where damaged files are now, from the directory of the log.
///
/// # Errors
/// [`RecoveryError::Io`]: the same call, with a new survey, goes on where this one stopped.
pub(crate) fn mend(
    dir: &Arc<dyn LogDir>,
    clock: &Arc<dyn Clock>,
    manifest: Manifest,
    survey: &Survey,
    plan: &RepairPlan,
    quarantine: &mut Quarantine<'_>,
    new_log_id: LogId,
) -> Result<Vec<String>, RecoveryError> {
    let log_id = survey.log_id.unwrap_or(new_log_id);
    let mut mending = Mending { dir, survey, plan, log_id, quarantine, kept: Vec::new() };
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("given_up_recorded_last") {
        mending.change_files()?;
        note_losses(dir, clock, manifest, plan, log_id)?;
        return Ok(mending.kept);
    }
    note_losses(dir, clock, manifest, plan, log_id)?;
    mending.change_files()?;
    Ok(mending.kept)
}

/// Makes durable what is given up, before it is.
fn note_losses(
    dir: &Arc<dyn LogDir>,
    clock: &Arc<dyn Clock>,
    manifest: Manifest,
    plan: &RepairPlan,
    log_id: LogId,
) -> Result<(), RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("given_up_not_recorded") {
        return Ok(());
    }
    let store = ManifestStore::new(Arc::clone(dir), Arc::clone(clock), log_id, Arc::new(manifest));
    store.change(|manifest| {
        manifest.durable = manifest.durable.max(plan.bound);
        // The plan accounts for every LSN from the log's start on, what was given up earlier among them. So it takes the
        // place of what was said before, also by a repair that never came to its end: no LSN is told twice.
        let start = manifest.log_start;
        manifest.losses.retain(|said| said.lsns.last < start);
        manifest.losses.extend(plan.outcome.earlier.iter().chain(plan.losses()).cloned());
        manifest.losses.sort_by_key(|loss| loss.lsns.first);
    })?;
    Ok(())
}

struct Mending<'a, 'q> {
    dir: &'a Arc<dyn LogDir>,
    survey: &'a Survey,
    plan: &'a RepairPlan,
    log_id: LogId,
    quarantine: &'a mut Quarantine<'q>,
    /// What was put into the quarantine.
    kept: Vec<String>,
}

impl Mending<'_, '_> {
    fn file(&self, planned: &Planned) -> Option<&Surveyed> {
        self.survey.files.get(planned.file?)
    }

    /// Makes the files those of the plan.
    fn change_files(&mut self) -> Result<(), RecoveryError> {
        self.set_aside()?;
        let mut before = None;
        for (index, planned) in self.plan.segments.iter().enumerate() {
            before = match planned.action {
                Action::Keep => self.kept_end(planned),
                Action::Rewrite | Action::Make => self.write(index, planned, before)?,
            };
        }
        Ok(())
    }

    /// Moves the files that are no part of the log any more, the last one first.
    fn set_aside(&mut self) -> Result<(), RecoveryError> {
        for &index in self.plan.set_aside.iter().rev() {
            let Some(file) = self.survey.files.get(index) else { continue };
            self.move_repeated(file)?;
            let report = report(file, self.plan, "It lies behind the damage, and was set aside unread.");
            self.keep(&file.name, &report)?;
            self.remove(&file.name)?;
        }
        Ok(())
    }

    /// Moves the packed file of a segment that is there as it was before, too: nobody is to take it for the segment.
    fn move_repeated(&mut self, file: &Surveyed) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("packed_file_of_a_damaged_segment_left") {
            return Ok(());
        }
        let packed = PackedName(file.base).to_string();
        if self.survey.repeated.contains(&packed) {
            let report = report(file, self.plan, "It is the packed file of a segment that was damaged.");
            self.keep(&packed, &report)?;
            self.remove(&packed)?;
        }
        Ok(())
    }

    /// Puts a file into the quarantine.
    fn keep(&mut self, name: &str, report: &str) -> Result<(), RecoveryError> {
        let kept = self.quarantine.keep(self.dir, name, report)?;
        self.kept.push(kept);
        Ok(())
    }

    /// Takes a file, which is in the quarantine, out of the log.
    fn remove(&self, name: &str) -> Result<(), RecoveryError> {
        self.dir.remove(name).map_err(RecoveryError::io("remove", name))?;
        self.sync_names()
    }

    /// The end of a segment that stays as it is, as the next header names it.
    fn kept_end(&self, planned: &Planned) -> Option<Predecessor> {
        let file = self.file(planned)?;
        match &file.last {
            Some(last) => Some(Predecessor {
                base: file.base,
                last: last.lsn,
                last_timestamp_ns: last.timestamp_ns,
                last_checksum: last.checksum,
                sealed: file.sealed,
            }),
            None => file.good_header()?.predecessor,
        }
    }

    /// Writes a segment, and gives it its name; how it ends.
    fn write(
        &mut self,
        index: usize,
        planned: &Planned,
        before: Option<Predecessor>,
    ) -> Result<Option<Predecessor>, RecoveryError> {
        let name = dir::segment_name(planned.base);
        let survey = self.survey;
        let file = planned.file.and_then(|file| survey.files.get(file));
        if let Some(file) = file {
            self.move_repeated(file)?;
            let report = report(file, self.plan, "What could be kept of it was written anew.");
            self.keep(&file.name, &report)?;
        }
        let header = self.header(planned, before);
        let header = SegmentHeader { salt: self.salt(planned, header)?, ..header };
        let temporary = prepared_name(planned.base.0);
        match self.dir.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(RecoveryError::io("remove", temporary)(error));
            }
            _ => {}
        }
        let writer = SegmentWriter::create(self.dir, &temporary, header)?;
        let written = self.fill(writer, planned, self.named_by_next(index))?;
        let replaces = file.is_some_and(|file| !file.is_packed);
        self.dir
            .rename(&temporary, &name, replaces)
            .map_err(RecoveryError::io("rename", temporary.as_str()))?;
        self.sync_names()?;
        // What is not packed wins, so this one is no part of the log any more.
        if let Some(file) = file.filter(|file| file.is_packed) {
            self.remove(&file.name)?;
        }
        Ok(written.predecessor)
    }

    /// The end of this segment, as the header names it that will stand behind it.
    fn named_by_next(&self, index: usize) -> Option<Predecessor> {
        let next = self.plan.segments.get(index + 1)?;
        if !next.header_stays {
            return None;
        }
        self.file(next)?.good_header()?.predecessor
    }

    fn header(&self, planned: &Planned, before: Option<Predecessor>) -> SegmentHeader {
        let good = self.file(planned).and_then(Surveyed::good_header);
        let made = SegmentHeader {
            log_id: self.log_id,
            incarnation: planned.incarnation,
            salt: made_salt(self.log_id, planned),
            base: planned.base,
            predecessor: before,
            recycled: false,
            created_at_ns: before.map_or(0, |before| before.last_timestamp_ns),
            user_metadata: UserMetadata::EMPTY,
            open_from: self.open_from(planned.base),
        };
        match good {
            Some(header) if planned.header_stays => SegmentHeader { recycled: false, ..*header },
            Some(header) => SegmentHeader {
                incarnation: made.incarnation,
                predecessor: before,
                recycled: false,
                ..*header
            },
            None => made,
        }
    }

    /// Below this, nothing that commits behind `base` has begun: where the nearest header before it that can be read says so of
    /// its own segment.
    fn open_from(&self, base: Lsn) -> Option<Lsn> {
        let before = self.plan.segments.iter().take_while(|planned| planned.base < base);
        let known = before.clone().filter_map(|planned| self.file(planned)?.good_header()).last();
        match known {
            Some(header) => Some(header.open_from.unwrap_or(header.base)),
            None => before.map(|planned| planned.base).next(),
        }
    }

    /// The salt with which the last record keeps its checksum.
    fn salt(&self, planned: &Planned, header: SegmentHeader) -> Result<Salt, RecoveryError> {
        let (Some(file), Some(Part::Piece(_))) = (self.file(planned), planned.parts.last()) else {
            return Ok(header.salt);
        };
        let salt = match &file.header {
            HeaderState::Good(header) => Some(header.salt),
            HeaderState::Lost(salt) => *salt,
            HeaderState::NotStarted => None,
        };
        let measured = self.fill(SegmentWriter::measure(header), planned, None)?;
        let (Some(salt), Some(last), Some(offset)) = (salt, file.last, measured.last_offset) else {
            return Ok(header.salt);
        };
        // What a seed takes from the offset is the same for all salts.
        let moved = Salt(0).seed(last.offset).wrapping_sub(Salt(0).seed(offset));
        #[cfg(braidlog_sabotage)]
        let moved = if braidlog_sabotage::is("salt_of_a_rewritten_segment_kept") { 0 } else { moved };
        Ok(Salt(salt.0.wrapping_add(moved)))
    }

    fn fill(
        &self,
        mut writer: SegmentWriter,
        planned: &Planned,
        named: Option<Predecessor>,
    ) -> Result<WrittenSegment, RecoveryError> {
        for part in &planned.parts {
            match part {
                Part::Piece(piece) => {
                    let name = self.file(planned).map_or("", |file| file.name.as_str());
                    copy(self.dir, name, piece, &mut writer)?;
                }
                Part::Loss(loss) => writer.loss(loss)?,
            }
        }
        let ends_with_a_piece = matches!(planned.parts.last(), Some(Part::Piece(_)));
        let kept_seal = self.file(planned).filter(|file| ends_with_a_piece && file.sealed);
        let in_doubt = kept_seal.map(|file| &file.in_doubt[..]);
        writer.finish(in_doubt, named.as_ref())
    }

    fn sync_names(&self) -> Result<(), RecoveryError> {
        self.dir.sync().map_err(RecoveryError::io("sync", path_of(self.dir)))
    }
}

/// Copies the entries of a piece that take an LSN, and the losses among them.
fn copy(
    dir: &Arc<dyn LogDir>,
    name: &str,
    piece: &Piece,
    writer: &mut SegmentWriter,
) -> Result<(), RecoveryError> {
    let (window, _) = Window::open_patient(dir, name, STREAM_LEN)?;
    let mut scan = Scan::at(window, piece.from);
    while scan.at.offset < piece.to {
        match scan.step()? {
            Step::Entry(found) => {
                if let Some(loss) = scan.loss(&found) {
                    writer.loss(&loss)?;
                } else if found.header.kind.takes_lsn() {
                    let header = found.header;
                    writer.record(header.timestamp_ns, header.kind, header.flags, scan.payload(&found))?;
                }
            }
            // It proved itself a moment ago.
            Step::Stop(_) => {
                return Err(RecoveryError::damaged(name, scan.at.offset, piece.lsns, DamageCause::EndsEarly));
            }
        }
    }
    Ok(())
}

/// The salt of a segment of which no record keeps its checksum: a repair that is made again makes the same file.
fn made_salt(log_id: LogId, planned: &Planned) -> Salt {
    let incarnation = planned.incarnation.0.to_le_bytes();
    Salt(crc32(&[&log_id.0[..], &planned.base.0.to_le_bytes(), &incarnation, b"repair"].concat()))
}

/// What people want to know of a file in the quarantine.
fn report(file: &Surveyed, plan: &RepairPlan, what: &str) -> String {
    let mut text = format!(
        "{}, {} bytes, was taken out of the log by a repair with the policy {}.\n{what}\n",
        file.name, file.len, plan.policy
    );
    for damage in &file.damage {
        text.push_str(&format!("{damage}\n"));
    }
    for loss in plan.losses() {
        text.push_str(&format!("{loss}\n"));
    }
    text
}
