//! What one asynchronous append costs the thread that calls it.
//!
//! # What is timed
//! One thread appends records of 128 bytes and times 1 call in 64, so that the timer disturbs little; what reading
//! the clock twice takes is measured in the same run and subtracted. The log is as any log: its coordinator runs
//! and writes to the disk meanwhile. Calls that found no room and waited are among the timed ones, and their share
//! among all calls is told.
//!
//! Beside it, by turns and timed alike: a copy of the same 128 bytes into a ring and their CRC, which is what
//! any log has to do.
//!
//! # What is checked, after the clock
//! The log is closed, opened again and replayed, as after every run.

use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::time::{Duration, Instant};

use braidlog::{DurabilityMode, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::Figure;
use braidlog_measure::workload::{Load, RECORD_BYTES};
use serde::Serialize;

use crate::scratch;
use crate::timer::Timer;

/// One call in so many is timed.
const TIMED_EVERY: u32 = 64;
/// Calls before the first that counts: they touch the ring's memory for the first time.
const WARM_UP_CALLS: u32 = 64 * 1024;
/// Calls of a repetition that count.
const CALLS: u32 = 32_000 * TIMED_EVERY;
/// Calls per second when they are paced: below what any disk here takes, so that none has to wait for it.
const PACED_PER_SECOND: u32 = 1_000_000;
/// Bytes of the yardstick's ring: those of a stripe.
const RING_BYTES: usize = 1 << 20;
/// What the log holds in the end.
const LOAD: Load = Load { threads: 1, records: WARM_UP_CALLS + CALLS, record_bytes: RECORD_BYTES };

/// The append call and its yardstick, in nanoseconds: figures over the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Calls of a repetition.
    pub calls: u32,
    /// One call in so many is timed.
    pub timed_every: u32,
    /// What reading the clock twice takes; subtracted below, but for the means.
    pub timer_ns: Figure,
    /// The steps in which the clock counts, in nanoseconds.
    pub timer_step_ns: u64,
    /// Calls one after the other, as fast as they return: they fill the disk's bandwidth, and some wait for it.
    pub flat_out: Cost,
    /// The same calls in bursts of 64, a million per second.
    pub paced: Cost,
    /// A copy of 128 bytes and their CRC.
    pub copy_and_crc: Cost,
}

/// What a call takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// All the time by all calls: what waits, and what the timer takes, are in it. `None` if they are paced.
    pub mean_ns: Option<Figure>,
    /// The median of the timed calls.
    pub p50_ns: Figure,
    /// 99 of 100 timed calls are faster.
    pub p99_ns: Figure,
    /// 999 of 1000 timed calls are faster.
    pub p999_ns: Figure,
    /// The share of all calls that found no room and waited.
    pub waited_share: Figure,
}

impl Cost {
    fn of(samples: &[Sample]) -> Cost {
        let figure = |of: fn(&Sample) -> f64| Figure::of(samples.iter().map(of));
        Cost {
            mean_ns: Some(figure(|sample| sample.mean_ns)),
            p50_ns: figure(|sample| sample.p50_ns),
            p99_ns: figure(|sample| sample.p99_ns),
            p999_ns: figure(|sample| sample.p999_ns),
            waited_share: figure(|sample| sample.waited_share),
        }
    }
}

/// One repetition of one kind.
struct Sample {
    mean_ns: f64,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    waited_share: f64,
}

/// Measures the call, by turns with its yardstick.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Call> {
    let (mut timers, mut flat_out, mut paced, mut yardstick) = (vec![], vec![], vec![], vec![]);
    for _ in 0..repetitions {
        let timer = Timer::measure();
        flat_out.push(append(base, timer, None)?);
        yardstick.push(copy_and_crc(timer));
        paced.push(append(base, timer, Some(PACED_PER_SECOND))?);
        timers.push(timer);
    }
    Ok(Call {
        calls: CALLS,
        timed_every: TIMED_EVERY,
        timer_ns: Figure::of(timers.iter().map(|timer| timer.cost_ns)),
        timer_step_ns: timers[0].step_ns,
        flat_out: Cost::of(&flat_out),
        paced: Cost { mean_ns: None, ..Cost::of(&paced) },
        copy_and_crc: Cost::of(&yardstick),
    })
}

