//! A quiet life: a log that is opened, used for next to nothing and left, again and again, stays small.

use std::path::Path;

use crate::support::{Live, arg, read_all, run, run_with_input};

const MIB: u64 = 1 << 20;

fn bytes_of(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn count_of(dir: &Path, suffix: &str) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(suffix)).count()
}

#[test]
fn directory_stays_small_over_many_openings_and_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..60u64 {
        let line = format!("round {round}\n");
        match round % 4 {
            // Opened and left.
            0 => {
                run(["write", arg(dir.path())]).ok();
            }
            // One record, closed.
            1 => {
                run_with_input(["write", arg(dir.path())], line.as_bytes()).ok();
                acknowledged.push(round);
            }
            // One record, killed.
            2 => {
                let mut writer = Live::start(["write", arg(dir.path()), "--ack"]);
                assert!(writer.feed(line.as_bytes()));
                assert!(writer.next_ack().is_some());
                writer.kill_and_drain();
                acknowledged.push(round);
            }
            // Killed somewhere on the way: the record may be there or not.
            _ => {
                let mut writer = Live::start(["write", arg(dir.path()), "--ack"]);
                writer.feed(line.as_bytes());
                if !writer.kill_and_drain().is_empty() {
                    acknowledged.push(round);
                }
            }
        }
        // A killed writer leaves its segment and the next one, both laid out in advance.
        assert!(bytes_of(dir.path()) < 2 * 64 * MIB + 4 * MIB, "{} in round {round}", bytes_of(dir.path()));
        if round % 4 < 2 {
            assert!(bytes_of(dir.path()) < 2 * MIB, "{} in round {round}", bytes_of(dir.path()));
            assert_eq!(count_of(dir.path(), ".prep"), 0, "round {round}");
        }
    }
    run(["write", arg(dir.path())]).ok();
    run(["verify", arg(dir.path())]).ok();
    let found: Vec<String> =
        read_all(dir.path()).into_iter().map(|record| String::from_utf8(record.payload).unwrap()).collect();
    assert!(found.is_sorted_by_key(|text| text[6..].parse::<u64>().unwrap()), "{found:?}");
    for round in acknowledged {
        assert!(found.contains(&format!("round {round}")), "round {round} was acknowledged");
    }
    assert!(bytes_of(dir.path()) < 2 * MIB, "{}", bytes_of(dir.path()));
}

#[test]
fn opening_and_closing_leaves_no_further_file() {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path())], b"the only one\n").ok();
    run(["write", arg(dir.path())]).ok();
    let (segments, bytes) = (count_of(dir.path(), ".wal"), bytes_of(dir.path()));
    for _ in 0..20 {
        run(["write", arg(dir.path())]).ok();
    }
    assert_eq!(count_of(dir.path(), ".wal"), segments);
    assert_eq!(bytes_of(dir.path()), bytes);
    assert_eq!(read_all(dir.path()).len(), 1);
}
