//! The only code that cuts a file or removes one, and only on a verdict that allows it.
//!
//! # Order
//! 1. Left-over prepared files are removed, and what is no part of the log: that may be the space that step 2 needs.
//! 2. What will be cut is written to a `.torn` file, which is synced, and so is the directory.
//! 3. The segment is cut and synced.
//! 4. `.torn` files beyond the newest few are removed.
//!
//! A crash between any two steps leaves a directory from which all of them are done again with the same
//! result: the cut is decided by the segment's bytes alone, and they change in step 3 only.

use std::io;
use std::sync::Arc;

use braidlog_format::{BLOCK_LEN, Incarnation, TornName};
use braidlog_storage::{FileAccess, FileIo, LogDir, is_no_space, write_all_at};

use crate::dir::{Listing, path_of};
use crate::tail::Tail;
use crate::{Manifest, RecoveryError};

/// The most bytes of a torn tail that are kept.
const TORN_BYTES_MAX: u64 = 16 << 20;
/// The most `.torn` files that a directory keeps.
const TORN_FILES_MAX: usize = 4;

/// What a cut did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// Bytes that were cut, trailing zeros not counted.
    pub(crate) bytes: u64,
    /// The file that keeps them.
    pub(crate) kept_as: Option<String>,
}

/// Removes left-over prepared files. They hold no LSN.
pub(crate) fn remove_prepared(dir: &Arc<dyn LogDir>, listing: &Listing) -> Result<(), RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("prepared_files_left") {
        return Ok(());
    }
    for name in &listing.prepared {
        remove(dir, name)?;
    }
    if listing.prepared.is_empty() { Ok(()) } else { sync(dir) }
}

/// Removes what the manifest says is no part of the log, oldest segments first; gives the names.
pub(crate) fn remove_orphans(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    manifest: &Manifest,
) -> Result<Vec<String>, RecoveryError> {
    let below = listing.segments_below(manifest.log_start).iter().map(|file| file.name());
    let forgotten = listing
        .checkpoints
        .iter()
        .filter(|name| manifest.checkpoint(name.number).is_none_or(|checkpoint| checkpoint.lsn != name.lsn));
    let forgotten = forgotten.map(|name| name.to_string());
    let unfinished = listing.unfinished.iter().chain(&listing.repeated).cloned();
    let names: Vec<String> = below.chain(forgotten).chain(unfinished).collect();
    for name in &names {
        remove(dir, name)?;
    }
    if !names.is_empty() {
        sync(dir)?;
    }
    Ok(names)
}

/// Cuts the last segment to what is kept of it, and keeps what is cut from a torn one.
pub(crate) fn trim(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    tail: &mut Tail,
    incarnation: Incarnation,
) -> Result<Cut, RecoveryError> {
    let end = tail.kept.end;
    let mut cut = Cut { bytes: tail.torn_bytes, kept_as: None };
    if cut.bytes > 0 {
        let name = TornName { base: tail.header.base, incarnation };
        if keep_torn(dir, listing, tail, cut.bytes.min(TORN_BYTES_MAX), name)? {
            cut.kept_as = Some(name.to_string());
        }
    }
    #[cfg(braidlog_sabotage)]
    let end = if braidlog_sabotage::is("torn_tail_not_cut") { tail.len } else { end };
    if tail.len > end {
        cut_file(dir, tail.window.name(), end)?;
    }
    if cut.kept_as.is_some() {
        let older = listing.torn.iter().filter(|torn| Some(torn.to_string()) != cut.kept_as);
        let count = older.clone().count();
        for torn in older.take(count.saturating_sub(TORN_FILES_MAX - 1)) {
            remove(dir, &torn.to_string())?;
        }
    }
    Ok(cut)
}

/// Cuts a file, durably.
fn cut_file(dir: &Arc<dyn LogDir>, name: &str, end: u64) -> Result<(), RecoveryError> {
    let file =
        dir.open(name, FileAccess::Write, FileIo::Buffered).map_err(RecoveryError::io("open", name))?;
    file.set_len(end).map_err(RecoveryError::io("cut", name))?;
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("cut_not_synced") {
        return Ok(());
    }
    file.sync_all().map_err(RecoveryError::io("sync", name))
}

/// Writes the first `bytes` behind the kept part to a file of their own. Whether there was space for it.
fn keep_torn(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    tail: &mut Tail,
    bytes: u64,
    torn: TornName,
) -> Result<bool, RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("torn_bytes_thrown_away") {
        return Ok(false);
    }
    let name = torn.to_string();
    // An opening that crashed here before left the same bytes, or some of them.
    if listing.torn.contains(&torn) {
        remove(dir, &name)?;
    }
    match write_torn(dir, tail, bytes, &name)? {
        Ok(()) => sync(dir).map(|()| true),
        Err(error) if is_no_space(&error) => {
            // The cut must not depend on space for its own record.
            match dir.remove(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RecoveryError::io("remove", name)(error)),
            }
            Ok(false)
        }
        Err(error) => Err(RecoveryError::io("write", name)(error)),
    }
}

/// Copies from the segment. The outer error is the segment's, the inner one the copy's.
fn write_torn(
    dir: &Arc<dyn LogDir>,
    tail: &mut Tail,
    bytes: u64,
    name: &str,
) -> Result<io::Result<()>, RecoveryError> {
    let file = match dir.open(name, FileAccess::CreateNew, FileIo::Buffered) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut done = 0;
    while done < bytes {
        let from = tail.kept.end.saturating_add(done);
        tail.window.fill(from, BLOCK_LEN.min(bytes - done))?;
        let held = tail.window.at(from);
        let held = held.get(..usize::try_from(bytes - done).unwrap_or(usize::MAX)).unwrap_or(held);
        if held.is_empty() {
            break;
        }
        if let Err(error) = write_all_at(&*file, held, done) {
            return Ok(Err(error));
        }
        done = done.saturating_add(held.len() as u64);
    }
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("torn_copy_not_synced") {
        return Ok(Ok(()));
    }
    Ok(file.sync_all())
}

fn remove(dir: &Arc<dyn LogDir>, name: &str) -> Result<(), RecoveryError> {
    dir.remove(name).map_err(RecoveryError::io("remove", name))
}

fn sync(dir: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
    dir.sync().map_err(RecoveryError::io("sync", path_of(dir)))
}
