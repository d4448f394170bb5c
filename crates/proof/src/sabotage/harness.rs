//! The harnesses that have to catch the deliberate bugs: how each is built and run.
//!
//! The rule: a harness is a process that ends with success if and only if it saw every promise kept. It is built
//! once, and run from its executable.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use braidlog_sabotage::VARIABLE;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::part::{root, target_dir};

/// A way to look for broken promises.
pub struct Harness {
    /// What it is called here and in the docs.
    pub name: &'static str,
    start: Start,
}

/// What it runs.
enum Start {
    /// Tests of the crate in this directory: the binary of this name (`lib` for those in `src`), and of it those
    /// whose names contain one of these words, or all.
    Tests { of: &'static str, binary: &'static str, named: &'static [&'static str] },
    /// The engine's models in `loom_` and this.
    Models(&'static str),
    /// A part of the command, with these arguments.
    Part(&'static [&'static str]),
}

const fn tests(name: &'static str, of: &'static str, binary: &'static str) -> Harness {
    only(name, of, binary, &[])
}

/// Of a slow binary the tests that a bug needs.
const fn only(
    name: &'static str,
    of: &'static str,
    binary: &'static str,
    named: &'static [&'static str],
) -> Harness {
    Harness { name, start: Start::Tests { of, binary, named } }
}

/// The models of one file.
const fn models(name: &'static str, of: &'static str) -> Harness {
    Harness { name, start: Start::Models(of) }
}

/// A part of the proof, small.
const fn part(name: &'static str, arguments: &'static [&'static str]) -> Harness {
    Harness { name, start: Start::Part(arguments) }
}

/// All harnesses.
pub const HARNESSES: &[Harness] = &[
    tests("append", "braidlog", "append"),
    tests("backup", "braidlog", "backup"),
    tests("close", "braidlog", "close"),
    tests("closing wakers", "braidlog", "closing_wakers"),
    only("crash", "braidlog", "crash", &["rounds_that_no_sync_covers"]),
    tests("disk failure", "braidlog", "disk_failure"),
    tests("no block free", "braidlog", "no_block_free"),
    only("full disk", "braidlog", "disk_failure", &["lack_of_space", "full_disk"]),
    tests("durability", "braidlog", "durability"),
    tests("limits", "braidlog", "limits"),
    tests("order", "braidlog", "order"),
    only("reopen", "braidlog", "reopen", &["incarnation_rises", "share_a_salt"]),
    tests("rungs", "braidlog", "rungs"),
    only("damage", "recovery", "damage", &["another_time", "below_a_sync_mark", "every_damaged_place"]),
    tests("checkpoints", "recovery", "checkpoint"),
    tests("checkpoint crash", "recovery", "checkpoint_crash"),
    tests("restore", "recovery", "restore"),
    tests("interrupted recovery", "recovery", "interrupted"),
    tests("reader", "recovery", "reader"),
    tests("recycled", "recovery", "recycled"),
    only("rotation", "engine", "lib", &["rotation"]),
    only("spares", "engine", "lib", &["spares"]),
    tests("torn tail", "recovery", "torn_tail"),
    tests("retention", "braidlog", "retention"),
    only("retention, decided", "recovery", "lib", &["retention::"]),
    tests("truncated", "recovery", "truncated"),
    only("packed", "recovery", "packed", &["reading_one_record", "beside_its_original"]),
    tests("packing crash", "recovery", "packed_crash"),
    only(
        "repair",
        "recovery",
        "repair",
        &["lost_header", "second_damage", "damaged_packed", "crashed_anywhere"],
    ),
    tests("given up", "recovery", "given_up"),
    tests("points", "braidlog", "points"),
    tests("fork", "braidlog", "fork"),
    tests("partitions", "recovery", "partitioned"),
    only("fields", "braidlog", "record_fields", &["fork"]),
    only("presets", "braidlog", "presets", &["power_cut"]),
    tests("transactions", "braidlog", "transactions"),
    tests("transactions, mixed", "braidlog", "transactions_mixed"),
    tests("typed", "braidlog", "typed"),
    tests("effects", "recovery", "effects"),
    tests("streaming", "braidlog", "streaming"),
    tests("subscription", "braidlog", "subscribe"),
    tests("in doubt", "recovery", "in_doubt"),
    tests("prepared", "braidlog", "prepared"),
    tests("two-phase commit", "braidlog", "two_phase"),
    tests("streams", "braidlog", "streams"),
    tests("streams crash", "braidlog", "streams_crash"),
    part("enumerate", &["enumerate", "--rounds", "60", "--threads", "1"]),
    part("kill", &["kill", "--rounds", "100"]),
    part("readings", &["readings", "--rounds", "40", "--threads", "1"]),
    part("followers", &["followers", "--rounds", "30", "--threads", "1"]),
    part("rot", &["rot", "--stride", "97", "--pairs", "500"]),
    part("single", &["single", "--rounds", "400", "--threads", "1"]),
    models("models: failure", "failure"),
    models("models: flight", "flight"),
    models("models: flusher", "flusher"),
    models("models: frontier", "frontier"),
    models("models: jobs", "jobs"),
    models("models: merge", "merge"),
    models("models: committers", "committers"),
    models("models: role", "role"),
    models("models: room", "room"),
    models("models: stripe", "stripe"),
    models("models: tasks", "tasks"),
    models("models: waiters", "waiters"),
    models("models: watch", "watch"),
];

/// Features of the crates that have any, so that packed segments and values are there to be wrong.
const FEATURES: [(&str, &[&str]); 2] = [("braidlog", &["zstd", "postcard", "rkyv"]), ("recovery", &["zstd"])];

/// The harness of this name.
pub fn find(name: &str) -> Option<&'static Harness> {
    HARNESSES.iter().find(|harness| harness.name == name)
}

