//! The simulated disk, as its user holds it.

use std::io::{ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use braidlog_storage::{LogDir, Storage};

use crate::crash::{Profile, crash};
use crate::directory::{Directory, SimDir};
use crate::image::PAGE;
use crate::state::{Shared, State};
use crate::trace::{Action, Counts, Traced};
use crate::traffic::Room;
use crate::{Bound, CrashImages, Fault, Hold, Op};

/// A disk in memory that loses, tears and fails as it is told. Clones are handles of the same disk;
/// [`crash_clone`](SimDisk::crash_clone) makes another one.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(crate) shared: Arc<Shared>,
}

impl SimDisk {
    /// An empty disk without limits and faults.
    pub fn new() -> SimDisk {
        SimDisk::from_state(State::new())
    }

    pub(crate) fn from_state(state: State) -> SimDisk {
        SimDisk { shared: Shared::new(state) }
    }

    /// The disk as a crash at this moment leaves it, one legal outcome for each seed. This disk goes on
    /// undisturbed, threads and all; the other one is independent, nobody has it open and no lock is held.
    /// Capacity and support of direct I/O are as here; faults, holds, reordering, counts and trace are not.
    #[must_use]
    pub fn crash_clone(&self, seed: u64, profile: Profile) -> SimDisk {
        let state = crash(&self.shared.state.lock(), seed, profile);
        SimDisk::from_state(state)
    }

    /// Every image that a crash at this moment may leave, within `bound`; for a few unsynced operations.
    /// This disk goes on undisturbed.
    ///
    /// # Panics
    /// If there are more than 65,536 sets of directories, or of names in one, or some page more than 65,536 states: take
    /// [`crash_clone`](SimDisk::crash_clone) with many seeds then.
    #[must_use]
    pub fn crash_images(&self, bound: Bound) -> CrashImages {
        CrashImages::of(&self.shared.state.lock(), bound)
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.shared.state.lock().faults.arm(fault);
    }

    /// Disarms all faults; what hangs goes on.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
        self.shared.changed.notify_all();
    }

    /// Waits until at least `n` operations hang in a [`Fault::hang`].
    ///
    /// # Panics
    /// If that has not come about within a minute.
    pub fn wait_for_hung(&self, n: usize) {
        self.shared.wait_for_hung(n);
    }

    /// From now on, operations that several threads have under way at the same time take effect, and return,
    /// in an order that is drawn from the seed, in place of the order in which they came. An operation is
    /// overtaken by a few at most, and one that is alone is not held up. As it depends on the scheduler who
    /// is under way together, a seed makes reordering likely and not repeatable, unless a model checker
    /// schedules the threads.
    pub fn reorder(&self, seed: u64) {
        self.shared.state.lock().traffic.room = Some(Room::new(seed));
        // Whoever waits in a room that was replaced has left it.
        self.shared.changed.notify_all();
    }

    /// How often faults have struck.
    pub fn faults_struck(&self) -> u64 {
        self.shared.state.lock().faults.struck
    }

    /// Holds matching operations back, each before it takes effect, until the value is released or dropped.
    /// What is under way already is not held.
    pub fn hold(&self, op: Op) -> Hold {
        Hold::new(self.shared.clone(), op)
    }

    /// Holds syncs of files back.
    pub fn hold_syncs(&self) -> Hold {
        self.hold(Op::Sync)
    }

    /// Limits the space of all files, in bytes; counted in pages of 4096. A write or an allocation beyond it
    /// does what still fits, or fails with `StorageFull`; one inside allocated space never does. `None`
    /// lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes;
    }

    /// Whether space that files give back stays taken, as on a file system that first writes its journal; for longer than
    /// any does. With `false` all of it is free, at once.
    pub fn keep_freed_space(&self, is_kept: bool) {
        let mut state = self.shared.state.lock();
        let kept = std::mem::replace(&mut state.kept_pages, is_kept.then_some(0)).unwrap_or(0);
        match &mut state.kept_pages {
            Some(still_kept) => *still_kept = kept,
            None => state.used_pages -= kept,
        }
    }

    /// Bytes of space that files take, allocated or written; removed files count while they are open, and what is
    /// [kept](SimDisk::keep_freed_space).
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used_pages * PAGE as u64
    }

    /// Whether files may be opened for direct I/O; without it, that is an `InvalidInput` error.
    pub fn set_direct_supported(&self, is_supported: bool) {
        self.shared.state.lock().is_direct_supported = is_supported;
    }

    /// How many operations of each kind succeeded, since the disk was made.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().recorder.counts
    }

    /// The operations since the last call, in the order in which they took effect; at most the last
    /// [`TRACE_MAX`](crate::TRACE_MAX).
    pub fn take_trace(&self) -> Vec<Traced> {
        std::mem::take(&mut self.shared.state.lock().recorder.trace).into()
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        SimDisk::new()
    }
}

