//! `checkpoint`, `clean`, `compress`, `backup` and `holds` on real directories: what they do, what they refuse, what they say.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use braidlog::storage::{Clock, SystemClock};
use braidlog::{Append, Durability, Options, Retention, Wal};
use tempfile::TempDir;

use crate::support::{Ended, Live, arg, run, run_with_input};

/// A log of several segments of numbers.
fn log(records: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 1..=records {
        wal.append(vec![b'0' + (n % 10) as u8; 8000]).unwrap();
    }
    wal.close().unwrap();
    dir
}

/// Without threads, so that segments come out alike however busy the machine is.
fn small() -> Options {
    let options = Wal::options().segment_size(64 << 10).num_stripes(1).background_threads(false);
    options.retention(Retention::keep_all())
}

/// A clock whose wall is ahead by a day.
#[derive(Debug)]
struct Tomorrow(SystemClock);

impl Clock for Tomorrow {
    fn wall_ns(&self) -> u64 {
        self.0.wall_ns() + 24 * 3600 * 1_000_000_000
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".wal")).count()
}

/// Every name in a directory with its bytes, and nothing else.
fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn clean_log(dir: &Path) {
    let verdict = run(["verify", arg(dir), "--json"]);
    assert_eq!(verdict.json()["clean"], true, "{verdict:?}");
}

// checkpoint

#[test]
fn a_checkpoint_is_taken_only_if_told_that_the_state_is_saved() {
    let dir = log(20);
    let before = snapshot(dir.path());
    run(["checkpoint", arg(dir.path())]).failed(2, &["LSN 20", "--yes", "given up"]);
    assert_eq!(snapshot(dir.path()), before);
    run(["checkpoint", arg(dir.path()), "--yes", "--lsn", "21"]).failed(1, &["LSN 21", "LSN 20"]);
    let taken = run(["checkpoint", arg(dir.path()), "--yes", "--json"]);
    assert_eq!((taken.code, taken.json()["lsn"].as_u64()), (Some(0), Some(20)));
    let wal = Wal::open_read_only(dir.path()).unwrap();
    assert_eq!(wal.checkpoints().unwrap()[0].lsn.0, 20);
    assert!(run(["checkpoint", arg(dir.path()), "--yes"]).text().contains("a replay starts at LSN 21"));
    clean_log(dir.path());
}

/// It was taken, a recovery began with its empty state, and the second one removed the owner's own.
#[test]
fn a_checkpoint_without_content_never_covers_one_that_has_a_state() {
    let dir = log(20);
    let wal = small().open(dir.path()).unwrap();
    wal.checkpoint(wal.last_lsn(), |writer| Ok(std::io::Write::write_all(writer, b"x")?)).unwrap();
    wal.append(b"more").unwrap();
    wal.close().unwrap();
    let checkpoints = || -> Vec<_> {
        snapshot(dir.path()).into_iter().filter(|(name, _)| name.ends_with(".ckpt")).collect()
    };
    let before = checkpoints();
    assert_eq!(before.len(), 1);
    run(["checkpoint", arg(dir.path()), "--yes"]).failed(1, &["keeps its state in checkpoints", "LSN 20"]);
    assert_eq!(checkpoints(), before);
}

// clean

/// The command had the retention of the library's default, and gave up what the log's owner keeps.
#[test]
fn writing_by_the_command_gives_nothing_up() {
    let dir = log(200);
    run(["checkpoint", arg(dir.path()), "--yes"]).ok();
    let before = segments(dir.path());
    assert!(before > 12, "{before} segments: more than the default would keep");
    let lines = dir.path().with_extension("lines");
    fs::write(&lines, "one\ntwo\n").unwrap();
    run(["write", arg(dir.path()), arg(&lines)]).ok();
    fs::remove_file(&lines).unwrap();
    assert!(segments(dir.path()) >= before);
}

#[test]
fn clean_gives_nothing_up_without_a_checkpoint_and_says_why() {
    let dir = log(40);
    let count = segments(dir.path());
    let cleaned = run(["clean", arg(dir.path()), "--keep", "1"]);
    assert!(cleaned.text().contains("gave up 0 segments"), "{cleaned:?}");
    assert!(cleaned.text().contains("lack of a checkpoint"), "{cleaned:?}");
    assert_eq!(segments(dir.path()), count);
}

