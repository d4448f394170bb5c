//! A backup: the log as it is up to a durable LSN, in a directory of its own that opens as a log.
//!
//! # Order
//! What a crash leaves of a backup opens as the backup before (or with some more records), or is refused; it is never a
//! shorter log.
//! 1. The first backup into a directory begins with the manifest, which says up to which LSN the log goes. Until all is
//!    there the log ends below that, and is refused. So does one that goes on with what is not whole, or to which nothing
//!    of the log continues any more, because it starts behind the backup's end.
//! 2. Checkpoints, then segments in LSN order: each is written under another name, synced, renamed, and the directory
//!    synced. Each of these states continues the one before it.
//! 3. The last segment is cut where the backup ends, and sealed. It is always a copy: who opens a backup for writing may
//!    cut its last file, which must not be one that the log has too.
//! 4. A later backup ends with the manifest. Then what is below its start, and checkpoints that it does not name, go.
//!
//! # Beside a writer
//! The log may be truncated, and its files used again, while they are read. The manifest says so before the first file
//! goes: it is read again after each file, before that file gets its name in the backup. Checkpoints are opened before
//! anything else is done: newer ones may take their names meanwhile, and their bytes stay.

mod copy;
mod target;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidlog_format::{CheckpointName, LogId, Lsn, MANIFEST_NAME, ManifestCheckpoint, SegmentName};
use braidlog_storage::{Clock, LogDir};

use crate::chain::{self, Chain, End, Segment};
use crate::window::{STREAM_LEN, Window};
use crate::{ForeignFile, Manifest, Pins, RecoveryError, dir, loss, tail};

use copy::Copier;
use target::Target;

/// How often a backup begins anew when the log changes under it.
const ATTEMPTS_MAX: usize = 64;

/// How a backup is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupHow {
    /// Whether finished files may be linked instead of copied, where the storage can.
    pub link: bool,
}

/// How far a backup is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Bytes of files that are in the backup.
    pub bytes_done: u64,
    /// Bytes of all files that will be.
    pub bytes_total: u64,
}

/// What a backup came to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The log's identity.
    pub log_id: LogId,
    /// The first LSN of the backup.
    pub first_lsn: Lsn,
    /// The last one; the one before the first if it holds no record.
    pub last_lsn: Lsn,
    /// Segments in the backup.
    pub segments: usize,
    /// Checkpoints in the backup.
    pub checkpoints: usize,
    /// Files that were copied.
    pub copied: usize,
    /// Files that were linked.
    pub linked: usize,
    /// Files that were there already.
    pub unchanged: usize,
    /// Files of earlier backups that were removed.
    pub removed: usize,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes of all files of the backup, its manifest aside.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Backs the log in `from` up into `to`, up to the last LSN that `durable` says is durable, or that an earlier backup in
/// `to` ends with. What that left there is used.
///
/// The caller holds the lock of `to`; the writer of `from` may go on. In the writer's own process it has
/// `pins`, and gives nothing up meanwhile.
///
/// # Errors
/// [`RecoveryError::Foreign`] if `to` holds anything but a backup of this very log; [`RecoveryError::Damaged`],
/// [`RecoveryError::Newer`]; [`RecoveryError::Io`] from either directory. `to` is as the module says.
pub fn backup(
    from: &Arc<dyn LogDir>,
    to: &Arc<dyn LogDir>,
    clock: &Arc<dyn Clock>,
    how: BackupHow,
    pins: Option<&Pins>,
    durable: &mut dyn FnMut() -> Result<Lsn, RecoveryError>,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport, RecoveryError> {
    let started = Instant::now();
    // Nothing is given up, or used again, from here on.
    let _pin = pins.map(Pins::pin_all);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(from, to, clock, how, durable, progress) {
            Ok(report) => return Ok(BackupReport { duration: started.elapsed(), ..report }),
            Err(Ended::Moved) if attempts < ATTEMPTS_MAX => {}
            Err(Ended::Moved) => {
                return Err(RecoveryError::io("back up", dir::path_of(from))(ErrorKind::TimedOut.into()));
            }
            Err(Ended::Failed(error)) => return Err(error),
        }
    }
}

/// Why an attempt ended early.
enum Ended {
    /// The log gave something up meanwhile, and what was read may be another file's, or gone.
    Moved,
    Failed(RecoveryError),
}

impl From<RecoveryError> for Ended {
    fn from(error: RecoveryError) -> Ended {
        Ended::Failed(error)
    }
}

/// What is backed up.
struct Source<'a> {
    dir: &'a Arc<dyn LogDir>,
    manifest: Manifest,
    /// The files of the checkpoints, open.
    checkpoints: Vec<(ManifestCheckpoint, Window)>,
    chain: Chain,
    /// The last LSN of the backup.
    last: Lsn,
    /// Whether the log has not all that the backup before has.
    falls_short: bool,
}

