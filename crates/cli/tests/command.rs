//! Each subcommand on real directories: what it prints, how it ends, what it leaves alone.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::support::{Live, PACKAGES, arg, braidlog, parse_acks, read_all, run, run_with_input};

fn log_of(lines: &str, options: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let args = ["write", arg(dir.path())].into_iter().chain(options.iter().copied());
    run_with_input(args, lines.as_bytes()).ok();
    dir
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

// write

#[test]
fn every_line_is_given_back_byte_for_byte() {
    let text = b"first\n\n\xff\xfe no UTF-8 \0\r\nlast, without a newline";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    fs::write(&file, text).unwrap();
    for (name, source, input) in [("a", arg(&file), b"".as_slice()), ("b", "-", text)] {
        let log = dir.path().join(name);
        let ended = run_with_input(["write", arg(&log), source], input);
        assert_eq!(ended.ok(), b"", "only --ack and --json print on standard output");
        let cat = run(["cat", arg(&log)]);
        assert_eq!(cat.ok(), [text.as_slice(), b"\n"].concat());
    }
}

#[test]
fn summary_says_how_it_went_and_no_progress_goes_into_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run_with_input(["write", arg(dir.path())], numbers(1..=1000).as_bytes());
    ended.ok();
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("braidlog: 1,000 records, 2.83 KiB in "), "{lines:?}");
    assert!(lines[0].ends_with(" records/s"), "{lines:?}");
    for words in [" fsync", " records per fsync", "commit latency p50 ", " p99 "] {
        assert!(lines[1].contains(words), "{lines:?}");
    }
    assert_eq!(lines[2], "braidlog: durable LSN 1000");
}

#[test]
fn summary_as_json_goes_to_standard_output() {
    let dir = log_of("before\n", &[]);
    let ended = run_with_input(["write", arg(dir.path()), "--json"], numbers(1..=1000).as_bytes());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let json = ended.json();
    assert_eq!(json["records"], 1000);
    assert_eq!(json["bytes"], 9 + 2 * 90 + 3 * 900 + 4);
    assert_eq!(json["durable_lsn"], 1001);
    assert_eq!(json["interrupted"], false);
    let fsyncs = json["fsyncs"].as_u64().unwrap();
    assert!((1..=1000).contains(&fsyncs), "{json}");
    assert!((json["records_per_fsync"].as_f64().unwrap() - 1000.0 / fsyncs as f64).abs() < 0.01, "{json}");
    let (p50, p99) = (json["commit_p50_ns"].as_u64().unwrap(), json["commit_p99_ns"].as_u64().unwrap());
    assert!(0 < p50 && p50 <= p99, "{json}");
    for name in ["seconds", "records_per_second"] {
        assert!(json[name].as_f64().unwrap() > 0.0, "{json}");
    }
}

#[test]
fn acknowledgements_name_the_lsn_of_their_line_in_every_mode() {
    let lines: Vec<&str> = PACKAGES.lines().take(700).collect();
    let text = lines.join("\n");
    for durability in ["sync", "group", "async"] {
        for (writers, batch) in [("1", "1"), ("4", "1"), ("4", "9")] {
            for blocking in [&[][..], &["--blocking"]] {
                let dir = tempfile::tempdir().unwrap();
                let options = ["--ack", "--durability", durability, "--writers", writers, "--batch", batch];
                let args =
                    ["write", arg(dir.path())].into_iter().chain(options).chain(blocking.iter().copied());
                let acks = parse_acks(run_with_input(args, text.as_bytes()).ok());
                let records = read_all(dir.path());
                assert_eq!((acks.len(), records.len()), (lines.len(), lines.len()));
                let numbers: HashSet<u64> = acks.iter().map(|(line, _)| *line).collect();
                assert_eq!(numbers.len(), lines.len(), "each line is acknowledged once");
                for (line, lsn) in acks {
                    let record = &records[lsn as usize - 1];
                    assert_eq!(record.payload, lines[line as usize - 1].as_bytes(), "line {line}, LSN {lsn}");
                    let ends_batch = batch == "1" || line % 9 == 0 || line == lines.len() as u64;
                    assert_eq!(record.batch_continues, !ends_batch, "line {line}");
                }
                run(["verify", arg(dir.path())]).ok();
            }
        }
    }
}

