//! The keys: every option that can be written as text, what may stand behind it, and how it is written.
//!
//! The rule: whatever [`write`] writes of some options, [`KEYS`] reads to the same options. `write` takes the options apart
//! field by field, so that no field can be added and forgotten.

use std::time::Duration;

use braidlog_engine::{DurabilityMode, IoMode, OnIoError, SyncMethod};
use braidlog_recovery::{DamagePolicy, Retention};

use super::quantity::{read_duration, read_size, write_duration, write_size};
use super::value::{NONE, Value};
use crate::{CheckpointPolicy, Compression, Kinds, Options};

/// What is expected behind a key, where something else stands.
pub(super) type Expected = String;

/// A key and how it is read. In a table, what stands before a dot is the name of a table in it.
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) set: fn(&mut Options, &Value) -> Result<(), Expected>,
}

const fn key(path: &'static str, set: fn(&mut Options, &Value) -> Result<(), Expected>) -> Key {
    Key { path, set }
}

/// The key that says which options the others change.
pub(super) const PRESET: &str = "preset";

/// What `preset` may say.
pub(super) fn preset(value: &Value) -> Result<Options, Expected> {
    word(
        value,
        &[
            ("default", Options::default as fn() -> Options),
            ("max-durability", Options::max_durability),
            ("balanced", Options::balanced),
            ("high-throughput", Options::high_throughput),
            ("development", Options::development),
        ],
    )
    .map(|preset| preset())
}

/// All others, in the order in which they are set.
pub(super) const KEYS: [Key; 28] = [
    key("mode", |options, value| {
        let mode = word(value, &MODES)?;
        // The same mode keeps its delays.
        if name_of(mode) != name_of(options.mode) {
            options.mode = mode;
        }
        Ok(())
    }),
    key("mode.max_delay", |options, value| match &mut options.mode {
        DurabilityMode::GroupCommit { max_delay, .. } | DurabilityMode::AsyncBatched { max_delay, .. } => {
            set(max_delay, duration(value))
        }
        mode => Err(of_another_mode(*mode)),
    }),
    key("mode.max_batch_size", |options, value| match &mut options.mode {
        DurabilityMode::GroupCommit { max_batch_size, .. }
        | DurabilityMode::AsyncBatched { max_batch_size, .. } => set(max_batch_size, number(value)),
        mode => Err(of_another_mode(*mode)),
    }),
    key("mode.flush_interval", |options, value| match &mut options.mode {
        DurabilityMode::Async { flush_interval } => set(flush_interval, duration(value)),
        mode => Err(of_another_mode(*mode)),
    }),
    key("num_stripes", |options, value| set(&mut options.num_stripes, number(value))),
    key("stripe_capacity", |options, value| set(&mut options.stripe_capacity, memory(value))),
    key("segment_size", |options, value| set(&mut options.segment_size, size(value))),
    key("segment_age_max", |options, value| set(&mut options.segment_age_max, optional(value, duration))),
    key("write_buffer_size", |options, value| set(&mut options.write_buffer_size, memory(value))),
    key("sync_method", |options, value| set(&mut options.sync_method, word(value, &SYNC_METHODS))),
    key("io_mode", |options, value| set(&mut options.io_mode, word(value, &IO_MODES))),
    key("max_record_bytes", |options, value| set(&mut options.max_record_bytes, size(value))),
    key("on_io_error", |options, value| set(&mut options.on_io_error, word(value, &ON_IO_ERROR))),
    key("user_metadata", |options, value| set(&mut options.user_metadata, text(value).map(Vec::from))),
    key("user_metadata_hex", |options, value| set(&mut options.user_metadata, hex(value))),
    key("background_threads", |options, value| set(&mut options.background_threads, flag(value))),
    key("checkpoint_chain_max", |options, value| set(&mut options.checkpoint_chain_max, number(value))),
    key("retention.segments", |options, value| set(&mut options.retention.segments, optional(value, number))),
    key("retention.bytes", |options, value| set(&mut options.retention.bytes, optional(value, size))),
    key("retention.age", |options, value| set(&mut options.retention.age, optional(value, duration))),
    key("retention.checkpoints", |options, value| set(&mut options.retention.checkpoints, number(value))),
    key("max_log_bytes", |options, value| set(&mut options.max_log_bytes, optional(value, size))),
    key("checkpoint_policy.interval", |options, value| {
        set(&mut options.checkpoint_policy.interval, optional(value, duration))
    }),
    key("checkpoint_policy.records", |options, value| {
        set(&mut options.checkpoint_policy.records, optional(value, number))
    }),
    key("checkpoint_policy.bytes", |options, value| {
        set(&mut options.checkpoint_policy.bytes, optional(value, size))
    }),
    key("on_damage", |options, value| set(&mut options.on_damage, word(value, &ON_DAMAGE))),
    key("compression", |options, value| set(&mut options.compression, compression(value))),
    key("compression_level", |options, value| set(&mut options.compression_level, number(value))),
];

/// The key of the table of names.
pub(super) const KINDS: &str = "kinds";

/// Tables in which other keys stand.
pub(super) const GROUPS: [&str; 3] = ["mode", "retention", "checkpoint_policy"];

