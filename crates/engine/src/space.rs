//! Space is admitted before the LSN: whatever holds an LSN has allocated bytes waiting for it.
//!
//! # Invariant
//! While the gate is open, one file (the one under the pen, or a prepared one) has room for everything that
//! can hold an LSN and is not yet written: [`Stripes::outstanding_max`](crate::stripes::Stripes), and the
//! one frame that travels alone.
//!
//! # Why it holds
//! A writer asks the gate under its claim (or with its budget drawn), after it found space. The coordinator
//! lowers the room and closes the gate *before* it gives ring space or budget back. A writer that still sees
//! the gate open has therefore found its space in what was free before, and is counted in the maximum.
//! The gate needs no ordering of its own: a writer that sees space given back later has acquired it through
//! [stripe.release] or [budget.give], and with it the closed gate.

use std::sync::Arc;

use braidlog_format::{BLOCK_LEN, IN_DOUBT_MAX, INDEX_POINTS_MAX, SEGMENT_HEADER_LEN, seal_len};
use braidlog_storage::LogFile;

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicU8, Ordering::Relaxed};
use crate::spares::EarlierLife;

/// Bytes of a file that are kept for its seal.
pub(crate) const SEAL_RESERVE: u64 = seal_len(IN_DOUBT_MAX, INDEX_POINTS_MAX) + BLOCK_LEN;

/// Whether appends may draw an LSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Gate {
    /// Yes.
    Open,
    /// Not yet: the next file is being prepared.
    Late,
    /// No: the device is full.
    NoSpace,
}

/// A file that has space and no name in the log yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn LogFile>,
    /// Bytes allocated.
    pub(crate) capacity: u64,
    /// What the file was before, if it was recycled.
    pub(crate) earlier: Option<EarlierLife>,
}

impl Prepared {
    /// Bytes for rounds.
    fn room(&self) -> u64 {
        room(self.capacity, SEGMENT_HEADER_LEN)
    }
}

/// Bytes that rounds may take in a file of `capacity` allocated bytes whose pen stands at `offset`.
pub(crate) fn room(capacity: u64, offset: u64) -> u64 {
    capacity.saturating_sub(offset + SEAL_RESERVE)
}

/// The gate and the ledger behind it.
#[derive(Debug)]
pub(crate) struct Space {
    gate: AtomicU8,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    /// Room in the file under the pen; 0 if there is none.
    current: u64,
    /// What may still be written there before the next file is due.
    until_rotation: u64,
    prepared: Vec<Prepared>,
    /// Whether the last attempt to allocate a file was refused for lack of space.
    refused: bool,
    /// How many operations for what holds an LSN are being refused for lack of space, and tried again: the role
    /// holder's and the writing thread's may be at the same time.
    stalled: u32,
    /// What everything that can hold an LSN may take.
    outstanding_max: u64,
    /// What the frame that travels alone takes; 0 if there is none.
    alone: u64,
}

impl Ledger {
    fn needed(&self) -> u64 {
        self.outstanding_max + self.alone
    }

    fn gate(&self) -> Gate {
        let needed = self.needed();
        if self.stalled > 0 {
            Gate::NoSpace
        } else if self.current >= needed || self.prepared.iter().any(|file| file.room() >= needed) {
            Gate::Open
        } else if self.refused {
            Gate::NoSpace
        } else {
            Gate::Late
        }
    }
}

impl Space {
    pub(crate) fn new(outstanding_max: u64) -> Space {
        let ledger = Ledger {
            current: 0,
            until_rotation: 0,
            prepared: Vec::new(),
            refused: false,
            stalled: 0,
            outstanding_max,
            alone: 0,
        };
        Space { gate: AtomicU8::new(ledger.gate() as u8), ledger: Mutex::new(ledger) }
    }

    pub(crate) fn gate(&self) -> Gate {
        match self.gate.load(Relaxed) {
            0 => Gate::Open,
            1 => Gate::Late,
            _ => Gate::NoSpace,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("space_not_asked_for") {
            return true;
        }
        self.gate() == Gate::Open
    }

    /// Changes the ledger; gives the gate before and after.
    fn change<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut ledger = self.ledger.lock();
        let result = change(&mut ledger);
        self.gate.store(ledger.gate() as u8, Relaxed);
        result
    }

