//! Every image of a crash after a few operations, each by its number.
//!
//! The rule: the images are a product of independent choices (the names of a directory, the length of a file,
//! the state of a page), so that image `n` is found by division, without the ones before it: a run over all
//! of them can be parted, sampled and taken up again, and a failure is told by one number.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::crash::{CutPoint, insert, survivor, with_all_under_way};
use crate::directory::{Directory, Names};
use crate::history::History;
use crate::image::{Image, PAGE, Page, SECTOR};
use crate::node::{Change, Node, NodeRef};
use crate::state::State;
use crate::{Rng, SimDisk};

/// Outcomes of one directory, or of one page, beyond which a workload is not tiny.
const OUTCOMES_MAX: usize = 65_536;

/// Which images [`SimDisk::crash_images`] enumerates. Each bound but the first contains the one before it.
///
/// | | `Pages` | `Sectors` | `Damage` |
/// |---|---|---|---|
/// | directories | each set of the unsynced ones | same | same |
/// | names of a directory | each subset of the unsynced changes | same | same |
/// | length of a file | synced, after each change, or at a page boundary in a write that extends the file | also at a sector boundary there | as `Sectors` |
/// | page of 4096 bytes that an unsynced write touched | synced, or as after any of its writes | also torn between two of these at any sector boundary, with the newer bytes in front or behind | also one sector of 512 bytes of any of these first states zeros, or garbage |
///
/// Writes that were called and have not returned (held, hung, or waiting to be reordered) are in doubt like the
/// ones that have, as the last ones in the order of their calls.
///
/// The choices are independent of each other, and each image of their product comes once; two files of the
/// same bytes count as different ones.
///
/// Left to the seeds of [`Profile::Posix`](crate::Profile::Posix): more than one seam or damaged sector in a
/// page, seams within a sector, old blocks of the device in place of garbage, and lengths anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Bound {
    /// All that [`Profile::Ordered`](crate::Profile::Ordered) may leave: each prefix of the operations, with
    /// the last write cut at each of its sectors.
    Ordered,
    /// A power cut that tears no page.
    Pages,
    /// One that tears pages between sectors.
    Sectors,
    /// One that also ruins the sector that was being written.
    Damage,
}

/// All crash images of one moment within a [`Bound`], numbered from 0, which is the one where nothing came
/// through that was not synced. Made by [`SimDisk::crash_images`]; holds a copy of what it needs.
///
/// ```
/// use std::path::Path;
///
/// use braidlog_sim::{Bound, SimDisk};
/// use braidlog_storage::{FileAccess, FileIo, Storage};
///
/// # fn main() -> std::io::Result<()> {
/// let disk = SimDisk::new();
/// let dir = disk.open_dir(Path::new("data"), true)?;
/// let file = dir.open("log", FileAccess::CreateNew, FileIo::Buffered)?;
/// file.write_at(b"hello", 0)?;
///
/// let images = disk.crash_images(Bound::Pages);
/// let found: Vec<_> = images.iter().map(|image| image.list_raw("data")).collect();
/// // No file; an empty one; one of five bytes, which are zeros or were written.
/// assert_eq!(images.total(), 4);
/// assert!(found[0].is_empty());
/// # Ok(())
/// # }
/// ```
pub struct CrashImages {
    kind: Kind,
    total: u64,
}

enum Kind {
    Ordered { state: State, points: Vec<CutPoint> },
    Product { empty: State, directories: Vec<(Arc<PathBuf>, DirectoryOutcomes)>, sets: Vec<DirectorySet> },
}

impl CrashImages {
    pub(crate) fn of(state: &State, bound: Bound) -> CrashImages {
        let state = with_all_under_way(state);
        if bound == Bound::Ordered {
            let points = CutPoint::all(&state);
            return CrashImages { total: points.len() as u64, kind: Kind::Ordered { state, points } };
        }
        let outcomes_of = |directory| DirectoryOutcomes::of(directory, bound);
        let directories: Vec<_> = state
            .directories
            .iter()
            .map(|(path, directory)| (path.clone(), outcomes_of(directory)))
            .collect();
        let mut sets = directory_sets(&state);
        for set in &mut sets {
            set.total = product(set.there.iter().map(|&place| directories[place].1.total));
        }
        let total = sum(sets.iter().map(|set| set.total));
        CrashImages { kind: Kind::Product { empty: state.successor(), directories, sets }, total }
    }

    /// How many images there are; `u64::MAX` if there are that many or more.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The image of this number, a disk of its own.
    ///
    /// # Panics
    /// If `number` is not below [`total`](CrashImages::total).
    pub fn image(&self, number: u64) -> SimDisk {
        assert!(number < self.total, "there are {} images, and none of number {number}", self.total);
        let state = match &self.kind {
            Kind::Ordered { state, points } => points[number as usize].crash(state),
            Kind::Product { empty, directories, sets } => {
                let (set, number) = find(sets, |set| set.total, number);
                let mut number = Digits(number);
                let mut state = empty.successor();
                for (path, outcomes) in set.there.iter().map(|&place| &directories[place]) {
                    insert(&mut state, path, outcomes.pick(number.next(outcomes.total)));
                }
                state
            }
        };
        SimDisk::from_state(state)
    }

