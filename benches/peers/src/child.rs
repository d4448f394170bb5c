//! A cell, in the process that was started for it.
//!
//! The rule: nothing but the workload happens while the clock runs. Opening comes before, closing and reading
//! back after it, and the memory that reading back takes is not counted.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cell::{Cell, Place, Workload};
use crate::host;
use crate::outcome::{Latency, Outcome, histogram, nanoseconds};
use crate::peer::{Appender, Peer, Result, Setup};
use crate::record::{Source, Tally};

/// The most bytes of records in a cell.
const BYTES_MAX: u64 = 1 << 30;
/// The most records of a cell in which records are waited for: the yardstick's file is prepared for as many.
pub const DURABLE_RECORDS_MAX: u64 = 3_500_000;
/// After how long threads stop to append.
const WRITE_TIME: Duration = Duration::from_secs(2);
/// One call in so many is timed where nobody waits.
const SAMPLED: u64 = 64;
/// Records of a batch with one wait.
const BATCH: usize = 100;
/// Records of each thread that are on their way to the disk.
const IN_FLIGHT: usize = 10_000;
/// The name of the file that says what a log holds that is to be replayed.
const ACKNOWLEDGED: &str = "acknowledged";
/// The directory of the log in the directory of the cell.
pub const LOG: &str = "log";

/// Runs a cell in `dir`: the log in a directory of its own there.
///
/// # Errors
/// What the log or the system says.
pub fn run<P: Peer>(cell: &Cell, variant: &'static str, dir: &Path) -> Result<Outcome> {
    let Place { workload, record_bytes, threads, .. } = cell.place;
    let setup = Setup {
        threads,
        record_bytes,
        durable: workload.is_durable(),
        batches: workload == Workload::Pipelined,
        variant,
    };
    let log = dir.join(LOG);
    if workload == Workload::Replay {
        return replay::<P>(&Setup { durable: !P::HAS_ASYNC, batches: !P::HAS_ASYNC, ..setup }, dir);
    }
    fs::create_dir(&log)?;
    let written = write::<P>(&setup, workload, &log)?;
    let (acknowledged, mut outcome) = written;
    let mut tally = Tally::new(&acknowledged, record_bytes);
    let error = P::replay(&log, &setup, |record| tally.take(record)).err();
    outcome.check = tally.finish();
    outcome.notes.extend(outcome.check.faults());
    outcome.notes.extend(error.map(|error| format!("reading back: {error}")));
    Ok(outcome)
}

/// Writes the log that a replay reads, in a process of its own: what the page cache and the allocator hold
/// of it shall not help.
///
/// # Errors
/// What the log or the system says.
pub fn prepare<P: Peer>(cell: &Cell, variant: &'static str, dir: &Path) -> Result<Outcome> {
    let Place { record_bytes, threads, .. } = cell.place;
    let batches = !P::HAS_ASYNC;
    let setup = Setup { threads, record_bytes, durable: batches, batches, variant };
    let log = dir.join(LOG);
    fs::create_dir(&log)?;
    let (acknowledged, outcome) = write::<P>(&setup, Workload::Replay, &log)?;
    fs::write(dir.join(ACKNOWLEDGED), serde_json::to_vec(&acknowledged)?)?;
    Ok(outcome)
}

fn replay<P: Peer>(setup: &Setup, dir: &Path) -> Result<Outcome> {
    let acknowledged: Vec<u64> = serde_json::from_slice(&fs::read(dir.join(ACKNOWLEDGED))?)?;
    let log = dir.join(LOG);
    let disk_bytes = host::disk_bytes(&log)?;
    let mut tally = Tally::new(&acknowledged, setup.record_bytes);
    let (start, cpu) = (Instant::now(), host::cpu_time());
    let mut opened = None;
    let error = P::replay(&log, setup, |record| {
        opened.get_or_insert_with(|| start.elapsed());
        tally.take(record);
    })
    .err();
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = (host::cpu_time() - cpu).as_secs_f64();
    let records = tally.read();
    let check = tally.finish();
    let mut notes = check.faults();
    notes.extend(error.map(|error| format!("reading: {error}")));
    Ok(Outcome {
        records,
        seconds,
        open_seconds: opened.map(|opened| opened.as_secs_f64()),
        cpu_seconds,
        disk_bytes,
        resident_bytes: host::resident_bytes_max()?,
        check,
        notes,
        ..Outcome::default()
    })
}

/// What a thread has done.
struct Done {
    acknowledged: u64,
    times: Histogram<u64>,
    in_flight_max: usize,
}

