//! A small durable map from strings to bytes, with incremental checkpoints: it survives `kill -9` at any moment.
//!
//! `cargo run --release --example state_machine -- DIR put KEY VALUE`, and `get KEY`, `count`, `checkpoint` in place of
//! `put`. `... -- DIR self-test` starts itself, kills what it started at random moments, and looks for what was promised.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use braidlog::{
    Append, Applied, Checkpoint, CheckpointReader, CheckpointWriter, Durability, Lsn, RecordRef, Restore, Wal,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

// --- The store: what a user of Braidlog writes ---

/// The state. Each value has the LSN at which it changed, so that a checkpoint can hold changes only.
#[derive(Clone, Default)]
struct Map {
    values: BTreeMap<String, (Vec<u8>, Lsn)>,
    applied: Lsn,
}

/// A map in the memory of this process, and the log that leads to it.
pub struct Store {
    wal: Wal,
    map: Mutex<Map>,
}

impl Store {
    /// Opens the store in this directory, or begins one.
    pub fn open(dir: &Path) -> Result<Store> {
        let wal = Wal::options().open(dir)?;
        let mut map = Map::default();
        wal.recover(&mut map)?;
        Ok(Store { wal, map: Mutex::new(map) })
    }

    /// Sets a value; it is there after any crash once this has returned.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let lsn = {
            // Under the lock, so that the map changes in the order of the log; the wait is outside.
            let mut map = self.map.lock().unwrap();
            let record = entry(key, value);
            let lsn = self.wal.append_with(Append::new(&record).durability(Durability::Async))?;
            map.set(key, value, lsn);
            lsn
        };
        Ok(self.wal.wait_durable(lsn)?)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.map.lock().unwrap().values.get(key).map(|(value, _)| value.clone())
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.map.lock().unwrap().values.len()
    }

    /// Saves the state, so that what led to it need not be replayed: all of it, or what changed since the last time.
    pub fn checkpoint(&self) -> Result<()> {
        let map = self.map.lock().unwrap().clone();
        self.wal.checkpoint_with(Checkpoint::at(map.applied).incremental(), |writer| map.write(writer))?;
        Ok(())
    }
}

impl Map {
    fn set(&mut self, key: &str, value: &[u8], lsn: Lsn) {
        self.values.insert(key.to_owned(), (value.to_owned(), lsn));
        self.applied = lsn;
    }

    fn write(&self, writer: &mut CheckpointWriter<'_>) -> Result<()> {
        let base = writer.base(); // `None`: all of the state is wanted
        for (key, (value, lsn)) in &self.values {
            if base.is_none_or(|base| *lsn > base) {
                writer.write_all(&entry(key, value))?;
            }
        }
        Ok(())
    }
}

impl Restore for Map {
    fn restore(&mut self, part: &mut CheckpointReader<'_>) -> Result<()> {
        let lsn = part.lsn();
        while !part.fill_buf()?.is_empty() {
            let (key, value) = read_entry(part)?;
            self.set(&key, &value, lsn);
        }
        self.applied = lsn;
        Ok(())
    }

    fn apply(&mut self, record: RecordRef<'_>) -> Result<Applied> {
        let (key, value) = read_entry(&mut &*record.payload)?;
        self.set(&key, &value, record.lsn);
        Ok(Applied::Applied)
    }
}

// --- Its bytes ---

/// A key and a value, each behind its length.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    let len = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
    [&len(key.as_bytes()), key.as_bytes(), &len(value), value].concat()
}

fn read_entry(from: &mut dyn BufRead) -> Result<(String, Vec<u8>)> {
    let mut bytes = || -> Result<Vec<u8>> {
        let mut len = [0; 8];
        from.read_exact(&mut len)?;
        let mut bytes = vec![0; u64::from_le_bytes(len) as usize];
        from.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    Ok((String::from_utf8(bytes()?)?, bytes()?))
}

// --- The test: it kills the process that writes, and holds what it finds against what was promised ---

const WRITERS: usize = 4;

/// The process that is killed: each writer counts its key up, and says so when the store has said that it is safe;
/// meanwhile one checkpoint follows another.
pub fn work(dir: &Path) -> Result<()> {
    let store = Store::open(dir)?;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                let key = format!("writer {writer}");
                for number in value_of(store, &key) + 1.. {
                    store.put(&format!("{key}: {}", number % 100), &[b'x'; 50]).expect("the disk works");
                    store.put(&key, &u64::to_le_bytes(number)).expect("the disk works");
                    let line = format!("\n@{writer} {number}\n");
                    std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
                }
            });
        }
        loop {
            store.checkpoint().expect("the disk works");
        }
    })
}

fn value_of(store: &Store, key: &str) -> u64 {
    let number = store.get(key).and_then(|value| value.try_into().ok());
    number.map_or(0, u64::from_le_bytes)
}

/// Starts the process that `command` makes, which does [`work`] in `dir`, and kills it, so many times; how many values
/// were promised.
///
/// # Errors
/// If a promise was broken.
pub fn self_test(dir: &Path, rounds: u64, command: &dyn Fn() -> Command) -> Result<u64> {
    let mut promised = [0; WRITERS];
    let mut dice = 1_u64;
    for round in 0..rounds {
        let mut child = command().stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        // It dies after so many promises, also in the middle of opening.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        let mut patience = (dice >> 33) % 400;
        let mut hear = |line: &str| -> Option<()> {
            let (writer, number) = line.strip_prefix('@')?.split_once(' ')?;
            let (writer, number) = (writer.parse::<usize>().ok()?, number.parse().ok()?);
            promised[writer] = number;
            Some(())
        };
        while patience > 0
            && let Some(line) = lines.next()
        {
            patience -= u64::from(hear(&line?).is_some());
        }
        child.kill()?; // SIGKILL
        child.wait()?;
        // What it said before it died counts as well; its last line may be cut short.
        for line in lines.map_while(std::result::Result::ok) {
            hear(&line);
        }

        let store = Store::open(dir)?;
        for (writer, promised) in promised.iter_mut().enumerate() {
            let found = value_of(&store, &format!("writer {writer}"));
            // One may have been under way.
            if found < *promised || found > *promised + 1 {
                return Err(
                    format!("round {round}: writer {writer} is at {found}, promised was {promised}").into()
                );
            }
            *promised = found;
        }
    }
    Ok(promised.iter().sum())
}

fn main() -> Result<()> {
    let usage = "usage: state_machine DIR (put KEY VALUE | get KEY | count | checkpoint | self-test)";
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (dir, command) = arguments.split_first().ok_or(usage)?;
    let path = Path::new(dir);
    match command {
        ["put", key, value] => Store::open(path)?.put(key, value.as_bytes())?,
        ["get", key] => match Store::open(path)?.get(key) {
            Some(value) => println!("{}", String::from_utf8_lossy(&value)),
            None => return Err(format!("there is no `{key}`").into()),
        },
        ["count"] => println!("{}", Store::open(path)?.count()),
        ["checkpoint"] => Store::open(path)?.checkpoint()?,
        ["work"] => work(path)?,
        ["self-test"] => {
            let program = std::env::current_exe()?;
            let command = || {
                let mut command = Command::new(&program);
                command.args([dir, "work"]);
                command
            };
            let promised = self_test(path, 100, &command)?;
            println!("killed 100 times, {promised} values promised, and every promise was kept");
        }
        _ => return Err(usage.into()),
    }
    Ok(())
}
