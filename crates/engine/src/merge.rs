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

use crate::stripe::Frame;
use crate::stripe::overflow::BoxedFrame;
use crate::stripes::Stripes;

/// The state of the merge.
#[derive(Debug)]
pub(crate) struct Merge {
    heads: Box<[Head]>,
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
    /// The frame at the head; `None` if none was published when last looked.
    frame: Option<Frame>,
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
        let head = || Head { frame: None, position: 0, published: 0, released: 0 };
        Merge { heads: (0..stripes).map(|_| head()).collect(), boxed: BTreeMap::new(), next, last: 0 }
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
            let lowest = self.heads.iter().filter_map(|head| head.frame).map(|frame| frame.lsn).min();
            self.next = self.next.max(lowest.unwrap_or(Lsn::ZERO));
        }
        self.find(stripes).or_else(|| {
            self.look_again(stripes);
            self.find(stripes)
        })
    }

    fn find(&mut self, stripes: &Stripes) -> Option<Next> {
        for step in 0..self.heads.len() {
            let stripe = (self.last + step) & (self.heads.len() - 1);
            let head = &mut self.heads[stripe];
            if head.frame.is_none() && head.position < head.published {
                head.frame = Some(stripes.get(stripe).frame_at(head.position));
            }
            if let Some(frame) = head.frame
                && frame.lsn == self.next
            {
                self.last = stripe;
                #[cfg(braidlog_sabotage)]
                if braidlog_sabotage::is("released_before_the_copy") {
                    stripes.get(stripe).release(frame.end());
                }
                return Some(Next::InRing { stripe, frame });
            }
        }
        let boxed = self.boxed.get(&self.next)?;
        Some(Next::Boxed { body_len: boxed.body.len() as u64 })
    }

    fn look_again(&mut self, stripes: &Stripes) {
        for (head, stripe) in self.heads.iter_mut().zip(stripes.iter()) {
            if head.frame.is_none() {
                head.published = stripe.published();
            }
        }
        stripes.overflow.take(|frame| {
            self.boxed.insert(frame.lsn, frame);
        });
    }

    /// Goes past a frame that [`Merge::peek`] found in a ring and the caller has copied.
    pub(crate) fn pass(&mut self, stripe: usize, frame: &Frame) {
        debug_assert_eq!(frame.lsn, self.next, "frames are passed in order");
        self.next = Lsn(frame.lsn.0 + frame.count);
        let head = &mut self.heads[stripe];
        head.position = frame.end();
        head.frame = None;
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
