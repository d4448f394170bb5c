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
use crate::history::{History, Mood};
use crate::image::{Image, PAGE, SECTOR};
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
    /// A call that has not returned did nothing.
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
    if profile != Profile::Kept && !state.traffic.writes.is_empty() {
        return crash(&with_all_under_way(state), seed, profile);
    }
    let mut rng = Rng::new(seed);
    match profile {
        Profile::Kept => kept(state),
        Profile::Posix => after_power_cut(state, &mut rng, by_chance, surviving_names, posix_image),
        Profile::LyingDisk => after_power_cut(state, &mut rng, by_chance, lying_names, lying_image),
        Profile::Ordered => {
            let end = pick_end(state, &mut rng);
            after_power_cut(
                state,
                &mut rng,
                |made_at, _| made_at < end,
                |directory, _| names_before(directory, end),
                |node, rng| image_before(node, end, |sectors| rng.below(sectors + 1)),
            )
        }
    }
}

/// A copy in which nothing is lost and nothing is safer than before.
fn kept(state: &State) -> State {
    copy(state, false)
}

/// A copy in which the writes that have been called and have not returned are made, and in doubt like the
/// ones that have: a crash may leave any part of them.
pub(crate) fn with_all_under_way(state: &State) -> State {
    copy(state, true)
}

fn copy(state: &State, with_under_way: bool) -> State {
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
        let made_at = directory.made_at;
        let directory = Directory { visible, durable, origin, pending, made_at, ..Directory::default() };
        insert(&mut copy, path, directory);
    }
    let under_way = state.traffic.writes.values().filter(|_| with_under_way);
    for write in under_way {
        // A file without a name is left by no crash.
        let Some(node) = copies.get(&Arc::as_ptr(&write.node)) else { continue };
        let fits = node.lock().fits(write.offset, write.data.len() as u64, copy.room_pages());
        if fits > 0 {
            let sequence = copy.next_sequence();
            node.lock().write(sequence, write.offset, &write.data[..fits as usize]);
        }
    }
    copy
}

/// A disk whose unsynced directories, names and images are picked by the given functions, all durable.
fn after_power_cut(
    state: &State,
    rng: &mut Rng,
    is_there: impl Fn(u64, &mut Rng) -> bool,
    names: impl Fn(&Directory, &mut Rng) -> Names,
    image: impl Fn(&Node, &mut Rng) -> Image,
) -> State {
    let mut after = state.successor();
    let mut missing: Vec<&PathBuf> = Vec::new();
    // A file that has names in several directories is one file.
    let mut left: BTreeMap<*const Mutex<Node>, NodeRef> = BTreeMap::new();
    // A directory comes behind the one above it.
    for (path, directory) in &state.directories {
        let is_in_missing = missing.iter().any(|above| path.starts_with(above));
        if is_in_missing || directory.made_at.is_some_and(|made_at| !is_there(made_at, rng)) {
            missing.push(path);
            continue;
        }
        let survivors = names(directory, rng);
        let survivors = survivors.into_iter().map(|(name, node)| {
            let survives = || {
                let node = node.lock();
                let image = image(&node, rng);
                survivor(&name, image, node.reserved_pages())
            };
            let survivor = left.entry(Arc::as_ptr(&node)).or_insert_with(survives).clone();
            (name, survivor)
        });
        insert(&mut after, path, Directory::new(survivors.collect()));
    }
    after
}

/// A file after a power cut: space that the image has no length for is free again.
pub(crate) fn survivor(name: &str, image: Image, reserved_pages: u64) -> NodeRef {
    let reserved_pages = reserved_pages.min(image.len().div_ceil(PAGE as u64));
    Arc::new(Mutex::new(Node::new(name.into(), image, reserved_pages)))
}

pub(crate) fn insert(state: &mut State, path: &Arc<PathBuf>, directory: Directory) {
    for node in directory.visible.values() {
        state.retain(node);
    }
    state.directories.insert(path.clone(), directory);
}

// --- Profile::Ordered ---

/// The place in the order of all changes at which the power fails: the change there is cut short.
fn pick_end(state: &State, rng: &mut Rng) -> u64 {
    let mut places: Vec<u64> = places(state).into_keys().collect();
    places.push(state.sequence());
    places[rng.index(places.len())]
}

/// The place of each change in doubt, and how many sectors it writes.
fn places(state: &State) -> BTreeMap<u64, u64> {
    let mut places = BTreeMap::new();
    for directory in state.directories.values() {
        places.extend(directory.made_at.map(|made_at| (made_at, 0)));
        places.extend(directory.pending.iter().map(|op| (op.sequence, 0)));
        for node in directory.nodes() {
            for op in &node.lock().pending {
                let sectors = places.entry(op.sequence).or_insert(0);
                *sectors = op.change.sectors().max(*sectors);
            }
        }
    }
    places
}

/// Where the power can fail on a disk that keeps the order of everything: the changes below `end` are whole,
/// and of the one at `end` so many sectors are there.
#[derive(Clone, Copy)]
pub(crate) struct CutPoint {
    end: u64,
    sectors: u64,
}

impl CutPoint {
    /// Every one of a disk, each once.
    pub(crate) fn all(state: &State) -> Vec<CutPoint> {
        let mut points = vec![CutPoint { end: 0, sectors: 0 }];
        for (place, sectors) in places(state) {
            points.extend((1..sectors).map(|sectors| CutPoint { end: place, sectors }));
            points.push(CutPoint { end: place + 1, sectors: 0 });
        }
        points
    }

    /// What a power cut here leaves.
    pub(crate) fn crash(self, state: &State) -> State {
        let end = self.end;
        let names = |directory: &Directory, _: &mut Rng| names_before(directory, end);
        let image = |node: &Node, _: &mut Rng| image_before(node, end, |sectors| self.sectors.min(sectors));
        after_power_cut(state, &mut Rng::new(0), |made_at, _| made_at < end, names, image)
    }
}

fn names_before(directory: &Directory, end: u64) -> Names {
    let mut names = directory.durable.clone();
    for op in directory.pending.iter().take_while(|op| op.sequence < end) {
        op.change.apply(&mut names);
    }
    names
}

/// The changes before `end`, and of the one there as many sectors as `cut` says, which gets how many it has.
fn image_before(node: &Node, end: u64, mut cut: impl FnMut(u64) -> u64) -> Image {
    let mut image = node.durable.clone();
    for op in node.pending.iter().take_while(|op| op.sequence <= end) {
        if op.sequence < end {
            op.change.apply(&mut image);
        } else if let Change::Write { offset, data } = &op.change {
            let stop = (offset / SECTOR as u64 + cut(op.change.sectors())) * SECTOR as u64;
            let count = stop.saturating_sub(*offset).min(data.len() as u64) as usize;
            if count > 0 {
                image.write(*offset, &data[..count]);
            }
        }
    }
    image
}

// --- Profile::Posix, Profile::LyingDisk ---

/// Whether a directory in doubt is there.
fn by_chance(_made_at: u64, rng: &mut Rng) -> bool {
    rng.one_in(2)
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

fn posix_image(node: &Node, rng: &mut Rng) -> Image {
    History::of(node).pick(&node.durable, rng)
}

fn lying_image(node: &Node, rng: &mut Rng) -> Image {
    History::of_lies(node).pick(&node.origin, rng)
}
