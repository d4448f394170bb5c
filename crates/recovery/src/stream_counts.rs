//! How far the records of each stream are counted, as the manifest knows it.
//!
//! The rule: what is counted is durable, and what is not counted yet is in the log. So an opening counts on from what the manifest
//! says and knows the sequence of each stream's last record, whatever crashed, and whatever was cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use braidlog_format::Lsn;

use crate::locked::locked;
use crate::{Manifest, ManifestStore, RecoveryError};

/// A stream of records that a log holds beside others, as far as its records are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFacts {
    /// Its number, from 1, which its records carry.
    pub id: u64,
    /// What it is called: 1 to 255 bytes.
    pub name: String,
    /// How far its records are counted.
    pub counted: Counted,
}

/// How far the records of a stream are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The sequence of its last record up to `as_of`; 0 if it has none there.
    pub last_sequence: u64,
    /// The LSN up to which they are counted.
    pub as_of: Lsn,
}

impl Manifest {
    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<&StreamFacts> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// Names a stream without records, as of what is durable; its number.
    pub fn add_stream(&mut self, name: &str) -> u64 {
        let id = self.streams.last().map_or(1, |last| last.id + 1);
        let counted = Counted { last_sequence: 0, as_of: self.durable };
        self.streams.push(StreamFacts { id, name: name.to_owned(), counted });
        id
    }

    /// Notes how far the records of streams are counted, each by its number, which is durable. One that is counted further
    /// already stays so.
    pub fn count_streams(&mut self, counted: &BTreeMap<u64, Counted>) {
        for stream in &mut self.streams {
            let known = counted.get(&stream.id).filter(|known| known.as_of > stream.counted.as_of);
            if let Some(&known) = known {
                stream.counted = known;
                self.durable = self.durable.max(known.as_of);
            }
        }
    }

    /// Forgets how far streams are counted that are so behind `until`: what comes there has not happened. Their records are
    /// counted from the log's first one on. A stream of which none is there any more goes on above what it had later: no
    /// sequence is given twice.
    pub(crate) fn count_streams_again(&mut self, until: Lsn) {
        let before = self.log_start.prev();
        for stream in self.streams.iter_mut().filter(|stream| stream.counted.as_of > until) {
            stream.counted.as_of = before;
            if before == Lsn::ZERO {
                stream.counted.last_sequence = 0;
            }
        }
    }

    /// The first LSN that is needed to count the records of the streams.
    pub(crate) fn uncounted_from(&self) -> Option<Lsn> {
        self.streams.iter().map(|stream| stream.counted.as_of.next()).min()
    }
}

impl ManifestStore {
    /// Takes note of how far the records of streams are counted, by their numbers: the next change writes it along. What it says
    /// is durable.
    pub fn note_streams(&self, counted: impl IntoIterator<Item = (u64, Counted)>) {
        locked(&self.counted).extend(counted);
    }

    /// What the manifest would say with what was noted.
    pub fn current_with_streams(&self) -> Arc<Manifest> {
        let mut current = self.current();
        let counted = locked(&self.counted);
        if !counted.is_empty() {
            Arc::make_mut(&mut current).count_streams(&counted);
        }
        current
    }

    /// Writes down what was noted.
    ///
    /// # Errors
    /// As [`change`](ManifestStore::change).
    pub fn save_streams(&self) -> Result<(), RecoveryError> {
        let mut tried = locked(&self.tried);
        let noted = self.current_with_streams();
        if noted != self.current() {
            self.put(Manifest::clone(&noted), None, &mut tried)?;
        }
        Ok(())
    }
}
