//! Bringing the files of a log into its backup: those that are there already, by a link, by a copy, or cut and sealed.

use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{
    BLOCK_LEN, EntryHeader, Flags, Kind, Lsn, LsnRange, ManifestCheckpoint, PadLen, Seal, pad_len,
};
use braidlog_storage::{LogDir, LogFile, write_all_at};

use super::target::Target;
use super::{BackupProgress, BackupReport, Ended, Source, last_of, name_of};
use crate::chain::{End, Segment};
use crate::in_doubt::Undecided;
use crate::scan::{Position, Scan, Step};
use crate::window::{STREAM_LEN, Window};
use crate::{DamageCause, RecoveryError, seal, tail};

/// Brings files over, one after another.
pub(super) struct Copier<'a> {
    source: &'a Source<'a>,
    target: &'a mut Target,
    link: bool,
    progress: &'a mut dyn FnMut(BackupProgress),
    done: BackupProgress,
    report: BackupReport,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        target: &'a mut Target,
        link: bool,
        progress: &'a mut dyn FnMut(BackupProgress),
    ) -> Result<Copier<'a>, Ended> {
        let segments = source.chain.segments.iter().map(|segment| segment.len);
        let checkpoints = source.manifest.checkpoints.iter().map(|checkpoint| checkpoint.bytes);
        let bytes_total = segments.chain(checkpoints).fold(0, u64::saturating_add);
        let report = BackupReport {
            log_id: source.log_id(),
            first_lsn: source.manifest.log_start,
            last_lsn: source.last,
            segments: 0,
            checkpoints: 0,
            copied: 0,
            linked: 0,
            unchanged: 0,
            removed: 0,
            copied_bytes: 0,
            bytes: 0,
            duration: std::time::Duration::ZERO,
        };
        let mut copier = Copier {
            source,
            target,
            link,
            progress,
            done: BackupProgress { bytes_done: 0, bytes_total },
            report,
        };
        copier.tell(0);
        Ok(copier)
    }

    pub(super) fn into_report(mut self) -> BackupReport {
        // The last segment may have had space ahead of its pen, which is not in the backup.
        let rest = self.done.bytes_total.saturating_sub(self.done.bytes_done);
        self.tell(rest);
        self.report
    }

    /// A checkpoint: its file is never changed, and open already.
    pub(super) fn checkpoint(
        &mut self,
        checkpoint: &ManifestCheckpoint,
        window: &mut Window,
    ) -> Result<(), Ended> {
        let name = super::checkpoint_name(checkpoint);
        let is_there = self.target.len_of(&name) == Some(checkpoint.bytes) && self.is_same(window, &name)?;
        if is_there {
            self.unchanged(checkpoint.bytes);
            return Ok(());
        }
        let linked = self.link && self.target.link(self.source.dir, &name, checkpoint.bytes)?;
        if !linked {
            self.copy_whole(window, &name, checkpoint.bytes)?;
        }
        self.brought(&name, checkpoint.bytes, linked)
    }

    /// A finished segment.
    pub(super) fn finished(&mut self, segment: &Segment) -> Result<(), Ended> {
        let name = name_of(segment, false);
        if self.target.len_of(&name) == Some(segment.len) && self.is_same_segment(segment)? {
            self.unchanged(segment.len);
            return Ok(());
        }
        // What a crash ended has no seal, and an opening may cut zeros from it: it is not shared.
        let is_sealed = matches!(segment.end, End::Named(named) if named.sealed);
        let linked = self.link && is_sealed && self.target.link(self.source.dir, &name, segment.len)?;
        if !linked {
            let mut window = self.open_as_it_is(&name)?;
            self.copy_whole(&mut window, &name, segment.len)?;
        }
        if let Err(ended) = self.source.check_not_moved(segment.header.base) {
            if linked {
                self.target.remove(&name)?;
            }
            return Err(ended);
        }
        self.brought(&name, segment.len, linked)?;
        Ok(self.target.remove_twin(segment.header.base, &name)?)
    }

    /// The last segment: cut at the end of the backup, and sealed.
    pub(super) fn last(&mut self, segment: &Segment) -> Result<(), Ended> {
        let name = name_of(segment, true);
        let up_to = last_of(segment, self.source.last);
        if self.target.ends_with(segment, up_to)? {
            self.unchanged(self.target.len_of(&name).unwrap_or(0));
            return Ok(());
        }
        let end = self.source.unless_moved(end_of(self.source.dir, segment, up_to))?;
        let mut window = self.open(&name)?;
        let temporary = self.target.temporary()?;
        let copied = self.copy(&mut window, &*temporary, end.len()).and_then(|()| {
            let sealed = end.write_seal(&*temporary)?;
            temporary.sync_all().map_err(RecoveryError::io("sync", name.as_str()))?;
            Ok(sealed)
        });
        let len = self.source.unless_moved(copied)?;
        self.source.check_not_moved(segment.header.base)?;
        if let EndOfBackup::Cut(at, _) = end {
            self.report.last_lsn = at.next.prev();
        }
        self.brought(&name, len, false)?;
        Ok(self.target.remove_twin(segment.header.base, &name)?)
    }

    /// A file that is there already.
    fn unchanged(&mut self, len: u64) {
        self.report.unchanged += 1;
        self.count(len);
    }

    /// A file that was linked, or copied and has no name yet.
    fn brought(&mut self, name: &str, len: u64, linked: bool) -> Result<(), Ended> {
        if linked {
            self.target.keep_name(name, len)?;
            self.report.linked += 1;
        } else {
            self.target.give_name(name, len)?;
            self.report.copied += 1;
            self.report.copied_bytes += len;
        }
        self.count(len);
        Ok(())
    }

    fn open(&self, name: &str) -> Result<Window, Ended> {
        self.source.unless_moved(Window::open(self.source.dir, name, STREAM_LEN))
    }

    /// A segment's file with the bytes that it has on the disk. One that is gone may have been packed since it was listed.
    fn open_as_it_is(&self, name: &str) -> Result<Window, Ended> {
        match Window::open_as_it_is(self.source.dir, name, STREAM_LEN) {
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(Ended::Moved)
            }
            opened => self.source.unless_moved(opened),
        }
    }

    /// Copies a file that ends at `len`, durably, to one without a name.
    fn copy_whole(&mut self, window: &mut Window, name: &str, len: u64) -> Result<(), Ended> {
        let temporary = self.target.temporary()?;
        let copied = self.copy(window, &*temporary, len);
        let synced = copied.and_then(|()| temporary.sync_all().map_err(RecoveryError::io("sync", name)));
        self.source.unless_moved(synced)
    }

    /// Copies the first `len` bytes of a file of the log.
    fn copy(&mut self, window: &mut Window, to: &dyn LogFile, len: u64) -> Result<(), RecoveryError> {
        let mut done = 0;
        while done < len {
            window.fill(done, BLOCK_LEN.min(len - done))?;
            let held = window.at(done);
            let held = held.get(..usize::try_from(len - done).unwrap_or(usize::MAX)).unwrap_or(held);
            if held.is_empty() {
                let lsns = LsnRange { first: Lsn(1), last: Lsn(0) };
                return Err(RecoveryError::damaged(window.name(), done, lsns, DamageCause::EndsEarly));
            }
            write_all_at(to, held, done).map_err(RecoveryError::io("write the backup of", window.name()))?;
            done += held.len() as u64;
            // What is counted for good are whole files.
            let bytes_done = self.done.bytes_done.saturating_add(done).min(self.done.bytes_total);
            (self.progress)(BackupProgress { bytes_done, ..self.done });
        }
        Ok(())
    }

    /// Whether the file of this name in the backup has the bytes that the log's has.
    fn is_same(&self, ours: &mut Window, name: &str) -> Result<bool, Ended> {
        let mut theirs = self.target.window(name)?;
        let mut at = 0;
        while at < ours.len() {
            let need = BLOCK_LEN.min(ours.len() - at);
            ours.fill(at, need)?;
            theirs.fill(at, need)?;
            let (a, b) = (ours.at(at), theirs.at(at));
            let len = a.len().min(b.len());
            if len == 0 || a.get(..len) != b.get(..len) {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }

    /// Whether the backup has this finished segment. Its seal says so; without one, its bytes do.
    fn is_same_segment(&self, segment: &Segment) -> Result<bool, Ended> {
        match segment.end {
            End::Named(named) if named.sealed => {
                let facts = self
                    .target
                    .window(&name_of(segment, false))
                    .and_then(|mut window| seal::at_end(&mut window, &segment.header));
                match facts {
                    Ok(facts) => Ok(facts.is_some_and(|facts| facts.agrees_with(&named))),
                    Err(RecoveryError::Damaged(_)) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            _ => {
                let name = name_of(segment, false);
                self.is_same(&mut self.open(&name)?, &name)
            }
        }
    }

    fn count(&mut self, len: u64) {
        self.report.bytes += len;
        self.tell(len);
    }

    fn tell(&mut self, bytes: u64) {
        self.done.bytes_done = self.done.bytes_done.saturating_add(bytes).min(self.done.bytes_total);
        (self.progress)(self.done);
    }
}

/// Where the last segment ends in the backup: behind `up_to`, and behind the batch that it belongs to.
pub(super) fn end_of(
    dir: &Arc<dyn LogDir>,
    segment: &Segment,
    up_to: Lsn,
) -> Result<EndOfBackup, RecoveryError> {
    let mut window = Window::open(dir, &segment.name, STREAM_LEN)?;
    // A seal of the log's own says all that ours would, and more.
    if let Some(facts) = seal::at_end(&mut window, &segment.header)?
        && facts.last_lsn == up_to
    {
        return Ok(EndOfBackup::Sealed(facts.end));
    }
    let mut scan = Scan::new(window, &segment.header);
    let mut undecided = Undecided::default();
    while scan.at.next <= up_to || scan.at.batch_open {
        match scan.step()? {
            Step::Entry(found) => undecided.note(found.header.kind, found.header.flags, scan.payload(&found)),
            Step::Stop(stop) => return Err(tail::damage(&scan.window, &scan.at, &stop, Some(up_to))),
        }
    }
    Ok(EndOfBackup::Cut(scan.at, undecided.list(&segment.header)))
}

/// Where the last segment of a backup ends.
pub(super) enum EndOfBackup {
    /// Behind the seal of the log's own, at this offset.
    Sealed(u64),
    /// Behind a record, with a seal to be written that lists these transactions in doubt.
    Cut(Position, Vec<u64>),
}

impl EndOfBackup {
    /// Bytes of the log's file that belong to the backup.
    fn len(&self) -> u64 {
        match self {
            EndOfBackup::Sealed(end) => *end,
            EndOfBackup::Cut(at, _) => at.offset,
        }
    }

    /// Pads the copy to a block and seals it, if it is not sealed; the length of the file.
    fn write_seal(&self, to: &dyn LogFile) -> Result<u64, RecoveryError> {
        let (at, in_doubt) = match self {
            EndOfBackup::Sealed(end) => return Ok(*end),
            EndOfBackup::Cut(at, in_doubt) => (at, in_doubt),
        };
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("backup_without_a_seal") {
            return Ok(at.offset);
        }
        let seal = Seal {
            count: at.next.0 - at.base.0,
            last_lsn: at.next.prev(),
            last_timestamp_ns: at.last.map_or(at.timestamp_ns, |last| last.timestamp_ns),
            last_checksum: at.last.map_or(0, |last| last.checksum),
            in_doubt,
            index: &[],
        };
        let mut payload = vec![0; usize::try_from(seal.payload_len()).unwrap_or(0)];
        seal.encode(&mut payload);
        let mut bytes = Vec::new();
        if let PadLen::Payload(len) = pad_len(at.offset) {
            put(&mut bytes, at, Kind::PAD, &vec![0; usize::try_from(len).unwrap_or(0)]);
        }
        put(&mut bytes, at, Kind::SEAL, &payload);
        write_all_at(to, &bytes, at.offset).map_err(RecoveryError::io("write", "the seal of the backup"))?;
        Ok(at.offset + bytes.len() as u64)
    }
}

/// Encodes an entry that takes no LSN behind `bytes`, which follow the position.
fn put(bytes: &mut Vec<u8>, at: &Position, kind: Kind, payload: &[u8]) {
    let header = EntryHeader::for_payload(at.next, at.timestamp_ns, kind, Flags::NONE, payload);
    bytes.extend_from_slice(&header.encode(at.salt, at.offset + bytes.len() as u64));
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
