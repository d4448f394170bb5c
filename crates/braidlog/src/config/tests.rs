//! Options that go into text and come back, and text that is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use braidlog_engine::{DurabilityMode, IoMode, OnIoError, SyncMethod};
use braidlog_recovery::{DamagePolicy, Retention};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::layer::{paths, variable};
use crate::{CheckpointPolicy, Compression, ErrorKind, Kinds, Options};

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..100_000_u64).prop_map(Duration::from_millis),
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, ns)| Duration::new(seconds, ns)),
    ]
}

fn any_mode() -> impl Strategy<Value = DurabilityMode> {
    prop_oneof![
        Just(DurabilityMode::Synchronous),
        (any_duration(), any::<u32>()).prop_map(|(max_delay, max_batch_size)| DurabilityMode::GroupCommit {
            max_delay,
            max_batch_size
        }),
        any_duration().prop_map(|flush_interval| DurabilityMode::Async { flush_interval }),
        (any_duration(), any::<u32>()).prop_map(|(max_delay, max_batch_size)| DurabilityMode::AsyncBatched {
            max_delay,
            max_batch_size
        }),
    ]
}

fn any_retention() -> impl Strategy<Value = Retention> {
    (option::of(any::<u32>()), option::of(any::<u64>()), option::of(any_duration()), any::<u32>()).prop_map(
        |(segments, bytes, age, checkpoints)| {
            let mut retention = Retention::keep_all().checkpoints(checkpoints);
            (retention.segments, retention.bytes, retention.age) = (segments, bytes, age);
            retention
        },
    )
}

fn any_policy() -> impl Strategy<Value = CheckpointPolicy> {
    (option::of(any_duration()), option::of(any::<u64>()), option::of(any::<u64>())).prop_map(
        |(interval, records, bytes)| {
            CheckpointPolicy::never().interval(interval).records(records).bytes(bytes)
        },
    )
}

fn any_kinds() -> impl Strategy<Value = Kinds> {
    btree_map("[a-z]{1,9}|.{1,9}", 0..=239_u8, 0..4)
        .prop_map(|named: BTreeMap<String, u8>| named.into_iter().map(|(name, kind)| (kind, name)).collect())
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::Off),
        Just(Compression::AtOnce),
        any_duration().prop_map(Compression::AfterAge)
    ]
}

prop_compose! {
    fn any_options()(
        mode in any_mode(),
        (num_stripes, stripe_capacity, segment_size) in any::<(usize, usize, u64)>(),
        segment_age_max in option::of(any_duration()),
        (write_buffer_size, max_record_bytes, checkpoint_chain_max) in any::<(usize, u64, usize)>(),
        sync_method in prop_oneof![Just(SyncMethod::Fdatasync), Just(SyncMethod::Fsync), Just(SyncMethod::DirectSync)],
        io_mode in prop_oneof![Just(IoMode::Auto), Just(IoMode::Buffered), Just(IoMode::Direct)],
        (aborts, background_threads) in any::<(bool, bool)>(),
        user_metadata in prop_oneof![vec(any::<u8>(), 0..300), ".{0,40}".prop_map(String::into_bytes)],
        retention in any_retention(),
        max_log_bytes in option::of(any::<u64>()),
        (checkpoint_policy, kinds) in (any_policy(), any_kinds()),
        on_damage in prop_oneof![
            Just(DamagePolicy::Refuse), Just(DamagePolicy::UntilDamage), Just(DamagePolicy::SkipDamaged)
        ],
        (compression, compression_level) in (any_compression(), any::<i32>()),
    ) -> Options {
        Options {
            mode, num_stripes, stripe_capacity, segment_size, segment_age_max, write_buffer_size, sync_method, io_mode,
            max_record_bytes, user_metadata, background_threads, checkpoint_chain_max, retention, max_log_bytes,
            checkpoint_policy, on_damage, compression, compression_level, kinds,
            on_io_error: if aborts { OnIoError::Abort } else { OnIoError::Poison },
            ..Options::default()
        }
    }
}

/// All of them that is data, as one value to compare: the derived text of the options, without what is code.
fn data(options: &Options) -> String {
    let Options { on_event, storage, clock, .. } = Options::default();
    format!("{:?}", Options { on_event, storage, clock, ..options.clone() })
        .split(", storage:")
        .next()
        .map(str::to_owned)
        .unwrap_or_default()
}