#[test]
fn clean_keeps_what_is_asked_for_and_a_dry_run_changes_nothing() {
    let dir = log(60);
    run(["checkpoint", arg(dir.path()), "--yes"]).ok();
    let before = snapshot(dir.path());
    let would = run(["clean", arg(dir.path()), "--keep", "3", "--dry-run", "--json"]);
    would.ok();
    assert_eq!(snapshot(dir.path()), before);
    let json = would.json();
    assert_eq!((json["dry_run"].as_bool(), json["first_lsn_before"].as_u64()), (Some(true), Some(1)));
    let gone = json["segments"].as_array().unwrap().len();
    assert_eq!(gone, segments(dir.path()) - 3);
    let did = run(["clean", arg(dir.path()), "--keep", "3", "--json"]).json();
    assert_eq!((&did["segments"], &did["first_lsn"]), (&json["segments"], &json["first_lsn"]));
    for name in did["segments"].as_array().unwrap() {
        assert!(!dir.path().join(name.as_str().unwrap()).exists());
    }
    let first = did["first_lsn"].as_u64().unwrap();
    assert_eq!(run(["stat", arg(dir.path()), "--json"]).json()["first_lsn"].as_u64(), Some(first));
    clean_log(dir.path());
}

#[test]
fn clean_by_bytes_and_by_lsn() {
    let dir = log(60);
    run(["checkpoint", arg(dir.path()), "--yes", "--lsn", "30"]).ok();
    run(["clean", arg(dir.path()), "--before", "32"])
        .failed(1, &["LSN 32", "checkpoint at LSN 30", "nothing was done"]);
    let first = |ended: Ended| {
        ended.ok();
        ended.json()["first_lsn"].as_u64().unwrap()
    };
    let by_lsn = first(run(["clean", arg(dir.path()), "--before", "20", "--json"]));
    assert!(by_lsn > 1 && by_lsn <= 20, "{by_lsn}");
    // The limit would have more go, and the checkpoint keeps it.
    let by_bytes = run(["clean", arg(dir.path()), "--max-bytes", "64K", "--json"]);
    assert!(by_bytes.json()["kept_by"].as_str().unwrap().contains("checkpoint at LSN 30"));
    let by_bytes = first(by_bytes);
    assert!(by_bytes > by_lsn && by_bytes <= 31, "{by_bytes}");
    run(["clean", arg(dir.path())]).failed(2, &["--older-than", "--keep", "--max-bytes", "--before"]);
}

#[test]
fn clean_by_age_goes_by_the_records_and_not_by_a_clock_that_is_wrong() {
    let dir = log(40);
    run(["checkpoint", arg(dir.path()), "--yes"]).ok();
    let cleaned = run(["clean", arg(dir.path()), "--older-than", "7d", "--json"]);
    assert_eq!(cleaned.json()["first_lsn"], 1);
    let cleaned = run(["clean", arg(dir.path()), "--older-than", "0s", "--json"]);
    assert!(cleaned.json()["first_lsn"].as_u64().unwrap() > 30, "{cleaned:?}");
    // Records of the future: the clock was wrong, or is.
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Tomorrow(SystemClock::new()));
    let wal = small().clock(clock).background_threads(false).open(dir.path()).unwrap();
    for _ in 0..20 {
        wal.append_with(Append::new(&[1; 8000]).durability(Durability::Synchronous)).unwrap();
    }
    wal.close().unwrap();
    run(["checkpoint", arg(dir.path()), "--yes"]).ok();
    let count = segments(dir.path());
    run(["clean", arg(dir.path()), "--older-than", "0s"]).failed(1, &["future", "nothing was done"]);
    assert_eq!(segments(dir.path()), count);
}

