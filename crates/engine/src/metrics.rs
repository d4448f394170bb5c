//! What the log has done, as numbers: counters and latency histograms, read in one snapshot.
//!
//! # Invariant
//! An append that goes through a stripe and does not wait touches none of this: appends are counted by
//! their LSNs, bytes by the coordinator.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use braidlog_format::Lsn;

use crate::failure::Failure;

/// Buckets per power of two of a histogram: an error of at most 12.5 %.
const SUB_BUCKETS: u64 = 8;
/// Powers of two of nanoseconds: up to some 18 minutes.
const POWERS: u64 = 40;

/// A histogram of durations. Counting is one atomic add; all accesses are `Relaxed`: numbers for people.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Histogram {
    fn new() -> Histogram {
        Histogram {
            buckets: (0..POWERS * SUB_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, duration: Duration) {
        let ns = duration.as_nanos() as u64;
        self.buckets[bucket_of(ns)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
        self.max_ns.fetch_max(ns, Relaxed);
    }

    fn snapshot(&self) -> LatencySnapshot {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.max_ns.load(Relaxed);
        let quantile = |share: f64| {
            let rank = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|&n| {
                seen += n;
                seen >= rank && seen > 0
            });
            bucket.map_or(0, |bucket| upper_ns(bucket).min(max_ns))
        };
        LatencySnapshot {
            count,
            mean_ns: self.sum_ns.load(Relaxed).checked_div(count).unwrap_or(0),
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns,
        }
    }
}

/// Values below `SUB_BUCKETS` have a bucket each; above, a power of two is split into `SUB_BUCKETS`.
fn bucket_of(ns: u64) -> usize {
    let power = u64::from(63 - ns.max(1).leading_zeros());
    let sub_power = u64::from(SUB_BUCKETS.trailing_zeros());
    let bucket = if power < sub_power {
        ns
    } else {
        (power - sub_power + 1) * SUB_BUCKETS + ((ns >> (power - sub_power)) - SUB_BUCKETS)
    };
    bucket.min(POWERS * SUB_BUCKETS - 1) as usize
}

/// The largest value of a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let (group, sub) = (bucket as u64 / SUB_BUCKETS, bucket as u64 % SUB_BUCKETS);
    if group == 0 { sub } else { ((SUB_BUCKETS + sub + 1) << (group - 1)) - 1 }
}

/// Durations, summarised. Quantiles are upper bounds, at most 12.5 % above the true value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatencySnapshot {
    /// How many durations.
    pub count: u64,
    /// Their mean, in nanoseconds.
    pub mean_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// 99 % were at most this long.
    pub p99_ns: u64,
    /// 99.9 % were at most this long.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// The counters behind [`Metrics`]. All accesses are `Relaxed`: each is a number of its own.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) bytes: AtomicU64,
    pub(crate) rounds: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) records_synced: AtomicU64,
    pub(crate) ring_full_waits: AtomicU64,
    pub(crate) space_refusals: AtomicU64,
    pub(crate) overflow_appends: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) sync_latency: Histogram,
    pub(crate) commit_latency: Histogram,
    pub(crate) gap_latency: Histogram,
    pub(crate) hold_latency: Histogram,
    pub(crate) chore_latency: Histogram,
    pub(crate) chore_panics: AtomicU64,
    pub(crate) holds_filled: AtomicU64,
    pub(crate) hold_records: AtomicU64,
    pub(crate) hold_limit_ns: AtomicU64,
    pub(crate) round_cost_ns: AtomicU64,
    /// When the sync under way began, in nanoseconds of the monotonic clock plus one; 0 if none is.
    pub(crate) sync_since: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        let zero = || AtomicU64::new(0);
        Counters {
            bytes: zero(),
            rounds: zero(),
            syncs: zero(),
            records_synced: zero(),
            ring_full_waits: zero(),
            space_refusals: zero(),
            overflow_appends: zero(),
            rotations: zero(),
            recycled: zero(),
            sync_latency: Histogram::new(),
            commit_latency: Histogram::new(),
            gap_latency: Histogram::new(),
            hold_latency: Histogram::new(),
            chore_latency: Histogram::new(),
            chore_panics: zero(),
            holds_filled: zero(),
            hold_records: zero(),
            hold_limit_ns: zero(),
            round_cost_ns: zero(),
            sync_since: zero(),
        }
    }

    pub(crate) fn snapshot(&self, appends: u64, written: Lsn, durable: Lsn, last: Lsn) -> Metrics {
        let syncs = self.syncs.load(Relaxed);
        let gap_latency = self.gap_latency.snapshot();
        Metrics {
            appends,
            bytes: self.bytes.load(Relaxed),
            rounds: self.rounds.load(Relaxed),
            syncs,
            records_per_sync: if syncs == 0 {
                0.0
            } else {
                self.records_synced.load(Relaxed) as f64 / syncs as f64
            },
            gap_stalls: gap_latency.count,
            ring_full_waits: self.ring_full_waits.load(Relaxed),
            space_refusals: self.space_refusals.load(Relaxed),
            overflow_appends: self.overflow_appends.load(Relaxed),
            rotations: self.rotations.load(Relaxed),
            recycled: self.recycled.load(Relaxed),
            sync_latency: self.sync_latency.snapshot(),
            commit_latency: self.commit_latency.snapshot(),
            gap_latency,
            hold_latency: self.hold_latency.snapshot(),
            chore_latency: self.chore_latency.snapshot(),
            chore_panics: self.chore_panics.load(Relaxed),
            holds_filled: self.holds_filled.load(Relaxed),
            hold_records: self.hold_records.load(Relaxed),
            hold_limit_ns: self.hold_limit_ns.load(Relaxed),
            round_cost_ns: self.round_cost_ns.load(Relaxed),
            written_lsn: written,
            durable_lsn: durable,
            last_lsn: last,
        }
    }
}

