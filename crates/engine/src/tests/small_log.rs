//! The smallest whole log: the production `Engine` on a simulated disk, for models and tests of what its parts do
//! together.
//!
//! The rule: it starts none of the engine's threads. A model that wants one runs its body in a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use braidlog_format::{Incarnation, Kind, LogId, LogTail, Lsn, UserMetadata};
use braidlog_sim::SimDisk;
use braidlog_storage::{Clock, Storage};

use crate::append::{Commit, How, Wait};
use crate::chore::Chore;
pub(crate) use crate::engine::Engine;
use crate::error::EngineError;
use crate::settings::{Durability, DurabilityMode, IoMode, OnIoError, Settings, SyncMethod};

/// A clock for which a second passes as it is read: whatever waits for a time reaches it at its next look.
#[derive(Debug, Default)]
struct Hasty(AtomicU64);

impl Clock for Hasty {
    fn wall_ns(&self) -> u64 {
        self.monotonic().as_nanos() as u64
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Relaxed))
    }
}

/// What the models want of the smallest log.
fn settings() -> Settings {
    Settings {
        num_stripes: 1,
        stripe_capacity: 128, // Two records with a payload of up to 8 bytes.
        segment_size: 64 << 10,
        segment_age_max: None,
        write_buffer_size: 8192,
        mode: DurabilityMode::Synchronous,
        sync_method: SyncMethod::Fdatasync,
        io_mode: IoMode::Buffered,
        on_io_error: OnIoError::Poison,
        max_record_bytes: 64,
        user_metadata: UserMetadata::new(&[]).unwrap(),
        salt_seed: 7,
        background: false,
    }
}

/// A log without threads on a disk of its own.
pub(crate) fn open() -> (Arc<Engine>, SimDisk) {
    open_with(settings(), None)
}

/// A log with its own threads, which run `chore`.
#[cfg(not(braidlog_loom))]
pub(crate) fn open_with_chore(chore: Arc<dyn Chore>) -> (Arc<Engine>, SimDisk) {
    open_with(Settings { background: true, ..settings() }, Some(chore))
}

/// A log that believes in threads, which it does not have: those who cannot lead rely on them.
pub(crate) fn open_for_threads() -> (Arc<Engine>, SimDisk) {
    open_for_threads_with(None)
}

/// A log that believes in threads, one of which would run `chore`.
pub(crate) fn open_for_threads_with(chore: Option<Arc<dyn Chore>>) -> (Arc<Engine>, SimDisk) {
    // They are started where `background` is read at the start; the models run their bodies themselves.
    let (mut engine, disk) = open_with(settings(), chore);
    let shared = Arc::get_mut(&mut Arc::get_mut(&mut engine).unwrap().shared).unwrap();
    shared.settings.background = true;
    (engine, disk)
}

/// A payload of which the budget holds one.
#[cfg(braidlog_loom)]
pub(crate) const LARGE: usize = 600 << 10;

/// A log that believes in threads and takes such payloads.
#[cfg(braidlog_loom)]
pub(crate) fn open_for_large_records() -> (Arc<Engine>, SimDisk) {
    let (mut engine, disk) = open_for_threads();
    let shared = Arc::get_mut(&mut Arc::get_mut(&mut engine).unwrap().shared).unwrap();
    shared.settings.max_record_bytes = LARGE as u64;
    (engine, disk)
}

fn open_with(settings: Settings, chore: Option<Arc<dyn Chore>>) -> (Arc<Engine>, SimDisk) {
    let disk = SimDisk::new();
    let dir = disk.open_dir(Path::new("wal"), true).unwrap();
    let lock = dir.try_lock().unwrap().unwrap();
    let tail = LogTail {
        log_id: LogId([1; 16]),
        incarnation: Incarnation(1),
        next_lsn: Lsn(1),
        predecessor: None,
        last_timestamp_ns: 0,
        in_doubt: Vec::new(),
        replaces_empty: false,
    };
    let engine = Engine::start(dir, lock, tail, settings, Arc::new(Hasty::default()), chore).unwrap();
    (Arc::new(engine), disk)
}

/// Appends a record of one byte and waits until it is durable.
pub(crate) fn commit(engine: &Engine, payload: u8) -> Result<Lsn, EngineError> {
    append(engine, payload, Commit::Wait(Durability::Synchronous))
}

/// Appends a record of one byte that nobody waits for.
pub(crate) fn submit(engine: &Engine, payload: u8) -> Result<Lsn, EngineError> {
    append(engine, payload, Commit::Later(Durability::Async))
}

fn append(engine: &Engine, payload: u8, commit: Commit) -> Result<Lsn, EngineError> {
    engine.append(Kind(1), &[payload], How { stripe: Some(0), wait: Wait::Forever, commit })
}
