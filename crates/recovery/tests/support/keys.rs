//! An application in miniature: values by key, which records set and checkpoints hold; and a log with its checkpoints
//! on the simulated disk.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use braidlog_format::Lsn;
use braidlog_recovery::{
    Applied, BoxError, CheckpointError, CheckpointInfo, CheckpointOrder, CheckpointReader, CheckpointWriter,
    Checkpoints, LogReader, ManifestStore, RecordRef, Restore, RestoreError, RestoreHow, RestoreReport,
    recover,
};
use braidlog_sim::{SimClock, SimDisk};
use braidlog_storage::LogDir;

use super::{LOG_ID, Pen, Written, open_dir};

/// Values by key, and the record that set each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys {
    pub values: BTreeMap<String, (String, Lsn)>,
    /// The last record that is in it.
    pub applied: Lsn,
    /// How often a state was begun anew.
    pub begun: usize,
    /// What `apply` fails at.
    pub fails_at: Option<Lsn>,
}

impl Keys {
    /// The state that these records lead to, counted from LSN 1.
    pub fn of(records: &[Written]) -> Keys {
        let mut keys = Keys::default();
        for (lsn, record) in (1..).map(Lsn).zip(records) {
            keys.set(&record.payload, lsn).unwrap();
        }
        keys
    }

    fn set(&mut self, line: &[u8], lsn: Lsn) -> Result<(), BoxError> {
        let line = std::str::from_utf8(line)?;
        let (key, value) = line.split_once('=').ok_or_else(|| format!("no `=` in `{line}`"))?;
        self.values.insert(key.to_owned(), (value.to_owned(), lsn));
        self.applied = lsn;
        Ok(())
    }

    /// Writes the state, or what changed since the base.
    pub fn write(&self, writer: &mut CheckpointWriter<'_>) -> Result<(), BoxError> {
        let base = writer.base();
        for (key, (value, lsn)) in &self.values {
            if base.is_none_or(|base| *lsn > base) {
                writeln!(writer, "{key}={value}@{lsn}")?;
            }
        }
        Ok(())
    }
}

impl Restore for Keys {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        if part.base().is_none() {
            (self.values, self.begun) = (BTreeMap::new(), self.begun + 1);
        }
        let mut line = String::new();
        while part.read_line(&mut line)? > 0 {
            let (key, value) = line.trim_end().split_once('=').ok_or("no `=`")?;
            let (value, lsn) = value.rsplit_once('@').ok_or("no `@`")?;
            self.values.insert(key.to_owned(), (value.to_owned(), lsn.parse()?));
            line.clear();
        }
        self.applied = part.lsn();
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        if self.fails_at == Some(record.lsn) {
            return Err("the application does not like it".into());
        }
        if record.lsn <= self.applied {
            return Ok(Applied::Skipped);
        }
        assert_eq!(record.lsn, self.applied.next(), "no record is left out");
        self.set(record.payload, record.lsn)?;
        Ok(Applied::Applied)
    }
}

/// A log with its checkpoints, opened anew on what the disk has.
pub struct Store {
    pub dir: Arc<dyn LogDir>,
    pub clock: Arc<SimClock>,
    pub manifest: Arc<ManifestStore>,
    pub checkpoints: Checkpoints,
}

pub const ORDER: CheckpointOrder = CheckpointOrder {
    lsn: Lsn::ZERO,
    durable: Lsn::ZERO,
    replay_from: Lsn::FIRST,
    incremental: false,
    compress: false,
    deltas_max: 8,
    chains_kept: 2,
};

pub fn order_at(lsn: Lsn) -> CheckpointOrder {
    CheckpointOrder { lsn, durable: lsn, replay_from: lsn.next(), ..ORDER }
}

/// A recovery that takes its time.
pub fn unhurried<'a>(
    clock: &'a SimClock,
    progress: &'a mut dyn FnMut(&braidlog_recovery::RestoreProgress),
) -> RestoreHow<'a> {
    RestoreHow { clock, max_time: None, ahead: None, held_bytes: 0, until: None, progress }
}

impl Store {
    pub fn open(disk: &SimDisk) -> Store {
        let dir = open_dir(disk);
        let clock = Arc::new(SimClock::new());
        let manifest = recover(&dir, LOG_ID).unwrap().manifest;
        let manifest = Arc::new(ManifestStore::new(dir.clone(), clock.clone(), LOG_ID, manifest));
        let checkpoints = Checkpoints::new(dir.clone(), manifest.clone(), clock.clone(), LOG_ID);
        Store { dir, clock, manifest, checkpoints }
    }

    pub fn write(&self, order: &CheckpointOrder, keys: &Keys) -> Result<CheckpointInfo, CheckpointError> {
        self.checkpoints.write(order, &|| false, |writer| keys.write(writer))
    }

    pub fn restore(&self, last: Lsn) -> Result<(Keys, RestoreReport), RestoreError> {
        let mut keys = Keys::default();
        let reader = LogReader::of_writer(self.dir.clone(), self.manifest.current().log_start);
        let mut progress =
            |_: &braidlog_recovery::RestoreProgress| self.clock.advance(Duration::from_nanos(1));
        let report =
            self.checkpoints.restore(&reader, last, unhurried(&self.clock, &mut progress), &mut keys)?;
        assert!(keys.begun <= 1, "a state is begun once");
        keys.begun = 0;
        Ok((keys, report))
    }
}

/// A log of `records` records that set five keys in turn, two in each segment.
pub fn log_of(records: u64) -> (SimDisk, Pen) {
    let disk = SimDisk::new();
    let mut pen = Pen::new(&disk);
    for lsn in 1..=records {
        pen.records(&[format!("key{}=value{lsn}", lsn % 5).as_bytes()]).sync();
        if lsn % 2 == 0 {
            pen.rotate();
        }
    }
    (disk, pen)
}

/// A state that is bytes and no more.
#[derive(Default)]
pub struct Bytes {
    pub bytes: Vec<u8>,
    pub parts: Vec<(Option<Lsn>, Lsn)>,
    pub applied: Vec<Lsn>,
}

impl Restore for Bytes {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<(), BoxError> {
        self.parts.push((part.base(), part.lsn()));
        part.read_to_end(&mut self.bytes)?;
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied, BoxError> {
        self.applied.push(record.lsn);
        Ok(Applied::Applied)
    }
}

pub fn restored(store: &Store, state: &mut dyn Restore, last: Lsn) -> RestoreReport {
    try_restored(store, state, last, None).unwrap()
}

pub fn try_restored(
    store: &Store,
    state: &mut dyn Restore,
    last: Lsn,
    max_time: Option<Duration>,
) -> Result<RestoreReport, RestoreError> {
    let reader = LogReader::of_writer(store.dir.clone(), Lsn::FIRST);
    let how = RestoreHow {
        clock: &*store.clock,
        max_time,
        ahead: None,
        held_bytes: 0,
        until: None,
        progress: &mut |_| {},
    };
    store.checkpoints.restore(&reader, last, how, state)
}

/// Two chains of three: all, changes, changes.
pub fn two_chains() -> (SimDisk, Store, Pen) {
    let (disk, pen) = log_of(12);
    let store = Store::open(&disk);
    for lsn in [1, 3, 5, 6, 8, 10] {
        let order = CheckpointOrder { incremental: true, deltas_max: 2, ..order_at(Lsn(lsn)) };
        store.write(&order, &Keys::of(&pen.model[..lsn as usize])).unwrap();
    }
    (disk, store, pen)
}
