//! Durable records from tasks: one that keeps many tickets in flight, and many that await one append each.
//!
//! The rule is that of the [workload](crate::pipelined): the clock runs until all is durable, and then the log is
//! opened again and every record read back.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use braidlog::storage::FileIo;
use braidlog::{DurabilityMode, Ticket, Wal};
use braidlog_measure::Result;
use braidlog_measure::figure::{Figure, median_us};
use braidlog_measure::raw::RawFile;
use braidlog_measure::workload::Load;
use futures::executor::{ThreadPool, block_on};
use futures::task::SpawnExt;
use serde::Serialize;

use crate::pipelined::{self, Shape};
use crate::scratch;

/// Tickets of the one task, and tasks of the many.
const IN_FLIGHT: u32 = 10_000;
/// Records of the one task.
const RECORDS: u32 = 1_000_000;
/// Records of each of many tasks, one after the other.
const RECORDS_OF_A_TASK: u32 = 20;
/// Turns of the raw loop before each repetition.
const RAW_TURNS: u64 = 50;

/// What tasks do, beside a thread.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tasks {
    /// Tickets in flight, and tasks.
    pub in_flight: u32,
    /// Durable records of 128 bytes per second: one task that awaits the oldest of its tickets.
    pub one_task_per_second: Figure,
    /// The same by one thread that waits for the oldest.
    pub one_thread_per_second: Figure,
    /// The one to the other, repetition by repetition.
    pub to_thread: Figure,
    /// As many tasks as there were tickets, on two threads; each awaits its append before the next.
    pub many_tasks_per_second: Figure,
    /// A write of 4096 bytes and an `fdatasync` just before, in microseconds: the median.
    pub raw_us: Figure,
}

/// Measures all three by turns.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Tasks> {
    let one = Load::spread(1, RECORDS);
    let many = Load::spread(IN_FLIGHT, IN_FLIGHT * RECORDS_OF_A_TASK);
    let (mut task_rates, mut thread_rates, mut many_rates, mut raw_us) = (vec![], vec![], vec![], vec![]);
    for _ in 0..repetitions {
        let dir = scratch::directory(base)?;
        let mut raw = RawFile::prepare(&dir.path().join("raw"), FileIo::Buffered, RAW_TURNS)?;
        raw_us.push(median_us(&mut raw.turns(RAW_TURNS)?.whole));
        let rate = |load: &Load, took: Duration| load.total() as f64 / took.as_secs_f64();
        task_rates.push(rate(&one, one_task(&one, IN_FLIGHT, scratch::directory(base)?.path())?));
        let threaded = pipelined::run(&one, Shape::InFlight(IN_FLIGHT), scratch::directory(base)?.path())?;
        thread_rates.push(rate(&one, threaded.elapsed));
        many_rates.push(rate(&many, many_tasks(&many, scratch::directory(base)?.path())?));
    }
    let ratios = task_rates.iter().zip(&thread_rates).map(|(task, thread)| task / thread);
    Ok(Tasks {
        in_flight: IN_FLIGHT,
        to_thread: Figure::of(ratios),
        one_task_per_second: Figure::of(task_rates),
        one_thread_per_second: Figure::of(thread_rates),
        many_tasks_per_second: Figure::of(many_rates),
        raw_us: Figure::of(raw_us),
    })
}

/// One task submits the load and awaits the oldest ticket when it has as many as it may; how long it took.
fn one_task(load: &Load, tickets_max: u32, dir: &Path) -> Result<Duration> {
    run(load, dir, |wal| {
        let writer = wal.writer();
        let task = async {
            let mut payload = load.payload(0);
            let mut tickets: VecDeque<Ticket> = VecDeque::with_capacity(tickets_max as usize);
            for record in 0..load.records {
                Load::number(&mut payload, record);
                if tickets.len() == tickets_max as usize
                    && let Some(oldest) = tickets.pop_front()
                {
                    oldest.await?;
                }
                tickets.push_back(writer.submit_async(&payload).await?);
            }
            for ticket in tickets {
                ticket.await?;
            }
            Ok::<(), braidlog::Error>(())
        };
        Ok(block_on(task)?)
    })
}

/// As many tasks as the load has threads, on two threads, each of which awaits one append after the other; how long it took.
fn many_tasks(load: &Load, dir: &Path) -> Result<Duration> {
    let pool = ThreadPool::builder().pool_size(2).create()?;
    run(load, dir, |wal| {
        let tasks: Vec<_> = (0..load.threads)
            .map(|task| {
                let (wal, mut payload, records) = (wal.clone(), load.payload(task), load.records);
                pool.spawn_with_handle(async move {
                    for record in 0..records {
                        Load::number(&mut payload, record);
                        wal.append_async(&payload).await?;
                    }
                    Ok::<(), braidlog::Error>(())
                })
            })
            .collect::<std::result::Result<_, _>>()?;
        tasks.into_iter().try_for_each(|task| Ok(block_on(task)?))
    })
}

/// Times `append` on a fresh log in `dir`, and checks what is in it.
fn run(load: &Load, dir: &Path, append: impl FnOnce(&Wal) -> Result<()>) -> Result<Duration> {
    let options = Wal::options().mode(DurabilityMode::group_commit());
    let wal = options.open(dir)?;
    let start = Instant::now();
    append(&wal)?;
    let elapsed = start.elapsed();
    let durable = wal.durable_lsn().get();
    wal.close()?;
    if durable != load.total() {
        return Err(format!("{} records were awaited, {durable} are durable", load.total()).into());
    }
    load.check(&options, dir)?;
    Ok(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_durable_at_the_end_in_both_ways() {
        let dir = scratch::directory(None).unwrap();
        assert!(one_task(&Load::spread(1, 1000), 50, dir.path()).unwrap() > Duration::ZERO);
        let dir = scratch::directory(None).unwrap();
        assert!(many_tasks(&Load::spread(50, 500), dir.path()).unwrap() > Duration::ZERO);
    }
}