#[test]
fn compress_makes_segments_smaller_and_nothing_else() {
    let dir = log(60);
    let before = snapshot(dir.path());
    let cat = run(["cat", arg(dir.path())]);
    run(["compress", arg(dir.path())]).failed(2, &["--older-than", "--all"]);
    let nothing = run(["compress", arg(dir.path()), "--older-than", "1h", "--dry-run", "--json"]);
    assert_eq!(nothing.json()["segments"].as_array().unwrap().len(), 0, "{nothing:?}");
    let would = run(["compress", arg(dir.path()), "--all", "--dry-run", "--json"]);
    assert_eq!(snapshot(dir.path()), before);
    let would = would.json();
    assert_eq!(would["segments"].as_array().unwrap().len(), segments(dir.path()), "{would}");

    let did = run(["compress", arg(dir.path()), "--all", "--json"]);
    did.ok();
    let did = did.json();
    assert_eq!(did["segments"], would["segments"]);
    let done = &did["done"];
    assert_eq!(
        done["compressed"].as_u64(),
        did["segments"].as_array().map(|names| names.len() as u64),
        "{did}"
    );
    assert!(done["compressed_bytes"].as_u64() < done["plain_bytes"].as_u64().map(|bytes| bytes / 4), "{did}");
    assert_eq!(run(["cat", arg(dir.path())]).text(), cat.text());
    clean_log(dir.path());

    let listed = run(["segments", arg(dir.path()), "--json"]).json();
    let compressed = listed.as_array().unwrap().iter().filter(|segment| segment["compressed"] == true);
    for segment in compressed.clone() {
        let bytes = fs::metadata(dir.path().join(segment["name"].as_str().unwrap())).unwrap().len();
        assert_eq!(segment["bytes"].as_u64(), Some(bytes), "{segment}");
        assert!(segment["plain_bytes"].as_u64().unwrap() > 4 * bytes, "{segment}");
    }
    let stat = run(["stat", arg(dir.path()), "--json"]).json();
    assert_eq!(stat["compressed_segments"].as_u64(), Some(compressed.count() as u64), "{stat}");
    assert!(stat["plain_bytes"].as_u64().unwrap() > 4 * stat["bytes"].as_u64().unwrap(), "{stat}");
    assert!(run(["stat", arg(dir.path())]).text().contains("compressed   "));
    let again = run(["compress", arg(dir.path()), "--older-than", "0s"]);
    assert!(again.text().contains("compressed 0 segments"), "{again:?}");
    // It goes on as ever.
    let lines = dir.path().with_extension("lines");
    fs::write(&lines, "one\ntwo\n").unwrap();
    run(["write", arg(dir.path()), arg(&lines)]).ok();
    fs::remove_file(&lines).unwrap();
    clean_log(dir.path());
}

