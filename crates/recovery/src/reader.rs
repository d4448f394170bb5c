//! A log as a reader sees it: which records may be shown, and where they are.
//!
//! The rule: a reader changes no byte and no name in the directory, and shows only whole batches that are
//! durable.

use std::io::ErrorKind::NotFound;
use std::sync::{Arc, Mutex};

use braidlog_format::{Incarnation, Lsn};
use braidlog_storage::LogDir;

use crate::chain::End;
use crate::follow::Follower;
use crate::index::{Indexes, WritersIndex};
use crate::locked::locked;
use crate::pins::Pin;
use crate::replay::{self, History};
use crate::since;
use crate::visible::Visible;
use crate::{Loss, Manifest, Pins, Record, Records, RecoveryError, ReverseRecords, loss};

/// How often a file that is gone is looked for again.
const TRIES_MAX: u32 = 8;

/// A log opened for reading. Any number of threads may use one at once; it changes nothing in the
/// directory.
#[derive(Debug)]
pub struct LogReader {
    dir: Arc<dyn LogDir>,
    /// Whether the caller knows how far the log is durable.
    of_writer: bool,
    visible: Mutex<Visible>,
    /// The base LSNs of the segments at the last listing.
    bases: Mutex<Arc<[Lsn]>>,
    /// Where entries stand in the segments that were read before.
    indexes: Arc<Indexes>,
    /// Where readers stand; known to the writer in the same process only.
    pins: Pins,
}

/// A segment, as a reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Name of the file: `<base>.wal`, or `<base>.walz` if the segment is compressed.
    pub name: String,
    /// The first LSN that the segment holds, or would hold.
    pub base: Lsn,
    /// The last LSN that is visible in it; `None` if there is none.
    pub last: Option<Lsn>,
    /// Bytes of the file, space allocated ahead included.
    pub len_bytes: u64,
    /// Bytes of the file when it is not compressed.
    pub plain_bytes: u64,
    /// Whether it is compressed.
    pub compressed: bool,
    /// Whether a seal ends it, as its successor says; of the last one, whether a valid seal was found.
    pub sealed: bool,
    /// The opening of the log that wrote it.
    pub incarnation: Incarnation,
    /// When it was created, in nanoseconds since the Unix epoch.
    pub created_at_ns: u64,
    /// Where it stands in its life.
    pub state: SegmentState,
}

/// Where a segment stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SegmentState {
    /// A writer has it under the pen.
    Writing,
    /// Nothing will be written to it any more.
    Finished,
}

impl LogReader {
    /// A reader in the writer's own process, of a log that starts at `start`: the caller says with each call how far the
    /// log is durable. No [`truncate`](crate::truncate) with its [`pins`](LogReader::pins) passes what is being read.
    pub fn of_writer(dir: Arc<dyn LogDir>, start: Lsn) -> LogReader {
        LogReader::new(dir, true, Pins::new(start))
    }

    /// With what the writer knows of the segment under its pen; without it, that segment is searched from its start.
    #[must_use]
    pub fn with_index(self, index: Arc<dyn WritersIndex>) -> LogReader {
        LogReader { indexes: Arc::new(Indexes::beside(index)), ..self }
    }

    /// A reader of a log that another process may be writing (it shows what a sync mark says is durable) or
    /// that nobody writes (it shows what recovery would keep). It changes no byte; the last segment of a
    /// log that nobody writes is synced, so that what is shown stays.
    ///
    /// # Errors
    /// What [`recover`](crate::recover) would say, see [`RecoveryError`].
    pub fn open_read_only(dir: Arc<dyn LogDir>) -> Result<LogReader, RecoveryError> {
        let reader = LogReader::new(dir, false, Pins::new(Lsn::ZERO));
        reader.last_visible()?;
        Ok(reader)
    }

    fn new(dir: Arc<dyn LogDir>, of_writer: bool, pins: Pins) -> LogReader {
        LogReader {
            dir,
            of_writer,
            visible: Mutex::default(),
            bases: Mutex::new(Arc::new([])),
            indexes: Arc::default(),
            pins,
        }
    }