proptest! {
    #[test]
    fn any_options_are_the_same_after_toml_and_json(options in any_options()) {
        let text = options.to_toml();
        let read = Options::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert_eq!(data(&read), data(&options), "{}", text);
        let json = serde_json::to_string(&options).unwrap();
        prop_assert_eq!(data(&serde_json::from_str::<Options>(&json).unwrap()), data(&options));
    }

    #[test]
    fn no_text_makes_it_panic(table in "[a-z_.]{0,12} ?=? ?[0-9a-zA-Z\". \\[\\]{}]{0,12}", name in "[A-Z_]{0,20}", value in ".{0,12}") {
        let _ = Options::from_toml(&table);
        let _ = Options::default().configured("", [(format!("BRAIDLOG_{name}"), value.clone())]);
        for path in paths() {
            let _ = Options::default().configured("", [(variable(path), value.clone())]);
        }
    }
}

#[test]
fn every_option_but_code_has_a_key_and_a_variable() {
    let written = Options::default().user_metadata([0xff]).to_toml();
    let table: toml::Table = toml::from_str(&written).unwrap();
    let mut keys = Vec::new();
    for (key, value) in &table {
        match value.as_table() {
            Some(inner) if key != "kinds" => keys.extend(inner.keys().map(|inner| format!("{key}.{inner}"))),
            _ => keys.push(key.clone()),
        }
    }
    let modes = ["mode.flush_interval", "mode", "preset", "user_metadata"].map(str::to_owned);
    let mut keys: Vec<String> = keys.into_iter().filter(|key| key != "mode.name").chain(modes).collect();
    keys.sort();
    let mut known: Vec<String> = paths().map(str::to_owned).collect();
    known.sort();
    assert_eq!(keys, known);
}

#[test]
fn tables_and_variables_say_the_same() {
    for (table, variables, expected) in [
        ("segment_size = '1 GiB'", ("SEGMENT_SIZE", "1 GiB"), Options::default().segment_size(1 << 30)),
        ("segment_size = 65536", ("SEGMENT_SIZE", "65536"), Options::default().segment_size(65536)),
        (
            "mode = 'synchronous'",
            ("MODE", "Synchronous"),
            Options::default().mode(DurabilityMode::Synchronous),
        ),
        (
            "mode = 'async_batched'",
            ("MODE", "async-batched"),
            Options::default().mode(DurabilityMode::async_batched()),
        ),
        (
            "mode.max_delay = '5 ms'",
            ("MODE_MAX_DELAY", "5"),
            Options::default().mode(DurabilityMode::GroupCommit {
                max_delay: Duration::from_millis(5),
                max_batch_size: 200,
            }),
        ),
        (
            "retention.segments = 'none'",
            ("RETENTION_SEGMENTS", "none"),
            Options::default().retention(Retention::keep_all()),
        ),
        (
            "[checkpoint_policy]\nbytes = '1 GiB'",
            ("CHECKPOINT_POLICY_BYTES", "1G"),
            Options::default().checkpoint_policy(CheckpointPolicy::default().bytes(Some(1 << 30))),
        ),
        (
            "background_threads = false",
            ("BACKGROUND_THREADS", "false"),
            Options::default().background_threads(false),
        ),
        (
            "compression = '24h'",
            ("COMPRESSION", "24 h"),
            Options::default().compression(Compression::AfterAge(Duration::from_secs(86_400))),
        ),
        (
            "on_damage = 'until-damage'",
            ("ON_DAMAGE", "until_damage"),
            Options::default().on_damage(DamagePolicy::UntilDamage),
        ),
        (
            "kinds = { order = 7, payment = 8 }",
            ("KINDS", "order=7, payment=8"),
            Options::default().kinds(Kinds::new().name(7, "order").name(8, "payment")),
        ),
        (
            "user_metadata_hex = '00ff'",
            ("USER_METADATA_HEX", "00FF"),
            Options::default().user_metadata([0, 0xff]),
        ),
        ("preset = 'high-throughput'", ("PRESET", "high_throughput"), Options::high_throughput()),
    ] {
        let (name, value) = variables;
        let by_table = Options::from_toml(table).unwrap();
        let by_variable = Options::default().configured("", [(format!("BRAIDLOG_{name}"), value)]).unwrap();
        assert_eq!(data(&by_table), data(&expected), "{table}");
        assert_eq!(data(&by_variable), data(&expected), "{name}={value}");
    }
}

