//! The manifest: what a log knows of its own life, in one small file that is replaced as a whole.
//!
//! The rule: a change is durable before anybody sees it. It is written under another name, synced, renamed over the old
//! file, and the directory is synced; only then does the value in memory change. So who acts on what
//! [`ManifestStore::current`] gives (and removes a file that the log no longer needs) acts on what a crash leaves.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use braidlog_format::{
    DecodeError, Flags, Incarnation, LogId, LossEntry, Lsn, LsnRange, MANIFEST_NAME, MANIFEST_NEW_NAME,
    ManifestCheckpoint, ManifestEntry, ManifestHead, StreamHeader, StreamKind,
};
use braidlog_storage::{Clock, FileAccess, FileIo, LogDir};

use crate::locked::locked;
use crate::reserve::{Reserve, ReserveFor};
use crate::stream::{StreamReader, StreamWriter};
use crate::stream_counts::{Counted, StreamFacts};
use crate::{Damage, DamageCause, ForeignFile, Loss, RecoveryError, chain};

/// What a manifest says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The log and the number of times that it was written; `None` before the first.
    written: Option<(LogId, u64)>,
    /// The base LSN of the first segment that belongs to the log.
    pub log_start: Lsn,
    /// Every record up to here was durable when the manifest was written. A log that ends below it has lost some.
    pub durable: Lsn,
    /// For how long the log has been open for writing, over all openings, in nanoseconds.
    pub uptime_ns: u64,
    /// The number that the next checkpoint gets.
    pub next_checkpoint: u64,
    /// Checkpoints that are complete and durable, in the order of their numbers.
    pub checkpoints: Vec<ManifestCheckpoint>,
    /// Who needs the log from where on, by name.
    pub holds: Vec<Hold>,
    /// Named points up to which the log can be restored, in LSN order.
    pub restore_points: Vec<RestorePoint>,
    /// LSNs that were given up, in LSN order.
    pub losses: Vec<Loss>,
    /// How old segments are, in the order of their base LSNs.
    pub ages: Vec<SegmentAge>,
    /// The streams of the log, in the order of their numbers.
    pub streams: Vec<StreamFacts>,
}

/// Somebody needs the log from an LSN on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Who needs it: 1 to 255 bytes.
    pub name: String,
    /// The first LSN that is needed.
    pub lsn: Lsn,
}

/// A named point up to which a log can be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestorePoint {
    /// What it is called: 1 to 255 bytes.
    pub name: String,
    /// The last LSN before the point.
    pub lsn: Lsn,
    /// When it was set, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

/// How old a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentAge {
    /// Its base LSN.
    pub base: Lsn,
    /// The log's uptime when it was sealed, in nanoseconds.
    pub sealed_at_uptime_ns: u64,
}

impl Default for Manifest {
    /// What a log is without one: it starts at its first LSN.
    fn default() -> Manifest {
        Manifest {
            written: None,
            log_start: Lsn::FIRST,
            durable: Lsn::ZERO,
            uptime_ns: 0,
            next_checkpoint: 1,
            checkpoints: Vec::new(),
            holds: Vec::new(),
            restore_points: Vec::new(),
            losses: Vec::new(),
            ages: Vec::new(),
            streams: Vec::new(),
        }
    }
}

impl Manifest {
    /// One that says no more than where the log starts.
    pub(crate) fn starting_at(log_start: Lsn) -> Manifest {
        Manifest { log_start, durable: log_start.prev(), ..Manifest::default() }
    }

