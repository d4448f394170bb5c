//! A log that truncates and recycles its segments, crashed at each of its storage operations: what was acknowledged and not
//! given up is there, byte for byte, nothing that was given up comes back, and no crash looks like damage.
//!
//! It drives engine and recovery as the facade does, on one thread. Every opening draws the same salts.

use std::path::Path;
use std::sync::Arc;

use braidlog_engine::{
    Commit, Durability, DurabilityMode, Engine, How, IoMode, OnIoError, Settings, SyncMethod, Wait,
};
use braidlog_format::{Kind, LogId, Lsn, UserMetadata};
use braidlog_recovery::{
    CheckpointOrder, Checkpoints, Disposed, LogReader, ManifestStore, Recovered, recover, truncate, verify,
};
use braidlog_sim::{Fault, Op, Profile, SimDisk};
use braidlog_storage::{LogDir, Storage, SystemClock};

fn settings(io_mode: IoMode) -> Settings {
    Settings {
        num_stripes: 1,
        stripe_capacity: 16 << 10,
        segment_size: 24 << 10,
        segment_age_max: None,
        write_buffer_size: 8192,
        mode: DurabilityMode::Synchronous,
        sync_method: SyncMethod::Fdatasync,
        io_mode,
        on_io_error: OnIoError::Poison,
        max_record_bytes: 8192,
        user_metadata: UserMetadata::EMPTY,
        salt_seed: 11,
        background: false,
    }
}

/// What the record with this LSN holds, whichever life of a file it stands in: the same length every time, so that
/// entries of all lives stand at the same places.
fn payload(lsn: Lsn) -> Vec<u8> {
    lsn.0.to_le_bytes().repeat(250)
}

/// A log that is open for writing.
struct Log {
    dir: Arc<dyn LogDir>,
    engine: Engine,
    store: Arc<ManifestStore>,
    checkpoints: Checkpoints,
    reader: LogReader,
}

type Failed = Box<dyn std::error::Error>;

impl Log {
    fn open(disk: &SimDisk, io_mode: IoMode) -> Result<Log, Failed> {
        let dir = disk.open_dir(Path::new("wal"), true)?;
        let lock = dir.try_lock()?.ok_or("somebody writes")?;
        let Recovered { tail, report, manifest } = recover(&dir, LogId(*b"the one recycled"))?;
        let clock = Arc::new(SystemClock::new());
        let store = Arc::new(ManifestStore::new(dir.clone(), clock.clone(), report.log_id, manifest));
        let checkpoints = Checkpoints::new(dir.clone(), store.clone(), clock.clone(), report.log_id);
        let engine = Engine::start(dir.clone(), lock, tail, settings(io_mode), clock, None)?;
        let reader = LogReader::of_writer(dir.clone(), report.first_lsn);
        Ok(Log { dir, engine, store, checkpoints, reader })
    }

    fn append(&self) -> Result<Lsn, Failed> {
        let commit = Commit::Wait(Durability::Synchronous);
        let how = How { stripe: None, wait: Wait::Forever, commit };
        Ok(self.engine.append(Kind(1), &payload(self.engine.last_lsn().next()), how)?)
    }

    /// Gives up what lies before the segment that holds `wanted`: a checkpoint without content takes its place.
    fn truncate(&self, wanted: Lsn) -> Result<Lsn, Failed> {
        let order = CheckpointOrder {
            lsn: wanted.prev(),
            durable: wanted.prev(),
            replay_from: wanted,
            incremental: false,
            compress: false,
            deltas_max: 0,
            chains_kept: 1,
        };
        self.checkpoints.write(&order, &|| false, |_| Ok(()))?;
        let mut dispose = |name: &str| {
            if self.engine.recycle(name)? {
                return Ok(Disposed::Recycled);
            }
            self.dir.remove(name).map(|()| Disposed::Removed)
        };
        let durable = self.engine.durable_lsn();
        let done = truncate(&self.dir, &self.store, self.reader.pins(), durable, wanted, &mut dispose)?;
        Ok(done.first_lsn)
    }
}

/// What a life of a log was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The last record that was acknowledged.
    acknowledged: Lsn,
    /// The log starts no earlier.
    start_least: Lsn,
    /// Nor later, since nothing above was given up.
    start_most: Lsn,
    recycled: u64,
}

