//! Opening for writing: check the options, take the lock, recover, start the engine.
//!
//! The rule: nothing is touched before the options are known to be good, nothing but the directory and its
//! lock before the lock is held, and an error at any step lets go of the lock.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use braidlog_engine::{Chore, Engine, LiveIndex};
use braidlog_format::{LogId, Lsn, Place};
use braidlog_recovery::{Checkpoints, LogReader, ManifestStore, Recovered, WritersIndex, recover_with};

use crate::gate::Gate;
use crate::log::Log;
use crate::prepared::GlobalIds;
use crate::repair::with_quarantine;
use crate::streaming::LateAborts;
use crate::streams::Streams;
use crate::upkeep::{Plan, Upkeep};
use crate::{Error, Options, Result, Wal};

pub(crate) fn open(options: &Options, path: &Path) -> Result<Wal> {
    let path: Arc<Path> = path.into();
    let settings = options.check(random(&path)?)?;
    let dir = options
        .storage
        .open_dir(&path, true)
        .map_err(|source| Error::open("open or create the log's directory", &path, source))?;
    let lock = dir
        .try_lock()
        .map_err(|source| Error::open("lock the log's directory for writing", &path, source))?
        .ok_or_else(|| Error::locked(&path))?;
    let log_id = new_log_id(&path)?;
    let (storage, policy, clock) = (&options.storage, options.on_damage, &options.clock);
    let Recovered { tail, report, manifest } =
        with_quarantine(storage, &path, policy, clock, |how| recover_with(&dir, log_id, Some(how)))
            .map_err(|error| Error::recovery(&path, error))?;
    let clock = options.clock.clone();
    let mut manifest = ManifestStore::new(dir.clone(), clock, report.log_id, manifest);
    // Before the engine takes what space there is.
    manifest.keep_reserve().map_err(|error| Error::recovery(&path, error))?;
    let manifest = Arc::new(manifest);
    let durability = settings.mode.durability();
    let max_record_bytes = settings.max_record_bytes;
    let background_threads = settings.background;
    let upkeep = Arc::new(Upkeep::new(Plan {
        path: path.clone(),
        dir: dir.clone(),
        store: manifest.clone(),
        clock: options.clock.clone(),
        retention: options.retention,
        max_log_bytes: options.max_log_bytes,
        checkpoint_policy: options.checkpoint_policy,
        compression: options.compression,
        compression_level: options.compression_level,
        on_event: options.on_event.clone(),
    }));
    // Its locks are the system's: behind one of them a task of shuttle would stop all others.
    let chore: Option<Arc<dyn Chore>> = if cfg!(braidlog_shuttle) { None } else { Some(upkeep.clone()) };
    let engine = Engine::start(dir.clone(), lock, tail, settings, options.clock.clone(), chore)
        .map_err(|error| Error::engine(&path, error))?;
    let index = Arc::new(UnderThePen(engine.live_index().clone()));
    let reader = LogReader::of_writer(dir.clone(), report.first_lsn).with_index(index);
    let clock = options.clock.clone();
    let checkpoints = Checkpoints::new(dir.clone(), manifest.clone(), clock.clone(), report.log_id);
    let closed = OnceLock::new();
    let global_ids = GlobalIds::of(&report.in_doubt);
    Ok(Wal::new(Log {
        path,
        engine,
        reader,
        report,
        manifest,
        checkpoints,
        dir,
        clock,
        gate: Gate::default(),
        checkpoint_chain_max: options.checkpoint_chain_max,
        checkpoints_kept: options.retention.checkpoints as usize,
        upkeep,
        storage: options.storage.clone(),
        durability,
        max_record_bytes,
        kinds: options.kinds.clone(),
        background_threads,
        transactions: AtomicU64::new(0),
        global_ids,
        late_aborts: LateAborts::default(),
        streams: Streams::default(),
        closed,
    }))
}

/// What the engine knows of the segment under its pen, for the reader.
#[derive(Debug)]
struct UnderThePen(Arc<LiveIndex>);

impl WritersIndex for UnderThePen {
    fn base(&self) -> Option<Lsn> {
        self.0.base()
    }

    fn place_of(&self, lsn: Lsn) -> Option<Place> {
        self.0.place_of(lsn)
    }
}

/// The identity of a log that begins here.
pub(crate) fn new_log_id(path: &Arc<Path>) -> Result<LogId> {
    Ok(LogId((u128::from(random(path)?) << 64 | u128::from(random(path)?)).to_le_bytes()))
}

/// 64 bits that no other log or opening has: checksums are salted and logs told apart with them.
pub(crate) fn random(path: &Arc<Path>) -> Result<u64> {
    getrandom::u64().map_err(|error| Error::open("draw a random number", path, error.into()))
}
