//! What the model of more cores is fed with: each part measured on this machine, and whole runs to hold it against.
//!
//! The rule: what is told is the median of repetitions in which all parts took turns.

use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use braidlog::storage::FileIo;
use braidlog::{DurabilityMode, Wal};
use braidlog_measure::figure::{Figure, median_us};
use braidlog_measure::raw::{self, RawFile};
use braidlog_measure::workload::{Load, RECORD_BYTES};
use braidlog_measure::{Result, cpu};

use super::{Check, Cores, Design, Inputs, Machine};
use crate::{call, scratch};

/// Appends before each flush of the log without threads: they fit its stripe.
const APPENDS: u64 = 4096;
/// Flushes.
const BURSTS: u64 = 64;
/// Draws, and turns of the two threads that pass a line to each other.
const TURNS: u64 = 1_000_000;
/// Turns between two looks at the clock.
const BLOCK_TURNS: u64 = 1000;
/// Turns of the raw loop.
const RAW_TURNS: u64 = 400;
/// Bytes of the raw stream.
const STREAM_BYTES: u64 = 256 << 20;
/// Threads that sleep and are woken with one call.
const SLEEPERS: usize = 64;
/// How often they are woken.
const WAKE_UPS: u32 = 200;
/// Records of an asynchronous run.
const RUN_RECORDS: u32 = 2_000_000;
/// Threads of the largest durable run.
const DURABLE_THREADS: u32 = 64;
/// What a thread gets to fall asleep in.
const FALL_ASLEEP: Duration = Duration::from_micros(50);

/// Measures, checks and predicts.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Cores> {
    let here = Machine { cores: 2, sockets: 1, has_disk: true };
    let (asynchronous, group) = (DurabilityMode::asynchronous(), DurabilityMode::group_commit());
    let loads = [
        (false, Load::spread(1, RUN_RECORDS)),
        (false, Load::spread(2, RUN_RECORDS)),
        (true, Load::spread(1, 5_000)),
        (true, Load::spread(2, 10_000)),
        (true, Load::spread(DURABLE_THREADS, 200_000)),
    ];
    let mut runs = loads.map(|_| Vec::new());
    let (mut coordinator, mut draw, mut line, mut wake) = (vec![], vec![], vec![], vec![]);
    let (mut stream, mut writing, mut sync) = (vec![], vec![], vec![]);
    for _ in 0..repetitions {
        let dir = scratch::directory(base)?;
        let at = |name: &str| dir.path().join(name);
        let before = cpu::used();
        stream.push(raw::stream(&at("stream"), FileIo::Direct, Duration::MAX, STREAM_BYTES)?);
        writing.push((cpu::used() - before).as_nanos() as f64 / STREAM_BYTES as f64);
        sync.push(median_us(
            &mut RawFile::prepare(&at("loop"), FileIo::Direct, RAW_TURNS)?.turns(RAW_TURNS)?.whole,
        ));
        for (number, ((is_durable, load), runs)) in loads.iter().zip(&mut runs).enumerate() {
            let options = Wal::options().mode(if *is_durable { group } else { asynchronous });
            runs.push(load.run(&at(&number.to_string()), &options)?);
        }
        coordinator.push(coordinator_ns(&at("alone"))?);
        draw.push(draw_ns());
        line.push(line_ns());
        wake.push(wake_us());
    }
    let median = |values: &[f64]| Figure::of(values.iter().copied()).median;
    let disk_bytes_per_record = Figure::of(runs[0].iter().map(|run| run.disk_bytes_per_record())).median;
    let writing_ns = median(&writing) * disk_bytes_per_record;
    let inputs = Inputs {
        append_ns: call::measure(base, repetitions)?.flat_out.p50_ns.median,
        draw_ns: median(&draw),
        line_ns: median(&line),
        coordinator_ns: median(&coordinator) - writing_ns,
        writing_ns,
        disk_bytes_per_second: median(&stream),
        disk_bytes_per_record,
        sync_us: median(&sync),
        wake_latency_us: Figure::of(wake.iter().map(|wake| wake.0)).median,
        wake_call_us: Figure::of(wake.iter().map(|wake| wake.1)).median,
        commit_cpu_us: Figure::of(runs[4].iter().map(|run| run.cpu_seconds_per_million())).median,
    };
    let checks = loads.iter().zip(&runs).map(|(&(is_durable, load), runs)| Check {
        is_durable,
        threads: load.threads,
        predicted: inputs.of(here, Design::Present, load.threads, is_durable).per_second,
        measured: Figure::of(runs.iter().map(|run| run.rate())),
    });
    Ok(Cores {
        checks: checks.collect(),
        asynchronous: inputs.table(false),
        durable: inputs.table(true),
        inputs,
    })
}

