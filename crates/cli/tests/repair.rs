//! Damaged logs at the command line: what each policy would keep, what a repair keeps, and what can be had of a single
//! file.

use std::fs;
use std::path::Path;

use crate::support::{arg, run, run_with_input};

fn lines() -> String {
    (1..=6000).map(|n| format!("line {n} of the log, which is to be damaged\n")).collect()
}

/// A log of some segments, of which one byte in the middle of the line `n` is not what it was.
fn damaged_log(n: u64) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path()), "--segment-size", "64K"], lines().as_bytes()).ok();
    let wanted = format!("line {n} of");
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes()) {
            bytes[at + 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            return (dir, path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    panic!("{wanted} is in no file");
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_dry_run_shows_what_each_policy_would_keep_and_changes_nothing() {
    let (dir, segment) = damaged_log(3000);
    let before = fs::read(dir.path().join(&segment)).unwrap();
    let names_before = names(dir.path());
    let ended = run(["repair", arg(dir.path()), "--dry-run", "--json"]);
    let shown: Vec<serde_json::Value> =
        ended.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let policies: Vec<&str> = shown.iter().map(|shown| shown["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["until-damage", "skip-damaged"]);
    assert_eq!(shown[0]["kept"][0]["last_lsn"], 2999);
    assert_eq!(shown[0]["lost"][0]["last_lsn"], 6000);
    assert_eq!(shown[1]["lost"], serde_json::json!([{ "first_lsn": 3000, "last_lsn": 3000 }]));
    let file = shown[1]["files"].as_array().unwrap().iter().find(|file| file["name"] == segment.as_str());
    let file = file.unwrap();
    assert_eq!(file["what"], "rewritten");
    assert_eq!(file["kept_bytes"].as_array().unwrap().len(), 2, "before the damage and behind it: {file}");
    assert_eq!(fs::read(dir.path().join(&segment)).unwrap(), before);
    assert_eq!(names(dir.path()), names_before);
    run(["repair", arg(dir.path())]).failed(2, &["--policy", "--dry-run"]);
}

#[test]
fn a_repaired_log_opens_again_and_says_what_was_lost() {
    let (dir, segment) = damaged_log(3000);
    let text = run(["repair", arg(dir.path()), "--policy", "skip-damaged"]).text().to_owned();
    assert!(text.contains("LSN 1..=2999, 3001..=6000 are kept"), "{text}");
    assert!(text.contains("LSN 3000..=3000 are lost, though acknowledged"), "{text}");
    let quarantined = text.lines().find_map(|line| line.strip_suffix(" has what was damaged")).unwrap();
    let quarantined = dir.path().join(quarantined.split(": ").nth(1).unwrap());
    assert_eq!(quarantined.file_name().unwrap(), segment.as_str());
    let report = fs::read_to_string(quarantined.with_file_name(format!("{segment}.txt"))).unwrap();
    assert!(report.contains("skip-damaged") && report.contains("3000"), "{report}");

    let verified = run(["verify", arg(dir.path()), "--json"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let json = verified.json();
    assert!(json["losses"][0].as_str().unwrap().contains("3000"), "{json}");
    let stat = run(["stat", arg(dir.path()), "--json"]).json();
    assert_eq!(
        (&stat["losses"][0]["first_lsn"], &stat["losses"][0]["last_lsn"]),
        (&3000.into(), &3000.into())
    );
    assert!(stat["losses"][0]["account"].as_str().unwrap().contains(&segment), "{stat}");
    let stat = run(["stat", arg(dir.path())]);
    assert!(stat.text().contains("lost         LSN 3000..=3000, given up by opening "), "{stat:?}");
    let cat = run(["cat", arg(dir.path())]);
    let expected: String = lines().lines().filter(|line| !line.starts_with("line 3000 ")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    assert!(cat.text() == expected);
    // It goes on, and the lost LSN is not given again.
    let acks = run_with_input(["write", arg(dir.path()), "--ack"], b"one more\n");
    assert!(acks.text().ends_with("\t6001\n"), "{acks:?}");
    let again = run(["repair", arg(dir.path()), "--policy", "skip-damaged", "--json"]).json();
    assert_eq!((&again["clean"], &again["earlier"][0]["first_lsn"]), (&true.into(), &3000.into()));
}

#[test]
fn a_damaged_log_is_printed_as_a_policy_would_keep_it_and_stays_as_it_is() {
    let (dir, segment) = damaged_log(3000);
    let before = fs::read(dir.path().join(&segment)).unwrap();
    for (policy, last, count) in [("until-damage", "line 2999 ", 2999), ("skip-damaged", "line 6000 ", 5999)]
    {
        let cat = run(["cat", arg(dir.path()), "--on-damage", policy]);
        let text = cat.text();
        assert_eq!(text.lines().count(), count);
        assert!(text.lines().last().unwrap().starts_with(last) && !text.contains("line 3000 "));
        assert!(cat.stderr.contains("passed over: records 3000"), "{cat:?}");
    }
    let part = run(["cat", arg(dir.path()), "--on-damage", "skip-damaged", "--from", "2999", "--to", "3001"]);
    assert_eq!(part.text().lines().count(), 2);
    assert_eq!(fs::read(dir.path().join(&segment)).unwrap(), before);
    assert!(!names(dir.path()).contains(&"quarantine".to_owned()));
}

#[test]
fn each_entry_gets_its_verdict() {
    let (dir, segment) = damaged_log(3000);
    let ended = run(["verify", arg(dir.path()), "--entries", "--json"]);
    assert_eq!(ended.code, Some(1));
    let text = String::from_utf8(ended.stdout).unwrap();
    let (entries, verdict) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(verdict).unwrap()["clean"], false);
    let entries: Vec<serde_json::Value> =
        entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad: Vec<_> = entries.iter().filter(|entry| entry["valid"] == false).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!((&bad[0]["lsn"], &bad[0]["segment"]), (&3000.into(), &segment.as_str().into()));
    assert!(bad[0]["what"].as_str().unwrap().contains("checksum"), "{bad:?}");
    let records = entries.iter().filter(|entry| entry["kind"].as_u64().is_some_and(|kind| kind < 240));
    assert_eq!(records.count(), 6000);
    let shown = String::from_utf8(run(["verify", arg(dir.path()), "--entries"]).stdout).unwrap();
    assert!(shown.lines().any(|line| line.contains("LSN 3000") && line.contains("checksum")));
}

#[test]
fn records_of_a_file_without_its_header_and_its_log_are_salvaged() {
    let (dir, segment) = damaged_log(3000);
    let mut bytes = fs::read(dir.path().join(&segment)).unwrap();
    bytes[..4096].fill(0);
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("found.bin");
    fs::write(&file, &bytes).unwrap();
    let salvaged = run(["salvage", arg(&file)]);
    let text = salvaged.text().to_owned();
    let numbers: Vec<u64> =
        text.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(numbers.contains(&2999) && numbers.contains(&3001) && !numbers.contains(&3000));
    assert!(salvaged.stderr.contains("the header is lost"), "{salvaged:?}");
    assert!(salvaged.stderr.contains("passed over"), "{salvaged:?}");
    let out = elsewhere.path().join("records.json");
    run(["salvage", arg(&file), "--out", arg(&out), "--format", "json"]).ok();
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), numbers.len());
    run(["salvage", arg(&file), "--out", arg(&out)]).failed(1, &["records.json"]);
    run(["salvage", arg(&out)]).failed(1, &["does not belong"]);
}