    /// Reads the manifest of a directory; the default if there is none.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`], [`RecoveryError::Newer`], [`RecoveryError::Foreign`], [`RecoveryError::Io`].
    pub fn load(dir: &Arc<dyn LogDir>) -> Result<Manifest, RecoveryError> {
        let mut reader = match StreamReader::open(dir, MANIFEST_NAME, StreamKind::Manifest) {
            Ok(reader) => reader,
            Err(RecoveryError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Manifest::default());
            }
            Err(error) => return Err(error),
        };
        let header = *reader.header();
        let mut manifest = Manifest { written: Some((header.log_id, header.number)), ..Manifest::default() };
        let mut is_first = true;
        while let Some(entry) = reader.next_entry()? {
            let offset = entry.offset;
            let taken = match ManifestEntry::decode(entry.kind, entry.payload) {
                Ok(_) if !matches!(entry.flags, Flags::NONE | Flags::IGNORABLE) => {
                    Err(DecodeError::InvalidField { field: "flags" })
                }
                Ok(decoded) => manifest.take(decoded, is_first),
                Err(error) if error.is_newer() && entry.flags.contains(Flags::IGNORABLE) => {
                    // What may be skipped is not the head, which comes first.
                    if is_first { Err(DecodeError::InvalidField { field: "head" }) } else { Ok(()) }
                }
                Err(error) => Err(error),
            };
            taken.map_err(|error| reader.refused(offset, error))?;
            is_first = false;
        }
        if is_first {
            let error = DecodeError::InvalidField { field: "head" };
            return Err(reader.refused(reader.bytes_read(), error));
        }
        Ok(manifest)
    }

    /// The log that wrote it; `None` if nobody did yet.
    pub fn log_id(&self) -> Option<LogId> {
        self.written.map(|(log_id, _)| log_id)
    }

    /// How many times the log has written its manifest.
    pub fn number(&self) -> u64 {
        self.written.map_or(0, |(_, number)| number)
    }

    /// The newest checkpoint.
    pub fn newest_checkpoint(&self) -> Option<&ManifestCheckpoint> {
        self.checkpoints.last()
    }

    /// The checkpoint with this number.
    pub fn checkpoint(&self, number: u64) -> Option<&ManifestCheckpoint> {
        self.checkpoints.iter().find(|checkpoint| checkpoint.number == number)
    }

    /// The hold of this name.
    pub fn hold(&self, name: &str) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.name == name)
    }

    /// Sets a hold of this name, or moves the one that has it.
    pub fn set_hold(&mut self, name: &str, lsn: Lsn) {
        match self.holds.binary_search_by(|hold| hold.name.as_str().cmp(name)) {
            Ok(at) => {
                if let Some(hold) = self.holds.get_mut(at) {
                    hold.lsn = lsn;
                }
            }
            Err(at) => self.holds.insert(at, Hold { name: name.to_owned(), lsn }),
        }
    }

    /// Releases the hold of this name; whether there was one.
    pub fn release_hold(&mut self, name: &str) -> bool {
        let before = self.holds.len();
        self.holds.retain(|hold| hold.name != name);
        self.holds.len() < before
    }

    /// The restore point of this name.
    pub fn restore_point(&self, name: &str) -> Option<&RestorePoint> {
        self.restore_points.iter().find(|point| point.name == name)
    }

    /// Sets a restore point behind the record `lsn`, which is durable; whether there was none of this name.
    pub fn set_restore_point(&mut self, name: &str, lsn: Lsn, time_ns: u64) -> bool {
        if self.restore_point(name).is_some() {
            return false;
        }
        let at = self.restore_points.partition_point(|point| point.lsn <= lsn);
        self.restore_points.insert(at, RestorePoint { name: name.to_owned(), lsn, time_ns });
        // What leads there is vouched for.
        self.durable = self.durable.max(lsn);
        true
    }

    /// Drops the restore point of this name; whether there was one.
    pub fn drop_restore_point(&mut self, name: &str) -> bool {
        let before = self.restore_points.len();
        self.restore_points.retain(|point| point.name != name);
        self.restore_points.len() < before
    }

    /// Whether a state as of `lsn` can be recovered, as far as the manifest knows: from the log's first record on, or upon a
    /// checkpoint that is not newer.
    pub fn leads_to(&self, lsn: Lsn) -> bool {
        let leads = |checkpoint: &ManifestCheckpoint| {
            checkpoint.lsn <= lsn && checkpoint.replay_from >= self.log_start
        };
        self.log_start == Lsn::FIRST || self.checkpoints.iter().any(leads)
    }

    /// What it would say of checkpoints, and of how far the log was durable, if nothing had come behind the record `until`.
    pub fn as_of(&self, until: Lsn) -> Manifest {
        let mut manifest = self.clone();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("checkpoint_behind_the_point") {
            return manifest;
        }
        manifest.checkpoints.retain(|checkpoint| checkpoint.lsn <= until);
        manifest.durable = manifest.durable.min(until);
        manifest
    }

    /// What a log says that begins as this one and is another: who holds this one does not hold that.
    pub(crate) fn forked(&self) -> Manifest {
        Manifest { written: None, holds: Vec::new(), ..self.clone() }
    }

    /// The first LSN that a checkpoint, a hold or the count of a stream needs: no truncation goes beyond it. Without a checkpoint
    /// the log is all that there is.
    pub fn needed_from(&self) -> Lsn {
        let checkpoint = self.newest_checkpoint().map_or(self.log_start, |newest| newest.replay_from);
        let streams = self.uncounted_from();
        #[cfg(braidlog_sabotage)]
        let streams = streams.filter(|_| !braidlog_sabotage::is("cut_above_what_a_stream_counts"));
        self.holds.iter().map(|hold| hold.lsn).chain(streams).fold(checkpoint, Lsn::min)
    }

    /// The newest opening before one that gave something up: its number is above that of every segment that it found.
    pub(crate) fn newest_incarnation(&self) -> Option<Incarnation> {
        let newest = self.losses.iter().map(|loss| loss.incarnation.0).max()?;
        Some(Incarnation(newest.saturating_sub(1).min(u64::MAX - 2)))
    }

    /// That the manifest belongs to the log whose segments have this identity.
    pub(crate) fn check_log_id(&self, of_segments: Option<LogId>) -> Result<(), RecoveryError> {
        match (self.log_id(), of_segments) {
            (Some(found), Some(expected)) if found != expected => {
                let what = ForeignFile::LogId { found, expected };
                Err(RecoveryError::Foreign { file: MANIFEST_NAME.to_owned(), what })
            }
            _ => Ok(()),
        }
    }

    /// That a log which nobody writes, and which goes on with `next_lsn`, holds all that was durable when the manifest
    /// was written. It ends in this segment at this offset, with a seal or not; `None` if it has no segment.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`]: no mark in the files can tell that whole files behind them are gone. This does.
    pub(crate) fn check_end(
        &self,
        next_lsn: Lsn,
        end: Option<(&str, u64, bool)>,
    ) -> Result<(), RecoveryError> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("manifest_does_not_vouch") {
            return Ok(());
        }
        if next_lsn > self.durable {
            return Ok(());
        }
        let lsns = LsnRange { first: next_lsn, last: self.durable };
        let damage = match end {
            Some((segment, offset, false)) => {
                Damage { segment: segment.to_owned(), offset, lsns, cause: DamageCause::EndsEarly }
            }
            // What is behind a seal stands in a file of its own.
            Some((_, _, true)) | None => chain::missing(next_lsn, self.durable.next()),
        };
        Err(RecoveryError::Damaged(damage))
    }

    /// Takes an entry, the first of which is the head.
    fn take(&mut self, entry: ManifestEntry<'_>, is_first: bool) -> Result<(), DecodeError> {
        let invalid = |field| Err(DecodeError::InvalidField { field });
        if is_first != matches!(entry, ManifestEntry::Head(_)) {
            return invalid("head");
        }
        match entry {
            ManifestEntry::Head(ManifestHead { log_start, durable, uptime_ns, next_checkpoint }) => {
                (self.log_start, self.durable) = (log_start, durable);
                (self.uptime_ns, self.next_checkpoint) = (uptime_ns, next_checkpoint);
            }
            ManifestEntry::Checkpoint(checkpoint) => {
                let above = self.checkpoints.last().is_none_or(|last| last.number < checkpoint.number);
                if !above || checkpoint.number >= self.next_checkpoint {
                    return invalid("number");
                }
                self.checkpoints.push(checkpoint);
            }
            ManifestEntry::Hold { lsn, name } => {
                if self.holds.last().is_some_and(|last| last.name.as_str() >= name) {
                    return invalid("name");
                }
                self.holds.push(Hold { name: name.to_owned(), lsn });
            }
            ManifestEntry::RestorePoint { lsn, time_ns, name } => {
                self.restore_points.push(RestorePoint { name: name.to_owned(), lsn, time_ns });
            }
            ManifestEntry::Loss { lsns, incarnation, cause, account } => {
                self.losses.push(LossEntry { lsns, incarnation, cause, account }.into());
            }
            ManifestEntry::SegmentAge { base, sealed_at_uptime_ns } => {
                if self.ages.last().is_some_and(|last| last.base >= base) {
                    return invalid("base LSN");
                }
                self.ages.push(SegmentAge { base, sealed_at_uptime_ns });
            }
            ManifestEntry::Stream { id, last_sequence, as_of, name } => {
                if self.streams.last().is_some_and(|last| last.id >= id) {
                    return invalid("stream");
                }
                if as_of > self.durable || as_of < self.log_start.prev() {
                    return invalid("as of");
                }
                let counted = Counted { last_sequence, as_of };
                self.streams.push(StreamFacts { id, name: name.to_owned(), counted });
            }
        }
        Ok(())
    }

    /// The entries in the order in which they are written.
    fn entries(&self) -> impl Iterator<Item = ManifestEntry<'_>> {
        let head = ManifestHead {
            log_start: self.log_start,
            durable: self.durable,
            uptime_ns: self.uptime_ns,
            next_checkpoint: self.next_checkpoint,
        };
        let checkpoints = self.checkpoints.iter().map(|checkpoint| ManifestEntry::Checkpoint(*checkpoint));
        let holds = self.holds.iter().map(|hold| ManifestEntry::Hold { lsn: hold.lsn, name: &hold.name });
        let points = self.restore_points.iter().map(|point| ManifestEntry::RestorePoint {
            lsn: point.lsn,
            time_ns: point.time_ns,
            name: &point.name,
        });
        let losses = self.losses.iter().map(|loss| ManifestEntry::Loss {
            lsns: loss.lsns,
            incarnation: loss.incarnation,
            cause: loss.cause as u8,
            account: &loss.account,
        });
        let ages = self.ages.iter().map(|age| ManifestEntry::SegmentAge {
            base: age.base,
            sealed_at_uptime_ns: age.sealed_at_uptime_ns,
        });
        let streams = self.streams.iter().map(|stream| ManifestEntry::Stream {
            id: stream.id,
            last_sequence: stream.counted.last_sequence,
            as_of: stream.counted.as_of,
            name: &stream.name,
        });
        let head = std::iter::once(ManifestEntry::Head(head));
        head.chain(checkpoints).chain(holds).chain(points).chain(losses).chain(ages).chain(streams)
    }

    /// That a reader will take it.
    fn check(&self) -> Result<(), DecodeError> {
        let mut read = Manifest { written: self.written, ..Manifest::default() };
        for (index, entry) in self.entries().enumerate() {
            let (fixed, text) = entry.encode();
            let payload = [fixed.as_bytes(), text.as_bytes()].concat();
            read.take(ManifestEntry::decode(entry.kind(), &payload)?, index == 0)?;
        }
        Ok(())
    }
}

