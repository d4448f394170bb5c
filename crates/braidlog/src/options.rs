//! Every setting of a log: plain data, checked once when the log is opened.
//!
//! The rule: nothing below this file checks a setting again, and a bad value is refused before the file
//! system is touched, with an error that names the field, the value and the limit.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braidlog_engine::{DurabilityMode, IoMode, OnIoError, Settings, SyncMethod};
use braidlog_format::{BLOCK_LEN, USER_METADATA_MAX, UserMetadata};
use braidlog_recovery::{DamagePolicy, Retention, VerifyProgress, VerifyReport};
use braidlog_storage::{Clock, OsStorage, Storage, SystemClock};

use crate::event::Listener;
use crate::{
    CheckpointPolicy, Compression, Damaged, Error, Event, Kinds, ReadOnly, Result, Wal, open, read_only,
    repair,
};

const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// How a log is opened. Made by [`Wal::options`], or by a [preset](#presets); set fields or chain the methods of the same
/// names.
///
/// A value lasts as long as the handle: the same directory may be opened with other options next time.
///
/// ```
/// use braidlog::{DurabilityMode, Wal};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("wal");
/// let wal = Wal::options().mode(DurabilityMode::Synchronous).num_stripes(4).open(path)?;
/// assert_eq!(wal.num_stripes(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// When an append returns.
    ///
    /// Default: [`DurabilityMode::group_commit`], 10 ms and 200 records. Minimum and maximum: a
    /// `GroupCommit` delay is at most 1 h (0 never holds a round back); the delay or interval of the
    /// asynchronous modes is 100 us to 1 h; `max_batch_size` is at least 1.
    pub mode: DurabilityMode,
    /// How many stripes the writers are spread over. About as many as threads write at once; each costs
    /// [`stripe_capacity`](Options::stripe_capacity) of memory. Rounded up to a power of two: see
    /// [`Wal::num_stripes`].
    ///
    /// Default: 16. Minimum: 1. Maximum: 1024.
    pub num_stripes: usize,
    /// Bytes of each stripe: what writers may be ahead of the disk. Larger records travel beside the
    /// stripes. Rounded up to a power of two.
    ///
    /// Default: 1 MiB. Minimum: 4 KiB. Maximum: 1 GiB, and 64 GiB for all stripes together.
    pub stripe_capacity: usize,
    /// Bytes of a segment file after which the next one begins. No cap: a batch that needs more gets a larger
    /// segment.
    ///
    /// Default: 64 MiB. Minimum: 64 KiB. Maximum: 1 TiB.
    pub segment_size: u64,
    /// The age at which a segment that holds a record makes way for the next one, whatever its size.
    ///
    /// Default: none. Minimum: 1 ms. Maximum: 100 years of 365 days.
    pub segment_age_max: Option<Duration>,
    /// Bytes of each buffer in which entries are gathered and written. Rounded up to a multiple of 4096. There is one;
    /// a log with background threads makes two more when it first fills one, to write one while it fills the next.
    ///
    /// Default: 1 MiB. Minimum: 8 KiB. Maximum: 256 MiB.
    pub write_buffer_size: usize,
    /// The system call that makes writes durable.
    ///
    /// Default: [`SyncMethod::Fdatasync`]. [`SyncMethod::DirectSync`] cannot go with [`IoMode::Buffered`].
    pub sync_method: SyncMethod,
    /// Whether writes go through the page cache. A mode that is set here and that the file system lacks is an
    /// error at open.
    ///
    /// Default: [`IoMode::Auto`], chosen by a probe at open.
    pub io_mode: IoMode,
    /// The largest payload of one record, in bytes. The payloads of a batch count together, with 40 bytes more
    /// for each record after the first. Exactly this many are accepted.
    ///
    /// Default: 64 MiB. Minimum: 1. Maximum: 1 GiB.
    pub max_record_bytes: u64,
    /// What happens when a write or a sync fails: the log fails for good and says so, or the process aborts.
    ///
    /// Default: [`OnIoError::Poison`].
    pub on_io_error: OnIoError,
    /// Bytes of the application's own, kept in the header of every segment that this handle creates.
    ///
    /// Default: none. Maximum: 256 bytes.
    pub user_metadata: Vec<u8>,
    /// Whether the log has threads of its own. Without them every call does the work that it needs, and nothing
    /// happens between calls: a record of the asynchronous modes becomes durable when somebody waits for it or
    /// polls its ticket, at a flush, at close, or when a stripe is full. For deterministic simulation.
    ///
    /// Default: true.
    pub background_threads: bool,
    /// The most checkpoints in a row that hold [changes](crate::Checkpoint::incremental) only; the next one holds all of
    /// the state. More make checkpoints cheaper, and recovery longer.
    ///
    /// Default: 8. Minimum: 0, which makes every checkpoint hold all. Maximum: 64.
    pub checkpoint_chain_max: usize,
    /// What the log keeps beyond what is needed. What a checkpoint, a hold or a reader needs stays whatever the limits
    /// are, and a log without a checkpoint keeps everything.
    ///
    /// Default: the newest 10 segments, and 2 checkpoints. Minimum: 1 segment, 1 checkpoint.
    pub retention: Retention,
    /// Bytes of all files of the log that it should not exceed. From 80 % on its size is a
    /// [`Warning`](crate::SizeState::Warning), from 90 % on it is [`Critical`](crate::SizeState::Critical): told by
    /// [`Event::SizeChanged`](crate::Event::SizeChanged), [`Wal::health`] and [`Wal::upkeep`]. Segments that only the
    /// limits of the retention keep go before it is a warning, unless it [keeps all](Retention::keep_all). No append is
    /// refused and nothing that is needed goes: take checkpoints, and release holds.
    ///
    /// Default: none. Minimum: four times [`segment_size`](Options#structfield.segment_size), for the segment under
    /// the pen and the files that are made ahead of it.
    pub max_log_bytes: Option<u64>,
    /// When a checkpoint is due. It is taken by the application, or by what it registers with
    /// [`Wal::set_snapshot_source`].
    ///
    /// Default: after 5 min or 1,000 records. Minimum: 1 ms, 1 record, 1 byte.
    pub checkpoint_policy: CheckpointPolicy,
    /// What happens when acknowledged records cannot be read back. With another policy than
    /// [`Refuse`](DamagePolicy::Refuse) opening reads all of the log, repairs what is damaged as [`repair`](crate::repair()) does,
    /// and says so in [`RecoveryReport::repaired`](crate::RecoveryReport#structfield.repaired): what is given up is gone for
    /// every later opening.
    ///
    /// Default: [`DamagePolicy::Refuse`]: the log is not opened, and no file is changed.
    pub on_damage: DamagePolicy,
    /// Whether finished segments are compressed, and when. That needs the cargo feature `zstd`, here and wherever the log is
    /// read. See also [`Wal::compress`].
    ///
    /// Default: [`Compression::Off`]. Maximum of an age: 100 years of 365 days.
    pub compression: Compression,
    /// The level of zstd with which segments are compressed: a higher one makes them smaller, and takes longer to make.
    ///
    /// Default: 3. Minimum: 1. Maximum: 19.
    pub compression_level: i32,
    /// Names for the kinds of records, to be looked up with [`Wal::kind`] and [`Wal::kind_name`].
    ///
    /// Default: none. Kinds 0 to 239; names of 1 to 64 bytes.
    pub kinds: Kinds,
    /// Who is told what happens in the upkeep of the log. It is called by the log's maintenance thread, or by the
    /// thread that makes a call which does the work; meanwhile upkeep stands still, and nothing else does.
    ///
    /// Default: nobody.
    pub on_event: Option<Listener>,
    /// Where the files are. Default: the operating system.
    pub storage: Arc<dyn Storage>,
    /// Where time comes from. With [`background_threads`](Options#structfield.background_threads) it must go on by
    /// itself: a round of group commit that is held back waits for it.
    ///
    /// Default: the system's clocks.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            mode: DurabilityMode::group_commit(),
            num_stripes: 16,
            stripe_capacity: MIB as usize,
            segment_size: 64 * MIB,
            segment_age_max: None,
            write_buffer_size: MIB as usize,
            sync_method: SyncMethod::Fdatasync,
            io_mode: IoMode::Auto,
            max_record_bytes: 64 * MIB,
            on_io_error: OnIoError::Poison,
            user_metadata: Vec::new(),
            background_threads: true,
            checkpoint_chain_max: 8,
            retention: Retention::default(),
            max_log_bytes: None,
            checkpoint_policy: CheckpointPolicy::default(),
            on_damage: DamagePolicy::Refuse,
            compression: Compression::Off,
            compression_level: 3,
            kinds: Kinds::new(),
            on_event: None,
            storage: Arc::new(OsStorage),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// One builder method for each field: it sets the field and hands the options on.
macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](Options#structfield.", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Options {
                self.$field = $field;
                self
            }
        )*
    };
}

impl Options {
    setters! {
        mode: DurabilityMode,
        num_stripes: usize,
        stripe_capacity: usize,
        segment_size: u64,
        segment_age_max: Option<Duration>,
        write_buffer_size: usize,
        sync_method: SyncMethod,
        io_mode: IoMode,
        max_record_bytes: u64,
        on_io_error: OnIoError,
        background_threads: bool,
        checkpoint_chain_max: usize,
        retention: Retention,
        max_log_bytes: Option<u64>,
        checkpoint_policy: CheckpointPolicy,
        on_damage: DamagePolicy,
        compression: Compression,
        compression_level: i32,
        kinds: Kinds,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    }

    /// Sets [`user_metadata`](Options#structfield.user_metadata).
    #[must_use]
    pub fn user_metadata(mut self, user_metadata: impl Into<Vec<u8>>) -> Options {
        self.user_metadata = user_metadata.into();
        self
    }

    /// Sets [`on_event`](Options#structfield.on_event): `listener` is told.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Options {
        self.on_event = Some(Listener::new(listener));
        self
    }

    /// Opens the log in the directory `path` for writing: makes the directory if there is none, takes its
    /// lock, recovers what it holds, and is ready to append. [`Wal::recovery_report`] says what was found.
    ///
    /// Threads of the log start here, and end at [`Wal::close`] or when the last handle is dropped.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a bad option, before anything is touched;
    /// [`Locked`](crate::ErrorKind::Locked) if another handle or process writes there;
    /// [`Foreign`](crate::ErrorKind::Foreign) if the path is a file or holds another program's;
    /// [`Newer`](crate::ErrorKind::Newer), [`Damaged`](crate::ErrorKind::Damaged) for what recovery finds;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an `io_mode` or `sync_method` that the file system
    /// lacks; [`Io`](crate::ErrorKind::Io) and [`NoSpace`](crate::ErrorKind::NoSpace) from the system. No
    /// acknowledged record is lost by any of them, and the directory can be opened once the cause is gone.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Wal> {
        open::open(self, path.as_ref())
    }

    /// Opens the log in the directory `path` for reading, as [`Wal::open_read_only`], in this
    /// [`storage`](Options#structfield.storage).
    ///
    /// # Errors
    /// As [`Wal::open_read_only`].
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<ReadOnly> {
        read_only::open(&self.storage, path.as_ref())
    }

    /// Reads the log in the directory `path` as this [`on_damage`](Options#structfield.on_damage) would keep it, as
    /// [`read_damaged`](crate::read_damaged), in this [`storage`](Options#structfield.storage).
    ///
    /// # Errors
    /// As [`read_damaged`](crate::read_damaged).
    pub fn read_damaged(&self, path: impl AsRef<Path>) -> Result<Damaged> {
        repair::read_damaged_in(&*self.storage, path.as_ref(), self.on_damage, &mut |_| ())
    }

    /// Checks every byte of the log in the directory `path`, as [`verify_with`](crate::verify_with), in this
    /// [`storage`](Options#structfield.storage).
    ///
    /// # Errors
    /// As [`verify_with`](crate::verify_with).
    pub fn verify(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(VerifyProgress),
    ) -> Result<VerifyReport> {
        let threads = if self.background_threads { read_only::verifying_threads() } else { 1 };
        read_only::verify_in(&*self.storage, path.as_ref(), threads, &mut progress)
    }

    /// The settings that the engine trusts.
    pub(crate) fn check(&self, salt_seed: u64) -> Result<Settings> {
        check_mode(&self.mode)?;
        within("num_stripes", self.num_stripes as u64, 1, 1024)?;
        within("stripe_capacity", self.stripe_capacity as u64, 4 * KIB, GIB)?;
        let num_stripes = self.num_stripes.next_power_of_two();
        let stripe_capacity = self.stripe_capacity.next_power_of_two();
        if num_stripes as u64 * stripe_capacity as u64 > 64 * GIB {
            return Err(Error::option(
                "stripe_capacity",
                format!("{stripe_capacity} for each of {num_stripes} stripes"),
                format!("all stripes together may have at most {}", 64 * GIB),
            ));
        }
        within("segment_size", self.segment_size, 64 * KIB, 1024 * GIB)?;
        if let Some(age) = self.segment_age_max {
            duration("segment_age_max", age, Duration::from_millis(1), 100 * 365 * DAY)?;
        }
        within("write_buffer_size", self.write_buffer_size as u64, 8 * KIB, 256 * MIB)?;
        within("max_record_bytes", self.max_record_bytes, 1, GIB)?;
        if self.sync_method == SyncMethod::DirectSync && self.io_mode == IoMode::Buffered {
            return Err(Error::option(
                "sync_method",
                "DirectSync",
                "it needs direct I/O: set `io_mode` to Auto or Direct",
            ));
        }
        within("checkpoint_chain_max", self.checkpoint_chain_max as u64, 0, 64)?;
        within("retention.segments", self.retention.segments.map_or(1, u64::from), 1, u64::MAX)?;
        within("retention.checkpoints", u64::from(self.retention.checkpoints), 1, u64::MAX)?;
        if let Some(bytes) = self.max_log_bytes {
            within("max_log_bytes", bytes, 4 * self.segment_size, u64::MAX)?;
        }
        self.checkpoint_policy.check()?;
        if let Compression::AfterAge(age) = self.compression {
            duration("compression", age, Duration::ZERO, 100 * 365 * DAY)?;
        }
        if self.compression != Compression::Off && !cfg!(feature = "zstd") {
            let value = format!("{:?}", self.compression);
            return Err(Error::option("compression", value, "this build has not the cargo feature `zstd`"));
        }
        level("compression_level", self.compression_level)?;
        self.kinds.check()?;
        let user_metadata = UserMetadata::new(&self.user_metadata).ok_or_else(|| {
            let len = self.user_metadata.len();
            Error::option(
                "user_metadata",
                format!("{len} bytes long"),
                format!("the most is {USER_METADATA_MAX}"),
            )
        })?;
        Ok(Settings {
            num_stripes,
            stripe_capacity,
            segment_size: self.segment_size,
            segment_age_max: self.segment_age_max,
            write_buffer_size: self.write_buffer_size.next_multiple_of(BLOCK_LEN as usize),
            mode: self.mode,
            sync_method: self.sync_method,
            io_mode: self.io_mode,
            on_io_error: self.on_io_error,
            max_record_bytes: self.max_record_bytes,
            user_metadata,
            salt_seed,
            background: self.background_threads,
        })
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const PACE_MIN: Duration = Duration::from_micros(100);

fn check_mode(mode: &DurabilityMode) -> Result<()> {
    let batch = |max_batch_size: u32| {
        within("mode.max_batch_size", u64::from(max_batch_size), 1, u64::from(u32::MAX))
    };
    match *mode {
        DurabilityMode::Synchronous => Ok(()),
        DurabilityMode::GroupCommit { max_delay, max_batch_size } => {
            duration("mode.max_delay", max_delay, Duration::ZERO, HOUR)?;
            batch(max_batch_size)
        }
        DurabilityMode::Async { flush_interval } => {
            duration("mode.flush_interval", flush_interval, PACE_MIN, HOUR)
        }
        DurabilityMode::AsyncBatched { max_delay, max_batch_size } => {
            duration("mode.max_delay", max_delay, PACE_MIN, HOUR)?;
            batch(max_batch_size)
        }
        // A mode that is added without its limits here is not let through unchecked.
        _ => Err(Error::option("mode", format!("{mode:?}"), "its limits are not known")),
    }
}

pub(crate) fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<()> {
    if value < min {
        return Err(Error::option(field, value.to_string(), format!("the least is {min}")));
    }
    if value > max {
        return Err(Error::option(field, value.to_string(), format!("the most is {max}")));
    }
    Ok(())
}

/// Whether there is this level of zstd.
pub(crate) fn level(field: &'static str, level: i32) -> Result<()> {
    match u64::try_from(level) {
        Ok(level) => within(field, level, 1, 19),
        Err(_) => Err(Error::option(field, level.to_string(), "the least is 1")),
    }
}

pub(crate) fn duration(field: &'static str, value: Duration, min: Duration, max: Duration) -> Result<()> {
    if value < min {
        return Err(Error::option(field, format!("{value:?}"), format!("the least is {min:?}")));
    }
    if value > max {
        return Err(Error::option(field, format!("{value:?}"), format!("the most is {max:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_defaults_are_lawful_and_documented() {
        let settings = Options::default().check(0).unwrap();
        assert_eq!(settings.num_stripes, 16);
        assert_eq!(settings.stripe_capacity, 1 << 20);
        assert_eq!(settings.segment_size, 64 << 20);
        assert_eq!(settings.write_buffer_size, 1 << 20);
        assert_eq!(settings.max_record_bytes, 64 << 20);
        assert_eq!(settings.mode, DurabilityMode::group_commit());
        assert!(settings.background);
    }

    #[test]
    fn odd_sizes_are_rounded_up() {
        let options = Options::default().num_stripes(9).stripe_capacity(5000).write_buffer_size(8193);
        let settings = options.check(0).unwrap();
        assert_eq!(settings.num_stripes, 16);
        assert_eq!(settings.stripe_capacity, 8192);
        assert_eq!(settings.write_buffer_size, 12288);
    }

    #[test]
    fn a_limit_itself_is_accepted_and_one_beyond_is_refused() {
        let base = Options::default;
        let ms = Duration::from_millis;
        let mode = |mode| base().mode(mode);
        let group = |max_delay, max_batch_size| DurabilityMode::GroupCommit { max_delay, max_batch_size };
        let batched = |max_delay, max_batch_size| DurabilityMode::AsyncBatched { max_delay, max_batch_size };
        for lawful in [
            base().num_stripes(1),
            base().num_stripes(1024),
            base().stripe_capacity(4096),
            base().stripe_capacity(1 << 30),
            base().segment_size(64 << 10),
            base().segment_size(1 << 40),
            base().segment_age_max(Some(ms(1))),
            base().write_buffer_size(8192),
            base().max_record_bytes(1),
            base().max_record_bytes(1 << 30),
            base().user_metadata([7; 256]),
            base().checkpoint_chain_max(0),
            base().checkpoint_chain_max(64),
            base().retention(Retention::segments(1).checkpoints(1)),
            base().max_log_bytes(Some(256 << 20)),
            base().compression_level(1),
            base().compression_level(19),
            mode(group(Duration::ZERO, 1)),
            mode(DurabilityMode::Async { flush_interval: PACE_MIN }),
        ] {
            lawful.check(0).unwrap();
        }
        for (options, field, value, limit) in [
            (base().num_stripes(0), "num_stripes", "0", "1"),
            (base().num_stripes(1025), "num_stripes", "1025", "1024"),
            (base().num_stripes(usize::MAX), "num_stripes", "18446744073709551615", "1024"),
            (base().stripe_capacity(4095), "stripe_capacity", "4095", "4096"),
            (base().stripe_capacity((1 << 30) + 1), "stripe_capacity", "1073741825", "1073741824"),
            (base().num_stripes(1024).stripe_capacity(1 << 27), "stripe_capacity", "1024", "68719476736"),
            (base().segment_size(65535), "segment_size", "65535", "65536"),
            (base().segment_size((1 << 40) + 1), "segment_size", "1099511627777", "1099511627776"),
            (base().segment_age_max(Some(Duration::ZERO)), "segment_age_max", "0ns", "1ms"),
            (base().segment_age_max(Some(Duration::MAX)), "segment_age_max", "s", "3153600000s"),
            (base().write_buffer_size(8191), "write_buffer_size", "8191", "8192"),
            (base().write_buffer_size((256 << 20) + 1), "write_buffer_size", "268435457", "268435456"),
            (base().max_record_bytes(0), "max_record_bytes", "0", "1"),
            (base().max_record_bytes((1 << 30) + 1), "max_record_bytes", "1073741825", "1073741824"),
            (base().user_metadata([7; 257]), "user_metadata", "257", "256"),
            (base().checkpoint_chain_max(65), "checkpoint_chain_max", "65", "64"),
            (base().retention(Retention::segments(0)), "retention.segments", "0", "1"),
            (base().retention(Retention::keep_all().checkpoints(0)), "retention.checkpoints", "0", "1"),
            (base().max_log_bytes(Some((256 << 20) - 1)), "max_log_bytes", "268435455", "268435456"),
            (
                base().checkpoint_policy(CheckpointPolicy::never().interval(Some(Duration::ZERO))),
                "checkpoint_policy.interval",
                "0ns",
                "1ms",
            ),
            (
                base().checkpoint_policy(CheckpointPolicy::never().records(Some(0))),
                "checkpoint_policy.records",
                "0",
                "1",
            ),
            (base().compression_level(0), "compression_level", "0", "1"),
            (base().compression_level(-5), "compression_level", "-5", "1"),
            (base().compression_level(20), "compression_level", "20", "19"),
            (base().compression(Compression::AfterAge(Duration::MAX)), "compression", "s", "3153600000s"),
            (mode(group(ms(1), 0)), "max_batch_size", "0", "1"),
            (mode(group(HOUR + ms(1), 1)), "max_delay", "3600.001s", "3600s"),
            (mode(batched(Duration::ZERO, 1)), "max_delay", "0ns", "100µs"),
            (mode(batched(ms(1), 0)), "max_batch_size", "0", "1"),
            (
                mode(DurabilityMode::Async { flush_interval: Duration::ZERO }),
                "flush_interval",
                "0ns",
                "100µs",
            ),
            (
                base().sync_method(SyncMethod::DirectSync).io_mode(IoMode::Buffered),
                "sync_method",
                "DirectSync",
                "io_mode",
            ),
        ] {
            let error = options.check(0).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!([field, value, limit].iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_log_that_compresses_needs_the_cargo_feature() {
        for compression in [Compression::AtOnce, Compression::AfterAge(Duration::from_secs(1))] {
            let checked = Options::default().compression(compression).check(0);
            if cfg!(feature = "zstd") {
                checked.unwrap();
            } else {
                let error = checked.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("cargo feature `zstd`"), "{error}");
            }
        }
    }
}
