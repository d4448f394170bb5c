//! Braidlog beside other logs, in one run: `run`, `list`, `show`. How it is measured, and how to read it, is in
//! `benches/README.md`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use braidlog_benches::build::Build;
use braidlog_benches::machine::Machine;
use braidlog_benches::scratch;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::cell::{Cell, Choice, Memory, Workload};
use crate::outcome::Outcome;
use crate::peer::{LIST, Listed, Result};
use crate::report::Report;
use crate::runner::Plan;

mod cell;
mod chart;
mod child;
mod host;
mod outcome;
mod peer;
mod record;
mod report;
mod runner;
mod table;

/// Runs Braidlog beside other logs and tells the figures
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure, and print the tables
    Run(Run),
    /// The peers of this build, and their workloads
    List,
    /// Print the tables of an earlier run
    Show {
        /// The JSON of that run
        json: PathBuf,
        /// Write the tables and charts into this directory, too
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// One cell, in this process
    #[command(hide = true)]
    Cell(Child),
    /// The log of a replay, in this process
    #[command(hide = true)]
    Prepare(Child),
}

#[derive(Args, Debug)]
struct Run {
    /// These workloads only
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,
    /// These peers only: a name with its variant, or without for all its variants
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only with so many threads
    #[arg(long, value_delimiter = ',')]
    threads: Vec<u32>,
    /// Only records of so many bytes
    #[arg(long, value_delimiter = ',')]
    bytes: Vec<usize>,
    /// Only in these states of memory
    #[arg(long, value_enum, value_delimiter = ',')]
    memory: Vec<Memory>,
    /// How often each cell is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// Keep every repetition here, after each cell. If the file is there, the run goes on where it ended
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables and charts into this directory, too
    #[arg(long)]
    out: Option<PathBuf>,
    /// Begin no cell after so many seconds; with --json the same command goes on
    #[arg(long)]
    seconds: Option<u64>,
    /// Where to write, in fresh directories that are removed [default: below the build directory]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Child {
    cell: String,
    dir: PathBuf,
    result: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::List => {
            list();
            Ok(())
        }
        Command::Show { json, out } => Report::load(&json).and_then(|report| show(&report, out.as_deref())),
        Command::Cell(child) => child.run(|listed, cell, dir| (listed.run)(cell, listed.variant(), dir)),
        Command::Prepare(child) => {
            child.run(|listed, cell, dir| (listed.prepare)(cell, listed.variant(), dir))
        }
    };
    done.map_or_else(
        |error| {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(arguments: Run) -> Result<()> {
    let Run { only, peers, threads, bytes, memory, repetitions, json, out, seconds, dir } = arguments;
    if let Some(unknown) = peers.iter().find(|peer| !LIST.iter().any(|listed| listed.is_named(peer))) {
        return Err(format!("this build has no peer {unknown}: see `list`").into());
    }
    let choice = Choice { workloads: only, threads, record_bytes: bytes, memories: memory };
    let plan = Plan { choice, peers, repetitions, dir, seconds_max: seconds };
    let mut report = match &json {
        Some(json) if json.exists() => Report::load(json)?,
        _ => begin(plan.dir.as_deref())?,
    };
    let is_done = plan.run(&mut report, |report| json.as_ref().map_or(Ok(()), |json| report.save(json)))?;
    if is_done || json.is_none() {
        show(&report, out.as_deref())?;
    }
    Ok(())
}

/// What was built, and on what it ran: one list of facts.
#[derive(Serialize)]
struct Facts {
    #[serde(flatten)]
    build: Build,
    #[serde(flatten)]
    machine: Machine,
}

fn begin(dir: Option<&Path>) -> Result<Report> {
    let dir = scratch::directory(dir)?;
    Ok(Report {
        machine: serde_json::to_value(Facts { build: Build::here(), machine: Machine::here(dir.path()) })?,
        began_at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        command: env::args().skip(1).collect::<Vec<_>>().join(" "),
        versions: versions(),
        measured: Vec::new(),
    })
}

/// The versions that this program was built with, from the lock file that was there.
fn versions() -> BTreeMap<String, String> {
    let packages = include_str!("../Cargo.lock").split("[[package]]");
    let field = |package: &str, name: &str| {
        let value = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        Some(value.trim_matches('"').to_owned())
    };
    let packages = packages.filter_map(|package| Some((field(package, "name")?, field(package, "version")?)));
    let names: Vec<&str> = LIST.iter().map(|listed| listed.package()).collect();
    packages.filter(|(name, _)| names.contains(&name.as_str())).collect()
}

fn list() {
    for listed in LIST {
        let workloads: Vec<String> = listed.workloads.iter().map(ToString::to_string).collect();
        println!("{:<20} {}\n{:20} {}", listed.name, listed.about, "", workloads.join(", "));
    }
}

fn show(report: &Report, out: Option<&Path>) -> Result<()> {
    let tables = table::all(report);
    println!("{tables}");
    if let Some(out) = out {
        fs::create_dir_all(out)?;
        fs::write(out.join("tables.md"), tables)?;
        chart::all(report, out)?;
    }
    Ok(())
}

impl Child {
    fn run(self, part: impl FnOnce(&Listed, &Cell, &Path) -> Result<Outcome>) -> Result<()> {
        let cell: Cell = serde_json::from_str(&self.cell)?;
        let listed = LIST.iter().find(|listed| listed.name == cell.peer).ok_or("no such peer")?;
        let outcome = part(listed, &cell, &self.dir)?;
        Ok(fs::write(self.result, serde_json::to_vec(&outcome)?)?)
    }
}
