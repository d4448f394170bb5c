//! What each preset costs: the same threads append the same records under each, by turns.
//!
//! A run appends for a second, or as many records as there are, and then flushes: the clock stops when all is durable, whatever
//! the preset says of a single append. One call in `TIMED_EVERY` is timed, the clock's own cost in it.
//!
//! # What is checked, after the clock
//! Each record of each thread is in the closed log, once and in its thread's order.

use std::path::Path;
use std::time::Duration;

use braidlog::{Options, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::Figure;
use braidlog_measure::workload::{Limits, Load};
use serde::Serialize;

use crate::scratch;

/// How many threads append.
const THREADS: [u32; 2] = [1, 16];
/// Records of a run at most.
const RECORDS: u32 = 2_000_000;
/// A run ends so long after its start.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Of so many calls one is timed.
const TIMED_EVERY: u32 = 8;

/// So many threads under one preset.
#[derive(Clone, Debug, Serialize)]
pub struct Preset {
    /// The preset.
    pub name: &'static str,
    /// What a crash may lose, beside one round, in milliseconds.
    pub loss_window_ms: u64,
    /// How many threads append.
    pub threads: u32,
    /// Records of 128 bytes per second, all durable at the end.
    pub records_per_second: Figure,
    /// A call as its thread sees it, in microseconds: the median.
    pub call_p50_us: Figure,
    /// The same: 99 of 100 are faster.
    pub call_p99_us: Figure,
    /// Records that a sync covered.
    pub records_per_sync: Figure,
    /// The rate to that of the default, repetition by repetition.
    pub to_default: Figure,
}

fn presets() -> [(&'static str, Options); 5] {
    [
        ("the default", Wal::options()),
        ("max_durability", Options::max_durability()),
        ("balanced", Options::balanced()),
        ("high_throughput", Options::high_throughput()),
        ("development", Options::development()),
    ]
}

/// Measures each preset with each number of threads, by turns.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<Preset>> {
    let mut measured = Vec::new();
    for threads in THREADS {
        let load = Load::spread(threads, RECORDS);
        let limits = Limits { time_max: TIME_MAX, timed_every: TIMED_EVERY, stop: &|| false };
        let mut runs = [const { Vec::new() }; 5];
        for _ in 0..repetitions {
            for ((_, options), runs) in presets().iter().zip(&mut runs) {
                let dir = scratch::directory(base)?;
                runs.push(load.run_within(&dir.path().join("log"), options, limits)?);
            }
        }
        for ((name, options), of_it) in presets().iter().zip(&runs) {
            let us = |quantile: f64| {
                Figure::of(of_it.iter().map(|run| run.latencies.quantile_ns(quantile) as f64 / 1000.0))
            };
            measured.push(Preset {
                name,
                loss_window_ms: options.mode.loss_window().as_millis() as u64,
                threads,
                records_per_second: Figure::of(of_it.iter().map(|run| run.rate())),
                call_p50_us: us(0.5),
                call_p99_us: us(0.99),
                records_per_sync: Figure::of(of_it.iter().map(|run| run.metrics.records_per_sync)),
                to_default: Figure::of(of_it.iter().zip(&runs[0]).map(|(run, of)| run.rate() / of.rate())),
            });
        }
    }
    Ok(measured)
}