/// What the log has done since it was opened, in one snapshot. Counts only grow.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Records accepted.
    pub appends: u64,
    /// Bytes of entries written, headers and padding included.
    pub bytes: u64,
    /// Rounds written.
    pub rounds: u64,
    /// Syncs completed: the number of the current epoch.
    pub syncs: u64,
    /// Records that a sync covered, on average.
    pub records_per_sync: f64,
    /// How often ready records waited for one whose writer had drawn an LSN and not published it.
    pub gap_stalls: u64,
    /// How often an append found no room and waited.
    pub ring_full_waits: u64,
    /// How often an append was refused because the device is full.
    pub space_refusals: u64,
    /// Frames that took no ring: all stripes were claimed, or they are larger than half a ring.
    pub overflow_appends: u64,
    /// Segments ended and followed by another.
    pub rotations: u64,
    /// Segments begun in files of segments that were given up.
    pub recycled: u64,
    /// How long syncs took.
    pub sync_latency: LatencySnapshot,
    /// How long appends that waited for durability took.
    pub commit_latency: LatencySnapshot,
    /// How long gaps lasted.
    pub gap_latency: LatencySnapshot,
    /// How long rounds of group commit were held back so that more records could join them. Its count is that
    /// of the rounds that were held to the end; a hold that somebody in a hurry ended is not counted.
    pub hold_latency: LatencySnapshot,
    /// Of those, the rounds that everybody joined who was expected.
    pub holds_filled: u64,
    /// How the next round of group commit is held: until so many records wait, an estimate of how many threads
    /// commit at a time. 0 if it is not held, since nobody else is expected or holding did not pay.
    pub hold_records: u64,
    /// How the next round is held: for at most so many nanoseconds. 0 if it is not.
    pub hold_limit_ns: u64,
    /// What a round of group commit takes to write and sync, smoothed, in nanoseconds. 0 in other modes, and
    /// before the first.
    pub round_cost_ns: u64,
    /// How long the runs of the chore on the maintenance thread took; its count is that of the runs that ended.
    pub chore_latency: LatencySnapshot,
    /// Of those, the runs that ended with a panic.
    pub chore_panics: u64,
    /// The last LSN in a round that was written to a file or is being written, synced or not.
    pub written_lsn: Lsn,
    /// The last LSN that survives a power cut.
    pub durable_lsn: Lsn,
    /// The last LSN given out.
    pub last_lsn: Lsn,
}

/// Whether the log works, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HealthState {
    /// It does.
    Ok,
    /// It does, but its upkeep fails, or it is nearly as large as it may be: `Wal::upkeep` says more. The engine itself
    /// never says so.
    Upkeep,
    /// A sync has been running for over a second: the device stalls.
    SlowSync,
    /// The device is full: appends fail until space returns.
    NoSpace,
    /// It has failed for good: reopen it.
    Failed,
    /// It was closed.
    Closed,
}

/// Whether the log works, and why not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// In a word.
    pub state: HealthState,
    /// The failure that closed the log.
    pub failure: Option<Failure>,
    /// How long the sync under way has been running.
    pub sync_running_for: Option<Duration>,
}

#[cfg(all(test, not(braidlog_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for ns in (0..5000).chain((12..39).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
        {
            let bucket = bucket_of(ns);
            assert!(ns <= upper_ns(bucket), "{ns}");
            assert!(bucket == 0 || ns > upper_ns(bucket - 1), "{ns}");
        }
    }

    #[test]
    fn quantiles_are_close_upper_bounds() {
        let histogram = Histogram::new();
        (1..=1000).for_each(|us| histogram.record(Duration::from_micros(us)));
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count, 1000);
        assert!((500_000..=563_000).contains(&snapshot.p50_ns), "{}", snapshot.p50_ns);
        assert!((990_000..=1_000_000).contains(&snapshot.p99_ns), "{}", snapshot.p99_ns);
        assert_eq!(snapshot.max_ns, 1_000_000);
    }
}
