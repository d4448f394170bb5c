//! A fork: the log as it was at a point of its life, in a directory of its own, as a log of its own.
//!
//! The rule: nothing of the old log's future can ever be taken for the fork's. The fork has another identity, and every header and
//! checksum is written anew with it and with salts of its own, so neither a segment nor a single round of the one proves
//! itself in the other.
//!
//! # Order
//! What a crash leaves of a fork is refused, or is nothing; it is never a shorter log.
//! 1. A manifest that vouches for one record more than the fork will have. While it stands, the directory is refused.
//! 2. The checkpoints that are not behind the point, then the segments in LSN order, each synced before it gets its name.
//! 3. The manifest that says what is there. With it the fork is whole, in one step; it vouches for the last record, so
//!    a name of a segment that is lost before the directory is synced is told.
//!
//! A fork that fails takes away what it has made, that first manifest last.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use braidlog_format::{
    CheckpointName, Flags, LogId, Lsn, MANIFEST_NAME, ManifestCheckpoint, Salt, SegmentHeader, StreamHeader,
    StreamKind, prepared_name, unfinished_checkpoint_name,
};
use braidlog_storage::{Clock, LogDir};

use crate::chain::header_in;
use crate::checkpoint::CheckpointInfo;
use crate::checkpoint::reader::{Cut, Part};
use crate::checkpoint::select::{PassedOver, PassedOverCause, cause_of};
use crate::dir::{self, segment_name};
use crate::reader::LogReader;
use crate::rewrite::{SegmentWriter, WrittenSegment};
use crate::stream::StreamWriter;
use crate::target::{self, Target, TargetError};
use crate::window::{GLANCE_LEN, Window};
use crate::{ForeignFile, Loss, Manifest, ManifestStore, Progress, ReadAhead, RecoveryError, replay};

/// The file that carries a writer's lock.
const LOCK: &str = "LOCK";
/// The number of the prepared file under whose name a segment is written.
const TEMPORARY: u64 = u64::MAX - 1;

/// How a fork is made.
#[derive(Debug)]
pub struct ForkHow<'a> {
    /// The identity of the new log.
    pub log_id: LogId,
    /// Random bits, of which the salts of its segments are made.
    pub seed: u64,
    /// The point up to which the log is taken; `None` for all of it.
    pub until: Option<&'a Target>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What may be read ahead.
    pub ahead: Option<ReadAhead>,
    /// Who is told how far it has come.
    pub progress: Option<Progress>,
}

/// What a fork holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ForkReport {
    /// The new log's identity.
    pub log_id: LogId,
    /// Its first LSN, which is that of the old log.
    pub first_lsn: Lsn,
    /// Its last record, the last one before the point; the one before the first if there is none.
    pub last_lsn: Lsn,
    /// Its records.
    pub records: u64,
    /// Its segments.
    pub segments: usize,
    /// Bytes of their files.
    pub segment_bytes: u64,
    /// The checkpoints that were taken along.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Those that cannot be used and were left behind, and why.
    pub passed_over: Vec<PassedOver>,
    /// LSNs that were given up once: so they stay.
    pub losses: Vec<Loss>,
}

/// Makes a log in `to` of what `reader` shows of the log in `from`, whose records up to `last` may be shown. The caller
/// holds the lock of `to`.
///
/// # Errors
/// [`RecoveryError::Foreign`] if `to` holds anything; [`TargetError`] for the point; [`RecoveryError::Truncated`] if
/// the fork could not be recovered: no checkpoint leads to the point, and the log does not go back to its first record;
/// [`RecoveryError::Damaged`], [`RecoveryError::Newer`]; [`RecoveryError::Io`] from either directory.
pub fn fork(
    reader: &LogReader,
    last: Lsn,
    to: &Arc<dyn LogDir>,
    how: ForkHow<'_>,
) -> Result<ForkReport, TargetError> {
    let entries = to.list().map_err(RecoveryError::io("list", dir::path_of(to)))?;
    if let Some(other) = entries.into_iter().find(|entry| entry.name != LOCK) {
        return Err(RecoveryError::Foreign { file: other.name, what: ForeignFile::NotEmpty }.into());
    }
    // Nothing is given up, or used again, from here on.
    let _pin = reader.pins().pin_all();
    let source = Source::look(reader, last, how.until)?;
    #[cfg(braidlog_sabotage)]
    let how = match source.manifest.log_id() {
        Some(log_id) if braidlog_sabotage::is("fork_keeps_the_identity") => ForkHow { log_id, ..how },
        _ => how,
    };
    let forked = Forking { source, to, how }.run();
    if forked.is_err() {
        // What cannot be removed now is refused by whoever opens it.
        let _ = clear(to);
    }
    Ok(forked?)
}