#[test]
fn compress_tells_a_damaged_segment_and_leaves_it_as_it_is() {
    let dir = log(60);
    let name = snapshot(dir.path()).into_iter().map(|(name, _)| name).find(|name| name.ends_with(".wal"));
    let path = dir.path().join(name.unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let count = segments(dir.path());
    let ended = run(["compress", arg(dir.path()), "--all"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(text.contains("damaged, and left as it is: 00000000000000000001.wal"), "{text}");
    assert!(text.contains(&format!("compressed {} segments", count - 1)), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_changes_a_log_is_refused_beside_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = Live::start(["write", arg(dir.path()), "--ack"]);
    live.feed(b"one\n");
    live.next_line().unwrap();
    for args in [
        vec!["checkpoint", arg(dir.path()), "--yes"],
        vec!["compress", arg(dir.path()), "--all"],
        vec!["holds", arg(dir.path()), "set", "a", "1"],
        vec!["holds", arg(dir.path()), "release", "a"],
    ] {
        run(args).failed(1, &["open for writing elsewhere"]);
    }
    assert_eq!(run(["holds", arg(dir.path())]).text(), "no holds\n");
}

// holds

#[test]
fn holds_are_set_listed_moved_and_released() {
    let dir = log(30);
    run(["checkpoint", arg(dir.path()), "--yes"]).ok();
    let set = run(["holds", arg(dir.path()), "set", "replica", "12"]);
    assert!(set.text().contains("12  replica  (holds 19 records)"), "{set:?}");
    let cleaned = run(["clean", arg(dir.path()), "--keep", "1", "--json"]).json();
    assert!(cleaned["kept_by"].as_str().unwrap().contains("`replica` at LSN 12"), "{cleaned}");
    let first = cleaned["first_lsn"].as_u64().unwrap();
    assert!(first > 1 && first <= 12);
    run(["holds", arg(dir.path()), "set", "late", "1"])
        .failed(1, &["late", &format!("starts at LSN {first}")]);
    run(["holds", arg(dir.path()), "set", "replica", "25"]).ok();
    let listed = run(["holds", arg(dir.path()), "--json"]).json();
    assert_eq!((listed["first_lsn"].as_u64(), listed["last_lsn"].as_u64()), (Some(first), Some(30)));
    assert_eq!(listed["holds"], serde_json::json!([{"name": "replica", "lsn": 25, "records": 6}]));
    assert_eq!(run(["holds", arg(dir.path()), "release", "replica"]).text(), "no holds\n");
    run(["holds", arg(dir.path()), "release", "replica"]).failed(1, &["no hold `replica`"]);
    assert_eq!(
        run(["clean", arg(dir.path()), "--keep", "1", "--json"]).json()["kept_by"],
        "what was asked for"
    );
}

// backup

#[test]
fn a_backup_is_made_taken_up_again_and_restored() {
    let dir = log(40);
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("backup");
    let made = run(["backup", arg(dir.path()), arg(&dest), "--json"]);
    made.ok();
    let json = made.json();
    assert_eq!((json["first_lsn"].as_u64(), json["last_lsn"].as_u64()), (Some(1), Some(40)));
    assert!(json["linked_files"].as_u64().unwrap() > 0, "{json}");
    clean_log(&dest);
    let again = run(["backup", arg(dir.path()), arg(&dest)]);
    assert!(again.text().contains("0 files copied"), "{again:?}");
    assert!(again.text().contains("open a copy of it"), "{again:?}");
    let copied = temp.path().join("copied");
    let copy = run(["backup", arg(dir.path()), arg(&copied), "--copy", "--json"]).json();
    assert_eq!(copy["linked_files"], 0);
    assert_eq!(run(["cat", arg(&copied)]).ok(), run(["cat", arg(dir.path())]).ok());
    let wal = small().open(&copied).unwrap();
    assert_eq!(wal.append(b"on").unwrap().0, 41);
    wal.close().unwrap();
    run(["backup", arg(dir.path()), arg(&copied)]).failed(1, &["written to"]);
    run(["backup", arg(&temp.path().join("nothing")), arg(&dest)]).failed(1, &["nothing"]);
}

#[test]
fn a_backup_beside_a_writer_of_another_process_holds_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let dest = temp.path().join("backup");
    let mut live = Live::start(["write", arg(dir.path()), "--ack", "--segment-size", "64K"]);
    let mut count = 0;
    for round in 0..3 {
        for _ in 0..200 {
            count += 1;
            live.feed(format!("{count} {}\n", "x".repeat(2000)).as_bytes());
            live.next_line().unwrap();
        }
        // Another process sees what a sync mark says, which follows within 100 ms.
        let last = loop {
            let made = run(["backup", arg(dir.path()), arg(&dest), "--json"]);
            made.ok();
            let last = made.json()["last_lsn"].as_u64().unwrap();
            if last == count {
                break last;
            }
            assert!(last < count, "round {round}");
        };
        clean_log(&dest);
        let cat = run(["cat", arg(&dest)]);
        assert_eq!(cat.ok().split(|&byte| byte == b'\n').count() as u64, last + 1);
    }
}

// estimate

#[test]
fn estimate_tells_what_a_recovery_would_read() {
    let dir = log(40);
    let without = run(["estimate", arg(dir.path())]);
    assert!(without.text().contains("none: the replay starts with the first record"), "{without:?}");
    assert!(without.text().contains("40 records"), "{without:?}");
    run(["checkpoint", arg(dir.path()), "--yes", "--lsn", "25"]).ok();
    let with = run(["estimate", arg(dir.path()), "--json"]).json();
    assert_eq!((with["checkpoint_lsn"].as_u64(), with["records"].as_u64()), (Some(25), Some(15)));
    let seconds = |name: &str| with[name].as_f64().unwrap();
    assert!(
        seconds("at_least_seconds") <= seconds("seconds") && seconds("seconds") <= seconds("at_most_seconds")
    );
}

#[test]
fn a_segment_that_is_too_large_to_be_compressed_is_told_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (1..=4000).map(|n| format!("line {n} of a log that is compressed\n")).collect();
    run_with_input(["write", arg(dir.path()), "--segment-size", "64K"], lines.as_bytes()).ok();
    // A hole behind its seal takes no space.
    let first = dir.path().join(format!("{:020}.wal", 1));
    std::fs::File::options().write(true).open(&first).unwrap().set_len(3 << 30).unwrap();
    let compressed = run(["compress", arg(dir.path()), "--all", "--json"]).json();
    let kept = compressed["done"]["kept"].as_array().unwrap();
    assert_eq!((kept.len(), &kept[0]["base"]), (1, &1.into()), "{compressed}");
    assert!(kept[0]["why"].as_str().unwrap().contains("2.5 GiB"), "{compressed}");
    assert!(compressed["done"]["compressed"].as_u64().unwrap() > 0, "{compressed}");
    assert!(first.exists());
    let text = run(["compress", arg(dir.path()), "--all"]);
    assert!(text.text().contains("left the segment from LSN 1 on as it was: it is larger than"), "{text:?}");
}
