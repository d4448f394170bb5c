//! The one workload: threads that append records of one size, as fast as they are let, to a fresh log.
//!
//! # What is timed
//! From the moment when all threads are ready to the return of a final flush: in every mode, all records are
//! durable when the clock stops. Opening before and closing after are not timed.
//!
//! # What is checked, after the clock
//! The log says that all is durable. Then it is closed, opened again and replayed: LSNs are dense, and each
//! thread's records are all there, once, in the order of that thread.

use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::{Lsn, Metrics, Options, Wal, Writer};

use crate::latency::Latencies;
use crate::{Result, cpu, space};

/// Bytes of a record's payload where nothing else is said.
pub const RECORD_BYTES: usize = 128;
/// The smallest payload: the number of its thread and its own.
pub const RECORD_BYTES_MIN: usize = 8;
/// What the rest of a payload is filled with.
const FILLER: u8 = 0xB1;
/// Records that are read back between two looks at whether to stop.
const RECORDS_BETWEEN_STOPS: u32 = 4096;

/// How many threads append how many records each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// How many threads.
    pub threads: u32,
    /// How many records each of them appends.
    pub records: u32,
    /// Bytes of each payload, at least [`RECORD_BYTES_MIN`].
    pub record_bytes: usize,
}

/// What ends a run before its records do, and how often it looks at the clock.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Each thread ends so long after the start.
    pub time_max: Duration,
    /// Of each thread one call in so many is timed, and only then it looks whether the time is over.
    pub timed_every: u32,
    /// Whether to give up. A run that was given up is no result.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Limits<'_> {
    /// No limit: no call is timed.
    pub const NONE: Limits<'static> =
        Limits { time_max: Duration::MAX, timed_every: u32::MAX, stop: &|| false };
}

/// What a run took.
#[derive(Clone, Debug)]
pub struct Run {
    /// From the first append to the return of the last flush.
    pub elapsed: Duration,
    /// Processor time of the process meanwhile.
    pub cpu: Duration,
    /// Records that were appended.
    pub records: u64,
    /// The calls that were timed, the clock's own cost in them.
    pub latencies: Latencies,
    /// Bytes of the log's directory when it had been closed.
    pub disk_bytes: u64,
    /// What the log says of itself, when the clock has stopped.
    pub metrics: Metrics,
}

impl Run {
    /// Records per second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes of the closed log's directory for each record.
    pub fn disk_bytes_per_record(&self) -> f64 {
        self.disk_bytes as f64 / self.records as f64
    }

    /// Seconds of processor time for a million records.
    pub fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }
}

/// What the threads did until the clock stopped.
struct Appended {
    elapsed: Duration,
    cpu: Duration,
    /// Records of each thread.
    counts: Vec<u32>,
    latencies: Latencies,
}

impl Load {
    /// A load of about `records` of 128 bytes in all, spread over `threads`.
    pub fn spread(threads: u32, records: u32) -> Load {
        Load { threads, records: records.div_ceil(threads), record_bytes: RECORD_BYTES }
    }

    /// Records in all.
    pub fn total(&self) -> u64 {
        u64::from(self.threads) * u64::from(self.records)
    }

    /// Appends to a fresh log in `dir`, and checks what is in it.
    ///
    /// # Errors
    /// An error of the log, or one that says what is wrong with the result.
    pub fn run(&self, dir: &Path, options: &Options) -> Result<Run> {
        self.run_within(dir, options, Limits::NONE)
    }

    /// As [`Load::run`], within limits.
    ///
    /// # Errors
    /// As there.
    pub fn run_within(&self, dir: &Path, options: &Options, limits: Limits<'_>) -> Result<Run> {
        let wal = options.open(dir)?;
        let Appended { elapsed, cpu, counts, latencies } = self.append_within(&wal, limits)?;
        let metrics = wal.metrics();
        let durable = wal.durable_lsn();
        wal.close()?;
        let disk_bytes = space::bytes_in(dir)?;
        let records = counts.iter().map(|&count| u64::from(count)).sum();
        if durable != Lsn(records) {
            return Err(format!("{records} records were appended, {durable} are durable").into());
        }
        self.check_counts(options, dir, &counts, limits.stop)?;
        Ok(Run { elapsed, cpu, records, latencies, disk_bytes, metrics })
    }

    /// Appends from all threads; the time until all is durable.
    ///
    /// # Errors
    /// An error of the log.
    pub fn append(&self, wal: &Wal) -> Result<Duration> {
        Ok(self.append_within(wal, Limits::NONE)?.elapsed)
    }

