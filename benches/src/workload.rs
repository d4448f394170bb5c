//! The one workload: threads that append records of 128 bytes, as fast as they are let, to a fresh log.
//!
//! # What is timed
//! From the moment when all threads are ready to the return of a final flush: in every mode, all records are
//! durable when the clock stops. Opening before and closing after are not timed.
//!
//! # What is checked, after the clock
//! The log says that all is durable. Then it is closed, opened again and replayed: LSNs are dense, and each
//! thread's records are all there, once, in the order of that thread.

use std::error::Error;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use braidlog::{Lsn, Metrics, Options, Wal, Writer};

/// Bytes of a record's payload.
pub const RECORD_BYTES: usize = 128;

/// What goes wrong in a benchmark ends it.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many threads append how many records each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// How many threads.
    pub threads: u32,
    /// How many records each of them appends.
    pub records: u32,
}

/// What a run took.
#[derive(Clone, Debug)]
pub struct Run {
    /// From the first append to the return of the last flush.
    pub elapsed: Duration,
    /// Records that were appended.
    pub records: u64,
    /// What the log says of itself, when the clock has stopped.
    pub metrics: Metrics,
}

impl Run {
    /// Records per second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    /// A load of about `records` in all, spread over `threads`.
    pub fn spread(threads: u32, records: u32) -> Load {
        Load { threads, records: records.div_ceil(threads) }
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
        let wal = options.open(dir)?;
        let elapsed = self.append(&wal)?;
        let metrics = wal.metrics();
        let durable = wal.durable_lsn();
        wal.close()?;
        if durable != Lsn(self.total()) {
            return Err(format!("{} records were appended, {durable} are durable", self.total()).into());
        }
        self.check(options, dir)?;
        Ok(Run { elapsed, records: self.total(), metrics })
    }

    /// Appends from all threads; the time until all is durable.
    ///
    /// # Errors
    /// An error of the log.
    pub fn append(&self, wal: &Wal) -> Result<Duration> {
        let ready = Barrier::new(self.threads as usize + 1);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let (writer, ready) = (wal.writer(), &ready);
                    scope.spawn(move || {
                        ready.wait();
                        self.append_all(&writer, thread)
                    })
                })
                .collect();
            ready.wait();
            let start = Instant::now();
            for writer in writers {
                writer.join().map_err(|_| "a writer panicked")??;
            }
            wal.flush()?;
            Ok(start.elapsed())
        })
    }

    fn append_all(&self, writer: &Writer, thread: u32) -> braidlog::Result<()> {
        let mut payload = Load::payload(thread, 0);
        for record in 0..self.records {
            Load::number(&mut payload, record);
            writer.append(payload)?;
        }
        Ok(())
    }

    /// The payload of a record of a thread: both numbers, and filler.
    pub fn payload(thread: u32, record: u32) -> [u8; RECORD_BYTES] {
        let mut payload = [0xB1; RECORD_BYTES];
        payload[..4].copy_from_slice(&thread.to_le_bytes());
        Load::number(&mut payload, record);
        payload
    }

    /// Makes a payload that of another record of the same thread.
    pub fn number(payload: &mut [u8; RECORD_BYTES], record: u32) {
        payload[4..8].copy_from_slice(&record.to_le_bytes());
    }

    /// Opens the log in `dir` and reads it all.
    ///
    /// # Errors
    /// An error of the log, or one that says what is wrong with it.
    pub fn check(&self, options: &Options, dir: &Path) -> Result<()> {
        let wal = options.open(dir)?;
        let mut next = vec![0_u32; self.threads as usize];
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
            if number != *expected || rest != [0xB1; RECORD_BYTES - 8] {
                return Err(format!("LSN {lsn}: record {number} of thread {thread}, not {expected}").into());
            }
            *expected += 1;
        }
        if next.iter().any(|&count| count != self.records) {
            return Err(format!("{lsn} records were read back, {} appended", self.total()).into());
        }
        wal.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use braidlog::DurabilityMode;

    use super::*;
    use crate::scratch;

    #[test]
    fn run_counts_what_is_in_the_log() {
        for mode in
            [DurabilityMode::asynchronous(), DurabilityMode::group_commit(), DurabilityMode::Synchronous]
        {
            let dir = scratch::directory(None).unwrap();
            let run = Load::spread(4, 400).run(dir.path(), &Wal::options().mode(mode)).unwrap();
            assert_eq!((run.records, run.metrics.appends), (400, 400));
            assert!(run.metrics.syncs > 0 && run.rate() > 0.0);
        }
    }

    #[test]
    fn check_refuses_a_log_that_holds_anything_else() {
        let dir = scratch::directory(None).unwrap();
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
