//! What the clock itself does to a short measurement: the time that reading it takes, and the steps in which it
//! counts.
//!
//! Both are found out in the run. The rule: the cost is subtracted, and a quantile is placed within its step by
//! how many samples lie below (the median of grouped data), for a clock that counts in steps of 10 ns says of calls
//! of 54 ns that some take 50 and some take 60.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

/// Empty measurements that tell what the clock does.
const SAMPLES: usize = 100_000;

/// A clock, as it is on this machine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timer {
    /// What is measured around nothing: the median, in nanoseconds.
    pub cost_ns: f64,
    /// The step in which it counts, in nanoseconds.
    pub step_ns: u64,
}

impl Timer {
    /// Measures [`Instant`].
    pub fn measure() -> Timer {
        let mut empty: Vec<u64> =
            (0..SAMPLES).map(|_| black_box(Instant::now()).elapsed().as_nanos() as u64).collect();
        empty.sort_unstable();
        let free = Timer { cost_ns: 0.0, step_ns: step_ns(&empty) };
        Timer { cost_ns: free.quantile_ns(&empty, 0.5), ..free }
    }

    /// The duration that the share of `sorted_ns` does not exceed, without the cost of measuring it.
    ///
    /// # Panics
    /// If there are no samples.
    pub fn quantile_ns(&self, sorted_ns: &[u64], share: f64) -> f64 {
        let rank = sorted_ns.len() as f64 * share;
        let value = sorted_ns[(rank as usize).min(sorted_ns.len() - 1)];
        // The samples that the clock tells from this one only by rounding.
        let from = value - (value.min(self.step_ns / 2));
        let to = from + self.step_ns;
        let below = sorted_ns.partition_point(|&ns| ns < from);
        let within = sorted_ns.partition_point(|&ns| ns < to) - below;
        let step = self.step_ns as f64;
        let placed = value as f64 - step / 2.0 + step * (rank - below as f64) / within as f64;
        (placed - self.cost_ns).max(0.0)
    }
}

/// The least distance between values that are often seen. Neighbours that differ by 1 are one value, rounded.
fn step_ns(sorted_ns: &[u64]) -> u64 {
    let mut counts = BTreeMap::<u64, usize>::new();
    for &ns in sorted_ns {
        *counts.entry(ns).or_default() += 1;
    }
    let often: Vec<u64> =
        counts.into_iter().filter(|&(_, count)| count > sorted_ns.len() / 1000).map(|(ns, _)| ns).collect();
    let steps: Vec<u64> = often.chunk_by(|one, next| one + 1 == *next).map(|value| value[0]).collect();
    steps.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clock with this step says of `true_ns`, begun at every moment alike.
    fn told(true_ns: u64, step_ns: u64) -> Vec<u64> {
        let mut told: Vec<u64> =
            (0..step_ns).map(|phase| (phase + true_ns) / step_ns * step_ns).cycle().take(10_000).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn quantile_is_finer_than_the_steps_of_the_clock() {
        let timer = Timer { cost_ns: 20.0, step_ns: 10 };
        for true_ns in [50, 54, 57, 121] {
            let found = timer.quantile_ns(&told(true_ns, 10), 0.5) + timer.cost_ns;
            assert!((found - true_ns as f64).abs() < 3.0, "{true_ns} is told as {found}");
        }
        assert_eq!(timer.quantile_ns(&told(3, 10), 0.5), 0.0, "less than the cost is nothing");
    }

    #[test]
    fn step_of_the_clock_is_found() {
        let mut rounded = told(25, 10);
        rounded.iter_mut().step_by(20).for_each(|ns| *ns += 1);
        rounded.sort_unstable();
        assert_eq!(step_ns(&rounded), 10);
        assert_eq!(step_ns(&(0..5000).map(|at| 20 + at % 9).collect::<Vec<_>>()), 1);
    }

    #[test]
    fn this_clock_costs_something() {
        let timer = Timer::measure();
        assert!(timer.cost_ns > 0.0 && timer.step_ns > 0, "{timer:?}");
    }
}