/// Lives until the disk fails, through three openings, the first of which is closed well.
fn live(disk: &SimDisk, io_mode: IoMode) -> (Told, Result<(), Failed>) {
    let mut told =
        Told { acknowledged: Lsn::ZERO, start_least: Lsn::FIRST, start_most: Lsn::FIRST, recycled: 0 };
    let mut all = || -> Result<(), Failed> {
        for opening in 0..3 {
            let log = Log::open(disk, io_mode)?;
            for _ in 0..24 {
                told.acknowledged = log.append()?;
                if told.acknowledged.0.is_multiple_of(6) {
                    let wanted = Lsn(told.acknowledged.0 - 3);
                    told.start_most = wanted;
                    told.start_least = log.truncate(wanted)?;
                    told.recycled = told.recycled.max(log.engine.metrics().recycled);
                }
            }
            if opening == 0 {
                log.engine.close()?;
            } else {
                // As a process that dies: what its end would still write does not arrive.
                let died = disk.crash_clone(opening, Profile::Kept);
                drop(log);
                restore(disk, &died);
            }
        }
        Ok(())
    };
    let done = all();
    (told, done)
}

/// Puts the files of another disk in the place of this one's.
fn restore(disk: &SimDisk, from: &SimDisk) {
    for (name, _) in disk.list_raw("wal") {
        disk.remove_raw(format!("wal/{name}"));
    }
    for (name, _) in from.list_raw("wal") {
        disk.put_raw(format!("wal/{name}"), &from.read_raw(format!("wal/{name}")));
    }
}

/// Judges what a crash left by what was told before it, and goes on with it.
fn judge(disk: &SimDisk, told: &Told, what: &str) {
    let dir = disk.open_dir(Path::new("wal"), true).unwrap();
    let Recovered { report, .. } =
        recover(&dir, LogId(*b"the one recycled")).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!((told.start_least..=told.start_most).contains(&report.first_lsn), "{what}: {report:?}, {told:?}");
    // One more may have been on its way.
    let lasts = told.acknowledged..=told.acknowledged.next();
    assert!(lasts.contains(&report.last_lsn), "{what}: {report:?}, {told:?}");
    let verified = verify(&dir, &mut |_| {}).unwrap();
    assert!(verified.is_clean(), "{what}: {:?}", verified.problems);
    check_content(&LogReader::open_read_only(dir).unwrap(), report.first_lsn, report.last_lsn, what);

    let log = Log::open(disk, IoMode::Buffered).unwrap();
    let last = (0..8).map(|_| log.append().unwrap()).last().unwrap();
    assert_eq!(last.0, report.last_lsn.0 + 8, "{what}: no LSN is given twice, none is left out");
    check_content(&log.reader, report.first_lsn, last, what);
}

fn check_content(reader: &LogReader, first: Lsn, last: Lsn, what: &str) {
    let records: Vec<_> = reader.iter(first, last).unwrap().map(|record| record.unwrap()).collect();
    assert_eq!(records.len() as u64, last.0 + 1 - first.0, "{what}");
    for (lsn, record) in (first.0..).map(Lsn).zip(records) {
        assert_eq!((record.lsn, &record.payload[..]), (lsn, &payload(lsn)[..]), "{what}");
    }
}

#[test]
fn no_crash_of_a_log_that_recycles_loses_a_record_or_brings_one_back() {
    for (io_mode, step) in [(IoMode::Buffered, 1), (IoMode::Direct, 7)] {
        let (told, done) = live(&SimDisk::new(), io_mode);
        done.unwrap();
        assert!(told.recycled >= 2, "{told:?}");
        let mut operation = 1;
        loop {
            let disk = SimDisk::new();
            disk.inject(Fault::eio(Op::Any).nth(operation).forever());
            let (told, done) = live(&disk, io_mode);
            if disk.faults_struck() == 0 {
                assert!(done.is_ok());
                break;
            }
            for (seed, profile) in (operation..).zip(Profile::HONEST) {
                let after = disk.crash_clone(seed, profile);
                judge(&after, &told, &format!("{profile:?} after operation {operation}, {io_mode:?}"));
            }
            operation += step;
        }
        assert!(operation > 400, "{operation} operations");
    }
}

#[test]
fn reader_in_a_segment_keeps_its_file_from_being_recycled() {
    let disk = SimDisk::new();
    let log = Log::open(&disk, IoMode::Buffered).unwrap();
    for _ in 0..12 {
        log.append().unwrap();
    }
    let mut records = log.reader.iter(Lsn::FIRST, log.engine.durable_lsn()).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, Lsn::FIRST);
    assert_eq!(log.truncate(Lsn(11)).unwrap(), Lsn::FIRST);
    for _ in 0..12 {
        log.append().unwrap();
    }
    assert_eq!(log.engine.metrics().recycled, 0);
    for (lsn, record) in (2..=12).map(Lsn).zip(records) {
        assert_eq!(record.unwrap().payload, payload(lsn));
    }
    assert!(log.truncate(Lsn(23)).unwrap() > Lsn(12));
}
