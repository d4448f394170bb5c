//! The bytes of a stripe: a ring of words that one writer fills while one reader empties other words.
//!
//! Positions are byte counts since the log was opened; they never wrap in practice (2^64 bytes), their
//! place in the ring does. The ring knows nothing of who may touch what: its callers, the claim holder and
//! the coordinator, keep to ranges that do not overlap, and say so at each call.
#![expect(unsafe_code, reason = "two threads share the ring's memory by protocol, not by type")]

#[cfg(not(braidlog_loom))]
mod words {
    use std::cell::UnsafeCell;
    use std::ptr;

    /// A power of two of bytes.
    #[derive(Debug)]
    pub(crate) struct Ring {
        words: Box<[UnsafeCell<u64>]>,
    }

    // SAFETY: plain bytes. Concurrent access goes through `write` and `read`, whose callers promise disjoint
    // ranges or a happens-before edge between them.
    unsafe impl Sync for Ring {}

    impl Ring {
        /// A zeroed ring. The memory is mapped as it is first written, so that a large ring costs nothing
        /// to open.
        pub(crate) fn new(capacity: usize) -> Ring {
            assert!(capacity.is_power_of_two() && capacity >= 8, "a ring is a power of two of bytes");
            let words = Box::into_raw(vec![0u64; capacity / 8].into_boxed_slice());
            // SAFETY: `UnsafeCell<u64>` has the layout of `u64`, and the box is owned by nobody else.
            Ring { words: unsafe { Box::from_raw(words as *mut [UnsafeCell<u64>]) } }
        }

        pub(crate) fn capacity(&self) -> u64 {
            self.words.len() as u64 * 8
        }

        /// Where `position` lies, and how many bytes follow before the ring wraps.
        fn place(&self, position: u64) -> (*mut u8, usize) {
            let at = (position & (self.capacity() - 1)) as usize;
            // Through the whole slice, so that the pointer may be used for all of it.
            let base = self.words.as_ptr().cast::<u8>().cast_mut();
            (base.wrapping_add(at), self.words.len() * 8 - at)
        }

        /// Copies `bytes` to `position`.
        ///
        /// # Safety
        /// `bytes` fit in the ring, and until they are published nobody else reads or writes the ring
        /// at `position..position + bytes.len()`.
        #[inline]
        pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
            let (to, straight) = self.place(position);
            if bytes.len() <= straight {
                // SAFETY: `bytes` end before the ring wraps; source and ring are different allocations; the
                // caller keeps others away.
                return unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
            }
            let (first, rest) = bytes.split_at(straight);
            let (start, _) = self.place(0);
            // SAFETY: as above, up to the ring's end and from its start; `bytes` fit in the ring.
            unsafe {
                ptr::copy_nonoverlapping(first.as_ptr(), to, first.len());
                ptr::copy_nonoverlapping(rest.as_ptr(), start, rest.len());
            }
        }

        /// Copies from `position` into `out`.
        ///
        /// # Safety
        /// The bytes at `position..position + out.len()` fit in the ring, were written before an edge that
        /// this thread has acquired, and nobody writes them meanwhile.
        pub(crate) unsafe fn read(&self, position: u64, out: &mut [u8]) {
            let (from, straight) = self.place(position);
            if out.len() <= straight {
                // SAFETY: `out` ends before the ring wraps; destination and ring are different allocations; the
                // caller keeps writers away.
                return unsafe { ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
            }
            let (first, rest) = out.split_at_mut(straight);
            let (start, _) = self.place(0);
            // SAFETY: as above, up to the ring's end and from its start.
            unsafe {
                ptr::copy_nonoverlapping(from, first.as_mut_ptr(), first.len());
                ptr::copy_nonoverlapping(start, rest.as_mut_ptr(), rest.len());
            }
        }
    }
}

#[cfg(braidlog_loom)]
mod words {
    use loom::cell::UnsafeCell;

    /// A power of two of bytes, each in a cell of loom's, which notices every access that races.
    #[derive(Debug)]
    pub(crate) struct Ring {
        bytes: Box<[UnsafeCell<[u8; 8]>]>,
    }

    // SAFETY: as the production ring's; loom checks that the callers keep their promise.
    unsafe impl Sync for Ring {}

    impl Ring {
        pub(crate) fn new(capacity: usize) -> Ring {
            assert!(capacity.is_power_of_two() && capacity >= 8, "a ring is a power of two of bytes");
            Ring { bytes: (0..capacity / 8).map(|_| UnsafeCell::new([0; 8])).collect() }
        }

        pub(crate) fn capacity(&self) -> u64 {
            self.bytes.len() as u64 * 8
        }

        fn each(
            &self,
            position: u64,
            len: usize,
            mut touch: impl FnMut(&UnsafeCell<[u8; 8]>, usize, usize, usize),
        ) {
            let mut done = 0;
            while done < len {
                let at = ((position + done as u64) & (self.capacity() - 1)) as usize;
                let count = (8 - at % 8).min(len - done);
                touch(&self.bytes[at / 8], at % 8, done, count);
                done += count;
            }
        }

        /// # Safety
        /// As the production ring's.
        pub(crate) unsafe fn write(&self, position: u64, bytes: &[u8]) {
            self.each(position, bytes.len(), |word, at, done, count| {
                word.with_mut(|word| {
                    // SAFETY: loom gives a valid pointer and has checked that no other access is under way.
                    unsafe { (&mut *word)[at..at + count].copy_from_slice(&bytes[done..done + count]) }
                });
            });
        }

        /// # Safety
        /// As the production ring's.
        pub(crate) unsafe fn read(&self, position: u64, out: &mut [u8]) {
            self.each(position, out.len(), |word, at, done, count| {
                word.with(|word| {
                    // SAFETY: loom gives a valid pointer and has checked that no write is under way.
                    unsafe { out[done..done + count].copy_from_slice(&(&*word)[at..at + count]) }
                });
            });
        }
    }
}

pub(crate) use words::Ring;

#[cfg(all(test, not(braidlog_loom)))]
mod tests {
    use braidlog_sim::Rng;

    use super::*;

    #[test]
    fn a_ring_gives_back_what_was_written_also_across_its_end() {
        let mut rng = Rng::new(1);
        let ring = Ring::new(64);
        let mut position = u64::MAX / 2; // Positions never wrap; where they stand must not matter.
        for _ in 0..5000 {
            let mut bytes = vec![0; rng.index(65)];
            rng.fill(&mut bytes);
            // SAFETY: this thread alone has the ring, and a piece is no longer than it.
            unsafe { ring.write(position, &bytes) };
            let from = rng.index(bytes.len() + 1);
            let mut read = vec![0; bytes.len() - from];
            // SAFETY: as above; the bytes were just written.
            unsafe { ring.read(position + from as u64, &mut read) };
            assert_eq!(read, bytes[from..]);
            position += bytes.len() as u64;
        }
    }
}