impl Storage for SimDisk {
    fn open_dir(&self, path: &Path, create: bool) -> Result<Arc<dyn LogDir>> {
        let key = key_of(path);
        if create {
            self.make_durably(&key)?;
        }
        self.shared.ask(Op::OpenDir, &name_of(&key), |state| {
            check_directories(state, &key)?;
            if state.directories.contains_key(&key) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
        })?;
        Ok(Arc::new(SimDir::new(self.shared.clone(), path, key)))
    }
}

impl SimDisk {
    /// Makes what is missing, each directory durable in the one above before the next is made. The deepest
    /// one that exists may be in doubt, if the thread that made it has not synced it yet or failed to: it
    /// is synced too.
    fn make_durably(&self, key: &Arc<PathBuf>) -> Result<()> {
        let (mut missing, mut in_doubt) = (Vec::new(), None);
        {
            let mut state = self.shared.state.lock();
            check_directories(&state, key)?;
            for ancestor in key.ancestors() {
                let ancestor = Arc::new(ancestor.to_owned());
                if let Some(directory) = state.directories.get(&ancestor) {
                    in_doubt = directory.made_at.map(|_| ancestor);
                    break;
                }
                if name_of(&ancestor).is_empty() {
                    // The root of everything was never made.
                    state.directories.insert(ancestor, Directory::default());
                    break;
                }
                missing.push(ancestor);
            }
        }
        if let Some(existing) = in_doubt {
            self.sync_into_parent(&existing)?;
        }
        for directory in missing.into_iter().rev() {
            let parent = parent_of(&directory);
            self.shared.operate(
                &parent,
                || name_of(&directory),
                Action::MakeDir,
                |state, _| {
                    check_directories(state, &directory)?;
                    state.make_directory(&directory);
                    Ok(())
                },
            )?;
            self.sync_into_parent(&directory)?;
        }
        Ok(())
    }

    fn sync_into_parent(&self, directory: &Path) -> Result<()> {
        let parent = parent_of(directory);
        self.shared.operate(
            &parent,
            || "".into(),
            Action::SyncDir,
            |state, before| {
                state.sync_names(&parent, before);
                Ok(())
            },
        )
    }
}

/// Fails if a file stands where the path has a directory.
fn check_directories(state: &State, key: &Path) -> Result<()> {
    let is_file = |path: &Path| {
        let directory = state.directories.get(&parent_of(path));
        directory.is_some_and(|directory| directory.visible.contains_key(&*name_of(path)))
    };
    if key.ancestors().any(is_file) { Err(ErrorKind::NotADirectory.into()) } else { Ok(()) }
}

fn parent_of(path: &Path) -> Arc<PathBuf> {
    Arc::new(path.parent().unwrap_or(Path::new("")).to_owned())
}

/// The last part of a path; empty if it is a root.
fn name_of(path: &Path) -> Arc<str> {
    path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default().into()
}

/// A path as the disk knows it: `./a/./b/` is `a/b`.
pub(crate) fn key_of(path: &Path) -> Arc<PathBuf> {
    Arc::new(path.components().filter(|component| *component != Component::CurDir).collect())
}