#[test]
fn the_environment_goes_before_the_table_the_table_before_the_preset_and_code_before_all() {
    let table = "preset = 'balanced'\nnum_stripes = 8\nsegment_size = '1 MiB'";
    let variables = [("BRAIDLOG_SEGMENT_SIZE", "2 MiB"), ("OTHER_SEGMENT_SIZE", "3 MiB")];
    let options = Options::default().max_record_bytes(7).configured(table, variables).unwrap();
    assert_eq!(options.mode, Options::balanced().mode);
    assert_eq!((options.num_stripes, options.segment_size), (8, 2 << 20));
    assert_eq!(options.max_record_bytes, 64 << 20, "a preset takes the place of what was there");
    assert_eq!(options.segment_size(4 << 20).segment_size, 4 << 20);

    // A preset of the environment is another foundation for the same table.
    let preset = [("BRAIDLOG_PRESET", "development")];
    let options = Options::default().configured(table, preset).unwrap();
    assert_eq!((options.mode, options.num_stripes), (Options::development().mode, 8));

    // Without a preset, what was there stays; and a mode that is named again keeps its delays.
    let base = Options::balanced().max_record_bytes(7);
    let options = base.configured("mode = 'async'", [("", "")]).unwrap();
    assert_eq!((options.mode, options.max_record_bytes), (Options::balanced().mode, 7));
}