    /// All images, in the order of their numbers, each made when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = SimDisk> + '_ {
        (0..self.total).map(|number| self.image(number))
    }
}

impl std::fmt::Debug for CrashImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashImages").field("total", &self.total).finish_non_exhaustive()
    }
}

/// A number taken apart into digits of different bases.
struct Digits(u64);

impl Digits {
    fn next(&mut self, base: u64) -> u64 {
        let digit = self.0 % base;
        self.0 /= base;
        digit
    }
}

fn product(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(1, u64::saturating_mul)
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Which of several sets of images holds number `number` of all, and its number there.
fn find<T>(sets: &[T], total_of: impl Fn(&T) -> u64, mut number: u64) -> (&T, u64) {
    for set in sets {
        let total = total_of(set);
        if number < total {
            return (set, number);
        }
        number -= total;
    }
    unreachable!("the number is below the sum of all")
}

// --- Names ---

/// Directories that a crash may leave together, by their places.
#[derive(Clone, Default)]
struct DirectorySet {
    there: Vec<usize>,
    missing: Vec<Arc<PathBuf>>,
    total: u64,
}

/// Each set of the directories in doubt; one that is missing takes those below with it.
fn directory_sets(state: &State) -> Vec<DirectorySet> {
    let mut sets = vec![DirectorySet::default()];
    for (place, (path, directory)) in state.directories.iter().enumerate() {
        let mut with = Vec::new();
        for set in &mut sets {
            if set.missing.iter().any(|above| path.starts_with(&**above)) {
                continue;
            }
            if directory.made_at.is_some() {
                with.push(set.clone());
                set.missing.push(path.clone());
                continue;
            }
            set.there.push(place);
        }
        for set in &mut with {
            set.there.push(place);
        }
        sets.append(&mut with);
        assert!(sets.len() <= OUTCOMES_MAX, "too many unsynced directories to enumerate what a crash leaves");
    }
    sets
}

struct DirectoryOutcomes {
    files: Vec<FileOutcomes>,
    sets: Vec<NameSet>,
    total: u64,
}

/// Names that a crash may leave together, each with its place among the files.
struct NameSet {
    names: Vec<(String, usize)>,
    total: u64,
}

impl DirectoryOutcomes {
    fn of(directory: &Directory, bound: Bound) -> DirectoryOutcomes {
        let mut files = Vec::new();
        let mut places = BTreeMap::new();
        for node in directory.nodes() {
            places.entry(Arc::as_ptr(node)).or_insert_with(|| {
                files.push(FileOutcomes::of(&node.lock(), bound));
                files.len() - 1
            });
        }
        let set_of = |names: Names| {
            let place_of = |node: &NodeRef| places[&Arc::as_ptr(node)];
            let names: Vec<_> = names.into_iter().map(|(name, node)| (name, place_of(&node))).collect();
            let total = product(names.iter().map(|&(_, place)| files[place].total));
            NameSet { names, total }
        };
        let sets: Vec<_> = name_sets(directory).into_iter().map(set_of).collect();
        let total = sum(sets.iter().map(|set| set.total));
        DirectoryOutcomes { files, sets, total }
    }

    fn pick(&self, number: u64) -> Directory {
        let (set, number) = find(&self.sets, |set| set.total, number);
        let mut number = Digits(number);
        let survivors = set.names.iter().map(|(name, place)| {
            let file = &self.files[*place];
            let image = file.pick(number.next(file.total));
            (name.clone(), survivor(name, image, file.reserved_pages))
        });
        Directory::new(survivors.collect())
    }
}

/// What each subset of the unsynced changes makes of the names, every outcome once.
fn name_sets(directory: &Directory) -> Vec<Names> {
    let key_of = |names: &Names| -> Vec<_> {
        names.iter().map(|(name, node)| (name.clone(), Arc::as_ptr(node))).collect()
    };
    let mut seen = BTreeSet::from([key_of(&directory.durable)]);
    let mut sets = vec![directory.durable.clone()];
    for op in &directory.pending {
        for index in 0..sets.len() {
            let mut names = sets[index].clone();
            op.change.apply(&mut names);
            if seen.insert(key_of(&names)) {
                sets.push(names);
            }
        }
        assert!(sets.len() <= OUTCOMES_MAX, "too many changes of names to enumerate what a crash leaves");
    }
    sets
}

// --- Bytes ---

struct FileOutcomes {
    lens: Vec<LenOutcomes>,
    total: u64,
    reserved_pages: u64,
}

/// The images of one length.
struct LenOutcomes {
    /// The one in which each page is as it was synced.
    base: Image,
    /// The states of each page in doubt.
    pages: Vec<(u64, Vec<Arc<Page>>)>,
    total: u64,
}

impl FileOutcomes {
    fn of(node: &Node, bound: Bound) -> FileOutcomes {
        let history = History::of(node);
        let states = history.pages.iter().map(|(&index, versions)| {
            let old = node.durable.page(index);
            let versions = versions.iter().map(|(_, page)| page.clone());
            (index, page_states(index, std::iter::once(old).chain(versions), bound))
        });
        let states: Vec<_> = states.collect();
        let lens = lens(node, &history, bound).into_iter().map(|len| LenOutcomes::of(node, len, &states));
        let lens: Vec<_> = lens.collect();
        let total = sum(lens.iter().map(|len| len.total));
        FileOutcomes { lens, total, reserved_pages: node.reserved_pages() }
    }

    fn pick(&self, number: u64) -> Image {
        let (len, number) = find(&self.lens, |len| len.total, number);
        let mut number = Digits(number);
        let mut image = len.base.clone();
        for (index, states) in &len.pages {
            match number.next(states.len() as u64) {
                // The base has it so.
                0 => {}
                state => image.set_page(*index, states[state as usize].clone()),
            }
        }
        image
    }
}

impl LenOutcomes {
    fn of(node: &Node, len: u64, states: &[(u64, Vec<Arc<Page>>)]) -> LenOutcomes {
        let mut base = node.durable.clone();
        base.cut(len);
        base.grow(len);
        let is_seen = |index: u64| index * (PAGE as u64) < len;
        let pages = states.iter().filter(|(index, _)| is_seen(*index)).map(|(index, states)| {
            let kept = len - index * PAGE as u64;
            let states = if kept < PAGE as u64 { cut_states(states, kept as usize) } else { states.clone() };
            (*index, states)
        });
        let pages: Vec<_> = pages.collect();
        let total = product(pages.iter().map(|(_, states)| states.len() as u64));
        LenOutcomes { base, pages, total }
    }
}

/// The lengths that a crash may leave: the synced one first.
fn lens(node: &Node, history: &History, bound: Bound) -> Vec<u64> {
    let step = if bound == Bound::Pages { PAGE } else { SECTOR } as u64;
    let low = history.lens.iter().copied().min().unwrap_or(0);
    let high = history.lens.iter().copied().max().unwrap_or(0);
    let mut lens = history.lens.clone();
    for op in &node.pending {
        if let Change::Write { offset, data } = &op.change {
            let end = high.min(offset + data.len() as u64);
            let start = offset.next_multiple_of(step).max(low.next_multiple_of(step));
            lens.extend((start..end).step_by(step as usize));
        }
    }
    let mut seen = BTreeSet::new();
    lens.retain(|&len| seen.insert(len));
    lens
}

/// The states in which a crash may leave a page with these versions, the first of which is the synced one;
/// each once.
fn page_states(index: u64, versions: impl Iterator<Item = Arc<Page>>, bound: Bound) -> Vec<Arc<Page>> {
    let mut states = Distinct::default();
    for version in versions {
        states.push(version);
    }
    let versions = states.pages.clone();
    let sectors = || (0..PAGE).step_by(SECTOR);
    if bound >= Bound::Sectors {
        for (place, newer) in versions.iter().enumerate() {
            for older in &versions[..place] {
                for seam in sectors().skip(1) {
                    states.push(Arc::new(torn(newer, older, seam)));
                    states.push(Arc::new(torn(older, newer, seam)));
                }
            }
        }
    }
    if bound >= Bound::Damage && versions.len() > 1 {
        for version in &versions {
            for start in sectors() {
                let mut page = **version;
                page[start..start + SECTOR].fill(0);
                states.push(Arc::new(page));
                Rng::new(index << 16 | start as u64).fill(&mut page[start..start + SECTOR]);
                states.push(Arc::new(page));
            }
        }
    }
    states.pages
}

/// A page that is `front` up to `seam` and `back` from there on.
fn torn(front: &Page, back: &Page, seam: usize) -> Page {
    let mut page = *back;
    page[..seam].copy_from_slice(&front[..seam]);
    page
}

/// The same states of a page in which the file ends after `kept` bytes; each once.
fn cut_states(states: &[Arc<Page>], kept: usize) -> Vec<Arc<Page>> {
    let mut cut = Distinct::default();
    for state in states {
        let mut page = **state;
        page[kept..].fill(0);
        cut.push(Arc::new(page));
    }
    cut.pages
}

/// Different pages, in the order in which they came.
#[derive(Default)]
struct Distinct {
    pages: Vec<Arc<Page>>,
    seen: HashSet<Arc<Page>>,
}

impl Distinct {
    fn push(&mut self, page: Arc<Page>) {
        if self.seen.insert(page.clone()) {
            self.pages.push(page);
            assert!(self.pages.len() <= OUTCOMES_MAX, "too many writes to one page to enumerate its states");
        }
    }
}
