//! A log of one small ring, which is full after a few records.

use std::sync::Arc;

use braidlog::{DurabilityMode, Options, Wal};
use braidlog_sim::SimDisk;

/// Options of such a log.
pub fn one_ring(disk: &SimDisk, mode: DurabilityMode) -> Options {
    Wal::options()
        .storage(Arc::new(disk.clone()))
        .mode(mode)
        .num_stripes(1)
        .stripe_capacity(4096)
        .segment_size(64 << 10)
}
