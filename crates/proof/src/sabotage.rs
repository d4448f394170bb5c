//! The gate for the proof itself: deliberate bugs, each of which a harness must catch.
//!
//! A [bug](bugs) stands beside the code that it breaks, behind `cfg(braidlog_sabotage)`, and is chosen by a
//! variable of the environment. So everything is built once; then each harness is run without a bug, where it must
//! be content (or its complaints would prove nothing), and each bug is run against the harness that should catch
//! it. A harness that hangs has caught the bug too: the log went on for ever instead of answering.
//!
//! The rule: a bug that nothing catches is a test that is missing. It is never taken from the table.

pub mod bugs;
pub mod harness;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bugs::{BUGS, Bug};
use harness::{Built, Harness, Outcome};

use crate::counts::Counts;

/// The least time that a harness is given before it counts as hanging, and how many times its time without a bug.
const LIMIT_LEAST: Duration = Duration::from_secs(60);
const LIMIT_TIMES: u32 = 5;

/// One run of a harness, with a bug or without.
#[derive(Clone, Copy)]
struct Job {
    bug: Option<&'static Bug>,
    harness: &'static Harness,
}

/// Runs the bugs of these names, or all, each against the harness that should catch it; with `matrix`, against every
/// harness. Prints a table for `docs/testing.md`. Counts `bugs caught` and `harnesses`.
///
/// # Panics
/// If a harness fails without a bug, or a bug is not caught by the harness that should.
pub fn run(names: &[String], matrix: bool) -> Counts {
    let is_asked_for = |bug: &&Bug| names.is_empty() || names.iter().any(|name| name == bug.name);
    let bugs: Vec<&'static Bug> = BUGS.iter().filter(is_asked_for).collect();
    let mut wanted: Vec<&Harness> = if matrix {
        harness::HARNESSES.iter().collect()
    } else {
        bugs.iter().map(|bug| bug.harness()).collect()
    };
    wanted.sort_by_key(|harness| harness.name);
    wanted.dedup_by_key(|harness| harness.name);
    let built = harness::build(&wanted);

    let green: Vec<_> = wanted.iter().map(|&harness| Job { bug: None, harness }).collect();
    let mut times = BTreeMap::new();
    for (job, outcome) in run_all(&built, &green, &|_| Duration::from_secs(600)) {
        let seconds = outcome.took.as_secs_f64();
        println!("{:<20} without a bug: {seconds:.1} s", job.harness.name);
        assert!(!outcome.caught, "`{}` fails without a bug: {outcome}", job.harness.name);
        times.insert(job.harness.name, outcome.took);
    }

    let against = |bug: &'static Bug| if matrix { wanted.clone() } else { vec![bug.harness()] };
    let jobs: Vec<_> = bugs
        .iter()
        .flat_map(|&bug| against(bug).into_iter().map(move |harness| Job { bug: Some(bug), harness }))
        .collect();
    let limit = |harness: &Harness| LIMIT_LEAST.max(times[harness.name] * LIMIT_TIMES);
    let outcomes = run_all(&built, &jobs, &limit);
    println!("{}", if matrix { matrix_of(&bugs, &wanted, &outcomes) } else { table_of(&outcomes) });

    let missed: Vec<_> = outcomes
        .iter()
        .filter_map(|(job, outcome)| job.bug.map(|bug| (bug, job.harness, outcome)))
        .filter(|(bug, harness, outcome)| !outcome.caught && bug.harness().name == harness.name)
        .map(|(bug, harness, outcome)| format!("{} by {}: {outcome}", bug.name, harness.name))
        .collect();
    assert!(missed.is_empty(), "bugs that were not caught:\n{}", missed.join("\n"));
    let mut counts = Counts::default();
    counts.add("bugs caught", bugs.len() as u64);
    counts.add("harnesses", wanted.len() as u64);
    counts
}

/// Runs all jobs, as many at a time as there are cores; the outcomes in the order of the jobs.
fn run_all(
    built: &Built,
    jobs: &[Job],
    limit: &(dyn Fn(&Harness) -> Duration + Sync),
) -> Vec<(Job, Outcome)> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let lane = |sender: mpsc::Sender<(usize, Outcome)>| {
        // Relaxed: the index is all that is shared.
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(job) = jobs.get(index)
        {
            let outcome = built.run(job.harness, job.bug.map(|bug| bug.name), limit(job.harness));
            if let Some(bug) = job.bug {
                println!("{:<32} {:<20} {outcome}", bug.name, job.harness.name);
            }
            sender.send((index, outcome)).expect("the receiver outlives the lanes");
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            let sender = sender.clone();
            scope.spawn(|| lane(sender));
        }
    });
    drop(sender);
    let mut outcomes: Vec<_> = receiver.into_iter().collect();
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(index, outcome)| (jobs[index], outcome)).collect()
}

/// The table of what each bug breaks and how it was caught, in Markdown.
fn table_of(outcomes: &[(Job, Outcome)]) -> String {
    let mut table =
        "\n| bug | what it does | what it breaks | caught by | seconds |\n|---|---|---|---|---|\n".to_owned();
    for (job, outcome) in outcomes {
        let Some(bug) = job.bug else { continue };
        let how = match (outcome.caught, outcome.hung, outcome.failed.first()) {
            (false, ..) => "NOT CAUGHT".to_owned(),
            (true, true, _) => format!("{}: never ends", job.harness.name),
            (true, false, None) => job.harness.name.to_owned(),
            (true, false, Some(test)) => format!("{}: `{test}`", job.harness.name),
        };
        let seconds = outcome.took.as_secs_f64();
        table += &format!("| `{}` | {} | {} | {how} | {seconds:.1} |\n", bug.name, bug.does, bug.breaks);
    }
    table
}

/// The table of which harness catches which bug, in Markdown.
fn matrix_of(bugs: &[&Bug], harnesses: &[&'static Harness], outcomes: &[(Job, Outcome)]) -> String {
    let names: Vec<_> = harnesses.iter().map(|harness| harness.name).collect();
    let mut table = format!("\n| bug | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for bug in bugs {
        let cells = names.iter().map(|&name| {
            let of_cell =
                |job: &Job| job.harness.name == name && job.bug.is_some_and(|of| of.name == bug.name);
            match outcomes.iter().find(|(job, _)| of_cell(job)) {
                Some((_, outcome)) if outcome.hung => "hangs".to_owned(),
                Some((_, outcome)) if outcome.caught => format!("{:.1} s", outcome.took.as_secs_f64()),
                _ => String::new(),
            }
        });
        table += &format!("| `{}` | {} |\n", bug.name, cells.collect::<Vec<_>>().join(" | "));
    }
    table
}
