//! The streams of a log: which ones there are, and the sequence of the last record of each.
//!
//! # Rules
//! 1. A record's sequence and its LSN are drawn together, under the lock of its stream, and nobody waits under that lock: so the
//!    sequences of a stream are dense and rise with the LSNs. One that was drawn for a record that was refused is drawn again.
//! 2. What the manifest says of a stream ("so many records up to this LSN") is of LSNs that are durable. An opening counts on from
//!    there, by what the records behind it carry, and no truncation takes one of those.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braidlog_format::{Lsn, LsnRange};
use braidlog_recovery::{Counted, Manifest, StreamFacts};

use crate::log::Log;
use crate::{Error, ErrorKind, ReadOnly, Records, Result};

/// The most streams of a log: each costs some 80 bytes of the manifest, which is written anew with each change.
const STREAMS_MAX: usize = 10_000;
/// For how many finished segments it is known how many records a stream had then. What is durable lies behind the last of them
/// nearly always.
const POINTS_MAX: usize = 4;

/// A stream as it stands. Given by [`Wal::streams`](crate::Wal::streams).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its number, from 1, which its records carry: [`RecordRef::fields`](crate::RecordRef#structfield.fields).
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The sequence of its last record; 0 before the first.
    pub last_sequence: u64,
}

/// The streams of a log that is open for writing. They are counted when somebody first asks for one.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_name: Mutex<Option<HashMap<Arc<str>, Arc<Entry>>>>,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    place: Mutex<Place>,
}

/// Where a stream stands. What holds its lock may draw a sequence.
#[derive(Debug)]
pub(crate) struct Place {
    last_sequence: u64,
    /// The last LSN up to which `last_sequence` is the last: that of the record that has it, or the end of its batch.
    as_of: Lsn,
    /// How many segments had been finished when the last record came.
    rotations: u64,
    /// How it stood when segments were finished, the oldest first.
    points: VecDeque<Counted>,
}