    fn append_within(&self, wal: &Wal, limits: Limits<'_>) -> Result<Appended> {
        let ready = Barrier::new(self.threads as usize + 1);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let (writer, ready) = (wal.writer(), &ready);
                    scope.spawn(move || {
                        ready.wait();
                        self.append_all(&writer, thread, limits)
                    })
                })
                .collect();
            ready.wait();
            let (start, cpu_before) = (Instant::now(), cpu::used());
            let (mut counts, mut latencies) = (Vec::new(), Latencies::default());
            for writer in writers {
                let (count, took) = writer.join().map_err(|_| "a writer panicked")??;
                counts.push(count);
                latencies.add(&took);
            }
            wal.flush()?;
            Ok(Appended { elapsed: start.elapsed(), cpu: cpu::used() - cpu_before, counts, latencies })
        })
    }

    /// What one thread does; how many records it has appended.
    fn append_all(
        &self,
        writer: &Writer,
        thread: u32,
        limits: Limits<'_>,
    ) -> braidlog::Result<(u32, Latencies)> {
        let mut latencies = Latencies::default();
        let mut payload = self.payload(thread);
        let start = Instant::now();
        let mut until_timed = limits.timed_every;
        for record in 0..self.records {
            Load::number(&mut payload, record);
            until_timed -= 1;
            if until_timed > 0 {
                writer.append(&payload)?;
                continue;
            }
            until_timed = limits.timed_every;
            let began = Instant::now();
            writer.append(&payload)?;
            let ended = Instant::now();
            latencies.record(ended - began);
            if ended - start >= limits.time_max || (limits.stop)() {
                return Ok((record + 1, latencies));
            }
        }
        Ok((self.records, latencies))
    }

    /// The payload of the first record of a thread: its number, the record's, and filler.
    ///
    /// # Panics
    /// If records are shorter than [`RECORD_BYTES_MIN`].
    pub fn payload(&self, thread: u32) -> Vec<u8> {
        let mut payload = vec![FILLER; self.record_bytes];
        payload[..4].copy_from_slice(&thread.to_le_bytes());
        Load::number(&mut payload, 0);
        payload
    }

    /// Makes a payload that of another record of the same thread.
    pub fn number(payload: &mut [u8], record: u32) {
        payload[4..8].copy_from_slice(&record.to_le_bytes());
    }

    /// Opens the log in `dir` and reads it all.
    ///
    /// # Errors
    /// An error of the log, or one that says what is wrong with it.
    pub fn check(&self, options: &Options, dir: &Path) -> Result<()> {
        self.check_counts(options, dir, &vec![self.records; self.threads as usize], &|| false)
    }

    /// As [`Load::check`] of threads that have appended so many records. Looks no further once `stop` says so.
    fn check_counts(
        &self,
        options: &Options,
        dir: &Path,
        counts: &[u32],
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let wal = options.open(dir)?;
        let filler = vec![FILLER; self.record_bytes - RECORD_BYTES_MIN];
        let mut next = vec![0_u32; counts.len()];
        let mut lsn = Lsn::ZERO;
        let mut records = wal.replay()?;
        while let Some(record) = records.next_ref() {
            let record = record?;
            lsn = lsn.next();
            if record.lsn != lsn {
                return Err(format!("LSN {} follows {}", record.lsn, lsn.prev()).into());
            }
            let (thread, rest) = record.payload.split_first_chunk().ok_or("a record is short")?;
            let (number, rest) = rest.split_first_chunk().ok_or("a record is short")?;
            let (thread, number) = (u32::from_le_bytes(*thread), u32::from_le_bytes(*number));
            let expected = next.get_mut(thread as usize).ok_or("a record of no thread")?;
            if number != *expected || rest != filler {
                return Err(format!("LSN {lsn}: record {number} of thread {thread}, not {expected}").into());
            }
            *expected += 1;
            if lsn.0.is_multiple_of(u64::from(RECORDS_BETWEEN_STOPS)) && stop() {
                return Ok(());
            }
        }
        if next != counts {
            let appended: u64 = counts.iter().map(|&count| u64::from(count)).sum();
            return Err(format!("{lsn} records were read back, {appended} appended").into());
        }
        wal.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use braidlog::DurabilityMode;

    use super::*;

    #[test]
    fn run_counts_what_is_in_the_log() {
        for mode in
            [DurabilityMode::asynchronous(), DurabilityMode::group_commit(), DurabilityMode::Synchronous]
        {
            let dir = tempfile::tempdir().unwrap();
            let run = Load::spread(4, 400).run(dir.path(), &Wal::options().mode(mode)).unwrap();
            assert_eq!((run.records, run.metrics.appends), (400, 400));
            assert!(run.metrics.syncs > 0 && run.rate() > 0.0 && run.disk_bytes > 400 * 128);
            assert_eq!(run.latencies.count(), 0);
        }
    }

    #[test]
    fn run_within_limits_ends_at_them_and_is_checked() {
        let options = Wal::options().mode(DurabilityMode::asynchronous());
        let load = Load { threads: 2, records: 1000, record_bytes: 8 };
        let limits = Limits { time_max: Duration::ZERO, timed_every: 16, stop: &|| false };
        let dir = tempfile::tempdir().unwrap();
        let run = load.run_within(dir.path(), &options, limits).unwrap();
        assert_eq!((run.records, run.latencies.count()), (32, 2));

        let stopped = Limits { time_max: Duration::MAX, timed_every: 100, stop: &|| true };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load.run_within(dir.path(), &options, stopped).unwrap().records, 200);

        let unhurried = Limits { time_max: Duration::MAX, timed_every: 1, stop: &|| false };
        let dir = tempfile::tempdir().unwrap();
        let run = load.run_within(dir.path(), &options, unhurried).unwrap();
        assert_eq!((run.records, run.latencies.count()), (2000, 2000));
    }

    #[test]
    fn check_refuses_a_log_that_holds_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load::spread(2, 10);
        load.run(dir.path(), &Wal::options()).unwrap();
        assert!(load.check(&Wal::options(), dir.path()).is_ok());
        assert!(Load { records: 6, ..load }.check(&Wal::options(), dir.path()).is_err());
        assert!(Load { threads: 1, ..load }.check(&Wal::options(), dir.path()).is_err());
        let wal = Wal::options().open(dir.path()).unwrap();
        wal.append(b"another").unwrap();
        wal.close().unwrap();
        assert!(load.check(&Wal::options(), dir.path()).is_err());
    }
}