/// Appends from all threads to a fresh log and closes it; how many records of each thread it has.
fn write<P: Peer>(setup: &Setup, workload: Workload, log: &Path) -> Result<(Vec<u64>, Outcome)> {
    let peer = P::open(log, setup)?;
    let timer_ns = (workload == Workload::AppendCall).then(timer_ns);
    let most = BYTES_MAX / setup.record_bytes as u64;
    let most = match workload {
        Workload::Durable | Workload::Pipelined => most.min(DURABLE_RECORDS_MAX),
        Workload::Replay | Workload::AppendCall => most.min(2_000_000),
        Workload::Async | Workload::Tickets => most,
    };
    let quota = Quota {
        records: most / u64::from(setup.threads),
        timer_ns: timer_ns.unwrap_or(0),
        record_bytes: setup.record_bytes,
        batches: setup.batches,
    };

    let ready = Barrier::new(setup.threads as usize + 1);
    let (done, start, appended, cpu) = thread::scope(|scope| -> Result<_> {
        let mut threads = Vec::new();
        // All appenders first: whoever cannot have one must not leave the others waiting.
        let appenders = (0..setup.threads).map(|thread| peer.appender(thread)).collect::<Result<Vec<_>>>()?;
        for (thread, mut appender) in appenders.into_iter().enumerate() {
            let (ready, quota) = (&ready, &quota);
            threads.push(scope.spawn(move || {
                let source = Source::new(thread as u32, quota.record_bytes);
                ready.wait();
                let done = quota.append(workload, &mut appender, source)?;
                appender.finish()?;
                Ok(done)
            }));
        }
        ready.wait();
        let (start, cpu) = (Instant::now(), host::cpu_time());
        let done = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?);
        let done = done.collect::<Result<Vec<Done>>>()?;
        Ok((done, start, start.elapsed(), cpu))
    })?;
    peer.flush()?;
    if !P::FLUSH_SYNCS {
        host::sync_files(log)?;
    }
    let elapsed = start.elapsed();
    let cpu_seconds = (host::cpu_time() - cpu).as_secs_f64();

    let resident_bytes = host::resident_bytes_max()?;
    let notes = peer.note().into_iter().collect();
    peer.close()?;
    let mut times = histogram();
    for done in &done {
        times.add(&done.times)?;
    }
    let acknowledged: Vec<u64> = done.iter().map(|done| done.acknowledged).collect();
    let in_flight: usize = done.iter().map(|done| done.in_flight_max).sum();
    let outcome = Outcome {
        records: acknowledged.iter().sum(),
        seconds: elapsed.as_secs_f64(),
        flush_seconds: (elapsed - appended).as_secs_f64(),
        cpu_seconds,
        latency: Latency::of(&times),
        timer_ns,
        in_flight_bytes: (in_flight > 0).then_some((in_flight * setup.record_bytes) as u64),
        disk_bytes: host::disk_bytes(log)?,
        resident_bytes,
        notes,
        ..Outcome::default()
    };
    Ok((acknowledged, outcome))
}

/// What each thread appends at most.
struct Quota {
    records: u64,
    record_bytes: usize,
    timer_ns: u64,
    batches: bool,
}

impl Quota {
    fn append(&self, workload: Workload, appender: &mut impl Appender, mut source: Source) -> Result<Done> {
        let mut done = Done { acknowledged: 0, times: histogram(), in_flight_max: 0 };
        match workload {
            Workload::Replay if self.batches => self.append_batches(appender, &mut source, &mut done)?,
            Workload::Async | Workload::AppendCall | Workload::Replay => {
                self.append_sampled(appender, &mut source, &mut done)?;
            }
            Workload::Durable => self.append_durable(appender, &mut source, &mut done)?,
            Workload::Pipelined => self.append_batches(appender, &mut source, &mut done)?,
            Workload::Tickets => self.append_with_tickets(appender, &mut source, &mut done)?,
        }
        done.acknowledged = source.made();
        Ok(done)
    }

    fn append_sampled(
        &self,
        appender: &mut impl Appender,
        source: &mut Source,
        done: &mut Done,
    ) -> Result<()> {
        // Of large records each is timed: there are few, and the clock costs nothing beside them.
        let sampled = if self.record_bytes > 4096 { 1 } else { SAMPLED };
        let start = Instant::now();
        while source.made() + sampled <= self.records && start.elapsed() < WRITE_TIME {
            for _ in 1..sampled {
                appender.append(source.make())?;
            }
            let record = source.make();
            let before = Instant::now();
            appender.append(record)?;
            done.times.saturating_record(nanoseconds(before.elapsed()).saturating_sub(self.timer_ns));
        }
        Ok(())
    }

    fn append_durable(
        &self,
        appender: &mut impl Appender,
        source: &mut Source,
        done: &mut Done,
    ) -> Result<()> {
        let start = Instant::now();
        let mut before = start;
        while source.made() < self.records && before - start < WRITE_TIME {
            appender.append_durable(source.make())?;
            let after = Instant::now();
            done.times.saturating_record(nanoseconds(after - before));
            before = after;
        }
        Ok(())
    }

    fn append_batches(
        &self,
        appender: &mut impl Appender,
        source: &mut Source,
        done: &mut Done,
    ) -> Result<()> {
        let mut batch = vec![vec![0; self.record_bytes]; BATCH];
        let start = Instant::now();
        let mut before = start;
        while source.made() + BATCH as u64 <= self.records && before - start < WRITE_TIME {
            batch.iter_mut().for_each(|record| record.copy_from_slice(source.make()));
            before = Instant::now();
            appender.append_batch_durable(&batch)?;
            done.times.saturating_record(nanoseconds(before.elapsed()));
        }
        Ok(())
    }

    fn append_with_tickets(
        &self,
        appender: &mut impl Appender,
        source: &mut Source,
        done: &mut Done,
    ) -> Result<()> {
        let start = Instant::now();
        while source.made() + SAMPLED <= self.records && start.elapsed() < WRITE_TIME {
            for _ in 0..SAMPLED {
                let in_flight = appender.append_with_ticket(source.make(), IN_FLIGHT)?;
                done.in_flight_max = done.in_flight_max.max(in_flight);
            }
        }
        Ok(())
    }
}

/// What reading the clock twice takes: the median.
fn timer_ns() -> u64 {
    let mut times = histogram();
    for _ in 0..100_000 {
        let before = Instant::now();
        times.saturating_record(nanoseconds(before.elapsed()));
    }
    times.value_at_quantile(0.5)
}
