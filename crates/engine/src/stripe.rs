//! One stripe: many writers fill it, one at a time by claim; the coordinator alone empties it.
//!
//! # Protocol
//! claim -> space -> copy -> LSN -> publish (`tail`) -> gather (coordinator) -> release (`head`).
//!
//! A frame in the ring is 16 bytes (first LSN, body length, count of LSNs) and a body: the frame's entries
//! in their form on disk, headers *unplaced* (no LSN, timestamp or checksum yet). So a frame never takes
//! fewer bytes in the ring than on disk, and one LSN store publishes a batch of any size.
//!
//! # Invariants
//! 1. Bytes in `head..tail` are published and immutable; bytes in `tail..head + capacity` belong to the
//!    claim holder.
//! 2. The LSN is drawn under the claim, so LSNs rise along the ring and the coordinator merges stripes
//!    instead of sorting them.
//! 3. A claim is held for a bounded number of instructions: nobody waits, allocates or runs user code under
//!    it, and nothing after the LSN can fail.
//!
//! # A race that is handled
//! A writer is descheduled between LSN and publish: the coordinator, which merges by LSN, stops at the gap.
//! Everything before it is flushed, nothing behind it is acknowledged.

pub(crate) mod overflow;
mod ring;

use std::io::IoSlice;

use braidlog_format::{ENTRY_HEADER_LEN, EntryHeader, Flags, Kind, Lsn, entry_len, padded_len};
use crossbeam_utils::CachePadded;

use crate::lsn::LsnAllocator;
use crate::primitive::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use ring::Ring;

/// Bytes of a frame's header in a ring.
pub(crate) const FRAME_HEADER_LEN: u64 = 16;

/// One entry that takes an LSN, as it is to be appended: its payload in pieces.
#[derive(Clone, Copy, Debug)]
pub struct EntryParts<'a> {
    /// The user's, or one of the log's own that takes an LSN.
    pub kind: Kind,
    /// The bytes of its extended fields; empty in a plain entry.
    pub fields: &'a [u8],
    /// The pieces of its payload proper, in order.
    pub pieces: &'a [IoSlice<'a>],
}

impl EntryParts<'_> {
    pub(crate) fn flags(&self) -> Flags {
        if self.fields.is_empty() { Flags::NONE } else { Flags::EXTENDED }
    }

    /// Bytes of the payload proper.
    pub(crate) fn proper_len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Bytes of the payload, fields included.
    pub(crate) fn payload_len(&self) -> u64 {
        self.fields.len() as u64 + self.proper_len()
    }

    /// Fields and pieces.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.fields).chain(self.pieces.iter().map(|piece| &**piece))
    }
}

/// What is to be put in a ring: one record, or the body of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// One record and the CRC-32 of its payload.
    Record { kind: Kind, payload: &'a [u8], checksum: u32 },
    /// One record in pieces, the bytes of its payload and their CRC-32.
    Parts { parts: EntryParts<'a>, payload_len: u32, checksum: u32 },
    /// A batch: `count` entries in their form on disk, headers unplaced.
    Batch { body: &'a [u8], count: u64 },
}

impl Content<'_> {
    /// How many LSNs it takes.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Content::Record { .. } | Content::Parts { .. } => 1,
            Content::Batch { count, .. } => *count,
        }
    }

    /// Bytes of its entries, in the ring and on disk.
    pub(crate) fn body_len(&self) -> u64 {
        match self {
            Content::Record { payload, .. } => entry_len(payload.len() as u64),
            Content::Parts { payload_len, .. } => entry_len(u64::from(*payload_len)),
            Content::Batch { body, .. } => body.len() as u64,
        }
    }

    /// Hands out the body piece by piece.
    pub(crate) fn for_each_piece(&self, mut each: impl FnMut(&[u8])) {
        match *self {
            Content::Record { kind, payload, checksum } => {
                each(&EntryHeader::encode_unplaced(kind, Flags::NONE, payload.len() as u32, checksum));
                each(payload);
                let padding = self.body_len() - ENTRY_HEADER_LEN - payload.len() as u64;
                if padding > 0 {
                    each(&[0; 8][..padding as usize]);
                }
            }
            Content::Parts { parts, payload_len, checksum } => {
                each(&EntryHeader::encode_unplaced(parts.kind, parts.flags(), payload_len, checksum));
                parts.all().for_each(&mut each);
                each(&[0; 8][..(padded_len(u64::from(payload_len)) - u64::from(payload_len)) as usize]);
            }
            Content::Batch { body, .. } => each(body),
        }
    }
}

