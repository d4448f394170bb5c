//! A directory: the names that readers see, the ones that a power cut leaves, and the changes in between.
//!
//! The rule: a name is durable only once the directory is synced, whatever happened to the file; and so is a
//! directory, with everything in it, once the one above is synced.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braidlog_storage::{DirEntry, FileAccess, FileIo, LockGuard, LogDir, LogFile, Watch};
use parking_lot::Mutex;

use crate::Op;
use crate::disk::key_of;
use crate::file::SimFile;
use crate::image::Image;
use crate::node::{Node, NodeRef};
use crate::state::{Shared, State};
use crate::trace::Action;
use crate::watch::SimWatch;

/// The file that carries the writer lock.
const LOCK: &str = "LOCK";

pub(crate) type Names = BTreeMap<String, NodeRef>;

/// One change of names.
#[derive(Clone)]
pub(crate) enum NameChange {
    Link { name: String, node: NodeRef },
    Move { to: String, node: NodeRef },
    Unlink { name: String },
}

impl NameChange {
    /// Makes the change, also among names that other changes have not reached. A file has one name in a directory,
    /// whichever of its changes came through; it may have others in other directories.
    pub(crate) fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link { name: to, node } | NameChange::Move { to, node } => {
                names.retain(|_, other| !Arc::ptr_eq(other, node));
                names.insert(to.clone(), node.clone());
            }
            NameChange::Unlink { name } => drop(names.remove(name)),
        }
    }
}

/// A change of names that no sync of the directory has covered yet.
#[derive(Clone)]
pub(crate) struct PendingName {
    pub(crate) sequence: u64,
    pub(crate) change: NameChange,
}

#[derive(Clone, Default)]
pub(crate) struct Directory {
    /// What readers see.
    pub(crate) visible: Names,
    /// What every power cut leaves.
    pub(crate) durable: Names,
    /// What there was when the disk was made.
    pub(crate) origin: Names,
    pub(crate) pending: Vec<PendingName>,
    /// Where in the order of changes it was made, if the directory above was not synced since.
    pub(crate) made_at: Option<u64>,
    pub(crate) is_locked: bool,
    /// Counts changes of names and files, for watches.
    pub(crate) version: u64,
}

impl Directory {
    /// A directory that holds `names`, durably and since ever.
    pub(crate) fn new(names: Names) -> Directory {
        Directory { visible: names.clone(), durable: names.clone(), origin: names, ..Directory::default() }
    }

    /// Every file that a crash may leave here, some of them more than once.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeRef> {
        let changed = self.pending.iter().filter_map(|op| match &op.change {
            NameChange::Link { node, .. } | NameChange::Move { node, .. } => Some(node),
            NameChange::Unlink { .. } => None,
        });
        self.visible.values().chain(self.durable.values()).chain(changed)
    }

    pub(crate) fn find(&self, name: &str) -> Result<NodeRef> {
        self.visible.get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn change(&mut self, sequence: u64, change: NameChange) {
        change.apply(&mut self.visible);
        self.pending.push(PendingName { sequence, change });
        self.version += 1;
    }

    pub(crate) fn sync(&mut self, before: u64) {
        let rest = self.pending.split_off(self.pending.partition_point(|op| op.sequence < before));
        for op in std::mem::replace(&mut self.pending, rest) {
            op.change.apply(&mut self.durable);
        }
    }
}

impl State {
    /// Makes a directory, unless another thread has meanwhile.
    pub(crate) fn make_directory(&mut self, path: &Arc<PathBuf>) {
        if !self.directories.contains_key(path) {
            let made_at = Some(self.next_sequence());
            self.directories.insert(path.clone(), Directory { made_at, ..Directory::default() });
        }
    }

    /// Makes the changes of names in a directory durable that are below `before`, directories among them.
    pub(crate) fn sync_names(&mut self, path: &Path, before: u64) {
        for (other, directory) in &mut self.directories {
            if &***other == path {
                directory.sync(before);
            } else if other.parent() == Some(path) {
                directory.made_at = directory.made_at.filter(|&made_at| made_at >= before);
            }
        }
    }

