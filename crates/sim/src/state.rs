//! Everything that a simulated disk is, behind one lock.
//!
//! The rule: an operation takes effect in one critical section, so that every image of a crash, however
//! many threads run, is one that lies between whole operations.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::directory::Directory;
use crate::fault::Faults;
use crate::hold::Holds;
use crate::image::PAGE;
use crate::node::Node;
use crate::trace::Recorder;
use crate::traffic::Traffic;

/// A disk as its handles share it.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Notified when anything changes that somebody may wait for: files, names, holds.
    pub(crate) changed: Condvar,
}

pub(crate) struct State {
    pub(crate) directories: BTreeMap<Arc<PathBuf>, Directory>,
    /// The place of the next change in the order of all.
    next_sequence: u64,
    /// In bytes.
    pub(crate) capacity: Option<u64>,
    pub(crate) used_pages: u64,
    /// How many of them nobody has any more, if what is freed stays taken.
    pub(crate) kept_pages: Option<u64>,
    pub(crate) is_direct_supported: bool,
    pub(crate) faults: Faults,
    pub(crate) holds: Holds,
    pub(crate) traffic: Traffic,
    pub(crate) recorder: Recorder,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            directories: BTreeMap::new(),
            next_sequence: 0,
            capacity: None,
            used_pages: 0,
            kept_pages: None,
            is_direct_supported: true,
            faults: Faults::default(),
            holds: Holds::default(),
            traffic: Traffic::default(),
            recorder: Recorder::default(),
        }
    }

    /// An empty disk with the settings and the count of changes of this one, without faults, holds and operations.
    pub(crate) fn successor(&self) -> State {
        State {
            next_sequence: self.next_sequence,
            capacity: self.capacity,
            is_direct_supported: self.is_direct_supported,
            ..State::new()
        }
    }

    /// The place of the next change; changes so far are below it.
    pub(crate) fn sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    /// Pages that are free.
    pub(crate) fn room_pages(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |bytes| (bytes / PAGE as u64).saturating_sub(self.used_pages))
    }

    pub(crate) fn directory(&mut self, path: &Arc<PathBuf>) -> &mut Directory {
        self.directories.get_mut(path).expect("directories are never removed")
    }

    /// Changes a file and keeps account of its space.
    pub(crate) fn charging<T>(&mut self, node: &Mutex<Node>, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut node = node.lock();
        let before = node.charged_pages();
        let result = change(&mut node);
        let after = node.charged_pages();
        self.used_pages += after.saturating_sub(before);
        self.free_pages(before.saturating_sub(after));
        result
    }

    /// One more name or handle of a file.
    pub(crate) fn retain(&mut self, node: &Mutex<Node>) {
        let mut node = node.lock();
        if node.uses == 0 {
            self.used_pages += node.charged_pages();
        }
        node.uses += 1;
    }

    /// One name or handle less; with the last one the space is free.
    pub(crate) fn release(&mut self, node: &Mutex<Node>) {
        let mut node = node.lock();
        node.uses -= 1;
        if node.uses == 0 {
            self.free_pages(node.charged_pages());
        }
    }

    fn free_pages(&mut self, pages: u64) {
        match &mut self.kept_pages {
            Some(kept) => *kept += pages,
            None => self.used_pages -= pages,
        }
    }
}

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() })
    }
}

pub(crate) fn no_space() -> Error {
    Error::new(ErrorKind::StorageFull, "the simulated disk is full")
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a simulated disk")
    }
}
