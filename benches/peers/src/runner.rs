//! Runs the cells: each in a fresh process and a fresh directory, one after the other.
//!
//! The rule: repetition is the outermost loop and the peers the innermost, so that what is compared stands close
//! together in time; and what was measured is kept, whatever happens next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use braidlog_benches::scratch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cell::{Cell, Choice, Memory, Workload};
use crate::child;
use crate::host;
use crate::outcome::Outcome;
use crate::peer::{LIST, Listed, Result};
use crate::report::{Measured, Report};

/// After how long a process is killed: reading back is slower than writing.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which places.
    pub choice: Choice,
    /// These peers only; empty: all.
    pub peers: Vec<String>,
    /// How often each cell.
    pub repetitions: u32,
    /// Where to write; `None`: below the build directory.
    pub dir: Option<PathBuf>,
    /// No cell begins after this.
    pub seconds_max: Option<u64>,
}

impl Plan {
    /// All cells with their repetition, in the order in which they run.
    pub fn cells(&self) -> Vec<(u32, Cell)> {
        let mut cells = Vec::new();
        for repetition in 0..self.repetitions {
            for place in self.choice.places() {
                // The device has one user; with large records from several threads only the yardsticks compare.
                let runs = |listed: &&Listed| match listed {
                    _ if place.threads == 1 => true,
                    _ if listed.is_named("raw") => false,
                    _ => place.record_bytes == 128 || listed.is_yardstick() || listed.is_named("braidlog"),
                };
                let mut peers: Vec<_> = self.listed(place.workload).filter(runs).collect();
                // Each repetition begins with another peer: none is always the one behind a slow one.
                let first = repetition as usize % peers.len().max(1);
                peers.rotate_left(first);
                cells.extend(
                    peers.iter().map(|peer| (repetition, Cell { place, peer: peer.name.to_owned() })),
                );
            }
        }
        cells
    }

    fn listed(&self, workload: Workload) -> impl Iterator<Item = &'static Listed> {
        let is_wanted = |listed: &&Listed| {
            self.peers.is_empty() || self.peers.iter().any(|wanted| listed.is_named(wanted))
        };
        LIST.iter().filter(move |listed| listed.workloads.contains(&workload)).filter(is_wanted)
    }

    /// Runs what `report` does not have, and hands it on after each cell. Whether all is done.
    ///
    /// # Errors
    /// What the system says, or `keep`. A peer that fails is an outcome and no error.
    pub fn run(&self, report: &mut Report, mut keep: impl FnMut(&Report) -> Result<()>) -> Result<bool> {
        let cells = self.cells();
        let start = Instant::now();
        for (at, (repetition, cell)) in cells.iter().enumerate() {
            if report.has(*repetition, cell) {
                continue;
            }
            if self.seconds_max.is_some_and(|most| start.elapsed().as_secs() >= most) {
                eprintln!("{} of {} cells are done; the same command goes on", at, cells.len());
                return Ok(false);
            }
            let measured = measure(*repetition, cell, self.dir.as_deref())?;
            let told = match &measured {
                Measured { outcome: Some(outcome), .. } => {
                    format!("{:>12.0}/s  {}", outcome.rate(), outcome.notes.join("; "))
                }
                Measured { failure, .. } => failure.clone().unwrap_or_default(),
            };
            eprintln!("[{}/{}] #{repetition} {}: {:<20} {told}", at + 1, cells.len(), cell.place, cell.peer);
            report.measured.push(measured);
            keep(report)?;
        }
        Ok(true)
    }
}

fn measure(repetition: u32, cell: &Cell, base: Option<&Path>) -> Result<Measured> {
    let dir = scratch::directory(base)?;
    let mut result = Ok(Outcome::default());
    if cell.place.workload == Workload::Replay {
        result = part_of_cell("prepare", cell, dir.path());
    }
    host::drop_page_cache()?;
    if cell.place.memory == Memory::Warm {
        host::warm_memory();
    }
    if cell.place.workload == Workload::Replay && cell.place.memory == Memory::Warm {
        host::read_files(dir.path())?;
    }
    // Of a warm replay too: the file that it writes takes other pages.
    let page_cache_rate = host::page_cache_rate(dir.path())?;
    if result.is_ok() {
        result = part_of_cell("cell", cell, dir.path());
    }
    let (outcome, failure) = match result {
        Ok(outcome) => (Some(outcome), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Measured { repetition, cell: cell.clone(), page_cache_rate, outcome, failure })
}

/// Runs a part of a cell in a process of its own.
fn part_of_cell(part: &str, cell: &Cell, dir: &Path) -> Result<Outcome> {
    let (result, said) = (dir.join(format!("{part}.json")), dir.join(format!("{part}.txt")));
    let said_file = fs::File::create(&said)?;
    let child = Command::new(std::env::current_exe()?)
        .args([part, &serde_json::to_string(cell)?])
        .args([dir, &result])
        // One of the peers takes its directory from the environment, and is quiet only if told so.
        .env("WALRUS_DATA_DIR", dir.join(child::LOG))
        .env("WALRUS_QUIET", "1")
        .stdin(Stdio::null())
        .stdout(said_file.try_clone()?)
        .stderr(said_file)
        .spawn()?;
    if !ends_within(child, TIME_MAX)? {
        return Err(format!("was killed after {} s", TIME_MAX.as_secs()).into());
    }
    match fs::read(&result) {
        Ok(json) => Ok(serde_json::from_slice(&json)?),
        Err(_) => {
            let said = fs::read_to_string(&said).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ended without a word");
            Err(last.chars().take(300).collect::<String>().into())
        }
    }
}

/// Waits for the end of a process; kills it after `most`. Whether it ended of itself.
fn ends_within(mut child: Child, most: Duration) -> Result<bool> {
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&most))? > 0;
    if !ended {
        child.kill()?;
    }
    child.wait()?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_a_place_follow_one_another_and_repetitions_come_last() {
        let choice = Choice {
            workloads: vec![Workload::Async],
            threads: vec![4],
            record_bytes: vec![128],
            memories: vec![Memory::Fresh],
        };
        let peers = ["mutexvec", "directvec", "raw"].map(str::to_owned).to_vec();
        let plan = Plan { choice, peers, repetitions: 2, dir: None, seconds_max: None };
        let cells: Vec<_> =
            plan.cells().into_iter().map(|(repetition, cell)| (repetition, cell.peer)).collect();
        let expected = [(0, "mutexvec"), (0, "directvec"), (1, "directvec"), (1, "mutexvec")];
        assert_eq!(cells, expected.map(|(repetition, peer)| (repetition, peer.to_owned())));
    }

    #[test]
    fn a_process_that_does_not_end_is_killed() {
        let endless = Command::new("tail").args(["-f", "/dev/null"]).spawn().unwrap();
        assert!(!ends_within(endless, Duration::from_secs(1)).unwrap());
        let quick = Command::new("true").spawn().unwrap();
        assert!(ends_within(quick, Duration::from_secs(60)).unwrap());
    }
}
