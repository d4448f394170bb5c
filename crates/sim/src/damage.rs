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
use crate::image::{Hash, Image};
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

    /// A number that two disks share if all their files have the same names and the same bytes, as reads through
    /// the cache and past it see them, and else almost never: to check each of many images once.
    pub fn fingerprint(&self) -> u64 {
        let state = self.shared.state.lock();
        let mut hash = Hash::default();
        for (path, directory) in &state.directories {
            hash.add(path.as_os_str().as_encoded_bytes());
            for (name, node) in &directory.visible {
                hash.add(name.as_bytes());
                node.lock().hash(&mut hash);
            }
        }
        hash.0
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

    /// Makes zeros of `len` bytes at `offset`, as of sectors that the device has given up.
    ///
    /// # Panics
    /// Also if the file ends before.
    pub fn zero_raw(&self, path: impl AsRef<Path>, offset: u64, len: u64) {
        let zeros = vec![0; self.bytes_of(path.as_ref(), offset, len).len()];
        self.damage(path.as_ref(), |image| image.write(offset, &zeros));
    }

    /// Swaps `len` bytes at `first` with as many at `second`: two sectors that stand in each other's place.
    ///
    /// # Panics
    /// Also if the file ends before, or the ranges overlap.
    pub fn swap_raw(&self, path: impl AsRef<Path>, first: u64, second: u64, len: u64) {
        assert!(first.abs_diff(second) >= len, "the ranges at {first} and {second} overlap");
        let path = path.as_ref();
        let (at_first, at_second) = (self.bytes_of(path, first, len), self.bytes_of(path, second, len));
        self.damage(path, |image| {
            image.write(first, &at_second);
            image.write(second, &at_first);
        });
    }

    /// Brings back what `len` bytes at `offset` were on `earlier`, an older image of this disk: a write that
    /// was acknowledged and never made. What the file did not have then, it has as zeros.
    ///
    /// # Panics
    /// Also if the file ends before.
    pub fn stale_raw(&self, path: impl AsRef<Path>, offset: u64, len: u64, earlier: &SimDisk) {
        let path = path.as_ref();
        let mut stale = vec![0; self.bytes_of(path, offset, len).len()];
        let (state, directory, name) = earlier.locate(path);
        find(&state, &directory, &name).lock().visible.read(offset, &mut stale);
        drop(state);
        self.damage(path, |image| image.write(offset, &stale));
    }

    /// A write that went astray: the `len` bytes at `offset` stand at `target` in place of what was there, and
    /// at `offset` is what was there before, on `earlier`.
    ///
    /// # Panics
    /// Also if the file ends before.
    pub fn misdirect_raw(
        &self,
        path: impl AsRef<Path>,
        offset: u64,
        target: u64,
        len: u64,
        earlier: &SimDisk,
    ) {
        let path = path.as_ref();
        let astray = self.bytes_of(path, offset, len);
        self.bytes_of(path, target, len);
        self.stale_raw(path, offset, len, earlier);
        self.damage(path, |image| image.write(target, &astray));
    }

    /// Puts a copy of a file beside it under another name, durably; one of that name is replaced.
    pub fn duplicate_raw(&self, path: impl AsRef<Path>, to: &str) {
        let bytes = self.read_raw(&path);
        self.put_raw(path.as_ref().with_file_name(to), &bytes);
    }

    /// Gives a file another name in its directory, durably; one of that name is replaced. Handles that are
    /// open keep the old file.
    pub fn rename_raw(&self, path: impl AsRef<Path>, to: &str) {
        self.duplicate_raw(&path, to);
        if path.as_ref().file_name() != Some(to.as_ref()) {
            self.remove_raw(path);
        }
    }

    /// Swaps the names of two files, durably. Handles that are open keep the old files.
    pub fn swap_files_raw(&self, first: impl AsRef<Path>, second: impl AsRef<Path>) {
        let (at_first, at_second) = (self.read_raw(&first), self.read_raw(&second));
        self.put_raw(first, &at_second);
        self.put_raw(second, &at_first);
    }

    /// Removes a file, durably.
    pub fn remove_raw(&self, path: impl AsRef<Path>) {
        let (mut state, directory, name) = self.locate(path.as_ref());
        find(&state, &directory, &name);
        unlink(&mut state, &directory, &name);
        state.directory(&directory).version += 1;
    }

    /// Bytes of a file that must be there.
    fn bytes_of(&self, path: &Path, offset: u64, len: u64) -> Vec<u8> {
        let (state, directory, name) = self.locate(path);
        let node = find(&state, &directory, &name);
        let node = node.lock();
        let end = node.visible.len();
        assert!(offset + len <= end, "the file has no {len} bytes at {offset}: it has {end}");
        let mut bytes = vec![0; len as usize];
        node.visible.read(offset, &mut bytes);
        bytes
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
