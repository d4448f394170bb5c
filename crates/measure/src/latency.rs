//! How long commits took: a histogram of fixed size, exact to one part in sixteen.

use std::time::Duration;

const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;

/// A histogram of durations. Counting takes some nanoseconds and no memory. Values below 16 ns have a bucket each, and each power of two above has 16.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Counts all that another has counted.
    pub fn add(&mut self, other: &Latencies) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The duration in nanoseconds that the share `q` of all did not exceed (by more than a sixteenth); 0 if
    /// there was none.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return ceiling_ns(bucket);
            }
        }
        0
    }
}

fn bucket(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros();
    let sub = (ns >> (power - SUB_BITS)) as usize & (SUB - 1);
    ((power - SUB_BITS) as usize + 1) * SUB + sub
}

/// The largest duration that falls into a bucket.
fn ceiling_ns(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let (power, sub) = (bucket / SUB - 1, (bucket % SUB) as u64);
    let width = 1u64 << power;
    ((SUB as u64 + sub) << power) + (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_exact_to_a_sixteenth() {
        for ns in (0..200).chain((0..64).map(|shift| 1u64 << shift)).chain([u64::MAX, 170_123, 999_999_999]) {
            let ceiling = ceiling_ns(bucket(ns));
            assert!(ceiling >= ns && ceiling - ns <= ns / 16, "{ns} is called {ceiling}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_ns(0.5), 0);
        for us in 1..=1000u64 {
            latencies.record(Duration::from_micros(us));
        }
        // Counted by two, it is the same.
        let mut both = Latencies::default();
        both.add(&latencies);
        both.add(&latencies);
        assert_eq!(both.count(), 2000);
        assert_eq!(both.quantile_ns(0.5), latencies.quantile_ns(0.5));
        for (q, us) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let ns = latencies.quantile_ns(q);
            assert!(ns >= us * 1000 && ns <= us * 1000 * 17 / 16, "{q}: {ns}");
        }
    }
}