/// What is forked.
struct Source<'a> {
    reader: &'a LogReader,
    manifest: Manifest,
    /// The last record of the fork.
    until: Lsn,
    /// The checkpoints that may be taken along, open: newer ones may take their names meanwhile.
    parts: Vec<(ManifestCheckpoint, Result<Part, PassedOverCause>)>,
}

impl<'a> Source<'a> {
    fn look(reader: &'a LogReader, last: Lsn, until: Option<&Target>) -> Result<Source<'a>, TargetError> {
        let mut manifest = Manifest::load(reader.dir())?;
        loop {
            let until = match until {
                Some(point) => target::resolve(point, reader, &manifest, last)?,
                None => last.max(manifest.log_start.prev()),
            };
            let log_id = manifest.log_id().unwrap_or_default();
            let named = manifest.as_of(until).checkpoints;
            let parts = named
                .into_iter()
                .map(|named| match Part::open(reader.dir(), log_id, &named) {
                    Ok(part) => Ok((named, Ok(part))),
                    Err(error) => passed(error).map(|why| (named, Err(why))),
                })
                .collect::<Result<_, _>>()?;
            // One that is missing may have been forgotten just now.
            let now = Manifest::load(reader.dir())?;
            if now.checkpoints == manifest.checkpoints && now.log_start == manifest.log_start {
                return Ok(Source { reader, manifest, until, parts });
            }
            manifest = now;
        }
    }
}

struct Forking<'a> {
    source: Source<'a>,
    to: &'a Arc<dyn LogDir>,
    how: ForkHow<'a>,
}

