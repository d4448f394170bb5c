//! Processes that die: `SIGKILL` at any moment, on the real file system, and what the next process finds.
//!
//! The test starts itself again as the child: a child is the test of the same name that finds its
//! directory in the environment. What it was acknowledged it writes into a pipe, which outlives it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use braidlog::{
    Append, Durability, DurabilityMode, ErrorKind, Incarnation, IoMode, Lsn, OnIoError, Options, Rung, Wal,
};
use braidlog_sim::{Rng, Stamp};

const DIR: &str = "BRAIDLOG_TEST_DIR";
const SEED: &str = "BRAIDLOG_TEST_SEED";
const WRITERS: u32 = 4;

/// The directory in which this process is the child, if it is one.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// Starts the test `name` as a child in `dir`.
fn spawn(name: &str, dir: &Path, seed: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// Tells the parent something: one write of one line, which a pipe takes whole.
fn tell(line: &str) {
    std::io::stdout().write_all(format!("\n@{line}\n").as_bytes()).unwrap();
}

/// What the child told, line by line, until it ended.
fn told(stdout: impl BufRead) -> impl Iterator<Item = String> {
    // What the test harness prints itself begins otherwise; a line that the kill cut short does not end.
    stdout.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix('@').map(str::to_owned))
}

fn any_options(rng: &mut Rng) -> Options {
    let modes = [
        DurabilityMode::Synchronous,
        DurabilityMode::group_commit(),
        DurabilityMode::asynchronous(),
        DurabilityMode::async_batched(),
    ];
    let io_modes = [IoMode::Auto, IoMode::Buffered];
    Wal::options()
        .mode(modes[rng.index(4)])
        .num_stripes(1 << rng.below(4))
        .stripe_capacity(4096 << rng.below(4))
        .segment_size((64 << 10) << rng.below(6))
        .io_mode(io_modes[rng.index(2)])
        .background_threads(!rng.one_in(4))
}

/// Appends until it is killed, and tells what is durable as soon as it knows.
fn write_until_killed(dir: &Path) -> ! {
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let mut rng = Rng::new(seed);
    let wal = any_options(&mut rng).open(dir).unwrap();
    tell(&format!("incarnation {}", wal.incarnation()));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let wal = &wal;
            let mut rng = Rng::new(seed << 8 | u64::from(writer));
            scope.spawn(move || {
                for seq in 0.. {
                    let most = if rng.one_in(50) { 30_000 } else { 400 };
                    let len = 16 + rng.index(most);
                    let payload = Stamp::single(writer, seq).payload(len);
                    let durability = [Durability::Synchronous, Durability::GroupCommit][rng.index(2)];
                    let durability = if rng.one_in(3) { Durability::Async } else { durability };
                    let lsn = wal.append_with(Append::new(&payload).durability(durability)).unwrap();
                    if durability != Durability::Async {
                        tell(&format!("{lsn} {writer} {seq}"));
                    }
                }
            });
        }
    });
    unreachable!("writers end only with the process")
}

#[test]
fn acknowledged_records_survive_sigkill() {
    if let Some(dir) = child_dir() {
        write_until_killed(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(1);
    let mut last = Lsn::ZERO;
    let mut incarnation = Incarnation(0);
    for round in 0..25 {
        let (mut child, stdout) = spawn("acknowledged_records_survive_sigkill", dir.path(), round);
        // It is killed after so many acknowledgements, so also in the middle of opening.
        let patience = rng.index(400);
        let mut lines = told(stdout);
        let mut acknowledged: Vec<String> = lines.by_ref().take(patience).collect();
        child.kill().unwrap();
        // It may have told more before it died.
        acknowledged.extend(lines);
        child.wait().unwrap();

        let wal = any_options(&mut rng).open(dir.path()).unwrap();
        assert!(wal.incarnation() > incarnation, "round {round}");
        incarnation = wal.incarnation();
        for line in &acknowledged {
            let words: Vec<&str> = line.split(' ').collect();
            let [lsn, writer, seq] = words[..] else {
                assert!(words[0] == "incarnation" && words[1].parse::<u64>().unwrap() < incarnation.0);
                continue;
            };
            let record = wal.read(lsn.parse().unwrap()).unwrap();
            let record = record.unwrap_or_else(|| panic!("round {round}: LSN {lsn} was acknowledged"));
            let stamp = Stamp::single(writer.parse().unwrap(), seq.parse().unwrap());
            assert_eq!(Stamp::of(&record.payload), stamp, "round {round}");
        }
        // What is new is dense, and each writer's records are there without a hole.
        let mut next = [0; WRITERS as usize];
        for record in wal.iter(last.next()..).unwrap() {
            let record = record.unwrap();
            last = last.next();
            assert_eq!(record.lsn, last, "round {round}");
            let stamp = Stamp::of(&record.payload);
            assert_eq!(stamp.seq, next[stamp.writer as usize], "round {round}");
            next[stamp.writer as usize] += 1;
        }
        assert_eq!(wal.last_lsn(), last, "round {round}");
        match rng.below(2) {
            0 => wal.close().unwrap(),
            _ => drop(wal),
        }
    }
    assert!(last > Lsn(1000), "the children got to write: {last}");
    let report = braidlog::verify(dir.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.last_lsn, last);
}

#[test]
fn written_records_survive_sigkill() {
    const NAME: &str = "written_records_survive_sigkill";
    if let Some(dir) = child_dir() {
        let seed = std::env::var(SEED).unwrap().parse().unwrap();
        let wal = any_options(&mut Rng::new(seed)).open(dir).unwrap();
        for seq in 0.. {
            let payload = Stamp::single(0, seq).payload(16 + seq as usize % 3000);
            let lsn = wal.append_with(Append::new(&payload).durability(Durability::Async)).unwrap();
            if seq % 3 == 0 {
                wal.wait_reached(Rung::Written, lsn).unwrap();
                tell(&lsn.to_string());
            }
        }
    }
    let mut rng = Rng::new(2);
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, stdout) = spawn(NAME, dir.path(), seed);
        let mut lines = told(stdout);
        let mut written = lines.by_ref().take(1 + rng.index(100)).last().unwrap();
        child.kill().unwrap();
        written = lines.last().unwrap_or(written);
        child.wait().unwrap();
        let wal = Wal::options().open(dir.path()).unwrap();
        let written: Lsn = written.parse().unwrap();
        assert!(wal.last_lsn() >= written, "seed {seed}: {} of {written}", wal.last_lsn());
        for (seq, record) in wal.replay().unwrap().enumerate() {
            assert_eq!(Stamp::of(&record.unwrap().payload), Stamp::single(0, seq as u32), "seed {seed}");
        }
    }
}