const MODES: [(&str, DurabilityMode); 4] = [
    ("synchronous", DurabilityMode::Synchronous),
    ("group-commit", DurabilityMode::group_commit()),
    ("async", DurabilityMode::asynchronous()),
    ("async-batched", DurabilityMode::async_batched()),
];
const SYNC_METHODS: [(&str, SyncMethod); 3] = [
    ("fdatasync", SyncMethod::Fdatasync),
    ("fsync", SyncMethod::Fsync),
    ("direct-sync", SyncMethod::DirectSync),
];
const IO_MODES: [(&str, IoMode); 3] =
    [("auto", IoMode::Auto), ("buffered", IoMode::Buffered), ("direct", IoMode::Direct)];
const ON_IO_ERROR: [(&str, OnIoError); 2] = [("poison", OnIoError::Poison), ("abort", OnIoError::Abort)];
const ON_DAMAGE: [(&str, DamagePolicy); 3] = [
    ("refuse", DamagePolicy::Refuse),
    ("until-damage", DamagePolicy::UntilDamage),
    ("skip-damaged", DamagePolicy::SkipDamaged),
];
const OFF: &str = "off";
const AT_ONCE: &str = "at-once";

/// All that can be written of these options: first what stands alone, then the tables.
pub(super) fn write(options: &Options) -> Value {
    // The storage, the clock and the listener are code.
    let Options {
        mode,
        num_stripes,
        stripe_capacity,
        segment_size,
        segment_age_max,
        write_buffer_size,
        sync_method,
        io_mode,
        max_record_bytes,
        on_io_error,
        user_metadata,
        background_threads,
        checkpoint_chain_max,
        retention: Retention { segments, bytes: retained_bytes, age, checkpoints, .. },
        max_log_bytes,
        checkpoint_policy: CheckpointPolicy { interval, records, bytes: written_bytes },
        on_damage,
        compression,
        compression_level,
        kinds,
        on_event: _,
        storage: _,
        clock: _,
    } = options;
    let mut table = Vec::new();
    let mut put = |key: &str, value: Value| table.push((key.to_owned(), value));
    let time = |duration: Duration| Value::text(write_duration(duration));
    let size = |bytes: u64| Value::text(write_size(bytes));
    let none = || Value::text(NONE);
    put("num_stripes", Value::count(*num_stripes as u64));
    put("stripe_capacity", size(*stripe_capacity as u64));
    put("segment_size", size(*segment_size));
    put("segment_age_max", segment_age_max.map_or_else(none, time));
    put("write_buffer_size", size(*write_buffer_size as u64));
    put("sync_method", Value::text(written(&SYNC_METHODS, sync_method)));
    put("io_mode", Value::text(written(&IO_MODES, io_mode)));
    put("max_record_bytes", size(*max_record_bytes));
    put("on_io_error", Value::text(written(&ON_IO_ERROR, on_io_error)));
    match std::str::from_utf8(user_metadata) {
        Ok(text) => put("user_metadata", Value::text(text)),
        Err(_) => {
            let digits = user_metadata.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            put("user_metadata_hex", Value::Text(digits));
        }
    }
    put("background_threads", Value::Flag(*background_threads));
    put("checkpoint_chain_max", Value::count(*checkpoint_chain_max as u64));
    put("max_log_bytes", max_log_bytes.map_or_else(none, size));
    put("on_damage", Value::text(written(&ON_DAMAGE, on_damage)));
    put(
        "compression",
        match *compression {
            Compression::Off => Value::text(OFF),
            Compression::AtOnce => Value::text(AT_ONCE),
            Compression::AfterAge(age) => time(age),
        },
    );
    put("compression_level", Value::Number((*compression_level).into()));
    put("mode", write_mode(*mode));
    let tables = |entries: [(&str, Value); 4]| {
        Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    put(
        "retention",
        tables([
            ("segments", segments.map_or_else(none, |segments| Value::count(segments.into()))),
            ("bytes", retained_bytes.map_or_else(none, size)),
            ("age", age.map_or_else(none, time)),
            ("checkpoints", Value::count((*checkpoints).into())),
        ]),
    );
    put(
        "checkpoint_policy",
        Value::Table(vec![
            ("interval".to_owned(), interval.map_or_else(none, time)),
            ("records".to_owned(), records.map_or_else(none, Value::count)),
            ("bytes".to_owned(), written_bytes.map_or_else(none, size)),
        ]),
    );
    let kinds = kinds.iter().map(|(kind, name)| (name.to_owned(), Value::Number(kind.0.into())));
    put(KINDS, Value::Table(kinds.collect()));
    Value::Table(table)
}

fn write_mode(mode: DurabilityMode) -> Value {
    let mut table = vec![("name".to_owned(), Value::text(name_of(mode)))];
    let mut put = |key: &str, value| table.push((key.to_owned(), value));
    let time = |duration| Value::text(write_duration(duration));
    match mode {
        DurabilityMode::GroupCommit { max_delay, max_batch_size }
        | DurabilityMode::AsyncBatched { max_delay, max_batch_size } => {
            put("max_delay", time(max_delay));
            put("max_batch_size", Value::count(max_batch_size.into()));
        }
        DurabilityMode::Async { flush_interval } => put("flush_interval", time(flush_interval)),
        _ => {}
    }
    Value::Table(table)
}

fn name_of(mode: DurabilityMode) -> &'static str {
    match mode {
        DurabilityMode::Synchronous => "synchronous",
        DurabilityMode::GroupCommit { .. } => "group-commit",
        DurabilityMode::Async { .. } => "async",
        DurabilityMode::AsyncBatched { .. } => "async-batched",
        _ => "unknown",
    }
}