/// The manifest of a log that is open for writing. All changes of one log go through one store.
#[derive(Debug)]
pub struct ManifestStore {
    dir: Arc<dyn LogDir>,
    clock: Arc<dyn Clock>,
    log_id: LogId,
    /// The last manifest that is durable.
    current: Mutex<Arc<Manifest>>,
    /// The number of the last manifest that somebody tried to write; held while one is written.
    pub(crate) tried: Mutex<u64>,
    /// How far the records of streams are counted: written along with the next change.
    pub(crate) counted: Mutex<BTreeMap<u64, Counted>>,
    /// Held by who truncates the log.
    truncation: Mutex<()>,
    /// Blocks for the day when the device has none.
    reserve: Option<Arc<Reserve>>,
    /// Bytes of the manifest, as far as this store has written it.
    len: AtomicU64,
}

impl ManifestStore {
    /// A store that goes on from `manifest`, which [`recover`](crate::recover) gave. The caller holds the directory's
    /// lock.
    pub fn new(
        dir: Arc<dyn LogDir>,
        clock: Arc<dyn Clock>,
        log_id: LogId,
        manifest: Arc<Manifest>,
    ) -> ManifestStore {
        let tried = Mutex::new(manifest.number());
        let (current, truncation) = (Mutex::new(manifest), Mutex::new(()));
        ManifestStore {
            dir,
            clock,
            log_id,
            current,
            tried,
            counted: Mutex::default(),
            truncation,
            reserve: None,
            len: AtomicU64::new(0),
        }
    }