/// A published frame, found by the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The first LSN of the frame.
    pub(crate) lsn: Lsn,
    /// How many LSNs it takes.
    pub(crate) count: u64,
    /// Bytes of its body.
    pub(crate) body_len: u64,
    /// Where its body begins.
    body: u64,
}

impl Frame {
    /// No frame: stands where none is.
    pub(crate) const NONE: Frame = Frame { lsn: Lsn::ZERO, count: 0, body_len: 0, body: 0 };

    /// The position behind the frame.
    pub(crate) fn end(&self) -> u64 {
        self.body + self.body_len
    }
}

/// One lock-free byte ring.
#[derive(Debug)]
pub(crate) struct Stripe {
    producer: CachePadded<Producer>,
    /// The end of what is published. Written by the claim holder (Release), read by the coordinator
    /// (Acquire). Claim holders know it from [`Producer::tail`].
    tail: CachePadded<AtomicU64>,
    /// The end of what the coordinator has copied out. Written by the coordinator (Release), read by the
    /// claim holder (Acquire) when its cached copy leaves too little space.
    head: CachePadded<AtomicU64>,
    ring: Ring,
}

/// What the claim holder touches on every append, together on one cache line.
#[derive(Debug)]
struct Producer {
    /// Whether a writer holds the stripe. Taken with Acquire, given up with Release: [stripe.claim].
    claimed: AtomicBool,
    /// What `tail` was last set to. A copy of its own, so that an append reads one cache line and not two, and
    /// so that a model sees the coordinator's read as the only other access to `tail`. Only touched under
    /// the claim, hence Relaxed.
    tail: AtomicU64,
    /// The last value of `head` that a claim holder has read. Only touched under the claim, hence Relaxed.
    head_seen: AtomicU64,
}

impl Stripe {
    /// An empty stripe of `capacity` bytes, a power of two.
    pub(crate) fn new(capacity: usize) -> Stripe {
        Stripe {
            producer: CachePadded::new(Producer {
                claimed: AtomicBool::new(false),
                tail: AtomicU64::new(0),
                head_seen: AtomicU64::new(0),
            }),
            tail: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
            ring: Ring::new(capacity),
        }
    }

    /// Takes the stripe for one append; `None` if another writer holds it.
    pub(crate) fn try_claim(&self) -> Option<Claim<'_>> {
        self.producer
            .claimed
            .compare_exchange(false, true, Acquire, Relaxed) // [stripe.claim]
            .ok()
            .map(|_| Claim { stripe: self })
    }

    /// Bytes of the ring.
    pub(crate) fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// Bytes published and not yet released. A snapshot: both ends move.
    pub(crate) fn used(&self) -> u64 {
        // Relaxed: the value only steers when the coordinator looks, never what it reads.
        self.tail.load(Relaxed).saturating_sub(self.head.load(Relaxed))
    }

    /// The end of what is published. Only the coordinator calls this: what lies before it may be read.
    pub(crate) fn published(&self) -> u64 {
        self.tail.load(Acquire) // [stripe.publish]
    }

    /// The frame at `position`, which lies before a value of [`Stripe::published`] and at or after the last
    /// [`Stripe::release`]. Only the coordinator calls this.
    #[expect(unsafe_code, reason = "reads ring memory that the protocol has made readable")]
    pub(crate) fn frame_at(&self, position: u64) -> Frame {
        let mut header = [0; FRAME_HEADER_LEN as usize];
        // SAFETY: the bytes lie in head..tail (the caller's promise), so they were written before the store
        // that `published` acquired, and no writer touches them before `release` passes them.
        unsafe { self.ring.read(position, &mut header) };
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        Frame {
            lsn: Lsn(word(0)),
            body_len: word(8) & u64::from(u32::MAX),
            count: word(8) >> 32,
            body: position + FRAME_HEADER_LEN,
        }
    }

    /// Copies from a frame's body, starting `at` bytes into it. Only the coordinator calls this.
    #[expect(unsafe_code, reason = "reads ring memory that the protocol has made readable")]
    pub(crate) fn read_body(&self, frame: &Frame, at: u64, out: &mut [u8]) {
        assert!(at + out.len() as u64 <= frame.body_len, "the read ends inside the frame");
        // SAFETY: as in `frame_at`; the assertion keeps the read inside a frame that was published whole.
        unsafe { self.ring.read(frame.body + at, out) };
    }

    /// Gives the bytes before `position` back to writers. Only the coordinator calls this.
    pub(crate) fn release(&self, position: u64) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("released_relaxed") {
            return self.head.store(position, Relaxed);
        }
        self.head.store(position, Release); // [stripe.release]
    }
}

