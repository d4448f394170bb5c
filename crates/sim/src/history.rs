//! What one file went through since its last sync, and the pick of what a power cut leaves of it.
//!
//! The rule: within a page writes keep their order, as what the device gets is the page as it stands in the
//! cache at some moment. Nothing else has an order: not pages, not lengths, not files.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Rng;
use crate::image::{Image, PAGE, Page, SECTOR, pages_of};
use crate::node::{Change, Node};

/// How the unsynced changes of one file or directory fare, as a whole.
pub(crate) enum Mood {
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
    pub(crate) fn pick(count: usize, rng: &mut Rng) -> Mood {
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

/// All that a file went through since its last sync, as far as an image can show it.
pub(crate) struct History {
    /// States of each touched page, each with the change after which it was so; the synced state is not
    /// among them.
    pub(crate) pages: BTreeMap<u64, Vec<(usize, Arc<Page>)>>,
    /// The length that was synced, and the one after each change.
    pub(crate) lens: Vec<u64>,
}

impl History {
    pub(crate) fn of(node: &Node) -> History {
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
    pub(crate) fn of_lies(node: &Node) -> History {
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

    pub(crate) fn pick(&self, base: &Image, rng: &mut Rng) -> Image {
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

/// One page after the power cut.
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
