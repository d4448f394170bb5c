//! `tail` of a log that another process writes: it wakes for each record, and nothing that happens to files
//! or processes makes it miss or repeat one.

use crate::support::{Live, arg, run, run_with_input};

#[test]
fn tail_shows_the_last_records() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (1..=50).map(|n| format!("{n}\n")).collect();
    run_with_input(["write", arg(dir.path())], text.as_bytes()).ok();
    assert_eq!(run(["tail", arg(dir.path()), "-n", "3"]).text(), "48\n49\n50\n");
    assert_eq!(run(["tail", arg(dir.path())]).text().lines().count(), 10);
    assert_eq!(run(["tail", arg(dir.path()), "-n", "0"]).text(), "");
    assert_eq!(run(["tail", arg(dir.path()), "-n", "1000"]).text(), text);
    let json = run(["tail", arg(dir.path()), "-n", "1", "--format", "json"]).json();
    assert_eq!((json["lsn"].as_u64(), json["payload"].as_str()), (Some(50), Some("50")));
}

#[test]
fn follow_wakes_for_each_record_of_another_process() {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path())], b"before\n").ok();
    let mut tail = Live::start(["tail", "-f", arg(dir.path())]);
    assert_eq!(tail.next_line().unwrap(), b"before");
    let mut writer = Live::start(["write", arg(dir.path()), "--ack"]);
    for n in 2..30u64 {
        // One at a time: each is durable, and nothing follows that could wake the reader for it.
        assert!(writer.feed(format!("record {n}\n").as_bytes()));
        assert_eq!(writer.next_ack().unwrap().1, n);
        assert_eq!(tail.next_line().unwrap(), format!("record {n}").as_bytes());
    }
}

#[test]
fn follow_goes_on_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Live::start(["write", arg(dir.path()), "--ack", "--segment-size", "64K"]);
    let line = |n: u32| format!("{n} {}", "x".repeat(990)).into_bytes();
    assert!(writer.feed(&[line(0), b"\n".to_vec()].concat()));
    writer.next_ack().unwrap();
    let mut tail = Live::start(["tail", "-f", arg(dir.path())]);
    assert!(tail.next_line().unwrap() == line(0));
    // It follows now. A segment ends between two rounds, so the lines come in portions of which none fits
    // into a segment with the next.
    for portion in (1..500).collect::<Vec<u32>>().chunks(40) {
        for n in portion {
            assert!(writer.feed(&[line(*n), b"\n".to_vec()].concat()));
        }
        for n in portion {
            assert!(tail.next_line().unwrap() == line(*n), "line {n}");
        }
    }
    let segments = run(["segments", arg(dir.path()), "--json"]).json();
    assert!(segments.as_array().unwrap().len() > 4, "{segments}");
}

#[test]
fn follow_survives_the_writer_and_meets_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Live::start(["write", arg(dir.path()), "--ack"]);
    assert!(writer.feed(b"one\n"));
    writer.next_ack().unwrap();
    let mut tail = Live::start(["tail", "-f", arg(dir.path())]);
    assert_eq!(tail.next_line().unwrap(), b"one");
    for text in ["two", "three", "four", "five"] {
        writer.kill_and_drain();
        writer = Live::start(["write", arg(dir.path()), "--ack"]);
        assert!(writer.feed(format!("{text}\n").as_bytes()));
        writer.next_ack().unwrap();
        assert_eq!(tail.next_line().unwrap(), text.as_bytes());
    }
}

#[test]
fn follow_ends_quietly_when_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    run_with_input(["write", arg(dir.path())], b"one\n").ok();
    let mut command = crate::support::braidlog(["tail", "-f", arg(dir.path())]);
    let mut tail = command.spawn().unwrap();
    drop(tail.stdout.take());
    // The closed pipe is met at the latest with the next record.
    run_with_input(["write", arg(dir.path())], b"two\n").ok();
    let output = tail.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