impl Harness {
    /// The file with its code, from the top of the repository; `None` if it is spread over several.
    pub fn source(&self) -> Option<PathBuf> {
        match &self.start {
            Start::Tests { binary: "lib", .. } | Start::Part(_) => None,
            Start::Models(of) => Some(PathBuf::from(format!("crates/engine/src/tests/loom_{of}.rs"))),
            Start::Tests { of, binary, .. } => Some(PathBuf::from(format!("crates/{of}/tests/{binary}.rs"))),
        }
    }
}

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it ended otherwise than with success.
    pub caught: bool,
    /// Whether it did not end in time and was killed.
    pub hung: bool,
    /// The tests that failed, as far as it names them.
    pub failed: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// Where its output is.
    pub output: PathBuf,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.caught, self.hung) {
            (_, true) => "caught: it never ends",
            (true, false) => "caught",
            (false, false) => "NOT CAUGHT",
        };
        write!(
            f,
            "{how} {:.1} s {} ({})",
            self.took.as_secs_f64(),
            self.failed.join(" "),
            self.output.display()
        )
    }
}

/// The executables.
pub struct Built {
    /// By flag of the build, directory of the crate and name of the binary.
    executables: BTreeMap<(Build, String, String), PathBuf>,
    logs: PathBuf,
    runs: AtomicU64,
}

/// With which flags it is built beside the one for the bugs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Build {
    Plain,
    Loom,
}

/// Builds what these harnesses need, with the bugs in it.
///
/// # Panics
/// If it does not compile.
pub fn build(harnesses: &[&Harness]) -> Built {
    let logs = target_dir().join("sabotage/logs");
    fs::create_dir_all(&logs).expect("the target directory can be written");
    let mut built = Built { executables: BTreeMap::new(), logs, runs: AtomicU64::new(0) };
    let mut packages: BTreeMap<Build, Vec<&str>> = BTreeMap::new();
    for harness in harnesses {
        match harness.start {
            Start::Tests { of, .. } => packages.entry(Build::Plain).or_default().push(of),
            Start::Models(_) => packages.entry(Build::Loom).or_default().push("engine"),
            Start::Part(_) => packages.entry(Build::Plain).or_default().push("proof"),
        }
    }
    for (build, mut directories) in packages {
        directories.sort_unstable();
        directories.dedup();
        built.compile(build, &directories);
    }
    built
}

