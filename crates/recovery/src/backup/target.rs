//! The directory that a backup is made into.
//!
//! The rule: nothing in it is touched before it is known to be empty or a backup of this very log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{
    CheckpointName, LogId, Lsn, LsnRange, MANIFEST_NAME, PackedName, SegmentName, prepared_name,
};
use braidlog_storage::{Clock, FileAccess, FileIo, LogDir, LogFile};

use super::{checkpoint_name, name_of};
use crate::chain::{self, Chain, Segment};
use crate::dir::SegmentFile;
use crate::loss::{Place, Places};
use crate::segment_file::base_of;
use crate::window::{GLANCE_LEN, STREAM_LEN, Window};
use crate::{ForeignFile, Loss, Manifest, ManifestStore, RecoveryError, dir, seal, tail};

/// The number of the prepared file under whose name a file is written before it gets its own: an opening removes it.
const TEMPORARY: u64 = u64::MAX - 1;

/// A backup's directory. The caller holds its lock.
pub(super) struct Target {
    dir: Arc<dyn LogDir>,
    store: ManifestStore,
    /// The manifest of the backup before; `None` if there is none.
    before: Option<Arc<Manifest>>,
    /// The files that are there and not known to be damaged: names and lengths.
    files: BTreeMap<String, u64>,
    /// Those that are to be brought anew, or removed.
    damaged: BTreeSet<String>,
}

impl Target {
    pub(super) fn open(
        to: &Arc<dyn LogDir>,
        clock: &Arc<dyn Clock>,
        log_id: LogId,
    ) -> Result<Target, RecoveryError> {
        let manifest = Manifest::load(to)?;
        let before = manifest.log_id().is_some();
        if let Some(found) = manifest.log_id().filter(|found| *found != log_id) {
            let what = ForeignFile::LogId { found, expected: log_id };
            return Err(RecoveryError::Foreign { file: MANIFEST_NAME.to_owned(), what });
        }
        let entries = to.list().map_err(RecoveryError::io("list", dir::path_of(to)))?;
        let ours = |name: &str| name == LOCK || dir::is_temporary(name);
        if let Some(other) = entries.iter().find(|entry| !before && !ours(&entry.name)) {
            return Err(RecoveryError::Foreign { file: other.name.clone(), what: ForeignFile::NotABackup });
        }
        let manifest = Arc::new(manifest);
        Ok(Target {
            dir: Arc::clone(to),
            store: ManifestStore::new(Arc::clone(to), Arc::clone(clock), log_id, Arc::clone(&manifest)),
            before: before.then_some(manifest),
            files: entries.into_iter().map(|entry| (entry.name, entry.len)).collect(),
            damaged: BTreeSet::new(),
        })
    }

