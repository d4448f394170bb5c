//! The full run: every part once for one commit, side by side as the cores allow, with a ledger from which it goes on
//! after an interruption.
//!
//! The rule: what stands in the ledger was done, by the named commit, with nothing uncommitted, and came to what the
//! part asks for.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::part::{PARTS, Part, Tally, root, target_dir};

/// What is known of a part that was run.
#[derive(Serialize, Deserialize, Debug)]
pub struct Entry {
    /// The part.
    pub part: String,
    /// The commit that it ran, with `+changes` if not all of it was committed.
    pub commit: String,
    /// The machine, in a line.
    pub machine: String,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// What it counted.
    pub tally: Tally,
}

/// Where the entries are.
pub struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    /// The ledger in this directory, or in `proof` where builds go.
    ///
    /// # Errors
    /// If the directory can neither be found nor made.
    pub fn open(directory: Option<PathBuf>) -> io::Result<Ledger> {
        let directory = directory.unwrap_or_else(|| target_dir().join("proof"));
        fs::create_dir_all(&directory)?;
        Ok(Ledger { directory })
    }

    fn path(&self, part: &Part, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", part.name))
    }

    /// What is known of a part.
    pub fn entry(&self, part: &Part) -> Option<Entry> {
        serde_json::from_slice(&fs::read(self.path(part, "json")).ok()?).ok()
    }

    fn record(&self, part: &Part, entry: &Entry) -> io::Result<()> {
        fs::write(self.path(part, "json"), serde_json::to_vec_pretty(entry)?)
    }

    /// The table of everything that was recorded, for people and for `docs/testing.md`.
    pub fn table(&self) -> String {
        let mut table = "| part | counts | minutes | commit |\n|---|---|---|---|\n".to_owned();
        for part in PARTS {
            let Some(entry) = self.entry(part) else {
                table += &format!("| `{}` | not run | | |\n", part.name);
                continue;
            };
            let counts: Vec<_> =
                entry.tally.iter().map(|(name, n)| format!("{} {name}", grouped(*n))).collect();
            let commit: String = entry.commit.chars().take(7).collect();
            let changes = if entry.commit.ends_with('+') { "+" } else { "" };
            let minutes = entry.seconds as f64 / 60.0;
            table +=
                &format!("| `{}` | {} | {minutes:.1} | {commit}{changes} |\n", part.name, counts.join(", "));
        }
        table
    }
}

/// Runs the named parts, or all, those left out that the ledger has for this commit. Whether each came to what it must.
///
/// # Errors
/// If the ledger cannot be written.
pub fn run(ledger: &Ledger, names: &[String], again: bool) -> io::Result<bool> {
    let (commit, machine) = (commit(), machine());
    println!("commit {commit}; {machine}");
    let is_due = |part: &Part| {
        let known = ledger.entry(part).is_some_and(|entry| entry.commit == commit && !commit.ends_with('+'));
        if known && !again {
            println!("{}: recorded for this commit already", part.name);
        }
        again || !known
    };
    let wanted = PARTS.iter().filter(|part| names.is_empty() || names.iter().any(|name| name == part.name));
    let (narrow, wide): (VecDeque<_>, VecDeque<_>) =
        wanted.filter(|part| is_due(part)).partition(|part| part.is_narrow);
    let lanes = [Mutex::new(narrow), Mutex::new(wide)];
    let next = |lane: usize| {
        let own = lanes[lane].lock().expect("nobody panics with the lane").pop_front();
        own.or_else(|| lanes[1 - lane].lock().expect("nobody panics with the lane").pop_front())
    };
    let run_lane = |lane: usize| -> io::Result<bool> {
        let mut is_good = true;
        while let Some(part) = next(lane) {
            is_good &= run_part(ledger, part, &commit, &machine)?;
        }
        Ok(is_good)
    };
    let lanes = thread::scope(|scope| {
        let lanes = [0, 1].map(|lane| scope.spawn(move || run_lane(lane)));
        lanes.map(|lane| lane.join().expect("a lane does not panic"))
    });
    let mut is_good = true;
    for lane in lanes {
        is_good &= lane?;
    }
    println!("\n{}", ledger.table());
    Ok(is_good)
}

fn run_part(ledger: &Ledger, part: &Part, commit: &str, machine: &str) -> io::Result<bool> {
    println!("{}: {} ...", part.name, part.what);
    let log = ledger.path(part, "log");
    let output = File::create(&log)?;
    let began = Instant::now();
    let status = part
        .command(&root(), &target_dir())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    let seconds = began.elapsed().as_secs();
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        println!("{}: FAILED ({status}) after {seconds} s; {} ends with", part.name, log.display());
        let lines: Vec<_> = output.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).for_each(|line| println!("    {line}"));
        return Ok(false);
    }
    let tally = part.tally(&output);
    let shortfalls = part.shortfalls(&tally);
    let entry =
        Entry { part: part.name.into(), commit: commit.into(), machine: machine.into(), seconds, tally };
    if shortfalls.is_empty() {
        ledger.record(part, &entry)?;
        println!("{}: {:?} in {seconds} s", part.name, entry.tally);
    } else {
        println!("{}: TOO LITTLE after {seconds} s: {}", part.name, shortfalls.join(", "));
    }
    Ok(shortfalls.is_empty())
}

/// The commit of the repository, with a `+` if something in it is not committed.
fn commit() -> String {
    let git = |arguments: &[&str]| -> String {
        let output = Command::new("git").args(arguments).current_dir(root()).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let mut commit = git(&["rev-parse", "HEAD"]);
    if commit.is_empty() {
        commit = "unknown+".to_owned();
    } else if !git(&["status", "--porcelain"]).is_empty() {
        commit.push('+');
    }
    commit
}

fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = processor.map_or("an unnamed processor", |(_, name)| name);
    format!("{cores} cores of {processor}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// A number with its thousands parted, as people read it.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_parted_by_thousands() {
        assert_eq!([1, 1000, 1234567].map(grouped), ["1", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_ledger_tells_what_was_run_and_what_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(Some(directory.path().join("ledger"))).unwrap();
        let part = crate::part::find("kill").unwrap();
        let entry = Entry {
            part: "kill".into(),
            commit: "0123456789".into(),
            machine: "2 cores".into(),
            seconds: 90,
            tally: Tally::from([("kills".to_owned(), 2000)]),
        };
        ledger.record(part, &entry).unwrap();
        let table = ledger.table();
        assert!(table.contains("| `kill` | 2,000 kills | 1.5 | 0123456 |"), "{table}");
        assert!(table.contains("| `rot` | not run | | |"), "{table}");
    }
}
