//! Crash-test your own recovery code: a small key-value store with a log and a snapshot file, cut off from
//! power thousands of times while threads write. `cargo run --release --example crash_test`, and with
//! `-- early` or `-- snapshot` to see a bug of the *store* be found.
//!
//! The store reaches its files through the `Storage` trait only, the log's as well as its own. So one
//! simulated disk under both shows what a crash makes of them together.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use braidlog::storage::{FileAccess, FileIo, LogDir, Storage, read_full_at, write_all_at};
use braidlog::{Lsn, Wal};
use braidlog_sim::{Profile, SimDisk};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

// --- The store: what a user of Braidlog writes ---

/// What the store does wrong, to see whether the test notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Nothing.
    None,
    /// It says "done" before the log does.
    Early,
    /// It renames the snapshot into place without having synced its bytes.
    Snapshot,
}

/// Numbers by key, in memory; the snapshot holds them as they were at some LSN, the log what came after.
struct Store {
    wal: Wal,
    dir: Arc<dyn LogDir>,
    bug: Bug,
    table: Mutex<Table>,
    /// Held while a snapshot is written.
    snapshotting: Mutex<()>,
}

#[derive(Clone, Default)]
struct Table {
    values: BTreeMap<u64, u64>,
    /// The last record that is applied.
    applied: Lsn,
}

