//! What a crash leaves: one legal image of the disk for each seed.
//!
//! # Invariants
//! 1. What a completed sync covers is in every image, but for [`Profile::LyingDisk`].
//! 2. A page that holds no unsynced write is as it was synced, bit for bit. A page that holds one may come
//!    out wholly wrong: the device is not trusted to leave the other bytes of a page alone.
//! 3. An image is a function of the state and the seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Rng;
use crate::directory::{Directory, NameChange, Names, PendingName};
use crate::image::{Image, PAGE, Page, SECTOR, pages_of};
use crate::node::{Change, Node, NodeRef};
use crate::state::State;

/// How the crash treats what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Profile {
    /// A power cut, as badly as POSIX allows. Unsynced writes are cut into pages of 4096 bytes and sectors of
    /// 512; each page is written, not written, written in an older version, or torn: a sector then is old,
    /// new, new in its first or last bytes only, garbage, or zeros. Synced bytes that share the page with an
    /// unsynced write may go with it, other pages never. Nothing has an order, lengths change without data
    /// and data without length, and names that were not synced are missing, or still there.
    Posix,
    /// A power cut on a disk that keeps the order of everything: the operations up to one moment, with the
    /// last write cut short. What was synced later than that moment is there too.
    Ordered,
    /// The process was killed (`kill -9`): everything it wrote is there, though not yet safe from a power cut.
    Kept,
    /// A power cut on a device that ignores flushes: each name and page, synced or not, is as it was when the
    /// disk was made, or as it is now, or torn in between. Every test of durability has to fail on it; use
    /// it to see that yours does.
    LyingDisk,
}

impl Profile {
    /// The profiles under which a durable program keeps its promises: all but [`Profile::LyingDisk`].
    pub const HONEST: [Profile; 3] = [Profile::Posix, Profile::Ordered, Profile::Kept];
}

/// The state after a crash.
pub(crate) fn crash(state: &State, seed: u64, profile: Profile) -> State {
    let mut rng = Rng::new(seed);
    match profile {
        Profile::Kept => kept(state),
        Profile::Posix => after_power_cut(state, &mut rng, surviving_names, posix_image),
        Profile::LyingDisk => after_power_cut(state, &mut rng, lying_names, lying_image),
        Profile::Ordered => {
            let end = pick_end(state, &mut rng);
            after_power_cut(
                state,
                &mut rng,
                |directory, _| names_before(directory, end),
                |node, rng| image_before(node, end, rng),
            )
        }
    }
}

/// A copy in which nothing is lost and nothing is safer than before.
fn kept(state: &State) -> State {
    let mut copy = state.successor();
    let mut copies = BTreeMap::new();
    let mut copy_of = |node: &NodeRef| -> NodeRef {
        let make = || Arc::new(Mutex::new(node.lock().copy()));
        copies.entry(Arc::as_ptr(node)).or_insert_with(make).clone()
    };
    for (path, directory) in &state.directories {
        let mut names_of =
            |names: &Names| names.iter().map(|(name, node)| (name.clone(), copy_of(node))).collect();
        let (visible, durable, origin): (Names, Names, Names) =
            (names_of(&directory.visible), names_of(&directory.durable), names_of(&directory.origin));
        let mut change_of = |change: &NameChange| match change {
            NameChange::Link { name, node } => NameChange::Link { name: name.clone(), node: copy_of(node) },
            NameChange::Move { to, node } => NameChange::Move { to: to.clone(), node: copy_of(node) },
            NameChange::Unlink { name } => NameChange::Unlink { name: name.clone() },
        };
        let pending = directory
            .pending
            .iter()
            .map(|op| PendingName { sequence: op.sequence, change: change_of(&op.change) })
            .collect();
        let directory = Directory { visible, durable, origin, pending, ..Directory::default() };
        insert(&mut copy, path, directory);
    }
    copy
}

/// A disk whose names and images are picked by the given functions, all durable.
fn after_power_cut(
    state: &State,
    rng: &mut Rng,
    names: impl Fn(&Directory, &mut Rng) -> Names,
    image: impl Fn(&Node, &mut Rng) -> Image,
) -> State {
    let mut after = state.successor();
    for (path, directory) in &state.directories {
        let survivors = names(directory, rng);
        let survivors = survivors.into_iter().map(|(name, node)| {
            let node = node.lock();
            let image = image(&node, rng);
            let reserved = node.reserved_pages().min(image.len().div_ceil(PAGE as u64));
            let node = Node::new(name.as_str().into(), image, reserved);
            (name, Arc::new(Mutex::new(node)))
        });
        insert(&mut after, path, Directory::new(survivors.collect()));
    }
    after
}

fn insert(state: &mut State, path: &Arc<PathBuf>, directory: Directory) {
    for node in directory.visible.values() {
        state.retain(node);
    }
    state.directories.insert(path.clone(), directory);
}

// --- Profile::Ordered ---

