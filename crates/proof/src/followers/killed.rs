//! The follower that is killed: its process writes down each record that it was given, with sixteen writers beside it,
//! and dies of `SIGKILL` by one of them or by itself. The next process goes on with the same log.
//!
//! The rule: what stands in the notes was given before the kill, so it is in the log, in its place; and the next process's
//! subscription gives it again, before anything else.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{panic, thread};

use braidlog::{Lsn, Record, Result, Wal};
use braidlog_format::checksum::crc32;
use braidlog_sim::Rng;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{WRITERS, options};
use crate::counts::Counts;

/// The variable that makes a process a child: it holds its orders.
const CHILD: &str = "BRAIDLOG_FOLLOWERS_CHILD";
/// How many processes share a log.
const LIVES: u64 = 12;
/// Bytes of a note: an LSN, and a checksum of the record.
const NOTE_LEN: usize = 16;

/// What a process is told to do.
#[derive(Serialize, Deserialize)]
struct Orders {
    log: PathBuf,
    notes: PathBuf,
    seed: u64,
    /// After how many records of its own, or appends of all writers, it dies.
    dies_after: Death,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Death {
    Given(u64),
    Appended(u64),
}

/// Makes this process the child, if a parent started it as one; then it does not return.
pub fn child_main_if_asked() {
    if let Ok(orders) = std::env::var(CHILD) {
        live(&serde_json::from_str(&orders).expect("the parent writes orders that can be read"));
    }
}

/// Has so many processes die, drawn from `seed`. `child_args` are the arguments with which this executable, started again,
/// comes to [`child_main_if_asked`].
///
/// # Panics
/// If a promise is broken.
pub fn run_killed(kills: u64, seed: u64, child_args: &[&str]) -> Counts {
    let mut rng = Rng::new(seed);
    let mut counts = Counts::default();
    let mut place = TempDir::new().expect("a directory can be made");
    for life in 0..kills {
        if life % LIVES == 0 {
            place = TempDir::new().expect("a directory can be made");
        }
        let notes = place.path().join("notes");
        let so_far = read_notes(&notes).len() as u64;
        let n = 1 + rng.below(1500);
        let dies_after = if rng.one_in(2) { Death::Given(so_far + n) } else { Death::Appended(n) };
        let orders = Orders { log: place.path().join("wal"), notes, seed: rng.next_u64(), dies_after };
        let status = Command::new(std::env::current_exe().expect("this executable has a path"))
            .args(child_args)
            .env(CHILD, serde_json::to_string(&orders).expect("orders can be written"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("a process can be started");
        assert_eq!(
            status.signal(),
            Some(9),
            "it dies of its kill, and nothing else (its message stands above)"
        );
        counts.add("kills", 1);
        counts.add("records given", check(&orders, &mut rng));
    }
    counts
}

/// What was written down is in the log.
fn check(orders: &Orders, rng: &mut Rng) -> u64 {
    let notes = read_notes(&orders.notes);
    let log = options(rng).open_read_only(&orders.log).expect("I12: a kill is no damage");
    let all: Vec<Record> = log.iter(..).and_then(Iterator::collect::<Result<_>>).expect("I12: no damage");
    assert!(all.len() >= notes.len(), "I14: {} records were given, {} are left", notes.len(), all.len());
    for (record, note) in all.iter().zip(&notes) {
        assert_eq!(*note, note_of(record), "I14: LSN {} was given otherwise", record.lsn);
    }
    notes.len() as u64
}

/// One line for each LSN from 1 on.
fn read_notes(path: &Path) -> Vec<[u8; NOTE_LEN]> {
    // The last one may be half written.
    fs::read(path).unwrap_or_default().as_chunks().0.to_vec()
}

fn note_of(record: &Record) -> [u8; NOTE_LEN] {
    let sum = crc32(&record.payload) ^ u32::from(record.kind.0) << 8 ^ u32::from(record.batch_continues);
    let mut note = [0; NOTE_LEN];
    note[..8].copy_from_slice(&record.lsn.0.to_le_bytes());
    note[8..12].copy_from_slice(&sum.to_le_bytes());
    note
}

fn live(orders: &Orders) -> ! {
    // At once: a kill must not come before a broken promise is told.
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::abort();
    }));
    let mut rng = Rng::new(orders.seed);
    let wal = options(&mut rng).open(&orders.log).expect("the log opens again");
    let given = wal.subscribe(Lsn::FIRST).expect("the log starts there");
    let known = read_notes(&orders.notes);
    let notes = OpenOptions::new().create(true).append(true).open(&orders.notes).expect("notes can be kept");
    notes.set_len((known.len() * NOTE_LEN) as u64).expect("half a note can be cut");
    let appended = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let rng = Rng::new(rng.next_u64());
            scope.spawn(|| append(&wal, rng, &appended, orders.dies_after));
        }
        for (index, record) in given.enumerate() {
            take(&record.expect("nothing fails but by a kill"), index, &known, &notes);
            if let Death::Given(n) = orders.dies_after
                && index as u64 + 1 >= n
            {
                die();
            }
        }
    });
    unreachable!("writers append until they are killed");
}

/// Compares a record with what an earlier process was given, or writes it down.
fn take(record: &Record, index: usize, known: &[[u8; NOTE_LEN]], mut notes: &File) {
    assert_eq!(record.lsn.0, index as u64 + 1, "I14: records are given once and in order");
    let note = note_of(record);
    match known.get(index) {
        Some(known) => assert_eq!(*known, note, "I14: LSN {} was given otherwise", record.lsn),
        None => notes.write_all(&note).expect("notes can be kept"),
    }
}

fn append(wal: &Wal, mut rng: Rng, appended: &AtomicU64, dies_after: Death) {
    loop {
        let payload = b"one of sixteen writers, again and again. ".repeat(1 + rng.index(30));
        wal.append(&payload[rng.index(30)..]).expect("nothing fails but by a kill");
        // Relaxed: a count, which orders nothing.
        let count = appended.fetch_add(1, Relaxed) + 1;
        if let Death::Appended(n) = dies_after
            && count >= n
        {
            die();
        }
    }
}

fn die() {
    let killed = kill_process(getpid(), Signal::KILL);
    killed.expect("a process may kill itself");
}
