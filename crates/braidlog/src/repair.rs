//! Repairing a log of which acknowledged records cannot be read back.
//!
//! The rule: nothing is given up that the caller has not said may be; what is given up is accounted for, and every damaged
//! file stays, in the directory `quarantine` of the log.

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_recovery::{
    self as recovery, BoxError, DamagePolicy, DamagedLog, OnDamage, RecordRef, RepairProgress, RepairReport,
    SalvageReport,
};
use braidlog_storage::{Clock, FileAccess, FileIo, LogDir, OsStorage, Storage, SystemClock};

use crate::open::new_log_id;
use crate::{Error, Records, Result};

/// How a log is repaired, for [`repair`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repair {
    /// What stays and what is given up. [`Refuse`](DamagePolicy::Refuse) only tells what is damaged.
    pub policy: DamagePolicy,
    /// Whether nothing is done: the report says what would be.
    ///
    /// Default: false.
    pub dry_run: bool,
    /// Where the files are. Default: the operating system.
    pub storage: Arc<dyn Storage>,
    /// Where time comes from. Default: the system's clocks.
    pub clock: Arc<dyn Clock>,
}

impl Repair {
    /// A repair with this policy.
    #[must_use]
    pub fn new(policy: DamagePolicy) -> Repair {
        let (storage, clock) = (Arc::new(OsStorage), Arc::new(SystemClock::new()));
        Repair { policy, dry_run: false, storage, clock }
    }

    /// Sets [`dry_run`](Repair#structfield.dry_run).
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Repair {
        Repair { dry_run, ..self }
    }

    /// Sets [`storage`](Repair#structfield.storage).
    #[must_use]
    pub fn storage(self, storage: Arc<dyn Storage>) -> Repair {
        Repair { storage, ..self }
    }

    /// Sets [`clock`](Repair#structfield.clock).
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Repair {
        Repair { clock, ..self }
    }
}

/// Repairs the log in the directory `path`, which nobody has open, so that it opens again; an undamaged one stays as it
/// is. All of it is read.
///
/// LSNs that are given up are recorded in the log for ever, and never given to another record. What was damaged is moved
/// to the directory `quarantine` in the log's, with a report for each file, and never deleted. A repair that was
/// interrupted is made again by the next one with the same policy; until then the log is refused as damaged, or reads
/// as it did before.
///
/// ```
/// use braidlog::{DamagePolicy, Repair, Wal, repair};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
/// # let wal = Wal::options().open(path)?;
/// # wal.append(b"payload")?;
/// # wal.close()?;
/// let would = repair(path, &Repair::new(DamagePolicy::SkipDamaged).dry_run(true))?;
/// println!("lost: {:?}", would.outcome.lost);
/// assert!(would.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Locked`](crate::ErrorKind::Locked) if somebody has the log open for writing; [`Foreign`](crate::ErrorKind::Foreign)
/// and [`Newer`](crate::ErrorKind::Newer) for files that no policy gives up; [`Damaged`](crate::ErrorKind::Damaged) for a
/// damaged manifest; [`Io`](crate::ErrorKind::Io) and [`NoSpace`](crate::ErrorKind::NoSpace) from the system: call it
/// again once the cause is gone.
pub fn repair(path: impl AsRef<Path>, how: &Repair) -> Result<RepairReport> {
    repair_with(path, how, |_| ())
}

/// As [`repair`], and tells how far it is: about once for each MiB that was read.
///
/// # Errors
/// As [`repair`].
pub fn repair_with(
    path: impl AsRef<Path>,
    how: &Repair,
    mut progress: impl FnMut(&RepairProgress),
) -> Result<RepairReport> {
    let path: Arc<Path> = path.as_ref().into();
    let opened = how.storage.open_dir(&path, false);
    let dir = opened.map_err(|source| Error::open("open the log's directory", &path, source))?;
    if how.dry_run || how.policy == DamagePolicy::Refuse {
        let live = dir.is_locked().map_err(|source| Error::open("look for a writer", &path, source))?;
        if live {
            return Err(Error::locked(&path));
        }
        return recovery::repair_plan(&dir, how.policy, &mut progress)
            .map_err(|error| Error::recovery(&path, error));
    }
    let lock = dir.try_lock();
    let lock = lock.map_err(|source| Error::open("lock the log's directory for writing", &path, source))?;
    let Some(_lock) = lock else { return Err(Error::locked(&path)) };
    let log_id = new_log_id(&path)?;
    with_quarantine(&how.storage, &path, how.policy, &how.clock, |on_damage| {
        recovery::repair(&dir, log_id, on_damage, &mut progress)
    })
    .map_err(|error| Error::recovery(&path, error))
}

/// A damaged log that is read as a policy would keep it, opened by [`read_damaged`].
pub struct Damaged {
    path: Arc<Path>,
    log: DamagedLog,
}

impl fmt::Debug for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damaged")
            .field("path", &self.path)
            .field("first_lsn", &self.first_lsn())
            .field("last_lsn", &self.last_lsn())
            .finish_non_exhaustive()
    }
}