impl Forking<'_> {
    fn run(mut self) -> Result<ForkReport, RecoveryError> {
        let until = self.source.until;
        let (log_start, log_id) = (self.source.manifest.log_start, self.how.log_id);
        let clock = Arc::clone(&self.how.clock);
        let store = ManifestStore::new(Arc::clone(self.to), clock, log_id, Arc::new(Manifest::default()));
        let mut refused = Manifest::starting_at(log_start);
        refused.durable = until.next();
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("fork_shown_before_it_is_whole") {
            refused.durable = log_start.prev();
        }
        store.replace(refused)?;
        let (checkpoints, passed_over) = self.checkpoints()?;
        let leads = checkpoints.iter().any(|named| named.replay_from >= log_start);
        if log_start > Lsn::FIRST && !leads {
            return Err(RecoveryError::Truncated { first_lsn: log_start });
        }
        let Segments { count, bytes, records, losses } = self.segments()?;
        let report = ForkReport {
            log_id,
            first_lsn: log_start,
            last_lsn: until,
            records,
            segments: count,
            segment_bytes: bytes,
            checkpoints: checkpoints.iter().map(CheckpointInfo::of).collect(),
            passed_over,
            losses,
        };
        let mut manifest = self.source.manifest.forked();
        (manifest.durable, manifest.checkpoints) = (until, checkpoints);
        // What keeps the old log, or names a point of its future, has no meaning here.
        manifest.restore_points.retain(|point| point.lsn <= until);
        manifest.losses = manifest.losses.into_iter().filter_map(|loss| up_to(loss, until)).collect();
        manifest.ages.retain(|age| age.base <= until);
        manifest.count_streams_again(until);
        store.replace(manifest)?;
        Ok(report)
    }

    /// Writes the checkpoints that are good, and rest on good ones; what is wrong with the others.
    fn checkpoints(&mut self) -> Result<(Vec<ManifestCheckpoint>, Vec<PassedOver>), RecoveryError> {
        let (mut taken, mut passed_over) = (Vec::new(), Vec::new());
        let mut good = BTreeSet::new();
        for (named, part) in std::mem::take(&mut self.source.parts) {
            let checked = match part {
                Ok(_) if named.base != 0 && !good.contains(&named.base) => {
                    Err(PassedOverCause::NoBase { base: named.base })
                }
                Ok(part) => match part.check(&mut |_| Ok(())) {
                    Ok(()) => Ok(part),
                    Err(Cut::Recovery(error)) => Err(passed(error)?),
                    // No time was set.
                    Err(Cut::Time) => continue,
                },
                Err(why) => Err(why),
            };
            match checked {
                Ok(part) => {
                    good.insert(named.number);
                    taken.push(self.checkpoint(&named, &part)?);
                }
                Err(why) => passed_over.push(PassedOver { checkpoint: CheckpointInfo::of(&named), why }),
            }
        }
        passed_over.reverse();
        Ok((taken, passed_over))
    }

    /// Writes a checkpoint anew, entry by entry, with the new log's identity.
    fn checkpoint(
        &self,
        named: &ManifestCheckpoint,
        part: &Part,
    ) -> Result<ManifestCheckpoint, RecoveryError> {
        let mut stream = part.stream()?;
        let created_at_ns = stream.header().created_at_ns;
        let header = StreamHeader::new(StreamKind::Checkpoint, self.how.log_id, named.number, created_at_ns);
        let mut writer = StreamWriter::create(self.to, &unfinished_checkpoint_name(named.number), header)?;
        while let Some(entry) = stream.next_entry()? {
            writer.put(entry.kind, entry.flags, &[entry.payload])?;
        }
        let name = CheckpointName { lsn: named.lsn, number: named.number }.to_string();
        let finished = writer.finish(&name, false)?;
        Ok(ManifestCheckpoint { bytes: finished.bytes, end_checksum: finished.end_checksum, ..*named })
    }

    /// Writes the segments anew, record by record, cut where they are cut in the old log.
    fn segments(&mut self) -> Result<Segments, RecoveryError> {
        let (reader, until) = (self.source.reader, self.source.until);
        let log_start = self.source.manifest.log_start;
        let bases = replay::bases(reader.dir())?;
        let of_fork = |base: &&Lsn| **base >= log_start && (**base <= until || **base == log_start);
        let mut cut = Cutter {
            forking: self,
            bases: bases.iter().filter(of_fork).copied().rev().collect(),
            open: None,
            before: None,
            done: Segments { count: 0, bytes: 0, records: 0, losses: Vec::new() },
        };
        if cut.bases.is_empty() {
            // A log that has not found space for its first segment yet.
            return Ok(cut.done);
        }
        cut.segment_of(log_start)?;
        #[cfg(braidlog_sabotage)]
        let until = match bases.iter().find(|base| **base > until) {
            Some(behind) if braidlog_sabotage::is("fork_goes_on_to_the_end_of_a_segment") => behind.prev(),
            _ => until,
        };
        let mut records = reader.iter(log_start, until)?;
        if let Some(ahead) = cut.forking.how.ahead {
            records = records.read_ahead(ahead);
        }
        if let Some(progress) = cut.forking.how.progress.clone() {
            records = records.progress(progress);
        }
        // What is lent has to be given back before the losses that were passed can be asked for.
        let mut payload = Vec::new();
        let mut losses = 0;
        loop {
            let read = match records.next_ref() {
                Some(record) => {
                    let record = record?;
                    payload.clear();
                    let mut flags = Flags::NONE;
                    if record.batch_continues {
                        flags = flags.with(Flags::BATCH_CONTINUES);
                    }
                    #[cfg(braidlog_sabotage)]
                    let record = if braidlog_sabotage::is("fork_drops_fields") {
                        crate::RecordRef { fields: Default::default(), ..record }
                    } else {
                        record
                    };
                    if !record.fields.is_empty() {
                        flags = flags.with(Flags::EXTENDED);
                        payload.extend_from_slice(&record.fields.len_bytes());
                        payload.extend_from_slice(record.fields.as_bytes());
                    }
                    payload.extend_from_slice(record.payload);
                    Some((record.lsn, record.timestamp_ns, record.kind, flags))
                }
                None => None,
            };
            for loss in records.losses().get(losses..).unwrap_or(&[]) {
                losses += 1;
                if let Some(loss) = up_to(loss.clone(), until) {
                    cut.segment_of(loss.lsns.first)?.loss(&loss)?;
                    cut.done.losses.push(loss);
                }
            }
            let Some((lsn, timestamp_ns, kind, flags)) = read else { break };
            cut.segment_of(lsn)?.record(timestamp_ns, kind, flags, &payload)?;
            cut.done.records += 1;
        }
        cut.finish()?;
        Ok(cut.done)
    }

    /// The header of a segment of the old log.
    fn header(&self, base: Lsn) -> Result<SegmentHeader, RecoveryError> {
        let mut window = Window::open(self.source.reader.dir(), &segment_name(base), GLANCE_LEN)?;
        header_in(&mut window)?.expect(window.name(), base, self.source.until)
    }
}

