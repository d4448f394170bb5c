//! The configuration of the command: a file, the environment over it, flags over both.

use std::fs;

use braidlog::{Lsn, Wal};
use serde_json::Value;

use crate::support::{Ended, arg, braidlog, run, run_with_input};

/// Runs a command with one variable set.
fn run_with(variable: (&str, &str), args: &[&str]) -> Ended {
    let output = braidlog(args).env(variable.0, variable.1).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_log_is_written_as_file_and_environment_and_flags_say() {
    let dir = tempfile::tempdir().unwrap();
    let (lines, config) = (dir.path().join("lines"), dir.path().join("log.toml"));
    // 128 KB of entries at least, however few blocks are filled up on the way.
    fs::write(&lines, "line\n".repeat(4000)).unwrap();
    fs::write(&config, "segment_size = '64 KiB'\nuser_metadata = 'from the file'").unwrap();
    let segments = |name: &str, variable, flags: &[&str]| {
        let log = dir.path().join(name);
        let args = ["write", arg(&log), arg(&lines), "--config", arg(&config)];
        run_with(variable, &[&args, flags].concat()).ok();
        let log = Wal::open_read_only(&log).unwrap();
        assert_eq!(log.last_lsn().unwrap(), Lsn(4000));
        log.segments().unwrap().len()
    };
    assert!(segments("file", ("OTHER", ""), &[]) > 1);
    assert_eq!(segments("environment", ("BRAIDLOG_SEGMENT_SIZE", "1 MiB"), &[]), 1);
    let over_both = ("BRAIDLOG_SEGMENT_SIZE", "1 MiB");
    assert!(segments("flag", over_both, &["--segment-size", "64K"]) > 1);
}

#[test]
fn modes_come_from_the_configuration_unless_a_flag_says_another() {
    let dir = tempfile::tempdir().unwrap();
    let (lines, log) = (dir.path().join("lines"), dir.path().join("log"));
    fs::write(&lines, "line\n".repeat(50)).unwrap();
    // Blocking appends take a sync each where they wait for it, and hardly one where they do not.
    let syncs = |flags: &[&str]| {
        let args = ["write", arg(&log), arg(&lines), "--blocking", "--json"];
        let ended = run_with(("BRAIDLOG_PRESET", "development"), &[&args, flags].concat());
        ended.ok();
        ended.json()["fsyncs"].as_u64().unwrap()
    };
    assert!(syncs(&[]) < 50);
    assert!(syncs(&["--durability", "sync"]) >= 50);
}

#[test]
fn kinds_have_the_names_that_the_configuration_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, config) = (dir.path().join("log"), dir.path().join("log.toml"));
    fs::write(&config, "[kinds]\norder = 7\npayment = 8").unwrap();
    let (log, config) = (arg(&log), arg(&config));
    run_with_input(["write", log, "--config", config, "--kind", "order"], b"2 apples\n").ok();
    run_with_input(["write", log, "--kind", "9"], b"no name\n").ok();

    let printed = run(["cat", log, "--config", config, "--format", "json"]);
    let named: Vec<(u64, Value)> = printed
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| (record["kind"].as_u64().unwrap(), record["kind_name"].clone()))
        .collect();
    assert_eq!(named, [(7, "order".into()), (9, Value::Null)]);
    assert_eq!(run(["cat", log, "--config", config, "--kind", "order"]).text(), "2 apples\n");
    assert_eq!(
        run_with(("BRAIDLOG_KINDS", "apples=7"), &["tail", log, "--kind", "apples"]).text(),
        "2 apples\n"
    );
    let segment = format!("{log}/00000000000000000001.wal");
    assert_eq!(run(["salvage", &segment, "--config", config, "--kind", "order"]).text(), "2 apples\n");
    run(["cat", log, "--config", config, "--kind", "refund"]).failed(2, &["`refund`", "order, payment"]);
}

#[test]
fn what_changes_a_log_opens_it_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let (log, config) = (dir.path().join("log"), dir.path().join("log.toml"));
    let (log, config) = (arg(&log), arg(&config));
    run_with_input(["write", log], b"line\n").ok();
    for value in ["segment_size = 1", "segment_size = 'much'", "segmentsize = 1"] {
        fs::write(config, value).unwrap();
        for args in [
            &["write", log][..],
            &["checkpoint", log, "--yes"],
            &["compress", log, "--all"],
            &["clean", log, "--keep", "1"],
            &["holds", log, "set", "name", "1"],
            &["restore-points", log, "add", "name"],
            &["bench", arg(dir.path()), "--seconds", "0.01"],
        ] {
            let ended = run([args, &["--config", config]].concat());
            let is_refused = ended.code == Some(2) && ended.stderr.contains("`segment_size`");
            // It opens nothing where nothing would go.
            let is_idle = args[0] == "clean" && ended.code == Some(0);
            // It opens its log in the middle of its work.
            let is_late =
                args[0] == "bench" && ended.code == Some(1) && ended.stderr.contains("least is 65536");
            assert!(is_refused || is_idle || is_late, "{value}: {args:?}: {ended:?}");
        }
    }
    fs::write(config, "io_mode = 'buffered'").unwrap();
    run(["holds", log, "set", "name", "1", "--config", config]).ok();
}

#[test]
fn mistakes_in_the_configuration_are_bad_usage_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, config) = (dir.path().join("log"), dir.path().join("log.toml"));
    fs::write(&config, "num_stripes = 'many'").unwrap();
    run(["write", arg(&log), "--config", arg(&config)]).failed(2, &["log.toml", "`num_stripes`", "\"many\""]);
    let ended = run_with(("BRAIDLOG_NUM_STRIPE", "4"), &["write", arg(&log)]);
    ended.failed(2, &["`BRAIDLOG_NUM_STRIPE`", "`BRAIDLOG_NUM_STRIPES`"]);
    let missing = dir.path().join("no.toml");
    run(["write", arg(&log), "--config", arg(&missing)]).failed(1, &["no.toml", "read the configuration"]);
    assert!(!log.exists());
}
