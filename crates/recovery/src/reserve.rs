//! The reserve: a few blocks that a log keeps beside its files, for the day when its device has none left. What gives
//! space back has to write first: a checkpoint without content, so that the log may be cut, a manifest that names it, and
//! another manifest that cuts the log.
//!
//! The rule: a small stream that finds no space is written into blocks that the log holds already. A file of the reserve gets
//! the stream's temporary name, is written over, cut to the stream's length and synced; from there on it is a stream like
//! any other. No block is free in between that somebody else could take.
//!
//! # Invariant
//! From a whole reserve a small checkpoint and the truncation behind it succeed, though not one block becomes free meanwhile.
//! The blocks of the manifest that is replaced are no help: a file system may give them back late, and then to anybody. So
//! there is a file for each manifest that this takes, nothing takes one that does not lead to a truncation, and the last
//! one is for the truncation alone: see [`ReserveFor`]. What a truncation gives up is enough for all of it again. A hold that moves
//! leads to one where a checkpoint lets it; where there is none yet, it takes the file that the checkpoint would need.
//!
//! A file that has been a manifest does not come back into the reserve: a reader may have it open, and a copy may link it.
//!
//! Nothing is built upon a reserve, so nothing of it is ever synced. If a crash takes it, its blocks are free, and the next
//! opening takes them again. A file that was on its way to a stream is rubbish like any stream that was not finished.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use braidlog_format::{BLOCK_LEN, CHECKPOINT_RESERVE_NAME, MANIFEST_RESERVE_NAMES, block_ceil};
use braidlog_storage::{FileAccess, FileIo, LogDir, LogFile, is_no_space};

use crate::locked::locked;

/// Bytes of each file at least: a manifest of some hundred segments, a checkpoint with little or no content.
const RESERVE_LEN: u64 = 4 * BLOCK_LEN;

/// The reserve of a log that is open for writing.
#[derive(Debug)]
pub(crate) struct Reserve {
    dir: Arc<dyn LogDir>,
    files: Mutex<Files>,
}

/// The files, as this opening knows them.
#[derive(Debug)]
struct Files {
    /// For manifests. The first is made before all others, and taken last.
    manifests: [Kept; 2],
    checkpoint: Kept,
}

#[derive(Debug)]
struct Kept {
    name: &'static str,
    /// Bytes that the file has allocated; 0: it is not there.
    len: u64,
}

/// What may take a file of the reserve. Any other change of the manifest has to find space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReserveFor {
    /// A small checkpoint.
    Checkpoint,
    /// A manifest without which the log may not be cut, and which leaves a file for the one that does it.
    Allowance,
    /// A manifest that cuts the log.
    Cut,
}

impl Files {
    /// What `what` may take.
    fn choose(&mut self, what: ReserveFor) -> Option<&mut Kept> {
        let [first, second] = &mut self.manifests;
        let is_last = first.len == 0 || second.len == 0;
        #[cfg(braidlog_sabotage)]
        let is_last = is_last && !braidlog_sabotage::is("checkpoint_takes_the_last_reserve");
        match what {
            ReserveFor::Checkpoint => Some(&mut self.checkpoint),
            ReserveFor::Allowance if is_last => None,
            ReserveFor::Allowance | ReserveFor::Cut if second.len > 0 => Some(second),
            ReserveFor::Allowance | ReserveFor::Cut => Some(first),
        }
        .filter(|kept| kept.len > 0)
    }
}

impl Reserve {
    /// The reserve of the log in `dir`, whose writer the caller is. It is empty until it is filled.
    pub(crate) fn new(dir: Arc<dyn LogDir>) -> Reserve {
        let kept = |name| Kept { name, len: 0 };
        let files =
            Files { manifests: MANIFEST_RESERVE_NAMES.map(kept), checkpoint: kept(CHECKPOINT_RESERVE_NAME) };
        Reserve { dir, files: Mutex::new(files) }
    }

    /// Makes what is missing, for a manifest of `manifest_len` bytes: first what cuts the log, then what allows that. No
    /// space is no error: as much is kept as there is.
    ///
    /// # Errors
    /// What the storage says otherwise.
    pub(crate) fn fill(&self, manifest_len: u64) -> io::Result<()> {
        let mut files = locked(&self.files);
        let Files { manifests: [first, second], checkpoint } = &mut *files;
        // A header, and entries.
        let needed = block_ceil(manifest_len).max(2 * BLOCK_LEN);
        let wanted = RESERVE_LEN.max(needed.saturating_mul(2));
        for (kept, wanted, least) in
            [(first, wanted, needed), (checkpoint, RESERVE_LEN, RESERVE_LEN), (second, wanted, needed)]
        {
            // What serves is let be, until it is much too small.
            if kept.len < least.max(wanted / 2) {
                kept.len = make(&self.dir, kept.name, wanted, least)?;
            }
        }
        Ok(())
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        let files = locked(&self.files);
        files.manifests.iter().chain([&files.checkpoint]).all(|kept| kept.len > 0)
    }

    /// Gives a file of the reserve the name `name`, whatever has it, and opens it for writing; `None` if there is none for
    /// this. Its blocks hold bytes that mean nothing, and it is longer than what is written to it.
    ///
    /// # Errors
    /// What the storage says.
    pub(crate) fn take(&self, what: ReserveFor, name: &str) -> io::Result<Option<Arc<dyn LogFile>>> {
        let mut files = locked(&self.files);
        let Some(kept) = files.choose(what) else { return Ok(None) };
        kept.len = 0;
        match self.dir.rename(kept.name, name, true) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        self.dir.open(name, FileAccess::Write, FileIo::Buffered).map(Some)
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