/// The right to append one frame to a stripe. Dropping it gives the stripe up.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    stripe: &'a Stripe,
}

/// What became of a frame under a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Published {
    /// It is in the stripe.
    Yes {
        /// Its first LSN.
        lsn: Lsn,
        /// Whether the ring is more than half full by now, as far as this writer knows.
        half_full: bool,
    },
    /// The log has ended: nothing was published.
    Ended,
}

impl Claim<'_> {
    /// Whether a frame with a body of this length fits now.
    pub(crate) fn has_space(&self, body_len: u64) -> bool {
        let need = FRAME_HEADER_LEN + body_len;
        let stripe = self.stripe;
        let tail = stripe.producer.tail.load(Relaxed);
        let free = |head: u64| stripe.ring.capacity() - (tail - head);
        if free(stripe.producer.head_seen.load(Relaxed)) >= need {
            return true;
        }
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("room_believed_without_a_look") {
            // What the writer would find if the coordinator had kept up.
            stripe.producer.head_seen.store(tail, Relaxed);
            return true;
        }
        let head = stripe.head.load(Acquire); // [stripe.release]
        stripe.producer.head_seen.store(head, Relaxed);
        free(head) >= need
    }

    /// Copies `content` in, draws its LSNs and publishes it.
    ///
    /// # Panics
    /// If [`Claim::has_space`] does not hold.
    #[expect(unsafe_code, reason = "writes ring memory that the claim has made writable")]
    pub(crate) fn publish(self, content: &Content<'_>, lsns: &LsnAllocator) -> Published {
        let stripe = self.stripe;
        let body_len = content.body_len();
        let tail = stripe.producer.tail.load(Relaxed);
        let end = tail + FRAME_HEADER_LEN + body_len;
        let head = stripe.producer.head_seen.load(Relaxed);
        let used = end - head;
        assert!(used <= stripe.ring.capacity(), "space was found under this claim");
        let mut position = tail + FRAME_HEADER_LEN;
        content.for_each_piece(|piece| {
            // SAFETY: tail..end lies in tail..head + capacity (asserted above, with a `head` that was
            // acquired under this or an earlier claim), which belongs to the claim holder alone: the
            // coordinator reads before `tail` only and other writers are kept out by the claim.
            unsafe { stripe.ring.write(position, piece) };
            position += piece.len() as u64;
        });
        // From here to the store of `tail` an LSN exists that nobody can see: nothing may fail or wait.
        let Some(lsn) = lsns.take(content.count()) else { return Published::Ended };
        let sizes = body_len | content.count() << 32;
        let mut header = [0; FRAME_HEADER_LEN as usize];
        header[..8].copy_from_slice(&lsn.0.to_le_bytes());
        header[8..].copy_from_slice(&sizes.to_le_bytes());
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("published_before_the_copy") {
            stripe.tail.store(end, Release);
        }
        // SAFETY: as above.
        unsafe { stripe.ring.write(tail, &header) };
        #[cfg(not(braidlog_sabotage))]
        let order = Release;
        #[cfg(braidlog_sabotage)]
        let order = if braidlog_sabotage::is("published_relaxed") { Relaxed } else { Release };
        stripe.tail.store(end, order); // [stripe.publish]
        stripe.producer.tail.store(end, Relaxed);
        let half_full = used > stripe.ring.capacity() / 2 && {
            let head = stripe.head.load(Acquire); // [stripe.release]
            stripe.producer.head_seen.store(head, Relaxed);
            end - head > stripe.ring.capacity() / 2
        };
        Published::Yes { lsn, half_full }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        #[cfg(braidlog_sabotage)]
        if braidlog_sabotage::is("claim_given_up_relaxed") {
            return self.stripe.producer.claimed.store(false, Relaxed);
        }
        self.stripe.producer.claimed.store(false, Release); // [stripe.claim]
    }
}
