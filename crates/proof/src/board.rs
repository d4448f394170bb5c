//! The board: where a process that will be killed writes what it has begun and what it was acknowledged.
//!
//! A file in shared memory, written in fixed places. A process dies between two writes and never within one:
//! each lies within one page, and a kill takes effect at page boundaries at the earliest. So the board says
//! what the process knew at the moment of its death, and nothing has to be flushed for it.
//!
//! # Invariants
//! 1. An operation stands on the board as begun before the log is asked for it: whatever the log holds that the
//!    board does not know is a phantom.
//! 2. It stands there as durable only after the log has said so.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The bytes that one operation takes.
const ENTRY_LEN: u64 = 16;
/// The bytes before the first writer's area, and before the first entry of each area.
const HEAD_LEN: u64 = 4096;
/// How many operations one writer can note.
pub const OPERATIONS_MAX: u32 = 4096;

const AREA_LEN: u64 = HEAD_LEN + OPERATIONS_MAX as u64 * ENTRY_LEN;
/// Where the head says how far the process got, which incarnation it is and what it recovered.
const PHASE_OFFSET: u64 = 0;
const INCARNATION_OFFSET: u64 = PHASE_OFFSET + 8;
const RECOVERED_OFFSET: u64 = INCARNATION_OFFSET + 8;

/// How far a process got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// It has not opened the log, as far as it could tell.
    Started,
    /// It opened the log.
    Opened,
    /// It closed the log, and close returned `Ok`.
    Closed,
}

/// What became of an operation, as far as the process knew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The log was asked, and has not answered.
    Begun,
    /// The log refused it: it must be absent.
    Refused,
    /// The log gave it this first LSN, and did not say that it is durable.
    Placed(u64),
    /// The log gave it this first LSN, and said that it is durable.
    Durable(u64),
}

/// One operation on the board: a record, or a batch of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// What became of it.
    pub state: State,
    /// How many records it has.
    pub count: u16,
}

impl Operation {
    /// Whether the log gave it an LSN, as far as is known.
    pub fn has_lsn(&self) -> bool {
        matches!(self.state, State::Placed(_) | State::Durable(_))
    }
}

/// Everything that stands on a board.
#[derive(Clone, Debug)]
pub struct Told {
    /// How far the process got.
    pub phase: Phase,
    /// Which opening of the log it was; 0 before it opened.
    pub incarnation: u64,
    /// The last LSN that it found when it opened.
    pub recovered: u64,
    /// The operations of each writer, in their order.
    pub writers: Vec<Vec<Operation>>,
}

/// A board, open for writing. Each method is one write into the file.
#[derive(Debug)]
pub struct Board {
    file: File,
}

/// The directory for boards: shared memory where there is some, else the one given.
pub fn memory_dir(otherwise: &Path) -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { otherwise.to_owned() }
}

impl Board {
    /// An empty board in a new file.
    ///
    /// # Panics
    /// If the file cannot be made, as all functions here do when the board does not work.
    pub fn create(path: &Path, writers: u32) {
        let file = File::create(path).expect("the board's file can be made");
        file.set_len(HEAD_LEN + u64::from(writers) * AREA_LEN).expect("the board has room");
    }

    /// The board in an existing file.
    ///
    /// # Panics
    /// If it is not there.
    pub fn open(path: &Path) -> Board {
        let file = OpenOptions::new().write(true).open(path).expect("the board is there");
        Board { file }
    }

