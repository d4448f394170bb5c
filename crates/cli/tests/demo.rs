//! The main job from end to end on real text: 16 writers, SIGKILL in the middle, open, verify, read, go on.
//!
//! Once step by step with an oracle of this file's own, and as `braidlog demo` does it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::thread;

use crate::support::{Live, PACKAGES, arg, parse_acks, read_all, run, run_with_input};

/// How often each line occurs.
fn counted<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> HashMap<&'a [u8], usize> {
    let mut counts = HashMap::new();
    lines.into_iter().for_each(|line| *counts.entry(line).or_default() += 1);
    counts
}

#[test]
fn acknowledged_lines_of_real_text_survive_sigkill_and_the_rest_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<&[u8]> = PACKAGES.lines().map(str::as_bytes).collect();
    let input = counted(lines.iter().copied());
    let writing = ["write", arg(dir.path()), "-", "--ack", "--blocking", "--writers", "16"];

    let mut writer = Live::start(writing);
    let mut stdin = writer.take_stdin();
    let feeder = thread::spawn(move || {
        // It is killed before it has read all.
        drop(stdin.write_all(PACKAGES.as_bytes()));
        stdin
    });
    let mut acks = Vec::new();
    while acks.len() < lines.len() / 2 {
        acks.push(writer.next_ack().expect("it goes on"));
    }
    acks.extend(writer.kill_and_drain());
    drop(feeder.join());

    // Beside nobody: what recovery would keep. Then what it has kept.
    let shown = read_all(dir.path());
    run(["verify", arg(dir.path())]).ok();
    run(["write", arg(dir.path())]).ok();
    run(["verify", arg(dir.path())]).ok();
    let kept = read_all(dir.path());
    assert_eq!(shown.len(), kept.len());
    assert!(shown.iter().zip(&kept).all(|(shown, kept)| shown.payload == kept.payload));
    assert!(acks.len() <= kept.len() && kept.len() <= lines.len());
    for (line, lsn) in &acks {
        assert_eq!(kept[*lsn as usize - 1].payload, lines[*line as usize - 1], "line {line} at LSN {lsn}");
    }
    let mut missing = input.clone();
    for record in &kept {
        let left = missing.get_mut(record.payload.as_slice()).expect("only what was written");
        *left = left.checked_sub(1).expect("not more often than it was written");
    }
    let cat = run(["cat", arg(dir.path())]);
    let texts: Vec<&[u8]> = cat.ok().split(|byte| *byte == b'\n').collect();
    assert!(kept.iter().map(|record| record.payload.as_slice()).eq(texts[..kept.len()].iter().copied()));
    assert_eq!(texts.len(), kept.len() + 1, "nothing behind the last newline");

    let rest: Vec<&[u8]> = missing.iter().flat_map(|(line, count)| vec![*line; *count]).collect();
    let mut text = rest.join(b"\n".as_slice());
    text.push(b'\n');
    let ended = run_with_input(writing, if rest.is_empty() { b"" } else { &text });
    assert_eq!(parse_acks(ended.ok()).len(), rest.len());
    run(["verify", arg(dir.path())]).ok();
    let all = read_all(dir.path());
    assert!(all.iter().zip(&kept).all(|(all, kept)| all.payload == kept.payload), "what was kept stays");
    assert_eq!(counted(all.iter().map(|record| record.payload.as_slice())), input);
}

#[test]
fn demo_keeps_every_promise_and_ends_with_a_verdict() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("log");
    let ended = run(["demo", "--dir", arg(&dir)]);
    let steps: Vec<&str> = ended.text().lines().collect();
    for (step, name) in
        steps.iter().zip(["write", "kill", "reopen", "verify", "check", "append", "verify", "check"])
    {
        assert!(step.contains(&format!(". {name}")), "{steps:#?}");
    }
    assert!(steps.last().unwrap().starts_with("verdict: every promise was kept"), "{steps:#?}");
    let found = read_all(&dir);
    let input = counted(PACKAGES.lines().map(str::as_bytes));
    assert_eq!(counted(found.iter().map(|record| record.payload.as_slice())), input);
    run(["demo", "--dir", arg(&dir)]).failed(2, &[arg(&dir), "not empty"]);
    assert_eq!(read_all(&dir).len(), found.len());
}

#[test]
fn demo_takes_any_text() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("text");
    for text in [b"one line".to_vec(), b"\n".to_vec(), b"twice\ntwice\n\xff\xfe\n\n\n".to_vec()] {
        fs::write(&file, &text).unwrap();
        assert!(run(["demo", arg(&file)]).text().contains("verdict: every promise was kept"));
        assert!(run_with_input(["demo", "-"], &text).text().contains("verdict: every promise was kept"));
    }
    run_with_input(["demo", "-"], b"").failed(2, &["no lines"]);
    run(["demo", arg(&place.path().join("missing"))]).failed(1, &["missing"]);
}