    /// Has the log keep a few blocks, with which a small checkpoint can be taken and the log cut though the device has not
    /// one left. If it has none now, the log has none either, until there are.
    ///
    /// # Errors
    /// [`RecoveryError::Io`], for another reason than a lack of space.
    pub fn keep_reserve(&mut self) -> Result<(), RecoveryError> {
        let len = match self.dir.open(MANIFEST_NAME, FileAccess::Read, FileIo::Buffered) {
            Ok(file) => file.len().map_err(RecoveryError::io("read", MANIFEST_NAME))?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(RecoveryError::io("open", MANIFEST_NAME)(error)),
        };
        self.len.store(len, Relaxed);
        let reserve = Arc::new(Reserve::new(Arc::clone(&self.dir)));
        reserve.fill(len).map_err(RecoveryError::io("make", "the reserve"))?;
        self.reserve = Some(reserve);
        Ok(())
    }

    /// Whether the log can take a checkpoint and be cut though the device has not one block left, as far as it keeps a
    /// reserve for that. If not, what the log gives up is better given back than used again.
    pub fn can_do_without_space(&self) -> bool {
        self.reserve.as_ref().is_none_or(|reserve| reserve.is_whole())
    }

    /// The reserve, for a stream.
    pub(crate) fn reserve(&self, what: ReserveFor) -> Option<(Arc<Reserve>, ReserveFor)> {
        self.reserve.as_ref().map(|reserve| (Arc::clone(reserve), what))
    }