    /// The log is open.
    pub fn opened(&self, incarnation: u64, recovered: u64) {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&1_u64.to_le_bytes());
        head[8..16].copy_from_slice(&incarnation.to_le_bytes());
        head[16..].copy_from_slice(&recovered.to_le_bytes());
        self.write(PHASE_OFFSET, &head);
    }

    /// The log is closed.
    pub fn closed(&self) {
        self.write(PHASE_OFFSET, &2_u64.to_le_bytes());
    }

    /// Notes an operation: see [`State`].
    pub fn note(&self, writer: u32, operation: u32, noted: Operation) {
        let (tag, lsn) = match noted.state {
            State::Begun => (1_u16, 0),
            State::Refused => (2, 0),
            State::Placed(lsn) => (3, lsn),
            State::Durable(lsn) => (4, lsn),
        };
        let mut entry = [0; ENTRY_LEN as usize];
        entry[..8].copy_from_slice(&lsn.to_le_bytes());
        entry[8..10].copy_from_slice(&noted.count.to_le_bytes());
        entry[10..12].copy_from_slice(&tag.to_le_bytes());
        assert!(operation < OPERATIONS_MAX, "the board is full");
        self.write(area(writer) + HEAD_LEN + u64::from(operation) * ENTRY_LEN, &entry);
    }

    /// Every operation of this writer below `operations` that has an LSN is durable.
    pub fn flushed(&self, writer: u32, operations: u32) {
        self.write(area(writer), &u64::from(operations).to_le_bytes());
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("the board takes what it is told");
    }
}

/// Where the area of a writer begins.
fn area(writer: u32) -> u64 {
    HEAD_LEN + u64::from(writer) * AREA_LEN
}

impl Told {
    /// Reads the board that a process left behind.
    ///
    /// # Panics
    /// If it is not there, or is no board.
    pub fn read(path: &Path) -> Told {
        let bytes = std::fs::read(path).expect("the board is there");
        let phase = match u64_at(&bytes, PHASE_OFFSET) {
            0 => Phase::Started,
            1 => Phase::Opened,
            2 => Phase::Closed,
            other => panic!("the board is no board: phase {other}"),
        };
        let areas = bytes[HEAD_LEN as usize..].chunks_exact(AREA_LEN as usize);
        Told {
            phase,
            incarnation: u64_at(&bytes, INCARNATION_OFFSET),
            recovered: u64_at(&bytes, RECOVERED_OFFSET),
            writers: areas.map(|area| read_area(area, phase == Phase::Closed)).collect(),
        }
    }
}

/// The operations of one writer. Once the log is closed, all that has an LSN is durable.
fn read_area(area: &[u8], is_closed: bool) -> Vec<Operation> {
    let flushed = u64_at(area, 0) as usize;
    let entries = area[HEAD_LEN as usize..].chunks_exact(ENTRY_LEN as usize);
    let known = entries.map_while(|entry| {
        let lsn = u64_at(entry, 0);
        let count = u16::from_le_bytes([entry[8], entry[9]]);
        let state = match entry[10] {
            0 => return None,
            1 => State::Begun,
            2 => State::Refused,
            3 => State::Placed(lsn),
            4 => State::Durable(lsn),
            other => panic!("the board is no board: state {other}"),
        };
        Some(Operation { state, count })
    });
    let durable = |index, operation: Operation| match operation.state {
        State::Placed(lsn) if is_closed || index < flushed => {
            Operation { state: State::Durable(lsn), ..operation }
        }
        _ => operation,
    };
    known.enumerate().map(|(index, operation)| durable(index, operation)).collect()
}

fn u64_at(bytes: &[u8], offset: u64) -> u64 {
    let offset = offset as usize;
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_says_what_it_was_told() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("board");
        Board::create(&path, 2);
        let told = Told::read(&path);
        assert_eq!((told.phase, told.writers), (Phase::Started, vec![vec![], vec![]]));

        let board = Board::open(&path);
        board.opened(3, 70);
        let states = [State::Placed(71), State::Begun, State::Refused, State::Durable(72), State::Placed(80)];
        for (index, state) in states.into_iter().enumerate() {
            board.note(1, index as u32, Operation { state, count: 7 });
        }
        let told = Told::read(&path);
        assert_eq!((told.phase, told.incarnation, told.recovered), (Phase::Opened, 3, 70));
        assert!(told.writers[0].is_empty());
        assert_eq!(told.writers[1], states.map(|state| Operation { state, count: 7 }));

        board.flushed(1, 4);
        let durable = |told: &Told| -> Vec<bool> {
            told.writers[1].iter().map(|known| matches!(known.state, State::Durable(_))).collect()
        };
        assert_eq!(durable(&Told::read(&path)), [true, false, false, true, false]);
        board.closed();
        assert_eq!(durable(&Told::read(&path)), [true, false, false, true, true]);
    }
}
