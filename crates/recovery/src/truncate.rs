//! Cutting a log at its beginning: files go, the oldest first, when the manifest says so and not before.
//!
//! # Order
//! 1. The directory is synced: the log will start at a file whose name must not be lost.
//! 2. The floor of the readers is raised, no further than to the segment where one stands.
//! 3. The manifest says the new start, durably, and no further than a checkpoint or a hold allows.
//! 4. Files below go, oldest first, and the directory is synced.
//!
//! A crash before the end of step 3 leaves the log as it was, and from then on what lies below the start is rubbish that
//! the next opening removes. So step 4 may fail and be done again at any time.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::LogDir;

use crate::dir::{self, Listing, path_of};
use crate::reserve::ReserveFor;
use crate::standing::standing_in;
use crate::{ManifestStore, Pins, RecoveryError};

/// What became of a file that is no part of the log any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposed {
    /// Its name is gone.
    Removed,
    /// It has another name, durably, and will be a segment again.
    Recycled,
}

/// What a truncation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Truncation {
    /// The first LSN of the log now.
    pub first_lsn: Lsn,
    /// Files that were removed.
    pub removed: usize,
    /// Files that were kept for reuse.
    pub recycled: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// Cuts the log so that it starts with the segment that holds `wanted`, or earlier: with the segment that a checkpoint, a
/// hold or a reader of this process needs, or a transaction that is open there. Then gives each file below the start to `dispose`, also those that an earlier
/// truncation left.
///
/// `durable` is how far the log is durable now. The caller is the log's writer.
///
/// # Errors
/// [`RecoveryError::Io`]. The log starts where the store's manifest says, and files below it that are still there go with
/// the next truncation or opening.
pub fn truncate(
    dir: &Arc<dyn LogDir>,
    store: &ManifestStore,
    pins: &Pins,
    durable: Lsn,
    wanted: Lsn,
    dispose: &mut dyn FnMut(&str) -> io::Result<Disposed>,
) -> Result<Truncation, RecoveryError> {
    let _turn = store.truncation();
    let listing = dir::list(dir)?;
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("unlinked_before_the_manifest") {
        let start = standing_in(dir, &listing, wanted.min(store.current().needed_from()), Lsn::FIRST)?.base;
        dispose_below(dir, store, &listing, start, dispose)?;
    }
    let before = store.current_with_streams();
    let wanted = wanted.min(before.needed_from());
    if standing_in(dir, &listing, wanted, before.log_start)?.base > before.log_start {
        sync_names(dir)?;
        let granted = raise_floor(dir, &listing, pins, wanted, before.log_start)?;
        let changed = store.try_change(Some(ReserveFor::Cut), |manifest| {
            // A hold may have been set since.
            let start = match manifest.needed_from() {
                needed if needed < granted => standing_in(dir, &listing, needed, manifest.log_start)?.base,
                _ => granted,
            };
            manifest.log_start = start;
            // What stands before a segment was durable before the segment was.
            manifest.durable = manifest.durable.max(durable).max(start.prev());
            manifest.ages.retain(|age| age.base >= start);
            // Nothing leads there any more.
            manifest.restore_points.retain(|point| point.lsn.next() >= start);
            Ok::<(), RecoveryError>(())
        });
        pins.lower(store.current().log_start);
        changed?;
    }
    dispose_below(dir, store, &listing, store.current().log_start, dispose)
}

/// Raises the floor of the readers to where a log of theirs may begin that gives up what lies below `wanted`; gives the floor.
fn raise_floor(
    dir: &Arc<dyn LogDir>,
    listing: &Listing,
    pins: &Pins,
    wanted: Lsn,
    start: Lsn,
) -> Result<Lsn, RecoveryError> {
    loop {
        let lowest = pins.lowest();
        let base = standing_in(dir, listing, lowest.map_or(wanted, |lowest| lowest.min(wanted)), start)?.base;
        // A reader may have come below meanwhile: headers are not read while readers wait.
        let floor = pins.raise(base, |lsn| if lsn < base { start } else { base });
        if floor >= base {
            return Ok(floor);
        }
    }
}

fn sync_names(dir: &Arc<dyn LogDir>) -> Result<(), RecoveryError> {
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("log_start_of_an_unsynced_name") {
        return Ok(());
    }
    dir.sync().map_err(RecoveryError::io("sync", path_of(dir)))
}

fn dispose_below(
    dir: &Arc<dyn LogDir>,
    store: &ManifestStore,
    listing: &Listing,
    start: Lsn,
    dispose: &mut dyn FnMut(&str) -> io::Result<Disposed>,
) -> Result<Truncation, RecoveryError> {
    let mut done = Truncation { first_lsn: start, removed: 0, recycled: 0, bytes: 0 };
    for file in listing.segments_below(start) {
        let name = file.name();
        match dispose(&name) {
            Ok(Disposed::Removed) => done.removed += 1,
            Ok(Disposed::Recycled) => done.recycled += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(RecoveryError::io("remove", name)(error)),
        }
        done.bytes = done.bytes.saturating_add(file.len);
        // Before anybody else takes what has become free.
        store.refill_reserve();
    }
    if done.removed + done.recycled > 0 {
        dir.sync().map_err(RecoveryError::io("sync", path_of(dir)))?;
        // A file system may give back what was removed only now.
        store.refill_reserve();
    }
    Ok(done)
}