impl Damaged {
    /// What a [`repair`] with the policy would do: what is kept, what is lost, what becomes of each file.
    pub fn report(&self) -> &RepairReport {
        self.log.report()
    }

    /// The first LSN of the log.
    pub fn first_lsn(&self) -> Lsn {
        self.log.first_lsn()
    }

    /// The last LSN of the log, which may be one that would be lost; the one before the first if there is none.
    pub fn last_lsn(&self) -> Lsn {
        self.log.last_lsn()
    }

    /// The records of `range` that the policy keeps. Those that it gives up are passed over, and told by
    /// [`Records::losses`].
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Records {
        Records::of_damaged(&self.log, &self.path, range)
    }
}

/// Reads the log in the directory `path`, which nobody writes, as a [`repair`] with `policy` would leave it, and changes
/// nothing. All of it is read once before the first record is given.
///
/// ```
/// use braidlog::{DamagePolicy, read_damaged};
/// # let dir = tempfile::tempdir()?;
/// # let wal = braidlog::Wal::options().open(dir.path())?;
/// # wal.append(b"payload")?;
/// # wal.close()?;
/// let log = read_damaged(dir.path(), DamagePolicy::SkipDamaged)?;
/// let mut records = log.iter(..);
/// for record in records.by_ref() {
///     println!("{}", record?.lsn);
/// }
/// assert!(records.losses().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for [`Refuse`](DamagePolicy::Refuse), which keeps nothing of a damaged
/// log; and as a dry run of [`repair`].
pub fn read_damaged(path: impl AsRef<Path>, policy: DamagePolicy) -> Result<Damaged> {
    read_damaged_with(path, policy, |_| ())
}

/// As [`read_damaged`], and tells how far it is: about once for each MiB that was read.
///
/// # Errors
/// As [`read_damaged`].
pub fn read_damaged_with(
    path: impl AsRef<Path>,
    policy: DamagePolicy,
    mut progress: impl FnMut(&RepairProgress),
) -> Result<Damaged> {
    read_damaged_in(&OsStorage, path.as_ref(), policy, &mut progress)
}

pub(crate) fn read_damaged_in(
    storage: &dyn Storage,
    path: &Path,
    policy: DamagePolicy,
    progress: &mut dyn FnMut(&RepairProgress),
) -> Result<Damaged> {
    let path: Arc<Path> = path.into();
    if policy == DamagePolicy::Refuse {
        return Err(Error::option("policy", "refuse", "it must be until-damage or skip-damaged"));
    }
    let opened = storage.open_dir(&path, false);
    let dir = opened.map_err(|source| Error::open("open the log's directory", &path, source))?;
    if dir.is_locked().map_err(|source| Error::open("look for a writer", &path, source))? {
        return Err(Error::locked(&path));
    }
    let log = DamagedLog::open(&dir, policy, progress).map_err(|error| Error::recovery(&path, error))?;
    Ok(Damaged { path, log })
}

/// Gives every record of the segment file `file` that proves itself, in LSN order and whole batches only, whatever
/// became of its log: the file's header may be lost, its name may be any, and the log is not looked for. It is for what
/// a repair put into `quarantine`, and for files that were found elsewhere. Nothing is changed.
///
/// # Errors
/// [`Foreign`](crate::ErrorKind::Foreign) if there is no such file, or nothing of a segment in it;
/// [`Application`](crate::ErrorKind::Application) for what `take` says; [`Newer`](crate::ErrorKind::Newer),
/// [`Io`](crate::ErrorKind::Io).
pub fn salvage(
    file: impl AsRef<Path>,
    mut take: impl FnMut(RecordRef<'_>) -> Result<(), BoxError>,
) -> Result<SalvageReport> {
    let path: Arc<Path> = file.as_ref().into();
    let name = path.file_name().and_then(|name| name.to_str());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = name else {
        return Err(Error::open("open the file", &path, io::ErrorKind::NotFound.into()));
    };
    let dir = OsStorage.open_dir(parent, false);
    let dir = dir.map_err(|source| Error::open("open the directory of the file", &path, source))?;
    dir.open(name, FileAccess::Read, FileIo::Buffered)
        .map_err(|source| Error::open("open the file", &path, source))?;
    recovery::salvage(&dir, name, &mut take).map_err(|error| Error::salvage(&path, error))
}

/// Runs what may have to put files into the quarantine of the log at `path`.
pub(crate) fn with_quarantine<T>(
    storage: &Arc<dyn Storage>,
    path: &Path,
    policy: DamagePolicy,
    clock: &Arc<dyn Clock>,
    run: impl FnOnce(&OnDamage<'_>) -> T,
) -> T {
    let quarantine =
        |below: &str| -> io::Result<Arc<dyn LogDir>> { storage.open_dir(&path.join(below), true) };
    run(&OnDamage { policy, clock: clock.clone(), quarantine: &quarantine })
}
