//! What a recovery would cost, before it begins.
//!
//! The rule: what would be read is counted by names and lengths, and how fast by reading a little of it. Nothing is
//! checked beyond that: an estimate is no promise that the checkpoint is good.

use std::sync::Arc;
use std::time::Duration;

use braidlog_format::{Lsn, ManifestCheckpoint, StreamKind, entry_len};
use braidlog_storage::{Clock, LogDir};

use crate::checkpoint::{CheckpointInfo, chain};
use crate::window::{GLANCE_LEN, Window};
use crate::{LogReader, Manifest, RecoveryError, StreamReader, dir};

/// The most bytes that are read to measure how fast that goes.
const SAMPLE_LEN: u64 = 8 << 20;
/// The fewest bytes of which the speed says something.
const SAMPLE_MIN: u64 = 256 << 10;
/// Bytes of the log per second, if there is too little to measure by: a slow disk.
const LOG_RATE_ASSUMED: u64 = 200_000_000;
/// The same of checkpoint files, in which there is less to check.
const CHECKPOINT_RATE_ASSUMED: u64 = 400_000_000;
/// How far the estimate may be off, either way.
const FACTOR: u32 = 3;

/// What a recovery would read, and how long that would take.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryEstimate {
    /// The checkpoint that it would begin with if that is good; `None`: with the first record of the log.
    pub checkpoint: Option<CheckpointInfo>,
    /// Files that make up that checkpoint.
    pub checkpoint_files: usize,
    /// Their bytes. A recovery reads them twice: to check them, and to hand them over.
    pub checkpoint_bytes: u64,
    /// Records that it would replay: exactly so many.
    pub records: u64,
    /// Bytes of the log that these take, roughly: of segments of which not all is read it is a share.
    pub log_bytes: u64,
    /// Bytes of the log that one thread reads and checks in a second: measured on up to 8 MiB just now, or, where there
    /// is less than 256 KiB to measure by, assumed to be 200,000,000.
    pub bytes_per_second: u64,
    /// The same of the checkpoint; if it cannot be measured, 400,000,000 are assumed.
    pub checkpoint_bytes_per_second: u64,
    /// Whether both were measured, as far as there is something to read.
    pub measured: bool,
    /// How long reading and checking would take, without what the application does with it: between
    /// [`at_least`](RecoveryEstimate::at_least) and [`at_most`](RecoveryEstimate::at_most). The cache makes the largest
    /// difference: the sample may lie in it and the rest not, or the other way round.
    pub duration: Duration,
}

impl RecoveryEstimate {
    /// A third of the estimate.
    pub fn at_least(&self) -> Duration {
        self.duration / FACTOR
    }

    /// Three times the estimate.
    pub fn at_most(&self) -> Duration {
        self.duration * FACTOR
    }

    /// The estimate for an application that takes so long for each record, and for each MiB of a checkpoint.
    pub fn with_application(&self, per_record: Duration, per_mib: Duration) -> Duration {
        let of_records = per_record.as_secs_f64() * self.records as f64;
        let of_state = per_mib.as_secs_f64() * self.checkpoint_bytes as f64 / f64::from(1 << 20);
        let added = Duration::try_from_secs_f64(of_records + of_state).unwrap_or(Duration::MAX);
        self.duration.saturating_add(added)
    }
}

/// Estimates the recovery of a log up to `last`.
///
/// # Errors
/// [`RecoveryError`] for what is read of the log.
pub fn estimate(
    log_dir: &Arc<dyn LogDir>,
    manifest: &Manifest,
    reader: &LogReader,
    last: Lsn,
    clock: &dyn Clock,
) -> Result<RecoveryEstimate, RecoveryError> {
    let all = manifest.checkpoints.as_slice();
    let usable = all.iter().rev().filter(|named| named.replay_from >= manifest.log_start);
    let chain = usable.filter_map(|named| chain::chain_of(all, named.number)).next().unwrap_or_default();
    let newest = chain.last();
    let from = newest.map_or(manifest.log_start, |newest| newest.replay_from);
    let records = last.next().0.saturating_sub(from.0);

    let sample = Sample::of_log(reader, from, last, clock)?;
    let state = chain.first().map(|part| Sample::of_checkpoint(log_dir, part, clock)).unwrap_or_default();

    let mut bases = Vec::new();
    for file in dir::list(log_dir)?.segments.iter().filter(|file| file.base >= manifest.log_start) {
        // What is read of a packed segment is as much as it was before.
        let len = if file.is_packed {
            Window::open(log_dir, &file.name(), GLANCE_LEN).map_or(file.len, |window| window.len())
        } else {
            file.len
        };
        bases.push((file.base, len));
    }
    let log_bytes = log_bytes(&bases, from, last, &sample);
    let checkpoint_bytes = chain.iter().map(|part| part.bytes).sum::<u64>();
    let bytes_per_second = sample.rate().unwrap_or(LOG_RATE_ASSUMED);
    let checkpoint_bytes_per_second = state.rate().unwrap_or(CHECKPOINT_RATE_ASSUMED);
    let measured =
        (log_bytes == 0 || sample.rate().is_some()) && (checkpoint_bytes == 0 || state.rate().is_some());
    let seconds = log_bytes as f64 / bytes_per_second as f64
        + 2.0 * checkpoint_bytes as f64 / checkpoint_bytes_per_second as f64;
    Ok(RecoveryEstimate {
        checkpoint: newest.map(CheckpointInfo::of),
        checkpoint_files: chain.len(),
        checkpoint_bytes,
        records,
        log_bytes,
        bytes_per_second,
        checkpoint_bytes_per_second,
        measured,
        duration: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
    })
}