    /// That it is not the directory of the log, under whichever path: a file that is made here is not seen there.
    pub(super) fn check_not(&mut self, from: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
        drop(self.temporary()?);
        let name = prepared_name(TEMPORARY);
        let is_there = match from.open(&name, FileAccess::Read, FileIo::Buffered) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(RecoveryError::io("open", name)(error)),
        };
        self.remove(&name)?;
        // One that an interrupted backup left there is not this one.
        let is_itself = is_there && from.open(&name, FileAccess::Read, FileIo::Buffered).is_err();
        if is_itself {
            let file = dir::path_of(&self.dir);
            return Err(RecoveryError::Foreign { file, what: ForeignFile::Itself });
        }
        Ok(())
    }

    /// That every segment of the backup, from the log's start on, is one of the log's. One that is not was written by
    /// somebody who opened the backup and went on with it. One of the log's that the disk has damaged is brought anew.
    ///
    /// A repair rewrites segments, and may leave their headers, their last records and their lengths as they were. So it is looked
    /// where each of the log's `losses` should stand. A backup that has a record there is from before the repair: it may be all that
    /// is left of the record, and nothing is put in its place.
    pub(super) fn check(
        &mut self,
        source: &Chain,
        log_start: Lsn,
        losses: &[Loss],
    ) -> Result<(), RecoveryError> {
        let listing = dir::list(&self.dir)?;
        let files = listing.segments_from(log_start);
        let mut nexts = files.iter().skip(1).map(|next| next.base);
        for file in files {
            let lsns = LsnRange { first: file.base, last: nexts.next().map_or(Lsn::MAX, Lsn::prev) };
            let ours = source.segments.iter().find(|segment| segment.header.base == file.base);
            let theirs = Window::open(&self.dir, &file.name(), GLANCE_LEN)
                .and_then(|mut window| chain::header_in(&mut window))
                .and_then(|header| header.expect(&file.name(), file.base, Lsn::MAX));
            let theirs = match theirs {
                Err(RecoveryError::Damaged(_)) if ours.is_some() => {
                    self.files.remove(&file.name());
                    self.damaged.insert(file.name());
                    continue;
                }
                theirs => theirs?,
            };
            if ours.is_none_or(|ours| ours.header != theirs) {
                let is_lost =
                    losses.iter().any(|loss| loss.lsns.first <= lsns.last && lsns.first <= loss.lsns.last);
                let what = if is_lost { ForeignFile::BeforeRepair } else { ForeignFile::Diverged };
                return Err(RecoveryError::Foreign { file: file.name(), what });
            }
        }
        self.check_losses(files, losses)
    }

    /// That the backup has no record that the log gave up. A segment that is damaged where the loss should stand is as the log's was,
    /// and is brought anew.
    fn check_losses(&mut self, files: &[SegmentFile], losses: &[Loss]) -> Result<(), RecoveryError> {
        if losses.is_empty() || files.is_empty() {
            return Ok(());
        }
        let places = Places::of(&self.dir)?;
        let mut damaged = Vec::new();
        for loss in losses {
            let behind = files.partition_point(|file| file.base <= loss.lsns.first);
            let Some(file) = behind.checked_sub(1).and_then(|index| files.get(index)) else { continue };
            match places.look(loss)? {
                Place::Recorded => {}
                Place::Record => {
                    let what = ForeignFile::BeforeRepair;
                    return Err(RecoveryError::Foreign { file: file.name(), what });
                }
                Place::Damaged(_) => damaged.push(file.name()),
            }
        }
        for name in damaged {
            self.files.remove(&name);
            self.damaged.insert(name);
        }
        Ok(())
    }

    /// Whether what is there opens as the backup before, and a log that starts at `start` continues it.
    pub(super) fn is_whole(&self, start: Lsn) -> Result<bool, RecoveryError> {
        let Some(before) = &self.before else { return Ok(false) };
        let has = |name: &str, len: u64| self.files.get(name) == Some(&len);
        if !before.checkpoints.iter().all(|checkpoint| has(&checkpoint_name(checkpoint), checkpoint.bytes)) {
            return Ok(false);
        }
        let looked = dir::list(&self.dir).and_then(|listing| {
            chain::inspect(&self.dir, &listing, before.log_start, &[], &mut chain::refuse)
        });
        let last = match looked {
            Ok(chain) => {
                chain.last().map(|last| tail::examine(&self.dir, last).map(|tail| tail.next_lsn().prev()))
            }
            Err(RecoveryError::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        match last.transpose() {
            Ok(last) => {
                let last = last.unwrap_or(before.log_start.prev());
                Ok(last >= before.durable && last.next() >= start)
            }
            Err(RecoveryError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), RecoveryError> {
        self.store.replace(manifest.clone()).map(|_| ())
    }

    /// Bytes of a file, if it is there.
    pub(super) fn len_of(&self, name: &str) -> Option<u64> {
        self.files.get(name).copied()
    }

    pub(super) fn window(&self, name: &str) -> Result<Window, RecoveryError> {
        Window::open(&self.dir, name, STREAM_LEN)
    }

    /// Whether this segment is there, sealed behind this very LSN.
    pub(super) fn ends_with(&self, segment: &Segment, last: Lsn) -> Result<bool, RecoveryError> {
        let name = name_of(segment, true);
        if !self.files.contains_key(&name) {
            return Ok(false);
        }
        let mut window = Window::open(&self.dir, &name, GLANCE_LEN)?;
        let facts = seal::at_end(&mut window, &segment.header)?;
        Ok(facts.is_some_and(|facts| facts.last_lsn == last))
    }

    /// A new file, which gets its name when it is written and synced.
    pub(super) fn temporary(&mut self) -> Result<Arc<dyn LogFile>, RecoveryError> {
        let name = prepared_name(TEMPORARY);
        self.remove(&name)?;
        let file = self.dir.open(&name, FileAccess::CreateNew, FileIo::Buffered);
        file.map_err(RecoveryError::io("make", name))
    }

    /// Gives a file of the log its name here too; whether that could be done. Where the backup has a file of that name a
    /// copy has to replace it, which is one step.
    pub(super) fn link(
        &mut self,
        from: &Arc<dyn LogDir>,
        name: &str,
        len: u64,
    ) -> Result<bool, RecoveryError> {
        if self.files.contains_key(name) || from.link_into(name, self.dir.path()).is_err() {
            return Ok(false);
        }
        // By its path the directory may be another by now.
        let linked = self.dir.open(name, FileAccess::Read, FileIo::Buffered).and_then(|file| file.len());
        Ok(linked.is_ok_and(|linked| linked == len))
    }

    /// Makes the name of a file that was linked durable.
    pub(super) fn keep_name(&mut self, name: &str, len: u64) -> Result<(), RecoveryError> {
        self.sync()?;
        self.files.insert(name.to_owned(), len);
        Ok(())
    }

    /// Removes the other file of this segment, durably: it would win over the one that has just been brought, and may be
    /// one that an earlier backup cut. Before the next segment is brought, which continues the new one.
    pub(super) fn remove_twin(&mut self, base: Lsn, name: &str) -> Result<(), RecoveryError> {
        let twins = [SegmentName(base).to_string(), PackedName(base).to_string()];
        for twin in twins.iter().filter(|twin| *twin != name) {
            if self.files.remove(twin).is_some() || self.damaged.remove(twin) {
                self.remove(twin)?;
                self.sync()?;
            }
        }
        Ok(())
    }

    /// Gives the temporary file its name, durably.
    pub(super) fn give_name(&mut self, name: &str, len: u64) -> Result<(), RecoveryError> {
        self.dir
            .rename(&prepared_name(TEMPORARY), name, true)
            .map_err(RecoveryError::io("rename to", name))?;
        self.sync()?;
        self.files.insert(name.to_owned(), len);
        Ok(())
    }

    /// Removes what an earlier backup had and this one has not; how many files.
    pub(super) fn remove_rest(
        &mut self,
        manifest: &Manifest,
        source: &Chain,
    ) -> Result<usize, RecoveryError> {
        let mut kept: Vec<String> = manifest.checkpoints.iter().map(checkpoint_name).collect();
        let last = source.last().map(|last| last.header.base);
        let segments = source.segments.iter();
        kept.extend(segments.map(|segment| name_of(segment, Some(segment.header.base) == last)));
        let is_of_a_log = |name: &str| base_of(name).is_some() || CheckpointName::parse(name).is_some();
        let is_kept = |name: &String| kept.contains(name) || !is_of_a_log(name);
        let there = self.files.keys().chain(&self.damaged);
        let gone: Vec<_> = there.filter(|name| !is_kept(name)).cloned().collect();
        for name in &gone {
            self.remove(name)?;
            self.files.remove(name);
        }
        self.remove(&prepared_name(TEMPORARY))?;
        self.sync()?;
        Ok(gone.len())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), RecoveryError> {
        match self.dir.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(RecoveryError::io("remove", name)(error))
            }
            _ => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), RecoveryError> {
        self.dir.sync().map_err(RecoveryError::io("sync", dir::path_of(&self.dir)))
    }
}

/// The file that carries a writer's lock.
const LOCK: &str = "LOCK";
