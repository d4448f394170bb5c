//! `restore-points`, `cat --until` and `fork`: points in a log's time by LSN, by time and by name.

use std::fs;
use std::path::Path;

use braidlog::Wal;
use tempfile::TempDir;

use crate::support::{arg, run, run_with_input};

fn log() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path())], b"one\ntwo\n").ok();
    run(["restore-points", arg(dir.path()), "add", "before-migration"]).ok();
    run_with_input(["write", arg(dir.path())], b"three\nfour\n").ok();
    dir
}

fn cat(dir: &Path, options: &[&str]) -> String {
    run(["cat", arg(dir)].into_iter().chain(options.iter().copied())).text().to_owned()
}

#[test]
fn cat_ends_at_an_lsn_a_time_or_a_name() {
    let dir = log();
    let cat = |options: &[&str]| cat(dir.path(), options);
    assert_eq!(cat(&["--until", "3"]), "one\ntwo\nthree\n");
    assert_eq!(cat(&["--until", "3", "--exclusive"]), "one\ntwo\n");
    assert_eq!(cat(&["--until", "before-migration"]), "one\ntwo\n");
    assert_eq!(cat(&["--until", "name:before-migration", "--from", "2"]), "two\n");
    assert_eq!(cat(&["--until", "now"]), "one\ntwo\nthree\nfour\n");
    assert_eq!(cat(&["--until", "1h ago"]), "");
    // By the time of a record, as `cat --format json` tells it.
    let json = cat(&["--format", "json", "--from", "2", "--to", "2"]);
    let second: serde_json::Value = serde_json::from_str(&json).unwrap();
    let time = second["timestamp"].as_str().unwrap();
    assert_eq!(cat(&["--until", time]), "one\ntwo\n");
    run(["cat", arg(dir.path()), "--until", "5"]).failed(1, &["LSN 5", "last record is 4"]);
    run(["cat", arg(dir.path()), "--until", "after-migration"])
        .failed(1, &["no restore point", "after-migration"]);
    assert_eq!(run(["cat", arg(dir.path()), "--until", "3", "--to", "3"]).code, Some(2));
}

#[test]
fn a_batch_that_the_point_lies_in_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path()), "--batch", "3"], b"one\ntwo\nthree\nfour\nfive\nsix\n").ok();
    assert_eq!(cat(dir.path(), &["--until", "5"]), "one\ntwo\nthree\n");
    assert_eq!(cat(dir.path(), &["--until", "6"]), "one\ntwo\nthree\nfour\nfive\nsix\n");
}

#[test]
fn restore_points_are_added_listed_and_dropped_and_a_dry_run_changes_nothing() {
    let dir = log();
    let listed = run(["restore-points", arg(dir.path()), "--json"]).json();
    let point = &listed["restore_points"][0];
    assert_eq!((&point["name"], &point["lsn"]), (&"before-migration".into(), &2.into()));
    assert_eq!((&point["records_behind"], &point["reachable"]), (&2.into(), &true.into()));
    let text = run(["restore-points", arg(dir.path())]);
    assert!(text.text().contains("before-migration  (2 records behind it)"), "{text:?}");

    let manifest = fs::read(dir.path().join("MANIFEST")).unwrap();
    let would = run(["restore-points", arg(dir.path()), "add", "later", "--dry-run", "--json"]);
    assert_eq!(
        (&would.json()["dry_run"], would.json()["restore_points"].as_array().unwrap().len()),
        (&true.into(), 1)
    );
    assert!(would.stderr.contains("behind LSN 4; nothing was done"), "{would:?}");
    let would = run(["restore-points", arg(dir.path()), "drop", "before-migration", "--dry-run"]);
    assert_eq!(would.text(), "no restore points\n");
    for command in [["add", "before-migration"], ["add", ""], ["drop", "later"]] {
        assert_eq!(
            run(["restore-points", arg(dir.path())].into_iter().chain(command)).code,
            Some(1),
            "{command:?}"
        );
    }
    run(["restore-points", arg(dir.path()), "add", "before-migration", "--dry-run"]).failed(1, &["already"]);
    run(["restore-points", arg(dir.path()), "drop", "later", "--dry-run"])
        .failed(1, &["no restore point `later`"]);
    assert_eq!(fs::read(dir.path().join("MANIFEST")).unwrap(), manifest);

    run(["restore-points", arg(dir.path()), "add", "later"]).ok();
    let left = run(["restore-points", arg(dir.path()), "drop", "before-migration", "--json"]).json();
    assert_eq!(left["restore_points"][0]["name"], "later");
    let wal = Wal::options().open(dir.path()).unwrap();
    run(["restore-points", arg(dir.path()), "add", "beside"]).failed(1, &["open for writing"]);
    assert_eq!(wal.restore_points().len(), 1);
    wal.close().unwrap();
}

#[test]
fn a_fork_goes_on_from_a_point_and_leaves_the_old_log_as_it_is() {
    let dir = log();
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("rewound");
    let fork = |options: &[&str]| {
        run(["fork", arg(dir.path()), arg(&dest)].into_iter().chain(options.iter().copied()))
    };
    let would = fork(&["--until", "before-migration", "--dry-run", "--json"]).json();
    assert!(!dest.exists(), "a dry run makes nothing");
    assert_eq!((&would["dry_run"], &would["log_id"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&would["last_lsn"], &would["records"]), (&2.into(), &2.into()));
    assert_eq!(&would["left_behind"], &serde_json::json!(2));

    let made = fork(&["--until", "before-migration", "--json"]).json();
    for field in ["first_lsn", "last_lsn", "records", "left_behind", "checkpoints", "lost_lsns"] {
        assert_eq!(made[field], would[field], "{field}");
    }
    let verdict = run(["verify", arg(&dest), "--json"]).json();
    assert_eq!(verdict["clean"], true, "{verdict}");
    run_with_input(["write", arg(&dest)], b"another three\n").ok();
    assert_eq!(cat(&dest, &[]), "one\ntwo\nanother three\n");
    assert_eq!(cat(dir.path(), &[]), "one\ntwo\nthree\nfour\n");
    assert_eq!(run(["restore-points", arg(&dest), "--json"]).json()["restore_points"][0]["lsn"], 2);
    assert!(made["log_id"].is_string(), "{made}");

    fork(&["--until", "3"]).failed(1, &["empty directory"]);
    fork(&["--until", "3", "--dry-run"]).failed(1, &["empty directory"]);
    let other = temp.path().join("other");
    run(["fork", arg(dir.path()), arg(&other), "--until", "99"]).failed(1, &["LSN 99", "last record is 4"]);
    let told = run(["fork", arg(dir.path()), arg(&other)]);
    assert!(told.text().starts_with("forked LSN 1..=4 into "), "{told:?}");
    assert_eq!(cat(&other, &[]), cat(dir.path(), &[]));
}
