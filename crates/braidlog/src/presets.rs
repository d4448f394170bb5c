//! Ready-made options, named for what they are made for.
//!
//! The rule: each says how much it may lose, and the test of the same name measures that under a kill and under a power cut.

use std::time::Duration;

use braidlog_engine::DurabilityMode;
use braidlog_recovery::Retention;

use crate::options::MIB;
use crate::{CheckpointPolicy, Options};

/// # Presets
///
/// | preset | an append returns when its record is | a crash may lose | a checkpoint is due after |
/// |---|---|---|---|
/// | [`max_durability`](Options::max_durability) | synced | nothing | 1,000 records |
/// | [the default](crate::Wal::options) | synced, together with others | nothing | 1,000 records |
/// | [`balanced`](Options::balanced) | accepted | the last 100 ms, and one round | 10,000 records |
/// | [`high_throughput`](Options::high_throughput) | accepted | the last second, and one round | 100,000 records |
/// | [`development`](Options::development) | accepted | the last 10 s, and one round | 100,000 records |
///
/// A crash is a kill of the process, a panic of the system or a power cut: records that are only accepted are in the
/// memory of the process, so all three cost the same. What is lost is a tail: never one record between others, nor a part of a
/// batch. The one round is what was being written and synced at that moment. Never more than all stripes hold is at stake
/// ([`num_stripes`](Options#structfield.num_stripes) times [`stripe_capacity`](Options#structfield.stripe_capacity)), and
/// larger records of as much memory. [`Wal::flush`](crate::Wal::flush), [`Wal::close`](crate::Wal::close) and a
/// [`Ticket`](crate::Ticket) that completed lose nothing under any preset, and single appends may
/// [ask for more](crate::Append::durability). [`DurabilityMode::loss_window`] tells the window of any mode.
///
/// What is not named is as in the default, and everything can be set afterwards:
///
/// ```
/// use std::time::Duration;
///
/// use braidlog::{DurabilityMode, Options};
///
/// let options = Options::high_throughput().mode(DurabilityMode::Async { flush_interval: Duration::from_secs(5) });
/// assert_eq!(options.mode.loss_window(), Duration::from_secs(5));
/// ```
impl Options {
    /// For what must not be lost and is written by few: every append is synced by itself, at once.
    ///
    /// [`Synchronous`](DurabilityMode::Synchronous); a checkpoint is due after 1,000 records or 5 min; the newest 7
    /// checkpoints are kept, so that six of them may be damaged.
    ///
    /// **Loss window: none.**
    pub fn max_durability() -> Options {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("preset_that_does_not_sync") {
            return asynchronous(Duration::from_secs(10)).retention(Retention::default().checkpoints(7));
        }
        Options::default()
            .mode(DurabilityMode::Synchronous)
            .checkpoint_policy(checkpoint_after(1_000))
            .retention(Retention::default().checkpoints(7))
    }

    /// For services that may lose the last moment, and no more.
    ///
    /// [`Async`](DurabilityMode::Async) with 100 ms; a checkpoint is due after 10,000 records or 5 min.
    ///
    /// **Loss window: 100 ms, and one round.**
    pub fn balanced() -> Options {
        asynchronous(Duration::from_millis(100)).checkpoint_policy(checkpoint_after(10_000))
    }

    /// For bulk: imports, metrics, events that can be had again.
    ///
    /// [`Async`](DurabilityMode::Async) with 1 s; segments of 256 MiB; a checkpoint is due after 100,000 records or 5 min.
    ///
    /// **Loss window: 1 s, and one round.** Under a load that fills the stripes sooner, rounds come sooner.
    pub fn high_throughput() -> Options {
        asynchronous(Duration::from_secs(1))
            .segment_size(256 * MIB)
            .checkpoint_policy(checkpoint_after(100_000))
    }

    /// For a developer's machine and for tests: hardly a sync, little memory, small files.
    ///
    /// [`Async`](DurabilityMode::Async) with 10 s; 4 stripes of 256 KiB; segments of 8 MiB; a checkpoint is due after
    /// 100,000 records or 5 min.
    ///
    /// **Loss window: 10 s, and one round.**
    pub fn development() -> Options {
        asynchronous(Duration::from_secs(10))
            .num_stripes(4)
            .stripe_capacity(MIB as usize / 4)
            .segment_size(8 * MIB)
            .checkpoint_policy(checkpoint_after(100_000))
    }
}

fn asynchronous(flush_interval: Duration) -> Options {
    Options::default().mode(DurabilityMode::Async { flush_interval })
}

fn checkpoint_after(records: u64) -> CheckpointPolicy {
    CheckpointPolicy::default().records(Some(records))
}
