//! Points in a log's time: an LSN, a moment, a name, or whatever the application recognizes; and the record up to
//! which a log is read to stand there.
//!
//! The rule: what is read up to a point is what the log was at a moment of its life: whole batches, and nothing behind
//! them. A point inside a batch therefore lies before the batch.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use braidlog_format::{Lsn, SegmentHeader};
use thiserror::Error;

use crate::chain::header_in;
use crate::dir::segment_name;
use crate::reader::LogReader;
use crate::window::{GLANCE_LEN, Window};
use crate::{Manifest, RecordRef, RecoveryError, replay};

/// Records that are read at once to find the end of a batch, at first; each further look takes so many times as many.
const LOOK: u64 = 64;

/// A moment as a timestamp: nanoseconds since the Unix epoch, the nearest that a record can have.
pub fn timestamp_ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A point in a log's time. Unless it is made [exclusive](Target::exclusive), the record at the point belongs to what
/// lies before it.
///
/// A batch is there as a whole or not at all: a point inside one lies before it.
#[derive(Clone)]
pub struct Target {
    at: At,
    is_exclusive: bool,
}

#[derive(Clone)]
enum At {
    Lsn(Lsn),
    TimeNs(u64),
    RestorePoint(String),
    When(Arc<Predicate>),
}

type Predicate = dyn Fn(&RecordRef<'_>) -> bool + Send + Sync;

impl Target {
    /// The record with this LSN. It lies in the log: a point behind its end is refused, for it may be a slip.
    pub fn lsn(lsn: Lsn) -> Target {
        Target::of(At::Lsn(lsn))
    }

    /// The last record with this timestamp or an earlier one, in nanoseconds since the Unix epoch: the moment when
    /// its round was written, by the writer's clock. Records of one round have one timestamp, so the point lies between
    /// rounds. A time behind the last record is the end of the log.
    pub fn time_ns(time_ns: u64) -> Target {
        Target::of(At::TimeNs(time_ns))
    }

    /// As [`time_ns`](Target::time_ns), of a moment as the system tells it. What lies before the Unix epoch counts as the epoch.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// # use braidlog_recovery::Target;
    /// let noon = UNIX_EPOCH + Duration::from_secs(43_200);
    /// assert_eq!(Target::time(noon).to_string(), Target::time_ns(43_200_000_000_000).to_string());
    /// ```
    pub fn time(time: SystemTime) -> Target {
        Target::time_ns(timestamp_ns(time))
    }

    /// The restore point of this name. It lies between two records, so inclusive and exclusive are the same.
    pub fn restore_point(name: impl Into<String>) -> Target {
        Target::of(At::RestorePoint(name.into()))
    }

    /// The first record of which `is_there` says so; the end of the log if there is none. The log is read from its start
    /// to find it.
    pub fn when(is_there: impl Fn(&RecordRef<'_>) -> bool + Send + Sync + 'static) -> Target {
        Target::of(At::When(Arc::new(is_there)))
    }

    fn of(at: At) -> Target {
        Target { at, is_exclusive: false }
    }

    /// With the record at the point; so it is unless told otherwise.
    #[must_use]
    pub fn inclusive(self) -> Target {
        Target { is_exclusive: false, ..self }
    }

    /// Without the record at the point; of a time, without those that have it as their timestamp.
    #[must_use]
    pub fn exclusive(self) -> Target {
        Target { is_exclusive: true, ..self }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self}, {})", if self.is_exclusive { "exclusive" } else { "inclusive" })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Lsn(lsn) => write!(f, "LSN {lsn}"),
            At::TimeNs(time_ns) => write!(f, "the time {time_ns} ns after the Unix epoch"),
            At::RestorePoint(name) => write!(f, "the restore point `{name}`"),
            At::When(_) => f.write_str("a record that the application recognizes"),
        }
    }
}

/// Why there is no record for a point.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No restore point has the name.
    #[error("there is no restore point `{name}`")]
    NoRestorePoint {
        /// The name.
        name: String,
    },
    /// The point lies behind the end of the log.
    #[error("LSN {wanted} lies behind the end of the log, whose last record is {last}")]
    BehindEnd {
        /// The record that was asked for.
        wanted: Lsn,
        /// The last one.
        last: Lsn,
    },
    /// The log could not be read, or was truncated behind the point.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// The last record before a point, of a log whose records up to `last` may be shown; the one before the log's first if
/// nothing lies before the point.
///
/// # Errors
/// See [`TargetError`]. [`RecoveryError::Truncated`] if the log begins behind the point, so that nobody knows what lay
/// before it.
pub fn resolve(
    target: &Target,
    reader: &LogReader,
    manifest: &Manifest,
    last: Lsn,
) -> Result<Lsn, TargetError> {
    // What is looked at stays, as far as that is for this process to say.
    let _pin = reader.pins().pin_all();
    // A truncation raises the floor before the manifest says so, and takes nothing that lies above.
    let first = manifest.log_start.max(reader.pins().floor());
    // What lies before a restore point was durable when it was set, perhaps after the caller looked how much is.
    let named = match &target.at {
        At::RestorePoint(name) => manifest.restore_point(name).map_or(Lsn::ZERO, |point| point.lsn),
        At::Lsn(_) | At::TimeNs(_) | At::When(_) => Lsn::ZERO,
    };
    #[cfg(braidlog_sabotage)]
    let named = if braidlog_sabotage::is("reader_stops_before_a_restore_point") { Lsn::ZERO } else { named };
    let log = Log { reader, first, last: last.max(named).max(first.prev()) };
    log.resolve(target, manifest).map_err(|error| match error {
        TargetError::Recovery(error) => TargetError::Recovery(log.unless_truncated(error)),
        error => error,
    })
}