fn attempt(
    from: &Arc<dyn LogDir>,
    to: &Arc<dyn LogDir>,
    clock: &Arc<dyn Clock>,
    how: BackupHow,
    durable: &mut dyn FnMut() -> Result<Lsn, RecoveryError>,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupReport, Ended> {
    let mut source = Source::look(from, durable, &Manifest::load(to)?)?;
    let checkpoints = std::mem::take(&mut source.checkpoints);
    let log_id = source.log_id();
    let mut target = Target::open(to, clock, log_id)?;
    // What a repair gave up, and no more than it meant to.
    let losses = source.unless_moved(loss::recorded(from, &source.manifest, &mut |_| Ok(())))?;
    target.check(&source.chain, source.manifest.log_start, &losses)?;
    target.check_not(from)?;
    if source.falls_short {
        let (file, what) = (MANIFEST_NAME.to_owned(), ForeignFile::Diverged);
        return Err(RecoveryError::Foreign { file, what }.into());
    }
    let mut manifest = source.manifest.clone();
    manifest.durable = source.last;
    manifest.count_streams_again(source.last);
    let is_whole = target.is_whole(source.manifest.log_start)?;
    #[cfg(braidlog_sabotage)]
    let is_whole = is_whole || braidlog_sabotage::is("first_backup_without_its_end");
    if !is_whole {
        target.write_manifest(&manifest)?;
    }
    let mut copier = Copier::new(&source, &mut target, how.link, progress)?;
    for (checkpoint, mut window) in checkpoints {
        copier.checkpoint(&checkpoint, &mut window)?;
    }
    let (last, finished) = source.chain.segments.split_last().unzip();
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("backup_out_of_order")
        && let Some(last) = last
    {
        copier.last(last)?;
    }
    for segment in finished.unwrap_or(&[]) {
        copier.finished(segment)?;
    }
    if let Some(last) = last {
        copier.last(last)?;
    }
    let report = copier.into_report();
    if is_whole {
        target.write_manifest(&manifest)?;
    }
    let removed = target.remove_rest(&manifest, &source.chain)?;
    Ok(BackupReport {
        log_id,
        segments: source.chain.segments.len(),
        checkpoints: manifest.checkpoints.len(),
        removed,
        ..report
    })
}

impl<'a> Source<'a> {
    fn look(
        from: &'a Arc<dyn LogDir>,
        durable: &mut dyn FnMut() -> Result<Lsn, RecoveryError>,
        before: &Manifest,
    ) -> Result<Source<'a>, Ended> {
        let manifest = Manifest::load(from)?;
        // What the manifest vouches for is durable, also where no mark in the log says so yet.
        let vouched = manifest.checkpoints.iter().map(|checkpoint| checkpoint.lsn).max();
        let last = durable()?.max(manifest.durable).max(vouched.unwrap_or(Lsn::ZERO));
        let mut source = Source {
            dir: from,
            manifest,
            checkpoints: Vec::new(),
            chain: Chain::default(),
            last,
            falls_short: false,
        };
        for checkpoint in &source.manifest.checkpoints {
            let opened = Window::open(from, &checkpoint_name(checkpoint), STREAM_LEN);
            source.checkpoints.push((*checkpoint, source.unless_moved(opened)?));
        }
        let inspect = || {
            let listing = dir::list(from)?;
            chain::inspect(from, &listing, source.manifest.log_start, &[], &mut chain::refuse)
        };
        // A list of names that is made while a segment is packed may have neither of its two, and the next list those of
        // another one. So what is wrong counts when two looks in a row say it.
        let mut said = None;
        let inspected = loop {
            match inspect() {
                Err(error) if said.as_ref() != Some(&error.to_string()) => said = Some(error.to_string()),
                inspected => break inspected,
            }
        };
        source.chain = source.unless_moved(inspected)?;
        if before.durable > source.last && before.log_id() == Some(source.log_id()) {
            source.falls_short = !source.unless_moved(source.reaches(before.durable))?;
            if !source.falls_short {
                source.last = before.durable;
            }
        }
        // One that begins above the end holds nothing of the backup. But a log has the segment with which it starts.
        let end = source.last.max(source.manifest.log_start);
        source.chain.segments.retain(|segment| segment.header.base <= end);
        Ok(source)
    }

    /// Whether the log has the record `lsn`, with which the backup before ended. Then it is durable: that backup may have
    /// been made by the writer's process, which knows more than any mark in the log tells others.
    fn reaches(&self, lsn: Lsn) -> Result<bool, RecoveryError> {
        let Some(last) = self.chain.last() else { return Ok(false) };
        if lsn < last.header.base {
            return Ok(true);
        }
        match copy::end_of(self.dir, last, lsn) {
            // A log that is as it should be may be shorter: another than the backup is of.
            Err(RecoveryError::Damaged(_)) => tail::examine(self.dir, last).map(|_| false),
            reached => reached.map(|_| true),
        }
    }

    fn log_id(&self) -> LogId {
        let known = self.manifest.log_id().or_else(|| self.chain.log_id());
        // A log that was opened has a segment, if it found space for one.
        known.unwrap_or(LogId([0; 16]))
    }

    /// A result of reading the log; if the manifest is another by now, that may be why.
    fn unless_moved<T>(&self, result: Result<T, RecoveryError>) -> Result<T, Ended> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if Manifest::load(self.dir)?.number() != self.manifest.number() => Err(Ended::Moved),
            Err(error) => Err(Ended::Failed(error)),
        }
    }

    /// Whether what was read at `lsn` still belonged to the log afterwards.
    fn check_not_moved(&self, lsn: Lsn) -> Result<(), Ended> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("backup_of_a_file_used_again") {
            return Ok(());
        }
        let now = Manifest::load(self.dir)?;
        if now.log_start > lsn { Err(Ended::Moved) } else { Ok(()) }
    }
}

/// The last LSN of a segment of the source, within the backup.
fn last_of(segment: &Segment, last: Lsn) -> Lsn {
    match segment.end {
        End::Named(named) => named.last.min(last),
        _ => last,
    }
}

/// The name of a segment in the backup: the last one is never packed there.
fn name_of(segment: &Segment, is_last: bool) -> String {
    if is_last { SegmentName(segment.header.base).to_string() } else { segment.name.clone() }
}

/// The name of the file of a checkpoint.
fn checkpoint_name(checkpoint: &ManifestCheckpoint) -> String {
    CheckpointName { lsn: checkpoint.lsn, number: checkpoint.number }.to_string()
}
