//! What stands in a log's directory: names sorted into what they mean. Nothing is opened.

use std::sync::Arc;

use braidlog_format::{
    CHECKPOINT_RESERVE_NAME, CheckpointName, Lsn, MANIFEST_NAME, MANIFEST_NEW_NAME, MANIFEST_RESERVE_NAMES,
    PackedName, SegmentName, TornName, parse_unfinished_checkpoint, parse_unfinished_packed,
};
use braidlog_storage::LogDir;

use crate::segment_file::base_of;
use crate::{ForeignFile, RecoveryError};

/// Files of the log that say nothing to whoever lists the directory: the lock, which is never deleted, the manifest, and
/// the reserve.
const OTHERS: [&str; 6] = [
    "LOCK",
    MANIFEST_NAME,
    MANIFEST_RESERVE_NAMES[0],
    MANIFEST_RESERVE_NAMES[1],
    MANIFEST_RESERVE_NAMES[2],
    CHECKPOINT_RESERVE_NAME,
];
/// The directory in which repairs keep what was damaged.
pub(crate) const QUARANTINE: &str = "quarantine";
/// How a prepared file's name ends.
const PREPARED: &str = ".prep";

/// A file with the name of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentFile {
    /// The base LSN that the name says.
    pub(crate) base: Lsn,
    /// Bytes of the file on the disk.
    pub(crate) len: u64,
    /// Whether it is packed.
    pub(crate) is_packed: bool,
}

impl SegmentFile {
    /// The file's name.
    pub(crate) fn name(self) -> String {
        if self.is_packed { PackedName(self.base).to_string() } else { segment_name(self.base) }
    }
}

/// The name of the segment file with this base LSN.
pub(crate) fn segment_name(base: Lsn) -> String {
    SegmentName(base).to_string()
}

/// A directory's names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    /// Segments, in LSN order. Of one that is there both packed and not, the latter.
    pub(crate) segments: Vec<SegmentFile>,
    /// Names of packed segments that are there as they were before, too.
    pub(crate) repeated: Vec<String>,
    /// Prepared files that hold no LSN.
    pub(crate) prepared: Vec<String>,
    /// Kept torn tails, the oldest first.
    pub(crate) torn: Vec<TornName>,
    /// Checkpoints, by LSN.
    pub(crate) checkpoints: Vec<CheckpointName>,
    /// Streams that were begun and never got their name.
    pub(crate) unfinished: Vec<String>,
    /// Names that mean nothing here.
    pub(crate) unknown: Vec<String>,
}

impl Listing {
    /// The segments of a log that starts at `start`.
    pub(crate) fn segments_from(&self, start: Lsn) -> &[SegmentFile] {
        self.segments.get(self.count_below(start)..).unwrap_or(&[])
    }

    /// Files of segments that are no part of a log any more that starts at `start`.
    pub(crate) fn segments_below(&self, start: Lsn) -> &[SegmentFile] {
        self.segments.get(..self.count_below(start)).unwrap_or(&[])
    }

    fn count_below(&self, start: Lsn) -> usize {
        self.segments.partition_point(|file| file.base < start)
    }
}

/// Lists a directory.
pub(crate) fn list(dir: &Arc<dyn LogDir>) -> Result<Listing, RecoveryError> {
    let entries = dir.list().map_err(RecoveryError::io("list", path_of(dir)))?;
    let mut listing = Listing::default();
    for entry in entries {
        if let Some(base) = base_of(&entry.name) {
            if !entry.is_file {
                return Err(RecoveryError::Foreign { file: entry.name, what: ForeignFile::NotAFile });
            }
            let is_packed = SegmentName::parse(&entry.name).is_none();
            listing.segments.push(SegmentFile { base, len: entry.len, is_packed });
        } else if entry.is_file && is_prepared(&entry.name) {
            listing.prepared.push(entry.name);
        } else if let (true, Some(torn)) = (entry.is_file, TornName::parse(&entry.name)) {
            listing.torn.push(torn);
        } else if let (true, Some(checkpoint)) = (entry.is_file, CheckpointName::parse(&entry.name)) {
            listing.checkpoints.push(checkpoint);
        } else if entry.is_file && is_unfinished(&entry.name) {
            listing.unfinished.push(entry.name);
        } else if !OTHERS.contains(&entry.name.as_str()) && (entry.is_file || entry.name != QUARANTINE) {
            listing.unknown.push(entry.name);
        }
    }
    listing.segments.sort_unstable_by_key(|file| (file.base, file.is_packed));
    #[cfg(braidlog_sabotage)]
    if braidlog_sabotage::is("packed_wins_over_its_original") {
        listing.segments.sort_by_key(|file| (file.base, !file.is_packed));
    }
    let repeated = &mut listing.repeated;
    listing.segments.dedup_by(|file, before| {
        let is_repeated = file.base == before.base;
        repeated.extend(is_repeated.then(|| file.name()));
        is_repeated
    });
    listing.prepared.sort_unstable();
    listing.torn.sort_unstable_by_key(|torn| (torn.incarnation, torn.base));
    listing.checkpoints.sort_unstable();
    listing.unfinished.sort_unstable();
    listing.unknown.sort_unstable();
    Ok(listing)
}

/// What the directory is called in errors.
pub(crate) fn path_of(dir: &Arc<dyn LogDir>) -> String {
    dir.path().display().to_string()
}

fn is_unfinished(name: &str) -> bool {
    name == MANIFEST_NEW_NAME
        || parse_unfinished_checkpoint(name).is_some()
        || parse_unfinished_packed(name).is_some()
}

/// Whether this is the name of a file that is on its way to another name, which an opening removes.
pub(crate) fn is_temporary(name: &str) -> bool {
    is_prepared(name) || is_unfinished(name)
}

fn is_prepared(name: &str) -> bool {
    name.strip_suffix(PREPARED)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_names_are_those_that_the_format_gives() {
        assert!(is_prepared(&braidlog_format::prepared_name(17)));
        for other in [".prep", "a.prep", "1.prep.bak", "+1.prep"] {
            assert!(!is_prepared(other), "{other}");
        }
    }
}
