//! The simulated disk, as its user holds it.

use std::io::{ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use braidlog_storage::{LogDir, Storage};

use crate::crash::{Profile, crash};
use crate::directory::SimDir;
use crate::image::PAGE;
use crate::state::{Shared, State};
use crate::trace::{Counts, Traced};
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
    /// Capacity and support of direct I/O are as here; faults, holds, counts and trace are not.
    #[must_use]
    pub fn crash_clone(&self, seed: u64, profile: Profile) -> SimDisk {
        let state = crash(&self.shared.state.lock(), seed, profile);
        SimDisk::from_state(state)
    }

    /// Every image that a crash at this moment may leave, within `bound`; for a few unsynced operations.
    /// This disk goes on undisturbed.
    ///
    /// # Panics
    /// If some directory has more than 65,536 outcomes, or some page more than 65,536 states: take
    /// [`crash_clone`](SimDisk::crash_clone) with many seeds then.
    #[must_use]
    pub fn crash_images(&self, bound: Bound) -> CrashImages {
        CrashImages::of(&self.shared.state.lock(), bound)
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.shared.state.lock().faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
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

    /// Bytes of space that files take, allocated or written; removed files count while they are open.
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
        let mut state = self.shared.state.lock();
        for ancestor in key.ancestors() {
            if let (Some(parent), Some(name)) = (ancestor.parent(), ancestor.file_name())
                && let Some(directory) = state.directories.get(&parent.to_owned())
                && directory.visible.contains_key(&*name.to_string_lossy())
            {
                return Err(ErrorKind::NotADirectory.into());
            }
        }
        if !state.directories.contains_key(&key) {
            if !create {
                return Err(ErrorKind::NotFound.into());
            }
            for ancestor in key.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
                state.directories.entry(Arc::new(ancestor.to_owned())).or_default();
            }
            state.directories.entry(key.clone()).or_default();
        }
        drop(state);
        Ok(Arc::new(SimDir::new(self.shared.clone(), path, key)))
    }
}

/// A path as the disk knows it: `./a/./b/` is `a/b`.
pub(crate) fn key_of(path: &Path) -> Arc<PathBuf> {
    Arc::new(path.components().filter(|component| *component != Component::CurDir).collect())
}
