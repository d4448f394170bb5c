//! Where an entry stands, nearly: what a sparse index answers.

use crate::{IndexPoint, SegmentHeader};

/// A piece of a segment in which an entry stands. It is a claim until what stands there proves itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The header of the segment.
    pub header: SegmentHeader,
    /// An entry that is the one asked for, or stands before it.
    pub from: IndexPoint,
    /// The offset at which the entry asked for has ended.
    pub to: u64,
}
