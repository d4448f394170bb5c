//! `braidlog demo`: the log's promises on real text, checked from outside.
//!
//! A child process, this same command, writes with 16 threads under group commit and prints what is
//! acknowledged; it is killed with SIGKILL in the middle. What is found afterwards is held against what was
//! acknowledged and against the input by an [`Oracle`] that shares no code with the log. Then another process
//! appends what is missing, and everything is checked again. Each step is one line; the last is the verdict.

mod child;
mod oracle;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use braidlog::{TailState, Wal};
use tempfile::TempDir;

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::output::{self, Out};
use child::Until;
use oracle::Oracle;

/// Package names, versions and descriptions of a Debian system.
const SHIPPED: &[u8] = include_bytes!("../data/packages.txt");
const WRITERS: u32 = 16;

/// Runs the subcommand.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let text = read_text(args.file.as_deref())?;
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What stands behind the last newline is a line only if it is not empty.
    lines.pop_if(|last| last.is_empty());
    if lines.is_empty() {
        return Err(Failure::Usage(
            "there are no lines to write; name a file with text, or none".to_string(),
        ));
    }
    let place = Place::new(args.dir.as_deref())?;
    let mut demo = Demo { out: Out::stdout(), dir: place.path().to_path_buf(), step: 0 };
    match demo.run(&lines) {
        Ok(()) => {
            let kept = place.remove_temporary()?;
            demo.say(format_args!("verdict: every promise was kept{kept}"))
        }
        // The reader of the steps has gone; what was done so far is not wanted.
        Err(Failure::ClosedPipe) => Err(Failure::ClosedPipe),
        Err(failure) => {
            let dir = place.keep();
            let reason = failure.message().unwrap_or("interrupted").to_string();
            demo.say(format_args!("verdict: FAILED: {reason}"))?;
            demo.say(format_args!("the log is kept in {} to be looked at", dir.display()))?;
            Err(Failure::Found)
        }
    }
}

struct Demo {
    out: Out,
    dir: PathBuf,
    step: u32,
}

impl Demo {
    fn run(&mut self, lines: &[&[u8]]) -> Result<(), Failure> {
        let kill_after = random_share(lines.len());
        let mut oracle = Oracle::new(lines);
        let what = output::plural(lines.len() as u64, "line");
        let what = format!("{what}, {WRITERS} writers under group commit, into {}", self.dir.display());
        self.step("write", what)?;
        let written = child::write(&self.dir, lines, WRITERS, Until::Acknowledged(kill_after))?;
        oracle.acknowledge(lines, &written.acknowledged).map_err(Failure::Failed)?;
        self.step(
            "kill",
            format_args!(
                "SIGKILL after {}; {} read from its pipe in the end",
                output::plural(kill_after as u64, "acknowledgement"),
                output::count(written.acknowledged.len() as u64)
            ),
        )?;
        self.reopen()?;
        self.verify()?;
        let found = self.check(&oracle)?;

        let rest = oracle.missing(&found);
        let written = child::write(&self.dir, &rest, WRITERS, Until::AllWritten)?;
        oracle.acknowledge(&rest, &written.acknowledged).map_err(Failure::Failed)?;
        self.step(
            "append",
            format_args!(
                "the {} that were missing, by another process",
                output::plural(rest.len() as u64, "line")
            ),
        )?;
        self.verify()?;
        let all = self.check(&oracle)?;
        if all[..found.len()] != found[..] {
            return Err(Failure::Failed("what was recovered has changed since".to_string()));
        }
        let missing = oracle.missing(&all).len();
        if missing > 0 {
            return Err(Failure::Failed(format!(
                "{} missing in the end",
                output::plural(missing as u64, "line")
            )));
        }
        self.step(
            "done",
            format_args!("each line of the input is in the log exactly as often as it was written"),
        )
    }

    /// Opens the log as a program does after a crash, and tells what it finds.
    fn reopen(&mut self) -> Result<(), Failure> {
        let wal = Wal::options().open(&self.dir)?;
        let report = wal.recovery_report().clone();
        wal.close()?;
        let tail = match &report.tail {
            TailState::Torn { cut_bytes, .. } => {
                format!("cut {} of torn tail", output::plural(*cut_bytes, "byte"))
            }
            _ => "no torn tail".to_string(),
        };
        self.step(
            "reopen",
            format_args!(
                "recovered {} in {}, {tail}, in {}",
                output::plural(report.last_lsn.0, "record"),
                output::plural(report.segments as u64, "segment"),
                output::duration(report.duration.as_nanos() as u64)
            ),
        )
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let verdict = child::verify(&self.dir)?;
        self.step("verify", verdict)
    }

    /// Holds what `braidlog cat` prints against the promises.
    fn check(&mut self, oracle: &Oracle<'_>) -> Result<Vec<oracle::Found>, Failure> {
        let found = child::cat(&self.dir)?;
        oracle.check(&found).map_err(Failure::Failed)?;
        self.step(
            "check",
            format_args!(
                "LSN 1..={} dense, no line more often than it was written, all {} acknowledged in their place",
                found.len(),
                output::count(oracle.acknowledged())
            ),
        )?;
        Ok(found)
    }

    fn step(&mut self, name: &str, what: impl std::fmt::Display) -> Result<(), Failure> {
        self.step += 1;
        let step = self.step;
        self.say(format_args!("{step}. {name:<7} {what}"))
    }

    fn say(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        self.out.line(line)?;
        self.out.flush()
    }
}

fn read_text(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match file {
        None => Ok(SHIPPED.to_vec()),
        Some(file) if file.as_os_str() == "-" => {
            let mut text = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut text)
                .map_err(|error| Failure::of("standard input", error))?;
            Ok(text)
        }
        Some(file) => fs::read(file).map_err(|error| Failure::of(file.display(), error)),
    }
}

/// A number between a fifth and four fifths of `n`, at least 1: in the middle, and every time elsewhere.
fn random_share(n: usize) -> usize {
    let random = RandomState::new().hash_one(n) as usize;
    (n / 5 + random % (n * 3 / 5 + 1)).max(1)
}

/// Where the log lies.
enum Place {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn new(dir: Option<&Path>) -> Result<Place, Failure> {
        let Some(dir) = dir else {
            let dir = tempfile::Builder::new().prefix("braidlog-demo-").tempdir().map_err(|error| {
                Failure::of("cannot make a temporary directory; name one with --dir", error)
            })?;
            return Ok(Place::Temporary(dir));
        };
        match fs::read_dir(dir) {
            Ok(mut entries) => match entries.next() {
                None => Ok(Place::Given(dir.to_path_buf())),
                Some(_) => Err(Failure::Usage(format!("{} is not empty; name another --dir", dir.display()))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Given(dir.to_path_buf())),
            Err(error) => Err(Failure::of(dir.display(), error)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Place::Given(dir) => dir,
            Place::Temporary(dir) => dir.path(),
        }
    }

    fn keep(self) -> PathBuf {
        match self {
            Place::Given(dir) => dir,
            Place::Temporary(dir) => dir.keep(),
        }
    }

    /// What there is to say about the directory after all went well.
    fn remove_temporary(self) -> Result<String, Failure> {
        match self {
            Place::Given(dir) => Ok(format!("; the log is in {}", dir.display())),
            Place::Temporary(dir) => {
                let path = dir.path().display().to_string();
                dir.close().map_err(|error| Failure::of(path, error))?;
                Ok(String::new())
            }
        }
    }
}
