//! A file without its name: what reads see, what a power cut leaves, and the changes in between.
//!
//! # Invariants
//! 1. `durable` with all of `pending` applied in order is `visible`, unless `has_lost`; the length is even then.
//! 2. A completed sync moves the changes that it covers out of `pending`; nothing else does, but a sync that
//!    lost them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::image::{Hash, Image, PAGE, SECTOR, pages_of};

pub(crate) type NodeRef = Arc<Mutex<Node>>;

/// One change of a file.
#[derive(Clone)]
pub(crate) enum Change {
    Write {
        offset: u64,
        data: Arc<[u8]>,
    },
    /// To at least this length.
    Grow(u64),
    /// To this length, which is shorter.
    Cut(u64),
}

impl Change {
    /// Where the file must reach at least once the change is made.
    pub(crate) fn reaches(&self) -> u64 {
        match self {
            Change::Write { offset, data } => offset + data.len() as u64,
            Change::Grow(len) => *len,
            Change::Cut(_) => 0,
        }
    }

    /// How many sectors of a device it writes.
    pub(crate) fn sectors(&self) -> u64 {
        match self {
            Change::Write { offset, data } => {
                (offset + data.len() as u64).div_ceil(SECTOR as u64) - offset / SECTOR as u64
            }
            Change::Grow(_) | Change::Cut(_) => 0,
        }
    }

    pub(crate) fn apply(&self, image: &mut Image) {
        match self {
            Change::Write { offset, data } => image.write(*offset, data),
            Change::Grow(len) => image.grow(*len),
            Change::Cut(len) => image.cut(*len),
        }
    }
}

/// A change that no sync has covered yet.
#[derive(Clone)]
pub(crate) struct Pending {
    /// Its place in the order of all changes of the disk.
    pub(crate) sequence: u64,
    pub(crate) change: Change,
}

#[derive(Clone)]
pub(crate) struct Node {
    /// Its present or last name.
    pub(crate) name: Arc<str>,
    /// Names and handles that keep its space.
    pub(crate) uses: usize,
    /// What reads see.
    pub(crate) visible: Image,
    /// What every power cut leaves.
    pub(crate) durable: Image,
    /// What there was when the disk was made: all that a device which ignores flushes may leave.
    pub(crate) origin: Image,
    pub(crate) pending: Vec<Pending>,
    /// Whether a failed sync marked data clean that is not on the device: the cache shows it yet.
    has_lost: bool,
    /// Pages from the start that have space, written or not.
    reserved_pages: u64,
    /// Pages that count against the disk's capacity.
    charged_pages: u64,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// A file that holds `image`, durably and since ever.
    pub(crate) fn new(name: Arc<str>, image: Image, reserved_pages: u64) -> Node {
        let mut node = Node {
            name,
            uses: 0,
            visible: image.clone(),
            durable: image.clone(),
            origin: image,
            pending: Vec::new(),
            has_lost: false,
            reserved_pages,
            charged_pages: 0,
        };
        node.charge();
        node
    }

    /// The same file on another disk, where nobody uses it yet.
    pub(crate) fn copy(&self) -> Node {
        Node { uses: 0, ..self.clone() }
    }

    pub(crate) fn charged_pages(&self) -> u64 {
        self.charged_pages
    }

    pub(crate) fn reserved_pages(&self) -> u64 {
        self.reserved_pages
    }

    fn charge(&mut self) {
        let behind = self.visible.pages().range(self.reserved_pages..).count() as u64;
        self.charged_pages = self.reserved_pages + behind;
    }

    /// How many bytes of a write at `offset` find space if `room_pages` are free.
    pub(crate) fn fits(&self, offset: u64, len: u64, room_pages: u64) -> u64 {
        let mut room = room_pages;
        for page in pages_of(offset, len) {
            if page >= self.reserved_pages && !self.visible.pages().contains_key(&page) {
                if room == 0 {
                    return (page * PAGE as u64).saturating_sub(offset);
                }
                room -= 1;
            }
        }
        len
    }

    pub(crate) fn write(&mut self, sequence: u64, offset: u64, data: &[u8]) {
        for page in pages_of(offset, data.len() as u64) {
            if page >= self.reserved_pages && !self.visible.pages().contains_key(&page) {
                self.charged_pages += 1;
            }
        }
        self.change(sequence, Change::Write { offset, data: data.into() });
    }

    /// Gives bytes `0..len` space as far as `room_pages` reach; whether they did.
    pub(crate) fn allocate(&mut self, sequence: u64, len: u64, room_pages: u64) -> bool {
        let wanted = len.div_ceil(PAGE as u64);
        let mut reached = self.reserved_pages;
        let mut room = room_pages;
        while reached < wanted {
            if !self.visible.pages().contains_key(&reached) {
                if room == 0 {
                    break;
                }
                room -= 1;
            }
            reached += 1;
        }
        let complete = reached >= wanted;
        // As on real file systems, what was found before the space ran out is kept.
        let len = if complete { len } else { len.min(reached * PAGE as u64) };
        self.reserved_pages = self.reserved_pages.max(reached);
        self.charge();
        if len > self.visible.len() {
            self.change(sequence, Change::Grow(len));
        }
        complete
    }