#[test]
fn one_writer_shares_an_fsync_between_many_lines() {
    let dir = tempfile::tempdir().unwrap();
    for durability in ["sync", "group"] {
        let args = ["write", arg(dir.path()), "--json", "--durability", durability];
        let json = run_with_input(args, numbers(1..=20_000).as_bytes()).json();
        assert_eq!(json["records"], 20_000);
        // Loose on purpose: what it rules out is one fsync per line.
        assert!(json["fsyncs"].as_u64().unwrap() < 5_000, "{json}");
    }
}

#[test]
fn a_line_is_acknowledged_before_the_next_one_is_typed() {
    for options in [&["--blocking"][..], &[], &["--writers", "3"], &["--durability", "async"]] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["write", arg(dir.path()), "--ack"].into_iter().chain(options.iter().copied());
        let mut writer = Live::start(args);
        for n in 1..20 {
            assert!(writer.feed(b"typed\n"));
            assert_eq!(writer.next_ack(), Some((n, n)));
        }
        writer.end_input();
        assert_eq!(writer.next_line(), None);
        assert_eq!(writer.wait().0.code(), Some(0));
    }
}

#[test]
fn kind_is_kept_and_can_be_asked_for() {
    let dir = log_of("plain\n", &[]);
    run_with_input(["write", arg(dir.path()), "--kind", "239"], b"special\n").ok();
    assert_eq!(run(["cat", arg(dir.path()), "--kind", "239"]).text(), "special\n");
    assert_eq!(run(["cat", arg(dir.path()), "--kind", "0"]).text(), "plain\n");
    assert_eq!(run(["cat", arg(dir.path()), "--kind", "7"]).text(), "");
}

#[test]
fn second_writer_is_refused_and_disturbs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Live::start(["write", arg(dir.path()), "--ack"]);
    assert!(first.feed(b"one\n"));
    assert_eq!(first.next_ack(), Some((1, 1)));
    run_with_input(["write", arg(dir.path())], b"intruder\n").failed(1, &[arg(dir.path())]);
    assert!(first.feed(b"two\n"));
    assert_eq!(first.next_ack(), Some((2, 2)));
    first.end_input();
    assert_eq!(first.wait().0.code(), Some(0));
    assert_eq!(run(["cat", arg(dir.path())]).text(), "one\ntwo\n");
    run_with_input(["write", arg(dir.path())], b"three\n").ok();
    assert_eq!(read_all(dir.path()).len(), 3);
}

#[test]
fn interrupt_closes_cleanly_and_says_the_durable_lsn() {
    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Live::start(["write", arg(dir.path()), "--ack"]);
        assert!(writer.feed(b"one\ntwo\n"));
        assert_eq!((writer.next_ack(), writer.next_ack()), (Some((1, 1)), Some((2, 2))));
        // Its standard input stays open: it waits for a third line.
        let kill = format!("kill -{signal} {}", writer.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert_eq!(writer.next_line(), None);
        let (status, said) = writer.wait();
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(said.contains("braidlog: interrupted; closed at durable LSN 2\n"), "{said}");
        let segments = run(["segments", arg(dir.path()), "--json"]).json();
        assert_eq!(segments.as_array().unwrap().last().unwrap()["sealed"], true, "a clean close: {segments}");
        assert_eq!(run(["cat", arg(dir.path())]).text(), "one\ntwo\n");
    }
}

// cat

#[test]
fn cat_prints_what_a_transaction_did_and_its_commit_where_kinds_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let wal = braidlog::Wal::options().open(dir.path()).unwrap();
    let mut tx = wal.begin().unwrap();
    tx.append(1, b"debit").unwrap().append(1, b"credit").unwrap();
    tx.commit().unwrap();
    wal.close().unwrap();
    assert_eq!(run(["cat", arg(dir.path())]).text(), "debit\ncredit\n");
    let json = run(["cat", arg(dir.path()), "--format", "json"]);
    let shown: Vec<serde_json::Value> =
        json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.iter().map(|shown| &shown["kind"]).collect::<Vec<_>>(), [244, 1, 1]);
    assert!(shown[1..].iter().all(|shown| shown["transaction"] == "1.1"), "{shown:?}");
}

