//! How long a run goes on: seeds one after another, until there are enough or the time is over.
//!
//! The rule: each seed is a run of its own, which knows nothing of the ones before it, so that the seed that
//! failed fails again alone. A failure names its seed and the command that repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::counts::Counts;

/// How many seeds are run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub rounds: u64,
    /// No seed begins after that moment.
    pub until: Option<Instant>,
    /// How many threads run seeds, each its own.
    pub threads: usize,
}

impl Extent {
    /// So many rounds from a seed on, in this thread alone.
    pub fn rounds(seed: u64, rounds: u64) -> Extent {
        Extent { seed, rounds, until: None, threads: 1 }
    }

    /// Runs the seeds. `part` is the name of the part on the command line.
    ///
    /// # Panics
    /// If a seed fails: with its message, its seed and the command.
    pub fn run(&self, part: &str, run: impl Fn(u64) -> Counts + Sync) -> Counts {
        let next = AtomicU64::new(0);
        let failed: Mutex<Option<String>> = Mutex::new(None);
        let total: Mutex<Counts> = Mutex::default();
        let work = || {
            let mut counts = Counts::default();
            while failed.lock().expect("nobody panics with it").is_none()
                && self.until.is_none_or(|until| Instant::now() < until)
            {
                let round = next.fetch_add(1, Ordering::Relaxed);
                if round >= self.rounds {
                    break;
                }
                let seed = self.seed.wrapping_add(round);
                match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                    Ok(done) => counts.merge(&done),
                    Err(panic) => {
                        let told = format!(
                            "seed {seed}: {}\nrun it again with: cargo run --release -p braidlog-proof -- {part} --seed {seed} --rounds 1",
                            message(&*panic)
                        );
                        failed.lock().expect("nobody panics with it").get_or_insert(told);
                    }
                }
            }
            total.lock().expect("nobody panics with it").merge(&counts);
        };
        thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(work);
            }
            work();
        });
        if let Some(told) = failed.into_inner().expect("nobody panics with it") {
            panic!("{told}");
        }
        total.into_inner().expect("nobody panics with it")
    }
}

/// Runs `0..count` on all cores, each number once; after `until` none begins.
///
/// # Panics
/// As the run that failed does.
pub fn on_all_cores(count: u64, until: Option<Instant>, run: impl Fn(u64) -> Counts + Sync) -> Counts {
    let next = AtomicU64::new(0);
    let lane = || {
        let mut counts = Counts::default();
        loop {
            // Relaxed: the number is all that is shared.
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || until.is_some_and(|until| Instant::now() >= until) {
                return counts;
            }
            counts.merge(&run(number));
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let lanes: Vec<_> = (0..cores.min(count)).map(|_| scope.spawn(lane)).collect();
        let mut counts = Counts::default();
        for lane in lanes {
            match lane.join() {
                Ok(done) => counts.merge(&done),
                Err(failure) => resume_unwind(failure),
            }
        }
        counts
    })
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_run_once_on_any_number_of_threads() {
        let sum = Extent { threads: 3, ..Extent::rounds(5, 100) }.run("test", |seed| {
            let mut counts = Counts::default();
            counts.add("seeds", 1);
            counts.add("sum", seed);
            counts
        });
        assert_eq!((sum.get("seeds"), sum.get("sum")), (100, (5..105).sum()));
    }

    #[test]
    fn a_failure_names_its_seed_and_the_command() {
        let failed = catch_unwind(|| {
            Extent::rounds(5, 100).run("test", |seed| {
                assert!(seed < 7, "seven");
                Counts::default()
            })
        });
        let panic = failed.expect_err("it fails");
        let told = message(&*panic);
        assert!(told.starts_with("seed 7: seven\n") && told.ends_with("test --seed 7 --rounds 1"), "{told}");
    }
}
