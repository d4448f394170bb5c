//! The merge: finds published frames in LSN order, whatever stripe they are in.
//!
//! # Protocol
//! Each stripe is LSN-monotone, so the next frame of the log is at the head of one stripe, or on the
//! overflow list, or not published yet. The merge keeps the head of each stripe in view and compares; it
//! never sorts. Only the coordinator owns one.
//!
//! # Invariants
//! 1. Frames come out dense: the n-th frame begins at the LSN behind the one before.
//! 2. Ring bytes are released only after [`Merge::release`], when the caller has copied them.

use std::collections::BTreeMap;

use braidlog_format::Lsn;

use crate::stripe::overflow::BoxedFrame;
use crate::stripe::{Frame, Stripe};
use crate::stripes::Stripes;

/// No LSN: nothing is at a stripe's head.
const NONE: Lsn = Lsn(u64::MAX);

/// The state of the merge.
#[derive(Debug)]
pub(crate) struct Merge {
    heads: Box<[Head]>,
    /// The LSN of the frame at each stripe's head, or [`NONE`] if all that was published when last looked has been
    /// passed. Beside each other, since they are searched for every frame.
    lsns: Box<[Lsn]>,
    /// Frames taken from the overflow list whose turn has not come.
    boxed: BTreeMap<Lsn, Box<BoxedFrame>>,
    /// The LSN at which the next frame begins.
    next: Lsn,
    /// The stripe that gave the last frame: the likeliest to give the next.
    last: usize,
}

/// Where the merge stands in one stripe.
#[derive(Debug)]
struct Head {
    /// The frame at the head, if `lsns` has one.
    frame: Frame,
    /// Everything before has been passed.
    position: u64,
    published: u64,
    released: u64,
}

/// The next frame of the log.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is in a ring; [`Merge::pass`] goes on to the one behind it.
    InRing {
        /// The stripe.
        stripe: usize,
        /// The frame.
        frame: Frame,
    },
    /// It is outside the rings.
    Boxed {
        /// Bytes of its body.
        body_len: u64,
    },
}

impl Next {
    /// Bytes of the frame's body.
    pub(crate) fn body_len(&self) -> u64 {
        match self {
            Next::InRing { frame, .. } => frame.body_len,
            Next::Boxed { body_len } => *body_len,
        }
    }
}

impl Merge {
    pub(crate) fn new(stripes: usize, next: Lsn) -> Merge {
        let head = || Head { frame: Frame::NONE, position: 0, published: 0, released: 0 };
        Merge {
            heads: (0..stripes).map(|_| head()).collect(),
            lsns: (0..stripes).map(|_| NONE).collect(),
            boxed: BTreeMap::new(),
            next,
            last: 0,
        }
    }

    /// The LSN at which the next frame begins.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The next frame, if it is published. `None` means that the writer which drew [`Merge::next_lsn`] has
    /// not published yet, or that nobody drew it.
    pub(crate) fn peek(&mut self, stripes: &Stripes) -> Option<Next> {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("gap_passed_over") {
            let lowest = self.lsns.iter().filter(|lsn| **lsn != NONE).min();
            self.next = self.next.max(lowest.copied().unwrap_or(Lsn::ZERO));
        }
        self.find(stripes).or_else(|| {
            self.look_again(stripes);
            self.find(stripes)
        })
    }

    fn find(&mut self, stripes: &Stripes) -> Option<Next> {
        #[cfg(not(braidlog_sabotage))]
        let _ = stripes; // Only a deliberate bug asks for them here.
        if self.lsns[self.last] != self.next {
            let Some(stripe) = self.lsns.iter().position(|lsn| *lsn == self.next) else {
                let boxed = self.boxed.get(&self.next)?;
                return Some(Next::Boxed { body_len: boxed.body.len() as u64 });
            };
            self.last = stripe;
        }
        let stripe = self.last;
        let frame = self.heads[stripe].frame;
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("released_before_the_copy") {
            stripes.get(stripe).release(frame.end());
        }
        Some(Next::InRing { stripe, frame })
    }

    fn look_again(&mut self, stripes: &Stripes) {
        for (index, stripe) in stripes.iter().enumerate() {
            if self.lsns[index] == NONE {
                self.heads[index].published = stripe.published();
                self.look_at(index, stripe);
            }
        }
        stripes.overflow.take(|frame| {
            self.boxed.insert(frame.lsn, frame);
        });
    }

    /// Notes what is at a stripe's head.
    fn look_at(&mut self, index: usize, stripe: &Stripe) {
        let head = &mut self.heads[index];
        self.lsns[index] = NONE;
        if head.position < head.published {
            head.frame = stripe.frame_at(head.position);
            self.lsns[index] = head.frame.lsn;
        }
    }

    /// Goes past a frame that [`Merge::peek`] found in a ring and the caller has copied.
    pub(crate) fn pass(&mut self, stripes: &Stripes, stripe: usize, frame: &Frame) {
        debug_assert_eq!(frame.lsn, self.next, "frames are passed in order");
        self.next = Lsn(frame.lsn.0 + frame.count);
        self.heads[stripe].position = frame.end();
        self.look_at(stripe, stripes.get(stripe));
    }

    /// Takes the boxed frame that [`Merge::peek`] found, and goes past it.
    pub(crate) fn take_boxed(&mut self) -> Box<BoxedFrame> {
        let frame = self.boxed.remove(&self.next).expect("peek found it");
        self.next = Lsn(frame.lsn.0 + frame.count);
        frame
    }

    /// Gives the ring bytes of all passed frames back to writers. Says whether there were any.
    pub(crate) fn release(&mut self, stripes: &Stripes) -> bool {
        let mut any = false;
        for (head, stripe) in self.heads.iter_mut().zip(stripes.iter()) {
            if head.position != head.released {
                stripe.release(head.position);
                head.released = head.position;
                any = true;
            }
        }
        any
    }
}
