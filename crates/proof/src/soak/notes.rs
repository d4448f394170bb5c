//! What the processes of a soak knew when they died: a file in shared memory with a number for each thing.
//!
//! The rule: a number is one write of eight bytes, which a kill does not tear. A record stands there as begun before the
//! log is asked for it, and as acknowledged only after the log has said that it is durable.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::state::WRITERS;

const WORD: usize = 8;
const BEGUN: usize = 0;
const ACKED: usize = WRITERS;
/// What was acknowledged when the last complete backup began.
const BACKED_UP: usize = 2 * WRITERS;
const TALLIES: usize = 3 * WRITERS;
const WORDS: usize = TALLIES + Tally::ALL.len();

/// What is counted over all processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tally {
    Backups,
    Checkpoints,
    Removed,
    Recycled,
    MostDescriptors,
    MostMemoryKib,
}

impl Tally {
    const ALL: [(Tally, &'static str); 6] = [
        (Tally::Backups, "backups"),
        (Tally::Checkpoints, "checkpoints"),
        (Tally::Removed, "segments given up"),
        (Tally::Recycled, "segments recycled"),
        (Tally::MostDescriptors, "most descriptors"),
        (Tally::MostMemoryKib, "most KiB of memory"),
    ];
}

/// The notes, open for writing.
#[derive(Debug)]
pub(super) struct Notes {
    file: File,
}

/// What stands there.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) begun: [u64; WRITERS],
    pub(super) acked: [u64; WRITERS],
    pub(super) backed_up: [u64; WRITERS],
    pub(super) backups: u64,
    tallies: [u64; Tally::ALL.len()],
}

impl Said {
    /// What was counted.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Tally::ALL.iter().map(|&(_, name)| name).zip(self.tallies)
    }
}

impl Notes {
    pub(super) fn create(path: &Path) {
        let file = File::create(path).expect("the notes can be made");
        file.set_len((WORDS * WORD) as u64).expect("the notes have room");
    }

    pub(super) fn open(path: &Path) -> Notes {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("the notes are there");
        Notes { file }
    }

    pub(super) fn read(path: &Path) -> Said {
        let notes = Notes::open(path);
        let line = |from: usize| std::array::from_fn(|writer| notes.get(from + writer));
        Said {
            begun: line(BEGUN),
            acked: line(ACKED),
            backed_up: line(BACKED_UP),
            backups: notes.get(TALLIES + Tally::Backups as usize),
            tallies: std::array::from_fn(|tally| notes.get(TALLIES + tally)),
        }
    }

    /// A writer is about to append its record with this number. One that a crash took away is begun again.
    pub(super) fn begin(&self, writer: usize, number: u64) {
        if number > self.get(BEGUN + writer) {
            self.put(BEGUN + writer, number);
        }
    }

    /// That record is durable.
    pub(super) fn ack(&self, writer: usize, number: u64) {
        self.put(ACKED + writer, number);
    }

    /// How many records of each writer are acknowledged now.
    pub(super) fn acked(&self) -> [u64; WRITERS] {
        std::array::from_fn(|writer| self.get(ACKED + writer))
    }

    /// A backup that began when so many were acknowledged is complete.
    pub(super) fn backed_up(&self, acked: &[u64; WRITERS]) {
        for (writer, &acked) in acked.iter().enumerate() {
            self.put(BACKED_UP + writer, acked);
        }
        self.add(Tally::Backups, 1);
    }

    /// Counts.
    pub(super) fn add(&self, tally: Tally, n: u64) {
        let at = TALLIES + tally as usize;
        self.put(at, self.get(at) + n);
    }

    /// Keeps the greatest.
    pub(super) fn most(&self, tally: Tally, n: u64) {
        let at = TALLIES + tally as usize;
        self.put(at, self.get(at).max(n));
    }

    fn get(&self, at: usize) -> u64 {
        let mut word = [0; WORD];
        self.file.read_exact_at(&mut word, (at * WORD) as u64).expect("notes can be read");
        u64::from_le_bytes(word)
    }

    fn put(&self, at: usize, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), (at * WORD) as u64).expect("notes can be written");
    }
}
