//! What one cell gave. Everything that a table shows is computed from these, so that a JSON file of them can be
//! shown again.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::record::Check;

/// How long calls took, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// Half of them were not slower.
    pub p50_ns: u64,
    /// 99 of 100 were not slower.
    pub p99_ns: u64,
    /// 999 of 1000 were not slower.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
    /// The share of calls that took more than a microsecond.
    pub above_1us: f64,
}

impl Latency {
    /// Of these times; `None` if there is none.
    pub fn of(times: &Histogram<u64>) -> Option<Latency> {
        (!times.is_empty()).then(|| Latency {
            count: times.len(),
            p50_ns: times.value_at_quantile(0.5),
            p99_ns: times.value_at_quantile(0.99),
            p999_ns: times.value_at_quantile(0.999),
            max_ns: times.max(),
            above_1us: 1.0 - times.count_between(0, 1000) as f64 / times.len() as f64,
        })
    }
}

/// An empty histogram of nanoseconds with three digits, up to a hundred seconds.
///
/// # Panics
/// Never: these bounds are within what a histogram allows.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("these bounds are allowed")
}

/// What was measured in one cell.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Records that were appended, or read.
    pub records: u64,
    /// From the first append until all was on the device; of a replay, from before the opening to the last record.
    pub seconds: f64,
    /// What of it came after the last append.
    pub flush_seconds: f64,
    /// What of a replay was the opening, where that is a step of its own.
    pub open_seconds: Option<f64>,
    /// Processor time of all threads meanwhile, user and system.
    pub cpu_seconds: f64,
    /// How long calls took.
    pub latency: Option<Latency>,
    /// What reading the clock takes, which is subtracted from `latency`. Only where calls are as short.
    pub timer_ns: Option<u64>,
    /// The most payload bytes that were submitted and not durable.
    pub in_flight_bytes: Option<u64>,
    /// Bytes of the files after closing.
    pub disk_bytes: u64,
    /// The most memory that was resident (`VmHWM`), before the records were read back.
    pub resident_bytes: u64,
    /// What was read back.
    pub check: Check,
    /// What else is to be said.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Records per second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// Seconds of processor time for a million records.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    /// Bytes of the files for each record.
    pub fn disk_per_record(&self) -> f64 {
        self.disk_bytes as f64 / self.records as f64
    }
}

/// Nanoseconds, as much as fits.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_told_by_rank_and_by_share() {
        let mut times = histogram();
        assert_eq!(Latency::of(&times), None);
        (1..=1000).for_each(|us| times.saturating_record(us * 1000));
        let latency = Latency::of(&times).unwrap();
        assert_eq!(latency.count, 1000);
        let is_near = |ns: u64, us: u64| ns.abs_diff(us * 1000) <= us;
        assert!(
            is_near(latency.p50_ns, 500) && is_near(latency.p99_ns, 990) && is_near(latency.max_ns, 1000)
        );
        assert!((latency.above_1us - 0.999).abs() < 1e-9);
    }

    #[test]
    fn rates_are_of_the_whole_time() {
        let outcome = Outcome {
            records: 500_000,
            seconds: 2.0,
            flush_seconds: 1.0,
            cpu_seconds: 3.0,
            disk_bytes: 80_000_000,
            ..Outcome::default()
        };
        assert_eq!(
            (outcome.rate(), outcome.cpu_per_million(), outcome.disk_per_record()),
            (250e3, 6.0, 160.0)
        );
    }
}