#[test]
fn cat_shows_which_records_take_effect_with_a_transaction_and_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = braidlog::Wal::options().open(dir.path()).unwrap();
    let mut tx = wal.begin_streaming().unwrap();
    tx.append(1, b"one").unwrap();
    wal.append(b"between").unwrap();
    tx.commit().unwrap();
    wal.begin_streaming().unwrap().abort();
    wal.close().unwrap();
    let json = run(["cat", arg(dir.path()), "--format", "json"]);
    let shown: Vec<serde_json::Value> =
        json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = shown.iter().map(|shown| shown["kind"].as_u64().unwrap()).collect();
    assert_eq!(kinds, [243, 1, 0, 244, 243, 245]);
    let provisional: Vec<_> = shown.iter().map(|shown| shown.get("provisional").is_some()).collect();
    assert_eq!(provisional, [false, true, false, false, false, false]);
}

#[test]
fn cat_prints_the_range_that_is_asked_for() {
    let dir = log_of(&numbers(1..=100), &[]);
    let cat = |options: &[&str]| {
        let ended = run(["cat", arg(dir.path())].into_iter().chain(options.iter().copied()));
        ended.text().to_string()
    };
    assert_eq!(cat(&[]), numbers(1..=100));
    assert_eq!(cat(&["--from", "98"]), numbers(98..=100));
    assert_eq!(cat(&["--to", "2"]), numbers(1..=2));
    assert_eq!(cat(&["--from", "50", "--to", "50"]), "50\n");
    assert_eq!(cat(&["--from", "99", "--to", "1000"]), numbers(99..=100));
    assert_eq!(cat(&["--from", "101"]), "");
}

#[test]
fn cat_prints_backward_and_from_a_time_on() {
    let dir = log_of(&numbers(1..=100), &[]);
    let cat = |options: &[&str]| {
        let ended = run(["cat", arg(dir.path())].into_iter().chain(options.iter().copied()));
        ended.text().to_string()
    };
    let backward = |text: String| text.lines().rev().map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(cat(&["--reverse"]), backward(numbers(1..=100)));
    assert_eq!(cat(&["--reverse", "--from", "7", "--to", "9"]), "9\n8\n7\n");
    assert_eq!(cat(&["--since", "1h ago"]), numbers(1..=100));
    assert_eq!(cat(&["--since", "1h ago", "--reverse", "--from", "99"]), "100\n99\n");
    assert_eq!(cat(&["--since", "2200-01-01T00:00:00Z"]), "");
    run(["cat", arg(dir.path()), "--since", "yesterday"]).failed(2, &["--since", "5m ago"]);
}

#[test]
fn cat_prints_each_format() {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path()), "--kind", "5"], b"text \"q\" \xc3\xa9\n\x00\xff\n").ok();
    let cat = |format| run(["cat", arg(dir.path()), "--format", format]);
    assert_eq!(cat("raw").ok(), b"text \"q\" \xc3\xa9\x00\xff");
    assert_eq!(cat("text").ok(), b"text \"q\" \xc3\xa9\n\x00\xff\n");
    assert_eq!(cat("hex").text(), "746578742022712220c3a9\n00ff\n");
    let json = cat("json");
    let objects: Vec<serde_json::Value> =
        json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    let now_ns = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    for (object, lsn, len) in [(&objects[0], 1, 11), (&objects[1], 2, 2)] {
        assert_eq!((&object["lsn"], &object["kind"], &object["len"]), (&lsn.into(), &5.into(), &len.into()));
        assert_eq!(object["batch_continues"], false);
        let ns = object["timestamp_ns"].as_u64().unwrap();
        assert!(ns > now_ns - 3_600_000_000_000 && ns <= now_ns, "{object}");
        assert_eq!(object["timestamp"].as_str().unwrap().len(), "2000-01-01T00:00:00.000000000Z".len());
    }
    assert_eq!((&objects[0]["payload"], objects[0].get("payload_hex")), (&"text \"q\" é".into(), None));
    assert_eq!((objects[1].get("payload"), &objects[1]["payload_hex"]), (None, &"00ff".into()));
}

