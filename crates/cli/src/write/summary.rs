//! How a run of `write` ended: for people on standard error, with `--json` for programs on standard output.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Run;
use crate::failure::Failure;
use crate::output::{self, Out};

/// What `write --json` prints.
#[derive(Serialize)]
pub struct Summary {
    records: u64,
    /// Payload bytes.
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    fsyncs: u64,
    records_per_fsync: f64,
    /// From the call of an append (of a record or a batch) until what its mode promises held.
    commit_p50_ns: u64,
    commit_p99_ns: u64,
    durable_lsn: u64,
    /// Whether a signal ended the run before the lines did.
    pub interrupted: bool,
}

impl Summary {
    /// The figures of a run whose threads have ended and whose log is closed.
    pub fn new(run: &Run<'_>, elapsed: Duration) -> Summary {
        let records = run.records.load(Ordering::Relaxed);
        let fsyncs = run.wal.metrics().syncs;
        let latencies = run.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        Summary {
            records,
            bytes: run.bytes.load(Ordering::Relaxed),
            seconds: elapsed.as_secs_f64(),
            records_per_second: records as f64 / elapsed.as_secs_f64().max(1e-9),
            fsyncs,
            records_per_fsync: if fsyncs == 0 { 0.0 } else { records as f64 / fsyncs as f64 },
            commit_p50_ns: latencies.quantile_ns(0.5),
            commit_p99_ns: latencies.quantile_ns(0.99),
            durable_lsn: run.wal.durable_lsn().0,
            interrupted: run.stop.is_interrupted(),
        }
    }

    /// One JSON object on standard output.
    pub fn print_json(&self) -> Result<(), Failure> {
        let mut out = Out::stdout();
        out.json(self)?;
        out.flush()
    }

    /// Some lines on standard error.
    pub fn print_text(&self) {
        output::note(format_args!(
            "{}, {} in {:.3} s, {} records/s",
            output::plural(self.records, "record"),
            output::bytes(self.bytes),
            self.seconds,
            output::count(self.records_per_second as u64)
        ));
        output::note(format_args!(
            "{}, {:.1} records per fsync, commit latency p50 {} p99 {}",
            output::plural(self.fsyncs, "fsync"),
            self.records_per_fsync,
            output::duration(self.commit_p50_ns),
            output::duration(self.commit_p99_ns)
        ));
        output::note(format_args!("durable LSN {}", self.durable_lsn));
    }
}