    /// Takes again what the reserve lacks, if the device has it. Nothing depends on it.
    pub(crate) fn refill_reserve(&self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("reserve_not_made_again") {
            return;
        }
        if let Some(reserve) = &self.reserve {
            // What fails now is tried again with the next change.
            let _ = reserve.fill(self.len.load(Relaxed));
        }
    }

    /// What the manifest says now. It never waits for a change that is being written.
    pub fn current(&self) -> Arc<Manifest> {
        Arc::clone(&locked(&self.current))
    }

    /// Changes the manifest, durably, and gives the new one. Changes of several threads are made one after another; one
    /// that changes nothing writes nothing. It needs space, and leaves the reserve alone.
    ///
    /// # Errors
    /// [`RecoveryError::Io`]: [`current`](ManifestStore::current) is as before, and on disk stands the old manifest or
    /// the new one.
    pub fn change(&self, edit: impl FnOnce(&mut Manifest)) -> Result<Arc<Manifest>, RecoveryError> {
        self.try_change(None, |manifest| {
            edit(manifest);
            Ok(())
        })
    }

    /// Sets a hold of this name, or moves the one that has it. One that moves forward may take of the reserve.
    ///
    /// # Errors
    /// As [`change`](ManifestStore::change).
    pub fn set_hold(&self, name: &str, lsn: Lsn) -> Result<(), RecoveryError> {
        let allows = self.current().hold(name).is_some_and(|hold| hold.lsn <= lsn);
        self.try_change(allows.then_some(ReserveFor::Hold), |manifest| {
            manifest.set_hold(name, lsn);
            Ok(())
        })
        .map(|_: Arc<Manifest>| ())
    }