/// What was written.
struct Segments {
    count: usize,
    bytes: u64,
    records: u64,
    losses: Vec<Loss>,
}

/// Cuts what is written into segments.
struct Cutter<'a, 'b> {
    forking: &'a Forking<'b>,
    /// The bases of the segments that are still to be begun, the next one last.
    bases: Vec<Lsn>,
    open: Option<(Lsn, SegmentWriter)>,
    /// The segment that was written last.
    before: Option<WrittenSegment>,
    done: Segments,
}

impl Cutter<'_, '_> {
    /// The segment that holds this LSN, which is the next one.
    fn segment_of(&mut self, lsn: Lsn) -> Result<&mut SegmentWriter, RecoveryError> {
        while let Some(base) = self.bases.pop_if(|base| *base <= lsn) {
            self.finish()?;
            let old = self.forking.header(base)?;
            let salt = salt(self.forking.how.seed, base);
            #[cfg(braidlog_sabotage)]
            let salt = if braidlog_sabotage::is("fork_keeps_the_salts") { old.salt } else { salt };
            let header = SegmentHeader {
                log_id: self.forking.how.log_id,
                salt,
                // The first one may name a segment that is gone.
                predecessor: self.before.map_or(old.predecessor, |before| before.predecessor),
                ..old
            };
            let writer = SegmentWriter::create(self.forking.to, &prepared_name(TEMPORARY), header)?;
            self.open = Some((base, writer));
        }
        match &mut self.open {
            Some((_, writer)) => Ok(writer),
            // A record that no segment holds is told by the reader before it comes here.
            None => Err(RecoveryError::io("find the segment of", format!("LSN {lsn}"))(
                ErrorKind::NotFound.into(),
            )),
        }
    }

    /// Ends the segment that is being written, and gives it its name.
    fn finish(&mut self) -> Result<(), RecoveryError> {
        let Some((base, writer)) = self.open.take() else { return Ok(()) };
        let written = writer.finish(None, None)?;
        let name = segment_name(base);
        let renamed = self.forking.to.rename(&prepared_name(TEMPORARY), &name, false);
        renamed.map_err(RecoveryError::io("rename to", name))?;
        self.done.count += 1;
        self.done.bytes += written.len;
        self.before = Some(written);
        Ok(())
    }
}

/// The part of a loss that lies before the point.
fn up_to(mut loss: Loss, until: Lsn) -> Option<Loss> {
    loss.lsns.last = loss.lsns.last.min(until);
    (loss.lsns.first <= loss.lsns.last).then_some(loss)
}

/// Salts that differ from segment to segment, and as the seed is random, from those of any other log.
fn salt(seed: u64, base: Lsn) -> Salt {
    let mixed = (seed ^ base.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    Salt((mixed >> 32) as u32)
}

/// What is wrong with a checkpoint, if that is a reason to do without it.
fn passed(error: RecoveryError) -> Result<PassedOverCause, RecoveryError> {
    match cause_of(error) {
        Ok(why) => Ok(why),
        Err(Cut::Recovery(error)) => Err(error),
        Err(Cut::Time) => Err(RecoveryError::io("read", "a checkpoint")(ErrorKind::TimedOut.into())),
    }
}

/// Takes away what a fork has made that did not come to its end. The manifest that refuses it goes last.
fn clear(to: &Arc<dyn LogDir>) -> std::io::Result<()> {
    for entry in to.list()? {
        if entry.name != LOCK && entry.name != MANIFEST_NAME {
            to.remove(&entry.name)?;
        }
    }
    to.sync()?;
    to.remove(MANIFEST_NAME)?;
    to.sync()
}
