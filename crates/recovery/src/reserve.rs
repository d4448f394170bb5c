//! The reserve: a few blocks that a log keeps beside its files, for the day when its device has none left. What gives
//! space back has to write first: a checkpoint without content, so that the log may be cut, a manifest that names it, and
//! another manifest that cuts the log.
//!
//! The rule: a small stream that finds no space is written into blocks that the log holds already. A file of the reserve gets
//! the stream's temporary name, is written over, cut to the stream's length and synced; from there on it is a stream like
//! any other. No block is free in between that somebody else could take.
//!
//! # Invariant
//! From a whole reserve a small checkpoint, a hold that moves or goes, and the truncation behind both succeed, whichever of the two comes first, though
//! not one block becomes free meanwhile. The blocks of the manifest that is replaced are no help: a file system may give them back late, and
//! then to anybody. So there is a file for each manifest that this takes, nothing takes one that does not lead to a truncation, and none
//! takes what another still needs: see [`ReserveFor`]. What a truncation gives up is enough for all of it again.
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
    manifests: [Kept; 3],
    checkpoint: Kept,
    /// How far the checkpoint has come for which there is a reserve.
    stage: Stage,
}

/// A checkpoint takes two files: one for itself, and then one for the manifest that names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It has taken none.
    Kept,
    /// It has taken its own.
    Taken,
    /// It has taken both, or that of the manifest alone, since it found space itself.
    Named,
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
    /// A manifest that names a checkpoint. It leaves a file for the manifest that cuts the log; the next one leaves one for a hold too.
    Named,
    /// A manifest with a hold that has moved or gone. It leaves a file for the manifest that cuts the log, and one for
    /// that which names a checkpoint, unless there is one already or none can be taken.
    Hold,
    /// A manifest that cuts the log. It leaves nothing.
    Cut,
}

impl Files {
    /// How many manifests have to be left for others.
    fn left_by(&self, what: ReserveFor) -> usize {
        #[cfg(braidlog_sabotage)]
        if what == ReserveFor::Hold && braidlog_sabotage::is("hold_takes_what_a_checkpoint_needs") {
            return 1;
        }
        let checkpoint_is_there = self.checkpoint.len > 0;
        match (what, self.stage) {
            (ReserveFor::Checkpoint | ReserveFor::Cut, _) => 0,
            (ReserveFor::Named, Stage::Named) => 2,
            (ReserveFor::Named, Stage::Kept | Stage::Taken) => 1,
            (ReserveFor::Hold, Stage::Taken) => 2,
            (ReserveFor::Hold, Stage::Kept) if checkpoint_is_there => 2,
            (ReserveFor::Hold, Stage::Kept | Stage::Named) => 1,
        }
    }

    fn is_whole(&self) -> bool {
        self.manifests.iter().chain([&self.checkpoint]).all(|kept| kept.len > 0)
    }

    /// What `what` may take.
    fn choose(&mut self, what: ReserveFor) -> Option<&mut Kept> {
        let left = self.left_by(what);
        let (next, kept) = match what {
            ReserveFor::Checkpoint => (Stage::Taken, Some(&mut self.checkpoint).filter(|kept| kept.len > 0)),
            _ => {
                let next = if what == ReserveFor::Named { Stage::Named } else { self.stage };
                (next, self.manifests.iter_mut().filter(|kept| kept.len > 0).skip(left).last())
            }
        };
        if kept.is_some() {
            self.stage = next;
        }
        kept
    }
}

impl Reserve {
    /// The reserve of the log in `dir`, whose writer the caller is. It is empty until it is filled.
    pub(crate) fn new(dir: Arc<dyn LogDir>) -> Reserve {
        let kept = |name| Kept { name, len: 0 };
        let files = Files {
            manifests: MANIFEST_RESERVE_NAMES.map(kept),
            checkpoint: kept(CHECKPOINT_RESERVE_NAME),
            stage: Stage::Kept,
        };
        Reserve { dir, files: Mutex::new(files) }
    }

    /// Makes what is missing, for a manifest of `manifest_len` bytes: first what cuts the log, then a checkpoint, then what names it, then a hold. No
    /// space is no error: as much is kept as there is.
    ///
    /// # Errors
    /// What the storage says otherwise.
    pub(crate) fn fill(&self, manifest_len: u64) -> io::Result<()> {
        let mut files = locked(&self.files);
        let Files { manifests: [first, second, third], checkpoint, .. } = &mut *files;
        // A header, and entries.
        let needed = block_ceil(manifest_len).max(2 * BLOCK_LEN);
        let wanted = RESERVE_LEN.max(needed.saturating_mul(2));
        for (kept, wanted, least) in [
            (first, wanted, needed),
            (checkpoint, RESERVE_LEN, RESERVE_LEN),
            (second, wanted, needed),
            (third, wanted, needed),
        ] {
            // What serves is let be, until it is much too small.
            if kept.len < least.max(wanted / 2) {
                kept.len = make(&self.dir, kept.name, wanted, least)?;
            }
        }
        if files.is_whole() {
            files.stage = Stage::Kept;
        }
        Ok(())
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        locked(&self.files).is_whole()
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
