//! Bit rot, exhaustively: every bit of small logs flipped, every sector lost or misplaced, every file cut at every
//! length, gone, renamed, copied or swapped; and a model that says for each which verdict is right.
//!
//! The logs have three segments and hold every kind of thing that a log can hold (`log`). A `damage` makes
//! files of them; the `model` says what is right by comparing bytes with what was written where, and the
//! `judges` put `verify`, a reader and `Wal::open` before the files. They must say exactly what the model says:
//! the damaged place with file, offset and LSNs; or every record as it was written; or the lawful prefix.
//!
//! A log that was cut comes to them, whose manifest, checkpoints and packed segments are damaged (`beside`).
//!
//! The rule: never wrong data, a short log, a panic or a large allocation; looking changes nothing.

mod beside;
mod chain;
mod damage;
mod judges;
mod log;
mod model;
mod pen;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use braidlog_sim::Rng;

use crate::counts::Counts;
use damage::Damage;
use judges::{Depth, Outcome};
use log::Log;

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Every `stride`-th flip, cut and misplaced sector, one flip in each field of each header and entry, and all
    /// other damages; 1 is all.
    pub stride: usize,
    /// Pairs of damages drawn at random for each log.
    pub pairs: usize,
    /// The seed of the pairs.
    pub seed: u64,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// Run no damage that begins after this moment.
    pub deadline: Option<Instant>,
}

impl Default for Options {
    /// Everything, and 100,000 pairs for each log.
    fn default() -> Self {
        Options { stride: 1, pairs: 100_000, seed: 1, threads: 0, deadline: None }
    }
}

/// Runs the damages that `options` choose. The counts tell how many there were of each kind and of each verdict,
/// and how many a deadline left out.
///
/// # Panics
/// If anything says other than what the model says; the message names the damage and the command that repeats it.
pub fn run(options: &Options) -> Counts {
    let mut counts = Counts::default();
    for log in Log::all() {
        let damages = chosen(&log, options);
        counts.merge(&run_all(&log, &damages, options));
    }
    counts.merge(&beside::run(options.stride));
    counts
}

/// Runs one damage again, by the name that a failure gave, `<log>:<damage>`; or, named `beside`, all damages to what stands
/// beside the segments.
///
/// # Panics
/// As [`run`], and if there is no such damage.
pub fn replay(name: &str) -> Counts {
    if name == "beside" {
        return beside::run(1);
    }
    let (label, damage) = name.split_once(':').unwrap_or_else(|| panic!("`{name}` names no log and damage"));
    let log = Log::all().into_iter().find(|log| log.label == label);
    let log = log.unwrap_or_else(|| panic!("there is no log `{label}`"));
    let damage = damage.parse().unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut counts = Counts::default();
    judge_one(&log, &damage, Depth { goes_on: true }, &mut counts)
        .unwrap_or_else(|failure| panic!("{failure}"));
    counts
}

fn chosen(log: &Log, options: &Options) -> Vec<Damage> {
    let all = damage::all(log);
    let mut chosen = all.clone();
    if options.stride > 1 {
        let (many, few): (Vec<_>, Vec<_>) = chosen.into_iter().partition(Damage::is_one_of_many);
        chosen = many.into_iter().step_by(options.stride).chain(few).collect();
        chosen.extend(damage::each_field(log));
    }
    let mut rng = Rng::new(options.seed);
    let pairable = damage::pairable(&all);
    for _ in 0..options.pairs {
        let mut draw = || Box::new(pairable[rng.index(pairable.len())].clone());
        chosen.push(Damage::Both(draw(), draw()));
    }
    chosen
}

fn run_all(log: &Log, damages: &[Damage], options: &Options) -> Counts {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None::<String>);
    let total = Mutex::new(Counts::default());
    let work = || {
        let mut counts = Counts::default();
        // Taken in runs, so that threads meet seldom.
        const RUN: usize = 64;
        loop {
            let from = next.fetch_add(RUN, Relaxed);
            let run = damages.get(from..damages.len().min(from + RUN)).unwrap_or(&[]);
            if run.is_empty() || locked(&failure).is_some() {
                break;
            }
            if options.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                counts.add("left out by the deadline", run.len() as u64);
                continue;
            }
            for (index, damage) in run.iter().enumerate() {
                let depth = Depth { goes_on: index % 16 == 0 };
                if let Err(what) = judge_one(log, damage, depth, &mut counts) {
                    locked(&failure).get_or_insert(what);
                    break;
                }
            }
        }
        locked(&total).merge(&counts);
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    if let Some(failure) = locked(&failure).take() {
        panic!("{failure}");
    }
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge_one(log: &Log, damage: &Damage, depth: Depth, counts: &mut Counts) -> Result<(), String> {
    let files = damage.files(log);
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let right = model::verdicts(log, &files);
        judges::judge(log, &files, &right, depth)
    }));
    let outcome: Outcome = match judged {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(what)) => return Err(failure(log, damage, &what)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
            return Err(failure(log, damage, &format!("a panic: {text}")));
        }
    };
    counts.add(damage.kind(), 1);
    counts.add(outcome.name(), 1);
    Ok(())
}

fn failure(log: &Log, damage: &Damage, what: &str) -> String {
    let name = format!("{}:{damage}", log.label);
    format!("{name}: {what}\nrepeat it: cargo run --release -p braidlog-proof -- rot --only {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge_undamaged(log: &Log) -> Result<(), String> {
        let nothing = Damage::Zeros { segment: 0, offset: 0, len: 0 };
        judge_one(log, &nothing, Depth { goes_on: true }, &mut Counts::default())
    }

    #[test]
    fn undamaged_logs_are_read_exactly() {
        for log in Log::all() {
            judge_undamaged(&log).unwrap();
        }
    }

    /// The trap is set: entries of the earlier life are right in all but the salt, so with the salt of the new life
    /// they are read as its own, and the judges say so.
    #[test]
    fn nothing_but_the_salt_keeps_an_earlier_life_out() {
        let wrong = judge_undamaged(&Log::with_one_salt()).unwrap_err();
        assert!(wrong.contains("the count of records is 14, and 12 is right"), "{wrong}");
    }

    /// Judges that would let anything pass prove nothing: each verdict of the model is replaced by another one.
    #[test]
    fn judges_notice_every_verdict_that_is_not_the_right_one() {
        let log = &Log::all()[1];
        for damage in damage::each_field(log).iter().step_by(13) {
            let files = damage.files(log);
            let right = model::verdicts(log, &files);
            for wrong in right.others() {
                let judged = judges::judge(log, &files, &wrong, Depth { goes_on: false });
                assert!(judged.is_err(), "{damage}: {wrong:?} is let pass, and {right:?} is right");
            }
        }
    }
}
