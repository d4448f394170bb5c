//! All stripes of a log, the overflow list beside them, and the byte budget of what takes no ring.
//!
//! # Invariants
//! 1. Whatever holds an LSN and is not yet written lies in a ring or has drawn on the budget: memory is
//!    bounded by [`Stripes::outstanding_max`], one larger frame at a time excepted.
//! 2. Nobody waits here. No claim, no space or no budget is an answer, not a delay.

use braidlog_format::{BLOCK_LEN, Lsn};
use crossbeam_utils::CachePadded;

use crate::lsn::LsnAllocator;
use crate::primitive::atomic::{
    AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use crate::stripe::overflow::{BoxedFrame, Overflow};
use crate::stripe::{Content, FRAME_HEADER_LEN, Published, Stripe};

/// The least byte budget of frames outside the rings.
const BUDGET_MIN: u64 = 1 << 20;

/// The stripes and what stands beside them.
#[derive(Debug)]
pub(crate) struct Stripes {
    stripes: Box<[Stripe]>,
    pub(crate) overflow: Overflow,
    budget: Budget,
    /// Gives each thread, or writer handle, the stripe that it prefers: one after another, so that all are
    /// used. Relaxed: only uniqueness counts.
    next_hint: AtomicUsize,
}

/// How an attempt to place a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Placed {
    /// It is published.
    Yes {
        /// Its first LSN.
        lsn: Lsn,
        /// Whether a ring is more than half full by it.
        half_full: bool,
    },
    /// There is no room just now.
    Full,
    /// The log has ended; nothing was published.
    Ended,
    /// The caller's last check said no, under the claim; nothing was published.
    Refused,
}

impl Stripes {
    /// `count` stripes, a power of two, of `capacity` bytes each, a power of two.
    pub(crate) fn new(count: usize, capacity: usize) -> Stripes {
        assert!(count.is_power_of_two(), "a number of stripes is a power of two");
        Stripes {
            stripes: (0..count).map(|_| Stripe::new(capacity)).collect(),
            overflow: Overflow::new(),
            budget: Budget::new((capacity as u64).max(BUDGET_MIN)),
            next_hint: AtomicUsize::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.stripes.len()
    }

    pub(crate) fn get(&self, index: usize) -> &Stripe {
        &self.stripes[index]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stripe> {
        self.stripes.iter()
    }

    /// A stripe to prefer, a different one at each call until all were named.
    pub(crate) fn next_hint(&self) -> usize {
        self.next_hint.fetch_add(1, Relaxed) & (self.len() - 1)
    }

    /// Whether a frame with this body goes through a ring. Half a ring is the limit: so two frames fit,
    /// and one that waits for space always finds it.
    pub(crate) fn fits_ring(&self, body_len: u64) -> bool {
        body_len + FRAME_HEADER_LEN <= self.capacity() / 2
    }

    fn capacity(&self) -> u64 {
        self.stripes[0].capacity()
    }

    /// The most bytes that all frames which hold an LSN and are not yet written can take on disk: rings and
    /// budget, and the blocks that rounds cut short by gaps are padded to (one gap per claim, or per
    /// overflow frame, which the budget charges for).
    pub(crate) fn outstanding_max(&self) -> u64 {
        let rings = self.len() as u64 * (self.capacity() + 2 * BLOCK_LEN);
        let bytes = rings + self.budget.limit;
        // A round that ends for its length has a mebibyte of entries together with the frame that did not fit, with
        // which the next one begins: half a mebibyte each, on average. It costs at most two blocks beyond them.
        bytes + bytes / 32 + 4 * BLOCK_LEN
    }

    /// Bytes that wait in the rings. A snapshot.
    pub(crate) fn used(&self) -> u64 {
        self.iter().map(Stripe::used).sum()
    }

    /// Whether the rings together are at most half full. A snapshot.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.used() <= self.len() as u64 * self.capacity() / 2
    }

    /// Whether frames outside the rings wait or are being written.
    pub(crate) fn budget_used(&self) -> u64 {
        self.budget.used.load(Relaxed)
    }

    /// Places `content` in the preferred stripe, or the next that is not claimed; if all are claimed, on
    /// the overflow list. `admit` is asked last, after space was found: see [`crate::space`].
    #[inline]
    pub(crate) fn place(
        &self,
        preferred: usize,
        content: &Content<'_>,
        lsns: &LsnAllocator,
        admit: impl Fn() -> bool,
    ) -> Placed {
        let body_len = content.body_len();
        debug_assert!(self.fits_ring(body_len), "larger frames are boxed");
        for step in 0..self.len() {
            let stripe = &self.stripes[(preferred + step) & (self.len() - 1)];
            let Some(claim) = stripe.try_claim() else { continue };
            if !claim.has_space(body_len) {
                return Placed::Full;
            }
            if !admit() {
                return Placed::Refused;
            }
            return match claim.publish(content, lsns) {
                Published::Yes { lsn, half_full } => Placed::Yes { lsn, half_full },
                Published::Ended => Placed::Ended,
            };
        }
        self.place_boxed(content, lsns, admit)
    }

    /// Places `content` on the overflow list, if the budget allows.
    pub(crate) fn place_boxed(
        &self,
        content: &Content<'_>,
        lsns: &LsnAllocator,
        admit: impl Fn() -> bool,
    ) -> Placed {
        let Some(cost) = self.budget.take(Budget::cost(content.body_len())) else { return Placed::Full };
        if !admit() {
            self.give_back(cost);
            return Placed::Refused;
        }
        let mut body = Vec::with_capacity(content.body_len() as usize);
        content.for_each_piece(|piece| body.extend_from_slice(piece));
        let mut frame = BoxedFrame::new(content.count(), body, cost);
        let Some(lsn) = lsns.take(content.count()) else {
            self.give_back(cost);
            return Placed::Ended;
        };
        frame.lsn = lsn;
        self.overflow.push(frame);
        Placed::Yes { lsn, half_full: true }
    }

    /// Whether a frame with this body is larger than the whole budget, and travels alone.
    pub(crate) fn exceeds_budget(&self, body_len: u64) -> bool {
        Budget::cost(body_len) > self.budget.limit
    }

    /// Returns what a boxed frame drew.
    pub(crate) fn give_back(&self, cost: u64) {
        self.budget.give_back(cost);
    }
}

/// The bytes that frames outside the rings may take.
#[derive(Debug)]
struct Budget {
    limit: u64,
    /// What is drawn. Taken by writers (Acquire), given back by the coordinator (Release), so that a writer
    /// that gets budget sees the space gate as the coordinator left it: [budget.give].
    used: CachePadded<AtomicU64>,
}

impl Budget {
    fn new(limit: u64) -> Budget {
        Budget { limit, used: CachePadded::new(AtomicU64::new(0)) }
    }

    /// What a frame with this body draws: its bytes, and the blocks that a gap before it can cost on disk.
    fn cost(body_len: u64) -> u64 {
        body_len + FRAME_HEADER_LEN + 2 * BLOCK_LEN
    }

    /// Draws `cost`; a frame larger than the limit draws all of it, alone.
    fn take(&self, cost: u64) -> Option<u64> {
        let cost = cost.min(self.limit);
        self.used
            .fetch_update(Acquire, Relaxed, |used| (used + cost <= self.limit).then_some(used + cost)) // [budget.give]
            .ok()
            .map(|_| cost)
    }

    fn give_back(&self, cost: u64) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("budget_given_back_relaxed") {
            self.used.fetch_sub(cost, Relaxed);
            return;
        }
        self.used.fetch_sub(cost, Release); // [budget.give]
    }
}