/// Calls `call` with payload after payload, in bursts of which one call is timed; with `per_second`, each burst
/// begins when it is due. The payloads of a burst are made before it: a copy that meets bytes still on their way
/// to the cache would be slower than any caller's.
fn time(
    timer: Timer,
    mut call: impl FnMut(&[u8; RECORD_BYTES]) -> Result<()>,
    first: u32,
    per_second: Option<u32>,
) -> Result<Sample> {
    let mut timed_ns = Vec::with_capacity((CALLS / TIMED_EVERY) as usize);
    let mut payloads = [payload(0); TIMED_EVERY as usize];
    let start = Instant::now();
    for burst in 0..CALLS / TIMED_EVERY {
        if let Some(per_second) = per_second {
            let due = Duration::from_secs(1) * (burst * TIMED_EVERY) / per_second;
            while start.elapsed() < due {
                spin_loop();
            }
        }
        for (payload, number) in payloads.iter_mut().zip(first + burst * TIMED_EVERY..) {
            Load::number(payload, number);
        }
        // Not the first of a burst, which finds what a pause has left in the caches.
        let (before, rest) = payloads.split_at(TIMED_EVERY as usize / 2);
        let (timed, after) = rest.split_first().expect("a burst has a second half");
        before.iter().try_for_each(&mut call)?;
        let began = Instant::now();
        call(timed)?;
        timed_ns.push(began.elapsed().as_nanos() as u64);
        after.iter().try_for_each(&mut call)?;
    }
    let mean_ns = start.elapsed().as_nanos() as f64 / f64::from(CALLS);
    timed_ns.sort_unstable();
    let quantile = |share| timer.quantile_ns(&timed_ns, share);
    Ok(Sample {
        mean_ns,
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
        p999_ns: quantile(0.999),
        waited_share: 0.0,
    })
}

fn append(base: Option<&Path>, timer: Timer, per_second: Option<u32>) -> Result<Sample> {
    let dir = scratch::directory(base)?;
    let options = Wal::options().mode(DurabilityMode::asynchronous());

    let wal = options.open(dir.path())?;
    let writer = wal.writer();
    for number in 0..WARM_UP_CALLS {
        writer.append(payload(number))?;
    }
    wal.flush()?;
    let waits_before = wal.metrics().ring_full_waits;
    let append_one = |payload: &[u8; RECORD_BYTES]| writer.append(payload).map(drop).map_err(Into::into);
    let sample = time(timer, append_one, WARM_UP_CALLS, per_second)?;
    let waits = wal.metrics().ring_full_waits - waits_before;
    wal.close()?;
    LOAD.check(&options, dir.path())?;
    Ok(Sample { waited_share: waits as f64 / f64::from(CALLS), ..sample })
}

fn copy_and_crc(timer: Timer) -> Sample {
    let mut ring = vec![0_u8; RING_BYTES];
    let (mut at, mut checksums) = (0, 0_u32);
    let copy_one = |payload: &[u8; RECORD_BYTES]| {
        ring[at..at + RECORD_BYTES].copy_from_slice(payload);
        checksums ^= black_box(crc32fast::hash(black_box(payload)));
        at = (at + RECORD_BYTES) % RING_BYTES;
        Ok(())
    };
    let sample = time(timer, copy_one, 0, None).expect("a copy cannot fail");
    let expected = (0..CALLS).fold(0, |sum, number| sum ^ crc32fast::hash(&payload(number)));
    assert_eq!(checksums, expected, "every payload was summed once");
    let last = (at + RING_BYTES - RECORD_BYTES) % RING_BYTES;
    assert_eq!(ring[last..last + RECORD_BYTES], payload(CALLS - 1), "the last was copied last");
    sample
}

fn payload(number: u32) -> [u8; RECORD_BYTES] {
    let mut payload: [u8; RECORD_BYTES] = LOAD.payload(0).try_into().expect("as long as the load says");
    Load::number(&mut payload, number);
    payload
}
