//! How much of a disk a log takes: its segments and all else in its directory. Names are listed, nothing is opened.

use std::sync::Arc;

use braidlog_format::Lsn;
use braidlog_storage::LogDir;

use crate::retention::SegmentFacts;
use crate::{RecoveryError, dir};

/// What a log's directory holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// The segments that belong to the log, in LSN order.
    pub segments: Vec<SegmentFacts>,
    /// Whether there are segment files below the log's start, which a truncation left behind.
    pub has_rubbish: bool,
    /// Bytes of all files, space that is allocated ahead included.
    pub bytes: u64,
}

impl Extent {
    /// Looks at the directory of a log that starts at `log_start`.
    ///
    /// # Errors
    /// [`RecoveryError::Io`].
    pub fn of(log_dir: &Arc<dyn LogDir>, log_start: Lsn) -> Result<Extent, RecoveryError> {
        let listed = dir::list(log_dir)?;
        let entries = log_dir.list().map_err(RecoveryError::io("list", dir::path_of(log_dir)))?;
        let all = listed.segments.len();
        let segments: Vec<_> = listed
            .segments
            .into_iter()
            .filter(|file| file.base >= log_start)
            .map(|file| SegmentFacts {
                base: file.base,
                bytes: file.len,
                packed: file.is_packed,
                sealed_at: None,
            })
            .collect();
        let bytes = entries.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.len));
        Ok(Extent { has_rubbish: segments.len() < all, segments, bytes })
    }

    /// Bytes of the segment files.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.bytes))
    }
}