/// Bytes that the records from `from` to `last` take in these segments, given by base and length.
fn log_bytes(segments: &[(Lsn, u64)], from: Lsn, last: Lsn, sample: &Sample) -> u64 {
    let mut bytes = 0_u64;
    for (place, &(base, len)) in segments.iter().enumerate() {
        let end = segments.get(place + 1).map(|(next, _)| next.prev());
        let wanted = end.unwrap_or(last).min(last).next().0.saturating_sub(base.max(from).0);
        let share = match end {
            Some(end) => {
                let held = end.next().0.saturating_sub(base.0).max(1);
                (len as f64 * wanted as f64 / held as f64) as u64
            }
            // Most of the last one may be space that was allocated ahead.
            None => wanted.saturating_mul(sample.bytes.div_ceil(sample.records.max(1))).min(len),
        };
        bytes = bytes.saturating_add(share);
    }
    bytes
}

/// A little of what a recovery would read.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    records: u64,
    bytes: u64,
    /// How long reading the bytes but for the first entry took: opening a file is no matter of its length.
    took: Duration,
    first_bytes: u64,
}

impl Sample {
    /// Of the records from the beginning of the range.
    fn of_log(reader: &LogReader, from: Lsn, last: Lsn, clock: &dyn Clock) -> Result<Sample, RecoveryError> {
        let mut sample = Sample::default();
        if from > last {
            return Ok(sample);
        }
        let mut records = reader.iter(from, last)?;
        let mut began = clock.monotonic();
        while sample.bytes < SAMPLE_LEN
            && let Some(record) = records.next_ref()
        {
            sample.count(entry_len(record?.payload.len() as u64), &mut began, clock);
        }
        sample.took = clock.monotonic().saturating_sub(began);
        Ok(sample)
    }

    /// Of the beginning of a checkpoint file. What is wrong with it is found when it is used.
    fn of_checkpoint(log_dir: &Arc<dyn LogDir>, named: &ManifestCheckpoint, clock: &dyn Clock) -> Sample {
        let mut sample = Sample::default();
        let file = CheckpointInfo::of(named).file;
        let Ok(mut stream) = StreamReader::open(log_dir, &file, StreamKind::Checkpoint) else {
            return sample;
        };
        let mut began = clock.monotonic();
        while sample.bytes < SAMPLE_LEN
            && let Ok(Some(entry)) = stream.next_entry()
        {
            let len = entry_len(entry.payload.len() as u64);
            sample.count(len, &mut began, clock);
        }
        sample.took = clock.monotonic().saturating_sub(began);
        sample
    }

    fn count(&mut self, bytes: u64, began: &mut Duration, clock: &dyn Clock) {
        if self.records == 0 {
            (self.first_bytes, *began) = (bytes, clock.monotonic());
        }
        self.records += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Bytes per second, if it is enough to say so.
    fn rate(&self) -> Option<u64> {
        let bytes = self.bytes.saturating_sub(self.first_bytes);
        let is_enough = bytes >= SAMPLE_MIN && !self.took.is_zero();
        is_enough.then(|| ((bytes as f64 / self.took.as_secs_f64()) as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_records_that_are_wanted() {
        let sample = Sample { records: 10, bytes: 1000, ..Sample::default() };
        let segments = [(Lsn(1), 4000), (Lsn(41), 8000), (Lsn(61), 64 << 20)];
        for (from, last, expected) in [
            (1, 60, 12_000),
            (21, 60, 10_000),
            (41, 50, 4000),
            (61, 60, 0),
            (51, 65, 4000 + 500),
            (61, 80, 2000),
            (1, 0, 0),
        ] {
            assert_eq!(log_bytes(&segments, Lsn(from), Lsn(last), &sample), expected, "{from}..={last}");
        }
    }

    #[test]
    fn a_rate_is_told_of_enough_bytes_and_without_the_first_entry() {
        let second = Duration::from_secs(1);
        let enough = Sample { records: 9, bytes: SAMPLE_MIN + 100, took: second / 2, first_bytes: 100 };
        assert_eq!(enough.rate(), Some(2 * SAMPLE_MIN));
        assert_eq!(Sample { bytes: SAMPLE_MIN + 99, ..enough }.rate(), None);
        assert_eq!(Sample { took: Duration::ZERO, ..enough }.rate(), None);
    }

    #[test]
    fn the_time_of_the_application_is_added() {
        let estimate = RecoveryEstimate {
            checkpoint: None,
            checkpoint_files: 1,
            checkpoint_bytes: 3 << 20,
            records: 1000,
            log_bytes: 0,
            bytes_per_second: 1,
            checkpoint_bytes_per_second: 1,
            measured: false,
            duration: Duration::from_secs(6),
        };
        assert_eq!(
            (estimate.at_least(), estimate.at_most()),
            (Duration::from_secs(2), Duration::from_secs(18))
        );
        let with = estimate.with_application(Duration::from_millis(2), Duration::from_secs(1));
        assert_eq!(with, Duration::from_secs(6 + 2 + 3));
    }
}
