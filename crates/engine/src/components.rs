//! Single parts of the engine, for the benchmark `components` and nobody else (cargo feature `components`, off by
//! default, no promise about any of it).
//!
//! The rule: each is the part itself with next to nothing around it, so that what is measured is what runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use braidlog_format::{Kind, Lsn};

use crate::committers::Committers;
use crate::lsn::LsnAllocator;
use crate::merge::{Merge, Next};
use crate::stripe::Content;
use crate::stripes::{Placed, Stripes};
use crate::waiters::Waiters;

/// The LSN allocator.
#[derive(Debug)]
pub struct Allocator(LsnAllocator);

impl Allocator {
    /// One that begins with the first LSN.
    #[expect(clippy::new_without_default, reason = "nothing generic makes one")]
    pub fn new() -> Allocator {
        Allocator(LsnAllocator::new(Lsn::FIRST))
    }

    /// Draws as many LSNs as a record or a batch takes; gives the first.
    #[inline]
    pub fn take(&self, count: u64) -> Lsn {
        self.0.take(count).expect("nobody has ended it")
    }

    /// The last that was drawn.
    pub fn last(&self) -> Lsn {
        self.0.last()
    }
}

/// Stripes, the allocator that orders their frames, and the merge that empties them.
#[derive(Debug)]
pub struct Lanes {
    stripes: Stripes,
    lsns: LsnAllocator,
    merge: Merge,
}

impl Lanes {
    /// So many stripes of so many bytes, both powers of two.
    pub fn new(stripes: usize, capacity: usize) -> Lanes {
        Lanes {
            stripes: Stripes::new(stripes, capacity),
            lsns: LsnAllocator::new(Lsn::FIRST),
            merge: Merge::new(stripes, Lsn::FIRST),
        }
    }

    /// Claims the preferred stripe, or the next that is free, copies a record in and publishes it; its LSN, or
    /// `None` if there is no room.
    #[inline]
    pub fn place(&self, preferred: usize, payload: &[u8], checksum: u32) -> Option<Lsn> {
        let content = Content::Record { kind: Kind(0), payload, checksum };
        match self.stripes.place(preferred, &content, &self.lsns, || true) {
            Placed::Yes { lsn, .. } => Some(lsn),
            Placed::Full | Placed::Ended | Placed::Refused => None,
        }
    }

    /// Copies every published frame behind the one before, in LSN order, and gives the rings back; how many
    /// frames there were, and bytes of their bodies.
    pub fn gather(&mut self, out: &mut [u8]) -> (u64, usize) {
        let (mut frames, mut len) = (0, 0);
        while let Some(next) = self.merge.peek(&self.stripes) {
            let end = len + next.body_len() as usize;
            match next {
                Next::InRing { stripe, frame } => {
                    self.stripes.get(stripe).read_body(&frame, 0, &mut out[len..end]);
                    self.merge.pass(&self.stripes, stripe, &frame);
                }
                Next::Boxed { .. } => {
                    let boxed = self.merge.take_boxed();
                    out[len..end].copy_from_slice(&boxed.body);
                    self.stripes.give_back(boxed.cost);
                }
            }
            (frames, len) = (frames + 1, end);
        }
        self.merge.release(&self.stripes);
        (frames, len)
    }
}

/// Threads that wait for the durable LSN.
#[derive(Debug)]
pub struct Waiting {
    waiters: Waiters,
    committers: Committers,
    entered: AtomicU64,
}

impl Waiting {
    /// With nothing durable yet.
    #[expect(clippy::new_without_default, reason = "nothing generic makes one")]
    pub fn new() -> Waiting {
        let durable = Lsn::ZERO;
        Waiting {
            waiters: Waiters::new(durable),
            committers: Committers::new(durable),
            entered: AtomicU64::new(0),
        }
    }

    /// Waits until this LSN is durable, as a committer does while another leads.
    pub fn wait(&self, lsn: Lsn) {
        let mut seat = self.committers.take_seat(lsn);
        if self.waiters.durable() >= lsn {
            return;
        }
        self.entered.fetch_add(1, Relaxed);
        while self.waiters.durable() < lsn {
            self.committers.sleep(seat);
            seat = self.committers.take_seat(lsn);
        }
    }

    /// How many have been entered since the beginning: each is asleep or about to be.
    pub fn entered(&self) -> u64 {
        self.entered.load(Relaxed)
    }

    /// Makes this LSN durable and wakes whoever it satisfies.
    pub fn advance(&self, durable: Lsn) {
        self.committers.sync_begins(durable);
        self.waiters.advance(durable);
        self.committers.call_satisfied(self.committers.last_sync());
    }
}