#[test]
fn a_writer_in_another_process_is_told_and_its_death_frees_the_log() {
    const NAME: &str = "a_writer_in_another_process_is_told_and_its_death_frees_the_log";
    if let Some(dir) = child_dir() {
        let wal = Wal::options().open(dir).unwrap();
        tell(&format!("{}", wal.append(b"x").unwrap()));
        // Until it is killed.
        loop {
            thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for expected in 1..=3 {
        let (mut child, stdout) = spawn(NAME, dir.path(), 0);
        assert_eq!(told(stdout).next().unwrap(), expected.to_string());
        let error = Wal::options().open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        let reader = Wal::open_read_only(dir.path()).unwrap();
        assert!(reader.is_live().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!reader.is_live().unwrap());
        assert_eq!(reader.last_lsn().unwrap(), Lsn(expected));
        let wal = Wal::options().open(dir.path()).unwrap();
        assert_eq!(wal.last_lsn(), Lsn(expected));
    }
}

#[test]
fn a_reader_follows_a_writer_in_another_process() {
    const NAME: &str = "a_reader_follows_a_writer_in_another_process";
    if let Some(dir) = child_dir() {
        write_until_killed(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut child, stdout) = spawn(NAME, dir.path(), 4);
    let mut lines = told(stdout);
    assert_eq!(lines.next().unwrap(), "incarnation 1");
    let reader = Wal::open_read_only(dir.path()).unwrap();
    let mut watcher = reader.watch().unwrap();
    let mut seen = Lsn::ZERO;
    thread::scope(|scope| {
        // The pipe is kept empty, so that the child is not stopped by it.
        let drained = scope.spawn(|| lines.count());
        while seen < Lsn(2000) {
            for record in reader.iter(seen.next()..).unwrap() {
                let record = record.unwrap();
                seen = seen.next();
                assert_eq!(record.lsn, seen);
                Stamp::of(&record.payload);
            }
            watcher.wait(Duration::from_millis(100)).unwrap();
        }
        child.kill().unwrap();
        assert!(drained.join().unwrap() > 0);
    });
    child.wait().unwrap();
    assert!(Wal::options().open(dir.path()).unwrap().last_lsn() >= seen, "what was shown stays");
}

#[test]
fn a_failure_aborts_the_process_if_asked_to() {
    const NAME: &str = "a_failure_aborts_the_process_if_asked_to";
    if child_dir().is_some() {
        let disk = braidlog_sim::SimDisk::new();
        let options = Wal::options().storage(std::sync::Arc::new(disk.clone())).on_io_error(OnIoError::Abort);
        let wal = options.mode(DurabilityMode::Synchronous).open("wal").unwrap();
        tell("open");
        disk.inject(braidlog_sim::Fault::eio(braidlog_sim::Op::Sync).on(".wal"));
        let outcome = wal.append(b"x");
        tell(&format!("still there: {outcome:?}"));
        return;
    }
    let (mut child, stdout) = spawn(NAME, Path::new("nowhere"), 0);
    assert_eq!(told(stdout).collect::<Vec<_>>(), ["open"]);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("abort"), "it says why: {stderr}");
    assert!(!child.wait().unwrap().success());
}