// looking

#[test]
fn readers_work_beside_a_live_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Live::start(["write", arg(dir.path()), "--ack", "--blocking"]);
    for n in 1..=50 {
        assert!(writer.feed(format!("{n}\n").as_bytes()));
        assert_eq!(writer.next_ack(), Some((n, n)));
    }
    // The last record may not be marked as durable yet; the one before it is, by the round of the last.
    let cat = run(["cat", arg(dir.path())]).text().to_string();
    assert!(cat.starts_with(&numbers(1..=49)) && numbers(1..=50).starts_with(&cat), "{cat}");
    assert!(!run(["tail", arg(dir.path()), "-n", "2"]).text().is_empty());
    let stat = run(["stat", arg(dir.path()), "--json"]).json();
    assert_eq!(stat["live"], true, "{stat}");
    let verdict = run(["verify", arg(dir.path()), "--json"]);
    assert_eq!(verdict.code, Some(0), "{verdict:?}");
    assert_eq!((&verdict.json()["live"], &verdict.json()["clean"]), (&true.into(), &true.into()));
    assert_eq!(run(["segments", arg(dir.path()), "--json"]).json().as_array().unwrap().len(), 1);
    // It goes on as if nobody had looked.
    assert!(writer.feed(b"51\n"));
    assert_eq!(writer.next_ack(), Some((51, 51)));
    writer.end_input();
    assert_eq!(writer.wait().0.code(), Some(0));
    assert_eq!(run(["cat", arg(dir.path())]).text(), numbers(1..=51));
    assert_eq!(run(["stat", arg(dir.path()), "--json"]).json()["live"], false);
}

/// Every name with its bytes and when they were last changed.
fn snapshot(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let changed = entry.metadata().unwrap().modified().unwrap();
            (entry.file_name().into_string().unwrap(), (fs::read(entry.path()).unwrap(), changed))
        })
        .collect()
}

#[test]
fn readers_change_nothing_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Live::start(["write", arg(dir.path()), "--ack", "--segment-size", "64K"]);
    assert!(writer.feed(PACKAGES.as_bytes()));
    writer.next_ack().unwrap();
    let acks = writer.kill_and_drain().len();
    let before = snapshot(dir.path());
    assert!(run(["cat", arg(dir.path())]).text().lines().count() > acks);
    for subcommand in ["tail", "stat", "segments", "verify"] {
        run([subcommand, arg(dir.path())]).ok();
    }
    assert!(snapshot(dir.path()) == before, "a name, a byte or a time has changed");
}

#[test]
fn segments_are_listed_in_order_and_cover_the_log() {
    // Short rounds: a segment ends between two of them.
    let dir = log_of(PACKAGES, &["--segment-size", "64K", "--blocking", "--writers", "16"]);
    run_with_input(["write", arg(dir.path())], b"in another life\n").ok();
    let records = PACKAGES.lines().count() as u64 + 1;
    let json = run(["segments", arg(dir.path()), "--json"]).json();
    let segments = json.as_array().unwrap();
    assert!(segments.len() > 4, "{json}");
    let mut next = 1;
    for segment in segments {
        assert_eq!(segment["base_lsn"], next, "{segment}");
        let last = segment["last_lsn"].as_u64().unwrap();
        assert_eq!(segment["records"], last + 1 - next, "{segment}");
        next = last + 1;
        assert_eq!(segment["sealed"], true, "{segment}");
        let name = segment["name"].as_str().unwrap();
        assert_eq!(segment["bytes"], fs::metadata(dir.path().join(name)).unwrap().len());
    }
    assert_eq!(next, records + 1);
    assert_eq!(
        (&segments[0]["incarnation"], &segments.last().unwrap()["incarnation"]),
        (&1.into(), &2.into())
    );
    let table = run(["segments", arg(dir.path())]);
    assert_eq!(table.text().lines().count(), segments.len() + 1);
}