    /// Releases the hold of this name; whether there was one. It may take of the reserve.
    ///
    /// # Errors
    /// As [`change`](ManifestStore::change).
    pub fn release_hold(&self, name: &str) -> Result<bool, RecoveryError> {
        let mut was_there = false;
        self.try_change(Some(ReserveFor::Hold), |manifest| {
            was_there = manifest.release_hold(name);
            Ok(())
        })
        .map(|_: Arc<Manifest>| was_there)
    }

    /// As [`change`](ManifestStore::change), with an edit that may refuse: then nothing is written. What it checks is
    /// still so when the change is durable. It may take of the reserve what `reserved` says.
    ///
    /// # Errors
    /// As [`change`](ManifestStore::change), and the edit's own.
    pub(crate) fn try_change<E: From<RecoveryError>>(
        &self,
        reserved: Option<ReserveFor>,
        edit: impl FnOnce(&mut Manifest) -> Result<(), E>,
    ) -> Result<Arc<Manifest>, E> {
        let mut tried = locked(&self.tried);
        let before = self.current_with_streams();
        let mut manifest = Manifest::clone(&before);
        edit(&mut manifest)?;
        if manifest == *before {
            return Ok(self.current());
        }
        Ok(self.put(manifest, reserved, &mut tried)?)
    }

    /// Writes `manifest` in place of what is there, durably, also if that says the same or nothing is there.
    pub(crate) fn replace(&self, manifest: Manifest) -> Result<Arc<Manifest>, RecoveryError> {
        self.put(manifest, None, &mut locked(&self.tried))
    }

    pub(crate) fn put(
        &self,
        mut manifest: Manifest,
        reserved: Option<ReserveFor>,
        tried: &mut u64,
    ) -> Result<Arc<Manifest>, RecoveryError> {
        // What could not be made behind the change before may be there by now.
        self.refill_reserve();
        // A number is never used again: the file of a change that failed at its end may be the one on disk.
        *tried += 1;
        manifest.written = Some((self.log_id, *tried));
        let manifest = Arc::new(manifest);
        self.write(&manifest, *tried, reserved)?;
        *locked(&self.current) = Arc::clone(&manifest);
        self.refill_reserve();
        Ok(manifest)
    }