    fn create(&mut self, directory: &Arc<PathBuf>, name: &str) -> Result<NodeRef> {
        let is_taken = self.directory(directory).visible.contains_key(name)
            || self.directories.contains_key(&directory.join(name));
        if is_taken {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node: NodeRef = Arc::new(Mutex::new(Node::new(name.into(), Image::default(), 0)));
        self.retain(&node);
        let sequence = self.next_sequence();
        let change = NameChange::Link { name: name.to_owned(), node: node.clone() };
        self.directory(directory).change(sequence, change);
        Ok(node)
    }

    fn rename(&mut self, directory: &Arc<PathBuf>, from: &str, to: &str, replace: bool) -> Result<()> {
        let names = self.directory(directory);
        let node = names.find(from)?;
        let replaced = names.visible.get(to).cloned();
        if replaced.is_some() && !replace {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if from == to {
            return Ok(());
        }
        let sequence = self.next_sequence();
        node.lock().name = to.into();
        self.directory(directory).change(sequence, NameChange::Move { to: to.to_owned(), node });
        if let Some(replaced) = replaced {
            self.release(&replaced);
        }
        Ok(())
    }

    fn link(&mut self, directory: &Arc<PathBuf>, name: &str, to: &Arc<PathBuf>) -> Result<()> {
        let node = self.directory(directory).find(name)?;
        let other = self.directories.get(to).ok_or(ErrorKind::NotFound)?;
        if other.visible.contains_key(name) || self.directories.contains_key(&to.join(name)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.retain(&node);
        let sequence = self.next_sequence();
        self.directory(to).change(sequence, NameChange::Link { name: name.to_owned(), node });
        Ok(())
    }

    /// How many names readers see of a file.
    pub(crate) fn links(&self, node: &NodeRef) -> u64 {
        let names = self.directories.values().flat_map(|directory| directory.visible.values());
        names.filter(|other| Arc::ptr_eq(other, node)).count() as u64
    }

    fn remove(&mut self, directory: &Arc<PathBuf>, name: &str) -> Result<()> {
        let node = self.directory(directory).find(name)?;
        let sequence = self.next_sequence();
        self.directory(directory).change(sequence, NameChange::Unlink { name: name.to_owned() });
        self.release(&node);
        Ok(())
    }
}

/// A directory of a simulated disk, opened.
#[derive(Clone, Debug)]
pub(crate) struct SimDir {
    shared: Arc<Shared>,
    /// As the user wrote it.
    path: PathBuf,
    /// As the disk knows it.
    key: Arc<PathBuf>,
}

impl SimDir {
    pub(crate) fn new(shared: Arc<Shared>, path: &Path, key: Arc<PathBuf>) -> SimDir {
        SimDir { shared, path: path.to_owned(), key }
    }

    fn entries(&self, state: &mut State) -> Vec<DirEntry> {
        let files = state.directory(&self.key).visible.iter().map(|(name, node)| DirEntry {
            name: name.clone(),
            len: node.lock().visible.len(),
            is_file: true,
        });
        let mut entries: Vec<_> = files.collect();
        let below = state.directories.keys().filter(|path| path.parent() == Some(&**self.key));
        entries.extend(below.filter_map(|path| path.file_name()).map(|name| DirEntry {
            name: name.to_string_lossy().into_owned(),
            len: 0,
            is_file: false,
        }));
        entries
    }

    fn operate<T>(
        &self,
        name: &str,
        action: Action,
        run: impl FnOnce(&mut State, u64) -> Result<T>,
    ) -> Result<T> {
        self.shared.operate(&self.key, || name.into(), action, run)
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Error::new(ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(())
}

impl LogDir for SimDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn try_lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        self.shared.ask(Op::Lock, LOCK, |state| {
            if !state.directory(&self.key).visible.contains_key(LOCK) {
                state.create(&self.key, LOCK)?;
            }
            if std::mem::replace(&mut state.directory(&self.key).is_locked, true) {
                return Ok(None);
            }
            let lock = SimLock { shared: self.shared.clone(), key: self.key.clone() };
            Ok(Some(Box::new(lock) as Box<dyn LockGuard>))
        })
    }

    fn is_locked(&self) -> Result<bool> {
        self.shared.ask(Op::IsLocked, LOCK, |state| Ok(state.directory(&self.key).is_locked))
    }

    fn list(&self) -> Result<Vec<DirEntry>> {
        self.shared.ask(Op::List, "", |state| Ok(self.entries(state)))
    }

    fn open(&self, name: &str, access: FileAccess, io: FileIo) -> Result<Arc<dyn LogFile>> {
        check_name(name)?;
        let is_new = access == FileAccess::CreateNew;
        let action = if is_new { Action::Create } else { Action::Open };
        self.operate(name, action, |state, _| {
            if io != FileIo::Buffered && !state.is_direct_supported {
                return Err(Error::new(ErrorKind::InvalidInput, "the simulated disk has no direct I/O"));
            }
            let node = match is_new {
                true => state.create(&self.key, name)?,
                false => state.directory(&self.key).find(name)?,
            };
            state.retain(&node);
            let file = SimFile::new(self.shared.clone(), self.key.clone(), node, access, io);
            Ok(Arc::new(file) as Arc<dyn LogFile>)
        })
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Result<()> {
        check_name(from)?;
        check_name(to)?;
        let action = Action::Rename { to: to.to_owned(), replace };
        self.operate(from, action, |state, _| state.rename(&self.key, from, to, replace))
    }

    fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.operate(name, Action::Remove, |state, _| state.remove(&self.key, name))
    }

    fn link_into(&self, name: &str, to: &Path) -> Result<()> {
        check_name(name)?;
        let to = key_of(to);
        self.operate(name, Action::Link { to: to.clone() }, |state, _| state.link(&self.key, name, &to))
    }

    fn sync(&self) -> Result<()> {
        self.operate("", Action::SyncDir, |state, before| {
            state.sync_names(&self.key, before);
            Ok(())
        })
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        self.shared.ask(Op::Watch, "", |state| {
            let seen = state.directory(&self.key).version;
            Ok(Box::new(SimWatch::new(self.shared.clone(), self.key.clone(), seen)) as Box<dyn Watch>)
        })
    }
}

#[derive(Debug)]
struct SimLock {
    shared: Arc<Shared>,
    key: Arc<PathBuf>,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.state.lock().directory(&self.key).is_locked = false;
    }
}