    /// The file under the pen has this much room for rounds, and this much before the next file is due. The
    /// coordinator says so before it gives ring space or budget back.
    pub(crate) fn set_current(&self, room: u64, until_rotation: u64) {
        self.change(|ledger| {
            ledger.current = room;
            ledger.until_rotation = until_rotation;
        });
    }

    /// A file has been prepared.
    pub(crate) fn add(&self, prepared: Prepared) {
        self.change(|ledger| {
            ledger.refused = false;
            ledger.prepared.push(prepared);
        });
    }

    /// Allocating was refused for lack of space, or works again.
    pub(crate) fn set_refused(&self, refused: bool) {
        self.change(|ledger| ledger.refused = refused);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.ledger.lock().refused
    }

    /// Whether a write of what holds an LSN is being refused for lack of space.
    pub(crate) fn is_stalled(&self) -> bool {
        self.ledger.lock().stalled > 0
    }

    /// Whether a prepared file has this much room.
    pub(crate) fn has_prepared(&self, room: u64) -> bool {
        self.ledger.lock().prepared.iter().any(|file| file.room() >= room)
    }

    /// An operation for what holds an LSN is refused for lack of space, and is tried again until
    /// [`Space::stall_ends`].
    pub(crate) fn stall_begins(&self) {
        self.change(|ledger| ledger.stalled += 1);
    }

    /// One of those operations was not refused any more, or is given up.
    pub(crate) fn stall_ends(&self) {
        self.change(|ledger| ledger.stalled -= 1);
    }

    /// Whether a file should be prepared now: none is, and the one under the pen is half way to the next, or
    /// has little room beyond what it must keep.
    pub(crate) fn wants_prepared(&self, segment_size: u64) -> bool {
        let ledger = self.ledger.lock();
        let needed = ledger.needed();
        let low = ledger.until_rotation < segment_size / 2 || ledger.current < needed + needed / 4;
        low && !ledger.prepared.iter().any(|file| file.room() >= needed)
    }

    /// Takes the smallest prepared file that has this much room, or else the largest.
    pub(crate) fn take(&self, room: u64) -> Option<Prepared> {
        self.change(|ledger| {
            let fits = |file: &Prepared| file.room() >= room;
            let (index, _) = ledger.prepared.iter().enumerate().min_by_key(|(_, file)| {
                (!fits(file), if fits(file) { file.room() } else { u64::MAX - file.room() })
            })?;
            Some(ledger.prepared.swap_remove(index))
        })
    }

    /// Reserves room for a frame that travels alone; what a prepared file needs for it.
    pub(crate) fn reserve_alone(&self, room: u64) -> u64 {
        self.change(|ledger| {
            ledger.alone = room;
            ledger.needed()
        })
    }

    /// The frame that travelled alone is written, or was not accepted.
    pub(crate) fn release_alone(&self) {
        self.change(|ledger| ledger.alone = 0);
    }

    /// Takes all prepared files: the log closes.
    pub(crate) fn take_all(&self) -> Vec<Prepared> {
        self.change(|ledger| std::mem::take(&mut ledger.prepared))
    }
}

#[cfg(all(test, not(any(braidlog_loom, braidlog_shuttle))))]
mod tests {
    use super::*;

    /// The role holder writes a small round itself while the thread for that still has a full buffer in flight; a
    /// full device refuses both. One bit for the two opened the gate when the first of them went through.
    #[test]
    fn gate_stays_closed_until_the_last_write_that_is_refused_goes_through() {
        let space = Space::new(8);
        space.set_current(8, 8);
        space.stall_begins();
        space.stall_begins();
        space.stall_ends();
        assert!(space.is_stalled());
        assert_eq!(space.gate(), Gate::NoSpace);
        space.stall_ends();
        assert!(!space.is_stalled());
        assert_eq!(space.gate(), Gate::Open);
    }
}