    /// Waits until nobody else truncates the log.
    pub(crate) fn truncation(&self) -> MutexGuard<'_, ()> {
        locked(&self.truncation)
    }

    fn write(
        &self,
        manifest: &Manifest,
        number: u64,
        reserved: Option<ReserveFor>,
    ) -> Result<(), RecoveryError> {
        // What is written can be read: a bad value is the caller's error now, not a damaged log tomorrow.
        manifest.check().map_err(|error| {
            let source = std::io::Error::new(ErrorKind::InvalidInput, error);
            RecoveryError::io("write", MANIFEST_NEW_NAME)(source)
        })?;
        let header = StreamHeader::new(StreamKind::Manifest, self.log_id, number, self.clock.wall_ns());
        let writer = StreamWriter::create(&self.dir, MANIFEST_NEW_NAME, header)?;
        let mut writer = writer.with_reserve(reserved.and_then(|what| self.reserve(what))).kept_whole();
        for entry in manifest.entries() {
            let (fixed, text) = entry.encode();
            writer.put(entry.kind(), Flags::NONE, &[fixed.as_bytes(), text.as_bytes()])?;
        }
        let finished = writer.finish(MANIFEST_NAME, true)?;
        self.len.store(finished.bytes, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braidlog_format::Kind;
    use braidlog_sim::{Fault, Op, SimClock, SimDisk};
    use braidlog_storage::Storage;

    use super::*;
    use crate::LossCause;

    const LOG_ID: LogId = LogId([9; 16]);

    fn store(disk: &SimDisk) -> ManifestStore {
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        let manifest = Arc::new(Manifest::load(&dir).unwrap());
        ManifestStore::new(dir, Arc::new(SimClock::new()), LOG_ID, manifest)
    }

    fn load(disk: &SimDisk) -> Result<Manifest, RecoveryError> {
        Manifest::load(&disk.open_dir(Path::new("log"), true).unwrap())
    }

    fn checkpoint(number: u64, base: u64) -> ManifestCheckpoint {
        ManifestCheckpoint {
            number,
            lsn: Lsn(40 + number),
            replay_from: Lsn(41),
            base,
            bytes: 5000,
            created_at_ns: 6,
            end_checksum: 7,
        }
    }

    /// Something of everything.
    fn fill(manifest: &mut Manifest) {
        manifest.log_start = Lsn(30);
        manifest.durable = Lsn(90);
        manifest.uptime_ns = 5;
        manifest.next_checkpoint = 4;
        manifest.checkpoints = vec![checkpoint(1, 0), checkpoint(3, 1)];
        manifest.set_hold("zebra", Lsn(33));
        manifest.set_hold("archive", Lsn(31));
        manifest.restore_points = vec![RestorePoint { name: "now".to_owned(), lsn: Lsn(60), time_ns: 3 }];
        let lsns = LsnRange { first: Lsn(50), last: Lsn(55) };
        let account = "six records".to_owned();
        manifest.losses =
            vec![Loss { lsns, incarnation: Incarnation(2), cause: LossCause::FileMissing, account }];
        manifest.streams.clear();
        manifest.add_stream("orders");
        manifest.ages =
            [30, 70].map(|base| SegmentAge { base: Lsn(base), sealed_at_uptime_ns: base }).to_vec();
    }

    #[test]
    fn log_without_a_manifest_starts_at_its_first_lsn() {
        let disk = SimDisk::new();
        let manifest = load(&disk).unwrap();
        assert_eq!(manifest, Manifest::default());
        assert_eq!((manifest.log_start, manifest.log_id(), manifest.number()), (Lsn::FIRST, None, 0));
    }

    #[test]
    fn change_is_read_back_and_counted() {
        let disk = SimDisk::new();
        let store = store(&disk);
        let changed = store.change(fill).unwrap();
        assert_eq!(*changed, load(&disk).unwrap());
        assert_eq!(store.current(), changed);
        assert_eq!((changed.log_id(), changed.number()), (Some(LOG_ID), 1));
        assert_eq!(changed.newest_checkpoint(), changed.checkpoint(3));
        assert_eq!(changed.hold("archive").map(|hold| hold.lsn), Some(Lsn(31)));
        // Nothing changes, nothing is written.
        assert_eq!(store.change(fill).unwrap().number(), 1);
        let released = store.change(|manifest| assert!(manifest.release_hold("archive"))).unwrap();
        assert_eq!((released.number(), released.holds.len()), (2, 1));
        assert_eq!(*released, load(&disk).unwrap());
        assert_eq!(disk.list_raw("log").len(), 1);
    }

    #[test]
    fn refused_edit_and_bad_value_change_nothing() {
        let disk = SimDisk::new();
        let store = store(&disk);
        store.change(fill).unwrap();
        let refused = store.try_change(None, |manifest| {
            manifest.log_start = Lsn(40);
            Err(RecoveryError::io("think", "it")(ErrorKind::Other.into()))
        });
        assert!(refused.is_err());
        let bad: [fn(&mut Manifest); 4] = [
            |manifest| manifest.set_hold("", Lsn(40)),
            |manifest| manifest.log_start = Lsn(99),
            |manifest| manifest.checkpoints.reverse(),
            |manifest| manifest.ages.reverse(),
        ];
        for edit in bad {
            let Err(RecoveryError::Io { source, .. }) = store.change(edit) else { panic!("it is refused") };
            assert_eq!(source.kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(*store.current(), load(&disk).unwrap());
        assert_eq!(store.current().log_start, Lsn(30));
    }

    #[test]
    fn failed_change_leaves_memory_as_it_was_and_can_be_made_again() {
        for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
            let disk = SimDisk::new();
            let store = store(&disk);
            store.change(fill).unwrap();
            let before = store.current();
            disk.inject(Fault::eio(op));
            assert!(store.change(|manifest| manifest.log_start = Lsn(70)).is_err(), "{op:?}");
            assert_eq!(store.current(), before, "{op:?}");
            let loaded = load(&disk).unwrap();
            assert!(loaded.log_start == Lsn(30) || loaded.log_start == Lsn(70), "{op:?}");
            let after = store.change(|manifest| manifest.log_start = Lsn(70)).unwrap();
            assert!(
                after.number() > loaded.number(),
                "{op:?}: the number of a lost change is not given again"
            );
            assert_eq!(*after, load(&disk).unwrap(), "{op:?}");
        }
    }

    #[test]
    fn manifest_without_a_head_or_with_two_is_damaged() {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        let head = ManifestEntry::Head(ManifestHead {
            log_start: Lsn(1),
            durable: Lsn(0),
            uptime_ns: 0,
            next_checkpoint: 1,
        });
        let hold = ManifestEntry::Hold { lsn: Lsn(1), name: "x" };
        for (entries, lawful) in [
            (&[][..], false),
            (&[hold, head], false),
            (&[head, head], false),
            (&[head, hold, hold], false),
            (&[head, hold], true),
        ] {
            let header = StreamHeader::new(StreamKind::Manifest, LOG_ID, 1, 0);
            let mut writer = StreamWriter::create(&dir, MANIFEST_NEW_NAME, header).unwrap();
            for entry in entries {
                let (fixed, text) = entry.encode();
                writer.put(entry.kind(), Flags::NONE, &[fixed.as_bytes(), text.as_bytes()]).unwrap();
            }
            writer.finish(MANIFEST_NAME, true).unwrap();
            let found = load(&disk);
            assert_eq!(found.is_ok(), lawful, "{entries:?}");
            assert!(lawful || matches!(found, Err(RecoveryError::Damaged(_))), "{entries:?}");
        }
    }

    #[test]
    fn unknown_entry_is_newer_unless_it_may_be_skipped() {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        for (flags, comes_first) in
            [(Flags::NONE, false), (Flags::IGNORABLE, false), (Flags::IGNORABLE, true)]
        {
            let header = StreamHeader::new(StreamKind::Manifest, LOG_ID, 1, 0);
            let mut writer = StreamWriter::create(&dir, MANIFEST_NEW_NAME, header).unwrap();
            let unknown = |writer: &mut StreamWriter| writer.put(Kind(200), flags, &[b"later"]).unwrap();
            if comes_first {
                unknown(&mut writer);
            }
            for entry in Manifest::default().entries().filter(|_| !comes_first) {
                let (fixed, text) = entry.encode();
                writer.put(entry.kind(), Flags::NONE, &[fixed.as_bytes(), text.as_bytes()]).unwrap();
            }
            if !comes_first {
                unknown(&mut writer);
            }
            writer.finish(MANIFEST_NAME, true).unwrap();
            match load(&disk) {
                Ok(_) => assert!(flags.contains(Flags::IGNORABLE) && !comes_first),
                Err(RecoveryError::Newer { .. }) => assert_eq!(flags, Flags::NONE),
                Err(RecoveryError::Damaged(_)) => assert!(comes_first, "the head is not skipped"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn known_entry_with_a_flag_that_means_nothing_is_damage() {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("log"), true).unwrap();
        for flags in [Flags::NONE, Flags::IGNORABLE, Flags::EXTENDED, Flags::COMPRESSED.with(Flags::EXTENDED)]
        {
            let header = StreamHeader::new(StreamKind::Manifest, LOG_ID, 1, 0);
            let mut writer = StreamWriter::create(&dir, MANIFEST_NEW_NAME, header).unwrap();
            for entry in Manifest::default().entries() {
                let (fixed, text) = entry.encode();
                writer.put(entry.kind(), flags, &[fixed.as_bytes(), text.as_bytes()]).unwrap();
            }
            writer.finish(MANIFEST_NAME, true).unwrap();
            let lawful = matches!(flags, Flags::NONE | Flags::IGNORABLE);
            assert_eq!(load(&disk).is_ok(), lawful, "{flags:?}");
        }
    }
}