struct Log<'a> {
    reader: &'a LogReader,
    first: Lsn,
    last: Lsn,
}

impl Log<'_> {
    fn resolve(&self, target: &Target, manifest: &Manifest) -> Result<Lsn, TargetError> {
        let excluded = |lsn: Lsn| if target.is_exclusive { lsn.prev() } else { lsn };
        #[cfg(braidlog_sabotage)]
        let excluded =
            |lsn: Lsn| if braidlog_sabotage::is("exclusive_point_included") { lsn } else { excluded(lsn) };
        let wanted = match &target.at {
            At::Lsn(lsn) if *lsn > self.last => {
                return Err(TargetError::BehindEnd { wanted: *lsn, last: self.last });
            }
            At::Lsn(lsn) => excluded(*lsn),
            At::TimeNs(time_ns) if target.is_exclusive => match time_ns.checked_sub(1) {
                Some(before) => self.last_at(before)?,
                None => Lsn::ZERO,
            },
            At::TimeNs(time_ns) => self.last_at(*time_ns)?,
            At::RestorePoint(name) => match manifest.restore_point(name) {
                Some(point) => point.lsn,
                None => return Err(TargetError::NoRestorePoint { name: name.clone() }),
            },
            At::When(is_there) => self.first_that(&**is_there)?.map_or(self.last, excluded),
        };
        if wanted < self.first.prev() {
            return Err(RecoveryError::Truncated { first_lsn: self.first }.into());
        }
        Ok(self.whole_batches(wanted.min(self.last))?)
    }

    /// The last record that is not younger; one that is gone if all that are there are younger.
    fn last_at(&self, time_ns: u64) -> Result<Lsn, RecoveryError> {
        let bases = replay::bases(self.reader.dir())?;
        let of_log = bases.iter().copied().filter(|&base| base >= self.first && base <= self.last);
        let bases: Vec<Lsn> = of_log.collect();
        // The last segment before which everything is old enough. What is wrong with a header is told by whoever reads on.
        let (mut old, mut young) = (0, bases.len());
        while old < young {
            let middle = old + (young - old) / 2;
            let Some(&base) = bases.get(middle) else { break };
            let is_old =
                self.header(base)?.predecessor.is_none_or(|named| named.last_timestamp_ns <= time_ns);
            if is_old {
                old = middle + 1;
            } else {
                young = middle;
            }
        }
        let Some(&base) = old.checked_sub(1).and_then(|index| bases.get(index)) else {
            // The record before the first one that is there is younger already, if there is a segment.
            let all_gone = if bases.is_empty() { self.first.prev() } else { Lsn::ZERO };
            return Ok(all_gone);
        };
        let mut found = base.prev();
        let mut records = self.reader.iter(base, self.last)?;
        while let Some(record) = records.next_ref() {
            let record = record?;
            if record.timestamp_ns > time_ns {
                return Ok(found);
            }
            found = record.lsn;
        }
        Ok(self.last)
    }

    fn first_that(&self, is_there: &Predicate) -> Result<Option<Lsn>, RecoveryError> {
        let mut records = self.reader.iter(self.first, self.last)?.effects();
        while let Some(record) = records.next_ref() {
            let record = record?;
            if is_there(&record) {
                return Ok(Some(record.effective_at));
            }
        }
        Ok(None)
    }

    /// The last record up to `wanted` that ends a batch.
    fn whole_batches(&self, wanted: Lsn) -> Result<Lsn, RecoveryError> {
        if wanted < self.first || wanted >= self.last {
            return Ok(wanted);
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("half_a_batch_before_a_point") {
            return Ok(wanted);
        }
        let mut back = 0;
        loop {
            let from = Lsn(wanted.0.saturating_sub(back)).max(self.first);
            let (mut ends_batch, mut is_open) = (None, false);
            let mut records = self.reader.iter(from, wanted)?;
            while let Some(record) = records.next_ref() {
                let record = record?;
                is_open = record.batch_continues;
                if !is_open {
                    ends_batch = Some(record.lsn);
                }
            }
            let passed_loss = records.losses().last().is_some_and(|loss| loss.lsns.last >= wanted);
            match ends_batch {
                // LSNs that were given up stand between batches.
                _ if passed_loss && !is_open => return Ok(wanted),
                Some(lsn) => return Ok(lsn),
                None if from == self.first => return Ok(self.first.prev()),
                None => back = (back * LOOK).max(LOOK),
            }
        }
    }

    fn header(&self, base: Lsn) -> Result<SegmentHeader, RecoveryError> {
        let mut window = Window::open(self.reader.dir(), &segment_name(base), GLANCE_LEN)?;
        header_in(&mut window)?.expect(window.name(), base, self.last)
    }

    /// What is wrong, unless another process, which writes the log, has given up what was looked for.
    fn unless_truncated(&self, error: RecoveryError) -> RecoveryError {
        let is_gone = match &error {
            RecoveryError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
            error => matches!(error, RecoveryError::Damaged(_)),
        };
        match Manifest::load(self.reader.dir()) {
            Ok(now) if is_gone && now.log_start > self.first => {
                RecoveryError::Truncated { first_lsn: now.log_start }
            }
            _ => error,
        }
    }
}
