//! What was asked of the disk: a trace to assert protocols on, and counts.
//!
//! The rule: an operation is recorded when it takes effect or fails, in that order, so that the trace is
//! one order of everything that happened. Questions (what is there, how long is it, who holds the lock) and
//! the lock itself are not in it: no crash can tell whether they were asked.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::path::PathBuf;
use std::sync::Arc;

use crate::Op;

/// Operations that a trace keeps; of older ones it forgets the oldest.
pub const TRACE_MAX: usize = 65_536;

/// One operation, as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Traced {
    /// The directory, as it is called on the disk.
    pub directory: Arc<PathBuf>,
    /// The file's name at that moment; empty for a sync of the directory.
    pub name: Arc<str>,
    /// What was asked for.
    pub action: Action,
    /// How it failed, if it did.
    pub error: Option<ErrorKind>,
}

/// What an operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Makes a file.
    Create,
    /// Opens an existing file.
    Open,
    /// Reads.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// The length of the buffer, in bytes; how many were read if it succeeded.
        len: u64,
    },
    /// Writes.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// The length of the buffer, in bytes; how many were written if it succeeded.
        len: u64,
    },
    /// Gives space to the first bytes.
    Allocate {
        /// How many, in bytes.
        len: u64,
    },
    /// Cuts or extends.
    SetLen {
        /// The new length, in bytes.
        len: u64,
    },
    /// Syncs data.
    SyncData,
    /// Syncs data, length and metadata.
    SyncAll,
    /// Drops clean pages.
    DropCache,
    /// Gives another name.
    Rename {
        /// The new name.
        to: String,
        /// Whether it may replace a file.
        replace: bool,
    },
    /// Removes a name.
    Remove,
    /// Gives the file its name in another directory too.
    Link {
        /// That directory, as it is called on the disk.
        to: Arc<PathBuf>,
    },
    /// Syncs the names of a directory.
    SyncDir,
    /// Makes a directory, whose name is given in place of a file's.
    MakeDir,
}

impl Action {
    /// The filter that matches this.
    pub fn op(&self) -> Op {
        match self {
            Action::Create => Op::Create,
            Action::Open => Op::Open,
            Action::Read { .. } => Op::Read,
            Action::Write { .. } => Op::Write,
            Action::Allocate { .. } => Op::Allocate,
            Action::SetLen { .. } => Op::SetLen,
            Action::SyncData | Action::SyncAll => Op::Sync,
            Action::DropCache => Op::DropCache,
            Action::Rename { .. } => Op::Rename,
            Action::Remove => Op::Remove,
            Action::Link { .. } => Op::Link,
            Action::SyncDir => Op::SyncDir,
            Action::MakeDir => Op::MakeDir,
        }
    }
}

/// How many operations succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counts {
    /// Files made.
    pub creates: u64,
    /// Existing files opened.
    pub opens: u64,
    /// Calls of `read_at`.
    pub reads: u64,
    /// Bytes that they read.
    pub bytes_read: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes that they wrote.
    pub bytes_written: u64,
    /// Calls of `allocate`.
    pub allocates: u64,
    /// Calls of `set_len`.
    pub set_lens: u64,
    /// Calls of `sync_data`.
    pub syncs_data: u64,
    /// Calls of `sync_all`.
    pub syncs_all: u64,
    /// Syncs of a directory.
    pub dir_syncs: u64,
    /// Calls of `drop_cache`.
    pub cache_drops: u64,
    /// Names changed.
    pub renames: u64,
    /// Names removed.
    pub removes: u64,
    /// Files that were given a name in another directory.
    pub links: u64,
    /// Directories made.
    pub dirs_made: u64,
    /// Operations of any kind that failed; they count nowhere else.
    pub failures: u64,
}

impl Counts {
    /// Syncs of files, of both kinds.
    pub fn syncs(&self) -> u64 {
        self.syncs_data + self.syncs_all
    }

    fn add(&mut self, action: &Action) {
        let counter = match action {
            Action::Create => &mut self.creates,
            Action::Open => &mut self.opens,
            Action::Read { len, .. } => {
                self.bytes_read += len;
                &mut self.reads
            }
            Action::Write { len, .. } => {
                self.bytes_written += len;
                &mut self.writes
            }
            Action::Allocate { .. } => &mut self.allocates,
            Action::SetLen { .. } => &mut self.set_lens,
            Action::SyncData => &mut self.syncs_data,
            Action::SyncAll => &mut self.syncs_all,
            Action::DropCache => &mut self.cache_drops,
            Action::Rename { .. } => &mut self.renames,
            Action::Remove => &mut self.removes,
            Action::Link { .. } => &mut self.links,
            Action::SyncDir => &mut self.dir_syncs,
            Action::MakeDir => &mut self.dirs_made,
        };
        *counter += 1;
    }
}

/// The trace and the counts of one disk.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) counts: Counts,
    pub(crate) trace: VecDeque<Traced>,
}

impl Recorder {
    pub(crate) fn record<T>(
        &mut self,
        directory: &Arc<PathBuf>,
        name: Arc<str>,
        action: Action,
        result: &Result<T>,
    ) {
        match result {
            Ok(_) => self.counts.add(&action),
            Err(_) => self.counts.failures += 1,
        }
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let error = result.as_ref().err().map(std::io::Error::kind);
        self.trace.push_back(Traced { directory: directory.clone(), name, action, error });
    }
}