#[test]
fn stat_says_what_the_log_holds() {
    let dir = log_of(&numbers(1..=10), &[]);
    run(["write", arg(dir.path())]).ok();
    let json = run(["stat", arg(dir.path()), "--json"]).json();
    for (name, value) in [("records", 10), ("first_lsn", 1), ("last_lsn", 10), ("incarnation", 2)] {
        assert_eq!(json[name], value, "{json}");
    }
    assert_eq!((&json["live"], &json["path"]), (&false.into(), &arg(dir.path()).into()));
    assert_eq!(json["torn_files"].as_array().unwrap().len(), 0);
    assert_eq!(json["segments"], json["sealed_segments"], "{json}");
    let files = snapshot(dir.path());
    let segments = files.iter().filter(|(name, _)| name.ends_with(".wal"));
    let on_disk: u64 = segments.map(|(_, (bytes, _))| bytes.len() as u64).sum();
    assert_eq!(json["bytes"], on_disk, "{json}");
    assert!(run(["stat", arg(dir.path())]).text().contains("records      10, LSN 1..=10\n"));
}

#[test]
fn an_empty_log_is_no_error() {
    let dir = log_of("", &[]);
    assert_eq!(run(["cat", arg(dir.path())]).text(), "");
    assert_eq!(run(["tail", arg(dir.path())]).text(), "");
    assert!(run(["stat", arg(dir.path())]).text().contains("records      none\n"));
    let json = run(["stat", arg(dir.path()), "--json"]).json();
    assert_eq!((&json["records"], &json["first_lsn"], &json["last_lsn"]), (&0.into(), &0.into(), &0.into()));
    let verdict = run(["verify", arg(dir.path()), "--json"]);
    verdict.ok();
    assert_eq!((&verdict.json()["clean"], &verdict.json()["records"]), (&true.into(), &0.into()));
}

// verify

#[test]
fn verify_is_content_with_a_log_that_is_whole() {
    let dir = log_of(PACKAGES, &["--segment-size", "64K", "--batch", "10"]);
    let json = run(["verify", arg(dir.path()), "--json"]).json();
    let lines = PACKAGES.lines().count() as u64;
    assert_eq!((&json["clean"], &json["records"]), (&true.into(), &lines.into()), "{json}");
    assert_eq!(json["batches"], lines.div_ceil(10), "{json}");
    assert_eq!((&json["first_lsn"], &json["last_lsn"]), (&1.into(), &lines.into()));
    assert_eq!(json["problems"].as_array().unwrap().len(), 0);
    assert!(run(["verify", arg(dir.path())]).text().starts_with("clean: 5,817 records in "));
}

/// Flips a bit in the middle of the record that holds `text`; the name of its segment.
fn damage(dir: &Path, text: &str) -> String {
    let wanted = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    for (name, (mut bytes, _)) in snapshot(dir) {
        if let Some(at) = wanted(&bytes) {
            bytes[at + text.len() / 2] ^= 1;
            fs::write(dir.join(&name), bytes).unwrap();
            return name;
        }
    }
    panic!("{text} is in no file");
}

