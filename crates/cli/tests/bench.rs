//! `braidlog bench` in miniature: what it tells, what it refuses, and that it leaves nothing behind.
//!
//! No figure is compared with a limit: they are the machine's business. That they belong together is tested.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Live, arg, run};

/// The smallest run: every mode, a few records, a few hundredths of a second.
fn tiny(dir: &Path) -> Vec<String> {
    let options = "--threads 1,2 --sizes 16,4K --seconds 0.01 --repetitions 2 --max-bytes 64M";
    ["bench", arg(dir)].into_iter().chain(options.split(' ')).map(str::to_owned).collect()
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn rows_are_told_as_json_with_their_ratios_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "untouched").unwrap();
    let report = run(tiny(dir.path()).iter().map(String::as_str).chain(["--json"])).json();

    let rows = report["rows"].as_array().unwrap();
    let shape = |row: &serde_json::Value| {
        (
            row["mode"].as_str().unwrap().to_owned(),
            row["record_bytes"].as_u64().unwrap(),
            row["threads"].as_u64().unwrap(),
        )
    };
    let mut expected = Vec::new();
    for mode in ["async", "group", "sync"] {
        for bytes in [16, 4096] {
            expected.extend([1, 2].map(|threads| (mode.to_owned(), bytes, threads)));
        }
    }
    assert_eq!(rows.iter().map(shape).collect::<Vec<_>>(), expected);
    for row in rows {
        let of = |name: &str| row[name]["median"].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        for name in ["records", "records_per_second", "to_raw", "p50_ns", "records_per_sync"] {
            assert!(of(name) > 0.0, "{name}: {row}");
            assert_eq!(row[name]["count"], 2, "{name}: {row}");
        }
        assert!(of("p50_ns") <= of("p99_ns") && of("p99_ns") <= of("p999_ns"), "{row}");
        assert!(of("cpu_seconds_per_million_records") >= 0.0);
        let bytes = row["record_bytes"].as_f64().unwrap();
        assert!(of("disk_bytes_per_record") > bytes, "{row}");
        assert!((of("bytes_per_second") / of("records_per_second") / bytes - 1.0).abs() < 1e-6, "{row}");
        assert_eq!(row["raw"], if row["mode"] == "async" { "stream" } else { "loop" });
    }
    for name in ["loop_buffered_per_second", "stream_bytes_per_second"] {
        assert!(report["raw"][name]["median"].as_f64().unwrap() > 0.0, "{name}");
    }
    assert!(report["machine"]["threads"].as_u64().unwrap() > 0);

    assert_eq!(names(dir.path()), ["mine"]);
    assert_eq!(fs::read(dir.path().join("mine")).unwrap(), b"untouched");
}

#[test]
fn table_has_a_line_for_each_row_and_the_picture_is_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("plot.svg");
    let ended = run(tiny(dir.path()).iter().map(String::as_str).chain(["--plot", arg(&plot)]));
    let modes = |mode: &str| ended.text().lines().filter(|line| line.starts_with(mode)).count();
    assert_eq!([modes("async "), modes("group "), modes("sync ")], [4, 4, 4], "{}", ended.text());
    assert!(ended.text().contains("x raw") && ended.text().contains("raw: write 4096 + fdatasync, buffered"));
    assert_eq!(ended.stderr, "", "progress is for terminals");

    let svg = fs::read_to_string(&plot).unwrap();
    let svg = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = svg.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    for text in
        ["records of 16 bytes", "records of 4096 bytes", "async", "group", "sync", "raw stream", "threads"]
    {
        assert!(texts.iter().any(|found| found.contains(text)), "{text}: {texts:?}");
    }
    let lines = |node: &roxmltree::Node| node.has_tag_name("polyline");
    // In each of two panels three modes and two level lines, each of them again in the legend.
    assert!(svg.descendants().filter(lines).count() >= 10);
    assert_eq!(names(dir.path()), ["plot.svg"]);
}

#[test]
fn interrupted_it_removes_what_it_made() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let mut live = Live::start(["bench", arg(dir.path()), "--seconds", "3600", "--modes", "group"]);
        // The heads of the columns are printed when the first row begins.
        while !live.next_line().unwrap().starts_with(b"mode") {}
        assert_eq!(names(dir.path()).len(), 1);
        kill_process(Pid::from_raw(live.id().cast_signed()).unwrap(), signal).unwrap();
        let (status, said) = live.wait();
        assert_eq!((status.code(), said.as_str()), (Some(130), ""));
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    run(["bench", arg(&missing)]).failed(1, &[arg(&missing)]);
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    run(["bench", arg(&file)]).failed(2, &[arg(&file), "no directory"]);
    run(["bench", arg(dir.path()), "--max-bytes", "8000000G"]).failed(2, &["free", "--max-bytes"]);
    for options in [
        ["--threads", "0"],
        ["--threads", "1,x"],
        ["--modes", "perhaps"],
        ["--sizes", "7"],
        ["--sizes", "17M"],
        ["--seconds", "0"],
        ["--repetitions", "0"],
        ["--max-bytes", "1M"],
        ["--plot", "/no/such/directory/plot.svg"],
    ] {
        run(["bench", arg(dir.path())].into_iter().chain(options)).failed(2, &[]);
    }
    assert_eq!(names(dir.path()), ["file"]);
    assert_eq!(fs::read(&file).unwrap(), b"text");
}