    pub(crate) fn set_len(&mut self, sequence: u64, len: u64) {
        if len < self.visible.len() {
            self.change(sequence, Change::Cut(len));
            self.reserved_pages = self.reserved_pages.min(len.div_ceil(PAGE as u64));
            self.charge();
        } else if len > self.visible.len() {
            self.change(sequence, Change::Grow(len));
        }
    }

    fn change(&mut self, sequence: u64, change: Change) {
        change.apply(&mut self.visible);
        self.pending.push(Pending { sequence, change });
    }

    /// Takes the changes below `before` out of `pending`.
    fn covered(&mut self, before: u64) -> Vec<Pending> {
        let rest = self.pending.split_off(self.pending.partition_point(|op| op.sequence < before));
        std::mem::replace(&mut self.pending, rest)
    }

    /// Completes a sync of everything: the changes below `before` are durable.
    pub(crate) fn sync_all(&mut self, before: u64) {
        for op in self.covered(before) {
            op.change.apply(&mut self.durable);
        }
    }

    /// Completes a sync of data: as `sync_all`, but a change of length that no covered write needs in order
    /// to be read back stays in doubt.
    pub(crate) fn sync_data(&mut self, before: u64) {
        let covered = self.covered(before);
        let cut = covered.iter().rposition(|op| matches!(op.change, Change::Cut(_)));
        let (head, tail) = covered.split_at(cut.map_or(0, |cut| cut + 1));
        let mut in_doubt = Vec::new();
        if let Some((last_cut, earlier)) = head.split_last() {
            for op in earlier {
                op.change.apply(&mut self.durable);
            }
            let Change::Cut(len) = last_cut.change else { unreachable!("the head ends with a cut") };
            let is_needed =
                tail.iter().any(|op| matches!(op.change, Change::Write { .. }) && op.change.reaches() > len);
            if is_needed {
                last_cut.change.apply(&mut self.durable);
            } else {
                in_doubt.push(last_cut.clone());
            }
        }
        for op in tail {
            match op.change {
                Change::Write { .. } => op.change.apply(&mut self.durable),
                Change::Grow(len) if len <= self.durable.len() && in_doubt.is_empty() => {}
                _ => in_doubt.push(op.clone()),
            }
        }
        in_doubt.append(&mut self.pending);
        self.pending = in_doubt;
    }

    /// Fails a sync as Linux does: the data of the changes below `before` is marked clean and never written.
    /// Lengths are metadata and stay to be synced.
    pub(crate) fn lose(&mut self, before: u64) {
        self.has_lost = true;
        for op in self.covered(before) {
            let change = match op.change {
                Change::Write { .. } => Change::Grow(op.change.reaches()),
                size => size,
            };
            let at = self.pending.partition_point(|other| other.sequence < op.sequence);
            self.pending.insert(at, Pending { sequence: op.sequence, change });
        }
    }

    /// A write that is durable when it returns.
    pub(crate) fn write_durably(&mut self, sequence: u64, offset: u64, data: &[u8]) {
        self.write(sequence, offset, data);
        if self.pending.iter().any(|op| matches!(op.change, Change::Cut(_))) {
            // The length after the write depends on the cut: both have to be durable.
            self.sync_data(sequence + 1);
            return;
        }
        let written = self.pending.pop().expect("the write was put there");
        written.change.apply(&mut self.durable);
        // An older write in doubt must not come out of a crash on top of this one.
        let (start, end) = (offset, offset + data.len() as u64);
        for op in std::mem::take(&mut self.pending) {
            let Change::Write { offset: from, data: ref older } = op.change else {
                self.pending.push(op);
                continue;
            };
            let to = from + older.len() as u64;
            for (part_start, part_end) in [(from, to.min(start)), (from.max(end), to)] {
                if part_start < part_end {
                    let data = older[(part_start - from) as usize..(part_end - from) as usize].into();
                    let change = Change::Write { offset: part_start, data };
                    self.pending.push(Pending { sequence: op.sequence, change });
                }
            }
        }
    }

    /// Reads what the cache holds, or what the device does once it has everything that is still to be written.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8], from_device: bool) -> usize {
        if from_device && self.has_lost {
            self.on_device().read(offset, buf)
        } else {
            self.visible.read(offset, buf)
        }
    }

    /// Adds all that reads can see to a hash.
    pub(crate) fn hash(&self, hash: &mut Hash) {
        self.visible.hash(hash);
        if self.has_lost {
            self.on_device().hash(hash);
        }
    }

    fn on_device(&self) -> Image {
        let mut image = self.durable.clone();
        for op in &self.pending {
            op.change.apply(&mut image);
        }
        image
    }

    /// Drops the cache: what a failed sync lost is seen to be lost.
    pub(crate) fn drop_cache(&mut self) {
        if self.has_lost {
            self.visible = self.on_device();
            self.has_lost = false;
            self.charge();
        }
    }

    /// Changes bytes on the device and in every cache, as rot does to a disk that is switched off.
    pub(crate) fn damage(&mut self, change: impl Fn(&mut Image)) {
        for image in [&mut self.visible, &mut self.durable, &mut self.origin] {
            change(image);
        }
        self.reserved_pages = self.reserved_pages.min(self.visible.len().div_ceil(PAGE as u64));
        self.charge();
    }
}
