//! Options drawn at random, small: each incarnation of a log gets others than the one before.
//!
//! The rule: sizes are the least that the options allow, so that rings fill up, rounds end and segments
//! follow one another within a few records; and a log of one mix must open in every other.

use std::time::Duration;

use braidlog::{CheckpointPolicy, Durability, DurabilityMode, IoMode, Options, Retention, SyncMethod, Wal};
use braidlog_sim::{Rng, STAMP_LEN};

/// Where the log is on its disk.
pub const PATH: &str = "wal";

/// The least of everything, without threads; on no storage yet.
pub fn plain() -> Options {
    Wal::options()
        .num_stripes(1)
        .stripe_capacity(4096)
        .segment_size(64 << 10)
        .write_buffer_size(8192)
        .background_threads(false)
        .checkpoint_policy(CheckpointPolicy::never())
}

/// Any lawful mix of small options, without threads; on no storage yet.
pub fn mixed(rng: &mut Rng) -> Options {
    let (io_mode, sync_method) = ways_of_io()[rng.index(5)];
    let options = plain()
        .mode(any_mode(rng))
        .num_stripes(1 << rng.below(3))
        .stripe_capacity(4096 << rng.below(2))
        .write_buffer_size(8192 + 4096 * rng.index(3))
        .io_mode(io_mode)
        .sync_method(sync_method)
        .retention(Retention::segments(1 + rng.below(3) as u32).checkpoints(1 + rng.below(2) as u32))
        .checkpoint_chain_max(rng.index(3))
        .user_metadata(vec![7; if rng.one_in(4) { rng.index(257) } else { 0 }]);
    // An age is what makes segments tiny: the clock moves on between records, and the next one begins.
    if rng.one_in(2) { options.segment_age_max(Some(AGE)) } else { options }
}

/// The age at which a mix ends its segments, where it does.
pub const AGE: Duration = Duration::from_millis(1);

fn ways_of_io() -> [(IoMode, SyncMethod); 5] {
    [
        (IoMode::Auto, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fdatasync),
        (IoMode::Buffered, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::Fsync),
        (IoMode::Direct, SyncMethod::DirectSync),
    ]
}

fn any_mode(rng: &mut Rng) -> DurabilityMode {
    let ms = Duration::from_millis(rng.below(3));
    let max_batch_size = 1 + rng.below(5) as u32;
    match rng.below(4) {
        0 => DurabilityMode::Synchronous,
        1 => DurabilityMode::GroupCommit { max_delay: ms, max_batch_size },
        2 => DurabilityMode::Async { flush_interval: ms + AGE },
        _ => DurabilityMode::AsyncBatched { max_delay: ms + AGE, max_batch_size },
    }
}

/// Any durability.
pub fn any_durability(rng: &mut Rng) -> Durability {
    [Durability::Synchronous, Durability::GroupCommit, Durability::Async][rng.index(3)]
}

/// Length of a payload in bytes: mostly small, now and then one that fills blocks, a ring, or goes beside the
/// rings; very rarely one that is larger than all that may be outstanding.
pub fn any_len(rng: &mut Rng) -> usize {
    let bound = match rng.below(400) {
        0 => 1_200_000,
        1..8 => 20_000,
        8..40 => 5_000,
        40..80 => 2_000,
        _ => 120,
    };
    STAMP_LEN + rng.index(bound)
}
