//! How far the reading of a damaged log has come.
//!
//! The rule: it is told by bytes of files, which are known beforehand; how many records there are is not.

/// How far the reading of a damaged log has come, which is most of what a repair does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RepairProgress {
    /// Name of the segment that is being read; empty once all of them are.
    pub segment: String,
    /// Segments that are done.
    pub segments_done: usize,
    /// Segments in all.
    pub segments_total: usize,
    /// Bytes of segments that were passed, a packed one counted as it was before.
    pub bytes_done: u64,
    /// Bytes of all segments.
    pub bytes_total: u64,
}

/// Bytes between two calls.
const TELL_LEN: u64 = 1 << 20;

/// Who is told.
pub(crate) struct Teller<'a> {
    tell: &'a mut dyn FnMut(&RepairProgress),
    now: RepairProgress,
    /// Bytes of the segments that are done.
    before: u64,
}

impl Teller<'_> {
    /// Of files with these lengths.
    pub(crate) fn new<'a>(
        tell: &'a mut dyn FnMut(&RepairProgress),
        lens: impl ExactSizeIterator<Item = u64>,
    ) -> Teller<'a> {
        let segments_total = lens.len();
        let bytes_total = lens.fold(0, u64::saturating_add);
        let now = RepairProgress { segments_total, bytes_total, ..RepairProgress::default() };
        Teller { tell, now, before: 0 }
    }

    /// The file of this name is read now.
    pub(crate) fn begin(&mut self, segment: &str) {
        segment.clone_into(&mut self.now.segment);
        (self.tell)(&self.now);
    }

    /// Its bytes before this offset were passed.
    pub(crate) fn reach(&mut self, offset: u64) {
        let bytes_done = self.before.saturating_add(offset).min(self.now.bytes_total);
        if bytes_done.saturating_sub(self.now.bytes_done) >= TELL_LEN {
            self.now.bytes_done = bytes_done;
            (self.tell)(&self.now);
        }
    }

    /// It has been read, all of it.
    pub(crate) fn end(&mut self, len: u64) {
        self.before = self.before.saturating_add(len);
        self.now.segments_done += 1;
        self.now.bytes_done = self.before;
        self.now.segment.clear();
        (self.tell)(&self.now);
    }
}