impl Built {
    fn compile(&mut self, build: Build, directories: &[&str]) {
        let (flags, target) = match build {
            Build::Plain => ("--cfg braidlog_sabotage", "sabotage"),
            Build::Loom => ("--cfg braidlog_sabotage --cfg braidlog_loom", "sabotage-loom"),
        };
        let mut command = Command::new("cargo");
        command
            .current_dir(root())
            .env("RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", target_dir().join(target));
        // Release, as users run it: no assertion of the code's own catches what the harness has to.
        command.args([
            "test",
            "--release",
            "--locked",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ]);
        if build == Build::Loom {
            command.arg("--lib");
        }
        for &directory in directories {
            let package =
                if directory == "braidlog" { directory.to_owned() } else { format!("braidlog-{directory}") };
            command.args(["-p", &package]);
            for (_, features) in FEATURES.iter().filter(|(of, _)| *of == directory) {
                for feature in *features {
                    command.args(["--features", &format!("{package}/{feature}")]);
                }
            }
        }
        let output = command.stderr(Stdio::inherit()).output().expect("cargo can be run");
        assert!(output.status.success(), "the harnesses do not compile with the bugs in them");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let Some(executable) = message["executable"].as_str() else { continue };
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            let directory = manifest.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let binary = match (&message["target"]["kind"][0], message["profile"]["test"] == true) {
                (kind, true) if kind == "lib" => "lib",
                (kind, false) if kind == "bin" => "command",
                (kind, true) if kind == "bin" => continue,
                // One may have the name of a test.
                (kind, _) if kind == "example" => continue,
                _ => message["target"]["name"].as_str().unwrap_or_default(),
            };
            self.executables
                .insert((build, directory.into_owned(), binary.to_owned()), PathBuf::from(executable));
        }
    }

    fn command(&self, harness: &Harness) -> Command {
        let (build, of, binary) = match harness.start {
            Start::Tests { of, binary, .. } => (Build::Plain, of, binary),
            Start::Models(_) => (Build::Loom, "engine", "lib"),
            Start::Part(_) => (Build::Plain, "proof", "command"),
        };
        let executable = &self.executables[&(build, of.to_owned(), binary.to_owned())];
        let mut command = Command::new(executable);
        command.current_dir(root().join("crates").join(of));
        match harness.start {
            Start::Tests { named: arguments, .. } | Start::Part(arguments) => command.args(arguments),
            Start::Models(of) => command.arg(format!("tests::loom_{of}::")),
        };
        command
    }

    /// Runs a harness, with the bug of this name in it or with none.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, harness: &Harness, bug: Option<&str>, limit: Duration) -> Outcome {
        // Relaxed: the number is all that is shared.
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let output = self.logs.join(format!(
            "{}-{}-{number}",
            bug.unwrap_or("none"),
            harness.name.replace([' ', ':', ','], "-")
        ));
        let log = File::create(&output).expect("the target directory can be written");
        let mut command = self.command(harness);
        command.env_remove(VARIABLE).envs(bug.map(|bug| (VARIABLE, bug)));
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file has more descriptors"))
            .stdout(log);
        // A group of its own, so that the processes which it starts end with it.
        command.process_group(0);
        let began = Instant::now();
        let mut child = command.spawn().expect("what was built can be run");
        let group = Pid::from_child(&child);
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn(move || drop(sender.send(child.wait())));
        let ended = receiver.recv_timeout(limit);
        if ended.is_err() {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
        waiter.join().expect("waiting for a process does not panic");
        let took = began.elapsed();
        let succeeded = ended.as_ref().is_ok_and(|ended| ended.as_ref().is_ok_and(|status| status.success()));
        let failed = failed_tests(
            &fs::read(&output).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default(),
        );
        Outcome { caught: !succeeded, hung: ended.is_err(), failed, took, output }
    }
}

/// The tests that the output of a test binary says have failed.
fn failed_tests(output: &str) -> Vec<String> {
    let Some((_, list)) = output.rsplit_once("\nfailures:\n") else { return Vec::new() };
    list.lines().map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_read_from_what_the_test_binary_prints() {
        let output = "running 3 tests\n\nfailures:\n\n---- a stdout ----\nno\n\n\nfailures:\n    a\n    b::c\n\ntest result: FAILED.";
        assert_eq!(failed_tests(output), ["a", "b::c"]);
        assert_eq!(failed_tests("test result: ok."), [""; 0]);
    }
}
