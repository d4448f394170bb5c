//! The parts of a full run: for each, how it is started, how its counts are read, and what it must come to.
//!
//! The rule: a part is a process of its own. It ends with success only if every promise held, and what it counted
//! stands in its output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a part did, by name.
pub type Tally = BTreeMap<String, u64>;

/// One part.
pub struct Part {
    /// Its name, on the command line and in the ledger.
    pub name: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    /// What a full run of it must count at least.
    pub least: &'static [(&'static str, u64)],
    /// Whether it keeps one core busy at the most, so that another part may run beside it.
    pub is_narrow: bool,
    start: Start,
}

/// How a part is started.
enum Start {
    /// As a part of this command, with these arguments.
    Own(&'static [&'static str]),
    /// As a part of this command, built under `--cfg braidlog_shuttle`.
    Shuttle(&'static [&'static str]),
    /// As the models of the engine.
    Loom,
    /// As the fuzz target of this name, for this many seconds.
    Fuzz(&'static str, u32),
    /// As the stress tests under ThreadSanitizer.
    ThreadSanitizer,
}

/// The engine's models: a run that filtered some out, or lost a file of them, is none.
const MODELS: u64 = 64;

/// All parts, the long ones first.
pub const PARTS: &[Part] = &[
    Part {
        name: "fuzz-operations",
        what: "operations, faults and crashes from fuzzed bytes, against the model",
        least: &[("executions", 1_000)],
        is_narrow: true,
        start: Start::Fuzz("operations", 600),
    },
    Part {
        name: "fuzz-recover_directory",
        what: "fuzzed directories through recovery, beside a naive reader",
        least: &[("executions", 1_000)],
        is_narrow: true,
        start: Start::Fuzz("recover_directory", 600),
    },
    Part {
        name: "fuzz-decode_segment",
        what: "fuzzed segments through the decoders, beside a naive decoder",
        least: &[("executions", 1_000)],
        is_narrow: true,
        start: Start::Fuzz("decode_segment", 600),
    },
    Part {
        name: "fuzz-decode_entry",
        what: "fuzzed entries through the decoders, beside a naive decoder",
        least: &[("executions", 1_000)],
        is_narrow: true,
        start: Start::Fuzz("decode_entry", 600),
    },
    Part {
        name: "threaded",
        what: "the whole log under shuttle: random schedules over the simulated disk",
        least: &[("schedules", 100_000)],
        is_narrow: true,
        start: Start::Shuttle(&["threaded"]),
    },
    Part {
        name: "enumerate",
        what: "tiny workloads, every crash point, every image",
        least: &[("workloads", crate::enumerate::WORKLOADS)],
        is_narrow: false,
        start: Start::Own(&["enumerate"]),
    },
    Part {
        name: "single",
        what: "long random runs with crashes and faults, single-stepped",
        least: &[("images", 1_000_000)],
        is_narrow: false,
        start: Start::Own(&["single"]),
    },
    Part {
        name: "readings",
        what: "random logs, read in every way that there is, and compared",
        least: &[("logs", 3_000)],
        is_narrow: false,
        start: Start::Own(&["readings"]),
    },
    Part {
        name: "followers",
        what: "subscriptions of a live log whose segments are packed, through crashes and kills",
        least: &[("images", 20_000), ("kills", 500), ("packed segments", 2_000)],
        is_narrow: false,
        start: Start::Own(&["followers"]),
    },
    Part {
        name: "kill",
        what: "processes killed at any moment and at any storage operation",
        least: &[("kills", 2_000)],
        is_narrow: false,
        start: Start::Own(&["kill"]),
    },
    Part {
        name: "soak",
        what: "one log with everything that it has running, for half an hour, in a bounded directory",
        least: &[("kills", 100), ("segments recycled", 100)],
        is_narrow: false,
        start: Start::Own(&["soak"]),
    },
    Part {
        name: "power-cut",
        what: "power cuts under the release binary, on a file system of our own",
        least: &[("power cuts", 200)],
        is_narrow: false,
        start: Start::Own(&["power-cut"]),
    },
    Part {
        name: "no-space",
        what: "a file system that is really full",
        least: &[("fillings", 80)],
        is_narrow: false,
        start: Start::Own(&["no-space"]),
    },
    Part {
        name: "rot",
        what: "every bit, sector, length and file of small logs, damaged",
        least: &[("bit flips", 100_000)],
        is_narrow: false,
        start: Start::Own(&["rot"]),
    },
    Part {
        name: "loom",
        what: "the engine's protocols in every interleaving within the bounds",
        least: &[("models", MODELS)],
        is_narrow: true,
        start: Start::Loom,
    },
    Part {
        name: "sabotage",
        what: "deliberate bugs, each of which a harness must catch",
        least: &[("bugs caught", crate::sabotage::bugs::BUGS.len() as u64)],
        is_narrow: false,
        start: Start::Own(&["sabotage"]),
    },
    Part {
        name: "thread-sanitizer",
        what: "the stress tests under ThreadSanitizer",
        least: &[("tests", 1)],
        is_narrow: false,
        start: Start::ThreadSanitizer,
    },
];

/// The part of this name.
pub fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

