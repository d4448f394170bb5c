//! What the engine is told once, at the start. The facade has checked it; the engine trusts it.

use std::time::Duration;

use braidlog_format::UserMetadata;

/// When an append returns: the mode of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DurabilityMode {
    /// When its record is synced. A round is never held back; concurrent commits share a sync naturally.
    Synchronous,
    /// When the sync that covers it has completed. A round may be held back, adaptively, to gather more.
    GroupCommit {
        /// The longest that a round is held back, and after which a record that nobody waits for is synced.
        max_delay: Duration,
        /// As many waiting records as start a round at once; where threads wait for batches, a batch counts as one.
        /// Never a cap on a round.
        max_batch_size: u32,
    },
    /// When it is in a stripe. Written *and synced* in the background; a crash loses at most the interval
    /// and one round.
    Async {
        /// The longest that a record stays unsynced before a round begins.
        flush_interval: Duration,
    },
    /// As `Async`, flushed by count or delay, whichever comes first.
    AsyncBatched {
        /// The longest that a record stays unsynced before a round begins.
        max_delay: Duration,
        /// As many waiting records as start a round.
        max_batch_size: u32,
    },
}

impl DurabilityMode {
    /// Group commit with its defaults: 10 ms, 200 records.
    pub const fn group_commit() -> DurabilityMode {
        DurabilityMode::GroupCommit { max_delay: Duration::from_millis(10), max_batch_size: 200 }
    }

    /// `Async` with its default: 10 ms.
    pub const fn asynchronous() -> DurabilityMode {
        DurabilityMode::Async { flush_interval: Duration::from_millis(10) }
    }

    /// `AsyncBatched` with its defaults: 10 ms, 100 records.
    pub const fn async_batched() -> DurabilityMode {
        DurabilityMode::AsyncBatched { max_delay: Duration::from_millis(10), max_batch_size: 100 }
    }

    /// What a single append under this mode is promised.
    pub const fn durability(&self) -> Durability {
        match self {
            DurabilityMode::Synchronous => Durability::Synchronous,
            DurabilityMode::GroupCommit { .. } => Durability::GroupCommit,
            DurabilityMode::Async { .. } | DurabilityMode::AsyncBatched { .. } => Durability::Async,
        }
    }

    /// The longest that a record which nobody waits for stays unsynced before a round begins.
    pub const fn delay(&self) -> Duration {
        match *self {
            DurabilityMode::Synchronous => Duration::from_millis(10),
            DurabilityMode::GroupCommit { max_delay, .. } => max_delay,
            DurabilityMode::Async { flush_interval } => flush_interval,
            DurabilityMode::AsyncBatched { max_delay, .. } => max_delay,
        }
    }

    /// How much a crash may cost: records that were accepted longer ago are durable, but for those of the round that is
    /// under way, and those behind one whose writer was stopped before it had copied it. Zero where an append returns only
    /// when its record is durable: what returned is not lost.
    pub const fn loss_window(&self) -> Duration {
        match self.durability() {
            Durability::Synchronous | Durability::GroupCommit => Duration::ZERO,
            Durability::Async => self.delay(),
        }
    }

    /// As many waiting records as end a hold, or start a background round.
    pub(crate) const fn batch_size(&self) -> u64 {
        match *self {
            DurabilityMode::GroupCommit { max_batch_size, .. }
            | DurabilityMode::AsyncBatched { max_batch_size, .. } => max_batch_size as u64,
            DurabilityMode::Synchronous | DurabilityMode::Async { .. } => u64::MAX,
        }
    }
}

impl Default for DurabilityMode {
    fn default() -> Self {
        DurabilityMode::group_commit()
    }
}

/// What a single append is promised, whatever the log's mode. It uses the log's own delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Durable when the append returns; the round is not held back for it.
    Synchronous,
    /// Durable when the append returns; the round may be held back to gather more.
    GroupCommit,
    /// In a stripe when the append returns.
    Async,
}

/// How a round becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMethod {
    /// `fdatasync` after the writes: data, and the metadata needed to read it back.
    #[default]
    Fdatasync,
    /// `fsync` after the writes: data and all metadata.
    Fsync,
    /// Each write is durable when it returns (`O_DIRECT` and `O_DSYNC`).
    DirectSync,
}

/// How bytes travel to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoMode {
    /// Direct where the file system takes it, buffered elsewhere.
    #[default]
    Auto,
    /// Through the page cache.
    Buffered,
    /// Past the page cache.
    Direct,
}

/// What happens after a write or a sync has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnIoError {
    /// The log takes no more appends and every waiter gets the error; the process goes on.
    #[default]
    Poison,
    /// The process is aborted, so that nobody acts on anything after the failure.
    Abort,
}

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many stripes; a power of two.
    pub num_stripes: usize,
    /// Bytes of each stripe's ring; a power of two, at least 4096.
    pub stripe_capacity: usize,
    /// Bytes of a segment file at which the next is begun.
    pub segment_size: u64,
    /// Age at which a segment that holds a record is followed by the next; `None` for no limit.
    pub segment_age_max: Option<Duration>,
    /// Bytes of the buffer in which rounds are encoded; a multiple of 4096.
    pub write_buffer_size: usize,
    /// When an append returns.
    pub mode: DurabilityMode,
    /// How a round becomes durable.
    pub sync_method: SyncMethod,
    /// How bytes travel to the file.
    pub io_mode: IoMode,
    /// What happens after a write or a sync has failed.
    pub on_io_error: OnIoError,
    /// The largest payload, in bytes; of a batch all payloads together and 40 for each entry but the first.
    pub max_record_bytes: u64,
    /// Kept in every segment header.
    pub user_metadata: UserMetadata,
    /// Where the salts of segments come from; random in production.
    pub salt_seed: u64,
    /// Whether the engine has threads of its own. Without them callers drive everything: nothing happens
    /// between calls, and what nobody waits for is synced by `flush`, by `close` or when a ring is full.
    pub background: bool,
}