/// The place in the order of all changes at which the power fails: the change there is cut short.
fn pick_end(state: &State, rng: &mut Rng) -> u64 {
    let mut places = Vec::new();
    for directory in state.directories.values() {
        places.extend(directory.pending.iter().map(|op| op.sequence));
        let nodes = directory.visible.values().chain(directory.durable.values());
        for node in nodes.chain(directory.pending.iter().filter_map(|op| match &op.change {
            NameChange::Link { node, .. } | NameChange::Move { node, .. } => Some(node),
            NameChange::Unlink { .. } => None,
        })) {
            places.extend(node.lock().pending.iter().map(|op| op.sequence));
        }
    }
    places.push(state.sequence());
    places.sort_unstable();
    places.dedup();
    places[rng.index(places.len())]
}

fn names_before(directory: &Directory, end: u64) -> Names {
    let mut names = directory.durable.clone();
    for op in directory.pending.iter().take_while(|op| op.sequence < end) {
        op.change.apply(&mut names);
    }
    names
}

fn image_before(node: &Node, end: u64, rng: &mut Rng) -> Image {
    let mut image = node.durable.clone();
    for op in node.pending.iter().take_while(|op| op.sequence <= end) {
        if op.sequence < end {
            op.change.apply(&mut image);
        } else if let Change::Write { offset, data } = &op.change {
            // Cut at a sector of the device.
            let sectors = count_of_sectors(*offset, data.len());
            let stop = (offset / SECTOR as u64 + rng.below(sectors + 1)) * SECTOR as u64;
            let count = stop.saturating_sub(*offset).min(data.len() as u64) as usize;
            image.write(*offset, &data[..count]);
        }
    }
    image
}

/// How many sectors `len` bytes at `offset` touch.
fn count_of_sectors(offset: u64, len: usize) -> u64 {
    (offset + len as u64).div_ceil(SECTOR as u64) - offset / SECTOR as u64
}

// --- Profile::Posix, Profile::LyingDisk ---

/// How the unsynced changes of one file or directory fare, as a whole.
enum Mood {
    /// None came through.
    Nothing,
    /// All did.
    Everything,
    /// The first ones did.
    Prefix(usize),
    /// Each did or not.
    Some(Vec<bool>),
    /// Each page is in the state after any one of its writes.
    Pages,
    /// As `Pages`, and some are torn.
    Torn,
}

impl Mood {
    fn pick(count: usize, rng: &mut Rng) -> Mood {
        match rng.below(8) {
            0 => Mood::Nothing,
            1 => Mood::Everything,
            2 => Mood::Prefix(rng.index(count + 1)),
            3 => Mood::Some((0..count).map(|_| rng.one_in(2)).collect()),
            4 => Mood::Pages,
            _ => Mood::Torn,
        }
    }
}

/// The names after a power cut. A name that was not synced may be missing, or be back.
fn surviving_names(directory: &Directory, rng: &mut Rng) -> Names {
    let mut names = directory.durable.clone();
    let count = directory.pending.len();
    let mood = Mood::pick(count, rng);
    for (index, op) in directory.pending.iter().enumerate() {
        let came_through = match &mood {
            Mood::Nothing => false,
            Mood::Everything => true,
            Mood::Prefix(end) => index < *end,
            Mood::Some(came_through) => came_through[index],
            Mood::Pages | Mood::Torn => rng.one_in(2),
        };
        if came_through {
            op.change.apply(&mut names);
        }
    }
    names
}

fn lying_names(directory: &Directory, rng: &mut Rng) -> Names {
    let mut names = directory.origin.clone();
    let gone = directory.origin.keys().filter(|name| !directory.visible.contains_key(*name));
    for name in gone {
        if rng.one_in(2) {
            names.remove(name);
        }
    }
    for (name, node) in &directory.visible {
        if rng.one_in(2) {
            NameChange::Link { name: name.clone(), node: node.clone() }.apply(&mut names);
        }
    }
    names
}

/// All that a file went through since its last sync, as far as an image can show it.
struct History {
    /// States of each touched page, each with the change after which it was so; the synced state is not
    /// among them.
    pages: BTreeMap<u64, Vec<(usize, Arc<Page>)>>,
    /// The length that was synced, and the one after each change.
    lens: Vec<u64>,
}

impl History {
    fn of(node: &Node) -> History {
        let mut history = History { pages: BTreeMap::new(), lens: vec![node.durable.len()] };
        let mut image = node.durable.clone();
        for (index, op) in node.pending.iter().enumerate() {
            let touched = match &op.change {
                Change::Write { offset, data } => pages_of(*offset, data.len() as u64),
                Change::Grow(_) => 0..0,
                // Bytes behind a cut are zeros only if the file grows over them again; until then the cut
                // is a matter of length alone.
                Change::Cut(len) if node.pending[index..].iter().any(|op| op.change.reaches() > *len) => {
                    pages_of(*len, image.len().saturating_sub(*len))
                }
                Change::Cut(_) => 0..0,
            };
            op.change.apply(&mut image);
            for page in touched {
                history.pages.entry(page).or_default().push((index, image.page(page)));
            }
            history.lens.push(image.len());
        }
        history
    }