impl Part {
    /// The process that runs it, in the repository at `root`. Builds that need flags of their own get a target
    /// directory of their own below `target`.
    pub fn command(&self, root: &Path, target: &Path) -> Command {
        let cargo = |flags: &str, directory: &str| {
            let mut command = Command::new("cargo");
            command.current_dir(root).env("CARGO_TARGET_DIR", target.join(directory)).env("RUSTFLAGS", flags);
            command
        };
        match &self.start {
            Start::Own(arguments) => {
                let mut command = Command::new(std::env::current_exe().expect("a program knows where it is"));
                command.current_dir(root).args(*arguments);
                command
            }
            Start::Shuttle(arguments) => {
                let mut command = cargo("--cfg braidlog_shuttle", "shuttle");
                command.args(["run", "--release", "--locked", "-p", "braidlog-proof", "--"]).args(*arguments);
                command
            }
            Start::Loom => {
                let mut command = cargo("--cfg braidlog_loom", "loom");
                command.args(["test", "-p", "braidlog-engine", "--lib", "--release", "--locked", "loom"]);
                command.args(["--", "--nocapture"]);
                command
            }
            Start::Fuzz(name, seconds) => {
                let corpus = target.join("fuzz-corpus").join(name);
                std::fs::create_dir_all(&corpus).expect("the target directory can be written");
                let mut command = Command::new("cargo");
                command.current_dir(root.join("fuzz")).env_remove("CARGO_TARGET_DIR");
                // Nearly all of the code is safe: a sanitizer would only make it slower.
                command.args(["+nightly", "fuzz", "run", "-s", "none", name]).arg(corpus);
                command.arg(format!("seeds/{name}"));
                let len_max = if *name == "decode_segment" {
                    command.arg("../crates/format/tests/fixtures/v1");
                    256 << 10
                } else {
                    16 << 10
                };
                command.args(["--", &format!("-max_total_time={seconds}"), &format!("-max_len={len_max}")]);
                command.args(["-print_final_stats=1", "-rss_limit_mb=1024", "-malloc_limit_mb=64"]);
                command
            }
            Start::ThreadSanitizer => {
                let flags = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
                let mut command = cargo(flags, "tsan");
                let suppressions = root.join(".ci/tsan.supp");
                command.env("TSAN_OPTIONS", format!("suppressions={}", suppressions.display()));
                // A target of its own keeps the sanitizer out of build scripts.
                command.args([
                    "+nightly",
                    "test",
                    "--release",
                    "--locked",
                    "--target",
                    HOST,
                    "-p",
                    "braidlog",
                ]);
                command.args(["--test", "stress", "--test", "order", "--test", "liveness"]);
                command
            }
        }
    }

    /// What it counted, read from its output.
    pub fn tally(&self, output: &str) -> Tally {
        let mut tally = Tally::new();
        let mut add = |name: &str, n: u64| *tally.entry(name.to_owned()).or_default() += n;
        for line in output.lines() {
            match &self.start {
                Start::Own(_) | Start::Shuttle(_) => {
                    for count in
                        line.strip_prefix("counts: ").into_iter().flat_map(|counts| counts.split(", "))
                    {
                        let (n, name) = count.split_once(' ').expect("a count is a number and a name");
                        add(name, n.parse().expect("a count is a number"));
                    }
                }
                Start::Loom => {
                    // The harness's own line may stand before it; a sentence with the word is none.
                    let n = line.strip_suffix(" interleavings").and_then(|line| line.rsplit(' ').next());
                    if let Some(n) = n.and_then(|n| n.parse().ok()) {
                        add("interleavings", n);
                        add("models", 1);
                    }
                }
                Start::Fuzz(..) => {
                    if let Some(n) = line.strip_prefix("stat::number_of_executed_units:") {
                        add("executions", n.trim().parse().expect("a number of executions"));
                    }
                }
                Start::ThreadSanitizer => {
                    if let Some(rest) = line.strip_prefix("test result: ok. ") {
                        let n = rest.split(' ').next().and_then(|n| n.parse().ok());
                        add("tests", n.expect("a number of tests"));
                    }
                }
            }
        }
        tally
    }

    /// What a full run of it should have counted and did not.
    pub fn shortfalls(&self, tally: &Tally) -> Vec<String> {
        let count = |name| tally.get(name).copied().unwrap_or(0);
        let short = self.least.iter().filter(|&&(name, least)| count(name) < least);
        short.map(|&(name, least)| format!("{} {name} of {least}", count(name))).collect()
    }
}

/// What the installed compilers build for.
const HOST: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// The repository, as it was when this was built.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is still there")
}

/// Where builds go.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_each_kind_of_part_prints() {
        let tally = |name: &str, output: &str| find(name).unwrap().tally(output);
        assert_eq!(tally("kill", "round 1\ncounts: 12 kills, 3 of recovery\n"), {
            Tally::from([("kills".to_owned(), 12), ("of recovery".to_owned(), 3)])
        });
        let loom = tally("loom", "test a ... 12 interleavings\nok\n7 interleavings\n");
        assert_eq!(loom, Tally::from([("interleavings".to_owned(), 19), ("models".to_owned(), 2)]));
        let fuzz = tally("fuzz-decode_entry", "Done\nstat::number_of_executed_units: 77\n");
        assert_eq!(fuzz, Tally::from([("executions".to_owned(), 77)]));
        let sanitizer =
            tally("thread-sanitizer", "test result: ok. 4 passed; 0 failed\ntest result: ok. 2 passed");
        assert_eq!(sanitizer, Tally::from([("tests".to_owned(), 6)]));
    }

    #[test]
    fn a_full_run_asks_for_every_model_that_there_is() {
        let files = std::fs::read_dir(root().join("crates/engine/src/tests")).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let models: usize = texts.map(|text| text.matches("#[test]\nfn loom_").count()).sum();
        assert_eq!(models as u64, MODELS);
    }

    #[test]
    fn a_run_that_counted_too_little_is_told() {
        let kill = find("kill").unwrap();
        assert_eq!(kill.shortfalls(&Tally::from([("kills".to_owned(), 1999)])), ["1999 kills of 2000"]);
        assert_eq!(kill.shortfalls(&Tally::from([("kills".to_owned(), 2000)])), [""; 0]);
    }
}