impl Store {
    fn open(storage: Arc<dyn Storage>, bug: Bug) -> Result<Store> {
        let dir = storage.open_dir(Path::new("store"), true)?;
        let mut table = match dir.open("snapshot", FileAccess::Read, FileIo::Buffered) {
            Ok(file) => {
                let mut bytes = vec![0; file.len()? as usize];
                read_full_at(&*file, &mut bytes, 0)?;
                Table::decode(&bytes).ok_or("the snapshot is no snapshot")?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
            Err(error) => return Err(error.into()),
        };
        let wal = Wal::options().storage(storage).open("store/log")?;
        for record in wal.iter(table.applied.next()..)? {
            let record = record?;
            table.apply(record.lsn, &record.payload).ok_or("a record is no record")?;
        }
        Ok(Store { wal, dir, bug, table: Mutex::new(table), snapshotting: Mutex::new(()) })
    }

    /// Sets a value; it is there after any crash once this has returned.
    fn put(&self, key: u64, value: u64) -> Result<()> {
        let payload = [key.to_le_bytes(), value.to_le_bytes()].concat();
        let ticket = {
            // Under the lock, so that the table changes in the order of the log; the wait is outside.
            let mut table = self.table.lock().unwrap();
            let ticket = self.wal.submit(payload.clone())?;
            table.apply(ticket.lsn(), &payload);
            ticket
        };
        if self.bug != Bug::Early {
            ticket.wait()?;
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<()> {
        let _alone = self.snapshotting.lock().unwrap();
        let table = self.table.lock().unwrap().clone();
        // Else the snapshot could hold what the log then loses.
        self.wal.wait_durable(table.applied)?;
        // A crash may have left one behind.
        drop(self.dir.remove("snapshot.new"));
        let file = self.dir.open("snapshot.new", FileAccess::CreateNew, FileIo::Buffered)?;
        write_all_at(&*file, &table.encode(), 0)?;
        if self.bug != Bug::Snapshot {
            file.sync_all()?;
        }
        self.dir.rename("snapshot.new", "snapshot", true)?;
        self.dir.sync()?;
        Ok(())
    }

    fn get(&self, key: u64) -> u64 {
        self.table.lock().unwrap().values.get(&key).copied().unwrap_or(0)
    }
}

impl Table {
    fn apply(&mut self, lsn: Lsn, payload: &[u8]) -> Option<()> {
        let (key, value) = payload.split_first_chunk()?;
        self.values.insert(u64::from_le_bytes(*key), u64::from_le_bytes(value.try_into().ok()?));
        self.applied = lsn;
        Some(())
    }

    /// The LSN, the count, and each key with its value.
    fn encode(&self) -> Vec<u8> {
        let entries = self.values.iter().flat_map(|(&key, &value)| [key, value]);
        let numbers = [self.applied.0, self.values.len() as u64].into_iter().chain(entries);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Table> {
        let (numbers, []) = bytes.as_chunks() else { return None };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut table = Table { applied: Lsn(numbers.next()?), ..Table::default() };
        for _ in 0..numbers.next()? {
            table.values.insert(numbers.next()?, numbers.next()?);
        }
        Some(table)
    }
}

// --- The test: what its user promises, held against crashes ---

const WRITERS: usize = 4;
/// What each writer writes in a round, to a key of its own: 1, 2, 3 and so on.
const PUTS: u64 = 400;
const SNAPSHOT_EVERY: u64 = 10;

/// What a writer has asked for, and what it has been promised.
#[derive(Default)]
struct Progress {
    asked: AtomicU64,
    promised: AtomicU64,
}

/// Crash-tests the store for so many rounds, each on a disk of its own; how many images were recovered.
///
/// # Errors
/// If a promise was broken: how, and by which image.
pub fn run(bug: Bug, rounds: u64) -> Result<u64> {
    (0..rounds).map(|round| crash_round(bug, round)).sum()
}

fn crash_round(bug: Bug, round: u64) -> Result<u64> {
    let disk = SimDisk::new();
    disk.reorder(round);
    let store = Store::open(Arc::new(disk.clone()), bug)?;
    let progress: Vec<_> = (0..WRITERS).map(|_| Progress::default()).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, is_over) = (&store, &is_over);
        let writers: Vec<_> = progress
            .iter()
            .zip(0..)
            .map(|(progress, key)| scope.spawn(move || write(store, key, progress, is_over)))
            .collect();
        let mut images = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() && !writers.iter().all(|writer| writer.is_finished()) {
            // Rounds differ: the writers may be done before the second image.
            let profile = Profile::HONEST[(round + images) as usize % Profile::HONEST.len()];
            let told = |error| format!("round {round}, image {images}, {profile:?}: {error}").into();
            outcome = crash(&disk, round << 32 | images, profile, &progress, bug).map_err(told);
            images += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("a writer does not panic")?;
        }
        outcome.map(|()| images)
    })
}

fn write(store: &Store, key: u64, progress: &Progress, is_over: &AtomicBool) -> Result<()> {
    for value in (1..=PUTS).take_while(|_| !is_over.load(Ordering::Relaxed)) {
        progress.asked.store(value, Ordering::SeqCst);
        store.put(key, value)?;
        progress.promised.store(value, Ordering::SeqCst);
        if value % SNAPSHOT_EVERY == 0 {
            store.snapshot()?;
        }
    }
    Ok(())
}

/// One crash: what was promised before it must be there, and nothing that was not asked for until then.
fn crash(disk: &SimDisk, seed: u64, profile: Profile, progress: &[Progress], bug: Bug) -> Result<()> {
    let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let promised: Vec<_> = progress.iter().map(|progress| read(&progress.promised)).collect();
    let after = disk.crash_clone(seed, profile);
    let asked: Vec<_> = progress.iter().map(|progress| read(&progress.asked)).collect();

    let check = |disk: &SimDisk| -> Result<Vec<u64>> {
        let store = Store::open(Arc::new(disk.clone()), bug)?;
        let found: Vec<_> = (0..).map(|key| store.get(key)).take(progress.len()).collect();
        for (key, value) in found.iter().enumerate() {
            if !(promised[key]..=asked[key]).contains(value) {
                return Err(format!("key {key} is {value}, and {} was promised", promised[key]).into());
            }
        }
        Ok(found)
    };
    let found = check(&after)?;
    // What was recovered is durable: the power fails again at once.
    let again = check(&after.crash_clone(seed, Profile::Posix))?;
    if found == again { Ok(()) } else { Err("a second crash left something else".into()) }
}

fn main() -> Result<()> {
    let bug = match std::env::args().nth(1).as_deref() {
        None => Bug::None,
        Some("early") => Bug::Early,
        Some("snapshot") => Bug::Snapshot,
        Some(_) => return Err("usage: crash_test [early | snapshot]".into()),
    };
    let images = run(bug, 200)?;
    println!("{images} crashes, and every promise was kept");
    Ok(())
}