impl Entry {
    fn new(facts: &StreamFacts, counted: Counted) -> Arc<Entry> {
        let Counted { last_sequence, as_of } = counted;
        let place = Place { last_sequence, as_of, rotations: 0, points: VecDeque::new() };
        Arc::new(Entry { id: facts.id, name: facts.name.as_str().into(), place: Mutex::new(place) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The sequence of the last record.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Notes that the records up to this sequence are in the log, the last of them in a batch that ends with `end`.
    pub(crate) fn came_to(&mut self, last_sequence: u64, end: Lsn, rotations: u64) {
        if rotations != self.rotations {
            self.rotations = rotations;
            if self.points.len() == POINTS_MAX {
                self.points.pop_front();
            }
            self.points.push_back(Counted { last_sequence: self.last_sequence, as_of: self.as_of });
        }
        (self.last_sequence, self.as_of) = (last_sequence, end);
    }

    /// The newest that is known of it up to `durable`, which was durable before its lock was taken: a record that comes now
    /// lies behind.
    fn counted(&self, durable: Lsn) -> Option<Counted> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("stream_counted_beyond_what_is_durable") {
            return Some(Counted { last_sequence: self.last_sequence, as_of: durable });
        }
        if self.as_of <= durable {
            return Some(Counted { last_sequence: self.last_sequence, as_of: durable });
        }
        self.points.iter().rev().find(|point| point.as_of <= durable).copied()
    }
}

impl Streams {
    /// The streams of these names, in their order. Those that are new are named in the manifest first.
    pub(crate) fn named(&self, log: &Log, names: &[&str]) -> Result<Vec<Arc<Entry>>> {
        for name in names {
            log.check_name("stream", name)?;
        }
        let mut by_name = self.lock();
        let by_name = counted(&mut by_name, log)?;
        let mut new: Vec<&str> = names.iter().copied().filter(|name| !by_name.contains_key(*name)).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            if by_name.len() + new.len() > STREAMS_MAX {
                let what = format!("a log has {STREAMS_MAX} streams at most, and this one {}", by_name.len());
                return Err(Error::refused(&log.path, what));
            }
            let _inside = log.enter()?;
            let changed = log.manifest.change(|manifest| {
                for name in &new {
                    manifest.add_stream(name);
                }
            });
            let manifest = changed.map_err(|error| Error::recovery(&log.path, error))?;
            for facts in manifest.streams.iter().rev().take(new.len()) {
                let entry = Entry::new(facts, facts.counted);
                by_name.insert(entry.name.clone(), entry);
            }
        }
        Ok(names.iter().filter_map(|name| by_name.get(*name).cloned()).collect())
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn all(&self, log: &Log) -> Result<Vec<StreamInfo>> {
        let mut by_name = self.lock();
        let info = |entry: &Arc<Entry>| StreamInfo {
            id: entry.id,
            name: entry.name.to_string(),
            last_sequence: entry.lock().last_sequence,
        };
        let mut all: Vec<StreamInfo> = counted(&mut by_name, log)?.values().map(info).collect();
        all.sort_unstable_by_key(|info| info.id);
        Ok(all)
    }

    /// Has the manifest know of each stream what is known up to what is durable, with the next change that is made to it.
    pub(crate) fn note(&self, log: &Log) -> Result<()> {
        if log.manifest.current().streams.is_empty() {
            return Ok(());
        }
        counted(&mut self.lock(), log)?;
        self.note_counted(log);
        Ok(())
    }

    /// As `note`, if they were counted.
    pub(crate) fn note_counted(&self, log: &Log) {
        let by_name = self.lock();
        // Before any of their locks: who draws a sequence after it draws an LSN behind it.
        let durable = log.engine.durable_lsn();
        let entries = by_name.iter().flat_map(HashMap::values);
        let known = entries.filter_map(|entry| Some((entry.id, entry.lock().counted(durable)?)));
        log.manifest.note_streams(known);
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Arc<str>, Arc<Entry>>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams, counted if they were not. No record of a stream comes before that.
fn counted<'a>(
    by_name: &'a mut Option<HashMap<Arc<str>, Arc<Entry>>>,
    log: &Log,
) -> Result<&'a mut HashMap<Arc<str>, Arc<Entry>>> {
    if by_name.is_none() {
        let manifest = log.manifest.current();
        let records = |from| Records::open(&log.reader, &log.path, from.., log.report.last_lsn);
        let counted = count(&manifest, records)?;
        let entries = manifest.streams.iter().zip(counted).map(|(facts, counted)| {
            let entry = Entry::new(facts, counted);
            (entry.name.clone(), entry)
        });
        *by_name = Some(entries.collect());
    }
    Ok(by_name.get_or_insert_default())
}

/// How many records each stream has, by what the manifest says and the records behind that carry.
///
/// Records that were given up may have been some of any stream behind its last one that is there: their sequences are not given
/// again, so a stream goes on above them.
fn count(manifest: &Manifest, records: impl FnOnce(Lsn) -> Result<Records>) -> Result<Vec<Counted>> {
    let Some(from) = manifest.streams.iter().map(|stream| stream.counted.as_of.next()).min() else {
        return Ok(Vec::new());
    };
    let mut records = records(from)?;
    let mut found = HashMap::new();
    while let Some(record) = records.next_ref() {
        let record = record?;
        let fields = record.fields;
        if let Some((id, sequence)) = fields.stream().zip(fields.sequence()) {
            found.insert(id, Counted { last_sequence: sequence, as_of: record.lsn });
        }
    }
    let lost_behind = |lsn: Lsn| {
        let lost = records.losses().iter().map(|loss| loss.lsns).filter(|lost| lost.last > lsn);
        lost.map(|lost| LsnRange { first: lost.first.max(lsn.next()), ..lost }.count()).sum::<u64>()
    };
    let of = |stream: &StreamFacts| {
        let found = found.get(&stream.id).filter(|found| found.as_of > stream.counted.as_of);
        let Counted { last_sequence, as_of } = *found.unwrap_or(&stream.counted);
        Counted { last_sequence: last_sequence + lost_behind(as_of), as_of: records.applied_to().max(as_of) }
    };
    Ok(manifest.streams.iter().map(of).collect())
}

/// # Streams
impl ReadOnly {
    /// The log's streams, in the order of their numbers, as far as can be read now. Records of one of them:
    /// [`Records::of_stream`]. Costs the reading of what was written since the writer noted how many records each has: about
    /// a segment.
    ///
    /// # Errors
    /// As [`ReadOnly::holds`] and [`ReadOnly::iter`].
    pub fn streams(&self) -> Result<Vec<StreamInfo>> {
        let mut manifest = self.manifest()?;
        let counted = loop {
            match count(&manifest, |from| self.iter(from..)) {
                // The writer has cut the log since, and its manifest says so.
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    let newer = self.manifest()?;
                    if newer.number() == manifest.number() {
                        return Err(error);
                    }
                    manifest = newer;
                }
                counted => break counted?,
            }
        };
        let info = |(stream, counted): (&StreamFacts, Counted)| StreamInfo {
            id: stream.id,
            name: stream.name.clone(),
            last_sequence: counted.last_sequence,
        };
        Ok(manifest.streams.iter().zip(counted).map(info).collect())
    }
}