#[test]
fn what_is_wrong_is_named_with_its_key_its_value_and_what_is_expected() {
    for (table, words) in [
        ("segment_siz = 1", ["`segment_siz`", "nearest", "`segment_size`"]),
        ("mode.flush_intervall = 1", ["`mode.flush_intervall`", "nearest", "`mode.flush_interval`"]),
        ("segments = 3", ["`segments`", "nearest", "`retention.segments`"]),
        ("segment_size = '64 MB'", ["`segment_size`", "\"64 MB\"", "MiB"]),
        ("segment_size = -1", ["`segment_size`", "-1", "number of bytes"]),
        ("segment_size = [1]", ["`segment_size`", "a list", "64 MiB"]),
        ("segment_age_max = 'soon'", ["`segment_age_max`", "\"soon\"", "or \"none\""]),
        ("num_stripes = 1.5", ["`num_stripes`", "1.5", "whole number from 0 to"]),
        ("retention.checkpoints = 5000000000", ["`retention.checkpoints`", "5000000000", "4294967295"]),
        ("retention = 3", ["`retention`", "is 3", "a table of segments, bytes, age, checkpoints"]),
        ("sync_method = 'sync'", ["`sync_method`", "\"sync\"", "fdatasync, fsync, direct-sync"]),
        ("background_threads = 1", ["`background_threads`", "is 1", "true, false"]),
        ("mode = 'async'\npreset = 'fast'", ["`preset`", "\"fast\"", "balanced"]),
        ("[mode]\nname = 'async'\nmax_delay = 3", ["`mode.max_delay`", "is 3", "the mode `async`"]),
        ("kinds.order = 240", ["`kinds.order`", "240", "0 to 239"]),
        ("kinds.order = '7,'", ["`kinds.order`", "7,", "0 to 239"]),
        ("kinds = 'order'", ["`kinds`", "\"order\"", "order=7"]),
        ("user_metadata = 'a'\nuser_metadata_hex = '61'", ["`user_metadata_hex`", "\"61\"", "one of them"]),
        ("user_metadata_hex = '613'", ["`user_metadata_hex`", "613", "even number"]),
        ("compression = 'much'", ["`compression`", "much", "24 h"]),
        ("mode = {", ["line 1", "column", "mode = {"]),
        ("num_stripes = 1\nnum_stripes = 2", ["num_stripes", "line 2", "duplicate key"]),
    ] {
        let error = Options::from_toml(table).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{table}: {text}");
    }
    for (name, value, words) in [
        ("SEGMENT_SIZE", "much", ["`BRAIDLOG_SEGMENT_SIZE`", "\"much\"", "64 MiB"]),
        ("SEGMENTSIZE", "1", ["`BRAIDLOG_SEGMENTSIZE`", "nearest", "`BRAIDLOG_SEGMENT_SIZE`"]),
        ("MODE_FLUSH_INTERVAL", "1s", ["`BRAIDLOG_MODE_FLUSH_INTERVAL`", "\"1s\"", "`group-commit`"]),
        ("PRESET", "quick", ["`BRAIDLOG_PRESET`", "\"quick\"", "development"]),
        ("KINDS", "order=x", ["`BRAIDLOG_KINDS`", "order=x", "payment=8"]),
    ] {
        let error = Options::default().configured("", [(format!("BRAIDLOG_{name}"), value)]).unwrap_err();
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
    }
    let error = serde_json::from_str::<Options>(r#"{"io_mode": "fast"}"#).unwrap_err().to_string();
    assert!(
        ["`io_mode`", "\"fast\"", "auto, buffered, direct"].iter().all(|word| error.contains(word)),
        "{error}"
    );
    assert!(serde_json::from_str::<Options>("[]").unwrap_err().to_string().contains("a table is expected"));
}

/// Whoever names a service `braidlog` gets such variables from Kubernetes.
#[test]
fn variables_that_are_somebody_elses_are_left_alone() {
    let theirs = [
        ("BRAIDLOG_SERVICE_HOST", "10.0.0.1"),
        ("BRAIDLOG_PORT", "tcp://10.0.0.1"),
        ("BRAIDLOG_TEST_DIR", "/x"),
    ];
    let options = Options::default().configured("", theirs).unwrap();
    assert_eq!(data(&options), data(&Options::default()));
}

#[test]
fn limits_are_told_at_open_by_the_same_names() {
    let options = Options::from_toml("mode.max_batch_size = 0").unwrap();
    let text = options.check(0).unwrap_err().to_string();
    assert!(text.contains("`mode.max_batch_size`") && text.contains("least is 1"), "{text}");
}

#[test]
fn a_file_is_read_and_its_errors_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.toml");
    std::fs::write(&path, "num_stripes = 2").unwrap();
    assert_eq!(Options::load(&path).unwrap().num_stripes, 2);
    std::fs::write(&path, "num_stripes = 'two'").unwrap();
    let text = Options::load(&path).unwrap_err().to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("\"two\""), "{text}");
    let missing = Options::load(dir.path().join("no.toml")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Foreign);
    assert!(missing.to_string().contains("read the configuration"), "{missing}");
}

fn page() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let mut listed: Vec<&str> = rows.map(|(key, _)| key).collect();
    listed.sort_unstable();
    let mut known: Vec<&str> = paths().collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn examples_of_the_page_say_what_it_says() {
    let page = page();
    let examples = page.split("```toml\n").skip(1).map(|text| text.split("```").next().unwrap());
    let examples: Vec<Options> = examples.map(|table| Options::from_toml(table).unwrap()).collect();
    let [basic, production, balanced, durable] = &examples[..] else { panic!("{} examples", examples.len()) };
    let (second, moment) = (Duration::from_secs(1), Duration::from_millis(100));
    for (options, window, gibibytes, records, checkpoints) in [
        (basic, second, 1, 10_000, 2),
        (production, moment, 10, 100_000, 7),
        (balanced, moment, 10, 50_000, 7),
        (durable, Duration::ZERO, 50, 10_000, 7),
    ] {
        assert_eq!(options.mode.loss_window(), window);
        assert_eq!(options.max_log_bytes, Some(gibibytes << 30));
        assert_eq!(options.checkpoint_policy, CheckpointPolicy::default().records(Some(records)));
        assert_eq!(options.retention.checkpoints, checkpoints);
        options.clone().compression(Compression::Off).check(0).unwrap();
    }
    assert_eq!((production.compression, balanced.compression), (Compression::AtOnce, Compression::AtOnce));
    assert_eq!((production.segment_size, production.segment_age_max), (64 << 20, None));
    assert_eq!(durable.mode, DurabilityMode::Synchronous);
    assert!(durable.retention.keeps_all());
}