/// What a record takes that others do than its writer: processor time of a flush, in a log that has no threads of its own.
fn coordinator_ns(dir: &Path) -> Result<f64> {
    let options = Wal::options().mode(DurabilityMode::asynchronous()).background_threads(false);
    let wal = options.open(dir)?;
    let writer = wal.writer();
    let mut took = Duration::ZERO;
    for _ in 0..BURSTS {
        for _ in 0..APPENDS {
            writer.append([0xB1; RECORD_BYTES])?;
        }
        let before = cpu::used();
        wal.flush()?;
        took += cpu::used() - before;
    }
    let appended = wal.durable_lsn().get();
    wal.close()?;
    if appended != BURSTS * APPENDS {
        return Err(format!("{appended} records are durable").into());
    }
    Ok(took.as_nanos() as f64 / appended as f64)
}

fn draw_ns() -> f64 {
    let counter = AtomicU64::new(0);
    let start = Instant::now();
    for _ in 0..TURNS {
        black_box(counter.fetch_add(1, SeqCst));
    }
    start.elapsed().as_nanos() as f64 / TURNS as f64
}

/// Two threads raise a counter in turn: each turn is the line's way from one core to the other. Told is the fastest
/// tenth of short blocks: in the others one of the threads had no core.
fn line_ns() -> f64 {
    let (counter, ready) = (AtomicU64::new(0), Barrier::new(2));
    let play = |first: u64| {
        let mut blocks = Vec::new();
        ready.wait();
        let mut start = Instant::now();
        for turn in (first..TURNS).step_by(2) {
            while counter.compare_exchange(turn, turn + 1, SeqCst, SeqCst).is_err() {
                spin_loop();
            }
            if turn % BLOCK_TURNS == first {
                blocks.push(start.elapsed());
                start = Instant::now();
            }
        }
        blocks
    };
    let mut blocks = thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        let blocks = play(0);
        other.join().expect("it only counts");
        blocks
    });
    assert_eq!(counter.into_inner(), TURNS, "each turn was taken once");
    // The first block ended with the first turn.
    blocks.remove(0);
    blocks.sort_unstable();
    blocks[blocks.len() / 10].as_nanos() as f64 / BLOCK_TURNS as f64
}

/// From a call until the one who sleeps runs, and what a call that wakes 64 takes for each; both in microseconds.
fn wake_us() -> (f64, f64) {
    let one = rounds_of_sleep(1);
    let many = rounds_of_sleep(SLEEPERS);
    (one.0, many.1 / SLEEPERS as f64)
}

/// Wakes so many sleepers again and again: medians of the time until the last runs, and of the call alone.
fn rounds_of_sleep(sleepers: usize) -> (f64, f64) {
    // The turn that is called, and how many sleep.
    let (state, called) = (Mutex::new((0_u32, 0_usize)), Condvar::new());
    let awake = AtomicU64::new(0);
    let (mut until_awake, mut calls) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for _ in 0..sleepers {
            scope.spawn(|| {
                for turn in 1..=WAKE_UPS {
                    let mut state = state.lock().expect("nobody panics");
                    state.1 += 1;
                    drop(called.wait_while(state, |state| state.0 < turn));
                    awake.fetch_add(1, SeqCst);
                }
            });
        }
        for turn in 1..=WAKE_UPS {
            while state.lock().expect("nobody panics").1 < sleepers {
                thread::yield_now();
            }
            // They have said so before they sleep: they get the time that it takes.
            let counted = Instant::now();
            while counted.elapsed() < FALL_ASLEEP {
                thread::yield_now();
            }
            *state.lock().expect("nobody panics") = (turn, 0);
            let start = Instant::now();
            called.notify_all();
            calls.push(start.elapsed());
            while awake.load(SeqCst) < u64::from(turn) * sleepers as u64 {
                thread::yield_now();
            }
            until_awake.push(start.elapsed());
        }
    });
    (median_us(&mut until_awake), median_us(&mut calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_there() {
        assert!(draw_ns() > 0.0 && line_ns() > 0.0);
        let (latency, call) = rounds_of_sleep(2);
        assert!(latency >= call && call > 0.0);
    }
}
