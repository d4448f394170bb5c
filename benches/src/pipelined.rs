//! Durable records of which many are on their way at once: a thread submits without waiting, and waits for some of
//! its tickets.
//!
//! The rule is that of the [workload](crate::workload): the clock runs until all is durable, and then the log is
//! opened again and every record read back.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::storage::FileIo;
use braidlog::{DurabilityMode, ErrorKind, Ticket, Wal, Writer};
use braidlog_measure::Result;
use braidlog_measure::figure::{Figure, median_us};
use braidlog_measure::raw::RawFile;
use braidlog_measure::workload::Load;
use serde::Serialize;

use crate::scratch;

/// When a thread waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Shape {
    /// After so many records, for the last of them.
    Batches(u32),
    /// With so many tickets of all threads in flight, for the oldest.
    InFlight(u32),
}

/// What a run took.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pipelined {
    /// From the first submission until the last record was durable.
    pub elapsed: Duration,
    /// The most payload bytes that were in flight, if each thread had as many as it may.
    pub in_flight_bytes_max: u64,
}

/// A shape and a number of threads, beside the same records appended asynchronously.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// When a thread waits.
    pub shape: Shape,
    /// How many threads submit.
    pub threads: u32,
    /// Durable records of 128 bytes per second.
    pub records_per_second: Figure,
    /// The same records under `Async`, the final flush included.
    pub asynchronous_per_second: Figure,
    /// The one to the other, repetition by repetition.
    pub to_asynchronous: Figure,
    /// The most payload bytes that were in flight.
    pub in_flight_bytes_max: u64,
    /// A write of 4096 bytes and an `fdatasync` just before, in microseconds: the median.
    pub raw_us: Figure,
}

/// Turns of the raw loop before each repetition.
const RAW_TURNS: u64 = 50;

/// Measures both shapes with 1 and 4 threads, by turns with asynchronous appends.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<Row>> {
    let asynchronous = Wal::options().mode(DurabilityMode::asynchronous());
    let mut rows = Vec::new();
    for (shape, records) in [(Shape::Batches(100), 200_000), (Shape::InFlight(10_000), 1_000_000)] {
        for threads in [1, 4] {
            let load = Load::spread(threads, records);
            let (mut rates, mut asynchronous_rates, mut in_flight_bytes_max) = (vec![], vec![], 0);
            let mut raw_us = Vec::new();
            for _ in 0..repetitions {
                let dir = scratch::directory(base)?;
                let mut raw = RawFile::prepare(&dir.path().join("raw"), FileIo::Buffered, RAW_TURNS)?;
                raw_us.push(median_us(&mut raw.turns(RAW_TURNS)?.whole));
                let ran = run(&load, shape, scratch::directory(base)?.path())?;
                rates.push(load.total() as f64 / ran.elapsed.as_secs_f64());
                in_flight_bytes_max = ran.in_flight_bytes_max;
                let dir = scratch::directory(base)?;
                asynchronous_rates.push(load.run(dir.path(), &asynchronous)?.rate());
            }
            let ratios = rates.iter().zip(&asynchronous_rates).map(|(rate, to)| rate / to);
            rows.push(Row {
                shape,
                threads,
                to_asynchronous: Figure::of(ratios),
                records_per_second: Figure::of(rates),
                asynchronous_per_second: Figure::of(asynchronous_rates),
                in_flight_bytes_max,
                raw_us: Figure::of(raw_us),
            });
        }
    }
    Ok(rows)
}

/// Submits the load to a fresh log in `dir`, and checks what is in it.
///
/// # Errors
/// An error of the log, or a wrong result.
pub fn run(load: &Load, shape: Shape, dir: &Path) -> Result<Pipelined> {
    let options = Wal::options().mode(DurabilityMode::group_commit());
    let wal = options.open(dir)?;
    let in_flight_max = match shape {
        Shape::Batches(records) => records,
        Shape::InFlight(tickets) => tickets.div_ceil(load.threads),
    };
    let ready = Barrier::new(load.threads as usize + 1);
    let elapsed = thread::scope(|scope| -> Result<Duration> {
        let writers: Vec<_> = (0..load.threads)
            .map(|thread| {
                let (writer, ready) = (wal.writer(), &ready);
                scope.spawn(move || {
                    ready.wait();
                    match shape {
                        Shape::Batches(_) => submit_batches(load, &writer, thread, in_flight_max),
                        Shape::InFlight(_) => keep_in_flight(load, &writer, thread, in_flight_max),
                    }
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(start.elapsed())
    })?;
    let durable = wal.durable_lsn().get();
    wal.close()?;
    if durable != load.total() {
        return Err(format!("{} records were waited for, {durable} are durable", load.total()).into());
    }
    load.check(&options, dir)?;
    let in_flight = u64::from(in_flight_max) * u64::from(load.threads);
    Ok(Pipelined { elapsed, in_flight_bytes_max: in_flight * load.record_bytes as u64 })
}

fn submit_batches(load: &Load, writer: &Writer, thread: u32, batch: u32) -> braidlog::Result<()> {
    let mut payload = load.payload(thread);
    let mut last: Option<Ticket> = None;
    for record in 0..load.records {
        Load::number(&mut payload, record);
        let ticket = loop {
            if let Some(ticket) = try_submit(writer, &payload)? {
                break ticket;
            }
            // No room: what was submitted before has to be written first.
            match last.take() {
                Some(ticket) => ticket.wait().map(drop)?,
                None => thread::yield_now(),
            }
        };
        last = Some(ticket);
        if (record + 1).is_multiple_of(batch) || record + 1 == load.records {
            last.take().map_or(Ok(()), |ticket| ticket.wait().map(drop))?;
        }
    }
    Ok(())
}

fn keep_in_flight(load: &Load, writer: &Writer, thread: u32, tickets_max: u32) -> braidlog::Result<()> {
    let mut payload = load.payload(thread);
    let mut tickets = VecDeque::with_capacity(tickets_max as usize);
    for record in 0..load.records {
        Load::number(&mut payload, record);
        if tickets.len() == tickets_max as usize {
            wait_for_first(&mut tickets)?;
        }
        let ticket = loop {
            if let Some(ticket) = try_submit(writer, &payload)? {
                break ticket;
            }
            wait_for_first(&mut tickets)?;
        };
        tickets.push_back(ticket);
    }
    tickets.into_iter().try_for_each(|ticket| ticket.wait().map(drop))
}

/// Waits for the oldest; lets others run if there is none.
fn wait_for_first(tickets: &mut VecDeque<Ticket>) -> braidlog::Result<()> {
    match tickets.pop_front() {
        Some(ticket) => ticket.wait().map(drop),
        None => {
            thread::yield_now();
            Ok(())
        }
    }
}

/// `None` if there is no room just now.
fn try_submit(writer: &Writer, payload: &[u8]) -> braidlog::Result<Option<Ticket>> {
    match writer.submit(payload) {
        Ok(ticket) => Ok(Some(ticket)),
        Err(error) => match error.into_parts() {
            (error, _) if error.kind() == ErrorKind::Full => Ok(None),
            (error, _) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_durable_at_the_end_in_both_shapes() {
        for (shape, bytes) in [(Shape::Batches(7), 2 * 7 * 128), (Shape::InFlight(50), 50 * 128)] {
            let dir = scratch::directory(None).unwrap();
            let ran = run(&Load::spread(2, 1000), shape, dir.path()).unwrap();
            assert_eq!(ran.in_flight_bytes_max, bytes);
            assert!(ran.elapsed > Duration::ZERO);
        }
    }
}