#[test]
fn verify_names_damage_and_leaves_it_as_it_is() {
    let dir = log_of(PACKAGES, &["--segment-size", "64K"]);
    let line = PACKAGES.lines().nth(2993).unwrap();
    assert_eq!(
        PACKAGES.lines().position(|other| other == line),
        Some(2993),
        "the test needs a line of its own"
    );
    let segment = damage(dir.path(), line);
    let before = snapshot(dir.path());

    let ended = run(["verify", arg(dir.path()), "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let json = ended.json();
    assert_eq!(json["clean"], false);
    let problem = &json["problems"][0];
    assert_eq!(problem["segment"], segment.as_str(), "{json}");
    assert!(problem["offset"].as_u64().unwrap() >= 4096, "{json}");
    let (first, last) =
        (problem["first_lsn"].as_u64().unwrap(), problem["last_lsn"].as_u64().unwrap_or(u64::MAX));
    assert!((first..=last).contains(&2994), "{json}");

    let ended = run(["verify", arg(dir.path())]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.starts_with(&format!("damaged: {segment} at byte ")), "{text}");

    // What stands before the damage is shown, then the damage is told.
    let cat = run(["cat", arg(dir.path())]);
    cat.failed(1, &[&segment]);
    let shown = String::from_utf8(cat.stdout).unwrap();
    assert!(PACKAGES.starts_with(&shown) && shown.lines().count() <= 2993);
    assert!(snapshot(dir.path()) == before, "the evidence has been changed");
}

// pipes and usage

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = log_of(&PACKAGES.repeat(10), &[]);
    for args in [&["cat"][..], &["cat", "--format", "json"], &["tail", "-n", "50000"]] {
        let mut command = braidlog([args[0], arg(dir.path())].into_iter().chain(args[1..].iter().copied()));
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{args:?}");
    }
}

#[test]
fn writing_goes_on_when_nobody_reads_the_acknowledgements() {
    for options in [&[][..], &["--blocking"]] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["write", arg(dir.path()), "--ack"].into_iter().chain(options.iter().copied());
        let mut child = braidlog(args).stdin(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.stdin.take().unwrap().write_all(numbers(1..=3000).as_bytes()).unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
        assert_eq!(run(["cat", arg(dir.path())]).text().lines().count(), 3000);
    }
}

#[test]
fn bad_usage_is_told_from_failure() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for args in [
        &[][..],
        &["write"],
        &["write", "DIR", "--writers", "0"],
        &["write", "DIR", "--batch", "0"],
        &["write", "DIR", "--kind", "240"],
        &["write", "DIR", "--durability", "perhaps"],
        &["write", "DIR", "--segment-size", "12 parsecs"],
        &["write", "DIR", "--segment-size", "1"],
        &["write", "DIR", "--ack", "--json"],
        &["cat", "DIR", "--from", "0"],
        &["cat", "DIR", "--from", "2", "--to", "1"],
        &["cat", "DIR", "--format", "xml"],
        &["tail", "DIR", "-n", "-1"],
        &["verify"],
        &["no-such-thing"],
    ] {
        let args = args.iter().map(|word| if *word == "DIR" { arg(&log) } else { word });
        let ended = run(args.clone());
        assert_eq!(ended.code, Some(2), "{:?}: {ended:?}", args.collect::<Vec<_>>());
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{ended:?}");
    }
    assert!(!log.exists(), "nothing is made for a command line that is refused");
    run(["write", arg(&log), "--segment-size", "1"]).failed(2, &["segment_size", "1", "65536"]);
    assert!(run(["--help"]).text().contains("Exit codes:"));
}

#[test]
fn a_failure_names_the_thing_and_leaves_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for subcommand in ["cat", "tail", "stat", "segments", "verify"] {
        run([subcommand, arg(&missing)]).failed(1, &[arg(&missing)]);
        // Not a log: to call it empty or clean would be believed.
        run([subcommand, arg(dir.path())]).failed(1, &[arg(dir.path()), "holds no log"]);
    }
    assert!(!missing.exists());
    run(["write", arg(dir.path()), arg(&missing)]).failed(1, &[arg(&missing)]);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "no log is begun for a source that is not there"
    );
    run(["write", arg(&missing), arg(dir.path())]).failed(2, &[arg(dir.path()), "is a directory"]);

    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    run(["write", arg(&file)]).failed(1, &[arg(&file)]);
    assert_eq!(fs::read(&file).unwrap(), b"text");
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    let foreign = log.join("00000000000000000001.wal");
    fs::write(&foreign, [b'x'; 5000]).unwrap();
    for subcommand in ["write", "cat", "stat", "verify"] {
        run([subcommand, arg(&log)]).failed(1, &["00000000000000000001.wal"]);
    }
    assert_eq!(fs::read(&foreign).unwrap(), [b'x'; 5000]);
}