fn of_another_mode(mode: DurabilityMode) -> Expected {
    format!("the mode `{}` has no such setting", name_of(mode))
}

fn written<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, of)| of == value).map_or("unknown", |(word, _)| word)
}

fn set<T>(field: &mut T, read: Result<T, Expected>) -> Result<(), Expected> {
    *field = read?;
    Ok(())
}

/// One of these words, in any case, with either `-` or `_`.
fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Expected> {
    let found = match value {
        Value::Text(text) => {
            let text = text.trim().to_ascii_lowercase().replace('_', "-");
            words.iter().find(|(word, _)| *word == text)
        }
        _ => None,
    };
    found.map(|(_, of)| *of).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("one of {} is expected", names.join(", "))
    })
}

fn flag(value: &Value) -> Result<bool, Expected> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        other => word(other, &[("true", true), ("false", false)]),
    }
}

fn text(value: &Value) -> Result<String, Expected> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err("a text is expected".to_owned()),
    }
}

/// A whole number that the field can hold. What it should be is checked when the log is opened.
fn number<T: TryFrom<i128> + Bounds>(value: &Value) -> Result<T, Expected> {
    let number = match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("a whole number from {} to {} is expected", T::LEAST, T::MOST))
}

/// What a field can hold.
trait Bounds {
    const LEAST: i128;
    const MOST: i128;
}

macro_rules! bounds {
    ($($number:ty),*) => { $(
        impl Bounds for $number {
            const LEAST: i128 = <$number>::MIN as i128;
            const MOST: i128 = <$number>::MAX as i128;
        }
    )* };
}

bounds!(u8, u32, u64, usize, i32);

fn size(value: &Value) -> Result<u64, Expected> {
    let read = match value {
        Value::Text(text) => read_size(text),
        _ => None,
    };
    read.or_else(|| number(value).ok()).ok_or_else(|| {
        "a size like \"64 MiB\", or a number of bytes, is expected; units are B, KiB, MiB, GiB and TiB"
            .to_owned()
    })
}

fn memory(value: &Value) -> Result<usize, Expected> {
    usize::try_from(size(value)?).map_err(|_| format!("the most is {}", usize::MAX))
}

fn duration(value: &Value) -> Result<Duration, Expected> {
    let read = match value {
        Value::Text(text) => read_duration(text),
        _ => None,
    };
    read.or_else(|| number(value).ok().map(Duration::from_millis)).ok_or_else(|| {
        "a duration like \"100 ms\", or a number of milliseconds, is expected; units are ns, us, ms, s, m, h and d"
            .to_owned()
    })
}

fn optional<T>(value: &Value, read: impl Fn(&Value) -> Result<T, Expected>) -> Result<Option<T>, Expected> {
    match value {
        Value::Text(text) if text.trim().eq_ignore_ascii_case(NONE) => Ok(None),
        value => read(value).map(Some).map_err(|expected| format!("{expected}; or \"none\"")),
    }
}

fn compression(value: &Value) -> Result<Compression, Expected> {
    let words = [(OFF, Compression::Off), (AT_ONCE, Compression::AtOnce)];
    word(value, &words)
        .or_else(|_| duration(value).map(Compression::AfterAge))
        .map_err(|_| "\"off\", \"at-once\" or the age of a segment, like \"24 h\", is expected".to_owned())
}

fn hex(value: &Value) -> Result<Vec<u8>, Expected> {
    let expected = || "an even number of hexadecimal digits is expected".to_owned();
    let digits = text(value).map_err(|_| expected())?;
    let digits: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let (pairs, rest) = digits.as_deref().ok_or_else(expected)?.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(expected());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A kind of the table of names.
pub(super) fn kind(value: &Value) -> Result<u8, Expected> {
    number(value)
        .ok()
        .filter(|kind| *kind <= 239)
        .ok_or_else(|| "a kind from 0 to 239 is expected".to_owned())
}

/// The names of kinds as one text: `order=7, payment=8`.
pub(super) fn kinds(value: &Value) -> Result<Kinds, Expected> {
    let expected = || "names with kinds from 0 to 239, like \"order=7, payment=8\", are expected".to_owned();
    let named = text(value).map_err(|_| expected())?;
    let named = named.split(',').filter(|one| !one.trim().is_empty()).map(|one| {
        let (name, number) = one.split_once('=').ok_or_else(expected)?;
        let kind = kind(&Value::text(number)).map_err(|_| expected())?;
        Ok((kind, name.trim().to_owned()))
    });
    named.collect()
}
