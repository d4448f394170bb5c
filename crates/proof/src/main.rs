//! The command that runs the proof, whole or by part, and prints what was counted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use braidlog_proof::counts::Counts;
use braidlog_proof::enumerate;
use braidlog_proof::extent::Extent;
use braidlog_proof::followers;
use braidlog_proof::full::{self, Ledger};
use braidlog_proof::kill;
use braidlog_proof::part::PARTS;
use braidlog_proof::readings;
use braidlog_proof::rot;
use braidlog_proof::sabotage;
use braidlog_proof::single;
use braidlog_proof::soak;
use clap::{Args, Parser, Subcommand};

/// Tries to break Braidlog's promises, and counts how often it could not.
#[derive(Parser)]
#[command(name = "braidlog-proof", version)]
struct Cli {
    #[command(subcommand)]
    part: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every part that the ledger does not have for this commit, and print the table
    All {
        /// Only these parts
        parts: Vec<String>,
        /// Run what the ledger has already, too
        #[arg(long)]
        again: bool,
        /// Where the ledger and the output of the parts go [default: `proof` in the target directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
    },
    /// Print the table of what the ledger has
    Report {
        /// Where the ledger is [default: `proof` in the target directory]
        #[arg(long)]
        ledger: Option<PathBuf>,
    },
    /// List the parts
    List,
    /// Tiny workloads, each moment of each, and every image of a crash at that moment
    Enumerate {
        #[command(flatten)]
        workloads: Seeds,
        /// Images of one moment at the most: beyond, a narrower bound is taken
        #[arg(long, default_value_t = 2000)]
        images: u64,
    },
    /// The whole log with its threads in random schedules; the rest of this command does not work in such a build
    #[cfg(braidlog_shuttle)]
    Threaded(Seeds),
    /// Random operations, options and faults on one thread, with a crash at every storage operation
    Single(Seeds),
    /// Read random logs in every way, and compare
    Readings(Seeds),
    /// Follow a live log through crashes, and in processes that are killed
    Followers(Seeds),
    /// Kill processes at any moment and at any storage operation
    Kill {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        rounds: u64,
        /// What everything but moments is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Cut the power under the release binary, on a simulated disk mounted through FUSE
    #[cfg(target_os = "linux")]
    PowerCut {
        /// How many cuts
        #[arg(long, default_value_t = 1_000)]
        rounds: u64,
        /// What everything but the interleaving is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Fill real file systems: by the library, by processes that are killed, by the command
    #[cfg(target_os = "linux")]
    NoSpace {
        /// How many rounds on each kind of file system
        #[arg(long, default_value_t = 10)]
        rounds: u64,
        /// What everything but moments is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Damage small logs in every way, and compare the verdicts with the right ones
    Rot {
        /// Only every so many-th damage, and each field once
        #[arg(long, default_value_t = 1)]
        stride: usize,
        /// Pairs of damages for each log, drawn at random
        #[arg(long, default_value_t = 100_000)]
        pairs: usize,
        /// What the pairs are drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only this damage, by the name that a failure gave it; or `beside`: all of what stands beside the segments
        #[arg(long)]
        only: Option<String>,
    },
    /// Let one log live: writers, checkpoints, retention, recycling, backups, kills, in a bounded directory
    Soak {
        /// For how long
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// What everything but moments and interleavings is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Build deliberate bugs in, and see each caught
    Sabotage {
        /// Only these bugs
        bugs: Vec<String>,
        /// Each against every harness, not only the one that has to catch it
        #[arg(long)]
        matrix: bool,
    },
}

/// Which seeds a part runs.
#[derive(Args)]
struct Seeds {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds [default: what a full run takes]
    #[arg(long)]
    rounds: Option<u64>,
    /// No seed begins after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// How many threads run seeds [default: as many as there are cores]
    #[arg(long)]
    threads: Option<usize>,
}

impl Seeds {
    fn extent(&self, rounds: u64) -> Extent {
        Extent {
            seed: self.seed,
            rounds: self.rounds.unwrap_or(rounds),
            until: self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            threads: self.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)),
        }
    }
}

fn main() -> ExitCode {
    kill::child_main_if_asked();
    soak::child_main_if_asked();
    followers::child_main_if_asked();
    match Cli::parse().part {
        Command::All { parts, again, ledger } => {
            if let Some(unknown) = parts.iter().find(|name| braidlog_proof::part::find(name).is_none()) {
                eprintln!("there is no part `{unknown}`: see `list`");
                return ExitCode::from(2);
            }
            match Ledger::open(ledger).and_then(|ledger| full::run(&ledger, &parts, again)) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => failed(&error),
            }
        }
        Command::Report { ledger } => match Ledger::open(ledger) {
            Ok(ledger) => {
                print!("{}", ledger.table());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::List => {
            PARTS.iter().for_each(|part| println!("{:<24} {}", part.name, part.what));
            ExitCode::SUCCESS
        }
        Command::Rot { only: Some(name), .. } => counted(rot::replay(&name)),
        Command::Rot { stride, pairs, seed, only: None } => {
            counted(rot::run(&rot::Options { stride, pairs, seed, ..rot::Options::default() }))
        }
        Command::Enumerate { workloads, images } => {
            counted(enumerate::run(&workloads.extent(enumerate::WORKLOADS), images))
        }
        #[cfg(braidlog_shuttle)]
        Command::Threaded(seeds) => counted(braidlog_proof::threaded::run(&seeds.extent(6_000))),
        Command::Single(seeds) => counted(single::run(&seeds.extent(12_000))),
        Command::Readings(seeds) => counted(readings::run(&seeds.extent(3_000))),
        Command::Followers(seeds) => {
            let mut counts = followers::run(&seeds.extent(2_000));
            counts.merge(&followers::run_killed(seeds.rounds.unwrap_or(600), seeds.seed, &[]));
            counted(counts)
        }
        Command::Sabotage { bugs, matrix } => {
            if let Some(unknown) = bugs.iter().find(|name| sabotage::bugs::find(name).is_none()) {
                eprintln!("there is no bug `{unknown}`");
                return ExitCode::from(2);
            }
            counted(sabotage::run(&bugs, matrix))
        }
        Command::Soak { seconds, seed } => counted(soak::run(Duration::from_secs(seconds), seed, &[])),
        Command::Kill { rounds, seed } => counted(kill::run(rounds, seed, None, &[])),
        #[cfg(target_os = "linux")]
        Command::PowerCut { rounds, seed } => counted(braidlog_proof::power_cut::run(rounds, seed, None)),
        #[cfg(target_os = "linux")]
        Command::NoSpace { rounds, seed } => counted(braidlog_proof::no_space::run(rounds, seed, None, &[])),
    }
}

/// A part has ended and no promise was broken: its counts are its last line, from which a full run reads them.
fn counted(counts: Counts) -> ExitCode {
    println!("counts: {counts}");
    ExitCode::SUCCESS
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("the ledger: {error}");
    ExitCode::FAILURE
}
