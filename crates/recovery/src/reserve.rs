//! The reserve: a few blocks that a log keeps beside its files, for the day when its device has none left. What gives
//! space back has to write first: a manifest to cut the log, a checkpoint without content to be allowed to.
//!
//! The rule: a small stream that finds no space is written into blocks that the log holds already. A file of the reserve gets
//! the stream's temporary name, is written over, cut to the stream's length and synced; from there on it is a stream like
//! any other. No block is free in between that somebody else could take.
//!
//! Nothing is built upon a reserve, so nothing of it is ever synced. If a crash takes it, its blocks are free, and the next
//! opening takes them again. A file that was on its way to a stream is rubbish like any stream that was not finished. What
//! a change of the manifest leaves, the blocks of the one before, is as much as the next change needs; what a truncation
//! leaves is enough for all.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use braidlog_format::{BLOCK_LEN, CHECKPOINT_RESERVE_NAME, MANIFEST_RESERVE_NAME, block_ceil};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, is_no_space};

use crate::locked::locked;

/// Bytes of each file at least: a manifest of some hundred segments, a checkpoint with little or no content.
const RESERVE_LEN: u64 = 4 * BLOCK_LEN;

/// The reserve of a log that is open for writing.
#[derive(Debug)]
pub(crate) struct Reserve {
    dir: Arc<dyn LogDir>,
    /// Bytes that each file has allocated, as this opening knows; 0: it is not there.
    lens: Mutex<Lens>,
}

#[derive(Debug, Default)]
struct Lens {
    manifest: u64,
    checkpoint: u64,
}

/// What a file of the reserve is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReserveFor {
    /// The manifest, so that the log can be cut.
    Manifest,
    /// A small checkpoint, so that it may be.
    Checkpoint,
}

impl ReserveFor {
    fn name(self) -> &'static str {
        match self {
            ReserveFor::Manifest => MANIFEST_RESERVE_NAME,
            ReserveFor::Checkpoint => CHECKPOINT_RESERVE_NAME,
        }
    }
}

impl Lens {
    fn of(&mut self, what: ReserveFor) -> &mut u64 {
        match what {
            ReserveFor::Manifest => &mut self.manifest,
            ReserveFor::Checkpoint => &mut self.checkpoint,
        }
    }
}

impl Reserve {
    /// The reserve of the log in `dir`, whose writer the caller is. It is empty until it is filled.
    pub(crate) fn new(dir: Arc<dyn LogDir>) -> Reserve {
        Reserve { dir, lens: Mutex::default() }
    }

    /// Makes what is missing, for a manifest of `manifest_len` bytes; the manifest's part first. No space is no error: as
    /// much is kept as there is.
    ///
    /// # Errors
    /// What the storage says otherwise.
    pub(crate) fn fill(&self, manifest_len: u64) -> io::Result<()> {
        let mut lens = self.lens();
        let needed = block_ceil(manifest_len);
        let wanted = RESERVE_LEN.max(needed.saturating_mul(2));
        for (what, wanted, least) in
            [(ReserveFor::Manifest, wanted, needed), (ReserveFor::Checkpoint, RESERVE_LEN, RESERVE_LEN)]
        {
            let len = lens.of(what);
            // What serves is let be, until it is much too small.
            if *len < least.max(wanted / 2) {
                *len = make(&self.dir, what.name(), wanted, least)?;
            }
        }
        Ok(())
    }

    /// Whether the log can be cut on a device without a free block.
    pub(crate) fn has_manifest(&self) -> bool {
        self.lens().manifest > 0
    }

    /// Gives a file of the reserve the name `name`, whatever has it, and opens it for writing; `None` if there is none. Its
    /// blocks hold bytes that mean nothing, and it is longer than what is written to it.
    ///
    /// # Errors
    /// What the storage says.
    pub(crate) fn take(&self, what: ReserveFor, name: &str) -> io::Result<Option<Arc<dyn LogFile>>> {
        let mut lens = self.lens();
        if std::mem::take(lens.of(what)) == 0 {
            return Ok(None);
        }
        match self.dir.rename(what.name(), name, true) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        self.dir.open(name, FileAccess::Write, FileIo::Buffered).map(Some)
    }

    fn lens(&self) -> MutexGuard<'_, Lens> {
        locked(&self.lens)
    }
}

/// Makes a file with `wanted` bytes of space, or at least `least` of them, or none; how many it has.
fn make(dir: &Arc<dyn LogDir>, name: &str, wanted: u64, least: u64) -> io::Result<u64> {
    let opened = match dir.open(name, FileAccess::Write, FileIo::Buffered) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            dir.open(name, FileAccess::CreateNew, FileIo::Buffered)
        }
        opened => opened,
    };
    let file = match opened {
        Err(error) if is_no_space(&error) => return Ok(0),
        opened => opened?,
    };
    for len in [wanted, least] {
        match file.allocate(len) {
            Ok(()) => return Ok(len),
            Err(error) if is_no_space(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // Too little to be of use to the log, and perhaps just enough for somebody.
    drop(file);
    dir.remove(name)?;
    Ok(0)
}