    /// The log's directory.
    pub(crate) fn dir(&self) -> &Arc<dyn LogDir> {
        &self.dir
    }

    /// Where the readers stand that came of this one.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The first LSN of the log: now, to a reader of the writer's process; when this one last looked, to another.
    pub fn first_lsn(&self) -> Lsn {
        if self.of_writer { self.pins.floor() } else { locked(&self.visible).first }
    }

    /// The last LSN that is visible now, [`Lsn::ZERO`] if there is none. It looks again at each call, and
    /// never goes back.
    ///
    /// A reader of the writer's process sees here what one of another process would see; its caller knows
    /// better.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn last_visible(&self) -> Result<Lsn, RecoveryError> {
        let mut visible = locked(&self.visible);
        visible.look(&self.dir)?;
        Ok(visible.last)
    }

    /// LSNs that were given up, in LSN order: those of which the manifest speaks and that the segments record. Where a segment is
    /// damaged there, reading says so, and not this.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn losses(&self) -> Result<Vec<Loss>, RecoveryError> {
        loss::recorded(&self.dir, &Manifest::load(&self.dir)?, &mut |_| Ok(()))
    }

    /// The record with this LSN; `None` if it lies beyond `up_to` or is not visible.
    ///
    /// # Errors
    /// [`RecoveryError::Lost`] if it was given up, and as [`LogReader::iter`].
    pub fn read(&self, lsn: Lsn, up_to: Lsn) -> Result<Option<Record>, RecoveryError> {
        if lsn < Lsn::FIRST || lsn > up_to {
            return Ok(None);
        }
        let mut records = self.iter(lsn, lsn)?;
        match (records.next(), records.losses()) {
            (None, [loss, ..]) => Err(RecoveryError::Lost(loss.clone())),
            (found, _) => found.transpose(),
        }
    }

    /// The records from `from` to `to`, both included, as far as they are visible now. To a reader of the
    /// writer's process all of them are: the caller passes no `to` beyond what is durable.
    ///
    /// # Errors
    /// [`RecoveryError::Truncated`] if `from` lies before the start of the log. Beside another process's writer the log may
    /// be truncated while it is read; then the iterator ends with that error. See [`RecoveryError`] for others.
    pub fn iter(&self, from: Lsn, to: Lsn) -> Result<Records, RecoveryError> {
        let to = if self.of_writer { to } else { self.clamp(to)? };
        let from = from.max(Lsn::FIRST);
        if from > to {
            let history = History::new(&self.dir, &self.indexes, Arc::new([]), from, to, None);
            return Ok(Records::new(history));
        }
        let pin = self.pin(from)?;
        let bases = self.bases_up_to(from)?;
        Ok(Records::new(History::new(&self.dir, &self.indexes, bases, from, to, Some(pin))))
    }

    /// As [`LogReader::iter`], from the last record to the first.
    ///
    /// # Errors
    /// As [`LogReader::iter`].
    pub fn iter_rev(&self, from: Lsn, to: Lsn) -> Result<ReverseRecords, RecoveryError> {
        let to = if self.of_writer { to } else { self.clamp(to)? };
        let from = from.max(Lsn::FIRST);
        if from > to {
            return Ok(ReverseRecords::new(&self.dir, &self.indexes, Arc::new([]), from, to, None));
        }
        let pin = self.pin(from)?;
        let bases = self.bases_up_to(to)?;
        Ok(ReverseRecords::new(&self.dir, &self.indexes, bases, from, to, Some(pin)))
    }

    /// The LSN of the first record whose timestamp is this one or a later one, in nanoseconds since the Unix epoch;
    /// `up_to.next()` if there is none up to there. The log may have been truncated beyond it since.
    ///
    /// # Errors
    /// See [`RecoveryError`]. What cannot be read among the records is no error here: the range then begins there.
    pub fn first_since(&self, time_ns: u64, up_to: Lsn) -> Result<Lsn, RecoveryError> {
        let up_to = if self.of_writer { up_to } else { self.clamp(up_to)? };
        // Another process may truncate the log meanwhile.
        let mut tries = 0;
        loop {
            let _pin = self.pins.pin_all();
            let first = self.first_lsn();
            if first > up_to {
                return Ok(up_to.next());
            }
            let bases = self.bases_up_to(up_to)?;
            let from = bases.partition_point(|&base| base < first);
            let found = since::first_since(
                &self.dir,
                &self.indexes,
                bases.get(from..).unwrap_or_default(),
                time_ns,
                up_to,
            );
            match found {
                Err(RecoveryError::Io { source, .. }) if source.kind() == NotFound && tries < TRIES_MAX => {
                    tries += 1;
                    locked(&self.visible).look(&self.dir)?;
                    *locked(&self.bases) = replay::bases(&self.dir)?;
                }
                found => return found,
            }
        }
    }

    /// Keeps the log from `from` on.
    fn pin(&self, from: Lsn) -> Result<Pin, RecoveryError> {
        let truncated = |first_lsn| RecoveryError::Truncated { first_lsn };
        let pin = self.pins.pin(from).map_err(truncated)?;
        if from < self.first_lsn() {
            return Err(truncated(self.first_lsn()));
        }
        Ok(pin)
    }

    /// The bases of the segments, up to the one that holds the record `lsn`, which is visible.
    fn bases_up_to(&self, lsn: Lsn) -> Result<Arc<[Lsn]>, RecoveryError> {
        // A newer segment than the last known one may hold it, unless somebody knows that there was none when it had become
        // visible.
        let newest = match self.of_writer {
            true => self.indexes.writers_base(),
            false => locked(&self.visible).chain.last().map(|last| last.header.base),
        };
        let mut bases = locked(&self.bases);
        if bases.last().is_none_or(|&last| lsn >= last && newest != Some(last)) {
            *bases = replay::bases(&self.dir)?;
        }
        Ok(Arc::clone(&bases))
    }

    /// A place before the record `from`, which need not be written yet: it goes on as the caller says what is visible.
    ///
    /// # Errors
    /// As [`LogReader::iter`].
    pub fn follow(&self, from: Lsn) -> Result<Follower, RecoveryError> {
        let from = from.clamp(Lsn::FIRST, Lsn::MAX);
        let pin = self.pin(from)?;
        Ok(Follower::new(Arc::clone(&self.dir), Arc::clone(&self.indexes), from, pin))
    }

    /// `to`, or the last visible LSN if that comes before it.
    fn clamp(&self, to: Lsn) -> Result<Lsn, RecoveryError> {
        let mut visible = locked(&self.visible);
        if to > visible.last {
            visible.look(&self.dir)?;
        }
        Ok(to.min(visible.last))
    }

    /// The segments of the log, in LSN order.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, RecoveryError> {
        let mut visible = locked(&self.visible);
        visible.look(&self.dir)?;
        let live = self.dir.is_locked().map_err(RecoveryError::io("query", "LOCK"))?;
        let shown = visible.last;
        let info = |segment: &crate::chain::Segment| {
            let named = if let End::Named(named) = segment.end { Some(named) } else { None };
            let sealed = named.map_or(visible.sealed, |named| named.sealed);
            let base = segment.header.base;
            SegmentInfo {
                name: segment.name.clone(),
                base,
                last: named.map(|named| named.last).or((shown >= base).then_some(shown)),
                len_bytes: segment.len,
                plain_bytes: segment.plain_len,
                compressed: segment.is_packed(),
                sealed,
                incarnation: segment.header.incarnation,
                created_at_ns: segment.header.created_at_ns,
                state: if live && named.is_none() && !sealed {
                    SegmentState::Writing
                } else {
                    SegmentState::Finished
                },
            }
        };
        Ok(visible.chain.segments.iter().map(info).collect())
    }
}