    /// As if no sync since the disk was made had done anything.
    fn of_lies(node: &Node) -> History {
        let images = [&node.durable, &node.visible];
        let mut history = History { pages: BTreeMap::new(), lens: vec![node.origin.len()] };
        for (index, image) in images.into_iter().enumerate() {
            for &page in node.origin.pages().keys().chain(image.pages().keys()) {
                let state = image.page(page);
                if state != node.origin.page(page) {
                    history.pages.entry(page).or_default().push((index, state));
                }
            }
            history.lens.push(image.len());
        }
        history
    }

    /// How many changes there were.
    fn count(&self) -> usize {
        self.lens.len() - 1
    }

    fn pick(&self, base: &Image, rng: &mut Rng) -> Image {
        let mut image = base.clone();
        if self.count() == 0 {
            return image;
        }
        let mood = Mood::pick(self.count(), rng);
        let len = self.pick_len(&mood, rng);
        // The pages first, then the length: a page whose length did not come through is not seen.
        image.grow(self.lens.iter().copied().max().unwrap_or(0));
        for (&index, states) in &self.pages {
            let old = base.page(index);
            image.set_page(index, pick_page(&old, states, &mood, base, rng));
        }
        image.cut(len);
        image
    }

    fn pick_len(&self, mood: &Mood, rng: &mut Rng) -> u64 {
        let last = self.count();
        if rng.one_in(2) {
            let index = match mood {
                Mood::Nothing => 0,
                Mood::Prefix(end) => *end,
                _ => last,
            };
            return self.lens[index];
        }
        let any = self.lens[rng.index(last + 1)];
        let low = self.lens.iter().copied().min().unwrap_or(0);
        let high = self.lens.iter().copied().max().unwrap_or(0);
        match rng.below(3) {
            0 => any,
            // A file grows as its pages are written, and stops anywhere.
            1 => (low + rng.below(high - low + 1)).next_multiple_of(SECTOR as u64).min(high),
            _ => (low + rng.below(high - low + 1)).next_multiple_of(PAGE as u64).min(high),
        }
    }
}

fn posix_image(node: &Node, rng: &mut Rng) -> Image {
    History::of(node).pick(&node.durable, rng)
}

fn lying_image(node: &Node, rng: &mut Rng) -> Image {
    History::of_lies(node).pick(&node.origin, rng)
}

/// One page after the power cut. Within a page writes keep their order: what the device gets is the page as
/// it stands in the cache at some moment.
fn pick_page(
    old: &Arc<Page>,
    states: &[(usize, Arc<Page>)],
    mood: &Mood,
    base: &Image,
    rng: &mut Rng,
) -> Arc<Page> {
    let newest_of = |came_through: &dyn Fn(usize) -> bool| {
        states.iter().rev().find(|(index, _)| came_through(*index)).map_or(old, |(_, page)| page).clone()
    };
    match mood {
        Mood::Nothing => old.clone(),
        Mood::Everything => newest_of(&|_| true),
        Mood::Prefix(end) => newest_of(&|index| index < *end),
        Mood::Some(came_through) => newest_of(&|index| came_through[index]),
        Mood::Pages => any_state(old, states, rng),
        Mood::Torn if rng.one_in(2) => any_state(old, states, rng),
        Mood::Torn => torn_page(old, states, base, rng),
    }
}

fn any_state(old: &Arc<Page>, states: &[(usize, Arc<Page>)], rng: &mut Rng) -> Arc<Page> {
    match rng.index(states.len() + 1) {
        0 => old.clone(),
        index => states[index - 1].1.clone(),
    }
}

/// A page that the power cut hit while it was being written.
fn torn_page(old: &Arc<Page>, states: &[(usize, Arc<Page>)], base: &Image, rng: &mut Rng) -> Arc<Page> {
    let mut page = **old;
    if rng.one_in(8) {
        // A device whose own sectors are as large as a page.
        tear(&mut page, 0, &any_state(old, states, rng), base, rng);
        return Arc::new(page);
    }
    for start in (0..PAGE).step_by(SECTOR) {
        let new = any_state(old, states, rng);
        if rng.one_in(4) {
            tear(&mut page[start..start + SECTOR], start, &new, base, rng);
        } else {
            page[start..start + SECTOR].copy_from_slice(&new[start..start + SECTOR]);
        }
    }
    Arc::new(page)
}

/// Tears the bytes of a page that begin at `start`, which were about to become those of `new`.
fn tear(bytes: &mut [u8], start: usize, new: &Page, base: &Image, rng: &mut Rng) {
    let new = &new[start..start + bytes.len()];
    let middle = rng.index(bytes.len() + 1);
    match rng.below(5) {
        0 => bytes[..middle].copy_from_slice(&new[..middle]),
        1 => bytes[middle..].copy_from_slice(&new[middle..]),
        2 => bytes.fill(0),
        3 => rng.fill(bytes),
        _ => {
            // Old blocks of the device: what once stood elsewhere looks more like data than noise does.
            let stale = base.pages().values().nth(rng.index(base.pages().len().max(1)));
            match stale {
                Some(page) => bytes.copy_from_slice(&page[start..start + bytes.len()]),
                None => rng.fill(bytes),
            }
        }
    }
}
