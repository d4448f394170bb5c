//! Records that take no ring: pushed by any thread without a claim, taken all at once by the coordinator.
//!
//! # Protocol
//! A Treiber stack whose only consumer takes the whole list with one swap, so that no node is ever read
//! after another thread may have freed it and no ABA can arise. The node is allocated before its LSN is
//! drawn: between LSN and publication there is one loop of compare-exchange and nothing that can fail.
#![expect(unsafe_code, reason = "an intrusive lock-free list owns its nodes through raw pointers")]

use std::ptr;

use braidlog_format::Lsn;

use crate::primitive::Witness;
use crate::primitive::atomic::{AtomicPtr, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// A record or batch outside the rings.
#[derive(Debug)]
pub(crate) struct BoxedFrame {
    next: *mut BoxedFrame,
    /// The first LSN of the frame.
    pub(crate) lsn: Lsn,
    /// How many LSNs it takes.
    pub(crate) count: u64,
    /// Its entries, headers unplaced.
    pub(crate) body: Vec<u8>,
    /// What it drew from the byte budget, to be given back.
    pub(crate) cost: u64,
    witness: Witness,
}

// SAFETY: `next` is only followed by the thread that owns the whole detached list.
unsafe impl Send for BoxedFrame {}

impl BoxedFrame {
    pub(crate) fn new(count: u64, body: Vec<u8>, cost: u64) -> Box<BoxedFrame> {
        Box::new(BoxedFrame {
            next: ptr::null_mut(),
            lsn: Lsn::ZERO,
            count,
            body,
            cost,
            witness: Witness::new(),
        })
    }
}

/// The list of boxed frames that the coordinator has not seen.
#[derive(Debug)]
pub(crate) struct Overflow {
    /// The newest node. Pushed with Release by writers, taken with Acquire by the coordinator: the pair
    /// makes the node's content visible.
    newest: AtomicPtr<BoxedFrame>,
}

impl Overflow {
    pub(crate) fn new() -> Overflow {
        Overflow { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Publishes a frame, whose LSN is set.
    pub(crate) fn push(&self, mut frame: Box<BoxedFrame>) {
        frame.witness.owned();
        let frame = Box::into_raw(frame);
        let mut newest = ptr::null_mut(); // A guess: the list is nearly always empty.
        loop {
            // SAFETY: `frame` came from the box above and is not shared before the exchange succeeds.
            unsafe { (*frame).next = newest };
            #[cfg(not(braidlog_sabotage))]
            let order = Release;
            #[cfg(braidlog_sabotage)]
            let order = if braidlog_sabotage::is("boxed_frame_pushed_relaxed") { Relaxed } else { Release };
            match self.newest.compare_exchange_weak(newest, frame, order, Relaxed) {
                // [overflow.publish] pairs with the swap in `take`.
                Ok(_) => return,
                Err(other) => newest = other,
            }
        }
    }

    /// Hands every published frame to `each`, in no order. Only the coordinator calls this.
    pub(crate) fn take(&self, mut each: impl FnMut(Box<BoxedFrame>)) {
        if self.newest.load(Relaxed).is_null() {
            return; // Relaxed is enough: a push that is missed here is seen at the next look.
        }
        // [overflow.publish]
        #[cfg(not(braidlog_sabotage))]
        let mut node = self.newest.swap(ptr::null_mut(), Acquire);
        #[cfg(braidlog_sabotage)]
        let mut node = if braidlog_sabotage::is("list_taken_in_two_steps") {
            let node = self.newest.load(Acquire);
            self.newest.store(ptr::null_mut(), Relaxed);
            node
        } else {
            self.newest.swap(ptr::null_mut(), Acquire)
        };
        while !node.is_null() {
            // SAFETY: the swap detached the list, so this thread alone owns its nodes; each came from
            // `Box::into_raw` and is turned back once.
            let mut frame = unsafe { Box::from_raw(node) };
            frame.witness.owned();
            node = frame.next;
            each(frame);
        }
    }
}

impl Drop for Overflow {
    fn drop(&mut self) {
        self.take(drop);
    }
}
