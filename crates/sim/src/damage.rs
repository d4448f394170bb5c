//! Damage at rest, and looking at files past every handle.
//!
//! The rule: what is changed here is changed on the device and in every cache at once, as if it had always
//! been so; no fault, hold, trace or capacity applies. Paths are the directory's path and a file name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::SimDisk;
use crate::directory::NameChange;
use crate::disk::key_of;
use crate::image::Image;
use crate::node::{Node, NodeRef};
use crate::state::State;

/// Damage at rest. All of these panic if the file or its directory does not exist: they are for tests, which
/// know.
impl SimDisk {
    /// Names and lengths of the files in a directory, in order of name.
    pub fn list_raw(&self, directory: impl AsRef<Path>) -> Vec<(String, u64)> {
        let state = self.shared.state.lock();
        let key = key_of(directory.as_ref());
        let directory = state.directories.get(&key);
        let directory = directory.unwrap_or_else(|| panic!("no directory {}", key.display()));
        directory.visible.iter().map(|(name, node)| (name.clone(), node.lock().visible.len())).collect()
    }

    /// The bytes of a file, as reads see them.
    pub fn read_raw(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let (state, directory, name) = self.locate(path.as_ref());
        find(&state, &directory, &name).lock().visible.to_vec()
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`.
    ///
    /// # Panics
    /// Also if there is no such byte or bit.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u32) {
        assert!(bit < 8, "a byte has no bit {bit}");
        let len = self.read_raw(&path).len() as u64;
        assert!(offset < len, "the file has no byte {offset}");
        self.damage(path.as_ref(), |image| {
            let mut byte = [0];
            if image.read(offset, &mut byte) == 1 {
                image.write(offset, &[byte[0] ^ 1 << bit]);
            }
        });
    }

    /// Overwrites bytes, extending the file if need be.
    pub fn write_raw(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) {
        self.damage(path.as_ref(), |image| image.write(offset, bytes));
    }

    /// Cuts a file, or extends it with zeros.
    pub fn truncate_raw(&self, path: impl AsRef<Path>, len: u64) {
        self.damage(path.as_ref(), |image| {
            image.cut(len);
            image.grow(len);
        });
    }

    /// Puts a file in place, whole and durable; one of that name is replaced. The directory must exist.
    pub fn put_raw(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let (mut state, directory, name) = self.locate(path.as_ref());
        unlink(&mut state, &directory, &name);
        let node = Node::new(name.as_str().into(), Image::from_bytes(bytes), 0);
        let node: NodeRef = Arc::new(Mutex::new(node));
        state.retain(&node);
        let directory = state.directory(&directory);
        for names in [&mut directory.visible, &mut directory.durable, &mut directory.origin] {
            names.insert(name.clone(), node.clone());
        }
        directory.version += 1;
    }

    /// Removes a file, durably.
    pub fn remove_raw(&self, path: impl AsRef<Path>) {
        let (mut state, directory, name) = self.locate(path.as_ref());
        find(&state, &directory, &name);
        unlink(&mut state, &directory, &name);
        state.directory(&directory).version += 1;
    }

    fn damage(&self, path: &Path, change: impl Fn(&mut Image)) {
        let (mut state, directory, name) = self.locate(path);
        let node = find(&state, &directory, &name);
        state.charging(&node, |node| node.damage(change));
        state.directory(&directory).version += 1;
    }

    fn locate(&self, path: &Path) -> (parking_lot::MutexGuard<'_, State>, Arc<PathBuf>, String) {
        let name = path.file_name().unwrap_or_else(|| panic!("{} is not a file's path", path.display()));
        let key = key_of(path.parent().unwrap_or(Path::new("")));
        let state = self.shared.state.lock();
        assert!(state.directories.contains_key(&key), "no directory {}", key.display());
        (state, key, name.to_string_lossy().into_owned())
    }
}

fn find(state: &State, directory: &Arc<PathBuf>, name: &str) -> NodeRef {
    let node = state.directories[directory].visible.get(name);
    node.unwrap_or_else(|| panic!("no file {}", directory.join(name).display())).clone()
}

/// Removes a file now and in every image of a crash: no change in doubt may bring it back, under whatever
/// name, nor take away what is put in its place.
fn unlink(state: &mut State, directory: &Arc<PathBuf>, name: &str) {
    let names = state.directory(directory);
    let Some(node) = names.visible.remove(name) else { return };
    for names in [&mut names.durable, &mut names.origin] {
        names.retain(|other, held| other != name && !Arc::ptr_eq(held, &node));
    }
    names.pending.retain(|op| match &op.change {
        NameChange::Link { name: to, node: held } | NameChange::Move { to, node: held } => {
            to != name && !Arc::ptr_eq(held, &node)
        }
        NameChange::Unlink { name: other } => other != name,
    });
    state.release(&node);
}
